//! A real Kafka and the built program, as tests and benchmarks of the whole use them.
#![allow(dead_code)] // each program uses its part

pub mod program;
pub mod trouble;
#[path = "../waiting/mod.rs"]
pub mod waiting;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use watersmeet::broker::{
    Batch, Broker, Consumer, Event, Isolation, NewTopic, Outgoing, Producer, RawRecord, Role, TopicPartition,
};
use watersmeet::config::Config;
use watersmeet::kafka::KafkaBroker;
use watersmeet::record::Headers;

/// How long anything is waited for before that is a failure.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until there is an answer.
pub fn until<T>(what: &str, answer: impl FnMut() -> Option<T>) -> T {
    waiting::until(PATIENCE, Duration::from_millis(5), what, answer)
}

/// A Kafka cluster.
#[derive(Clone)]
pub struct Kafka {
    pub servers: String,
}

/// A record, to be sent or as read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp_ms: i64,
    pub partition: i32,
    pub offset: i64,
    pub headers: Headers,
}

impl Message {
    pub fn new(key: &str, value: impl Into<Vec<u8>>, timestamp_ms: i64) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), timestamp_ms, ..Self::default() }
    }

    pub fn key(&self) -> &str {
        std::str::from_utf8(self.key.as_deref().unwrap_or_default()).expect("keys are text here")
    }

    pub fn json(&self) -> serde_json::Value {
        let value = self.value.as_deref().unwrap_or(b"null");
        serde_json::from_slice(value).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(value)))
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> String {
        String::from_utf8_lossy(self.headers.last(name).unwrap_or_default()).into_owned()
    }
}

/// A name that no other test and no earlier run has.
pub fn unique(name: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    format!("{name}-{}-{}", std::process::id(), now.as_nanos())
}

impl Kafka {
    /// The one in `WATERSMEET_KAFKA`.
    pub fn given() -> Option<Self> {
        let servers = std::env::var("WATERSMEET_KAFKA").ok().filter(|servers| !servers.is_empty());
        if servers.is_none() {
            eprintln!("WATERSMEET_KAFKA is not set: no real Kafka to test against");
        }
        servers.map(|servers| Self { servers })
    }

    pub fn broker(&self) -> KafkaBroker {
        let mut config = Config::new("test");
        config.bootstrap_servers.clone_from(&self.servers);
        KafkaBroker::connect(&config, None).expect("the settings are right")
    }

    /// Creates a topic, and waits until everybody sees it.
    pub fn create(&self, topic: &str, partitions: i32, config: &[(&str, &str)]) {
        let mut admin = self.broker().admin().expect("an admin client");
        let config = config.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let name = topic.to_owned();
        until("the topic is created", || {
            let new = NewTopic { name: name.clone(), partitions, replication: -1, config: Clone::clone(&config) };
            admin.create_topics(&[new]).ok()
        });
        until("the topic is there", || admin.topics(std::slice::from_ref(&name)).ok()?.remove(0));
    }

    /// A producer that the caller fills by [`put`].
    pub fn producer(&self) -> Box<dyn Producer> {
        self.broker().producer(1, None).expect("a producer")
    }

    /// Sends records, and waits until they are acknowledged.
    pub fn send(&self, topic: &str, messages: impl IntoIterator<Item = Message>) {
        let (topic, mut producer) = (Arc::from(topic), self.producer());
        for message in messages {
            put(&mut *producer, &topic, &message);
        }
        producer.flush(PATIENCE).expect("all is acknowledged");
        assert!(producer.refused().is_empty());
    }

    /// The partitions of a topic, each with its end.
    fn ends(&self, consumer: &mut dyn Consumer, topic: &str) -> Vec<(TopicPartition, i64)> {
        let found = self.broker().admin().expect("an admin client").topics(&[topic.to_owned()]).expect("the topic");
        let partitions = found[0].as_ref().expect("the topic exists").partitions;
        let all: Vec<_> = (0..partitions).map(|p| TopicPartition::new(topic, p)).collect();
        let bounds = consumer.offset_bounds(&all).expect("the offsets");
        all.into_iter().zip(bounds.into_iter().map(|bounds| bounds.end)).collect()
    }

    /// Counts what comes into a topic.
    pub fn counter(&self, topic: &str) -> Counter {
        let mut consumer =
            self.broker().consumer(Role::Restore { thread: 1 }, Isolation::ReadCommitted).expect("a consumer");
        let ends = self.ends(&mut *consumer, topic);
        Counter { consumer, partitions: ends.into_iter().map(|(partition, _)| partition).collect() }
    }

    /// How many records the topic has.
    pub fn count(&self, topic: &str) -> i64 {
        self.counter(topic).count()
    }

    /// Reads everything that the topic has now; partition by partition, each in order.
    pub fn read(&self, topic: &str) -> Vec<Message> {
        let mut found = Vec::new();
        self.each(topic, |message| found.push(message));
        found.sort_by_key(|message| (message.partition, message.offset));
        found
    }

    /// Hands over everything that the topic has now, each partition in order.
    pub fn each(&self, topic: &str, mut see: impl FnMut(Message)) {
        let mut consumer =
            self.broker().consumer(Role::Restore { thread: 1 }, Isolation::ReadCommitted).expect("a consumer");
        let mut open = self.ends(&mut *consumer, topic);
        open.retain(|(_, end)| *end > 0);
        let start: Vec<_> = open.iter().map(|(partition, _)| (partition.clone(), Some(0))).collect();
        consumer.assign(&start).expect("assigned");
        let deadline = Instant::now() + PATIENCE;
        let (mut batch, mut events) = (Batch::default(), Vec::<Event>::new());
        while !open.is_empty() {
            assert!(Instant::now() < deadline, "not read within {PATIENCE:?}: {open:?}");
            batch.clear();
            consumer.poll(Duration::from_millis(100), 10_000, &mut batch, &mut events).expect("polled");
            let bytes = std::rc::Rc::new(std::mem::take(&mut batch.bytes));
            for meta in batch.records.drain(..) {
                let source = &batch.sources[meta.source as usize];
                open.retain(|(partition, end)| partition != source || meta.offset + 1 < *end);
                let record = RawRecord { bytes: bytes.clone(), meta };
                see(Message {
                    key: record.key().map(<[u8]>::to_vec),
                    value: record.value().map(<[u8]>::to_vec),
                    timestamp_ms: record.meta.timestamp_ms,
                    partition: source.partition,
                    offset: record.meta.offset,
                    headers: record.meta.headers,
                });
            }
            for event in events.drain(..) {
                // What is last may be a transaction's marker, which is no record.
                if let Event::End { partition, offset } = event {
                    open.retain(|(known, end)| *known != partition || offset < *end);
                }
            }
        }
    }
}

/// Sends one record; its partition follows from its key.
pub fn put(producer: &mut dyn Producer, topic: &Arc<str>, message: &Message) {
    let (key, value, timestamp_ms) = (message.key.as_deref(), message.value.as_deref(), Some(message.timestamp_ms));
    let send = || {
        let headers = &message.headers;
        producer.send(Outgoing { topic, partition: None, key, value, timestamp_ms, headers }).ok()
    };
    until("the producer has room", send);
}

/// Counts what comes into a topic.
pub struct Counter {
    consumer: Box<dyn Consumer>,
    partitions: Vec<TopicPartition>,
}

impl Counter {
    pub fn count(&mut self) -> i64 {
        // A broker that has just come back may refuse the first request.
        let bounds = until("the ends are known", || self.consumer.offset_bounds(&self.partitions).ok());
        bounds.iter().map(|bounds| bounds.end).sum()
    }

    /// Waits until the topic has so many records.
    pub fn reach(&mut self, count: i64) {
        until(&format!("{} has {count} records", self.partitions[0].topic), || (self.count() >= count).then_some(()));
    }
}

/// A Kafka of the test's own, to be stopped and started: `./dev kafka` with a folder of its own.
pub struct OwnKafka {
    dir: PathBuf,
    pub kafka: Kafka,
}

impl OwnKafka {
    pub fn start(dir: &Path) -> Self {
        let mut own = Self { dir: dir.to_owned(), kafka: Kafka { servers: String::new() } };
        own.kafka.servers = own.start_again();
        own
    }

    /// Starts it with the data and on the port that it had.
    pub fn start_again(&self) -> String {
        let printed = self.dev(&["start"]);
        printed.trim().strip_prefix("bootstrap.servers=").expect("the address is printed").to_owned()
    }

    pub fn stop(&self) {
        self.dev(&["stop"]);
    }

    fn dev(&self, arguments: &[&str]) -> String {
        let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("dev"))
            .arg("kafka")
            .args(arguments)
            .arg("--dir")
            .arg(&self.dir)
            .env("WATERSMEET_KAFKA_HEAP", "400m")
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .expect("./dev runs");
        assert!(output.status.success(), "./dev kafka {arguments:?} failed");
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.dev(&["stop", "--wipe"]);
        } else {
            // A second panic would hide the first.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.dev(&["stop", "--wipe"])));
        }
    }
}
