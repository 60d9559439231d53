//! `filter`, `map_values`, `transform_values` of tables: a new row for each row, or none; the key stays.
//!
//! Source: Kafka Streams' `KTableFilter`, `KTableMapValues`, `KTableTransformValues`.

use super::getter::Getter;
use super::table_store::TableOut;
use super::{Cx, Push};
use crate::error::Result;
use crate::record::{Change, Record, Timestamp};
use std::marker::PhantomData;

/// Computes rows of rows. `f` gets the row where there is one.
pub(crate) struct TableValues<K, V, W, F> {
    pub(crate) f: F,
    pub(crate) out: TableOut<K, W>,
    /// A filter does not tell of rows that were not there before and are not there now, where it knows: what is below
    /// has never heard of them.
    pub(crate) skip_nothing: bool,
    pub(crate) values: PhantomData<fn(V)>,
}

impl<K, V, W, F> Push<K, Change<V>> for TableValues<K, V, W, F>
where
    K: Clone,
    W: Clone,
    F: Fn(&K, Option<&V>) -> Option<W>,
{
    fn push(&mut self, cx: &mut Cx, record: Record<K, Change<V>>) -> Result {
        let Record { key, value: change, timestamp_ms, headers } = record;
        let new = (self.f)(&key, change.new.as_ref());
        let old = self.out.old(cx, &key, || (self.f)(&key, change.old.as_ref()))?;
        if self.skip_nothing && self.out.send_old() && old.is_none() && new.is_none() {
            return Ok(());
        }
        let value = Change { old, new, is_latest: change.is_latest };
        self.out.send(cx, Record { key, value, timestamp_ms, headers })
    }
}

/// Reads what [`TableValues`] computes without a store of its own: from the table above, each time anew.
pub(crate) struct ComputedRow<K, V, F> {
    pub(crate) f: F,
    pub(crate) above: Box<dyn Getter<K, V>>,
}

impl<K, V, F> ComputedRow<K, V, F> {
    fn row<W>(&self, key: &K, above: Option<(V, Timestamp)>) -> Option<(W, Timestamp)>
    where
        F: Fn(&K, Option<&V>) -> Option<W>,
    {
        // Kafka Streams' time of what a `transform_values` makes of nothing.
        let timestamp_ms = above.as_ref().map_or(-1, |(_, timestamp_ms)| *timestamp_ms);
        (self.f)(key, above.as_ref().map(|(row, _)| row)).map(|row| (row, timestamp_ms))
    }
}

impl<K, V, W, F: Fn(&K, Option<&V>) -> Option<W>> Getter<K, W> for ComputedRow<K, V, F> {
    fn get(&mut self, cx: &mut Cx, key: &K) -> Result<Option<(W, Timestamp)>> {
        let above = self.above.get(cx, key)?;
        Ok(self.row(key, above))
    }

    fn get_as_of(&mut self, cx: &mut Cx, key: &K, at_ms: Timestamp) -> Result<Option<(W, Timestamp)>> {
        let above = self.above.get_as_of(cx, key, at_ms)?;
        Ok(self.row(key, above))
    }
}
