//! How many partitions the topics have that a task writes to: partitioners ask.

use super::cx::TopicId;
use crate::broker::Broker;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The partition counts of topics. Those that are not known at the start, because they are chosen record by record, are
/// looked up once.
pub(crate) struct TopicSizes {
    broker: Arc<dyn Broker>,
    /// How many a topic gets that is created because it is written to; `None`: none is.
    created: Option<i32>,
    at_start: Arc<BTreeMap<Arc<str>, i32>>,
    /// By the topic's number in the outbox; 0: not looked up yet.
    known: Vec<i32>,
}

impl TopicSizes {
    pub(crate) fn new(broker: Arc<dyn Broker>, created: Option<i32>, at_start: Arc<BTreeMap<Arc<str>, i32>>) -> Self {
        Self { broker, created, at_start, known: Vec::new() }
    }

    pub(super) fn partitions(&mut self, topic: TopicId, name: &Arc<str>) -> Result<i32> {
        match self.known.get(topic.0) {
            Some(count) if *count > 0 => Ok(*count),
            _ => {
                let count = match self.at_start.get(name) {
                    Some(count) => *count,
                    None => look_up(&*self.broker, self.created, name)?,
                };
                self.known.resize(self.known.len().max(topic.0 + 1), 0);
                self.known[topic.0] = count;
                Ok(count)
            }
        }
    }
}

/// A record whose partition cannot be told cannot be put back, so trouble with the broker ends the task here: the record
/// is processed again after its restart.
fn look_up(broker: &dyn Broker, created: Option<i32>, name: &str) -> Result<i32> {
    let failed = |what: &str| Error::new(Kind::BrokerFatal, what.to_string()).topic(name);
    let found = broker.admin().and_then(|mut admin| admin.topics(&[name.to_string()]));
    let found = found.map_err(|error| failed("the topic's partitions could not be looked up").source(error))?;
    let partitions = found.into_iter().next().flatten().map(|info| info.partitions).or(created);
    partitions.ok_or_else(|| failed("the output topic does not exist").hint("create it, or correct its name"))
}
