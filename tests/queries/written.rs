//! Who writes a record reads it; who watches a store is told what commits change in it; and who has a key is known.

use super::PATIENCE;
use std::path::Path;
use std::time::Duration;
use watersmeet::broker::TopicPartition;
use watersmeet::clock::SystemClock;
use watersmeet::error::Kind;
use watersmeet::kafka::mock::MockCluster;
use watersmeet::prelude::*;
use watersmeet::producer::{TopicProducer, Written};
use watersmeet::queries::{Changes, Event, KeyValueReads, Owner};
use watersmeet::streams::State;
use watersmeet::testing::MemoryBroker;

fn topology(rows: Materialized<String, String>) -> Topology {
    let builder = StreamsBuilder::new();
    let events = builder.stream("events", Consumed::<String, String>::default());
    let join = |_: &String, event: &String, all: String| format!("{all}{event}");
    events.group_by_key(Grouped::default()).aggregate(String::new, join, rows.values());
    builder.build().expect("builds")
}

fn start(topology: Topology, broker: &MemoryBroker, process: &str, dir: &Path, commit_ms: u64) -> Streams {
    let config = Config {
        state_dir: dir.join(process),
        commit_interval: Duration::from_millis(commit_ms),
        poll: Duration::from_millis(5),
        ..Config::new("app")
    };
    let client = broker.client_at("app", process, &format!("{process}:80"));
    let streams = Streams::start_on(topology, config, client, SystemClock::shared()).expect("starts");
    assert!(streams.wait_for(&[State::Running], PATIENCE));
    streams
}

fn events(streams: &Streams) -> TopicProducer<String, String> {
    streams.producer("events", Produced::default()).expect("a producer")
}

fn reads(streams: &Streams, after: &Written) -> KeyValueReads<String, String> {
    streams.store("rows").after(after).timeout(PATIENCE).key_value().expect("the store")
}

#[test]
fn what_one_has_written_one_reads() {
    for rows in [Materialized::rocksdb("rows"), Materialized::memory("rows")] {
        let (broker, dir) = (MemoryBroker::new(), tempfile::tempdir().expect("a folder"));
        broker.create_topic("events", 4);
        let streams = start(topology(rows), &broker, "one", dir.path(), 20);
        let events = events(&streams);
        let mut all = String::new();
        for n in 0..20 {
            let (key, event) = (format!("k{}", n % 3), format!("{n} "));
            let written = events.send(&key, &event).wait(PATIENCE).expect("is written");
            if key == "k0" {
                all += &event;
                let row = reads(&streams, &written).get(&key).expect("is there");
                assert_eq!(row.as_ref(), Some(&all), "after {written}");
                let path = "/stores/rows/k0";
                let answer = streams.answer_http("GET", path, &format!("after_record={written}"));
                assert!(answer.body().contains(all.trim_end()), "{}", answer.body());
            }
        }
    }
}

#[test]
fn what_has_not_come_yet_is_unavailable_and_what_never_comes_is_said() {
    let (broker, dir) = (MemoryBroker::new(), tempfile::tempdir().expect("a folder"));
    broker.create_topic("events", 1);
    broker.create_topic("other", 1);
    let streams = start(topology(Materialized::rocksdb("rows")), &broker, "one", dir.path(), 20);
    let ask = |topic: &str, offset| {
        let record = Written { partition: TopicPartition::new(topic, 0), offset };
        let store = streams.store("rows").after(&record).timeout(Duration::from_millis(50));
        let reads: KeyValueReads<String, String> = store.key_value().expect("the store");
        reads.get(&"k".into()).expect_err("cannot be known")
    };
    let made_up = ask("events", 5);
    assert!(made_up.kind() == Kind::User && made_up.to_string().contains("gets offset 0"), "{made_up}");
    let answer = streams.answer_http("GET", "/stores/rows/k", "after_record=events-0@5");
    assert_eq!(answer.status(), 400, "{}", answer.body());
    let elsewhere = streams.store("rows").key_value::<String, String>().expect("the store").owner_of(1);
    assert!(elsewhere.is_err_and(|error| error.kind() == Kind::User), "there is one partition, 0");
    streams.pause();
    let written = events(&streams).send(&"k".into(), &"v".into()).wait(PATIENCE).expect("is written");
    let early = ask("events", written.offset);
    assert!(early.is_retriable() && early.to_string().contains("events-0@0"), "{early}");
    streams.resume();
    let never = ask("other", 0);
    assert_eq!(never.kind(), Kind::Topology, "{never}");
    let answer = streams.answer_http("GET", "/stores/rows/k", "after_record=nonsense");
    assert_eq!(answer.status(), 400, "{}", answer.body());
}

fn next_row(changes: &mut Changes<String, String>) -> (String, Option<String>) {
    loop {
        if let Event::Row { key, value, .. } = changes.wait(PATIENCE).expect("a change") {
            return (key, value);
        }
    }
}

#[test]
fn watchers_are_told_what_commits_change() {
    let (broker, dir) = (MemoryBroker::new(), tempfile::tempdir().expect("a folder"));
    broker.create_topic("rows", 2);
    let builder = StreamsBuilder::new();
    builder.table("rows", Consumed::<String, String>::default(), Materialized::rocksdb("rows"));
    let streams = start(builder.build().expect("builds"), &broker, "one", dir.path(), 20);
    let rows: KeyValueReads<String, String> = streams.store("rows").key_value().expect("the store");
    let (mut all, mut one) = (rows.watch().expect("watches"), rows.watch_key(&"b".into()).expect("watches"));
    let producer = streams.producer("rows", Produced::<String, Option<String>>::default()).expect("a producer");
    let send = |key: &str, value: Option<&str>| {
        producer.send(&key.into(), &value.map(Into::into)).wait(PATIENCE).expect("is written");
    };
    send("a", Some("1"));
    assert_eq!(next_row(&mut all), ("a".into(), Some("1".into())));
    send("b", Some("2"));
    assert_eq!(next_row(&mut all), ("b".into(), Some("2".into())));
    send("b", None);
    assert_eq!(next_row(&mut all), ("b".into(), None));
    assert_eq!(next_row(&mut one), ("b".into(), Some("2".into())));
    assert_eq!(next_row(&mut one), ("b".into(), None));
    assert!(one.wait(Duration::ZERO).expect_err("nothing more").is_retriable());
}

#[test]
fn a_change_wakes_who_waits_for_it_without_a_thread() {
    let (broker, dir) = (MemoryBroker::new(), tempfile::tempdir().expect("a folder"));
    broker.create_topic("events", 1);
    let streams = start(topology(Materialized::memory("rows")), &broker, "one", dir.path(), 20);
    let rows: KeyValueReads<String, String> = streams.store("rows").key_value().expect("the store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let event = runtime.block_on(async {
        let mut changes = rows.watch_key(&"k".into()).expect("watches");
        events(&streams).send(&"k".into(), &"x".into()).await.expect("is written");
        changes.next().await.expect("a change")
    });
    assert!(matches!(event, Event::Row { value: Some(value), .. } if value == "x"));
}

#[test]
fn who_has_a_key_is_known_and_watchers_hear_of_moves() {
    let (broker, dir) = (MemoryBroker::new(), tempfile::tempdir().expect("a folder"));
    broker.create_topic("events", 4);
    let one = start(topology(Materialized::memory("rows")), &broker, "one", dir.path(), 20);
    let rows: KeyValueReads<String, String> = one.store("rows").key_value().expect("the store");
    let mut changes = rows.watch().expect("watches");
    let two = start(topology(Materialized::memory("rows")), &broker, "two", dir.path(), 20);
    let mut gone = Vec::new();
    while gone.len() < 2 {
        match changes.wait(PATIENCE).expect("a move") {
            Event::Gone(partition) => gone.push(partition),
            Event::Here(partition) => gone.retain(|known| *known != partition),
            other => panic!("{other:?}"),
        }
    }
    super::wait_until("both know who has what", || {
        let owners = (0..4).map(|partition| rows.owner_of(partition).expect("is known"));
        let (here, there): (Vec<Owner>, Vec<Owner>) = owners.partition(|owner| *owner == Owner::Here);
        here.len() == 2 && there == [Owner::At("two:80".into()), Owner::At("two:80".into())]
    });
    drop(two);
}

/// The answers of a real producer.
#[test]
fn a_producer_tells_where_each_record_is_and_what_became_of_those_that_are_not() {
    let cluster = MockCluster::start(1).expect("a cluster");
    cluster.create_topic("events", 3).expect("a topic");
    let broker = cluster.broker(&Config::new("app"), None).expect("a broker");
    let by_length = StreamPartitioner::new(|_: &str, _: &String, value: &String, count| value.len() as i32 % count);
    let produced = Produced::<String, String>::default().partitioner(by_length);
    let events = TopicProducer::on(&*broker, "events", produced).expect("a producer");
    let sending: Vec<_> = (0..1_000).map(|n| events.send(&"k".into(), &"x".repeat(n % 2 + 1))).collect();
    let written: Vec<Written> =
        sending.into_iter().map(|sending| sending.wait(PATIENCE).expect("is written")).collect();
    for partition in 1..=2 {
        let offsets: Vec<i64> =
            written.iter().filter(|w| w.partition.partition == partition).map(|written| written.offset).collect();
        assert_eq!(offsets, (0..500).collect::<Vec<i64>>());
    }
    assert_eq!(written[0].to_string().parse::<Written>().ok().as_ref(), Some(&written[0]));
    let large = events.send(&"k".into(), &"x".repeat(2_000_000)).wait(PATIENCE).expect_err("is too large");
    assert_eq!(large.kind(), Kind::Record, "{large}");
}
