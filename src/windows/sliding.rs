//! Windows that are defined by the records in them.

use super::{check_grace, wrong};
use crate::error::Result;

/// Windows that slide along with the records: two records share a window if their times differ by at most the given
/// difference. A window begins or ends at the time of a record, and both ends belong to it. Source: KIP-450.
///
/// ```
/// use watersmeet::windows::SlidingWindows;
/// let bursts = SlidingWindows::of_time_difference_and_grace(1_000, 500);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlidingWindows {
    pub(crate) difference_ms: i64,
    pub(crate) grace_ms: i64,
}

impl SlidingWindows {
    /// Windows of this length, which take no record that comes after their end.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let windows = SlidingWindows::of_time_difference(60_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "ofTimeDifferenceWithNoGrace")]
    pub fn of_time_difference(difference_ms: i64) -> Self {
        Self::of_time_difference_and_grace(difference_ms, 0)
    }

    /// Windows of this length, which take records for another `grace_ms` of stream time after their end.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let windows = SlidingWindows::of_time_difference_and_grace(60_000, 5_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "ofTimeDifferenceAndGrace")]
    pub fn of_time_difference_and_grace(difference_ms: i64, grace_ms: i64) -> Self {
        Self { difference_ms, grace_ms }
    }

    /// How long a store has to keep a window: a record looks for windows that began two lengths before it.
    pub(crate) fn retention_ms(&self) -> i64 {
        self.difference_ms.saturating_mul(2).saturating_add(self.grace_ms)
    }

    /// Checks the description.
    ///
    /// # Errors
    /// [`Kind::Topology`](crate::error::Kind::Topology): a difference or grace period that makes no sense.
    pub(crate) fn check(&self) -> Result {
        if self.difference_ms < 0 {
            return Err(wrong(
                format!("the time difference of sliding windows is {} ms", self.difference_ms),
                "make it 0 or more",
            ));
        }
        check_grace(self.grace_ms)
    }
}
