//! Topics by a pattern, on whole clients: those that come while the client runs, those that go, and what no pattern means.

use crate::waiting::{PATIENCE, wait_until};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use watersmeet::clock::{ManualClock, SystemClock};
use watersmeet::prelude::*;
use watersmeet::serdes::DefaultSerde;
use watersmeet::streams::State;
use watersmeet::testing::{MemoryBroker, TopologyTestDriver};

fn text() -> Consumed<String, String> {
    Consumed::default()
}

/// All topics `in-…`, counted by key into `counts`.
fn counting() -> Topology {
    let builder = StreamsBuilder::new();
    let all = builder.stream(TopicPattern::new("in-.*").expect("a pattern"), text());
    let counts = all.group_by_key(Default::default()).count(Materialized::memory("counts").without_cache());
    counts.to_stream().to("counts", Produced::default());
    builder.build().expect("builds")
}

fn config(dir: &Path) -> Config {
    let (commit_interval, poll) = (Duration::from_millis(20), Duration::from_millis(5));
    let metadata_max_age = Duration::from_millis(10);
    Config { state_dir: dir.to_path_buf(), commit_interval, poll, metadata_max_age, ..Config::new("app") }
}

/// A broker whose clock stands still, so that sessions end only when told.
fn broker(topics: &[(&str, i32)]) -> MemoryBroker {
    let broker = MemoryBroker::with_clock(Arc::new(ManualClock::at(0)));
    topics.iter().for_each(|(topic, partitions)| broker.create_topic(topic, *partitions));
    broker
}

fn start(broker: &MemoryBroker, process: &str, config: Config) -> Streams {
    let client = broker.client("app", process);
    Streams::start_on(counting(), config, client, SystemClock::shared()).expect("starts")
}

/// The largest count of each key in `counts`.
fn counts(broker: &MemoryBroker) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for record in broker.records("counts") {
        let key = String::from_utf8(record.key.expect("a key")).expect("text");
        let count = i64::from_be_bytes(record.value.expect("a count").try_into().expect("eight bytes"));
        let largest = counts.entry(key).or_insert(0);
        *largest = count.max(*largest);
    }
    counts
}

fn produce(broker: &MemoryBroker, topic: &str, keys: std::ops::Range<usize>) {
    for key in keys {
        broker.produce(topic, format!("k{key}").as_bytes(), "x".as_bytes(), 1).expect("the topic is there");
    }
}

fn all_are(broker: &MemoryBroker, keys: usize, count: i64) -> bool {
    let counts = counts(broker);
    counts.len() == keys && counts.values().all(|n| *n == count)
}

#[test]
fn topics_that_come_are_read_and_those_that_go_are_let_go() {
    let broker = broker(&[("in-a", 4), ("counts", 4), ("other", 4)]);
    let dir = tempfile::tempdir().expect("a folder");
    let streams = start(&broker, "p", config(dir.path()));
    produce(&broker, "in-a", 0..50);
    produce(&broker, "other", 0..50);
    wait_until("the first topic is read", || all_are(&broker, 50, 1));

    broker.create_topic("in-b", 4);
    produce(&broker, "in-b", 0..50);
    wait_until("the second topic is read by the same tasks", || all_are(&broker, 50, 2));

    broker.delete_topic("in-a");
    let read = |topic: &str| {
        let tasks = streams.status().threads.into_iter().flat_map(|thread| thread.tasks);
        tasks.flat_map(|task| task.partitions).filter(|partition| partition.topic == topic).count()
    };
    wait_until("the first topic is let go", || read("in-a") == 0 && read("in-b") == 4);
    produce(&broker, "in-b", 0..50);
    wait_until("the second topic goes on", || all_are(&broker, 50, 3));
    assert_eq!(streams.status().state, State::Running);
    assert!(streams.close(PATIENCE));
}

#[test]
fn a_client_without_a_topic_waits_for_the_first() {
    let broker = broker(&[("counts", 2)]);
    let dir = tempfile::tempdir().expect("a folder");
    let streams = start(&broker, "p", config(dir.path()));
    wait_until("it runs", || streams.status().state == State::Running);
    broker.create_topic("in-late", 2);
    produce(&broker, "in-late", 0..10);
    wait_until("the topic is read", || all_are(&broker, 10, 1));
    assert!(streams.close(PATIENCE));
}

/// The members of the group do not learn of a topic at the same time: until they all have, a task may lack a partition.
#[test]
fn two_clients_share_topics_that_come() {
    let broker = broker(&[("in-a", 4), ("counts", 4)]);
    let dirs = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let streams = [start(&broker, "p", config(dirs[0].path())), start(&broker, "q", config(dirs[1].path()))];
    wait_until("both run", || streams.iter().all(|streams| streams.status().state == State::Running));
    produce(&broker, "in-a", 0..50);
    wait_until("the first topic is read", || all_are(&broker, 50, 1));
    for (topic, count) in [("in-b", 2), ("in-c", 3)] {
        broker.create_topic(topic, 4);
        produce(&broker, topic, 0..50);
        wait_until("the new topic is read", || all_are(&broker, 50, count));
    }
    for streams in streams {
        assert!(streams.close(PATIENCE));
    }
}

#[test]
fn a_pattern_means_neither_kafkas_topics_nor_the_applications_own() {
    let builder = StreamsBuilder::new();
    let all = builder.stream(TopicPattern::new(".*").expect("a pattern"), text());
    all.select_key(|_, v| v.clone()).repartition(Repartitioned::with(String::serde(), String::serde()).named("r"));
    let broker = broker(&[("__consumer_offsets", 1), ("mine", 1)]);
    let dir = tempfile::tempdir().expect("a folder");
    let topology = builder.build().expect("builds");
    let client = broker.client("app", "p");
    let streams = Streams::start_on(topology, config(dir.path()), client, SystemClock::shared()).expect("starts");
    let topics = || {
        let tasks = streams.status().threads.into_iter().flat_map(|thread| thread.tasks);
        let partitions = tasks.flat_map(|task| task.partitions.into_iter().map(move |p| (task.id.clone(), p.topic)));
        partitions.collect::<Vec<_>>()
    };
    let wanted = [("0_0".into(), "mine".into()), ("1_0".into(), "app-r-repartition".into())];
    wait_until("both tasks are there", || topics() == wanted);
    assert!(streams.close(PATIENCE));
}

#[test]
fn the_driver_sees_topics_when_they_are_written_to() {
    let driver = TopologyTestDriver::new(counting(), Config::new("test")).expect("starts");
    let counts = driver.create_output_topic("counts", Consumed::<String, i64>::default());
    for (topic, count) in [("in-1", 1), ("in-2", 2), ("in-1", 3)] {
        let input = driver.create_input_topic(topic, Produced::<String, String>::default());
        input.pipe("k", "v").expect("is processed");
        assert_eq!(counts.read_value().expect("a number"), Some(count));
    }
    let other = driver.create_input_topic("other", Produced::<String, String>::default());
    assert!(other.pipe("k", "v").is_err(), "nobody reads it");
}

#[test]
fn conflicts_are_errors_of_the_topology() {
    let builder = StreamsBuilder::new();
    builder.stream("in-a", text()).to("out", Produced::default());
    builder.stream(TopicPattern::new("in-.*").expect("a pattern"), text()).to("out", Produced::default());
    let error = builder.build().err().expect("in-a is read twice").to_string();
    assert!(error.contains("in-.*") && error.contains("in-a"), "{error}");

    let builder = StreamsBuilder::new();
    for out in ["one", "two"] {
        builder.stream(TopicPattern::new("in-.*").expect("a pattern"), text()).to(out, Produced::default());
    }
    let text = builder.build().expect("equal patterns are one source").describe();
    assert_eq!(text.matches("Source:").count(), 1, "{text}");
}
