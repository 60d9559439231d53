//! `KStream` joined with a table: `join`, `left_join`.

use super::graph::{GraphNode, Role};
use super::writer::Writer;
use super::{Joined, KStream, KTable};
use crate::error::{Error, Kind};
use crate::operators::Build;
use crate::operators::Port;
use crate::operators::grace_join::{BufferTime, GraceBuffer, GraceJoin};
use crate::operators::stream_table_join::StreamTableJoin;
use crate::record::Data;
use crate::serdes::SerdeRef;
use crate::state::{Changelog, Engine, StoreKind, StoreSpec};
use crate::topology::NodeId;
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
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let joined = orders.join_with(&people, |key, order, name| format!("{key}:{order}:{name}"), Joined::named("with-people"));
    /// joined.to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("people", "p", "Ada", 0), ("orders", "p", "tea", 1)], "out")?;
    /// assert_eq!(results, [("p".into(), "p:tea:Ada".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
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
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// orders.left_join(&people, |order, name| format!("{order}:{}", name.is_some())).to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "p", "tea", 1)], "out")?;
    /// assert_eq!(results, [("p".into(), "tea:false".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "leftJoin")]
    pub fn left_join<T: Data, R: Data>(
        &self,
        table: &KTable<K, T>,
        joiner: impl Fn(V, Option<T>) -> R + Send + Sync + 'static,
    ) -> KStream<K, R> {
        self.left_join_with(table, move |_, v, t| joiner(v, t), Joined::default())
    }

    /// As [`left_join`](Self::left_join); the joiner also gets the key, and `joined` says the rest.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let joined = orders.left_join_with(&people, |key, order, name| format!("{key}:{order}:{name:?}"), Joined::default());
    /// joined.to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "p", "tea", 1)], "out")?;
    /// assert_eq!(results, [("p".into(), "p:tea:None".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
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
        let grace = joined.grace_ms.and_then(|grace_ms| {
            let serdes = (joined.key.or(stream.key.clone()), joined.value.or(stream.value.clone()));
            let (Some(key), Some(value)) = serdes else {
                let error =
                    Error::new(Kind::Topology, "records wait in a store, and it is not known how to write them");
                self.graph.fail(error.node(&name).hint("give the stream's serdes with Joined::with"));
                return None;
            };
            Some(Grace { grace_ms, key, value })
        });
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            let buffer = grace.as_ref().map(|grace| grace.buffer(name, writer, &stores));
            let waiting = grace.zip(buffer.as_ref().map(|buffer| buffer.name.clone()));
            let node = writer.processor(name, parents, move |build: &mut Build, out: Port<K, R>| {
                let join = join.clone();
                let join = StreamTableJoin {
                    node: build.node.clone(),
                    left,
                    table: (view.make)(build),
                    join: move |k: &K, v: V, t: Option<T>| join(k, v, t),
                    out,
                    values: PhantomData,
                };
                match &waiting {
                    None => Box::new(join) as Port<K, V>,
                    Some((grace, buffer)) => Box::new(GraceJoin { join, buffer: grace.open(build, buffer) }),
                }
            });
            match buffer {
                Some(buffer) => writer.store(buffer, &[node]),
                None => writer.reads_only(node),
            }
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

/// How long records wait, and how they are kept meanwhile.
struct Grace<K, V> {
    grace_ms: i64,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
}

impl<K: Data, V: Data> Grace<K, V> {
    /// The store in which the records of the node `name` wait; the tables that they wait for have to remember so long.
    fn buffer(&self, name: &str, writer: &mut Writer, tables: &[String]) -> StoreSpec {
        for table in tables {
            let what = match writer.store_kind(table) {
                Some(StoreKind::Versioned { history_ms }) if history_ms >= self.grace_ms => continue,
                Some(StoreKind::Versioned { history_ms }) => {
                    format!("history of {history_ms} ms is shorter than the grace period of {} ms", self.grace_ms)
                }
                _ => "a join with a grace period needs a versioned table".into(),
            };
            let error = Error::new(Kind::Topology, what).node(name).store(table);
            writer.fail(error.hint("use Materialized::versioned with a history of at least the grace period"));
        }
        StoreSpec {
            name: format!("{name}-Buffer"),
            engine: Engine::RocksDb,
            kind: StoreKind::KeyValue { timestamped: false },
            changelog: Changelog::Own { config: Vec::new() },
            cached: false,
        }
    }

    fn open(&self, build: &mut Build, store: &str) -> GraceBuffer<K, V> {
        let store = build.store(store);
        let (hook, observed_ms) = BufferTime::new(store);
        build.hook(store, hook);
        let (key, value) = (self.key.clone(), self.value.clone());
        GraceBuffer { store, key, value, grace_ms: self.grace_ms, observed_ms, sequence: 0 }
    }
}
