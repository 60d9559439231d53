//! That the simulation finds errors: some are planted between the runtime and its broker, or in the disk, each as it would
//! show if the runtime made it, and each must be found within some seeds. And that a run can be repeated.

#[path = "sim/scenarios.rs"]
mod scenarios;

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use watersmeet::broker::{
    Admin, Batch, Broker, Committed, Consumer, Event, Isolation, Outgoing, Producer, Refused, Role, TopicPartition,
    Waker,
};
use watersmeet::error::Result;
use watersmeet::testing::{Simulation, Violation};

/// An error that the runtime could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    /// Offsets are committed before what was produced has arrived.
    CommitBeforeFlush,
    /// The offset of the next record is taken for that of the one after it.
    OffsetTooFar,
    /// The restore leaves out the last record of a changelog.
    RestoreTooShort,
    /// Partitions that the group asks back are kept.
    NothingGivenBack,
    /// Under exactly once, the offsets are left out of the transaction.
    OffsetsOutsideOfTransaction,
}
use Planted::*;

struct Faulty<T: ?Sized>(Planted, T);

impl Broker for Faulty<Arc<dyn Broker>> {
    fn consumer(&self, role: Role, isolation: Isolation) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(Faulty(self.0, self.1.consumer(role, isolation)?)))
    }

    fn producer(&self, thread: usize, transactional_id: Option<&str>) -> Result<Box<dyn Producer>> {
        Ok(Box::new(Faulty(self.0, self.1.producer(thread, transactional_id)?)))
    }

    fn admin(&self) -> Result<Box<dyn Admin>> {
        self.1.admin()
    }
}

impl Faulty<Box<dyn Consumer>> {
    /// The end as the runtime would have it.
    fn end(&self, tp: &TopicPartition, end: i64) -> i64 {
        let short = self.0 == RestoreTooShort && tp.topic.ends_with("-changelog");
        if short { (end - 1).max(0) } else { end }
    }
}

impl Consumer for Faulty<Box<dyn Consumer>> {
    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result {
        if self.0 == NothingGivenBack { Ok(()) } else { self.1.unassign(partitions) }
    }

    fn commit(&mut self, offsets: &[(TopicPartition, Committed)]) -> Result {
        let further = i64::from(self.0 == OffsetTooFar);
        let further = |(tp, c): &(TopicPartition, Committed)| {
            (tp.clone(), Committed { offset: c.offset + further, metadata: c.metadata.clone() })
        };
        self.1.commit(&offsets.iter().map(further).collect::<Vec<_>>())
    }

    fn offset_bounds(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Range<i64>>> {
        let bounds = self.1.offset_bounds(partitions)?;
        Ok(partitions.iter().zip(bounds).map(|(tp, b)| b.start..self.end(tp, b.end).max(b.start)).collect())
    }

    fn log_ends(&mut self, partitions: &[TopicPartition]) -> Result<Vec<i64>> {
        let ends = self.1.log_ends(partitions)?;
        Ok(partitions.iter().zip(ends).map(|(tp, end)| self.end(tp, end)).collect())
    }

    fn subscribe(&mut self, topics: &[Arc<str>]) -> Result {
        self.1.subscribe(topics)
    }

    fn poll(&mut self, timeout: Duration, max_records: usize, batch: &mut Batch, events: &mut Vec<Event>) -> Result {
        self.1.poll(timeout, max_records, batch, events)
    }

    fn assign(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result {
        self.1.assign(partitions)
    }

    fn waker(&self) -> Waker {
        self.1.waker()
    }

    fn is_eager(&self) -> bool {
        self.1.is_eager()
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result {
        self.1.pause(partitions)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result {
        self.1.resume(partitions)
    }

    fn committed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Option<Committed>>> {
        self.1.committed(partitions)
    }

    fn cached_end_offset(&self, partition: &TopicPartition) -> Option<i64> {
        self.1.cached_end_offset(partition)
    }

    fn offsets_since(&mut self, partitions: &[TopicPartition], timestamp_ms: i64) -> Result<Vec<i64>> {
        self.1.offsets_since(partitions, timestamp_ms)
    }

    fn seek(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result {
        self.1.seek(partitions)
    }

    fn group_metadata(&mut self) -> Option<Box<dyn Any>> {
        self.1.group_metadata()
    }

    fn close(&mut self, leave: bool) -> Result {
        self.1.close(leave)
    }
}

impl Producer for Faulty<Box<dyn Producer>> {
    fn flush(&mut self, timeout: Duration) -> Result {
        if self.0 == CommitBeforeFlush { Ok(()) } else { self.1.flush(timeout) }
    }

    fn send_offsets(&mut self, offsets: &[(TopicPartition, Committed)], group: &dyn Any) -> Result {
        if self.0 == OffsetsOutsideOfTransaction { Ok(()) } else { self.1.send_offsets(offsets, group) }
    }

    fn send(&mut self, record: Outgoing<'_>) -> Result {
        self.1.send(record)
    }

    fn serve(&mut self) {
        self.1.serve();
    }

    fn refused(&mut self) -> Vec<Refused> {
        self.1.refused()
    }

    fn acknowledged(&self) -> u64 {
        self.1.acknowledged()
    }

    fn init_transactions(&mut self) -> Result {
        self.1.init_transactions()
    }

    fn begin_transaction(&mut self) -> Result {
        self.1.begin_transaction()
    }

    fn commit_transaction(&mut self) -> Result {
        self.1.commit_transaction()
    }

    fn abort_transaction(&mut self) -> Result {
        self.1.abort_transaction()
    }
}

/// Within how many seeds an error has to be found.
const SEEDS: u64 = 200;

/// The first violation that the seeds of this scenario come to.
fn found(scenario: &str, exactly_once: bool, plant: impl Fn(Simulation) -> Simulation) -> Option<Box<Violation>> {
    (0..SEEDS).find_map(|seed| plant(scenarios::scenario(scenario, exactly_once, seed)).run(seed).err())
}

fn planted(scenario: &str, exactly_once: bool, planted: Planted) -> String {
    let wrap = move |broker: Arc<dyn Broker>| Arc::new(Faulty(planted, broker)) as Arc<dyn Broker>;
    let violation = found(scenario, exactly_once, |simulation| simulation.clients(wrap));
    violation.unwrap_or_else(|| panic!("{planted:?} was not found in {SEEDS} seeds")).what
}

#[test]
fn results_that_are_lost_because_offsets_were_committed_before_the_flush_are_found() {
    let what = planted("map", false, CommitBeforeFlush);
    assert!(what.contains("out: "), "{what}");
}

#[test]
fn a_record_that_is_left_out_because_its_offset_was_committed_too_early_is_found() {
    let what = planted("map", false, OffsetTooFar);
    assert!(what.contains("out: ") || what.contains("the committed offset is not in the log"), "{what}");
}

#[test]
fn rows_that_are_missing_because_a_restore_ended_too_early_are_found() {
    let what = planted("aggregate", false, RestoreTooShort);
    assert!(what.contains("out: ") || what.contains("is not what its changelog"), "{what}");
}

#[test]
fn rows_that_are_missing_because_rows_and_offsets_were_not_one_write_are_found() {
    let violation = found("aggregate", false, Simulation::torn_writes);
    let what = violation.expect("torn writes are found").what;
    assert!(what.contains("out: ") || what.contains("is not what its changelog"), "{what}");
}

#[test]
fn partitions_that_nobody_reads_because_they_were_not_given_back_are_found() {
    let what = planted("map", false, NothingGivenBack);
    assert!(what.contains("not everything is processed"), "{what}");
}

#[test]
fn results_that_come_twice_because_offsets_were_outside_of_the_transaction_are_found() {
    let what = planted("map", true, OffsetsOutsideOfTransaction);
    assert!(what.contains("out: ") || what.contains("not everything is processed"), "{what}");
}

#[test]
fn the_same_seed_is_the_same_run_bit_for_bit() {
    for (seed, name) in scenarios::NAMES.iter().enumerate() {
        for exactly_once in [false, true] {
            let run = || scenarios::scenario(name, exactly_once, seed as u64).detailed().run(seed as u64);
            let (first, second) = (run().expect("holds"), run().expect("holds"));
            assert_eq!(first.trace, second.trace);
            assert_eq!(first.digest, second.digest);
            assert_eq!(first.records("out"), second.records("out"));
        }
    }
}
