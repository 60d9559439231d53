//! `CogroupedKStream`: several grouped streams, of different types, aggregated into one table.

use super::cogrouped_windows::Begin;
use super::graph::{GraphId, GraphNode};
use super::grouped::{add_aggregate, store_name, stored_table, table_of, unknown_serdes};
use super::ktable::StoredTable;
use super::windowed_table::{How, WindowedTable};
use super::writer::Writer;
use super::{KGroupedStream, KTable, Materialized};
use crate::operators::Build;
use crate::operators::Port;
use crate::operators::aggregate::Updated;
use crate::operators::windowed::session::Fold;
use crate::record::{Change, Data};
use crate::serdes::SerdeRef;
use crate::topology::NodeId;
use std::rc::Rc;
use std::sync::Arc;

/// Makes the aggregate of a record and the aggregate so far.
pub(crate) type Aggregator<K, V, A> = Arc<dyn Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync>;

/// Makes the aggregate that a new row begins with.
pub(crate) type Initializer<A> = Arc<dyn Fn() -> Option<A> + Send + Sync>;

/// Several grouped streams that are aggregated into one table. Made by [`KGroupedStream::cogroup`]. Source: KIP-150.
///
/// ```
/// use watersmeet::prelude::*;
/// let builder = StreamsBuilder::new();
/// let carts = builder.stream("carts", Consumed::<String, String>::default()).group_by_key(Grouped::default());
/// let wishes = builder.stream("wishes", Consumed::<String, i64>::default()).group_by_key(Grouped::default());
/// let customers = carts
///     .cogroup(|_, item, so_far: String| so_far + item)
///     .cogroup(&wishes, |_, wish, so_far| format!("{so_far}?{wish}"))
///     .aggregate(String::new, Materialized::rocksdb("customers").values());
/// # builder.build()?;
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct CogroupedKStream<K, A> {
    pub(crate) members: Vec<Rc<dyn Member<K, A>>>,
}

impl<K, A> Clone for CogroupedKStream<K, A> {
    fn clone(&self) -> Self {
        Self { members: self.members.clone() }
    }
}

/// One of the grouped streams, its type hidden.
pub(crate) trait Member<K, A> {
    fn graph(&self) -> &super::graph::Graph;
    fn key(&self) -> Option<SerdeRef<K>>;
    fn parent(&self, store: &str) -> (GraphId, Vec<GraphId>);
    /// Adds the node that aggregates this stream's records.
    fn aggregate(
        &self,
        name: String,
        parent: GraphId,
        table: &StoredTable<K, A>,
        materialized: Option<Materialized<K, A>>,
        initializer: Initializer<A>,
    ) -> GraphId;
    /// Adds the node that aggregates this stream's records window by window.
    fn aggregate_windows(
        &self,
        name: String,
        parent: GraphId,
        table: &WindowedTable<K, A>,
        materialized: Option<Materialized<K, A>>,
        begin: Begin<K, A>,
    ) -> GraphId;
}

struct Typed<K, V, A> {
    grouped: KGroupedStream<K, V>,
    aggregator: Aggregator<K, V, A>,
}

impl<K: Data, V: Data, A: Data> Member<K, A> for Typed<K, V, A> {
    fn graph(&self) -> &super::graph::Graph {
        self.grouped.graph()
    }

    fn key(&self) -> Option<SerdeRef<K>> {
        self.grouped.grouped.key.clone()
    }

    fn parent(&self, store: &str) -> (GraphId, Vec<GraphId>) {
        self.grouped.parent(store)
    }

    fn aggregate(
        &self,
        name: String,
        parent: GraphId,
        table: &StoredTable<K, A>,
        materialized: Option<Materialized<K, A>>,
        initializer: Initializer<A>,
    ) -> GraphId {
        let aggregator = self.aggregator.clone();
        let update = move |key: &K, value: &V, stored: Option<A>| {
            Updated::aggregated(stored, &*initializer, |so_far| aggregator(key, value, so_far))
        };
        add_aggregate(self.graph(), name, parent, table, materialized, Arc::new(update))
    }

    fn aggregate_windows(
        &self,
        name: String,
        parent: GraphId,
        table: &WindowedTable<K, A>,
        materialized: Option<Materialized<K, A>>,
        begin: Begin<K, A>,
    ) -> GraphId {
        let aggregator = self.aggregator.clone();
        let how = match begin {
            Begin::Time(shape, initializer) => {
                let update = move |key: &K, value: &V, stored: Option<A>| {
                    Updated::aggregated(stored, &*initializer, |so_far| aggregator(key, value, so_far))
                };
                How::Time(shape, Arc::new(update))
            }
            Begin::Sessions(windows, initializer, merger) => {
                How::Sessions(windows, Fold { initializer, aggregator, merger })
            }
        };
        table.add(self.graph(), name, parent, materialized, how)
    }
}

impl<K: Data, V: Data> KGroupedStream<K, V> {
    /// Begins an aggregation of several grouped streams into one table.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let returns = builder.stream("returns", Consumed::<String, String>::default());
    /// let balance = orders
    ///     .group_by_key(Grouped::default())
    ///     .cogroup(|_, _, n: i64| n + 1)
    ///     .cogroup(&returns.group_by_key(Grouped::default()), |_, _, n| n - 1)
    ///     .aggregate(|| 0, Materialized::default().values());
    /// balance.to_stream().to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1), ("returns", "a", "x", 2)], "out")?;
    /// assert_eq!(results, [("a".into(), 1), ("a".into(), 2), ("a".into(), 1)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn cogroup<A: Data>(
        &self,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
    ) -> CogroupedKStream<K, A> {
        self.cogroup_with(move |k, v, a| a.map(|a| aggregator(k, v, a)))
    }

    /// As [`cogroup`](Self::cogroup), where `None` is "no row".
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let returns = builder.stream("returns", Consumed::<String, String>::default());
    /// let balance = orders
    ///     .group_by_key(Grouped::default())
    ///     .cogroup_with(|_, _, n: Option<i64>| Some(n? + 1))
    ///     .cogroup_with(&returns.group_by_key(Grouped::default()), |_, _, n| Some(n? - 1).filter(|n| *n != 0))
    ///     .aggregate_with(|| Some(0), Materialized::memory("balance").values());
    /// balance.to_stream().to("out", Produced::default());
    /// let results = results::<String, Option<i64>>(builder.build()?, &[("orders", "a", "x", 0), ("returns", "a", "x", 1)], "out")?;
    /// assert_eq!(results, [("a".into(), Some(1)), ("a".into(), None)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn cogroup_with<A: Data>(
        &self,
        aggregator: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
    ) -> CogroupedKStream<K, A> {
        CogroupedKStream { members: Vec::new() }.cogroup_with(self, aggregator)
    }
}

impl<K: Data, A: Data> CogroupedKStream<K, A> {
    /// Adds a grouped stream with an aggregator of its own.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let returns = builder.stream("returns", Consumed::<String, String>::default());
    /// let balance = orders
    ///     .group_by_key(Grouped::default())
    ///     .cogroup(|_, _, n: i64| n + 1)
    ///     .cogroup(&returns.group_by_key(Grouped::default()), |_, _, n| n - 1)
    ///     .aggregate(|| 0, Materialized::default().values());
    /// balance.to_stream().to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1), ("returns", "a", "x", 2)], "out")?;
    /// assert_eq!(results, [("a".into(), 1), ("a".into(), 2), ("a".into(), 1)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn cogroup<V: Data>(
        self,
        grouped: &KGroupedStream<K, V>,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
    ) -> Self {
        self.cogroup_with(grouped, move |k, v, a| a.map(|a| aggregator(k, v, a)))
    }

    /// As [`cogroup`](Self::cogroup), where `None` is "no row".
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let returns = builder.stream("returns", Consumed::<String, String>::default());
    /// let balance = orders
    ///     .group_by_key(Grouped::default())
    ///     .cogroup_with(|_, _, n: Option<i64>| Some(n? + 1))
    ///     .cogroup_with(&returns.group_by_key(Grouped::default()), |_, _, n| Some(n? - 1).filter(|n| *n != 0))
    ///     .aggregate_with(|| Some(0), Materialized::memory("balance").values());
    /// balance.to_stream().to("out", Produced::default());
    /// let results = results::<String, Option<i64>>(builder.build()?, &[("orders", "a", "x", 0), ("returns", "a", "x", 1)], "out")?;
    /// assert_eq!(results, [("a".into(), Some(1)), ("a".into(), None)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn cogroup_with<V: Data>(
        mut self,
        grouped: &KGroupedStream<K, V>,
        aggregator: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
    ) -> Self {
        self.members.push(Rc::new(Typed { grouped: grouped.clone(), aggregator: Arc::new(aggregator) }));
        self
    }

    /// Aggregates the records of all streams into one table, whose rows begin as `initializer` says.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let returns = builder.stream("returns", Consumed::<String, String>::default());
    /// let balance = orders
    ///     .group_by_key(Grouped::default())
    ///     .cogroup(|_, _, n: i64| n + 1)
    ///     .cogroup(&returns.group_by_key(Grouped::default()), |_, _, n| n - 1)
    ///     .aggregate(|| 0, Materialized::default().values());
    /// balance.to_stream().to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1), ("returns", "a", "x", 2)], "out")?;
    /// assert_eq!(results, [("a".into(), 1), ("a".into(), 2), ("a".into(), 1)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn aggregate(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        self.aggregate_with(move || Some(initializer()), materialized)
    }

    /// As [`aggregate`](Self::aggregate), where `None` is "no row".
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let returns = builder.stream("returns", Consumed::<String, String>::default());
    /// let balance = orders
    ///     .group_by_key(Grouped::default())
    ///     .cogroup_with(|_, _, n: Option<i64>| Some(n? + 1))
    ///     .cogroup_with(&returns.group_by_key(Grouped::default()), |_, _, n| Some(n? - 1).filter(|n| *n != 0))
    ///     .aggregate_with(|| Some(0), Materialized::memory("balance").values());
    /// balance.to_stream().to("out", Produced::default());
    /// let results = results::<String, Option<i64>>(builder.build()?, &[("orders", "a", "x", 0), ("returns", "a", "x", 1)], "out")?;
    /// assert_eq!(results, [("a".into(), Some(1)), ("a".into(), None)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn aggregate_with(
        &self,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        let initializer: Initializer<A> = Arc::new(initializer);
        let graph = self.members[0].graph();
        let store = store_name(graph, &materialized, "COGROUPKSTREAM-AGGREGATE");
        let parents = self.parents(&store);
        let key = self.members.iter().find_map(|member| member.key());
        let Some(table) = stored_table(graph, &store, &materialized, key) else {
            return unknown_serdes(graph, parents[0], parents);
        };
        let versioned = Some(materialized.history_ms.is_some());
        let mut nodes = Vec::new();
        for (i, (member, parent)) in self.members.iter().zip(&parents).enumerate() {
            let name = self.node_name(&materialized, &format!("-cogroup-agg-{i}"), "COGROUPKSTREAM-AGGREGATE");
            // The first one makes the store.
            let store = (i == 0).then(|| materialized.clone());
            nodes.push(member.aggregate(name, *parent, &table, store, initializer.clone()));
        }
        let name = self.node_name(&materialized, "-cogroup-merge", "COGROUPKSTREAM-MERGE");
        let node = merge::<K, A>(graph, name, nodes, versioned);
        table_of(graph, node, parents, table)
    }

    /// The nodes that the members get their records from: their partitions must agree.
    pub(crate) fn parents(&self, store: &str) -> Vec<GraphId> {
        let (mut parents, mut sources) = (Vec::new(), Vec::new());
        for member in &self.members {
            let (parent, above) = member.parent(store);
            parents.push(parent);
            sources.extend(above);
        }
        self.members[0].graph().copartition(sources);
        parents
    }

    /// The name of one of the operator's nodes: the given one with a suffix, or a generated one.
    pub(crate) fn node_name<W>(&self, materialized: &Materialized<W, A>, suffix: &str, prefix: &str) -> String {
        let given = materialized.operator.as_ref().map(|name| format!("{name}{suffix}"));
        self.members[0].graph().name_or(given.as_deref(), prefix)
    }
}

/// The node in which the changes of all members come together.
pub(crate) fn merge<K: Data, A: Data>(
    graph: &super::graph::Graph,
    name: String,
    parents: Vec<GraphId>,
    versioned: Option<bool>,
) -> GraphId {
    let write = |writer: &mut Writer, name: &str, parents: &[NodeId]| {
        writer.passing(name, parents, |_: &mut Build, out: Port<K, Change<A>>| out)
    };
    graph.add(GraphNode { name, parents, versioned, write: Some(Box::new(write)), ..GraphNode::default() })
}
