//! `KTable`: a table as a typed handle.

use super::graph::{Graph, GraphId, GraphNode};
use super::table_node::{Flag, TableNode, View};
use super::topics::Topics;
use super::writer::Writer;
use super::{Consumed, KStream, Materialized, nullable, source};
use crate::operators::Build;
use crate::operators::Port;
use crate::operators::getter::Getter;
use crate::operators::table_source::{TableSource, ToStream};
use crate::operators::table_store::{TableOut, TableStore};
use crate::record::{Change, Data};
use crate::serdes::SerdeRef;
use crate::topology::NodeId;
use std::rc::Rc;
use std::sync::Arc;

/// A table: for every key its newest value. Made by [`StreamsBuilder::table`](super::StreamsBuilder::table), by
/// aggregations, and by operators on other tables.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
/// people.filter(|_, name| name != "nobody").to_stream().to("out", Produced::default());
/// let results = results::<String, String>(builder.build()?, &[("people", "p", "Ada", 0)], "out")?;
/// assert_eq!(results, [("p".into(), "Ada".into())]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct KTable<K, V> {
    pub(crate) graph: Graph,
    pub(crate) node: GraphId,
    /// The sources that it comes from: what it is joined with must be partitioned alike.
    pub(crate) sources: Vec<GraphId>,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    pub(crate) table: Rc<dyn TableNode<K, V>>,
}

impl<K, V> Clone for KTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            node: self.node,
            sources: self.sources.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            table: self.table.clone(),
        }
    }
}

/// A table whose node keeps the rows of what it gets in a store of its own, where somebody wants them.
pub(crate) struct StoredTable<K, V> {
    pub(crate) store: String,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    /// Whether there is a store: asked for by name, or by a reader.
    pub(crate) materialized: Flag,
    pub(crate) send_old: Flag,
}

impl<K, V> StoredTable<K, V> {
    /// A table with a store.
    pub(crate) fn new(store: String, (key, value): (SerdeRef<K>, SerdeRef<V>), send_old: Flag) -> Self {
        Self { store, key, value, materialized: Flag::new(true), send_old }
    }
}

impl<K: Data, V: Data> StoredTable<K, V> {
    /// The typed store of one task, where there is one.
    pub(crate) fn rows(&self, build: &mut Build) -> Option<TableStore<K, V>> {
        let store = build.stores.get(&self.store).copied()?;
        Some(TableStore::new(&build.node, store, self.key.clone(), self.value.clone()))
    }
}

impl<K, V> Clone for StoredTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            materialized: self.materialized.clone(),
            send_old: self.send_old.clone(),
        }
    }
}

impl<K: Data, V: Data> TableNode<K, V> for StoredTable<K, V> {
    fn view(&self) -> View<K, V> {
        self.materialized.set();
        let (store, key, value) = (self.store.clone(), self.key.clone(), self.value.clone());
        View {
            stores: vec![self.store.clone()],
            make: Arc::new(move |build| {
                let rows = TableStore::new(&build.node, build.store(&store), key.clone(), value.clone());
                Box::new(rows) as Box<dyn Getter<K, V>>
            }),
        }
    }

    fn send_old_values(&self, force: bool) -> bool {
        if !force && !self.materialized.get() {
            return false;
        }
        self.materialized.set();
        self.send_old.set();
        true
    }
}

impl<K: Data, V: Data> KTable<K, V> {
    pub(super) fn of_topic(
        graph: &Graph,
        topic: &str,
        consumed: Consumed<K, V>,
        materialized: Materialized<K, V>,
    ) -> Self {
        let store = materialized.name.clone();
        let store = store.unwrap_or_else(|| graph.next_name(&format!("{topic}-STATE-STORE")));
        let source_name = graph.next_name("KSTREAM-SOURCE");
        let source_name = consumed.name.as_ref().map_or(source_name, |name| format!("{name}-source"));
        let name = graph.name_or(consumed.name.as_deref(), "KTABLE-SOURCE");
        let (key, value) = (consumed.key.clone(), consumed.value.clone());
        let table = StoredTable {
            store,
            key: materialized.key.clone().unwrap_or_else(|| key.clone()),
            value: materialized.value.clone().unwrap_or_else(|| value.clone()),
            materialized: Flag::new(materialized.name.is_some()),
            send_old: Flag::default(),
        };
        let (written, topic) = (table.clone(), topic.to_string());
        let versioned = Some(materialized.history_ms.is_some());
        let write = move |writer: &mut Writer, name: &str, _: &[NodeId]| {
            let source = source(writer, &source_name, (&topic).selected(), nullable(consumed));
            let node = write_source(writer, name, source, &written);
            if materialized.name.is_none() {
                writer.unnamed_store(&written.store);
            }
            if written.materialized.get() {
                let mut spec = materialized.table_spec(&written.store, writer.defaults.engine);
                spec.changelog = writer.source_changelog(spec.changelog, &topic);
                writer.store(spec, &[node]);
                writer.formats(&written.store, &written.key, &written.value);
            }
            node
        };
        let node = graph.add(GraphNode { name, versioned, write: Some(Box::new(write)), ..GraphNode::default() });
        Self {
            graph: graph.clone(),
            node,
            sources: vec![node],
            key: Some(key),
            value: Some(value),
            table: Rc::new(table),
        }
    }

    /// The table's changes as a stream; a deleted row is `None`.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .table("products", Consumed::<String, String>::default(), Materialized::default())
    ///     .to_stream()
    ///     .to("changes", Produced::default());
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "toStream")]
    pub fn to_stream(&self) -> KStream<K, Option<V>> {
        let name = self.graph.next_name("KTABLE-TOSTREAM");
        let write = |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            let make = |_: &mut Build, out: Port<K, Option<V>>| Box::new(ToStream { out }) as Port<K, Change<V>>;
            writer.processor(name, parents, make)
        };
        let (parents, write) = (vec![self.node], Some(Box::new(write) as _));
        let node = self.graph.add(GraphNode { name, parents, write, ..GraphNode::default() });
        let value = self.value.clone().map(|value| Arc::new(crate::serdes::Optional(value)) as SerdeRef<Option<V>>);
        KStream::new(self.graph.clone(), node, self.sources.clone(), (self.key.clone(), value))
    }

    /// Names the operator that made this table, in place of its generated name.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// people.filter(|_, name| name != "nobody").named("somebody").to_stream().to("out", Produced::default());
    /// assert!(builder.build()?.describe().contains("Processor: somebody"));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "Named")]
    pub fn named(self, name: impl Into<String>) -> Self {
        self.graph.rename(self.node, name.into());
        self
    }
}

/// Writes the node that turns records into changes, and keeps them where `table` is materialized.
pub(super) fn write_source<K: Data, V: Data>(
    writer: &mut Writer,
    name: &str,
    parent: NodeId,
    table: &StoredTable<K, V>,
) -> NodeId {
    let table = table.clone();
    writer.processor(name, &[parent], move |build: &mut Build, out: Port<K, Change<V>>| {
        let rows = table.rows(build);
        let out = TableOut::new(build, rows, table.send_old.get(), out);
        Box::new(TableSource { node: build.node.clone(), out }) as Port<K, Option<V>>
    })
}
