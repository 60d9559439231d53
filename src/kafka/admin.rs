//! Topics on a real broker. A client is made for each call: calls are rare, and an idle client would keep connections
//! and collect events that nobody reads.

use super::client::{self, REQUEST_TIMEOUT};
use super::code;
use crate::broker::{Admin, NewTopic, TopicInfo};
use crate::error::{Error, Kind, Result};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic as Native, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaType};

/// Looks topics up and creates them.
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

    fn create_topics(&mut self, topics: &[NewTopic]) -> Result {
        if topics.is_empty() {
            return Ok(());
        }
        let doing = "creating topics";
        let client: AdminClient<DefaultClientContext> =
            self.config.create().map_err(|e| code::from_rdkafka(e, doing))?;
        let native = topics.iter().map(|topic| {
            let new = Native::new(&topic.name, topic.partitions, TopicReplication::Fixed(topic.replication));
            topic.config.iter().fold(new, |new, (key, value)| new.set(key, value))
        });
        let native: Vec<_> = native.collect();
        let options =
            AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT * 2)).operation_timeout(Some(REQUEST_TIMEOUT));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let runtime = runtime.map_err(|e| Error::new(Kind::Internal, "no runtime for an admin request").source(e))?;
        let results = runtime.block_on(client.create_topics(&native, &options));
        for result in results.map_err(|e| code::from_rdkafka(e, doing))? {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(code::error(code, "creating a topic").topic(topic)),
            }
        }
        Ok(())
    }
}
