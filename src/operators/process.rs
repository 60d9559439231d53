//! The Processor API: the user's own operator, with stores, punctuations, and a say in where records go.

use super::cx::Stage;
use super::punctuation::{Punctuation, PunctuationType, ScheduleId};
use super::store_views::{StateStore, StoreContext};
use super::{Cx, Hook, Port, Push};
use crate::error::{Error, Kind, Result};
use crate::record::{Data, Headers, Record, Timestamp};
use crate::state::StoreId;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// An operator of the user's own. Each task has one of its own, so it needs no locks. Source: KIP-820.
///
/// An error of its own (`Error::user`) meets the processing policy (`errors.processing`); an error that came up from below
/// is handed on with `?`.
///
/// ```
/// use watersmeet::prelude::*;
/// use watersmeet::processor::{Processor, ProcessorContext};
///
/// struct Loud;
/// impl Processor<String, String, String, String> for Loud {
///     fn process(
///         &mut self,
///         context: &mut ProcessorContext<'_, String, String>,
///         record: Record<String, String>,
///     ) -> Result {
///         let loud = record.value.to_uppercase();
///         context.forward(record.with_value(loud))
///     }
/// }
///
/// let builder = StreamsBuilder::new();
/// let stream = builder.stream("in", Consumed::<String, String>::default());
/// stream.process(|| Loud, Processing::default()).to("out", Produced::default());
/// # builder.build()?;
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub trait Processor<K, V, K2, V2> {
    /// Called once, before the first record: open stores, schedule punctuations.
    fn init(&mut self, context: &mut ProcessorContext<'_, K2, V2>) -> Result {
        let _ = context;
        Ok(())
    }

    /// Takes one record.
    fn process(&mut self, context: &mut ProcessorContext<'_, K2, V2>, record: Record<K, V>) -> Result;

    /// A punctuation is due that was scheduled with [`ProcessorContext::schedule`].
    fn punctuate(&mut self, context: &mut ProcessorContext<'_, K2, V2>, punctuation: Punctuation) -> Result {
        let _ = (context, punctuation);
        Ok(())
    }

    /// Called when the task closes.
    fn close(&mut self) {}
}

/// An operator of the user's own that leaves keys as they are, so that nothing has to be repartitioned behind it.
pub trait ValueProcessor<K, V, V2> {
    /// Called once, before the first record.
    fn init(&mut self, context: &mut ValueContext<'_, '_, K, V2>) -> Result {
        let _ = context;
        Ok(())
    }

    /// Takes one record.
    fn process(&mut self, context: &mut ValueContext<'_, '_, K, V2>, record: FixedKeyRecord<K, V>) -> Result;

    /// A punctuation is due.
    fn punctuate(&mut self, context: &mut ValueContext<'_, '_, K, V2>, punctuation: Punctuation) -> Result {
        let _ = (context, punctuation);
        Ok(())
    }

    /// Called when the task closes.
    fn close(&mut self) {}
}

/// A record whose key cannot be changed. Source: KIP-820's `FixedKeyRecord`.
#[derive(Debug, Clone)]
pub struct FixedKeyRecord<K, V> {
    key: K,
    /// The value.
    pub value: V,
    /// Event time.
    pub timestamp_ms: Timestamp,
    /// The headers.
    pub headers: Headers,
}

impl<K, V> FixedKeyRecord<K, V> {
    /// The key.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The same record with another value.
    pub fn with_value<W>(self, value: W) -> FixedKeyRecord<K, W> {
        FixedKeyRecord { key: self.key, value, timestamp_ms: self.timestamp_ms, headers: self.headers }
    }
}

/// Where the record being processed came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// What a processor sees of its task.
pub struct ProcessorContext<'a, K, V> {
    cx: &'a mut Cx,
    node: &'a NodeInfo,
    out: &'a mut [(String, Port<K, V>)],
}

/// What a [`ValueProcessor`] sees of its task.
pub struct ValueContext<'a, 'b, K, V>(&'b mut ProcessorContext<'a, K, V>);

#[derive(Debug)]
struct NodeInfo {
    name: String,
    application_id: String,
    stores: BTreeMap<String, StoreId>,
    /// Its number among the task's hooks.
    number: usize,
}

impl<K, V> StoreContext for ProcessorContext<'_, K, V> {
    fn cx(&mut self) -> &mut Cx {
        self.cx
    }
}

impl<K, V> StoreContext for ValueContext<'_, '_, K, V> {
    fn cx(&mut self) -> &mut Cx {
        self.0.cx
    }
}

impl<K: Data, V: Data> ProcessorContext<'_, K, V> {
    /// Sends a record to all children.
    ///
    /// # Errors
    /// What goes wrong below; hand it on.
    pub fn forward(&mut self, record: Record<K, V>) -> Result {
        if record.timestamp_ms < 0 {
            return Err(self.negative(record.timestamp_ms));
        }
        let Some((last, first)) = self.out.split_last_mut() else { return Ok(()) };
        for (_, port) in first {
            port.push(self.cx, record.clone())?;
        }
        last.1.push(self.cx, record)
    }

    /// Sends a record to the child of that name.
    ///
    /// # Errors
    /// [`Kind::Topology`]: there is no such child; or what goes wrong below.
    pub fn forward_to(&mut self, child: &str, record: Record<K, V>) -> Result {
        if record.timestamp_ms < 0 {
            return Err(self.negative(record.timestamp_ms));
        }
        match self.out.iter_mut().find(|(name, _)| name == child) {
            Some((_, port)) => port.push(self.cx, record),
            None => Err(Error::new(Kind::Topology, format!("there is no child {child:?}"))
                .node(&self.node.name)
                .hint("name the operator behind this one, with its options or `.named(…)`")),
        }
    }

    fn negative(&self, timestamp_ms: Timestamp) -> Error {
        Error::new(Kind::User, format!("a record with the negative timestamp {timestamp_ms} was forwarded"))
            .node(&self.node.name)
    }
}

impl<K, V> ProcessorContext<'_, K, V> {
    /// Opens a store that the processor is connected to. Call it in `init`, and keep the result.
    ///
    /// # Errors
    /// [`Kind::Topology`]: the processor is not connected to it.
    pub fn store<S>(&self, store: &StateStore<S>) -> Result<S> {
        match self.node.stores.get(store.name()) {
            Some(id) => Ok(store.open(*id)),
            None => Err(Error::new(Kind::Topology, "the processor is not connected to this store")
                .node(&self.node.name)
                .store(store.name())
                .hint("connect it with Processing::store")),
        }
    }

    /// Asks for calls of `punctuate` every `interval_ms`. By stream time the first one comes with the first record, by the
    /// wall clock after one interval.
    pub fn schedule(&mut self, interval_ms: i64, kind: PunctuationType) -> ScheduleId {
        let first_ms = match kind {
            PunctuationType::StreamTime => 0,
            PunctuationType::WallClock => self.cx.now_ms + interval_ms,
        };
        self.schedule_from(first_ms, interval_ms, kind)
    }

    /// As [`schedule`](Self::schedule), from a time on. Source: KIP-1146.
    pub fn schedule_from(&mut self, first_ms: Timestamp, interval_ms: i64, kind: PunctuationType) -> ScheduleId {
        self.cx.punctuations.schedule(self.node.number, kind, first_ms, interval_ms)
    }

    /// Ends the calls of a punctuation.
    pub fn cancel(&mut self, schedule: ScheduleId) {
        self.cx.punctuations.cancel(schedule);
    }

    /// Where the record being processed came from; `None` in a punctuation.
    pub fn metadata(&self) -> Option<RecordMetadata> {
        let current = self.cx.current.as_ref()?;
        let (topic, partition) = (current.partition.topic.to_string(), current.partition.partition);
        Some(RecordMetadata { topic, partition, offset: current.raw.meta.offset })
    }

    /// The largest timestamp that the task has processed; -1 before the first.
    pub fn stream_time_ms(&self) -> Timestamp {
        self.cx.stream_time_ms
    }

    /// The wall clock, as of the thread's turn.
    pub fn now_ms(&self) -> Timestamp {
        self.cx.now_ms
    }

    /// The task: sub-topology and partition.
    pub fn task_id(&self) -> &str {
        &self.cx.task_id
    }

    /// The application that the task is of (`application.id`).
    pub fn application_id(&self) -> &str {
        &self.node.application_id
    }

    /// Asks for a commit soon.
    pub fn commit(&mut self) {
        self.cx.commit_requested = true;
    }
}

impl<'a, K: Data, V: Data> ValueContext<'a, '_, K, V> {
    /// Sends a record to all children.
    ///
    /// # Errors
    /// What goes wrong below; hand it on.
    pub fn forward(&mut self, record: FixedKeyRecord<K, V>) -> Result {
        let FixedKeyRecord { key, value, timestamp_ms, headers } = record;
        self.0.forward(Record { key, value, timestamp_ms, headers })
    }

    /// Everything that does not send records.
    pub fn context(&mut self) -> &mut ProcessorContext<'a, K, V> {
        self.0
    }
}

/// A processor in its task.
pub(crate) struct ProcessNode<K, V, K2, V2> {
    processor: Box<dyn Processor<K, V, K2, V2>>,
    info: NodeInfo,
    out: Vec<(String, Port<K2, V2>)>,
}

/// What a processor's node is made of.
pub(crate) struct ProcessParts<K, V, K2, V2> {
    pub(crate) processor: Box<dyn Processor<K, V, K2, V2>>,
    pub(crate) name: String,
    pub(crate) application_id: String,
    pub(crate) stores: BTreeMap<String, StoreId>,
    pub(crate) number: usize,
    pub(crate) out: Vec<(String, Port<K2, V2>)>,
}

impl<K, V, K2, V2> ProcessNode<K, V, K2, V2> {
    pub(crate) fn new(parts: ProcessParts<K, V, K2, V2>) -> Self {
        let ProcessParts { processor, name, application_id, stores, number, out } = parts;
        Self { processor, info: NodeInfo { name, application_id, stores, number }, out }
    }

    fn call(
        &mut self,
        cx: &mut Cx,
        timestamp_ms: Timestamp,
        f: impl FnOnce(&mut dyn Processor<K, V, K2, V2>, &mut ProcessorContext<'_, K2, V2>) -> Result,
    ) -> Result {
        let before_ms = std::mem::replace(&mut cx.context_ms, timestamp_ms);
        let mut context = ProcessorContext { cx, node: &self.info, out: &mut self.out };
        let result = f(&mut *self.processor, &mut context);
        cx.context_ms = before_ms;
        result
    }
}

impl<K, V, K2, V2> Hook for ProcessNode<K, V, K2, V2> {
    fn init(&mut self, cx: &mut Cx) -> Result {
        let time_ms = cx.stream_time_ms;
        self.call(cx, time_ms, |processor, context| processor.init(context))
    }

    fn punctuate(&mut self, cx: &mut Cx, punctuation: Punctuation) -> Result {
        let time_ms = punctuation.time_ms;
        self.call(cx, time_ms, |processor, context| processor.punctuate(context, punctuation))
    }

    fn close(&mut self) {
        self.processor.close();
    }
}

/// The port of a [`ProcessNode`], which the task's hooks share.
pub(crate) struct ProcessPort<K, V, K2, V2>(pub(crate) Rc<RefCell<ProcessNode<K, V, K2, V2>>>);

impl<K, V, K2, V2> Push<K, V> for ProcessPort<K, V, K2, V2> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        let mut node = self.0.borrow_mut();
        let time_ms = record.timestamp_ms;
        let seen = cx.seen(time_ms, &record.headers);
        match node.call(cx, time_ms, |processor, context| processor.process(context, record)) {
            Err(error) if error.kind() == Kind::User => {
                cx.faulty_record_seen(Stage::Processing, &node.info.name, &error, seen)
            }
            result => result,
        }
    }
}

/// A [`ValueProcessor`] as a [`Processor`].
pub(crate) struct Values<P>(pub(crate) P);

impl<K, V, V2, P: ValueProcessor<K, V, V2>> Processor<K, V, K, V2> for Values<P> {
    fn init(&mut self, context: &mut ProcessorContext<'_, K, V2>) -> Result {
        self.0.init(&mut ValueContext(context))
    }

    fn process(&mut self, context: &mut ProcessorContext<'_, K, V2>, record: Record<K, V>) -> Result {
        let Record { key, value, timestamp_ms, headers } = record;
        self.0.process(&mut ValueContext(context), FixedKeyRecord { key, value, timestamp_ms, headers })
    }

    fn punctuate(&mut self, context: &mut ProcessorContext<'_, K, V2>, punctuation: Punctuation) -> Result {
        self.0.punctuate(&mut ValueContext(context), punctuation)
    }

    fn close(&mut self) {
        self.0.close();
    }
}
