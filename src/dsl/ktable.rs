//! `KTable`: a table as a typed handle.

use super::{Graph, KStream};
use crate::operators::Port;
use crate::operators::table_source::{TableSource, ToStream};
use crate::record::{Change, Data};
use crate::serdes::{Optional, SerdeRef};
use crate::state::StoreSpec;
use crate::topology::{Build, NodeId};
use std::sync::Arc;

/// A table: for every key its newest value. Made by [`StreamsBuilder::table`](super::StreamsBuilder::table).
pub struct KTable<K, V> {
    pub(crate) graph: Graph,
    pub(crate) node: NodeId,
    pub(crate) store: StoreSpec,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    source_topic: String,
}

impl<K, V> Clone for KTable<K, V> {
    fn clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            node: self.node,
            store: self.store.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            source_topic: self.source_topic.clone(),
        }
    }
}

impl<K: Data, V: Data> KTable<K, V> {
    pub(super) fn source(
        graph: Graph,
        parent: NodeId,
        name: String,
        store: StoreSpec,
        topic: &str,
        key: SerdeRef<K>,
        value: SerdeRef<V>,
    ) -> Self {
        let (store_name, key_serde) = (store.name.clone(), key.clone());
        let row_serde: SerdeRef<Option<V>> = Arc::new(Optional(value.clone()));
        let make = move |build: &mut Build, out: Port<K, Change<V>>| {
            Box::new(TableSource {
                node: build.node.clone(),
                store: build.stores.get(&store_name).copied(),
                key: key_serde.clone(),
                value: row_serde.clone(),
                out,
                key_bytes: Vec::new(),
                value_bytes: Vec::new(),
            }) as Port<K, Option<V>>
        };
        let node = graph.processor(name, vec![parent], Vec::new(), make);
        Self { graph, node, store, key, value, source_topic: topic.into() }
    }

    /// Gives the table its store, if it has none yet; returns the store's name.
    pub(crate) fn materialize(&self) -> String {
        self.graph.add_store(self.store.clone(), self.node, &self.source_topic);
        self.store.name.clone()
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
        let make = |_: &mut Build, out: Port<K, Option<V>>| Box::new(ToStream { out }) as Port<K, Change<V>>;
        let node = self.graph.processor(name, vec![self.node], Vec::new(), make);
        KStream::new(self.graph.clone(), node)
    }
}
