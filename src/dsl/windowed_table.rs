//! The table that a windowed aggregation keeps, and its node.

use super::KTable;
use super::Materialized;
use super::graph::{Graph, GraphId, GraphNode};
use super::grouped::missing_serdes;
use super::table_node::{Flag, TableNode, View};
use super::writer::Writer;
use crate::error::{Error, Kind, Result};
use crate::operators::Build;
use crate::operators::Port;
use crate::operators::getter::Getter;
use crate::operators::held::ChangeOut;
use crate::operators::windowed::emit::OnClose;
use crate::operators::windowed::session::{Fold, SessionAggregate};
use crate::operators::windowed::sliding::SlidingWindowAggregate;
use crate::operators::windowed::time::TimeWindowAggregate;
use crate::operators::windowed::{Results, SessionRows, TimedStore, Update, WindowRows};
use crate::record::{Change, Data};
use crate::serdes::SerdeRef;
use crate::state::{StoreKind, WindowOrder};
use crate::topology::NodeId;
use crate::windows::{
    EmitStrategy, SessionWindowedSerde, SessionWindows, SlidingWindows, TimeWindowedSerde, Windowed, Windows,
};
use std::rc::Rc;
use std::sync::Arc;

/// The windows of an aggregation whose times are known from a record alone, or from the records before it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Time(Windows),
    Sliding(SlidingWindows),
}

/// Into which windows records go, and what they do there.
pub(crate) enum How<K, V, A> {
    Time(Shape, Update<K, V, A>),
    Sessions(SessionWindows, Fold<K, V, A>),
}

impl<K, V, A> Clone for How<K, V, A> {
    fn clone(&self) -> Self {
        match self {
            Self::Time(shape, update) => Self::Time(*shape, update.clone()),
            Self::Sessions(windows, fold) => Self::Sessions(*windows, fold.clone()),
        }
    }
}

/// The windows of a table, whatever is aggregated in them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Frame {
    Time(Shape),
    Sessions(SessionWindows),
}

impl Frame {
    /// From start to end of a window; sessions have no size.
    fn size_ms(&self) -> i64 {
        match self {
            Self::Time(Shape::Time(windows)) => windows.size_ms(),
            Self::Time(Shape::Sliding(windows)) => windows.difference_ms,
            Self::Sessions(_) => 0,
        }
    }

    /// How long windows take records after their end.
    fn grace_ms(&self) -> i64 {
        match self {
            Self::Time(Shape::Time(windows)) => windows.grace_ms(),
            Self::Time(Shape::Sliding(windows)) => windows.grace_ms,
            Self::Sessions(windows) => windows.retention_ms(),
        }
    }

    /// How long a store has to keep a window.
    fn retention_ms(&self) -> i64 {
        match self {
            Self::Time(Shape::Time(windows)) => windows.retention_ms(),
            Self::Time(Shape::Sliding(windows)) => windows.retention_ms(),
            Self::Sessions(windows) => windows.retention_ms(),
        }
    }

    /// Checks windows, emit strategy and retention.
    fn check(&self, emit: EmitStrategy, retention_ms: i64, store: &str) -> Result {
        match self {
            Self::Time(Shape::Time(windows)) => windows.check(),
            Self::Time(Shape::Sliding(windows)) => windows.check(),
            Self::Sessions(windows) => windows.check(),
        }
        .map_err(|error| error.store(store))?;
        if emit == EmitStrategy::OnWindowClose && matches!(self, Self::Time(Shape::Time(Windows::Unlimited(_)))) {
            return Err(Error::new(Kind::Topology, "results are to be sent when a window closes that never does")
                .store(store)
                .hint("take EmitStrategy::OnWindowUpdate, or windows that end"));
        }
        let needed_ms = self.retention_ms();
        if retention_ms < needed_ms {
            let what = format!("windows are kept for {retention_ms} ms, but still take records for {needed_ms} ms");
            let hint = "raise the retention, or make the windows or their grace period smaller";
            return Err(Error::new(Kind::Topology, what).store(store).hint(hint));
        }
        Ok(())
    }
}

/// The table that a windowed aggregation keeps.
pub(crate) struct WindowedTable<K, A> {
    pub(crate) store: String,
    key: SerdeRef<K>,
    value: SerdeRef<A>,
    frame: Frame,
    emit: EmitStrategy,
    send_old: Flag,
}

impl<K, A> Clone for WindowedTable<K, A> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            frame: self.frame,
            emit: self.emit,
            send_old: self.send_old.clone(),
        }
    }
}

impl<K: Data, A: Data> TableNode<Windowed<K>, A> for WindowedTable<K, A> {
    fn view(&self) -> View<Windowed<K>, A> {
        let table = self.clone();
        View {
            stores: vec![self.store.clone()],
            make: Arc::new(move |build| match table.frame {
                Frame::Time(_) => Box::new(WindowRows(table.rows(build))) as Box<dyn Getter<Windowed<K>, A>>,
                Frame::Sessions(_) => Box::new(SessionRows(table.rows(build))),
            }),
        }
    }

    fn send_old_values(&self, _force: bool) -> bool {
        self.send_old.set();
        true
    }
}

impl<K: Data, A: Data> WindowedTable<K, A> {
    /// The table of these windows in `store`; `None`, and an error at `build`, where something is wrong or missing.
    pub(crate) fn new(
        graph: &Graph,
        store: &str,
        materialized: &Materialized<K, A>,
        key: Option<SerdeRef<K>>,
        frame: Frame,
        emit: EmitStrategy,
    ) -> Option<Self> {
        let retention_ms = materialized.retention_ms.unwrap_or_else(|| frame.retention_ms());
        if let Err(error) = frame.check(emit, retention_ms, store) {
            graph.fail(error);
            return None;
        }
        let Some((key, value)) = materialized.key.clone().or(key).zip(materialized.value.clone()) else {
            graph.fail(missing_serdes(store));
            return None;
        };
        Some(Self { store: store.into(), key, value, frame, emit, send_old: Flag::default() })
    }

    fn rows(&self, build: &mut Build) -> TimedStore<K, A> {
        TimedStore::new(&build.node, build.store(&self.store), self.key.clone(), self.value.clone())
    }

    /// The serde of the table's keys.
    fn windowed_key(&self) -> SerdeRef<Windowed<K>> {
        match self.frame {
            Frame::Time(_) => TimeWindowedSerde::of(self.key.clone(), self.frame.size_ms()),
            Frame::Sessions(_) => SessionWindowedSerde::of(self.key.clone()),
        }
    }

    fn kind(&self, retention_ms: Option<i64>) -> StoreKind {
        let retention_ms = retention_ms.unwrap_or_else(|| self.frame.retention_ms());
        match self.frame {
            Frame::Time(_) => {
                let size_ms = self.frame.size_ms();
                let order = match (self.emit, &self.frame) {
                    (EmitStrategy::OnWindowUpdate, _) => WindowOrder::Key,
                    // Sliding windows are looked for by key with every record, the others only by key and start.
                    (EmitStrategy::OnWindowClose, Frame::Time(Shape::Sliding(_))) => WindowOrder::KeyShownByStart,
                    (EmitStrategy::OnWindowClose, _) => WindowOrder::Start,
                };
                StoreKind::Window { retention_ms, size_ms, duplicates: false, order, timestamped: true, headers: false }
            }
            Frame::Sessions(_) => StoreKind::Session { retention_ms },
        }
    }

    /// Adds the node that aggregates records into the table. `materialized` says how its store is made; `None` where another
    /// node makes it.
    pub(crate) fn add<V: Data>(
        &self,
        graph: &Graph,
        name: String,
        parent: GraphId,
        materialized: Option<Materialized<K, A>>,
        how: How<K, V, A>,
    ) -> GraphId {
        let table = self.clone();
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            let made = table.clone();
            let node = writer.processor(name, parents, move |build: &mut Build, out: Port<Windowed<K>, Change<A>>| {
                made.operator(build, how.clone(), out)
            });
            match materialized {
                Some(materialized) => {
                    let kind = table.kind(materialized.retention_ms);
                    let mut spec = materialized.spec(&table.store, kind, writer.defaults.engine);
                    if let Some(retention_ms) = materialized.store_retention_ms {
                        spec.keep_longer_than_changelog(retention_ms);
                    }
                    // As in Kafka Streams, whose time-ordered stores have a cache only for windows at fixed times.
                    let fixed = matches!(table.frame, Frame::Time(Shape::Time(_)));
                    spec.cached &= fixed || table.emit == EmitStrategy::OnWindowUpdate;
                    writer.store(spec, &[node]);
                    writer.formats(&table.store, &table.key, &table.value);
                }
                None => writer.connect(node, &table.store),
            }
            node
        };
        graph.add(GraphNode {
            name,
            parents: vec![parent],
            versioned: Some(false),
            window_grace_ms: Some(self.frame.grace_ms()),
            write: Some(Box::new(write)),
            ..GraphNode::default()
        })
    }

    /// The operator of one task.
    fn operator<V: Data>(&self, build: &mut Build, how: How<K, V, A>, out: Port<Windowed<K>, Change<A>>) -> Port<K, V> {
        let (node, rows) = (build.node.clone(), self.rows(build));
        let results = self.results(build, out);
        let observed_ms = -1;
        match how {
            How::Time(Shape::Time(windows), update) => {
                let rows = WindowRows(rows);
                Box::new(TimeWindowAggregate { node, windows, update, rows, results, observed_ms })
            }
            How::Time(Shape::Sliding(windows), update) => {
                let rows = WindowRows(rows);
                Box::new(SlidingWindowAggregate { node, windows, update, rows, results, observed_ms })
            }
            How::Sessions(windows, fold) => {
                let rows = SessionRows(rows);
                Box::new(SessionAggregate { node, windows, fold, rows, results, observed_ms })
            }
        }
    }

    /// Where results go: at once, when the store lets go of them, or when windows close.
    fn results(&self, build: &mut Build, out: Port<Windowed<K>, Change<A>>) -> Results<K, A> {
        let store = build.store(&self.store);
        if self.emit == EmitStrategy::OnWindowClose {
            return Results::Final { on_close: OnClose::new(store), out };
        }
        let (node, windowed_key, frame) = (build.node.clone(), self.windowed_key(), self.frame);
        let decode = move |bytes: &[u8]| {
            // A changelog's keys of windows have a sequence number, and those of sessions are as the serde's.
            let of_window = matches!(frame, Frame::Time(_));
            let bytes = if of_window { &bytes[..bytes.len().saturating_sub(4)] } else { bytes };
            let key = windowed_key.deserialize(Some(bytes)).map_err(|error| {
                Error::new(Kind::State, format!("a window's key does not decode: {error}")).node(&node)
            })?;
            let end_ms = key.window.end_ms;
            Ok((key, (!of_window).then_some(end_ms)))
        };
        let send_old = self.send_old.get();
        let out = ChangeOut::new(build, store, Box::new(decode), self.value.clone(), send_old, out);
        Results::Changes { send_old, out }
    }

    /// The handle of the table.
    pub(crate) fn handle(self, graph: &Graph, node: GraphId, sources: Vec<GraphId>) -> KTable<Windowed<K>, A> {
        let (key, value) = (Some(self.windowed_key()), Some(self.value.clone()));
        KTable { graph: graph.clone(), node, sources, key, value, table: Rc::new(self) }
    }
}
