//! The gauges, made anew from a status snapshot at each scrape.

use super::SharedMemory;
use crate::status::StreamsStatus;
use crate::status::{State, TaskStateName, ThreadState};
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, GaugeVec, Opts, Registry};
use std::collections::BTreeMap;

const STATES: [(State, &str); 7] = [
    (State::Created, "CREATED"),
    (State::Rebalancing, "REBALANCING"),
    (State::Running, "RUNNING"),
    (State::PendingShutdown, "PENDING_SHUTDOWN"),
    (State::NotRunning, "NOT_RUNNING"),
    (State::PendingError, "PENDING_ERROR"),
    (State::Error, "ERROR"),
];

const THREAD_STATES: [(ThreadState, &str); 7] = [
    (ThreadState::Created, "CREATED"),
    (ThreadState::Starting, "STARTING"),
    (ThreadState::PartitionsRevoked, "PARTITIONS_REVOKED"),
    (ThreadState::PartitionsAssigned, "PARTITIONS_ASSIGNED"),
    (ThreadState::Running, "RUNNING"),
    (ThreadState::PendingShutdown, "PENDING_SHUTDOWN"),
    (ThreadState::Dead, "DEAD"),
];

const TASK_STATES: [(TaskStateName, &str); 5] = [
    (TaskStateName::Created, "CREATED"),
    (TaskStateName::Restoring, "RESTORING"),
    (TaskStateName::Running, "RUNNING"),
    (TaskStateName::Suspended, "SUSPENDED"),
    (TaskStateName::Closed, "CLOSED"),
];

/// The gauges of this client.
pub(super) fn families(
    application_id: &str,
    status: &StreamsStatus,
    shared: Option<SharedMemory>,
) -> Vec<MetricFamily> {
    let out = Families::new();
    client(&out, application_id, status);
    threads(&out, status);
    tasks(&out, status);
    stores(&out, status);
    if let Some(shared) = shared {
        memory(&out, &shared);
    }
    out.gather()
}

fn client(out: &Families, application_id: &str, status: &StreamsStatus) {
    let info = [(vec![application_id.to_owned(), env!("CARGO_PKG_VERSION").to_owned()], 1.0)];
    out.gauge("watersmeet_build_info", "Always 1: application and version.", &["application_id", "version"], info);
    let states = STATES.map(|(state, name)| (vec![name.to_owned()], flag(status.state == state)));
    out.gauge("watersmeet_state", "1 for the client's state, 0 for the others.", &["state"], states);
    let ordinal = position(&STATES, status.state);
    out.one("watersmeet_client_state", "The client's state as Kafka Streams numbers it, 2 is RUNNING.", ordinal);
    let since_s = status.state_since_ms as f64 / 1e3;
    out.one("watersmeet_state_since_seconds", "Since when it is in that state, in seconds since the epoch.", since_s);
    out.one("watersmeet_live", "1 where /livez says 200.", flag(status.is_live()));
    out.one("watersmeet_ready", "1 where /readyz says 200.", flag(status.is_ready()));
    let trouble = flag(status.broker_trouble.is_some());
    out.one("watersmeet_broker_trouble", "1 while the broker does not answer as it should.", trouble);
}

fn threads(out: &Families, status: &StreamsStatus) {
    let count = |state| status.threads.iter().filter(|t| t.state == state).count() as f64;
    let counts = THREAD_STATES.map(|(state, name)| (vec![name.to_owned()], count(state)));
    out.gauge("watersmeet_threads", "Stream threads by state.", &["state"], counts);
    let alive = status.threads.iter().filter(|t| t.state != ThreadState::Dead).count() as f64;
    out.one("watersmeet_threads_alive", "Stream threads that are alive.", alive);
    out.one(
        "watersmeet_threads_stalled",
        "Stream threads without progress for too long.",
        status.stalled().len() as f64,
    );
    let rows = status.threads.iter().map(|t| (vec![number(&t.name)], position(&THREAD_STATES, t.state)));
    let help = "A stream thread's state as Kafka Streams numbers it, 4 is RUNNING.";
    out.gauge("watersmeet_thread_state", help, &["thread"], rows);
    let failed = status.totals.failed_threads as f64;
    out.counter("watersmeet_threads_failed_total", "Stream threads that ended with an error.", failed);
}

fn tasks(out: &Families, status: &StreamsStatus) {
    let tasks = || status.threads.iter().flat_map(|t| &t.tasks);
    let count = |state| tasks().filter(|t| t.state == state).count() as f64;
    let counts = TASK_STATES.map(|(state, name)| (vec![name.to_owned()], count(state)));
    out.gauge("watersmeet_tasks", "Tasks by state.", &["state"], counts);

    // Two sub-topologies may read one partition: the lag is that of the slower, what is buffered is the sum.
    let (mut lag, mut buffered) = (BTreeMap::new(), BTreeMap::new());
    for p in tasks().flat_map(|t| &t.partitions) {
        let label = || vec![p.topic.clone(), p.partition.to_string()];
        if let Some(n) = p.lag {
            let slot = lag.entry(label()).or_insert(0.0_f64);
            *slot = slot.max(n as f64);
        }
        *buffered.entry(label()).or_insert(0.0_f64) += p.buffered as f64;
    }
    let labels = ["topic", "partition"];
    out.gauge("watersmeet_lag", "Records of the partition that are not processed yet.", &labels, lag);
    out.gauge("watersmeet_buffered_records", "Records fetched and waiting in a task's queue.", &labels, buffered);

    // Where nothing makes calls there is nothing to show.
    let calling = || tasks().filter(|t| t.in_flight + t.waiting > 0);
    let in_flight = calling().map(|t| (vec![t.id.clone()], t.in_flight as f64));
    out.gauge("watersmeet_calls_in_flight", "Calls to the outside that are under way.", &["task"], in_flight);
    let waiting = calling().map(|t| (vec![t.id.clone()], t.waiting as f64));
    out.gauge(
        "watersmeet_calls_waiting",
        "Records that wait for a call, or for results before theirs.",
        &["task"],
        waiting,
    );

    let restore = || tasks().flat_map(|t| t.restore.iter().map(move |r| (vec![t.id.clone(), r.store.clone()], r)));
    let remaining = restore().map(|(label, r)| (label, (r.total - r.restored).max(0) as f64));
    let labels = ["task", "store"];
    out.gauge("watersmeet_restore_remaining_records", "Changelog records still to be read back.", &labels, remaining);
    let rate = restore().map(|(label, r)| (label, r.rate));
    out.gauge("watersmeet_restore_rate", "Changelog records read back per second.", &labels, rate);
    let eta = restore().filter_map(|(label, r)| Some((label, r.eta_s?)));
    out.gauge("watersmeet_restore_eta_seconds", "Seconds until the store is complete, at that rate.", &labels, eta);
}

/// State: per store how many rows, per task how many bytes.
fn stores(out: &Families, status: &StreamsStatus) {
    let tasks = || status.threads.iter().flat_map(|t| &t.tasks);
    let entries = tasks().flat_map(|t| t.stores.iter().map(|s| (vec![t.id.clone(), s.name.clone()], s.entries as f64)));
    out.gauge("watersmeet_store_entries", "Rows of the store, roughly.", &["task", "store"], entries);
    let memory = tasks().map(|t| (vec![t.id.clone()], t.memory_bytes as f64));
    let help = "Memory of the task's state, shared caches not included.";
    out.gauge("watersmeet_state_memory_bytes", help, &["task"], memory);
    let uncommitted = tasks().map(|t| (vec![t.id.clone()], t.uncommitted_bytes as f64));
    let help = "Changes of the task's stores that wait for the next commit.";
    out.gauge("watersmeet_uncommitted_bytes", help, &["task"], uncommitted);
}

/// What all stores share.
fn memory(out: &Families, memory: &SharedMemory) {
    let cache = memory.block_cache_bytes as f64;
    out.one("watersmeet_rocksdb_block_cache_bytes", "Memory of the block cache that all stores share.", cache);
    let memtables = memory.memtable_bytes as f64;
    out.one("watersmeet_rocksdb_memtable_bytes", "Memory of all memtables.", memtables);
}

fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

fn position<T: PartialEq + Copy>(names: &[(T, &str)], state: T) -> f64 {
    names.iter().position(|(s, _)| *s == state).map_or(-1.0, |i| i as f64)
}

/// The number at the end of a thread's name, as the counters are labelled.
fn number(thread: &str) -> String {
    thread.rsplit('-').next().unwrap_or(thread).to_owned()
}

/// Metric families in the making. The registry lives for one scrape; it sorts the series and leaves out empty families,
/// which the text format does not know.
pub(super) struct Families(Registry);

impl Families {
    pub(super) fn new() -> Self {
        Self(Registry::new())
    }

    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.0.gather()
    }

    /// A gauge with one series per row of label values.
    pub(super) fn gauge(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        rows: impl IntoIterator<Item = (Vec<String>, f64)>,
    ) {
        let gauge = GaugeVec::new(Opts::new(name, help), labels).expect("the name is a valid constant");
        for (values, value) in rows {
            gauge.with_label_values(&values).set(value);
        }
        self.add(gauge);
    }

    /// A gauge without labels.
    pub(super) fn one(&self, name: &str, help: &str, value: f64) {
        self.gauge(name, help, &[], [(Vec::new(), value)]);
    }

    /// A counter without labels that is kept elsewhere.
    pub(super) fn counter(&self, name: &str, help: &str, value: f64) {
        let counter = Counter::new(name, help).expect("the name is a valid constant");
        counter.inc_by(value);
        self.add(counter);
    }

    fn add(&self, collector: impl Collector + 'static) {
        self.0.register(Box::new(collector)).expect("each name is registered once");
    }
}
