//! A task's stores on disk as other threads read them: without a word to the thread that owns them, as of its last commit.

use super::disk::DiskRows;
use super::query::{self, Found, Query};
use super::segmented::Segmented;
use super::versioned::Versioned;
use super::{Engine, MemoryBudget, StoreId, StoreSpec, TaskState};
use crate::error::Result;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The readers' side of a [`TaskState`].
pub(crate) struct Reader {
    /// Readers hold the lock while they read, so that the database is closed when its owner says so; `None` from then on.
    rocks: RwLock<Option<Arc<DiskRows>>>,
    specs: Vec<StoreSpec>,
    /// Per window or session store: the largest time that was put before the last commit.
    observed_ms: Vec<AtomicI64>,
    budget: Arc<MemoryBudget>,
    /// The owner waits for the readers inside: they end, and have no answer.
    leave: Arc<AtomicBool>,
}

impl Reader {
    /// Of the stores `specs` of `state`.
    pub(crate) fn new(state: &TaskState, specs: Vec<StoreSpec>) -> Self {
        let observed_ms = specs.iter().map(|_| AtomicI64::new(-1)).collect();
        Self { rocks: RwLock::new(state.rocks()), specs, observed_ms, budget: state.budget(), leave: Arc::default() }
    }

    /// The stores.
    pub(crate) fn specs(&self) -> &[StoreSpec] {
        &self.specs
    }

    /// Whether the store can be read from here; those in memory are their thread's alone.
    pub(crate) fn has(&self, store: StoreId) -> bool {
        self.specs[store.0].engine == Engine::RocksDb
    }

    /// The owner has committed.
    pub(crate) fn committed(&self, timed: &[Option<Segmented>]) {
        for (observed_ms, timed) in self.observed_ms.iter().zip(timed) {
            if let Some(timed) = timed {
                observed_ms.store(timed.observed_ms(), Ordering::Release);
            }
        }
    }

    /// Answers a query; `None` where the owner has gone.
    pub(crate) fn ask(&self, store: StoreId, query: &Query) -> Result<Option<Found>> {
        let rocks = self.rocks.read().unwrap_or_else(PoisonError::into_inner);
        let Some(rocks) = &*rocks else { return Ok(None) };
        let spec = &self.specs[store.0];
        let mut state = TaskState::reading(spec, rocks.clone(), self.budget.clone(), self.leave.clone());
        let only = StoreId(0);
        let observed_ms = self.observed_ms[store.0].load(Ordering::Acquire);
        let mut timed = Segmented::new(only, spec).map(|timed| timed.observing(observed_ms));
        let mut versioned = Versioned::new(only, spec);
        if let Some(versioned) = &mut versioned {
            versioned.restored(&mut state)?;
        }
        let found = query::ask(&mut state, only, timed.as_mut(), versioned.as_ref(), query)?;
        Ok((!self.leave.load(Ordering::Acquire)).then_some(found))
    }

    /// Waits for the readers inside, and lets nobody in any more.
    pub(crate) fn close(&self) {
        self.leave.store(true, Ordering::Release);
        *self.rocks.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::state::Changelog;

    #[test]
    fn readers_see_commits_and_leave_when_the_owner_closes() {
        let dir = tempfile::tempdir().expect("a folder");
        let spec = StoreSpec::table("rows", Engine::RocksDb, Changelog::None);
        let budget = Arc::new(MemoryBudget::new(&Config::new("test")));
        let mut state = TaskState::open(Some(dir.path()), std::slice::from_ref(&spec), budget.clone()).expect("opens");
        let reader = Arc::new(Reader::new(&state, vec![spec.clone()]));
        let get = |reader: &Reader| reader.ask(StoreId(0), &Query::Get(b"a".to_vec())).expect("reads");
        state.put(StoreId(0), b"a", Some(b"1"));
        assert_eq!(get(&reader), Some(Found::Row(None)), "not committed");
        for key in 0..20_000u32 {
            state.put(StoreId(0), &key.to_be_bytes(), Some(b"row"));
        }
        state.commit(&[]).expect("commits");
        assert_eq!(get(&reader), Some(Found::Row(Some(b"1".to_vec()))));
        let asker = {
            let reader = reader.clone();
            let all = Query::Range { from: None, to: None, limit: usize::MAX };
            std::thread::spawn(move || while reader.ask(StoreId(0), &all).expect("reads").is_some() {})
        };
        reader.close();
        drop(state);
        asker.join().expect("has left");
        assert_eq!(get(&reader), None);
        // Nobody holds the database any more.
        TaskState::open(Some(dir.path()), &[spec], budget).expect("opens again");
    }
}
