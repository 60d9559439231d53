//! Whole clients (`Streams`: supervisor, stream threads, state directory) on the broker in memory: several threads and
//! instances, and everything that can be wrong with topics, broker and user code.

mod waiting;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use waiting::{PATIENCE, wait_until};
use watersmeet::broker::{Committed, TopicPartition};
use watersmeet::clock::{ManualClock, SystemClock};
use watersmeet::config::Uncaught;
use watersmeet::prelude::*;
use watersmeet::streams::State;
use watersmeet::testing::{Fault, MemoryBroker, Request};

/// `in` joined with the table `T`, to `out`.
fn join() -> Topology {
    join_with(|v, t| format!("{v}+{t}"))
}

fn join_with(joiner: impl Fn(String, String) -> String + Send + Sync + 'static) -> Topology {
    let builder = StreamsBuilder::new();
    let consumed = Consumed::<String, String>::default().ready_first();
    let table = builder.table("T", consumed, Materialized::rocksdb("store"));
    let stream = builder.stream("in", Consumed::<String, String>::default());
    stream.join(&table, joiner).to("out", Produced::default());
    builder.build().expect("builds")
}

/// A broker with the join's topics, 4 partitions each. Its clock stands still, so that sessions end only when told.
fn broker() -> (MemoryBroker, ManualClock) {
    let clock = ManualClock::at(0);
    let broker = MemoryBroker::with_clock(Arc::new(clock.clone()));
    for topic in ["T", "in", "out"] {
        broker.create_topic(topic, 4);
    }
    (broker, clock)
}

fn produce(broker: &MemoryBroker, topic: &str, keys: std::ops::Range<usize>, value: &str) {
    for key in keys {
        broker.produce(topic, format!("k{key}").as_bytes(), value.as_bytes(), 1).expect("the topic is there");
    }
}

fn config(dir: &Path) -> Config {
    let (commit_interval, poll) = (Duration::from_millis(20), Duration::from_millis(10));
    Config { state_dir: dir.to_path_buf(), commit_interval, poll, ..Config::new("app") }
}

fn start(broker: &MemoryBroker, process: &str, topology: Topology, config: Config) -> Streams {
    let client = broker.client("app", process);
    Streams::start_on(topology, config, client, SystemClock::shared()).expect("starts")
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// How often each key and value is in `out`.
fn counts(broker: &MemoryBroker) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in broker.records("out") {
        let part = |bytes: &Option<Vec<u8>>| String::from_utf8_lossy(bytes.as_deref().unwrap_or(b"")).into_owned();
        *counts.entry(format!("{}={}", part(&record.key), part(&record.value))).or_default() += 1;
    }
    counts
}

fn ends_in_error(streams: &Streams) -> String {
    assert!(streams.wait_for(&[State::Error], PATIENCE), "{:?}", streams.status());
    assert!(!streams.status().is_live());
    streams.status().reason
}

#[test]
fn threads_share_the_tasks_and_a_close_commits_everything() {
    let ((broker, _), dir) = (broker(), dir());
    produce(&broker, "T", 0..100, "t");
    produce(&broker, "in", 0..100, "s");
    let streams = start(&broker, "p", join(), Config { num_stream_threads: 2, ..config(dir.path()) });
    assert!(streams.wait_for(&[State::Running], PATIENCE));
    wait_until("all are joined", || broker.records("out").len() == 100);
    let owned: Vec<usize> = broker.members("app").values().map(Vec::len).collect();
    assert_eq!(owned, [4, 4]);
    assert!(streams.close(PATIENCE));
    assert_eq!(streams.state(), State::NotRunning);
    let committed: i64 = broker.committed("app").values().map(|c: &Committed| c.offset).sum();
    assert_eq!(committed, 200);
}

#[test]
fn a_client_with_more_threads_than_tasks_is_running() {
    let ((broker, _), dir) = (broker(), dir());
    let streams = start(&broker, "p", join(), Config { num_stream_threads: 6, ..config(dir.path()) });
    assert!(streams.wait_for(&[State::Running], PATIENCE), "{:?}", streams.status());
    assert!(streams.status().is_ready());
}

#[test]
fn instances_take_partitions_over_from_each_other_and_lose_nothing() {
    let (broker, clock) = broker();
    let (dir_a, dir_b) = (dir(), dir());
    produce(&broker, "T", 0..50, "t");
    let a = start(&broker, "a", join(), config(dir_a.path()));
    produce(&broker, "in", 0..50, "1");
    wait_until("a has all", || broker.members("app").values().map(Vec::len).sum::<usize>() == 8);
    let b = start(&broker, "b", join(), config(dir_b.path()));
    wait_until("b has its half", || broker.members("app").values().map(Vec::len).collect::<Vec<_>>() == [4, 4]);
    assert!(b.wait_for(&[State::Running], PATIENCE) && a.wait_for(&[State::Running], PATIENCE));
    produce(&broker, "in", 0..50, "2");
    wait_until("both rounds are joined", || counts(&broker).len() == 100);
    assert!(a.close(PATIENCE));
    produce(&broker, "in", 0..50, "3");
    clock.advance_ms(45_000);
    wait_until("b does all that was a's", || counts(&broker).len() == 150);
    assert!(counts(&broker).values().all(|count| *count == 1), "orderly hand-overs repeat nothing");
    assert_eq!(b.status().threads[0].tasks.len(), 4);
}

#[test]
fn a_missing_topic_ends_the_client_with_its_name() {
    for missing in ["T", "in", "out"] {
        let ((broker, _), dir) = (broker(), dir());
        broker.delete_topic(missing);
        let streams = start(&broker, "p", join(), config(dir.path()));
        let reason = ends_in_error(&streams);
        assert!(reason.contains(&format!("topic {missing}")) && reason.contains("Next: create it"), "{reason}");
    }
}

#[test]
fn a_source_topic_that_is_deleted_while_running_ends_the_client() {
    let ((broker, _), dir) = (broker(), dir());
    let streams = start(&broker, "p", join(), config(dir.path()));
    assert!(streams.wait_for(&[State::Running], PATIENCE));
    broker.delete_topic("in");
    let reason = ends_in_error(&streams);
    assert!(reason.contains("topic in") && reason.contains("deleted"), "{reason}");
}

#[test]
fn topics_that_cannot_be_joined_end_the_client_with_both_counts() {
    let ((broker, _), dir) = (broker(), dir());
    broker.delete_topic("in");
    broker.create_topic("in", 3);
    let reason = ends_in_error(&start(&broker, "p", join(), config(dir.path())));
    assert!(reason.contains("T=4, in=3"), "{reason}");
}

#[test]
fn a_broker_that_is_down_at_the_start_is_waited_for_and_shown() {
    let ((broker, _), dir) = (broker(), dir());
    produce(&broker, "T", 0..3, "t");
    produce(&broker, "in", 0..3, "s");
    broker.set_unreachable(true);
    let streams = start(&broker, "p", join(), config(dir.path()));
    wait_until("the trouble shows", || streams.status().broker_trouble.is_some());
    assert_eq!(streams.state(), State::Rebalancing);
    broker.set_unreachable(false);
    assert!(streams.wait_for(&[State::Running], PATIENCE));
    wait_until("all are joined", || broker.records("out").len() == 3);
    wait_until("the trouble is over", || streams.status().broker_trouble.is_none());
}

#[test]
fn a_broker_that_goes_in_the_middle_holds_records_up_and_loses_none() {
    let ((broker, _), dir) = (broker(), dir());
    produce(&broker, "T", 0..20, "t");
    let streams = start(&broker, "p", join(), config(dir.path()));
    for round in 0..5 {
        produce(&broker, "in", 0..20, &round.to_string());
        broker.set_unreachable(true);
        wait_until("the trouble shows", || streams.status().broker_trouble.is_some());
        broker.set_unreachable(false);
    }
    wait_until("all are joined", || counts(&broker).len() == 100);
    assert_eq!(streams.status().totals.failed_threads, 0);
}

#[test]
fn lost_answers_and_passing_errors_lose_nothing() {
    let ((broker, _), dir) = (broker(), dir());
    produce(&broker, "T", 0..20, "t");
    produce(&broker, "in", 0..20, "s");
    use Request::*;
    for request in [Topics, CreateTopics, Heartbeat, Fetch, Committed, Commit, Offsets, Produce] {
        broker.fail_next(request, Fault::AnswerLost);
        broker.fail_next(request, Fault::Refused(watersmeet::error::Kind::Broker));
    }
    let streams = start(&broker, "p", join(), config(dir.path()));
    wait_until("all are joined", || counts(&broker).len() == 20);
    assert!(streams.wait_for(&[State::Running], PATIENCE));
    assert!(streams.close(PATIENCE));
}

#[test]
fn a_panic_closes_the_client_or_only_replaces_the_thread() {
    for uncaught in [Uncaught::ShutdownClient, Uncaught::ReplaceThread] {
        let ((broker, _), dir) = (broker(), dir());
        produce(&broker, "T", 0..4, "t");
        produce(&broker, "in", 0..4, "s");
        let once = AtomicBool::new(true);
        let topology = join_with(move |v, t| {
            assert!(!once.swap(false, Ordering::SeqCst), "the first record is a bad one");
            v + &t
        });
        let streams = start(&broker, "p", topology, Config { uncaught, ..config(dir.path()) });
        if uncaught == Uncaught::ShutdownClient {
            let reason = ends_in_error(&streams);
            assert!(reason.contains("the first record is a bad one") && reason.contains("topic in"), "{reason}");
        } else {
            wait_until("the next thread has done it", || counts(&broker).len() == 4);
            assert_eq!(streams.status().totals.failed_threads, 1);
            wait_until("it is live", || streams.status().is_live());
            assert!(streams.wait_for(&[State::Running], PATIENCE));
        }
    }
}

#[test]
fn a_committed_offset_that_the_log_no_longer_has_ends_the_client() {
    let ((broker, _), dir) = (broker(), dir());
    produce(&broker, "in", 0..8, "s");
    let streams = start(&broker, "p", join(), config(dir.path()));
    wait_until("they are committed", || broker.committed("app").values().map(|c| c.offset).sum::<i64>() >= 8);
    drop(streams);
    produce(&broker, "in", 0..8, "s");
    for partition in 0..4 {
        broker.delete_records("in", partition, i64::MAX);
    }
    let reason = ends_in_error(&start(&broker, "p", join(), config(dir.path())));
    assert!(reason.contains("topic in") && reason.contains("auto.offset.reset"), "{reason}");
}

#[test]
fn a_removed_member_joins_again_by_itself() {
    let ((broker, _), dir) = (broker(), dir());
    produce(&broker, "T", 0..8, "t");
    let streams = start(&broker, "p", join(), config(dir.path()));
    assert!(streams.wait_for(&[State::Running], PATIENCE));
    for round in 0..3 {
        broker.remove_member("app", "p-1");
        produce(&broker, "in", 0..8, &round.to_string());
        wait_until("they are joined all the same", || counts(&broker).len() == 8 * (round + 1));
    }
    assert_eq!(streams.status().totals.failed_threads, 0);
    let owned = broker.members("app")["p-1"].contains(&TopicPartition::new("in", 3));
    assert!(owned, "{:?}", broker.members("app"));
}

#[test]
fn an_instance_can_end_all_instances_but_none_that_starts_later() {
    let ((broker, _), dirs) = (broker(), [dir(), dir()]);
    let joiner = |v: String, t: String| {
        assert!(v != "bad", "not to my taste");
        v + &t
    };
    let config = |dir: &tempfile::TempDir, uncaught| Config { uncaught, ..config(dir.path()) };
    let clients = ["a", "b"]
        .into_iter()
        .zip(&dirs)
        .map(|(name, dir)| start(&broker, name, join_with(joiner), config(dir, Uncaught::ShutdownApplication)));
    let clients: Vec<Streams> = clients.collect();
    wait_until("both have tasks", || broker.members("app").values().filter(|owned| owned.len() == 4).count() == 2);
    produce(&broker, "T", 0..20, "t");
    produce(&broker, "in", 0..20, "s");
    wait_until("all are joined", || broker.records("out").len() == 20);
    produce(&broker, "in", 0..1, "bad");
    let reasons: Vec<String> = clients.iter().map(ends_in_error).collect();
    for reason in ["not to my taste", "another instance has ended the application"] {
        assert!(reasons.iter().any(|r| r.contains(reason)), "{reason}: {reasons:?}");
    }
    assert_eq!(broker.members("app").len(), 0);
    drop(clients);

    let streams = start(&broker, "a", join(), config(&dirs[0], Uncaught::ShutdownApplication));
    wait_until("it goes on", || broker.records("out").iter().any(|r| r.value.as_deref() == Some(b"bad+t")));
    assert!(streams.close(PATIENCE));
}
