//! `KStream`: a stream as a typed handle, one short method per operator.

use super::graph::{Graph, GraphId, GraphNode, Role};
use super::repartition::Repartition;
use super::sinks::{write_dynamic_sink, write_sink};
use super::writer::Writer;
use super::{Produced, Repartitioned, TopicNameExtractor};
use crate::error::{Error, Kind};
use crate::operators::Build;
use crate::operators::filter::{Filter, FlattenValues};
use crate::operators::map::{Each, MapValues, TryMapValues};
use crate::operators::sink::Partitioning;
use crate::operators::{Cx, Port};
use crate::record::{Data, Record};
use crate::serdes::SerdeRef;
use crate::topology::NodeId;
use std::cell::RefCell;
use std::fmt::Display;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

/// The serdes that a stream's records were read with, as long as no operator has changed their types.
pub(crate) type Serdes<K, V> = (Option<SerdeRef<K>>, Option<SerdeRef<V>>);

/// A stream of records. Made by [`StreamsBuilder::stream`](super::StreamsBuilder::stream); every operator gives a new
/// handle and leaves this one usable, so that a stream can be read by several.
///
/// Closures run on every stream thread, each with its own clone of what they capture.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let large = orders.filter(|_, v| v.len() > 3);
/// large.to("out", Produced::default());
/// orders.to("copy", Produced::default());
/// let results = results::<String, String>(builder.build()?, &[("orders", "a", "tiny!", 0), ("orders", "b", "x", 1)], "out")?;
/// assert_eq!(results, [("a".into(), "tiny!".into())]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct KStream<K, V> {
    pub(crate) graph: Graph,
    pub(crate) node: GraphId,
    /// The sources that it comes from: what it is joined with must be partitioned alike.
    pub(crate) sources: Vec<GraphId>,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    /// An operator above changed the key: the stream has to be repartitioned before it is joined or grouped by key.
    pub(crate) repartition_required: bool,
    /// The repartition that a join made necessary: the next join takes it again.
    repartitioned: Rc<RefCell<Option<GraphId>>>,
    types: PhantomData<fn(K) -> V>,
}

impl<K, V> Clone for KStream<K, V> {
    fn clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            node: self.node,
            sources: self.sources.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            repartition_required: self.repartition_required,
            repartitioned: self.repartitioned.clone(),
            types: PhantomData,
        }
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    pub(crate) fn new(graph: Graph, node: GraphId, sources: Vec<GraphId>, (key, value): Serdes<K, V>) -> Self {
        let repartitioned = Rc::default();
        Self { graph, node, sources, key, value, repartition_required: false, repartitioned, types: PhantomData }
    }

    /// The name of its node.
    pub(crate) fn name(&self) -> String {
        self.graph.name(self.node)
    }

    /// The same stream as it comes out of another node.
    pub(crate) fn at(&self, node: GraphId) -> Self {
        Self { node, repartitioned: Rc::default(), ..self.clone() }
    }

    /// Adds an operator behind this stream.
    pub(crate) fn then<K2: Data, V2: Data>(
        &self,
        operator: &str,
        role: Role,
        serdes: Serdes<K2, V2>,
        make: impl Fn(&mut Build, Port<K2, V2>) -> Port<K, V> + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        let name = self.graph.next_name(&format!("KSTREAM-{operator}"));
        let changes_key = matches!(role, Role::KeyChanging);
        // Also who only looks at records sends new ones, as Kafka Streams' fixed-key processors do.
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| writer.processor(name, parents, make);
        let (parents, write) = (vec![self.node], Some(Box::new(write) as _));
        let node = self.graph.add(GraphNode { name, parents, role, write, ..GraphNode::default() });
        let stream = KStream::new(self.graph.clone(), node, self.sources.clone(), serdes);
        KStream { repartition_required: self.repartition_required || changes_key, ..stream }
    }

    /// Adds an operator that calls `each` with every record and the port behind it.
    fn each<K2: Data, V2: Data, F>(
        &self,
        operator: &str,
        role: Role,
        serdes: Serdes<K2, V2>,
        each: F,
    ) -> KStream<K2, V2>
    where
        F: Fn(Record<K, V>, &mut Cx, &mut Port<K2, V2>) -> crate::error::Result + Send + Sync + 'static,
    {
        let each = Arc::new(each);
        self.then(operator, role, serdes, move |_, out| {
            let each = each.clone();
            Box::new(Each { f: move |cx: &mut Cx, record, out: &mut Port<K2, V2>| each(record, cx, out), out })
        })
    }

    fn serdes(&self) -> Serdes<K, V> {
        (self.key.clone(), self.value.clone())
    }

    /// The serdes of a repartition topic: those given, else those that the stream was read with.
    pub(crate) fn repartition_serdes(
        &self,
        key: Option<SerdeRef<K>>,
        value: Option<SerdeRef<V>>,
    ) -> Option<(SerdeRef<K>, SerdeRef<V>)> {
        let serdes = key.or_else(|| self.key.clone()).zip(value.or_else(|| self.value.clone()));
        if serdes.is_none() {
            self.graph.fail(
                Error::new(
                    Kind::Topology,
                    "the stream has to be repartitioned, and the serdes of its key and value are not known",
                )
                .node(self.name())
                .hint(
                    "an operator above changed a type: give the serdes, for example with Grouped::with or Joined::with",
                ),
            );
        }
        serdes
    }

    /// This stream, sent through a repartition topic if an operator above changed the key.
    pub(crate) fn repartitioned_for_join(
        &self,
        base: &str,
        key: Option<SerdeRef<K>>,
        value: Option<SerdeRef<V>>,
    ) -> KStream<K, V> {
        if !self.repartition_required {
            return self.clone();
        }
        let Some((key, value)) = self.repartition_serdes(key, value) else { return self.clone() };
        let serdes = (Some(key.clone()), Some(value.clone()));
        // Made even where it is not used: its names take numbers, and Kafka Streams gives them out here.
        let repartition = Repartition::new(&self.graph, base, key, value, Partitioning::ByKey, None);
        let known = *self.repartitioned.borrow();
        let node = match known {
            Some(node) if self.name() == base => node,
            _ => repartition.add(&self.graph, self.node, true),
        };
        *self.repartitioned.borrow_mut() = Some(node);
        KStream::new(self.graph.clone(), node, vec![node], serdes)
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
        self.then("FILTER", Role::Plain, self.serdes(), move |_, out| {
            let keep = keep.clone();
            Box::new(Filter { keep: move |k: &K, v: &V| keep(k, v), out })
        })
    }

    /// Drops the records for which `drop` is true.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// orders.filter_not(|_, v| v == "test").to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "test", 0), ("orders", "b", "real", 0)], "out")?;
    /// assert_eq!(results, [("b".into(), "real".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "filterNot")]
    pub fn filter_not(&self, drop: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KStream<K, V> {
        self.filter(move |k, v| !drop(k, v))
    }

    /// Makes a new key and value of each record. The result counts as repartitioned by key; prefer
    /// [`map_values`](Self::map_values) where the key stays.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// orders.map(|k, v| (v, k)).to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("x".into(), "a".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn map<K2: Data, V2: Data>(&self, f: impl Fn(K, V) -> (K2, V2) + Send + Sync + 'static) -> KStream<K2, V2> {
        self.each("MAP", Role::KeyChanging, (None, None), move |r: Record<K, V>, cx, out: &mut Port<K2, V2>| {
            let (key, value) = f(r.key, r.value);
            out.push(cx, Record { key, value, timestamp_ms: r.timestamp_ms, headers: r.headers })
        })
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
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// orders.map_values_with_key(|k, v| format!("{k}:{v}")).to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("a".into(), "a:x".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "mapValues")]
    #[doc(alias = "ValueMapperWithKey")]
    pub fn map_values_with_key<W: Data>(&self, f: impl Fn(&K, V) -> W + Send + Sync + 'static) -> KStream<K, W> {
        let f = Arc::new(f);
        self.then("MAPVALUES", Role::ValueChanging, (self.key.clone(), None), move |_, out| {
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
        self.then("MAPVALUES", Role::ValueChanging, (self.key.clone(), None), move |build, out| {
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
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// orders
    ///     .flat_map(|k, v| v.split(',').map(|part| (part.to_string(), k.clone())).collect::<Vec<_>>())
    ///     .to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x,y", 0)], "out")?;
    /// assert_eq!(results, [("x".into(), "a".into()), ("y".into(), "a".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "flatMap")]
    pub fn flat_map<K2: Data, V2: Data, I: IntoIterator<Item = (K2, V2)>>(
        &self,
        f: impl Fn(K, V) -> I + Send + Sync + 'static,
    ) -> KStream<K2, V2> {
        self.each("FLATMAP", Role::KeyChanging, (None, None), move |r: Record<K, V>, cx, out: &mut Port<K2, V2>| {
            for (key, value) in f(r.key, r.value) {
                let headers = r.headers.clone();
                out.push(cx, Record { key, value, timestamp_ms: r.timestamp_ms, headers })?;
            }
            Ok(())
        })
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
        self.each(
            "FLATMAPVALUES",
            Role::ValueChanging,
            (self.key.clone(), None),
            move |r: Record<K, V>, cx, out: &mut Port<K, W>| {
                for value in f(r.value) {
                    let (key, headers) = (r.key.clone(), r.headers.clone());
                    out.push(cx, Record { key, value, timestamp_ms: r.timestamp_ms, headers })?;
                }
                Ok(())
            },
        )
    }

    /// Gives each record a new key, made of key and value.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// orders.select_key(|_, v| v.clone()).to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("x".into(), "x".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "selectKey")]
    pub fn select_key<K2: Data>(&self, f: impl Fn(&K, &V) -> K2 + Send + Sync + 'static) -> KStream<K2, V> {
        self.each(
            "KEY-SELECT",
            Role::KeyChanging,
            (None, self.value.clone()),
            move |r: Record<K, V>, cx, out: &mut Port<K2, V>| {
                let key = f(&r.key, &r.value);
                out.push(cx, r.with_key(key))
            },
        )
    }

    /// Looks at each record, and passes it on as it is.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// orders.peek(|k, v| println!("{k} ordered {v}")).to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("a".into(), "x".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn peek(&self, f: impl Fn(&K, &V) + Send + Sync + 'static) -> KStream<K, V> {
        self.each("PEEK", Role::Plain, self.serdes(), move |r: Record<K, V>, cx, out: &mut Port<K, V>| {
            f(&r.key, &r.value);
            out.push(cx, r)
        })
    }

    /// Looks at each record; the stream ends here.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// orders.for_each(|k, v| println!("{k} ordered {v}"));
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "foreach")]
    pub fn for_each(&self, f: impl Fn(&K, &V) + Send + Sync + 'static) {
        self.end_in("FOREACH", f);
    }

    /// Ends the stream in an operator that only looks.
    pub(super) fn end_in(&self, operator: &str, f: impl Fn(&K, &V) + Send + Sync + 'static) {
        self.each(operator, Role::Plain, self.serdes(), move |r: Record<K, V>, _, _: &mut Port<K, V>| {
            f(&r.key, &r.value);
            Ok(())
        });
    }

    /// Both streams in one; the order between them is that of the task's choice by timestamp.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// let web = builder.stream("web", Consumed::<String, String>::default());
    /// let app = builder.stream("app", Consumed::<String, String>::default());
    /// web.merge(&app).to("clicks", Produced::default());
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn merge(&self, other: &KStream<K, V>) -> KStream<K, V> {
        let name = self.graph.next_name("KSTREAM-MERGE");
        let write = |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            writer.passing(name, parents, |_: &mut Build, out: Port<K, V>| out)
        };
        let (parents, write) = (vec![self.node, other.node], Some(Box::new(write) as _));
        let node = self.graph.add(GraphNode { name, parents, role: Role::Merge, write, ..GraphNode::default() });
        let mut sources = self.sources.clone();
        sources.extend(other.sources.iter().filter(|source| !self.sources.contains(source)));
        let stream = KStream::new(self.graph.clone(), node, sources, (None, None));
        KStream { repartition_required: self.repartition_required || other.repartition_required, ..stream }
    }

    /// Sends the stream through a topic of the application's own, partitioned by key: what is behind it runs in tasks of
    /// its own, as many as the topic has partitions.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// # let stream = builder.stream("in", Consumed::<String, String>::default());
    /// stream.repartition(Repartitioned::default().named("by-customer").partitions(12)).to("out", Produced::default());
    /// assert!(builder.build()?.describe().contains("(topic: by-customer-repartition)"));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn repartition(&self, repartitioned: Repartitioned<K, V>) -> KStream<K, V> {
        let Repartitioned { name, key, value, partitions, partitioner } = repartitioned;
        let Some((key, value)) = self.repartition_serdes(key, value) else { return self.clone() };
        let base = name.unwrap_or_else(|| self.graph.next_name("KSTREAM-REPARTITION"));
        let serdes = (Some(key.clone()), Some(value.clone()));
        let node = Repartition::new(&self.graph, &base, key, value, partitioner.into(), partitions).add(
            &self.graph,
            self.node,
            false,
        );
        KStream::new(self.graph.clone(), node, vec![node], serdes)
    }

    /// Writes the stream to a topic, which must exist.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// orders.to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("a".into(), "x".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn to(&self, topic: &str, produced: Produced<K, V>) {
        let name = self.graph.name_or(produced.name.as_deref(), "KSTREAM-SINK");
        let topic = topic.to_string();
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            write_sink(writer, name, parents, topic, produced)
        };
        let (parents, write) = (vec![self.node], Some(Box::new(write) as _));
        self.graph.add(GraphNode { name, parents, write, ..GraphNode::default() });
    }

    /// Writes each record to the topic that `extractor` names for it; the topics must exist.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// # let stream = builder.stream("in", Consumed::<String, String>::default());
    /// let by_country = TopicNameExtractor::new("ByCountry", |country: &String, _: &String, _| format!("orders-{country}"));
    /// stream.to_dynamic(by_country, Produced::default());
    /// assert!(builder.build()?.describe().contains("(extractor class: ByCountry)"));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "to")]
    pub fn to_dynamic(&self, extractor: TopicNameExtractor<K, V>, produced: Produced<K, V>) {
        let name = self.graph.name_or(produced.name.as_deref(), "KSTREAM-SINK");
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            write_dynamic_sink(writer, name, parents, extractor, produced)
        };
        let (parents, write) = (vec![self.node], Some(Box::new(write) as _));
        self.graph.add(GraphNode { name, parents, write, ..GraphNode::default() });
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
        self.then("FILTER", Role::Plain, (self.key.clone(), None), |_, out| Box::new(FlattenValues { out }))
    }
}
