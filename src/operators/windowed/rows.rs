//! Rows of windows and sessions, typed.

use crate::error::{Error, Kind, Result};
use crate::operators::Cx;
use crate::operators::cx::Stage;
use crate::operators::getter::Getter;
use crate::operators::timed_rows::TimedWrite;
use crate::record::{Headers, Timestamp};
use crate::serdes::{Encoded, SerdeRef};
use crate::state::segmented::Keys;
use crate::state::{StoreId, timestamped};
use crate::windows::{Window, Windowed};

/// What windows and sessions have in common: the store, and how keys and values are written.
pub(crate) struct TimedStore<K, A> {
    node: String,
    store: StoreId,
    key: SerdeRef<K>,
    value: SerdeRef<A>,
    key_bytes: Vec<u8>,
    value_bytes: Vec<u8>,
}

impl<K, A> TimedStore<K, A> {
    /// The store as `node` sees it.
    pub(crate) fn new(node: &str, store: StoreId, key: SerdeRef<K>, value: SerdeRef<A>) -> Self {
        Self { node: node.into(), store, key, value, key_bytes: Vec::new(), value_bytes: Vec::new() }
    }

    fn encode_key(&mut self, key: &K) -> Result {
        self.key_bytes.clear();
        match self.key.serialize(key, &mut self.key_bytes) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::new(Kind::Record, format!("a key does not encode: {error}")).node(&self.node)),
        }
    }

    /// The bytes of a value, in `value_bytes`: whether there are any; `None` where it is at fault and is skipped.
    fn encode_value(&mut self, cx: &mut Cx, value: Option<&A>) -> Result<Option<bool>> {
        self.value_bytes.clear();
        match value.map(|value| self.value.serialize(value, &mut self.value_bytes)) {
            None | Some(Ok(Encoded::Null)) => Ok(Some(false)),
            Some(Ok(Encoded::Bytes)) => Ok(Some(true)),
            Some(Err(error)) => cx.faulty_record(Stage::Production, &self.node, &error).map(|()| None),
        }
    }

    /// Writes the row of `key_bytes` with `value_bytes`, or deletes it.
    fn put(
        &mut self,
        cx: &mut Cx,
        (time_ms, start_ms): (Timestamp, Option<Timestamp>),
        has_value: bool,
        row_ms: Option<Timestamp>,
        (context_ms, headers): (Timestamp, &Headers),
        wants_old: bool,
    ) -> Result {
        let write = TimedWrite {
            key: &self.key_bytes,
            time_ms,
            start_ms,
            value: has_value.then_some(&self.value_bytes),
            row_ms,
            // A row is logged with its own timestamp, a deleted one with that of the record.
            log_ms: row_ms.filter(|_| has_value).unwrap_or(context_ms),
            headers: Headers::default(),
        };
        cx.put_window(&self.node, self.store, write, headers, wants_old)?;
        Ok(())
    }

    fn value(&self, bytes: &[u8]) -> Result<A> {
        self.value.deserialize(Some(bytes)).map_err(|error| self.undecodable("value", &error))
    }

    fn key(&self, bytes: &[u8]) -> Result<K> {
        self.key.deserialize(Some(bytes)).map_err(|error| self.undecodable("key", &error))
    }

    fn undecodable(&self, part: &str, error: &dyn std::fmt::Display) -> Error {
        Error::new(Kind::State, format!("the {part} of a window does not decode: {error}")).node(&self.node).hint(
            "the store holds another type than this topology's: give the store another name, or reset the application",
        )
    }
}

/// A window's aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row<A> {
    /// The start of the window.
    pub(crate) start_ms: Timestamp,
    pub(crate) value: A,
    /// The largest timestamp in it.
    pub(crate) timestamp_ms: Timestamp,
}

/// The aggregates of time windows, by key and start of the window.
pub(crate) struct WindowRows<K, A>(pub(crate) TimedStore<K, A>);

impl<K, A> WindowRows<K, A> {
    /// The aggregate of the window that starts at `start_ms`, with its timestamp.
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read, or the row is not of this type.
    pub(crate) fn get(&mut self, cx: &mut Cx, key: &K, start_ms: Timestamp) -> Result<Option<(A, Timestamp)>> {
        self.0.encode_key(key)?;
        let Some(row) = cx.get_timed(self.0.store, &self.0.key_bytes, start_ms, 0)? else { return Ok(None) };
        Ok(Some((self.0.value(timestamped::value(&row))?, timestamped::timestamp_ms(&row))))
    }

    /// Sets or deletes a window's aggregate, and logs it, or lets a cached store hold it back. `origin` are timestamp and
    /// headers of the record that does it; `wants_old`: the change will have to tell what was there before. False: the
    /// aggregate was at fault and is skipped.
    ///
    /// # Errors
    /// [`Kind::Record`]: key or value do not encode, and the production policy is to fail.
    pub(crate) fn put(
        &mut self,
        cx: &mut Cx,
        key: &K,
        (start_ms, value, timestamp_ms): (Timestamp, Option<&A>, Timestamp),
        origin: (Timestamp, &Headers),
        wants_old: bool,
    ) -> Result<bool> {
        self.0.encode_key(key)?;
        let Some(has_value) = self.0.encode_value(cx, value)? else { return Ok(false) };
        self.0.put(cx, (start_ms, None), has_value, Some(timestamp_ms), origin, wants_old)?;
        Ok(true)
    }

    /// The windows of `key` that start from `from_ms` to `to_ms`, in the order of their starts.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) fn starting(
        &mut self,
        cx: &mut Cx,
        key: &K,
        from_ms: Timestamp,
        to_ms: Timestamp,
    ) -> Result<Vec<Row<A>>> {
        self.0.encode_key(key)?;
        let rows = cx.fetch_timed(self.0.store, Keys::One(&self.0.key_bytes), from_ms, to_ms)?;
        let row = |row: crate::state::segmented::TimedRow| {
            let (value, timestamp_ms) = (timestamped::value(&row.value), timestamped::timestamp_ms(&row.value));
            Ok(Row { start_ms: row.time_ms, value: self.0.value(value)?, timestamp_ms })
        };
        rows.into_iter().map(row).collect()
    }

    /// The windows of all keys that start from `from_ms` to `to_ms`, by start and then by the bytes of their keys.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) fn all_starting(
        &mut self,
        cx: &mut Cx,
        from_ms: Timestamp,
        to_ms: Timestamp,
    ) -> Result<Vec<(K, Row<A>)>> {
        let mut rows = cx.fetch_timed(self.0.store, Keys::Range(None, None), from_ms, to_ms)?;
        rows.sort_by(|a, b| (a.time_ms, &a.key).cmp(&(b.time_ms, &b.key)));
        let row = |row: crate::state::segmented::TimedRow| {
            let (value, timestamp_ms) = (timestamped::value(&row.value), timestamped::timestamp_ms(&row.value));
            Ok((self.0.key(&row.key)?, Row { start_ms: row.time_ms, value: self.0.value(value)?, timestamp_ms }))
        };
        rows.into_iter().map(row).collect()
    }
}

impl<K, A> Getter<Windowed<K>, A> for WindowRows<K, A> {
    fn get(&mut self, cx: &mut Cx, key: &Windowed<K>) -> Result<Option<(A, Timestamp)>> {
        WindowRows::get(self, cx, &key.key, key.window.start_ms)
    }
}

/// The aggregates of sessions, by key and window.
pub(crate) struct SessionRows<K, A>(pub(crate) TimedStore<K, A>);

impl<K, A> SessionRows<K, A> {
    /// The sessions of `key` that end at `end_ms` or later and start at `start_ms` or earlier, by their ends.
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read, or a row is not of this type.
    pub(crate) fn around(
        &mut self,
        cx: &mut Cx,
        key: &K,
        end_ms: Timestamp,
        start_ms: Timestamp,
    ) -> Result<Vec<(Window, A)>> {
        self.0.encode_key(key)?;
        let rows = cx.fetch_timed(self.0.store, Keys::One(&self.0.key_bytes), end_ms, i64::MAX)?;
        let found = rows.into_iter().filter(|row| row.suffix <= start_ms);
        found.map(|row| Ok((Window::new(row.suffix, row.time_ms), self.0.value(&row.value)?))).collect()
    }

    /// The sessions of all keys that end from `from_ms` to `to_ms`, in the order in which Kafka Streams' stores have them:
    /// by end, then on disk by start and key, in memory by key and start.
    ///
    /// # Errors
    /// As [`around`](Self::around).
    pub(crate) fn ending(
        &mut self,
        cx: &mut Cx,
        from_ms: Timestamp,
        to_ms: Timestamp,
    ) -> Result<Vec<(Windowed<K>, A)>> {
        let rows = cx.fetch_timed_alive(self.0.store, from_ms, to_ms)?;
        let session = |row: crate::state::segmented::TimedRow| {
            let window = Window::new(row.suffix, row.time_ms);
            Ok((Windowed { key: self.0.key(&row.key)?, window }, self.0.value(&row.value)?))
        };
        rows.into_iter().map(session).collect()
    }

    /// Sets a session's aggregate: see [`WindowRows::put`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn put(
        &mut self,
        cx: &mut Cx,
        key: &K,
        (window, value): (Window, Option<&A>),
        origin: (Timestamp, &Headers),
        wants_old: bool,
    ) -> Result<bool> {
        self.0.encode_key(key)?;
        let Some(has_value) = self.0.encode_value(cx, value)? else { return Ok(false) };
        self.0.put(cx, (window.end_ms, Some(window.start_ms)), has_value, None, origin, wants_old)?;
        Ok(true)
    }

    /// Deletes a session that was found.
    ///
    /// # Errors
    /// [`Kind::Record`]: the key does not encode.
    pub(crate) fn remove(
        &mut self,
        cx: &mut Cx,
        key: &K,
        Window { start_ms, end_ms }: Window,
        origin: (Timestamp, &Headers),
        wants_old: bool,
    ) -> Result {
        self.0.encode_key(key)?;
        if cx.cache.is_cached(self.0.store) {
            return self.0.put(cx, (end_ms, Some(start_ms)), false, None, origin, wants_old);
        }
        cx.remove_timed(self.0.store, &self.0.key_bytes, end_ms, start_ms, origin)
    }
}

impl<K, A> Getter<Windowed<K>, A> for SessionRows<K, A> {
    fn get(&mut self, cx: &mut Cx, key: &Windowed<K>) -> Result<Option<(A, Timestamp)>> {
        self.0.encode_key(&key.key)?;
        let Window { start_ms, end_ms } = key.window;
        let row = cx.get_timed(self.0.store, &self.0.key_bytes, end_ms, start_ms)?;
        row.map(|row| Ok((self.0.value(&row)?, end_ms))).transpose()
    }
}
