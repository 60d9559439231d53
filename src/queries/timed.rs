//! Window and session stores, as they are read from outside.

use super::Typed;
use crate::error::{Error, Kind, Result};
use crate::operators::store_views::{SessionRow, WindowRow};
use crate::record::Timestamp;
use crate::state::query::{Found, KeyRange, Query};
use crate::state::segmented::TimedRow;
use crate::state::{StoreKind, timestamped};

/// Reads a window store. Cheap to clone, and to keep. Its errors are those of
/// [`KeyValueReads`](super::KeyValueReads).
#[doc(alias = "ReadOnlyWindowStore")]
pub struct WindowReads<K, V> {
    pub(super) typed: Typed<K, V>,
}

impl<K, V> WindowReads<K, V> {
    /// The row of `key` in the window that begins at `start_ms`.
    ///
    /// # Errors
    /// See [`KeyValueReads`](super::KeyValueReads).
    pub fn get(&self, key: &K, start_ms: Timestamp) -> Result<Option<WindowRow<K, V>>> {
        let key = self.typed.key_bytes(key)?;
        let query = Query::At { key: key.clone(), time_ms: start_ms, suffix: 0 };
        match self.typed.store.ask_key(&key, &query)?.found {
            Found::Row(row) => row
                .map(|value| {
                    self.row(TimedRow { key, time_ms: start_ms, suffix: 0, value, headers: Default::default() })
                })
                .transpose(),
            _ => Err(other_query()),
        }
    }

    /// The rows of `key` whose windows begin in this time, both ends included.
    ///
    /// # Errors
    /// See [`KeyValueReads`](super::KeyValueReads).
    pub fn fetch(&self, key: &K, from_ms: Timestamp, to_ms: Timestamp) -> Result<Vec<WindowRow<K, V>>> {
        let key = self.typed.key_bytes(key)?;
        let query = Query::Fetch { keys: KeyRange::One(key.clone()), from_ms, to_ms, limit: usize::MAX };
        timed(self.typed.store.ask_key(&key, &query)?.found)?.into_iter().map(|row| self.row(row)).collect()
    }

    /// The rows of the keys from one to another, both included (`None` is no bound), whose windows begin in this time;
    /// partition by partition.
    ///
    /// # Errors
    /// See [`KeyValueReads`](super::KeyValueReads).
    #[doc(alias = "fetchAll")]
    pub fn fetch_range(
        &self,
        keys: (Option<&K>, Option<&K>),
        from_ms: Timestamp,
        to_ms: Timestamp,
    ) -> Result<Vec<WindowRow<K, V>>> {
        range(&self.typed, keys, from_ms, to_ms)?.into_iter().map(|row| self.row(row)).collect()
    }

    /// All rows, partition by partition.
    ///
    /// # Errors
    /// See [`KeyValueReads`](super::KeyValueReads).
    pub fn all(&self) -> Result<Vec<WindowRow<K, V>>> {
        self.fetch_range((None, None), 0, Timestamp::MAX)
    }

    fn row(&self, row: TimedRow) -> Result<WindowRow<K, V>> {
        let kind = self.typed.store.spec().kind;
        let size_ms = if let StoreKind::Window { size_ms, .. } = kind { size_ms } else { 0 };
        let (value, timestamp_ms) = match kind.is_timestamped() {
            true => (timestamped::value(&row.value), Some(timestamped::timestamp_ms(&row.value))),
            false => (&*row.value, None),
        };
        Ok(WindowRow {
            key: self.typed.key(&row.key)?,
            start_ms: row.time_ms,
            end_ms: row.time_ms.saturating_add(size_ms),
            value: self.typed.value(value)?,
            timestamp_ms,
        })
    }
}

/// Reads a session store. Cheap to clone, and to keep. Its errors are those of
/// [`KeyValueReads`](super::KeyValueReads).
#[doc(alias = "ReadOnlySessionStore")]
pub struct SessionReads<K, V> {
    pub(super) typed: Typed<K, V>,
}

impl<K, V> SessionReads<K, V> {
    /// The value of exactly this session.
    ///
    /// # Errors
    /// See [`KeyValueReads`](super::KeyValueReads).
    #[doc(alias = "fetchSession")]
    pub fn get(&self, key: &K, (start_ms, end_ms): (Timestamp, Timestamp)) -> Result<Option<V>> {
        let key = self.typed.key_bytes(key)?;
        let query = Query::At { key: key.clone(), time_ms: end_ms, suffix: start_ms };
        match self.typed.store.ask_key(&key, &query)?.found {
            Found::Row(row) => row.map(|row| self.typed.value(&row)).transpose(),
            _ => Err(other_query()),
        }
    }

    /// All sessions of `key`.
    ///
    /// # Errors
    /// See [`KeyValueReads`](super::KeyValueReads).
    pub fn fetch(&self, key: &K) -> Result<Vec<SessionRow<K, V>>> {
        self.find(key, 0, Timestamp::MAX)
    }

    /// The sessions of `key` that end at `earliest_end_ms` or later, and begin at `latest_start_ms` or earlier.
    ///
    /// # Errors
    /// See [`KeyValueReads`](super::KeyValueReads).
    #[doc(alias = "findSessions")]
    pub fn find(
        &self,
        key: &K,
        earliest_end_ms: Timestamp,
        latest_start_ms: Timestamp,
    ) -> Result<Vec<SessionRow<K, V>>> {
        let key = self.typed.key_bytes(key)?;
        let (keys, from_ms, to_ms) = (KeyRange::One(key.clone()), earliest_end_ms, Timestamp::MAX);
        let query = Query::Fetch { keys, from_ms, to_ms, limit: usize::MAX };
        self.rows(timed(self.typed.store.ask_key(&key, &query)?.found)?, latest_start_ms)
    }

    /// As [`find`](Self::find), for all keys from one to another, both included (`None` is no bound); partition by partition.
    ///
    /// # Errors
    /// See [`KeyValueReads`](super::KeyValueReads).
    pub fn find_range(
        &self,
        keys: (Option<&K>, Option<&K>),
        earliest_end_ms: Timestamp,
        latest_start_ms: Timestamp,
    ) -> Result<Vec<SessionRow<K, V>>> {
        self.rows(range(&self.typed, keys, earliest_end_ms, Timestamp::MAX)?, latest_start_ms)
    }

    fn rows(&self, rows: Vec<TimedRow>, latest_start_ms: Timestamp) -> Result<Vec<SessionRow<K, V>>> {
        let rows = rows.into_iter().filter(|row| row.suffix <= latest_start_ms);
        rows.map(|row| {
            let (key, value) = (self.typed.key(&row.key)?, self.typed.value(&row.value)?);
            Ok(SessionRow { key, start_ms: row.suffix, end_ms: row.time_ms, value })
        })
        .collect()
    }
}

fn range<K, V>(
    typed: &Typed<K, V>,
    keys: (Option<&K>, Option<&K>),
    from_ms: Timestamp,
    to_ms: Timestamp,
) -> Result<Vec<TimedRow>> {
    let from = keys.0.map(|key| typed.key_bytes(key)).transpose()?;
    let to = keys.1.map(|key| typed.key_bytes(key)).transpose()?;
    let query = Query::Fetch { keys: KeyRange::Between(from, to), from_ms, to_ms, limit: usize::MAX };
    let mut rows = Vec::new();
    for answer in typed.store.ask_all(&query)? {
        rows.extend(timed(answer.found)?);
    }
    Ok(rows)
}

fn timed(found: Found) -> Result<Vec<TimedRow>> {
    match found {
        Found::Timed(rows) => Ok(rows),
        _ => Err(other_query()),
    }
}

fn other_query() -> Error {
    Error::new(Kind::Internal, "the answer is of another query")
}
