//! Tasks on their way in and out: their stores are opened and closed beside the stream thread.

use super::app::App;
use super::exposed::Exposure;
use super::task::{Task, TaskId};
use super::task_init::{self, Positions};
use super::thread::StreamThread;
use crate::broker::TopicPartition;
use crate::error::{Error, Kind, Result};
use crate::operators::Cx;
use crate::state::directory::TaskDirectory;
use crate::state::{Engine, StoreSpec, TaskState};
use crate::status::{PartitionStatus, TaskStateName, TaskStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The stores of a task, and its folder where one of them is on disk. Declared in the order in which they are closed.
pub(super) struct Stores {
    pub(super) state: TaskState,
    pub(super) directory: Option<TaskDirectory>,
}

impl Stores {
    /// Opens those of the task `id`.
    fn open(app: &App, id: TaskId) -> Result<Self> {
        let specs: Vec<StoreSpec> = app.plan.specs(id.sub_topology).collect();
        let persistent = specs.iter().any(|spec| spec.engine == Engine::RocksDb);
        let directory = if persistent { Some(app.directory.task_dir(id.sub_topology, id.partition)?) } else { None };
        let dir = directory.as_ref().map(TaskDirectory::path);
        let mut state = TaskState::open(dir, &specs, app.budget.clone())?;
        // Read once here, so that the stream thread does not wait for it.
        state.read_offsets()?;
        state.add_globals(&app.globals);
        Ok(Self { state, directory })
    }
}

/// A task whose stores are being opened.
pub(super) struct Opening {
    /// What it will read.
    inputs: Vec<TopicPartition>,
    /// Where the group is in that.
    positions: Positions,
    /// Its partitions have been taken back, and may come again at once.
    suspended: bool,
    order: Arc<Order>,
}

/// An order to open stores, and what came of it.
#[derive(Default)]
struct Order {
    cancelled: AtomicBool,
    opened: Mutex<Option<Result<Stores>>>,
}

impl Order {
    /// What came of it; `None` where it is not done yet.
    fn take(self: &Arc<Self>) -> Option<Result<Stores>> {
        // Asked first: whoever does it has let go of it when it is done.
        let is_left = Arc::strong_count(self) == 1;
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        let lost = || Err(Error::new(Kind::Internal, "stores were not opened: the thread that does it has panicked"));
        opened.or_else(|| is_left.then(lost))
    }
}

impl Opening {
    pub(super) fn reads(&self, tp: &TopicPartition) -> bool {
        !self.suspended && self.inputs.contains(tp)
    }

    fn status(&self, id: TaskId) -> TaskStatus {
        let partition = |tp: &TopicPartition| PartitionStatus {
            topic: tp.topic.to_string(),
            partition: tp.partition,
            position: self.positions.get(tp).and_then(Option::as_ref).map_or(0, |(offset, _)| *offset),
            lag: None,
            buffered: 0,
        };
        TaskStatus {
            id: id.to_string(),
            state: if self.suspended { TaskStateName::Suspended } else { TaskStateName::Created },
            partitions: self.inputs.iter().map(partition).collect(),
            restore: Vec::new(),
            stores: Vec::new(),
            memory_bytes: 0,
            uncommitted_bytes: 0,
            in_flight: 0,
            waiting: 0,
            waiting_for: "its stores to be opened".into(),
        }
    }
}

impl StreamThread {
    /// Begins to open a task; goes on with it where it is being opened already.
    pub(super) fn begin_to_open(&mut self, id: TaskId, inputs: Vec<TopicPartition>, positions: &Positions) {
        let known = inputs.iter().filter_map(|tp| Some((tp.clone(), positions.get(tp)?.clone())));
        let known: Positions = known.collect();
        match self.opening.get_mut(&id) {
            Some(opening) => {
                opening.positions.extend(known);
                (opening.inputs, opening.suspended) = (inputs, false);
            }
            None => {
                let order = self.order_stores(id);
                self.opening.insert(id, Opening { inputs, positions: known, suspended: false, order });
            }
        }
    }

    fn order_stores(&mut self, id: TaskId) -> Arc<Order> {
        let order = Arc::<Order>::default();
        let (app, waker, taken) = (self.app.clone(), self.clients.consumer.waker(), order.clone());
        self.keeper.run(move || {
            if taken.cancelled.load(Ordering::Acquire) {
                return;
            }
            let opened = Stores::open(&app, id);
            // What another thread has is asked for again with the next turn, not at once.
            let wakes = !opened.as_ref().is_err_and(|error| error.kind() == Kind::Busy);
            *taken.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
            drop(taken);
            if wakes {
                waker();
            }
        });
        order
    }

    /// Takes the order back. What has been opened is closed.
    fn cancel(&mut self, id: TaskId) {
        if let Some(Opening { order, .. }) = self.opening.remove(&id) {
            order.cancelled.store(true, Ordering::Release);
            self.keeper.run(move || drop(order));
        }
    }

    /// Lets the tasks begin whose stores have been opened.
    pub(super) fn take_up_opened(&mut self) -> Result {
        self.keeper.turn();
        if self.opening.is_empty() {
            return Ok(());
        }
        let ids: Vec<TaskId> = self.opening.keys().copied().collect();
        for id in ids {
            let Some(opening) = self.opening.get_mut(&id).filter(|opening| !opening.suspended) else { continue };
            let Some(opened) = opening.order.take() else { continue };
            let (inputs, positions) = (&opening.inputs, &opening.positions);
            let clients = &mut self.clients;
            let made = opened
                .and_then(|stores| task_init::open(&self.app, clients, &self.cache, id, inputs, positions, stores));
            match made {
                Ok(task) => {
                    self.opening.remove(&id);
                    let go_on = (task.state == TaskStateName::Running).then(|| task.partitions());
                    self.tasks.insert(id, task);
                    self.clients.consumer.resume(&go_on.unwrap_or_default())?;
                }
                // Another thread has not let go of them yet, they are damaged and will be set aside, or the broker gave no
                // answer: once more.
                Err(error) => {
                    let order = self.order_stores(id);
                    if let Some(opening) = self.opening.get_mut(&id) {
                        opening.order = order;
                    }
                    match error.kind() {
                        Kind::Busy => {}
                        Kind::Corrupt => tracing::warn!("task {id} is opened again: {error}"),
                        _ => return Err(error),
                    }
                }
            }
        }
        self.running_if_all_are();
        Ok(())
    }

    /// These partitions have been taken back, and may come again at once: stores that are being opened are kept.
    pub(super) fn suspend_opening(&mut self, partitions: &[TopicPartition]) {
        for opening in self.opening.values_mut() {
            opening.suspended |= opening.inputs.iter().any(|tp| partitions.contains(tp));
        }
    }

    /// These partitions are no longer this thread's.
    pub(super) fn give_up_opening(&mut self, partitions: &[TopicPartition]) {
        let patterns = self.app.plan.has_patterns();
        self.cancel_where(|_, opening| {
            let count = opening.inputs.len();
            opening.inputs.retain(|tp| !partitions.contains(tp));
            // Of a task that reads topics by a pattern one topic may go and the others stay.
            let stays = patterns && !opening.inputs.is_empty();
            opening.inputs.len() < count && !stays
        });
    }

    /// Those that are suspended have not come again, but for those that are `wanted`.
    pub(super) fn give_up_suspended_opening(&mut self, wanted: impl Fn(&TaskId) -> bool) {
        self.cancel_where(|id, opening| opening.suspended && !wanted(id));
    }

    pub(super) fn give_up_all_opening(&mut self) {
        self.cancel_where(|_, _| true);
    }

    fn cancel_where(&mut self, mut which: impl FnMut(&TaskId, &mut Opening) -> bool) {
        let gone = self.opening.iter_mut().filter_map(|(id, opening)| which(id, opening).then_some(*id));
        let gone: Vec<TaskId> = gone.collect();
        gone.into_iter().for_each(|id| self.cancel(id));
    }

    /// Closes a task's stores.
    pub(super) fn close_stores(&mut self, task: Task) {
        let Task { cx, directory, exposure, .. } = task;
        let Cx { state, .. } = cx;
        // From here on nobody finds them; who reads them still is waited for beside.
        exposure.iter().for_each(Exposure::withdraw);
        let stores = Stores { state, directory };
        self.keeper.run(move || drop((exposure, stores)));
    }

    /// What the outside is told of the tasks.
    pub(super) fn task_status(&self) -> Vec<TaskStatus> {
        let now = self.app.shared.clock.nanos();
        let opening = self.opening.iter().map(|(id, opening)| opening.status(*id));
        self.tasks.values().map(|task| task.status(now)).chain(opening).collect()
    }
}
