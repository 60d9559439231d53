//! Reading a client's stores from any thread, as bytes. What [`crate::queries`] and HTTP are made of.

use super::app::App;
use super::exposed::{Exposed, unavailable};
use super::task::TaskId;
use crate::broker::Written;
use crate::error::{Error, Kind, Result};
use crate::partitioner::partition_for_key;
use crate::serdes::Format;
use crate::state::feed::Watch;
use crate::state::query::{self, Found, Level, Query};
use crate::state::{StoreId, StoreSpec, TaskState};
use crate::status::{State, TaskStateName};
use std::sync::Arc;
use std::time::Duration;

pub use super::scan::Scan;

/// How long an answer of a stream thread is waited for.
pub const TIMEOUT: Duration = Duration::from_secs(2);
/// How long a record is waited for before the broker is asked whether there is one: longer than a commit nearly always takes.
const LOOK_AFTER: Duration = Duration::from_millis(300);

/// The stores of one client. Cheap to clone.
#[derive(Clone)]
pub struct Stores(Arc<App>);

/// One store of a client, over all the tasks that it runs. Cheap to clone.
#[derive(Clone)]
pub struct StoreBytes {
    app: Arc<App>,
    spec: StoreSpec,
    /// The sub-topology whose tasks have it; `None`: it is global.
    sub_topology: Option<usize>,
    level: Level,
    timeout: Duration,
    /// The answer is to have this record.
    after: Option<Written>,
}

/// Which instance has a key, and can be asked about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[doc(alias = "KeyQueryMetadata")]
pub enum Owner {
    /// This one.
    Here,
    /// The one at this address (its `application.server`).
    At(String),
    /// Nobody knows at this moment: the partition moves, or its instance has no address.
    Unknown,
}

/// How old an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staleness {
    /// It has everything that was processed up to this time, in milliseconds since the epoch.
    pub as_of_ms: i64,
    /// How many records of the task's inputs had not been processed when that was last looked at; `None` while unknown.
    pub lag: Option<i64>,
}

/// An answer, and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The partition whose task answered; -1: a global store.
    pub partition: i32,
    /// What was found.
    pub found: Found,
    /// When the answering thread had committed last, in milliseconds since the epoch.
    pub committed_ms: i64,
}

impl Stores {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self(app)
    }

    pub(super) fn app(&self) -> &App {
        &self.0
    }

    /// The topology's stores, in the order of their names.
    pub fn specs(&self) -> Vec<StoreSpec> {
        self.0.plan.topology.stores.values().cloned().collect()
    }

    /// The store of this name.
    ///
    /// # Errors
    /// [`Kind::Topology`]: the topology has no such store.
    pub fn store(&self, name: &str) -> Result<StoreBytes> {
        let plan = &self.0.plan;
        let Some(spec) = plan.topology.stores.get(name).cloned() else {
            let names: Vec<&str> = plan.topology.stores.keys().map(String::as_str).collect();
            let hint = match names.is_empty() {
                true => "the topology has no stores at all".into(),
                false => format!("the topology has these: {}", names.join(", ")),
            };
            return Err(Error::new(Kind::Topology, "there is no store of this name").store(name).hint(hint));
        };
        let global = plan.topology.global_stores.contains(name);
        let has_it = plan.sub_topologies.iter().position(|sub| !sub.global && sub.stores.iter().any(|s| s == name));
        let sub_topology = if global { None } else { has_it };
        if !global && sub_topology.is_none() {
            return Err(Error::new(Kind::Topology, "no node of the topology uses this store").store(name));
        }
        Ok(StoreBytes {
            app: self.0.clone(),
            spec,
            sub_topology,
            level: Level::default(),
            timeout: TIMEOUT,
            after: None,
        })
    }
}

impl StoreBytes {
    /// The store as the topology describes it.
    pub fn spec(&self) -> &StoreSpec {
        &self.spec
    }

    /// What its keys and its values are, as far as their serdes say.
    pub fn formats(&self) -> (Format, Format) {
        let formats = self.app.plan.topology.formats.get(&self.spec.name);
        formats.copied().unwrap_or((Format::Bytes, Format::Bytes))
    }

    /// Whether every instance has all of it.
    pub fn is_global(&self) -> bool {
        self.sub_topology.is_none()
    }

    /// The stores that this is one of.
    pub fn stores(&self) -> Stores {
        Stores(self.app.clone())
    }

    /// The topics that its tasks read.
    pub(super) fn inputs(&self) -> Vec<Arc<str>> {
        let inputs = self.app.topics.known().map(|known| known.inputs.clone());
        self.sub_topology.zip(inputs).map(|(sub, inputs)| inputs[sub].clone()).unwrap_or_default()
    }

    /// Sets which writes are seen.
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Sets how long an answer of a stream thread is waited for.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Answers have this record: they wait until a commit has it, as long as a stream thread is waited for. The record's topic
    /// has to be one that the store's tasks read.
    pub fn after(mut self, record: &Written) -> Self {
        self.after = Some(record.clone());
        self
    }

    /// The task of the record that answers are to have has got there.
    fn wait(&self) -> Result {
        let (Some(record), Some(sub_topology)) = (&self.after, self.sub_topology) else { return Ok(()) };
        let (partition, store) = (record.partition.partition, self.spec.name.as_str());
        self.check_partition(partition)?;
        let task = self.app.exposed.get(TaskId { sub_topology, partition }).ok_or_else(|| self.not_here(partition))?;
        let first = self.timeout.min(LOOK_AFTER);
        match task.wait_for(record, store, first) {
            Err(error) if error.kind() == Kind::Unavailable => {
                self.check_written(record)?;
                task.wait_for(record, store, self.timeout - first)
            }
            waited => waited,
        }
    }

    /// A record that is not in the log need not be waited for.
    fn check_written(&self, record: &Written) -> Result {
        let end = self.app.sender()?.log_end(&record.partition)?;
        if record.offset < end {
            return Ok(());
        }
        let what = format!("there is no record {record}: the next one to be written gets offset {end}");
        Err(Error::new(Kind::User, what).store(&self.spec.name).hint("take the place as the producer told it"))
    }

    fn check_partition(&self, partition: i32) -> Result {
        match self.partitions() {
            Some(count) if !(0..count).contains(&partition) => {
                let what = format!("the store has {count} partitions, from 0 on: there is no partition {partition}");
                Err(Error::new(Kind::User, what).store(&self.spec.name))
            }
            _ => Ok(()),
        }
    }

    /// Tells what commits change in the store, in the tasks of this instance: all rows, or that of one key.
    ///
    /// # Errors
    /// [`Kind::State`]: the client has ended.
    pub fn watch(&self, key: Option<&[u8]>) -> Result<Watch> {
        self.check_client()?;
        Ok(self.app.exposed.feed(&self.spec.name).watch(key))
    }

    /// Which instance has this partition.
    ///
    /// # Errors
    /// As [`Stores::instances`]. [`Kind::User`]: there is no such partition.
    pub fn owner_of(&self, partition: i32) -> Result<Owner> {
        self.check_partition(partition)?;
        let here = self.sub_topology.map(|sub_topology| self.app.exposed.get(TaskId { sub_topology, partition }));
        if here.is_none_or(|task| task.is_some()) {
            return Ok(Owner::Here);
        }
        Ok(self.server_of(partition)?.map_or(Owner::Unknown, Owner::At))
    }

    /// How many partitions the store has, on all instances together; `None` before the topics have been looked at.
    pub fn partitions(&self) -> Option<i32> {
        let known = self.app.topics.known()?;
        let partitions = self.app.plan.store_partitions(Some(&self.spec.name), &known.counts);
        Some(partitions).filter(|partitions| *partitions > 0)
    }

    /// The partition in which Java's default partitioner puts a key: right where nobody wrote the inputs otherwise.
    pub fn partition_of(&self, key: &[u8]) -> Option<i32> {
        if self.app.driven.is_some() {
            return None;
        }
        self.partitions().map(|partitions| partition_for_key(key, partitions))
    }

    /// The partitions whose tasks run here.
    pub fn local_partitions(&self) -> Vec<i32> {
        self.tasks().iter().map(|task| task.id.partition).collect()
    }

    fn tasks(&self) -> Vec<Arc<Exposed>> {
        self.sub_topology.map(|sub| self.app.exposed.of(sub)).unwrap_or_default()
    }

    /// Asks the task of this partition.
    ///
    /// # Errors
    /// [`Kind::Unavailable`]: it does not run here, now. [`Kind::Topology`]: the store is of another kind.
    /// [`Kind::State`]: the disk cannot be read.
    pub fn ask(&self, partition: i32, query: &Query) -> Result<Answer> {
        self.check(query)?;
        self.wait()?;
        let Some(sub_topology) = self.sub_topology else { return self.ask_global(query) };
        self.check_partition(partition)?;
        match self.app.exposed.get(TaskId { sub_topology, partition }) {
            Some(task) => self.ask_task(&task, query),
            None => Err(self.not_here(partition)),
        }
    }

    /// Asks about one key: first the task where it should be, then the others that run here, should somebody have written the
    /// inputs with another partitioner.
    ///
    /// # Errors
    /// As [`ask`](Self::ask). [`Kind::Unavailable`] also where no task here has a row of the key, and the one where it should
    /// be is not here.
    pub fn ask_key(&self, key: &[u8], query: &Query) -> Result<Answer> {
        self.check(query)?;
        if self.is_global() {
            return self.ask_global(query);
        }
        self.wait()?;
        let tasks = self.tasks();
        let expected = self.partition_of(key);
        let first = tasks.iter().find(|task| Some(task.id.partition) == expected);
        let mut answer = first.map(|task| self.ask_task(task, query)).transpose()?;
        for task in tasks.iter().filter(|task| Some(task.id.partition) != expected) {
            if answer.as_ref().is_some_and(|answer| !answer.found.is_nothing()) {
                break;
            }
            let other = self.ask_task(task, query)?;
            if answer.is_none() && expected.is_none() || !other.found.is_nothing() {
                answer = Some(other);
            }
        }
        answer.ok_or_else(|| self.not_here(expected.unwrap_or(-1)))
    }

    /// Asks all tasks that run here, in the order of their partitions.
    ///
    /// # Errors
    /// As [`ask`](Self::ask). [`Kind::Unavailable`] also where a task of this client is not running yet.
    pub fn ask_all(&self, query: &Query) -> Result<Vec<Answer>> {
        self.check(query)?;
        if self.is_global() {
            return Ok(vec![self.ask_global(query)?]);
        }
        self.check_complete()?;
        self.wait()?;
        self.tasks().iter().map(|task| self.ask_task(task, query)).collect()
    }

    /// The rows with `from <= key < to` of all tasks that run here, in the order of their keys' bytes; `limit` is how many are
    /// wanted, as far as that is known.
    ///
    /// # Errors
    /// As [`ask_all`](Self::ask_all); so may each row be.
    pub fn scan(&self, from: Option<Vec<u8>>, to: Option<Vec<u8>>, limit: usize) -> Result<Scan> {
        Scan::new(self.clone(), from, to, limit)
    }

    fn ask_task(&self, task: &Exposed, query: &Query) -> Result<Answer> {
        // Before the answer: what is committed meanwhile makes it younger, never older.
        let committed_ms = task.committed_ms();
        let found = task.ask(&self.spec.name, query, self.level, self.timeout)?;
        Ok(Answer { partition: task.id.partition, found, committed_ms })
    }

    /// Global stores are shared, and what their task has read is committed at once.
    fn ask_global(&self, query: &Query) -> Result<Answer> {
        let shared = &self.app.shared;
        let status = shared.status();
        if status.state != State::Running && status.threads.is_empty() {
            return Err(
                unavailable(format!("the global store is not complete yet: {}", status.reason)).store(&self.spec.name)
            );
        }
        let specs = self.app.globals.specs();
        let number = specs.iter().position(|spec| spec.name == self.spec.name).map(StoreId);
        let store = number.ok_or_else(|| Error::new(Kind::Internal, "a global store without rows"))?;
        let mut state = TaskState::of_globals(&self.app.globals, self.app.budget.clone());
        let found = query::ask(&mut state, store, None, None, query).map_err(|e| e.store(&self.spec.name))?;
        Ok(Answer { partition: -1, found, committed_ms: shared.clock.now_ms() })
    }

    /// How old an answer of this partition's task may be.
    pub fn staleness(&self, answer: &Answer) -> Staleness {
        let now_ms = self.app.shared.clock.now_ms();
        let status = self.app.shared.status();
        let id = self.sub_topology.map(|sub| TaskId { sub_topology: sub, partition: answer.partition }.to_string());
        let task = status.threads.iter().flat_map(|thread| &thread.tasks).find(|task| Some(&task.id) == id.as_ref());
        let lag = task.and_then(|task| task.partitions.iter().map(|partition| partition.lag).sum());
        let as_of_ms = if self.level == Level::Latest { now_ms } else { answer.committed_ms };
        Staleness { as_of_ms, lag }
    }

    fn check(&self, query: &Query) -> Result {
        if !query::fits(&self.spec.kind, query) {
            let kind = kind_name(&self.spec);
            return Err(Error::new(Kind::Topology, format!("this is a {kind} store, which cannot be asked so"))
                .store(&self.spec.name)
                .hint("ask key-value stores by key, window and session stores by key and time, versioned ones as of a time"));
        }
        self.check_client()
    }

    fn check_client(&self) -> Result {
        match self.app.shared.state() {
            State::Created | State::Rebalancing | State::Running => Ok(()),
            state => Err(Error::new(Kind::State, format!("the client is no longer running: it is {state:?}"))
                .store(&self.spec.name)
                .hint("ask another instance, or start this one again")),
        }
    }

    /// All tasks with the store that this client was given are running.
    fn check_complete(&self) -> Result {
        let running = self.local_partitions();
        let status = self.app.shared.status();
        for task in status.threads.iter().flat_map(|thread| &thread.tasks) {
            if let Some(partition) = self.partition_of_task(&task.id)
                && !running.contains(&partition)
            {
                return Err(self.not_here(partition));
            }
        }
        match running.is_empty() && status.state != State::Running {
            true => {
                Err(unavailable(format!("the client has no partitions yet: {}", status.reason)).store(&self.spec.name))
            }
            false => Ok(()),
        }
    }

    /// The partition of a task with the store, by its id.
    fn partition_of_task(&self, id: &str) -> Option<i32> {
        let (sub_topology, partition) = id.split_once('_')?;
        (sub_topology.parse().ok() == self.sub_topology).then(|| partition.parse().ok()).flatten()
    }

    /// Why the task of this partition gives no answer.
    fn not_here(&self, partition: i32) -> Error {
        let status = self.app.shared.status();
        let mut tasks = status.threads.iter().flat_map(|thread| &thread.tasks);
        let task = tasks.find(|task| self.partition_of_task(&task.id) == Some(partition));
        let what = match task {
            Some(task) if task.state == TaskStateName::Restoring => {
                let (done, total) = task.restore.iter().fold((0, 0), |(d, t), r| (d + r.restored, t + r.total));
                format!("the store is being restored: {done} of {total} records")
            }
            _ if status.state != State::Running => {
                format!("the client is getting its partitions: {}", status.reason)
            }
            _ => "another instance has this partition, or will have it".into(),
        };
        unavailable(what).store(&self.spec.name).partition(partition)
    }
}

/// What sort of store it is, for people.
pub fn kind_name(spec: &StoreSpec) -> &'static str {
    use crate::state::StoreKind;
    match spec.kind {
        StoreKind::KeyValue { .. } | StoreKind::Subscriptions { .. } => "key-value",
        StoreKind::Window { .. } => "window",
        StoreKind::Session { .. } => "session",
        StoreKind::Versioned { .. } => "versioned",
        StoreKind::Buffer => "buffer",
    }
}
