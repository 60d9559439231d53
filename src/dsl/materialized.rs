//! `Materialized`: where a table's rows are kept.

use crate::serdes::{DefaultSerde, SerdeRef, formats};
use crate::state::{Changelog, Engine, StoreKind, StoreSpec};
use serde::{Serialize, de::DeserializeOwned};

/// Where a table's rows are kept, under which name, with which serdes, and how they can be restored.
///
/// ```
/// use watersmeet::prelude::*;
/// let on_disk = Materialized::<String, i64>::rocksdb("products");
/// let lost_at_restart_and_read_again = Materialized::<String, i64>::memory("products");
/// let only_if_somebody_reads_it = Materialized::<String, i64>::default();
/// ```
pub struct Materialized<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) engine: Option<Engine>,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    pub(crate) logging_off: bool,
    pub(crate) caching_off: bool,
    pub(crate) topic_config: Vec<(String, String)>,
    pub(crate) retention_ms: Option<i64>,
    /// As `retention_ms`, but not in the changelog.
    pub(crate) store_retention_ms: Option<i64>,
    /// A versioned store, and how long its history is.
    pub(crate) history_ms: Option<i64>,
    /// A store without timestamps.
    pub(crate) untimed: bool,
    pub(crate) operator: Option<String>,
}

impl<K, V> Default for Materialized<K, V> {
    fn default() -> Self {
        Self {
            name: None,
            engine: None,
            key: None,
            value: None,
            logging_off: false,
            caching_off: false,
            topic_config: Vec::new(),
            retention_ms: None,
            store_retention_ms: None,
            history_ms: None,
            untimed: false,
            operator: None,
        }
    }
}

impl<K, V> Clone for Materialized<K, V> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            engine: self.engine,
            key: self.key.clone(),
            value: self.value.clone(),
            logging_off: self.logging_off,
            caching_off: self.caching_off,
            topic_config: self.topic_config.clone(),
            retention_ms: self.retention_ms,
            store_retention_ms: self.store_retention_ms,
            history_ms: self.history_ms,
            untimed: self.untimed,
            operator: self.operator.clone(),
        }
    }
}

impl<K, V> Materialized<K, V> {
    /// In a store of this name, on the engine that is the application's default.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let materialized = Materialized::<String, i64>::named("counts");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "as")]
    pub fn named(store: impl Into<String>) -> Self {
        Self { name: Some(store.into()), ..Self::default() }
    }

    /// On disk, in the task's RocksDB: survives restarts.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let materialized = Materialized::<String, i64>::rocksdb("counts");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn rocksdb(store: impl Into<String>) -> Self {
        Self::named(store).engine(Engine::RocksDb)
    }

    /// In memory: restored from the changelog at each start.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let materialized = Materialized::<String, i64>::memory("counts");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn memory(store: impl Into<String>) -> Self {
        Self::named(store).engine(Engine::Memory)
    }

    /// With these serdes, under a generated name unless one is given.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let materialized = Materialized::with(String::serde(), i64::serde());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self::default().serdes(key, value)
    }

    /// A versioned store: it remembers for `history_ms` of stream time what a row was. Source: KIP-889.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// let prices = builder.table("prices", Consumed::<String, String>::default(), Materialized::versioned("prices", 60_000));
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// orders.join(&prices, |order, price| format!("{order} at {price}")).to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("prices", "a", "1", 0), ("prices", "a", "2", 10), ("orders", "a", "x", 5)], "out")?;
    /// assert_eq!(results, [("a".into(), "x at 1".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn versioned(store: impl Into<String>, history_ms: i64) -> Self {
        Self { history_ms: Some(history_ms), ..Self::rocksdb(store) }
    }

    /// Sets the serdes; without them those of the input are taken, where they fit.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let materialized = Materialized::named("counts").serdes(String::serde(), i64::serde());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn serdes(mut self, key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        (self.key, self.value) = (Some(key), Some(value));
        self
    }

    /// Values as JSON, keys as those of the input.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let materialized = Materialized::<String, Vec<i64>>::named("lists").json();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn json(mut self) -> Self
    where
        V: Serialize + DeserializeOwned + 'static,
    {
        self.value = Some(formats::json());
        self
    }

    /// Values with the serde of their type, keys as those of the input.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let materialized = Materialized::<String, i64>::named("lengths").values();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn values(mut self) -> Self
    where
        V: DefaultSerde,
    {
        self.value = Some(V::serde());
        self
    }

    /// Names the operator that fills the store, in place of its generated name.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let materialized = Materialized::<String, i64>::named("counts").operator("count-orders");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "Named")]
    pub fn operator(mut self, name: impl Into<String>) -> Self {
        self.operator = Some(name.into());
        self
    }

    /// Sets the engine.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let materialized = Materialized::<String, i64>::named("counts").engine(watersmeet::state::Engine::Memory);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withStoreType")]
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Without changelog: what a machine loses is lost.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let materialized = Materialized::<String, i64>::memory("counts").without_changelog();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withLoggingDisabled")]
    pub fn without_changelog(mut self) -> Self {
        self.logging_off = true;
        self
    }

    /// Every write is logged and sent on at once, not collected until the commit.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let materialized = Materialized::<String, i64>::rocksdb("counts").without_cache();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withCachingDisabled")]
    pub fn without_cache(mut self) -> Self {
        self.caching_off = true;
        self
    }

    /// Sets a topic setting of the changelog, such as `min.cleanable.dirty.ratio`, over the built-in ones.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let materialized = Materialized::<String, i64>::rocksdb("counts").changelog_config("segment.bytes", "1000000");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withLoggingEnabled")]
    pub fn changelog_config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.topic_config.push((key.into(), value.into()));
        self
    }

    /// Keeps windows or sessions for this long in stream time, at least as long as they need.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let materialized = Materialized::<String, i64>::rocksdb("hours").retention_ms(86_400_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withRetention")]
    pub fn retention_ms(mut self, retention_ms: i64) -> Self {
        self.retention_ms = Some(retention_ms);
        self
    }

    /// Keeps windows or sessions for this long in the store, but in its changelog only as long as they need. Kafka Streams
    /// does so where it is given a store supplier.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let materialized = Materialized::<String, i64>::rocksdb("hours").store_retention_ms(86_400_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "WindowBytesStoreSupplier")]
    pub fn store_retention_ms(mut self, retention_ms: i64) -> Self {
        self.store_retention_ms = Some(retention_ms);
        self
    }

    /// A table's rows without their timestamps: who reads them finds -1. Kafka Streams does so where it is given a supplier
    /// of a plain key-value store.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let materialized = Materialized::<String, i64>::rocksdb("counts").without_timestamps();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "persistentKeyValueStore")]
    pub fn without_timestamps(mut self) -> Self {
        self.untimed = true;
        self
    }

    /// False for [`Materialized::default`]: as if it had not been mentioned. Kafka Streams numbers things otherwise if it is.
    pub(crate) fn is_given(&self) -> bool {
        let stored = self.name.is_some() || self.engine.is_some() || self.logging_off || self.caching_off;
        let kept =
            self.retention_ms.is_some() || self.history_ms.is_some() || !self.topic_config.is_empty() || self.untimed;
        stored || kept || self.key.is_some() || self.value.is_some()
    }

    /// Whether the table that it is for is versioned; `None`: nothing is said, as the tables above.
    pub(crate) fn is_versioned(&self) -> Option<bool> {
        self.is_given().then_some(self.history_ms.is_some())
    }

    /// The store as the topology has it.
    pub(crate) fn spec(&self, name: &str, kind: StoreKind, default_engine: Engine) -> StoreSpec {
        let changelog =
            if self.logging_off { Changelog::None } else { Changelog::Own { config: self.topic_config.clone() } };
        let engine = self.engine.unwrap_or(default_engine);
        StoreSpec { name: name.into(), engine, kind, changelog, cached: !self.caching_off }
    }

    /// [`spec`](Self::spec) of a key-value store, versioned where that was asked for.
    pub(crate) fn table_spec(&self, name: &str, default_engine: Engine) -> StoreSpec {
        let kind = match self.history_ms {
            Some(history_ms) => StoreKind::Versioned { history_ms },
            None => StoreKind::KeyValue { timestamped: !self.untimed },
        };
        let spec = self.spec(name, kind, default_engine);
        StoreSpec { cached: spec.cached && self.history_ms.is_none(), ..spec }
    }
}
