//! What calls of all tasks pass before they are made: the rate limit and the circuit breaker.

use super::options::{CircuitBreaker, RateLimit};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

/// Spaces calls out.
pub(super) struct Pacer {
    interval: Duration,
    burst: Duration,
    /// When the next call would be due without a burst.
    next: Mutex<Option<Instant>>,
}

impl Pacer {
    pub(super) fn new(limit: RateLimit) -> Self {
        let interval = Duration::from_secs_f64(1.0 / limit.per_second.max(1e-3));
        Self { interval, burst: interval * limit.burst.saturating_sub(1), next: Mutex::new(None) }
    }

    /// When the call may be made that asks at `now`.
    fn slot(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let due = next.map_or(now, |next| next.max(now));
        *next = Some(due + self.interval);
        now.max(due.checked_sub(self.burst).unwrap_or(now))
    }

    /// Waits for its turn.
    pub(super) async fn pass(&self) {
        let slot = self.slot(Instant::now());
        if slot > Instant::now() {
            sleep_until(slot).await;
        }
    }
}

/// Lets calls pass as long as the service answers.
pub(super) struct Breaker {
    options: CircuitBreaker,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Calls are made; so many have failed in a row.
    Closed(u32),
    /// None is made before this time.
    Open(Instant),
    /// One is being tried.
    Trying,
}

/// A call that has passed. Dropped without an answer it has failed.
pub(super) struct Passed<'a> {
    breaker: &'a Breaker,
    trial: bool,
    told: bool,
}

impl Breaker {
    pub(super) fn new(options: CircuitBreaker) -> Self {
        Self { options, state: Mutex::new(State::Closed(0)), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a call may be made; `None` where calls are to fail instead of waiting.
    pub(super) async fn pass(&self) -> Option<Passed<'_>> {
        loop {
            let until = {
                let mut state = self.lock();
                match *state {
                    State::Closed(_) => return Some(Passed { breaker: self, trial: false, told: false }),
                    State::Open(until) if until <= Instant::now() => {
                        *state = State::Trying;
                        return Some(Passed { breaker: self, trial: true, told: false });
                    }
                    _ if self.options.fail_fast => return None,
                    State::Open(until) => Some(until),
                    State::Trying => None,
                }
            };
            match until {
                Some(until) => sleep_until(until).await,
                // Should the word of the trial's end come before this waits for it, it looks again all the same.
                None => drop(timeout(Duration::from_millis(50), self.changed.notified()).await),
            }
        }
    }
}

impl Passed<'_> {
    /// Whether it may still be made, after it has waited for its turn.
    pub(super) fn holds(&self) -> bool {
        self.trial || matches!(*self.breaker.lock(), State::Closed(_))
    }

    /// The service has answered, or not.
    pub(super) fn tell(mut self, answered: bool) {
        self.note(answered);
    }

    fn note(&mut self, answered: bool) {
        self.told = true;
        let Breaker { options, changed, .. } = self.breaker;
        let mut state = self.breaker.lock();
        let open = || State::Open(Instant::now() + options.pause);
        *state = match (*state, answered) {
            // What began before it opened says nothing new.
            (other @ (State::Open(_) | State::Trying), _) if !self.trial => other,
            (before, true) => {
                if before == State::Trying {
                    tracing::info!("a call has succeeded: they are made again");
                }
                State::Closed(0)
            }
            (State::Closed(failures), false) if failures + 1 < options.failures_max => State::Closed(failures + 1),
            (before, false) => {
                if before != State::Trying {
                    tracing::warn!("{} calls in a row have failed: none for {:?}", options.failures_max, options.pause);
                }
                open()
            }
        };
        changed.notify_waiters();
    }
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        if !self.told && self.trial {
            self.note(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn calls_are_spaced_out_after_a_burst() {
        let pacer = Pacer::new(RateLimit { per_second: 10.0, burst: 3 });
        let now = Instant::now();
        let waits: Vec<u128> = (0..5).map(|_| (pacer.slot(now) - now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200]);
        let later = now + Duration::from_secs(10);
        assert_eq!(pacer.slot(later), later);
    }

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    /// The call that passes first when the pause is over.
    async fn passed(breaker: &Breaker) -> Passed<'_> {
        loop {
            if let Some(passed) = breaker.pass().await {
                return passed;
            }
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_when_a_trial_succeeds() {
        let pause = Duration::from_millis(20);
        let breaker = Breaker::new(CircuitBreaker { failures_max: 2, pause, fail_fast: true });
        run(async {
            breaker.pass().await.unwrap().tell(false);
            breaker.pass().await.unwrap().tell(true);
            breaker.pass().await.unwrap().tell(false);
            breaker.pass().await.unwrap().tell(false);
            assert!(breaker.pass().await.is_none());
            let trial = passed(&breaker).await;
            assert!(breaker.pass().await.is_none());
            // It is cancelled.
            drop(trial);
            assert!(breaker.pass().await.is_none());
            passed(&breaker).await.tell(true);
            assert!(breaker.pass().await.is_some());
        });
    }

    #[test]
    fn who_does_not_fail_waits_for_the_trial() {
        let pause = Duration::from_millis(5);
        let breaker = Arc::new(Breaker::new(CircuitBreaker { failures_max: 1, pause, fail_fast: false }));
        run(async {
            breaker.pass().await.unwrap().tell(false);
            let trial = breaker.pass().await.unwrap();
            let also = breaker.clone();
            let waiting = tokio::spawn(async move { also.pass().await.unwrap().tell(true) });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            trial.tell(true);
            waiting.await.unwrap();
        });
    }
}
