//! A stream thread's transaction under exactly_once_v2: one per commit interval, for all tasks of the thread together.
//!
//! What happens to it is known at the beginning of each turn: before anything is read or processed, a transaction whose
//! outcome is open is asked about again, one that cannot be committed is aborted, and the tasks go back to what is committed.

use super::metadata::Metadata;
use super::opening::Stores;
use super::rebalance::list;
use super::task::{Task, TaskId};
use super::task_init::{self, Positions};
use super::thread::StreamThread;
use crate::broker::{Event, TopicPartition};
use crate::error::{Error, Kind, Result};
use crate::status::TaskStateName;

/// Where a thread's transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transaction {
    /// There are none: at least once.
    None,
    /// The producer has not got its transactional id yet.
    Fresh,
    /// It takes records.
    Open,
    /// It was to be committed, and the answer has not come: it may be, or not.
    Committing,
    /// It is to be aborted.
    Aborting,
    /// There is none at present; the tasks are not yet back at what is committed.
    Ended,
}

impl StreamThread {
    /// Makes the transaction one that takes records, whatever it was.
    pub(super) fn settle_transaction(&mut self) -> Result {
        match self.clients.transaction {
            Transaction::None | Transaction::Open => return Ok(()),
            Transaction::Committing => return self.commit_all(),
            Transaction::Fresh => self.clients.producer.init_transactions()?,
            Transaction::Aborting => self.clients.producer.abort_transaction()?,
            Transaction::Ended => {}
        }
        self.clients.transaction = Transaction::Ended;
        self.start_over()?;
        self.clients.producer.begin_transaction()?;
        self.clients.transaction = Transaction::Open;
        Ok(())
    }

    /// A task is closed with work in the transaction that must not count.
    pub(super) fn spoil_transaction(&mut self) {
        if self.clients.transaction == Transaction::Open {
            self.clients.transaction = Transaction::Aborting;
        }
    }

    /// The thread ends: nobody needs to wait until the broker has found out by itself.
    pub(super) fn abort_at_the_end(&mut self) {
        if matches!(self.clients.transaction, Transaction::Open | Transaction::Aborting)
            && let Err(error) = self.clients.producer.abort_transaction()
        {
            tracing::warn!(thread = self.number, "{error}");
        }
    }

    /// Takes the running tasks back to what is committed: their positions, and their stores, which stay open.
    fn start_over(&mut self) -> Result {
        let running = |task: &&Task| task.state == TaskStateName::Running;
        let tasks: Vec<(TaskId, Vec<TopicPartition>)> =
            self.tasks.values().filter(running).map(|task| (task.id, task.partitions())).collect();
        if tasks.is_empty() {
            return Ok(());
        }
        let partitions: Vec<TopicPartition> = tasks.iter().flat_map(|(_, inputs)| inputs.clone()).collect();
        tracing::warn!(thread = self.number, "goes back to what is committed of {}", list(&partitions));
        let committed = self.clients.consumer.committed(&partitions)?;
        let known = committed.iter().map(|c| c.as_ref().map(|c| (c.offset, Metadata::decode(&c.metadata))));
        let positions: Positions = partitions.iter().cloned().zip(known).collect();
        let offsets = committed.iter().map(|c| c.as_ref().map(|c| c.offset));
        let back: Vec<_> = partitions.iter().cloned().zip(offsets).collect();
        self.clients.consumer.seek(&back)?;
        // An end that was told before would let the inputs jump over what comes again.
        self.events.retain(|event| !matches!(event, Event::End { .. }));
        for (id, inputs) in tasks {
            let Some(mut task) = self.tasks.remove(&id) else { continue };
            self.count(id, task.cx.counts);
            self.published.remove(&id);
            task.cx.state.rollback();
            let stores = Stores { state: task.cx.state, directory: task.directory.take() };
            let again = task_init::open(&self.app, &mut self.clients, &self.cache, id, &inputs, &positions, stores);
            // Halfway there is no going on: everything is opened anew.
            let again = again.map_err(|error| match error.kind() {
                Kind::Broker => Error::new(Kind::Migrated, "a task could not go back").source(error),
                _ => error,
            })?;
            self.tasks.insert(id, again);
        }
        let restoring = |tp: &TopicPartition| {
            self.tasks.values().any(|task| task.state == TaskStateName::Restoring && task.reads(tp))
        };
        let (hold, resume): (Vec<_>, Vec<_>) = partitions.into_iter().partition(restoring);
        self.clients.consumer.pause(&hold)?;
        self.clients.consumer.resume(&resume)
    }
}
