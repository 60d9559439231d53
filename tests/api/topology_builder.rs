//! Topologies put together node by node.

use watersmeet::prelude::*;
use watersmeet::processor::{KeyValueStore, Outlet, Processor, ProcessorContext, StateStore, TopologyBuilder};
use watersmeet::serdes::DefaultSerde;
use watersmeet::testing::TopologyTestDriver;

/// Passes on what the store has under the key, beside the value.
struct LookUp {
    store: StateStore<KeyValueStore<String, String>>,
    opened: Option<KeyValueStore<String, String>>,
}

impl LookUp {
    fn new(store: &StateStore<KeyValueStore<String, String>>) -> Self {
        Self { store: store.clone(), opened: None }
    }
}

impl Processor<String, String, String, String> for LookUp {
    fn init(&mut self, context: &mut ProcessorContext<'_, String, String>) -> Result {
        self.opened = Some(context.store(&self.store)?);
        Ok(())
    }

    fn process(
        &mut self,
        context: &mut ProcessorContext<'_, String, String>,
        record: Record<String, String>,
    ) -> Result {
        let Some(store) = &mut self.opened else { return Ok(()) };
        let found = store.get(context, &record.key)?.unwrap_or_else(|| "nothing".into());
        let value = format!("{} {found}", record.value);
        context.forward(record.with_value(value))
    }
}

/// Puts each record into its store.
struct Keep(KeyValueStore<String, String>);

impl Processor<String, Option<String>, (), ()> for Keep {
    fn process(
        &mut self,
        context: &mut ProcessorContext<'_, (), ()>,
        record: Record<String, Option<String>>,
    ) -> Result {
        self.0.put(context, &record.key, record.value.as_ref())
    }
}

fn texts() -> Consumed<String, String> {
    Consumed::default()
}

fn store(name: &str) -> StateStore<KeyValueStore<String, String>> {
    KeyValueStore::store(name, String::serde(), String::serde())
}

fn names_store(builder: &TopologyBuilder, global: bool) -> StateStore<KeyValueStore<String, String>> {
    let consumed = Consumed::<String, Option<String>>::default();
    match global {
        true => builder.add_global_store(store("names"), "names-in", "names", consumed, "keep-names", Keep),
        false => builder.add_read_only_state_store(store("names"), "names-in", "names", consumed, "keep-names", Keep),
    }
}

fn look_up(global: bool) -> Topology {
    let builder = TopologyBuilder::new();
    let names = names_store(&builder, global);
    let orders = builder.add_source("orders-in", "orders", texts());
    let (used, processing) = (names.clone(), Processing::default().store(&names));
    let found = builder.add_processor("look-up", move || LookUp::new(&used), &[&orders], processing);
    builder.add_sink("out", "out", Produced::default(), &[&found]);
    builder.build().expect("builds")
}

fn run(driver: &TopologyTestDriver) -> Vec<String> {
    let names = driver.create_input_topic("names", Produced::<String, String>::default());
    let orders = driver.create_input_topic("orders", Produced::<String, String>::default());
    names.pipe("k", "Ada").expect("is processed");
    orders.pipe("k", "order of").expect("is processed");
    names.pipe_tombstone("k").expect("is processed");
    orders.pipe("k", "order of").expect("is processed");
    let out = driver.create_output_topic("out", texts());
    out.read_to_vec().expect("text").into_iter().map(|(_, value)| value).collect()
}

/// Printed by Kafka Streams for the same topology.
const DESCRIPTION: &str = "Topologies:
   Sub-topology: 0
    Source: orders-in (topics: [orders])
      --> look-up
    Processor: look-up (stores: [names])
      --> out
      <-- orders-in
    Source: names-in (topics: [names])
      --> keep-names
    Processor: keep-names (stores: [names])
      --> none
      <-- names-in
    Sink: out (topic: out)
      <-- look-up

";

#[test]
fn a_read_only_store_holds_its_topic_and_writes_no_changelog() {
    let topology = look_up(false);
    assert_eq!(topology.describe(), DESCRIPTION);
    let driver = TopologyTestDriver::new(topology, Config::new("test")).expect("starts");
    assert_eq!(run(&driver), ["order of Ada", "order of nothing"]);
    assert!(driver.broker().topics().keys().all(|topic| !topic.ends_with("-changelog")));
}

#[test]
fn a_read_only_store_is_restored_from_its_topic() {
    let driver = TopologyTestDriver::new(look_up(false), Config::new("test")).expect("starts");
    let names = driver.create_input_topic("names", Produced::<String, String>::default());
    names.pipe("k", "Ada").expect("is processed");
    let broker = driver.broker();
    driver.close().expect("closes");
    let options = watersmeet::testing::DriverOptions { broker: Some(broker), ..Default::default() };
    let driver = TopologyTestDriver::with(look_up(false), Config::new("test"), options).expect("starts");
    let orders = driver.create_input_topic("orders", Produced::<String, String>::default());
    orders.pipe("k", "order of").expect("is processed");
    let out = driver.create_output_topic("out", texts());
    assert_eq!(out.read_value().expect("text"), Some("order of Ada".into()));
}

#[test]
fn a_global_store_is_whole_everywhere() {
    let topology = look_up(true);
    assert!(topology.describe().contains("for global store (will not generate tasks)"));
    let driver = TopologyTestDriver::new(topology, Config::new("test")).expect("starts");
    assert_eq!(run(&driver), ["order of Ada", "order of nothing"]);
}

#[test]
fn several_parents_patterns_and_dynamic_sinks() {
    let builder = TopologyBuilder::new();
    let one = builder.add_source("one", "in", texts());
    let many = builder.add_source("many", TopicPattern::new("in-.*").expect("a pattern"), texts());
    let store = builder.add_state_store(store("kept"));
    let (used, processing) = (store.clone(), Processing::default().store(&store));
    let all = builder.add_processor("all", move || LookUp::new(&used), &[&one, &many], processing);
    let topic_of = TopicNameExtractor::new("ByKey", |key: &String, _: &String, _| format!("out-{key}"));
    builder.add_dynamic_sink("sink", topic_of, Produced::default(), &[&all]);
    let driver = TopologyTestDriver::new(builder.build().expect("builds"), Config::new("test")).expect("starts");
    for topic in ["in", "in-a"] {
        let input = driver.create_input_topic(topic, Produced::<String, String>::default());
        input.pipe("k", topic).expect("is processed");
    }
    let out = driver.create_output_topic("out-k", texts());
    let values: Vec<String> = out.read_to_vec().expect("text").into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["in nothing", "in-a nothing"]);
}

#[test]
fn what_does_not_fit_together_is_an_error() {
    let error = |topology: Result<Topology>| topology.err().expect("it cannot be built").to_string();
    let builder = TopologyBuilder::new();
    builder.add_source("twice", "a", texts());
    builder.add_source("twice", "b", texts());
    assert!(error(builder.build()).contains("two nodes have the name twice"));

    let builder = TopologyBuilder::new();
    let elsewhere: Outlet<String, String> = TopologyBuilder::new().add_source("elsewhere", "a", texts());
    builder.add_sink("sink", "out", Produced::default(), &[&elsewhere]);
    assert!(error(builder.build()).contains("another builder"));

    let builder = TopologyBuilder::new();
    builder.add_sink::<String, String>("sink", "out", Produced::default(), &[]);
    assert!(error(builder.build()).contains("no parent"));

    let builder = TopologyBuilder::new();
    let source = builder.add_source("in", "a", texts());
    let missing = store("missing");
    let processing = Processing::default().store(&missing);
    builder.add_processor("look-up", move || LookUp::new(&missing), &[&source], processing);
    assert!(error(builder.build()).contains("has not been added"));
}
