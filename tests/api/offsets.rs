//! Where topics are read from of which the group has no offset, and clients that pause.

use crate::waiting::{PATIENCE, wait_until};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use watersmeet::clock::{ManualClock, SystemClock};
use watersmeet::prelude::*;
use watersmeet::streams::State;
use watersmeet::testing::MemoryBroker;
use watersmeet::topology::OffsetReset;

fn config(dir: &Path) -> Config {
    let (commit_interval, poll) = (Duration::from_millis(20), Duration::from_millis(5));
    Config { state_dir: dir.to_path_buf(), commit_interval, poll, ..Config::new("app") }
}

/// The topics `in` and `out` with one partition, and records at these times, whose values are the times.
fn broker(times_ms: &[i64]) -> MemoryBroker {
    let broker = MemoryBroker::with_clock(Arc::new(ManualClock::at(0)));
    ["in", "out"].iter().for_each(|topic| broker.create_topic(topic, 1));
    produce(&broker, times_ms);
    broker
}

fn produce(broker: &MemoryBroker, times_ms: &[i64]) {
    for time_ms in times_ms {
        broker.produce("in", "key".as_bytes(), time_ms.to_string().as_bytes(), *time_ms).expect("the topic is there");
    }
}

fn copying(reset: Option<OffsetReset>) -> Topology {
    let builder = StreamsBuilder::new();
    let mut consumed = Consumed::<String, String>::default();
    if let Some(reset) = reset {
        consumed = consumed.offset_reset(reset);
    }
    builder.stream("in", consumed).to("out", Produced::default());
    builder.build().expect("builds")
}

/// What has been written, as times.
fn written(broker: &MemoryBroker) -> Vec<i64> {
    let text = |value: Option<Vec<u8>>| String::from_utf8(value.expect("a value")).expect("text");
    broker.records("out").into_iter().map(|record| text(record.value).parse().expect("a time")).collect()
}

#[test]
fn a_source_says_where_a_topic_begins_without_an_offset() {
    let now_ms = 1_000_000;
    let hour = Duration::from_millis(100);
    for (reset, expected) in [
        (None, vec![5, now_ms - 50, now_ms + 1]),
        (Some(OffsetReset::Earliest), vec![5, now_ms - 50, now_ms + 1]),
        (Some(OffsetReset::ByDuration(hour)), vec![now_ms - 50, now_ms + 1]),
        (Some(OffsetReset::ByDuration(Duration::ZERO)), vec![now_ms + 1]),
        (Some(OffsetReset::Latest), vec![now_ms + 1]),
    ] {
        let broker = broker(&[5, now_ms - 50]);
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::at(now_ms));
        let client = broker.client("app", "p");
        let streams = Streams::start_on(copying(reset), config(dir.path()), client, clock).expect("starts");
        assert!(streams.wait_for(&[State::Running], PATIENCE), "{:?}", streams.status());
        produce(&broker, &[now_ms + 1]);
        wait_until("the new record is out", || written(&broker).last() == Some(&(now_ms + 1)));
        assert_eq!(written(&broker), expected, "{reset:?}");
        assert!(streams.close(PATIENCE));

        // From here on there is an offset, and the rule has nothing to say any more.
        produce(&broker, &[now_ms + 2]);
        let (client, clock) = (broker.client("app", "p"), SystemClock::shared());
        let fail = copying(Some(OffsetReset::Fail));
        let streams = Streams::start_on(fail, config(dir.path()), client, clock).expect("starts");
        wait_until("it goes on", || written(&broker).last() == Some(&(now_ms + 2)));
        assert_eq!(written(&broker).len(), expected.len() + 1, "{reset:?}");
        assert!(streams.close(PATIENCE));
    }
}

#[test]
fn a_source_may_take_no_offset_for_an_error() {
    let broker = broker(&[5]);
    let dir = tempfile::tempdir().expect("a folder");
    let (client, clock) = (broker.client("app", "p"), SystemClock::shared());
    let topology = copying(Some(OffsetReset::Fail));
    let streams = Streams::start_on(topology, config(dir.path()), client, clock).expect("starts");
    assert!(streams.wait_for(&[State::Error], PATIENCE), "{:?}", streams.status());
    let error = streams.status().threads.remove(0).error.expect("says why");
    assert!(error.contains("the group has no offset") && error.contains("topic in, partition 0"), "{error}");
}

#[test]
fn sources_of_one_topic_agree_where_it_begins() {
    let builder = StreamsBuilder::new();
    let text = Consumed::<String, String>::default;
    builder.stream("in", text().offset_reset(OffsetReset::Latest)).to("out", Produced::default());
    builder.stream("in", text()).to("copy", Produced::default());
    let error = builder.build().err().expect("they do not").to_string();
    assert!(error.contains("Can't configure different offset reset policies"), "{error}");
}

#[test]
fn a_paused_client_processes_nothing_until_it_resumes() {
    let broker = broker(&[1]);
    let dir = tempfile::tempdir().expect("a folder");
    let client = broker.client("app", "p");
    let streams = Streams::start_on(copying(None), config(dir.path()), client, SystemClock::shared()).expect("starts");
    wait_until("the first record is out", || written(&broker).len() == 1);
    streams.pause();
    produce(&broker, &[2, 3, 4]);
    let lag = || {
        let tasks = streams.status().threads.into_iter().flat_map(|thread| thread.tasks);
        tasks.flat_map(|task| task.partitions).filter_map(|partition| partition.lag).sum::<i64>()
    };
    wait_until("it knows of the others", || lag() == 3);
    assert!(streams.is_paused());
    assert_eq!((written(&broker), streams.state()), (vec![1], State::Running));
    streams.resume();
    wait_until("the others are out", || written(&broker) == [1, 2, 3, 4]);
    assert!(streams.close(PATIENCE));
}

#[test]
fn what_an_application_has_on_disk_is_removed_unless_it_runs() {
    let dir = tempfile::tempdir().expect("a folder");
    let builder = StreamsBuilder::new();
    let rows = Materialized::rocksdb("rows");
    builder.table("in", Consumed::<String, String>::default(), rows).to_stream().to("out", Produced::default());
    let topology = builder.build().expect("builds");
    let broker = broker(&[1]);
    let client = broker.client("app", "p");
    let config = config(dir.path());
    let streams = Streams::start_on(topology, config.clone(), client, SystemClock::shared()).expect("starts");
    wait_until("the record is out", || written(&broker).len() == 1);
    assert!(dir.path().join("app").exists() && Streams::clean_up(&config).is_err());
    assert!(streams.close(PATIENCE));
    drop(streams);
    Streams::clean_up(&config).expect("nobody holds it");
    assert!(!dir.path().join("app").exists());
}
