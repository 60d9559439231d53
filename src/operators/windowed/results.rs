//! Where the results of a windowed aggregation go, and when.

use super::emit::OnClose;
use crate::error::Result;
use crate::operators::held::ChangeOut;
use crate::operators::{Cx, Port};
use crate::record::{Change, Headers, Record, Timestamp};
use crate::windows::{Window, Windowed};

/// The port behind a windowed aggregation.
pub(crate) enum Results<K, A> {
    /// Every change goes on, at once or when the store lets go of it.
    Changes {
        /// Whether somebody below wants to know what was there before.
        send_old: bool,
        out: ChangeOut<Windowed<K>, A>,
    },
    /// One result per window, when it closes.
    Final { on_close: OnClose, out: Port<Windowed<K>, Change<A>> },
}

impl<K: Clone, A> Results<K, A> {
    /// Whether the store has to remember what was there before.
    pub(super) fn wants_old(&self) -> bool {
        matches!(self, Self::Changes { send_old: true, .. })
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
        let Self::Changes { send_old, out } = self else { return Ok(()) };
        let value = Change::latest(new, old.filter(|_| *send_old));
        let key = Windowed { key: key.clone(), window };
        out.send(cx, Record { key, value, timestamp_ms, headers })
    }

    /// When results are sent as windows close: that, else `None`.
    pub(super) fn on_close(&mut self) -> Option<&mut OnClose> {
        match self {
            Self::Changes { .. } => None,
            Self::Final { on_close, .. } => Some(on_close),
        }
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
        let Self::Final { out, .. } = self else { return Ok(()) };
        out.push(cx, Record { key, value: Change::latest(Some(value), None), timestamp_ms, headers })
    }
}
