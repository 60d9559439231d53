//! The store of a materialized table, typed: what operators of tables and aggregations read and write.

use super::cx::Stage;
use super::held::{ChangeOut, RowWrite};
use super::{Cx, Port};
use crate::error::{Error, Kind, Result};
use crate::operators::Build;
use crate::record::{Change, Headers, Record, Timestamp};
use crate::serdes::{Encoded, SerdeRef};
use crate::state::versioned::{Placed, Version};
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
        if let Some(versioned) = &cx.versioned[self.store.0] {
            let row = versioned.get(&mut cx.state, &self.key_bytes)?;
            return row.map(|(row, from_ms)| Ok((self.decode(&row)?, from_ms))).transpose();
        }
        let timestamped = cx.state.is_timestamped(self.store);
        let Some(row) = cx.state.get(self.store, &self.key_bytes)? else { return Ok(None) };
        if !timestamped {
            return Ok(Some((self.decode(&row)?, timestamped::UNKNOWN_MS)));
        }
        Ok(Some((self.decode(timestamped::value(&row))?, timestamped::timestamp_ms(&row))))
    }

    /// The row of `key` as it was at `at_ms`, if the store is versioned; else as it is now.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) fn get_as_of(&mut self, cx: &mut Cx, key: &K, at_ms: Timestamp) -> Result<Option<(V, Timestamp)>> {
        self.encode_key(key)?;
        let Some(versioned) = &cx.versioned[self.store.0] else { return self.get(cx, key) };
        let Some(Version { value: Some(row), from_ms, .. }) =
            versioned.get_as_of(&mut cx.state, &self.key_bytes, at_ms)?
        else {
            return Ok(None);
        };
        Ok(Some((self.decode(&row)?, from_ms)))
    }

    fn decode(&self, row: &[u8]) -> Result<V> {
        self.value.deserialize(Some(row)).map_err(|error| {
            Error::new(Kind::State, format!("a row does not decode: {error}"))
                .node(&self.node)
                .hint("the store holds another type than this topology's: give the store another name, or reset the application")
        })
    }

    /// Sets or deletes the row of `key`, and logs it, or lets a cached store hold it back. `timestamp_ms` is the row's,
    /// `context_ms` and `headers` are those of the record that writes it; a deleted row is logged with `context_ms`.
    /// `wants_old`: the change will have to tell what was there before.
    ///
    /// # Errors
    /// [`Kind::Record`]: key or value do not encode, and the production policy is to fail.
    pub(crate) fn put(
        &mut self,
        cx: &mut Cx,
        key: &K,
        value: Option<&V>,
        (timestamp_ms, context_ms): (Timestamp, Timestamp),
        headers: &Headers,
        wants_old: bool,
    ) -> Result<Put> {
        self.encode_key(key)?;
        self.value_bytes.clear();
        let value = match value.map(|value| self.value.serialize(value, &mut self.value_bytes)) {
            None | Some(Ok(Encoded::Null)) => None,
            Some(Ok(Encoded::Bytes)) => Some(&*self.value_bytes),
            Some(Err(error)) => return cx.faulty_record(Stage::Production, &self.node, &error).map(|()| Put::Refused),
        };
        if let Some(versioned) = &mut cx.versioned[self.store.0] {
            let timestamp_ms = if value.is_some() { timestamp_ms } else { context_ms };
            let placed = versioned.put(&mut cx.state, &self.key_bytes, value, timestamp_ms)?;
            // Even what is too old for the store is logged, as Kafka Streams does.
            cx.log(self.store, &self.key_bytes, value, timestamp_ms, Headers::default());
            return Ok(match placed {
                Placed::Now => Put::Latest,
                Placed::Until(_) => Put::Past,
                Placed::TooOld => {
                    cx.drop_record(&self.node, "it is older than the history of the versioned store");
                    Put::Refused
                }
            });
        }
        let (key, row_ms) = (self.key_bytes.as_slice(), timestamp_ms);
        cx.put_row(self.store, RowWrite { key, value, row_ms, context_ms, headers, wants_old })?;
        Ok(Put::Latest)
    }

    fn encode_key(&mut self, key: &K) -> Result {
        self.key_bytes.clear();
        match self.key.serialize(key, &mut self.key_bytes) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::new(Kind::Record, format!("a key does not encode: {error}")).node(&self.node)),
        }
    }
}

/// What became of a row that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It holds now.
    Latest,
    /// It is in a versioned table's past: what holds now is newer.
    Past,
    /// It is not there: older than a versioned table's history, or at fault and skipped.
    Refused,
}

/// A [`TableStore`] and the port behind it: every change of a row goes on.
pub(crate) struct TableWriter<K, V> {
    pub(crate) rows: TableStore<K, V>,
    /// Whether somebody below wants to know what was there before.
    pub(crate) send_old: bool,
    out: ChangeOut<K, V>,
}

impl<K: 'static, V: 'static> TableWriter<K, V> {
    /// The store of one task with the port behind it.
    pub(crate) fn new(build: &mut Build, rows: TableStore<K, V>, send_old: bool, out: Port<K, Change<V>>) -> Self {
        let (node, key) = (rows.node.clone(), rows.key.clone());
        let decode = move |bytes: &[u8]| {
            key.deserialize(Some(bytes))
                .map(|key| (key, None))
                .map_err(|error| Error::new(Kind::State, format!("a row's key does not decode: {error}")).node(&node))
        };
        let out = ChangeOut::new(build, rows.store, Box::new(decode), rows.value.clone(), send_old, out);
        Self { rows, send_old, out }
    }
}

impl<K: Clone, V: Clone> TableWriter<K, V> {
    /// The row's value before it is changed; `None` also where nobody below wants to know it.
    ///
    /// # Errors
    /// As [`TableStore::get`].
    pub(crate) fn old(&mut self, cx: &mut Cx, key: &K) -> Result<Option<V>> {
        if !self.send_old {
            return Ok(None);
        }
        Ok(self.rows.get(cx, key)?.map(|(value, _)| value))
    }

    /// Sets or deletes the row, and sends the change on with the record's timestamp; the change of a deleted row is logged
    /// with `context_ms`, the timestamp of the record that caused it, as Kafka Streams does.
    ///
    /// # Errors
    /// Those of the store and of what is below.
    pub(crate) fn put(&mut self, cx: &mut Cx, record: Record<K, Change<V>>, context_ms: Timestamp) -> Result {
        let Record { key, value: Change { old, new, .. }, timestamp_ms, headers } = record;
        let put = self.rows.put(cx, &key, new.as_ref(), (timestamp_ms, context_ms), &headers, self.send_old)?;
        if put == Put::Refused {
            return Ok(());
        }
        let old = if self.send_old { old } else { None };
        let value = Change { old, new, is_latest: put == Put::Latest };
        self.out.send(cx, Record { key, value, timestamp_ms, headers })
    }
}

/// Where a table's changes go: into a store that sends them on, or just on.
pub(crate) enum TableOut<K, V> {
    /// Into a store.
    Stored(TableWriter<K, V>),
    /// On.
    Passing {
        /// Whether somebody below wants to know what was there before.
        send_old: bool,
        out: Port<K, Change<V>>,
    },
}

impl<K: 'static, V: 'static> TableOut<K, V> {
    /// Into `rows`, where there is a store.
    pub(crate) fn new(
        build: &mut Build,
        rows: Option<TableStore<K, V>>,
        send_old: bool,
        out: Port<K, Change<V>>,
    ) -> Self {
        match rows {
            Some(rows) => Self::Stored(TableWriter::new(build, rows, send_old, out)),
            None => Self::Passing { send_old, out },
        }
    }
}

impl<K: Clone, V: Clone> TableOut<K, V> {
    /// Whether somebody below wants to know what was there before.
    pub(crate) fn send_old(&self) -> bool {
        match self {
            Self::Stored(writer) => writer.send_old,
            Self::Passing { send_old, .. } => *send_old,
        }
    }

    /// The value before a change, if somebody below wants to know it: from the store, or else from `computed`.
    ///
    /// # Errors
    /// As [`TableStore::get`].
    pub(crate) fn old(&mut self, cx: &mut Cx, key: &K, computed: impl FnOnce() -> Option<V>) -> Result<Option<V>> {
        match self {
            Self::Stored(writer) => writer.old(cx, key),
            Self::Passing { send_old: true, .. } => Ok(computed()),
            Self::Passing { send_old: false, .. } => Ok(None),
        }
    }

    /// Sends a change on, through the store if there is one.
    ///
    /// # Errors
    /// Those of the store and of what is below.
    pub(crate) fn send(&mut self, cx: &mut Cx, mut record: Record<K, Change<V>>) -> Result {
        match self {
            Self::Stored(writer) => {
                let context_ms = record.timestamp_ms;
                writer.put(cx, record, context_ms)
            }
            Self::Passing { send_old, out } => {
                if !*send_old {
                    record.value.old = None;
                }
                out.push(cx, record)
            }
        }
    }
}
