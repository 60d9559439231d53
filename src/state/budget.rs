//! One memory budget for all stores of the process.

use crate::config::Config;
use rocksdb::{Cache, WriteBufferManager};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all stores of a client share: RocksDB's block cache and write buffers, and the budgets of what is kept outside
/// of RocksDB. Unbounded growth is a defect.
pub struct MemoryBudget {
    /// Blocks, indexes and filters of all RocksDB instances.
    pub(crate) block_cache: Cache,
    /// Memtables of all RocksDB instances.
    pub(crate) write_buffers: WriteBufferManager,
    uncommitted_bytes_max: usize,
    row_cache_bytes: usize,
    row_caches: AtomicUsize,
}

impl MemoryBudget {
    /// The budget that these settings give.
    pub fn new(config: &Config) -> Self {
        let uncommitted = (config.cache_max_bytes / 4).min(8 << 20);
        Self {
            block_cache: Cache::new_lru_cache(config.block_cache_bytes),
            write_buffers: WriteBufferManager::new_write_buffer_manager(config.write_buffer_bytes, false),
            // A quarter of the cache's budget, and at most 8 MB, is for uncommitted writes; the threads share it.
            uncommitted_bytes_max: (uncommitted / config.num_stream_threads.max(1)).max(64 << 10),
            row_cache_bytes: config.cache_max_bytes - uncommitted,
            row_caches: AtomicUsize::new(0),
        }
    }

    /// How many uncommitted bytes one task may hold before a commit is due.
    pub fn uncommitted_bytes_max(&self) -> usize {
        self.uncommitted_bytes_max
    }

    /// How many bytes of hot rows one task may keep: its share of the budget among the tasks that are open now.
    pub(super) fn row_cache_bytes_max(&self) -> usize {
        self.row_cache_bytes / self.row_caches.load(Ordering::Relaxed).max(1)
    }

    pub(super) fn row_cache_opened(&self) {
        self.row_caches.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn row_cache_closed(&self) {
        self.row_caches.fetch_sub(1, Ordering::Relaxed);
    }

    /// Bytes in the shared block cache.
    pub fn block_cache_bytes(&self) -> u64 {
        self.block_cache.get_usage() as u64
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
