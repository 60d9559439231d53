//! One input partition of a task: the records that wait, and how far it has been read.

use crate::broker::{RawRecord, TopicPartition};
use crate::error::Result;
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
    /// The record to process next, decoded by its source.
    head: Option<Head>,
    /// The offset of the next record to process; what is committed.
    pub(crate) position: i64,
    /// The offset of the next record to come from the broker.
    fetched: i64,
    /// The end of the partition as last heard of.
    end: Option<i64>,
    /// The largest timestamp processed; -1 before the first.
    pub(crate) time_ms: Timestamp,
    pub(crate) paused: bool,
    /// How long the task's other inputs wait for a record of this one, which has none (`max.task.idle.ms`).
    deadline_ms: Option<i64>,
}

/// The record that an input's task processes next.
pub(crate) struct Head {
    pub(crate) raw: RawRecord,
    /// Its timestamp as the extractor gave it; -1 where it was skipped, and stands for its offset only.
    pub(crate) timestamp_ms: Timestamp,
}

impl Input {
    pub(crate) fn new(partition: TopicPartition, source: usize, position: i64, time_ms: Timestamp) -> Self {
        Self {
            partition: Rc::new(partition),
            source,
            bootstrap: false,
            bootstrap_end: None,
            queue: VecDeque::new(),
            head: None,
            position,
            fetched: position,
            end: None,
            time_ms,
            paused: false,
            deadline_ms: None,
        }
    }

    /// Appends a record. True where nothing was waiting before.
    pub(crate) fn push(&mut self, record: RawRecord) -> bool {
        let first = self.is_empty();
        // After a pause the client may deliver again what it had dropped; what is older than what we have is not new.
        if record.meta.offset >= self.fetched {
            self.fetched = record.meta.offset + 1;
            self.queue.push_back(record);
            return first;
        }
        false
    }

    /// Goes back to this offset, where the partition had this time: what has been processed since will be again.
    pub(crate) fn go_back(&mut self, offset: i64, time_ms: Timestamp) {
        (self.position, self.time_ms) = (offset, time_ms);
    }

    /// What is to be committed: the offset of the head, where there is one. What does not decode before it has been dealt
    /// with (a dead letter is in the same transaction), and must not come again; nor must it where it is the head.
    /// Source: Kafka Streams' `StreamTask.committableOffsetsAndMetadata`.
    pub(crate) fn committable(&self) -> i64 {
        let head = self.head.as_ref().map_or(0, |head| head.raw.meta.offset + i64::from(head.timestamp_ms < 0));
        self.position.max(head)
    }

    /// Drops what waits: it will be fetched again.
    pub(crate) fn forget_fetched(&mut self) {
        self.position = self.committable();
        self.queue.clear();
        self.head = None;
        self.fetched = self.position;
        self.paused = false;
        self.deadline_ms = None;
    }

    /// The partition ends at `end`, as far as is known now. Transaction markers and compaction leave gaps, so the
    /// position moves over them when everything before the end has come.
    pub(crate) fn reached_end(&mut self, end: i64) {
        self.heard_of_end(end);
        self.fetched = self.fetched.max(end);
        if self.is_empty() {
            self.position = self.position.max(end);
        }
    }

    pub(crate) fn heard_of_end(&mut self, end: i64) {
        self.end = Some(self.end.map_or(end, |known| known.max(end)));
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len() + usize::from(self.head.is_some())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.head.is_none()
    }

    pub(crate) fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// True where everything that the partition has, as far as is known, has come.
    pub(crate) fn caught_up(&self) -> bool {
        self.end.is_some_and(|end| self.fetched >= end)
    }

    pub(crate) fn lag(&self) -> Option<i64> {
        self.end.map(|end| (end - self.position).max(0))
    }

    /// Makes the next record the head. `decode` gives its timestamp, `None` where it is skipped because it does not decode; a
    /// negative one skips it as well. Returns the head's timestamp; `None` where nothing waits.
    ///
    /// The last of several that do not decode becomes the head all the same: processing it means to commit its offset.
    /// Source: Kafka Streams' `RecordQueue.updateHead`.
    pub(crate) fn next_head(
        &mut self,
        mut decode: impl FnMut(&Rc<TopicPartition>, &RawRecord, Timestamp) -> Result<Option<Timestamp>>,
    ) -> Result<Option<Timestamp>> {
        let mut skipped = None;
        while let Some(raw) = self.queue.pop_front() {
            match decode(&self.partition, &raw, self.time_ms)? {
                Some(timestamp_ms) if timestamp_ms >= 0 => {
                    self.head = Some(Head { raw, timestamp_ms });
                    return Ok(Some(timestamp_ms));
                }
                Some(_) => self.position = self.position.max(raw.meta.offset + 1),
                None => skipped = Some(raw),
            }
        }
        self.head = skipped.map(|raw| Head { raw, timestamp_ms: -1 });
        Ok(self.head.as_ref().map(|head| head.timestamp_ms))
    }

    /// Makes the head the first of those that wait.
    pub(crate) fn put_back(&mut self) {
        if let Some(head) = self.head.take() {
            self.queue.push_front(head.raw);
        }
    }

    /// Takes the record to process next.
    pub(crate) fn take(&mut self) -> Option<Head> {
        let head = self.head.take();
        self.time_ms = head.as_ref().map_or(self.time_ms, |head| self.time_ms.max(head.timestamp_ms));
        head
    }

    /// The record taken last has been processed.
    pub(crate) fn processed(&mut self, offset: i64) {
        self.position = self.position.max(offset + 1);
        if self.is_empty() && self.caught_up() {
            self.position = self.position.max(self.fetched);
        }
        if self.bootstrap_end.is_some_and(|end| self.position >= end) {
            self.bootstrap_end = None;
        }
    }

    /// True where the task's other inputs have to wait for a record of this one: it has none, and either there is one at the
    /// broker, or not so much time has passed since the others first had to wait.
    pub(crate) fn must_be_waited_for(&mut self, now_ms: i64, idle_max_ms: i64) -> bool {
        if self.has_head() || !self.caught_up() {
            self.deadline_ms = None;
            return !self.has_head();
        }
        now_ms < *self.deadline_ms.get_or_insert(now_ms.saturating_add(idle_max_ms))
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

    #[test]
    fn what_does_not_decode_is_not_committed_to_come_again() {
        let mut input = input();
        for offset in 0..4 {
            input.push(record(offset, if offset % 2 == 0 { 5 } else { -5 }));
        }
        let decodes =
            |_: &Rc<TopicPartition>, raw: &RawRecord, _| Ok(Some(raw.meta.timestamp_ms).filter(|ms| *ms >= 0));
        input.next_head(decodes).unwrap();
        assert_eq!(input.committable(), 0);
        for committable in [2, 4] {
            let head = input.take().unwrap();
            input.processed(head.raw.meta.offset);
            input.next_head(decodes).unwrap();
            assert_eq!(input.committable(), committable);
        }
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

    fn timestamp(_: &Rc<TopicPartition>, raw: &RawRecord, _: Timestamp) -> Result<Option<Timestamp>> {
        Ok(Some(raw.meta.timestamp_ms))
    }

    #[test]
    fn negative_timestamps_are_skipped_and_partition_time_is_that_of_the_records_before() -> Result {
        let mut input = input();
        let times: Vec<bool> = [(0, 7), (1, -1), (2, 5)].map(|(offset, ms)| input.push(record(offset, ms))).into();
        assert_eq!(times, [true, false, false]);
        assert_eq!(input.next_head(timestamp)?, Some(7));
        assert_eq!(input.take().map(|head| head.timestamp_ms), Some(7));
        let mut seen = Vec::new();
        let next = input.next_head(|tp, raw, time_ms| {
            seen.push(time_ms);
            timestamp(tp, raw, time_ms)
        })?;
        assert_eq!((next, seen, input.position), (Some(5), vec![7, 7], 2));
        Ok(())
    }

    #[test]
    fn the_last_of_those_that_do_not_decode_is_taken_for_its_offset() -> Result {
        let mut input = input();
        input.push(record(0, 7));
        input.push(record(1, 8));
        assert_eq!(input.next_head(|_, _, _| Ok(None))?, Some(-1));
        assert_eq!((input.len(), input.take().map(|head| head.raw.meta.offset)), (1, Some(1)));
        Ok(())
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
    fn the_end_moves_the_position_over_markers_only_when_nothing_waits() -> Result {
        let mut input = input();
        input.push(record(0, 1));
        input.reached_end(2);
        assert_eq!(input.position, 0);
        input.next_head(timestamp)?;
        input.take();
        input.processed(0);
        assert_eq!(input.position, 2);
        Ok(())
    }
}
