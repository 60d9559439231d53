//! `KStream` joined with a table: `join`, `left_join`.

use super::graph::{GraphNode, Role};
use super::writer::Writer;
use super::{Joined, KStream, KTable};
use crate::operators::Port;
use crate::operators::stream_table_join::StreamTableJoin;
use crate::record::Data;
use crate::topology::{Build, NodeId};
use std::marker::PhantomData;
use std::sync::Arc;

impl<K: Data, V: Data> KStream<K, V> {
    /// Joins each record with the table's row of the same key; records without a row are left out.
    ///
    /// The topics must have the same number of partitions and the same partitioning, which is checked at start. A stream
    /// whose key was changed is repartitioned first.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// let names = builder.table("names", Consumed::<String, String>::default(), Materialized::rocksdb("names"));
    /// builder
    ///     .stream("visits", Consumed::<String, i64>::default())
    ///     .join(&names, |page, name| format!("{name} was on page {page}"))
    ///     .to("named-visits", Produced::default());
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn join<T: Data, R: Data>(
        &self,
        table: &KTable<K, T>,
        joiner: impl Fn(V, T) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.join_with(table, move |_, v, t| joiner(v, t), Joined::default())
    }

    /// As [`join`](Self::join); the joiner also gets the key, and `joined` says the rest.
    #[doc(alias = "ValueJoinerWithKey")]
    pub fn join_with<T: Data, R: Data>(
        &self,
        table: &KTable<K, T>,
        joiner: impl Fn(&K, V, T) -> R + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, R> {
        self.join_table(false, table, move |k, v, t| t.map(|t| joiner(k, v, t)), joined)
    }

    /// Joins each record with the table's row of the same key, or with `None` where there is no row.
    #[doc(alias = "leftJoin")]
    pub fn left_join<T: Data, R: Data>(
        &self,
        table: &KTable<K, T>,
        joiner: impl Fn(V, Option<T>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.left_join_with(table, move |_, v, t| joiner(v, t), Joined::default())
    }

    /// As [`left_join`](Self::left_join); the joiner also gets the key, and `joined` says the rest.
    pub fn left_join_with<T: Data, R: Data>(
        &self,
        table: &KTable<K, T>,
        joiner: impl Fn(&K, V, Option<T>) -> R + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, R> {
        self.join_table(true, table, move |k, v, t| Some(joiner(k, v, t)), joined)
    }

    fn join_table<T: Data, R: Data>(
        &self,
        left: bool,
        table: &KTable<K, T>,
        join: impl Fn(&K, V, Option<T>) -> Option<R> + Send + Sync + 'static,
        joined: Joined<K, V>,
    ) -> KStream<K, R> {
        let base = joined.name.clone().unwrap_or_else(|| self.name());
        let stream = self.repartitioned_for_join(&base, joined.key.clone(), joined.value.clone());
        self.graph.copartition(stream.sources.iter().chain(&table.sources).copied());
        let view = table.table.view();
        let prefix = if left { "KSTREAM-LEFTJOIN" } else { "KSTREAM-JOIN" };
        let name = self.graph.name_or(joined.name.as_deref(), prefix);
        let key = table.key.clone().or_else(|| stream.key.clone());
        let join = Arc::new(join);
        let stores = view.stores.clone();
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            let node = writer.processor(name, parents, move |build: &mut Build, out: Port<K, R>| {
                let join = join.clone();
                Box::new(StreamTableJoin {
                    node: build.node.clone(),
                    left,
                    table: (view.make)(build),
                    join: move |k: &K, v: V, t: Option<T>| join(k, v, t),
                    out,
                    values: PhantomData,
                }) as Port<K, V>
            });
            stores.iter().for_each(|store| writer.connect(node, store));
            node
        };
        let node = self.graph.add(GraphNode {
            name,
            parents: vec![stream.node],
            role: Role::Plain,
            null_keys_welcome: left,
            write: Some(Box::new(write)),
            ..GraphNode::default()
        });
        KStream::new(self.graph.clone(), node, stream.sources, (key, None))
    }
}
