//! Stores as processors see them: typed, written through to the changelog.

mod session;
mod versioned;
mod window;

pub use session::{SessionRow, SessionStore};
pub use versioned::{VersionedRecord, VersionedStore};
pub use window::{WindowRow, WindowStore};

use super::Cx;
use crate::error::{Error, Kind, Result};
use crate::record::Timestamp;
use crate::serdes::{Encoded, Format, SerdeError, SerdeRef};
use crate::state::{Changelog, Engine, StoreId, StoreKind, StoreSpec, timestamped};
use std::fmt::Display;
use std::sync::Arc;

/// What gives access to a task's stores: the contexts of processors.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// fn count(counts: &mut KeyValueStore<String, i64>, context: &mut impl StoreContext, key: &String) -> Result<i64> {
///     let count = counts.get(context, key)?.unwrap_or(0) + 1;
///     counts.put(context, key, Some(&count))?;
///     Ok(count)
/// }
/// let counts = KeyValueStore::store("counts", String::serde(), i64::serde());
/// assert_eq!(with_store(counts, |counts, context| count(counts, context, &"a".into()))?, 1);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub trait StoreContext {
    /// The task's own context.
    #[doc(hidden)]
    fn cx(&mut self) -> &mut Cx;
}

impl StoreContext for Cx {
    fn cx(&mut self) -> &mut Cx {
        self
    }
}

/// A store that a topology has, and how it is opened: [`KeyValueStore`] and its kin. Cheap to clone; processors keep one to
/// open the store in `init`.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// let counts: StateStore<KeyValueStore<String, i64>> = KeyValueStore::store("counts", String::serde(), i64::serde());
/// assert_eq!(StreamsBuilder::new().add_state_store(counts).name(), "counts");
/// ```
pub struct StateStore<S> {
    spec: StoreSpec,
    /// Whether the engine was chosen; otherwise it is the application's default.
    engine_given: bool,
    open: Arc<dyn Fn(StoreId) -> S + Send + Sync>,
    formats: (Format, Format),
}

impl<S> Clone for StateStore<S> {
    fn clone(&self) -> Self {
        Self {
            spec: self.spec.clone(),
            engine_given: self.engine_given,
            open: self.open.clone(),
            formats: self.formats,
        }
    }
}

impl<S> StateStore<S> {
    pub(crate) fn new(name: &str, kind: StoreKind, open: impl Fn(StoreId) -> S + Send + Sync + 'static) -> Self {
        let changelog = Changelog::Own { config: Vec::new() };
        let spec = StoreSpec { name: name.into(), engine: Engine::default(), kind, changelog, cached: false };
        Self { spec, engine_given: false, open: Arc::new(open), formats: (Format::Bytes, Format::Bytes) }
    }

    /// Notes what its bytes are.
    pub(crate) fn of_formats(self, key: Format, value: Format) -> Self {
        Self { formats: (key, value), ..self }
    }

    /// What its keys and its values are.
    pub(crate) fn formats(&self) -> (Format, Format) {
        self.formats
    }

    /// The store's name.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
    /// assert_eq!(counts.name(), "counts");
    /// ```
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Sets the engine.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// use watersmeet::state::Engine;
    /// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde()).engine(Engine::Memory);
    /// ```
    pub fn engine(mut self, engine: Engine) -> Self {
        self.spec.engine = engine;
        self.engine_given = true;
        self
    }

    /// Without changelog: what a machine loses is lost.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde()).without_changelog();
    /// ```
    #[doc(alias = "withLoggingDisabled")]
    pub fn without_changelog(mut self) -> Self {
        self.spec.changelog = Changelog::None;
        self
    }

    /// Sets a topic setting of the changelog over the built-in ones.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
    /// let counts = counts.changelog_config("segment.bytes", "1000000");
    /// ```
    #[doc(alias = "withLoggingEnabled")]
    pub fn changelog_config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        if let Changelog::Own { config } = &mut self.spec.changelog {
            config.push((key.into(), value.into()));
        }
        self
    }

    /// Collects writes until the commit, where there is memory for it. Stores of processors do not, unless asked to, and
    /// window stores with duplicates never: each row is one of its own.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde()).cached();
    /// ```
    #[doc(alias = "withCachingEnabled")]
    pub fn cached(mut self) -> Self {
        self.spec.cached = !matches!(self.spec.kind, StoreKind::Window { duplicates: true, .. });
        self
    }

    pub(crate) fn spec(&self, default_engine: Engine) -> StoreSpec {
        let engine = if self.engine_given { self.spec.engine } else { default_engine };
        StoreSpec { engine, ..self.spec.clone() }
    }

    pub(crate) fn open(&self, id: StoreId) -> S {
        (self.open)(id)
    }
}

/// Rows by key.
///
/// ```
/// use watersmeet::prelude::*;
/// use watersmeet::processor::KeyValueStore;
/// use watersmeet::serdes::DefaultSerde;
/// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
/// let counts = StreamsBuilder::new().add_state_store(counts);
/// ```
pub struct KeyValueStore<K, V> {
    store: StoreId,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
}

impl<K: 'static, V: 'static> KeyValueStore<K, V> {
    /// A store of this name, to be added to a topology.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
    /// let counts = StreamsBuilder::new().add_state_store(counts);
    /// ```
    pub fn store(name: &str, key: SerdeRef<K>, value: SerdeRef<V>) -> StateStore<Self> {
        let kind = StoreKind::KeyValue { timestamped: false };
        let formats = (key.format(), value.format());
        StateStore::new(name, kind, move |store| Self { store, key: key.clone(), value: value.clone() })
            .of_formats(formats.0, formats.1)
    }

    /// The value of `key`.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
    /// with_store(counts, |counts, context| {
    ///     assert_eq!(counts.get(context, &"a".into())?, None);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read, or the row is of another type.
    pub fn get(&mut self, context: &mut impl StoreContext, key: &K) -> Result<Option<V>> {
        let key = encode(&self.key, key)?;
        let row = context.cx().state.get(self.store, &key)?;
        row.map(|row| decode(&self.value, &row)).transpose()
    }

    /// Sets (`Some`) or deletes (`None`) the value of `key`.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
    /// with_store(counts, |counts, context| {
    ///     counts.put(context, &"a".into(), Some(&1))?;
    ///     assert_eq!(counts.get(context, &"a".into())?, Some(1));
    ///     counts.put(context, &"a".into(), None)?;
    ///     assert_eq!(counts.get(context, &"a".into())?, None);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Kind::User`]: key or value do not encode.
    pub fn put(&mut self, context: &mut impl StoreContext, key: &K, value: Option<&V>) -> Result {
        let key = encode(&self.key, key)?;
        let value = value.map(|value| encode(&self.value, value)).transpose()?;
        let cx = context.cx();
        let log_ms = cx.context_ms;
        cx.put_logged(self.store, &key, value.as_deref(), log_ms);
        Ok(())
    }

    /// Sets the values of several keys.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
    /// with_store(counts, |counts, context| {
    ///     let rows = [("a", 1), ("b", 2), ("c", 3)].map(|(key, count)| (key.to_string(), count));
    ///     counts.put_all(context, rows.iter().map(|(key, count)| (key, Some(count))))?;
    ///     assert_eq!(counts.all(context)?.len(), 3);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    #[doc(alias = "putAll")]
    pub fn put_all<'a>(
        &mut self,
        context: &mut impl StoreContext,
        rows: impl IntoIterator<Item = (&'a K, Option<&'a V>)>,
    ) -> Result {
        rows.into_iter().try_for_each(|(key, value)| self.put(context, key, value))
    }

    /// Sets the value of `key` if it has none; returns the one that it had.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
    /// with_store(counts, |counts, context| {
    ///     assert_eq!(counts.put_if_absent(context, &"a".into(), &1)?, None);
    ///     assert_eq!(counts.put_if_absent(context, &"a".into(), &2)?, Some(1));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get) and [`put`](Self::put).
    #[doc(alias = "putIfAbsent")]
    pub fn put_if_absent(&mut self, context: &mut impl StoreContext, key: &K, value: &V) -> Result<Option<V>> {
        let had = self.get(context, key)?;
        if had.is_none() {
            self.put(context, key, Some(value))?;
        }
        Ok(had)
    }

    /// Deletes the value of `key`; returns it.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
    /// with_store(counts, |counts, context| {
    ///     counts.put(context, &"a".into(), Some(&1))?;
    ///     assert_eq!(counts.delete(context, &"a".into())?, Some(1));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn delete(&mut self, context: &mut impl StoreContext, key: &K) -> Result<Option<V>> {
        let had = self.get(context, key)?;
        self.put(context, key, None)?;
        Ok(had)
    }

    /// The rows from key `from` to key `to`, both included, in the order of the keys' bytes; `None` is no bound.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
    /// with_store(counts, |counts, context| {
    ///     let rows = [("a", 1), ("b", 2), ("c", 3)].map(|(key, count)| (key.to_string(), count));
    ///     counts.put_all(context, rows.iter().map(|(key, count)| (key, Some(count))))?;
    ///     let backwards: Vec<_> = counts.range(context, Some(&"b".into()), None)?.into_iter().rev().collect();
    ///     assert_eq!(backwards, [("c".into(), 3), ("b".into(), 2)]);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn range(&mut self, context: &mut impl StoreContext, from: Option<&K>, to: Option<&K>) -> Result<Vec<(K, V)>> {
        let rows = rows_between(context.cx(), self.store, &self.key, from, to)?;
        self.decoded(rows)
    }

    /// The first `limit` rows with a key between `from` and `to`, both included, in the order of the keys' bytes: where there
    /// may be many, and a few are wanted, such as those that are due next.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
    /// with_store(counts, |counts, context| {
    ///     let rows = [("a", 1), ("b", 2), ("c", 3)].map(|(key, count)| (key.to_string(), count));
    ///     counts.put_all(context, rows.iter().map(|(key, count)| (key, Some(count))))?;
    ///     assert_eq!(counts.first(context, None, None, 2)?, [("a".into(), 1), ("b".into(), 2)]);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn first(
        &mut self,
        context: &mut impl StoreContext,
        from: Option<&K>,
        to: Option<&K>,
        limit: usize,
    ) -> Result<Vec<(K, V)>> {
        let rows = first_between(context.cx(), self.store, &self.key, from, to, limit)?;
        self.decoded(rows)
    }

    /// All rows, in the order of the keys' bytes.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
    /// with_store(counts, |counts, context| {
    ///     let rows = [("a", 1), ("b", 2), ("c", 3)].map(|(key, count)| (key.to_string(), count));
    ///     counts.put_all(context, rows.iter().map(|(key, count)| (key, Some(count))))?;
    ///     assert_eq!(counts.all(context)?[0], ("a".into(), 1));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn all(&mut self, context: &mut impl StoreContext) -> Result<Vec<(K, V)>> {
        self.range(context, None, None)
    }

    /// The rows whose keys' bytes begin with those of `prefix`.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
    /// with_store(counts, |counts, context| {
    ///     counts.put(context, &"ab".into(), Some(&1))?;
    ///     counts.put(context, &"b".into(), Some(&2))?;
    ///     assert_eq!(counts.prefix(context, &"a".to_string(), &String::serde())?, [("ab".into(), 1)]);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[doc(alias = "prefixScan")]
    pub fn prefix<P>(
        &mut self,
        context: &mut impl StoreContext,
        prefix: &P,
        serde: &SerdeRef<P>,
    ) -> Result<Vec<(K, V)>> {
        let prefix = encode(serde, prefix)?;
        let mut rows = Vec::new();
        context.cx().state.range(self.store, Some(&prefix), None, &mut |key, row| {
            let go_on = key.starts_with(&prefix);
            if go_on {
                rows.push((key.to_vec(), row.to_vec()));
            }
            go_on
        })?;
        self.decoded(rows)
    }

    fn decoded(&self, rows: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Vec<(K, V)>> {
        rows.iter().map(|(key, row)| Ok((decode(&self.key, key)?, decode(&self.value, row)?))).collect()
    }
}

/// Rows by key, each with a timestamp.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// let prices = TimestampedKeyValueStore::<String, i64>::store("prices", String::serde(), i64::serde());
/// with_store(prices, |prices, context| {
///     prices.put(context, &"tea".into(), Some((&3, 1_000)))?;
///     assert_eq!(prices.get(context, &"tea".into())?, Some((3, 1_000)));
///     Ok(())
/// })?;
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct TimestampedKeyValueStore<K, V> {
    store: StoreId,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
}

impl<K: 'static, V: 'static> TimestampedKeyValueStore<K, V> {
    /// A store of this name, to be added to a topology.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let prices = TimestampedKeyValueStore::<String, i64>::store("prices", String::serde(), i64::serde());
    /// let prices = StreamsBuilder::new().add_state_store(prices);
    /// ```
    pub fn store(name: &str, key: SerdeRef<K>, value: SerdeRef<V>) -> StateStore<Self> {
        let kind = StoreKind::KeyValue { timestamped: true };
        let formats = (key.format(), value.format());
        StateStore::new(name, kind, move |store| Self { store, key: key.clone(), value: value.clone() })
            .of_formats(formats.0, formats.1)
    }

    /// The value of `key`, with its timestamp.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let prices = TimestampedKeyValueStore::<String, i64>::store("prices", String::serde(), i64::serde());
    /// with_store(prices, |prices, context| {
    ///     assert_eq!(prices.get(context, &"tea".into())?, None);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read, or the row is of another type.
    pub fn get(&mut self, context: &mut impl StoreContext, key: &K) -> Result<Option<(V, Timestamp)>> {
        let key = encode(&self.key, key)?;
        let state = &mut context.cx().state;
        let timestamped = state.is_timestamped(self.store);
        let row = state.get(self.store, &key)?;
        row.map(|row| self.row(&row, timestamped)).transpose()
    }

    /// Sets (`Some`) or deletes (`None`) the value of `key`.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let prices = TimestampedKeyValueStore::<String, i64>::store("prices", String::serde(), i64::serde());
    /// with_store(prices, |prices, context| {
    ///     prices.put(context, &"tea".into(), Some((&3, 1_000)))?;
    ///     assert_eq!(prices.get(context, &"tea".into())?, Some((3, 1_000)));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Kind::User`]: key or value do not encode.
    pub fn put(&mut self, context: &mut impl StoreContext, key: &K, value: Option<(&V, Timestamp)>) -> Result {
        let key = encode(&self.key, key)?;
        let cx = context.cx();
        match value {
            Some((value, timestamp_ms)) => {
                let value = encode(&self.value, value)?;
                cx.put_timestamped(self.store, &key, Some(&value), timestamp_ms);
            }
            None => {
                let log_ms = cx.context_ms;
                cx.put_timestamped(self.store, &key, None, log_ms);
            }
        }
        Ok(())
    }

    /// The rows from key `from` to key `to`, both included, in the order of the keys' bytes; `None` is no bound.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let prices = TimestampedKeyValueStore::<String, i64>::store("prices", String::serde(), i64::serde());
    /// with_store(prices, |prices, context| {
    ///     prices.put(context, &"tea".into(), Some((&3, 1_000)))?;
    ///     assert_eq!(prices.range(context, None, None)?, [("tea".into(), (3, 1_000))]);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    #[allow(clippy::type_complexity)]
    pub fn range(
        &mut self,
        context: &mut impl StoreContext,
        from: Option<&K>,
        to: Option<&K>,
    ) -> Result<Vec<(K, (V, Timestamp))>> {
        let timestamped = context.cx().state.is_timestamped(self.store);
        let rows = rows_between(context.cx(), self.store, &self.key, from, to)?;
        rows.iter().map(|(key, row)| Ok((decode(&self.key, key)?, self.row(row, timestamped)?))).collect()
    }

    fn row(&self, row: &[u8], timestamped: bool) -> Result<(V, Timestamp)> {
        if !timestamped {
            return Ok((decode(&self.value, row)?, timestamped::UNKNOWN_MS));
        }
        Ok((decode(&self.value, timestamped::value(row))?, timestamped::timestamp_ms(row)))
    }
}

/// The rows between two keys, both included.
pub(crate) fn rows_between<K>(
    cx: &mut Cx,
    store: StoreId,
    serde: &SerdeRef<K>,
    from: Option<&K>,
    to: Option<&K>,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    first_between(cx, store, serde, from, to, usize::MAX)
}

fn first_between<K>(
    cx: &mut Cx,
    store: StoreId,
    serde: &SerdeRef<K>,
    from: Option<&K>,
    to: Option<&K>,
    limit: usize,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let from = from.map(|key| encode(serde, key)).transpose()?;
    // The end is excluded below: the smallest key behind `to` is `to` with a zero byte.
    let to = to.map(|key| encode(serde, key)).transpose()?.map(|key| [&key[..], &[0]].concat());
    let mut rows = Vec::new();
    if limit == 0 || from.as_ref().zip(to.as_ref()).is_some_and(|(from, to)| from > to) {
        return Ok(rows);
    }
    cx.state.range(store, from.as_deref(), to.as_deref(), &mut |key, row| {
        rows.push((key.to_vec(), row.to_vec()));
        rows.len() < limit
    })?;
    Ok(rows)
}

pub(crate) fn encode<T>(serde: &SerdeRef<T>, value: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match serde.serialize(value, &mut bytes) {
        Ok(Encoded::Bytes) => Ok(bytes),
        Ok(Encoded::Null) => Err(Error::new(Kind::User, "a key or value of a store is null")),
        Err(error) => Err(wrong(Kind::User, "encode", &error)),
    }
}

pub(crate) fn decode<T>(serde: &SerdeRef<T>, bytes: &[u8]) -> Result<T> {
    serde.deserialize(Some(bytes)).map_err(|error: SerdeError| wrong(Kind::State, "decode", &error))
}

fn wrong(kind: Kind, doing: &str, error: &dyn Display) -> Error {
    Error::new(kind, format!("a key or value of a store does not {doing}: {error}"))
}
