//! `KGroupedTable`: rows of a table brought together by a new key, and their aggregations.

use super::graph::{GraphId, GraphNode};
use super::grouped::{store_name, stored_table, table_of, unknown_serdes};
use super::writer::Writer;
use super::{Grouped, KTable, Materialized};
use crate::operators::Build;
use crate::operators::sink::{Encode, Partitioning};
use crate::operators::source::{Decode, TimestampsOf};
use crate::operators::table_aggregate::{Step, TableAggregate};
use crate::operators::table_group::{Mapper, TableGroup};
use crate::operators::{ErasedPort, Port, join_children};
use crate::record::{Change, Data};
use crate::serdes::change::Changes;
use crate::serdes::{DefaultSerde, SerdeRef};
use crate::topology::{Node, NodeId, NodeKind, SinkTopic, Source, TopicName};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// A table whose rows are brought together by a new key. Made by [`KTable::group_by`].
///
/// A change of a row leaves its old group and enters its new one, so every aggregation needs a way to take a value out
/// again.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
/// let by_value = people.group_by(|k, v| (v.clone(), k.clone()), Grouped::with(String::serde(), String::serde()));
/// by_value.count(Materialized::default()).to_stream().to("out", Produced::default());
/// let results = results::<String, i64>(builder.build()?, &[("people", "p", "Ada", 0), ("people", "q", "Ada", 1)], "out")?;
/// assert_eq!(results, [("Ada".into(), 1), ("Ada".into(), 2)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct KGroupedTable<K, V> {
    graph: super::graph::Graph,
    node: GraphId,
    grouped: Grouped<K, V>,
    repartitioned: Rc<RefCell<Option<GraphId>>>,
}

impl<K: Data, V: Data> KTable<K, V> {
    /// Brings the rows together by a new key.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// let city_of_person = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let people_per_city = city_of_person
    ///     .group_by(|person, city| (city.clone(), person.clone()), Grouped::keys().values())
    ///     .count(Materialized::rocksdb("people-per-city"));
    /// people_per_city.to_stream().to("people-per-city", Produced::default());
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "groupBy")]
    pub fn group_by<K2: Data + PartialEq, V2: Data>(
        &self,
        f: impl Fn(&K, &V) -> (K2, V2) + Send + Sync + 'static,
        grouped: Grouped<K2, V2>,
    ) -> KGroupedTable<K2, V2> {
        self.group_by_with(move |k, v| Some(f(k, v)), grouped)
    }

    /// As [`group_by`](Self::group_by); rows for which `f` gives `None` are in no group.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let grouped = people.group_by_with(|k, v| Some((v.clone(), k.clone())), Grouped::with(String::serde(), String::serde()));
    /// grouped.count(Materialized::default()).to_stream().to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("people", "p", "Ada", 0)], "out")?;
    /// assert_eq!(results, [("Ada".into(), 1)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn group_by_with<K2: Data + PartialEq, V2: Data>(
        &self,
        f: impl Fn(&K, &V) -> Option<(K2, V2)> + Send + Sync + 'static,
        grouped: Grouped<K2, V2>,
    ) -> KGroupedTable<K2, V2> {
        self.table.send_old_values(true);
        let name = self.graph.name_or(grouped.name.as_deref(), "KTABLE-SELECT");
        let mapper: Mapper<K, V, K2, V2> = Arc::new(f);
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            let versioned = writer.versioned_parents.iter().any(|versioned| *versioned);
            writer.processor(name, parents, move |build: &mut Build, out: Port<K2, Change<V2>>| {
                let (node, mapper) = (build.node.clone(), mapper.clone());
                Box::new(TableGroup { node, mapper, versioned, out }) as Port<K, Change<V>>
            })
        };
        let (parents, write) = (vec![self.node], Some(Box::new(write) as _));
        let node = self.graph.add(GraphNode { name, parents, write, ..GraphNode::default() });
        KGroupedTable { graph: self.graph.clone(), node, grouped, repartitioned: Rc::default() }
    }
}

impl<K: Data, V: Data> KGroupedTable<K, V> {
    /// Counts the rows of each group.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let by_value = people.group_by(|k, v| (v.clone(), k.clone()), Grouped::with(String::serde(), String::serde()));
    /// by_value.count(Materialized::memory("counts")).to_stream().to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("people", "p", "Ada", 0), ("people", "q", "Ada", 1)], "out")?;
    /// assert_eq!(results, [("Ada".into(), 1), ("Ada".into(), 2)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<K, i64> {
        let value = materialized.value.clone().or_else(|| Some(i64::serde()));
        self.count_with(|n| n, |n| *n, Materialized { value, ..materialized })
    }

    /// As [`count`](Self::count), into a type of the caller's: `make` makes it of a number, `number` is the number in it.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let by_value = people.group_by(|k, v| (v.clone(), k.clone()), Grouped::with(String::serde(), String::serde()));
    /// let counts = by_value.count_with(|n| n as i32, |n| i64::from(*n), Materialized::memory("counts").values());
    /// counts.to_stream().to("out", Produced::default());
    /// let results = results::<String, i32>(builder.build()?, &[("people", "p", "Ada", 0)], "out")?;
    /// assert_eq!(results, [("Ada".into(), 1)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn count_with<N: Data>(
        &self,
        make: impl Fn(i64) -> N + Send + Sync + 'static,
        number: impl Fn(&N) -> i64 + Send + Sync + 'static,
        materialized: Materialized<K, N>,
    ) -> KTable<K, N> {
        let counts = Arc::new((make, number));
        let (start, more, less) = (counts.clone(), counts.clone(), counts);
        self.aggregate_with(
            move || Some(start.0(0)),
            move |_, _, n| n.map(|n| more.0(more.1(&n) + 1)),
            move |_, _, n| n.map(|n| less.0(less.1(&n) - 1)),
            materialized,
        )
    }

    /// Combines the values of each group with each other: the first one as it is, every further one by `adder`; what is
    /// gone is taken out by `subtractor`.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let by_value = people.group_by(|k, v| (v.clone(), k.clone()), Grouped::with(String::serde(), String::serde()));
    /// let keys = by_value.reduce(|so_far, new| format!("{so_far}{new}"), |so_far, old| so_far.replace(old, ""), Materialized::default());
    /// keys.to_stream().to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("people", "p", "Ada", 0), ("people", "q", "Ada", 1)], "out")?;
    /// assert_eq!(results, [("Ada".into(), "p".into()), ("Ada".into(), "pq".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn reduce(
        &self,
        adder: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        subtractor: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        let value = materialized.value.clone().or_else(|| self.grouped.value.clone());
        self.reduce_with(
            |value| Some(value.clone()),
            move |a, b| Some(adder(a, b)),
            move |a, b| Some(subtractor(a, b)),
            Materialized { value, ..materialized },
        )
    }

    /// As [`reduce`](Self::reduce), into another type, and with rows that may end: `first` makes the row of a group's first
    /// value; a `None` is no row.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let by_value = people.group_by(|k, v| (v.clone(), k.clone()), Grouped::with(String::serde(), String::serde()));
    /// let keys = by_value.reduce_with(
    ///     |first| Some(first.len() as i64),
    ///     |so_far, new| Some(so_far + new.len() as i64),
    ///     |so_far, old| Some(so_far - old.len() as i64),
    ///     Materialized::default().values(),
    /// );
    /// keys.to_stream().to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("people", "p", "Ada", 0), ("people", "q", "Ada", 1)], "out")?;
    /// assert_eq!(results, [("Ada".into(), 1), ("Ada".into(), 2)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn reduce_with<A: Data>(
        &self,
        first: impl Fn(&V) -> Option<A> + Send + Sync + 'static,
        adder: impl Fn(&A, &V) -> Option<A> + Send + Sync + 'static,
        subtractor: impl Fn(&A, &V) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        self.aggregation(
            "REDUCE",
            || None,
            move |_, value: &V, so_far: Option<A>| match so_far {
                None => first(value),
                Some(so_far) => adder(&so_far, value),
            },
            move |_, value: &V, so_far: Option<A>| so_far.and_then(|so_far| subtractor(&so_far, value)),
            materialized,
        )
    }

    /// Folds the values of each group into one of another type; `subtractor` takes out what is gone.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let by_value = people.group_by(|k, v| (v.clone(), k.clone()), Grouped::with(String::serde(), String::serde()));
    /// let lengths = by_value.aggregate(|| 0, |_, v, n: i64| n + v.len() as i64, |_, v, n| n - v.len() as i64, Materialized::default().values());
    /// lengths.to_stream().to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("people", "p", "Ada", 0), ("people", "qq", "Ada", 1)], "out")?;
    /// assert_eq!(results, [("Ada".into(), 1), ("Ada".into(), 3)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn aggregate<A: Data>(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        adder: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        subtractor: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        self.aggregate_with(
            move || Some(initializer()),
            move |k, v, a| a.map(|a| adder(k, v, a)),
            move |k, v, a| a.map(|a| subtractor(k, v, a)),
            materialized,
        )
    }

    /// As [`aggregate`](Self::aggregate), where `None` is "no row".
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let by_value = people.group_by(|k, v| (v.clone(), k.clone()), Grouped::with(String::serde(), String::serde()));
    /// let lengths = by_value.aggregate_with(
    ///     || Some(0),
    ///     |_, v, n: Option<i64>| Some(n? + v.len() as i64),
    ///     |_, v, n| Some(n? - v.len() as i64),
    ///     Materialized::default().values(),
    /// );
    /// lengths.to_stream().to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("people", "p", "Ada", 0), ("people", "qq", "Ada", 1)], "out")?;
    /// assert_eq!(results, [("Ada".into(), 1), ("Ada".into(), 3)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn aggregate_with<A: Data>(
        &self,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        adder: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
        subtractor: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        self.aggregation("AGGREGATE", initializer, adder, subtractor, materialized)
    }

    fn aggregation<A: Data>(
        &self,
        operator: &str,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        adder: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
        subtractor: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<K, A> {
        let graph = &self.graph;
        // Kafka Streams names the stores of all three after the aggregate.
        let store = store_name(graph, &materialized, "KTABLE-AGGREGATE");
        let given = materialized.operator.as_deref();
        let (sink, source) = (graph.next_name("KSTREAM-SINK"), graph.next_name("KSTREAM-SOURCE"));
        let sink = given.map_or(sink, |name| format!("{name}-sink"));
        let source = given.map_or(source, |name| format!("{name}-source"));
        let name = graph.name_or(given, &format!("KTABLE-{operator}"));
        let serdes = self.grouped.key.clone().zip(self.grouped.value.clone());
        let table = stored_table(graph, &store, &materialized, self.grouped.key.clone());
        let (Some(serdes), Some(table)) = (serdes, table) else {
            graph.fail(
                crate::error::Error::new(crate::error::Kind::Topology, "the serdes of a grouped table are not known")
                    .store(&store)
                    .hint("give them with Grouped::with"),
            );
            return unknown_serdes(graph, self.node, vec![self.node]);
        };
        let parent = self.repartition(&store, sink, source, serdes);
        let versioned = Some(materialized.history_ms.is_some());
        let initializer: Arc<dyn Fn() -> Option<A> + Send + Sync> = Arc::new(initializer);
        let (adder, subtractor): (Step<K, V, A>, Step<K, V, A>) = (Arc::new(adder), Arc::new(subtractor));
        let written = table.clone();
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            let made = written.clone();
            let node = writer.processor(name, parents, move |build: &mut Build, out: Port<K, Change<A>>| {
                Box::new(TableAggregate {
                    node: build.node.clone(),
                    initializer: initializer.clone(),
                    adder: adder.clone(),
                    subtractor: subtractor.clone(),
                    table: made.writer(build, out),
                }) as Port<K, Change<V>>
            });
            writer.store(materialized.table_spec(&written.store, writer.defaults.engine), &[node]);
            writer.formats(&written.store, &written.key, &written.value);
            node
        };
        let (parents, write) = (vec![parent], Some(Box::new(write) as _));
        let node = graph.add(GraphNode { name, parents, versioned, write, ..GraphNode::default() });
        table_of(graph, node, vec![parent], table)
    }

    /// The repartition topic of changes, and the two nodes around it. Unlike a stream's it has no filter.
    fn repartition(&self, store: &str, sink: String, source: String, serdes: (SerdeRef<K>, SerdeRef<V>)) -> GraphId {
        let base = self.grouped.name.as_deref();
        let known = *self.repartitioned.borrow();
        if let (Some(node), Some(_)) = (known, base) {
            return node;
        }
        let topic = format!("{}-repartition", base.unwrap_or(store));
        let (key, value) = serdes;
        let value: SerdeRef<Change<V>> = Arc::new(Changes(value));
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            writer.internal_topic(&topic, None);
            let topic_name = TopicName::Internal(topic);
            let (key_out, value_out, on_broker) = (key.clone(), value.clone(), topic_name.clone());
            writer.sink(&sink, parents, SinkTopic::Fixed(topic_name.clone()), move |build: &mut Build| {
                let topic = on_broker.on_broker(build.application_id);
                Box::new(Encode::new(build, &topic, key_out.clone(), value_out.clone(), Partitioning::ByKey))
                    as Port<K, Change<V>>
            });
            let make = move |build: &mut Build, children: Vec<ErasedPort>| {
                let out = join_children::<K, Change<V>>(children);
                Box::new(Decode::new(build.node.clone(), key.clone(), value.clone(), TimestampsOf::OF_REPARTITION, out))
                    as Box<dyn Source>
            };
            let kind = NodeKind::Source {
                topics: vec![topic_name],
                pattern: None,
                bootstrap: false,
                reset: None,
                make: Arc::new(make),
            };
            writer.add(Node { name: name.into(), kind, parents: Vec::new(), stores: Vec::new() })
        };
        let (parents, write) = (vec![self.node], Some(Box::new(write) as _));
        let node = self.graph.add(GraphNode { name: source, parents, write, ..GraphNode::default() });
        *self.repartitioned.borrow_mut() = Some(node);
        node
    }
}
