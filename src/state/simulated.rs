//! A disk in memory for simulations. It knows what RocksDB promises (a batch is written as a whole, or not at all) and what
//! it does not: that the last batches survive the crash of a machine, or that there is room.

use super::overlay::Overlay;
use crate::broker::TopicPartition;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the next write meets.
pub(crate) trait WriteGate: Send + Sync {
    /// A batch for the database in this folder is about to be written.
    ///
    /// # Errors
    /// The disk is full, or the process no longer runs.
    fn write(&self, dir: &Path) -> Result;
}

/// The disk of one machine. Clones are handles to it.
#[derive(Clone)]
pub(crate) struct SimulatedDisk {
    databases: Arc<Mutex<BTreeMap<PathBuf, Database>>>,
    gate: Arc<dyn WriteGate>,
}

/// Store, key, and the row there.
type Write = (String, Vec<u8>, Option<Vec<u8>>);
/// The store in which the offsets are.
const OFFSETS: &str = "offsets";

/// One task's database.
#[derive(Debug, Default)]
struct Database {
    open: bool,
    corrupt: bool,
    stores: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>,
    /// For each batch that a crash of the machine would take, how to undo it; the newest last.
    unsynced: Vec<Vec<Write>>,
}

/// How many batches at most have not reached the platter.
const UNSYNCED_MAX: usize = 8;

impl Database {
    fn write(&mut self, batch: Vec<Write>) {
        let mut undo = Vec::with_capacity(batch.len());
        for (store, key, row) in batch {
            let rows = self.stores.entry(store.clone()).or_default();
            let old = match row {
                Some(row) => rows.insert(key.clone(), row),
                None => rows.remove(&key),
            };
            undo.push((store, key, old));
        }
        self.unsynced.push(undo);
        if self.unsynced.len() > UNSYNCED_MAX {
            self.unsynced.remove(0);
        }
    }

    fn undo(&mut self, batch: Vec<Write>) {
        for (store, key, old) in batch.into_iter().rev() {
            let rows = self.stores.entry(store).or_default();
            match old {
                Some(row) => rows.insert(key, row),
                None => rows.remove(&key),
            };
        }
    }
}

impl SimulatedDisk {
    pub(crate) fn new(gate: Arc<dyn WriteGate>) -> Self {
        Self { databases: Arc::default(), gate }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Database>> {
        self.databases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the database in this folder. The folder itself is a real one, so that whoever deletes it deletes the database.
    pub(super) fn open(&self, dir: &Path) -> Result<SimulatedRows> {
        let mark = dir.join("rocksdb");
        let (mut databases, known) = (self.lock(), mark.is_dir());
        let database = databases.entry(dir.to_path_buf()).or_default();
        if database.open {
            return Err(Error::new(Kind::State, format!("cannot open the state in {}: locked", dir.display()))
                .hint("another process or thread has this task's state open: stop it, or set another state.dir"));
        }
        if !known || database.corrupt {
            if database.corrupt {
                tracing::error!("the state in {} is corrupt: restoring it from the changelog", dir.display());
            }
            *database = Database::default();
            std::fs::create_dir_all(&mark).map_err(|e| {
                Error::new(Kind::State, format!("cannot open the state in {}", dir.display())).source(e)
            })?;
        }
        database.open = true;
        Ok(SimulatedRows { disk: self.clone(), dir: dir.to_path_buf() })
    }

    /// The machine has crashed: of each database the last batches are lost, as many as `lost` says of those that may be.
    pub(crate) fn crash(&self, mut lost: impl FnMut(&Path, usize) -> usize) {
        for (dir, database) in self.lock().iter_mut() {
            for _ in 0..lost(dir, database.unsynced.len()) {
                let batch = database.unsynced.pop().unwrap_or_default();
                database.undo(batch);
            }
        }
    }

    /// The last batch of each database has been torn in two: its rows are lost, its offsets are not. No database may do so
    /// that writes batches as a whole; here to show that a simulation would notice.
    pub(crate) fn tear(&self) {
        for database in self.lock().values_mut() {
            let batch = database.unsynced.pop().unwrap_or_default();
            database.undo(batch.into_iter().filter(|(store, ..)| store != OFFSETS).collect());
        }
    }

    /// What lies in one database cannot be read any more.
    pub(crate) fn corrupt(&self, choose: impl FnOnce(usize) -> usize) {
        let mut databases = self.lock();
        if !databases.is_empty() {
            let chosen = choose(databases.len());
            databases.values_mut().nth(chosen).into_iter().for_each(|database| database.corrupt = true);
        }
    }
}

/// The rows of one task's stores on a simulated disk.
pub(crate) struct SimulatedRows {
    disk: SimulatedDisk,
    dir: PathBuf,
}

impl Drop for SimulatedRows {
    fn drop(&mut self) {
        self.with(|database| database.open = false);
    }
}

impl SimulatedRows {
    fn with<T>(&self, f: impl FnOnce(&mut Database) -> T) -> T {
        f(self.disk.lock().entry(self.dir.clone()).or_default())
    }

    pub(super) fn get(&self, store: &str, key: &[u8]) -> Option<Vec<u8>> {
        self.with(|database| database.stores.get(store)?.get(key).cloned())
    }

    fn write(&self, batch: Vec<Write>) -> Result {
        if !batch.is_empty() {
            self.disk.gate.write(&self.dir)?;
            self.with(|database| database.write(batch));
        }
        Ok(())
    }

    pub(super) fn commit<'a>(
        &self,
        stores: impl Iterator<Item = (&'a str, &'a Overlay)>,
        offsets: &[(TopicPartition, i64)],
    ) -> Result {
        let rows = stores.flat_map(|(store, writes)| {
            writes.iter().map(move |(key, row)| (store.to_string(), key.to_vec(), row.map(<[u8]>::to_vec)))
        });
        let offset = |(tp, offset): &(TopicPartition, i64)| {
            (OFFSETS.to_string(), tp.to_string().into_bytes(), Some(offset.to_be_bytes().to_vec()))
        };
        self.write(rows.chain(offsets.iter().map(offset)).collect())
    }

    pub(super) fn committed_offset(&self, partition: &TopicPartition) -> Option<i64> {
        let bytes = self.get(OFFSETS, partition.to_string().as_bytes())?;
        bytes.first_chunk().map(|b| i64::from_be_bytes(*b))
    }

    pub(super) fn forget_offset(&self, partition: &TopicPartition) -> Result {
        self.write(vec![(OFFSETS.into(), partition.to_string().into_bytes(), None)])
    }

    pub(super) fn delete_all(&self, store: &str) -> Result {
        let rows = self.range(store, None, None);
        self.write(rows.into_iter().map(|(key, _)| (store.to_string(), key, None)).collect())
    }

    pub(super) fn range(&self, store: &str, from: Option<&[u8]>, to: Option<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let inside = |key: &[u8]| from.is_none_or(|from| key >= from) && to.is_none_or(|to| key < to);
        self.with(|database| {
            let rows = database.stores.get(store).into_iter().flatten().filter(|(key, _)| inside(key));
            rows.map(|(key, row)| (key.clone(), row.clone())).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::state::{Changelog, Engine, MemoryBudget, StoreId, StoreSpec, TaskState};

    struct Open;
    impl WriteGate for Open {
        fn write(&self, _: &Path) -> Result {
            Ok(())
        }
    }

    fn open(dir: &Path, disk: &SimulatedDisk) -> TaskState {
        let budget = Arc::new(MemoryBudget::simulated(&Config::new("test"), disk.clone()));
        let spec = StoreSpec::table("one", Engine::RocksDb, Changelog::None);
        TaskState::open(Some(dir), &[spec], budget).expect("opens")
    }

    fn rows(state: &TaskState) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        let visit = &mut |key: &[u8], row: &[u8]| {
            rows.push((key.to_vec(), row.to_vec()));
            true
        };
        state.range(StoreId(0), None, None, visit).expect("reads");
        rows
    }

    #[test]
    fn a_crash_of_the_machine_takes_whole_batches_from_the_end() {
        let (dir, disk) = (tempfile::tempdir().expect("a folder"), SimulatedDisk::new(Arc::new(Open)));
        let log = TopicPartition::new("log", 0);
        let mut state = open(dir.path(), &disk);
        for i in 1..=3u8 {
            state.put(StoreId(0), b"a", Some(&[i]));
            state.put(StoreId(0), &[i], Some(&[i]));
            state.commit(&[(log.clone(), i.into())]).expect("commits");
        }
        drop(state);
        disk.crash(|_, batches| batches - 1);
        let state = open(dir.path(), &disk);
        assert_eq!(rows(&state), [(vec![1], vec![1]), (b"a".to_vec(), vec![1])]);
        assert_eq!(state.committed_offset(StoreId(0), &log).expect("reads"), Some(1));
    }

    #[test]
    fn a_database_is_opened_once_and_goes_with_its_folder() {
        let (dir, disk) = (tempfile::tempdir().expect("a folder"), SimulatedDisk::new(Arc::new(Open)));
        let mut state = open(dir.path(), &disk);
        state.put(StoreId(0), b"a", Some(b"1"));
        state.commit(&[]).expect("commits");
        assert!(disk.open(dir.path()).is_err());
        drop(state);
        assert_eq!(rows(&open(dir.path(), &disk)).len(), 1);
        std::fs::remove_dir(dir.path().join("rocksdb")).expect("deletes");
        assert!(rows(&open(dir.path(), &disk)).is_empty());
    }
}
