//! `suppress`: intermediate results of a table are held back.

use super::KTable;
use super::graph::{Graph, GraphNode};
use super::table_node::{TableNode, View};
use super::table_values::serdes_not_known;
use super::writer::Writer;
use crate::error::{Error, Kind};
use crate::operators::Build;
use crate::operators::Port;
use crate::operators::getter::Getter;
use crate::operators::suppress::{self, Buffer, BufferLog, Limits, Suppress, When};
use crate::record::{Change, Data, Timestamp};
use crate::serdes::SerdeRef;
use crate::state::{Changelog, Engine, StoreKind, StoreSpec};
use crate::topology::NodeId;
use crate::windows::Windowed;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

/// How much `suppress` may hold back, and what happens when that is not enough.
///
/// ```
/// use watersmeet::dsl::BufferConfig;
/// let as_much_as_there_is = BufferConfig::unbounded();
/// let a_thousand_keys_then_early = BufferConfig::max_records(1000).emit_early_when_full();
/// let a_megabyte_or_stop = BufferConfig::max_bytes(1 << 20).shut_down_when_full();
/// ```
#[derive(Debug, Clone)]
pub struct BufferConfig {
    limits: Limits,
    changelog: Changelog,
}

impl BufferConfig {
    fn limited(max_records: u64, max_bytes: u64) -> Self {
        let limits = Limits { max_records, max_bytes, emit_early: true };
        Self { limits, changelog: Changelog::Own { config: Vec::new() } }
    }

    /// No limit: the task holds back what it has to, in memory.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let buffer = BufferConfig::unbounded();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn unbounded() -> Self {
        Self::limited(u64::MAX, u64::MAX).shut_down_when_full()
    }

    /// At most so many keys; when there are more, the oldest go on early.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let buffer = BufferConfig::max_records(1_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn max_records(max: u64) -> Self {
        Self::limited(max, u64::MAX)
    }

    /// At most so many bytes, counted as Kafka Streams does; when there are more, the oldest go on early.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let buffer = BufferConfig::max_bytes(1 << 20);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn max_bytes(max: u64) -> Self {
        Self::limited(u64::MAX, max)
    }

    /// Limits the keys as well.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let buffer = BufferConfig::max_bytes(1 << 20).with_max_records(1_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn with_max_records(mut self, max: u64) -> Self {
        self.limits.max_records = max;
        self
    }

    /// Limits the bytes as well.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let buffer = BufferConfig::max_records(1_000).with_max_bytes(1 << 20);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn with_max_bytes(mut self, max: u64) -> Self {
        self.limits.max_bytes = max;
        self
    }

    /// Takes the limits away; what is over them was the reason for anything to be early.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let buffer = BufferConfig::max_records(1_000).with_no_bound();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn with_no_bound(mut self) -> Self {
        self.limits = Limits { max_records: u64::MAX, max_bytes: u64::MAX, emit_early: false };
        self
    }

    /// When the buffer is full, the oldest changes go on early.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let buffer = BufferConfig::max_records(1_000).emit_early_when_full();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn emit_early_when_full(mut self) -> Self {
        self.limits.emit_early = true;
        self
    }

    /// When the buffer is full, the record meets the processing policy: by default the application ends.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let buffer = BufferConfig::max_records(1_000).shut_down_when_full();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn shut_down_when_full(mut self) -> Self {
        self.limits.emit_early = false;
        self
    }

    /// Nothing is logged: what is held back when a task ends is lost.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let buffer = BufferConfig::unbounded().without_changelog();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn without_changelog(mut self) -> Self {
        self.changelog = Changelog::None;
        self
    }

    /// A setting of the changelog topic.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let buffer = BufferConfig::unbounded().changelog_config("segment.bytes", "1000000");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn changelog_config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        if let Changelog::Own { config } = &mut self.changelog {
            config.push((key.into(), value.into()));
        }
        self
    }
}

impl Default for BufferConfig {
    fn default() -> Self {
        Self::unbounded()
    }
}

/// Until when changes are held back.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let counts = orders.group_by_key(Grouped::default()).windowed_by(TimeWindows::of_size(10)).count(Materialized::default());
/// let complete = counts.suppress(Suppressed::until_window_closes(BufferConfig::unbounded()));
/// complete.to_stream().select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms)).to("out", Produced::default());
/// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1), ("orders", "a", "z", 10)], "out")?;
/// assert_eq!(results, [("a@0".into(), 2)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Suppressed<K> {
    name: Option<String>,
    /// `None`: the grace period of the windows above.
    wait_ms: Option<i64>,
    end_of: Option<fn(&K) -> Timestamp>,
    buffer: BufferConfig,
}

impl<K> Suppressed<Windowed<K>> {
    /// Until the window is over, grace period included: there is one result per window, the final one. `buffer` must not be
    /// one that lets go of changes early.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let counts = orders.group_by_key(Grouped::default()).windowed_by(TimeWindows::of_size(10)).count(Materialized::default());
    /// let complete = counts.suppress(Suppressed::until_window_closes(BufferConfig::unbounded()));
    /// complete.to_stream().select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms)).to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1), ("orders", "a", "z", 10)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 2)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "untilWindowCloses")]
    pub fn until_window_closes(buffer: BufferConfig) -> Self {
        Self { name: None, wait_ms: None, end_of: Some(|key| key.window.end_ms), buffer }
    }
}

impl<K> Suppressed<K> {
    /// Until so much stream time has passed since the key's first change that is held back.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let calm = people.suppress(Suppressed::until_time_limit(10, BufferConfig::max_records(100)));
    /// calm.to_stream().to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("people", "p", "Ada", 0), ("people", "p", "Eve", 5), ("people", "q", "Bob", 20)], "out")?;
    /// assert_eq!(results, [("p".into(), "Eve".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "untilTimeLimit")]
    pub fn until_time_limit(wait_ms: i64, buffer: BufferConfig) -> Self {
        Self { name: None, wait_ms: Some(wait_ms), end_of: None, buffer }
    }

    /// Names the operator, and with it its store: `<name>-store`.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let suppressed = Suppressed::<String>::until_time_limit(10, BufferConfig::max_records(100)).named("calm");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long to wait, and what the buffer may hold; `None`, and an error at `build`, where that makes no sense.
    fn check(&self, graph: &Graph, node: &str, grace_ms: Option<i64>) -> Option<(i64, Limits)> {
        let limits = self.buffer.limits;
        let wrong = |what: &'static str, hint: &'static str| {
            graph.fail(Error::new(Kind::Topology, what).node(node).hint(hint));
            None
        };
        let Some(wait_ms) = self.wait_ms.or(grace_ms) else {
            return wrong("no window closes here", "suppress the table that a windowed aggregation makes");
        };
        if wait_ms < 0 {
            return wrong("the time limit is negative", "make it 0 or more");
        }
        if self.wait_ms.is_none() && limits.emit_early && (limits.max_records, limits.max_bytes) != (u64::MAX, u64::MAX)
        {
            return wrong("results that go on early are not final", "add shut_down_when_full() to the buffer's limits");
        }
        Some((wait_ms, limits))
    }
}

/// A table without what is held back.
struct SuppressedTable<K, V> {
    above: Rc<dyn TableNode<K, V>>,
    store: String,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
}

impl<K: Data, V: Data> TableNode<K, V> for SuppressedTable<K, V> {
    fn view(&self) -> View<K, V> {
        let above = self.above.view();
        let (store, key, value) = (self.store.clone(), self.key.clone(), self.value.clone());
        let make = move |build: &mut Build| {
            let buffer = typed(build, &store, &key, &value);
            Box::new(suppress::Suppressed { buffer, above: (above.make)(build) }) as Box<dyn Getter<K, V>>
        };
        let stores = std::iter::once(self.store.clone()).chain(above.stores);
        View { stores: stores.collect(), make: Arc::new(make) }
    }

    fn send_old_values(&self, force: bool) -> bool {
        self.above.send_old_values(force)
    }
}

fn typed<K, V>(build: &Build, store: &str, key: &SerdeRef<K>, value: &SerdeRef<V>) -> Buffer<K, V> {
    Buffer { node: build.node.clone(), store: build.store(store), key: key.clone(), value: value.clone() }
}

impl<K: Data, V: Data> KTable<K, V> {
    /// Holds changes back: of several changes of a key, only the last one goes on.
    ///
    /// ```
    /// use watersmeet::dsl::{BufferConfig, Suppressed};
    /// use watersmeet::prelude::*;
    /// use watersmeet::windows::{TimeWindowedSerde, TimeWindows};
    ///
    /// let builder = StreamsBuilder::new();
    /// builder
    ///     .stream("clicks", Consumed::<String, String>::default())
    ///     .group_by_key(Grouped::default())
    ///     .windowed_by(TimeWindows::of_size_and_grace(60_000, 5_000))
    ///     .count(Materialized::default())
    ///     .suppress(Suppressed::until_window_closes(BufferConfig::unbounded()))
    ///     .to_stream()
    ///     .map_values(|count| count.unwrap_or(0))
    ///     .to("clicks-per-minute", Produced::with(TimeWindowedSerde::of(String::serde(), 60_000), i64::serde()));
    /// # use watersmeet::serdes::DefaultSerde;
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn suppress(&self, suppressed: Suppressed<K>) -> KTable<K, V> {
        let graph = &self.graph;
        let given = suppressed.name.clone();
        let name = given.clone().unwrap_or_else(|| graph.next_name("KTABLE-SUPPRESS"));
        let checked = suppressed.check(graph, &name, graph.window_grace_ms(self.node));
        let store = match given {
            Some(name) => format!("{name}-store"),
            None => graph.next_name("KTABLE-SUPPRESS-STATE-STORE"),
        };
        // What is held back first has to know what was there before.
        self.table.send_old_values(true);
        let serdes = self.key.clone().zip(self.value.clone());
        let (Some((wait_ms, limits)), Some((key, value))) = (checked, serdes) else {
            if checked.is_some() {
                graph.fail(serdes_not_known().node(&name));
            }
            return self.clone();
        };
        let above = self.table.clone();
        let table = SuppressedTable { above, store: store.clone(), key: key.clone(), value: value.clone() };
        let (end_of, changelog) = (suppressed.end_of, suppressed.buffer.changelog);
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            if writer.versioned_parents[0] {
                let what = "a versioned table cannot be suppressed";
                writer.fail(Error::new(Kind::Topology, what).node(name).hint("take a table that is not versioned"));
            }
            let spec = StoreSpec {
                name: store.clone(),
                engine: Engine::Memory,
                kind: StoreKind::Buffer,
                changelog,
                cached: false,
            };
            let make = move |build: &mut Build, out: Port<K, Change<V>>| {
                let buffer = typed(build, &store, &key, &value);
                build.hook(buffer.store, Rc::new(RefCell::new(BufferLog(buffer.store))));
                let when = When { wait_ms, end_of };
                Box::new(Suppress { buffer, when, limits, observed_ms: -1, out }) as Port<K, Change<V>>
            };
            let node = writer.processor(name, parents, make);
            writer.store(spec, &[node]);
            node
        };
        let (parents, write) = (vec![self.node], Some(Box::new(write) as _));
        let node = graph.add(GraphNode { name, parents, versioned: Some(false), write, ..GraphNode::default() });
        KTable {
            graph: graph.clone(),
            node,
            sources: self.sources.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            table: Rc::new(table),
        }
    }
}
