//! State: byte stores under typed views, and what a commit writes.

mod budget;
pub(crate) mod buffer_value;
pub(crate) mod change_buffer;
pub mod directory;
mod disk;
pub mod feed;
mod global;
pub(crate) mod join_list;
mod lru;
mod memory;
mod overlay;
pub mod query;
mod reader;
pub mod restore;
mod rocksdb;
mod row_cache;
pub(crate) mod row_index;
pub mod segmented;
pub(crate) mod simulated;
pub(crate) mod subscriptions;
mod task_directory;
mod task_state;
pub mod timestamped;
pub mod versioned;

pub use budget::MemoryBudget;
pub use global::GlobalStores;
pub(crate) use reader::Reader;
pub use task_state::TaskState;

use std::ops::Deref;

/// Which engine keeps a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// On disk, in the task's RocksDB; survives restarts.
    #[default]
    RocksDb,
    /// In memory; filled again from the changelog at each start.
    Memory,
    /// In memory, and only as many rows as this: the one that was not used for the longest time makes room for a new one.
    /// For key-value stores.
    #[doc(alias = "lruMap")]
    MemoryLru {
        /// The largest number of rows.
        max_entries: usize,
    },
}

/// Where a store's contents can be read again from after its local copy is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changelog {
    /// Logging is off: what is lost stays lost.
    None,
    /// An internal topic of this store, `<application.id>-<store>-changelog`.
    Own {
        /// Topic settings that override the built-in ones.
        config: Vec<(String, String)>,
    },
    /// The table's own source topic (`topology.optimization`).
    Source {
        /// The source topic.
        topic: String,
    },
}

/// What a store's rows are: decides the settings of its changelog, and how a changelog record becomes a row again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// Key and value.
    KeyValue {
        /// The row begins with the value's timestamp; the changelog has it as the record's.
        timestamped: bool,
    },
    /// Key, start of the window, and a sequence number.
    Window {
        /// How long a window is kept, in stream time.
        retention_ms: i64,
        /// From start to end of a window.
        size_ms: i64,
        /// Rows of the same key and time are kept apart by their sequence numbers.
        duplicates: bool,
        /// What comes first, key or start.
        order: WindowOrder,
        /// As for key-value stores.
        timestamped: bool,
        /// Rows have the headers of the records that they come from, as Kafka Streams' join stores do in memory and not in
        /// RocksDB. Their changelogs have them too.
        headers: bool,
    },
    /// Key, end and start of a session.
    Session {
        /// How long a session is kept, in stream time.
        retention_ms: i64,
    },
    /// Key and the time from which a value holds.
    Versioned {
        /// How long a value that was replaced can still be looked up, in stream time.
        history_ms: i64,
    },
    /// What a foreign-key join's rows subscribe to: keys and timestamped values.
    Subscriptions {
        /// Rows have the headers of the records that they come from, as Kafka Streams' do in memory and not in RocksDB.
        /// Changelogs have none, so after a restore there are none.
        headers: bool,
    },
    /// What a buffer holds back: opaque keys and values.
    Buffer,
}

/// The order in which a window store on disk keeps its rows, and shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowOrder {
    /// By key, then by start.
    Key,
    /// By start, then by key: windows are looked for when they close. Such a store shows one millisecond more.
    Start,
    /// Kept by key, as they are looked for by key as well; shown by start, and for as long as with [`Start`](Self::Start).
    KeyShownByStart,
}

impl StoreKind {
    /// Whether a row begins with its value's timestamp.
    pub(crate) fn is_timestamped(&self) -> bool {
        match self {
            StoreKind::KeyValue { timestamped } | StoreKind::Window { timestamped, .. } => *timestamped,
            StoreKind::Subscriptions { .. } => true,
            StoreKind::Session { .. } | StoreKind::Versioned { .. } | StoreKind::Buffer => false,
        }
    }
}

/// A store as the topology describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSpec {
    /// The store's name, unique in the topology.
    pub name: String,
    /// Which engine keeps it.
    pub engine: Engine,
    /// What its rows are.
    pub kind: StoreKind,
    /// Where it is restored from.
    pub changelog: Changelog,
    /// Writes are collected, and sent on at commit, where there is memory for it (`statestore.cache.max.bytes`).
    pub cached: bool,
}

impl StoreSpec {
    /// A timestamped key-value store without cache.
    pub fn table(name: impl Into<String>, engine: Engine, changelog: Changelog) -> Self {
        let kind = StoreKind::KeyValue { timestamped: true };
        Self { name: name.into(), engine, kind, changelog, cached: false }
    }
}

impl StoreSpec {
    /// Windows and sessions are kept for `retention_ms` in the store; its changelog stays as it is.
    pub(crate) fn keep_longer_than_changelog(&mut self, retention_ms: i64) {
        let (StoreKind::Window { retention_ms: kept_ms, .. } | StoreKind::Session { retention_ms: kept_ms }) =
            &mut self.kind
        else {
            return;
        };
        let logged_ms = std::mem::replace(kept_ms, retention_ms).saturating_add(CHANGELOG_EXTRA_MS);
        if let Changelog::Own { config } = &mut self.changelog {
            config.insert(0, ("retention.ms".into(), logged_ms.to_string()));
        }
    }
}

/// How much longer than their store changelogs keep windows, sessions and versions
/// (`windowstore.changelog.additional.retention.ms`): wall clock and stream time are not the same.
pub(crate) const CHANGELOG_EXTRA_MS: i64 = 86_400_000;

/// A store of a task: index into its [`TaskState`]'s stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId(pub usize);

/// A value as the store has it, without a copy where the engine allows it.
pub enum ValueRef<'a> {
    /// In memory.
    Slice(&'a [u8]),
    /// Pinned in RocksDB's cache.
    Pinned(::rocksdb::DBPinnableSlice<'a>),
    /// A copy: other threads may replace the row at any time.
    Owned(Vec<u8>),
}

impl Deref for ValueRef<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            ValueRef::Slice(slice) => slice,
            ValueRef::Pinned(pinned) => pinned,
            ValueRef::Owned(row) => row,
        }
    }
}

/// A visitor of a range scan: gets key and value, returns whether to go on.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;
