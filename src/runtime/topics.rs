//! The source topics as they are on the broker, and which tasks read them. Topics that match a pattern come and go while
//! the client runs.

use super::app::App;
use super::assignment::Inputs;
use super::prepare::{Found, Plan};
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the threads of a client have found out together.
#[derive(Default)]
pub(crate) struct Topics(Mutex<Latest>);

#[derive(Default)]
struct Latest {
    known: Option<Arc<KnownTopics>>,
    /// When it was last looked for topics that match a pattern.
    looked_ms: i64,
}

/// The source topics at some time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KnownTopics {
    /// How many partitions each has.
    pub(crate) counts: BTreeMap<Arc<str>, i32>,
    /// The same, and of the topics that are written.
    sizes: Arc<BTreeMap<Arc<str>, i32>>,
    /// Which of them each sub-topology reads.
    pub(crate) inputs: Inputs,
}

impl KnownTopics {
    pub(crate) fn new(plan: &Plan, Found { counts, written }: Found) -> Self {
        let inputs = plan.inputs(&counts);
        let sizes = Arc::new(counts.iter().map(|(topic, count)| (topic.clone(), *count)).chain(written).collect());
        Self { counts, sizes, inputs }
    }

    #[cfg(test)]
    pub(super) fn of(counts: BTreeMap<Arc<str>, i32>, inputs: Inputs) -> Self {
        Self { counts, sizes: Arc::default(), inputs }
    }

    /// What a client subscribes to.
    pub(crate) fn subscription(&self) -> Vec<Arc<str>> {
        let read: BTreeSet<&Arc<str>> = self.inputs.iter().flatten().collect();
        read.into_iter().filter(|topic| self.counts.contains_key(*topic)).cloned().collect()
    }
}

impl Topics {
    fn lock(&self) -> MutexGuard<'_, Latest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found last; `None` before the first look.
    pub(crate) fn known(&self) -> Option<Arc<KnownTopics>> {
        self.lock().known.clone()
    }

    /// How many partitions each topic has that is read or written.
    pub(crate) fn sizes(&self) -> Arc<BTreeMap<Arc<str>, i32>> {
        self.known().map(|known| known.sizes.clone()).unwrap_or_default()
    }

    /// What is there at the start: the first thread looks, for all.
    pub(crate) fn at_start(&self, app: &App) -> Result<Arc<KnownTopics>> {
        let mut latest = self.lock();
        if let Some(known) = &latest.known {
            return Ok(known.clone());
        }
        let found = app.plan.prepare(&mut *app.broker.admin()?, &app.config)?;
        app.shared.broker_trouble(None);
        latest.looked_ms = app.shared.clock.now_ms();
        Ok(latest.known.insert(Arc::new(KnownTopics::new(&app.plan, found))).clone())
    }

    /// What is there now: looks again where that was not done for `metadata.max.age.ms`, or at once.
    pub(crate) fn now(&self, app: &App, at_once: bool) -> Result<Option<Arc<KnownTopics>>> {
        let mut latest = self.lock();
        let now_ms = app.shared.clock.now_ms();
        let age_ms = now_ms.saturating_sub(latest.looked_ms);
        if !at_once && age_ms < app.config.metadata_max_age.as_millis() as i64 {
            return Ok(latest.known.clone());
        }
        latest.looked_ms = now_ms;
        let mut admin = app.broker.admin()?;
        let matching = app.plan.matching(&mut *admin)?;
        let before = latest.known.as_ref().map(|known| app.plan.matching_of(&known.counts));
        if before.as_ref() != Some(&matching) {
            let found = app.plan.prepare(&mut *admin, &app.config)?;
            latest.known = Some(Arc::new(KnownTopics::new(&app.plan, found)));
        }
        Ok(latest.known.clone())
    }
}
