//! `KStream`: a stream as a typed handle, one short method per operator.

use super::{Graph, Joined, KTable, Produced};
use crate::error::{Error, Kind};
use crate::operators::filter::{Filter, FlattenValues};
use crate::operators::map::{Each, MapValues, TryMapValues};
use crate::operators::sink::Encode;
use crate::operators::stream_table_join::StreamTableJoin;
use crate::operators::{Cx, Port};
use crate::record::{Data, Record};
use crate::topology::{Build, NodeId};
use std::fmt::Display;
use std::marker::PhantomData;
use std::sync::Arc;

/// A stream of records. Made by [`StreamsBuilder::stream`](super::StreamsBuilder::stream); every operator gives a new
/// handle and leaves this one usable, so that a stream can be read by several.
///
/// Closures run on every stream thread, each with its own clone of what they capture.
pub struct KStream<K, V> {
    graph: Graph,
    node: NodeId,
    /// The operator that changed the key: such a stream has to be repartitioned before it is joined by key.
    key_changed_by: Option<String>,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> Clone for KStream<K, V> {
    fn clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            node: self.node,
            key_changed_by: self.key_changed_by.clone(),
            types: PhantomData,
        }
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    pub(crate) fn new(graph: Graph, node: NodeId) -> Self {
        Self { graph, node, key_changed_by: None, types: PhantomData }
    }

    /// Adds an operator behind this stream.
    fn then<K2: Data, V2: Data>(
        &self,
        operator: &str,
        stores: Vec<String>,
        make: impl Fn(&mut Build, Port<K2, V2>) -> Port<K, V> + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let name = self.graph.next_name(&format!("KSTREAM-{operator}"));
        let node = self.graph.processor(name, vec![self.node], stores, make);
        KStream { graph: self.graph.clone(), node, key_changed_by: self.key_changed_by.clone(), types: PhantomData }
    }

    /// Adds an operator that calls `each` with every record and the port behind it.
    fn each<K2: Data, V2: Data, F>(&self, operator: &str, each: F) -> KStream<K2, V2>
    where
        F: Fn(Record<K, V>, &mut Cx, &mut Port<K2, V2>) -> crate::error::Result + Send + Sync + 'static,
    {
        let each = Arc::new(each);
        self.then(operator, Vec::new(), move |_, out| {
            let each = each.clone();
            Box::new(Each { f: move |cx: &mut Cx, record, out: &mut Port<K2, V2>| each(record, cx, out), out })
        })
    }

    fn key_changed(mut self, by: &str) -> Self {
        self.key_changed_by = Some(by.into());
        self
    }

    /// Names the operator that made this stream, in place of its generated name: names are part of store and topic names
    /// and of `describe()`, and generated ones shift when an operator is inserted before them.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// let builder = StreamsBuilder::new();
    /// let stream = builder.stream("in", Consumed::<String, i64>::default());
    /// stream.filter(|_, n| *n > 0).named("only-positive").to("out", Produced::default());
    /// assert!(builder.build()?.describe().contains("Processor: only-positive"));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "Named")]
    pub fn named(self, name: impl Into<String>) -> Self {
        self.graph.rename(self.node, name.into());
        self
    }

    /// Keeps the records for which `keep` is true.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// # let stream = builder.stream("in", Consumed::<String, i64>::default());
    /// let positive = stream.filter(|_key, value| *value > 0);
    /// ```
    pub fn filter(&self, keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KStream<K, V> {
        let keep = Arc::new(keep);
        self.then("FILTER", Vec::new(), move |_, out| {
            let keep = keep.clone();
            Box::new(Filter { keep: move |k: &K, v: &V| keep(k, v), out })
        })
    }

    /// Drops the records for which `drop` is true.
    #[doc(alias = "filterNot")]
    pub fn filter_not(&self, drop: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KStream<K, V> {
        self.filter(move |k, v| !drop(k, v))
    }

    /// Makes a new key and value of each record. The result counts as repartitioned by key; prefer
    /// [`map_values`](Self::map_values) where the key stays.
    pub fn map<K2: Data, V2: Data>(&self, f: impl Fn(K, V) -> (K2, V2) + Send + Sync + 'static) -> KStream<K2, V2> {
        self.each("MAP", move |r: Record<K, V>, cx, out: &mut Port<K2, V2>| {
            let (key, value) = f(r.key, r.value);
            out.push(cx, Record { key, value, timestamp_ms: r.timestamp_ms, headers: r.headers })
        })
        .key_changed("map")
    }

    /// Makes a new value of each record; the key stays.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// # let stream = builder.stream("in", Consumed::<String, i64>::default());
    /// let text = stream.map_values(|value| format!("{value} pieces"));
    /// ```
    #[doc(alias = "mapValues")]
    pub fn map_values<W: Data>(&self, f: impl Fn(V) -> W + Send + Sync + 'static) -> KStream<K, W> {
        self.map_values_with_key(move |_, v| f(v))
    }

    /// Makes a new value of each record's key and value; the key stays.
    #[doc(alias = "mapValues")]
    #[doc(alias = "ValueMapperWithKey")]
    pub fn map_values_with_key<W: Data>(&self, f: impl Fn(&K, V) -> W + Send + Sync + 'static) -> KStream<K, W> {
        let f = Arc::new(f);
        self.then("MAPVALUES", Vec::new(), move |_, out| {
            let f = f.clone();
            Box::new(MapValues { f: move |k: &K, v| f(k, v), out })
        })
    }

    /// Makes a new value of each record, or an error: then the processing policy (`errors.processing`) decides whether to
    /// stop, to skip the record, or to send it to the dead-letter topic. Source: KIP-1033.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// # let stream = builder.stream("in", Consumed::<String, String>::default());
    /// let numbers = stream.try_map_values(|text| text.parse::<i64>());
    /// ```
    pub fn try_map_values<W: Data, E: Display + 'static>(
        &self,
        f: impl Fn(V) -> Result<W, E> + Send + Sync + 'static,
    ) -> KStream<K, W> {
        let f = Arc::new(f);
        self.then("MAPVALUES", Vec::new(), move |build, out| {
            let f = f.clone();
            Box::new(TryMapValues {
                node: build.node.clone(),
                f: move |_: &K, v| f(v),
                out,
                error: PhantomData::<fn() -> E>,
            })
        })
    }

    /// Makes any number of records, with new keys, of each one.
    #[doc(alias = "flatMap")]
    pub fn flat_map<K2: Data, V2: Data, I: IntoIterator<Item = (K2, V2)>>(
        &self,
        f: impl Fn(K, V) -> I + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        self.each("FLATMAP", move |r: Record<K, V>, cx, out: &mut Port<K2, V2>| {
            for (key, value) in f(r.key, r.value) {
                let headers = r.headers.clone();
                out.push(cx, Record { key, value, timestamp_ms: r.timestamp_ms, headers })?;
            }
            Ok(())
        })
        .key_changed("flat_map")
    }

    /// Makes any number of values of each one, under the same key.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// # let stream = builder.stream("in", Consumed::<String, String>::default());
    /// let words = stream.flat_map_values(|text| text.split(' ').map(str::to_owned).collect::<Vec<_>>());
    /// ```
    #[doc(alias = "flatMapValues")]
    pub fn flat_map_values<W: Data, I: IntoIterator<Item = W>>(
        &self,
        f: impl Fn(V) -> I + Send + Sync + 'static,
    ) -> KStream<K, W> {
        self.each("FLATMAPVALUES", move |r: Record<K, V>, cx, out: &mut Port<K, W>| {
            for value in f(r.value) {
                let (key, headers) = (r.key.clone(), r.headers.clone());
                out.push(cx, Record { key, value, timestamp_ms: r.timestamp_ms, headers })?;
            }
            Ok(())
        })
    }

    /// Gives each record a new key, made of key and value.
    #[doc(alias = "selectKey")]
    pub fn select_key<K2: Data>(&self, f: impl Fn(&K, &V) -> K2 + Send + Sync + 'static) -> KStream<K2, V> {
        self.each("KEY-SELECT", move |r: Record<K, V>, cx, out: &mut Port<K2, V>| {
            let key = f(&r.key, &r.value);
            out.push(cx, r.with_key(key))
        })
        .key_changed("select_key")
    }

    /// Looks at each record, and passes it on as it is.
    pub fn peek(&self, f: impl Fn(&K, &V) + Send + Sync + 'static) -> KStream<K, V> {
        self.each("PEEK", move |r: Record<K, V>, cx, out: &mut Port<K, V>| {
            f(&r.key, &r.value);
            out.push(cx, r)
        })
    }

    /// Looks at each record; the stream ends here.
    #[doc(alias = "foreach")]
    pub fn for_each(&self, f: impl Fn(&K, &V) + Send + Sync + 'static) {
        self.each("FOREACH", move |r: Record<K, V>, _, _: &mut Port<K, V>| {
            f(&r.key, &r.value);
            Ok(())
        });
    }

    /// Joins each record with the table's row of the same key; records without a row are left out.
    ///
    /// The topics must have the same number of partitions and the same partitioning, which is checked at start.
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
        joined: Joined,
    ) -> KStream<K, R> {
        self.join_table("JOIN", false, table, move |k, v, t| t.map(|t| joiner(k, v, t)), joined)
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
        joined: Joined,
    ) -> KStream<K, R> {
        self.join_table("LEFTJOIN", true, table, move |k, v, t| Some(joiner(k, v, t)), joined)
    }

    fn join_table<T: Data, R: Data>(
        &self,
        operator: &str,
        left: bool,
        table: &KTable<K, T>,
        join: impl Fn(&K, V, Option<T>) -> Option<R> + Send + Sync + 'static,
        joined: Joined,
    ) -> KStream<K, R> {
        if let Some(by) = &self.key_changed_by {
            self.graph.fail(
                Error::new(
                    Kind::Topology,
                    format!(
                        "the stream's key was changed by {by}, so it would have to be \
                    repartitioned before it can be joined; this version cannot do that yet"
                    ),
                )
                .hint("write it to a topic with `to`, and join a stream of that topic"),
            );
        }
        let store = table.materialize();
        let (key, row, join) = (table.key.clone(), table.value.clone(), Arc::new(join));
        let name = store.clone();
        let stream = self.then(operator, vec![store], move |build, out| {
            let join = join.clone();
            Box::new(StreamTableJoin {
                node: build.node.clone(),
                left,
                store: build.store(&name),
                key: key.clone(),
                row: row.clone(),
                join: move |k: &K, v, t| join(k, v, t),
                out,
                key_bytes: Vec::new(),
            })
        });
        match joined.name {
            Some(name) => stream.named(name),
            None => stream,
        }
    }

    /// Writes the stream to a topic, which must exist.
    pub fn to(&self, topic: &str, produced: Produced<K, V>) {
        let name = self.graph.next_name("KSTREAM-SINK");
        let topic_name = topic.to_string();
        let Produced { key, value } = produced;
        self.graph.sink(name, self.node, topic, move |build| {
            Box::new(Encode {
                node: build.node.clone(),
                topic: build.outbox.topic(&topic_name),
                key: key.clone(),
                value: value.clone(),
            })
        });
    }
}

impl<K: Data, V: Data> KStream<K, Option<V>> {
    /// Leaves nulls out: a stream of `Option<V>` becomes one of `V`.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// # let stream = builder.stream("in", Consumed::<String, Option<String>>::default());
    /// let there: KStream<String, String> = stream.flatten_values();
    /// ```
    pub fn flatten_values(&self) -> KStream<K, V> {
        self.then("FILTER", Vec::new(), |_, out| Box::new(FlattenValues { out }))
    }
}
