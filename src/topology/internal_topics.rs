//! The topics that the application owns, or uses as its changelogs, with the settings that Kafka Streams creates them with.
//!
//! Source: `InternalTopicConfig` and its kinds; KIP-150, KIP-889 for what is kept how long.

use super::{TopicName, Topology};
use crate::state::{CHANGELOG_EXTRA_MS, Changelog, StoreKind, StoreSpec};

/// What a topic is to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The log of a store of the application's own.
    Changelog,
    /// A source topic that serves as the log of a table's store (`reuse.ktable.source.topics`).
    SourceAsChangelog,
    /// Records between two sub-topologies.
    Repartition,
}

/// A topic that the application owns, or a source topic that it uses as a changelog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalTopicSpec {
    /// Its name on the broker.
    pub name: String,
    /// What it is for.
    pub purpose: Purpose,
    /// The store that it is the log of.
    pub store: Option<String>,
    /// How many partitions it was asked to have; `None`: as the topics above it.
    pub partitions: Option<i32>,
    /// The settings that it is created with, by name.
    pub config: Vec<(String, String)>,
}

impl Topology {
    /// All topics that the application owns or uses as changelogs.
    pub fn internal_topic_specs(&self, application_id: &str) -> Vec<InternalTopicSpec> {
        let repartition = self.internal_topics.iter().map(|(name, topic)| InternalTopicSpec {
            name: TopicName::Internal(name.clone()).on_broker(application_id),
            purpose: Purpose::Repartition,
            store: None,
            partitions: topic.partitions,
            // What was consumed is purged; nothing is deleted by time.
            config: settings(
                &[("cleanup.policy", "delete"), ("retention.ms", "-1"), ("segment.bytes", "52428800")],
                &[],
            ),
        });
        let changelogs = self.stores.values().filter_map(|store| changelog(store, application_id));
        repartition.chain(changelogs).collect()
    }
}

/// The name of a store's changelog.
pub fn changelog_topic(application_id: &str, store: &str) -> String {
    format!("{application_id}-{store}-changelog")
}

fn changelog(store: &StoreSpec, application_id: &str) -> Option<InternalTopicSpec> {
    let (name, purpose, overrides): (_, _, &[(String, String)]) = match &store.changelog {
        Changelog::None => return None,
        Changelog::Own { config } => (changelog_topic(application_id, &store.name), Purpose::Changelog, config),
        Changelog::Source { topic } => (topic.clone(), Purpose::SourceAsChangelog, &[]),
    };
    let longer = |ms: i64| ms.saturating_add(CHANGELOG_EXTRA_MS).to_string();
    let config = match store.kind {
        StoreKind::KeyValue { .. } | StoreKind::Subscriptions { .. } | StoreKind::Buffer => {
            settings(&[("cleanup.policy", "compact")], overrides)
        }
        StoreKind::Window { retention_ms, duplicates, .. } => {
            // Rows with sequence numbers never replace each other: compaction would find nothing to do.
            let policy = if duplicates { "delete" } else { "compact,delete" };
            settings(&[("cleanup.policy", policy), ("retention.ms", &longer(retention_ms))], overrides)
        }
        StoreKind::Session { retention_ms } => {
            settings(&[("cleanup.policy", "compact,delete"), ("retention.ms", &longer(retention_ms))], overrides)
        }
        StoreKind::Versioned { history_ms } => {
            settings(&[("cleanup.policy", "compact"), ("min.compaction.lag.ms", &longer(history_ms))], overrides)
        }
    };
    Some(InternalTopicSpec { name, purpose, store: Some(store.name.clone()), partitions: None, config })
}

/// The built-in settings, those that all internal topics share, and what the user set over them; sorted by name.
fn settings(own: &[(&str, &str)], overrides: &[(String, String)]) -> Vec<(String, String)> {
    let shared = ("message.timestamp.type", "CreateTime");
    let built_in = own.iter().copied().chain([shared]).map(|(k, v)| (k.to_string(), v.to_string()));
    let mut all: std::collections::BTreeMap<String, String> = built_in.collect();
    all.extend(overrides.iter().cloned());
    all.into_iter().collect()
}
