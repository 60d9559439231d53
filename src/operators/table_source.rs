//! Table source: a topic's records as changes of a table, kept in a store where somebody reads it.

use super::table_store::TableOut;
use super::{Cx, Port, Push};
use crate::error::Result;
use crate::record::{Change, Nullable, Record};

/// Applies each record to the table. The last one by offset wins, whatever its timestamp (Kafka Streams'
/// `KTableSource` on an unversioned store). A null value deletes.
pub(crate) struct TableSource<K, V> {
    pub(crate) node: String,
    pub(crate) out: TableOut<K, V>,
}

impl<K: Nullable + Clone, V: Clone> Push<K, Option<V>> for TableSource<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, Option<V>>) -> Result {
        if record.key.is_null() {
            cx.drop_record(&self.node, "a table's row needs a key, and this one is null");
            return Ok(());
        }
        let Record { key, value, timestamp_ms, headers } = record;
        let old = self.out.old(cx, &key, || None)?;
        self.out.send(cx, Record { key, value: Change::latest(value, old), timestamp_ms, headers })
    }
}

/// `to_stream`: the table's changes as records; a delete is `None`.
pub(crate) struct ToStream<K, V> {
    pub(crate) out: Port<K, Option<V>>,
}

impl<K, V> Push<K, Change<V>> for ToStream<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, Change<V>>) -> Result {
        let Record { key, value, timestamp_ms, headers } = record;
        self.out.push(cx, Record { key, value: value.new, timestamp_ms, headers })
    }
}
