//! One memory budget for all stores of the process.

use super::row_cache::RowBudget;
use super::simulated::SimulatedDisk;
use crate::config::Config;
use rocksdb::{Cache, WriteBufferManager};
use std::fmt;
use std::sync::Arc;

/// The largest share of the budget that waits for a commit.
const UNCOMMITTED_BYTES_MAX: usize = 8 << 20;

/// What all stores of a client share: RocksDB's block cache and write buffers, and the budgets of what is kept outside
/// of RocksDB. Unbounded growth is a defect.
pub struct MemoryBudget {
    /// Blocks, indexes and filters of all RocksDB instances.
    pub(crate) block_cache: Cache,
    /// Memtables of all RocksDB instances.
    pub(crate) write_buffers: WriteBufferManager,
    /// Hot rows of all stores.
    pub(super) rows: Arc<RowBudget>,
    uncommitted_bytes_max: usize,
    /// What stands in for the disk in a simulation.
    pub(super) simulated: Option<SimulatedDisk>,
}

impl MemoryBudget {
    /// The budget that these settings give.
    pub fn new(config: &Config) -> Self {
        // Uncommitted rows exist twice while a commit writes them, and a larger batch is no faster: a small share will do.
        let uncommitted = (config.cache_max_bytes / 4).min(UNCOMMITTED_BYTES_MAX);
        Self {
            block_cache: Cache::new_lru_cache(config.block_cache_bytes),
            write_buffers: WriteBufferManager::new_write_buffer_manager(config.write_buffer_bytes, false),
            rows: Arc::new(RowBudget::new(config.cache_max_bytes - uncommitted)),
            // Not less than a poll brings, else every turn would end in a commit.
            simulated: None,
            uncommitted_bytes_max: (uncommitted / config.num_stream_threads.max(1)).max(1 << 20),
        }
    }

    /// As [`new`](Self::new), for stores on a simulated disk.
    pub(crate) fn simulated(config: &Config, disk: SimulatedDisk) -> Self {
        Self { simulated: Some(disk), ..Self::new(config) }
    }

    /// How many uncommitted bytes the tasks of one thread may hold together before a commit is due.
    pub fn uncommitted_bytes_max(&self) -> usize {
        self.uncommitted_bytes_max
    }

    /// Bytes in the shared block cache.
    pub fn block_cache_bytes(&self) -> u64 {
        self.block_cache.get_usage() as u64
    }

    /// Bytes of hot rows, of all stores.
    pub fn row_cache_bytes(&self) -> u64 {
        self.rows.used() as u64
    }

    /// Bytes in all memtables.
    pub fn write_buffer_bytes(&self) -> u64 {
        self.write_buffers.get_usage() as u64
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBudget").field("uncommitted_bytes_max", &self.uncommitted_bytes_max).finish()
    }
}
