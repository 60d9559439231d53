//! Stream-table join, inner and left: each record meets the table's row of the same key, as it is now.
//!
//! Only the stream side emits; a change of the table never does. Timestamp and headers are the stream record's.
//! Source: Kafka Streams' `KStreamKTableJoinProcessor`.

use super::getter::Getter;
use super::{Cx, Port, Push};
use crate::error::Result;
use crate::record::{Nullable, Record};
use std::marker::PhantomData;

/// Joins a stream with a table. `join` gets the row where there is one.
pub(crate) struct StreamTableJoin<K, V, T, R, J> {
    pub(crate) node: String,
    /// Left join: records without a row, or without a key, go on as well.
    pub(crate) left: bool,
    pub(crate) table: Box<dyn Getter<K, T>>,
    pub(crate) join: J,
    pub(crate) out: Port<K, R>,
    pub(crate) values: PhantomData<fn(V)>,
}

impl<K, V, T, R, J> Push<K, V> for StreamTableJoin<K, V, T, R, J>
where
    K: Nullable,
    V: Nullable,
    J: Fn(&K, V, Option<T>) -> Option<R>,
{
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        if record.value.is_null() {
            cx.drop_record(&self.node, "a stream-table join needs a value, and this one is null");
            return Ok(());
        }
        let row = if !record.key.is_null() {
            self.table.get_as_of(cx, &record.key, record.timestamp_ms)?
        } else if self.left {
            None
        } else {
            cx.drop_record(&self.node, "a stream-table join needs a key, and this one is null");
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
