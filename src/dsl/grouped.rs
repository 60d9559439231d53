//! `KGroupedStream`: records that are brought together by key, and the aggregations of each key's records.

use super::graph::{Graph, GraphId, GraphNode, Role};
use super::ktable::StoredTable;
use super::repartition::Repartition;
use super::table_node::Flag;
use super::writer::Writer;
use super::{KStream, KTable, Materialized};
use crate::error::{Error, Kind};
use crate::operators::Build;
use crate::operators::Cx;
use crate::operators::Port;
use crate::operators::aggregate::{Aggregate, Updated};
use crate::operators::map::Each;
use crate::operators::sink::Partitioning;
use crate::operators::table_store::{TableStore, TableWriter};
use crate::record::{Change, Data, Record};
use crate::serdes::{DefaultSerde, SerdeRef};
use crate::state::StoreSpec;
use crate::topology::NodeId;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// What a grouping may be told: its name, and the serdes of the repartition topic that it may need.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let by_value = orders.group_by(|_, v| v.clone(), Grouped::with(String::serde(), String::serde()).named("by-value"));
/// by_value.count(Materialized::default()).to_stream().to("out", Produced::default());
/// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "b", "x", 1)], "out")?;
/// assert_eq!(results, [("x".into(), 1), ("x".into(), 2)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct Grouped<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
}

impl<K, V> Default for Grouped<K, V> {
    fn default() -> Self {
        Self { name: None, key: None, value: None }
    }
}

impl<K, V> Clone for Grouped<K, V> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), key: self.key.clone(), value: self.value.clone() }
    }
}

impl<K, V> Grouped<K, V> {
    /// With these serdes.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let grouped = Grouped::with(String::serde(), i64::serde());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key: Some(key), value: Some(value), ..Self::default() }
    }

    /// Keys with the serde of their type, values as they were read.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let grouped = Grouped::<String, Vec<i64>>::keys();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn keys() -> Self
    where
        K: DefaultSerde,
    {
        Self { key: Some(K::serde()), ..Self::default() }
    }

    /// Values with the serde of their type.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let grouped = Grouped::<String, String>::keys().values();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn values(mut self) -> Self
    where
        V: DefaultSerde,
    {
        self.value = Some(V::serde());
        self
    }

    /// Names the grouping: its node, and the repartition topic `<application.id>-<name>-repartition`.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let grouped = Grouped::<String, String>::default().named("by-customer");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// A stream whose records are brought together by key. Made by [`KStream::group_by_key`] and [`KStream::group_by`].
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let grouped = orders.group_by_key(Grouped::default());
/// grouped.count(Materialized::default()).to_stream().to("out", Produced::default());
/// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1)], "out")?;
/// assert_eq!(results, [("a".into(), 1), ("a".into(), 2)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct KGroupedStream<K, V> {
    pub(crate) stream: KStream<K, V>,
    pub(crate) grouped: Grouped<K, V>,
    /// The repartition that an aggregation made necessary; taken again by the next one where the user named it.
    repartitioned: Rc<RefCell<Option<GraphId>>>,
}

impl<K, V> Clone for KGroupedStream<K, V> {
    fn clone(&self) -> Self {
        Self { stream: self.stream.clone(), grouped: self.grouped.clone(), repartitioned: self.repartitioned.clone() }
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Brings the records together by their key. They are repartitioned only if an operator above changed the key.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// let clicks = builder.stream("clicks", Consumed::<String, String>::default());
    /// let per_page = clicks.group_by_key(Grouped::default()).count(Materialized::rocksdb("clicks-per-page"));
    /// per_page.to_stream().to("counts", Produced::default());
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "groupByKey")]
    pub fn group_by_key(&self, grouped: Grouped<K, V>) -> KGroupedStream<K, V> {
        let key = grouped.key.clone().or_else(|| self.key.clone());
        let value = grouped.value.clone().or_else(|| self.value.clone());
        let grouped = Grouped { name: grouped.name, key, value };
        KGroupedStream { stream: self.clone(), grouped, repartitioned: Rc::default() }
    }

    /// Brings the records together by a new key, made of key and value. They are repartitioned.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// let words = builder.stream("words", Consumed::<String, String>::default());
    /// let counts = words
    ///     .group_by(|_, word| word.to_lowercase(), Grouped::keys().named("by-word"))
    ///     .count(Materialized::rocksdb("counts"));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "groupBy")]
    pub fn group_by<K2: Data>(
        &self,
        f: impl Fn(&K, &V) -> K2 + Send + Sync + 'static,
        grouped: Grouped<K2, V>,
    ) -> KGroupedStream<K2, V> {
        let f = Arc::new(f);
        let stream = self.then("KEY-SELECT", Role::KeyChanging, (None, self.value.clone()), move |_, out| {
            let f = f.clone();
            Box::new(Each {
                f: move |cx: &mut Cx, r: Record<K, V>, out: &mut Port<K2, V>| {
                    let key = f(&r.key, &r.value);
                    out.push(cx, r.with_key(key))
                },
                out,
            })
        });
        let stream = match &grouped.name {
            Some(name) => stream.named(name),
            None => stream,
        };
        stream.group_by_key(grouped)
    }
}

impl<K: Data, V: Data> KGroupedStream<K, V> {
    pub(crate) fn graph(&self) -> &Graph {
        &self.stream.graph
    }

    /// The node that an aggregation into `store` gets its records from, and the sources that it comes from: behind a
    /// repartition where the key was changed.
    pub(crate) fn parent(&self, store: &str) -> (GraphId, Vec<GraphId>) {
        let stream = &self.stream;
        if !stream.repartition_required {
            return (stream.node, stream.sources.clone());
        }
        let serdes = stream.repartition_serdes(self.grouped.key.clone(), self.grouped.value.clone());
        let Some((key, value)) = serdes else { return (stream.node, stream.sources.clone()) };
        let base = self.grouped.name.as_deref().unwrap_or(store);
        let repartition = Repartition::new(&stream.graph, base, key, value, Partitioning::ByKey, None);
        let known = *self.repartitioned.borrow();
        let node = match known {
            Some(node) if self.grouped.name.is_some() => node,
            _ => repartition.add(&stream.graph, stream.node, true),
        };
        *self.repartitioned.borrow_mut() = Some(node);
        (node, vec![node])
    }

    /// Counts the records of each key.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let grouped = orders.group_by_key(Grouped::default());
    /// grouped.count(Materialized::memory("counts")).to_stream().to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1)], "out")?;
    /// assert_eq!(results, [("a".into(), 1), ("a".into(), 2)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<K, i64> {
        let (given, value) = (materialized.is_given(), materialized.value.clone().or_else(|| Some(i64::serde())));
        self.counted(given, |n| n, |n| *n, Materialized { value, ..materialized })
    }

    /// As [`count`](Self::count), into a type of the caller's: `make` makes it of a number, `number` is the number in it.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let grouped = orders.group_by_key(Grouped::default());
    /// let counts = grouped.count_with(|n| n as i32, |n| i64::from(*n), Materialized::memory("counts").values());
    /// counts.to_stream().to("out", Produced::default());
    /// let results = results::<String, i32>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("a".into(), 1)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn count_with<N: Data>(
        &self,
        make: impl Fn(i64) -> N + Send + Sync + 'static,
        number: impl Fn(&N) -> i64 + Send + Sync + 'static,
        materialized: Materialized<K, N>,
    ) -> KTable<K, N> {
        self.counted(materialized.is_given(), make, number, materialized)
    }

    fn counted<N: Data>(
        &self,
        given: bool,
        make: impl Fn(i64) -> N + Send + Sync + 'static,
        number: impl Fn(&N) -> i64 + Send + Sync + 'static,
        materialized: Materialized<K, N>,
    ) -> KTable<K, N> {
        if given {
            use_up_a_number(self.graph(), &materialized);
        }
        self.aggregation("AGGREGATE", materialized, move |_, _, count| Updated::counted(count, &make, &number))
    }

    /// Combines the values of each key with each other: the first one as it is, every further one by `reducer`.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let grouped = orders.group_by_key(Grouped::default());
    /// grouped.reduce(|so_far, new| format!("{so_far}+{new}"), Materialized::default()).to_stream().to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1)], "out")?;
    /// assert_eq!(results, [("a".into(), "x".into()), ("a".into(), "x+y".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn reduce(
        &self,
        reducer: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        let value = materialized.value.clone().or_else(|| self.grouped.value.clone());
        let materialized = Materialized { value, ..materialized };
        self.reduce_with(|value| Some(value.clone()), move |a, b| Some(reducer(a, b)), materialized)
    }

    /// As [`reduce`](Self::reduce), into another type, and with rows that may end: `first` makes the row of a key's first
    /// value, `reducer` gets the row so far and a value; a `None` is no row.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let grouped = orders.group_by_key(Grouped::default());
    /// let joined = grouped.reduce_with(
    ///     |first| Some(first.len() as i64),
    ///     |so_far, new| (new != "stop").then(|| so_far + new.len() as i64),
    ///     Materialized::default().values(),
    /// );
    /// joined.to_stream().to("out", Produced::default());
    /// let results = results::<String, Option<i64>>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "stop", 1)], "out")?;
    /// assert_eq!(results, [("a".into(), Some(1)), ("a".into(), None)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn reduce_with<A: Data>(
        &self,
        first: impl Fn(&V) -> Option<A> + Send + Sync + 'static,
        reducer: impl Fn(&A, &V) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        self.aggregation("REDUCE", materialized, move |_, value: &V, old| {
            Updated::reduced(old, value, &first, &reducer)
        })
    }

    /// Folds the records of each key into a value of another type, that begins as `initializer` says.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// let orders = builder.stream("orders", Consumed::<String, i64>::default());
    /// let sums = orders
    ///     .group_by_key(Grouped::default())
    ///     .aggregate(|| 0, |_customer, amount, sum| sum + amount, Materialized::rocksdb("sums").json());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn aggregate<A: Data>(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        let init = Arc::new(initializer);
        let again = init.clone();
        self.aggregate_with(
            move || Some(init()),
            move |k, v, a| Some(aggregator(k, v, a.unwrap_or_else(|| again()))),
            materialized,
        )
    }

    /// As [`aggregate`](Self::aggregate), where `None` is "no row": an aggregator that gives it deletes the row.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let grouped = orders.group_by_key(Grouped::default());
    /// let lengths = grouped.aggregate_with(|| Some(0), |_, v, n: Option<i64>| Some(n? + v.len() as i64), Materialized::default().values());
    /// lengths.to_stream().to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "xy", 0), ("orders", "a", "z", 1)], "out")?;
    /// assert_eq!(results, [("a".into(), 2), ("a".into(), 3)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn aggregate_with<A: Data>(
        &self,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        self.aggregation("AGGREGATE", materialized, move |key, value, stored| {
            Updated::aggregated(stored, &initializer, |so_far| aggregator(key, value, so_far))
        })
    }

    fn aggregation<A: Data>(
        &self,
        operator: &str,
        materialized: Materialized<K, A>,
        update: impl Fn(&K, &V, Option<A>) -> Updated<A> + Send + Sync + 'static,
    ) -> KTable<K, A> {
        let graph = self.graph();
        let store = store_name(graph, &materialized, &format!("KSTREAM-{operator}"));
        let name = graph.name_or(materialized.operator.as_deref(), &format!("KSTREAM-{operator}"));
        let (parent, sources) = self.parent(&store);
        let Some(table) = stored_table(graph, &store, &materialized, self.grouped.key.clone()) else {
            return unknown_serdes(graph, parent, sources);
        };
        let node = add_aggregate(graph, name, parent, &table, Some(materialized.clone()), Arc::new(update));
        table_of(graph, node, sources, table)
    }
}

/// Kafka Streams uses up a number for a count without a name, for compatibility with its older versions; so names agree.
/// Its sliding windows are younger than that.
pub(crate) fn use_up_a_number<K, N>(graph: &Graph, materialized: &Materialized<K, N>) {
    if materialized.name.is_none() {
        let _used_up = graph.next_name("KSTREAM-AGGREGATE-STATE-STORE");
    }
}

/// The store's name as given, or a generated one.
pub(crate) fn store_name<K, A>(graph: &Graph, materialized: &Materialized<K, A>, prefix: &str) -> String {
    materialized.name.clone().unwrap_or_else(|| graph.next_name(&format!("{prefix}-STATE-STORE")))
}

/// The table that an aggregation keeps; `None` (and an error at `build`) where a serde is not known.
pub(crate) fn stored_table<K: Data, A: Data>(
    graph: &Graph,
    store: &str,
    materialized: &Materialized<K, A>,
    key: Option<SerdeRef<K>>,
) -> Option<StoredTable<K, A>> {
    let serdes = materialized.key.clone().or(key).zip(materialized.value.clone());
    if serdes.is_none() {
        graph.fail(missing_serdes(store));
    }
    let (key, value) = serdes?;
    let (materialized, send_old) = (Flag::new(true), Flag::default());
    Some(StoredTable { store: store.into(), key, value, materialized, send_old })
}

/// The error of an aggregation whose rows cannot be written.
pub(crate) fn missing_serdes(store: &str) -> Error {
    Error::new(Kind::Topology, "the serdes of an aggregation's rows are not known")
        .store(store)
        .hint("give them with Materialized::serdes or Materialized::json; the key's also with Grouped::with")
}

/// A table to go on with when the graph has an error already, which `build` will tell.
pub(crate) fn unknown_serdes<K: Data, A: Data>(graph: &Graph, node: GraphId, sources: Vec<GraphId>) -> KTable<K, A> {
    struct Unknown;
    impl<A> crate::serdes::Serde<A> for Unknown {
        fn serialize(&self, _: &A, _: &mut Vec<u8>) -> Result<crate::serdes::Encoded, crate::serdes::SerdeError> {
            Ok(crate::serdes::Encoded::Null)
        }
        fn deserialize(&self, _: Option<&[u8]>) -> Result<A, crate::serdes::SerdeError> {
            Err(crate::serdes::SerdeError::Null)
        }
    }
    let (key, value): (SerdeRef<K>, SerdeRef<A>) = (Arc::new(Unknown), Arc::new(Unknown));
    let (materialized, send_old) = (Flag::default(), Flag::default());
    table_of(graph, node, sources, StoredTable { store: "unknown".into(), key, value, materialized, send_old })
}

/// The handle of an aggregation's table.
pub(crate) fn table_of<K: Data, A: Data>(
    graph: &Graph,
    node: GraphId,
    sources: Vec<GraphId>,
    table: StoredTable<K, A>,
) -> KTable<K, A> {
    let (key, value) = (Some(table.key.clone()), Some(table.value.clone()));
    KTable { graph: graph.clone(), node, sources, key, value, table: Rc::new(table) }
}

/// Adds the node that aggregates records into `table`. `materialized` says how its store is made; `None` where another
/// node makes it.
pub(crate) fn add_aggregate<K: Data, V: Data, A: Data>(
    graph: &Graph,
    name: String,
    parent: GraphId,
    table: &StoredTable<K, A>,
    materialized: Option<Materialized<K, A>>,
    update: Arc<dyn Fn(&K, &V, Option<A>) -> Updated<A> + Send + Sync>,
) -> GraphId {
    let table = table.clone();
    let versioned = materialized.as_ref().map(|m| m.history_ms.is_some());
    let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
        let made = table.clone();
        let node = writer.processor(name, parents, move |build: &mut Build, out: Port<K, Change<A>>| {
            let writer = made.writer(build, out);
            Box::new(Aggregate { node: build.node.clone(), update: update.clone(), table: writer }) as Port<K, V>
        });
        match materialized {
            Some(materialized) => {
                let spec: StoreSpec = materialized.table_spec(&table.store, writer.defaults.engine);
                writer.store(spec, &[node]);
                writer.formats(&table.store, &table.key, &table.value);
            }
            None => writer.connect(node, &table.store),
        }
        node
    };
    let (parents, write) = (vec![parent], Some(Box::new(write) as _));
    graph.add(GraphNode { name, parents, versioned, write, ..GraphNode::default() })
}

impl<K: Data, V: Data> StoredTable<K, V> {
    /// The store of one task with the port behind it.
    pub(crate) fn writer(&self, build: &mut Build, out: Port<K, Change<V>>) -> TableWriter<K, V> {
        let store = build.store(&self.store);
        let rows = TableStore::new(&build.node, store, self.key.clone(), self.value.clone());
        TableWriter::new(build, rows, self.send_old.get(), out)
    }
}
