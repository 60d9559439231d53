//! Windows and sessions as operators write them: into their store, and into its changelog.
//!
//! Source: `ChangeLoggingWindowBytesStore`, `ChangeLoggingTimestampedWindowBytesStore`, `ChangeLoggingSessionBytesStore`.

use super::Cx;
use super::record_cache::Origin;
use crate::error::{Error, Kind, Result};
use crate::record::{Headers, Timestamp};
use crate::state::segmented::{Keys, Segmented, TimedRow};
use crate::state::{StoreId, timestamped};

/// A window or session to write.
pub(crate) struct TimedWrite<'a> {
    pub(crate) key: &'a [u8],
    /// A window's start, or a session's end.
    pub(crate) time_ms: Timestamp,
    /// A session's start; a window's sequence number is given out where duplicates are kept, else it is 0.
    pub(crate) start_ms: Option<Timestamp>,
    /// The value's bytes; `None` deletes.
    pub(crate) value: Option<&'a [u8]>,
    /// The timestamp that the row keeps, where the store keeps timestamps.
    pub(crate) row_ms: Option<Timestamp>,
    /// The timestamp of the changelog record.
    pub(crate) log_ms: Timestamp,
    /// The headers of the changelog record.
    pub(crate) headers: Headers,
}

impl Cx {
    /// Writes a window or session. It is logged even where it is too old for the store to take, which is counted as a
    /// dropped record; so does Kafka Streams. Returns whether it was taken.
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read.
    pub(crate) fn put_timed(&mut self, node: &str, store: StoreId, write: TimedWrite<'_>) -> Result<bool> {
        if self.cache.is_cached(store) {
            return self.put_window(node, store, write, &Headers::default(), false);
        }
        let (state, rows) = (&mut self.state, &mut self.segmented[store.0]);
        let rows = rows.as_mut().ok_or_else(|| not_timed(store))?;
        let suffix = write.start_ms.unwrap_or_else(|| rows.next_sequence());
        let mut log_key = std::mem::take(&mut self.row);
        rows.changelog_key(write.key, write.time_ms, suffix, &mut log_key);
        let taken = match (write.value, write.row_ms) {
            (Some(value), Some(row_ms)) => {
                let mut row = Vec::with_capacity(value.len() + 8);
                timestamped::encode(value, row_ms, &mut row);
                rows.put(state, write.key, write.time_ms, suffix, Some(&row))?
            }
            (None, _) if rows.ignores_deletes() => true,
            (Some(value), None) => {
                let mut row = Vec::new();
                let row = rows.stored(value, &write.headers, &mut row);
                rows.put(state, write.key, write.time_ms, suffix, Some(row))?
            }
            (None, _) => rows.put(state, write.key, write.time_ms, suffix, None)?,
        };
        self.log(store, &log_key, write.value, write.log_ms, write.headers);
        self.row = log_key;
        if !taken {
            self.drop_record(node, "its window or session is too old for the store");
        }
        Ok(taken)
    }

    /// Writes a window or session of an aggregation. Where the store is cached it is logged later, else at once: see
    /// [`put_timed`](Self::put_timed). `headers` are those of the record that writes it, and `wants_old` says whether the
    /// change will have to tell what was there before.
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read.
    pub(crate) fn put_window(
        &mut self,
        node: &str,
        store: StoreId,
        mut write: TimedWrite<'_>,
        headers: &Headers,
        wants_old: bool,
    ) -> Result<bool> {
        if !self.cache.is_cached(store) {
            write.headers = self.delete_headers(write.value, headers);
            return self.put_timed(node, store, write);
        }
        let suffix = write.start_ms.unwrap_or(0);
        let mut held_key = Vec::new();
        self.timed(store)?.changelog_key(write.key, write.time_ms, suffix, &mut held_key);
        let first = wants_old && self.cache.get(store, &held_key).is_none();
        let rows = self.segmented[store.0].as_ref().ok_or_else(|| not_timed(store))?;
        let get = |state| rows.get_uncached(state, write.key, write.time_ms, suffix);
        let old = if first { Some(get(&mut self.state)?) } else { None };
        let row = match (write.value, write.row_ms) {
            (Some(value), Some(row_ms)) => {
                timestamped::encode(value, row_ms, &mut self.row);
                Some(self.row.as_slice())
            }
            (value, _) => value,
        };
        let rows = self.segmented[store.0].as_mut().ok_or_else(|| not_timed(store))?;
        let taken = rows.put(&mut self.state, write.key, write.time_ms, suffix, row)?;
        let origin = Origin::new(write.log_ms, headers.clone(), self.current.as_ref(), self.dead_letters.is_some());
        self.cache.hold(store, &held_key, row, old, origin);
        Ok(taken)
    }

    /// The bytes of a window (`suffix` 0) or session (`suffix` its start), with the timestamp in front where the store keeps
    /// timestamps.
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read.
    pub(crate) fn get_timed(
        &mut self,
        store: StoreId,
        key: &[u8],
        time_ms: Timestamp,
        suffix: i64,
    ) -> Result<Option<Vec<u8>>> {
        let (state, rows) = (&mut self.state, &self.segmented[store.0]);
        let rows = rows.as_ref().ok_or_else(|| not_timed(store))?;
        if self.cache.is_cached(store) {
            // What is held back is never too old.
            let mut held_key = Vec::new();
            rows.changelog_key(key, time_ms, suffix, &mut held_key);
            if let Some(row) = self.cache.get(store, &held_key) {
                return Ok(row.map(<[u8]>::to_vec));
            }
        }
        rows.get(state, key, time_ms, suffix)
    }

    /// See [`Segmented::fetch`].
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read.
    pub(crate) fn fetch_timed(
        &mut self,
        store: StoreId,
        keys: Keys<'_>,
        from_ms: Timestamp,
        to_ms: Timestamp,
    ) -> Result<Vec<TimedRow>> {
        let (state, rows) = (&self.state, &mut self.segmented[store.0]);
        rows.as_mut().ok_or_else(|| not_timed(store))?.fetch(state, keys, from_ms, to_ms)
    }

    /// See [`Segmented::fetch_alive`].
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read.
    pub(crate) fn fetch_timed_alive(
        &mut self,
        store: StoreId,
        from_ms: Timestamp,
        to_ms: Timestamp,
    ) -> Result<Vec<TimedRow>> {
        let (state, rows) = (&self.state, &mut self.segmented[store.0]);
        rows.as_mut().ok_or_else(|| not_timed(store))?.fetch_alive(state, from_ms, to_ms)
    }

    /// Deletes a session that was found, and logs that.
    ///
    /// # Errors
    /// [`Kind::Internal`]: the store is of another kind.
    pub(crate) fn remove_timed(
        &mut self,
        store: StoreId,
        key: &[u8],
        end_ms: Timestamp,
        start_ms: Timestamp,
        (log_ms, headers): (Timestamp, &Headers),
    ) -> Result {
        let (state, rows) = (&mut self.state, &mut self.segmented[store.0]);
        let rows = rows.as_mut().ok_or_else(|| not_timed(store))?;
        rows.remove(state, key, end_ms, start_ms);
        let mut log_key = Vec::new();
        rows.changelog_key(key, end_ms, start_ms, &mut log_key);
        let headers = self.delete_headers(None, headers);
        self.log(store, &log_key, None, log_ms, headers);
        Ok(())
    }

    /// What is known of a window or session store.
    ///
    /// # Errors
    /// [`Kind::Internal`]: it is of another kind.
    pub(crate) fn timed(&mut self, store: StoreId) -> Result<&mut Segmented> {
        self.segmented[store.0].as_mut().ok_or_else(|| not_timed(store))
    }
}

fn not_timed(store: StoreId) -> Error {
    Error::new(Kind::Internal, format!("store number {} keeps neither windows nor sessions", store.0))
}
