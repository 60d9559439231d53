//! Sessions.
//!
//! Source: `KStreamSessionWindowAggregate`. A record without key is dropped before it moves time; one without value is not:
//! the aggregator sees it. The sessions that a record belongs to are deleted, each with a tombstone of its own, and their
//! union takes their place.

use super::{Results, SessionRows};
use crate::error::Result;
use crate::operators::{Cx, Push};
use crate::record::{Headers, Nullable, Record, Timestamp};
use crate::windows::{SessionWindows, Window};
use std::sync::Arc;

/// How a session's aggregate comes about.
pub(crate) struct Fold<K, V, A> {
    /// What a session begins with.
    pub(crate) initializer: Arc<dyn Fn() -> Option<A> + Send + Sync>,
    /// What becomes of a record's value.
    pub(crate) aggregator: Arc<dyn Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync>,
    /// What two sessions become together: the one so far, and one that was found.
    pub(crate) merger: Arc<dyn Fn(&K, Option<A>, A) -> Option<A> + Send + Sync>,
}

impl<K, V, A> Clone for Fold<K, V, A> {
    fn clone(&self) -> Self {
        Self { initializer: self.initializer.clone(), aggregator: self.aggregator.clone(), merger: self.merger.clone() }
    }
}

/// Updates the session of each record.
pub(crate) struct SessionAggregate<K, V, A> {
    pub(crate) node: String,
    pub(crate) windows: SessionWindows,
    pub(crate) fold: Fold<K, V, A>,
    pub(crate) rows: SessionRows<K, A>,
    pub(crate) results: Results<K, A>,
    /// The largest timestamp so far; -1 before the first.
    pub(crate) observed_ms: Timestamp,
}

impl<K: Nullable + Clone, V, A: Clone> Push<K, V> for SessionAggregate<K, V, A> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        if record.key.is_null() {
            cx.drop_record(&self.node, "a windowed aggregation needs a key, and it is null");
            return Ok(());
        }
        let (timestamp_ms, gap_ms) = (record.timestamp_ms, self.windows.gap_ms);
        self.observed_ms = self.observed_ms.max(timestamp_ms);
        let close_ms = self.observed_ms.saturating_sub(self.windows.retention_ms());
        let (from_ms, to_ms) = (timestamp_ms.saturating_sub(gap_ms), timestamp_ms.saturating_add(gap_ms));
        let found = self.rows.around(cx, &record.key, from_ms, to_ms)?;
        let alone = Window::new(timestamp_ms, timestamp_ms);
        let window = found.iter().fold(alone, |all, (window, _)| all.union(*window));
        if window.end_ms < close_ms {
            let Window { start_ms, end_ms } = window;
            cx.drop_record(&self.node, &format!("its session [{start_ms},{end_ms}] closed at {close_ms}"));
        } else {
            self.update(cx, &record, found, window, window != alone)?;
        }
        self.send_closed(cx, close_ms, &record.headers)
    }
}

impl<K: Clone, V, A: Clone> SessionAggregate<K, V, A> {
    /// Puts the session `window` in the place of those that were found.
    fn update(
        &mut self,
        cx: &mut Cx,
        record: &Record<K, V>,
        found: Vec<(Window, A)>,
        window: Window,
        replaces: bool,
    ) -> Result {
        let (key, origin) = (&record.key, (record.timestamp_ms, &record.headers));
        let wants_old = self.results.wants_old();
        let mut so_far = (self.fold.initializer)();
        for (_, value) in &found {
            so_far = (self.fold.merger)(key, so_far, value.clone());
        }
        for (old, value) in found.into_iter().filter(|_| replaces) {
            self.rows.remove(cx, key, old, origin, wants_old)?;
            self.results.changed(cx, (key, old), (Some(value), None), old.end_ms, Headers::default())?;
        }
        let new = (self.fold.aggregator)(key, &record.value, so_far);
        if !self.rows.put(cx, key, (window, new.as_ref()), origin, wants_old)? {
            return Ok(());
        }
        self.results.changed(cx, (key, window), (None, new), window.end_ms, Headers::default())
    }

    /// Sends the results of sessions that have closed since the last time.
    fn send_closed(&mut self, cx: &mut Cx, close_ms: Timestamp, headers: &Headers) -> Result {
        let Some(on_close) = self.results.on_close() else { return Ok(()) };
        let from_ms = on_close.last_ms(cx).unwrap_or(0).max(0);
        let to_ms = close_ms.saturating_sub(1);
        if !on_close.is_due(cx, close_ms) || to_ms < from_ms {
            return Ok(());
        }
        on_close.sent(cx, close_ms);
        for (key, value) in self.rows.ending(cx, from_ms, to_ms)? {
            let end_ms = key.window.end_ms;
            self.results.closed(cx, key, value, end_ms, headers.clone())?;
        }
        Ok(())
    }
}
