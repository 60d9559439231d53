//! What keeps offsets from being committed though their records have gone through the task: work that is still under way,
//! such as calls to a service, or documents that an engine has not acknowledged.
//!
//! A node that begins such work takes a [`Hold`] of the record at hand and gives it back when the work has ended. What is
//! committed of a partition is the offset of the first record that is still held.

use crate::broker::{TopicPartition, Waker};
use crate::record::Timestamp;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A record that work is under way for. Give it back with [`Holds::release`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "what is never released is never committed"]
pub struct Hold(Option<Place>);

/// A record of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    partition: usize,
    offset: i64,
    /// The time of its partition before it came.
    time_ms: Timestamp,
}

/// The holds of one task.
#[derive(Debug, Default)]
pub struct Holds {
    partitions: Vec<OfPartition>,
    /// Holds of what no record of an input has caused: rows of a cache, punctuations.
    unbound: usize,
    /// All holds.
    open: usize,
    /// The record at hand.
    at: Option<Place>,
    /// How many nodes have as much under way as they may.
    full: usize,
    /// Something has been produced for a record behind one that is held.
    ahead: bool,
    /// A commit waits until nothing is under way: no record is taken, and what is collected goes out at once.
    pub draining: bool,
    signal: Arc<Signal>,
}

#[derive(Debug)]
struct OfPartition {
    partition: Rc<TopicPartition>,
    /// In the order of their offsets; the first one is held.
    records: VecDeque<Held>,
}

#[derive(Debug)]
struct Held {
    place: Place,
    holds: u32,
}

impl Holds {
    /// None yet; who waits for work to end waits for `signal`.
    pub(crate) fn new(signal: Arc<Signal>) -> Self {
        Self { signal, ..Self::default() }
    }

    /// This record of an input is processed now; `time_ms` is the time of its partition before it.
    pub(crate) fn begin(&mut self, partition: &Rc<TopicPartition>, offset: i64, time_ms: Timestamp) {
        let known = self.partitions.iter().position(|of| Rc::ptr_eq(&of.partition, partition));
        let partition = known.unwrap_or_else(|| {
            self.partitions.push(OfPartition { partition: partition.clone(), records: VecDeque::new() });
            self.partitions.len() - 1
        });
        self.at = Some(Place { partition, offset, time_ms });
    }

    /// What follows is done for the record of this hold.
    pub fn resume(&mut self, hold: Hold) {
        self.at = hold.0;
    }

    /// What follows is not done for a record of an input.
    pub(crate) fn end(&mut self) {
        self.at = None;
    }

    /// Holds back the offset of the record at hand.
    pub fn hold(&mut self) -> Hold {
        self.open += 1;
        let Some(place) = self.at else {
            self.unbound += 1;
            return Hold(None);
        };
        let records = &mut self.partitions[place.partition].records;
        match records.back_mut() {
            Some(last) if last.place.offset == place.offset => last.holds += 1,
            Some(last) if last.place.offset > place.offset => {
                match records.binary_search_by_key(&place.offset, |held| held.place.offset) {
                    Ok(i) => records[i].holds += 1,
                    Err(i) => records.insert(i, Held { place, holds: 1 }),
                }
            }
            _ => records.push_back(Held { place, holds: 1 }),
        }
        Hold(Some(place))
    }

    /// The work has ended, and what came of it has been sent on.
    pub fn release(&mut self, hold: Hold) {
        self.open = self.open.saturating_sub(1);
        match hold.0 {
            None => self.unbound = self.unbound.saturating_sub(1),
            Some(place) => {
                let records = &mut self.partitions[place.partition].records;
                if let Ok(i) = records.binary_search_by_key(&place.offset, |held| held.place.offset) {
                    records[i].holds = records[i].holds.saturating_sub(1);
                }
                while records.front().is_some_and(|held| held.holds == 0) {
                    records.pop_front();
                }
            }
        }
        self.ahead &= self.open > 0;
    }

    /// Something has been produced for the record at hand. It must not be committed before what is held before it.
    pub(crate) fn produced(&mut self) {
        let Some(at) = self.at else { return };
        let first = self.partitions[at.partition].records.front();
        self.ahead |= first.is_some_and(|held| held.place.offset <= at.offset);
    }

    /// Something has been produced for a record that is not at hand yet.
    pub(crate) fn produced_ahead(&mut self) {
        self.ahead |= self.open > 0;
    }

    /// The first record of this partition that is held: its offset, and the time of the partition before it.
    pub(crate) fn first_of(&self, partition: &TopicPartition) -> Option<(i64, Timestamp)> {
        let of = self.partitions.iter().find(|of| *of.partition == *partition)?;
        of.records.front().map(|held| (held.place.offset, held.place.time_ms))
    }

    /// How much is under way.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Whether a transaction must not be committed before all this has ended.
    pub(crate) fn is_ahead(&self) -> bool {
        self.ahead
    }

    /// Whether some of what is under way is held by no offset.
    pub(crate) fn has_unbound(&self) -> bool {
        self.unbound > 0
    }

    /// A node has as much under way as it may, or no longer: until then the task takes no further record.
    pub fn set_full(&mut self, was: &mut bool, is: bool) {
        if *was != is {
            *was = is;
            self.full = if is { self.full + 1 } else { self.full - 1 };
        }
    }

    /// Whether the task may take a further record.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.full == 0 && !self.draining
    }

    /// What tells the thread that something has ended.
    pub fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }
}

/// Wakes the thread that waits for work to end, also where it waits for records.
#[derive(Default)]
pub struct Signal {
    ended: Mutex<bool>,
    changed: Condvar,
    poll: Option<Waker>,
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Signal {
    /// The signal of a thread; `poll` ends the waiting of its consumer.
    pub(crate) fn new(poll: Waker) -> Self {
        Self { poll: Some(poll), ..Self::default() }
    }

    /// Some work has ended. Whoever waits is woken once, until it looks again.
    pub fn notify(&self) {
        if std::mem::replace(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner), true) {
            return;
        }
        self.changed.notify_all();
        if let Some(poll) = &self.poll {
            poll();
        }
    }

    /// The thread looks at what has ended from here on.
    pub(crate) fn look(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Waits until some work has ended since the last call, at most so long.
    pub fn wait(&self, timeout: Duration) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(ended, timeout, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> Rc<TopicPartition> {
        Rc::new(TopicPartition::new("in", number))
    }

    #[test]
    fn the_first_unfinished_record_is_what_is_committed() {
        let (mut holds, p) = (Holds::default(), partition(0));
        let take = |holds: &mut Holds, offset| {
            holds.begin(&p, offset, offset * 10);
            holds.hold()
        };
        let (five, six) = (take(&mut holds, 5), take(&mut holds, 6));
        let again = holds.hold();
        assert_eq!(holds.first_of(&p), Some((5, 50)));
        holds.release(six);
        assert_eq!(holds.first_of(&p), Some((5, 50)));
        holds.release(five);
        assert_eq!(holds.first_of(&p), Some((6, 60)));
        holds.release(again);
        assert_eq!((holds.first_of(&p), holds.open()), (None, 0));
    }

    #[test]
    fn what_follows_from_a_held_record_is_held_with_it() {
        let (mut holds, p) = (Holds::default(), partition(0));
        holds.begin(&p, 1, -1);
        let first = holds.hold();
        holds.begin(&p, 2, -1);
        let second = holds.hold();
        holds.resume(first);
        let behind = holds.hold();
        holds.release(first);
        holds.release(second);
        assert_eq!(holds.first_of(&p), Some((1, -1)));
        holds.release(behind);
        assert_eq!(holds.first_of(&p), None);
    }

    #[test]
    fn results_behind_a_held_record_are_ahead_of_what_is_committed_of_their_partition_only() {
        let (mut holds, p, other) = (Holds::default(), partition(0), partition(1));
        holds.begin(&p, 1, -1);
        let one = holds.hold();
        holds.begin(&other, 1, -1);
        holds.produced();
        assert!(!holds.is_ahead());
        holds.begin(&p, 2, -1);
        holds.produced();
        assert!(holds.is_ahead());
        holds.release(one);
        assert!(!holds.is_ahead());
        holds.end();
        let nobodys = holds.hold();
        assert!(holds.has_unbound());
        holds.release(nobodys);
        assert!(!holds.has_unbound());
    }
}
