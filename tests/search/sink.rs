//! The sink of whole clients, on the broker in memory: an engine that a test holds shut, breaks, and opens again.

use crate::engines::run;
use crate::server::until;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use watersmeet::clock::SystemClock;
use watersmeet::config::Policy;
use watersmeet::prelude::*;
use watersmeet::search::{
    Answer, EmbeddedEngine, Found, Hits, IndexSchema, Operation, Outcome, Search, SearchEngine, SearchError,
};
use watersmeet::streams::State;
use watersmeet::testing::MemoryBroker;

const PARTITIONS: i32 = 3;

/// The embedded engine behind a door.
struct Door {
    engine: EmbeddedEngine,
    shut: AtomicBool,
    /// Requests that were turned away.
    turned_away: AtomicUsize,
    largest: AtomicUsize,
}

impl Door {
    fn new(folder: &Path) -> Arc<Self> {
        let engine = EmbeddedEngine::open(folder.join("engine")).expect("an engine");
        run(engine.create_index("films", &IndexSchema::default().text("name").number("n"))).expect("an index");
        let (turned_away, largest) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { engine, shut: AtomicBool::new(false), turned_away, largest })
    }

    fn set_shut(&self, shut: bool) {
        self.shut.store(shut, Ordering::SeqCst);
    }

    fn count(&self) -> u64 {
        run(self.search("films", &Search::new(""))).expect("a search").total
    }
}

impl SearchEngine for Door {
    fn bulk<'a>(&'a self, index: &'a str, operations: &'a [Operation]) -> Answer<'a, Vec<Outcome>> {
        self.largest.fetch_max(operations.len(), Ordering::SeqCst);
        if self.shut.load(Ordering::SeqCst) {
            self.turned_away.fetch_add(1, Ordering::SeqCst);
            let answer = SearchError::Unavailable { what: "the door is shut".into(), after: None };
            return Box::pin(async { Err(answer) });
        }
        self.engine.bulk(index, operations)
    }
    fn search<'a>(&'a self, index: &'a str, search: &'a Search) -> Answer<'a, Hits> {
        self.engine.search(index, search)
    }
    fn document<'a>(&'a self, index: &'a str, id: &'a str) -> Answer<'a, Option<Found>> {
        self.engine.document(index, id)
    }
    fn create_index<'a>(&'a self, index: &'a str, schema: &'a IndexSchema) -> Answer<'a, bool> {
        self.engine.create_index(index, schema)
    }
    fn delete_index<'a>(&'a self, index: &'a str) -> Answer<'a, ()> {
        self.engine.delete_index(index)
    }
    fn alias<'a>(&'a self, alias: &'a str) -> Answer<'a, Option<String>> {
        self.engine.alias(alias)
    }
    fn point_alias<'a>(&'a self, alias: &'a str, index: &'a str) -> Answer<'a, Option<String>> {
        self.engine.point_alias(alias, index)
    }
    fn refresh<'a>(&'a self, index: &'a str) -> Answer<'a, ()> {
        self.engine.refresh(index)
    }
}

struct App {
    broker: MemoryBroker,
    folder: tempfile::TempDir,
    door: Arc<Door>,
}

impl App {
    fn new() -> Self {
        let (broker, folder) = (MemoryBroker::new(), tempfile::tempdir().expect("a folder"));
        broker.create_topic("films", PARTITIONS);
        broker.create_topic("dead", 1);
        let door = Door::new(folder.path());
        Self { broker, folder, door }
    }

    fn put(&self, key: &str, value: &str) {
        self.broker.produce("films", key.as_bytes(), value.as_bytes(), 1).expect("the topic is there");
    }

    fn start(
        &self,
        change: impl FnOnce(IndexInto<String, Option<serde_json::Value>>) -> IndexInto<String, Option<serde_json::Value>>,
    ) -> Streams {
        let builder = StreamsBuilder::new();
        let into =
            IndexInto::new(self.door.clone(), "films").backoff(Duration::from_millis(5), Duration::from_millis(20));
        builder.stream("films", Consumed::<String, Option<serde_json::Value>>::json()).index_into(change(into));
        let mut config = Config::new("app");
        config.state_dir = self.folder.path().join("state");
        config.commit_interval = Duration::from_millis(20);
        config.poll = Duration::from_millis(10);
        config.errors.production = Policy::DeadLetter;
        config.errors.dead_letter_topic = Some("dead".into());
        let client = self.broker.client("app", "one");
        Streams::start_on(builder.build().expect("builds"), config, client, SystemClock::shared()).expect("starts")
    }

    fn committed(&self) -> i64 {
        self.broker.committed("app").iter().filter(|(of, _)| *of.topic == *"films").map(|(_, c)| c.offset).sum()
    }
}

fn same<T>(into: T) -> T {
    into
}

#[test]
fn offsets_are_committed_after_the_engine_has_answered_and_not_before() {
    let app = App::new();
    let streams = app.start(same);
    app.put("a", r#"{"name":"first"}"#);
    until("the first is committed", || (app.committed() == 1).then_some(()));
    assert_eq!(app.door.count(), 1);

    app.door.set_shut(true);
    let before = app.door.turned_away.load(Ordering::SeqCst);
    for n in 0..50 {
        app.put(&format!("k{n}"), r#"{"name":"second"}"#);
    }
    // Many attempts, and many times the commit interval.
    until("it is tried often", || (app.door.turned_away.load(Ordering::SeqCst) > before + 30).then_some(()));
    assert_eq!((app.committed(), app.door.count()), (1, 1));
    assert!(streams.status().is_live() && streams.state() == State::Running);

    app.door.set_shut(false);
    until("all are committed", || (app.committed() == 51).then_some(()));
    assert_eq!(app.door.count(), 51);
}

#[test]
fn a_task_takes_no_more_records_than_it_may_hold() {
    let app = App::new();
    app.door.set_shut(true);
    for n in 0..500 {
        app.put(&format!("k{n}"), r#"{"name":"x"}"#);
    }
    let streams = app.start(|into| into.request_max(10, 1 << 20).in_flight_max(2));
    let held = || {
        let status = streams.status();
        let tasks: Vec<_> = status.threads.iter().flat_map(|t| &t.tasks).map(|t| (t.in_flight, t.waiting)).collect();
        (tasks.len() == PARTITIONS as usize && tasks.iter().all(|(in_flight, _)| *in_flight > 0)).then_some(tasks)
    };
    until("the tasks have all they may have", held);
    until("it is tried often", || (app.door.turned_away.load(Ordering::SeqCst) > 30).then_some(()));
    let tasks = held().expect("tasks");
    assert!(tasks.iter().all(|(in_flight, waiting)| *in_flight <= 2 && *waiting <= 20), "{tasks:?}");
    assert!(app.door.largest.load(Ordering::SeqCst) <= 10);
    app.door.set_shut(false);
    until("all are committed", || (app.committed() == 500).then_some(()));
    assert_eq!(app.door.count(), 500);
}

#[test]
fn what_the_engine_refuses_goes_to_the_dead_letters_as_it_was() {
    let app = App::new();
    let streams = app.start(same);
    app.put("good", r#"{"name":"good","n":1}"#);
    app.put("bad", r#"{"name":"bad","n":"many"}"#);
    app.put("no object", "[1]");
    app.put("gone", r#"{"name":"gone"}"#);
    app.put("gone", "null");
    until("all are committed", || (app.committed() == 5).then_some(()));
    assert_eq!(app.door.count(), 1);
    let mut dead: Vec<_> =
        app.broker.records("dead").into_iter().map(|r| (r.key.unwrap(), r.value.unwrap(), r.headers)).collect();
    dead.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!((dead[0].0.as_slice(), dead[0].1.as_slice()), (&b"bad"[..], &br#"{"name":"bad","n":"many"}"#[..]));
    let why = String::from_utf8_lossy(dead[0].2.last("__streams.errors.message").unwrap()).into_owned();
    assert!(why.contains("refuses the document") && why.contains("\"n\""), "{why}");
    assert_eq!((dead[1].0.as_slice(), dead.len()), (&b"no object"[..], 2));
    until("they are counted", || (streams.status().totals.dead_lettered == 2).then_some(()));
}

#[test]
fn a_client_that_ends_while_the_engine_is_shut_loses_nothing() {
    let app = App::new();
    let mut last = BTreeMap::new();
    for n in 0..300 {
        let key = format!("k{}", n % 70);
        app.put(&key, &format!(r#"{{"name":"v","n":{n}}}"#));
        last.insert(key, n);
    }
    let streams = app.start(|into| into.request_max(20, 1 << 20).patience(Duration::from_millis(50)));
    until("some are written", || (app.door.count() > 0).then_some(()));
    app.door.set_shut(true);
    for n in 300..400 {
        let key = format!("k{}", n % 70);
        app.put(&key, &format!(r#"{{"name":"v","n":{n}}}"#));
        last.insert(key, n);
    }
    let before = app.door.turned_away.load(Ordering::SeqCst);
    until("it is tried", || (app.door.turned_away.load(Ordering::SeqCst) > before).then_some(()));
    streams.close(Duration::from_secs(20));
    drop(streams);
    assert!(app.committed() < 400);
    app.door.set_shut(false);
    let _again = app.start(same);
    until("all are committed", || (app.committed() == 400).then_some(()));
    assert_eq!(app.door.count(), last.len() as u64);
    for (key, n) in last {
        let found = run(app.door.document("films", &key)).unwrap().unwrap();
        assert!(found.document.contains(&format!("\"n\":{n}")), "{key}: {}", found.document);
    }
}

#[test]
fn streams_of_several_topics_need_versions_that_compare() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Door::new(folder.path());
    let build = |change: fn(IndexInto<String, serde_json::Value>) -> IndexInto<String, serde_json::Value>| {
        let builder = StreamsBuilder::new();
        let stream = |topic| builder.stream(topic, Consumed::<String, serde_json::Value>::json());
        stream("a").merge(&stream("b")).index_into(change(IndexInto::new(engine.clone(), "films")));
        builder.build()
    };
    let error = build(same).err().expect("offsets do not compare");
    assert!(error.to_string().contains("version_by_timestamp"), "{error}");
    assert!(build(IndexInto::version_by_timestamp).is_ok());
}
