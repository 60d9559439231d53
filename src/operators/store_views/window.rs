//! Window stores as processors see them.

use super::{StateStore, StoreContext, decode, encode};
use crate::error::Result;
use crate::operators::timed_rows::TimedWrite;
use crate::record::{Headers, Timestamp};
use crate::serdes::SerdeRef;
use crate::state::segmented::{Keys, TimedRow};
use crate::state::{StoreId, StoreKind, WindowOrder, timestamped};

/// Rows by key and start of a window; old ones are forgotten as the store's stream time moves on.
///
/// ```
/// use watersmeet::prelude::*;
/// use watersmeet::processor::WindowStore;
/// use watersmeet::serdes::DefaultSerde;
/// let per_minute = WindowStore::<String, i64>::store("per-minute", 3_600_000, 60_000, String::serde(), i64::serde());
/// let per_minute = StreamsBuilder::new().add_state_store(per_minute);
/// ```
pub struct WindowStore<K, V> {
    store: StoreId,
    size_ms: i64,
    timestamped: bool,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
}

/// A row of a window store.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// let minutes = WindowStore::<String, i64>::store("minutes", 3_600_000, 60_000, String::serde(), i64::serde());
/// with_store(minutes, |minutes, context| {
///     minutes.put(context, &"a".into(), Some(&1), 60_000)?;
///     let row = minutes.get(context, &"a".into(), 60_000)?;
///     let expected = WindowRow { key: "a".to_string(), start_ms: 60_000, end_ms: 120_000, value: 1, timestamp_ms: None };
///     assert_eq!(row, Some(expected));
///     Ok(())
/// })?;
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowRow<K, V> {
    /// The key.
    pub key: K,
    /// Start of the window.
    pub start_ms: Timestamp,
    /// End of the window.
    pub end_ms: Timestamp,
    /// The value.
    pub value: V,
    /// The row's timestamp; `None` where the store keeps none.
    pub timestamp_ms: Option<Timestamp>,
}

impl<K: 'static, V: 'static> WindowStore<K, V> {
    /// A store of this name, to be added to a topology: for windows of `size_ms`, kept for `retention_ms` of stream time.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let minutes = WindowStore::<String, i64>::store("minutes", 3_600_000, 60_000, String::serde(), i64::serde());
    /// ```
    pub fn store(
        name: &str,
        retention_ms: i64,
        size_ms: i64,
        key: SerdeRef<K>,
        value: SerdeRef<V>,
    ) -> StateStore<Self> {
        let kind = StoreKind::Window {
            retention_ms,
            size_ms,
            duplicates: false,
            order: WindowOrder::Key,
            timestamped: false,
            headers: false,
        };
        Self::of_kind(name, kind, key, value)
    }

    /// As [`store`](Self::store); rows of the same key and window are kept beside each other.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let minutes = WindowStore::<String, i64>::with_duplicates("minutes", 3_600_000, 60_000, String::serde(), i64::serde());
    /// with_store(minutes, |minutes, context| {
    ///     minutes.put(context, &"a".into(), Some(&1), 0)?;
    ///     minutes.put(context, &"a".into(), Some(&2), 0)?;
    ///     assert_eq!(minutes.fetch(context, &"a".into(), 0, 0)?.len(), 2);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "retainDuplicates")]
    pub fn with_duplicates(
        name: &str,
        retention_ms: i64,
        size_ms: i64,
        key: SerdeRef<K>,
        value: SerdeRef<V>,
    ) -> StateStore<Self> {
        let kind = StoreKind::Window {
            retention_ms,
            size_ms,
            duplicates: true,
            order: WindowOrder::Key,
            timestamped: false,
            headers: false,
        };
        Self::of_kind(name, kind, key, value)
    }

    /// As [`store`](Self::store); each row has a timestamp, as those of aggregations have.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let minutes = WindowStore::<String, i64>::timestamped("minutes", 3_600_000, 60_000, String::serde(), i64::serde());
    /// with_store(minutes, |minutes, context| {
    ///     minutes.put_stamped(context, &"a".into(), Some(&1), 0, 59)?;
    ///     assert_eq!(minutes.fetch(context, &"a".into(), 0, 0)?[0].timestamp_ms, Some(59));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "TimestampedWindowStore")]
    pub fn timestamped(
        name: &str,
        retention_ms: i64,
        size_ms: i64,
        key: SerdeRef<K>,
        value: SerdeRef<V>,
    ) -> StateStore<Self> {
        let kind = StoreKind::Window {
            retention_ms,
            size_ms,
            duplicates: false,
            order: WindowOrder::Key,
            timestamped: true,
            headers: false,
        };
        Self::of_kind(name, kind, key, value)
    }

    fn of_kind(name: &str, kind: StoreKind, key: SerdeRef<K>, value: SerdeRef<V>) -> StateStore<Self> {
        let (size_ms, timestamped) = match kind {
            StoreKind::Window { size_ms, timestamped, .. } => (size_ms, timestamped),
            _ => (0, false),
        };
        let formats = (key.format(), value.format());
        StateStore::new(name, kind, move |store| Self {
            store,
            size_ms,
            timestamped,
            key: key.clone(),
            value: value.clone(),
        })
        .of_formats(formats.0, formats.1)
    }

    /// Sets (`Some`) or deletes (`None`) the value of `key` in the window that begins at `start_ms`. A row's timestamp is
    /// that of the record that is processed.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let minutes = WindowStore::<String, i64>::store("minutes", 3_600_000, 60_000, String::serde(), i64::serde());
    /// with_store(minutes, |minutes, context| {
    ///     minutes.put(context, &"a".into(), Some(&1), 60_000)?;
    ///     assert_eq!(minutes.get(context, &"a".into(), 60_000)?.map(|row| row.value), Some(1));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the disk cannot be read. [`Kind::User`](crate::error::Kind::User): key or
    /// value do not encode.
    pub fn put(&mut self, context: &mut impl StoreContext, key: &K, value: Option<&V>, start_ms: Timestamp) -> Result {
        let row_ms = context.cx().context_ms;
        self.put_stamped(context, key, value, start_ms, row_ms)
    }

    /// As [`put`](Self::put), with a timestamp for the row, in stores that keep it.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let minutes = WindowStore::<String, i64>::timestamped("minutes", 3_600_000, 60_000, String::serde(), i64::serde());
    /// with_store(minutes, |minutes, context| {
    ///     minutes.put_stamped(context, &"a".into(), Some(&1), 0, 59)?;
    ///     assert_eq!(minutes.get(context, &"a".into(), 0)?.and_then(|row| row.timestamp_ms), Some(59));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn put_stamped(
        &mut self,
        context: &mut impl StoreContext,
        key: &K,
        value: Option<&V>,
        start_ms: Timestamp,
        row_ms: Timestamp,
    ) -> Result {
        let key = encode(&self.key, key)?;
        let value = value.map(|value| encode(&self.value, value)).transpose()?;
        let cx = context.cx();
        let row_ms = (self.timestamped && value.is_some()).then_some(row_ms);
        let write = TimedWrite {
            key: &key,
            time_ms: start_ms,
            start_ms: None,
            value: value.as_deref(),
            row_ms,
            log_ms: row_ms.unwrap_or(cx.context_ms),
            headers: Headers::default(),
        };
        cx.put_window("processor", self.store, write, &Headers::default(), false).map(|_| ())
    }

    /// The row of `key` in the window that begins at `start_ms`.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let minutes = WindowStore::<String, i64>::store("minutes", 3_600_000, 60_000, String::serde(), i64::serde());
    /// with_store(minutes, |minutes, context| {
    ///     assert_eq!(minutes.get(context, &"a".into(), 0)?, None);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn get(
        &mut self,
        context: &mut impl StoreContext,
        key: &K,
        start_ms: Timestamp,
    ) -> Result<Option<WindowRow<K, V>>> {
        let key = encode(&self.key, key)?;
        let row = context.cx().get_timed(self.store, &key, start_ms, 0)?;
        row.map(|value| {
            self.decoded(TimedRow { key, time_ms: start_ms, suffix: 0, value, headers: Default::default() })
        })
        .transpose()
    }

    /// The rows of `key` whose windows begin in this time, both ends included.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let minutes = WindowStore::<String, i64>::store("minutes", 3_600_000, 60_000, String::serde(), i64::serde());
    /// with_store(minutes, |minutes, context| {
    ///     minutes.put(context, &"a".into(), Some(&1), 0)?;
    ///     minutes.put(context, &"a".into(), Some(&2), 60_000)?;
    ///     let values: Vec<i64> = minutes.fetch(context, &"a".into(), 0, 60_000)?.into_iter().map(|row| row.value).collect();
    ///     assert_eq!(values, [1, 2]);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn fetch(
        &mut self,
        context: &mut impl StoreContext,
        key: &K,
        from_ms: Timestamp,
        to_ms: Timestamp,
    ) -> Result<Vec<WindowRow<K, V>>> {
        let key = encode(&self.key, key)?;
        self.rows(context, Keys::One(&key), from_ms, to_ms)
    }

    /// The rows of the keys from one to another, both included (`None` is no bound), whose windows begin in this time.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let minutes = WindowStore::<String, i64>::store("minutes", 3_600_000, 60_000, String::serde(), i64::serde());
    /// with_store(minutes, |minutes, context| {
    ///     minutes.put(context, &"a".into(), Some(&1), 0)?;
    ///     minutes.put(context, &"b".into(), Some(&2), 0)?;
    ///     let from_b = minutes.fetch_range(context, (Some(&"b".into()), None), 0, 60_000)?;
    ///     assert_eq!(from_b.len(), 1);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    #[doc(alias = "fetchAll")]
    pub fn fetch_range(
        &mut self,
        context: &mut impl StoreContext,
        keys: (Option<&K>, Option<&K>),
        from_ms: Timestamp,
        to_ms: Timestamp,
    ) -> Result<Vec<WindowRow<K, V>>> {
        let from = keys.0.map(|key| encode(&self.key, key)).transpose()?;
        let to = keys.1.map(|key| encode(&self.key, key)).transpose()?;
        if from.as_ref().zip(to.as_ref()).is_some_and(|(from, to)| from > to) {
            return Ok(Vec::new());
        }
        self.rows(context, Keys::Range(from.as_deref(), to.as_deref()), from_ms, to_ms)
    }

    /// All rows.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let minutes = WindowStore::<String, i64>::store("minutes", 3_600_000, 60_000, String::serde(), i64::serde());
    /// with_store(minutes, |minutes, context| {
    ///     minutes.put(context, &"a".into(), Some(&1), 0)?;
    ///     assert_eq!(minutes.all(context)?.len(), 1);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn all(&mut self, context: &mut impl StoreContext) -> Result<Vec<WindowRow<K, V>>> {
        self.rows(context, Keys::Range(None, None), 0, Timestamp::MAX)
    }

    fn rows(
        &self,
        context: &mut impl StoreContext,
        keys: Keys<'_>,
        from_ms: Timestamp,
        to_ms: Timestamp,
    ) -> Result<Vec<WindowRow<K, V>>> {
        let rows = context.cx().fetch_timed(self.store, keys, from_ms, to_ms)?;
        rows.into_iter().map(|row| self.decoded(row)).collect()
    }

    fn decoded(&self, row: TimedRow) -> Result<WindowRow<K, V>> {
        let (value, timestamp_ms) = match self.timestamped {
            true => (timestamped::value(&row.value), Some(timestamped::timestamp_ms(&row.value))),
            false => (&*row.value, None),
        };
        Ok(WindowRow {
            key: decode(&self.key, &row.key)?,
            start_ms: row.time_ms,
            end_ms: row.time_ms.saturating_add(self.size_ms),
            value: decode(&self.value, value)?,
            timestamp_ms,
        })
    }
}
