//! librdkafka's mock cluster: a Kafka inside this process, on a port of the loopback interface.
//!
//! Good for a demonstration or a test with one instance and little data: it keeps at most 5 MB a partition in memory,
//! it knows no admin requests (so [`Admin`] is answered from here) and does not isolate transactions.

use super::code;
use super::{KafkaBroker, admin::KafkaAdmin};
use crate::broker::{
    Admin, Broker, Consumer, GroupMember, Isolation, NewTopic, Producer, Role, Sender, TopicInfo, TopicPartition,
};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use rdkafka::error::KafkaError;
use rdkafka::mocking;
use rdkafka::producer::DefaultProducerContext;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A Kafka cluster inside this process. It ends when the last clone and the last broker made from it are gone.
///
/// ```
/// use watersmeet::broker::{Admin, Broker};
/// use watersmeet::{config::Config, kafka::mock::MockCluster};
/// let cluster = MockCluster::start(1)?;
/// cluster.create_topic("products", 4)?;
/// let broker = cluster.broker(&Config::new("app"), None)?;
/// assert_eq!(broker.admin()?.topics(&["products".into()])?[0].as_ref().unwrap().partitions, 4);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Clone)]
pub struct MockCluster(Arc<Inner>);

struct Inner {
    cluster: mocking::MockCluster<'static, DefaultProducerContext>,
    brokers: i32,
    /// The cluster creates every topic that is asked for; what exists is kept here.
    topics: Mutex<BTreeMap<String, i32>>,
}

// SAFETY: librdkafka's mock cluster runs on a thread of its own, and its functions only put requests into that thread's
// queue or take its lock, so any thread may call them; the last owner destroys it.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl MockCluster {
    /// Starts a cluster of so many brokers.
    pub fn start(brokers: usize) -> Result<Self> {
        let brokers = i32::try_from(brokers).unwrap_or(i32::MAX);
        let cluster =
            mocking::MockCluster::new(brokers).map_err(|e| code::from_rdkafka(e, "starting a mock cluster"))?;
        Ok(Self(Arc::new(Inner { cluster, brokers, topics: Mutex::default() })))
    }

    /// The cluster's `bootstrap.servers`.
    pub fn bootstrap_servers(&self) -> String {
        self.0.cluster.bootstrap_servers()
    }

    /// Creates a topic; one that exists already is no error.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result {
        let mut topics = self.0.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if topics.contains_key(name) {
            return Ok(());
        }
        let created = self.0.cluster.create_topic(name, partitions, 1);
        created.map_err(|e| code::from_rdkafka(e, "creating a topic").topic(name))?;
        topics.insert(name.to_owned(), partitions);
        Ok(())
    }

    /// Stops all brokers: their connections end and new ones are refused.
    pub fn brokers_down(&self) -> Result {
        self.each_broker(|cluster, id| cluster.broker_down(id))
    }

    /// Starts all brokers again.
    pub fn brokers_up(&self) -> Result {
        self.each_broker(|cluster, id| cluster.broker_up(id))
    }

    fn each_broker(
        &self,
        call: impl Fn(&mocking::MockCluster<'static, DefaultProducerContext>, i32) -> Result<(), KafkaError>,
    ) -> Result {
        (1..=self.0.brokers).try_for_each(|id| {
            call(&self.0.cluster, id).map_err(|e| Error::new(Kind::Internal, "the mock cluster refused").source(e))
        })
    }

    /// The broker that an application with this configuration sees; its `bootstrap.servers` is not used.
    pub fn broker(&self, config: &Config, identity: Option<&str>) -> Result<Arc<dyn Broker>> {
        let config = Config { bootstrap_servers: self.bootstrap_servers(), ..config.clone() };
        Ok(Arc::new(MockBroker { cluster: self.clone(), kafka: KafkaBroker::connect(&config, identity)? }))
    }
}

/// The real adapter, but for the requests that the mock cluster doesn't know.
struct MockBroker {
    cluster: MockCluster,
    kafka: KafkaBroker,
}

impl Broker for MockBroker {
    fn consumer(&self, role: Role, isolation: Isolation) -> Result<Box<dyn Consumer>> {
        self.kafka.consumer(role, isolation)
    }

    fn producer(&self, thread: usize, transactional_id: Option<&str>) -> Result<Box<dyn Producer>> {
        self.kafka.producer(thread, transactional_id)
    }

    fn admin(&self) -> Result<Box<dyn Admin>> {
        Ok(Box::new(MockAdmin { cluster: self.cluster.clone(), kafka: self.kafka.kafka_admin() }))
    }

    fn sender(&self) -> Result<Arc<dyn Sender>> {
        self.kafka.sender()
    }
}

struct MockAdmin {
    cluster: MockCluster,
    kafka: KafkaAdmin,
}

impl Admin for MockAdmin {
    fn topics(&mut self, names: &[String]) -> Result<Vec<Option<TopicInfo>>> {
        let known = self.cluster.0.topics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let exists: Vec<String> = names.iter().filter(|name| known.contains_key(*name)).cloned().collect();
        // Asked from the brokers all the same, so that a cluster that is down is seen.
        let mut found = self.kafka.topics(&exists)?.into_iter();
        Ok(names.iter().map(|name| if known.contains_key(name) { found.next().flatten() } else { None }).collect())
    }

    fn all_topics(&mut self) -> Result<BTreeMap<String, TopicInfo>> {
        self.kafka.all_topics()
    }

    fn create_topics(&mut self, topics: &[NewTopic]) -> Result {
        topics.iter().try_for_each(|topic| self.cluster.create_topic(&topic.name, topic.partitions))
    }

    /// The cluster keeps no settings.
    fn settings(&mut self, topics: &[String]) -> Result<Vec<BTreeMap<String, String>>> {
        Ok(topics.iter().map(|_| BTreeMap::new()).collect())
    }

    /// The cluster bounds its logs by itself.
    fn delete_records(&mut self, _: &[(TopicPartition, i64)]) -> Result {
        Ok(())
    }

    /// The cluster does not tell.
    fn members(&mut self, _: &str) -> Result<Vec<GroupMember>> {
        Ok(Vec::new())
    }
}
