//! The part of a stream thread's turn that fills the stores of its new tasks from their changelogs, between the records of
//! those that run already.

use super::listeners::RestoreListener;
use super::task::Task;
use super::task_init;
use super::thread::{RECORDS_PER_TURN_MAX, StreamThread};
use crate::broker::{Batch, RawRecord, TopicPartition};
use crate::error::Result;
use crate::state::restore::Restore;
use crate::status::TaskStateName;
use std::rc::Rc;
use std::time::Duration;

/// How long a turn waits for changelog records, where no task has anything else to do.
const WAIT: Duration = Duration::from_millis(10);
/// How often the log tells how a restore goes.
const TELL_INTERVAL_MS: i64 = 10_000;

impl StreamThread {
    /// True while stores are restored.
    pub(super) fn restores(&self) -> bool {
        self.tasks.values().any(|task| task.restore.is_some())
    }

    /// Takes what has come of the changelogs. Returns how many records.
    pub(super) fn restore(&mut self) -> Result<usize> {
        if !self.restores() {
            return Ok(0);
        }
        let others_run = self.tasks.values().any(|task| task.state == TaskStateName::Running);
        let (wait, records_max) = match (others_run, self.busy) {
            (true, true) => (Duration::ZERO, RECORDS_PER_TURN_MAX),
            (true, false) => (WAIT, RECORDS_PER_TURN_MAX),
            (false, _) => (WAIT, RECORDS_PER_TURN_MAX * 4),
        };
        let Some(restorer) = &mut self.clients.restorer else { return Ok(0) };
        let mut batch = Batch::default();
        let events = &mut self.restore_events;
        restorer.poll(wait, records_max, &mut batch, events)?;
        let restored = batch.records.len();
        let bytes = Rc::new(std::mem::take(&mut batch.bytes));
        for meta in batch.records.drain(..) {
            let tp = &batch.sources[meta.source as usize];
            let raw = RawRecord { bytes: bytes.clone(), meta };
            for task in self.tasks.values_mut() {
                if let Some(restore) = task.restore.as_mut().filter(|r| r.reads(tp)) {
                    restore.apply(&mut task.cx.state, tp, &raw)?;
                }
            }
        }
        // As in `handle_events`: what meets a broker without an answer is tried again.
        while let Some(event) = events.first() {
            task_init::restore_event(&mut self.tasks, &mut **restorer, event)?;
            events.remove(0);
        }
        let listener = self.app.restore_listener.as_deref();
        let mut finished = Vec::new();
        for task in self.tasks.values_mut() {
            if let (Some(listener), Some(restore)) = (listener, &mut task.restore) {
                restore.take_untold().for_each(|(p, end, count)| {
                    listener.on_batch_restored(&p.partition, &task.stores[p.store.0], end, count);
                });
            }
            if let Some(restore) = task.restore.take_if(|r| r.is_done()) {
                finished.extend(finish(task, restore, listener, |logs| restorer.unassign(logs))?);
            }
        }
        if !finished.is_empty() {
            self.clients.consumer.resume(&finished)?;
            self.running_if_all_are();
        }
        self.tell_progress();
        Ok(restored)
    }

    /// Lets the log know, now and then.
    fn tell_progress(&mut self) {
        let now_ms = self.app.shared.clock.now_ms();
        if now_ms - self.restore_told_ms < TELL_INTERVAL_MS {
            return;
        }
        self.restore_told_ms = now_ms;
        let now = self.app.shared.clock.nanos();
        for task in self.tasks.values().filter(|task| task.restore.is_some()) {
            for store in task.status(now).restore {
                let left = store.eta_s.map_or(String::new(), |eta_s| format!(", {eta_s:.0} s left"));
                let (restored, total, rate) = (store.restored, store.total, store.rate);
                tracing::info!(
                    "task {}: restored {restored} of {total} of {}, {rate:.0}/s{left}",
                    task.id,
                    store.store
                );
            }
        }
    }
}

/// The task's stores are complete. Returns the inputs that it goes on with.
fn finish(
    task: &mut Task,
    restore: Restore,
    listener: Option<&dyn RestoreListener>,
    unassign: impl FnOnce(&[TopicPartition]) -> Result,
) -> Result<Vec<TopicPartition>> {
    let read: Vec<_> = restore.partitions().map(|(plan, applied)| (plan.clone(), applied)).collect();
    unassign(&restore.finish(&mut task.cx.state)?)?;
    let was_suspended = task.state == TaskStateName::Suspended;
    task.restored()?;
    tracing::info!("task {}: restored", task.id);
    for (plan, applied) in read {
        if let Some(listener) = listener {
            listener.on_restore_end(&plan.partition, &task.stores[plan.store.0], applied);
        }
    }
    if was_suspended {
        // Its partitions are away, for now at least.
        task.state = TaskStateName::Suspended;
        return Ok(Vec::new());
    }
    Ok(task.partitions())
}
