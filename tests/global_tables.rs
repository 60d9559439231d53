//! Global tables and stores: on whole clients with several threads, over restarts, and in the driver.

mod waiting;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use waiting::{PATIENCE, wait_until};
use watersmeet::clock::{ManualClock, SystemClock};
use watersmeet::prelude::*;
use watersmeet::processor::{KeyValueStore, Processor, ProcessorContext};
use watersmeet::serdes::DefaultSerde;
use watersmeet::state::Engine;
use watersmeet::streams::State;
use watersmeet::testing::{DriverOptions, MemoryBroker, TopologyTestDriver};

/// `in`, joined with the global table of `G` by its value, to `out`.
fn topology(engine: Engine) -> Topology {
    let builder = StreamsBuilder::new();
    let text = || Consumed::<String, String>::default();
    let global = builder.global_table("G", text(), Materialized::named("global").engine(engine));
    let joined = builder.stream("in", text()).left_join_global(
        &global,
        |_, v| v.clone(),
        |v, row| format!("{v}={}", row.unwrap_or_default()),
    );
    joined.to("out", Produced::default());
    builder.build().expect("builds")
}

/// The table's topic has other partitions than the stream's.
fn broker() -> MemoryBroker {
    let broker = MemoryBroker::with_clock(Arc::new(ManualClock::at(0)));
    for (topic, partitions) in [("G", 3), ("in", 4), ("out", 4)] {
        broker.create_topic(topic, partitions);
    }
    broker
}

fn produce(broker: &MemoryBroker, topic: &str, key: &str, value: &str) {
    broker.produce(topic, key.as_bytes(), value.as_bytes(), 1).expect("the topic is there");
}

fn start(broker: &MemoryBroker, topology: Topology, dir: &Path) -> Streams {
    let (commit_interval, poll) = (Duration::from_millis(20), Duration::from_millis(10));
    let config = Config { state_dir: dir.to_path_buf(), commit_interval, poll, ..Config::new("app") };
    let config = Config { num_stream_threads: 2, ..config };
    Streams::start_on(topology, config, broker.client("app", "p1"), SystemClock::shared()).expect("starts")
}

fn results(broker: &MemoryBroker) -> Vec<String> {
    let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap_or_default()).expect("text");
    let mut all: Vec<String> = broker.records("out").into_iter().map(|record| text(record.value)).collect();
    all.sort();
    all
}

#[test]
fn the_table_is_there_before_the_first_record_and_stays_up_to_date() {
    for engine in [Engine::Memory, Engine::RocksDb] {
        let (broker, dir) = (broker(), tempfile::tempdir().expect("a folder"));
        for i in 0..50 {
            produce(&broker, "G", &format!("g{i}"), &i.to_string());
            produce(&broker, "in", &format!("k{i}"), &format!("g{i}"));
        }
        let streams = start(&broker, topology(engine), dir.path());
        wait_until("all are joined", || results(&broker).len() == 50);
        let mut expected: Vec<String> = (0..50).map(|i| format!("g{i}={i}")).collect();
        expected.sort();
        assert_eq!(results(&broker), expected);
        // A later change comes in its own time.
        produce(&broker, "G", "late", "here");
        wait_until("the change is seen", || {
            produce(&broker, "in", "k", "late");
            results(&broker).contains(&"late=here".into())
        });
        assert!(streams.close(PATIENCE));
        drop(streams);
        // After a restart the table is complete again: read anew, or from disk and on from there.
        produce(&broker, "G", "g7", "new");
        produce(&broker, "in", "again", "g7");
        produce(&broker, "in", "again", "g8");
        let streams = start(&broker, topology(engine), dir.path());
        wait_until("both are joined", || {
            ["g7=new", "g8=8"].iter().all(|result| results(&broker).iter().filter(|r| r == result).count() >= 1)
                && results(&broker).iter().filter(|r| *r == "g8=8").count() == 2
        });
        assert!(streams.close(PATIENCE));
    }
}

#[test]
fn a_missing_topic_ends_the_client_with_its_name() {
    let (broker, dir) =
        (MemoryBroker::with_clock(Arc::new(ManualClock::at(0))), tempfile::tempdir().expect("a folder"));
    broker.create_topic("in", 1);
    broker.create_topic("out", 1);
    let streams = start(&broker, topology(Engine::Memory), dir.path());
    assert!(streams.wait_for(&[State::Error], PATIENCE));
    let reason = streams.status().reason;
    assert!(reason.contains("topic G") && reason.contains("global"), "{reason}");
}

#[test]
fn a_client_without_streams_runs_and_closes() {
    let (broker, dir) = (broker(), tempfile::tempdir().expect("a folder"));
    let builder = StreamsBuilder::new();
    builder.global_table("G", Consumed::<String, String>::default(), Materialized::memory("global"));
    let streams = start(&broker, builder.build().expect("builds"), dir.path());
    assert!(streams.wait_for(&[State::Running], PATIENCE));
    assert!(streams.close(PATIENCE));
}

#[test]
fn a_store_that_knows_more_than_the_topic_has_is_read_anew() {
    let (broker, dir) = (broker(), tempfile::tempdir().expect("a folder"));
    let run = |broker: &MemoryBroker, key: &str, expected: &str| {
        produce(broker, "in", "k", key);
        let streams = start(broker, topology(Engine::RocksDb), dir.path());
        wait_until("the record is joined", || results(broker).contains(&expected.into()));
        assert!(streams.close(PATIENCE));
    };
    for i in 0..20 {
        produce(&broker, "G", &format!("g{i}"), "old");
    }
    run(&broker, "g3", "g3=old");
    // Another broker: the topic is new, and shorter.
    let broker = self::broker();
    produce(&broker, "G", "g3", "new");
    run(&broker, "g3", "g3=new");
    run(&broker, "g4", "g4=");
}

/// Reads a global store for each record.
struct Look(KeyValueStore<String, String>);

impl Processor<String, String, String, String> for Look {
    fn process(
        &mut self,
        context: &mut ProcessorContext<'_, String, String>,
        record: Record<String, String>,
    ) -> Result {
        let found = self.0.get(context, &record.value)?.unwrap_or_default();
        context.forward(record.with_value(found))
    }
}

/// Keeps keys in upper case.
struct Keep(KeyValueStore<String, String>);

impl Processor<String, String, (), ()> for Keep {
    fn process(&mut self, context: &mut ProcessorContext<'_, (), ()>, record: Record<String, String>) -> Result {
        self.0.put(context, &record.key.to_uppercase(), Some(&record.value))
    }
}

#[test]
fn a_global_store_is_filled_by_one_processor_and_read_by_others() {
    let builder = StreamsBuilder::new();
    let text = || Consumed::<String, String>::default();
    let store = KeyValueStore::store("names", String::serde(), String::serde());
    let store = builder.add_global_store(store, "G", text(), Keep);
    let (stream, processing) = (builder.stream("in", text()), Processing::default().store(&store));
    let look = move || Reader { store: store.clone(), open: None };
    stream.process(look, processing).to("out", Produced::default());
    let topology = builder.build().expect("builds");
    assert!(topology.describe().contains("Sub-topology: 0 for global store (will not generate tasks)"));

    let options = DriverOptions { partitions: 2, ..DriverOptions::default() };
    let driver = TopologyTestDriver::with(topology, Config::new("test"), options).expect("starts");
    let global = driver.create_input_topic("G", Produced::<String, String>::default());
    let input = driver.create_input_topic("in", Produced::<String, String>::default());
    let output = driver.create_output_topic("out", text());
    global.pipe("a", "Ada").expect("is taken");
    for key in ["k1", "k2", "k3"] {
        input.pipe(key, "A").expect("is taken");
    }
    let values: Vec<String> = output.read_to_vec().expect("decodes").into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["Ada", "Ada", "Ada"]);
}

/// Opens the store when its task begins.
struct Reader {
    store: watersmeet::processor::StateStore<KeyValueStore<String, String>>,
    open: Option<Look>,
}

impl Processor<String, String, String, String> for Reader {
    fn init(&mut self, context: &mut ProcessorContext<'_, String, String>) -> Result {
        self.open = Some(Look(context.store(&self.store)?));
        Ok(())
    }

    fn process(
        &mut self,
        context: &mut ProcessorContext<'_, String, String>,
        record: Record<String, String>,
    ) -> Result {
        match &mut self.open {
            Some(look) => look.process(context, record),
            None => Ok(()),
        }
    }
}
