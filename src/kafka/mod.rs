//! Kafka, through librdkafka: the only folder that names rdkafka, and the only one with `unsafe`.
//!
//! rdkafka makes clients, settings and admin requests; records go through librdkafka's own functions, because rdkafka
//! has no call for a batch. Callbacks only put values into an inbox (`client.rs`); a rebalance is one of them.

mod admin;
mod client;
mod code;
mod consumer;
mod ends;
mod members;
pub mod mock;
mod partitions;
mod producer;
mod sender;
mod settings;
mod transactions;
mod watch;

use crate::broker::{Admin, Broker, Consumer, Isolation, Producer, Role, Sender};
use crate::config::Config;
use crate::error::Result;
use admin::KafkaAdmin;
use settings::Settings;
use std::sync::Arc;

/// A Kafka cluster, as an application with one configuration sees it.
///
/// Consumers are static members of the classic protocol with `range` by default, where the application has an identity:
/// an instance that is started again in place, even after `kill -9`, then gets its partitions back at once. The other
/// side of it: an instance that ends without leaving keeps its partitions until `session.timeout.ms` (45 s) has passed.
///
/// ```no_run
/// use watersmeet::{broker::Broker, config::Config, kafka::KafkaBroker};
/// let mut config = Config::new("search-join");
/// config.consumer.push(("fetch.wait.max.ms".into(), "100".into()));
/// let broker = KafkaBroker::connect(&config, Some("instance-1"))?;
/// let topics = broker.admin()?.topics(&["products".into()])?;
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug)]
pub struct KafkaBroker {
    settings: Settings,
}

impl KafkaBroker {
    /// Checks the settings for all clients; connects to nothing yet. `identity` names this instance: the same one after
    /// a restart, another one than every other instance's.
    pub fn connect(config: &Config, identity: Option<&str>) -> Result<Self> {
        Ok(Self { settings: Settings::new(config, identity)? })
    }

    fn kafka_admin(&self) -> KafkaAdmin {
        KafkaAdmin { config: self.settings.admin() }
    }
}

impl Broker for KafkaBroker {
    fn consumer(&self, role: Role, isolation: Isolation) -> Result<Box<dyn Consumer>> {
        let config = self.settings.consumer(&role, isolation);
        Ok(Box::new(consumer::KafkaConsumer::new(&config, &role)?))
    }

    fn producer(&self, thread: usize, transactional_id: Option<&str>) -> Result<Box<dyn Producer>> {
        let config = self.settings.producer(thread, transactional_id);
        Ok(Box::new(producer::KafkaProducer::new(&config)?))
    }

    fn admin(&self) -> Result<Box<dyn Admin>> {
        Ok(Box::new(self.kafka_admin()))
    }

    fn sender(&self) -> Result<Arc<dyn Sender>> {
        Ok(Arc::new(sender::KafkaSender::new(&self.settings.sender())?))
    }
}
