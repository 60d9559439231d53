//! Versioned stores as processors see them.

use super::{StateStore, StoreContext, decode, encode};
use crate::error::{Error, Kind, Result};
use crate::operators::Cx;
use crate::record::{Headers, Timestamp};
use crate::serdes::SerdeRef;
use crate::state::versioned::{Placed, Versioned};
use crate::state::{StoreId, StoreKind};

/// Rows by key that remember for a while what they were: what held at a time can be asked for. Source: KIP-889.
///
/// ```
/// use watersmeet::prelude::*;
/// use watersmeet::processor::VersionedStore;
/// use watersmeet::serdes::DefaultSerde;
/// let prices = VersionedStore::<String, i64>::store("prices", 3_600_000, String::serde(), i64::serde());
/// let prices = StreamsBuilder::new().add_state_store(prices);
/// ```
pub struct VersionedStore<K, V> {
    store: StoreId,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
}

/// A value, and the time in which it holds.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// let prices = VersionedStore::<String, i64>::store("prices", 3_600_000, String::serde(), i64::serde());
/// with_store(prices, |prices, context| {
///     prices.put(context, &"tea".into(), Some(&3), 10)?;
///     let now = VersionedRecord { value: 3, from_ms: 10, to_ms: None };
///     assert_eq!(prices.get(context, &"tea".into())?, Some(now));
///     Ok(())
/// })?;
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedRecord<V> {
    /// The value.
    pub value: V,
    /// From this time.
    pub from_ms: Timestamp,
    /// To before this time; `None`: it holds now.
    pub to_ms: Option<Timestamp>,
}

impl<K: 'static, V: 'static> VersionedStore<K, V> {
    /// A store of this name, to be added to a topology; the past is kept for `history_ms` of stream time.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let prices = VersionedStore::<String, i64>::store("prices", 3_600_000, String::serde(), i64::serde());
    /// ```
    pub fn store(name: &str, history_ms: i64, key: SerdeRef<K>, value: SerdeRef<V>) -> StateStore<Self> {
        let kind = StoreKind::Versioned { history_ms };
        let formats = (key.format(), value.format());
        StateStore::new(name, kind, move |store| Self { store, key: key.clone(), value: value.clone() })
            .of_formats(formats.0, formats.1)
    }

    /// Sets (`Some`) or deletes (`None`) what holds from `from_ms` on, and tells what became of it.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let prices = VersionedStore::<String, i64>::store("prices", 3_600_000, String::serde(), i64::serde());
    /// with_store(prices, |prices, context| {
    ///     assert_eq!(prices.put(context, &"tea".into(), Some(&3), 10)?, Placed::Now);
    ///     assert_eq!(prices.put(context, &"tea".into(), Some(&2), 5)?, Placed::Until(10));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read. [`Kind::User`]: key or value do not encode.
    pub fn put(
        &mut self,
        context: &mut impl StoreContext,
        key: &K,
        value: Option<&V>,
        from_ms: Timestamp,
    ) -> Result<Placed> {
        let key = encode(&self.key, key)?;
        let value = value.map(|value| encode(&self.value, value)).transpose()?;
        let cx = context.cx();
        let versioned = cx.versioned[self.store.0].as_mut().ok_or_else(not_versioned)?;
        let placed = versioned.put(&mut cx.state, &key, value.as_deref(), from_ms)?;
        cx.log(self.store, &key, value.as_deref(), from_ms, Headers::default());
        if placed == Placed::TooOld {
            cx.drop_record("processor", "it is older than the history of the versioned store");
        }
        Ok(placed)
    }

    /// Deletes what holds from `from_ms` on. Returns what held then.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let prices = VersionedStore::<String, i64>::store("prices", 3_600_000, String::serde(), i64::serde());
    /// with_store(prices, |prices, context| {
    ///     prices.put(context, &"tea".into(), Some(&3), 10)?;
    ///     prices.delete(context, &"tea".into(), 20)?;
    ///     assert_eq!(prices.get(context, &"tea".into())?, None);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn delete(
        &mut self,
        context: &mut impl StoreContext,
        key: &K,
        from_ms: Timestamp,
    ) -> Result<Option<VersionedRecord<V>>> {
        let held = self.get_as_of(context, key, from_ms)?;
        let placed = self.put(context, key, None, from_ms)?;
        Ok(held.filter(|_| placed != Placed::TooOld))
    }

    /// What holds now.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let prices = VersionedStore::<String, i64>::store("prices", 3_600_000, String::serde(), i64::serde());
    /// with_store(prices, |prices, context| {
    ///     assert_eq!(prices.get(context, &"tea".into())?, None);
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn get(&mut self, context: &mut impl StoreContext, key: &K) -> Result<Option<VersionedRecord<V>>> {
        let key = encode(&self.key, key)?;
        let cx = context.cx();
        let Some((value, from_ms)) = view(&cx.versioned, self.store)?.get(&mut cx.state, &key)? else {
            return Ok(None);
        };
        Ok(Some(VersionedRecord { value: decode(&self.value, &value)?, from_ms, to_ms: None }))
    }

    /// What held at that time; `None` also where that is longer ago than the history goes.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// let prices = VersionedStore::<String, i64>::store("prices", 3_600_000, String::serde(), i64::serde());
    /// with_store(prices, |prices, context| {
    ///     prices.put(context, &"tea".into(), Some(&3), 10)?;
    ///     prices.put(context, &"tea".into(), Some(&4), 20)?;
    ///     assert_eq!(prices.get_as_of(context, &"tea".into(), 15)?.map(|version| version.value), Some(3));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put).
    pub fn get_as_of(
        &mut self,
        context: &mut impl StoreContext,
        key: &K,
        as_of_ms: Timestamp,
    ) -> Result<Option<VersionedRecord<V>>> {
        let key = encode(&self.key, key)?;
        let cx: &mut Cx = context.cx();
        let version = view(&cx.versioned, self.store)?.get_as_of(&mut cx.state, &key, as_of_ms)?;
        let Some((version, value)) = version.and_then(|mut version| version.value.take().map(|v| (version, v))) else {
            return Ok(None);
        };
        let value = decode(&self.value, &value)?;
        Ok(Some(VersionedRecord { value, from_ms: version.from_ms, to_ms: version.to_ms }))
    }
}

fn view(views: &[Option<Versioned>], store: StoreId) -> Result<&Versioned> {
    views[store.0].as_ref().ok_or_else(not_versioned)
}

fn not_versioned() -> Error {
    Error::new(Kind::Topology, "the store is of another kind in this topology, not versioned")
}
