//! Versioned stores, as they are read from outside.

use super::Typed;
use crate::error::{Error, Kind, Result};
use crate::operators::store_views::VersionedRecord;
use crate::record::Timestamp;
use crate::state::query::{Found, Query};

/// Reads a versioned store. Cheap to clone, and to keep. Its errors are those of
/// [`KeyValueReads`](super::KeyValueReads).
#[doc(alias = "VersionedKeyQuery")]
pub struct VersionedReads<K, V> {
    pub(super) typed: Typed<K, V>,
}

impl<K, V> VersionedReads<K, V> {
    /// What holds now.
    ///
    /// # Errors
    /// See [`KeyValueReads`](super::KeyValueReads).
    pub fn get(&self, key: &K) -> Result<Option<VersionedRecord<V>>> {
        let key = self.typed.key_bytes(key)?;
        Ok(self.ask(&key, Query::AsOf(key.clone(), None))?.pop())
    }

    /// What held at that time; `None` also where that is longer ago than the history goes.
    ///
    /// # Errors
    /// See [`KeyValueReads`](super::KeyValueReads).
    pub fn get_as_of(&self, key: &K, as_of_ms: Timestamp) -> Result<Option<VersionedRecord<V>>> {
        let key = self.typed.key_bytes(key)?;
        Ok(self.ask(&key, Query::AsOf(key.clone(), Some(as_of_ms)))?.pop())
    }

    /// What held at some time from `from_ms` to `to_ms`, both included; the oldest first.
    ///
    /// # Errors
    /// See [`KeyValueReads`](super::KeyValueReads).
    #[doc(alias = "MultiVersionedKeyQuery")]
    pub fn history(&self, key: &K, from_ms: Timestamp, to_ms: Timestamp) -> Result<Vec<VersionedRecord<V>>> {
        let key = self.typed.key_bytes(key)?;
        self.ask(&key, Query::History(key.clone(), from_ms, to_ms))
    }

    fn ask(&self, key: &[u8], query: Query) -> Result<Vec<VersionedRecord<V>>> {
        let Found::Versions(versions) = self.typed.store.ask_key(key, &query)?.found else {
            return Err(Error::new(Kind::Internal, "the answer is of another query"));
        };
        let record = |(value, from_ms, to_ms): (Vec<u8>, _, _)| {
            Ok(VersionedRecord { value: self.typed.value(&value)?, from_ms, to_ms })
        };
        let known = versions.into_iter().filter_map(|version| Some((version.value?, version.from_ms, version.to_ms)));
        known.map(record).collect()
    }
}
