//! Tumbling, hopping and unlimited windows.
//!
//! Source: `KStreamWindowAggregate`. A record without key is dropped before it moves time; one without value is not: the
//! aggregator sees it. Of a record's windows those that are over are left out, and each is counted as a dropped record.

use super::{Results, Update, WindowRows};
use crate::error::Result;
use crate::operators::{Cx, Push};
use crate::record::{Headers, Nullable, Record, Timestamp};
use crate::windows::{Window, Windowed, Windows};

/// Updates the windows of each record.
pub(crate) struct TimeWindowAggregate<K, V, A> {
    pub(crate) node: String,
    pub(crate) windows: Windows,
    pub(crate) update: Update<K, V, A>,
    pub(crate) rows: WindowRows<K, A>,
    pub(crate) results: Results<K, A>,
    /// The largest timestamp so far; -1 before the first.
    pub(crate) observed_ms: Timestamp,
}

impl<K: Nullable + Clone, V, A: Clone> Push<K, V> for TimeWindowAggregate<K, V, A> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        if record.key.is_null() {
            cx.drop_record(&self.node, "a windowed aggregation needs a key, and it is null");
            return Ok(());
        }
        self.observed_ms = self.observed_ms.max(record.timestamp_ms);
        let close_ms = self.observed_ms - self.windows.grace_ms();
        for window in self.windows.of(record.timestamp_ms) {
            if window.end_ms > close_ms {
                self.update(cx, &record, window)?;
            } else {
                let Window { start_ms, end_ms } = window;
                cx.drop_record(&self.node, &format!("its window [{start_ms},{end_ms}) closed at {close_ms}"));
            }
        }
        self.send_closed(cx, close_ms, &record.headers)
    }
}

impl<K: Clone, V, A: Clone> TimeWindowAggregate<K, V, A> {
    fn update(&mut self, cx: &mut Cx, record: &Record<K, V>, window: Window) -> Result {
        let stored = self.rows.get(cx, &record.key, window.start_ms)?;
        let context_ms = record.timestamp_ms;
        let timestamp_ms = stored.as_ref().map_or(context_ms, |(_, stored_ms)| context_ms.max(*stored_ms));
        let updated = (self.update)(&record.key, &record.value, stored.map(|(value, _)| value));
        let row = (window.start_ms, updated.new.as_ref(), timestamp_ms);
        if !self.rows.put(cx, &record.key, row, (context_ms, &record.headers), self.results.wants_old())? {
            return Ok(());
        }
        let change = (updated.old, updated.new);
        self.results.changed(cx, (&record.key, window), change, timestamp_ms, record.headers.clone())
    }

    /// Sends the results of windows that have closed since the last time.
    fn send_closed(&mut self, cx: &mut Cx, close_ms: Timestamp, headers: &Headers) -> Result {
        let Some(on_close) = self.results.on_close() else { return Ok(()) };
        let size_ms = self.windows.size_ms();
        // The last start of a window that is closed now, and the first of one that was not closed the last time.
        let to_ms = close_ms.saturating_sub(size_ms);
        if !on_close.is_due(cx, close_ms) || to_ms < 0 {
            return Ok(());
        }
        let from_ms = match on_close.last_ms(cx) {
            None => 0,
            Some(last_ms) => {
                let before_ms = last_ms.saturating_sub(size_ms).max(0);
                if self.windows.of(to_ms).eq(self.windows.of(before_ms)) {
                    return Ok(());
                }
                before_ms + 1
            }
        };
        on_close.sent(cx, close_ms);
        for (key, row) in self.rows.all_starting(cx, from_ms, to_ms)? {
            let window = Window::new(row.start_ms, row.start_ms.saturating_add(size_ms));
            self.results.closed(cx, Windowed { key, window }, row.value, row.timestamp_ms, headers.clone())?;
        }
        Ok(())
    }
}
