//! The real Kafka Streams runs, ours takes over on the same application id and state directory, and Kafka Streams after
//! ours. Needs `WATERSMEET_KAFKA`, a JDK, and Kafka Streams' jars in the folder `KAFKA_STREAMS_JARS`; `./dev test`
//! brings them.

use super::kafka::{Counts, Kafka};
use super::{PATIENCE, dir, wait_until};
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use watersmeet::broker::Outgoing;
use watersmeet::prelude::*;
use watersmeet::record::Headers;
use watersmeet::streams::{CloseOptions, State};

/// The topics, in the order in which TakeOver.java wants them.
struct Topics {
    table: Arc<str>,
    input: Arc<str>,
    counts: Arc<str>,
    joined: Arc<str>,
}

fn topology(topics: &Topics) -> Topology {
    let builder = StreamsBuilder::new();
    let rows = builder.table(&topics.table, Consumed::<String, String>::default(), Materialized::rocksdb("rows"));
    let stream = builder.stream(&*topics.input, Consumed::<String, String>::default());
    stream.join(&rows, |value, row| format!("{value}+{row}")).to(&topics.joined, Produced::default());
    let grouped = stream.group_by(|_, value| value.clone(), Grouped::keys().values().named("by-value"));
    grouped.count(Materialized::rocksdb("counts")).to_stream().to(&topics.counts, Produced::default());
    builder.build().expect("builds")
}

/// A running Kafka Streams; killed with the test.
struct Java(Child);

impl Java {
    fn start(kafka: &Kafka, jars: &str, state: &std::path::Path, topics: &Topics) -> Self {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/group/TakeOver.java");
        let mut command = Command::new("java");
        command.args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]);
        command.args(["-cp", &format!("{jars}/*"), source, &kafka.address, &kafka.run]).arg(state);
        command.args([&topics.table, &topics.input, &topics.counts, &topics.joined].map(|topic| topic.to_string()));
        Self(command.stdin(Stdio::piped()).spawn().expect("java starts"))
    }

    fn stop(mut self) {
        drop(self.0.stdin.take());
        wait_until("Kafka Streams has stopped", || self.0.try_wait().expect("a child").is_some());
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn jars() -> Option<String> {
    let jars = std::env::var("KAFKA_STREAMS_JARS").ok().filter(|jars| !jars.is_empty());
    if jars.is_none() {
        eprintln!("KAFKA_STREAMS_JARS is not set: no Kafka Streams to take over from");
    }
    jars
}

const KEYS: usize = 200;

/// New rows for the table, then each key once in the stream, with one of 40 values.
fn feed(kafka: &Kafka, topics: &Topics, step: i64) {
    let mut producer = kafka.broker.producer(1, None).expect("a producer");
    let headers = Headers::default();
    for (topic, after_ms) in [(&topics.table, 0), (&topics.input, 5)] {
        for n in 0..KEYS {
            let value = if after_ms == 0 { format!("row{step}") } else { format!("v{}", n % 40) };
            let (key, timestamp_ms) = (format!("k{n}"), Some(step * 10 + after_ms));
            let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
            producer
                .send(Outgoing { topic, partition: None, key, value, timestamp_ms, headers: &headers })
                .expect("sends");
        }
        producer.flush(PATIENCE).expect("flushes");
    }
}

#[test]
fn ours_takes_over_from_kafka_streams_and_kafka_streams_from_ours() {
    let (Some(kafka), Some(jars)) = (Kafka::new("take-over"), jars()) else { return };
    let topics = Topics {
        table: kafka.topic("table"),
        input: kafka.topic("in"),
        counts: kafka.topic("counts"),
        joined: kafka.topic("joined"),
    };
    let state = dir();
    let mut counts = Counts::new(&kafka, &topics.counts);
    let mut reader = kafka.reader(&topics.joined);
    let mut joined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for step in 1..=5 {
        // Nobody runs while this comes: whoever is next begins where the other has stopped.
        feed(&kafka, &topics, step);
        let mut check = || {
            counts.wait_for(step * KEYS as i64 / 40);
            wait_until("all are joined", || {
                for (_, key, value) in reader.poll(Duration::from_millis(20)) {
                    let text = |bytes| String::from_utf8(bytes).expect("text");
                    joined.entry(text(key)).or_default().push(text(value));
                }
                joined.len() == KEYS && joined.values().all(|values| values.len() >= step as usize)
            });
        };
        if step % 2 == 1 {
            let java = Java::start(&kafka, &jars, state.path(), &topics);
            check();
            java.stop();
        } else {
            let config = kafka.config(state.path(), "classic");
            let streams = Streams::start(topology(&topics), config).expect("starts");
            check();
            assert_eq!(streams.state(), State::Running);
            assert!(streams.close_with(CloseOptions { timeout: PATIENCE, leave_group: true }));
        }
    }
    // An uninterrupted run would have made just these: every count once, every record joined with the row of its time.
    assert_eq!(counts.records, 5 * KEYS);
    for (key, values) in joined {
        let n: usize = key[1..].parse().expect("a number");
        let expected: Vec<String> = (1..=5).map(|step| format!("v{}+row{step}", n % 40)).collect();
        assert_eq!(values, expected, "{key}");
    }
}
