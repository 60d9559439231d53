//! `suppress`: holds changes of a table back, until a window is over or some time has passed; then only the last one goes on.
//!
//! Source: Kafka Streams' `KTableSuppressProcessorSupplier`.

use super::cx::Stage;
use super::getter::Getter;
use super::{Cx, Hook, Port, Push, RecordContext};
use crate::error::{Error, Kind, Result};
use crate::record::{Change, Headers, Record, Timestamp};
use crate::serdes::{Encoded, SerdeError, SerdeRef};
use crate::state::StoreId;
use crate::state::buffer_value::{BufferOrigin, BufferValue, Bytes};
use std::rc::Rc;

/// How much a buffer may hold, and what happens when it would hold more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_records: u64,
    pub(crate) max_bytes: u64,
    /// The oldest changes go on early; else the task ends.
    pub(crate) emit_early: bool,
}

/// When a change goes on.
pub(crate) struct When<K> {
    /// So long after the change's place in the buffer.
    pub(crate) wait_ms: i64,
    /// The change's place: when its window ends. Without it the timestamp of the key's first change.
    pub(crate) end_of: Option<fn(&K) -> Timestamp>,
}

/// Holds changes back.
pub(crate) struct Suppress<K, V> {
    pub(crate) buffer: Buffer<K, V>,
    pub(crate) when: When<K>,
    pub(crate) limits: Limits,
    /// The largest timestamp that has come.
    pub(crate) observed_ms: Timestamp,
    pub(crate) out: Port<K, Change<V>>,
}

/// The buffer of a task, typed.
pub(crate) struct Buffer<K, V> {
    pub(crate) node: String,
    pub(crate) store: StoreId,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
}

impl<K, V> Buffer<K, V> {
    fn key_bytes(&self, key: &K) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.key.serialize(key, &mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(Error::new(Kind::Record, format!("a key does not encode: {error}")).node(&self.node)),
        }
    }

    fn value_bytes(&self, value: Option<&V>) -> Result<Option<Bytes>, SerdeError> {
        let Some(value) = value else { return Ok(None) };
        let mut bytes = Vec::new();
        Ok(match self.value.serialize(value, &mut bytes)? {
            Encoded::Bytes => Some(bytes.into()),
            Encoded::Null => None,
        })
    }

    fn value(&self, bytes: Option<&Bytes>) -> Result<Option<V>> {
        let value = bytes.map(|bytes| self.value.deserialize(Some(bytes))).transpose();
        value.map_err(|error| self.not_decoded("value", &error))
    }

    fn not_decoded(&self, part: &str, error: &SerdeError) -> Error {
        Error::new(Kind::State, format!("a {part} that was held back does not decode: {error}"))
            .node(&self.node)
            .hint("the store holds another type than this topology's: give it another name, or reset the application")
    }
}

impl<K, V> Push<K, Change<V>> for Suppress<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, Change<V>>) -> Result {
        self.observed_ms = self.observed_ms.max(record.timestamp_ms);
        let Record { key, value: Change { old, new, .. }, timestamp_ms, headers } = record;
        let parts =
            self.buffer.value_bytes(old.as_ref()).and_then(|old| Ok((old, self.buffer.value_bytes(new.as_ref())?)));
        let (old, new) = match parts {
            Ok(parts) => parts,
            Err(error) => return cx.faulty_record(Stage::Processing, &self.buffer.node, &error),
        };
        let time_ms = self.when.end_of.map_or(timestamp_ms, |end_of| end_of(&key));
        let origin = origin(cx, timestamp_ms, headers);
        let key = self.buffer.key_bytes(&key)?;
        cx.buffers.entry(self.buffer.store).or_default().put(time_ms, &key, origin, old, new);
        self.let_go(cx)
    }
}

impl<K, V> Suppress<K, V> {
    fn let_go(&mut self, cx: &mut Cx) -> Result {
        let store = self.buffer.store;
        let over_ms = self.observed_ms - self.when.wait_ms;
        while cx.buffers.get(&store).and_then(|buffer| buffer.first_ms()).is_some_and(|first_ms| first_ms <= over_ms) {
            self.send_first(cx)?;
        }
        let Limits { max_records, max_bytes, emit_early } = self.limits;
        while let Some(buffer) = cx.buffers.get(&store) {
            let (records, bytes) = (buffer.len(), buffer.bytes());
            if records <= max_records && bytes <= max_bytes {
                break;
            }
            if !emit_early {
                let what = format!(
                    "the buffer is full: it has {records} of {max_records} records, {bytes} of {max_bytes} bytes"
                );
                return cx.faulty_record(Stage::Processing, &self.buffer.node, &what);
            }
            self.send_first(cx)?;
        }
        Ok(())
    }

    /// Sends the oldest change on, as of the record that caused it. Those below that read the table still find the key held
    /// back, as in Kafka Streams.
    fn send_first(&mut self, cx: &mut Cx) -> Result {
        let store = self.buffer.store;
        let Some((key, value)) = cx.buffers.get(&store).and_then(|buffer| buffer.first()) else { return Ok(()) };
        // A window whose result is deleted before anybody saw it was never there.
        if value.new.is_some() || self.when.end_of.is_none() {
            let key =
                self.buffer.key.deserialize(Some(&key)).map_err(|error| self.buffer.not_decoded("key", &error))?;
            let change = Change::latest(self.buffer.value(value.new.as_ref())?, self.buffer.value(value.old.as_ref())?);
            let (timestamp_ms, headers) = (value.origin.timestamp_ms, value.origin.headers.clone());
            let context = RecordContext::held(value.origin.clone());
            let before = cx.current.replace(context);
            let sent = self.out.push(cx, Record { key, value: change, timestamp_ms, headers });
            cx.current = before;
            sent?;
        }
        if let Some(buffer) = cx.buffers.get_mut(&store) {
            buffer.remove_first();
        }
        Ok(())
    }
}

/// The record that causes a change.
pub(super) fn origin(cx: &Cx, timestamp_ms: Timestamp, headers: Headers) -> BufferOrigin {
    let (partition, offset) = match &cx.current {
        Some(current) => (current.partition.clone(), current.raw.meta.offset),
        None => (Rc::new(crate::broker::TopicPartition::new("", -1)), -1),
    };
    let source = cx.current.as_ref().filter(|_| cx.dead_letters.is_some()).map(RecordContext::source_bytes);
    BufferOrigin { timestamp_ms, partition, offset, headers, source }
}

/// Logs the changes of a buffer before a commit, and fills it after a restore.
pub(crate) struct BufferLog(pub(crate) StoreId);

impl Hook for BufferLog {
    fn flush(&mut self, cx: &mut Cx) -> Result {
        let Some(buffer) = cx.buffers.get_mut(&self.0) else { return Ok(()) };
        let dirty: Vec<_> = buffer.take_dirty().collect();
        let mut row = Vec::new();
        for (key, held) in dirty {
            let mut headers = Headers::default();
            if let Some((time_ms, value)) = &held {
                headers.add("v", Some(&[3]));
                row.clear();
                value.encode(*time_ms, &mut row);
            }
            cx.log_at(self.0, &key, held.is_some().then_some(&*row), None, headers);
        }
        Ok(())
    }

    fn restored(&mut self, cx: &mut Cx) -> Result {
        let mut rows = Vec::new();
        cx.state.range(self.0, None, None, &mut |key, row| {
            rows.push((key.to_vec(), BufferValue::decode(row)));
            true
        })?;
        let buffer = cx.buffers.entry(self.0).or_default();
        for (key, row) in rows {
            let (value, time_ms) = row?;
            buffer.restore(time_ms, &key, value);
            // What was read back lives in the buffer only.
            cx.state.put(self.0, &key, None);
        }
        Ok(())
    }
}

/// Reads the table as those below have seen it: without what is held back.
pub(crate) struct Suppressed<K, V> {
    pub(crate) buffer: Buffer<K, V>,
    pub(crate) above: Box<dyn Getter<K, V>>,
}

impl<K, V> Getter<K, V> for Suppressed<K, V> {
    fn get(&mut self, cx: &mut Cx, key: &K) -> Result<Option<(V, Timestamp)>> {
        let bytes = self.buffer.key_bytes(key)?;
        match cx.buffers.get(&self.buffer.store).and_then(|buffer| buffer.prior(&bytes)) {
            // Nobody knows the prior value's timestamp.
            Some(prior) => Ok(self.buffer.value(prior.as_ref())?.map(|value| (value, -1))),
            None => self.above.get(cx, key),
        }
    }
}
