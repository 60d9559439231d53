//! What an operator may be told besides its function: serdes, names, where state lives.

use crate::config::Timestamps;
use crate::operators::sink::TopicOf;
use crate::operators::source::TimestampsOf;
use crate::operators::{RecordContext, TimestampExtractor};
use crate::partitioner::StreamPartitioner;
use crate::serdes::{DefaultSerde, SerdeRef, formats};
use crate::state::{Changelog, Engine, StoreKind, StoreSpec};
use serde::{Serialize, de::DeserializeOwned};

/// How a topic is read: the serdes of key and value, and optionally a timestamp extractor and a barrier.
///
/// ```
/// use watersmeet::prelude::*;
/// let text: Consumed<String, String> = Consumed::default();
/// let json = Consumed::<String, serde_json::Value>::json();
/// ```
pub struct Consumed<K, V> {
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) timestamps: TimestampsOf,
    pub(crate) ready_first: bool,
    pub(crate) name: Option<String>,
}

impl<K, V> Consumed<K, V> {
    /// Reads with these serdes.
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key, value, timestamps: TimestampsOf::default(), ready_first: false, name: None }
    }

    /// Takes timestamps from `extractor` instead of the records themselves.
    pub fn timestamp_extractor(mut self, extractor: TimestampExtractor) -> Self {
        self.timestamps = TimestampsOf::Function(extractor);
        self
    }

    /// Takes timestamps by this rule, whatever the configuration says.
    pub fn timestamps(mut self, rule: Timestamps) -> Self {
        self.timestamps = TimestampsOf::Rule(rule);
        self
    }

    /// Names the source.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Holds the other topics of a task back until this one has been read up to the end that it had when the task
    /// started: no record of a stream meets a table that is still empty (`join.table.ready`).
    pub fn ready_first(mut self) -> Self {
        self.ready_first = true;
        self
    }
}

impl<K: DefaultSerde, V: Serialize + DeserializeOwned + 'static> Consumed<K, V> {
    /// Reads JSON values under keys with their default serde.
    pub fn json() -> Self {
        Self::with(K::serde(), formats::json())
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Default for Consumed<K, V> {
    fn default() -> Self {
        Self::with(K::serde(), V::serde())
    }
}

/// How a topic is written: the serdes of key and value, and optionally which partitions records go to.
///
/// ```
/// use watersmeet::prelude::*;
/// let json = Produced::<String, serde_json::Value>::json();
/// ```
pub struct Produced<K, V> {
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) name: Option<String>,
    pub(crate) partitioner: Option<StreamPartitioner<K, V>>,
}

impl<K, V> Produced<K, V> {
    /// Writes with these serdes.
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key, value, name: None, partitioner: None }
    }

    /// Lets `partitioner` say which partition each record goes to. Without one a record goes where its key belongs, one with
    /// a windowed key where the key without the window does.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// use watersmeet::testing::{DriverOptions, TopologyTestDriver};
    /// # let builder = StreamsBuilder::new();
    /// # let stream = builder.stream("in", Consumed::<String, i32>::default());
    /// let by_value = StreamPartitioner::new(|_topic: &str, _key: &String, value: &i32, partitions| value % partitions);
    /// stream.to("out", Produced::default().partitioner(by_value));
    /// # let options = DriverOptions { partitions: 4, ..Default::default() };
    /// # let driver = TopologyTestDriver::with(builder.build()?, Config::new("test"), options)?;
    /// # driver.create_input_topic("in", Produced::<String, i32>::default()).pipe("a", 7)?;
    /// # assert_eq!(driver.broker().records("out")[0].partition, 3);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withStreamPartitioner")]
    pub fn partitioner(mut self, partitioner: StreamPartitioner<K, V>) -> Self {
        self.partitioner = Some(partitioner);
        self
    }

    /// Names the sink.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl<K: DefaultSerde, V: Serialize + DeserializeOwned + 'static> Produced<K, V> {
    /// Writes JSON values under keys with their default serde.
    pub fn json() -> Self {
        Self::with(K::serde(), formats::json())
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Default for Produced<K, V> {
    fn default() -> Self {
        Self::with(K::serde(), V::serde())
    }
}

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
    #[doc(alias = "as")]
    pub fn named(store: impl Into<String>) -> Self {
        Self { name: Some(store.into()), ..Self::default() }
    }

    /// On disk, in the task's RocksDB: survives restarts.
    pub fn rocksdb(store: impl Into<String>) -> Self {
        Self::named(store).engine(Engine::RocksDb)
    }

    /// In memory: restored from the changelog at each start.
    pub fn memory(store: impl Into<String>) -> Self {
        Self::named(store).engine(Engine::Memory)
    }

    /// With these serdes, under a generated name unless one is given.
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self::default().serdes(key, value)
    }

    /// A versioned store: it remembers for `history_ms` of stream time what a row was. Source: KIP-889.
    pub fn versioned(store: impl Into<String>, history_ms: i64) -> Self {
        Self { history_ms: Some(history_ms), ..Self::rocksdb(store) }
    }

    /// Sets the serdes; without them those of the input are taken, where they fit.
    pub fn serdes(mut self, key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        (self.key, self.value) = (Some(key), Some(value));
        self
    }

    /// Values as JSON, keys as those of the input.
    pub fn json(mut self) -> Self
    where
        V: Serialize + DeserializeOwned + 'static,
    {
        self.value = Some(formats::json());
        self
    }

    /// Values with the serde of their type, keys as those of the input.
    pub fn values(mut self) -> Self
    where
        V: DefaultSerde,
    {
        self.value = Some(V::serde());
        self
    }

    /// Names the operator that fills the store, in place of its generated name.
    #[doc(alias = "Named")]
    pub fn operator(mut self, name: impl Into<String>) -> Self {
        self.operator = Some(name.into());
        self
    }

    /// Sets the engine.
    #[doc(alias = "withStoreType")]
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Without changelog: what a machine loses is lost.
    #[doc(alias = "withLoggingDisabled")]
    pub fn without_changelog(mut self) -> Self {
        self.logging_off = true;
        self
    }

    /// Every write is logged and sent on at once, not collected until the commit.
    #[doc(alias = "withCachingDisabled")]
    pub fn without_cache(mut self) -> Self {
        self.caching_off = true;
        self
    }

    /// Sets a topic setting of the changelog, such as `min.cleanable.dirty.ratio`, over the built-in ones.
    #[doc(alias = "withLoggingEnabled")]
    pub fn changelog_config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.topic_config.push((key.into(), value.into()));
        self
    }

    /// Keeps windows or sessions for this long in stream time, at least as long as they need.
    #[doc(alias = "withRetention")]
    pub fn retention_ms(mut self, retention_ms: i64) -> Self {
        self.retention_ms = Some(retention_ms);
        self
    }

    /// Keeps windows or sessions for this long in the store, but in its changelog only as long as they need. Kafka Streams
    /// does so where it is given a store supplier.
    #[doc(alias = "WindowBytesStoreSupplier")]
    pub fn store_retention_ms(mut self, retention_ms: i64) -> Self {
        self.store_retention_ms = Some(retention_ms);
        self
    }

    /// A table's rows without their timestamps: who reads them finds -1. Kafka Streams does so where it is given a supplier
    /// of a plain key-value store.
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

/// What a stream-table join may be told: its name, serdes for the repartition that it may need, a grace period.
pub struct Joined<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    pub(crate) grace_ms: Option<i64>,
}

impl<K, V> Default for Joined<K, V> {
    fn default() -> Self {
        Self { name: None, key: None, value: None, grace_ms: None }
    }
}

impl<K, V> Joined<K, V> {
    /// Names the join's node.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// The stream's serdes, for the repartition that a changed key makes necessary.
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key: Some(key), value: Some(value), ..Self::default() }
    }

    /// Sets the name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Holds each record back for this long in stream time, so that the table's rows of its time have come. Needs a
    /// versioned table. Source: KIP-923.
    pub fn grace_ms(mut self, grace_ms: i64) -> Self {
        self.grace_ms = Some(grace_ms);
        self
    }
}

/// What a join of tables may be told: its name, which its nodes, topics and stores are named after; and for a join by a
/// foreign key how the tables are partitioned.
pub struct TableJoined<K, KO> {
    pub(crate) name: Option<String>,
    pub(crate) partitioner: Option<StreamPartitioner<K, ()>>,
    pub(crate) other_partitioner: Option<StreamPartitioner<KO, ()>>,
}

impl<K, KO> Default for TableJoined<K, KO> {
    fn default() -> Self {
        Self { name: None, partitioner: None, other_partitioner: None }
    }
}

impl<K, KO> TableJoined<K, KO> {
    /// Names the join.
    #[doc(alias = "as")]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// How this table's topic is partitioned, where that is not by key.
    #[doc(alias = "withPartitioner")]
    pub fn partitioner(mut self, partitioner: StreamPartitioner<K, ()>) -> Self {
        self.partitioner = Some(partitioner);
        self
    }

    /// How the other table's topic is partitioned, where that is not by key.
    #[doc(alias = "withOtherPartitioner")]
    pub fn other_partitioner(mut self, partitioner: StreamPartitioner<KO, ()>) -> Self {
        self.other_partitioner = Some(partitioner);
        self
    }
}

/// What `repartition` may be told.
pub struct Repartitioned<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    pub(crate) partitions: Option<i32>,
    pub(crate) partitioner: Option<StreamPartitioner<K, V>>,
}

impl<K, V> Default for Repartitioned<K, V> {
    fn default() -> Self {
        Self { name: None, key: None, value: None, partitions: None, partitioner: None }
    }
}

impl<K, V> Repartitioned<K, V> {
    /// With these serdes.
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key: Some(key), value: Some(value), ..Self::default() }
    }

    /// Names the topic: `<application.id>-<name>-repartition`.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Lets `partitioner` say which partition each record goes to. What is behind it is partitioned so: it cannot be joined
    /// with what is partitioned by key.
    #[doc(alias = "withStreamPartitioner")]
    pub fn partitioner(mut self, partitioner: StreamPartitioner<K, V>) -> Self {
        self.partitioner = Some(partitioner);
        self
    }

    /// How many partitions the topic gets; without this as many as the topics that the stream comes from.
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }
}

/// Names the topic of each record that [`KStream::to_dynamic`](super::KStream::to_dynamic) writes.
pub struct TopicNameExtractor<K, V> {
    pub(crate) name: String,
    pub(crate) topic_of: TopicOf<K, V>,
}

impl<K, V> TopicNameExtractor<K, V> {
    /// An extractor of this name, which `describe()` shows. `topic_of` gets key, value, and where the record came from.
    pub fn new(
        name: impl Into<String>,
        topic_of: impl Fn(&K, &V, Option<&RecordContext>) -> String + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), topic_of: std::sync::Arc::new(topic_of) }
    }
}
