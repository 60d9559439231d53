//! `GlobalKTable`, global stores, and joins of streams with them.

use super::graph::{Graph, GraphNode};
use super::ktable::{StoredTable, write_source};
use super::table_node::{Flag, TableNode};
use super::topics::Topics;
use super::topology_builder::write_keeper;
use super::writer::Writer;
use super::{Consumed, KStream, Materialized, StreamsBuilder, nullable, source};
use crate::config::Timestamps;
use crate::operators::Build;
use crate::operators::Port;
use crate::operators::process::Processor;
use crate::operators::source::TimestampsOf;
use crate::operators::store_views::StateStore;
use crate::operators::stream_global_join::StreamGlobalJoin;
use crate::record::Data;
use crate::state::Changelog;
use crate::topology::NodeId;
use std::marker::PhantomData;
use std::sync::Arc;

/// A table that every instance has whole: all partitions of its topic, read outside of the group and without regard to
/// time. Streams join it by any key, and need not be partitioned as it is.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// # let people = builder.global_table("people", Consumed::<String, String>::default(), Materialized::memory("people-store"));
/// orders.join_global(&people, |_, person| person.clone(), |_, name| name).to("out", Produced::default());
/// let results = results::<String, String>(builder.build()?, &[("people", "p", "Ada", 0), ("orders", "o1", "p", 1)], "out")?;
/// assert_eq!(results, [("o1".into(), "Ada".into())]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct GlobalKTable<K, V> {
    table: StoredTable<K, V>,
}

impl<K, V> Clone for GlobalKTable<K, V> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone() }
    }
}

impl<K, V> GlobalKTable<K, V> {
    /// The name of its store, which processors may read.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.global_table("people", Consumed::<String, String>::default(), Materialized::memory("people-store"));
    /// assert_eq!(people.store_name(), "people-store");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "queryableStoreName")]
    pub fn store_name(&self) -> &str {
        &self.table.store
    }
}

impl StreamsBuilder {
    /// Reads a topic as a table that every instance has whole. It is complete before the first record of a stream is
    /// processed; later changes come in their own time.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// let builder = StreamsBuilder::new();
    /// let countries =
    ///     builder.global_table("countries", Consumed::<String, String>::default(), Materialized::memory("countries"));
    /// builder
    ///     .stream("visits", Consumed::<String, String>::default())
    ///     .join_global(&countries, |_, code| code.clone(), |code, name| format!("{code}: {name}"))
    ///     .to("named-visits", Produced::default());
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "globalTable")]
    pub fn global_table<K: Data, V: Data>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
        materialized: Materialized<K, V>,
    ) -> GlobalKTable<K, V> {
        let store = materialized.name.clone();
        let store = store.unwrap_or_else(|| self.graph.next_name(&format!("{topic}-STATE-STORE")));
        let (source_name, name) = names(&self.graph, consumed.name.as_deref());
        let serdes = (
            materialized.key.clone().unwrap_or_else(|| consumed.key.clone()),
            materialized.value.clone().unwrap_or_else(|| consumed.value.clone()),
        );
        if materialized.history_ms.is_some() {
            self.graph.fail(
                crate::error::Error::new(crate::error::Kind::Topology, "a global table cannot be versioned")
                    .store(&store)
                    .hint("use Materialized::rocksdb or ::memory"),
            );
        }
        let table = StoredTable::new(store, serdes, Flag::default());
        let (written, topic) = (table.clone(), topic.to_string());
        let write = move |writer: &mut Writer, name: &str, _: &[NodeId]| {
            let topics = (&topic).selected();
            let source = source(writer, &source_name, topics, nullable(as_they_are(consumed)));
            let node = write_source(writer, name, source, &written);
            let mut spec = materialized.table_spec(&written.store, writer.defaults.engine);
            (spec.changelog, spec.cached) = (Changelog::None, false);
            writer.global_store(spec, node);
            writer.formats(&written.store, &written.key, &written.value);
            node
        };
        self.graph.add(GraphNode { name, write: Some(Box::new(write)), ..GraphNode::default() });
        GlobalKTable { table }
    }

    /// Adds a store that every instance has whole, filled from a topic by a processor of the user's own. Other processors
    /// read it when they are connected to it.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// use watersmeet::processor::{KeyValueStore, Processor, ProcessorContext};
    /// use watersmeet::serdes::DefaultSerde;
    ///
    /// struct Keep(KeyValueStore<String, i64>);
    /// impl Processor<String, i64, (), ()> for Keep {
    ///     fn process(&mut self, context: &mut ProcessorContext<'_, (), ()>, record: Record<String, i64>) -> Result {
    ///         self.0.put(context, &record.key, Some(&record.value))
    ///     }
    /// }
    ///
    /// let builder = StreamsBuilder::new();
    /// let limits = KeyValueStore::store("limits", String::serde(), i64::serde());
    /// builder.add_global_store(limits, "limits", Consumed::<String, i64>::default(), Keep);
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "addGlobalStore")]
    pub fn add_global_store<S: 'static, K: Data, V: Data, P>(
        &self,
        store: StateStore<S>,
        topic: &str,
        consumed: Consumed<K, V>,
        processor: impl Fn(S) -> P + Send + Sync + 'static,
    ) -> StateStore<S>
    where
        P: Processor<K, V, (), ()> + 'static,
    {
        let (source_name, name) = names(&self.graph, consumed.name.as_deref());
        let (added, topic) = (store.clone(), topic.to_string());
        let write = move |writer: &mut Writer, name: &str, _: &[NodeId]| {
            write_global_store(writer, (&source_name, name), &added, &topic, consumed, processor)
        };
        self.graph.add(GraphNode { name, write: Some(Box::new(write)), ..GraphNode::default() });
        store
    }
}

/// Writes a global store, with the source (the first name) and the processor (the second) that fill it.
pub(super) fn write_global_store<S: 'static, K: Data, V: Data, P>(
    writer: &mut Writer,
    (source_name, name): (&str, &str),
    store: &StateStore<S>,
    topic: &str,
    consumed: Consumed<K, V>,
    processor: impl Fn(S) -> P + Send + Sync + 'static,
) -> NodeId
where
    P: Processor<K, V, (), ()> + 'static,
{
    let source = source(writer, source_name, topic.selected(), as_they_are(consumed));
    let mut spec = writer.spec_of(store);
    (spec.changelog, spec.cached) = (Changelog::None, false);
    let node = write_keeper(writer, name, source, store, processor);
    writer.global_store(spec, node);
    node
}

/// The names of the source and of what is behind it.
fn names(graph: &Graph, given: Option<&str>) -> (String, String) {
    let source = graph.next_name("KSTREAM-SOURCE");
    let source = given.map_or(source, |name| format!("{name}-source"));
    (source, graph.name_or(given, "KTABLE-SOURCE"))
}

/// The records of a global store's topic have their own timestamps: no extractor is asked, as in Kafka Streams.
fn as_they_are<K, V>(consumed: Consumed<K, V>) -> Consumed<K, V> {
    Consumed { timestamps: TimestampsOf::Rule(Timestamps::SkipInvalid), ready_first: false, ..consumed }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Joins each record with the global table's row whose key `select` makes of it; records without a row are left out.
    ///
    /// Nothing is repartitioned. A selected key of `None` has no row.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let people = builder.global_table("people", Consumed::<String, String>::default(), Materialized::memory("people-store"));
    /// orders.join_global(&people, |_, person| person.clone(), |_, name| name).to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("people", "p", "Ada", 0), ("orders", "o1", "p", 1), ("orders", "o2", "q", 2)], "out")?;
    /// assert_eq!(results, [("o1".into(), "Ada".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn join_global<GK: Data, GV: Data, R: Data>(
        &self,
        table: &GlobalKTable<GK, GV>,
        select: impl Fn(&K, &V) -> GK + Send + Sync + 'static,
        joiner: impl Fn(V, GV) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.join_global_with(table, select, move |_, v, row| joiner(v, row), None)
    }

    /// As [`join_global`](Self::join_global); the joiner also gets the record's key, and the operator may have a name.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let people = builder.global_table("people", Consumed::<String, String>::default(), Materialized::memory("people-store"));
    /// orders
    ///     .join_global_with(&people, |_, person| person.clone(), |key, _, name| format!("{key} for {name}"), Some("join-people"))
    ///     .to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("people", "p", "Ada", 0), ("orders", "o1", "p", 1)], "out")?;
    /// assert_eq!(results, [("o1".into(), "o1 for Ada".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "ValueJoinerWithKey")]
    pub fn join_global_with<GK: Data, GV: Data, R: Data>(
        &self,
        table: &GlobalKTable<GK, GV>,
        select: impl Fn(&K, &V) -> GK + Send + Sync + 'static,
        joiner: impl Fn(&K, V, GV) -> R + Send + Sync + 'static,
        name: Option<&str>,
    ) -> KStream<K, R> {
        self.global_join(false, table, select, move |k, v, row| row.map(|row| joiner(k, v, row)), name)
    }

    /// Joins each record with the global table's row whose key `select` makes of it, or with `None` where there is none.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let people = builder.global_table("people", Consumed::<String, String>::default(), Materialized::memory("people-store"));
    /// orders
    ///     .left_join_global(&people, |_, person| person.clone(), |_, name| name.unwrap_or("nobody".into()))
    ///     .to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("people", "p", "Ada", 0), ("orders", "o1", "p", 1), ("orders", "o2", "q", 2)], "out")?;
    /// assert_eq!(results, [("o1".into(), "Ada".into()), ("o2".into(), "nobody".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn left_join_global<GK: Data, GV: Data, R: Data>(
        &self,
        table: &GlobalKTable<GK, GV>,
        select: impl Fn(&K, &V) -> GK + Send + Sync + 'static,
        joiner: impl Fn(V, Option<GV>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.left_join_global_with(table, select, move |_, v, row| joiner(v, row), None)
    }

    /// As [`left_join_global`](Self::left_join_global); the joiner also gets the record's key, and the operator may have a
    /// name.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let people = builder.global_table("people", Consumed::<String, String>::default(), Materialized::memory("people-store"));
    /// orders
    ///     .left_join_global_with(&people, |_, person| person.clone(), |key, _, name| format!("{key}: {name:?}"), None)
    ///     .to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "o2", "q", 2)], "out")?;
    /// assert_eq!(results, [("o2".into(), "o2: None".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn left_join_global_with<GK: Data, GV: Data, R: Data>(
        &self,
        table: &GlobalKTable<GK, GV>,
        select: impl Fn(&K, &V) -> GK + Send + Sync + 'static,
        joiner: impl Fn(&K, V, Option<GV>) -> R + Send + Sync + 'static,
        name: Option<&str>,
    ) -> KStream<K, R> {
        self.global_join(true, table, select, move |k, v, row| Some(joiner(k, v, row)), name)
    }

    fn global_join<GK: Data, GV: Data, R: Data>(
        &self,
        left: bool,
        table: &GlobalKTable<GK, GV>,
        select: impl Fn(&K, &V) -> GK + Send + Sync + 'static,
        join: impl Fn(&K, V, Option<GV>) -> Option<R> + Send + Sync + 'static,
        name: Option<&str>,
    ) -> KStream<K, R> {
        let view = table.table.view();
        // Kafka Streams has one prefix for both kinds.
        let name = self.graph.name_or(name, "KSTREAM-LEFTJOIN");
        let (select, join) = (Arc::new(select), Arc::new(join));
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            writer.processor(name, parents, move |build: &mut Build, out: Port<K, R>| {
                let (select, join) = (select.clone(), join.clone());
                Box::new(StreamGlobalJoin {
                    node: build.node.clone(),
                    left,
                    table: (view.make)(build),
                    select: move |k: &K, v: &V| select(k, v),
                    join: move |k: &K, v: V, row: Option<GV>| join(k, v, row),
                    out,
                    values: PhantomData,
                }) as Port<K, V>
            })
        };
        let (parents, write) = (vec![self.node], Some(Box::new(write) as _));
        let node = self.graph.add(GraphNode { name, parents, write, ..GraphNode::default() });
        let mut stream = KStream::new(self.graph.clone(), node, self.sources.clone(), (self.key.clone(), None));
        stream.repartition_required = self.repartition_required;
        stream
    }
}
