//! Before the first task: do the topics exist, do joined ones agree in their partitions, are the changelogs there?

use super::assignment::Inputs;
use super::verify::verify;
use crate::broker::{Admin, NewTopic};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::state::StoreSpec;
use crate::topology::internal_topics::Purpose;
use crate::topology::split::{self, SubTopology, all_in_one, sub_topologies};
use crate::topology::{InternalTopic, NodeId, NodeKind, OffsetReset, SinkTopic, TopicName, TopicPattern, Topology};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The topology as it meets one application's topics.
pub(crate) struct Plan {
    pub(crate) topology: Topology,
    pub(crate) sub_topologies: Vec<SubTopology>,
    /// The source topics that sub-topologies name, by their names on the broker; none of those that fill global stores.
    named: Inputs,
    /// The application's own topics, which no pattern matches.
    own: BTreeSet<String>,
    /// What fills the global stores.
    pub(crate) global: SubTopology,
    /// One task runs all of it: so every topic that it makes has as many partitions as those that it reads.
    in_one: bool,
}

/// How many partitions topics have.
pub(crate) struct Found {
    /// Those that are read.
    pub(crate) counts: BTreeMap<Arc<str>, i32>,
    /// Those that are written by name.
    pub(crate) written: BTreeMap<Arc<str>, i32>,
}

impl Plan {
    /// `in_one`: a task runs all of the topology.
    pub(crate) fn new(topology: Topology, application_id: &str, in_one: bool) -> Result<Self> {
        let sub_topologies = if in_one { vec![all_in_one(&topology)?] } else { sub_topologies(&topology)? };
        let topics = |s: &SubTopology| match s.global {
            true => Vec::new(),
            false => s.source_topics.iter().map(|t| t.on_broker(application_id).into()).collect(),
        };
        let named = sub_topologies.iter().map(topics).collect();
        let global = split::global(&topology)?;
        let own = topology.internal_topic_specs(application_id).into_iter().map(|topic| topic.name).collect();
        Ok(Self { topology, sub_topologies, named, own, global, in_one })
    }

    /// Source topics per sub-topology: those that it names, and of `counts` those that match its patterns.
    pub(crate) fn inputs(&self, counts: &BTreeMap<Arc<str>, i32>) -> Inputs {
        let inputs = self.sub_topologies.iter().zip(&self.named).map(|(sub, named)| {
            let matches = |topic: &&Arc<str>| sub.source_patterns.iter().any(|pattern| pattern.matches(topic));
            let more = counts.keys().filter(|topic| !named.contains(topic) && self.may_match(topic)).filter(matches);
            named.iter().chain(more).cloned().collect()
        });
        inputs.collect()
    }

    /// Whether there is nothing for stream threads to do.
    pub(crate) fn has_only_global_stores(&self) -> bool {
        self.sub_topologies.iter().all(|sub| sub.global)
    }

    /// The stores of a sub-topology.
    pub(crate) fn specs(&self, sub_topology: usize) -> impl Iterator<Item = StoreSpec> {
        self.sub_topologies[sub_topology].stores.iter().map(|name| self.topology.stores[name].clone())
    }

    /// Whether any source takes topics by a pattern.
    pub(crate) fn has_patterns(&self) -> bool {
        self.sub_topologies.iter().any(|sub| !sub.source_patterns.is_empty())
    }

    /// Whether tasks of this sub-topology may have to wait until the group knows all topics.
    pub(crate) fn is_patient(&self, sub_topology: usize) -> bool {
        !self.sub_topologies[sub_topology].source_patterns.is_empty()
    }

    /// Whether a source names this topic.
    pub(crate) fn names(&self, topic: &str) -> bool {
        self.named.iter().flatten().any(|named| **named == *topic)
    }

    /// Whether a source reads the topic of this name, were it there.
    pub(crate) fn reads(&self, topic: &str) -> bool {
        self.names(topic) || self.pattern_of(topic).is_some()
    }

    /// The pattern that this topic is read by.
    pub(crate) fn pattern_of(&self, topic: &str) -> Option<&TopicPattern> {
        let mut patterns = self.sub_topologies.iter().flat_map(|sub| &sub.source_patterns);
        patterns.find(|pattern| pattern.matches(topic)).filter(|_| self.may_match(topic))
    }

    /// Neither Kafka's internal topics nor the application's are meant by a pattern, nor are those with a name of their own.
    fn may_match(&self, topic: &str) -> bool {
        !topic.starts_with("__") && !self.own.contains(topic) && !self.names(topic)
    }

    /// Which of these sources reads `topic`: one that names it, else one whose pattern it matches.
    pub(crate) fn source_of(&self, sources: &[NodeId], topic: &str, application_id: &str) -> Option<usize> {
        let node = |source: &NodeId| &self.topology.nodes[source.0];
        let names = |s: &NodeId| node(s).source_topics().iter().any(|named| named.on_broker(application_id) == topic);
        let matches = |s: &NodeId| node(s).source_pattern().is_some_and(|pattern| pattern.matches(topic));
        sources.iter().position(names).or_else(|| sources.iter().position(matches))
    }

    /// Where this topic begins where the group has no offset of it, if its source says so.
    pub(crate) fn reset_of(&self, topic: &str, application_id: &str) -> Option<OffsetReset> {
        let sources: Vec<NodeId> = (0..self.topology.nodes.len()).map(NodeId).collect();
        let source = self.source_of(&sources, topic, application_id)?;
        match &self.topology.nodes[source].kind {
            NodeKind::Source { reset, .. } => *reset,
            _ => None,
        }
    }

    /// Those of the broker's topics that match a pattern, with their partitions.
    pub(crate) fn matching(&self, admin: &mut dyn Admin) -> Result<BTreeMap<Arc<str>, i32>> {
        if !self.has_patterns() {
            return Ok(BTreeMap::new());
        }
        let all = admin.all_topics()?.into_iter().map(|(topic, info)| (topic.into(), info.partitions));
        Ok(self.matching_of(&all.collect()))
    }

    /// Those of `topics` that match a pattern.
    pub(crate) fn matching_of(&self, topics: &BTreeMap<Arc<str>, i32>) -> BTreeMap<Arc<str>, i32> {
        let matched = topics.iter().filter(|(topic, _)| self.pattern_of(topic).is_some());
        matched.map(|(topic, count)| (topic.clone(), *count)).collect()
    }

    /// Every source topic that is named, once.
    fn source_topics(&self) -> BTreeSet<Arc<str>> {
        self.named.iter().flatten().cloned().collect()
    }

    /// Topics that sinks write to, and the dead-letter topic.
    fn written_topics(&self, config: &Config) -> BTreeSet<String> {
        let sinks = self.topology.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Sink { topic: SinkTopic::Fixed(TopicName::User(topic)), .. } => Some(topic.clone()),
            _ => None,
        });
        sinks.chain(config.errors.dead_letter_topic.clone()).collect()
    }

    /// The sets of source topics that one store brings together: their partitions must agree.
    fn copartitioned(&self, application_id: &str, counts: &BTreeMap<Arc<str>, i32>) -> Vec<BTreeSet<Arc<str>>> {
        let users = |store: &str| {
            let uses = |n: &usize| self.topology.nodes[*n].stores.iter().any(|s| s == store);
            (0..self.topology.nodes.len()).filter(uses).map(NodeId).collect::<Vec<_>>()
        };
        let sources = |store: &String| {
            let mut topics = BTreeSet::new();
            for user in users(store) {
                self.topics_above(user, application_id, &mut topics);
            }
            topics
        };
        let declared = self.topology.copartitioned.iter().map(|group| {
            let topics = group.iter().flat_map(|source| self.topology.nodes[source.0].source_topics());
            let named = topics.map(|topic| topic.on_broker(application_id).into());
            let patterns = group.iter().filter_map(|source| self.topology.nodes[source.0].source_pattern());
            let matches = |topic: &&Arc<str>| self.may_match(topic) && patterns.clone().any(|p| p.matches(topic));
            named.chain(counts.keys().filter(matches).cloned()).collect::<BTreeSet<Arc<str>>>()
        });
        let local = self.topology.stores.keys().filter(|store| !self.topology.global_stores.contains(*store));
        local.map(sources).chain(declared).collect()
    }

    fn topics_above(&self, node: NodeId, application_id: &str, topics: &mut BTreeSet<Arc<str>>) {
        let node = &self.topology.nodes[node.0];
        topics.extend(node.source_topics().iter().map(|t| t.on_broker(application_id).into()));
        for parent in &node.parents {
            self.topics_above(*parent, application_id, topics);
        }
    }

    /// The topics that carry records from one sub-topology to the next, by their names on the broker.
    pub(crate) fn repartition_topics(&self, application_id: &str) -> BTreeSet<Arc<str>> {
        self.internal_topics(application_id).into_keys().collect()
    }

    /// Repartition topics and the like, by their names on the broker.
    fn internal_topics(&self, application_id: &str) -> BTreeMap<Arc<str>, InternalTopic> {
        let name = |name: &String| TopicName::Internal(name.clone()).on_broker(application_id).into();
        self.topology.internal_topics.iter().map(|(topic, spec)| (name(topic), spec.clone())).collect()
    }

    /// Finds how many partitions each repartition topic gets: as many as it was asked to have, else as many as the topics
    /// that it is joined with, else as many as the largest topic of the sub-topology that writes it.
    /// Source: `RepartitionTopics.setRepartitionSourceTopicPartitionCount`, `CopartitionedTopicsEnforcer`.
    fn count_repartitions(
        &self,
        application_id: &str,
        internal: &BTreeMap<Arc<str>, InternalTopic>,
        counts: &mut BTreeMap<Arc<str>, i32>,
    ) -> Result {
        let mut open: BTreeSet<Arc<str>> = BTreeSet::new();
        if self.in_one {
            let partitions = counts.values().copied().max().unwrap_or(1);
            counts.extend(internal.keys().map(|topic| (topic.clone(), partitions)));
            return Ok(());
        }
        for (name, topic) in internal {
            match topic.partitions {
                Some(partitions) => drop(counts.insert(name.clone(), partitions)),
                None => drop(open.insert(name.clone())),
            }
        }
        let groups = self.copartitioned(application_id, counts);
        while !open.is_empty() {
            let find = |whole| {
                let count = |topic: &Arc<str>| self.upstream_count(application_id, topic, counts, whole);
                open.iter().filter_map(|topic| Some((topic.clone(), count(topic)?))).collect::<Vec<_>>()
            };
            let mut found = find(true);
            if found.is_empty() {
                // The two topics of a foreign-key join are above each other.
                found = find(false);
            }
            if found.is_empty() && self.has_patterns() {
                // What is above them is not there yet.
                break;
            }
            if found.is_empty() {
                let list: Vec<_> = open.iter().map(ToString::to_string).collect();
                let what = format!("the partition counts of {} depend on each other", list.join(", "));
                return Err(Error::new(Kind::Topology, what).hint("give one of them with Repartitioned::partitions"));
            }
            for (topic, count) in found {
                open.remove(&topic);
                counts.insert(topic, count);
            }
        }
        for group in &groups {
            let asked = |topic: &&Arc<str>| internal.get(*topic).is_none_or(|topic| topic.partitions.is_some());
            let all = || group.iter().filter_map(|topic| counts.get(topic).copied()).max();
            let fixed = group.iter().filter(asked).filter_map(|topic| counts.get(topic).copied()).max();
            let Some(count) = fixed.or_else(all) else { continue };
            for topic in group.iter().filter(|topic| !asked(topic)) {
                counts.insert(topic.clone(), count);
            }
        }
        Ok(())
    }

    /// The partition count of the largest topic above the sinks that write `topic`. `None` while none of them is known, or,
    /// with `whole`, while one of them is unknown.
    fn upstream_count(
        &self,
        application_id: &str,
        topic: &Arc<str>,
        counts: &BTreeMap<Arc<str>, i32>,
        whole: bool,
    ) -> Option<i32> {
        let mut above = BTreeSet::new();
        for (sub, inputs) in self.sub_topologies.iter().zip(self.inputs(counts)) {
            if sub.sink_topics.iter().any(|sink| *sink.on_broker(application_id) == **topic) {
                above.extend(inputs);
            }
        }
        let known: Vec<i32> = above.iter().filter_map(|topic| counts.get(topic).copied()).collect();
        if whole && known.len() < above.len() { None } else { known.into_iter().max() }
    }

    /// Looks the topics up, checks them, and creates the changelogs that are missing. Returns the partition counts of the
    /// source topics.
    ///
    /// # Errors
    /// [`Kind::Topology`] where a topic is missing or partition counts do not fit, [`Kind::Broker`] where the broker gives
    /// no answer (worth trying again).
    pub(crate) fn prepare(&self, admin: &mut dyn Admin, config: &Config) -> Result<Found> {
        let internal = self.internal_topics(&config.application_id);
        let sources: Vec<Arc<str>> = self.source_topics().into_iter().filter(|t| !internal.contains_key(t)).collect();
        let names: Vec<String> = sources.iter().map(ToString::to_string).collect();
        let mut counts = BTreeMap::new();
        for (topic, info) in sources.iter().zip(admin.topics(&names)?) {
            let info = info.ok_or_else(|| missing(topic, "source"))?;
            counts.insert(topic.clone(), info.partitions);
        }
        counts.extend(self.matching(admin)?);
        self.count_repartitions(&config.application_id, &internal, &mut counts)?;
        let written: Vec<String> = self.written_topics(config).into_iter().collect();
        let mut sizes = BTreeMap::new();
        for (topic, info) in written.iter().zip(admin.topics(&written)?) {
            let info = info.ok_or_else(|| missing(topic, "output"))?;
            sizes.insert(topic.as_str().into(), info.partitions);
        }
        for group in self.copartitioned(&config.application_id, &counts) {
            let different: BTreeSet<i32> = group.iter().filter_map(|topic| counts.get(topic).copied()).collect();
            if different.len() > 1 {
                let counted = group.iter().filter_map(|topic| Some(format!("{topic}={}", counts.get(topic)?)));
                let list: Vec<_> = counted.collect();
                return Err(Error::new(
                    Kind::Topology,
                    format!(
                        "Following topics do not have the same number of partitions: [{{{}}}], so their records of one \
                         key do not meet in one task",
                        list.join(", ")
                    ),
                )
                .hint("give the joined topics equal partition counts, and write both with the same partitioner"));
            }
        }
        self.create_internal_topics(admin, config, &counts)?;
        Ok(Found { counts, written: sizes })
    }

    /// How many tasks have a store of that name: the partitions of its changelog.
    pub(crate) fn store_partitions(&self, store: Option<&str>, counts: &BTreeMap<Arc<str>, i32>) -> i32 {
        let has_it = |sub: &&SubTopology| sub.stores.iter().any(|name| Some(name.as_str()) == store);
        let inputs = self.inputs(counts);
        let inputs = self.sub_topologies.iter().find(has_it).map(|sub| &inputs[sub.id]);
        inputs.into_iter().flatten().filter_map(|topic| counts.get(topic).copied()).max().unwrap_or(0)
    }

    /// Creates the repartition topics and changelogs that are missing, and checks those that are there.
    fn create_internal_topics(
        &self,
        admin: &mut dyn Admin,
        config: &Config,
        counts: &BTreeMap<Arc<str>, i32>,
    ) -> Result {
        let mut wanted = Vec::new();
        for spec in self.topology.internal_topic_specs(&config.application_id) {
            let partitions = match spec.purpose {
                Purpose::SourceAsChangelog => continue,
                Purpose::Repartition => counts.get(&*spec.name).copied().unwrap_or(0),
                Purpose::Changelog => self.store_partitions(spec.store.as_deref(), counts),
            };
            if partitions == 0 && self.has_patterns() {
                // Nothing that matches is there yet.
                continue;
            }
            let replication = config.replication_factor;
            wanted.push(NewTopic { name: spec.name, partitions, replication, config: spec.config });
        }
        let names: Vec<String> = wanted.iter().map(|topic| topic.name.clone()).collect();
        let (mut create, mut known) = (Vec::new(), Vec::new());
        for (topic, info) in wanted.into_iter().zip(admin.topics(&names)?) {
            match info {
                None => create.push(topic),
                Some(info) if info.partitions != topic.partitions => {
                    return Err(Error::new(
                        Kind::Topology,
                        format!(
                            "Existing internal topic {} has invalid partitions: expected: {}; actual: {}",
                            topic.name, topic.partitions, info.partitions
                        ),
                    )
                    .topic(topic.name)
                    .hint(
                        "the source topics have changed: stop all instances, delete this topic and the state directory",
                    ));
                }
                Some(_) => known.push(topic),
            }
        }
        verify_settings(admin, &known)?;
        if create.is_empty() {
            return Ok(());
        }
        for topic in &create {
            tracing::info!(topic = topic.name, partitions = topic.partitions, "creating internal topic");
        }
        admin.create_topics(&create)
    }
}

/// Checks the settings of internal topics that exist. Kafka Streams does without that right, so a broker that does not
/// let us look is no reason to stop.
fn verify_settings(admin: &mut dyn Admin, topics: &[NewTopic]) -> Result {
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    let settings = match admin.settings(&names) {
        Err(error) if error.kind() == Kind::BrokerFatal => {
            tracing::warn!("the settings of internal topics could not be checked: {error}");
            return Ok(());
        }
        settings => settings?,
    };
    topics.iter().zip(settings).try_for_each(|(topic, actual)| verify(&topic.name, &topic.config, &actual))
}

fn missing(topic: &str, what: &str) -> Error {
    Error::new(Kind::Topology, format!("the {what} topic does not exist"))
        .topic(topic)
        .hint("create it, or correct its name; watersmeet creates internal topics only")
}
