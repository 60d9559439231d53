//! The DSL: typed handles over an untyped graph. A handle holds no data; adding an operator adds a node.

mod branch;
mod cogrouped;
mod cogrouped_windows;
mod foreign_key;
mod global_table;
mod graph;
mod grouped;
mod grouped_table;
mod index_into;
mod kstream;
mod ktable;
mod map_async;
mod materialized;
mod optimize;
mod options;
mod print;
mod process;
mod repartition;
mod sinks;
mod stream_stream;
mod stream_table;
mod suppress;
mod table_join;
mod table_node;
mod table_values;
mod to_table;
mod topics;
mod topology_builder;
mod windowed;
mod windowed_table;
mod writer;

pub use branch::{Branched, BranchedKStream, Branches};
pub use cogrouped::CogroupedKStream;
pub use cogrouped_windows::{SessionWindowedCogroupedKStream, TimeWindowedCogroupedKStream};
pub use global_table::GlobalKTable;
pub use grouped::{Grouped, KGroupedStream};
pub use grouped_table::KGroupedTable;
pub use index_into::IndexInto;
pub use kstream::KStream;
pub use ktable::KTable;
pub use materialized::Materialized;
pub use options::{Consumed, Joined, Produced, Repartitioned, TableJoined, TopicNameExtractor};
pub use print::Printed;
pub use process::Processing;
pub use stream_stream::StreamJoined;
pub use suppress::{BufferConfig, Suppressed};
pub use topics::{SelectedTopics, Topics};
pub use topology_builder::{Outlet, TopologyBuilder};
pub use windowed::{SessionWindowed, SessionWindowedKStream, TimeWindowed, TimeWindowedKStream, WindowedBy};
pub use writer::Defaults;

use crate::config::Optimization;
use crate::error::Result;
use crate::operators::Build;
use crate::operators::source::Decode;
use crate::operators::{ErasedPort, join_children};
use crate::record::Data;
use crate::serdes::Optional;
use crate::topology::{Node, NodeId, NodeKind, Source, Topology};
use graph::{Graph, GraphNode, Role};
use std::sync::Arc;
use writer::Writer;

/// Builds a topology: the entry of the DSL.
///
/// ```
/// use watersmeet::prelude::*;
///
/// let builder = StreamsBuilder::new();
/// let products = builder.table("products", Consumed::<String, String>::default(), Materialized::rocksdb("products"));
/// builder
///     .stream("orders", Consumed::<String, String>::default())
///     .join(&products, |order, product| format!("{order} of {product}"))
///     .to("merged", Produced::default());
/// let topology = builder.build()?;
/// assert!(topology.describe().contains("KSTREAM-JOIN"));
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Default)]
pub struct StreamsBuilder {
    graph: Graph,
    defaults: Defaults,
}

impl StreamsBuilder {
    /// An empty builder.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// orders.to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("a".into(), "x".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty builder with other defaults, such as stores in memory.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let defaults = Defaults { engine: watersmeet::state::Engine::Memory, ..Defaults::default() };
    /// let builder = StreamsBuilder::with_defaults(defaults);
    /// builder.table("people", Consumed::<String, String>::default(), Materialized::named("people"));
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn with_defaults(defaults: Defaults) -> Self {
        Self { graph: Graph::default(), defaults }
    }

    /// Reads a topic, or several, or all that match a [pattern](crate::topology::TopicPattern), as a stream: every record counts for itself.
    ///
    /// Topics that match a pattern are read as soon as they are there, from their beginning unless the group has been
    /// there; how soon a new one is noticed `metadata.max.age.ms` says.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// let builder = StreamsBuilder::new();
    /// let one = builder.stream("clicks", Consumed::<String, String>::default());
    /// let several = builder.stream(["web", "app"], Consumed::<String, String>::default());
    /// ```
    pub fn stream<K: Data, V: Data>(&self, topics: impl Topics, consumed: Consumed<K, V>) -> KStream<K, V> {
        let name = self.graph.name_or(consumed.name.as_deref(), "KSTREAM-SOURCE");
        let topics = topics.selected();
        let serdes = (Some(consumed.key.clone()), Some(consumed.value.clone()));
        let role = Role::StreamSource(topics.clone(), consumed.reset);
        let write = move |writer: &mut Writer, name: &str, _: &[NodeId]| source(writer, name, topics, consumed);
        let node = self.graph.add(GraphNode { name, role, write: Some(Box::new(write)), ..GraphNode::default() });
        KStream::new(self.graph.clone(), node, vec![node], serdes)
    }

    /// Reads a topic as a table: a record is the new value of its key's row, a null value deletes the row.
    ///
    /// Rows are kept in a store if `materialized` names one or if an operator reads the table; otherwise the table keeps
    /// nothing and only passes changes on (Kafka Streams does the same).
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let people = builder.table("people", Consumed::<String, String>::default(), Materialized::memory("people"));
    /// orders.join(&people, |order, name| format!("{order} for {name}")).to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("people", "p", "Ada", 0), ("orders", "p", "tea", 1)], "out")?;
    /// assert_eq!(results, [("p".into(), "tea for Ada".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "KTable")]
    pub fn table<K: Data, V: Data>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        KTable::of_topic(&self.graph, topic, consumed, materialized)
    }

    /// How many names have been generated so far, used or not: the number of the next one.
    #[doc(hidden)]
    pub fn names_made(&self) -> usize {
        self.graph.names_made()
    }

    /// Checks the graph and makes it a topology, without optimizations (Kafka Streams' default).
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// orders.to("out", Produced::default());
    /// let topology = builder.build()?;
    /// assert!(topology.describe().contains("(topics: [orders])"));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Kind::Topology`](crate::error::Kind::Topology): a name twice, a topic read twice in conflict, an empty graph.
    pub fn build(self) -> Result<Topology> {
        self.build_with(Optimization::default())
    }

    /// Checks the graph and makes it a topology with these optimizations (`topology.optimization`).
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// # let builder = StreamsBuilder::new();
    /// use watersmeet::config::Optimization;
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// people.to_stream().to("out", Produced::default());
    /// let topology = builder.build_with(Optimization { reuse_ktable_source_topics: true, ..Default::default() })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_with(self, optimization: Optimization) -> Result<Topology> {
        self.graph.build(optimization, self.defaults)
    }
}

/// Writes a source node.
fn source<K: Data, V: Data>(
    writer: &mut Writer,
    name: &str,
    topics: SelectedTopics,
    consumed: Consumed<K, V>,
) -> NodeId {
    let (topics, pattern) = topics.split();
    let Consumed { key, value, timestamps, ready_first, reset, .. } = consumed;
    let make = move |build: &mut Build, children: Vec<ErasedPort>| {
        Box::new(Decode::new(
            build.node.clone(),
            key.clone(),
            value.clone(),
            timestamps.clone(),
            join_children::<K, V>(children),
        )) as Box<dyn Source>
    };
    let kind = NodeKind::Source { topics, pattern, bootstrap: ready_first, reset, make: Arc::new(make) };
    writer.add(Node { name: name.into(), kind, parents: Vec::new(), stores: Vec::new() })
}

/// A topic read as a table's changes: a null value is a delete.
fn nullable<K, V: 'static>(consumed: Consumed<K, V>) -> Consumed<K, Option<V>> {
    Consumed {
        key: consumed.key,
        value: Arc::new(Optional(consumed.value)) as _,
        timestamps: consumed.timestamps,
        ready_first: consumed.ready_first,
        reset: consumed.reset,
        name: consumed.name,
    }
}
