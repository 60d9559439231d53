//! The Processor API's own way to a topology: sources, processors and sinks, put together by hand.

use super::process::make_processor;
use super::sinks::{write_dynamic_sink, write_sink};
use super::topics::Topics;
use super::writer::{Defaults, Writer};
use super::{Consumed, Processing, Produced, TopicNameExtractor, global_table, source};
use crate::error::{Error, Kind, Result};
use crate::operators::Build;
use crate::operators::process::Processor;
use crate::operators::store_views::StateStore;
use crate::record::Data;
use crate::state::Changelog;
use crate::topology::{NodeId, Topology};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

/// Puts a topology together node by node, where the DSL of [`StreamsBuilder`](super::StreamsBuilder) has no word for what is
/// wanted. Nodes are handed on as typed [`Outlet`]s, so what does not fit does not compile.
///
/// ```
/// use watersmeet::prelude::*;
/// use watersmeet::processor::{KeyValueStore, Processor, ProcessorContext, TopologyBuilder};
/// use watersmeet::serdes::DefaultSerde;
/// use watersmeet::testing::TopologyTestDriver;
///
/// /// Counts words.
/// struct Count(Option<KeyValueStore<String, i64>>);
/// impl Processor<String, String, String, i64> for Count {
///     fn init(&mut self, context: &mut ProcessorContext<'_, String, i64>) -> Result {
///         let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
///         self.0 = Some(context.store(&counts)?);
///         Ok(())
///     }
///     fn process(&mut self, context: &mut ProcessorContext<'_, String, i64>, line: Record<String, String>) -> Result {
///         let Some(counts) = &mut self.0 else { return Ok(()) };
///         for word in line.value.split(' ').map(str::to_owned) {
///             let count = counts.get(context, &word)?.unwrap_or(0) + 1;
///             counts.put(context, &word, Some(&count))?;
///             context.forward(Record::new(word, count, line.timestamp_ms))?;
///         }
///         Ok(())
///     }
/// }
///
/// let builder = TopologyBuilder::new();
/// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
/// let counts = builder.add_state_store(counts);
/// let lines = builder.add_source("lines-in", "lines", Consumed::<String, String>::default());
/// let words = builder.add_processor("count", || Count(None), &[&lines], Processing::default().store(&counts));
/// builder.add_sink("counts-out", "counts", Produced::default(), &[&words]);
///
/// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
/// driver.create_input_topic("lines", Produced::<String, String>::default()).pipe("l", "to be or not to be")?;
/// let counts = driver.create_output_topic("counts", Consumed::<String, i64>::default());
/// assert_eq!(counts.read_to_vec()?.last(), Some(&("be".to_string(), 2)));
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[doc(alias = "Topology")]
pub struct TopologyBuilder(Rc<RefCell<Writer>>);

/// What comes out of a source or a processor of a [`TopologyBuilder`]: the parent of what is to get its records.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// let builder = TopologyBuilder::new();
/// let orders: Outlet<String, String> = builder.add_source("orders-in", "orders", Consumed::default());
/// builder.add_sink("orders-out", "out", Produced::default(), &[&orders]);
/// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
/// assert_eq!(results, [("a".into(), "x".into())]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct Outlet<K, V> {
    writer: Rc<RefCell<Writer>>,
    node: NodeId,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Outlet<K, V> {
    fn clone(&self) -> Self {
        Self { writer: self.writer.clone(), node: self.node, types: PhantomData }
    }
}

impl Default for TopologyBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl TopologyBuilder {
    /// An empty builder.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// let builder = TopologyBuilder::new();
    /// let orders = builder.add_source("orders-in", "orders", Consumed::<String, String>::default());
    /// builder.add_sink("orders-out", "out", Produced::default(), &[&orders]);
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("a".into(), "x".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn new() -> Self {
        Self::with_defaults(Defaults::default())
    }

    /// An empty builder with other defaults, such as stores in memory.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let defaults = Defaults { engine: watersmeet::state::Engine::Memory, ..Defaults::default() };
    /// let builder = TopologyBuilder::with_defaults(defaults);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn with_defaults(defaults: Defaults) -> Self {
        Self(Rc::new(RefCell::new(Writer::new(false, defaults))))
    }

    fn outlet<K, V>(&self, node: NodeId) -> Outlet<K, V> {
        Outlet { writer: self.0.clone(), node, types: PhantomData }
    }

    /// The nodes of these parents, which must be this builder's.
    fn nodes<K, V>(&self, name: &str, parents: &[&Outlet<K, V>]) -> Vec<NodeId> {
        let mut problem = parents.is_empty().then_some("it has no parent");
        if parents.iter().any(|parent| !Rc::ptr_eq(&parent.writer, &self.0)) {
            problem = Some("a parent belongs to another builder");
        }
        if let Some(problem) = problem {
            let error = Error::new(Kind::Topology, format!("node {name} cannot be added: {problem}"));
            self.0.borrow_mut().fail(error.node(name).hint("give it outlets of this builder"));
            return Vec::new();
        }
        parents.iter().map(|parent| parent.node).collect()
    }

    /// Adds a node that reads a topic, several, or all that match a [`TopicPattern`](crate::topology::TopicPattern).
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// let builder = TopologyBuilder::new();
    /// let orders = builder.add_source("orders-in", "orders", Consumed::<String, String>::default());
    /// builder.add_sink("orders-out", "out", Produced::default(), &[&orders]);
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("a".into(), "x".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "addSource")]
    pub fn add_source<K: Data, V: Data>(
        &self,
        name: &str,
        topics: impl Topics,
        consumed: Consumed<K, V>,
    ) -> Outlet<K, V> {
        let node = source(&mut self.0.borrow_mut(), name, topics.selected(), consumed);
        self.outlet(node)
    }

    /// Adds a processor, one per task, made by `supplier`; `processing` says which stores it uses.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # struct Loud;
    /// # impl Processor<String, String, String, String> for Loud {
    /// #     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
    /// #         let loud = record.value.to_uppercase();
    /// #         context.forward(record.with_value(loud))
    /// #     }
    /// # }
    /// let builder = TopologyBuilder::new();
    /// let orders = builder.add_source("orders-in", "orders", Consumed::<String, String>::default());
    /// let loud = builder.add_processor("loud", || Loud, &[&orders], Processing::default());
    /// builder.add_sink("orders-out", "out", Produced::default(), &[&loud]);
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("a".into(), "X".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "addProcessor")]
    #[doc(alias = "connectProcessorAndStateStores")]
    pub fn add_processor<K: Data, V: Data, K2: Data, V2: Data, P>(
        &self,
        name: &str,
        supplier: impl Fn() -> P + Send + Sync + 'static,
        parents: &[&Outlet<K, V>],
        processing: Processing,
    ) -> Outlet<K2, V2>
    where
        P: Processor<K, V, K2, V2> + 'static,
    {
        let parents = self.nodes(name, parents);
        let (stores, supplier) = (processing.stores, Arc::new(supplier));
        let mut writer = self.0.borrow_mut();
        let connected = stores.clone();
        let node = writer.erased_processor::<K, V>(name, &parents, move |build: &mut Build, children| {
            make_processor::<K, V, K2, V2>(build, children, &connected, Box::new(supplier()))
        });
        stores.iter().for_each(|store| writer.connect(node, store));
        self.outlet(node)
    }

    /// Adds a node that writes to a topic, which must exist.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// let builder = TopologyBuilder::new();
    /// let orders = builder.add_source("orders-in", "orders", Consumed::<String, String>::default());
    /// builder.add_sink("orders-out", "out", Produced::default(), &[&orders]);
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("a".into(), "x".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "addSink")]
    pub fn add_sink<K: Data, V: Data>(
        &self,
        name: &str,
        topic: &str,
        produced: Produced<K, V>,
        parents: &[&Outlet<K, V>],
    ) {
        let parents = self.nodes(name, parents);
        write_sink(&mut self.0.borrow_mut(), name, &parents, topic.into(), produced);
    }

    /// Adds a node that writes each record to the topic that `extractor` names for it.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// let builder = TopologyBuilder::new();
    /// let orders = builder.add_source("orders-in", "orders", Consumed::<String, String>::default());
    /// let by_key = TopicNameExtractor::new("ByKey", |key: &String, _: &String, _| format!("out-{key}"));
    /// builder.add_dynamic_sink("orders-out", by_key, Produced::default(), &[&orders]);
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out-a")?;
    /// assert_eq!(results, [("a".into(), "x".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "addSink")]
    pub fn add_dynamic_sink<K: Data, V: Data>(
        &self,
        name: &str,
        extractor: TopicNameExtractor<K, V>,
        produced: Produced<K, V>,
        parents: &[&Outlet<K, V>],
    ) {
        let parents = self.nodes(name, parents);
        write_dynamic_sink(&mut self.0.borrow_mut(), name, &parents, extractor, produced);
    }

    /// Adds a store, which processors are connected to by [`Processing::store`].
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let builder = TopologyBuilder::new();
    /// let seen = KeyValueStore::<String, i64>::store("seen", String::serde(), i64::serde());
    /// let seen = builder.add_state_store(seen);
    /// let processing = Processing::default().store(&seen);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "addStateStore")]
    pub fn add_state_store<S: 'static>(&self, store: StateStore<S>) -> StateStore<S> {
        let mut writer = self.0.borrow_mut();
        let spec = writer.spec_of(&store);
        writer.shared_store(spec);
        store
    }

    /// Adds a store that holds a topic as it is: `processor` puts each record into it, and nobody else should. The topic
    /// itself serves as the store's changelog, so nothing is written twice. Source: KIP-813.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// use watersmeet::processor::{KeyValueStore, Processor, ProcessorContext, TopologyBuilder};
    /// use watersmeet::serdes::DefaultSerde;
    ///
    /// struct Keep(KeyValueStore<String, i64>);
    /// impl Processor<String, Option<i64>, (), ()> for Keep {
    ///     fn process(&mut self, context: &mut ProcessorContext<'_, (), ()>, row: Record<String, Option<i64>>) -> Result {
    ///         self.0.put(context, &row.key, row.value.as_ref())
    ///     }
    /// }
    ///
    /// let builder = TopologyBuilder::new();
    /// let prices = KeyValueStore::<String, i64>::store("prices", String::serde(), i64::serde());
    /// let consumed = Consumed::<String, Option<i64>>::default();
    /// let prices = builder.add_read_only_state_store(prices, "prices-in", "prices", consumed, "keep-prices", Keep);
    /// // Other processors read it: Processing::default().store(&prices)
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "addReadOnlyStateStore")]
    pub fn add_read_only_state_store<S: 'static, K: Data, V: Data, P>(
        &self,
        store: StateStore<S>,
        source_name: &str,
        topic: &str,
        consumed: Consumed<K, V>,
        processor_name: &str,
        processor: impl Fn(S) -> P + Send + Sync + 'static,
    ) -> StateStore<S>
    where
        P: Processor<K, V, (), ()> + 'static,
    {
        let mut writer = self.0.borrow_mut();
        let mut spec = writer.spec_of(&store);
        (spec.changelog, spec.cached) = (Changelog::Source { topic: topic.into() }, false);
        let parent = source(&mut writer, source_name, topic.selected(), consumed);
        let node = write_keeper(&mut writer, processor_name, parent, &store, processor);
        writer.store(spec, &[node]);
        store
    }

    /// Adds a store that every instance has whole, filled from a topic by a processor of the user's own.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// # struct Keep(KeyValueStore<String, String>);
    /// # impl Processor<String, String, (), ()> for Keep {
    /// #     fn process(&mut self, context: &mut ProcessorContext<'_, (), ()>, record: Record<String, String>) -> Result {
    /// #         self.0.put(context, &record.key, Some(&record.value))
    /// #     }
    /// # }
    /// let builder = TopologyBuilder::new();
    /// let people = KeyValueStore::<String, String>::store("people", String::serde(), String::serde());
    /// let consumed = Consumed::<String, String>::default();
    /// let people = builder.add_global_store(people, "people-in", "people", consumed, "keep-people", Keep);
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "addGlobalStore")]
    pub fn add_global_store<S: 'static, K: Data, V: Data, P>(
        &self,
        store: StateStore<S>,
        source_name: &str,
        topic: &str,
        consumed: Consumed<K, V>,
        processor_name: &str,
        processor: impl Fn(S) -> P + Send + Sync + 'static,
    ) -> StateStore<S>
    where
        P: Processor<K, V, (), ()> + 'static,
    {
        let names = (source_name, processor_name);
        global_table::write_global_store(&mut self.0.borrow_mut(), names, &store, topic, consumed, processor);
        store
    }

    /// Checks the nodes and makes them a topology.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let builder = TopologyBuilder::new();
    /// let orders = builder.add_source("orders-in", "orders", Consumed::<String, String>::default());
    /// builder.add_sink("orders-out", "out", Produced::default(), &[&orders]);
    /// let topology = builder.build()?;
    /// assert!(topology.describe().contains("Source: orders-in (topics: [orders])"));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Kind::Topology`]: a name twice, a topic read twice, a store that was never added, no source.
    pub fn build(self) -> Result<Topology> {
        let empty = Writer::new(false, Defaults::default());
        let topology = self.0.replace(empty).finish()?;
        crate::topology::split::sub_topologies(&topology)?;
        Ok(topology)
    }
}

/// Writes the processor that fills a store.
pub(super) fn write_keeper<S: 'static, K: Data, V: Data, P>(
    writer: &mut Writer,
    name: &str,
    parent: NodeId,
    store: &StateStore<S>,
    processor: impl Fn(S) -> P + Send + Sync + 'static,
) -> NodeId
where
    P: Processor<K, V, (), ()> + 'static,
{
    let (store, stores) = (store.clone(), [store.name().to_string()]);
    writer.erased_processor::<K, V>(name, &[parent], move |build: &mut Build, children| {
        let opened = store.open(build.store(store.name()));
        make_processor::<K, V, (), ()>(build, children, &stores, Box::new(processor(opened)))
    })
}
