//! All stores of one task, and their commit in one atomic batch.

use super::disk::DiskRows;
use super::feed::Feed;
use super::global::{self, GlobalStores, SharedRows};
use super::lru::Lru;
use super::memory::MemoryRows;
use super::overlay::Overlay;
use super::row_cache::RowCache;
use super::{Engine, MemoryBudget, StoreId, StoreSpec, ValueRef, Visit};
use crate::broker::TopicPartition;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// All stores of one task. Writes stay in an overlay, which reads see first, until [`commit`](Self::commit) hands
/// everything to the engine in one atomic batch, together with the offsets that it corresponds to. A crash therefore
/// leaves the state as of some commit, never in between.
pub struct TaskState {
    stores: Vec<Store>,
    rocks: Option<Arc<DiskRows>>,
    budget: Arc<MemoryBudget>,
    /// The offsets of the last commits in this life: stores in memory have no others.
    offsets: BTreeMap<TopicPartition, i64>,
    /// Set for readers of another task's state: its owner wants them to end.
    leave: Option<Arc<AtomicBool>>,
}

struct Store {
    name: String,
    writes: Overlay,
    rows: Rows,
    /// A row begins with the value's timestamp.
    timestamped: bool,
    /// Which rows stay, where only some do.
    lru: Option<Lru>,
    /// Who is told of commits, and as which partition.
    feed: Option<(Arc<Feed>, i32)>,
}

/// The rows as of the last commit.
enum Rows {
    Memory(MemoryRows),
    /// In the task's RocksDB; here are the hot ones.
    Disk(RowCache),
    /// Those that all tasks of the client see.
    Global(SharedRows),
}

impl Rows {
    #[inline]
    fn get<'a>(&'a mut self, rocks: &'a Option<Arc<DiskRows>>, name: &str, key: &[u8]) -> Result<Option<ValueRef<'a>>> {
        match self {
            Rows::Memory(memory) => Ok(memory.get(key).map(ValueRef::Slice)),
            Rows::Disk(cache) => {
                if let Some(found) = cache.find(key) {
                    return Ok(cache.row(found).map(ValueRef::Slice));
                }
                let row = opened(rocks)?.get(name, key)?;
                cache.put(key, row.as_deref());
                Ok(row)
            }
            Rows::Global(rows) => rows.get(name, key),
        }
    }
}

impl TaskState {
    /// Opens the stores of `specs`; a [`StoreId`] is an index into them. `dir` is the task's folder, needed where one of
    /// them is in RocksDB.
    ///
    /// # Errors
    /// [`Kind::State`]: the folder is locked, not writable or full.
    pub fn open(dir: Option<&Path>, specs: &[StoreSpec], budget: Arc<MemoryBudget>) -> Result<Self> {
        let on_disk: Vec<&str> =
            specs.iter().filter(|spec| spec.engine == Engine::RocksDb).map(|spec| spec.name.as_str()).collect();
        let rocks = match (dir, on_disk.is_empty()) {
            (_, true) => None,
            (Some(dir), false) => Some(Arc::new(DiskRows::open(dir, &on_disk, &budget)?)),
            (None, false) => return Err(Error::new(Kind::Internal, "a store on disk needs a folder").store(on_disk[0])),
        };
        let store = |spec: &StoreSpec| Store {
            name: spec.name.clone(),
            writes: Overlay::default(),
            rows: match spec.engine {
                Engine::Memory | Engine::MemoryLru { .. } => Rows::Memory(MemoryRows::default()),
                Engine::RocksDb => Rows::Disk(RowCache::new(budget.rows.clone())),
            },
            timestamped: spec.kind.is_timestamped(),
            lru: match spec.engine {
                Engine::MemoryLru { max_entries } => Some(Lru::new(max_entries)),
                Engine::Memory | Engine::RocksDb => None,
            },
            feed: None,
        };
        Ok(Self { stores: specs.iter().map(store).collect(), rocks, budget, offsets: BTreeMap::new(), leave: None })
    }

    /// The state of the task that writes the global stores, in their order.
    pub(crate) fn of_globals(globals: &GlobalStores, budget: Arc<MemoryBudget>) -> Self {
        let offsets = BTreeMap::new();
        let mut state = Self { stores: Vec::new(), rocks: globals.rocks.clone(), budget, offsets, leave: None };
        state.add_globals(globals);
        state
    }

    /// A state of one store on disk that belongs to another one, to read what that one has committed; `leave` ends its scans.
    pub(super) fn reading(
        spec: &StoreSpec,
        rocks: Arc<DiskRows>,
        budget: Arc<MemoryBudget>,
        leave: Arc<AtomicBool>,
    ) -> Self {
        let store = Store {
            name: spec.name.clone(),
            writes: Overlay::default(),
            // Without hot rows of its own, which would grow old.
            rows: Rows::Global(SharedRows::Disk(rocks.clone())),
            timestamped: spec.kind.is_timestamped(),
            lru: None,
            feed: None,
        };
        Self { stores: vec![store], rocks: Some(rocks), budget, offsets: BTreeMap::new(), leave: Some(leave) }
    }

    pub(super) fn rocks(&self) -> Option<Arc<DiskRows>> {
        self.rocks.clone()
    }

    pub(super) fn budget(&self) -> Arc<MemoryBudget> {
        self.budget.clone()
    }

    /// Lets `read` see the rows of the last commit only. What it writes is lost.
    pub(crate) fn as_committed<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let writes: Vec<Overlay> = self.stores.iter_mut().map(|store| std::mem::take(&mut store.writes)).collect();
        let found = read(self);
        self.stores.iter_mut().zip(writes).for_each(|(store, writes)| store.writes = writes);
        found
    }

    /// Lets the task read the global stores: their ids follow those of its own.
    pub(crate) fn add_globals(&mut self, globals: &GlobalStores) {
        let store = |(spec, rows): (&StoreSpec, &SharedRows)| Store {
            name: spec.name.clone(),
            writes: Overlay::default(),
            rows: Rows::Global(rows.clone()),
            timestamped: spec.kind.is_timestamped(),
            lru: None,
            feed: None,
        };
        self.stores.extend(globals.specs().iter().zip(&globals.rows).map(store));
    }

    /// Whether the store's rows are in the database that this task commits to.
    fn is_on_disk(&self, store: &Store) -> bool {
        match (&store.rows, &self.rocks) {
            (Rows::Disk(_), _) => true,
            (Rows::Global(SharedRows::Disk(theirs)), Some(own)) => Arc::ptr_eq(theirs, own),
            _ => false,
        }
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read.
    #[inline]
    pub fn get(&mut self, store: StoreId, key: &[u8]) -> Result<Option<ValueRef<'_>>> {
        let slot = &mut self.stores[store.0];
        if let Some(lru) = &mut slot.lru {
            lru.used(key);
        }
        if let Some(row) = slot.writes.get(key) {
            return Ok(row.map(ValueRef::Slice));
        }
        slot.rows.get(&self.rocks, &slot.name, key)
    }

    /// Whether `key` had a value at the last commit.
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read.
    pub(crate) fn is_committed(&mut self, store: StoreId, key: &[u8]) -> Result<bool> {
        let slot = &mut self.stores[store.0];
        Ok(slot.rows.get(&self.rocks, &slot.name, key)?.is_some())
    }

    /// Sets (`Some`) or deletes (`None`) the value of `key`.
    pub fn put(&mut self, store: StoreId, key: &[u8], value: Option<&[u8]>) {
        let slot = &mut self.stores[store.0];
        slot.writes.put(key, value);
        if let Some(lru) = &mut slot.lru
            && let Some(evicted) = lru.put(key, value.is_some())
        {
            slot.writes.put(evicted, None);
        }
    }

    /// Whether a row of `store` begins with its value's timestamp.
    pub(crate) fn is_timestamped(&self, store: StoreId) -> bool {
        self.stores[store.0].timestamped
    }

    /// The row that made room for the one that was put last, in a store that keeps only some.
    pub(crate) fn evicted(&self, store: StoreId) -> Option<&[u8]> {
        self.stores[store.0].lru.as_ref().and_then(Lru::evicted)
    }

    /// Visits the rows with `from <= key < to` in ascending order of key bytes; `None` is unbounded.
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read.
    pub fn range(&self, store: StoreId, from: Option<&[u8]>, to: Option<&[u8]>, visit: Visit<'_>) -> Result {
        match &self.leave {
            Some(leave) => self.scan(store, from, to, &mut |key, row| !leave.load(Relaxed) && visit(key, row)),
            None => self.scan(store, from, to, visit),
        }
    }

    fn scan(&self, store: StoreId, from: Option<&[u8]>, to: Option<&[u8]>, visit: Visit<'_>) -> Result {
        let slot = &self.stores[store.0];
        let writes = slot.writes.range(from, to);
        if let Rows::Memory(memory) = &slot.rows {
            merge(memory.range(from, to), writes, visit);
            return Ok(());
        }
        let rocks = match &slot.rows {
            Rows::Global(SharedRows::Memory(memory)) => {
                let memory = global::read(memory);
                merge(memory.range(from, to), slot.writes.range(from, to), visit);
                return Ok(());
            }
            Rows::Global(SharedRows::Disk(rocks)) => rocks,
            _ => opened(&self.rocks)?,
        };
        let mut rows = rocks.range(&slot.name, from, to)?;
        let mut writes = writes.peekable();
        let mut go_on = true;
        while go_on {
            let Some((key, row)) = rows.item() else { break };
            while go_on && writes.peek().is_some_and(|(k, _)| *k < key) {
                go_on = visit_write(writes.next(), visit);
            }
            if !go_on {
                return Ok(());
            }
            go_on = match writes.peek() {
                Some((k, _)) if *k == key => visit_write(writes.next(), visit),
                _ => visit(key, row),
            };
            rows.next();
        }
        rocks.status(&slot.name, &rows)?;
        while go_on && writes.peek().is_some() {
            go_on = visit_write(writes.next(), visit);
        }
        Ok(())
    }

    /// Tells `feed` of what commits change in a store, as the rows of this partition.
    pub(crate) fn feed(&mut self, store: StoreId, feed: Arc<Feed>, partition: i32) {
        self.stores[store.0].feed = Some((feed, partition));
    }

    /// Bytes of the writes that are waiting for the next commit.
    pub fn uncommitted_bytes(&self) -> usize {
        self.stores.iter().map(|store| store.writes.bytes()).sum()
    }

    /// Writes what is waiting, and these offsets (the next offset to read, per changelog or source partition), in one
    /// atomic batch.
    ///
    /// # Errors
    /// [`Kind::State`]: the disk is full or cannot be written; what is waiting goes on waiting.
    pub fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result {
        if let Some(rocks) = &self.rocks {
            let on_disk = self.stores.iter().filter(|store| self.is_on_disk(store));
            rocks.commit(on_disk.map(|store| (store.name.as_str(), &store.writes)), offsets)?;
        }
        for store in &mut self.stores {
            match &mut store.rows {
                Rows::Memory(memory) => memory.commit(&store.writes),
                Rows::Disk(cache) => {
                    store.writes.iter().for_each(|(key, row)| cache.put(key, row));
                    cache.trim();
                }
                // Only one task writes them; the others have nothing to add, and no reason to wait for the lock.
                Rows::Global(SharedRows::Memory(memory)) if store.writes.bytes() > 0 => {
                    global::write(memory).commit(&store.writes);
                }
                Rows::Global(_) => {}
            }
            if let Some((feed, partition)) = &store.feed {
                feed.tell(*partition, store.writes.iter());
            }
            store.writes.clear();
        }
        for (partition, offset) in offsets {
            match self.offsets.get_mut(partition) {
                Some(known) => *known = *offset,
                None => drop(self.offsets.insert(partition.clone(), *offset)),
            }
        }
        Ok(())
    }

    /// Forgets what is waiting: the task is closed dirty.
    pub fn rollback(&mut self) {
        for store in &mut self.stores {
            store.writes.clear();
            if let (Some(lru), Rows::Memory(memory)) = (&mut store.lru, &store.rows) {
                lru.begin(memory.range(None, None).map(|(key, _)| key));
            }
        }
    }

    /// The offset that the last commit recorded for the changelog `partition` of `store`; `None`: never, or the store is in
    /// memory, newly opened, and has to be restored from the beginning.
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be read.
    pub fn committed_offset(&self, store: StoreId, partition: &TopicPartition) -> Result<Option<i64>> {
        match &self.stores[store.0].rows {
            Rows::Memory(_) => Ok(self.offsets.get(partition).copied()),
            Rows::Global(SharedRows::Memory(_)) => Ok(None),
            Rows::Disk(_) => opened(&self.rocks)?.committed_offset(partition),
            Rows::Global(SharedRows::Disk(rocks)) => rocks.committed_offset(partition),
        }
    }

    /// Reads the offsets of the last commit once, so that those who ask for them later do not wait for the disk.
    pub(crate) fn read_offsets(&self) -> Result {
        self.rocks.as_ref().map_or(Ok(()), |rocks| rocks.read_offsets())
    }

    /// Deletes all rows of `store` and the offset of its changelog `partition`: it is going to be restored from the
    /// beginning.
    ///
    /// # Errors
    /// [`Kind::State`]: the disk cannot be written.
    pub fn wipe(&mut self, store: StoreId, partition: &TopicPartition) -> Result {
        let slot = &mut self.stores[store.0];
        slot.writes.clear();
        self.offsets.remove(partition);
        if let Some(lru) = &mut slot.lru {
            lru.begin(std::iter::empty());
        }
        match (&mut slot.rows, &mut self.rocks) {
            (Rows::Memory(memory), _) => memory.clear(),
            (Rows::Disk(cache), Some(rocks)) => {
                cache.clear();
                rocks.forget_offset(partition)?;
                match Arc::get_mut(rocks) {
                    Some(rocks) => rocks.wipe(&slot.name, &self.budget)?,
                    None => rocks.delete_all(&slot.name)?,
                }
            }
            (Rows::Disk(_), None) => {}
            (Rows::Global(SharedRows::Memory(memory)), _) => global::write(memory).clear(),
            (Rows::Global(SharedRows::Disk(rocks)), _) => {
                rocks.forget_offset(partition)?;
                rocks.delete_all(&slot.name)?;
            }
        }
        Ok(())
    }

    /// Roughly how many rows `store` has.
    pub fn approximate_entries(&self, store: StoreId) -> u64 {
        let slot = &self.stores[store.0];
        match (&slot.rows, &self.rocks) {
            (Rows::Memory(memory), _) => memory.len(),
            (Rows::Disk(_), Some(rocks)) => rocks.approximate_entries(&slot.name),
            (Rows::Disk(_), None) => 0,
            (Rows::Global(SharedRows::Memory(memory)), _) => global::read(memory).len(),
            (Rows::Global(SharedRows::Disk(rocks)), _) => rocks.approximate_entries(&slot.name),
        }
    }

    /// Memory used for this task's state (overlay, memory stores, memtables, table readers), in bytes; shared caches not
    /// included.
    pub fn memory_bytes(&self) -> u64 {
        let rows = |rows: &Rows| match rows {
            Rows::Memory(memory) => memory.bytes(),
            Rows::Disk(cache) => cache.bytes() as u64,
            Rows::Global(_) => 0,
        };
        self.stores.iter().map(|s| s.writes.bytes() as u64 + rows(&s.rows)).sum::<u64>()
            + self.rocks.as_ref().map_or(0, |rocks| rocks.memory_bytes())
    }
}

fn opened(rocks: &Option<Arc<DiskRows>>) -> Result<&DiskRows> {
    rocks.as_deref().ok_or_else(|| Error::new(Kind::Internal, "a store on disk without a database"))
}

fn visit_write(write: Option<(&[u8], Option<&[u8]>)>, visit: Visit<'_>) -> bool {
    match write {
        Some((key, Some(row))) => visit(key, row),
        _ => true,
    }
}

/// Merges two ascending runs; of equal keys the write counts.
fn merge<'a>(
    rows: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    writes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    visit: Visit<'_>,
) {
    let (mut rows, mut writes) = (rows.peekable(), writes.peekable());
    loop {
        let go_on = match (rows.peek(), writes.peek()) {
            (None, None) => return,
            (Some((row, _)), Some((write, _))) if row < write => rows.next().is_none_or(|(k, v)| visit(k, v)),
            (Some((row, _)), Some((write, _))) if row == write => {
                rows.next();
                visit_write(writes.next(), visit)
            }
            (_, Some(_)) => visit_write(writes.next(), visit),
            (Some(_), None) => rows.next().is_none_or(|(k, v)| visit(k, v)),
        };
        if !go_on {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::state::Changelog;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn open(dir: &Path, engine: Engine) -> TaskState {
        let spec = |name: &str| StoreSpec::table(name, engine, Changelog::None);
        let budget = Arc::new(MemoryBudget::new(&Config::new("test")));
        TaskState::open(Some(dir), &[spec("one"), spec("two")], budget).expect("opens")
    }

    fn rows(state: &TaskState, store: usize, from: Option<&[u8]>, to: Option<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        let visit = &mut |k: &[u8], v: &[u8]| {
            rows.push((k.to_vec(), v.to_vec()));
            true
        };
        state.range(StoreId(store), from, to, visit).expect("reads");
        rows
    }

    #[test]
    fn what_is_not_committed_is_gone_after_a_crash_and_what_is_stays_with_its_offset() {
        let dir = tempfile::tempdir().expect("a folder");
        let log = TopicPartition::new("log", 3);
        let mut state = open(dir.path(), Engine::RocksDb);
        state.put(StoreId(0), b"a", Some(b"1"));
        state.commit(&[(log.clone(), 7)]).expect("commits");
        state.put(StoreId(0), b"a", Some(b"2"));
        assert_eq!(state.get(StoreId(0), b"a").expect("reads").as_deref(), Some(&b"2"[..]));
        drop(state);
        let mut state = open(dir.path(), Engine::RocksDb);
        assert_eq!(state.get(StoreId(0), b"a").expect("reads").as_deref(), Some(&b"1"[..]));
        assert_eq!(state.committed_offset(StoreId(0), &log).expect("reads"), Some(7));
        assert!(state.get(StoreId(1), b"a").expect("reads").is_none());
    }

    #[test]
    fn a_wiped_store_has_neither_rows_nor_offset() {
        let dir = tempfile::tempdir().expect("a folder");
        let log = TopicPartition::new("log", 0);
        let mut state = open(dir.path(), Engine::RocksDb);
        state.put(StoreId(0), b"a", Some(b"1"));
        state.put(StoreId(1), b"b", Some(b"1"));
        state.commit(&[(log.clone(), 7)]).expect("commits");
        state.wipe(StoreId(0), &log).expect("wipes");
        assert!(rows(&state, 0, None, None).is_empty());
        assert_eq!(rows(&state, 1, None, None).len(), 1);
        assert_eq!(state.committed_offset(StoreId(0), &log).expect("reads"), None);
    }

    #[test]
    fn a_corrupt_database_is_set_aside_and_begun_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut state = open(dir.path(), Engine::RocksDb);
        state.put(StoreId(0), b"a", Some(b"1"));
        state.commit(&[]).expect("commits");
        drop(state);
        std::fs::write(dir.path().join("rocksdb/CURRENT"), "no manifest\n").expect("writes");
        let state = open(dir.path(), Engine::RocksDb);
        assert!(rows(&state, 0, None, None).is_empty());
        assert!(dir.path().join("rocksdb.corrupt-0").exists());
    }

    #[test]
    fn a_task_is_opened_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let _first = open(dir.path(), Engine::RocksDb);
        let spec = StoreSpec::table("one", Engine::RocksDb, Changelog::None);
        let budget = Arc::new(MemoryBudget::new(&Config::new("test")));
        let error = TaskState::open(Some(dir.path()), &[spec], budget).err().expect("locked").to_string();
        assert!(error.contains("another process or thread"), "{error}");
    }

    #[derive(Debug, Clone)]
    enum Op {
        Put(u8, Option<u8>),
        Commit,
        Rollback,
        Range(Option<u8>, Option<u8>),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0..20u8, any::<Option<u8>>()).prop_map(|(k, v)| Op::Put(k, v)),
            1 => Just(Op::Commit),
            1 => Just(Op::Rollback),
            2 => (any::<Option<u8>>(), any::<Option<u8>>()).prop_map(|(a, b)| Op::Range(a.map(|a| a % 20), b.map(|b| b % 20))),
        ]
    }

    fn agrees_with_a_map(engine: Engine, ops: Vec<Op>) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut state = open(dir.path(), engine);
        let (mut committed, mut model) = (BTreeMap::new(), BTreeMap::new());
        for op in ops {
            match op {
                Op::Put(k, v) => {
                    state.put(StoreId(0), &[k], v.as_ref().map(std::slice::from_ref));
                    match v {
                        Some(v) => model.insert(vec![k], vec![v]),
                        None => model.remove(&vec![k]),
                    };
                }
                Op::Commit => {
                    state.commit(&[]).expect("commits");
                    committed = model.clone();
                }
                Op::Rollback => {
                    state.rollback();
                    model = committed.clone();
                }
                Op::Range(from, to) => {
                    let inside = |k: &&Vec<u8>| from.is_none_or(|f| k[0] >= f) && to.is_none_or(|t| k[0] < t);
                    let want: Vec<_> =
                        model.iter().filter(|(k, _)| inside(k)).map(|(k, v)| (k.clone(), v.clone())).collect();
                    let (from, to) = (from.map(|f| [f]), to.map(|t| [t]));
                    let got =
                        rows(&state, 0, from.as_ref().map(<[u8; 1]>::as_slice), to.as_ref().map(<[u8; 1]>::as_slice));
                    assert_eq!(got, want);
                }
            }
        }
        for k in 0..20u8 {
            let got = state.get(StoreId(0), &[k]).expect("reads").map(|row| row.to_vec());
            assert_eq!(got.as_ref(), model.get(&vec![k]));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn memory_agrees_with_a_map(ops in proptest::collection::vec(op(), 0..80)) {
            agrees_with_a_map(Engine::Memory, ops);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn rocksdb_agrees_with_a_map(ops in proptest::collection::vec(op(), 0..80)) {
            agrees_with_a_map(Engine::RocksDb, ops);
        }
    }
}
