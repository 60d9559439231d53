//! A task's stores on disk as other threads read them: without a word to the thread that owns them, as of its last commit.

use super::query::{self, Found, Query};
use super::rocksdb::RocksRows;
use super::segmented::Segmented;
use super::versioned::Versioned;
use super::{Engine, MemoryBudget, StoreId, StoreSpec, TaskState};
use crate::error::Result;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The readers' side of a [`TaskState`].
pub(crate) struct Reader {
    /// Readers hold the lock while they read, so that the database is closed when its owner says so; `None` from then on.
    rocks: RwLock<Option<Arc<RocksRows>>>,
    specs: Vec<StoreSpec>,
    /// Per window or session store: the largest time that was put before the last commit.
    observed_ms: Vec<AtomicI64>,
    budget: Arc<MemoryBudget>,
}

impl Reader {
    /// Of the stores `specs` of `state`.
    pub(crate) fn new(state: &TaskState, specs: Vec<StoreSpec>) -> Self {
        let observed_ms = specs.iter().map(|_| AtomicI64::new(-1)).collect();
        Self { rocks: RwLock::new(state.rocks()), specs, observed_ms, budget: state.budget() }
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
        let mut state = TaskState::reading(spec, rocks.clone(), self.budget.clone());
        let only = StoreId(0);
        let observed_ms = self.observed_ms[store.0].load(Ordering::Acquire);
        let mut timed = Segmented::new(only, spec).map(|timed| timed.observing(observed_ms));
        let mut versioned = Versioned::new(only, spec);
        if let Some(versioned) = &mut versioned {
            versioned.restored(&mut state)?;
        }
        query::ask(&mut state, only, timed.as_mut(), versioned.as_ref(), query).map(Some)
    }

    /// Waits for the readers inside, and lets nobody in any more.
    pub(crate) fn close(&self) {
        *self.rocks.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
