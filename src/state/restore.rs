//! Restore: changelog records into stores. Does no I/O of its own: whoever reads the changelog hands the records in.

use super::segmented::Segmented;
use super::versioned::Versioned;
use super::{StoreId, StoreKind, StoreSpec, TaskState, subscriptions};
use crate::broker::{BatchRecord, RawRecord, TopicPartition};
use crate::error::Result;
use crate::record::{Headers, Timestamp};

/// After how many bytes of rows a chunk is committed, with its offset: a crash in the middle resumes there.
const CHUNK_BYTES: usize = 4 << 20;

/// One changelog partition to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePartition {
    /// The store that it belongs to.
    pub store: StoreId,
    /// The changelog.
    pub partition: TopicPartition,
    /// The first offset to read.
    pub start: i64,
    /// The first offset not to read.
    pub end: i64,
}

/// How far the restore of one store is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The store.
    pub store: StoreId,
    /// Offsets done.
    pub restored: i64,
    /// Offsets in all.
    pub total: i64,
    /// Offsets per second since the restore began.
    pub rate: f64,
    /// Seconds left at that rate; `None` while the rate is unknown.
    pub eta_s: Option<f64>,
}

/// The restore of one task's stores.
#[derive(Debug)]
pub struct Restore {
    partitions: Vec<Restoring>,
    began_nanos: u64,
    /// How each store's changelog records become rows, by store.
    formats: Vec<RowFormat>,
    row: Vec<u8>,
}

/// How a store's changelog records become rows.
#[derive(Debug)]
struct RowFormat {
    segmented: Option<Segmented>,
    versioned: Option<Versioned>,
    timestamped: bool,
    /// Headers that its rows keep: none are in changelogs.
    headers: Option<Headers>,
}

impl RowFormat {
    fn new((i, spec): (usize, &StoreSpec)) -> Self {
        let store = StoreId(i);
        Self {
            segmented: Segmented::new(store, spec),
            versioned: Versioned::new(store, spec),
            timestamped: spec.kind.is_timestamped(),
            headers: matches!(spec.kind, StoreKind::Subscriptions { headers: true }).then(Headers::default),
        }
    }

    fn put(
        &mut self,
        state: &mut TaskState,
        store: StoreId,
        key: &[u8],
        value: Option<&[u8]>,
        (timestamp_ms, headers): (Timestamp, &Headers),
        row: &mut Vec<u8>,
    ) -> Result {
        if let Some(versioned) = &mut self.versioned {
            return versioned.put(state, key, value, timestamp_ms).map(drop);
        }
        let physical = self.segmented.as_ref().map(|segmented| segmented.physical_of_changelog(key));
        let key = match &physical {
            None => key,
            Some(Some(physical)) => physical,
            // Not a key of this store's: nothing that could be found again.
            Some(None) => return Ok(()),
        };
        match value {
            Some(value) if self.timestamped => {
                subscriptions::encode(value, timestamp_ms, self.headers.as_ref(), row);
                state.put(store, key, Some(row));
            }
            Some(value) => {
                let row = self.segmented.as_ref().map_or(value, |segmented| segmented.stored(value, headers, row));
                state.put(store, key, Some(row));
            }
            None => state.put(store, key, None),
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Restoring {
    plan: RestorePartition,
    position: i64,
    /// Records since a listener was last told.
    untold: i64,
    /// Records since the restore began.
    applied: i64,
}

impl Restore {
    /// A restore of these partitions that begins now; `now_nanos` is a monotonic clock's.
    /// `specs` are those of all stores of the task.
    pub fn new(partitions: Vec<RestorePartition>, specs: &[StoreSpec], now_nanos: u64) -> Self {
        let restoring = |plan: RestorePartition| Restoring { position: plan.start, plan, untold: 0, applied: 0 };
        let formats = specs.iter().enumerate().map(RowFormat::new).collect();
        Self {
            partitions: partitions.into_iter().map(restoring).collect(),
            began_nanos: now_nanos,
            formats,
            row: Vec::new(),
        }
    }

    /// True where `partition` is one of those read.
    pub fn reads(&self, partition: &TopicPartition) -> bool {
        self.partitions.iter().any(|p| p.plan.partition == *partition)
    }

    /// Applies one record. Records outside of the range are passed over: a reused source topic goes on behind its end.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): a chunk cannot be committed.
    pub fn apply(&mut self, state: &mut TaskState, partition: &TopicPartition, record: &RawRecord) -> Result {
        let Some(p) = self.partitions.iter_mut().find(|p| p.plan.partition == *partition) else { return Ok(()) };
        let offset = record.meta.offset;
        if offset < p.position || offset >= p.plan.end {
            p.position = p.position.max(offset.min(p.plan.end));
            return Ok(());
        }
        // A record without a key cannot be a row; the table's source drops it as well.
        if let Some(key) = record.key() {
            let format = &mut self.formats[p.plan.store.0];
            let BatchRecord { timestamp_ms, headers, .. } = &record.meta;
            format.put(state, p.plan.store, key, record.value(), (*timestamp_ms, headers), &mut self.row)?;
        }
        p.position = offset + 1;
        p.untold += 1;
        p.applied += 1;
        if state.uncommitted_bytes() >= CHUNK_BYTES { state.commit(&self.offsets()) } else { Ok(()) }
    }

    /// The log of `partition` has been delivered up to `offset`: what is missing before it was compacted away.
    pub fn reached_end(&mut self, partition: &TopicPartition, offset: i64) {
        for p in self.partitions.iter_mut().filter(|p| p.plan.partition == *partition) {
            p.position = p.position.max(offset.min(p.plan.end));
        }
    }

    /// The log begins behind what the store has: forgets the store's rows and starts at `start`.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the store cannot be wiped.
    pub fn start_over(&mut self, state: &mut TaskState, partition: &TopicPartition, start: i64) -> Result {
        for p in self.partitions.iter_mut().filter(|p| p.plan.partition == *partition) {
            state.wipe(p.plan.store, partition)?;
            p.plan.start = start;
            p.position = start;
        }
        Ok(())
    }

    /// What is read, and how many records of it have been applied since the restore began.
    pub fn partitions(&self) -> impl Iterator<Item = (&RestorePartition, i64)> {
        self.partitions.iter().map(|p| (&p.plan, p.applied))
    }

    /// What has come since the last call: the partition, the offset of the last record, and how many.
    pub fn take_untold(&mut self) -> impl Iterator<Item = (&RestorePartition, i64, i64)> {
        let news = self.partitions.iter_mut().filter(|p| p.untold > 0);
        news.map(|p| (&p.plan, p.position - 1, std::mem::take(&mut p.untold)))
    }

    /// True when every partition has been read to its end.
    pub fn is_done(&self) -> bool {
        self.partitions.iter().all(|p| p.position >= p.plan.end)
    }

    /// How far each store is.
    pub fn progress(&self, now_nanos: u64) -> Vec<Progress> {
        let seconds = now_nanos.saturating_sub(self.began_nanos) as f64 / 1e9;
        let progress = |p: &Restoring| {
            let (restored, total) = (p.position - p.plan.start, p.plan.end - p.plan.start);
            let rate = if seconds > 0.0 { restored as f64 / seconds } else { 0.0 };
            let eta_s = (rate > 0.0).then(|| (total - restored) as f64 / rate);
            Progress { store: p.plan.store, restored, total, rate, eta_s }
        };
        self.partitions.iter().map(progress).collect()
    }

    /// Commits the last chunk; returns the partitions that were read.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): it cannot be committed.
    pub fn finish(self, state: &mut TaskState) -> Result<Vec<TopicPartition>> {
        state.commit(&self.offsets())?;
        Ok(self.partitions.into_iter().map(|p| p.plan.partition).collect())
    }

    fn offsets(&self) -> Vec<(TopicPartition, i64)> {
        self.partitions.iter().map(|p| (p.plan.partition.clone(), p.position)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Batch;
    use crate::config::Config;
    use crate::state::timestamped;
    use crate::state::{Changelog, Engine, MemoryBudget, StoreSpec};
    use std::rc::Rc;
    use std::sync::Arc;

    fn record(offset: i64, key: &str, value: Option<&str>) -> RawRecord {
        let mut batch = Batch::default();
        batch.push(0, offset, 100 + offset, Some(key.as_bytes()), value.map(str::as_bytes), Default::default());
        RawRecord { bytes: Rc::new(batch.bytes), meta: batch.records.remove(0) }
    }

    fn state() -> TaskState {
        let spec = StoreSpec::table("s", Engine::Memory, Changelog::None);
        TaskState::open(None, &[spec], Arc::new(MemoryBudget::new(&Config::new("test")))).expect("opens")
    }

    #[test]
    fn rows_come_back_with_their_timestamps_and_compacted_gaps_count_as_read() {
        let (log, mut state) = (TopicPartition::new("log", 0), state());
        let plan = RestorePartition { store: StoreId(0), partition: log.clone(), start: 2, end: 9 };
        let mut restore = Restore::new(vec![plan], &[StoreSpec::table("s", Engine::Memory, Changelog::None)], 0);
        for r in [record(2, "a", Some("x")), record(5, "b", Some("y")), record(6, "a", None)] {
            restore.apply(&mut state, &log, &r).expect("applies");
        }
        assert!(!restore.is_done());
        assert_eq!(restore.progress(1_000_000_000)[0].eta_s, Some(2.0 / 5.0));
        restore.reached_end(&log, 12);
        assert!(restore.is_done());
        restore.finish(&mut state).expect("commits");
        assert!(state.get(StoreId(0), b"a").expect("reads").is_none());
        let row = state.get(StoreId(0), b"b").expect("reads").expect("a row");
        assert_eq!((timestamped::timestamp_ms(&row), timestamped::value(&row)), (105, &b"y"[..]));
    }

    #[test]
    fn what_follows_the_end_is_left_for_processing() {
        let (log, mut state) = (TopicPartition::new("log", 0), state());
        let plan = RestorePartition { store: StoreId(0), partition: log.clone(), start: 0, end: 1 };
        let mut restore = Restore::new(vec![plan], &[StoreSpec::table("s", Engine::Memory, Changelog::None)], 0);
        restore.apply(&mut state, &log, &record(1, "a", Some("x"))).expect("applies");
        assert!(restore.is_done());
        assert!(state.get(StoreId(0), b"a").expect("reads").is_none());
    }
}
