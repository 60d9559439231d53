//! Windows: which records belong together by time, and the keys that say so.
//!
//! Every window is described by milliseconds of event time. How a window is described never fails; what makes no sense is
//! told when the topology is built, as an error of the operator that uses it.

mod join;
mod serdes;
mod session;
mod sliding;
mod time;

pub use join::JoinWindows;
pub use serdes::{SessionWindowedSerde, TimeWindowedSerde};
pub use session::SessionWindows;
pub use sliding::SlidingWindows;
pub use time::{TimeWindows, UnlimitedWindows, Windows};

use crate::error::{Error, Kind};
use crate::record::Timestamp;
use serde::Serialize;

/// A span of event time. Whether its end belongs to it depends on the kind of window: it does for sliding windows and
/// sessions, it does not for tumbling and hopping windows.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// let window = Window::new(0, 10);
/// assert_eq!((window.start_ms, window.end_ms), (0, 10));
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Window {
    /// Its first millisecond.
    pub start_ms: Timestamp,
    /// Its end.
    pub end_ms: Timestamp,
}

impl Window {
    /// From `start_ms` to `end_ms`.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let window = Window::new(0, 10);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn new(start_ms: Timestamp, end_ms: Timestamp) -> Self {
        Self { start_ms, end_ms }
    }

    /// The smallest window that covers both.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// assert_eq!(Window::new(0, 10).union(Window::new(5, 15)), Window::new(0, 15));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn union(self, other: Self) -> Self {
        Self { start_ms: self.start_ms.min(other.start_ms), end_ms: self.end_ms.max(other.end_ms) }
    }
}

/// A key together with one of its windows: the key of a windowed table's row.
///
/// ```
/// use watersmeet::windows::{Window, Windowed};
/// let clicks_at_noon = Windowed { key: "ada", window: Window::new(43_200_000, 43_260_000) };
/// assert_eq!(clicks_at_noon.to_string(), "[ada@43200000/43260000]");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Windowed<K> {
    /// The key.
    pub key: K,
    /// Its window.
    pub window: Window,
}

impl<K: std::fmt::Display> std::fmt::Display for Windowed<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}@{}/{}]", self.key, self.window.start_ms, self.window.end_ms)
    }
}

/// When a windowed aggregation sends its results on. Source: KIP-825.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// assert_ne!(EmitStrategy::OnWindowClose, EmitStrategy::default());
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmitStrategy {
    /// Every change of a window.
    #[default]
    OnWindowUpdate,
    /// One result per window, when it can change no more.
    OnWindowClose,
}

/// An error of a window's description.
fn wrong(what: impl Into<std::borrow::Cow<'static, str>>, hint: &'static str) -> Error {
    Error::new(Kind::Topology, what).hint(hint)
}

/// A grace period must not be negative.
fn check_grace(grace_ms: i64) -> crate::error::Result {
    if grace_ms < 0 {
        return Err(wrong(format!("the grace period of a window is {grace_ms} ms"), "make it 0 or more"));
    }
    Ok(())
}
