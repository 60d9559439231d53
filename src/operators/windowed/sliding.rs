//! Sliding windows: every set of records that fit into one window has a window.
//!
//! Source: `KStreamSlidingWindowAggregate`; KIP-450. A record at `t` makes at most three windows that were not there: its
//! own left one, which ends at `t`; its right one, which begins behind `t`, where later records are already there; and the
//! right one of the record before it. What has to be done follows from the windows around it alone: see [`plan`].

use super::rows::Row;
use super::{Results, Update, WindowRows};
use crate::error::Result;
use crate::operators::{Cx, Push};
use crate::record::{Headers, Nullable, Record, Timestamp};
use crate::windows::{SlidingWindows, Window, Windowed};

/// What a record does to one window.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step<A> {
    /// It joins this window; `None`: of which there is no aggregate yet.
    Join { start_ms: Timestamp, so_far: Option<(A, Timestamp)> },
    /// It splits this window off another: the record itself is not in it.
    Split(Row<A>),
}

/// What a record at `at_ms` does to the windows of its key, in order. `found`: those that start from two window lengths
/// before it (early records: from 0) to one millisecond behind it, in the order of their starts.
fn plan<A: Clone>(found: &[Row<A>], at_ms: Timestamp, length_ms: i64) -> Vec<Step<A>> {
    if at_ms < length_ms { plan_early(found, at_ms) } else { plan_late(found, at_ms, length_ms) }
}

fn join<A: Clone>(row: &Row<A>) -> Step<A> {
    Step::Join { start_ms: row.start_ms, so_far: Some((row.value.clone(), row.timestamp_ms)) }
}

/// The right window of the record itself, split off the aggregate of a window that later records are in.
fn right<A: Clone>(found: &[Row<A>], later: Option<&Row<A>>, at_ms: Timestamp) -> Option<Step<A>> {
    let exists = found.iter().any(|row| row.start_ms == at_ms + 1);
    let later = later.filter(|row| !exists && row.timestamp_ms > at_ms)?;
    Some(Step::Split(Row { start_ms: at_ms + 1, ..later.clone() }))
}

fn plan_late<A: Clone>(found: &[Row<A>], at_ms: Timestamp, length_ms: i64) -> Vec<Step<A>> {
    let end_ms = |row: &Row<A>| row.start_ms + length_ms;
    let mut steps = Vec::new();
    // The last window that later records may be in, the one of the record before, and that record's time.
    let (mut later, mut left, mut previous_ms) = (None, None, None);
    let mut left_exists = false;
    for row in found.iter().rev().filter(|row| row.start_ms <= at_ms) {
        if end_ms(row) > at_ms {
            later = later.or(Some(row));
            steps.push(join(row));
        } else if end_ms(row) == at_ms {
            left_exists = true;
            steps.push(join(row));
            if row.timestamp_ms >= at_ms {
                // A record of this very time has made all windows.
                return steps;
            }
            previous_ms = Some(row.timestamp_ms);
        } else {
            left = Some(row);
            previous_ms = Some(row.timestamp_ms);
            break;
        }
    }
    if let Some(start_ms) = previous_ms.map(|previous_ms| previous_ms + 1)
        && start_ms + length_ms >= at_ms
        && !found.iter().any(|row| row.start_ms == start_ms)
    {
        steps.push(Step::Join { start_ms, so_far: None });
    }
    if !left_exists {
        let start_ms = at_ms - length_ms;
        let shared = left.filter(|_| previous_ms.is_some_and(|previous_ms| start_ms <= previous_ms));
        steps.push(Step::Join { start_ms, so_far: shared.map(|row| (row.value.clone(), at_ms)) });
    }
    steps.extend(right(found, later, at_ms));
    steps
}

/// A record so early that its left window would begin before 0: it goes into one that begins at 0, as all such records.
fn plan_early<A: Clone>(found: &[Row<A>], at_ms: Timestamp) -> Vec<Step<A>> {
    let combined = found.iter().find(|row| row.start_ms == 0);
    let previous_ms = combined.map(|row| row.timestamp_ms).filter(|previous_ms| *previous_ms < at_ms);
    let covering: Vec<&Row<A>> = found.iter().filter(|row| row.start_ms > 0 && row.start_ms <= at_ms).collect();
    let mut steps: Vec<Step<A>> = covering.iter().map(|row| join(row)).collect();
    let later = covering.last().copied().or_else(|| combined.filter(|row| row.timestamp_ms > at_ms));
    steps.extend(right(found, later, at_ms));
    if let Some(start_ms) = previous_ms.map(|previous_ms| previous_ms + 1)
        && !found.iter().any(|row| row.start_ms == start_ms)
    {
        steps.push(Step::Join { start_ms, so_far: None });
    }
    steps.push(combined.map_or(Step::Join { start_ms: 0, so_far: None }, join));
    steps
}

/// Updates the windows around each record.
pub(crate) struct SlidingWindowAggregate<K, V, A> {
    pub(crate) node: String,
    pub(crate) windows: SlidingWindows,
    pub(crate) update: Update<K, V, A>,
    pub(crate) rows: WindowRows<K, A>,
    pub(crate) results: Results<K, A>,
    /// The largest timestamp so far; -1 before the first.
    pub(crate) observed_ms: Timestamp,
}

impl<K: Nullable + Clone, V: Nullable, A: Clone> Push<K, V> for SlidingWindowAggregate<K, V, A> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        if record.key.is_null() || record.value.is_null() {
            cx.drop_record(&self.node, "sliding windows need key and value, and one is null");
            return Ok(());
        }
        let (at_ms, length_ms) = (record.timestamp_ms, self.windows.difference_ms);
        self.observed_ms = self.observed_ms.max(at_ms);
        let close_ms = self.observed_ms - self.windows.grace_ms;
        if at_ms.saturating_add(length_ms) < close_ms {
            cx.drop_record(&self.node, &format!("all its windows closed at {close_ms}"));
            return Ok(());
        }
        let from_ms = at_ms.saturating_sub(length_ms.saturating_mul(2)).max(0);
        let found = self.rows.starting(cx, &record.key, from_ms, at_ms.saturating_add(1))?;
        for step in plan(&found, at_ms, length_ms) {
            self.step(cx, &record, step, close_ms)?;
        }
        // Early records close nothing, as in Kafka Streams.
        if at_ms >= length_ms { self.send_closed(cx, close_ms, &record.headers) } else { Ok(()) }
    }
}

impl<K: Clone, V, A: Clone> SlidingWindowAggregate<K, V, A> {
    fn step(&mut self, cx: &mut Cx, record: &Record<K, V>, step: Step<A>, close_ms: Timestamp) -> Result {
        let (start_ms, so_far) = match step {
            Step::Split(row) => {
                let Row { start_ms, value, timestamp_ms } = row;
                return self.put(cx, record, start_ms, (None, Some(value)), timestamp_ms);
            }
            Step::Join { start_ms, so_far } => (start_ms, so_far),
        };
        let end_ms = start_ms.saturating_add(self.windows.difference_ms);
        if end_ms < close_ms {
            cx.drop_record(&self.node, &format!("its window [{start_ms},{end_ms}] closed at {close_ms}"));
            return Ok(());
        }
        let timestamp_ms = so_far.as_ref().map_or(record.timestamp_ms, |(_, row_ms)| record.timestamp_ms.max(*row_ms));
        let updated = (self.update)(&record.key, &record.value, so_far.map(|(value, _)| value));
        self.put(cx, record, start_ms, (updated.old, updated.new), timestamp_ms)
    }

    fn put(
        &mut self,
        cx: &mut Cx,
        record: &Record<K, V>,
        start_ms: Timestamp,
        (old, new): (Option<A>, Option<A>),
        timestamp_ms: Timestamp,
    ) -> Result {
        let window = Window::new(start_ms, start_ms.saturating_add(self.windows.difference_ms));
        let (row, origin) = ((start_ms, new.as_ref(), timestamp_ms), (record.timestamp_ms, &record.headers));
        if !self.rows.put(cx, &record.key, row, origin, self.results.wants_old())? {
            return Ok(());
        }
        self.results.changed(cx, (&record.key, window), (old, new), timestamp_ms, record.headers.clone())
    }

    /// Sends the results of windows that have closed since the last time.
    fn send_closed(&mut self, cx: &mut Cx, close_ms: Timestamp, headers: &Headers) -> Result {
        let Some(on_close) = self.results.on_close() else { return Ok(()) };
        let length_ms = self.windows.difference_ms;
        let to_ms = close_ms.saturating_sub(length_ms).saturating_sub(1);
        if !on_close.is_due(cx, close_ms) || to_ms < 0 {
            return Ok(());
        }
        let from_ms = on_close.last_ms(cx).map_or(0, |last_ms| last_ms.saturating_sub(length_ms).max(0));
        on_close.sent(cx, close_ms);
        for (key, row) in self.rows.all_starting(cx, from_ms, to_ms)? {
            let window = Window::new(row.start_ms, row.start_ms.saturating_add(length_ms));
            self.results.closed(cx, Windowed { key, window }, row.value, row.timestamp_ms, headers.clone())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The windows of one key, with texts as aggregates; no window is ever too old.
    #[derive(Default)]
    struct Key(BTreeMap<Timestamp, (String, Timestamp)>);

    impl Key {
        /// What a record changes, in order: `[start,end]=aggregate@timestamp`.
        fn record(&mut self, value: &str, at_ms: Timestamp, length_ms: i64) -> String {
            let from_ms = (at_ms - 2 * length_ms).max(0);
            let rows = self.0.range(from_ms..=at_ms + 1);
            let row = |(start_ms, (value, timestamp_ms)): (&i64, &(String, i64))| Row {
                start_ms: *start_ms,
                value: value.clone(),
                timestamp_ms: *timestamp_ms,
            };
            let found: Vec<Row<String>> = rows.map(row).collect();
            let mut changes = Vec::new();
            for step in plan(&found, at_ms, length_ms) {
                let row = match step {
                    Step::Split(row) => row,
                    Step::Join { start_ms, so_far: None } => Row { start_ms, value: value.into(), timestamp_ms: at_ms },
                    Step::Join { start_ms, so_far: Some((so_far, ms)) } => {
                        Row { start_ms, value: so_far + value, timestamp_ms: at_ms.max(ms) }
                    }
                };
                let Row { start_ms, value, timestamp_ms } = row;
                changes.push(format!("[{start_ms},{}]={value}@{timestamp_ms}", start_ms + length_ms));
                self.0.insert(start_ms, (value, timestamp_ms));
            }
            changes.join(" ")
        }
    }

    #[test]
    fn windows_are_those_that_kafka_streams_was_seen_to_make() {
        let mut key = Key::default();
        let seen = [
            ("A", 8, "[0,10]=A@8"),
            ("B", 25, "[15,25]=B@25"),
            ("C", 30, "[26,36]=C@30 [20,30]=BC@30"),
            ("D", 27, "[26,36]=CD@30 [20,30]=BCD@30 [17,27]=BD@27 [28,38]=C@30"),
            ("E", 25, "[20,30]=BCDE@30 [17,27]=BDE@27 [15,25]=BE@25"),
            ("F", 3, "[4,14]=A@8 [0,10]=AF@8"),
        ];
        for (value, at_ms, changes) in seen {
            assert_eq!(key.record(value, at_ms, 10), changes, "{value}@{at_ms}");
        }
    }

    #[test]
    fn an_early_record_goes_into_the_window_from_0_and_into_the_right_windows_of_those_before() {
        let mut key = Key::default();
        assert_eq!(key.record("A", 2, 10), "[0,10]=A@2");
        assert_eq!(key.record("B", 5, 10), "[3,13]=B@5 [0,10]=AB@5");
        assert_eq!(key.record("C", 5, 10), "[3,13]=BC@5 [0,10]=ABC@5");
    }

    #[test]
    fn windows_of_length_0_are_single_moments() {
        let mut key = Key::default();
        assert_eq!(key.record("A", 5, 0), "[5,5]=A@5");
        assert_eq!(key.record("B", 5, 0), "[5,5]=AB@5");
        assert_eq!(key.record("C", 6, 0), "[6,6]=C@6");
    }
}
