//! Which partition a record goes to: the user's partitioners, everywhere Kafka Streams takes one, and windowed keys.

use watersmeet::broker::Outgoing;
use watersmeet::partitioner::{Partitions, partition_for_key};
use watersmeet::prelude::*;
use watersmeet::serdes::DefaultSerde;
use watersmeet::testing::{DriverOptions, TopologyTestDriver};
use watersmeet::windows::{TimeWindowedSerde, TimeWindows};

const PARTITIONS: i32 = 4;

fn driver(builder: StreamsBuilder) -> TopologyTestDriver {
    let options = DriverOptions { partitions: PARTITIONS, ..Default::default() };
    TopologyTestDriver::with(builder.build().expect("builds"), Config::new("test"), options).expect("starts")
}

/// The partitions of a topic's records, in the order in which they were written.
fn partitions(driver: &TopologyTestDriver, topic: &str) -> Vec<i32> {
    driver.produced().into_iter().filter(|(to, _)| to == topic).map(|(_, record)| record.partition).collect()
}

fn numbers() -> Consumed<String, i32> {
    Consumed::default()
}

/// By the value; negative: by key; 100 and more: to all; 99: to none.
fn by_value() -> StreamPartitioner<String, i32> {
    StreamPartitioner::new(|_: &str, _: &String, value: &i32, count| match *value {
        ..0 => Partitions::ByKey,
        99 => Partitions::Each(vec![]),
        100.. => Partitions::Each((0..count).collect()),
        n => Partitions::One(n),
    })
}

#[test]
fn a_sink_asks_its_partitioner() {
    let builder = StreamsBuilder::new();
    builder.stream("in", numbers()).to("out", Produced::default().partitioner(by_value()));
    let driver = driver(builder);
    let input = driver.create_input_topic("in", Produced::<String, i32>::default());
    for value in [2, -1, 99, 100, 0] {
        input.pipe("key", value).expect("is processed");
    }
    let of_key = partition_for_key(b"key", PARTITIONS);
    assert_eq!(partitions(&driver, "out"), [2, of_key, 0, 1, 2, 3, 0]);
    assert_eq!(driver.status().totals.dropped, 1, "the one that was to go nowhere");
    let error = input.pipe("key", 4).expect_err("there is no such partition").to_string();
    assert!(error.contains("partition 4 of 4"), "{error}");
}

#[test]
fn a_dynamic_sink_asks_it_with_the_topic_chosen() {
    let builder = StreamsBuilder::new();
    let topic_of = TopicNameExtractor::new("ByKey", |key: &String, _: &i32, _| format!("out-{key}"));
    let partitioner = StreamPartitioner::new(|topic: &str, _: &String, _: &i32, count| topic.len() as i32 % count);
    builder.stream("in", numbers()).to_dynamic(topic_of, Produced::default().partitioner(partitioner));
    let driver = driver(builder);
    let input = driver.create_input_topic("in", Produced::<String, i32>::default());
    for key in ["a", "bc", "a"] {
        input.pipe(key, 1).expect("is processed");
    }
    assert_eq!((driver.broker().records("out-a").len(), driver.broker().records("out-bc").len()), (2, 1));
    assert_eq!(partitions(&driver, "out-a"), [1, 1]);
    assert_eq!(driver.broker().records("out-bc")[0].partition, 2);
}

#[test]
fn a_repartition_topic_asks_it_and_the_task_of_that_partition_goes_on() {
    let builder = StreamsBuilder::new();
    let repartitioned = Repartitioned::with(String::serde(), i32::serde()).named("by-value").partitioner(by_value());
    let counts = builder.stream("in", numbers()).repartition(repartitioned).group_by_key(Default::default());
    counts.count(Materialized::memory("counts")).to_stream().to("out", Produced::default());
    let driver = driver(builder);
    let input = driver.create_input_topic("in", Produced::<String, i32>::default());
    for value in [1, 3, 1] {
        input.pipe("key", value).expect("is processed");
    }
    let repartitioned: Vec<i32> =
        driver.broker().records("test-by-value-repartition").iter().map(|record| record.partition).collect();
    assert_eq!(repartitioned.len(), 3);
    assert_eq!(repartitioned.iter().filter(|partition| **partition == 1).count(), 2);
    let out = driver.create_output_topic("out", Consumed::<String, i64>::default());
    let counts: Vec<i64> = out.read_to_vec().expect("numbers").into_iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [1, 1, 2], "each task counts what came to it");
}

/// As Kafka Streams does it: what belongs to one key is in one partition, whatever the window.
#[test]
fn windowed_keys_go_where_their_keys_do() {
    let builder = StreamsBuilder::new();
    let counts = builder.stream("in", numbers()).group_by_key(Default::default());
    let counts = counts.windowed_by(TimeWindows::of_size(10)).count(Materialized::memory("counts"));
    let keys = TimeWindowedSerde::of(String::serde(), 10);
    counts.to_stream().to("out", Produced::with(keys, Option::<i64>::serde()));
    let driver = driver(builder);
    let input = driver.create_input_topic("in", Produced::<String, i32>::default());
    for window in 0..4 {
        for (i, key) in ["a", "b", "c", "d", "e"].iter().enumerate() {
            input.pipe_at(*key, 1, window * 10 + i as i64).expect("is processed");
        }
    }
    for record in driver.broker().records("out") {
        let key = record.key.expect("a key");
        assert_eq!(record.partition, partition_for_key(&key[..key.len() - 8], PARTITIONS));
    }
    assert_eq!(driver.broker().records("out").len(), 20);
}

/// Both tables are partitioned by the last letter of their keys: subscriptions have to find the foreign rows, and answers the
/// rows that asked.
#[test]
fn a_join_by_foreign_key_finds_tables_that_are_not_partitioned_by_key() {
    let last = |key: &str, count: i32| i32::from(key.as_bytes()[key.len() - 1]) % count;
    let by_last = move || StreamPartitioner::new(move |_: &str, key: &String, (): &(), count| last(key, count));
    let builder = StreamsBuilder::new();
    let orders = builder.table("orders", Consumed::<String, String>::default(), Materialized::memory("orders"));
    let people = builder.table("people", Consumed::<String, String>::default(), Materialized::memory("people"));
    let joined = orders.join_on_with(
        &people,
        |_, person| person.clone(),
        |order, _, name| Some(format!("{order} for {name}")),
        TableJoined::default().partitioner(by_last()).other_partitioner(by_last()),
        Materialized::default(),
    );
    joined.to_stream().to("out", Produced::default());
    let driver = driver(builder);
    let broker = driver.broker();
    let write = |topic: &str, key: &str, value: &str| {
        let (topic, partition, headers) = (&topic.into(), Some(last(key, PARTITIONS)), &Headers::default());
        let (key, value, timestamp_ms) = (Some(key.as_bytes()), Some(value.as_bytes()), Some(1));
        broker.append(Outgoing { topic, partition, key, value, timestamp_ms, headers }).expect("is written");
    };
    for n in 0..8 {
        write("people", &format!("p{n}"), &format!("name{n}"));
        write("orders", &format!("o{n}"), &format!("p{}", 7 - n));
    }
    driver.run().expect("is processed");
    let out = driver.create_output_topic("out", Consumed::<String, String>::default());
    let mut rows: Vec<String> = out.read_to_vec().expect("text").into_iter().map(|(_, row)| row).collect();
    rows.sort();
    rows.dedup();
    let wanted: Vec<String> = (0..8).map(|n| format!("o{n} for name{}", 7 - n)).collect();
    assert_eq!(rows, wanted);
}
