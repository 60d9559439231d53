//! Stream-global join, inner and left: each record meets the row of the global table whose key is made of it.
//!
//! Source: Kafka Streams' `KStreamGlobalKTableJoin`.

use super::getter::Getter;
use super::{Cx, Port, Push};
use crate::error::Result;
use crate::record::{Nullable, Record};
use std::marker::PhantomData;

/// Joins a stream with a global table. `join` gets the row where there is one.
pub(crate) struct StreamGlobalJoin<K, V, GK, GV, R, S, J> {
    pub(crate) node: String,
    /// Left join: records without a row, or that select no key, go on as well.
    pub(crate) left: bool,
    pub(crate) table: Box<dyn Getter<GK, GV>>,
    pub(crate) select: S,
    pub(crate) join: J,
    pub(crate) out: Port<K, R>,
    pub(crate) values: PhantomData<fn(V)>,
}

impl<K, V, GK, GV, R, S, J> Push<K, V> for StreamGlobalJoin<K, V, GK, GV, R, S, J>
where
    V: Nullable,
    GK: Nullable,
    S: Fn(&K, &V) -> GK,
    J: Fn(&K, V, Option<GV>) -> Option<R>,
{
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        // The selector is asked first, whatever the value is.
        let selected = (self.select)(&record.key, &record.value);
        if record.value.is_null() {
            cx.drop_record(&self.node, "a stream-global join needs a value, and this one is null");
            return Ok(());
        }
        let row = if !selected.is_null() {
            self.table.get(cx, &selected)?
        } else if self.left {
            None
        } else {
            cx.drop_record(&self.node, "a stream-global join needs a key, and the selected one is null");
            return Ok(());
        };
        cx.counts.join_misses += u64::from(row.is_none());
        let Record { key, value, timestamp_ms, headers } = record;
        match (self.join)(&key, value, row.map(|(row, _)| row)) {
            Some(value) => self.out.push(cx, Record { key, value, timestamp_ms, headers }),
            None => Ok(()),
        }
    }
}
