//! How other nodes read a table: its row of a key, from its store or computed from another table's.
//!
//! Source: Kafka Streams' `KTableValueGetter`.

use super::Cx;
use super::table_store::TableStore;
use crate::error::Result;
use crate::record::Timestamp;

/// Reads rows of a table that some other node keeps.
pub(crate) trait Getter<K, V> {
    /// The row of `key` as it is now, with its timestamp.
    fn get(&mut self, cx: &mut Cx, key: &K) -> Result<Option<(V, Timestamp)>>;

    /// The row of `key` as it was at `_at_ms`. Only versioned tables remember; others give what is now.
    fn get_as_of(&mut self, cx: &mut Cx, key: &K, _at_ms: Timestamp) -> Result<Option<(V, Timestamp)>> {
        self.get(cx, key)
    }
}

impl<K, V> Getter<K, V> for TableStore<K, V> {
    fn get(&mut self, cx: &mut Cx, key: &K) -> Result<Option<(V, Timestamp)>> {
        TableStore::get(self, cx, key)
    }

    fn get_as_of(&mut self, cx: &mut Cx, key: &K, at_ms: Timestamp) -> Result<Option<(V, Timestamp)>> {
        TableStore::get_as_of(self, cx, key, at_ms)
    }
}
