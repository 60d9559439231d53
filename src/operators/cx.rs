//! What operators of one task share while a record goes through: the record's origin, stores, outbox, error policies.

use super::holds::Holds;
use super::punctuation::Punctuations;
use super::record_cache::{Origin, RecordCache};
use super::sizes::TopicSizes;
use super::stream_stream_join::JoinTime;
use crate::broker::{BatchRecord, RawRecord, TopicPartition};
use crate::config::{EmitIntervals, ErrorPolicies, Policy, Timestamps};
use crate::error::{Error, Kind, Result};
use crate::record::{Headers, Timestamp};
use crate::serdes::{Encoded, SerdeError};
use crate::state::buffer_value::{BufferOrigin, SourceBytes};
use crate::state::change_buffer::ChangeBuffer;
use crate::state::segmented::Segmented;
use crate::state::versioned::Versioned;
use crate::state::{StoreId, TaskState, timestamped};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// Where the record being processed came from.
#[derive(Debug, Clone)]
pub struct RecordContext {
    /// Topic and partition.
    pub partition: Rc<TopicPartition>,
    /// The record as it was consumed.
    pub raw: RawRecord,
    /// Its timestamp, as the extractor gave it.
    pub timestamp_ms: Timestamp,
}

impl RecordContext {
    /// A record that was held back, with what is left of its bytes.
    pub(crate) fn held(origin: BufferOrigin) -> Self {
        let BufferOrigin { timestamp_ms, partition, offset, headers, source } = origin;
        let mut bytes = Vec::new();
        let mut place = |part: &Option<Vec<u8>>| {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(part.as_ref()?);
            Some(start..bytes.len() as u32)
        };
        let (key, value) = source.map_or((None, None), |source| (place(&source.key), place(&source.value)));
        let meta = BatchRecord { source: 0, offset, timestamp_ms, key, value, headers };
        Self { partition, raw: RawRecord { bytes: Rc::new(bytes), meta }, timestamp_ms }
    }

    /// A copy of the record's bytes.
    pub(crate) fn source_bytes(&self) -> Rc<SourceBytes> {
        let part = |part: Option<&[u8]>| part.map(<[u8]>::to_vec);
        Rc::new(SourceBytes { key: part(self.raw.key()), value: part(self.raw.value()) })
    }
}

/// The number of a topic in an [`Outbox`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicId(pub(super) usize);

/// Records on their way to the producer. Keys and values are encoded straight into one buffer, so that producing costs no
/// allocation; the thread drains it after each run of records.
#[derive(Debug, Default)]
pub struct Outbox {
    topics: Vec<Arc<str>>,
    /// How many records of each topic were pushed since `take_pushed`.
    pushed: Vec<i64>,
    bytes: Vec<u8>,
    records: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    topic: TopicId,
    partition: Option<i32>,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    timestamp_ms: Option<Timestamp>,
    headers: Headers,
}

impl Outbox {
    /// The number of `topic`, new or known.
    pub fn topic(&mut self, topic: &str) -> TopicId {
        let known = self.topics.iter().position(|t| **t == *topic);
        TopicId(known.unwrap_or_else(|| {
            self.topics.push(topic.into());
            self.pushed.push(0);
            self.topics.len() - 1
        }))
    }

    /// The name behind a number.
    pub fn topic_name(&self, topic: TopicId) -> &Arc<str> {
        &self.topics[topic.0]
    }

    /// Appends a record; `encode` appends key or value bytes to the buffer that it is given. On an error nothing is
    /// appended.
    pub fn push<E>(
        &mut self,
        topic: TopicId,
        partition: Option<i32>,
        timestamp_ms: Option<Timestamp>,
        headers: Headers,
        key: impl FnOnce(&mut Vec<u8>) -> Result<Encoded, E>,
        value: impl FnOnce(&mut Vec<u8>) -> Result<Encoded, E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        let mut part = |encode: &mut dyn FnMut(&mut Vec<u8>) -> Result<Encoded, E>| {
            let from = self.bytes.len();
            Ok(match encode(&mut self.bytes)? {
                Encoded::Null => None,
                Encoded::Bytes => Some(from..self.bytes.len()),
            })
        };
        let (mut key, mut value) = (Some(key), Some(value));
        let parts = part(&mut |out| key.take().map_or(Ok(Encoded::Null), |f| f(out)))
            .and_then(|k| Ok((k, part(&mut |out| value.take().map_or(Ok(Encoded::Null), |f| f(out)))?)));
        match parts {
            Ok((key, value)) => {
                self.pushed[topic.0] += 1;
                self.records.push(Entry { topic, partition, key, value, timestamp_ms, headers });
                Ok(())
            }
            Err(error) => {
                self.bytes.truncate(start);
                Err(error)
            }
        }
    }

    /// How many records of this topic have been pushed since the last call.
    pub(crate) fn take_pushed(&mut self, topic: TopicId) -> i64 {
        std::mem::take(&mut self.pushed[topic.0])
    }

    /// Gives the record that was appended last its partition, by its key's bytes; one without a key has none.
    pub(super) fn place_last(&mut self, partition: impl FnOnce(&[u8]) -> i32) {
        let Some(last) = self.records.last_mut() else { return };
        last.partition = last.key.clone().map(|key| partition(&self.bytes[key]));
    }

    /// Bytes that are waiting.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// True where nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many records are waiting.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Hands the records to `send`, in order, and forgets those that it took. At the first error it stops: what is left
    /// is handed over by the next call.
    pub fn drain(&mut self, mut send: impl FnMut(crate::broker::Outgoing<'_>) -> Result) -> Result {
        for (i, e) in self.records.iter().enumerate() {
            let sent = send(crate::broker::Outgoing {
                topic: &self.topics[e.topic.0],
                partition: e.partition,
                key: e.key.clone().map(|r| &self.bytes[r]),
                value: e.value.clone().map(|r| &self.bytes[r]),
                timestamp_ms: e.timestamp_ms,
                headers: &e.headers,
            });
            if let Err(error) = sent {
                self.records.drain(..i);
                return Err(error);
            }
        }
        self.records.clear();
        self.bytes.clear();
        Ok(())
    }

    /// Forgets everything: the task is closed dirty.
    pub fn clear(&mut self) {
        self.records.clear();
        self.bytes.clear();
    }
}

/// Counts of one task since it was made; the thread publishes the differences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records processed.
    pub processed: u64,
    /// Records dropped: null key or value where none may be, negative timestamp, or skipped by a `continue` policy.
    pub dropped: u64,
    /// Records sent to the dead-letter topic.
    pub dead_lettered: u64,
    /// Records handed to sinks.
    pub produced: u64,
    /// Records of a stream that found no row in the table that they are joined with.
    pub join_misses: u64,
}

impl Counts {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        self.with(other, u64::wrapping_add)
    }

    /// What has come since `earlier`.
    pub fn minus(self, earlier: Self) -> Self {
        self.with(earlier, u64::wrapping_sub)
    }

    fn with(self, other: Self, f: fn(u64, u64) -> u64) -> Self {
        Self {
            processed: f(self.processed, other.processed),
            dropped: f(self.dropped, other.dropped),
            dead_lettered: f(self.dead_lettered, other.dead_lettered),
            produced: f(self.produced, other.produced),
            join_misses: f(self.join_misses, other.join_misses),
        }
    }
}

/// What has become of calls to the outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallFigures {
    /// How long each took that has ended, with its repetitions.
    pub nanos: Vec<u64>,
    /// How often one was made again.
    pub retried: u64,
    /// How many failed for good.
    pub failed: u64,
}

/// What a dead letter tells of a record as it was at the operator where it failed; `None`: as it was consumed.
pub(crate) type Seen = Option<(Timestamp, Headers)>;

/// The stages at which one record can be at fault, each with its own policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Bytes that do not decode.
    Deserialization,
    /// An operator's closure returned an error.
    Processing,
    /// A result that does not encode, or that the broker refuses.
    Production,
}

/// What the operators of one task share.
pub struct Cx {
    /// The record being processed; `None` between records.
    pub current: Option<RecordContext>,
    /// The task's partition number: where its changelog records go.
    pub partition: i32,
    /// The task's stores.
    pub state: TaskState,
    /// Per store: the view of a window or session store.
    pub segmented: Vec<Option<Segmented>>,
    /// What tables hold back, by the store that it is logged as.
    pub(crate) buffers: HashMap<StoreId, ChangeBuffer>,
    /// Per store: the time of the stream-stream join whose left window store it is.
    pub(crate) join_times: Vec<JoinTime>,
    /// The calls that processors asked for.
    pub(crate) punctuations: Punctuations,
    /// What keeps offsets from being committed.
    pub holds: Holds,
    /// What has become of calls to the outside, since the thread took it last.
    pub(crate) calls: CallFigures,
    /// The timestamp with which stores without timestamps log: that of the record being processed.
    pub(crate) context_ms: Timestamp,
    /// A processor asked for a commit.
    pub(crate) commit_requested: bool,
    /// A processor has sent something on, since the last punctuation was called.
    pub(crate) forwarded: bool,
    /// The task's id.
    pub(crate) task_id: String,
    /// How often windowed operators look for what is over.
    pub(crate) emit_intervals: EmitIntervals,
    /// The wall clock, as of the thread's turn.
    pub now_ms: Timestamp,
    /// Per store: the view of a versioned store.
    pub versioned: Vec<Option<Versioned>>,
    /// What the stores hold back until they are flushed.
    pub cache: RecordCache,
    /// Per store, where its changes are logged.
    pub changelogs: Vec<Option<TopicId>>,
    /// Records on their way to the producer.
    pub outbox: Outbox,
    /// How many partitions the topics have that they go to.
    pub(crate) sizes: TopicSizes,
    /// Counts since the task was made.
    pub counts: Counts,
    /// The largest timestamp that the task has processed; -1 before the first.
    pub stream_time_ms: Timestamp,
    /// What to do with a record that is at fault.
    pub policies: ErrorPolicies,
    /// Where timestamps come from.
    pub(crate) timestamps: Timestamps,
    /// Whether the changelog record of a deleted row has the headers of the record that deleted it.
    pub(crate) deletes_have_headers: bool,
    /// Where dead letters go.
    pub dead_letters: Option<TopicId>,
    /// Per store: up to which time its closed windows have been sent on. Committed with the offsets.
    pub closed_ms: Vec<Option<Timestamp>>,
    /// Scratch for rows.
    pub(crate) row: Vec<u8>,
}

impl Cx {
    /// Drops the record that is being processed, and counts it.
    pub fn drop_record(&mut self, node: &str, why: &str) {
        self.counts.dropped += 1;
        match &self.current {
            Some(c) => tracing::warn!(
                node,
                topic = &*c.partition.topic,
                partition = c.partition.partition,
                offset = c.raw.meta.offset,
                "record dropped: {why}"
            ),
            None => tracing::warn!(node, "record dropped: {why}"),
        }
    }

    /// Writes a row with its timestamp to a store and, where the store is logged, to its changelog: there the timestamp is
    /// the record's own (`compat`: a deleted row's is that of the record being processed).
    pub fn put_timestamped(&mut self, store: StoreId, key: &[u8], value: Option<&[u8]>, timestamp_ms: Timestamp) {
        self.put_timestamped_with(store, key, value, timestamp_ms, Headers::default());
    }

    /// [`put_timestamped`](Self::put_timestamped) of a row whose changelog record has headers.
    pub(crate) fn put_timestamped_with(
        &mut self,
        store: StoreId,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp_ms: Timestamp,
        headers: Headers,
    ) {
        let row = if self.state.is_timestamped(store) {
            value.map(|value| {
                timestamped::encode(value, timestamp_ms, &mut self.row);
                self.row.as_slice()
            })
        } else {
            value
        };
        self.state.put(store, key, row);
        if self.cache.is_cached(store) {
            let origin = Origin::new(timestamp_ms, headers, self.current.as_ref(), self.dead_letters.is_some());
            return self.cache.hold(store, key, row, None, origin);
        }
        self.log(store, key, value, timestamp_ms, headers);
    }

    /// Logs a change of a store, where the store is logged.
    pub(crate) fn log(
        &mut self,
        store: StoreId,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp_ms: Timestamp,
        headers: Headers,
    ) {
        self.log_at(store, key, value, Some(timestamp_ms), headers);
    }

    /// [`log`](Self::log); `None` is the producer's clock.
    pub(crate) fn log_at(
        &mut self,
        store: StoreId,
        key: &[u8],
        value: Option<&[u8]>,
        timestamp_ms: Option<Timestamp>,
        headers: Headers,
    ) {
        let Some(topic) = self.changelogs[store.0] else { return };
        let _infallible: Result<(), SerdeError> = self.outbox.push(
            topic,
            Some(self.partition),
            timestamp_ms,
            headers,
            |out| Ok(append(Some(key), out)),
            |out| Ok(append(value, out)),
        );
    }

    /// How many partitions a topic has.
    pub(crate) fn partitions_of(&mut self, topic: TopicId) -> Result<i32> {
        self.sizes.partitions(topic, self.outbox.topic_name(topic))
    }

    /// One record is at fault: does what the policy of that stage says. `Ok` means: skip the record and go on.
    pub fn faulty_record(&mut self, stage: Stage, node: &str, cause: &dyn std::fmt::Display) -> Result {
        self.faulty_record_seen(stage, node, cause, None)
    }

    /// What a dead letter would need, should the record fail.
    pub(crate) fn seen(&self, timestamp_ms: Timestamp, headers: &Headers) -> Seen {
        self.dead_letters.map(|_| (timestamp_ms, headers.clone()))
    }

    /// [`faulty_record`](Self::faulty_record) of a record that may have changed on its way.
    pub(crate) fn faulty_record_seen(
        &mut self,
        stage: Stage,
        node: &str,
        cause: &dyn std::fmt::Display,
        seen: Seen,
    ) -> Result {
        let policy = match stage {
            Stage::Deserialization => self.policies.deserialization,
            Stage::Processing => self.policies.processing,
            Stage::Production => self.policies.production,
        };
        let mut error = Error::new(Kind::Record, format!("{stage:?} failed: {cause}")).node(node);
        if let Some(c) = &self.current {
            error = error.topic(&*c.partition.topic).partition(c.partition.partition).offset(c.raw.meta.offset);
        }
        match policy {
            Policy::Fail => {
                // The record has its place in the dead-letter topic, if there is one, even where the task ends over it.
                if self.dead_letters.is_some() {
                    self.send_dead_letter(&error, seen)?;
                }
                Err(error.hint(
                    "correct or skip the record at its source, or set errors.<stage> to \"continue\" or \"dead-letter\"",
                ))
            }
            Policy::Continue => {
                self.counts.dropped += 1;
                tracing::warn!("{error}; the record is skipped (policy: continue)");
                Ok(())
            }
            Policy::DeadLetter => {
                self.send_dead_letter(&error, seen)?;
                self.counts.dead_lettered += 1;
                tracing::warn!("{error}; sent to the dead-letter topic");
                Ok(())
            }
        }
    }

    /// Sends the bytes of the record being processed, as they were consumed, to the dead-letter topic with KIP-1034's headers.
    fn send_dead_letter(&mut self, error: &Error, seen: Seen) -> Result {
        let (Some(topic), Some(c)) = (self.dead_letters, &self.current) else {
            return Err(Error::new(Kind::Config, "the policy is dead-letter, but there is no dead-letter topic")
                .key("errors.dead.letter.topic.name"));
        };
        let (timestamp_ms, mut headers) = seen.unwrap_or_else(|| (c.timestamp_ms, c.raw.meta.headers.clone()));
        let mut add = |name: &str, value: &str| headers.add(format!("__streams.errors.{name}"), Some(value.as_bytes()));
        add("exception", &format!("watersmeet::{:?}", error.kind()));
        add("message", &error.to_string());
        add("stacktrace", &error.to_string());
        add("topic", &c.partition.topic);
        add("partition", &c.partition.partition.to_string());
        add("offset", &c.raw.meta.offset.to_string());
        let (key, value) = (c.raw.key(), c.raw.value());
        let _infallible: Result<(), SerdeError> = self.outbox.push(
            topic,
            None,
            Some(timestamp_ms),
            headers,
            |out| Ok(append(key, out)),
            |out| Ok(append(value, out)),
        );
        Ok(())
    }
}

/// Appends bytes that are encoded already.
fn append(part: Option<&[u8]>, out: &mut Vec<u8>) -> Encoded {
    part.map_or(Encoded::Null, |part| {
        out.extend_from_slice(part);
        Encoded::Bytes
    })
}
