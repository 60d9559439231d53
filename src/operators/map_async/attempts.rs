//! One record's call with its repetitions, as it runs beside the stream threads.

use super::gates::{Breaker, Pacer, Passed};
use super::options::{AsyncOptions, Retry};
use crate::operators::process::RecordMetadata;
use crate::record::Record;
use std::fmt::Display;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a call is made for.
#[derive(Debug, Clone)]
pub struct Call<K, V> {
    /// The record.
    pub record: Record<K, V>,
    /// Where it came from; `None` where no record of a topic caused it. The same after a restart, so that a service can tell
    /// a repetition ([`id`](Self::id)).
    pub origin: Option<RecordMetadata>,
    /// 1 for the first attempt.
    pub attempt: u32,
}

impl<K, V> Call<K, V> {
    /// Names the record for a service that must not do the same thing twice: `<topic>-<partition>-<offset>`. A call is made
    /// again after a failure, and after a crash.
    pub fn id(&self) -> Option<String> {
        let RecordMetadata { topic, partition, offset } = self.origin.as_ref()?;
        Some(format!("{topic}-{partition}-{offset}"))
    }
}

impl<K, V> Deref for Call<K, V> {
    type Target = Record<K, V>;
    fn deref(&self) -> &Record<K, V> {
        &self.record
    }
}

/// Why a call has failed. Every error that can be printed becomes one with `?`, and is then worth another attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    what: String,
    permanent: bool,
    after: Option<Duration>,
}

impl CallError {
    /// Another attempt may succeed.
    pub fn passing(what: impl Display) -> Self {
        Self { what: what.to_string(), permanent: false, after: None }
    }

    /// Another attempt would fail as well: it meets the processing policy at once.
    pub fn permanent(what: impl Display) -> Self {
        Self { permanent: true, ..Self::passing(what) }
    }

    /// Another attempt may succeed, but not before this time, as the service said (`Retry-After`), however long that is.
    pub fn after(pause: Duration, what: impl Display) -> Self {
        Self { after: Some(pause), ..Self::passing(what) }
    }

    /// What has happened.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl<E: Display> From<E> for CallError {
    fn from(error: E) -> Self {
        Self::passing(error)
    }
}

/// The user's function.
pub(crate) type Caller<K, V, W> =
    Arc<dyn Fn(Call<K, V>) -> Pin<Box<dyn Future<Output = Result<W, CallError>> + Send>> + Send + Sync>;

/// What all tasks of a client share of one `map_async`.
pub(crate) struct Attempts {
    timeout: Duration,
    retry: Retry,
    pacer: Option<Pacer>,
    breaker: Option<Breaker>,
}

/// Why a call fails that is not made.
const OPEN: &str = "the circuit breaker is open: the service has not answered lately";

/// How a call has ended.
pub(crate) struct Outcome<W> {
    pub(crate) result: Result<W, String>,
    pub(crate) retried: u32,
    pub(crate) nanos: u64,
}

impl Attempts {
    pub(crate) fn new(options: &AsyncOptions) -> Self {
        Self {
            timeout: options.timeout,
            retry: options.retry,
            pacer: options.rate_limit.map(Pacer::new),
            breaker: options.circuit_breaker.map(Breaker::new),
        }
    }

    /// Makes the call until it succeeds, or has failed for good.
    pub(crate) async fn run<K: Clone, V: Clone, W>(&self, caller: Caller<K, V, W>, mut call: Call<K, V>) -> Outcome<W> {
        let began = Instant::now();
        let result = loop {
            let CallError { what, permanent, after } = match self.attempt(&caller, call.clone()).await {
                Ok(value) => break Ok(value),
                Err(error) => error,
            };
            let retries = call.attempt - 1;
            if permanent || retries >= self.retry.retries_max {
                let times = if call.attempt > 1 { format!(" ({} attempts)", call.attempt) } else { String::new() };
                break Err(format!("{what}{times}"));
            }
            tracing::debug!("a call has failed and is made again: {what}");
            let pause = self.retry.pause(retries, after);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            call.attempt += 1;
        };
        Outcome { result, retried: call.attempt - 1, nanos: began.elapsed().as_nanos() as u64 }
    }

    async fn attempt<K, V, W>(&self, caller: &Caller<K, V, W>, call: Call<K, V>) -> Result<W, CallError> {
        let passed = self.pass().await?;
        let result = match tokio::time::timeout(self.timeout, caller(call)).await {
            Ok(result) => result,
            Err(_) => Err(CallError::passing(format!("the call has not ended within {:?}", self.timeout))),
        };
        if let Some(passed) = passed {
            passed.tell(result.as_ref().err().is_none_or(|error| error.permanent));
        }
        result
    }

    /// Waits until a call may be made. What the circuit breaker says counts when it is its turn: while it waited for that the
    /// service may have gone down.
    async fn pass(&self) -> Result<Option<Passed<'_>>, CallError> {
        loop {
            let passed = match &self.breaker {
                None => None,
                Some(breaker) => Some(breaker.pass().await.ok_or_else(|| CallError::permanent(OPEN))?),
            };
            if let Some(pacer) = &self.pacer {
                pacer.pass().await;
            }
            if passed.as_ref().is_none_or(Passed::holds) {
                return Ok(passed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::{CircuitBreaker, RateLimit};
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Runs calls that fail so often; the result and how many were made.
    fn run(options: AsyncOptions, failures: u32, error: CallError) -> (Outcome<u32>, u32) {
        let made = Arc::new(AtomicU32::new(0));
        let count = made.clone();
        let caller: Caller<u32, u32, u32> = Arc::new(move |call| {
            let (n, error) = (count.fetch_add(1, Ordering::SeqCst), error.clone());
            Box::pin(async move { if n < failures { Err(error) } else { Ok(call.value * 2 + call.attempt * 100) } })
        });
        let call = Call { record: Record::new(1, 2, 3), origin: None, attempt: 1 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(Attempts::new(&options).run(caller, call));
        (outcome, made.load(Ordering::SeqCst))
    }

    fn quick(retries_max: u32) -> AsyncOptions {
        AsyncOptions::new(1).retry(Retry { pause: Duration::from_millis(1), ..Retry::times(retries_max) })
    }

    #[test]
    fn a_call_is_repeated_until_it_succeeds_or_has_failed_too_often() {
        let (outcome, made) = run(quick(3), 2, CallError::passing("busy"));
        assert_eq!((outcome.result, outcome.retried, made), (Ok(304), 2, 3));
        let (outcome, made) = run(quick(1), 2, CallError::passing("busy"));
        assert_eq!((outcome.result, made), (Err("busy (2 attempts)".into()), 2));
    }

    #[test]
    fn what_another_call_would_not_mend_is_not_repeated() {
        let (outcome, made) = run(quick(3), 1, CallError::permanent("no such page"));
        assert_eq!((outcome.result, made), (Err("no such page".into()), 1));
    }

    #[test]
    fn a_call_that_hangs_fails() {
        let options = AsyncOptions::new(1).timeout(Duration::from_millis(5)).retry(Retry::never());
        let caller: Caller<u32, u32, u32> = Arc::new(|_| Box::pin(std::future::pending()));
        let call = Call { record: Record::new(1, 2, 3), origin: None, attempt: 1 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(Attempts::new(&options).run(caller, call));
        assert_eq!(outcome.result, Err("the call has not ended within 5ms".into()));
    }

    #[test]
    fn pauses_grow_and_are_never_longer_than_the_longest() {
        let pause_ms = |n| Retry::default().pause(n, None).as_millis();
        assert!((50..=100).contains(&pause_ms(0)));
        assert!((200..=400).contains(&pause_ms(2)));
        assert!((5_000..=10_000).contains(&pause_ms(30)));
    }

    #[test]
    fn a_service_that_says_when_is_not_asked_earlier_nor_by_all_at_once() {
        let told = Duration::from_secs(30);
        let pauses: Vec<Duration> = (0..20).map(|n| Retry::default().pause(n, Some(told))).collect();
        assert!(pauses.iter().all(|pause| (told..told + Duration::from_secs(1)).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        let (outcome, made) = run(quick(1), 1, CallError::after(Duration::from_millis(30), "busy"));
        assert!(made == 2 && outcome.nanos >= 30_000_000, "{} ns", outcome.nanos);
    }

    /// Calls that all fail at once, begun together: why, and how many were made.
    fn together(options: AsyncOptions, count: u32) -> (Vec<String>, u32) {
        let (made, attempts) = (Arc::new(AtomicU32::new(0)), Arc::new(Attempts::new(&options.retry(Retry::never()))));
        let counted = made.clone();
        let caller: Caller<u32, u32, u32> = Arc::new(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Err("down".into()) })
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let began = (0..count).map(|n| {
            let (attempts, caller) = (attempts.clone(), caller.clone());
            let call = Call { record: Record::new(n, n, 3), origin: None, attempt: 1 };
            runtime.spawn(async move { attempts.run(caller, call).await.result.unwrap_err() })
        });
        let began: Vec<_> = began.collect();
        let ended = began.into_iter().map(|call| runtime.block_on(call).unwrap()).collect();
        (ended, made.load(Ordering::SeqCst))
    }

    #[test]
    fn calls_keep_to_the_rate_and_none_is_made_that_has_waited_for_it_while_the_service_went_down() {
        let limit = RateLimit { per_second: 100.0, burst: 1 };
        let breaker = CircuitBreaker { failures_max: 2, pause: Duration::from_secs(60), fail_fast: true };
        let began = Instant::now();
        let limited = AsyncOptions::new(8).rate_limit(limit);
        assert_eq!(together(limited.clone(), 5), (vec!["down".into(); 5], 5));
        assert!(began.elapsed() >= Duration::from_millis(40));
        let (ended, made) = together(limited.circuit_breaker(breaker), 5);
        assert_eq!((made, ended.iter().filter(|why| *why == OPEN).count()), (2, 3), "{ended:?}");
    }
}
