//! The Processor API: the user's own operator, with stores, punctuations, and a say in where records go.

use super::cx::Stage;
use super::punctuation::{Punctuation, PunctuationType, ScheduleId};
use super::store_views::{StateStore, StoreContext};
use super::{Cx, Hook, Port, Push};
use crate::error::{Error, Kind, Result};
use crate::record::{Data, Record, Timestamp};
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

/// Where the record being processed came from.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// struct P;
/// impl Processor<String, String, String, String> for P {
///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
///         let RecordMetadata { topic, partition, offset } = context.metadata().expect("a record is processed");
///         context.forward(record.with_value(format!("{topic}-{partition}@{offset}")))
///     }
/// }
/// let forwarded = process_all(|| P, [Record::new("a".to_string(), "x".to_string(), 7)])?;
/// assert_eq!(forwarded[0].value, "records-0@0");
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
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
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// struct P;
/// impl Processor<String, String, String, String> for P {
///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
///         let task = context.task_id().to_string();
///         context.forward(record.with_value(task))
///     }
/// }
/// let forwarded = process_all(|| P, [Record::new("a".to_string(), "x".to_string(), 7)])?;
/// assert_eq!(forwarded[0].value, "0_0");
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct ProcessorContext<'a, K, V> {
    cx: &'a mut Cx,
    node: &'a NodeInfo,
    out: &'a mut [(String, Port<K, V>)],
}

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

impl<K: Data, V: Data> ProcessorContext<'_, K, V> {
    /// Sends a record to all children.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct P;
    /// impl Processor<String, String, String, String> for P {
    ///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
    ///         context.forward(record.clone())?;
    ///         context.forward(record)
    ///     }
    /// }
    /// let forwarded = process_all(|| P, [Record::new("a".to_string(), "x".to_string(), 7)])?;
    /// assert_eq!(forwarded.len(), 2);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// What goes wrong below; hand it on.
    pub fn forward(&mut self, record: Record<K, V>) -> Result {
        if record.timestamp_ms < 0 {
            return Err(self.negative(record.timestamp_ms));
        }
        self.cx.forwarded = true;
        let Some((last, first)) = self.out.split_last_mut() else { return Ok(()) };
        for (_, port) in first {
            port.push(self.cx, record.clone())?;
        }
        last.1.push(self.cx, record)
    }

    /// Sends a record to the child of that name.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct Sorts;
    /// impl Processor<String, String, String, String> for Sorts {
    ///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
    ///         let child = if record.value.len() > 3 { "long" } else { "short" };
    ///         context.forward_to(child, record)
    ///     }
    /// }
    /// # let builder = StreamsBuilder::new();
    /// let stream = builder.stream("in", Consumed::<String, String>::default());
    /// let sorted = stream.process(|| Sorts, Processing::default());
    /// sorted.to("out", Produced::default().named("long"));
    /// sorted.to("rest", Produced::default().named("short"));
    /// let results = results::<String, String>(builder.build()?, &[("in", "a", "x", 0), ("in", "b", "tiny!", 0)], "out")?;
    /// assert_eq!(results, [("b".into(), "tiny!".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Kind::Topology`]: there is no such child; or what goes wrong below.
    pub fn forward_to(&mut self, child: &str, record: Record<K, V>) -> Result {
        if record.timestamp_ms < 0 {
            return Err(self.negative(record.timestamp_ms));
        }
        self.cx.forwarded = true;
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
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct Counts(StateStore<KeyValueStore<String, i64>>, Option<KeyValueStore<String, i64>>);
    /// impl Processor<String, String, String, i64> for Counts {
    ///     fn init(&mut self, context: &mut ProcessorContext<'_, String, i64>) -> Result {
    ///         self.1 = Some(context.store(&self.0)?);
    ///         Ok(())
    ///     }
    ///     fn process(&mut self, context: &mut ProcessorContext<'_, String, i64>, record: Record<String, String>) -> Result {
    ///         let Some(counts) = &mut self.1 else { return Ok(()) };
    ///         let count = counts.get(context, &record.key)?.unwrap_or(0) + 1;
    ///         counts.put(context, &record.key, Some(&count))?;
    ///         context.forward(record.with_value(count))
    ///     }
    /// }
    /// # let builder = StreamsBuilder::new();
    /// let counts = builder.add_state_store(KeyValueStore::store("counts", String::serde(), i64::serde()));
    /// let stream = builder.stream("in", Consumed::<String, String>::default());
    /// let connected = Processing::default().store(&counts);
    /// stream.process(move || Counts(counts.clone(), None), connected).to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("in", "a", "x", 0), ("in", "a", "y", 0)], "out")?;
    /// assert_eq!(results, [("a".into(), 1), ("a".into(), 2)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
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
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct P;
    /// impl Processor<String, String, String, String> for P {
    ///     fn init(&mut self, context: &mut ProcessorContext<'_, String, String>) -> Result {
    ///         context.schedule(10, PunctuationType::StreamTime);
    ///         Ok(())
    ///     }
    ///     fn punctuate(&mut self, context: &mut ProcessorContext<'_, String, String>, punctuation: Punctuation) -> Result {
    ///         context.forward(Record::new("time".into(), punctuation.time_ms.to_string(), punctuation.time_ms))
    ///     }
    ///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
    ///         context.forward(record)
    ///     }
    /// }
    /// let forwarded = process_all(|| P, [Record::new("a".to_string(), "x".to_string(), 7)])?;
    /// assert_eq!(forwarded[1].value, "7");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn schedule(&mut self, interval_ms: i64, kind: PunctuationType) -> ScheduleId {
        let first_ms = match kind {
            PunctuationType::StreamTime => 0,
            PunctuationType::WallClock => self.cx.now_ms + interval_ms,
        };
        self.schedule_from(first_ms, interval_ms, kind)
    }

    /// As [`schedule`](Self::schedule), from a time on. Source: KIP-1146.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct P;
    /// impl Processor<String, String, String, String> for P {
    ///     fn init(&mut self, context: &mut ProcessorContext<'_, String, String>) -> Result {
    ///         context.schedule_from(5, 10, PunctuationType::StreamTime);
    ///         Ok(())
    ///     }
    ///     fn punctuate(&mut self, context: &mut ProcessorContext<'_, String, String>, punctuation: Punctuation) -> Result {
    ///         context.forward(Record::new("time".into(), punctuation.time_ms.to_string(), punctuation.time_ms))
    ///     }
    ///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
    ///         context.forward(record)
    ///     }
    /// }
    /// let forwarded = process_all(|| P, [Record::new("a".to_string(), "x".to_string(), 7)])?;
    /// assert_eq!(forwarded[1].value, "7");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn schedule_from(&mut self, first_ms: Timestamp, interval_ms: i64, kind: PunctuationType) -> ScheduleId {
        self.cx.punctuations.schedule(self.node.number, kind, first_ms, interval_ms)
    }

    /// Ends the calls of a punctuation.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct Once;
    /// impl Processor<String, String, String, String> for Once {
    ///     fn init(&mut self, context: &mut ProcessorContext<'_, String, String>) -> Result {
    ///         context.schedule(1, PunctuationType::StreamTime);
    ///         Ok(())
    ///     }
    ///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
    ///         context.forward(record)
    ///     }
    ///     fn punctuate(&mut self, context: &mut ProcessorContext<'_, String, String>, punctuation: Punctuation) -> Result {
    ///         context.cancel(punctuation.schedule);
    ///         context.forward(Record::new("time".into(), "now".into(), punctuation.time_ms))
    ///     }
    /// }
    /// let record = |timestamp_ms| Record::new("a".to_string(), "x".to_string(), timestamp_ms);
    /// let forwarded = process_all(|| Once, [record(7), record(9)])?;
    /// assert_eq!(forwarded.iter().filter(|record| record.key == "time").count(), 1);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn cancel(&mut self, schedule: ScheduleId) {
        self.cx.punctuations.cancel(schedule);
    }

    /// Where the record being processed came from; `None` in a punctuation.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct P;
    /// impl Processor<String, String, String, String> for P {
    ///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
    ///         let offset = context.metadata().map_or(-1, |metadata| metadata.offset);
    ///         context.forward(record.with_value(offset.to_string()))
    ///     }
    /// }
    /// let forwarded = process_all(|| P, [Record::new("a".to_string(), "x".to_string(), 7)])?;
    /// assert_eq!(forwarded[0].value, "0");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn metadata(&self) -> Option<RecordMetadata> {
        let current = self.cx.current.as_ref()?;
        let (topic, partition) = (current.partition.topic.to_string(), current.partition.partition);
        Some(RecordMetadata { topic, partition, offset: current.raw.meta.offset })
    }

    /// The largest timestamp that the task has processed; -1 before the first.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct P;
    /// impl Processor<String, String, String, String> for P {
    ///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
    ///         let time = context.stream_time_ms().to_string();
    ///         context.forward(record.with_value(time))
    ///     }
    /// }
    /// let forwarded = process_all(|| P, [Record::new("a".to_string(), "x".to_string(), 7)])?;
    /// assert_eq!(forwarded[0].value, "7");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn stream_time_ms(&self) -> Timestamp {
        self.cx.stream_time_ms
    }

    /// The wall clock, as of the thread's turn.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct P;
    /// impl Processor<String, String, String, String> for P {
    ///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
    ///         // In the test driver the wall clock stands at 0 until it is moved.
    ///         let now = context.now_ms().to_string();
    ///         context.forward(record.with_value(now))
    ///     }
    /// }
    /// let forwarded = process_all(|| P, [Record::new("a".to_string(), "x".to_string(), 7)])?;
    /// assert_eq!(forwarded[0].value, "0");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn now_ms(&self) -> Timestamp {
        self.cx.now_ms
    }

    /// The task: sub-topology and partition.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct P;
    /// impl Processor<String, String, String, String> for P {
    ///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
    ///         let task = context.task_id().to_string();
    ///         context.forward(record.with_value(task))
    ///     }
    /// }
    /// let forwarded = process_all(|| P, [Record::new("a".to_string(), "x".to_string(), 7)])?;
    /// assert_eq!(forwarded[0].value, "0_0");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn task_id(&self) -> &str {
        &self.cx.task_id
    }

    /// The application that the task is of (`application.id`).
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct P;
    /// impl Processor<String, String, String, String> for P {
    ///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
    ///         let application = context.application_id().to_string();
    ///         context.forward(record.with_value(application))
    ///     }
    /// }
    /// let forwarded = process_all(|| P, [Record::new("a".to_string(), "x".to_string(), 7)])?;
    /// assert_eq!(forwarded[0].value, "test");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn application_id(&self) -> &str {
        &self.node.application_id
    }

    /// Asks for a commit soon.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct P;
    /// impl Processor<String, String, String, String> for P {
    ///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
    ///         context.commit();
    ///         context.forward(record)
    ///     }
    /// }
    /// let forwarded = process_all(|| P, [Record::new("a".to_string(), "x".to_string(), 7)])?;
    /// assert_eq!(forwarded[0].value, "x");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn commit(&mut self) {
        self.cx.commit_requested = true;
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
