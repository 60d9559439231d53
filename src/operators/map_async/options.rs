//! What `map_async` may be told.

use crate::backoff::Backoff;
use std::time::Duration;

/// In which order results go on, and calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallOrder {
    /// Calls are made side by side; each result goes on when it is there.
    None,
    /// The calls of one key are made one after the other, so that the service and whoever reads the results see a key's
    /// records in their order. Those of different keys run side by side. Null keys have no order.
    #[default]
    Key,
    /// Calls are made side by side, also those of one key; results go on in the order of the records.
    All,
}

/// How often a call is made again that has failed, and after which pauses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// How often at most; 3. 0: never.
    pub retries_max: u32,
    /// The pause before the first repetition; it doubles with each; 100 ms.
    pub pause: Duration,
    /// The longest pause; 10 s.
    pub pause_max: Duration,
    /// Each pause is shorter by a random part of up to this share, so that those that failed together do not come back
    /// together; 0.5.
    pub jitter: f64,
}

impl Default for Retry {
    fn default() -> Self {
        let (pause, pause_max) = (Duration::from_millis(100), Duration::from_secs(10));
        Self { retries_max: 3, pause, pause_max, jitter: 0.5 }
    }
}

impl Retry {
    /// A call that fails has failed.
    pub fn never() -> Self {
        Self { retries_max: 0, ..Self::default() }
    }

    /// So often, with the pauses of the default.
    pub fn times(retries_max: u32) -> Self {
        Self { retries_max, ..Self::default() }
    }

    /// The pause before repetition `retries`; 0 is the first. A service that says when is not asked earlier, nor at once by all
    /// that it has told so.
    pub(super) fn pause(&self, retries: u32, after: Option<Duration>) -> Duration {
        let backoff = Backoff { first: self.pause, max: self.pause_max, jitter: self.jitter };
        after.map_or_else(|| backoff.before(retries), |after| after.saturating_add(backoff.before(0)))
    }
}

/// How many calls a client makes at most, all tasks together, repetitions included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Calls per second in the long run.
    pub per_second: f64,
    /// How many may be made at once after a time with fewer.
    pub burst: u32,
}

/// Stops calling a service that is down, for all tasks of a client together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// After so many failed calls in a row no more are made. A failure that another call would not mend
    /// ([`CallError::permanent`](super::CallError::permanent)) counts as an answer.
    pub failures_max: u32,
    /// So long; then one is tried, and where it succeeds all the others.
    pub pause: Duration,
    /// What becomes of the calls meanwhile: they wait (false, the task stands still when it has no more room), or they fail
    /// at once, and meet the processing policy.
    pub fail_fast: bool,
}

/// What `map_async` may be told.
///
/// ```
/// use std::time::Duration;
/// use watersmeet::prelude::*;
/// let options = AsyncOptions::new(64)
///     .order(CallOrder::None)
///     .timeout(Duration::from_secs(2))
///     .retry(Retry::times(5))
///     .rate_limit(RateLimit { per_second: 200.0, burst: 20 });
/// ```
#[derive(Debug, Clone)]
pub struct AsyncOptions {
    pub(crate) concurrency: usize,
    pub(crate) held_max: usize,
    pub(crate) order: CallOrder,
    pub(crate) timeout: Duration,
    pub(crate) retry: Retry,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) circuit_breaker: Option<CircuitBreaker>,
    pub(crate) patience: Duration,
    pub(crate) name: Option<String>,
}

impl Default for AsyncOptions {
    /// 64 calls at a time, a key's in order, each within 10 s, repeated three times.
    fn default() -> Self {
        Self::new(64)
    }
}

impl AsyncOptions {
    /// At most so many calls of one task are under way at the same time.
    pub fn new(concurrency: usize) -> Self {
        let concurrency = concurrency.max(1);
        Self {
            concurrency,
            held_max: concurrency * 4,
            order: CallOrder::default(),
            timeout: Duration::from_secs(10),
            retry: Retry::default(),
            rate_limit: None,
            circuit_breaker: None,
            patience: Duration::from_secs(2),
            name: None,
        }
    }

    /// The order of calls and results; [`CallOrder::Key`].
    pub fn order(mut self, order: CallOrder) -> Self {
        self.order = order;
        self
    }

    /// After which time a call has failed; 10 s. Each repetition has this time anew.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often and when calls are repeated that failed.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// How many calls are made in a time; no limit.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// When to stop calling; never.
    pub fn circuit_breaker(mut self, breaker: CircuitBreaker) -> Self {
        self.circuit_breaker = Some(breaker);
        self
    }

    /// How many records of a task may be held at most: those with a call under way, those that wait for one, and results that
    /// wait for their turn. Then the task takes no further record. Four times the concurrency.
    pub fn held_max(mut self, held_max: usize) -> Self {
        self.held_max = held_max.max(1);
        self
    }

    /// How long a task that goes to another thread or instance, or closes, waits for its calls to end; 2 s. Those that have not
    /// ended are cancelled, and made again where the partition goes on.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Names the operator.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}
