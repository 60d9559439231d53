//! What threads and the outside share: states, with their legal transitions, and each thread's last word.

use crate::clock::Clock;
use crate::error::Kind;
use crate::operators::cx::Counts;
use crate::status::{State, StreamsStatus, ThreadState, ThreadStatus, Totals, Trouble};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// States and figures of one client. Each thread writes its own entry, once per turn; the client's state follows.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// Who is told of the client's states. The lock keeps the calls in the order of the changes.
    listener: Mutex<Option<Arc<OnState>>>,
    stopping: AtomicBool,
    /// Whether what stops leaves the group.
    leaving: AtomicBool,
    /// The stream thread that is to end while the client goes on; 0 for none.
    removing: AtomicUsize,
    /// How many stream threads there should be.
    thread_count: AtomicUsize,
    pub(crate) clock: Arc<dyn Clock>,
    application_id: String,
    stall_limit_ms: i64,
    pub(crate) started_ms: i64,
    /// Not only this client ends: all instances of the application do.
    application_ends: AtomicBool,
    /// No records are processed for the time being.
    paused: AtomicBool,
}

type OnState = dyn Fn(State, State) + Send + Sync;

struct Inner {
    state: State,
    /// Changes of the state, new and old, that the listener has not been told of.
    untold: VecDeque<(State, State)>,
    since_ms: i64,
    reason: String,
    /// The kind of the error that ended the client.
    failure: Option<Kind>,
    has_been_running: bool,
    threads: BTreeMap<usize, ThreadStatus>,
    trouble: Option<Trouble>,
    totals: Totals,
}

/// Where the client may go. Source: `KafkaStreams.State`.
fn client_may_go(from: State, to: State) -> bool {
    use State::*;
    matches!(
        (from, to),
        (Created, Rebalancing | PendingShutdown | PendingError)
            | (Rebalancing, Running | PendingShutdown | PendingError)
            | (Running, Rebalancing | PendingShutdown | PendingError)
            | (PendingShutdown, NotRunning)
            | (PendingError, Error)
    )
}

/// Where a stream thread may go. Source: `StreamThread.State`.
fn thread_may_go(from: ThreadState, to: ThreadState) -> bool {
    use ThreadState::*;
    matches!(
        (from, to),
        (Created, Starting | PendingShutdown)
            | (Starting, PartitionsRevoked | PartitionsAssigned | PendingShutdown)
            | (PartitionsRevoked, PartitionsRevoked | PartitionsAssigned | PendingShutdown)
            | (PartitionsAssigned, PartitionsRevoked | PartitionsAssigned | Running | PendingShutdown)
            | (Running, PartitionsRevoked | PartitionsAssigned | Running | PendingShutdown)
            | (PendingShutdown, Dead)
    )
}

impl Shared {
    pub(crate) fn new(application_id: String, clock: Arc<dyn Clock>, stall_limit: Duration) -> Self {
        let started_ms = clock.now_ms();
        let inner = Inner {
            state: State::Created,
            untold: VecDeque::new(),
            since_ms: clock.now_ms(),
            reason: String::from("not started"),
            failure: None,
            has_been_running: false,
            threads: BTreeMap::new(),
            trouble: None,
            totals: Totals::default(),
        };
        Self {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
            listener: Mutex::default(),
            stopping: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            removing: AtomicUsize::new(0),
            thread_count: AtomicUsize::new(0),
            clock,
            application_id,
            stall_limit_ms: stall_limit.as_millis() as i64,
            started_ms,
            application_ends: AtomicBool::new(false),
            paused: AtomicBool::new(false),
        }
    }

    /// A panic while the lock was held leaves whole values behind (every write is one assignment), so it stays usable: the
    /// health page must be able to tell of that very panic.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells this listener of the client's states from now on.
    pub(crate) fn listen(&self, listener: Option<Arc<OnState>>) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = listener;
    }

    /// Wakes those who wait for a change, and tells the listener. Where another call is doing that already, or the listener
    /// itself made the change, that call tells this one too.
    fn tell(&self) {
        self.changed.notify_all();
        while !self.lock().untold.is_empty() {
            let Ok(listener) = self.listener.try_lock() else { return };
            let Some((new, old)) = self.lock().untold.pop_front() else { return };
            if let Some(listener) = &*listener {
                listener(new, old);
            }
        }
    }

    /// Asks every thread to close its tasks and end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Lets no records be processed any more, or again.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// All instances of the application are to end, and not only this one.
    pub(crate) fn end_application(&self) {
        self.application_ends.store(true, Ordering::Release);
    }

    pub(crate) fn application_ends(&self) -> bool {
        self.application_ends.load(Ordering::Acquire)
    }

    /// As [`stop`](Self::stop), and to leave the group at once.
    pub(crate) fn stop_and_leave(&self) {
        self.leaving.store(true, Ordering::Release);
        self.stop();
    }

    /// Asks one stream thread to leave the group and end; `None` takes that back.
    pub(crate) fn remove(&self, thread: Option<usize>) {
        self.removing.store(thread.unwrap_or(0), Ordering::Release);
    }

    /// Whether this stream thread is to end.
    pub(crate) fn is_stopping_thread(&self, number: usize) -> bool {
        self.is_stopping() || self.removing.load(Ordering::Acquire) == number
    }

    /// Whether this stream thread, which is to end, leaves the group.
    pub(crate) fn leaves(&self, number: usize) -> bool {
        self.leaving.load(Ordering::Acquire)
            || self.application_ends()
            || self.removing.load(Ordering::Acquire) == number
    }

    /// So many stream threads share what the client has.
    pub(crate) fn set_thread_count(&self, count: usize) {
        self.thread_count.store(count, Ordering::Relaxed);
    }

    /// How many stream threads share what the client has.
    pub(crate) fn thread_count(&self) -> usize {
        self.thread_count.load(Ordering::Relaxed)
    }

    /// Moves the client to `to`. What is not legal is ignored, as Kafka Streams does for a client on its way down.
    /// Notes what kind of error ends the client; the first one counts.
    pub(crate) fn failed(&self, kind: Kind) {
        self.lock().failure.get_or_insert(kind);
    }

    /// The kind of the error that ended the client.
    pub(crate) fn failure(&self) -> Option<Kind> {
        self.lock().failure
    }

    pub(crate) fn transition(&self, to: State, reason: impl Into<String>) {
        self.lock().go(to, reason.into(), self.clock.now_ms());
        self.tell();
    }

    pub(crate) fn state(&self) -> State {
        self.lock().state
    }

    /// Waits until the client's state is one of `states`; false where it is not after `timeout`.
    pub(crate) fn wait_for(&self, states: &[State], timeout: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, |inner| !states.contains(&inner.state));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// A thread with this number begins its life.
    pub(crate) fn add_thread(&self, number: usize, name: String) {
        let now_ms = self.clock.now_ms();
        let status = ThreadStatus {
            name,
            state: ThreadState::Created,
            last_turn_ms: now_ms,
            last_progress_ms: now_ms,
            tasks: Vec::new(),
            error: None,
        };
        self.lock().threads.insert(number, status);
    }

    /// Moves a thread to `to`, and the client where its state follows.
    pub(crate) fn thread_state(&self, number: usize, to: ThreadState) {
        let now_ms = self.clock.now_ms();
        let mut inner = self.lock();
        let Some(thread) = inner.threads.get_mut(&number) else { return };
        if !thread_may_go(thread.state, to) {
            tracing::debug!(thread = thread.name, "ignored the transition {:?} -> {to:?}", thread.state);
            return;
        }
        thread.state = to;
        thread.last_progress_ms = now_ms;
        match to {
            ThreadState::PartitionsRevoked | ThreadState::PartitionsAssigned => {
                let reason = format!("{} is getting its partitions", inner.threads[&number].name);
                inner.go(State::Rebalancing, reason, now_ms);
            }
            ThreadState::Running => {
                inner.go_if_all_run(now_ms);
            }
            _ => {}
        }
        drop(inner);
        self.tell();
    }

    /// A thread has ended; `error` says why, where it did not end in order.
    pub(crate) fn thread_ended(&self, number: usize, error: Option<String>) {
        let mut inner = self.lock();
        inner.totals.failed_threads += u64::from(error.is_some());
        if let Some(thread) = inner.threads.get_mut(&number) {
            thread.state = ThreadState::Dead;
            thread.error = error;
            thread.tasks.clear();
        }
        drop(inner);
        self.tell();
    }

    /// A thread has been removed: the others are what counts.
    pub(crate) fn thread_removed(&self, number: usize) {
        let now_ms = self.clock.now_ms();
        let mut inner = self.lock();
        inner.threads.remove(&number);
        inner.go_if_all_run(now_ms);
        drop(inner);
        self.tell();
    }

    /// A thread's word at the end of a turn.
    pub(crate) fn turn(
        &self,
        number: usize,
        progress: bool,
        tasks: Option<Vec<crate::status::TaskStatus>>,
        counts: Counts,
    ) {
        let now_ms = self.clock.now_ms();
        let mut inner = self.lock();
        inner.totals.add(counts);
        if let Some(thread) = inner.threads.get_mut(&number) {
            thread.last_turn_ms = now_ms;
            if progress {
                thread.last_progress_ms = now_ms;
            }
            if let Some(tasks) = tasks {
                thread.tasks = tasks;
            }
        }
    }

    /// Counts of the task that fills the global stores.
    pub(crate) fn count(&self, counts: Counts) {
        self.lock().totals.add(counts);
    }

    /// The broker gives trouble (`Some`), or answers again (`None`).
    pub(crate) fn broker_trouble(&self, what: Option<String>) {
        let now_ms = self.clock.now_ms();
        let mut inner = self.lock();
        inner.trouble = what.map(|what| {
            let since_ms = inner.trouble.as_ref().map_or(now_ms, |t| t.since_ms);
            Trouble { since_ms, what }
        });
    }

    pub(crate) fn has_broker_trouble(&self) -> bool {
        self.lock().trouble.is_some()
    }

    pub(crate) fn status(&self) -> StreamsStatus {
        let inner = self.lock();
        StreamsStatus {
            application_id: self.application_id.clone(),
            state: inner.state,
            state_since_ms: inner.since_ms,
            reason: inner.reason.clone(),
            has_been_running: inner.has_been_running,
            threads: inner.threads.values().cloned().collect(),
            broker_trouble: inner.trouble.clone(),
            totals: inner.totals,
            stall_limit_ms: self.stall_limit_ms,
            now_ms: self.clock.now_ms(),
        }
    }
}

impl Inner {
    fn go_if_all_run(&mut self, now_ms: i64) {
        let up = |t: &ThreadStatus| matches!(t.state, ThreadState::Running | ThreadState::Dead);
        if self.threads.values().all(up) {
            self.go(State::Running, "every thread is running".into(), now_ms);
        }
    }

    fn go(&mut self, to: State, reason: String, now_ms: i64) {
        if !client_may_go(self.state, to) {
            return;
        }
        tracing::info!("state {:?} -> {to:?}: {reason}", self.state);
        self.untold.push_back((to, self.state));
        self.state = to;
        self.since_ms = now_ms;
        self.reason = reason;
        self.has_been_running |= to == State::Running;
    }
}

impl Totals {
    fn add(&mut self, counts: Counts) {
        self.processed += counts.processed;
        self.produced += counts.produced;
        self.dropped += counts.dropped;
        self.dead_lettered += counts.dead_lettered;
        self.join_misses += counts.join_misses;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn shared(threads: usize) -> Shared {
        let shared = Shared::new("app".into(), Arc::new(ManualClock::at(0)), Duration::from_secs(1));
        for number in 1..=threads {
            shared.add_thread(number, format!("t{number}"));
            shared.thread_state(number, ThreadState::Starting);
        }
        shared.transition(State::Rebalancing, "started");
        shared
    }

    fn run(shared: &Shared, number: usize) {
        shared.thread_state(number, ThreadState::PartitionsAssigned);
        shared.thread_state(number, ThreadState::Running);
    }

    #[test]
    fn running_needs_every_thread() {
        let shared = shared(2);
        run(&shared, 1);
        assert_eq!(shared.state(), State::Rebalancing);
        run(&shared, 2);
        assert_eq!(shared.state(), State::Running);
        assert!(shared.status().is_live() && shared.status().is_ready());
        shared.thread_state(1, ThreadState::PartitionsRevoked);
        assert_eq!(shared.state(), State::Rebalancing);
        assert!(!shared.status().is_ready() && shared.status().is_started());
    }

    #[test]
    fn a_dead_thread_is_not_live_though_the_client_runs() {
        let shared = shared(2);
        run(&shared, 1);
        shared.thread_ended(2, Some("boom".into()));
        run(&shared, 1);
        assert_eq!(shared.state(), State::Running);
        assert!(!shared.status().is_live());
    }

    #[test]
    fn there_is_no_way_back_from_error() {
        let shared = shared(1);
        shared.transition(State::PendingError, "thread died");
        shared.transition(State::Rebalancing, "no");
        shared.transition(State::Error, "all threads have ended");
        shared.transition(State::Running, "no");
        assert_eq!(shared.state(), State::Error);
    }

    #[test]
    fn trouble_keeps_its_beginning() {
        let clock = ManualClock::at(5);
        let shared = Shared::new("app".into(), Arc::new(clock.clone()), Duration::from_secs(1));
        shared.broker_trouble(Some("down".into()));
        clock.advance_ms(10);
        shared.broker_trouble(Some("still down".into()));
        assert_eq!(shared.status().broker_trouble.map(|t| t.since_ms), Some(5));
        shared.broker_trouble(None);
        assert!(!shared.has_broker_trouble());
    }
}
