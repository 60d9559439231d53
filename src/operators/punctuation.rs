//! Punctuations: calls that a processor asked for, by stream time or by the wall clock.
//!
//! Source: `PunctuationQueue`, `PunctuationSchedule`: calls lie on a grid; those that were missed are skipped.

use crate::record::Timestamp;

/// The clock that a punctuation goes by.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// struct P;
/// impl Processor<String, String, String, String> for P {
///     fn init(&mut self, context: &mut ProcessorContext<'_, String, String>) -> Result {
///         context.schedule(10, PunctuationType::StreamTime);
///         Ok(())
///     }
///     fn punctuate(&mut self, context: &mut ProcessorContext<'_, String, String>, punctuation: Punctuation) -> Result {
///         context.forward(Record::new("time".into(), punctuation.time_ms.to_string(), punctuation.time_ms))
///     }
///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
///         context.forward(record)
///     }
/// }
/// let forwarded = process_all(|| P, [Record::new("a".to_string(), "x".to_string(), 7)])?;
/// assert_eq!(forwarded[1].value, "7");
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PunctuationType {
    /// The largest timestamp that the task has processed: stands still without records.
    StreamTime,
    /// The wall clock.
    WallClock,
}

/// Names a punctuation that was scheduled, to tell it from others and to cancel it.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// struct Two(Vec<ScheduleId>);
/// impl Processor<String, String, String, String> for Two {
///     fn init(&mut self, context: &mut ProcessorContext<'_, String, String>) -> Result {
///         self.0.push(context.schedule(10, PunctuationType::StreamTime));
///         self.0.push(context.schedule(20, PunctuationType::StreamTime));
///         Ok(())
///     }
///     fn process(&mut self, _: &mut ProcessorContext<'_, String, String>, _: Record<String, String>) -> Result {
///         Ok(())
///     }
///     fn punctuate(&mut self, context: &mut ProcessorContext<'_, String, String>, due: Punctuation) -> Result {
///         let which = if due.schedule == self.0[0] { "first" } else { "second" };
///         context.forward(Record::new("due".into(), which.into(), due.time_ms))
///     }
/// }
/// let forwarded = process_all(|| Two(Vec::new()), [Record::new("a".to_string(), "x".to_string(), 7)])?;
/// assert_eq!((&*forwarded[0].value, &*forwarded[1].value), ("first", "second"));
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScheduleId(usize);

/// A call that is due.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// struct P;
/// impl Processor<String, String, String, String> for P {
///     fn init(&mut self, context: &mut ProcessorContext<'_, String, String>) -> Result {
///         context.schedule(10, PunctuationType::StreamTime);
///         Ok(())
///     }
///     fn punctuate(&mut self, context: &mut ProcessorContext<'_, String, String>, punctuation: Punctuation) -> Result {
///         context.forward(Record::new("time".into(), punctuation.time_ms.to_string(), punctuation.time_ms))
///     }
///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
///         context.forward(record)
///     }
/// }
/// let forwarded = process_all(|| P, [Record::new("a".to_string(), "x".to_string(), 7)])?;
/// assert_eq!(forwarded[1].timestamp_ms, 7);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Punctuation {
    /// Which one.
    pub schedule: ScheduleId,
    /// Its clock.
    pub kind: PunctuationType,
    /// The time of that clock.
    pub time_ms: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct Scheduled {
    id: ScheduleId,
    node: usize,
    kind: PunctuationType,
    due_ms: Timestamp,
    interval_ms: i64,
}

/// All punctuations of one task.
#[derive(Debug, Default)]
pub struct Punctuations {
    scheduled: Vec<Scheduled>,
    ids: usize,
}

impl Punctuations {
    /// Schedules calls of `node` from `first_ms` on.
    pub(crate) fn schedule(
        &mut self,
        node: usize,
        kind: PunctuationType,
        first_ms: Timestamp,
        interval_ms: i64,
    ) -> ScheduleId {
        let id = ScheduleId(self.ids);
        self.ids += 1;
        self.scheduled.push(Scheduled { id, node, kind, due_ms: first_ms, interval_ms: interval_ms.max(1) });
        id
    }

    /// Ends the calls of `id`.
    pub(crate) fn cancel(&mut self, id: ScheduleId) {
        self.scheduled.retain(|scheduled| scheduled.id != id);
    }

    /// The call that is due first at `now_ms`, and its node. It is put off to its next time on the grid.
    pub(crate) fn due(&mut self, kind: PunctuationType, now_ms: Timestamp) -> Option<(usize, Punctuation)> {
        let due =
            self.scheduled.iter_mut().filter(|s| s.kind == kind && s.due_ms <= now_ms).min_by_key(|s| s.due_ms)?;
        let missed = (now_ms - due.due_ms) / due.interval_ms;
        due.due_ms += (missed + 1) * due.interval_ms;
        Some((due.node, Punctuation { schedule: due.id, kind, time_ms: now_ms }))
    }

    /// True where nothing is scheduled.
    pub fn is_empty(&self) -> bool {
        self.scheduled.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(first_ms: i64, times: &[i64]) -> Vec<i64> {
        let mut punctuations = Punctuations::default();
        punctuations.schedule(0, PunctuationType::StreamTime, first_ms, 10);
        let called = |ms: &&i64| punctuations.due(PunctuationType::StreamTime, **ms).is_some();
        times.iter().filter(called).copied().collect()
    }

    #[test]
    fn calls_lie_on_a_grid_and_missed_ones_are_skipped() {
        assert_eq!(calls(0, &[3, 25, 26, 31, 31]), [3, 25, 31]);
        assert_eq!(calls(7, &[3, 25, 26, 31, 31]), [25, 31]);
    }

    #[test]
    fn a_cancelled_one_is_not_called() {
        let mut punctuations = Punctuations::default();
        let id = punctuations.schedule(0, PunctuationType::WallClock, 100, 100);
        assert!(punctuations.due(PunctuationType::WallClock, 100).is_some());
        punctuations.cancel(id);
        assert!(punctuations.due(PunctuationType::WallClock, 1000).is_none() && punctuations.is_empty());
    }
}
