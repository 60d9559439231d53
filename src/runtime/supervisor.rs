//! Starts the stream threads, and decides what follows when one ends: replace it, or close the client. Never a zombie.

use super::global;
use super::shared::Shared;
use super::status::{State, ThreadState};
use super::thread::{App, StreamThread, Turn};
use crate::config::Uncaught;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How a client came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// A signal came; everything was committed and closed.
    Drained,
    /// A signal came; not everything could be committed and closed before the deadline.
    DeadlineMissed,
    /// The client is in ERROR: the reason.
    Failed(String),
    /// The client is in ERROR because topics and topology do not fit together: the reason. Starting again will not help.
    DoesNotFit(String),
}

impl Ended {
    /// The exit code for the process: 0 drained, 4 deadline missed, 1 failed.
    pub fn exit_code(&self) -> i32 {
        match self {
            Ended::Drained => 0,
            Ended::Failed(_) => 1,
            Ended::DoesNotFit(_) => 3,
            Ended::DeadlineMissed => 4,
        }
    }
}

/// A thread with this number has ended.
struct Exit {
    number: usize,
    result: Result,
}

/// The first pause before a thread is replaced; it doubles with each death in a row, up to [`REPLACE_DELAY_MAX`].
const REPLACE_DELAY: Duration = Duration::from_millis(100);
const REPLACE_DELAY_MAX: Duration = Duration::from_secs(10);
/// How often at least the state directory is looked through for what can go.
const CLEAN_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// How often a broker in trouble is asked whether it is back.
const TROUBLE_PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Starts the threads and the supervisor over them.
pub(super) fn start(app: Arc<App>) -> JoinHandle<()> {
    app.shared.transition(State::Rebalancing, "starting");
    let (exits_in, exits) = channel();
    let mut crew = Crew::default();
    if app.globals.specs().is_empty() {
        crew.spawn_all(&app, &exits_in);
    } else {
        // Threads begin when the global stores are complete.
        crew.alive = 1;
        crew.global_ready = Some(spawn_global(&app, &exits_in));
    }
    named("supervisor", move || supervise(&app, crew, &exits_in, &exits))
}

/// The threads under supervision.
#[derive(Default)]
struct Crew {
    alive: usize,
    /// Set while the stream threads wait for the global stores.
    global_ready: Option<Arc<AtomicBool>>,
}

impl Crew {
    fn spawn_all(&mut self, app: &Arc<App>, exits: &Sender<Exit>) {
        // Where only global stores are filled there is nothing for stream threads to do.
        if app.plan.source_topics().is_empty() {
            app.shared.transition(State::Running, "the global stores are complete");
            return;
        }
        for number in 1..=app.config.num_stream_threads {
            spawn(app, number, exits);
            self.alive += 1;
        }
    }

    fn go_on_when_ready(&mut self, app: &Arc<App>, exits: &Sender<Exit>) {
        if self.global_ready.as_ref().is_some_and(|ready| ready.load(Ordering::Acquire)) {
            self.global_ready = None;
            if !app.shared.is_stopping() {
                self.spawn_all(app, exits);
            }
        }
    }
}

/// The number of the thread that fills the global stores, beside those of the stream threads.
const GLOBAL: usize = 0;

fn spawn_global(app: &Arc<App>, exits: &Sender<Exit>) -> Arc<AtomicBool> {
    let ready = Arc::new(AtomicBool::new(false));
    let (app, exits, is_ready) = (app.clone(), exits.clone(), ready.clone());
    named("GlobalStreamThread", move || {
        let run = catch_unwind(AssertUnwindSafe(|| global::run(&app, &is_ready)));
        let result = run.unwrap_or_else(|panic| {
            let text = crate::operators::panic_text(&*panic);
            Err(Error::new(Kind::Internal, format!("the global stream thread panicked: {text}"))
                .hint("this is a defect of watersmeet: please report it with the log"))
        });
        // Whoever supervised has gone only when the process ends.
        let _ = exits.send(Exit { number: GLOBAL, result });
    });
    ready
}

fn named(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.into()).spawn(run).expect("the system has no thread left for watersmeet")
}

fn thread_name(app: &App, number: usize) -> String {
    let client = app.config.client_id.clone();
    let client = client.unwrap_or_else(|| format!("{}-{}", app.config.application_id, app.directory.process_id()));
    format!("{client}-StreamThread-{number}")
}

fn spawn(app: &Arc<App>, number: usize, exits: &Sender<Exit>) {
    let name = thread_name(app, number);
    app.shared.add_thread(number, name);
    let (app, exits) = (app.clone(), exits.clone());
    named(&format!("StreamThread-{number}"), move || {
        let result = catch_unwind(AssertUnwindSafe(|| run(number, &app))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
            Err(Error::new(Kind::Internal, format!("stream thread {number} panicked: {text}"))
                .hint("this is a defect of watersmeet: please report it with the log"))
        });
        // Whoever supervised has gone only when the process ends.
        let _ = exits.send(Exit { number, result });
    });
}

fn run(number: usize, app: &Arc<App>) -> Result {
    let mut thread = StreamThread::new(number, app.clone())?;
    while thread.step()? != Turn::Stopped {}
    Ok(())
}

fn supervise(app: &Arc<App>, mut crew: Crew, exits_in: &Sender<Exit>, exits: &Receiver<Exit>) {
    let mut replace_at: BTreeMap<usize, Instant> = BTreeMap::new();
    let mut deaths: BTreeMap<usize, (u32, Instant)> = BTreeMap::new();
    let (mut last_probe, mut last_cleaned) = (Instant::now(), Instant::now());
    while crew.alive > 0 || !replace_at.is_empty() {
        match exits.recv_timeout(Duration::from_millis(50)) {
            Ok(Exit { number, result }) => {
                crew.alive -= 1;
                app.shared.thread_ended(number, result.as_ref().err().map(ToString::to_string));
                if let Err(error) = result {
                    tracing::error!("stream thread {number} ended: {error}");
                    let replace = number != GLOBAL && app.config.uncaught == Uncaught::ReplaceThread;
                    if replace && may_be_replaced(&error) {
                        let delay = replace_delay(deaths.entry(number).or_insert((0, Instant::now())));
                        replace_at.insert(number, Instant::now() + delay);
                    } else {
                        fail(&app.shared, &error);
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if app.shared.is_stopping() {
            replace_at.clear();
        }
        let due: Vec<usize> = replace_at.iter().filter(|(_, at)| **at <= Instant::now()).map(|(n, _)| *n).collect();
        for number in due {
            replace_at.remove(&number);
            tracing::warn!("replacing stream thread {number}");
            spawn(app, number, exits_in);
            crew.alive += 1;
        }
        crew.go_on_when_ready(app, exits_in);
        probe_broker(app, &mut last_probe);
        purge(app);
        clean(app, &mut last_cleaned);
    }
    app.shared.transition(State::NotRunning, "closed in order");
    app.shared.transition(State::Error, app.shared.status().reason);
}

/// Replacing the thread helps against a passing fault of one thread only: not against a missing topic, a wrong setting or
/// a state directory that cannot be written.
fn may_be_replaced(error: &Error) -> bool {
    !matches!(error.kind(), Kind::Config | Kind::Topology | Kind::State)
}

fn replace_delay((count, last): &mut (u32, Instant)) -> Duration {
    *count = if last.elapsed() > Duration::from_secs(60) { 0 } else { *count };
    let delay = REPLACE_DELAY * 2u32.pow((*count).min(7));
    *count += 1;
    *last = Instant::now();
    delay.min(REPLACE_DELAY_MAX)
}

fn fail(shared: &Shared, error: &Error) {
    shared.failed(error.kind());
    shared.transition(State::PendingError, error.to_string());
    shared.stop();
}

/// Asks a broker in trouble whether it is back: a quiet topic would not tell.
fn probe_broker(app: &App, last: &mut Instant) {
    if !app.shared.has_broker_trouble() || last.elapsed() < TROUBLE_PROBE_INTERVAL {
        return;
    }
    let topics: Vec<String> = app.plan.source_topics().iter().map(ToString::to_string).collect();
    if app.broker.admin().and_then(|mut admin| admin.topics(&topics)).is_ok() {
        app.shared.broker_trouble(None);
    }
    *last = Instant::now();
}

/// Lets a thread of its own remove the state of tasks that have long been elsewhere.
fn clean(app: &Arc<App>, last: &mut Instant) {
    let delay = app.config.state_cleanup_delay;
    if last.elapsed() < delay.min(CLEAN_INTERVAL_MAX) {
        return;
    }
    *last = Instant::now();
    let app = app.clone();
    named("state-cleanup", move || {
        for path in app.directory.clean(app.shared.clock.now_ms(), delay) {
            tracing::info!("removed the state in {}: its task has been elsewhere for {delay:?}", path.display());
        }
    });
}

/// Lets a thread of its own delete what threads have noted: a deletion may wait for the broker.
fn purge(app: &Arc<App>) {
    if let Some(before) = app.purge.begin() {
        let app = app.clone();
        named("purge", move || app.purge.run(&*app.broker, &before));
    }
}

pub(super) fn close(app: &App, timeout: Duration) -> bool {
    app.shared.transition(State::PendingShutdown, "closing");
    app.shared.stop();
    app.shared.wait_for(&[State::NotRunning, State::Error], timeout)
}

pub(super) fn run_until_signal(app: &App) -> Result<Ended> {
    let signalled = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, signalled.clone())
            .map_err(|e| Error::new(Kind::Internal, "cannot listen to signals").source(e))?;
    }
    while !signalled.load(Ordering::Relaxed) {
        if app.shared.wait_for(&[State::Error, State::NotRunning], Duration::from_millis(100)) {
            return Ok(match app.shared.state() {
                State::NotRunning => Ended::Drained,
                _ if app.shared.failure() == Some(Kind::Topology) => Ended::DoesNotFit(app.shared.status().reason),
                _ => Ended::Failed(app.shared.status().reason),
            });
        }
    }
    tracing::info!("signal received: draining");
    let in_time = close(app, app.config.shutdown_timeout);
    let status = app.shared.status();
    let unclean = status.threads.iter().find_map(|t| t.error.clone().filter(|_| t.state == ThreadState::Dead));
    Ok(match (in_time, unclean) {
        (false, _) => Ended::DeadlineMissed,
        (true, Some(error)) => Ended::Failed(error),
        (true, None) => Ended::Drained,
    })
}
