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

impl<A> Updated<A> {
    /// One more of what `stored` counts.
    pub(crate) fn counted(stored: Option<A>, make: impl Fn(i64) -> A, number: impl Fn(&A) -> i64) -> Self {
        let count = stored.map_or(0, |count| number(&count));
        Self { old: Some(make(count)), new: Some(make(count + 1)) }
    }

    /// `stored` combined with a value, or the first value.
    pub(crate) fn reduced<V>(
        stored: Option<A>,
        value: &V,
        first: impl Fn(&V) -> Option<A>,
        reducer: impl Fn(&A, &V) -> Option<A>,
    ) -> Self {
        let new = match &stored {
            None => first(value),
            Some(stored) => reducer(stored, value),
        };
        Self { old: stored, new }
    }
}

impl<A: Clone> Updated<A> {
    /// What `aggregator` makes of `stored`, or of an initial value. The initial value counts as what was before.
    pub(crate) fn aggregated(
        stored: Option<A>,
        initializer: impl Fn() -> Option<A>,
        aggregator: impl FnOnce(Option<A>) -> Option<A>,
    ) -> Self {
        let old = stored.or_else(initializer);
        Self { new: aggregator(old.clone()), old }
    }
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
