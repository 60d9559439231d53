//! The running tasks' stores, as other threads find them: each task registers itself when it runs, and goes when it closes.
//!
//! What a task's last commit wrote to disk is read by the one who asks. For everything else the question goes into the
//! mailbox of the task's stream thread, which answers between two runs of records.

use super::queue::Input;
use super::task::{Task, TaskId};
use super::thread::StreamThread;
use crate::broker::{TopicPartition, Waker, Written};
use crate::error::{Error, Kind, Result};
use crate::state::feed::{Feed, RowEvent};
use crate::state::query::{self, Found, Level, Query};
use crate::state::{Reader, StoreId, StoreSpec};
use crate::status::TaskStateName;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// How many questions a thread answers in one turn: records are its first work.
const ANSWERS_PER_TURN_MAX: usize = 256;

/// The tasks of one client that can be asked, and who wants to be told of changes, by store.
#[derive(Default)]
pub(crate) struct Registry(RwLock<BTreeMap<TaskId, Arc<Exposed>>>, Mutex<BTreeMap<String, Arc<Feed>>>);

impl Registry {
    /// Who is told what changes in the store of this name.
    pub(super) fn feed(&self, store: &str) -> Arc<Feed> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).entry(store.into()).or_default().clone()
    }

    /// The tasks of a sub-topology, by partition.
    pub(super) fn of(&self, sub_topology: usize) -> Vec<Arc<Exposed>> {
        let tasks = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let ids = TaskId { sub_topology, partition: i32::MIN }..=TaskId { sub_topology, partition: i32::MAX };
        tasks.range(ids).map(|(_, task)| task.clone()).collect()
    }

    pub(super) fn get(&self, id: TaskId) -> Option<Arc<Exposed>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

/// A running task, from outside.
pub(super) struct Exposed {
    pub(super) id: TaskId,
    reader: Reader,
    mailbox: Sender<Question>,
    waker: Waker,
    /// When its thread committed last: what is read as committed has everything that was processed until then.
    committed_ms: AtomicI64,
    reached: Mutex<Reached>,
    moved: Condvar,
}

/// How far a task is, as of its last commit.
#[derive(Default)]
struct Reached {
    /// Per input the offset of the next record.
    positions: Vec<(TopicPartition, i64)>,
    /// The task has been closed.
    closed: bool,
}

impl Reached {
    fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.positions.iter().find(|(known, _)| known == partition).map(|(_, position)| *position)
    }
}

/// A question for a stream thread.
struct Question {
    task: TaskId,
    store: StoreId,
    level: Level,
    query: Query,
    answer: SyncSender<Result<Found>>,
}

impl Exposed {
    /// Answers a query about the store of this name.
    pub(super) fn ask(&self, store: &str, query: &Query, level: Level, timeout: Duration) -> Result<Found> {
        let number = self.reader.specs().iter().position(|spec| spec.name == store).map(StoreId);
        let store_id = number.ok_or_else(|| Error::new(Kind::Internal, "the task has no such store").store(store))?;
        if level == Level::Committed && self.reader.has(store_id) {
            let found = self.reader.ask(store_id, query).map_err(|e| e.store(store))?;
            return found.ok_or_else(|| self.gone(store));
        }
        let (answer, answered) = sync_channel(1);
        let question = Question { task: self.id, store: store_id, level, query: query.clone(), answer };
        self.mailbox.send(question).map_err(|_| self.gone(store))?;
        (self.waker)();
        match answered.recv_timeout(timeout) {
            Ok(found) => found.map_err(|e| e.store(store)),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err(self.gone(store)),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                let what = format!("the stream thread of task {} did not answer within {timeout:?}", self.id);
                Err(unavailable(what).store(store))
            }
        }
    }

    /// Waits until a commit has this record.
    pub(super) fn wait_for(&self, record: &Written, store: &str, timeout: Duration) -> Result {
        let reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = |reached: &Reached| reached.position(&record.partition).is_some_and(|at| at <= record.offset);
        let waited = self.moved.wait_timeout_while(reached, timeout, |reached| !reached.closed && behind(reached));
        let (reached, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match reached.position(&record.partition) {
            _ if reached.closed => Err(self.gone(store)),
            Some(at) if at > record.offset => Ok(()),
            Some(at) => {
                let what = format!("task {} is at {}@{at}, not yet behind {record}", self.id, record.partition);
                Err(unavailable(what).store(store))
            }
            None => Err(Error::new(Kind::Topology, "the store's tasks do not read this topic")
                .store(store)
                .topic(&*record.partition.topic)
                .partition(record.partition.partition)
                .hint("how far a store is, is known of the topics that its own sub-topology reads")),
        }
    }

    /// When its thread committed last.
    pub(super) fn committed_ms(&self) -> i64 {
        self.committed_ms.load(Ordering::Acquire)
    }

    fn gone(&self, store: &str) -> Error {
        unavailable(format!("task {} has just been closed", self.id)).store(store)
    }
}

/// What was asked for is not here now.
pub(super) fn unavailable(what: String) -> Error {
    Error::new(Kind::Unavailable, what).hint("ask again in a moment")
}

/// The registration of a task; ends when it is dropped, with the task.
pub(crate) struct Exposure {
    registry: Arc<Registry>,
    exposed: Arc<Exposed>,
}

impl Exposure {
    /// The task's state is that of a commit at this time, or still is.
    pub(super) fn committed(&self, task: &Task, now_ms: i64) {
        self.exposed.reader.committed(&task.cx.segmented);
        self.exposed.committed_ms.store(now_ms, Ordering::Release);
        let mut reached = self.exposed.reached.lock().unwrap_or_else(PoisonError::into_inner);
        // The inputs are nearly always the same: then nothing is allocated.
        let same = reached.positions.iter().map(|(tp, _)| tp).eq(task.inputs.iter().map(|input| &*input.partition));
        if same {
            reached.positions.iter_mut().zip(&task.inputs).for_each(|((_, at), input)| *at = task.committable(input).0);
        } else {
            let position = |input: &Input| ((*input.partition).clone(), task.committable(input).0);
            reached.positions = task.inputs.iter().map(position).collect();
        }
        drop(reached);
        self.exposed.moved.notify_all();
    }
}

impl Exposure {
    /// Nobody finds the task any more. Who reads its stores still goes on.
    pub(super) fn withdraw(&self) {
        let mut tasks = self.registry.0.write().unwrap_or_else(PoisonError::into_inner);
        if tasks.get(&self.exposed.id).is_some_and(|exposed| Arc::ptr_eq(exposed, &self.exposed)) {
            tasks.remove(&self.exposed.id);
        }
        drop(tasks);
        let mut reached = self.exposed.reached.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut reached.closed, true) {
            return;
        }
        drop(reached);
        self.exposed.moved.notify_all();
        for spec in self.exposed.reader.specs() {
            self.registry.feed(&spec.name).tell_all(&RowEvent::Gone(self.exposed.id.partition));
        }
    }
}

impl Drop for Exposure {
    fn drop(&mut self) {
        self.withdraw();
        self.exposed.reader.close();
    }
}

/// Where the questions for a stream thread arrive.
pub(super) struct Mailbox {
    sender: Sender<Question>,
    questions: Receiver<Question>,
}

impl Default for Mailbox {
    fn default() -> Self {
        let (sender, questions) = channel();
        Self { sender, questions }
    }
}

impl StreamThread {
    /// Lets other threads find the tasks that have begun to run.
    pub(super) fn expose(&mut self) {
        let now_ms = self.app.shared.clock.now_ms();
        for task in self.tasks.values_mut().filter(|t| t.state == TaskStateName::Running && t.exposure.is_none()) {
            let spec = |name: &String| self.app.plan.topology.stores[name].clone();
            let specs: Vec<StoreSpec> = task.stores.iter().map(spec).collect();
            if specs.is_empty() {
                continue;
            }
            let exposed = Arc::new(Exposed {
                id: task.id,
                reader: Reader::new(&task.cx.state, specs),
                mailbox: self.mailbox.sender.clone(),
                waker: self.clients.consumer.waker(),
                committed_ms: AtomicI64::new(now_ms),
                reached: Mutex::default(),
                moved: Condvar::new(),
            });
            let registry = self.app.exposed.clone();
            let feeds: Vec<Arc<Feed>> = task.stores.iter().map(|name| registry.feed(name)).collect();
            registry.0.write().unwrap_or_else(PoisonError::into_inner).insert(task.id, exposed.clone());
            let exposure = Exposure { registry, exposed };
            exposure.committed(task, now_ms);
            task.exposure = Some(exposure);
            for (number, feed) in feeds.into_iter().enumerate() {
                feed.tell_all(&RowEvent::Here(task.id.partition));
                task.cx.state.feed(StoreId(number), feed, task.id.partition);
            }
        }
    }

    /// A commit is done: its writes are what readers see.
    pub(super) fn tell_committed(&self) {
        let now_ms = self.app.shared.clock.now_ms();
        for task in self.tasks.values().filter(|task| !task.dirty) {
            if let Some(exposure) = &task.exposure {
                exposure.committed(task, now_ms);
            }
        }
    }

    /// Answers what has been asked meanwhile. True where there may be more.
    pub(super) fn answer_questions(&mut self) -> bool {
        let mut answered = 0;
        for question in self.mailbox.questions.try_iter().take(ANSWERS_PER_TURN_MAX) {
            answered += 1;
            let Question { task, store, level, query, answer } = question;
            let found = match self.tasks.get_mut(&task).filter(|task| task.state == TaskStateName::Running) {
                Some(task) => task.ask(store, level, &query),
                None => Err(unavailable(format!("task {task} has just been given up"))),
            };
            // Who does not wait any more needs no answer.
            let _ = answer.send(found);
        }
        answered == ANSWERS_PER_TURN_MAX
    }
}

impl Task {
    fn ask(&mut self, store: StoreId, level: Level, query: &Query) -> Result<Found> {
        let cx = &mut self.cx;
        let (timed, versioned) = (cx.segmented[store.0].as_mut(), cx.versioned[store.0].as_ref());
        match level {
            Level::Latest => query::ask(&mut cx.state, store, timed, versioned, query),
            Level::Committed => cx.state.as_committed(|state| query::ask(state, store, timed, versioned, query)),
        }
    }
}
