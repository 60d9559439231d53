//! Session stores as processors see them.

use super::{StateStore, StoreContext, decode, encode};
use crate::error::Result;
use crate::operators::timed_rows::TimedWrite;
use crate::record::{Headers, Timestamp};
use crate::serdes::SerdeRef;
use crate::state::segmented::{Keys, TimedRow};
use crate::state::{StoreId, StoreKind};

/// Rows by key, start and end of a session; old ones are forgotten as the store's stream time moves on.
///
/// ```
/// use watersmeet::prelude::*;
/// use watersmeet::processor::SessionStore;
/// use watersmeet::serdes::DefaultSerde;
/// let visits = SessionStore::<String, i64>::store("visits", 3_600_000, String::serde(), i64::serde());
/// let visits = StreamsBuilder::new().add_state_store(visits);
/// ```
pub struct SessionStore<K, V> {
    store: StoreId,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
}

/// A row of a session store.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// let visits = SessionStore::<String, i64>::store("visits", 3_600_000, String::serde(), i64::serde());
/// with_store(visits, |visits, context| {
///     visits.put(context, &"a".into(), (10, 20), Some(&1))?;
///     let row = SessionRow { key: "a".to_string(), start_ms: 10, end_ms: 20, value: 1 };
///     assert_eq!(visits.fetch(context, &"a".into())?, [row]);
///     Ok(())
/// })?;
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow<K, V> {
    /// The key.
    pub key: K,
    /// Start of the session.
    pub start_ms: Timestamp,
    /// End of the session: the time of its last record.
    pub end_ms: Timestamp,
    /// The value.
    pub value: V,
}

impl<K: 'static, V: 'static> SessionStore<K, V> {
    /// A store of this name, to be added to a topology; sessions are kept for `retention_ms` of stream time.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let visits = SessionStore::<String, i64>::store("visits", 3_600_000, String::serde(), i64::serde());
    /// ```
    pub fn store(name: &str, retention_ms: i64, key: SerdeRef<K>, value: SerdeRef<V>) -> StateStore<Self> {
        let kind = StoreKind::Session { retention_ms };
        let formats = (key.format(), value.format());
        StateStore::new(name, kind, move |store| Self { store, key: key.clone(), value: value.clone() })
            .of_formats(formats.0, formats.1)
    }

    /// Sets (`Some`) or deletes (`None`) the value of a session.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let visits = SessionStore::<String, i64>::store("visits", 3_600_000, String::serde(), i64::serde());
    /// with_store(visits, |visits, context| {
    ///     visits.put(context, &"a".into(), (10, 20), Some(&1))?;
    ///     assert_eq!(visits.get(context, &"a".into(), (10, 20))?, Some(1));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the disk cannot be read. [`Kind::User`](crate::error::Kind::User): key or
    /// value do not encode.
    pub fn put(
        &mut self,
        context: &mut impl StoreContext,
        key: &K,
        (start_ms, end_ms): (Timestamp, Timestamp),
        value: Option<&V>,
    ) -> Result {
        let key = encode(&self.key, key)?;
        let value = value.map(|value| encode(&self.value, value)).transpose()?;
        let cx = context.cx();
        let write = TimedWrite {
            key: &key,
            time_ms: end_ms,
            start_ms: Some(start_ms),
            value: value.as_deref(),
            row_ms: None,
            log_ms: cx.context_ms,
            headers: Headers::default(),
        };
        cx.put_window("processor", self.store, write, &Headers::default(), false).map(|_| ())
    }

    /// Deletes a session, however old it is. Unlike a [`put`](Self::put) of `None` it does not make the store's time go on.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let visits = SessionStore::<String, i64>::store("visits", 3_600_000, String::serde(), i64::serde());
    /// with_store(visits, |visits, context| {
    ///     visits.put(context, &"a".into(), (10, 20), Some(&1))?;
    ///     visits.remove(context, &"a".into(), (10, 20))?;
    ///     assert_eq!(visits.get(context, &"a".into(), (10, 20))?, None);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn remove(
        &mut self,
        context: &mut impl StoreContext,
        key: &K,
        (start_ms, end_ms): (Timestamp, Timestamp),
    ) -> Result {
        if context.cx().cache.is_cached(self.store) {
            // Source: `CachingSessionStore.remove`.
            return self.put(context, key, (start_ms, end_ms), None);
        }
        let key = encode(&self.key, key)?;
        let cx = context.cx();
        cx.remove_timed(self.store, &key, end_ms, start_ms, (cx.context_ms, &Headers::default()))
    }

    /// The value of exactly this session.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let visits = SessionStore::<String, i64>::store("visits", 3_600_000, String::serde(), i64::serde());
    /// with_store(visits, |visits, context| {
    ///     assert_eq!(visits.get(context, &"a".into(), (10, 20))?, None);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    #[doc(alias = "fetchSession")]
    pub fn get(
        &mut self,
        context: &mut impl StoreContext,
        key: &K,
        (start_ms, end_ms): (Timestamp, Timestamp),
    ) -> Result<Option<V>> {
        let key = encode(&self.key, key)?;
        let row = context.cx().get_timed(self.store, &key, end_ms, start_ms)?;
        row.map(|value| decode(&self.value, &value)).transpose()
    }

    /// All sessions of `key`.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let visits = SessionStore::<String, i64>::store("visits", 3_600_000, String::serde(), i64::serde());
    /// with_store(visits, |visits, context| {
    ///     visits.put(context, &"a".into(), (10, 20), Some(&1))?;
    ///     visits.put(context, &"a".into(), (50, 60), Some(&2))?;
    ///     assert_eq!(visits.fetch(context, &"a".into())?.len(), 2);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn fetch(&mut self, context: &mut impl StoreContext, key: &K) -> Result<Vec<SessionRow<K, V>>> {
        self.find(context, key, 0, Timestamp::MAX)
    }

    /// The sessions of `key` that end at `earliest_end_ms` or later, and begin at `latest_start_ms` or earlier.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let visits = SessionStore::<String, i64>::store("visits", 3_600_000, String::serde(), i64::serde());
    /// with_store(visits, |visits, context| {
    ///     visits.put(context, &"a".into(), (10, 20), Some(&1))?;
    ///     visits.put(context, &"a".into(), (50, 60), Some(&2))?;
    ///     assert_eq!(visits.find(context, &"a".into(), 30, 55)?[0].value, 2);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    #[doc(alias = "findSessions")]
    pub fn find(
        &mut self,
        context: &mut impl StoreContext,
        key: &K,
        earliest_end_ms: Timestamp,
        latest_start_ms: Timestamp,
    ) -> Result<Vec<SessionRow<K, V>>> {
        let key = encode(&self.key, key)?;
        self.rows(context, Keys::One(&key), earliest_end_ms, latest_start_ms)
    }

    /// As [`find`](Self::find), for all keys from one to another, both included; `None` is no bound.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let visits = SessionStore::<String, i64>::store("visits", 3_600_000, String::serde(), i64::serde());
    /// with_store(visits, |visits, context| {
    ///     visits.put(context, &"a".into(), (10, 20), Some(&1))?;
    ///     visits.put(context, &"b".into(), (10, 20), Some(&2))?;
    ///     assert_eq!(visits.find_range(context, (Some(&"b".into()), None), 0, 100)?.len(), 1);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn find_range(
        &mut self,
        context: &mut impl StoreContext,
        keys: (Option<&K>, Option<&K>),
        earliest_end_ms: Timestamp,
        latest_start_ms: Timestamp,
    ) -> Result<Vec<SessionRow<K, V>>> {
        let from = keys.0.map(|key| encode(&self.key, key)).transpose()?;
        let to = keys.1.map(|key| encode(&self.key, key)).transpose()?;
        if from.as_ref().zip(to.as_ref()).is_some_and(|(from, to)| from > to) {
            return Ok(Vec::new());
        }
        self.rows(context, Keys::Range(from.as_deref(), to.as_deref()), earliest_end_ms, latest_start_ms)
    }

    fn rows(
        &self,
        context: &mut impl StoreContext,
        keys: Keys<'_>,
        earliest_end_ms: Timestamp,
        latest_start_ms: Timestamp,
    ) -> Result<Vec<SessionRow<K, V>>> {
        let rows = context.cx().fetch_timed(self.store, keys, earliest_end_ms, Timestamp::MAX)?;
        let rows = rows.into_iter().filter(|row| row.suffix <= latest_start_ms);
        rows.map(|TimedRow { key, time_ms, suffix, value, .. }| {
            let value = decode(&self.value, &value)?;
            Ok(SessionRow { key: decode(&self.key, &key)?, start_ms: suffix, end_ms: time_ms, value })
        })
        .collect()
    }
}
