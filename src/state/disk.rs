//! The rows of a task's stores on disk: RocksDB's, or, where a simulation runs, a disk's in memory.

use super::ValueRef;
use super::budget::MemoryBudget;
use super::overlay::Overlay;
use super::rocksdb::RocksRows;
use super::simulated::SimulatedRows;
use crate::broker::TopicPartition;
use crate::error::Result;
use std::path::Path;

/// The rows of a task's stores on disk, as of the last commit.
pub(super) enum DiskRows {
    Rocks(RocksRows),
    Simulated(SimulatedRows),
}

use DiskRows::{Rocks, Simulated};

impl DiskRows {
    /// Opens the database in `dir`. One that is corrupt is set aside and a new one begun, to be restored from the changelog.
    pub(super) fn open(dir: &Path, stores: &[&str], budget: &MemoryBudget) -> Result<Self> {
        Ok(match &budget.simulated {
            None => Rocks(RocksRows::open(dir, stores, budget)?),
            Some(disk) => Simulated(disk.open(dir)?),
        })
    }

    pub(super) fn get(&self, store: &str, key: &[u8]) -> Result<Option<ValueRef<'_>>> {
        match self {
            Rocks(rows) => Ok(rows.get(store, key)?.map(ValueRef::Pinned)),
            Simulated(rows) => Ok(rows.get(store, key).map(ValueRef::Owned)),
        }
    }

    /// Writes all of it, or nothing.
    pub(super) fn commit<'a>(
        &self,
        stores: impl Iterator<Item = (&'a str, &'a Overlay)>,
        offsets: &[(TopicPartition, i64)],
    ) -> Result {
        match self {
            Rocks(rows) => rows.commit(stores, offsets),
            Simulated(rows) => rows.commit(stores, offsets),
        }
    }

    pub(super) fn committed_offset(&self, partition: &TopicPartition) -> Result<Option<i64>> {
        match self {
            Rocks(rows) => rows.committed_offset(partition),
            Simulated(rows) => Ok(rows.committed_offset(partition)),
        }
    }

    /// Brings the offsets into memory.
    pub(super) fn read_offsets(&self) -> Result {
        match self {
            Rocks(rows) => rows.read_offsets(),
            Simulated(_) => Ok(()),
        }
    }

    pub(super) fn forget_offset(&self, partition: &TopicPartition) -> Result {
        match self {
            Rocks(rows) => rows.forget_offset(partition),
            Simulated(rows) => rows.forget_offset(partition),
        }
    }

    /// Deletes the rows of a store.
    pub(super) fn wipe(&mut self, store: &str, budget: &MemoryBudget) -> Result {
        match self {
            Rocks(rows) => rows.wipe(store, budget),
            Simulated(rows) => rows.delete_all(store),
        }
    }

    /// Deletes the rows of a store one by one: for a database that others read meanwhile.
    pub(super) fn delete_all(&self, store: &str) -> Result {
        match self {
            Rocks(rows) => rows.delete_all(store),
            Simulated(rows) => rows.delete_all(store),
        }
    }

    /// The rows with `from <= key < to`, in ascending order.
    pub(super) fn range(&self, store: &str, from: Option<&[u8]>, to: Option<&[u8]>) -> Result<Cursor<'_>> {
        Ok(match self {
            Rocks(rows) => Cursor::Rocks(rows.range(store, from, to)?),
            Simulated(rows) => Cursor::Simulated { rows: rows.range(store, from, to), next: 0 },
        })
    }

    /// Whether the cursor has come to its end by an error.
    pub(super) fn status(&self, store: &str, cursor: &Cursor<'_>) -> Result {
        match (self, cursor) {
            (Rocks(rocks), Cursor::Rocks(rows)) => rows.status().map_err(|e| rocks.range_failed(store, e)),
            _ => Ok(()),
        }
    }

    pub(super) fn approximate_entries(&self, store: &str) -> u64 {
        match self {
            Rocks(rows) => rows.approximate_entries(store),
            Simulated(rows) => rows.range(store, None, None).len() as u64,
        }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        match self {
            Rocks(rows) => rows.memory_bytes(),
            Simulated(_) => 0,
        }
    }
}

/// A place in a range of rows.
pub(super) enum Cursor<'a> {
    Rocks(::rocksdb::DBRawIterator<'a>),
    Simulated { rows: Vec<(Vec<u8>, Vec<u8>)>, next: usize },
}

impl Cursor<'_> {
    /// The row here; `None` at the end.
    #[inline]
    pub(super) fn item(&self) -> Option<(&[u8], &[u8])> {
        match self {
            Cursor::Rocks(rows) => rows.item(),
            Cursor::Simulated { rows, next } => rows.get(*next).map(|(key, row)| (key.as_slice(), row.as_slice())),
        }
    }

    #[inline]
    pub(super) fn next(&mut self) {
        match self {
            Cursor::Rocks(rows) => rows.next(),
            Cursor::Simulated { next, .. } => *next += 1,
        }
    }
}
