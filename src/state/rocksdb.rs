//! The RocksDB engine: one database per task, a column family per store, one more for offsets.

use super::budget::MemoryBudget;
use super::overlay::Overlay;
use crate::broker::TopicPartition;
use crate::error::{Error, Kind, Result};
use ::rocksdb::{
    BlockBasedOptions, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBPinnableSlice,
    DataBlockIndexType, ErrorKind, Options, ReadOptions, WriteBatch, WriteOptions,
};
use std::path::{Path, PathBuf};

const OFFSETS: &str = "offsets";

/// The rows of a task's RocksDB stores, as of the last commit.
pub(super) struct RocksRows {
    db: DB,
    read: ReadOptions,
    write: WriteOptions,
}

impl RocksRows {
    /// Opens the database in `dir`. One that is corrupt is set aside beside it and a new one begun, to be restored from
    /// the changelog.
    pub(super) fn open(dir: &Path, stores: &[&str], budget: &MemoryBudget) -> Result<Self> {
        let dir = dir.join("rocksdb");
        if damaged(&dir).exists() {
            set_aside(&dir, "it was found damaged when it was last open")?;
        }
        let opened = match Self::try_open(&dir, stores, budget) {
            Err(error) if error.kind() == ErrorKind::Corruption => {
                set_aside(&dir, error.as_ref())?;
                Self::try_open(&dir, stores, budget)
            }
            opened => opened,
        };
        opened.map_err(|e| failed(&dir, "open", e))
    }

    fn try_open(dir: &Path, stores: &[&str], budget: &MemoryBudget) -> Result<Self, ::rocksdb::Error> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_write_buffer_manager(&budget.write_buffers);
        options.set_max_total_wal_size(64 << 20);
        options.set_keep_log_file_num(2);
        options.set_max_background_jobs(2);
        // Families that another version of the topology left behind have to be opened as well; their rows stay.
        let known = DB::list_cf(&options, dir).unwrap_or_default();
        let mut names: Vec<&str> = stores.to_vec();
        names.extend(known.iter().map(String::as_str).filter(|name| !stores.contains(name) && *name != OFFSETS));
        names.push(OFFSETS);
        let families = names.into_iter().map(|name| ColumnFamilyDescriptor::new(name, family_options(budget)));
        let db = DB::open_cf_descriptors(&options, dir, families)?;
        let mut read = ReadOptions::default();
        read.set_verify_checksums(true);
        Ok(Self { db, read, write: WriteOptions::default() })
    }

    fn family(&self, store: &str) -> Result<&ColumnFamily> {
        self.db
            .cf_handle(store)
            .ok_or_else(|| Error::new(Kind::Internal, "the store's column family is gone").store(store))
    }

    pub(super) fn get(&self, store: &str, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>> {
        let row = self.db.get_pinned_cf_opt(self.family(store)?, key, &self.read);
        row.map_err(|e| self.failed("read", e).store(store))
    }

    pub(super) fn commit<'a>(
        &self,
        stores: impl Iterator<Item = (&'a str, &'a Overlay)>,
        offsets: &[(TopicPartition, i64)],
    ) -> Result {
        let mut batch = WriteBatch::default();
        for (store, writes) in stores {
            let family = self.family(store)?;
            for (key, value) in writes.iter() {
                match value {
                    Some(value) => batch.put_cf(family, key, value),
                    None => batch.delete_cf(family, key),
                }
            }
        }
        let family = self.family(OFFSETS)?;
        for (partition, offset) in offsets {
            batch.put_cf(family, partition.to_string(), offset.to_be_bytes());
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.db.write_opt(batch, &self.write).map_err(|e| self.failed("write to", e))
    }

    pub(super) fn committed_offset(&self, partition: &TopicPartition) -> Result<Option<i64>> {
        let bytes = self.db.get_pinned_cf(self.family(OFFSETS)?, partition.to_string());
        let bytes = bytes.map_err(|e| self.failed("read", e))?;
        Ok(bytes.and_then(|bytes| bytes.first_chunk().map(|b| i64::from_be_bytes(*b))))
    }

    pub(super) fn read_offsets(&self) -> Result {
        let mut rows = self.range(OFFSETS, None, None)?;
        while rows.valid() {
            rows.next();
        }
        rows.status().map_err(|e| self.range_failed(OFFSETS, e))
    }

    pub(super) fn forget_offset(&self, partition: &TopicPartition) -> Result {
        let family = self.family(OFFSETS)?;
        self.db.delete_cf(family, partition.to_string()).map_err(|e| self.failed("write to", e))
    }

    pub(super) fn wipe(&mut self, store: &str, budget: &MemoryBudget) -> Result {
        let again = self.db.drop_cf(store).and_then(|()| self.db.create_cf(store, &family_options(budget)));
        again.map_err(|e| self.failed("wipe", e).store(store))
    }

    /// Deletes the rows of a store one by one: for a database that others read meanwhile.
    pub(super) fn delete_all(&self, store: &str) -> Result {
        let mut rows = self.range(store, None, None)?;
        let family = self.family(store)?;
        while let Some(key) = rows.key() {
            self.db.delete_cf(family, key).map_err(|e| self.failed("wipe", e).store(store))?;
            rows.next();
        }
        rows.status().map_err(|e| self.range_failed(store, e))
    }

    /// An iterator over the rows with `from <= key < to`.
    pub(super) fn range(
        &self,
        store: &str,
        from: Option<&[u8]>,
        to: Option<&[u8]>,
    ) -> Result<::rocksdb::DBRawIterator<'_>> {
        let mut options = ReadOptions::default();
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        let mut rows = self.db.raw_iterator_cf_opt(self.family(store)?, options);
        match from {
            Some(from) => rows.seek(from),
            None => rows.seek_to_first(),
        }
        Ok(rows)
    }

    pub(super) fn range_failed(&self, store: &str, error: ::rocksdb::Error) -> Error {
        self.failed("read", error).store(store)
    }

    pub(super) fn approximate_entries(&self, store: &str) -> u64 {
        let count = |family| self.db.property_int_value_cf(family, "rocksdb.estimate-num-keys").ok().flatten();
        self.db.cf_handle(store).and_then(count).unwrap_or(0)
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        let of = |name| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        of("rocksdb.estimate-table-readers-mem") + of("rocksdb.cur-size-all-mem-tables")
    }

    fn failed(&self, doing: &str, error: ::rocksdb::Error) -> Error {
        if error.kind() == ErrorKind::Corruption {
            // So that it is set aside when it is opened again: RocksDB may well open it without a word.
            if let Err(error) = std::fs::write(damaged(self.db.path()), error.as_ref()) {
                tracing::error!("{} is damaged, which cannot be noted there: {error}", self.db.path().display());
            }
        }
        failed(self.db.path(), doing, error)
    }
}

/// Small rows, looked up by key far more often than scanned.
fn family_options(budget: &MemoryBudget) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&budget.block_cache);
    table.set_block_size(4 << 10);
    table.set_format_version(6);
    table.set_bloom_filter(10.0, false);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_data_block_hash_ratio(0.75);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(16 << 20);
    options.set_max_write_buffer_number(2);
    options.set_level_compaction_dynamic_level_bytes(true);
    options
}

/// There where the database is known to be damaged.
fn damaged(dir: &Path) -> PathBuf {
    dir.with_extension("damaged")
}

/// Moves a damaged database out of the way; its stores are restored from their changelogs.
fn set_aside(dir: &Path, why: &str) -> Result {
    let aside = (0..).map(|n| dir.with_extension(format!("corrupt-{n}"))).find(|path| !path.exists());
    let aside = aside.unwrap_or_else(|| dir.with_extension("corrupt"));
    let moved = std::fs::rename(dir, &aside).and_then(|()| match std::fs::remove_file(damaged(dir)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    });
    moved.map_err(|e| {
        Error::new(Kind::State, format!("the corrupt state in {} cannot be set aside", dir.display()))
            .source(e)
            .hint("delete that folder; it is restored from the changelog")
    })?;
    let (dir, aside) = (dir.display(), aside.display());
    tracing::error!("the state in {dir} is corrupt ({why}); set aside as {aside}, restoring it from the changelog");
    Ok(())
}

fn failed(dir: &Path, doing: &str, error: ::rocksdb::Error) -> Error {
    let text = error.to_string();
    let hint = if text.contains("No space left") || error.kind() == ErrorKind::Aborted && text.contains("space") {
        "the disk is full: free space, or set state.dir to a larger one; nothing is lost, the last commit stands"
    } else if text.contains("lock") || text.contains("LOCK") {
        "another process or thread has this task's state open: stop it, or set another state.dir"
    } else if text.contains("Permission denied") || text.contains("Read-only") {
        "make the folder writable for this user, or set another state.dir"
    } else if error.kind() == ErrorKind::Corruption {
        "nothing to do, it is set aside and restored from the changelog; if this repeats, check the disk"
    } else {
        "check the disk and the folder's permissions"
    };
    let kind = match error.kind() {
        ErrorKind::Corruption => Kind::Corrupt,
        // Somebody who reads the store has not finished yet.
        _ if text.contains("lock hold by current process") => Kind::Busy,
        _ => Kind::State,
    };
    Error::new(kind, format!("cannot {doing} the state in {}", dir.display())).source(error).hint(hint)
}
