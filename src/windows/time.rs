//! Windows of a fixed size at fixed times: tumbling, hopping, unlimited.

use super::{Window, check_grace, wrong};
use crate::error::Result;
use crate::record::Timestamp;

/// Windows of a fixed size that begin at fixed times. Without [`advance_by`](Self::advance_by) they tumble: each begins
/// where the one before ends, and every record is in one. With a smaller advance they hop, and overlap. The first begins at
/// 0; the start of a window belongs to it, its end does not.
///
/// ```
/// use watersmeet::windows::{TimeWindows, Window, Windows};
/// let minutes = TimeWindows::of_size(60_000);
/// let hopping = TimeWindows::of_size_and_grace(10, 5).advance_by(3);
/// let windows: Vec<Window> = Windows::from(hopping).of(4).collect();
/// assert_eq!(windows, [Window::new(0, 10), Window::new(3, 13)]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindows {
    pub(super) size_ms: i64,
    pub(super) advance_ms: i64,
    pub(super) grace_ms: i64,
}

impl TimeWindows {
    /// Tumbling windows of this size, which take no record that comes after their end.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let windows = TimeWindows::of_size(60_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "ofSizeWithNoGrace")]
    pub fn of_size(size_ms: i64) -> Self {
        Self::of_size_and_grace(size_ms, 0)
    }

    /// Tumbling windows of this size, which take records for another `grace_ms` of stream time after their end.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let windows = TimeWindows::of_size_and_grace(60_000, 5_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "ofSizeAndGrace")]
    pub fn of_size_and_grace(size_ms: i64, grace_ms: i64) -> Self {
        Self { size_ms, advance_ms: size_ms, grace_ms }
    }

    /// A new window begins every `advance_ms`.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let every_ten_seconds_the_last_minute = TimeWindows::of_size(60_000).advance_by(10_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn advance_by(self, advance_ms: i64) -> Self {
        Self { advance_ms, ..self }
    }
}

/// One window that begins at a time and never ends.
///
/// ```
/// use watersmeet::windows::{UnlimitedWindows, Window, Windows};
/// let since_the_launch = Windows::from(UnlimitedWindows::start_on(1_000));
/// assert_eq!(since_the_launch.of(999).next(), None);
/// assert_eq!(since_the_launch.of(1_000).next(), Some(Window::new(1_000, i64::MAX)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnlimitedWindows {
    start_ms: Timestamp,
}

impl UnlimitedWindows {
    /// From the beginning of time, 0.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let from_the_beginning = UnlimitedWindows::of();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn of() -> Self {
        Self::default()
    }

    /// From `start_ms` on; earlier records are in no window.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let since_then = UnlimitedWindows::start_on(1_700_000_000_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn start_on(start_ms: Timestamp) -> Self {
        Self { start_ms }
    }
}

/// Windows whose times are known before any record: [`TimeWindows`] or [`UnlimitedWindows`].
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// let windows = Windows::from(TimeWindows::of_size(10).advance_by(5));
/// assert_eq!(windows.of(12).count(), 2);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// Tumbling or hopping.
    Time(TimeWindows),
    /// Without end.
    Unlimited(UnlimitedWindows),
}

impl From<TimeWindows> for Windows {
    fn from(windows: TimeWindows) -> Self {
        Self::Time(windows)
    }
}

impl From<UnlimitedWindows> for Windows {
    fn from(windows: UnlimitedWindows) -> Self {
        Self::Unlimited(windows)
    }
}

impl Windows {
    /// The windows that a record of this time is in, in the order of their starts.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let windows = Windows::from(TimeWindows::of_size(10));
    /// assert_eq!(windows.of(12).collect::<Vec<_>>(), [Window::new(10, 20)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn of(&self, timestamp_ms: Timestamp) -> impl Iterator<Item = Window> + use<> {
        // Unlimited windows are a single step: its advance leads beyond every timestamp.
        let (first_ms, size_ms, advance_ms) = match *self {
            Self::Time(TimeWindows { size_ms, advance_ms, .. }) => {
                let advance_ms = advance_ms.max(1);
                let first_ms = timestamp_ms.saturating_sub(size_ms).saturating_add(advance_ms).max(0);
                (first_ms / advance_ms * advance_ms, size_ms, advance_ms)
            }
            Self::Unlimited(UnlimitedWindows { start_ms }) => (start_ms, i64::MAX, i64::MAX),
        };
        let start = (first_ms <= timestamp_ms).then_some(first_ms);
        let next = move |start_ms: &i64| start_ms.checked_add(advance_ms).filter(|start_ms| *start_ms <= timestamp_ms);
        std::iter::successors(start, next).map(move |start_ms| Window::new(start_ms, start_ms.saturating_add(size_ms)))
    }

    /// From start to end of each window.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// assert_eq!(Windows::from(TimeWindows::of_size(10)).size_ms(), 10);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn size_ms(&self) -> i64 {
        match self {
            Self::Time(windows) => windows.size_ms,
            Self::Unlimited(_) => i64::MAX,
        }
    }

    /// How long a window takes records after its end.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// assert_eq!(Windows::from(TimeWindows::of_size_and_grace(10, 3)).grace_ms(), 3);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn grace_ms(&self) -> i64 {
        match self {
            Self::Time(windows) => windows.grace_ms,
            Self::Unlimited(_) => 0,
        }
    }

    /// How long a store has to keep a window.
    pub(crate) fn retention_ms(&self) -> i64 {
        self.size_ms().saturating_add(self.grace_ms())
    }

    /// Checks the description.
    ///
    /// # Errors
    /// [`Kind::Topology`](crate::error::Kind::Topology): a size, advance, grace period or start that makes no sense.
    pub(crate) fn check(&self) -> Result {
        match *self {
            Self::Time(TimeWindows { size_ms, .. }) if size_ms <= 0 => {
                Err(wrong(format!("the size of a window is {size_ms} ms"), "make it larger than 0"))
            }
            Self::Time(TimeWindows { size_ms, advance_ms, .. }) if advance_ms <= 0 || advance_ms > size_ms => {
                Err(wrong(
                    format!("a window of {size_ms} ms begins every {advance_ms} ms"),
                    "let windows advance by more than 0 and at most by their size, so that every record is in one",
                ))
            }
            Self::Time(TimeWindows { grace_ms, .. }) => check_grace(grace_ms),
            Self::Unlimited(UnlimitedWindows { start_ms }) if start_ms < 0 => {
                Err(wrong(format!("a window starts on {start_ms} ms"), "make it 0 or more"))
            }
            Self::Unlimited(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(windows: impl Into<Windows>, timestamp_ms: i64) -> Vec<i64> {
        windows.into().of(timestamp_ms).map(|window| window.start_ms).collect()
    }

    #[test]
    fn a_record_is_in_every_window_that_covers_it() {
        let tumbling = TimeWindows::of_size(10);
        assert_eq!([starts(tumbling, 0), starts(tumbling, 9), starts(tumbling, 10)], [[0], [0], [10]]);
        let hopping = tumbling.advance_by(3);
        assert_eq!(starts(hopping, 4), [0, 3]);
        assert_eq!(starts(hopping, 13), [6, 9, 12]);
        assert_eq!(starts(tumbling.advance_by(1), 20).len(), 10);
    }

    #[test]
    fn the_end_of_time_is_no_overflow() {
        let windows = Windows::from(TimeWindows::of_size(10));
        assert_eq!(windows.of(i64::MAX).last().map(|window| window.end_ms), Some(i64::MAX));
        assert_eq!(Windows::from(UnlimitedWindows::of()).retention_ms(), i64::MAX);
    }

    #[test]
    fn windows_that_make_no_sense_are_told() {
        let check = |windows: TimeWindows| Windows::from(windows).check().err().map(|error| error.to_string());
        assert_eq!(check(TimeWindows::of_size(1)), None);
        let wrong = [
            TimeWindows::of_size(0),
            TimeWindows::of_size_and_grace(5, -1),
            TimeWindows::of_size(5).advance_by(6),
            TimeWindows::of_size(5).advance_by(0),
        ];
        let errors: Vec<String> = wrong.into_iter().filter_map(check).collect();
        assert_eq!(errors.len(), wrong.len());
        assert_eq!(errors[0], "the size of a window is 0 ms. Next: make it larger than 0");
        assert!(Windows::from(UnlimitedWindows::start_on(-1)).check().is_err());
    }
}
