//! Which records of two streams meet.

use super::{check_grace, wrong};
use crate::error::Result;

/// Which records of two streams are joined: those whose times are close enough. A record of the left stream at time `t`
/// meets records of the right stream from `t - before` to `t + after`, both included.
///
/// ```
/// use watersmeet::windows::JoinWindows;
/// let near = JoinWindows::of_time_difference(5_000);
/// let paid_within_an_hour_of_the_order = JoinWindows::of_time_difference_and_grace(0, 60_000).after(3_600_000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinWindows {
    pub(crate) before_ms: i64,
    pub(crate) after_ms: i64,
    pub(crate) grace_ms: i64,
}

impl JoinWindows {
    /// Records at most `difference_ms` apart, none of which comes late.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let windows = JoinWindows::of_time_difference(60_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "ofTimeDifferenceWithNoGrace")]
    pub fn of_time_difference(difference_ms: i64) -> Self {
        Self::of_time_difference_and_grace(difference_ms, 0)
    }

    /// Records at most `difference_ms` apart, which may come `grace_ms` of stream time after their window's end.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let windows = JoinWindows::of_time_difference_and_grace(60_000, 5_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "ofTimeDifferenceAndGrace")]
    pub fn of_time_difference_and_grace(difference_ms: i64, grace_ms: i64) -> Self {
        Self { before_ms: difference_ms, after_ms: difference_ms, grace_ms }
    }

    /// How much earlier than the left record the right one may be.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let windows = JoinWindows::of_time_difference(60_000).before(0);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn before(self, before_ms: i64) -> Self {
        Self { before_ms, ..self }
    }

    /// How much later than the left record the right one may be.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let windows = JoinWindows::of_time_difference(60_000).after(0);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn after(self, after_ms: i64) -> Self {
        Self { after_ms, ..self }
    }

    /// From the earliest to the latest record that one record meets.
    pub(crate) fn size_ms(&self) -> i64 {
        self.before_ms.saturating_add(self.after_ms)
    }

    /// How long a store has to keep a record.
    pub(crate) fn retention_ms(&self) -> i64 {
        self.size_ms().saturating_add(self.grace_ms)
    }

    /// Checks the description.
    ///
    /// # Errors
    /// [`Kind::Topology`](crate::error::Kind::Topology): a window that ends before it begins, or a negative grace period.
    pub(crate) fn check(&self) -> Result {
        if self.size_ms() < 0 {
            return Err(wrong(
                format!("a join's window is {} ms before and {} ms after", self.before_ms, self.after_ms),
                "let it not end before it begins",
            ));
        }
        check_grace(self.grace_ms)
    }
}
