//! Metrics for Prometheus: Kafka Streams' measures under Prometheus' naming habits. `docs/metrics.md` lists them.
//!
//! Counters and histograms are pushed by the stream threads, once per turn of their loop. Gauges are not kept at all: each
//! scrape makes them from the status snapshot, so that nothing stays behind of a partition or task that has gone.

mod process;
mod snapshot;

use crate::operators::cx::{CallFigures, Counts};
use crate::status::StreamsStatus;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
};
use std::sync::{Arc, OnceLock};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// From a tenth of a millisecond, a turn that finds its records in memory, to ten seconds, a broker in trouble.
const BUCKETS_S: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What one turn of a stream thread's loop did; zero where it did not.
#[derive(Debug, Clone, Copy, Default)]
pub struct TurnFigures {
    /// Records that the poll brought.
    pub consumed: u64,
    /// Their bytes, keys and values.
    pub consumed_bytes: u64,
    /// How long the poll took, waiting included.
    pub poll_nanos: u64,
    /// How long processing and restoring took.
    pub process_nanos: u64,
    /// How long the commit took, where there was one.
    pub commit_nanos: Option<u64>,
    /// Changelog records restored.
    pub restored: u64,
    /// What became of the records.
    pub counts: Counts,
}

/// Memory that the stores of all tasks share.
#[derive(Debug, Clone, Copy, Default)]
pub struct SharedMemory {
    /// Bytes in RocksDB's block cache.
    pub block_cache_bytes: u64,
    /// Bytes in all memtables.
    pub memtable_bytes: u64,
}

/// The metrics of one client.
///
/// ```
/// use watersmeet::metrics::{Metrics, TurnFigures};
/// let metrics = Metrics::new("my-app");
/// let thread = metrics.thread(1);
/// thread.turn(&TurnFigures { consumed: 10, poll_nanos: 1_000_000, ..TurnFigures::default() });
/// ```
pub struct Metrics {
    registry: Registry,
    application_id: String,
    shared_memory: OnceLock<Box<dyn Fn() -> SharedMemory + Send + Sync>>,
    consumed: IntCounterVec,
    consumed_bytes: IntCounterVec,
    processed: IntCounterVec,
    produced: IntCounterVec,
    dropped: IntCounterVec,
    dead_lettered: IntCounterVec,
    join_misses: IntCounterVec,
    restored: IntCounterVec,
    poll: HistogramVec,
    process: HistogramVec,
    commit: HistogramVec,
    calls: HistogramVec,
    calls_retried: IntCounterVec,
    calls_failed: IntCounterVec,
}

impl Metrics {
    /// The metrics of a client of this application, all at zero.
    pub fn new(application_id: &str) -> Arc<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &["thread"]).expect("the name is a valid constant");
            registry.register(Box::new(counter.clone())).expect("each name is registered once");
            counter
        };
        let seconds = |name: &str, help: &str| {
            let opts = HistogramOpts::new(name, help).buckets(BUCKETS_S.to_vec());
            let histogram = HistogramVec::new(opts, &["thread"]).expect("the name is a valid constant");
            registry.register(Box::new(histogram.clone())).expect("each name is registered once");
            histogram
        };
        Arc::new(Self {
            application_id: application_id.to_owned(),
            shared_memory: OnceLock::new(),
            consumed: counter("watersmeet_records_consumed_total", "Records that came from the broker."),
            consumed_bytes: counter("watersmeet_bytes_consumed_total", "Bytes of their keys and values."),
            processed: counter("watersmeet_records_processed_total", "Records processed by tasks."),
            produced: counter("watersmeet_records_produced_total", "Records handed to sinks."),
            dropped: counter("watersmeet_records_dropped_total", "Records skipped, each with a warning in the log."),
            dead_lettered: counter("watersmeet_records_dead_lettered_total", "Records sent to the dead-letter topic."),
            join_misses: counter("watersmeet_join_misses_total", "Stream records that found no row in their table."),
            restored: counter("watersmeet_restored_records_total", "Changelog records read back into stores."),
            poll: seconds("watersmeet_poll_seconds", "Time of one poll, waiting included."),
            process: seconds("watersmeet_process_seconds", "Time that one turn spent on its records."),
            commit: seconds("watersmeet_commit_seconds", "Time of one commit: flush, state, offsets."),
            calls: seconds("watersmeet_call_seconds", "Time of one call to the outside, with its repetitions."),
            calls_retried: counter("watersmeet_calls_retried_total", "Calls that were made again after a failure."),
            calls_failed: counter("watersmeet_calls_failed_total", "Calls that failed for good."),
            registry,
        })
    }

    /// The handle for the stream thread with this number, which replaces the one of an earlier thread of that number.
    pub fn thread(&self, number: usize) -> ThreadMetrics {
        let number = number.to_string();
        let label = [number.as_str()];
        ThreadMetrics {
            consumed: self.consumed.with_label_values(&label),
            consumed_bytes: self.consumed_bytes.with_label_values(&label),
            processed: self.processed.with_label_values(&label),
            produced: self.produced.with_label_values(&label),
            dropped: self.dropped.with_label_values(&label),
            dead_lettered: self.dead_lettered.with_label_values(&label),
            join_misses: self.join_misses.with_label_values(&label),
            restored: self.restored.with_label_values(&label),
            poll: self.poll.with_label_values(&label),
            process: self.process.with_label_values(&label),
            commit: self.commit.with_label_values(&label),
            calls: self.calls.with_label_values(&label),
            calls_retried: self.calls_retried.with_label_values(&label),
            calls_failed: self.calls_failed.with_label_values(&label),
        }
    }

    /// Asks `memory` at each scrape from now on. Only the first call counts.
    pub fn watch_shared_memory(&self, memory: impl Fn() -> SharedMemory + Send + Sync + 'static) {
        // A second source would only say the same again.
        let _ = self.shared_memory.set(Box::new(memory));
    }

    /// Everything in Prometheus' text format, the gauges as `status` has them.
    pub fn text(&self, status: &StreamsStatus) -> String {
        let shared = self.shared_memory.get().map(|memory| memory());
        let mut families = self.registry.gather();
        families.extend(snapshot::families(&self.application_id, status, shared));
        families.extend(process::families());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        match TextEncoder::new().encode(&families, &mut text) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            // Only a family without a name or without series is refused, and none is made here.
            Err(error) => format!("# the metrics cannot be written: {error}\n"),
        }
    }
}

/// The counters and histograms of one stream thread. Cheap, and meant to be called once per turn, never per record.
#[derive(Clone)]
pub struct ThreadMetrics {
    consumed: IntCounter,
    consumed_bytes: IntCounter,
    processed: IntCounter,
    produced: IntCounter,
    dropped: IntCounter,
    dead_lettered: IntCounter,
    join_misses: IntCounter,
    restored: IntCounter,
    poll: Histogram,
    process: Histogram,
    commit: Histogram,
    calls: Histogram,
    calls_retried: IntCounter,
    calls_failed: IntCounter,
}

impl ThreadMetrics {
    /// Adds what one turn did.
    pub fn turn(&self, turn: &TurnFigures) {
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        self.poll.observe(seconds(turn.poll_nanos));
        if turn.counts.processed > 0 || turn.restored > 0 {
            self.process.observe(seconds(turn.process_nanos));
        }
        if let Some(nanos) = turn.commit_nanos {
            self.commit.observe(seconds(nanos));
        }
        self.consumed.inc_by(turn.consumed);
        self.consumed_bytes.inc_by(turn.consumed_bytes);
        self.restored.inc_by(turn.restored);
        self.processed.inc_by(turn.counts.processed);
        self.produced.inc_by(turn.counts.produced);
        self.dropped.inc_by(turn.counts.dropped);
        self.dead_lettered.inc_by(turn.counts.dead_lettered);
        self.join_misses.inc_by(turn.counts.join_misses);
    }

    /// Adds what has become of calls to the outside.
    pub fn calls(&self, calls: &CallFigures) {
        calls.nanos.iter().for_each(|nanos| self.calls.observe(*nanos as f64 / 1e9));
        self.calls_retried.inc_by(calls.retried);
        self.calls_failed.inc_by(calls.failed);
    }
}

#[cfg(test)]
mod tests;
