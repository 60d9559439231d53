//! Work of tasks that goes on after their records have been processed: calls to the outside, requests that are not answered
//! yet. Offsets are held back for it; here is when a commit waits for it, and how long a task that goes does.

use super::queue::Input;
use super::task::Task;
use super::thread::StreamThread;
use super::transaction::Transaction;
use crate::broker::{Outgoing, TopicPartition};
use crate::error::{Error, Kind, Result};
use crate::record::Timestamp;
use crate::status::TaskStateName;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// How long a poll takes at most while something is collected that goes out when it has waited long enough.
const POLL_MAX: Duration = Duration::from_millis(5);
/// How long a thread that drains waits for a sign before it looks at its tasks again.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// How a task commits whose nodes hold offsets back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holding {
    /// Only when nothing is under way: see `Topology::commits_wait_for_holders`.
    pub(super) commits_wait: bool,
    pub(super) exactly_once: bool,
}

impl Task {
    /// What is to be committed of an input: the offset of the first record that is not done, and the partition's time before it.
    pub(super) fn committable(&self, input: &Input) -> (i64, Timestamp) {
        let held = if self.holding.is_some() { self.cx.holds.first_of(&input.partition) } else { None };
        held.unwrap_or_else(|| (input.committable(), input.time_ms))
    }

    /// The record at `offset` of this input is processed now. How much has been produced before it.
    #[inline]
    pub(super) fn begin_held(&mut self, input: usize, offset: i64, time_ms: Timestamp) -> Option<usize> {
        self.holding?;
        self.cx.holds.begin(&self.inputs[input].partition, offset, time_ms);
        Some(self.cx.outbox.len())
    }

    #[inline]
    pub(super) fn note_produced(&mut self, before: Option<usize>) {
        if before.is_some_and(|before| self.cx.outbox.len() > before) {
            self.cx.holds.produced();
        }
    }

    /// Lets nodes with work under way go on with it. Returns how much of it has ended.
    pub(super) fn work(&mut self) -> Result<usize> {
        if self.holding.is_none() || self.cx.holds.open() == 0 {
            return Ok(0);
        }
        let ended = self.hooks.work(&mut self.cx)?;
        self.dirty |= ended > 0;
        Ok(ended)
    }

    /// Whether it has to wait with a commit until nothing is under way.
    fn needs_barrier(&self) -> bool {
        let holds = &self.cx.holds;
        self.holding.is_some_and(|holding| {
            let ahead = holding.exactly_once && holds.is_ahead();
            holds.open() > 0 && (holding.commits_wait || ahead || holds.has_unbound())
        })
    }

    /// Sends on what stores hold back, where that may lead to more work, and says whether a commit has to wait.
    fn raise_barrier(&mut self) -> Result<bool> {
        if self.holding.is_some_and(|holding| holding.commits_wait) && self.dirty {
            self.flush()?;
        }
        self.cx.holds.draining = self.needs_barrier();
        Ok(self.cx.holds.draining)
    }

    /// A step towards the end of everything that is under way. True while there is some.
    fn drain(&mut self, now_ms: i64, send: impl FnMut(Outgoing<'_>) -> Result) -> Result<bool> {
        self.cx.now_ms = now_ms;
        self.cx.holds.draining = true;
        let run = catch_unwind(AssertUnwindSafe(|| {
            self.hooks.flush(&mut self.cx)?;
            self.work()
        }));
        run.unwrap_or_else(|panic| Err(self.panicked(&*panic)))?;
        self.cx.outbox.drain(send)?;
        Ok(self.cx.holds.open() > 0)
    }

    /// Cancels what is under way for these partitions (`None`: all), which this task gives up. Their records come again.
    pub(super) fn abandon(&mut self, partitions: Option<&[TopicPartition]>) {
        if self.holding.is_none() {
            return;
        }
        for i in 0..self.inputs.len() {
            let (offset, time_ms) = self.committable(&self.inputs[i]);
            let input = &mut self.inputs[i];
            if partitions.is_none_or(|partitions| partitions.contains(&input.partition)) {
                input.go_back(offset, time_ms);
            }
        }
        self.hooks.abandon(&mut self.cx, partitions);
        self.cx.holds.draining = false;
    }
}

impl StreamThread {
    /// How long a poll may wait for records. What ends beside the thread ends it.
    pub(super) fn patience(&self) -> Duration {
        let poll = self.app.config.poll;
        if self.tasks.values().any(|task| task.hooks.is_timed()) { poll.min(POLL_MAX) } else { poll }
    }

    /// True while calls of a task are under way.
    pub(crate) fn has_work_under_way(&self) -> bool {
        self.tasks.values().any(|task| task.cx.holds.open() > 0)
    }

    /// Lets the tasks that cannot be committed now take no further record until what they have under way has ended. True
    /// where there are some.
    pub(super) fn raise_barriers(&mut self) -> Result<bool> {
        if self.clients.transaction == Transaction::Committing {
            return Ok(false);
        }
        let running = |task: &&mut Task| task.state == TaskStateName::Running;
        self.tasks.values_mut().filter(running).try_fold(false, |any, task| Ok(task.raise_barrier()? || any))
    }

    /// Commits every task, whatever the clock says.
    ///
    /// # Errors
    /// Besides what a commit can fail with: a task has work under way that it cannot be committed without. The others are
    /// committed, unless that takes a transaction.
    pub(crate) fn commit_all(&mut self) -> Result {
        let wait = self.raise_barriers()?;
        let transactional = self.clients.transaction != Transaction::None;
        if !(wait && transactional) {
            self.commit_ready()?;
        }
        if wait {
            let kind = if transactional { Kind::Aborted } else { Kind::Migrated };
            return Err(Error::new(kind, "calls have not ended in time, and what they belong to cannot be committed"));
        }
        Ok(())
    }

    /// Waits for the work under way of the tasks that leave (under exactly once also of those that are committed with them and
    /// have to wait), as long as they have patience.
    pub(crate) fn drain(&mut self, leaves: impl Fn(&Task) -> bool) -> Result {
        let clock = self.app.shared.clock.clone();
        let began = clock.nanos();
        if !matches!(self.clients.transaction, Transaction::None | Transaction::Open) {
            return Ok(());
        }
        let transactional = self.clients.transaction == Transaction::Open;
        loop {
            let mut waits = false;
            for task in self.tasks.values_mut().filter(|task| task.state == TaskStateName::Running) {
                let patience = task.hooks.patience().as_nanos() as u64;
                let concerned = task.holding.is_some() && (leaves(task) || (transactional && task.needs_barrier()));
                if !concerned || task.cx.holds.open() == 0 && !task.dirty {
                    continue;
                }
                let producer = &mut self.clients.producer;
                let open = task.drain(clock.now_ms(), |record| producer.send(record))?;
                waits |= open && clock.nanos().saturating_sub(began) < patience;
            }
            if !waits {
                return Ok(());
            }
            self.clients.work_ended.wait(LOOK_INTERVAL);
        }
    }

    /// Waits until nothing is under way: a test driver's results depend on nothing but the records.
    pub(crate) fn settle(&mut self) -> Result<bool> {
        let mut any = false;
        while self.has_work_under_way() {
            any = true;
            self.drain(|_| true)?;
            self.tasks.values_mut().for_each(|task| task.cx.holds.draining = false);
        }
        Ok(any)
    }
}
