//! Where calls to the outside run: on one tokio runtime for all threads of a client, so that no stream thread waits for them.

use super::holds::{Holds, Signal};
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// What runs calls. Cheap to clone; the runtime's thread begins with the first call and ends with the last clone.
#[derive(Clone)]
pub struct Calls(Arc<Place>);

enum Place {
    /// On a thread of their own.
    Thread(OnceLock<Running>),
    /// On the thread that makes the call, at once; the results come in later turns. For simulations.
    Inline,
}

struct Running {
    handle: Handle,
    /// Ends the thread when it is dropped.
    _end: oneshot::Sender<()>,
}

impl Default for Calls {
    fn default() -> Self {
        Self(Arc::new(Place::Thread(OnceLock::new())))
    }
}

impl Calls {
    /// Calls that run where they are made, to their end, so that a simulation repeats itself.
    pub(crate) fn inline() -> Self {
        Self(Arc::new(Place::Inline))
    }
}

fn new_runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system has no descriptors left for watersmeet's calls")
}

fn start() -> Running {
    let runtime = new_runtime();
    let (end, ended) = oneshot::channel::<()>();
    let handle = runtime.handle().clone();
    let run = move || drop(runtime.block_on(ended));
    let thread = std::thread::Builder::new().name("calls".into()).spawn(run);
    thread.expect("the system has no thread left for watersmeet's calls");
    Running { handle, _end: end }
}

/// How a call ended: with this, or with a panic that said this.
pub type Ended<T> = Result<T, String>;

/// The calls of one node that are under way, each with a number that the node has chosen. Those that are left when it is
/// dropped are cancelled.
pub struct InFlight<T> {
    calls: Calls,
    signal: Arc<Signal>,
    ended: (Sender<(u64, Ended<T>)>, Receiver<(u64, Ended<T>)>),
    running: HashMap<u64, AbortHandle>,
    inline: Inline<T>,
}

/// Results of calls that ran at once, and the turn in which each is told.
struct Inline<T> {
    turn: u64,
    results: VecDeque<(u64, u64, Ended<T>)>,
}

impl<T: Send + 'static> InFlight<T> {
    /// None yet. `holds` are those of the task.
    pub fn new(calls: Calls, holds: &Holds) -> Self {
        let inline = Inline { turn: 0, results: VecDeque::new() };
        Self { calls, signal: holds.signal().clone(), ended: channel(), running: HashMap::new(), inline }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.running.len() + self.inline.results.len()
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Starts a call. Its number must not be that of another one that is under way.
    pub fn start(&mut self, number: u64, call: impl Future<Output = T> + Send + 'static) {
        match &*self.calls.0 {
            Place::Thread(running) => {
                let (ended, signal) = (self.ended.0.clone(), self.signal.clone());
                let task = running.get_or_init(start).handle.spawn(async move {
                    let result = caught(call).await;
                    // Whoever made the call may have gone meanwhile.
                    let _ = ended.send((number, result));
                    signal.notify();
                });
                self.running.insert(number, task.abort_handle());
            }
            Place::Inline => {
                let result = new_runtime().block_on(caught(call));
                let turns = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61;
                self.inline.results.push_back((self.inline.turn + turns, number, result));
            }
        }
    }

    /// A turn of the thread begins.
    pub fn turn(&mut self) {
        self.inline.turn += 1;
    }

    /// Takes a call that has ended. `urgent`: somebody waits for all of them.
    pub fn take_ended(&mut self, urgent: bool) -> Option<(u64, Ended<T>)> {
        let Inline { turn, results } = &mut self.inline;
        if let Some(i) = results.iter().position(|(due, ..)| urgent || due <= turn) {
            return results.remove(i).map(|(_, number, result)| (number, result));
        }
        while let Ok((number, result)) = self.ended.1.try_recv() {
            // One that was cancelled may have ended all the same.
            if self.running.remove(&number).is_some() {
                return Some((number, result));
            }
        }
        None
    }

    /// Cancels a call: nothing will be told of it.
    pub fn cancel(&mut self, number: u64) {
        if let Some(task) = self.running.remove(&number) {
            task.abort();
        }
        self.inline.results.retain(|(_, of, _)| *of != number);
    }
}

impl<T> Drop for InFlight<T> {
    fn drop(&mut self) {
        self.running.values().for_each(AbortHandle::abort);
    }
}

/// The future, with its panics as values.
async fn caught<T>(future: impl Future<Output = T>) -> Ended<T> {
    let mut future = Box::pin(future);
    poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(super::panic_text(&*panic))),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn all(calls: Calls) -> Vec<(u64, Ended<u64>)> {
        let holds = Holds::default();
        let mut in_flight = InFlight::new(calls, &holds);
        for n in 0..20 {
            in_flight.start(n, async move {
                tokio::task::yield_now().await;
                assert!(n != 7, "not seven");
                n * 2
            });
        }
        in_flight.cancel(3);
        let (mut ended, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(20));
        while !in_flight.is_empty() && Instant::now() < deadline {
            in_flight.turn();
            while let Some(one) = in_flight.take_ended(false) {
                ended.push(one);
            }
            if !in_flight.is_empty() {
                holds.signal().wait(Duration::from_millis(1));
            }
        }
        ended.sort_by_key(|(n, _)| *n);
        ended
    }

    #[test]
    fn calls_end_with_their_results_and_panics_and_those_that_are_cancelled_not_at_all() {
        let expected: Vec<(u64, Ended<u64>)> = (0..20)
            .filter(|n| *n != 3)
            .map(|n| (n, if n == 7 { Err("not seven".into()) } else { Ok(n * 2) }))
            .collect();
        assert_eq!(all(Calls::default()), expected);
        assert_eq!(all(Calls::inline()), expected);
    }
}
