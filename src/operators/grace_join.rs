//! Stream-table join with a grace period: records of the stream wait in a buffer until the table's rows of their time have
//! come.
//!
//! Source: Kafka Streams' `KStreamKTableJoinProcessor` and `RocksDBTimeOrderedKeyValueBuffer`, KIP-923.

use super::cx::Stage;
use super::stream_table_join::StreamTableJoin;
use super::suppress::origin;
use super::{Cx, Hook, Push, RecordContext};
use crate::error::{Error, Kind, Result};
use crate::record::{Headers, Nullable, Record, Timestamp};
use crate::serdes::{Encoded, SerdeError, SerdeRef};
use crate::state::StoreId;
use crate::state::buffer_value::{BufferOrigin, BufferValue};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// The first byte of every key of the buffer.
const PREFIX: u8 = 0;
/// Prefix and timestamp before the record's key, sequence number behind it.
const AROUND_KEY: (usize, usize) = (9, 4);

/// Where records wait, ordered by timestamp, then by key, then as they came.
pub(crate) struct GraceBuffer<K, V> {
    pub(crate) store: StoreId,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) grace_ms: i64,
    /// The largest timestamp that has been in the buffer.
    pub(crate) observed_ms: Rc<Cell<Timestamp>>,
    pub(crate) sequence: u32,
}

/// Joins a stream with a table as it was at each record's time, when the grace period has passed.
pub(crate) struct GraceJoin<K, V, T, R, J> {
    pub(crate) join: StreamTableJoin<K, V, T, R, J>,
    pub(crate) buffer: GraceBuffer<K, V>,
}

impl<K, V> GraceBuffer<K, V> {
    /// Holds a record back.
    fn put(&mut self, cx: &mut Cx, record: &Record<K, V>) -> Result<(), SerdeError> {
        let Record { key, value, timestamp_ms, headers } = record;
        self.sequence = (self.sequence + 1) & 0x7fff_ffff;
        let mut row_key = vec![PREFIX];
        row_key.extend_from_slice(&timestamp_ms.to_be_bytes());
        self.key.serialize(key, &mut row_key)?;
        row_key.extend_from_slice(&self.sequence.to_be_bytes());
        let mut bytes = Vec::new();
        let new = match self.value.serialize(value, &mut bytes)? {
            Encoded::Bytes => Some(bytes.into()),
            Encoded::Null => None,
        };
        let mut row = Vec::new();
        BufferValue::new(origin(cx, *timestamp_ms, headers.clone()), None, None, new).encode(0, &mut row);
        cx.state.put(self.store, &row_key, Some(&row));
        cx.log_at(self.store, &row_key, Some(&row), None, Headers::default());
        self.observed_ms.set(self.observed_ms.get().max(*timestamp_ms));
        Ok(())
    }

    /// The rows of the records that have waited long enough.
    fn due(&self, cx: &Cx) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let over_ms = self.observed_ms.get() - self.grace_ms;
        let mut rows = Vec::new();
        if over_ms < 0 {
            return Ok(rows);
        }
        let mut end = vec![PREFIX];
        end.extend_from_slice(&over_ms.saturating_add(1).to_be_bytes());
        cx.state.range(self.store, None, Some(&end), &mut |key, row| {
            rows.push((key.to_vec(), row.to_vec()));
            true
        })?;
        Ok(rows)
    }

    /// The record in a row, and where it came from.
    fn record(&self, node: &str, key: &[u8], row: &[u8]) -> Result<(Record<K, V>, BufferOrigin)> {
        let failed = |what: &dyn std::fmt::Display| {
            Error::new(Kind::State, format!("a record that waited does not decode: {what}")).node(node).hint(
                "the store holds another type than this topology's: give it another name, or reset the application",
            )
        };
        let key = key.get(AROUND_KEY.0..key.len().saturating_sub(AROUND_KEY.1));
        let key = self.key.deserialize(key).map_err(|error| failed(&error))?;
        let (BufferValue { origin, new, .. }, _) = BufferValue::decode(row)?;
        let value = self.value.deserialize(new.as_deref()).map_err(|error| failed(&error))?;
        let (timestamp_ms, headers) = (origin.timestamp_ms, origin.headers.clone());
        Ok((Record { key, value, timestamp_ms, headers }, origin))
    }
}

impl<K, V, T, R, J> Push<K, V> for GraceJoin<K, V, T, R, J>
where
    K: Nullable,
    V: Nullable,
    J: Fn(&K, V, Option<T>) -> Option<R>,
{
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        let Self { join, buffer } = self;
        let dropped = record.value.is_null() || record.key.is_null() && !join.left;
        if dropped || record.timestamp_ms < buffer.observed_ms.get() - buffer.grace_ms {
            return join.push(cx, record);
        }
        if record.key.is_null() {
            return cx.faulty_record(
                Stage::Processing,
                &join.node,
                &"a record without a key cannot wait in the buffer",
            );
        }
        if let Err(error) = buffer.put(cx, &record) {
            return cx.faulty_record(Stage::Processing, &join.node, &error);
        }
        for (key, row) in buffer.due(cx)? {
            let (record, origin) = buffer.record(&join.node, &key, &row)?;
            let before = cx.current.replace(RecordContext::held(origin));
            let joined = join.push(cx, record);
            cx.current = before;
            joined?;
            cx.state.put(buffer.store, &key, None);
            cx.log_at(buffer.store, &key, None, None, Headers::default());
        }
        Ok(())
    }
}

/// Finds out after a restore how far the buffer's time is.
pub(crate) struct BufferTime {
    store: StoreId,
    observed_ms: Rc<Cell<Timestamp>>,
}

impl BufferTime {
    /// The hook, and the time that it sets.
    pub(crate) fn new(store: StoreId) -> (Rc<RefCell<Self>>, Rc<Cell<Timestamp>>) {
        let observed_ms = Rc::new(Cell::new(-1));
        (Rc::new(RefCell::new(Self { store, observed_ms: observed_ms.clone() })), observed_ms)
    }
}

impl Hook for BufferTime {
    fn restored(&mut self, cx: &mut Cx) -> Result {
        let mut last_ms = -1;
        cx.state.range(self.store, None, None, &mut |key, _| {
            let time = key.get(1..9).and_then(|time| time.first_chunk());
            last_ms = time.map_or(last_ms, |time| Timestamp::from_be_bytes(*time));
            true
        })?;
        self.observed_ms.set(last_ms);
        Ok(())
    }
}
