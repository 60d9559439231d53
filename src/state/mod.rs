//! State: byte stores under typed views, and what a commit writes.

mod budget;
pub mod directory;
mod memory;
mod overlay;
pub mod restore;
mod rocksdb;
mod row_cache;
mod row_index;
mod task_state;
pub mod timestamped;

pub use budget::MemoryBudget;
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

/// A store as the topology describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSpec {
    /// The store's name, unique in the topology.
    pub name: String,
    /// Which engine keeps it.
    pub engine: Engine,
    /// Where it is restored from.
    pub changelog: Changelog,
}

/// A store of a task: index into its [`TaskState`]'s stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId(pub usize);

/// A value as the store has it, without a copy where the engine allows it.
pub enum ValueRef<'a> {
    /// In memory.
    Slice(&'a [u8]),
    /// Pinned in RocksDB's cache.
    Pinned(::rocksdb::DBPinnableSlice<'a>),
}

impl Deref for ValueRef<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            ValueRef::Slice(slice) => slice,
            ValueRef::Pinned(pinned) => pinned,
        }
    }
}

/// A visitor of a range scan: gets key and value, returns whether to go on.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;
