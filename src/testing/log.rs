//! Topics and the logs of their partitions.

use crate::broker::Isolation;
use crate::error::{Error, Kind, Result};
use crate::record::{Headers, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What the batch and record headers of Kafka's format add to a single small record, roughly.
const OVERHEAD_BYTES: usize = 70;
/// Kafka's default of `max.message.bytes`.
const MAX_MESSAGE_BYTES: usize = 1_048_588;

/// A record as it lies in a topic of a [`MemoryBroker`](super::MemoryBroker).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
    /// The timestamp.
    pub timestamp_ms: Timestamp,
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is null.
    pub value: Option<Vec<u8>>,
    /// The headers.
    pub headers: Headers,
    /// The client left the timestamp to the broker's clock.
    pub(super) untimed: bool,
    /// A client has written it, and not the test.
    pub(super) by_client: bool,
    /// Its place among all records of the broker, by which partitions can be brought into the order of writing.
    pub(super) sequence: u64,
    /// The number of the transaction that it belongs to.
    pub(super) transaction: Option<u64>,
}

/// A topic: settings and partitions.
#[derive(Debug, Default)]
pub(super) struct Topic {
    pub(super) partitions: Vec<Log>,
    pub(super) config: Vec<(String, String)>,
}

/// One partition. Offsets may have gaps: deleted records, compaction, transaction markers.
#[derive(Debug, Default)]
pub(super) struct Log {
    start: i64,
    end: i64,
    records: Vec<StoredRecord>,
    /// Transactions that have written here and have not ended, with the offset of their first record.
    open: BTreeMap<u64, i64>,
    aborted: BTreeSet<u64>,
}

impl Topic {
    pub(super) fn new(partitions: i32, config: &[(String, String)]) -> Self {
        Self { partitions: (0..partitions).map(|_| Log::default()).collect(), config: config.to_vec() }
    }

    pub(super) fn setting(&self, key: &str) -> Option<&str> {
        self.config.iter().rfind(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// What a broker checks before it appends.
    pub(super) fn check(&self, name: &str, record: &StoredRecord) -> Result {
        let max = self.setting("max.message.bytes").and_then(|text| text.parse().ok()).unwrap_or(MAX_MESSAGE_BYTES);
        let refused = |what: String| Error::new(Kind::Record, what).topic(name).partition(record.partition);
        if record.bytes() > max {
            let what = format!("the record has {} bytes, and the topic takes {max}", record.bytes());
            return Err(refused(what).hint("raise the topic's max.message.bytes, or let errors.production skip it"));
        }
        if record.key.is_none() && self.setting("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
            return Err(refused("a compacted topic takes no record without a key".into()));
        }
        Ok(())
    }
}

impl StoredRecord {
    /// Its place among all records of the broker, by which topics can be brought into the order of writing.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    fn bytes(&self) -> usize {
        let len = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|h| h.name.len() + len(&h.value)).sum();
        len(&self.key) + len(&self.value) + headers + OVERHEAD_BYTES
    }
}

impl Log {
    /// Appends a record, which gets its offset here.
    pub(super) fn append(&mut self, mut record: StoredRecord) -> i64 {
        let offset = self.end;
        record.offset = offset;
        if let Some(transaction) = record.transaction {
            self.open.entry(transaction).or_insert(offset);
        }
        self.records.push(record);
        self.end += 1;
        offset
    }

    pub(super) fn bounds(&self) -> Range<i64> {
        self.start..self.end
    }

    pub(super) fn records(&self) -> &[StoredRecord] {
        &self.records
    }

    /// The records from `offset` on.
    pub(super) fn from(&self, offset: i64) -> &[StoredRecord] {
        &self.records[self.records.partition_point(|record| record.offset < offset)..]
    }

    /// The end of what readers of committed records get to see: the first record of an open transaction, or the log's end.
    pub(super) fn stable_end(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.end)
    }

    /// The bounds of what a reader gets to see.
    pub(super) fn visible_bounds(&self, isolation: Isolation) -> Range<i64> {
        match isolation {
            Isolation::AsConfigured => self.bounds(),
            Isolation::ReadCommitted => self.start..self.stable_end(),
        }
    }

    /// The records from `offset` on that a reader gets to see.
    pub(super) fn visible(&self, offset: i64, isolation: Isolation) -> impl Iterator<Item = &StoredRecord> {
        let end = self.visible_bounds(isolation).end;
        let seen = move |record: &&StoredRecord| isolation == Isolation::AsConfigured || !self.is_aborted(record);
        self.from(offset).iter().take_while(move |record| record.offset < end).filter(seen)
    }

    fn is_aborted(&self, record: &StoredRecord) -> bool {
        record.transaction.is_some_and(|transaction| self.aborted.contains(&transaction))
    }

    /// Writes the marker of a transaction, which takes an offset.
    pub(super) fn end_transaction(&mut self, transaction: u64, commit: bool) {
        self.open.remove(&transaction);
        if !commit {
            self.aborted.insert(transaction);
        }
        self.skip(1);
    }

    /// The records that were written after this one, by the number of its place among all.
    pub(super) fn after(&self, sequence: u64) -> &[StoredRecord] {
        &self.records[self.records.partition_point(|record| record.sequence <= sequence)..]
    }

    /// Forgets everything before `offset`.
    pub(super) fn delete_before(&mut self, offset: i64) {
        self.start = offset.clamp(self.start, self.end);
        self.records.retain(|record| record.offset >= self.start);
    }

    /// Uses up offsets without records, as a transaction's markers do.
    pub(super) fn skip(&mut self, count: i64) {
        self.end += count;
    }

    /// Keeps the newest committed record of each key, at its offset; with `tombstones` false deletes go as well. Behind the
    /// first open transaction nothing changes.
    pub(super) fn compact(&mut self, tombstones: bool) {
        let mut newest = std::collections::HashMap::new();
        for record in self.visible(self.start, Isolation::ReadCommitted) {
            newest.insert(record.key.clone(), record.offset);
        }
        let stable_end = self.stable_end();
        self.records.retain(|record| {
            let stays = newest.get(&record.key) == Some(&record.offset) && (tombstones || record.value.is_some());
            stays || record.offset >= stable_end
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: Option<&str>) -> StoredRecord {
        let (key, value) = (Some(key.as_bytes().to_vec()), value.map(|v| v.as_bytes().to_vec()));
        StoredRecord {
            partition: 0,
            offset: -1,
            timestamp_ms: 0,
            key,
            value,
            headers: Headers::default(),
            untimed: false,
            by_client: false,
            sequence: 0,
            transaction: None,
        }
    }

    fn offsets(log: &Log, from: i64) -> Vec<i64> {
        log.from(from).iter().map(|record| record.offset).collect()
    }

    #[test]
    fn offsets_go_on_over_gaps_and_deletions() {
        let mut log = Log::default();
        assert_eq!((log.append(record("a", Some("1"))), log.append(record("b", Some("1")))), (0, 1));
        log.skip(2);
        assert_eq!(log.append(record("a", Some("2"))), 4);
        assert_eq!(offsets(&log, 1), [1, 4]);
        assert_eq!(offsets(&log, 2), [4]);
        log.delete_before(1);
        assert_eq!((log.bounds(), offsets(&log, 0)), (1..5, vec![1, 4]));
        log.delete_before(99);
        assert_eq!((log.bounds(), offsets(&log, 0)), (5..5, vec![]));
    }

    #[test]
    fn compaction_keeps_the_newest_of_each_key_at_its_offset() {
        let mut log = Log::default();
        for (key, value) in [("a", Some("1")), ("b", Some("1")), ("a", Some("2")), ("b", None)] {
            log.append(record(key, value));
        }
        log.compact(true);
        assert_eq!(offsets(&log, 0), [2, 3]);
        log.compact(false);
        assert_eq!((offsets(&log, 0), log.bounds()), (vec![2], 0..4));
    }

    #[test]
    fn a_record_over_the_limit_or_without_a_key_in_a_compacted_topic_is_refused() {
        let topic =
            Topic::new(1, &[("max.message.bytes".into(), "80".into()), ("cleanup.policy".into(), "compact".into())]);
        assert!(topic.check("t", &record("k", Some("small"))).is_ok());
        let error = topic.check("t", &record("k", Some("not so small"))).expect_err("83 bytes");
        assert_eq!(error.kind(), Kind::Record);
        let error = topic.check("t", &StoredRecord { key: None, ..record("", None) }).expect_err("no key");
        assert_eq!(error.kind(), Kind::Record);
    }
}
