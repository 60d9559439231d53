//! Rows that a store holds back until the commit: how they get there, and how they go on.
//!
//! Source: Kafka Streams' `CachingKeyValueStore.putAndMaybeForward` (and its likes for windows and sessions),
//! `TimestampedTupleForwarder`, `TimestampedCacheFlushListener`.

use super::record_cache::{HeldRow, Origin};
use super::{Cx, Hook, Port};
use crate::error::{Error, Kind, Result};
use crate::operators::Build;
use crate::record::{Change, Headers, Record, Timestamp};
use crate::serdes::SerdeRef;
use crate::state::{StoreId, timestamped};
use std::cell::RefCell;
use std::rc::Rc;

/// Turns a key's bytes, as a changelog has them, into a key; with the timestamp of its changes where the key has it.
pub(crate) type DecodeKey<K> = Box<dyn Fn(&[u8]) -> Result<(K, Option<Timestamp>)>>;

/// Where the changes of a store's rows go: on at once, or on when the store lets go of them.
pub(crate) enum ChangeOut<K, V> {
    /// At once.
    Now(Port<K, Change<V>>),
    /// When the store is flushed.
    Later(Rc<RefCell<Later<K, V>>>),
}

/// The rows of a cached store on their way on.
pub(crate) struct Later<K, V> {
    node: String,
    store: StoreId,
    key: DecodeKey<K>,
    value: SerdeRef<V>,
    send_old: bool,
    /// `None` where nobody gets the changes.
    out: Option<Port<K, Change<V>>>,
}

impl<K: 'static, V: 'static> ChangeOut<K, V> {
    /// The port behind `store`.
    pub(crate) fn new(
        build: &mut Build,
        store: StoreId,
        key: DecodeKey<K>,
        value: SerdeRef<V>,
        send_old: bool,
        out: Port<K, Change<V>>,
    ) -> Self {
        if !build.is_cached(store) {
            return Self::Now(out);
        }
        let out = (!build.children.is_empty()).then_some(out);
        let later = Later { node: build.node.clone(), store, key, value, send_old, out };
        let later = Rc::new(RefCell::new(later));
        build.hook(store, later.clone());
        Self::Later(later)
    }
}

impl<K, V> ChangeOut<K, V> {
    /// Sends a change on. In a cached store it waits already, with the row; it goes on now only if the cache is full.
    ///
    /// # Errors
    /// Those of what is below.
    pub(crate) fn send(&mut self, cx: &mut Cx, record: Record<K, Change<V>>) -> Result {
        match self {
            Self::Now(out) => out.push(cx, record),
            Self::Later(later) if cx.cache.is_over() => later.borrow_mut().flush(cx),
            Self::Later(_) => Ok(()),
        }
    }
}

impl<K, V> Hook for Later<K, V> {
    fn flush(&mut self, cx: &mut Cx) -> Result {
        let current = cx.current.take();
        let sent = cx.cache.take(self.store).try_for_each(|held| self.send(cx, held));
        cx.current = current;
        sent
    }
}

impl<K, V> Later<K, V> {
    fn send(&mut self, cx: &mut Cx, held: HeldRow) -> Result {
        // A row that came and went between two flushes was never there, as far as anybody else can tell.
        if held.row().is_none() && !cx.existed(self.store, &held)? {
            return Ok(());
        }
        let headers = cx.delete_headers(held.row(), &held.origin.headers);
        cx.log_held(self.store, &held, headers);
        let Some(out) = &mut self.out else {
            cx.cache.sent(self.store, held);
            return Ok(());
        };
        cx.current = held.origin.context();
        let timestamped = cx.cache.is_timestamped(self.store);
        let row_ms = held.row().filter(|_| timestamped).map(timestamped::timestamp_ms);
        let value_of = |row: Option<&[u8]>| decode(&self.node, &self.value, row, timestamped);
        let (key, key_ms) = (self.key)(held.key())?;
        let old = held.old.as_ref().and_then(Option::as_deref).filter(|_| self.send_old);
        let value = Change::latest(value_of(held.row())?, value_of(old)?);
        let (timestamp_ms, headers) =
            (key_ms.or(row_ms).unwrap_or(held.origin.timestamp_ms), held.origin.headers.clone());
        cx.cache.sent(self.store, held);
        out.push(cx, Record { key, value, timestamp_ms, headers })
    }
}

fn decode<V>(node: &str, value: &SerdeRef<V>, row: Option<&[u8]>, timestamped: bool) -> Result<Option<V>> {
    let Some(row) = row else { return Ok(None) };
    let value = value.deserialize(Some(if timestamped { timestamped::value(row) } else { row }));
    value.map(Some).map_err(|error| Error::new(Kind::State, format!("a row does not decode: {error}")).node(node))
}

/// A row to write to a store that may be cached.
pub(crate) struct RowWrite<'a> {
    pub(crate) key: &'a [u8],
    /// The value's bytes; `None` deletes.
    pub(crate) value: Option<&'a [u8]>,
    /// The timestamp that the row keeps, where the store keeps timestamps.
    pub(crate) row_ms: Timestamp,
    /// The timestamp and the headers of the record that writes it.
    pub(crate) context_ms: Timestamp,
    pub(crate) headers: &'a Headers,
    /// Whether the change will have to tell what was there before.
    pub(crate) wants_old: bool,
}

impl Cx {
    /// Writes a row of a timestamped key-value store. Where the store is cached it is logged later, else at once.
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read.
    pub(crate) fn put_row(&mut self, store: StoreId, write: RowWrite<'_>) -> Result {
        let RowWrite { key, value, row_ms, context_ms, headers, wants_old } = write;
        if !self.cache.is_cached(store) {
            let logged_ms = if value.is_some() { row_ms } else { context_ms };
            let headers = self.delete_headers(value, headers);
            self.put_timestamped_with(store, key, value, logged_ms, headers);
            return Ok(());
        }
        let first = wants_old && self.cache.get(store, key).is_none();
        let old = if first { Some(self.state.get(store, key)?.map(|row| row.to_vec())) } else { None };
        let row = if self.state.is_timestamped(store) {
            value.map(|value| {
                timestamped::encode(value, row_ms, &mut self.row);
                self.row.as_slice()
            })
        } else {
            value
        };
        self.state.put(store, key, row);
        let origin = Origin::new(context_ms, headers.clone(), self.current.as_ref(), self.dead_letters.is_some());
        self.cache.hold(store, key, row, old, origin);
        Ok(())
    }

    /// The headers of the changelog record of a row that a record with these headers writes.
    pub(crate) fn delete_headers(&self, row: Option<&[u8]>, headers: &Headers) -> Headers {
        if row.is_none() && self.deletes_have_headers { headers.clone() } else { Headers::default() }
    }

    /// Logs what is held back of a store that no node sends on, such as a processor's.
    pub(crate) fn flush_unsent(&mut self, store: StoreId) {
        for held in self.cache.take(store) {
            self.log_held(store, &held, Headers::default());
            self.cache.sent(store, held);
        }
    }

    /// Whether the row was there when the store was flushed last.
    fn existed(&mut self, store: StoreId, held: &HeldRow) -> Result<bool> {
        if let Some(rows) = &self.segmented[store.0]
            && rows.time_of_changelog(held.key()).is_some_and(|time_ms| !rows.shows_flushed(time_ms))
        {
            return Ok(false);
        }
        if let Some(old) = &held.old {
            return Ok(old.is_some());
        }
        if let Some(existed) = self.cache.existed(store, held.key()) {
            return Ok(existed);
        }
        match &self.segmented[store.0] {
            None => self.state.is_committed(store, held.key()),
            Some(rows) => match rows.physical_of_changelog(held.key()) {
                Some(key) => self.state.is_committed(store, &key),
                None => Ok(false),
            },
        }
    }

    /// Writes a row to the changelog as the one that wrote it would have.
    fn log_held(&mut self, store: StoreId, held: &HeldRow, headers: Headers) {
        let (value, row_ms) = match held.row() {
            Some(row) if self.cache.is_timestamped(store) => {
                (Some(timestamped::value(row)), Some(timestamped::timestamp_ms(row)))
            }
            row => (row, None),
        };
        self.log(store, held.key(), value, row_ms.unwrap_or(held.origin.timestamp_ms), headers);
        if let Some(rows) = &mut self.segmented[store.0]
            && let Some(time_ms) = rows.time_of_changelog(held.key())
            && !rows.flushed(time_ms)
        {
            self.drop_record("cache", "its window or session is too old for the store");
        }
    }
}
