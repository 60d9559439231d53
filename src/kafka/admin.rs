//! Topics on a real broker. A client is made for each call: calls are rare, and an idle client would keep connections
//! and collect events that nobody reads.

use super::client::{self, REQUEST_TIMEOUT};
use super::code;
use super::members;
use crate::broker::{Admin, GroupMember, NewTopic, TopicInfo, TopicPartition};
use crate::error::{Error, Kind, Result};
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic as Native, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaType};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often it is looked for topics that were created.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What [`Admin`] asks for, one client per request.
pub(super) struct KafkaAdmin {
    pub(super) config: ClientConfig,
}

impl Admin for KafkaAdmin {
    fn topics(&mut self, names: &[String]) -> Result<Vec<Option<TopicInfo>>> {
        // A consumer's client, because a producer's has the broker create the topics that it asks about.
        let client = client::create(&self.config, RDKafkaType::RD_KAFKA_CONSUMER)?;
        let look_up = |name: &String| {
            let doing = "looking up a topic";
            let metadata = client.fetch_metadata(Some(name), REQUEST_TIMEOUT);
            let metadata = metadata.map_err(|e| {
                // The client's own words say more than the code: refused, unknown host, wrong password.
                let words = client.context().take();
                let error = code::from_rdkafka(e, doing).topic(name);
                match words.into_iter().find_map(|h| match h {
                    client::Happened::Error(_, words) => Some(words),
                    _ => None,
                }) {
                    Some(words) => error.source(words),
                    None => error,
                }
            })?;
            let Some(topic) = metadata.topics().iter().find(|t| t.name() == name) else { return Ok(None) };
            match topic.error().map(RDKafkaErrorCode::from) {
                None => Ok(Some(TopicInfo { partitions: topic.partitions().len() as i32 })),
                Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
                Some(code) => Err(code::error(code, doing).topic(name)),
            }
        };
        names.iter().map(look_up).collect()
    }

    fn all_topics(&mut self) -> Result<BTreeMap<String, TopicInfo>> {
        let client = client::create(&self.config, RDKafkaType::RD_KAFKA_CONSUMER)?;
        let metadata = client.fetch_metadata(None, REQUEST_TIMEOUT);
        let metadata = metadata.map_err(|e| code::from_rdkafka(e, "listing topics"))?;
        let there = metadata.topics().iter().filter(|topic| topic.error().is_none());
        let info = |topic: &MetadataTopic| TopicInfo { partitions: topic.partitions().len() as i32 };
        Ok(there.map(|topic| (topic.name().to_string(), info(topic))).collect())
    }

    fn create_topics(&mut self, topics: &[NewTopic]) -> Result {
        if topics.is_empty() {
            return Ok(());
        }
        let native = topics.iter().map(|topic| {
            let new = Native::new(&topic.name, topic.partitions, TopicReplication::Fixed(topic.replication));
            topic.config.iter().fold(new, |new, (key, value)| new.set(key, value))
        });
        let native: Vec<_> = native.collect();
        let results =
            self.request("creating topics", async |client, options| client.create_topics(&native, options).await)?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(code::error(code, "creating a topic").topic(topic)),
            }
        }
        let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
        self.wait_until_known(&names)
    }

    fn settings(&mut self, topics: &[String]) -> Result<Vec<BTreeMap<String, String>>> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let doing = "reading topics' settings";
        let asked: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let results = self.request(doing, async |client, options| client.describe_configs(&asked, options).await)?;
        let mut found: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for result in results {
            let resource = result.map_err(|code| code::error(code, doing))?;
            if let OwnedResourceSpecifier::Topic(topic) = resource.specifier {
                let entries = resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
                found.insert(topic, entries.collect());
            }
        }
        Ok(topics.iter().map(|topic| found.remove(topic).unwrap_or_default()).collect())
    }

    fn delete_records(&mut self, before: &[(TopicPartition, i64)]) -> Result {
        if before.is_empty() {
            return Ok(());
        }
        let doing = "deleting records that have been consumed";
        let mut list = TopicPartitionList::new();
        for (tp, offset) in before {
            let added = list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(*offset));
            added.map_err(|e| code::from_rdkafka(e, doing))?;
        }
        let deleted = self.request(doing, async |client, options| client.delete_records(&list, options).await)?;
        for element in deleted.elements() {
            match element.error() {
                Ok(()) | Err(KafkaError::OffsetFetch(RDKafkaErrorCode::OffsetOutOfRange)) => {}
                Err(error) => {
                    let error = code::from_rdkafka(error, doing);
                    return Err(error.topic(element.topic()).partition(element.partition()));
                }
            }
        }
        Ok(())
    }

    fn members(&mut self, group: &str) -> Result<Vec<GroupMember>> {
        members::members(&self.config, group)
    }
}

impl KafkaAdmin {
    /// Brokers hear of a topic some time after the controller has made it. Who joined a group before that would be a member
    /// without it: its partitions would be nobody's until someone looks at all topics again, which takes half a minute, and
    /// does not happen where the members come back under their names meanwhile.
    fn wait_until_known(&mut self, names: &[String]) -> Result {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        while self.topics(names)?.iter().any(Option::is_none) {
            if Instant::now() > deadline {
                return Err(Error::new(Kind::Broker, "topics that were created are not known to the brokers yet"));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// One admin request, waited for.
    fn request<T>(
        &self,
        doing: &str,
        ask: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> Result<T, KafkaError>,
    ) -> Result<T> {
        let client: AdminClient<DefaultClientContext> =
            self.config.create().map_err(|e| code::from_rdkafka(e, doing))?;
        let options =
            AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT * 2)).operation_timeout(Some(REQUEST_TIMEOUT));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|e| Error::new(Kind::Internal, "no runtime for an admin request").source(e))?;
        runtime.block_on(ask(&client, &options)).map_err(|e| code::from_rdkafka(e, doing))
    }
}
