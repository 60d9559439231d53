//! Starts the stream threads, and decides what follows when one ends: replace it, or close the client. Never a zombie.

use super::app::App;
use super::global;
use super::shared::Shared;
use super::thread::{StreamThread, Turn};
use crate::config::Uncaught;
use crate::error::{Error, Kind, Result};
use crate::status::{State, ThreadState};
use std::collections::{BTreeMap, BTreeSet};
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
    /// The client is in ERROR, and all instances of the application end: one of them asked for it. The reason.
    ApplicationEnded(String),
}

impl Ended {
    /// The exit code for the process: 0 drained, 1 failed, 3 does not fit, 4 deadline missed, 5 the application was ended.
    pub fn exit_code(&self) -> i32 {
        match self {
            Ended::Drained => 0,
            Ended::Failed(_) => 1,
            Ended::DoesNotFit(_) => 3,
            Ended::DeadlineMissed => 4,
            Ended::ApplicationEnded(_) => 5,
        }
    }
}

/// What the supervisor is told.
enum Message {
    /// The thread with this number has ended.
    Exit { number: usize, result: Result },
    /// One more stream thread is wanted. The answer is its name; `None` where the client is on its way to its end.
    Add(Sender<Option<String>>),
    /// One stream thread less is wanted. The answer comes when it has ended.
    Remove(Sender<Option<String>>),
}

/// The supervisor of a client.
pub(crate) struct Supervisor {
    thread: JoinHandle<()>,
    messages: Sender<Message>,
}

impl Supervisor {
    /// Starts one more stream thread; its name, `None` where the client is on its way to its end.
    pub(crate) fn add_thread(&self) -> Option<String> {
        let (answer, answered) = channel();
        self.messages.send(Message::Add(answer)).ok()?;
        answered.recv().ok().flatten()
    }

    /// Ends a stream thread; its name, `None` where there is none to end, or it has not ended within `timeout`.
    pub(crate) fn remove_thread(&self, timeout: Duration) -> Option<String> {
        let (answer, answered) = channel();
        self.messages.send(Message::Remove(answer)).ok()?;
        answered.recv_timeout(timeout).ok().flatten()
    }

    /// Waits for the end.
    pub(crate) fn join(self) {
        // The supervisor cannot panic without a message of its own, and there is nobody left to tell.
        let _ = self.thread.join();
    }
}

/// The first pause before a thread is replaced; it doubles with each death in a row, up to [`REPLACE_DELAY_MAX`].
const REPLACE_DELAY: Duration = Duration::from_millis(100);
const REPLACE_DELAY_MAX: Duration = Duration::from_secs(10);
/// How often at least the state directory is looked through for what can go.
const CLEAN_INTERVAL_MAX: Duration = Duration::from_secs(60);
/// How often a broker in trouble is asked whether it is back.
const TROUBLE_PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Starts the threads and the supervisor over them.
pub(crate) fn start(app: Arc<App>) -> Supervisor {
    app.shared.transition(State::Rebalancing, "starting");
    let (messages, inbox) = channel();
    let mut crew = Crew::default();
    if app.globals.specs().is_empty() {
        crew.spawn_all(&app, &messages);
    } else {
        // Threads begin when the global stores are complete.
        crew.alive.insert(GLOBAL);
        crew.global_ready = Some(spawn_global(&app, &messages));
    }
    let outbox = messages.clone();
    Supervisor { thread: named("supervisor", move || supervise(&app, crew, &outbox, &inbox)), messages }
}

/// The threads under supervision.
#[derive(Default)]
struct Crew {
    /// The numbers of those that run.
    alive: BTreeSet<usize>,
    /// Set while the stream threads wait for the global stores.
    global_ready: Option<Arc<AtomicBool>>,
    /// Dead threads that will have a successor, and when.
    replace_at: BTreeMap<usize, Instant>,
    /// The thread that is asked to end, its name, and who wants to know when it has.
    removing: Option<(usize, String, Sender<Option<String>>)>,
    /// All stream threads have been removed, and more may be added.
    waits: bool,
}

impl Crew {
    fn spawn_all(&mut self, app: &Arc<App>, messages: &Sender<Message>) {
        // Where only global stores are filled there is nothing for stream threads to do.
        if app.plan.has_only_global_stores() {
            app.shared.transition(State::Running, "the global stores are complete");
            return;
        }
        for number in 1..=app.shared.thread_count() {
            self.spawn(app, number, messages);
        }
    }

    fn spawn(&mut self, app: &Arc<App>, number: usize, messages: &Sender<Message>) {
        spawn(app, number, messages);
        self.alive.insert(number);
        self.waits = false;
    }

    fn go_on_when_ready(&mut self, app: &Arc<App>, messages: &Sender<Message>) {
        if self.global_ready.as_ref().is_some_and(|ready| ready.load(Ordering::Acquire)) {
            self.global_ready = None;
            if !app.shared.is_stopping() {
                self.spawn_all(app, messages);
            }
        }
    }

    /// The numbers of the stream threads, those included that will have a successor.
    fn numbers(&self) -> BTreeSet<usize> {
        self.alive.iter().chain(self.replace_at.keys()).copied().filter(|number| *number != GLOBAL).collect()
    }

    /// Starts a stream thread with the lowest free number.
    fn add(&mut self, app: &Arc<App>, messages: &Sender<Message>) -> Option<String> {
        let is_up = matches!(app.shared.state(), State::Running | State::Rebalancing);
        if !is_up || app.shared.is_stopping() || app.plan.has_only_global_stores() {
            return None;
        }
        if self.global_ready.is_some() {
            // It starts with the others.
            let number = app.shared.thread_count() + 1;
            app.shared.set_thread_count(number);
            return Some(thread_name(app, number));
        }
        let number = (1..).find(|number| !self.numbers().contains(number))?;
        self.spawn(app, number, messages);
        app.shared.set_thread_count(self.numbers().len());
        Some(thread_name(app, number))
    }

    /// Asks the stream thread with the highest number to end.
    fn remove(&mut self, app: &App, answer: Sender<Option<String>>) {
        let last = self.alive.last().copied().filter(|number| *number != GLOBAL);
        match last {
            Some(number) if self.removing.is_none() && !app.shared.is_stopping() => {
                self.removing = Some((number, thread_name(app, number), answer));
                app.shared.remove(Some(number));
            }
            // Nobody waits any more where the answer cannot be given.
            _ => drop(answer.send(None)),
        }
    }

    /// A thread has ended. True where it had been asked to.
    fn ended(&mut self, app: &App, number: usize) -> bool {
        self.alive.remove(&number);
        let Some((_, name, answer)) = self.removing.take_if(|(asked, ..)| *asked == number) else { return false };
        app.shared.remove(None);
        app.shared.set_thread_count(self.numbers().len());
        self.waits = self.numbers().is_empty();
        tracing::info!("removed {name}");
        // Whoever asked may have lost patience.
        let _ = answer.send(Some(name));
        true
    }

    fn is_done(&self, app: &App) -> bool {
        self.alive.is_empty() && self.replace_at.is_empty() && (!self.waits || app.shared.is_stopping())
    }
}

/// The number of the thread that fills the global stores, beside those of the stream threads.
const GLOBAL: usize = 0;

fn spawn_global(app: &Arc<App>, messages: &Sender<Message>) -> Arc<AtomicBool> {
    let ready = Arc::new(AtomicBool::new(false));
    let (app, messages, is_ready) = (app.clone(), messages.clone(), ready.clone());
    named("GlobalStreamThread", move || {
        let run = catch_unwind(AssertUnwindSafe(|| global::run(&app, &is_ready)));
        let result = run.unwrap_or_else(|panic| {
            let text = crate::operators::panic_text(&*panic);
            Err(Error::new(Kind::Internal, format!("the global stream thread panicked: {text}"))
                .hint("this is a defect of watersmeet: please report it with the log"))
        });
        // Whoever supervised has gone only when the process ends.
        let _ = messages.send(Message::Exit { number: GLOBAL, result });
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

fn spawn(app: &Arc<App>, number: usize, messages: &Sender<Message>) {
    let name = thread_name(app, number);
    app.shared.add_thread(number, name);
    let (app, messages) = (app.clone(), messages.clone());
    named(&format!("StreamThread-{number}"), move || {
        let result = catch_unwind(AssertUnwindSafe(|| run(number, &app))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
            Err(Error::new(Kind::Internal, format!("stream thread {number} panicked: {text}"))
                .hint("this is a defect of watersmeet: please report it with the log"))
        });
        // Whoever supervised has gone only when the process ends.
        let _ = messages.send(Message::Exit { number, result });
    });
}

fn run(number: usize, app: &Arc<App>) -> Result {
    let mut thread = StreamThread::new(number, app.clone())?;
    loop {
        match thread.step() {
            Ok(Turn::Stopped) => return Ok(()),
            Ok(_) => {}
            Err(error) => {
                thread.failed();
                return Err(error);
            }
        }
    }
}

fn supervise(app: &Arc<App>, mut crew: Crew, messages: &Sender<Message>, inbox: &Receiver<Message>) {
    let mut deaths: BTreeMap<usize, (u32, Instant)> = BTreeMap::new();
    let (mut last_probe, mut last_cleaned) = (Instant::now(), Instant::now());
    let asking = Arc::new(AtomicBool::new(false));
    while !crew.is_done(app) {
        match inbox.recv_timeout(Duration::from_millis(50)) {
            Ok(Message::Add(answer)) => drop(answer.send(crew.add(app, messages))),
            Ok(Message::Remove(answer)) => crew.remove(app, answer),
            Ok(Message::Exit { number, result }) => {
                app.shared.thread_ended(number, result.as_ref().err().map(ToString::to_string));
                if crew.ended(app, number) {
                    app.shared.thread_removed(number);
                }
                if let Err(error) = result {
                    tracing::error!("stream thread {number} ended: {error}");
                    let replace = number != GLOBAL && app.config.uncaught == Uncaught::ReplaceThread;
                    if app.config.uncaught == Uncaught::ShutdownApplication {
                        app.shared.end_application();
                    }
                    if replace && may_be_replaced(&error) && !app.shared.application_ends() {
                        let delay = replace_delay(deaths.entry(number).or_insert((0, Instant::now())));
                        crew.replace_at.insert(number, Instant::now() + delay);
                    } else {
                        fail(&app.shared, &error);
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if app.shared.is_stopping() {
            crew.replace_at.clear();
        }
        let due: Vec<usize> =
            crew.replace_at.iter().filter(|(_, at)| **at <= Instant::now()).map(|(n, _)| *n).collect();
        for number in due {
            crew.replace_at.remove(&number);
            tracing::warn!("replacing stream thread {number}");
            crew.spawn(app, number, messages);
        }
        crew.go_on_when_ready(app, messages);
        probe_broker(app, &mut last_probe, &asking);
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

/// Lets a thread of its own ask a broker in trouble whether it is back: a quiet topic would not tell, and a broker that is
/// away keeps whoever asks waiting.
fn probe_broker(app: &Arc<App>, last: &mut Instant, asking: &Arc<AtomicBool>) {
    let in_trouble = app.shared.has_broker_trouble() && !app.shared.is_stopping();
    if !in_trouble || last.elapsed() < TROUBLE_PROBE_INTERVAL || asking.swap(true, Ordering::AcqRel) {
        return;
    }
    *last = Instant::now();
    let (app, asking) = (app.clone(), asking.clone());
    named("broker-probe", move || {
        let known = app.topics.known();
        let topics: Vec<String> = known.iter().flat_map(|k| k.subscription()).map(|t| t.to_string()).collect();
        if app.broker.admin().and_then(|mut admin| admin.topics(&topics)).is_ok() {
            app.shared.broker_trouble(None);
        }
        asking.store(false, Ordering::Release);
    });
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

/// Stops all threads; `leave`: they leave the group as well.
pub(crate) fn close(app: &App, timeout: Duration, leave: bool) -> bool {
    app.shared.transition(State::PendingShutdown, "closing");
    if leave {
        app.shared.stop_and_leave()
    } else {
        app.shared.stop()
    }
    app.shared.wait_for(&[State::NotRunning, State::Error], timeout)
}

pub(crate) fn run_until_signal(app: &App) -> Result<Ended> {
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
                _ if app.shared.application_ends() => Ended::ApplicationEnded(app.shared.status().reason),
                _ => Ended::Failed(app.shared.status().reason),
            });
        }
    }
    tracing::info!("signal received: draining");
    let in_time = close(app, app.config.shutdown_timeout, app.leaves);
    let status = app.shared.status();
    let unclean = status.threads.iter().find_map(|t| t.error.clone().filter(|_| t.state == ThreadState::Dead));
    Ok(match (in_time, unclean) {
        (false, _) => Ended::DeadlineMissed,
        (true, Some(error)) => Ended::Failed(error),
        (true, None) => Ended::Drained,
    })
}
