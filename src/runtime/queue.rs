//! One input partition of a task: the records that wait, and how far it has been read.

use crate::broker::{RawRecord, TopicPartition};
use crate::record::Timestamp;
use std::collections::VecDeque;
use std::rc::Rc;

/// One input partition of a task.
pub(crate) struct Input {
    pub(crate) partition: Rc<TopicPartition>,
    /// Which of the task's sources decodes it.
    pub(crate) source: usize,
    /// Its task's other inputs wait until this one has reached `bootstrap_end`.
    pub(crate) bootstrap: bool,
    /// The end offset seen when the task started; `None` where nobody waits for it, or it has been reached.
    pub(crate) bootstrap_end: Option<i64>,
    queue: VecDeque<RawRecord>,
    /// The timestamp of the first record in the queue, extracted once.
    head_ms: Option<Timestamp>,
    /// The offset of the next record to process; what is committed.
    pub(crate) position: i64,
    /// The offset of the next record to come from the broker.
    fetched: i64,
    /// The end of the partition as last heard of.
    end: Option<i64>,
    /// The largest timestamp processed; -1 before the first.
    pub(crate) time_ms: Timestamp,
    pub(crate) paused: bool,
}

impl Input {
    pub(crate) fn new(partition: TopicPartition, source: usize, position: i64, time_ms: Timestamp) -> Self {
        Self {
            partition: Rc::new(partition),
            source,
            bootstrap: false,
            bootstrap_end: None,
            queue: VecDeque::new(),
            head_ms: None,
            position,
            fetched: position,
            end: None,
            time_ms,
            paused: false,
        }
    }

    pub(crate) fn push(&mut self, record: RawRecord) {
        // After a pause the client may deliver again what it had dropped; what is older than what we have is not new.
        if record.meta.offset >= self.fetched {
            self.fetched = record.meta.offset + 1;
            self.queue.push_back(record);
        }
    }

    /// The partition ends at `end`, as far as is known now. Transaction markers and compaction leave gaps, so the
    /// position moves over them when everything before the end has come.
    pub(crate) fn reached_end(&mut self, end: i64) {
        self.heard_of_end(end);
        self.fetched = self.fetched.max(end);
        if self.queue.is_empty() {
            self.position = self.position.max(end);
        }
    }

    pub(crate) fn heard_of_end(&mut self, end: i64) {
        self.end = Some(self.end.map_or(end, |known| known.max(end)));
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// True where everything that the partition has, as far as is known, has come.
    pub(crate) fn caught_up(&self) -> bool {
        self.end.is_some_and(|end| self.fetched >= end)
    }

    pub(crate) fn lag(&self) -> Option<i64> {
        self.end.map(|end| (end - self.position).max(0))
    }

    /// The timestamp of the record to process next; `extract` is asked once per record.
    pub(crate) fn head_ms(&mut self, extract: impl FnOnce(&RawRecord, Timestamp) -> Timestamp) -> Option<Timestamp> {
        if self.head_ms.is_none()
            && let Some(head) = self.queue.front()
        {
            self.head_ms = Some(extract(head, self.time_ms));
        }
        self.head_ms
    }

    /// Takes the record to process next.
    pub(crate) fn pop(&mut self) -> Option<RawRecord> {
        self.head_ms = None;
        self.queue.pop_front()
    }

    /// The record taken last has been processed (or dropped by policy).
    pub(crate) fn processed(&mut self, offset: i64, timestamp_ms: Timestamp) {
        self.position = offset + 1;
        if self.queue.is_empty() && self.caught_up() {
            self.position = self.position.max(self.fetched);
        }
        self.time_ms = self.time_ms.max(timestamp_ms);
        if self.bootstrap_end.is_some_and(|end| self.position >= end) {
            self.bootstrap_end = None;
        }
    }

    /// True while the task's other inputs have to wait for this one.
    pub(crate) fn is_bootstrapping(&mut self) -> bool {
        if self.bootstrap_end.is_some_and(|end| self.position >= end) {
            self.bootstrap_end = None;
        }
        self.bootstrap_end.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Batch;

    fn record(offset: i64, timestamp_ms: i64) -> RawRecord {
        let mut batch = Batch::default();
        batch.push(0, offset, timestamp_ms, None, None, Default::default());
        RawRecord { bytes: Rc::new(batch.bytes), meta: batch.records.remove(0) }
    }

    fn input() -> Input {
        Input::new(TopicPartition::new("t", 0), 0, 0, -1)
    }

    #[test]
    fn records_delivered_twice_are_taken_once() {
        let mut input = input();
        for offset in [0, 1, 1, 0, 2] {
            input.push(record(offset, 5));
        }
        assert_eq!(input.len(), 3);
    }

    #[test]
    fn timestamps_are_extracted_once_per_head() {
        let mut input = input();
        input.push(record(0, 7));
        assert_eq!(input.head_ms(|r, _| r.meta.timestamp_ms), Some(7));
        assert_eq!(input.head_ms(|_, _| unreachable!("known already")), Some(7));
    }

    #[test]
    fn lag_is_unknown_until_an_end_is_heard_of() {
        let mut input = input();
        assert!(!input.caught_up() && input.lag().is_none());
        input.reached_end(3);
        assert!(input.caught_up());
        assert_eq!((input.position, input.lag()), (3, Some(0)));
    }

    #[test]
    fn the_end_moves_the_position_over_markers_only_when_nothing_waits() {
        let mut input = input();
        input.push(record(0, 1));
        input.reached_end(2);
        assert_eq!(input.position, 0);
        input.pop();
        input.processed(0, 1);
        assert_eq!(input.position, 2);
    }
}
