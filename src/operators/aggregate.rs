//! Aggregation of a stream's records by key: count, reduce, aggregate.
//!
//! Source: `KStreamAggregate`, `KStreamReduce`. A row's timestamp is the largest that it has seen. Records without key or
//! value are dropped.

use super::table_store::TableWriter;
use super::{Cx, Push};
use crate::error::Result;
use crate::record::{Change, Nullable, Record};
use std::sync::Arc;

/// What an aggregation makes of a row: the value before (the initial one for a new row) and after.
pub(crate) struct Updated<A> {
    pub(crate) old: Option<A>,
    pub(crate) new: Option<A>,
}

/// Updates the row of each record's key.
pub(crate) struct Aggregate<K, V, A> {
    pub(crate) node: String,
    #[allow(clippy::type_complexity)]
    pub(crate) update: Arc<dyn Fn(&K, &V, Option<A>) -> Updated<A> + Send + Sync>,
    pub(crate) table: TableWriter<K, A>,
}

impl<K: Nullable + Clone, V: Nullable, A: Clone> Push<K, V> for Aggregate<K, V, A> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        if record.key.is_null() || record.value.is_null() {
            cx.drop_record(&self.node, "an aggregation needs key and value, and one is null");
            return Ok(());
        }
        let stored = self.table.rows.get(cx, &record.key)?;
        let context_ms = record.timestamp_ms;
        let timestamp_ms = stored.as_ref().map_or(context_ms, |(_, stored_ms)| context_ms.max(*stored_ms));
        let updated = (self.update)(&record.key, &record.value, stored.map(|(value, _)| value));
        let Record { key, headers, .. } = record;
        let value = Change::latest(updated.new, updated.old);
        self.table.put(cx, Record { key, value, timestamp_ms, headers }, context_ms)
    }
}
