//! What a stream thread does when its partitions change: opens, gives up and loses tasks.

use super::assignment;
use super::first_offsets::first_offsets;
use super::metadata::Metadata;
use super::task::{Task, TaskId};
use super::task_init::{self, Positions};
use super::thread::{Clients, Phase, StreamThread};
use super::transaction::Transaction;
use crate::broker::TopicPartition;
use crate::error::{Error, Kind, Result};
use crate::status::{TaskStateName, ThreadState};
use std::collections::BTreeMap;

impl StreamThread {
    pub(super) fn assigned(&mut self, partitions: &[TopicPartition]) -> Result {
        tracing::info!(thread = self.number, "assigned {}", list(partitions));
        self.set_state(ThreadState::PartitionsAssigned);
        self.owned.extend(partitions.iter().cloned());
        self.join_anew_if_left_out()?;
        // Those for which there is no task yet: all but those of tasks that waited for the rest of their partitions.
        let partitions = &self.without_task();
        if partitions.is_empty() {
            self.close_suspended();
            self.running_if_all_are();
            return Ok(());
        }
        let Some(known) = self.app.topics.known() else { return Ok(()) };
        let wanted = assignment::tasks(&self.owned, &known, |sub| self.app.plan.is_patient(sub))?;
        let committed = self.clients.consumer.committed(partitions)?;
        let mut positions = Positions::new();
        for (tp, committed) in partitions.iter().zip(&committed) {
            let known = committed.as_ref().map(|c| (c.offset, Metadata::decode(&c.metadata)));
            positions.insert(tp.clone(), known);
        }
        self.check_notes(&positions)?;
        let (app, now_ms) = (self.app.clone(), self.app.shared.clock.now_ms());
        let (id, consumer) = (&app.config.application_id, &mut *self.clients.consumer);
        let first = first_offsets(&app.plan, id, consumer, &positions, now_ms)?;
        self.take_up_suspended(&wanted, &positions);
        let opened = self.open_tasks(wanted, &positions);
        // Where a broker gave no answer for one of them the event comes again, and the others are not new then.
        let waiting = self.without_task();
        if !waiting.is_empty() {
            tracing::warn!(thread = self.number, "{} wait for the rest of their tasks", list(&waiting));
        }
        let start = positions.iter().filter(|(tp, _)| !waiting.contains(tp));
        let offset =
            |tp, known: &Option<(i64, _)>| known.as_ref().map(|(offset, _)| *offset).or(first.get(tp).copied());
        let start: Vec<_> = start.map(|(tp, known)| (tp.clone(), offset(tp, known))).collect();
        self.clients.consumer.assign(&start)?;
        self.restore_told_ms = self.app.shared.clock.now_ms();
        // Nothing is fetched for a task that cannot process it yet.
        let runs = |tp: &&TopicPartition| {
            self.tasks.values().any(|task| task.state == TaskStateName::Running && task.reads(tp))
        };
        let hold: Vec<TopicPartition> = start.iter().map(|(tp, _)| tp).filter(|tp| !runs(tp)).cloned().collect();
        if !hold.is_empty() {
            self.clients.consumer.pause(&hold)?;
        }
        opened?;
        self.running_if_all_are();
        Ok(())
    }

    /// Opens those of the tasks that are not open yet, and lets the others have the topics that are new to them.
    fn open_tasks(&mut self, wanted: BTreeMap<TaskId, Vec<TopicPartition>>, positions: &Positions) -> Result {
        for (id, inputs) in wanted {
            match self.tasks.get_mut(&id) {
                Some(task) => {
                    // A topic has come that matches a pattern.
                    let new: Vec<TopicPartition> = inputs.into_iter().filter(|tp| !task.reads(tp)).collect();
                    task_init::add_inputs(&self.app, &mut self.clients, task, &new, positions)?;
                }
                None => self.begin_to_open(id, inputs, positions),
            }
        }
        Ok(())
    }

    /// The partitions that it owns and that no task reads.
    fn without_task(&self) -> Vec<TopicPartition> {
        let open = || self.tasks.values().filter(|task| task.state != TaskStateName::Suspended);
        let opening = |tp: &TopicPartition| self.opening.values().any(|opening| opening.reads(tp));
        let read = |tp: &&TopicPartition| open().any(|task| task.reads(tp)) || opening(tp);
        self.owned.iter().filter(|tp| !read(tp)).cloned().collect()
    }

    pub(super) fn revoking(&mut self, partitions: &[TopicPartition]) -> Result {
        tracing::info!(thread = self.number, "giving up {}", list(partitions));
        self.set_state(ThreadState::PartitionsRevoked);
        let leaves = |task: &Task| task.inputs.iter().any(|input| partitions.contains(&input.partition));
        let committed = self.drain(leaves).and_then(|()| self.commit_all());
        if let Err(error) = &committed {
            tracing::warn!("could not commit before giving partitions up, their records will be repeated: {error}");
        }
        if committed.is_ok() && self.clients.consumer.is_eager() {
            self.suspend_tasks(partitions);
        } else {
            self.drop_tasks(partitions, committed.is_ok());
        }
        self.clients.consumer.unassign(partitions)?;
        match committed {
            Err(error) if error.kind() == Kind::Aborted => {
                // The tasks that stay go back as well: the transaction is everybody's.
                self.clients.transaction = Transaction::Aborting;
                Ok(())
            }
            // Who commits without transactions is only told that it was too late; a producer that is fenced is of no use.
            Err(error) if error.kind() == Kind::Migrated && self.clients.transaction == Transaction::None => Ok(()),
            Err(error) if !error.is_retriable() => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn lost(&mut self, partitions: &[TopicPartition]) -> Result {
        tracing::warn!(thread = self.number, "lost {}: others have them already", list(partitions));
        self.set_state(ThreadState::PartitionsRevoked);
        self.close_suspended();
        self.drop_tasks(partitions, false);
        self.clients.consumer.unassign(partitions)
    }

    /// Stops the tasks that read any of these partitions, with their stores open.
    fn suspend_tasks(&mut self, partitions: &[TopicPartition]) {
        for tp in partitions {
            self.owned.remove(tp);
        }
        for task in self.tasks.values_mut() {
            if task.inputs.iter().any(|input| partitions.contains(&input.partition)) {
                task.suspend();
            }
        }
        self.suspend_opening(partitions);
    }

    fn close_suspended(&mut self) {
        self.close_tasks(|task| task.state == TaskStateName::Suspended, true);
        self.give_up_suspended_opening(|_| false);
    }

    /// Of the suspended tasks those go on that have come again as they were; the others are closed, before anything is
    /// opened: other threads may be waiting for them.
    fn take_up_suspended(&mut self, wanted: &BTreeMap<TaskId, Vec<TopicPartition>>, positions: &Positions) {
        let untouched = |task: &Task| {
            // Nobody has gone on with it meanwhile.
            let same = |tp: &TopicPartition| {
                let known = positions.get(tp).map(|known| known.as_ref().map_or(0, |(offset, _)| *offset));
                matches!((task.position(tp), known), (Some(position), Some(known)) if known <= position)
            };
            wanted.get(&task.id).is_some_and(|inputs| inputs.len() == task.inputs.len() && inputs.iter().all(same))
        };
        self.close_tasks(|task| task.state == TaskStateName::Suspended && !untouched(task), true);
        self.give_up_suspended_opening(|id| wanted.contains_key(id));
        self.tasks.values_mut().filter(|task| task.state == TaskStateName::Suspended).for_each(Task::resume);
    }

    /// Closes the tasks that read any of these partitions, which are no longer this thread's.
    pub(super) fn drop_tasks(&mut self, partitions: &[TopicPartition], clean: bool) {
        for tp in partitions {
            self.owned.remove(tp);
        }
        let gone = |task: &Task| task.inputs.iter().any(|input| partitions.contains(&input.partition));
        if clean && self.app.plan.has_patterns() {
            // Of a task that reads topics by a pattern one topic may go and the others stay.
            let stays = |task: &&mut Task| gone(task) && task.inputs.iter().any(|i| !partitions.contains(&i.partition));
            self.tasks.values_mut().filter(stays).for_each(|task| task.give_up(partitions));
        }
        self.close_tasks(gone, clean);
        self.give_up_opening(partitions);
    }

    /// Closes tasks: clean ones have been committed, dirty ones forget what has not.
    pub(super) fn close_tasks(&mut self, which: impl Fn(&Task) -> bool, clean: bool) {
        let ids: Vec<TaskId> = self.tasks.iter().filter(|(_, task)| which(task)).map(|(id, _)| *id).collect();
        for id in ids {
            if let Some(mut task) = self.tasks.remove(&id) {
                self.count(id, task.cx.counts);
                self.published.remove(&id);
                if !clean {
                    if task.dirty {
                        self.spoil_transaction();
                    }
                    task.cx.state.rollback();
                }
                if let (Some(restore), Some(listener)) = (&task.restore, &self.app.restore_listener) {
                    restore.partitions().for_each(|(p, applied)| {
                        listener.on_restore_suspended(&p.partition, &task.stores[p.store.0], applied);
                    });
                }
                if let (Some(restore), Some(restorer)) = (&task.restore, &mut self.clients.restorer) {
                    let logs = task.changelogs.0.iter().map(|(_, tp)| tp).filter(|tp| restore.reads(tp));
                    let logs: Vec<TopicPartition> = logs.cloned().collect();
                    if let Err(error) = restorer.unassign(&logs) {
                        tracing::warn!("could not stop to read {}: {error}", list(&logs));
                    }
                }
                self.close_stores(task);
            }
        }
    }

    /// Others have taken over, or a store is damaged: what is open here is worth nothing any more. Gives everything up and
    /// joins again.
    pub(super) fn migrated(&mut self, error: &Error) -> Result {
        tracing::warn!(thread = self.number, "gives up its tasks and joins again: {error}");
        self.set_state(ThreadState::PartitionsRevoked);
        self.close_tasks(|_| true, false);
        self.give_up_all_opening();
        self.owned.clear();
        self.clients = Clients::new(&self.app, self.number)?;
        self.events.clear();
        self.restore_events.clear();
        self.phase = Phase::Created;
        Ok(())
    }

    /// RUNNING as soon as no task restores any more; a thread without tasks runs as well.
    pub(super) fn running_if_all_are(&mut self) {
        self.expose();
        if self.opening.is_empty() && self.tasks.values().all(|task| task.state == TaskStateName::Running) {
            self.publish_tasks();
            self.set_state(ThreadState::Running);
        }
    }
}

pub(super) fn list(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
