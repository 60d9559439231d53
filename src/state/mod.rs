//! State: byte stores under typed views, and what a commit writes.

pub mod directory;
pub mod memory;
pub mod restore;
pub mod rocksdb;
pub mod timestamped;

use crate::broker::TopicPartition;
use crate::error::Result;
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

/// All stores of one task. Writes stay in an overlay, which reads see first, until [`commit`](TaskState::commit) hands
/// everything to the engine in one atomic batch, together with the offsets that it corresponds to. A crash therefore
/// leaves the state as of some commit, never in between.
pub trait TaskState {
    /// The value of `key`.
    fn get(&mut self, store: StoreId, key: &[u8]) -> Result<Option<ValueRef<'_>>>;
    /// Sets (`Some`) or deletes (`None`) the value of `key`.
    fn put(&mut self, store: StoreId, key: &[u8], value: Option<&[u8]>) -> Result;
    /// Visits the rows with `from <= key < to` in ascending order of key bytes; `None` is unbounded.
    fn range(&mut self, store: StoreId, from: Option<&[u8]>, to: Option<&[u8]>, visit: Visit<'_>) -> Result;
    /// Bytes of the writes that are waiting for the next commit.
    fn uncommitted_bytes(&self) -> usize;
    /// Writes what is waiting, and these offsets (the next offset to read, per changelog or source partition), in one
    /// atomic batch.
    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result;
    /// Forgets what is waiting: the task is closed dirty.
    fn rollback(&mut self);
    /// The offset that the last commit recorded for `partition`; `None`: never.
    fn committed_offset(&self, partition: &TopicPartition) -> Result<Option<i64>>;
    /// Deletes all rows and the offset records of `store`: it is going to be restored from the beginning.
    fn wipe(&mut self, store: StoreId) -> Result;
    /// Roughly how many rows `store` has.
    fn approximate_entries(&self, store: StoreId) -> u64;
    /// Memory used for this task's state (overlay, memtables, table readers), in bytes; shared caches not included.
    fn memory_bytes(&self) -> u64;
}
pub struct MemoryBudget;
impl MemoryBudget {
    pub fn new(_: &crate::config::Config) -> Self {
        todo!()
    }
    pub fn uncommitted_bytes_max(&self) -> usize {
        todo!()
    }
}
pub fn open_task(_: Option<&std::path::Path>, _: &[StoreSpec], _: &MemoryBudget) -> Result<Box<dyn TaskState>> {
    todo!()
}
