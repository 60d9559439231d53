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
use watersmeet::error::Kind;
use watersmeet::prelude::*;
use watersmeet::search::{
    Answer, EmbeddedEngine, Found, Hits, IndexSchema, Operation, Outcome, Search, SearchEngine, SearchError,
};
use watersmeet::streams::State;
use watersmeet::testing::{Fault, MemoryBroker, Request};

const PARTITIONS: i32 = 3;

/// The embedded engine behind a door.
struct Door {
    engine: EmbeddedEngine,
    shut: AtomicBool,
    /// Requests that were turned away.
    turned_away: AtomicUsize,
    /// Of all requests: documents, and bytes.
    largest: AtomicUsize,
    largest_bytes: AtomicUsize,
}

impl Door {
    fn new(folder: &Path) -> Arc<Self> {
        let engine = EmbeddedEngine::open(folder.join("engine")).expect("an engine");
        run(engine.create_index("films", &IndexSchema::default().text("name").number("n"))).expect("an index");
        let [turned_away, largest, largest_bytes] = [(); 3].map(|()| AtomicUsize::new(0));
        Arc::new(Self { engine, shut: AtomicBool::new(false), turned_away, largest, largest_bytes })
    }

    fn found(&self, id: &str) -> Option<serde_json::Value> {
        let found = run(self.document("films", id)).expect("an answer")?;
        Some(serde_json::from_str(&found.document).expect("JSON"))
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
        self.largest_bytes.fetch_max(operations.iter().map(Operation::len_bytes).sum(), Ordering::SeqCst);
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
        self.start_with(builder, Config::new("app"))
    }

    fn start_with(&self, builder: StreamsBuilder, mut config: Config) -> Streams {
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
fn no_request_is_larger_than_it_may_be_however_many_documents_come_of_a_record() {
    let app = App::new();
    app.put("many", "80");
    app.put("huge", "0");
    let builder = StreamsBuilder::new();
    let documents = |key: &String, count: &usize| -> Vec<(String, serde_json::Value)> {
        let document = |n| (format!("{key}-{n}"), serde_json::json!({ "name": "x".repeat(300), "n": n }));
        if key == "huge" {
            return vec![(key.clone(), serde_json::json!({ "name": "x".repeat(9_000) }))];
        }
        (0..*count).map(document).collect()
    };
    builder
        .stream("films", Consumed::<String, usize>::json())
        .flat_map(move |key, count| documents(&key, &count))
        .index_into(IndexInto::new(app.door.clone(), "films").request_max(10, 2_000));
    let streams = app.start_with(builder, Config::new("app"));
    until("all are committed", || (app.committed() == 2).then_some(()));
    assert_eq!(app.door.count(), 81);
    assert_eq!(app.door.largest.load(Ordering::SeqCst), 5, "as many as fit");
    // One that is larger alone goes alone.
    assert!((9_000..10_000).contains(&app.door.largest_bytes.load(Ordering::SeqCst)));
    drop(streams);
}

#[test]
fn of_documents_of_one_record_the_last_stays() {
    let app = App::new();
    app.put("a", "3");
    let builder = StreamsBuilder::new();
    builder
        .stream("films", Consumed::<String, u32>::json())
        .flat_map_values(|count| (0..count).map(|n| serde_json::json!({ "name": "x", "n": n })).collect::<Vec<_>>())
        .index_into(IndexInto::new(app.door.clone(), "films"));
    let _streams = app.start_with(builder, Config::new("app"));
    until("it is committed", || (app.committed() == 1).then_some(()));
    assert_eq!(app.door.found("a").unwrap()["n"], 2);
}

/// The engine is no part of a transaction: it has a document before its record is committed. What counts is that the document of
/// the attempt that is committed takes its place.
#[test]
fn a_document_of_an_aborted_transaction_is_replaced_by_that_of_the_next_attempt() {
    let app = App::new();
    app.broker.create_topic("out", PARTITIONS);
    let attempts = Arc::new(AtomicUsize::new(0));
    let builder = StreamsBuilder::new();
    let counted = builder.stream("films", Consumed::<String, serde_json::Value>::json()).map_values({
        let attempts = attempts.clone();
        move |_| serde_json::json!({ "name": "x", "n": attempts.fetch_add(1, Ordering::SeqCst) })
    });
    counted.index_into(IndexInto::new(app.door.clone(), "films"));
    counted.to("out", Produced::json());
    app.broker.fail_next(Request::EndTransaction, Fault::Refused(Kind::Aborted));
    app.put("a", "{}");
    let _streams = app.start_with(builder, Config::new("app").exactly_once());
    until("it is committed", || (app.committed() == 1).then_some(()));
    let committed = app.broker.committed_records("out");
    let value: serde_json::Value = serde_json::from_slice(committed[0].value.as_deref().unwrap()).unwrap();
    assert_eq!((committed.len(), app.broker.records("out").len() > 1), (1, true), "one attempt was aborted");
    assert_eq!(app.door.found("a").unwrap(), value);
}

/// Results of joins often have equal timestamps (that of the later side), whichever side changed last.
#[test]
fn of_equal_timestamps_from_several_topics_the_later_result_stays() {
    let app = App::new();
    app.broker.create_topic("names", PARTITIONS);
    let builder = StreamsBuilder::new();
    let table =
        |topic| builder.table(topic, Consumed::<String, u32>::json(), Materialized::memory(format!("{topic}-table")));
    table("films")
        .join(&table("names"), |n, m| serde_json::json!({ "name": format!("{n}-{m}") }))
        .to_stream()
        .index_into(IndexInto::new(app.door.clone(), "films").version_by_timestamp());
    let _streams = app.start_with(builder, Config::new("app"));
    let shows = |name: &str| until(name, || app.door.found("a").filter(|found| found["name"] == name).map(drop));
    let put = |topic: &str, value: &str, timestamp_ms| {
        app.broker.produce(topic, "a".as_bytes(), value.as_bytes(), timestamp_ms).expect("the topic is there");
    };
    (1..=5).for_each(|n| put("films", &n.to_string(), 1_000));
    put("names", "1", 10);
    shows("5-1");
    put("names", "2", 20);
    shows("5-2");
    put("films", "6", 1_000);
    shows("6-2");
    put("names", "3", 30);
    shows("6-3");
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

    let builder = StreamsBuilder::new();
    let several = builder.stream(["a", "b"], Consumed::<String, serde_json::Value>::json());
    several.index_into(IndexInto::new(engine.clone(), "films"));
    assert!(builder.build().is_err(), "one stream of several topics");
}
