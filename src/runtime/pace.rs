//! How much a task processes before it is another's turn: so many records, or so long. The clock is looked at now and
//! then only, the more often the slower the records are.

use crate::clock::Clock;

/// What bounds one run of a task.
#[derive(Clone, Copy)]
pub(crate) struct Limits<'a> {
    /// At most so many records.
    pub(crate) records_max: usize,
    /// What tells how long it has taken.
    pub(crate) clock: &'a dyn Clock,
    /// The run ends with the record after which it has taken longer.
    pub(crate) nanos: u64,
}

impl<'a> Limits<'a> {
    /// All that is there.
    pub(crate) fn none(clock: &'a dyn Clock) -> Self {
        Self { records_max: usize::MAX, clock, nanos: u64::MAX }
    }
}

/// Between two looks at the clock are at most so many records.
const STRIDE_MAX: usize = 32;
/// Records that take less than this together are quick.
const QUICK_NANOS: u64 = 1_000_000;

/// One run under its limits.
pub(crate) struct Pace<'a> {
    limits: Limits<'a>,
    began: u64,
    looked: u64,
    stride: usize,
    /// After so many records the clock is looked at again.
    next_look: usize,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(limits: Limits<'a>) -> Self {
        let began = limits.clock.nanos();
        Self { limits, began, looked: began, stride: 1, next_look: 1 }
    }

    /// Whether one more may be processed after `count`.
    #[inline]
    pub(crate) fn goes_on(&mut self, count: usize) -> bool {
        count < self.limits.records_max && (count < self.next_look || self.look(count))
    }

    fn look(&mut self, count: usize) -> bool {
        let now = self.limits.clock.nanos();
        self.stride = if now.saturating_sub(self.looked) < QUICK_NANOS { (self.stride * 2).min(STRIDE_MAX) } else { 1 };
        self.looked = now;
        self.next_look = count + self.stride;
        now.saturating_sub(self.began) <= self.limits.nanos
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    /// How many records of this length fit into the limits.
    fn run(records_max: usize, max_ms: u64, record_ms: i64) -> usize {
        let clock = ManualClock::at(0);
        let mut pace = Pace::new(Limits { records_max, clock: &clock, nanos: max_ms * 1_000_000 });
        let mut count = 0;
        while pace.goes_on(count) {
            clock.advance_ms(record_ms);
            count += 1;
        }
        count
    }

    #[test]
    fn quick_records_are_bounded_by_number_and_slow_ones_by_time() {
        assert_eq!(run(5_000, 100, 0), 5_000);
        assert_eq!(run(5_000, 100, 30), 4);
        assert_eq!(run(5_000, 100, 200), 1);
        assert_eq!(run(3, 100, 30), 3);
    }
}
