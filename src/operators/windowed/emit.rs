//! When the results of closed windows are due.
//!
//! Source: `AbstractKStreamTimeWindowAggregateProcessor.shouldEmitFinal`; KIP-825.

use crate::operators::Cx;
use crate::record::Timestamp;
use crate::state::StoreId;

/// Sends the results of a store's windows on when they close. How far that has come is kept in the task, and committed with
/// its offsets.
pub(crate) struct OnClose {
    store: StoreId,
    /// The wall clock before which nothing is sent again.
    next_ms: i64,
}

impl OnClose {
    pub(crate) fn new(store: StoreId) -> Self {
        Self { store, next_ms: i64::MIN }
    }

    /// Whether windows that close at `close_ms` may be sent now: not too often by the wall clock, and only when time has
    /// come further than the last time.
    pub(super) fn is_due(&mut self, cx: &Cx, close_ms: Timestamp) -> bool {
        if cx.now_ms < self.next_ms {
            return false;
        }
        self.next_ms = cx.now_ms.saturating_add(cx.emit_intervals.window_close_ms);
        self.last_ms(cx).is_none_or(|last_ms| last_ms < close_ms)
    }

    /// How far it has come.
    pub(super) fn last_ms(&self, cx: &Cx) -> Option<Timestamp> {
        cx.closed_ms[self.store.0]
    }

    /// What closes at `close_ms` has been sent.
    pub(super) fn sent(&self, cx: &mut Cx, close_ms: Timestamp) {
        cx.closed_ms[self.store.0] = Some(close_ms);
    }
}
