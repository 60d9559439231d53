//! Table source: a topic's records as changes of a table, kept in a store where somebody reads it.

use super::{Cx, Port, Push};
use crate::error::Result;
use crate::record::{Change, Nullable, Record};
use crate::serdes::{Encoded, SerdeRef};
use crate::state::StoreId;

/// Applies each record to the table. The last one by offset wins, whatever its timestamp (Kafka Streams'
/// `KTableSource` on an unversioned store). A null value deletes.
pub(crate) struct TableSource<K, V> {
    pub(crate) node: String,
    pub(crate) store: Option<StoreId>,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<Option<V>>,
    pub(crate) out: Port<K, Change<V>>,
    pub(crate) key_bytes: Vec<u8>,
    pub(crate) value_bytes: Vec<u8>,
}

impl<K: Nullable, V> Push<K, Option<V>> for TableSource<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, Option<V>>) -> Result {
        if record.key.is_null() {
            cx.drop_record(&self.node, "a table's row needs a key, and this one is null");
            return Ok(());
        }
        if let Some(store) = self.store {
            self.key_bytes.clear();
            self.value_bytes.clear();
            let encoded = self
                .key
                .serialize(&record.key, &mut self.key_bytes)
                .and_then(|_| self.value.serialize(&record.value, &mut self.value_bytes));
            match encoded {
                Ok(encoded) => {
                    let value = (encoded == Encoded::Bytes).then_some(&*self.value_bytes);
                    cx.put_timestamped(store, &self.key_bytes, value, record.timestamp_ms);
                }
                Err(error) => return cx.faulty_record(super::cx::Stage::Production, &self.node, &error),
            }
        }
        let Record { key, value, timestamp_ms, headers } = record;
        self.out.push(cx, Record { key, value: Change { old: None, new: value }, timestamp_ms, headers })
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
