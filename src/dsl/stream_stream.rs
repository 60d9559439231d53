//! `KStream` joined with another stream: `join_stream`, `left_join_stream`, `outer_join_stream`.

use super::KStream;
use super::graph::{GraphNode, Role, SelfJoin as SelfJoinMark};
use super::writer::Writer;
use crate::error::{Error, Kind};
use crate::operators::Build;
use crate::operators::Port;
use crate::operators::stream_stream_join::{JoinSide, JoinSpec, KeepForJoin, SelfJoin};
use crate::record::Data;
use crate::serdes::SerdeRef;
use crate::state::{Changelog, Engine, StoreKind, StoreSpec, WindowOrder};
use crate::topology::NodeId;
use crate::windows::JoinWindows;
use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

/// What a stream-stream join may be told: names, serdes, where the records wait.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// # let payments = builder.stream("payments", Consumed::<String, String>::default());
/// let joined = StreamJoined::default().named("paid").engine(watersmeet::state::Engine::Memory);
/// let windows = JoinWindows::of_time_difference(10);
/// orders.join_stream(&payments, |_, order, payment| format!("{order}+{payment}"), windows, joined).to("out", Produced::default());
/// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0), ("payments", "a", "y", 5), ("payments", "a", "z", 50)], "out")?;
/// assert_eq!(results, [("a".into(), "x+y".into())]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct StreamJoined<K, A, B> {
    name: Option<String>,
    store_name: Option<String>,
    key: Option<SerdeRef<K>>,
    value: Option<SerdeRef<A>>,
    other_value: Option<SerdeRef<B>>,
    keeping: Keeping,
}

/// Where a join's records are kept.
#[derive(Clone, Default)]
struct Keeping {
    engine: Option<Engine>,
    /// The stores of this and of the other stream that have a name and an engine of their own.
    this: Option<(String, Engine)>,
    other: Option<(String, Engine)>,
    logging_off: bool,
    topic_config: Vec<(String, String)>,
}

impl<K, A, B> Default for StreamJoined<K, A, B> {
    fn default() -> Self {
        Self { name: None, store_name: None, key: None, value: None, other_value: None, keeping: Keeping::default() }
    }
}

impl<K, A, B> StreamJoined<K, A, B> {
    /// With these serdes; without them those that the streams were read with are taken.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let joined = StreamJoined::with(String::serde(), String::serde(), i64::serde());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn with(key: SerdeRef<K>, value: SerdeRef<A>, other_value: SerdeRef<B>) -> Self {
        Self { key: Some(key), value: Some(value), other_value: Some(other_value), ..Self::default() }
    }

    /// Names the join's nodes: `<name>-this-windowed` and so on.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let joined = StreamJoined::<String, String, String>::default().named("paid");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Names the join's stores: `<name>-this-join-store` and so on.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let joined = StreamJoined::<String, String, String>::default().store_name("paid-store");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withStoreName")]
    pub fn store_name(mut self, name: impl Into<String>) -> Self {
        self.store_name = Some(name.into());
        self
    }

    /// Where the records are kept.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let joined = StreamJoined::<String, String, String>::default().engine(watersmeet::state::Engine::Memory);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn engine(mut self, engine: Engine) -> Self {
        self.keeping.engine = Some(engine);
        self
    }

    /// Keeps this stream's records in a store of this name, on an engine of its own. In a left or outer join those that wait
    /// for a partner are kept on the same engine, unless [`engine`](Self::engine) says otherwise.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let payments = builder.stream("payments", Consumed::<String, String>::default());
    /// let joined = StreamJoined::default().this_store("open-orders", watersmeet::state::Engine::Memory);
    /// let windows = JoinWindows::of_time_difference(10);
    /// orders.join_stream(&payments, |_, order, payment| format!("{order}+{payment}"), windows, joined).to("out", Produced::default());
    /// assert!(builder.build()?.describe().contains("(stores: [open-orders])"));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withThisStoreSupplier")]
    pub fn this_store(mut self, name: impl Into<String>, engine: Engine) -> Self {
        self.keeping.this = Some((name.into(), engine));
        self
    }

    /// Keeps the other stream's records in a store of this name, on an engine of its own.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let engine = watersmeet::state::Engine::Memory;
    /// let joined = StreamJoined::<String, String, String>::default().other_store("recent-payments", engine);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withOtherStoreSupplier")]
    pub fn other_store(mut self, name: impl Into<String>, engine: Engine) -> Self {
        self.keeping.other = Some((name.into(), engine));
        self
    }

    /// Without changelogs: what a machine loses finds no partners any more.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let joined = StreamJoined::<String, String, String>::default().without_changelog();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withLoggingDisabled")]
    pub fn without_changelog(mut self) -> Self {
        self.keeping.logging_off = true;
        self
    }

    /// Sets a topic setting of the changelogs over the built-in ones.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let joined = StreamJoined::<String, String, String>::default().changelog_config("segment.bytes", "1000000");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withLoggingEnabled")]
    pub fn changelog_config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.keeping.topic_config.push((key.into(), value.into()));
        self
    }
}

/// Makes a result of a key and the values of both sides, one of which may be missing.
type Join<K, A, B, R> = Arc<dyn Fn(&K, Option<&A>, Option<&B>) -> R + Send + Sync>;

/// Which sides' records go on alone when they find no partner.
#[derive(Clone, Copy)]
struct Outer {
    left: bool,
    right: bool,
}

impl<K: Data, A: Data> KStream<K, A> {
    /// Joins records of two streams that have the same key and lie in a window of time. Both streams must be partitioned
    /// alike; one whose key was changed is repartitioned first.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// use watersmeet::windows::JoinWindows;
    /// # let builder = StreamsBuilder::new();
    /// let shown = builder.stream("shown", Consumed::<String, String>::default());
    /// let clicked = builder.stream("clicked", Consumed::<String, String>::default());
    /// shown
    ///     .join_stream(
    ///         &clicked,
    ///         |_, ad, page| format!("{ad} on {page}"),
    ///         JoinWindows::of_time_difference(60_000),
    ///         StreamJoined::default(),
    ///     )
    ///     .to("hits", Produced::default());
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "join")]
    pub fn join_stream<B: Data, R: Data>(
        &self,
        other: &KStream<K, B>,
        joiner: impl Fn(&K, &A, &B) -> R + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, A, B>,
    ) -> KStream<K, R> {
        let join = move |key: &K, a: Option<&A>, b: Option<&B>| match (a, b) {
            (Some(a), Some(b)) => joiner(key, a, b),
            _ => unreachable!("an inner join has both values"),
        };
        self.join_streams(other, Outer { left: false, right: false }, Arc::new(join), windows, joined)
    }

    /// As [`join_stream`](Self::join_stream); a record of this stream that finds no partner goes on alone when its window is
    /// over.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let payments = builder.stream("payments", Consumed::<String, String>::default());
    /// let windows = JoinWindows::of_time_difference(10);
    /// orders
    ///     .left_join_stream(&payments, |_, order, payment| format!("{order}:{}", payment.is_some()), windows, StreamJoined::default())
    ///     .to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0), ("payments", "a", "y", 5)], "out")?;
    /// assert_eq!(results, [("a".into(), "x:true".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "leftJoin")]
    pub fn left_join_stream<B: Data, R: Data>(
        &self,
        other: &KStream<K, B>,
        joiner: impl Fn(&K, &A, Option<&B>) -> R + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, A, B>,
    ) -> KStream<K, R> {
        let join = move |key: &K, a: Option<&A>, b: Option<&B>| match a {
            Some(a) => joiner(key, a, b),
            None => unreachable!("a left join has the left value"),
        };
        self.join_streams(other, Outer { left: true, right: false }, Arc::new(join), windows, joined)
    }

    /// As [`join_stream`](Self::join_stream); a record of either stream that finds no partner goes on alone when its window
    /// is over.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// # let payments = builder.stream("payments", Consumed::<String, String>::default());
    /// let windows = JoinWindows::of_time_difference(10);
    /// orders
    ///     .outer_join_stream(
    ///         &payments,
    ///         |_, order, payment| format!("{}:{}", order.is_some(), payment.is_some()),
    ///         windows,
    ///         StreamJoined::default(),
    ///     )
    ///     .to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0), ("payments", "a", "y", 5)], "out")?;
    /// assert_eq!(results, [("a".into(), "true:true".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "outerJoin")]
    pub fn outer_join_stream<B: Data, R: Data>(
        &self,
        other: &KStream<K, B>,
        joiner: impl Fn(&K, Option<&A>, Option<&B>) -> R + Send + Sync + 'static,
        windows: JoinWindows,
        joined: StreamJoined<K, A, B>,
    ) -> KStream<K, R> {
        self.join_streams(other, Outer { left: true, right: true }, Arc::new(joiner), windows, joined)
    }

    fn join_streams<B: Data, R: Data>(
        &self,
        other: &KStream<K, B>,
        outer: Outer,
        join: Join<K, A, B, R>,
        windows: JoinWindows,
        joined: StreamJoined<K, A, B>,
    ) -> KStream<K, R> {
        let graph = self.graph.clone();
        if let Err(error) = windows.check() {
            graph.fail(error);
        }
        let base = |stream: String, suffix: &str| joined.name.as_ref().map_or(stream, |name| format!("{name}{suffix}"));
        let left = self.repartitioned_for_join(&base(self.name(), "-left"), joined.key.clone(), joined.value.clone());
        let right =
            other.repartitioned_for_join(&base(other.name(), "-right"), joined.key.clone(), joined.other_value.clone());
        graph.copartition(left.sources.iter().chain(&right.sources).copied());
        let names = Names::new(&left, &joined, outer);
        let key = joined.key.clone().or_else(|| left.key.clone()).or_else(|| right.key.clone());
        let value = joined.value.clone().or_else(|| left.value.clone());
        let other_value = joined.other_value.clone().or_else(|| right.value.clone());
        let (Some(key), Some(value), Some(other_value)) = (key, value, other_value) else {
            graph.fail(
                Error::new(Kind::Topology, "the serdes of a stream-stream join's records are not known")
                    .node(&names.merge)
                    .hint("an operator above changed a type: give the serdes with StreamJoined::with"),
            );
            return KStream::new(graph, left.node, left.sources.clone(), (None, None));
        };
        let keep = |parent, name: &String, store: &String| Keep { parent, name: name.clone(), store: store.clone() };
        keep_records(&left, keep(left.node, &names.this_windowed, &names.this_store), &key, &value);
        let other_windowed =
            keep_records(&right, keep(right.node, &names.other_windowed, &names.other_store), &key, &other_value);
        let is_self_join = Rc::new(Cell::new(false));
        let mark = SelfJoinMark { other_windowed, is_self_join: is_self_join.clone() };
        let mut sources = left.sources.clone();
        sources.extend(right.sources.iter().filter(|source| !left.sources.contains(source)));
        let merge = names.merge.clone();
        let write_key = key.clone();
        let plan = Plan { names, outer, join, windows, key, value, other_value, keeping: joined.keeping };
        let write = move |writer: &mut Writer, name: &str, _: &[NodeId]| {
            if is_self_join.get() { plan.write_self_join(writer, name) } else { plan.write(writer, name) }
        };
        let node = graph.add(GraphNode {
            name: merge,
            parents: vec![left.node, right.node],
            role: Role::StreamStreamJoin(mark),
            null_keys_welcome: outer.left || outer.right,
            write: Some(Box::new(write)),
            ..GraphNode::default()
        });
        KStream::new(graph, node, sources, (Some(write_key), None))
    }
}

/// The names of a join's nodes and stores. Every generated one takes a number, used or not.
struct Names {
    this_windowed: String,
    other_windowed: String,
    this_join: String,
    other_join: String,
    merge: String,
    this_store: String,
    other_store: String,
    waiting: String,
}

impl Names {
    fn new<K: Data, A: Data, B>(stream: &KStream<K, A>, joined: &StreamJoined<K, A, B>, outer: Outer) -> Self {
        let graph = &stream.graph;
        let named = |suffix: &str| joined.name.as_ref().map(|name| format!("{name}{suffix}"));
        let this_suffix = if outer.right { "-outer-this-join" } else { "-this-join" };
        let other_suffix = if outer.left { "-outer-other-join" } else { "-other-join" };
        let this_windowed = graph.name_or(named("-this-windowed").as_deref(), "KSTREAM-WINDOWED");
        let other_windowed = graph.name_or(named("-other-windowed").as_deref(), "KSTREAM-WINDOWED");
        let this_generated = graph.next_name(if outer.right { "KSTREAM-OUTERTHIS" } else { "KSTREAM-JOINTHIS" });
        let other_generated = graph.next_name(if outer.left { "KSTREAM-OUTEROTHER" } else { "KSTREAM-JOINOTHER" });
        let merge = graph.name_or(named("-merge").as_deref(), "KSTREAM-MERGE");
        let store = |suffix: &str, generated: &str| {
            let base = joined.store_name.as_ref().map(|name| format!("{name}{suffix}"));
            format!("{}-store", base.as_deref().unwrap_or(generated))
        };
        let number = this_generated.rsplit('-').next().unwrap_or_default();
        let shared = if outer.right { "-outer-shared-join" } else { "-left-shared-join" };
        let (this, other) = (&joined.keeping.this, &joined.keeping.other);
        let waiting = match this {
            Some((name, _)) => format!("{name}{shared}-store"),
            None => store(shared, &format!("KSTREAM-OUTERSHARED-{number}")),
        };
        let own = |kept: &Option<(String, Engine)>| kept.as_ref().map(|(name, _)| name.clone());
        Self {
            this_windowed,
            other_windowed,
            this_join: named(this_suffix).unwrap_or_else(|| this_generated.clone()),
            other_join: named(other_suffix).unwrap_or_else(|| other_generated.clone()),
            merge,
            this_store: own(this).unwrap_or_else(|| store(this_suffix, &this_generated)),
            other_store: own(other).unwrap_or_else(|| store(other_suffix, &other_generated)),
            waiting,
        }
    }
}

/// Everything that a join's nodes are written from.
struct Plan<K, A, B, R> {
    names: Names,
    outer: Outer,
    join: Join<K, A, B, R>,
    windows: JoinWindows,
    key: SerdeRef<K>,
    value: SerdeRef<A>,
    other_value: SerdeRef<B>,
    keeping: Keeping,
}

impl<K: Data, A: Data, B: Data, R: Data> Plan<K, A, B, R> {
    fn write(self, writer: &mut Writer, name: &str) -> NodeId {
        let names = &self.names;
        let found = (writer.find(&names.this_windowed), writer.find(&names.other_windowed));
        let (Some(this_windowed), Some(other_windowed)) = found else { return lost(writer, name) };
        let left_join = self.join.clone();
        let left: Side<K, A, B, R> = Side {
            is_left: true,
            outer: self.outer.left,
            other_store: names.other_store.clone(),
            this_value: self.value.clone(),
            other_value: self.other_value.clone(),
            join: Arc::new(move |key, this, other| left_join(key, this, other)),
        };
        let right_join = self.join.clone();
        let right: Side<K, B, A, R> = Side {
            is_left: false,
            outer: self.outer.right,
            other_store: names.this_store.clone(),
            this_value: self.other_value.clone(),
            other_value: self.value.clone(),
            join: Arc::new(move |key, this, other| right_join(key, other, this)),
        };
        let this = self.write_side(writer, &names.this_join, this_windowed, left);
        let other = self.write_side(writer, &names.other_join, other_windowed, right);
        let merge = writer.passing(name, &[this, other], |_: &mut Build, out: Port<K, R>| out);
        let (own, other_own) = (&self.keeping.this, &self.keeping.other);
        let window = self.window_spec(writer, &names.this_store, own);
        writer.store(window, &[this_windowed, other]);
        let window = self.window_spec(writer, &names.other_store, other_own);
        writer.store(window, &[other_windowed, this]);
        // The task keeps the join's time under the left store.
        if self.outer.left {
            let engine = self.keeping.engine.or(own.as_ref().map(|(_, engine)| *engine));
            let spec = StoreSpec {
                name: names.waiting.clone(),
                engine: engine.unwrap_or(writer.defaults.engine),
                kind: StoreKind::KeyValue { timestamped: false },
                changelog: self.changelog(&[]),
                cached: false,
            };
            writer.store(spec, &[this, other]);
        }
        merge
    }

    fn write_side<T: Data, O: Data>(
        &self,
        writer: &mut Writer,
        name: &str,
        windowed: NodeId,
        side: Side<K, T, O, R>,
    ) -> NodeId {
        let (key, windows, outer) = (self.key.clone(), self.windows, self.outer);
        let (time, waiting) = (self.names.this_store.clone(), self.names.waiting.clone());
        writer.processor(name, &[windowed], move |build: &mut Build, out: Port<K, R>| {
            let spec = JoinSpec {
                before_ms: windows.before_ms,
                after_ms: windows.after_ms,
                grace_ms: windows.grace_ms,
                waiting: outer.left.then(|| build.store(&waiting)),
                time: build.store(&time),
            };
            Box::new(JoinSide {
                node: build.node.clone(),
                spec,
                is_left: side.is_left,
                outer: side.outer,
                other: build.store(&side.other_store),
                key: key.clone(),
                this_value: side.this_value.clone(),
                other_value: side.other_value.clone(),
                join: side.join.clone(),
                out,
            }) as Port<K, T>
        })
    }

    /// The join of a stream with itself. Both sides' values are of one type then, which only the types' ids can tell here.
    fn write_self_join(self, writer: &mut Writer, name: &str) -> NodeId {
        let Some(this_windowed) = writer.find(&self.names.this_windowed) else { return lost(writer, name) };
        let (join, store, windows) = (self.join.clone(), self.names.this_store.clone(), self.windows);
        let same = |a: &A| (a as &dyn Any).downcast_ref::<B>().cloned();
        let both = move |key: &K, a: &A, b: &A| join(key, Some(a), same(b).as_ref());
        let (key, value, both) = (self.key.clone(), self.value.clone(), Arc::new(both));
        let spec = self.window_spec(writer, &store, &self.keeping.this);
        let node = writer.processor(name, &[this_windowed], move |build: &mut Build, out: Port<K, R>| {
            let spec = JoinSpec {
                before_ms: windows.before_ms,
                after_ms: windows.after_ms,
                grace_ms: windows.grace_ms,
                waiting: None,
                time: build.store(&store),
            };
            Box::new(SelfJoin {
                node: build.node.clone(),
                spec,
                retention_ms: windows.retention_ms(),
                key: key.clone(),
                value: value.clone(),
                join: both.clone(),
                out,
            }) as Port<K, A>
        });
        writer.store(spec, &[this_windowed, node]);
        node
    }

    fn window_spec(&self, writer: &Writer, name: &str, own: &Option<(String, Engine)>) -> StoreSpec {
        let (retention_ms, size_ms) = (self.windows.retention_ms(), self.windows.size_ms());
        let engine = own.as_ref().map(|(_, engine)| *engine).or(self.keeping.engine);
        let engine = engine.unwrap_or(writer.defaults.engine);
        StoreSpec {
            name: name.into(),
            engine,
            kind: StoreKind::Window {
                retention_ms,
                size_ms,
                duplicates: true,
                order: WindowOrder::Key,
                timestamped: false,
                headers: engine != Engine::RocksDb,
            },
            // Its rows never replace each other: there is nothing to compact, whatever the user asks for.
            changelog: self.changelog(&[("cleanup.policy".into(), "delete".into())]),
            cached: false,
        }
    }

    /// The changelog as the user wants it, with these settings over the user's.
    fn changelog(&self, over: &[(String, String)]) -> Changelog {
        match self.keeping.logging_off {
            true => Changelog::None,
            false => Changelog::Own { config: self.keeping.topic_config.iter().chain(over).cloned().collect() },
        }
    }
}

/// One side of a join.
struct Side<K, T, O, R> {
    is_left: bool,
    outer: bool,
    other_store: String,
    this_value: SerdeRef<T>,
    other_value: SerdeRef<O>,
    join: Join<K, T, O, R>,
}

/// A node that keeps a stream's records: behind which, under which name, in which store.
struct Keep {
    parent: super::graph::GraphId,
    name: String,
    store: String,
}

/// Adds a node that keeps a stream's records for the other side. The join adds its store.
fn keep_records<K: Data, V: Data>(
    stream: &KStream<K, V>,
    keep: Keep,
    key: &SerdeRef<K>,
    value: &SerdeRef<V>,
) -> super::graph::GraphId {
    let (key, value, store) = (key.clone(), value.clone(), keep.store);
    let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
        writer.processor(name, parents, move |build: &mut Build, out: Port<K, V>| {
            let (node, store) = (build.node.clone(), build.store(&store));
            Box::new(KeepForJoin { node, store, key: key.clone(), value: value.clone(), out }) as Port<K, V>
        })
    };
    let (name, parents, write) = (keep.name, vec![keep.parent], Some(Box::new(write) as _));
    stream.graph.add(GraphNode { name, parents, write, ..GraphNode::default() })
}

/// The nodes that keep the records are written first; that they are not there is a fault of ours.
fn lost(writer: &mut Writer, name: &str) -> NodeId {
    writer.fail(Error::new(Kind::Internal, "a join's windows were not written before it").node(name));
    NodeId(0)
}
