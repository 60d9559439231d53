//! The store of a materialized table, typed: what operators of tables and aggregations read and write.

use super::cx::Stage;
use super::{Cx, Port};
use crate::error::{Error, Kind, Result};
use crate::record::{Change, Headers, Record, Timestamp};
use crate::serdes::{Encoded, SerdeRef};
use crate::state::{StoreId, timestamped};

/// Reads and writes rows by key, with their timestamps.
pub(crate) struct TableStore<K, V> {
    /// The node that owns it, for errors.
    pub(crate) node: String,
    store: StoreId,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    key_bytes: Vec<u8>,
    value_bytes: Vec<u8>,
}

impl<K, V> TableStore<K, V> {
    /// The store as `node` sees it.
    pub(crate) fn new(node: &str, store: StoreId, key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { node: node.into(), store, key, value, key_bytes: Vec::new(), value_bytes: Vec::new() }
    }

    /// The row of `key`, with its timestamp.
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read, or the row is not of this type.
    pub(crate) fn get(&mut self, cx: &mut Cx, key: &K) -> Result<Option<(V, Timestamp)>> {
        self.encode_key(key)?;
        let Some(row) = cx.state.get(self.store, &self.key_bytes)? else { return Ok(None) };
        let timestamp_ms = timestamped::timestamp_ms(&row);
        let value = self.value.deserialize(Some(timestamped::value(&row)));
        value.map(|value| Some((value, timestamp_ms))).map_err(|error| {
            Error::new(Kind::State, format!("a row does not decode: {error}"))
                .node(&self.node)
                .hint("the store holds another type than this topology's: give the store another name, or reset the application")
        })
    }

    /// Sets or deletes the row of `key`, and logs it.
    ///
    /// # Errors
    /// [`Kind::Record`]: key or value do not encode, and the production policy is to fail.
    pub(crate) fn put(&mut self, cx: &mut Cx, key: &K, value: Option<&V>, timestamp_ms: Timestamp) -> Result {
        self.encode_key(key)?;
        self.value_bytes.clear();
        let value = match value.map(|value| self.value.serialize(value, &mut self.value_bytes)) {
            None | Some(Ok(Encoded::Null)) => None,
            Some(Ok(Encoded::Bytes)) => Some(&*self.value_bytes),
            Some(Err(error)) => return cx.faulty_record(Stage::Production, &self.node, &error),
        };
        cx.put_timestamped(self.store, &self.key_bytes, value, timestamp_ms);
        Ok(())
    }

    fn encode_key(&mut self, key: &K) -> Result {
        self.key_bytes.clear();
        match self.key.serialize(key, &mut self.key_bytes) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::new(Kind::Record, format!("a key does not encode: {error}")).node(&self.node)),
        }
    }
}

/// A [`TableStore`] and the port behind it: every change of a row goes on.
pub(crate) struct TableWriter<K, V> {
    pub(crate) rows: TableStore<K, V>,
    /// Whether somebody below wants to know what was there before.
    pub(crate) send_old: bool,
    pub(crate) out: Port<K, Change<V>>,
}

impl<K: Clone, V: Clone> TableWriter<K, V> {
    /// Sets or deletes the row, and sends the change on with `timestamp_ms`; the change of a deleted row is logged with
    /// `context_ms`, the timestamp of the record that caused it, as Kafka Streams does.
    ///
    /// # Errors
    /// Those of the store and of what is below.
    pub(crate) fn put(
        &mut self,
        cx: &mut Cx,
        key: K,
        new: Option<V>,
        old: Option<V>,
        timestamp_ms: Timestamp,
        context_ms: Timestamp,
        headers: Headers,
    ) -> Result {
        let logged_ms = if new.is_some() { timestamp_ms } else { context_ms };
        self.rows.put(cx, &key, new.as_ref(), logged_ms)?;
        let old = if self.send_old { old } else { None };
        self.out.push(cx, Record { key, value: Change::latest(new, old), timestamp_ms, headers })
    }
}
