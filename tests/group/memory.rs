//! On the broker in memory.

use super::{PATIENCE, counts, dir, wait_until};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use watersmeet::broker::{NewTopic, TopicPartition};
use watersmeet::clock::{ManualClock, SystemClock};
use watersmeet::prelude::*;
use watersmeet::status::TaskStateName;
use watersmeet::streams::{CloseOptions, Listeners, RestoreListener, State};
use watersmeet::testing::MemoryBroker;

const REPARTITION: &str = "app-by-value-repartition";
const CHANGELOG: &str = "app-counts-changelog";

/// A broker whose clock stands still, so that sessions end only when told.
fn broker() -> MemoryBroker {
    let broker = MemoryBroker::with_clock(Arc::new(ManualClock::at(0)));
    broker.create_topic("in", 4);
    broker.create_topic("out", 4);
    broker
}

fn config(dir: &Path) -> Config {
    let (commit_interval, poll) = (Duration::from_millis(20), Duration::from_millis(10));
    // Without a cache every count comes out.
    Config { state_dir: dir.to_path_buf(), commit_interval, poll, cache_max_bytes: 0, ..Config::new("app") }
}

fn start(broker: &MemoryBroker, process: &str, config: Config) -> Streams {
    Streams::start_on(counts(), config, broker.client("app", process), SystemClock::shared()).expect("starts")
}

/// So many records of each of 40 values.
fn produce(broker: &MemoryBroker, times: usize) {
    for n in 0..40 * times {
        let (key, value) = (format!("k{n}"), format!("v{}", n % 40));
        broker.produce("in", key.as_bytes(), value.as_bytes(), 1).expect("is there");
    }
}

/// The last count of each value, and how many counts came out.
fn results(broker: &MemoryBroker) -> (BTreeMap<Vec<u8>, i64>, usize) {
    let records = broker.records("out");
    let count =
        |bytes: &Option<Vec<u8>>| i64::from_be_bytes(bytes.clone().unwrap_or_default().try_into().expect("a number"));
    let last = records.iter().map(|r| (r.key.clone().unwrap_or_default(), count(&r.value)));
    (last.collect(), records.len())
}

fn wait_for_counts(broker: &MemoryBroker, each: i64) {
    wait_until(&format!("every value has been counted {each} times"), || {
        let (last, _) = results(broker);
        last.len() == 40 && last.values().all(|count| *count == each)
    });
}

/// How many partitions each member has.
fn owned(broker: &MemoryBroker) -> Vec<usize> {
    broker.members("app").values().map(Vec::len).collect()
}

fn tasks(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("app")).expect("reads").flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.contains('_'));
    names.sort();
    names
}

#[test]
fn threads_come_and_go_while_it_runs_and_nothing_is_lost_or_repeated() {
    let (broker, dir) = (broker(), dir());
    let streams = start(&broker, "p", config(dir.path()));
    produce(&broker, 1);
    wait_for_counts(&broker, 1);
    let added = streams.add_stream_thread().expect("runs");
    assert!(added.ends_with("-StreamThread-2"), "{added}");
    assert!(streams.add_stream_thread().is_some_and(|name| name.ends_with("-StreamThread-3")));
    wait_until("all three have their share", || owned(&broker) == [4, 2, 2] && streams.state() == State::Running);
    produce(&broker, 1);
    wait_for_counts(&broker, 2);
    assert!(streams.remove_stream_thread(PATIENCE).is_some_and(|name| name.ends_with("-StreamThread-3")));
    wait_until("two have all", || owned(&broker) == [4, 4] && streams.state() == State::Running);
    assert_eq!(streams.status().threads.len(), 2);
    produce(&broker, 1);
    wait_for_counts(&broker, 3);
    assert!(streams.remove_stream_thread(PATIENCE).is_some());
    assert!(streams.remove_stream_thread(PATIENCE).is_some());
    assert_eq!(streams.remove_stream_thread(PATIENCE), None);
    assert!(broker.members("app").is_empty());
    produce(&broker, 1);
    assert!(streams.add_stream_thread().is_some_and(|name| name.ends_with("-StreamThread-1")));
    wait_for_counts(&broker, 4);
    assert_eq!(results(&broker).1, 160, "every count came out once");
    assert!(streams.status().is_live());
    assert!(streams.close(PATIENCE));
    assert_eq!(streams.add_stream_thread(), None);
}

#[test]
fn an_instance_that_leaves_gives_its_tasks_away_at_once_and_one_that_does_not_keeps_them() {
    for leave_group in [true, false] {
        let (broker, dir_a, dir_b) = (broker(), dir(), dir());
        let a = start(&broker, "a", config(dir_a.path()));
        wait_until("a has all", || owned(&broker) == [8]);
        let b = start(&broker, "b", config(dir_b.path()));
        wait_until("b has its half", || owned(&broker) == [4, 4]);
        assert!(a.close_with(CloseOptions { timeout: PATIENCE, leave_group }));
        if leave_group {
            wait_until("b has all", || owned(&broker) == [8]);
            produce(&broker, 1);
            wait_for_counts(&broker, 1);
        } else {
            assert_eq!(owned(&broker), [4, 4], "until its session ends");
            drop(a);
            let _again = start(&broker, "a", config(dir_a.path()));
            produce(&broker, 1);
            wait_for_counts(&broker, 1);
            assert!(b.close(PATIENCE));
        }
    }
}

#[test]
fn tasks_of_two_sub_topologies_move_between_instances_and_every_count_comes_once() {
    let (broker, dirs) = (broker(), [dir(), dir(), dir()]);
    let names = ["a", "b", "c"];
    let mut instances: Vec<Streams> = Vec::new();
    for (i, name) in names.iter().enumerate() {
        instances.push(start(&broker, name, config(dirs[i].path())));
        produce(&broker, 1);
        wait_for_counts(&broker, i as i64 + 1);
    }
    wait_until("all three have a share", || owned(&broker).len() == 3 && owned(&broker).iter().all(|n| *n >= 2));
    for (gone, instance) in instances.iter().enumerate().take(2) {
        assert!(instance.close_with(CloseOptions { timeout: PATIENCE, leave_group: true }));
        produce(&broker, 1);
        wait_for_counts(&broker, 4 + gone as i64);
    }
    assert_eq!(results(&broker).1, 5 * 40, "orderly hand-overs repeat nothing");
}

#[test]
fn tasks_that_stay_go_on_while_the_stores_of_others_are_being_opened() {
    let (broker, dir_a, dir_b) = (broker(), dir(), dir());
    let a = start(&broker, "a", config(dir_a.path()));
    produce(&broker, 1);
    wait_for_counts(&broker, 1);
    let b = start(&broker, "b", config(dir_b.path()));
    wait_until("b has its half", || owned(&broker) == [4, 4]);
    let state = |task: &str| a.status().threads[0].tasks.iter().find(|t| t.id == task).map(|t| t.state);
    wait_until("a has given its share up", || state("1_2").is_none());
    // A disk that takes its time: whoever opens the database waits at a pipe until somebody writes to it.
    let (dir, gate) = (dir_a.path().join("app/1_2/rocksdb"), dir_a.path().join("gate"));
    let current = std::fs::read(dir.join("CURRENT")).expect("was open");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().expect("runs").success());
    std::fs::rename(dir.join("CURRENT"), dir.join("KEPT")).expect("renames");
    std::fs::hard_link(&gate, dir.join("CURRENT")).expect("links");
    assert!(b.close_with(CloseOptions { timeout: PATIENCE, leave_group: true }));
    wait_until("the stores are being opened", || state("1_2") == Some(TaskStateName::Created));
    produce(&broker, 1);
    let counted_again = || results(&broker).0.values().filter(|count| **count == 2).count();
    wait_until("those that stayed go on", || counted_again() > 0);
    assert_eq!(state("1_2"), Some(TaskStateName::Created));
    assert_eq!(a.state(), State::Rebalancing, "not everything runs");
    std::fs::rename(dir.join("KEPT"), dir.join("CURRENT")).expect("renames");
    let mut file = None;
    wait_until("it is read", || {
        let options = std::fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&gate);
        file = options.ok();
        file.is_some()
    });
    file.expect("is open").write_all(&current).expect("writes");
    wait_for_counts(&broker, 2);
    assert_eq!(results(&broker).1, 2 * 40, "every count came out once");
    assert!(a.close(PATIENCE));
}

#[test]
fn what_has_been_consumed_is_purged_from_the_repartition_topic_and_from_no_other() {
    let (broker, dir) = (broker(), dir());
    let purge = Duration::from_millis(30);
    let _streams = start(&broker, "p", Config { repartition_purge_interval: purge, ..config(dir.path()) });
    for round in 1..=3 {
        produce(&broker, 1);
        wait_for_counts(&broker, round);
    }
    wait_until("what was consumed is gone", || broker.records(REPARTITION).is_empty());
    assert!(broker.records(CHANGELOG).len() >= 120);
    assert!(broker.records("in").len() >= 120);
}

#[test]
fn an_internal_topic_that_would_lose_rows_ends_the_client_with_its_name_and_setting() {
    let cases = [
        (CHANGELOG, 4, ("cleanup.policy", "delete"), "not contain \"delete\""),
        (CHANGELOG, 3, ("cleanup.policy", "compact"), "expected: 4; actual: 3"),
        (REPARTITION, 4, ("retention.ms", "1000"), "be -1"),
    ];
    for (name, partitions, (key, value), part) in cases {
        let (broker, dir) = (broker(), dir());
        let policy = if name == CHANGELOG { "compact" } else { "delete" };
        let config_of = [("cleanup.policy", policy), (key, value)].map(|(k, v)| (k.to_string(), v.to_string()));
        let topic = NewTopic { name: name.into(), partitions, replication: 1, config: config_of.to_vec() };
        let mut admin = broker.client("app", "x").admin().expect("an admin");
        admin.create_topics(&[topic]).expect("creates");
        let streams = start(&broker, "p", config(dir.path()));
        assert!(streams.wait_for(&[State::Error], PATIENCE));
        let reason = streams.status().reason;
        assert!(reason.contains(name) && reason.contains(part), "{reason}");
    }
}

/// The database files of all tasks.
fn tables(dir: &Path) -> Vec<PathBuf> {
    let of = |task: &String| std::fs::read_dir(dir.join("app").join(task).join("rocksdb"));
    let files =
        tasks(dir).iter().filter_map(|task| of(task).ok()).flatten().flatten().map(|e| e.path()).collect::<Vec<_>>();
    files.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "sst")).collect()
}

#[test]
fn a_store_that_is_damaged_is_set_aside_and_restored_while_the_client_goes_on() {
    let (broker, dir) = (broker(), dir());
    produce(&broker, 50);
    let streams = start(&broker, "p", config(dir.path()));
    wait_for_counts(&broker, 50);
    assert!(streams.close(PATIENCE));
    drop(streams);
    // What was in the log of the database is in its tables after the next start.
    let streams = start(&broker, "p", config(dir.path()));
    wait_until("there are tables", || !tables(dir.path()).is_empty());
    assert!(streams.close(PATIENCE));
    drop(streams);
    let mut damaged = 0;
    for path in tables(dir.path()) {
        let mut bytes = std::fs::read(&path).expect("reads");
        // The first blocks are rows; what says where they are is at the end.
        let rows = bytes.len().min(64);
        bytes[..rows].iter_mut().for_each(|byte| *byte ^= 0x5a);
        std::fs::write(&path, bytes).expect("writes");
        damaged += 1;
    }
    assert!(damaged > 0);
    let streams = start(&broker, "p", config(dir.path()));
    produce(&broker, 1);
    wait_for_counts(&broker, 51);
    assert_eq!(streams.status().totals.failed_threads, 0);
    let aside = tasks(dir.path())
        .into_iter()
        .filter(|task| dir.path().join("app").join(task).join("rocksdb.corrupt-0").exists());
    assert!(aside.count() > 0, "nothing was set aside");
}

/// What a listener was told, in short.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn put(&self, text: String) {
        self.0.lock().expect("no test panics here").push(text);
    }
}

impl RestoreListener for Told {
    fn on_restore_start(&self, tp: &TopicPartition, store: &str, start: i64, end: i64) {
        self.put(format!("start {tp} {store} {start} {end}"));
    }

    fn on_batch_restored(&self, tp: &TopicPartition, _: &str, end: i64, count: i64) {
        self.put(format!("batch {tp} {end} {count}"));
    }

    fn on_restore_end(&self, tp: &TopicPartition, store: &str, total: i64) {
        self.put(format!("end {tp} {store} {total}"));
    }
}

#[test]
fn listeners_hear_of_restores_and_states_and_a_complete_store_is_not_read_again() {
    let (broker, dir) = (broker(), dir());
    produce(&broker, 10);
    let run = |process: &str| {
        let (told, states) = (Arc::new(Told::default()), Arc::new(Told::default()));
        let heard = states.clone();
        let listeners =
            Listeners::default().on_restore(told.clone()).on_state(move |new, _| heard.put(format!("{new:?}")));
        let client = broker.client("app", process);
        let config = config(dir.path());
        let streams =
            Streams::start_on_with(counts(), config, client, SystemClock::shared(), listeners).expect("starts");
        assert!(streams.wait_for(&[State::Running], PATIENCE));
        wait_for_counts(&broker, 10);
        assert!(streams.close_with(CloseOptions { timeout: PATIENCE, leave_group: true }));
        let heard_last = || states.0.lock().expect("no test panics here").last().cloned();
        wait_until("the listener has heard of the end", || heard_last().as_deref() == Some("NotRunning"));
        let take = |told: &Told| std::mem::take(&mut *told.0.lock().expect("no test panics here"));
        (take(&told), take(&states))
    };
    let (told, states) = run("p");
    assert_eq!(told, Vec::<String>::new(), "there was nothing to restore");
    assert_eq!(
        (states.first().map(String::as_str), states.last().map(String::as_str)),
        (Some("Rebalancing"), Some("NotRunning"))
    );
    assert_eq!(run("p").0, Vec::<String>::new(), "the local state is complete");
    tasks(dir.path()).iter().for_each(|t| std::fs::remove_dir_all(dir.path().join("app").join(t)).expect("removes"));
    let (told, _) = run("p");
    let total = |kind: &str| -> i64 {
        let of_kind = told.iter().filter(|text| text.starts_with(kind));
        of_kind.map(|text| text.rsplit(' ').next().and_then(|n| n.parse::<i64>().ok()).expect("a number")).sum()
    };
    assert_eq!((total("start"), total("batch"), total("end")), (400, 400, 400), "{told:?}");
}

#[test]
fn the_state_of_tasks_that_have_moved_is_removed_after_a_while() {
    let (broker, dir_a, dir_b) = (broker(), dir(), dir());
    let quick = |dir: &Path| Config { state_cleanup_delay: Duration::from_millis(50), ..config(dir) };
    let a = start(&broker, "a", quick(dir_a.path()));
    produce(&broker, 1);
    wait_for_counts(&broker, 1);
    assert_eq!(tasks(dir_a.path()).len(), 4);
    let _b = start(&broker, "b", quick(dir_b.path()));
    wait_until("b has its half", || owned(&broker) == [4, 4]);
    wait_until("a has removed what it gave away", || tasks(dir_a.path()).len() == 2);
    produce(&broker, 1);
    wait_for_counts(&broker, 2);
    let has = |task: &str| a.status().threads.iter().flat_map(|t| &t.tasks).any(|t| t.id == task);
    assert!(tasks(dir_a.path()).iter().all(|task| has(task)), "what is in use stays");
    let moved = broker.members("app")["b-1"].contains(&TopicPartition::new("in", 3));
    assert!(moved, "{:?}", broker.members("app"));
}
