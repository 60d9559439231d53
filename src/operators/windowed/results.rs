//! Where the results of a windowed aggregation go, and when.

use super::emit::OnClose;
use crate::error::Result;
use crate::operators::{Cx, Port};
use crate::record::{Change, Headers, Record, Timestamp};
use crate::state::StoreId;
use crate::windows::{EmitStrategy, Window, Windowed};

/// The port behind a windowed aggregation.
pub(crate) struct Results<K, A> {
    /// Whether somebody below wants to know what was there before.
    send_old: bool,
    /// `None`: every change goes on at once.
    pub(super) on_close: Option<OnClose>,
    out: Port<Windowed<K>, Change<A>>,
}

impl<K: Clone, A> Results<K, A> {
    pub(crate) fn new(send_old: bool, emit: EmitStrategy, store: StoreId, out: Port<Windowed<K>, Change<A>>) -> Self {
        let on_close = (emit == EmitStrategy::OnWindowClose).then(|| OnClose::new(store));
        Self { send_old, on_close, out }
    }

    /// A window has changed.
    pub(super) fn changed(
        &mut self,
        cx: &mut Cx,
        (key, window): (&K, Window),
        (old, new): (Option<A>, Option<A>),
        timestamp_ms: Timestamp,
        headers: Headers,
    ) -> Result {
        if self.on_close.is_some() {
            return Ok(());
        }
        let value = Change::latest(new, old.filter(|_| self.send_old));
        let key = Windowed { key: key.clone(), window };
        self.out.push(cx, Record { key, value, timestamp_ms, headers })
    }

    /// A window is closed: this is its result.
    pub(super) fn closed(
        &mut self,
        cx: &mut Cx,
        key: Windowed<K>,
        value: A,
        timestamp_ms: Timestamp,
        headers: Headers,
    ) -> Result {
        self.out.push(cx, Record { key, value: Change::latest(Some(value), None), timestamp_ms, headers })
    }
}
