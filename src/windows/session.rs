//! Windows of activity.

use super::{check_grace, wrong};
use crate::error::Result;

/// Sessions: records of a key whose times are at most the inactivity gap apart. A session begins with its first record and
/// ends with its last; a record between two sessions makes them one.
///
/// ```
/// use watersmeet::windows::SessionWindows;
/// let visits = SessionWindows::of_inactivity_gap_and_grace(30 * 60_000, 60_000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionWindows {
    pub(crate) gap_ms: i64,
    pub(crate) grace_ms: i64,
}

impl SessionWindows {
    /// Sessions that end when nothing comes for `gap_ms`, and take no record after that.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let windows = SessionWindows::of_inactivity_gap(60_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "ofInactivityGapWithNoGrace")]
    pub fn of_inactivity_gap(gap_ms: i64) -> Self {
        Self::of_inactivity_gap_and_grace(gap_ms, 0)
    }

    /// Sessions that end when nothing comes for `gap_ms`, and take records for another `grace_ms` of stream time.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let windows = SessionWindows::of_inactivity_gap_and_grace(60_000, 5_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "ofInactivityGapAndGrace")]
    pub fn of_inactivity_gap_and_grace(gap_ms: i64, grace_ms: i64) -> Self {
        Self { gap_ms, grace_ms }
    }

    /// How long a store has to keep a session.
    pub(crate) fn retention_ms(&self) -> i64 {
        self.gap_ms.saturating_add(self.grace_ms)
    }

    /// Checks the description.
    ///
    /// # Errors
    /// [`Kind::Topology`](crate::error::Kind::Topology): a gap or grace period that makes no sense.
    pub(crate) fn check(&self) -> Result {
        if self.gap_ms <= 0 {
            return Err(wrong(
                format!("the inactivity gap of a session is {} ms", self.gap_ms),
                "make it larger than 0",
            ));
        }
        check_grace(self.grace_ms)
    }
}
