//! Stores that one task writes and every task of the client reads: those of global tables.

use super::disk::DiskRows;
use super::memory::MemoryRows;
use super::{Engine, MemoryBudget, StoreSpec, ValueRef};
use crate::error::{Error, Kind, Result};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The global stores of one client. Cheap to clone; all clones see the same rows, those of the writer's last commit.
#[derive(Clone, Default)]
pub struct GlobalStores {
    specs: Vec<StoreSpec>,
    pub(super) rows: Vec<SharedRows>,
    pub(super) rocks: Option<Arc<DiskRows>>,
}

/// The rows of one global store.
#[derive(Clone)]
pub(super) enum SharedRows {
    Memory(Arc<RwLock<MemoryRows>>),
    /// No hot rows are kept beside it, as for a task's own store: other threads' copies would grow old.
    Disk(Arc<DiskRows>),
}

impl SharedRows {
    pub(super) fn get(&self, name: &str, key: &[u8]) -> Result<Option<ValueRef<'_>>> {
        match self {
            SharedRows::Memory(rows) => Ok(read(rows).get(key).map(|row| ValueRef::Owned(row.to_vec()))),
            SharedRows::Disk(rocks) => rocks.get(name, key),
        }
    }
}

/// A panic while the lock was held ends the writer, and with it the client; what is there until then are whole rows.
pub(super) fn read(rows: &RwLock<MemoryRows>) -> RwLockReadGuard<'_, MemoryRows> {
    rows.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn write(rows: &RwLock<MemoryRows>) -> RwLockWriteGuard<'_, MemoryRows> {
    rows.write().unwrap_or_else(PoisonError::into_inner)
}

impl GlobalStores {
    /// Opens the stores; `dir` is their folder, needed where one of them is in RocksDB.
    ///
    /// # Errors
    /// [`Kind::State`]: the folder is locked, not writable or full.
    pub fn open(dir: Option<&Path>, specs: Vec<StoreSpec>, budget: &MemoryBudget) -> Result<Self> {
        let on_disk: Vec<&str> =
            specs.iter().filter(|spec| spec.engine == Engine::RocksDb).map(|spec| spec.name.as_str()).collect();
        let rocks = match (dir, on_disk.first()) {
            (_, None) => None,
            (Some(dir), Some(_)) => Some(Arc::new(DiskRows::open(dir, &on_disk, budget)?)),
            (None, Some(store)) => {
                return Err(Error::new(Kind::Internal, "a store on disk needs a folder").store(*store));
            }
        };
        let rows = |spec: &StoreSpec| match &rocks {
            Some(rocks) if spec.engine == Engine::RocksDb => SharedRows::Disk(rocks.clone()),
            _ => SharedRows::Memory(Arc::default()),
        };
        let rows = specs.iter().map(rows).collect();
        Ok(Self { specs, rows, rocks })
    }

    /// The stores, in the order in which tasks number them behind their own.
    pub fn specs(&self) -> &[StoreSpec] {
        &self.specs
    }
}
