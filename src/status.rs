//! What the outside may know: states with Kafka Streams' names, threads, tasks, lag, restore. Written by the owner of each
//! fact, read by HTTP and by callers.

use serde::Serialize;

/// The state of the client. Source: `KafkaStreams.State`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Made, not started.
    Created,
    /// Some thread has no assignment yet, or is restoring.
    Rebalancing,
    /// Every thread is running.
    Running,
    /// Closing.
    PendingShutdown,
    /// Closed in order.
    NotRunning,
    /// Closing because of an error.
    PendingError,
    /// Closed because of an error.
    Error,
}

/// The state of a stream thread. Source: `StreamThread.State`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ThreadState {
    /// Made.
    Created,
    /// Joining the group.
    Starting,
    /// Giving partitions up.
    PartitionsRevoked,
    /// Opening or restoring what it was given.
    PartitionsAssigned,
    /// Processing all its tasks.
    Running,
    /// Closing.
    PendingShutdown,
    /// Ended.
    Dead,
}

/// The state of a task. Source: `Task.State`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TaskStateName {
    /// Stores not opened.
    Created,
    /// Reading its changelogs.
    Restoring,
    /// Processing.
    Running,
    /// Given up, not yet closed.
    Suspended,
    /// Closed.
    Closed,
}

/// A snapshot of everything; what `/health` prints.
#[derive(Debug, Clone, Serialize)]
pub struct StreamsStatus {
    /// The application's id.
    pub application_id: String,
    /// The client's state.
    pub state: State,
    /// Since when, in milliseconds since the epoch.
    pub state_since_ms: i64,
    /// Why it is in that state, for people: the error, or what it waits for.
    pub reason: String,
    /// True once it has been RUNNING.
    pub has_been_running: bool,
    /// The stream threads.
    pub threads: Vec<ThreadStatus>,
    /// The broker's passing trouble, where there is one: since when and what.
    pub broker_trouble: Option<Trouble>,
    /// Totals since start.
    pub totals: Totals,
    /// A thread counts as stalled when it has work and made no progress for longer than this, in milliseconds.
    pub stall_limit_ms: i64,
    /// When this snapshot was taken, in milliseconds since the epoch.
    pub now_ms: i64,
}

/// Since when something is wrong, and what.
#[derive(Debug, Clone, Serialize)]
pub struct Trouble {
    /// Milliseconds since the epoch.
    pub since_ms: i64,
    /// What is wrong.
    pub what: String,
}

/// Counts since start.
#[derive(Debug, Clone, Copy, Default, Serialize, PartialEq, Eq)]
pub struct Totals {
    /// Records processed.
    pub processed: u64,
    /// Records handed to sinks.
    pub produced: u64,
    /// Records dropped.
    pub dropped: u64,
    /// Records dead-lettered.
    pub dead_lettered: u64,
    /// Stream records without a row in the table that they are joined with.
    pub join_misses: u64,
    /// Threads that ended with an error.
    pub failed_threads: u64,
}

/// One stream thread.
#[derive(Debug, Clone, Serialize)]
pub struct ThreadStatus {
    /// Its name: `<client id>-StreamThread-<n>`.
    pub name: String,
    /// Its state.
    pub state: ThreadState,
    /// Its last sign of life (one turn of its loop), in milliseconds since the epoch.
    pub last_turn_ms: i64,
    /// When it last made progress or had nothing to do, in milliseconds since the epoch.
    pub last_progress_ms: i64,
    /// Its tasks.
    pub tasks: Vec<TaskStatus>,
    /// Why it died, where it did.
    pub error: Option<String>,
}

/// One task.
#[derive(Debug, Clone, Serialize)]
pub struct TaskStatus {
    /// `<sub-topology>_<partition>`.
    pub id: String,
    /// Its state.
    pub state: TaskStateName,
    /// Its input partitions.
    pub partitions: Vec<PartitionStatus>,
    /// What is still to be restored, per store.
    pub restore: Vec<RestoreStatus>,
    /// Its stores.
    pub stores: Vec<StoreStatus>,
    /// Memory that its state uses, shared caches not included, in bytes.
    pub memory_bytes: u64,
    /// Changes of its stores that wait for the next commit, in bytes.
    pub uncommitted_bytes: u64,
    /// Calls to the outside that are under way.
    pub in_flight: usize,
    /// Records that wait for such a call, or for the results of those before them.
    pub waiting: usize,
    /// What it waits for, for people; empty where it waits for nothing but records.
    pub waiting_for: String,
}

/// One input partition.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionStatus {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the next record to process.
    pub position: i64,
    /// How many records of it are not processed; `None` while unknown.
    pub lag: Option<i64>,
    /// Records in the task's queue.
    pub buffered: usize,
}

/// One store of a task.
#[derive(Debug, Clone, Serialize)]
pub struct StoreStatus {
    /// Its name.
    pub name: String,
    /// Roughly how many rows it has.
    pub entries: u64,
}

/// The restore of one store.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreStatus {
    /// The store.
    pub store: String,
    /// Records restored since the restore began.
    pub restored: i64,
    /// Records to restore in all.
    pub total: i64,
    /// Restored per second.
    pub rate: f64,
    /// Seconds left at that rate; `None` while unknown.
    pub eta_s: Option<f64>,
}

impl StreamsStatus {
    /// The threads that have work and made no progress for longer than the limit: each with its reason.
    pub fn stalled(&self) -> Vec<String> {
        let late = |since: i64| self.now_ms - since > self.stall_limit_ms;
        self.threads
            .iter()
            .filter(|t| !matches!(t.state, ThreadState::Dead | ThreadState::Created))
            .filter_map(|t| {
                if late(t.last_turn_ms) {
                    Some(format!("{} has not turned for {} ms", t.name, self.now_ms - t.last_turn_ms))
                } else if late(t.last_progress_ms) {
                    Some(format!("{} has lag and made no progress for {} ms", t.name, self.now_ms - t.last_progress_ms))
                } else {
                    None
                }
            })
            .collect()
    }

    /// What `/livez` says: alive, in a state that is not an end, every thread alive and none stalled.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Created | State::Rebalancing | State::Running)
            && self.threads.iter().all(|t| t.state != ThreadState::Dead)
            && self.stalled().is_empty()
    }

    /// What `/readyz` says.
    pub fn is_ready(&self) -> bool {
        self.state == State::Running
    }

    /// What `/startupz` says.
    pub fn is_started(&self) -> bool {
        self.has_been_running
    }
}
