//! What an operator may be told besides its function: serdes, names, where state lives.

use crate::operators::TimestampExtractor;
use crate::serdes::{DefaultSerde, SerdeRef, formats};
use crate::state::Engine;
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
    pub(crate) extractor: Option<TimestampExtractor>,
    pub(crate) ready_first: bool,
}

impl<K, V> Consumed<K, V> {
    /// Reads with these serdes.
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key, value, extractor: None, ready_first: false }
    }

    /// Takes timestamps from `extractor` instead of the records themselves.
    pub fn timestamp_extractor(mut self, extractor: TimestampExtractor) -> Self {
        self.extractor = Some(extractor);
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

/// How a topic is written: the serdes of key and value.
///
/// ```
/// use watersmeet::prelude::*;
/// let json = Produced::<String, serde_json::Value>::json();
/// ```
pub struct Produced<K, V> {
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
}

impl<K, V> Produced<K, V> {
    /// Writes with these serdes.
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key, value }
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

/// Where a table's rows are kept, under which name, and how they can be restored.
///
/// ```
/// use watersmeet::prelude::*;
/// let on_disk = Materialized::rocksdb("products");
/// let lost_at_restart_and_read_again = Materialized::memory("products");
/// let only_if_somebody_reads_it = Materialized::default();
/// ```
#[derive(Debug, Clone, Default)]
pub struct Materialized {
    pub(crate) name: Option<String>,
    pub(crate) engine: Engine,
    pub(crate) logging_off: bool,
    pub(crate) topic_config: Vec<(String, String)>,
}

impl Materialized {
    /// On disk, in the task's RocksDB: survives restarts.
    pub fn rocksdb(store: impl Into<String>) -> Self {
        Self { name: Some(store.into()), engine: Engine::RocksDb, ..Self::default() }
    }

    /// In memory: restored from the changelog at each start.
    pub fn memory(store: impl Into<String>) -> Self {
        Self { name: Some(store.into()), engine: Engine::Memory, ..Self::default() }
    }

    /// Without changelog: what a machine loses is lost.
    pub fn without_changelog(mut self) -> Self {
        self.logging_off = true;
        self
    }

    /// Sets a topic setting of the changelog, such as `min.cleanable.dirty.ratio`, over the built-in ones.
    pub fn changelog_config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.topic_config.push((key.into(), value.into()));
        self
    }
}

/// What a stream-table join may be told: so far its name. More (grace) comes with versioned tables.
#[derive(Debug, Clone, Default)]
pub struct Joined {
    pub(crate) name: Option<String>,
}

impl Joined {
    /// Names the join's node.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()) }
    }
}
