//! Aggregation of a grouped table: what a change took away is subtracted, what it brought is added.
//!
//! Source: `KTableAggregate`, `KTableReduce`.

use super::table_store::TableWriter;
use super::{Cx, Push};
use crate::error::{Error, Kind, Result};
use crate::record::{Change, Nullable, Record};
use std::sync::Arc;

/// Makes an aggregate of the key, a value and the aggregate so far.
pub(crate) type Step<K, V, A> = Arc<dyn Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync>;

/// Updates the row of each change's group.
pub(crate) struct TableAggregate<K, V, A> {
    pub(crate) node: String,
    pub(crate) initializer: Arc<dyn Fn() -> Option<A> + Send + Sync>,
    pub(crate) adder: Step<K, V, A>,
    pub(crate) subtractor: Step<K, V, A>,
    pub(crate) table: TableWriter<K, A>,
}

impl<K: Nullable + Clone, V, A: Clone> Push<K, Change<V>> for TableAggregate<K, V, A> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, Change<V>>) -> Result {
        let Record { key, value, timestamp_ms: context_ms, headers } = record;
        if key.is_null() {
            return Err(Error::new(Kind::User, "the key of a grouped row is null").node(&self.node));
        }
        let stored = self.table.rows.get(cx, &key)?;
        let (old, mut timestamp_ms) = match stored {
            Some((old, stored_ms)) => (Some(old), context_ms.max(stored_ms)),
            None => (None, context_ms),
        };
        let mut touched = false;
        let mut aggregate = old.clone();
        if let (Some(value), Some(_)) = (&value.old, &aggregate) {
            aggregate = (self.subtractor)(&key, value, aggregate);
            touched = true;
        }
        if let Some(value) = &value.new {
            let so_far = aggregate.or_else(|| (self.initializer)());
            aggregate = (self.adder)(&key, value, so_far);
            touched = true;
        }
        if !touched {
            timestamp_ms = context_ms;
        }
        let value = Change::latest(aggregate, old);
        self.table.put(cx, Record { key, value, timestamp_ms, headers }, context_ms)
    }
}
