//! A task: one sub-topology on one partition, with its ports, stores and queues. Knows neither K nor V, nor Kafka.

use super::commit::Changelogs;
use super::drain::Holding;
use super::exposed::Exposure;
use super::pace::{Limits, Pace};
use super::queue::Input;
use super::ready::Ready;
use crate::broker::{Outgoing, RawRecord, TopicPartition};
use crate::error::{Error, Kind, Result};
use crate::operators::punctuation::PunctuationType;
use crate::operators::{Cx, Hooks, RecordContext};
use crate::record::Timestamp;
use crate::state::StoreId;
use crate::state::directory::TaskDirectory;
use crate::state::restore::Restore;
use crate::status::{PartitionStatus, RestoreStatus, StoreStatus, TaskStateName, TaskStatus};
use crate::topology::{NodeId, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Which task: the sub-topology and the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// The sub-topology's number.
    pub sub_topology: usize,
    /// The partition.
    pub partition: i32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.sub_topology, self.partition)
    }
}

/// How many bytes a task's outbox may collect before it is handed to the producer in the middle of a run.
const OUTBOX_BYTES_MAX: usize = 256 << 10;

/// One sub-topology on one partition.
pub(crate) struct Task {
    pub(crate) id: TaskId,
    pub(crate) state: TaskStateName,
    pub(crate) inputs: Vec<Input>,
    pub(crate) sources: Vec<Box<dyn Source>>,
    /// The nodes of its sources, and whether each goes first.
    pub(crate) source_nodes: Vec<(NodeId, bool)>,
    pub(crate) cx: Cx,
    /// `max.task.idle.ms`.
    pub(crate) idle_max_ms: i64,
    /// The inputs that have a record to process.
    ready: Ready,
    /// The inputs that had none when one came, in that order.
    arrived: Vec<usize>,
    /// Something has been processed since the last commit.
    pub(crate) dirty: bool,
    /// Where its stores are logged.
    pub(crate) changelogs: Changelogs,
    /// Up to which offset its state has each of them.
    pub(crate) log_ends: Vec<i64>,
    /// Those that the open transaction has written to: it ends with a marker in each.
    pub(crate) unmarked: BTreeSet<usize>,
    /// The names of its stores, by their ids.
    pub(crate) stores: Vec<String>,
    /// What its nodes do at commits and after a restore.
    pub(crate) hooks: Hooks,
    /// How it commits, where nodes hold offsets back.
    pub(super) holding: Option<Holding>,
    /// The restore that is under way.
    pub(crate) restore: Option<Restore>,
    /// How other threads find its stores, while it runs.
    pub(super) exposure: Option<Exposure>,
    waiting_for: Option<usize>,
    /// Its folder: the last to go, after the stores in it have been closed.
    pub(crate) directory: Option<TaskDirectory>,
}

impl Task {
    pub(crate) fn new(id: TaskId, sources: Vec<Box<dyn Source>>, cx: Cx, idle_max_ms: i64) -> Self {
        let state = TaskStateName::Created;
        Self {
            id,
            state,
            inputs: Vec::new(),
            sources,
            source_nodes: Vec::new(),
            cx,
            idle_max_ms,
            ready: Ready::default(),
            arrived: Vec::new(),
            dirty: false,
            changelogs: Changelogs::default(),
            log_ends: Vec::new(),
            unmarked: BTreeSet::new(),
            stores: Vec::new(),
            hooks: Hooks::default(),
            holding: None,
            restore: None,
            exposure: None,
            waiting_for: None,
            directory: None,
        }
    }

    /// Records that it knows of and has not processed.
    pub(crate) fn lag(&self) -> i64 {
        self.inputs.iter().filter_map(Input::lag).sum()
    }

    /// Takes a record for its input number `input`.
    pub(crate) fn push(&mut self, input: usize, record: RawRecord) {
        if self.inputs[input].push(record) {
            self.arrived.push(input);
        }
    }

    /// Gives up the inputs of these partitions, which have been committed; the others go on.
    pub(crate) fn give_up(&mut self, partitions: &[TopicPartition]) {
        self.abandon(Some(partitions));
        self.inputs.retain(|input| !partitions.contains(&input.partition));
        self.inputs.iter_mut().for_each(Input::put_back);
        // The numbers of the inputs have changed: what waits is chosen, and decoded, anew.
        self.ready = Ready::default();
        self.arrived = (0..self.inputs.len()).filter(|i| !self.inputs[*i].is_empty()).collect();
    }

    /// Processes records as far as `limits` let it, in the order of their timestamps across the inputs, and hands what they
    /// produce to `send`, also that of a record that fails. Returns how many it processed. A panic in user code becomes an
    /// error that names the record.
    pub(crate) fn process(
        &mut self,
        now_ms: i64,
        limits: Limits<'_>,
        mut send: impl FnMut(Outgoing<'_>) -> Result,
    ) -> Result<usize> {
        let run = catch_unwind(AssertUnwindSafe(|| self.run(now_ms, limits, &mut send)));
        let result = run.unwrap_or_else(|panic| Err(self.panicked(&*panic)));
        if result.as_ref().is_err_and(|error| !error.is_retriable()) {
            // The task ends here; that its last words get through is worth an attempt, and no second error.
            let _ = self.cx.outbox.drain(send);
        }
        result
    }

    fn run(&mut self, now_ms: i64, limits: Limits<'_>, send: &mut impl FnMut(Outgoing<'_>) -> Result) -> Result<usize> {
        self.cx.now_ms = now_ms;
        // What the producer had no room for in an earlier turn goes first; as long as it has none, nothing is processed.
        self.cx.outbox.drain(&mut *send)?;
        let ended = self.work()?;
        for input in std::mem::take(&mut self.arrived) {
            self.next_head(input)?;
        }
        let mut count = 0;
        let mut pace = Pace::new(limits);
        while self.cx.holds.has_room() && pace.goes_on(count) {
            let Some(i) = self.choose(now_ms) else { break };
            let before_ms = self.inputs[i].time_ms;
            let Some(head) = self.inputs[i].take() else { break };
            let (offset, timestamp_ms) = (head.raw.meta.offset, head.timestamp_ms);
            self.dirty = true;
            if timestamp_ms >= 0 {
                let input = &self.inputs[i];
                let (source, partition) = (input.source, input.partition.clone());
                self.cx.current = Some(RecordContext { partition, raw: head.raw, timestamp_ms });
                self.cx.stream_time_ms = self.cx.stream_time_ms.max(timestamp_ms);
                let produced = self.begin_held(i, offset, before_ms);
                self.sources[source].process(&mut self.cx, i)?;
                self.note_produced(produced);
                self.cx.counts.processed += 1;
                if self.cx.cache.is_over() {
                    // Tables see to that themselves; what is left is of processors' stores.
                    self.hooks.flush(&mut self.cx)?;
                }
            }
            self.inputs[i].processed(offset);
            self.next_head(i)?;
            count += 1;
            if self.cx.outbox.len_bytes() > OUTBOX_BYTES_MAX {
                self.cx.current = None;
                self.cx.outbox.drain(&mut *send)?;
            }
        }
        self.cx.current = None;
        self.cx.holds.end();
        self.cx.outbox.drain(&mut *send)?;
        Ok(ended + count)
    }

    /// Decodes the next record of this input, where it has one, and lets the input be chosen.
    fn next_head(&mut self, i: usize) -> Result {
        let Self { inputs, sources, cx, .. } = self;
        let produced = cx.outbox.len();
        let source = &mut sources[inputs[i].source];
        let head_ms = inputs[i].next_head(|partition, raw, time_ms| {
            let timestamp_ms = source.decode(cx, i, partition, raw, time_ms)?;
            if timestamp_ms.is_some_and(|ms| ms < 0) {
                let (partition, raw, timestamp_ms) = (partition.clone(), raw.clone(), raw.meta.timestamp_ms);
                cx.current = Some(RecordContext { partition, raw, timestamp_ms });
                cx.drop_record("source", "its timestamp is negative");
            }
            Ok(timestamp_ms)
        })?;
        if cx.outbox.len() > produced {
            cx.holds.produced_ahead();
        }
        if let Some(head_ms) = head_ms {
            self.ready.offer(head_ms, i);
        }
        Ok(())
    }

    /// The input whose record is next: the smallest timestamp, as soon as every input has a record or is known to have
    /// none (then after `max.task.idle.ms`; negative: at once). Source: KIP-695, `PartitionGroup`.
    fn choose(&mut self, now_ms: i64) -> Option<usize> {
        let bootstrapping = self.inputs.iter_mut().position(Input::is_bootstrapping);
        self.waiting_for = bootstrapping;
        if bootstrapping.is_some() {
            let inputs = &self.inputs;
            return self.ready.take_of(|i| inputs[i].bootstrap);
        }
        let everywhere = self.ready.len() == self.inputs.len();
        if self.ready.len() > 0 && self.idle_max_ms >= 0 && !everywhere {
            self.waiting_for =
                self.inputs.iter_mut().position(|input| input.must_be_waited_for(now_ms, self.idle_max_ms));
        }
        if self.waiting_for.is_some() { None } else { self.ready.take() }
    }

    /// Calls the punctuations that are due, and hands what they produce to `send`.
    pub(crate) fn punctuate(&mut self, now_ms: i64, mut send: impl FnMut(Outgoing<'_>) -> Result) -> Result {
        if self.cx.punctuations.is_empty() || self.cx.holds.draining {
            return Ok(());
        }
        self.cx.now_ms = now_ms;
        self.cx.forwarded = false;
        let run = catch_unwind(AssertUnwindSafe(|| {
            let stream_time_ms = self.cx.stream_time_ms;
            if stream_time_ms >= 0 {
                self.hooks.punctuate(&mut self.cx, PunctuationType::StreamTime, stream_time_ms)?;
            }
            self.hooks.punctuate(&mut self.cx, PunctuationType::WallClock, now_ms)
        }));
        // One that only looks leaves nothing to commit: who looks often costs an idle application nothing.
        self.dirty |= self.cx.forwarded || self.cx.state.uncommitted_bytes() > 0;
        run.unwrap_or_else(|panic| Err(self.panicked(&*panic)))?;
        self.cx.outbox.drain(&mut send)
    }

    /// Its partitions are taken back, and may come again at once: it keeps its stores, and forgets what it has fetched.
    pub(crate) fn suspend(&mut self) {
        self.state = TaskStateName::Suspended;
        self.abandon(None);
        self.ready = Ready::default();
        self.arrived.clear();
        self.waiting_for = None;
        self.inputs.iter_mut().for_each(Input::forget_fetched);
    }

    /// Its partitions have come again: it goes on where it was.
    pub(crate) fn resume(&mut self) {
        self.state = if self.restore.is_some() { TaskStateName::Restoring } else { TaskStateName::Running };
    }

    /// Its stores are complete: it runs.
    pub(crate) fn restored(&mut self) -> Result {
        for rows in self.cx.segmented.iter_mut().flatten() {
            rows.restored(&self.cx.state)?;
        }
        for rows in self.cx.versioned.iter_mut().flatten() {
            rows.restored(&mut self.cx.state)?;
        }
        self.hooks.restored(&mut self.cx)?;
        self.state = TaskStateName::Running;
        Ok(())
    }

    /// By store: up to which time its closed windows have been sent on.
    pub(crate) fn closed_ms(&self) -> BTreeMap<String, Timestamp> {
        let closed = self.stores.iter().zip(&self.cx.closed_ms);
        closed.filter_map(|(store, closed_ms)| Some((store.clone(), (*closed_ms)?))).collect()
    }

    /// A commit is near: what nodes hold back goes on, down to the outbox.
    pub(crate) fn flush(&mut self) -> Result {
        match catch_unwind(AssertUnwindSafe(|| self.hooks.flush(&mut self.cx))) {
            Ok(result) => result,
            Err(panic) => Err(self.panicked(&*panic)),
        }
    }

    pub(super) fn panicked(&mut self, panic: &(dyn std::any::Any + Send)) -> Error {
        let text = crate::operators::panic_text(panic);
        let mut error = Error::new(Kind::User, format!("user code panicked in task {}: {text}", self.id))
            .hint("correct the closure, or let it return an error (try_map_values) that errors.processing covers");
        if let Some(c) = self.cx.current.take() {
            error = error.topic(&*c.partition.topic).partition(c.partition.partition).offset(c.raw.meta.offset);
        }
        error
    }

    /// The partitions of its inputs.
    pub(crate) fn partitions(&self) -> Vec<TopicPartition> {
        self.inputs.iter().map(|input| (*input.partition).clone()).collect()
    }

    /// True where `tp` is one of its inputs.
    pub(crate) fn reads(&self, tp: &TopicPartition) -> bool {
        self.position(tp).is_some()
    }

    /// How far the input `tp` has been processed; `None` where it is no input of this task.
    pub(crate) fn position(&self, tp: &TopicPartition) -> Option<i64> {
        self.inputs.iter().find(|input| *input.partition == *tp).map(Input::committable)
    }

    /// What its stores still have to restore; `now_nanos` as the clock that the restore started on.
    fn restore_status(&self, now_nanos: u64) -> Vec<RestoreStatus> {
        let Some(restore) = &self.restore else { return Vec::new() };
        let status = |p: crate::state::restore::Progress| RestoreStatus {
            store: self.stores[p.store.0].clone(),
            restored: p.restored,
            total: p.total,
            rate: p.rate,
            eta_s: p.eta_s,
        };
        restore.progress(now_nanos).into_iter().map(status).collect()
    }

    pub(crate) fn status(&self, now_nanos: u64) -> TaskStatus {
        let partitions = self.inputs.iter().map(|input| PartitionStatus {
            topic: input.partition.topic.to_string(),
            partition: input.partition.partition,
            position: input.position,
            lag: input.lag(),
            buffered: input.len(),
        });
        let waiting_for = self.waiting_for.map_or(String::new(), |i| {
            let input = &self.inputs[i];
            match input.bootstrap_end {
                Some(end) => format!("{} to be read to offset {end}, at {}", input.partition, input.position),
                None => format!("a record of {}", input.partition),
            }
        });
        let (in_flight, waiting) = self.hooks.under_way();
        let state = &self.cx.state;
        let store = |(i, name): (usize, &String)| StoreStatus {
            name: name.clone(),
            entries: state.approximate_entries(StoreId(i)),
        };
        TaskStatus {
            id: self.id.to_string(),
            state: self.state,
            partitions: partitions.collect(),
            restore: self.restore_status(now_nanos),
            stores: self.stores.iter().enumerate().map(store).collect(),
            memory_bytes: state.memory_bytes(),
            in_flight,
            waiting,
            uncommitted_bytes: state.uncommitted_bytes() as u64,
            waiting_for,
        }
    }
}
