//! The real task code on the broker in memory: joins, stateless operators, error policies, order, restore.

use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use watersmeet::broker::{Outgoing, TopicPartition};
use watersmeet::config::{Optimization, Policy};
use watersmeet::error::Kind;
use watersmeet::prelude::*;
use watersmeet::processor::{KeyValueStore, Processor, ProcessorContext, Punctuation, PunctuationType, StateStore};
use watersmeet::serdes::DefaultSerde;
use watersmeet::streams::State;
use watersmeet::testing::*;

type Text = Option<String>;
/// Streams that let nulls in, on both sides.
type Nullable = Consumed<Text, Text>;

fn config() -> Config {
    Config::new("app")
}

fn text(text: &str) -> Text {
    Some(text.to_string())
}

/// `in` joined with the table `T`, inner to `inner` and left to `left`.
fn joins() -> Topology {
    let builder = StreamsBuilder::new();
    let table = builder.table("T", Nullable::default(), Materialized::memory("store"));
    let stream = builder.stream("in", Nullable::default());
    let plus = |v: Text, t: Option<Text>| format!("{}+{}", v.unwrap_or_default(), t.flatten().unwrap_or("∅".into()));
    stream.join(&table, move |v, t| text(&plus(v, Some(t)))).to("inner", Produced::default());
    stream.left_join(&table, move |v, t| text(&plus(v, t))).to("left", Produced::default());
    builder.build().expect("builds")
}

/// Everything written to a topic, as `key=value@timestamp`.
fn written(broker: &MemoryBroker, topic: &str) -> Vec<String> {
    let part = |bytes: Option<Vec<u8>>| bytes.map_or("∅".into(), |b| String::from_utf8_lossy(&b).into_owned());
    let line = |r: StoredRecord| format!("{}={}@{}", part(r.key), part(r.value), r.timestamp_ms);
    broker.records(topic).into_iter().map(line).collect()
}

fn produce(broker: &MemoryBroker, topic: &str, key: &str, value: &str, timestamp_ms: i64) {
    broker.produce(topic, key.as_bytes(), value.as_bytes(), timestamp_ms).expect("the topic is there");
}

// -- stream-table joins, row by row ----------------------------------------------------------------------------------

#[test]
fn inner_and_left_joins_emit_what_kafka_streams_emits() -> Result<()> {
    let driver = TopologyTestDriver::new(joins(), config())?;
    let input = driver.create_input_topic("in", Produced::<Text, Text>::default());
    let table = driver.create_input_topic("T", Produced::<Text, Text>::default());
    input.pipe_at(text("a"), text("s0"), 5)?;
    table.pipe_at(text("a"), text("t1"), 100)?;
    input.pipe_at(text("a"), text("s1"), 10)?;
    input.pipe_at(None, text("sN"), 11)?;
    input.pipe_at(text("a"), None, 12)?;
    table.pipe_at(text("a"), None, 13)?;
    input.pipe_at(text("a"), text("s2"), 14)?;
    table.pipe_at(None, text("row without a key"), 15)?;
    assert_eq!(written(&driver.broker(), "inner"), ["a=s1+t1@10"]);
    assert_eq!(written(&driver.broker(), "left"), ["a=s0+∅@5", "a=s1+t1@10", "∅=sN+∅@11", "a=s2+∅@14"]);
    let totals = driver.status().totals;
    // Dropped: the null key by the inner join, the null value by both, the table's row without a key.
    assert_eq!((totals.dropped, totals.processed, totals.produced), (4, 8, 5));
    Ok(())
}

#[test]
fn types_without_null_drop_nulls_at_the_source_and_count_them() -> Result<()> {
    let builder = StreamsBuilder::new();
    builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    let driver = TopologyTestDriver::new(builder.build()?, config())?;
    let input = driver.create_input_topic("in", Produced::<String, String>::default());
    input.pipe_tombstone("a")?;
    input.pipe_bytes(None, Some(b"v"), 1, &Headers::default())?;
    input.pipe_bytes(Some(b""), Some(b""), 2, &Headers::default())?;
    assert_eq!(written(&driver.broker(), "out"), ["=@2"], "empty is not null");
    assert_eq!(driver.status().totals.dropped, 2);
    Ok(())
}

#[test]
fn an_update_out_of_order_wins_by_its_offset() -> Result<()> {
    let driver = TopologyTestDriver::new(joins(), config())?;
    let table = driver.create_input_topic("T", Produced::<Text, Text>::default());
    table.pipe_at(text("a"), text("new"), 100)?;
    table.pipe_at(text("a"), text("late"), 50)?;
    let store = driver.key_value_store("store", Nullable::default());
    assert_eq!(store.get_with_timestamp(&text("a"))?, Some((text("late"), 50)));
    Ok(())
}

#[test]
fn headers_and_timestamp_are_the_streams_and_never_the_tables() -> Result<()> {
    let driver = TopologyTestDriver::new(joins(), config())?;
    let table = driver.create_input_topic("T", Produced::<Text, Text>::default());
    let input = driver.create_input_topic("in", Produced::<Text, Text>::default());
    let mut headers = Headers::default();
    headers.add("from", Some(b"table"));
    table.pipe_record(Record { headers, ..Record::new(text("a"), text("t"), 1) })?;
    let mut headers = Headers::default();
    headers.add("x", Some(b"1"));
    headers.add("x", None);
    input.pipe_record(Record { headers: headers.clone(), ..Record::new(text("a"), text("s"), 7) })?;
    let output = driver.create_output_topic("inner", Consumed::<String, String>::default());
    let record = output.read_record()?.expect("one record");
    assert_eq!((record.timestamp_ms, record.headers), (7, headers));
    Ok(())
}

// -- stateless operators ---------------------------------------------------------------------------------------------

#[test]
fn stateless_operators_do_what_their_names_say() -> Result<()> {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("in", Consumed::<String, i64>::default());
    stream.filter(|_, n| n % 2 == 0).to("filter", Produced::default());
    stream.filter_not(|_, n| n % 2 == 0).to("filter_not", Produced::default());
    stream.map(|k, n| (n, k)).to("map", Produced::default());
    stream.map_values(|n| n.to_string() + "!").to("map_values", Produced::default());
    stream.map_values_with_key(|k, n| format!("{k}{n}")).to("map_values_with_key", Produced::default());
    stream.flat_map(|k, n| (0..n).map(move |i| (format!("{k}{i}"), i.to_string()))).to("flat_map", Produced::default());
    stream.flat_map_values(|n| vec![n; 2]).map_values(|n| n.to_string()).to("flat_map_values", Produced::default());
    stream.select_key(|_, n| n.to_string()).map_values(|_| String::new()).to("select_key", Produced::default());
    let (seen, peeked) = std::sync::mpsc::channel();
    let last = seen.clone();
    stream.peek(move |k, n| seen.send(format!("{k}{n}")).expect("listened to")).to("peek", Produced::default());
    stream.for_each(move |k, n| last.send(format!("end {k}{n}")).expect("listened to"));
    let driver = TopologyTestDriver::new(builder.build()?, config())?;
    let input = driver.create_input_topic("in", Produced::<String, i64>::default()).with_time(10, 1);
    input.pipe("a", 1)?;
    input.pipe("b", 2)?;
    let broker = driver.broker();
    let numbers = |topic| driver.create_output_topic(topic, Consumed::<String, i64>::default()).read_to_vec();
    assert_eq!(numbers("filter")?, [("b".into(), 2)]);
    assert_eq!(numbers("filter_not")?, [("a".into(), 1)]);
    assert_eq!(numbers("peek")?, [("a".into(), 1), ("b".into(), 2)]);
    let mapped = driver.create_output_topic("map", Consumed::<i64, String>::default()).read_to_vec()?;
    assert_eq!(mapped, [(1, "a".into()), (2, "b".into())]);
    assert_eq!(written(&broker, "map_values"), ["a=1!@10", "b=2!@11"]);
    assert_eq!(written(&broker, "map_values_with_key"), ["a=a1@10", "b=b2@11"]);
    assert_eq!(written(&broker, "flat_map"), ["a0=0@10", "b0=0@11", "b1=1@11"]);
    assert_eq!(written(&broker, "flat_map_values"), ["a=1@10", "a=1@10", "b=2@11", "b=2@11"]);
    assert_eq!(written(&broker, "select_key"), ["1=@10", "2=@11"]);
    assert_eq!(peeked.try_iter().collect::<Vec<_>>(), ["a1", "end a1", "b2", "end b2"], "depth first, as added");
    Ok(())
}

#[test]
fn nulls_are_left_out_by_flatten_values_and_a_tables_changes_keep_them() -> Result<()> {
    let builder = StreamsBuilder::new();
    let table = builder.table("T", Consumed::<String, String>::default(), Materialized::default());
    table.to_stream().to("changes", Produced::default());
    table.to_stream().flatten_values().to("rows", Produced::default());
    let driver = TopologyTestDriver::new(builder.build()?, config())?;
    let input = driver.create_input_topic("T", Produced::<String, String>::default()).with_time(1, 1);
    input.pipe("a", "1")?;
    input.pipe_tombstone("a")?;
    input.pipe_tombstone("never there")?;
    assert_eq!(written(&driver.broker(), "changes"), ["a=1@1", "a=∅@2", "never there=∅@3"]);
    assert_eq!(written(&driver.broker(), "rows"), ["a=1@1"]);
    Ok(())
}

#[test]
fn the_extractor_gives_the_time_and_a_negative_one_drops_the_record() -> Result<()> {
    let builder = StreamsBuilder::new();
    let by_value: watersmeet::operators::TimestampExtractor = Arc::new(|raw, partition_time_ms| {
        let number = raw.value().and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.parse().ok());
        number.unwrap_or(partition_time_ms)
    });
    let consumed = Consumed::<String, String>::default().timestamp_extractor(by_value);
    builder.stream("in", consumed).to("out", Produced::default());
    let driver = TopologyTestDriver::new(builder.build()?, config())?;
    let input = driver.create_input_topic("in", Produced::<String, String>::default()).with_time(999, 0);
    for value in ["none", "40", "-7", "20", "none"] {
        input.pipe("a", value)?;
    }
    assert_eq!(written(&driver.broker(), "out"), ["a=40@40", "a=20@20", "a=none@40"]);
    assert_eq!(driver.status().totals.dropped, 2, "the first has no time yet");
    Ok(())
}

// -- errors ----------------------------------------------------------------------------------------------------------

fn numbers() -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream("in", Consumed::<String, i64>::default())
        .try_map_values(|n| if n == 13 { Err("thirteen") } else { Ok(n.to_string()) })
        .to("out", Produced::default());
    builder.build().expect("builds")
}

fn with_policy(policy: Policy) -> Config {
    let mut config = config();
    config.errors.deserialization = policy;
    config.errors.processing = policy;
    config.errors.production = policy;
    config.errors.dead_letter_topic = (policy == Policy::DeadLetter).then(|| "dead".to_string());
    config
}

#[test]
fn fail_ends_the_thread_with_an_error_that_names_the_record() -> Result<()> {
    for (value, says) in [(&b"short"[..], "Deserialization"), (&13i64.to_be_bytes()[..], "thirteen")] {
        let driver = TopologyTestDriver::new(numbers(), with_policy(Policy::Fail))?;
        let input = driver.create_input_topic("in", Produced::<String, i64>::default());
        input.pipe("a", 1)?;
        let error = input.pipe_bytes(Some(b"a"), Some(value), 2, &Headers::default()).expect_err("fails");
        assert_eq!((error.kind(), error.at().topic.as_deref(), error.at().offset), (Kind::Record, Some("in"), Some(1)));
        assert!(error.to_string().contains(says), "{error}");
        let again = input.pipe("a", 2).expect_err("the thread is gone").to_string();
        assert!(again.contains(&error.to_string()), "{again}");
        assert_eq!(driver.status().totals.failed_threads, 1);
        assert_eq!(driver.broker().committed("app")[&TopicPartition::new("in", 0)].offset, 1, "not past the culprit");
    }
    Ok(())
}

#[test]
fn continue_skips_the_record_and_counts_it() -> Result<()> {
    let driver = TopologyTestDriver::new(numbers(), with_policy(Policy::Continue))?;
    let input = driver.create_input_topic("in", Produced::<String, i64>::default());
    driver.broker().configure_topic("out", "max.message.bytes", "80");
    input.pipe_bytes(Some(b"a"), Some(b"short"), 1, &Headers::default())?;
    input.pipe("a", 13)?;
    input.pipe("a key too long for the topic", 14)?;
    input.pipe("b", 14)?;
    assert_eq!(written(&driver.broker(), "out"), ["b=14@0"]);
    assert_eq!(driver.status().totals.dropped, 3);
    Ok(())
}

#[test]
fn dead_letters_are_the_consumed_bytes_with_kip_1034s_headers() -> Result<()> {
    let driver = TopologyTestDriver::new(numbers(), with_policy(Policy::DeadLetter))?;
    let input = driver.create_input_topic("in", Produced::<String, i64>::default());
    let mut headers = Headers::default();
    headers.add("own", Some(b"1"));
    input.pipe("a", 1)?;
    input.pipe_bytes(Some(b"k"), Some(b"short"), 22, &headers)?;
    input.pipe_bytes(Some(b"k"), Some(&13i64.to_be_bytes()), 23, &headers)?;
    let dead = driver.broker().records("dead");
    assert_eq!(dead.len(), 2);
    assert_eq!((dead[0].key.as_deref(), dead[0].value.as_deref()), (Some(&b"k"[..]), Some(&b"short"[..])));
    assert_eq!(dead[1].value.as_deref(), Some(&13i64.to_be_bytes()[..]));
    assert_eq!((dead[0].timestamp_ms, dead[1].timestamp_ms), (22, 23));
    let names: Vec<_> = dead[1].headers.iter().map(|h| h.name.trim_start_matches("__streams.errors.")).collect();
    assert_eq!(names, ["own", "exception", "message", "stacktrace", "topic", "partition", "offset"]);
    let header = |name: &str| String::from_utf8_lossy(dead[1].headers.last(name).unwrap_or(b"missing")).into_owned();
    assert!(header("__streams.errors.message").contains("thirteen"));
    assert_eq!(header("__streams.errors.topic"), "in");
    assert_eq!(header("__streams.errors.partition"), "0");
    assert_eq!(header("__streams.errors.offset"), "2");
    let totals = driver.status().totals;
    assert_eq!((totals.dead_lettered, totals.dropped), (2, 0));
    Ok(())
}

#[test]
fn a_result_that_the_topic_refuses_meets_the_production_policy() -> Result<()> {
    let broker_of = |policy| -> Result<_> {
        let driver = TopologyTestDriver::new(numbers(), with_policy(policy))?;
        driver.broker().configure_topic("out", "max.message.bytes", "80");
        let input = driver.create_input_topic("in", Produced::<String, i64>::default());
        let result = input.pipe("a key too long for the topic", 1);
        Ok((driver, result))
    };
    let (_, result) = broker_of(Policy::Fail)?;
    assert_eq!(result.expect_err("fails").kind(), Kind::Record);
    let (driver, result) = broker_of(Policy::DeadLetter)?;
    result?;
    let dead = driver.broker().records("dead");
    assert_eq!(dead[0].key.as_deref(), Some(&b"a key too long for the topic"[..]));
    assert_eq!(dead[0].headers.last("__streams.errors.topic"), Some(&b"out"[..]));
    assert_eq!(driver.status().totals.dead_lettered, 1);
    Ok(())
}

#[test]
fn a_dead_letter_that_has_become_too_large_goes_without_its_value() -> Result<()> {
    let mut config = with_policy(Policy::DeadLetter);
    // It is no result: whatever is said about those.
    config.errors.production = Policy::Fail;
    let driver = TopologyTestDriver::new(numbers(), config)?;
    driver.broker().configure_topic("dead", "max.message.bytes", "2000");
    let input = driver.create_input_topic("in", Produced::<String, i64>::default());
    input.pipe_bytes(Some(b"a"), Some(&[b'x'; 1_990]), 1, &Headers::default())?;
    input.pipe_bytes(Some(&[b'k'; 1_990]), Some(b"short"), 2, &Headers::default())?;
    input.pipe("b", 14)?;
    assert_eq!(written(&driver.broker(), "out"), ["b=14@0"]);
    let dead = driver.broker().records("dead");
    let left_out = |n: usize| dead[n].headers.iter().filter(|header| header.name == "__watersmeet.left.out");
    let left_out = |n| left_out(n).filter_map(|h| String::from_utf8(h.value.clone()?).ok()).collect::<Vec<_>>();
    assert_eq!((dead.len(), driver.status().totals.dead_lettered), (2, 2));
    assert_eq!((dead[0].key.as_deref(), &dead[0].value), (Some(&b"a"[..]), &None));
    assert_eq!((&dead[1].key, &dead[1].value), (&None, &None));
    assert_eq!(left_out(0), ["value (1990 bytes)"]);
    assert_eq!(left_out(1), ["value (5 bytes)", "key (1990 bytes)"]);
    assert_eq!(dead[1].headers.last("__streams.errors.offset"), Some(&b"1"[..]));
    Ok(())
}

#[test]
fn a_panic_in_a_closure_is_an_error_that_names_the_record() -> Result<()> {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("in", Consumed::<String, i64>::default());
    stream.map_values(|n| 10 / n).to("out", Produced::default());
    let driver = TopologyTestDriver::new(builder.build()?, with_policy(Policy::Fail))?;
    let input = driver.create_input_topic("in", Produced::<String, i64>::default());
    input.pipe("a", 5)?;
    let error = input.pipe("a", 0).expect_err("panics");
    assert_eq!((error.kind(), error.at().offset), (Kind::User, Some(1)));
    assert!(error.to_string().contains("divide by zero"), "{error}");
    Ok(())
}

// -- the broker in trouble -------------------------------------------------------------------------------------------

#[test]
fn records_wait_while_the_broker_is_unreachable_and_nothing_is_lost() -> Result<()> {
    let driver = TopologyTestDriver::new(joins(), config())?;
    let broker = driver.broker();
    produce(&broker, "in", "a", "s", 1);
    broker.set_unreachable(true);
    driver.run()?;
    assert!(driver.status().broker_trouble.is_some());
    assert!(written(&broker, "left").is_empty());
    broker.set_unreachable(false);
    driver.run()?;
    assert_eq!(written(&broker, "left"), ["a=s+∅@1"]);
    assert!(driver.status().broker_trouble.is_none());
    Ok(())
}

#[test]
fn a_member_that_was_removed_joins_again_and_processes_what_it_had_not_committed() -> Result<()> {
    let driver = TopologyTestDriver::new(joins(), config())?;
    let table = driver.create_input_topic("T", Produced::<Text, Text>::default());
    table.pipe_at(text("a"), text("t"), 1)?;
    driver.broker().remove_member("app", "driver-1");
    let input = driver.create_input_topic("in", Produced::<Text, Text>::default());
    input.pipe_at(text("a"), text("s"), 2)?;
    driver.run()?;
    assert_eq!(driver.status().state, State::Running);
    assert_eq!(written(&driver.broker(), "inner"), ["a=s+t@2"]);
    Ok(())
}

// -- time and order --------------------------------------------------------------------------------------------------

#[test]
fn a_tasks_partitions_are_read_by_timestamp() -> Result<()> {
    let driver = TopologyTestDriver::new(joins(), config())?;
    let broker = driver.broker();
    for (topic, value, ts) in
        [("in", "s5", 5), ("in", "s15", 15), ("in", "s25", 25), ("T", "t10", 10), ("T", "t20", 20)]
    {
        produce(&broker, topic, "a", value, ts);
    }
    driver.run()?;
    assert_eq!(written(&broker, "left"), ["a=s5+∅@5", "a=s15+t10@15", "a=s25+t20@25"]);
    Ok(())
}

#[test]
fn the_barrier_reads_the_table_first_whatever_the_timestamps_say() -> Result<()> {
    let builder = StreamsBuilder::new();
    let consumed = Consumed::<String, String>::default().ready_first();
    let table = builder.table("T", consumed, Materialized::memory("store"));
    let stream = builder.stream("in", Consumed::<String, String>::default());
    stream.join(&table, |v, t| v + "+" + &t).to("out", Produced::default());
    let (topology, broker) = (builder.build()?, MemoryBroker::new());
    for topic in ["T", "in"] {
        broker.create_topic(topic, 1);
    }
    produce(&broker, "in", "a", "early", 1);
    produce(&broker, "T", "a", "there", 1_000);
    broker.skip_offsets("T", 0, 1); // a transaction's marker must not hold the barrier up
    let options = DriverOptions { broker: Some(broker.clone()), ..Default::default() };
    let driver = TopologyTestDriver::with(topology, config(), options)?;
    assert_eq!(written(&broker, "out"), ["a=early+there@1"]);
    // Behind the barrier timestamps decide again.
    produce(&broker, "T", "a", "later", 50);
    produce(&broker, "in", "a", "s", 40);
    driver.run()?;
    assert_eq!(written(&broker, "out")[1..], ["a=s+there@40"]);
    Ok(())
}

#[test]
fn a_record_waits_for_the_other_topic_as_long_as_max_task_idle_says() -> Result<()> {
    let config = Config { max_task_idle_ms: 500, ..config() };
    let driver = TopologyTestDriver::new(joins(), config)?;
    let input = driver.create_input_topic("in", Produced::<Text, Text>::default());
    let table = driver.create_input_topic("T", Produced::<Text, Text>::default());
    input.pipe_at(text("a"), text("s1"), 20)?;
    driver.advance_wall_clock_ms(499)?;
    assert!(written(&driver.broker(), "left").is_empty());
    table.pipe_at(text("a"), text("t"), 10)?;
    assert!(
        written(&driver.broker(), "left").is_empty(),
        "the table's was older and went first; now it is empty again"
    );
    driver.advance_wall_clock_ms(1)?;
    driver.advance_wall_clock_ms(500)?;
    assert_eq!(written(&driver.broker(), "left"), ["a=s1+t@20"]);
    Ok(())
}

/// Looks every 10 ms, and does what it was asked for.
struct Looks(StateStore<KeyValueStore<String, i64>>, Arc<AtomicUsize>);

impl Processor<String, i64, String, i64> for Looks {
    fn init(&mut self, context: &mut ProcessorContext<'_, String, i64>) -> Result {
        context.schedule(10, PunctuationType::WallClock);
        Ok(())
    }

    fn process(&mut self, _: &mut ProcessorContext<'_, String, i64>, _: Record<String, i64>) -> Result {
        Ok(())
    }

    fn punctuate(&mut self, context: &mut ProcessorContext<'_, String, i64>, at: Punctuation) -> Result {
        let mut store = context.store(&self.0)?;
        store.get(context, &"a".into())?;
        match self.1.load(Ordering::Relaxed) {
            0 => Ok(()),
            1 => store.put(context, &"a".into(), Some(&1)),
            _ => context.forward(Record::new("a".into(), 1, at.time_ms)),
        }
    }
}

#[test]
fn a_punctuation_that_only_looks_leaves_nothing_to_commit() -> Result<()> {
    let what = Arc::new(AtomicUsize::new(0));
    let builder = StreamsBuilder::new();
    let store = builder.add_state_store(KeyValueStore::store("store", String::serde(), i64::serde()));
    let (processing, does) = (Processing::default().store(&store), what.clone());
    let stream = builder.stream("in", Consumed::<String, i64>::default());
    stream.process(move || Looks(store.clone(), does.clone()), processing).to("out", Produced::default());
    let options = DriverOptions { commits: Commits::Explicit, ..Default::default() };
    let driver = TopologyTestDriver::with(builder.build()?, config(), options)?;
    driver.create_input_topic("in", Produced::<String, i64>::default()).pipe("a", 1)?;
    assert!(driver.commit()?, "the record");
    for (does, has_news) in [(0, false), (1, true), (0, false), (2, true), (0, false)] {
        what.store(does, Ordering::Relaxed);
        driver.advance_wall_clock_ms(10)?;
        what.store(0, Ordering::Relaxed);
        assert_eq!(driver.commit()?, has_news, "{does}");
    }
    Ok(())
}

// -- partitions, state, restart --------------------------------------------------------------------------------------

#[test]
fn each_partition_has_a_task_and_equal_keys_meet() -> Result<()> {
    let options = DriverOptions { partitions: 12, ..Default::default() };
    let driver = TopologyTestDriver::with(joins(), config(), options)?;
    let table = driver.create_input_topic("T", Produced::<Text, Text>::default());
    let input = driver.create_input_topic("in", Produced::<Text, Text>::default());
    let javas = [("a", 4), ("ab", 2), ("abc", 3), ("abcd", 8), ("21", 0), ("가", 3), ("", 9)];
    for (key, _) in javas {
        table.pipe(text(key), text("t"))?;
    }
    for (key, _) in javas {
        input.pipe(text(key), text("s"))?;
    }
    assert_eq!(driver.status().threads[0].tasks.len(), 12);
    for topic in ["in", "inner", "app-store-changelog"] {
        let partitions: Vec<_> = driver.broker().records(topic).iter().map(|r| r.partition).collect();
        assert_eq!(partitions, javas.map(|(_, partition)| partition), "{topic}");
    }
    let mut rows = driver.key_value_store("store", Consumed::<String, String>::default()).rows()?;
    rows.sort();
    assert_eq!(rows.len(), javas.len());
    Ok(())
}

#[test]
fn changelog_records_are_the_bytes_that_kafka_streams_writes() -> Result<()> {
    let driver = TopologyTestDriver::new(joins(), config())?;
    let table = driver.create_input_topic("T", Produced::<Text, Text>::default());
    let mut headers = Headers::default();
    headers.add("h", Some(b"1"));
    table.pipe_record(Record { headers, ..Record::new(text("a"), text("t1"), 100) })?;
    table.pipe_at(text("a"), None, 90)?;
    let log = driver.broker().records("app-store-changelog");
    assert_eq!(written(&driver.broker(), "app-store-changelog"), ["a=t1@100", "a=∅@90"]);
    assert!(log.iter().all(|record| record.headers.is_empty()), "rows have no headers, and no timestamp in the value");
    assert_eq!(driver.broker().topic_setting("app-store-changelog", "cleanup.policy").as_deref(), Some("compact"));
    Ok(())
}

/// A driver on this broker, with its state in `dir`; dropped without `close` it ends like a killed process.
fn restart(broker: &MemoryBroker, dir: &std::path::Path, optimization: Optimization) -> Result<TopologyTestDriver> {
    let builder = StreamsBuilder::new();
    let table = builder.table("T", Consumed::<String, String>::default(), Materialized::rocksdb("store"));
    let stream = builder.stream("in", Consumed::<String, String>::default());
    stream.join(&table, |v, t| v + "+" + &t).to("out", Produced::default());
    let config = Config { state_dir: dir.to_path_buf(), ..config() };
    let options = DriverOptions { partitions: 2, broker: Some(broker.clone()), ..Default::default() };
    TopologyTestDriver::with(builder.build_with(optimization)?, config, options)
}

fn restored(driver: &TopologyTestDriver) -> Result<Vec<(String, String)>> {
    let mut rows = driver.key_value_store("store", Consumed::<String, String>::default()).rows()?;
    rows.sort();
    Ok(rows)
}

#[test]
fn a_restart_in_place_goes_on_without_reading_anything_twice() -> Result<()> {
    for optimization in [Optimization::default(), Optimization::ALL] {
        let dir = tempfile::tempdir().expect("a folder");
        let broker = MemoryBroker::new();
        let driver = restart(&broker, dir.path(), optimization)?;
        for key in ["a", "b", "c", "d"] {
            produce(&broker, "T", key, "1", 1);
        }
        produce(&broker, "in", "a", "s1", 2);
        driver.run()?;
        drop(driver);
        // The changelog is emptied: what the store has can only come from its own folder.
        for topic in ["T", "app-store-changelog"] {
            for partition in 0..2 {
                broker.delete_records(topic, partition, i64::MAX);
            }
        }
        produce(&broker, "in", "b", "s2", 3);
        let driver = restart(&broker, dir.path(), optimization)?;
        assert_eq!(written(&broker, "out"), ["a=s1+1@2", "b=s2+1@3"], "{optimization:?}");
        assert_eq!(driver.status().totals.processed, 1);
        driver.close()?;
    }
    Ok(())
}

#[test]
fn a_store_that_was_lost_is_restored_from_its_changelog_or_the_source_topic() -> Result<()> {
    for optimization in [Optimization::default(), Optimization::ALL] {
        let broker = MemoryBroker::new();
        let (old, new) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let driver = restart(&broker, old.path(), optimization)?;
        for (key, value) in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1")] {
            produce(&broker, "T", key, value, 1);
        }
        broker.produce("T", "b".as_bytes(), None, 2)?;
        driver.run()?;
        let log = "app-store-changelog";
        let has_changelog = broker.topics().contains_key(log);
        assert_eq!(has_changelog, optimization == Optimization::default());
        driver.close()?;
        for partition in 0..2 {
            broker.compact(if has_changelog { log } else { "T" }, partition, false);
        }
        let driver = restart(&broker, new.path(), optimization)?;
        assert_eq!(restored(&driver)?, [("a".into(), "2".into()), ("c".into(), "1".into())]);
        assert_eq!(driver.status().totals.processed, 0, "restored, not processed again");
        produce(&broker, "in", "a", "s", 9);
        driver.run()?;
        assert_eq!(written(&broker, "out"), ["a=s+2@9"]);
    }
    Ok(())
}

#[test]
fn what_was_not_committed_is_processed_again_after_a_crash() -> Result<()> {
    let dir = tempfile::tempdir().expect("a folder");
    let broker = MemoryBroker::new();
    let driver = restart(&broker, dir.path(), Optimization::default())?;
    produce(&broker, "T", "a", "1", 1);
    driver.run()?;
    produce(&broker, "in", "a", "s", 2);
    // Everything is out and written, and then the offsets do not arrive.
    broker.fail_next(Request::Commit, Fault::Refused(Kind::BrokerFatal));
    assert_eq!(driver.run().expect_err("the thread ends").kind(), Kind::BrokerFatal);
    drop(driver);
    let driver = restart(&broker, dir.path(), Optimization::default())?;
    assert_eq!(written(&broker, "out"), ["a=s+1@2"; 2], "at least once");
    assert_eq!(restored(&driver)?, [("a".into(), "1".into())]);
    Ok(())
}

#[test]
fn commits_carry_the_partitions_time() -> Result<()> {
    let driver = TopologyTestDriver::new(joins(), config())?;
    let input = driver.create_input_topic("in", Produced::<Text, Text>::default());
    input.pipe_at(text("a"), text("s"), 1_700_000_000_000)?;
    input.pipe_at(text("a"), text("s"), 5)?;
    let committed = &driver.broker().committed("app")[&TopicPartition::new("in", 0)];
    assert_eq!((committed.offset, committed.metadata.as_str()), (2, "AgAAAYvP5WgA"));
    Ok(())
}

// -- the driver itself -----------------------------------------------------------------------------------------------

#[test]
fn an_unknown_store_and_wrong_serdes_are_named() -> Result<()> {
    let driver = TopologyTestDriver::new(joins(), config())?;
    let input = driver.create_input_topic("in", Produced::<Text, Text>::default());
    input.pipe(text("a"), text("s"))?;
    let error = driver.key_value_store("no-such", Nullable::default()).get(&None).expect_err("unknown");
    assert!(error.to_string().contains("no-such"), "{error}");
    let output = driver.create_output_topic("left", Consumed::<String, i64>::default());
    let error = output.read_value().expect_err("text is no number");
    assert_eq!((error.at().topic.as_deref(), error.at().offset), (Some("left"), Some(0)));
    assert!(output.is_empty(), "it counts as read");
    Ok(())
}

// -- the whole topology in one task ----------------------------------------------------------------------------------

/// Everything produced since the last call, as `topic key=value@timestamp`.
fn produced(driver: &TopologyTestDriver) -> Vec<String> {
    let part = |bytes: Option<Vec<u8>>| bytes.map_or("∅".into(), |b| String::from_utf8_lossy(&b).into_owned());
    let line =
        |(topic, r): (String, StoredRecord)| format!("{topic} {}={}@{}", part(r.key), part(r.value), r.timestamp_ms);
    driver.produced().into_iter().map(line).collect()
}

#[test]
fn what_goes_through_repartition_topics_comes_back_by_timestamp_then_as_in_javas_heap() -> Result<()> {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("in", Consumed::<String, String>::default());
    for name in ["r1", "r2", "r3"] {
        let again = stream.repartition(Repartitioned::default().named(name));
        again.map_values(move |v| format!("{v} {name}")).to("out", Produced::default());
    }
    let driver = TopologyTestDriver::new(builder.build()?, config())?;
    driver.create_input_topic("in", Produced::<String, String>::default()).pipe_at("a", "x", 5)?;
    let expected = [
        "app-r1-repartition a=x@5",
        "app-r2-repartition a=x@5",
        "app-r3-repartition a=x@5",
        "out a=x r1@5",
        "out a=x r3@5",
        "out a=x r2@5",
    ];
    assert_eq!(produced(&driver), expected);
    assert_eq!(driver.status().threads[0].tasks.len(), 1);
    Ok(())
}

#[test]
fn explicit_commits_are_the_only_ones() -> Result<()> {
    let options = DriverOptions { commits: Commits::Explicit, ..Default::default() };
    let driver = TopologyTestDriver::with(joins(), config(), options)?;
    driver.create_input_topic("in", Produced::<Text, Text>::default()).pipe_at(text("a"), text("v"), 5)?;
    driver.advance_wall_clock_ms(1_000_000)?;
    let broker = driver.broker();
    assert!(broker.committed("app").is_empty());
    assert_eq!(produced(&driver), ["left a=v+∅@5"], "what is not held back needs no commit");
    assert_eq!((driver.commit()?, driver.commit()?), (true, false));
    assert_eq!(broker.committed("app")[&TopicPartition::new("in", 0)].offset, 1);
    Ok(())
}

#[test]
fn what_a_record_produced_before_it_failed_is_there() -> Result<()> {
    let builder = StreamsBuilder::new();
    let stream = builder.stream("in", Consumed::<String, String>::default());
    stream.to("before", Produced::default());
    stream.try_map_values(|_| Err::<String, _>("no")).to("after", Produced::default());
    let driver = TopologyTestDriver::new(builder.build()?, config())?;
    let input = driver.create_input_topic("in", Produced::<String, String>::default());
    assert!(input.pipe_at("a", "x", 5).is_err());
    assert_eq!(produced(&driver), ["before a=x@5"]);
    Ok(())
}

#[test]
fn a_topic_that_nothing_reads_takes_no_records() -> Result<()> {
    let driver = TopologyTestDriver::new(joins(), config())?;
    let error = driver.create_input_topic("other", Produced::<Text, Text>::default()).pipe(text("a"), text("v"));
    assert_eq!(error.map_err(|error| error.kind()), Err(Kind::Topology));
    Ok(())
}

// -- rows held back until the commit -----------------------------------------------------------------------------------

/// The rows of a table, as they are sent on and logged: on a driver with a cache of so many bytes.
fn cached_table(cache_max_bytes: usize) -> Result<(TopologyTestDriver, TestInputTopic<Text, Text>)> {
    let builder = StreamsBuilder::new();
    let table = builder.table("T", Nullable::default(), Materialized::memory("store"));
    table.to_stream().map_values(|v| v.flatten()).to("out", Produced::default());
    let config = Config { cache_max_bytes, ..config() };
    let options = DriverOptions { commits: Commits::Explicit, ..Default::default() };
    let driver = TopologyTestDriver::with(builder.build()?, config, options)?;
    let input = driver.create_input_topic("T", Produced::default());
    Ok((driver, input))
}

#[test]
fn of_several_writes_to_a_row_the_last_one_is_logged_and_sent_on_at_the_commit() -> Result<()> {
    let (driver, table) = cached_table(1 << 20)?;
    table.pipe_at(text("a"), text("1"), 1)?;
    table.pipe_at(text("b"), text("1"), 2)?;
    table.pipe_at(text("a"), text("2"), 3)?;
    let store = driver.key_value_store("store", Nullable::default());
    assert_eq!(store.get(&text("a"))?, Some(text("2")), "readers see it at once");
    assert!(produced(&driver).is_empty());
    driver.commit()?;
    let expected = ["app-store-changelog b=1@2", "out b=1@2", "app-store-changelog a=2@3", "out a=2@3"];
    assert_eq!(produced(&driver), expected);
    Ok(())
}

#[test]
fn a_row_that_came_and_went_between_two_commits_was_never_there() -> Result<()> {
    let (driver, table) = cached_table(1 << 20)?;
    table.pipe_at(text("a"), text("1"), 1)?;
    table.pipe_at(text("a"), None, 2)?;
    table.pipe_at(text("b"), text("1"), 3)?;
    driver.commit()?;
    assert_eq!(produced(&driver), ["app-store-changelog b=1@3", "out b=1@3"]);
    table.pipe_at(text("b"), text("2"), 4)?;
    table.pipe_at(text("b"), None, 5)?;
    driver.commit()?;
    assert_eq!(produced(&driver), ["app-store-changelog b=∅@5", "out b=∅@5"]);
    Ok(())
}

#[test]
fn a_full_cache_lets_go_before_the_commit_and_deletes_after_that_are_told() -> Result<()> {
    let (driver, table) = cached_table(100)?;
    table.pipe_at(text("a"), text("1"), 1)?;
    assert!(produced(&driver).is_empty());
    table.pipe_at(text("b"), text("1"), 2)?;
    let expected = ["app-store-changelog a=1@1", "out a=1@1", "app-store-changelog b=1@2", "out b=1@2"];
    assert_eq!(produced(&driver), expected);
    table.pipe_at(text("a"), None, 3)?;
    driver.commit()?;
    assert_eq!(produced(&driver), ["app-store-changelog a=∅@3", "out a=∅@3"]);
    Ok(())
}

#[test]
fn without_a_cache_every_write_is_logged_and_sent_on() -> Result<()> {
    let (driver, table) = cached_table(0)?;
    table.pipe_at(text("a"), text("1"), 1)?;
    table.pipe_at(text("a"), None, 2)?;
    let expected = ["app-store-changelog a=1@1", "out a=1@1", "app-store-changelog a=∅@2", "out a=∅@2"];
    assert_eq!(produced(&driver), expected);
    Ok(())
}

#[test]
fn what_was_held_back_and_not_committed_is_processed_again() -> Result<()> {
    let (driver, table) = cached_table(1 << 20)?;
    table.pipe_at(text("a"), text("1"), 1)?;
    let broker = driver.broker();
    drop((driver, table));
    broker.remove_member("app", "driver-1");
    let builder = StreamsBuilder::new();
    let table = builder.table("T", Nullable::default(), Materialized::memory("store"));
    table.to_stream().map_values(|v| v.flatten()).to("out", Produced::default());
    let options = DriverOptions { broker: Some(broker.clone()), ..Default::default() };
    let _driver = TopologyTestDriver::with(builder.build()?, config(), options)?;
    assert_eq!(written(&broker, "out"), ["a=1@1"]);
    Ok(())
}

// -- any order of arrival --------------------------------------------------------------------------------------------

#[derive(Debug, Clone)]
struct Arrival {
    table: bool,
    key: u8,
    deleted: bool,
    timestamp_ms: i64,
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let one = (any::<bool>(), 0u8..6, prop::bool::weighted(0.2), 0i64..40);
    let arrival = one.prop_map(|(table, key, deleted, timestamp_ms)| Arrival {
        table,
        key,
        deleted: table && deleted,
        // Odd and even: which of two topics goes first at equal times is the heap's affair.
        timestamp_ms: 2 * timestamp_ms + i64::from(table),
    });
    prop::collection::vec(arrival, 0..60)
}

/// What a left join comes to, partition by partition: the smaller of the two heads goes first.
fn model(
    arrivals: &[(usize, Arrival)],
    partition_of: impl Fn(u8) -> i32 + Copy,
    partitions: i32,
) -> Vec<(i32, Vec<String>)> {
    let mut out = Vec::new();
    for partition in 0..partitions {
        let of = |table| arrivals.iter().filter(move |(_, a)| a.table == table && partition_of(a.key) == partition);
        let (mut table, mut stream) = (of(true).peekable(), of(false).peekable());
        let (mut rows, mut lines) = (std::collections::BTreeMap::new(), Vec::new());
        while let Some((_, head)) = stream.peek() {
            if let Some((i, row)) = table.next_if(|(_, row)| row.timestamp_ms < head.timestamp_ms) {
                rows.insert(row.key, (!row.deleted).then_some(*i));
                continue;
            }
            let Some((i, head)) = stream.next() else { break };
            let row = rows.get(&head.key).copied().flatten().map_or("∅".into(), |i| i.to_string());
            lines.push(format!("{}={i}+{row}@{}", head.key, head.timestamp_ms));
        }
        out.push((partition, lines));
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// All records are in the topics before the task chooses: whatever the order of arrival between topics, timestamps decide.
    #[test]
    fn a_join_over_any_interleaving_equals_the_model(arrivals in arrivals(), partitions in 1..4i32) {
        let options = DriverOptions { partitions, ..Default::default() };
        let driver = TopologyTestDriver::with(joins(), config(), options).expect("starts");
        let broker = driver.broker();
        let arrivals: Vec<(usize, Arrival)> = arrivals.into_iter().enumerate().collect();
        for (i, a) in &arrivals {
            let (key, value) = (a.key.to_string(), i.to_string());
            let (topic, value) = (if a.table { "T" } else { "in" }, (!a.deleted).then_some(value.as_bytes()));
            broker.produce(topic, key.as_bytes(), value, a.timestamp_ms).expect("the topic is there");
        }
        driver.run().expect("runs");
        let partition_of = |key: u8| watersmeet::partitioner::partition_for_key(key.to_string().as_bytes(), partitions);
        let records = broker.records("left");
        for (partition, expected) in model(&arrivals, partition_of, partitions) {
            let lines: Vec<String> = records.iter().filter(|r| r.partition == partition).map(|r| {
                let part = |bytes: &Option<Vec<u8>>| String::from_utf8_lossy(bytes.as_deref().unwrap_or(b"")).into_owned();
                format!("{}={}@{}", part(&r.key), part(&r.value), r.timestamp_ms)
            }).collect();
            prop_assert_eq!(lines, expected, "partition {}", partition);
        }
    }

    /// Piped one by one, each record meets the table as it is then.
    #[test]
    fn a_join_piped_one_by_one_follows_the_order_of_arrival(arrivals in arrivals()) {
        let driver = TopologyTestDriver::new(joins(), config()).expect("starts");
        let table = driver.create_input_topic("T", Produced::<Text, Text>::default());
        let input = driver.create_input_topic("in", Produced::<Text, Text>::default());
        let (mut rows, mut expected) = (std::collections::BTreeMap::new(), Vec::new());
        for (i, a) in arrivals.iter().enumerate() {
            let (key, value) = (text(&a.key.to_string()), (!a.deleted).then(|| i.to_string()));
            if a.table {
                rows.insert(a.key, value.clone());
                table.pipe_at(key, value, a.timestamp_ms).expect("pipes");
            } else {
                let row = rows.get(&a.key).cloned().flatten().unwrap_or("∅".into());
                expected.push(format!("{}={i}+{row}@{}", a.key, a.timestamp_ms));
                input.pipe_at(key, value, a.timestamp_ms).expect("pipes");
            }
        }
        prop_assert_eq!(written(&driver.broker(), "left"), expected);
    }
}

/// A record with everything that the port allows reaches the topic as it is.
#[test]
fn the_brokers_own_append_takes_partition_and_headers() -> Result<()> {
    let options = DriverOptions { partitions: 3, ..Default::default() };
    let driver = TopologyTestDriver::with(joins(), config(), options)?;
    let mut headers = Headers::default();
    headers.add("h", Some(b"1"));
    let record = Outgoing {
        topic: &"in".into(),
        partition: Some(2),
        key: None,
        value: Some(b"s"),
        timestamp_ms: Some(4),
        headers: &headers,
    };
    assert_eq!(driver.broker().append(record)?, (2, 0));
    driver.run()?;
    let records = driver.broker().records("left");
    assert_eq!((records.len(), records[0].timestamp_ms, &records[0].headers), (1, 4, &headers));
    Ok(())
}

/// Counts how often one has ended.
struct Ending(Arc<AtomicUsize>);

impl Processor<String, String, String, String> for Ending {
    fn process(
        &mut self,
        context: &mut ProcessorContext<'_, String, String>,
        record: Record<String, String>,
    ) -> Result {
        assert!(record.value != "panic", "as asked for");
        context.forward(record)
    }

    fn close(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("one more, which is of no account");
    }
}

#[test]
fn processors_are_closed_with_their_task_however_it_ends() -> Result<()> {
    for fails in [false, true] {
        let ended = Arc::new(AtomicUsize::new(0));
        let builder = StreamsBuilder::new();
        let count = ended.clone();
        builder
            .stream("in", Consumed::<String, String>::default())
            .process(move || Ending(count.clone()), Processing::default())
            .to("out", Produced::default());
        let driver = TopologyTestDriver::new(builder.build()?, config())?;
        let input = driver.create_input_topic("in", Produced::<String, String>::default());
        input.pipe("k", "v")?;
        assert_eq!(ended.load(Ordering::SeqCst), 0);
        if fails {
            input.pipe("k", "panic").expect_err("fails");
            drop((input, driver));
        } else {
            drop(input);
            driver.close()?;
        }
        assert_eq!(ended.load(Ordering::SeqCst), 1, "fails: {fails}");
    }
    Ok(())
}
