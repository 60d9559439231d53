//! Stream-stream join: records of two streams that have the same key and times that are near.
//!
//! Each side keeps its records in a window store and looks for partners in the other's. A record of a left or outer join
//! that finds none waits in a store that both sides share, until its window is over, and then goes on alone.
//!
//! Source: `KStreamKStreamJoin` and its two sides, `KStreamJoinWindow`, KIP-633 for when unmatched records go on.

use super::record_cache::Origin;
use super::timed_rows::TimedWrite;
use super::{Cx, Port, Push};
use crate::error::{Error, Kind, Result};
use crate::record::{Headers, Nullable, Record, Timestamp};
use crate::serdes::{Encoded, SerdeRef};
use crate::state::StoreId;
use crate::state::join_list::{self, JoinKey};
use crate::state::segmented::Keys;
use std::sync::Arc;

/// What both sides of a join know of its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JoinTime {
    /// The largest timestamp that either side has seen.
    stream_time_ms: Timestamp,
    /// The smallest timestamp that waits in the shared store, as far as it is known.
    min_ms: Timestamp,
    /// Unmatched records are not looked for before this time of the wall clock.
    next_emit_ms: Timestamp,
}

impl Default for JoinTime {
    fn default() -> Self {
        Self { stream_time_ms: -1, min_ms: Timestamp::MAX, next_emit_ms: 0 }
    }
}

/// Keeps a stream's records for the other side. They go on first, so that a record never meets itself.
pub(crate) struct KeepForJoin<K, V> {
    pub(crate) node: String,
    pub(crate) store: StoreId,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) out: Port<K, V>,
}

impl<K: Nullable + Clone, V: Clone> Push<K, V> for KeepForJoin<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        self.out.push(cx, record.clone())?;
        if record.key.is_null() {
            return Ok(());
        }
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let encoded =
            self.key.serialize(&record.key, &mut key).and_then(|_| self.value.serialize(&record.value, &mut value));
        let encoded = encoded.map_err(|error| does_not_encode(&self.node, &error))?;
        let write = TimedWrite {
            key: &key,
            time_ms: record.timestamp_ms,
            start_ms: None,
            value: (encoded == Encoded::Bytes).then_some(&value),
            row_ms: None,
            log_ms: record.timestamp_ms,
            headers: record.headers,
        };
        cx.put_timed(&self.node, self.store, write)?;
        Ok(())
    }
}

/// Makes a result of a key and the values of this side and the other, one of which may be missing.
pub(crate) type Joiner<K, T, O, R> = Arc<dyn Fn(&K, Option<&T>, Option<&O>) -> R + Send + Sync>;

/// What a join has been told, and where it keeps things; the same for both sides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JoinSpec {
    /// How much earlier than the left record the right one may be.
    pub(crate) before_ms: i64,
    /// How much later than the left record the right one may be.
    pub(crate) after_ms: i64,
    pub(crate) grace_ms: i64,
    /// Unmatched records wait here; `None` for inner joins.
    pub(crate) waiting: Option<StoreId>,
    /// The left side's window store, under which the task keeps the join's time.
    pub(crate) time: StoreId,
}

/// One side of a join: `T` is this side's value, `O` the other's.
pub(crate) struct JoinSide<K, T, O, R> {
    pub(crate) node: String,
    pub(crate) spec: JoinSpec,
    pub(crate) is_left: bool,
    /// Records of this side that find no partner go on alone.
    pub(crate) outer: bool,
    /// The other side's window store.
    pub(crate) other: StoreId,
    pub(crate) key: SerdeRef<K>,
    pub(crate) this_value: SerdeRef<T>,
    pub(crate) other_value: SerdeRef<O>,
    pub(crate) join: Joiner<K, T, O, R>,
    pub(crate) out: Port<K, R>,
}

impl<K: Nullable + Clone, T: Nullable, O, R> Push<K, T> for JoinSide<K, T, O, R> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, T>) -> Result {
        let time_ms = record.timestamp_ms;
        let time = &mut cx.join_times[self.spec.time.0];
        time.stream_time_ms = time.stream_time_ms.max(time_ms);
        let stream_time_ms = time.stream_time_ms;
        if self.outer && record.key.is_null() && !record.value.is_null() {
            return self.emit(cx, &record, time_ms, (self.join)(&record.key, Some(&record.value), None));
        }
        if record.key.is_null() || record.value.is_null() {
            cx.drop_record(&self.node, "a stream-stream join needs key and value, and one is null");
            return Ok(());
        }
        if time_ms == stream_time_ms {
            self.emit_unmatched(cx, &record)?;
        }
        let mut key = Vec::new();
        self.key.serialize(&record.key, &mut key).map_err(|error| does_not_encode(&self.node, &error))?;
        let (before_ms, after_ms) = self.looks();
        let (from_ms, to_ms) = (time_ms.saturating_sub(before_ms).max(0), time_ms.saturating_add(after_ms).max(0));
        let partners = cx.fetch_timed(self.other, Keys::One(&key), from_ms, to_ms)?;
        for partner in &partners {
            if let Some(waiting) = self.spec.waiting {
                // It has found one: it waits no more.
                let waits = JoinKey { time_ms: partner.time_ms, is_left: !self.is_left, key: &key }.bytes();
                if cx.state.get(waiting, &waits)?.is_some() {
                    cx.put_logged(waiting, &waits, None, time_ms);
                }
            }
            let other = self.decode(&self.other_value, &partner.value)?;
            let result = (self.join)(&record.key, Some(&record.value), Some(&other));
            self.emit(cx, &record, time_ms.max(partner.time_ms), result)?;
        }
        if !partners.is_empty() || !self.outer {
            return Ok(());
        }
        match self.spec.waiting {
            Some(waiting) if to_ms >= cx.join_times[self.spec.time.0].stream_time_ms => {
                self.wait(cx, waiting, &key, &record)
            }
            _ => self.emit(cx, &record, time_ms, (self.join)(&record.key, Some(&record.value), None)),
        }
    }
}

impl<K: Nullable + Clone, T, O, R> JoinSide<K, T, O, R> {
    /// How far this side looks back and ahead.
    fn looks(&self) -> (i64, i64) {
        if self.is_left { (self.spec.before_ms, self.spec.after_ms) } else { (self.spec.after_ms, self.spec.before_ms) }
    }

    fn emit(&mut self, cx: &mut Cx, cause: &Record<K, T>, timestamp_ms: Timestamp, value: R) -> Result {
        let (key, headers) = (cause.key.clone(), cause.headers.clone());
        self.out.push(cx, Record { key, value, timestamp_ms, headers })
    }

    /// Lets the record wait for a partner.
    fn wait(&mut self, cx: &mut Cx, waiting: StoreId, key: &[u8], record: &Record<K, T>) -> Result {
        let time = &mut cx.join_times[self.spec.time.0];
        time.min_ms = time.min_ms.min(record.timestamp_ms);
        let waits = JoinKey { time_ms: record.timestamp_ms, is_left: self.is_left, key }.bytes();
        let mut value = vec![u8::from(self.is_left)];
        self.this_value.serialize(&record.value, &mut value).map_err(|error| does_not_encode(&self.node, &error))?;
        let list = match cx.state.get(waiting, &waits)? {
            Some(list) => join_list::append(&list, &value),
            None => join_list::append(&[], &value),
        };
        cx.put_logged(waiting, &waits, Some(&list), record.timestamp_ms);
        Ok(())
    }

    /// Sends those on whose window is over, oldest first.
    fn emit_unmatched(&mut self, cx: &mut Cx, cause: &Record<K, T>) -> Result {
        let Some(waiting) = self.spec.waiting else { return Ok(()) };
        let now_ms = cx.now_ms;
        let time = &mut cx.join_times[self.spec.time.0];
        // Where nothing waits the sum wraps around, as in Kafka Streams: the first record starts the interval.
        let gate_ms = time.min_ms.wrapping_add(self.looks().1).wrapping_add(self.spec.grace_ms);
        if gate_ms >= time.stream_time_ms || now_ms < time.next_emit_ms {
            return Ok(());
        }
        time.next_emit_ms = now_ms + cx.emit_intervals.outer_join_ms;
        time.min_ms = Timestamp::MAX;
        let stream_time_ms = time.stream_time_ms;
        let (spec, mut min_ms) = (self.spec, Timestamp::MAX);
        let (mut left_open, mut right_open) = (false, false);
        let mut over: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        cx.state.range(waiting, None, None, &mut |key, list| {
            let Some(waits) = JoinKey::read(key) else { return true };
            min_ms = waits.time_ms;
            if left_open && right_open {
                return false;
            }
            let looks_ms = if waits.is_left { spec.after_ms } else { spec.before_ms };
            if min_ms.wrapping_add(looks_ms).wrapping_add(spec.grace_ms) >= stream_time_ms {
                left_open |= waits.is_left;
                right_open |= !waits.is_left;
            } else {
                over.push((key.to_vec(), list.to_vec()));
            }
            true
        })?;
        cx.join_times[spec.time.0].min_ms = min_ms;
        let mut last: Option<Vec<u8>> = None;
        for (bytes, list) in over {
            let Some(waits) = JoinKey::read(&bytes) else { continue };
            let (key, timestamp_ms) = (self.decode(&self.key, waits.key)?, waits.time_ms);
            let headers = cause.headers.clone();
            let values = join_list::values(&list);
            for (i, value) in values.iter().enumerate() {
                let value = value.get(1..).unwrap_or_default();
                let value = if waits.is_left == self.is_left {
                    (self.join)(&key, Some(&self.decode(&self.this_value, value)?), None)
                } else {
                    (self.join)(&key, None, Some(&self.decode(&self.other_value, value)?))
                };
                let (key, headers) = (key.clone(), headers.clone());
                self.out.push(cx, Record { key, value, timestamp_ms, headers })?;
                // Kafka Streams deletes an entry when it has seen the one behind it.
                if i == 0
                    && let Some(last) = last.take()
                {
                    cx.put_logged(waiting, &last, None, cause.timestamp_ms);
                }
            }
            last = Some(bytes);
        }
        if let Some(last) = last {
            cx.put_logged(waiting, &last, None, cause.timestamp_ms);
        }
        Ok(())
    }

    fn decode<X>(&self, serde: &SerdeRef<X>, bytes: &[u8]) -> Result<X> {
        serde.deserialize(Some(bytes)).map_err(|error| does_not_decode(&self.node, &error))
    }
}

/// A stream joined with itself, with one store: the same results in the same order as from two sides.
/// Source: `KStreamKStreamSelfJoin`.
pub(crate) struct SelfJoin<K, T, R> {
    pub(crate) node: String,
    pub(crate) spec: JoinSpec,
    pub(crate) retention_ms: i64,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<T>,
    pub(crate) join: Arc<dyn Fn(&K, &T, &T) -> R + Send + Sync>,
    pub(crate) out: Port<K, R>,
}

impl<K: Nullable + Clone, T: Nullable, R> Push<K, T> for SelfJoin<K, T, R> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, T>) -> Result {
        if record.key.is_null() || record.value.is_null() {
            cx.drop_record(&self.node, "a stream-stream join needs key and value, and one is null");
            return Ok(());
        }
        let Record { key, value, timestamp_ms: time_ms, headers } = record;
        let time = &mut cx.join_times[self.spec.time.0];
        time.stream_time_ms = time.stream_time_ms.max(time_ms);
        let mut self_is_due = time_ms > time.stream_time_ms.saturating_sub(self.retention_ms).saturating_add(1);
        let mut key_bytes = Vec::new();
        self.key.serialize(&key, &mut key_bytes).map_err(|error| does_not_encode(&self.node, &error))?;
        let mut emit = |cx: &mut Cx, timestamp_ms, value| {
            self.out.push(cx, Record { key: key.clone(), value, timestamp_ms, headers: headers.clone() })
        };
        let JoinSpec { before_ms, after_ms, .. } = self.spec;
        for (back_ms, ahead_ms, as_left) in [(before_ms, after_ms, true), (after_ms, before_ms, false)] {
            let (from_ms, to_ms) = (time_ms.saturating_sub(back_ms).max(0), time_ms.saturating_add(ahead_ms).max(0));
            for partner in cx.fetch_timed(self.spec.time, Keys::One(&key_bytes), from_ms, to_ms)? {
                let other = self.value.deserialize(Some(&partner.value));
                let other = other.map_err(|error| does_not_decode(&self.node, &error))?;
                if as_left {
                    emit(cx, time_ms.max(partner.time_ms), (self.join)(&key, &value, &other))?;
                    continue;
                }
                if self_is_due && time_ms < partner.time_ms {
                    self_is_due = false;
                    emit(cx, time_ms, (self.join)(&key, &value, &value))?;
                }
                emit(cx, time_ms.max(partner.time_ms), (self.join)(&key, &other, &value))?;
            }
        }
        if self_is_due { emit(cx, time_ms, (self.join)(&key, &value, &value)) } else { Ok(()) }
    }
}

fn does_not_encode(node: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::Record, format!("a key or value does not encode: {error}")).node(node)
}

fn does_not_decode(node: &str, error: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::State, format!("a stored key or value does not decode: {error}")).node(node).hint(
        "the store holds another type than this topology's: give the store another name, or reset the application",
    )
}

impl Cx {
    /// Writes a row without timestamp, and logs it with this one.
    pub(crate) fn put_logged(&mut self, store: StoreId, key: &[u8], value: Option<&[u8]>, log_ms: Timestamp) {
        self.state.put(store, key, value);
        if self.cache.is_cached(store) {
            let origin = Origin::new(log_ms, Headers::default(), self.current.as_ref(), self.dead_letters.is_some());
            return self.cache.hold(store, key, value, None, origin);
        }
        if let Some(evicted) = self.state.evicted(store).map(<[u8]>::to_vec) {
            self.log(store, &evicted, None, log_ms, Headers::default());
        }
        self.log(store, key, value, log_ms, Headers::default());
    }
}
