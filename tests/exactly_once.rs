//! exactly_once_v2 on the broker in memory: whatever happens to a transaction, committed outputs, offsets and stores agree.

#[path = "exactly_once/job.rs"]
mod job;
mod waiting;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use waiting::{PATIENCE, wait_until};
use watersmeet::clock::{ManualClock, SystemClock};
use watersmeet::error::Kind;
use watersmeet::prelude::*;
use watersmeet::streams::State;
use watersmeet::testing::{Fault, MemoryBroker, Request};

const PARTITIONS: i32 = 4;

fn broker() -> (MemoryBroker, ManualClock) {
    let clock = ManualClock::at(0);
    let broker = MemoryBroker::with_clock(Arc::new(clock.clone()));
    for topic in ["in", "counts", "digits"] {
        broker.create_topic(topic, PARTITIONS);
    }
    (broker, clock)
}

fn produce(broker: &MemoryBroker, records: std::ops::Range<usize>) {
    for n in records {
        broker.produce("in", format!("k{}", n % 37).as_bytes(), "v".as_bytes(), n as i64).expect("the topic is there");
    }
}

fn config(dir: &Path) -> Config {
    let (commit_interval, poll) = (Duration::from_millis(10), Duration::from_millis(5));
    Config { state_dir: dir.to_path_buf(), commit_interval, poll, ..Config::new("app").exactly_once() }
}

fn start(broker: &MemoryBroker, process: &str, dir: &Path, threads: usize) -> Streams {
    let client = broker.client("app", process);
    let config = Config { num_stream_threads: threads, ..config(dir) };
    Streams::start_on(job::topology(""), config, client, SystemClock::shared()).expect("starts")
}

fn outputs(broker: &MemoryBroker, topic: &str) -> Vec<(String, i64)> {
    let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap_or_default()).expect("text");
    let records = broker.committed_records(topic).into_iter();
    records.map(|r| (text(r.key), job::count(r.value.as_deref().unwrap_or_default()))).collect()
}

/// Waits for the outputs of so many records, and looks for anything wrong with them.
fn check(broker: &MemoryBroker, total: usize) {
    for topic in ["counts", "digits"] {
        wait_until(&format!("{topic} is complete"), || outputs(broker, topic).len() >= total);
        assert_eq!(job::faults(&outputs(broker, topic), total), [""; 0], "{topic}");
    }
}

#[test]
fn results_are_seen_when_they_are_committed_and_a_restart_repeats_nothing() {
    let ((broker, _), dir) = (broker(), tempfile::tempdir().expect("a folder"));
    produce(&broker, 0..500);
    let streams = start(&broker, "p", dir.path(), 2);
    check(&broker, 500);
    assert!(streams.close(PATIENCE));
    drop(streams);
    assert!(broker.open_transactions().is_empty());
    produce(&broker, 500..1_000);
    let _again = start(&broker, "p", dir.path(), 2);
    check(&broker, 1_000);
    assert_eq!(broker.records("counts").len(), 1_000, "nothing was written that did not count");
}

/// Every request that a transaction needs fails in every way, again and again, while records come.
#[test]
fn whatever_happens_to_its_requests_the_outputs_are_exact() {
    let ((broker, _), dir) = (broker(), tempfile::tempdir().expect("a folder"));
    let streams = start(&broker, "p", dir.path(), 1);
    let faults = [
        (Request::InitTransactions, Fault::Refused(Kind::Broker)),
        (Request::Produce, Fault::AnswerLost),
        (Request::Produce, Fault::Refused(Kind::Broker)),
        (Request::Produce, Fault::Refused(Kind::Migrated)),
        (Request::SendOffsets, Fault::Refused(Kind::Broker)),
        (Request::SendOffsets, Fault::Refused(Kind::Aborted)),
        (Request::SendOffsets, Fault::AnswerLost),
        (Request::EndTransaction, Fault::AnswerLost),
        (Request::EndTransaction, Fault::Refused(Kind::Broker)),
        (Request::EndTransaction, Fault::Refused(Kind::Aborted)),
        (Request::EndTransaction, Fault::Refused(Kind::Migrated)),
        (Request::Committed, Fault::Refused(Kind::Broker)),
    ];
    let mut total = 0;
    for _ in 0..3 {
        for (request, fault) in faults {
            broker.fail_next(request, fault);
            produce(&broker, total..total + 50);
            total += 50;
            check(&broker, total);
        }
    }
    assert!(streams.wait_for(&[State::Running], PATIENCE));
    assert!(broker.records("counts").len() > total, "something was aborted");
}

#[test]
fn a_member_that_is_removed_without_knowing_commits_nothing() {
    let ((broker, _), dir) = (broker(), tempfile::tempdir().expect("a folder"));
    let _streams = start(&broker, "p", dir.path(), 1);
    for round in 1..=5 {
        produce(&broker, (round - 1) * 100..round * 100);
        broker.remove_member("app", "p-1");
        check(&broker, round * 100);
    }
}

#[test]
fn instances_take_over_from_each_other() {
    let (broker, clock) = broker();
    let dirs = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let a = start(&broker, "a", dirs[0].path(), 1);
    produce(&broker, 0..500);
    check(&broker, 500);
    let _b = start(&broker, "b", dirs[1].path(), 1);
    produce(&broker, 500..1_000);
    wait_until("b has its share", || broker.members("app").values().all(|owned| owned.len() == 4));
    produce(&broker, 1_000..1_500);
    check(&broker, 1_500);
    assert!(a.close(PATIENCE));
    produce(&broker, 1_500..2_000);
    clock.advance_ms(45_000);
    check(&broker, 2_000);
}

/// What the group knows to be committed may not be seen in the changelog yet: whoever takes over waits for it.
#[test]
fn a_restore_waits_for_what_is_committed_and_not_yet_seen() {
    let ((broker, _), dir) = (broker(), tempfile::tempdir().expect("a folder"));
    let streams = start(&broker, "p", dir.path(), 1);
    // All stores are open: what comes now is one transaction.
    assert!(streams.wait_for(&[State::Running], PATIENCE));
    broker.hold_markers(true);
    produce(&broker, 0..100);
    wait_until("the group has committed", || {
        broker.committed("app").iter().filter(|(tp, _)| &*tp.topic == "in").map(|(_, c)| c.offset).sum::<i64>() == 100
    });
    streams.close(Duration::from_millis(500));
    drop(streams);
    std::fs::remove_dir_all(dir.path().join("app")).expect("is there");
    let heir = tempfile::tempdir().expect("a folder");
    let _heir = start(&broker, "p", heir.path(), 1);
    produce(&broker, 100..200);
    broker.hold_markers(false);
    check(&broker, 200);
}
