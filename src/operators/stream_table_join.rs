//! Stream-table join, inner and left: each record meets the table's row of the same key, as it is now.
//!
//! Only the stream side emits; a change of the table never does. Timestamp and headers are the stream record's.
//! Source: Kafka Streams' `KStreamKTableJoinProcessor`.

use super::cx::Stage;
use super::{Cx, Port, Push};
use crate::error::Result;
use crate::record::{Nullable, Record};
use crate::serdes::SerdeRef;
use crate::state::{StoreId, timestamped};

/// Joins a stream with a table's store. `join` gets the row where there is one.
pub(crate) struct StreamTableJoin<K, T, R, J> {
    pub(crate) node: String,
    /// Left join: records without a row, or without a key, go on as well.
    pub(crate) left: bool,
    pub(crate) store: StoreId,
    pub(crate) key: SerdeRef<K>,
    pub(crate) row: SerdeRef<T>,
    pub(crate) join: J,
    pub(crate) out: Port<K, R>,
    pub(crate) key_bytes: Vec<u8>,
}

impl<K, V, T, R, J> Push<K, V> for StreamTableJoin<K, T, R, J>
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
        let row = if record.key.is_null() {
            if !self.left {
                cx.drop_record(&self.node, "a stream-table join needs a key, and this one is null");
                return Ok(());
            }
            None
        } else {
            self.key_bytes.clear();
            if let Err(error) = self.key.serialize(&record.key, &mut self.key_bytes) {
                return cx.faulty_record(Stage::Processing, &self.node, &error);
            }
            let decoded = match cx.state.get(self.store, &self.key_bytes)? {
                None => Ok(None),
                Some(row) => self.row.deserialize(Some(timestamped::value(&row))).map(Some),
            };
            match decoded {
                Ok(row) => row,
                Err(error) => {
                    let error = format!("the table's row for this key does not decode: {error}");
                    return cx.faulty_record(Stage::Processing, &self.node, &error);
                }
            }
        };
        cx.counts.join_misses += u64::from(row.is_none());
        let Record { key, value, timestamp_ms, headers } = record;
        match (self.join)(&key, value, row) {
            Some(value) => self.out.push(cx, Record { key, value, timestamp_ms, headers }),
            None => Ok(()),
        }
    }
}
