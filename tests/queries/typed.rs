//! Typed reads on whole clients over the broker in memory: every kind of store, both levels, from other threads, and
//! what they say while partitions move.

use super::{PATIENCE, wait_until};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use watersmeet::clock::SystemClock;
use watersmeet::error::Kind;
use watersmeet::partitioner::partition_for_key;
use watersmeet::prelude::*;
use watersmeet::queries::{KeyValueReads, Level};
use watersmeet::serdes::DefaultSerde;
use watersmeet::streams::State;
use watersmeet::testing::MemoryBroker;
use watersmeet::windows::{SessionWindows, TimeWindows};

fn start(broker: &MemoryBroker, process: &str, topology: Topology, dir: &Path, commit: Duration) -> Streams {
    let poll = Duration::from_millis(100);
    let config = Config {
        state_dir: dir.join(process),
        commit_interval: commit,
        poll,
        num_stream_threads: 2,
        ..Config::new("app")
    };
    Streams::start_on(topology, config, broker.client("app", process), SystemClock::shared()).expect("starts")
}

const OFTEN: Duration = Duration::from_millis(10);
const NEVER: Duration = Duration::from_secs(3_600);

fn table(engine: Materialized<String, String>) -> Topology {
    let builder = StreamsBuilder::new();
    builder.table("T", Consumed::<String, String>::default(), engine);
    builder.build().expect("builds")
}

fn broker(topic: &str, partitions: i32) -> MemoryBroker {
    let broker = MemoryBroker::new();
    broker.create_topic(topic, partitions);
    broker
}

fn fill(broker: &MemoryBroker, keys: std::ops::Range<usize>, value: &str) {
    for key in keys {
        broker.produce("T", format!("k{key:03}").as_bytes(), value.as_bytes(), 7).expect("the topic is there");
    }
}

fn rows(reads: &KeyValueReads<String, String>) -> usize {
    reads.all().map_or(0, |rows| rows.filter(|row| row.is_ok()).count())
}

#[test]
fn a_table_is_read_by_key_range_and_prefix_over_all_its_partitions() {
    for materialized in [Materialized::rocksdb("store"), Materialized::memory("store")] {
        let (broker, dir) = (broker("T", 4), tempfile::tempdir().expect("a folder"));
        fill(&broker, 0..100, "v");
        let streams = start(&broker, "one", table(materialized), dir.path(), OFTEN);
        let reads = streams.store("store").key_value::<String, String>().expect("is there");
        wait_until("all rows are committed", || rows(&reads) == 100);
        assert_eq!(reads.get(&"k007".into()).expect("reads").as_deref(), Some("v"));
        assert_eq!(reads.get_with_timestamp(&"k007".into()).expect("reads"), Some(("v".into(), Some(7))));
        assert_eq!(reads.get(&"other".into()).expect("reads"), None);
        let keys = |rows: watersmeet::queries::Rows<String, String>| {
            rows.map(|row| row.expect("reads").key).collect::<Vec<_>>()
        };
        let range = keys(reads.range(Some(&"k010".into()), Some(&"k013".into())).expect("reads"));
        assert_eq!(range, ["k010", "k011", "k012", "k013"], "in the order of keys, over partitions");
        assert_eq!(keys(reads.prefix(&"k09".to_string(), &String::serde()).expect("reads")).len(), 10);
        assert!(keys(reads.range(Some(&"k5".into()), Some(&"k1".into())).expect("reads")).is_empty());
        assert!(reads.approximate_entries().expect("reads") >= 100);
        let (value, staleness) = reads.get_with_staleness(&"k001".into()).expect("reads");
        assert!(value.is_some() && staleness.as_of_ms > 0);
    }
}

#[test]
fn ranges_go_on_from_page_to_page() {
    let (broker, dir) = (broker("T", 3), tempfile::tempdir().expect("a folder"));
    for key in 0..5_000 {
        broker.produce("T", format!("{key:05}").as_bytes(), &b"v"[..], 1).expect("the topic is there");
    }
    let streams = start(&broker, "one", table(Materialized::rocksdb("store")), dir.path(), OFTEN);
    let reads = streams.store("store").key_value::<String, String>().expect("is there");
    wait_until("all rows are committed", || rows(&reads) == 5_000);
    let keys: Vec<String> = reads.all().expect("reads").map(|row| row.expect("reads").key).collect();
    assert!(keys.is_sorted() && keys[4_999] == "04999");
}

#[test]
fn what_is_not_committed_is_seen_by_the_latest_level_alone() {
    for (materialized, disk) in [(Materialized::rocksdb("store"), true), (Materialized::memory("store"), false)] {
        let (broker, dir) = (broker("T", 2), tempfile::tempdir().expect("a folder"));
        let streams = start(&broker, "one", table(materialized), dir.path(), NEVER);
        assert!(streams.wait_for(&[State::Running], PATIENCE));
        fill(&broker, 0..10, "v");
        let store = streams.store("store");
        let latest = store.clone().latest().key_value::<String, String>().expect("is there");
        let committed = store.level(Level::Committed).key_value::<String, String>().expect("is there");
        wait_until("all rows are there", || rows(&latest) == 10);
        assert_eq!(rows(&committed), 0, "on disk: {disk}");
        assert_eq!(committed.get(&"k001".into()).expect("reads"), None);
        assert!(latest.get(&"k001".into()).expect("reads").is_some());
    }
}

#[test]
fn a_thread_that_waits_for_records_answers_at_once() {
    let (broker, dir) = (broker("T", 2), tempfile::tempdir().expect("a folder"));
    fill(&broker, 0..10, "v");
    let streams = start(&broker, "one", table(Materialized::memory("store")), dir.path(), OFTEN);
    let reads = streams.store("store").latest().key_value::<String, String>().expect("is there");
    wait_until("all rows are there", || rows(&reads) == 10);
    let begun = Instant::now();
    for _ in 0..100 {
        reads.get(&"k001".into()).expect("reads");
    }
    // Its polls wait for 100 ms each.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn windows_and_sessions_are_read_by_key_and_time() {
    for disk in [true, false] {
        let (broker, dir) = (broker("T", 2), tempfile::tempdir().expect("a folder"));
        let builder = StreamsBuilder::new();
        let stream = builder.stream("T", Consumed::<String, String>::default());
        let of = |name: &str| match disk {
            true => Materialized::rocksdb(name),
            false => Materialized::memory(name),
        };
        let grouped = stream.group_by_key(Grouped::default());
        grouped.windowed_by(TimeWindows::of_size_and_grace(100, 1_000)).count(of("windows"));
        grouped.windowed_by(SessionWindows::of_inactivity_gap_and_grace(50, 1_000)).count(of("sessions"));
        for (key, time_ms) in [("a", 10), ("a", 20), ("a", 150), ("b", 120)] {
            broker.produce("T", key.as_bytes(), &b"v"[..], time_ms).expect("the topic is there");
        }
        let streams = start(&broker, "one", builder.build().expect("builds"), dir.path(), OFTEN);
        let windows = streams.store("windows").window::<String, i64>().expect("is there");
        wait_until("all windows are committed", || windows.all().is_ok_and(|rows| rows.len() == 3));
        let of_a = windows.fetch(&"a".into(), 0, 1_000).expect("reads");
        assert_eq!(
            of_a.iter().map(|w| (w.start_ms, w.end_ms, w.value)).collect::<Vec<_>>(),
            [(0, 100, 2), (100, 200, 1)]
        );
        assert_eq!(windows.get(&"a".into(), 0).expect("reads").map(|w| (w.value, w.timestamp_ms)), Some((2, Some(20))));
        assert_eq!(windows.get(&"a".into(), 50).expect("reads"), None);
        let from_b = windows.fetch_range((Some(&"b".into()), None), 0, 1_000).expect("reads");
        assert_eq!(from_b.len(), 1);

        let sessions = streams.store("sessions").session::<String, i64>().expect("is there");
        wait_until("all sessions are committed", || sessions.fetch(&"a".into()).is_ok_and(|rows| rows.len() == 2));
        let of_a = sessions.fetch(&"a".into()).expect("reads");
        assert_eq!(
            of_a.iter().map(|s| (s.start_ms, s.end_ms, s.value)).collect::<Vec<_>>(),
            [(10, 20, 2), (150, 150, 1)]
        );
        assert_eq!(sessions.get(&"a".into(), (10, 20)).expect("reads"), Some(2));
        assert_eq!(sessions.find(&"a".into(), 100, 1_000).expect("reads").len(), 1);
        assert_eq!(sessions.find_range((None, None), 0, 1_000).expect("reads").len(), 3);
    }
}

#[test]
fn versioned_stores_are_read_as_of_a_time() {
    let (broker, dir) = (broker("T", 1), tempfile::tempdir().expect("a folder"));
    for (value, time_ms) in [(Some("old"), 10), (Some("new"), 20), (None, 30), (Some("newest"), 40)] {
        broker.produce("T", &b"p"[..], value.map(str::as_bytes), time_ms).expect("the topic is there");
    }
    let streams = start(&broker, "one", table(Materialized::versioned("prices", 1_000)), dir.path(), OFTEN);
    let prices = streams.store("prices").versioned::<String, String>().expect("is there");
    let p = "p".to_string();
    wait_until("the last price is committed", || prices.get(&p).is_ok_and(|now| now.is_some_and(|v| v.from_ms == 40)));
    let as_of = |at_ms| prices.get_as_of(&p, at_ms).expect("reads").map(|version| version.value);
    assert_eq!(
        [5, 10, 25, 35, 99].map(as_of),
        [None, Some("old"), Some("new"), None, Some("newest")].map(|v| v.map(String::from))
    );
    let history = prices.history(&p, 15, 40).expect("reads");
    let spans: Vec<_> = history.iter().map(|v| (v.value.as_str(), v.from_ms, v.to_ms)).collect();
    assert_eq!(spans, [("old", 10, Some(20)), ("new", 20, Some(30)), ("newest", 40, None)]);
}

#[test]
fn global_tables_are_read_whole_on_every_instance() {
    let (broker, dir) = (broker("T", 3), tempfile::tempdir().expect("a folder"));
    fill(&broker, 0..30, "v");
    let builder = StreamsBuilder::new();
    builder.global_table("T", Consumed::<String, String>::default(), Materialized::rocksdb("everywhere"));
    let streams = start(&broker, "one", builder.build().expect("builds"), dir.path(), OFTEN);
    let reads = streams.store("everywhere").key_value::<String, String>().expect("is there");
    wait_until("all rows are there", || rows(&reads) == 30);
    assert_eq!(reads.get(&"k011".into()).expect("reads").as_deref(), Some("v"));
}

#[test]
fn what_cannot_be_asked_says_why() {
    let (broker, dir) = (broker("T", 2), tempfile::tempdir().expect("a folder"));
    let streams = start(&broker, "one", table(Materialized::rocksdb("store")), dir.path(), OFTEN);
    let error = streams.store("shop").key_value::<String, String>().err().expect("there is none").to_string();
    assert!(error.contains("no store of this name") && error.contains("the topology has these: store"), "{error}");
    let error = streams.store("store").window::<String, String>().err().expect("is no such").to_string();
    assert!(error.contains("key-value store, not a window store"), "{error}");
    let reads = streams.store("store").key_value::<String, i64>().expect("who knows");
    fill(&broker, 0..1, "a text");
    wait_until("the row is committed", || matches!(reads.get(&"k000".into()), Err(e) if e.kind() == Kind::User));
    assert!(streams.close(PATIENCE));
    assert_eq!(reads.get(&"k000".into()).expect_err("has ended").kind(), Kind::State);
}

#[test]
fn while_partitions_move_every_answer_is_right_or_asks_for_patience() {
    let (broker, dir) = (broker("T", 6), tempfile::tempdir().expect("a folder"));
    fill(&broker, 0..200, "v");
    let one = start(&broker, "one", table(Materialized::rocksdb("store")), dir.path(), OFTEN);
    let reads = one.store("store").key_value::<String, String>().expect("is there");
    wait_until("all rows are committed", || rows(&reads) == 200);
    let stop = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = [Level::Committed, Level::Latest]
        .into_iter()
        .map(|level| {
            let reads = one.store("store").level(level).key_value::<String, String>().expect("is there");
            let stop = stop.clone();
            std::thread::spawn(move || {
                let (mut answers, mut refusals) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    for key in 0..200 {
                        match reads.get(&format!("k{key:03}")) {
                            Ok(value) => {
                                assert_eq!(value.as_deref(), Some("v"), "k{key:03}");
                                answers += 1;
                            }
                            Err(error) => {
                                assert_eq!(error.kind(), Kind::Unavailable, "{error}");
                                assert!(error.is_retriable());
                                refusals += 1;
                            }
                        }
                    }
                }
                (answers, refusals)
            })
        })
        .collect();
    let two = start(&broker, "two", table(Materialized::rocksdb("store")), dir.path(), OFTEN);
    let of_two = two.store("store").key_value::<String, String>().expect("is there");
    wait_until("the second instance has its half", || {
        let (one, two) = (rows(&reads), rows(&of_two));
        one > 0 && two > 0 && one + two == 200
    });
    assert!(one.store("store").key_value::<String, String>().expect("is there").get(&far_key(&one)).is_err());
    drop(two);
    stop.store(true, Ordering::Relaxed);
    for asker in askers {
        let (answers, _) = asker.join().expect("every answer was right");
        assert!(answers > 0);
    }
}

/// A key whose partition `streams` does not have.
fn far_key(streams: &Streams) -> String {
    let here = streams.stores().store("store").expect("is there").local_partitions();
    let far = |key: &String| !here.contains(&partition_for_key(key.as_bytes(), 6));
    (0..200).map(|key| format!("k{key:03}")).find(far).expect("another instance has some")
}
