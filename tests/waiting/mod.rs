//! Waiting for conditions, as all tests do it: until something is so, or it has taken too long.
#![allow(dead_code)] // each program uses its part

use std::time::{Duration, Instant};

/// How long anything inside the process is waited for before that is a failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until there is an answer, and looks as often as `pause` says.
pub fn until<T>(patience: Duration, pause: Duration, what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain until {what}");
        std::thread::park_timeout(pause);
    }
}

/// Waits until this is so, at most for [`PATIENCE`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    until(PATIENCE, Duration::from_millis(1), what, || condition().then_some(()));
}
