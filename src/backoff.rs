//! Pauses between the attempts at something that fails.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// How long to wait before the next attempt: twice as long each time, up to a limit, and by chance a little less, so that
/// those that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Before the first repetition; 100 ms.
    pub first: Duration,
    /// At most; 5 s.
    pub max: Duration,
    /// Each pause is shorter by a random part of up to this share, 0 to 1; 0.5.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), max: Duration::from_secs(5), jitter: 0.5 }
    }
}

impl Backoff {
    /// The pause before repetition number `repetition`; 0 is the first.
    pub(crate) fn before(self, repetition: u32) -> Duration {
        self.less(repetition, (RandomState::new().hash_one(0) >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// The same, shorter by this part of what chance may take.
    fn less(self, repetition: u32, part: f64) -> Duration {
        let full = self.first.saturating_mul(2u32.saturating_pow(repetition)).min(self.max);
        full.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let backoff = Backoff::default();
        assert_eq!(backoff.less(0, 0.0), Duration::from_millis(100));
        assert_eq!(backoff.less(2, 0.0), Duration::from_millis(400));
        assert_eq!(backoff.less(29, 1.0), Duration::from_millis(2_500));
    }
}
