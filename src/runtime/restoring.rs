//! The part of a stream thread's turn that fills the stores of its new tasks from their changelogs.

use super::task_init;
use super::thread::{RECORDS_PER_TURN_MAX, StreamThread};
use crate::broker::{Batch, RawRecord};
use crate::error::Result;
use std::rc::Rc;
use std::time::Duration;

impl StreamThread {
    pub(super) fn restore(&mut self) -> Result<usize> {
        let mut restored = 0;
        if self.tasks.values().all(|task| task.restore.is_none()) {
            return Ok(0);
        }
        let Some(restorer) = &mut self.clients.restorer else { return Ok(0) };
        let mut batch = Batch::default();
        let events = &mut self.restore_events;
        restorer.poll(Duration::from_millis(20), RECORDS_PER_TURN_MAX * 4, &mut batch, events)?;
        let bytes = Rc::new(std::mem::take(&mut batch.bytes));
        for meta in batch.records.drain(..) {
            let tp = &batch.sources[meta.source as usize];
            let raw = RawRecord { bytes: bytes.clone(), meta };
            for task in self.tasks.values_mut() {
                if let Some(restore) = task.restore.as_mut().filter(|r| r.reads(tp)) {
                    restore.apply(&mut task.cx.state, tp, &raw)?;
                    restored += 1;
                }
            }
        }
        // As in `handle_events`: what meets a broker without an answer is tried again.
        while let Some(event) = events.first() {
            task_init::restore_event(&mut self.tasks, &mut **restorer, event)?;
            events.remove(0);
        }
        let mut finished = Vec::new();
        for task in self.tasks.values_mut() {
            if let Some(restore) = task.restore.take_if(|r| r.is_done()) {
                restorer.unassign(&restore.finish(&mut task.cx.state)?)?;
                task.restored()?;
                tracing::info!("task {}: restored", task.id);
                finished.extend(task.partitions());
            }
        }
        if !finished.is_empty() {
            self.clients.consumer.resume(&finished)?;
            self.running_if_all_are();
        }
        Ok(restored)
    }
}
