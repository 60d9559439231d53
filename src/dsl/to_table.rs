//! A stream as a table: `to_table`.

use super::graph::GraphNode;
use super::ktable::{StoredTable, write_source};
use super::table_node::Flag;
use super::table_values::serdes_not_known;
use super::writer::Writer;
use super::{KStream, KTable, Materialized};
use crate::record::Data;
use crate::serdes::{Encoded, Optional, Serde, SerdeError, SerdeRef};
use crate::topology::NodeId;
use std::rc::Rc;
use std::sync::Arc;

/// The serde of what is there, of a stream whose values may be null.
struct Present<V>(SerdeRef<Option<V>>);

impl<V: Clone> Serde<V> for Present<V> {
    fn serialize(&self, value: &V, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        self.0.serialize(&Some(value.clone()), out)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<V, SerdeError> {
        self.0.deserialize(bytes)?.ok_or(SerdeError::Null)
    }
}

impl<K: Data, V: Data> KStream<K, Option<V>> {
    /// Makes a table of the stream: each record is the new row of its key, `None` deletes it. A stream whose key was
    /// changed is repartitioned first.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// let builder = StreamsBuilder::new();
    /// let visits = builder.stream("visits", Consumed::<String, Option<String>>::default());
    /// let last_page = visits.to_table();
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "toTable")]
    pub fn to_table(&self) -> KTable<K, V> {
        self.to_table_with(Materialized::default())
    }

    /// As [`to_table`](Self::to_table), with the store that `materialized` names.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let latest = orders.map_values(Some).to_table_with(Materialized::memory("latest").values());
    /// latest.to_stream().to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("a".into(), "x".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn to_table_with(&self, materialized: Materialized<K, V>) -> KTable<K, V> {
        let name = self.graph.name_or(materialized.operator.as_deref(), "KSTREAM-TOTABLE");
        let store = materialized.name.clone();
        let store = store.unwrap_or_else(|| self.graph.next_name("KSTREAM-TOTABLE-STATE-STORE"));
        let key = materialized.key.clone().or_else(|| self.key.clone());
        let inherited = self.value.clone().map(|value| Arc::new(Present(value)) as SerdeRef<V>);
        let value = materialized.value.clone().or(inherited);
        let nullable = materialized.value.clone().map(|value| Arc::new(Optional(value)) as SerdeRef<Option<V>>);
        let stream = self.repartitioned_for_join(&name, materialized.key.clone(), nullable);
        let table = OnDemand::new(store, key.clone(), value.clone(), &materialized);
        let written = table.clone();
        let versioned = Some(materialized.history_ms.is_some());
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            let node = write_source(writer, name, parents[0], &written.table);
            written.write_store(writer, node, &materialized);
            node
        };
        let (parents, write) = (vec![stream.node], Some(Box::new(write) as _));
        let node = self.graph.add(GraphNode { name, parents, versioned, write, ..GraphNode::default() });
        let (graph, sources) = (self.graph.clone(), stream.sources.clone());
        KTable { graph, node, sources, key, value, table: Rc::new(table.table) }
    }
}

/// A table that gets a store where it is named, or where somebody wants to read it: only then its serdes must be known.
#[derive(Clone)]
pub(super) struct OnDemand<K, V> {
    pub(super) table: StoredTable<K, V>,
    known: bool,
}

impl<K: Data, V: Data> OnDemand<K, V> {
    pub(super) fn new(
        store: String,
        key: Option<SerdeRef<K>>,
        value: Option<SerdeRef<V>>,
        materialized: &Materialized<K, V>,
    ) -> Self {
        let known = key.is_some() && value.is_some();
        let key = key.unwrap_or_else(|| Arc::new(Unknown));
        let value = value.unwrap_or_else(|| Arc::new(Unknown));
        let materialized = Flag::new(materialized.name.is_some());
        Self { table: StoredTable { store, key, value, materialized, send_old: Flag::default() }, known }
    }

    /// Writes its store, if it has one.
    pub(super) fn write_store(&self, writer: &mut Writer, node: NodeId, materialized: &Materialized<K, V>) {
        if !self.table.materialized.get() {
            return;
        }
        if !self.known {
            writer.fail(serdes_not_known());
        }
        let spec = materialized.table_spec(&self.table.store, writer.defaults.engine);
        writer.store(spec, &[node]);
        writer.formats(&self.table.store, &self.table.key, &self.table.value);
    }
}

/// Stands where a serde is not known; what would need it fails at build.
struct Unknown;

impl<T> Serde<T> for Unknown {
    fn serialize(&self, _: &T, _: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        Err(SerdeError::Invalid("has no serde".into()))
    }

    fn deserialize(&self, _: Option<&[u8]>) -> Result<T, SerdeError> {
        Err(SerdeError::Invalid("has no serde".into()))
    }
}
