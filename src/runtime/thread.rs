//! A stream thread: owns its consumers, its producer, its tasks and their stores. `step` is one turn of the crank.

use super::app::App;
use super::commit;
use super::exposed::Mailbox;
use super::global::GlobalTask;
use super::keeper::Keeper;
use super::opening::Opening;
use super::pace::Limits;
use super::queue::Input;
use super::task::{Task, TaskId};
use super::topics::KnownTopics;
use super::transaction::Transaction;
use crate::broker::{Batch, Consumer, Event, Producer, RawRecord, Role, TopicPartition};
use crate::error::{Error, Kind, Result};
use crate::metrics::{ThreadMetrics, TurnFigures};
use crate::operators::CacheBudget;
use crate::operators::Cx;
use crate::operators::cx::Counts;
use crate::operators::holds::Signal;
use crate::state::{StoreId, TaskState};
use crate::status::{TaskStateName, ThreadState};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How many records one poll may bring, and one task may process in a turn.
pub(super) const RECORDS_PER_TURN_MAX: usize = 5_000;
/// How long tasks process in a turn, all together, where there is more to do: polls must not wait for slow records, since the
/// group takes a member for dead that does not poll (`max.poll.interval.ms`), nor must those who want partitions.
const TURN_NANOS: u64 = 100_000_000;
/// After how long a turn is broken off between two tasks.
const LONG_TURN_NANOS: u64 = 1_000_000_000;
/// How often the tasks' figures are written for the outside.
const PUBLISH_INTERVAL_MS: i64 = 200;
/// How long a commit waits for the producer before the turn ends and the next one tries again.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// The clients of one thread.
pub(crate) struct Clients {
    pub(crate) thread: usize,
    pub(crate) consumer: Box<dyn Consumer>,
    pub(crate) producer: Box<dyn Producer>,
    pub(crate) restorer: Option<Box<dyn Consumer>>,
    pub(crate) transaction: Transaction,
    /// Some work of a task that goes on beside the thread has ended.
    pub(crate) work_ended: Arc<Signal>,
    /// Records were refused: counting does not tell how far the changelogs are.
    pub(crate) recount: bool,
}

impl Clients {
    pub(super) fn new(app: &App, thread: usize) -> Result<Self> {
        let consumer = app.broker.consumer(Role::Main { thread }, app.isolation())?;
        let producer = app.broker.producer(thread, app.transactional_id(thread).as_deref())?;
        let transaction = if app.config.is_exactly_once() { Transaction::Fresh } else { Transaction::None };
        let work_ended = Arc::new(Signal::new(consumer.waker()));
        Ok(Self { thread, consumer, producer, restorer: None, transaction, work_ended, recount: false })
    }
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Records were processed or restored: the next turn need not wait.
    Progress,
    /// There was nothing to do.
    Idle,
    /// The thread has closed its tasks and clients, because it was told to.
    Stopped,
}

/// A stream thread. Its clients and tasks are not `Send`: it is made on the OS thread that turns it.
pub struct StreamThread {
    pub(super) number: usize,
    pub(super) app: Arc<App>,
    pub(super) clients: Clients,
    /// What fills the global stores, where no thread of its own does: in a test.
    pub(super) global: Option<GlobalTask>,
    pub(super) cache: CacheBudget,
    pub(super) phase: Phase,
    /// Nothing has been assigned to it yet.
    pub(super) may_be_left_out: bool,
    /// The topics that it has subscribed to.
    subscription: Vec<Arc<str>>,
    pub(super) owned: BTreeSet<TopicPartition>,
    pub(super) tasks: BTreeMap<TaskId, Task>,
    /// The tasks that begin when their stores are open.
    pub(super) opening: BTreeMap<TaskId, Opening>,
    pub(super) keeper: Keeper,
    pub(super) batch: Batch,
    /// Questions of other threads about the tasks' stores.
    pub(super) mailbox: Mailbox,
    pub(super) events: Vec<Event>,
    pub(super) restore_events: Vec<Event>,
    pub(super) busy: bool,
    /// When the log was last told how the restore goes.
    pub(super) restore_told_ms: i64,
    /// The task after which the last turn was broken off, because it took too long.
    pub(super) broke_off_at: Option<TaskId>,
    /// A commit is due whatever the clock says: a barrier fell, or the uncommitted writes are over their budget.
    pub(super) commit_now: bool,
    /// A commit waits for work of some tasks that is under way; the others have been committed, where that can be.
    commit_waits: bool,
    pub(super) last_commit_ms: i64,
    pub(super) last_purge_ms: i64,
    pub(super) last_published_ms: i64,
    pub(super) metrics: ThreadMetrics,
    pub(super) published: BTreeMap<TaskId, Counts>,
    pub(super) unpublished: Counts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Topics not yet looked at.
    Created,
    /// In the group, or joining it.
    Member,
}

impl StreamThread {
    pub(crate) fn new(number: usize, app: Arc<App>) -> Result<Self> {
        let clients = Clients::new(&app, number)?;
        let cache = CacheBudget::new(cache_share(&app));
        let now_ms = app.shared.clock.now_ms();
        let metrics = app.metrics.thread(number);
        app.shared.thread_state(number, ThreadState::Starting);
        let keeper = Keeper::new(&app.keepers, number);
        Ok(Self {
            number,
            app,
            clients,
            global: None,
            cache,
            phase: Phase::Created,
            may_be_left_out: true,
            subscription: Vec::new(),
            owned: BTreeSet::new(),
            tasks: BTreeMap::new(),
            opening: BTreeMap::new(),
            keeper,
            batch: Batch::default(),
            mailbox: Mailbox::default(),
            events: Vec::new(),
            restore_events: Vec::new(),
            busy: false,
            restore_told_ms: now_ms,
            broke_off_at: None,
            commit_now: false,
            commit_waits: false,
            last_commit_ms: now_ms,
            last_purge_ms: now_ms,
            last_published_ms: 0,
            metrics,
            published: BTreeMap::new(),
            unpublished: Counts::default(),
        })
    }

    /// One turn. It includes the following steps:
    ///
    /// 1. poll: records into the queues, rebalances and the like as values;
    /// 2. handle those: open, give up or lose tasks; take up those whose stores are open by now;
    /// 3. restore: changelogs into the stores of new tasks;
    /// 4. process: each running task a run of records, what they produce to the producer;
    /// 5. commit, where it is due;
    /// 6. say how it went.
    ///
    /// # Errors
    /// What the thread cannot go on after. A broker that gives no answer is not among it: that is trouble, shown in the
    /// status, and tried again in the next turn.
    pub fn step(&mut self) -> Result<Turn> {
        if self.app.shared.is_stopping_thread(self.number) {
            return self.close().map(|()| Turn::Stopped);
        }
        let mut figures = TurnFigures::default();
        match self.turn(&mut figures) {
            Ok(()) => {}
            Err(error) if error.is_retriable() => self.trouble(&error),
            Err(error) if matches!(error.kind(), Kind::Migrated | Kind::Corrupt) => self.migrated(&error)?,
            Err(error) if error.kind() == Kind::Aborted => {
                self.trouble(&error);
                self.clients.transaction = Transaction::Aborting;
            }
            Err(error) if self.clients.transaction != Transaction::None => {
                self.abort_at_the_end();
                return Err(error);
            }
            Err(error) => {
                self.let_out(&error);
                return Err(error);
            }
        }
        self.publish(figures);
        Ok(if self.busy { Turn::Progress } else { Turn::Idle })
    }

    /// The thread ends with this error: what was produced up to here goes out, if it can, as when Kafka Streams closes its
    /// producer.
    pub(crate) fn let_out(&mut self, error: &Error) {
        if matches!(error.kind(), Kind::User | Kind::Record) {
            let _ = self.clients.producer.flush(FLUSH_MAX);
        }
        // What was dropped in this turn counts as well.
        self.publish(TurnFigures::default());
    }

    fn turn(&mut self, figures: &mut TurnFigures) -> Result {
        self.settle_transaction()?;
        if self.phase == Phase::Created {
            self.busy = false;
            self.join_group()?;
        } else if self.app.plan.has_patterns() {
            self.follow_patterns(false)?;
        }
        let t0 = self.app.shared.clock.nanos();
        let global = match &mut self.global {
            Some(global) => global.turn(&self.app, Duration::ZERO)?,
            None => 0,
        };
        self.poll(figures)?;
        self.handle_events()?;
        self.settle_transaction()?;
        self.take_up_opened()?;
        let asked = self.answer_questions();
        let t1 = self.app.shared.clock.nanos();
        let restored = self.restore()?;
        let processed = self.process()?;
        let t2 = self.app.shared.clock.nanos();
        self.busy = asked || global + restored + processed > 0;
        figures.poll_nanos = t1 - t0;
        figures.process_nanos = t2 - t1;
        figures.restored = restored as u64;
        self.commit_if_due(figures)
    }

    /// Looks the topics up (the first thread does it for all), then joins the group.
    fn join_group(&mut self) -> Result {
        let app = self.app.clone();
        let known = app.topics.at_start(&app)?;
        if app.driven.is_some() && self.global.is_none() {
            self.global = GlobalTask::restored(&app)?;
        }
        self.phase = Phase::Member;
        self.subscription.clear();
        self.subscribe(&known)?;
        if self.subscription.is_empty() {
            // Until a topic is there that matches a pattern there is nothing to do.
            self.set_state(ThreadState::PartitionsAssigned);
            self.running_if_all_are();
        }
        Ok(())
    }

    fn subscribe(&mut self, known: &KnownTopics) -> Result {
        let topics = known.subscription();
        if topics != self.subscription {
            self.clients.consumer.subscribe(&topics)?;
            self.subscription = topics;
        }
        Ok(())
    }

    /// Subscribes to what matches a pattern and is new, and no longer to what is gone. A look that meets no answer is not
    /// worth more than a word: another one follows.
    pub(crate) fn follow_patterns(&mut self, at_once: bool) -> Result {
        let app = self.app.clone();
        match app.topics.now(&app, at_once) {
            Ok(known) => known.map_or(Ok(()), |known| self.subscribe(&known)),
            Err(error) if error.is_retriable() => {
                tracing::warn!(thread = self.number, "could not look for topics that match a pattern: {error}");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn poll(&mut self, figures: &mut TurnFigures) -> Result {
        // While stores are restored, that is where the thread waits.
        let timeout = if self.busy || self.restores() { Duration::ZERO } else { self.patience() };
        self.batch.clear();
        self.clients.producer.serve();
        self.clients.consumer.poll(timeout, RECORDS_PER_TURN_MAX, &mut self.batch, &mut self.events)?;
        if self.batch.records.is_empty() {
            return Ok(());
        }
        figures.consumed = self.batch.records.len() as u64;
        figures.consumed_bytes = self.batch.bytes.len() as u64;
        if self.app.shared.has_broker_trouble() {
            self.app.shared.broker_trouble(None);
        }
        let bytes = Rc::new(std::mem::take(&mut self.batch.bytes));
        let mut routes: Vec<Vec<(TaskId, usize)>> = Vec::with_capacity(self.batch.sources.len());
        for tp in &self.batch.sources {
            let inputs = self.tasks.iter().flat_map(|(id, task)| {
                let reads = task.inputs.iter().enumerate().filter(|(_, input)| *input.partition == *tp);
                reads.map(|(i, _)| (*id, i))
            });
            routes.push(inputs.collect());
        }
        for meta in self.batch.records.drain(..) {
            // Several sub-topologies may read one topic; nearly always it is one.
            for (id, input) in &routes[meta.source as usize] {
                if let Some(task) = self.tasks.get_mut(id) {
                    task.push(*input, RawRecord { bytes: bytes.clone(), meta: meta.clone() });
                }
            }
        }
        Ok(())
    }

    /// Handles the events, in order. One that met a broker without an answer stays for the next turn, with those behind it: an
    /// assignment comes only once.
    fn handle_events(&mut self) -> Result {
        let events = std::mem::take(&mut self.events);
        for (i, event) in events.iter().enumerate() {
            if let Err(error) = self.handle(event) {
                if error.is_retriable() {
                    self.events = events.into_iter().skip(i).collect();
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn handle(&mut self, event: &Event) -> Result {
        match event {
            Event::Assigned(partitions) => self.assigned(partitions)?,
            Event::Revoking(partitions) => self.revoking(partitions)?,
            Event::Lost(partitions) => self.lost(partitions)?,
            Event::End { partition, offset } => {
                for input in self.tasks.values_mut().flat_map(|t| &mut t.inputs) {
                    if *input.partition == *partition {
                        input.reached_end(*offset);
                    }
                }
            }
            Event::OffsetOutOfRange(partition) => {
                return Err(Error::new(
                    Kind::BrokerFatal,
                    "the committed offset is not in the log, and no reset is set",
                )
                .topic(&*partition.topic)
                .partition(partition.partition)
                .hint("set consumer.auto.offset.reset, or reset the group's offsets"));
            }
            Event::Trouble(error) => self.trouble(error),
            Event::TroubleOver => self.app.shared.broker_trouble(None),
            Event::MissingTopic(topic) if !self.app.plan.names(topic) => self.follow_patterns(true)?,
            Event::MissingTopic(topic) => {
                return Err(Error::new(Kind::Topology, "a source topic has been deleted")
                    .topic(topic)
                    .hint("create it again, or remove it from the topology"));
            }
        }
        Ok(())
    }

    fn process(&mut self) -> Result<usize> {
        self.clients.work_ended.look();
        let now_ms = self.app.shared.clock.now_ms();
        let (mut processed, mut uncommitted_bytes) = (0, 0);
        let limit = self.app.config.buffered_records_per_partition;
        let records_max = if self.app.driven.is_some() { 1 } else { RECORDS_PER_TURN_MAX };
        let clock = &*self.app.shared.clock;
        let (began, share) = (clock.nanos(), TURN_NANOS / self.tasks.len().max(1) as u64);
        // A turn that took long was broken off there: the others go first now.
        let after = self.broke_off_at.take().filter(|after| self.tasks.keys().next_back() > Some(after));
        let paused = self.app.shared.is_paused();
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        let mut result = Ok(());
        for task in self.tasks.values_mut().filter(|t| t.state == TaskStateName::Running && Some(t.id) > after) {
            for input in &mut task.inputs {
                if let Some(end) = self.clients.consumer.cached_end_offset(&input.partition) {
                    input.heard_of_end(end);
                }
            }
            let bootstrapping = task.inputs.iter_mut().any(Input::is_bootstrapping);
            let producer = &mut self.clients.producer;
            let limits = Limits { records_max, clock, nanos: share };
            let run = if paused {
                Ok(0)
            } else {
                let run = task.process(now_ms, limits, |record| producer.send(record));
                run.and_then(|count| task.punctuate(now_ms, |record| producer.send(record)).map(|()| count))
            };
            self.commit_now |= std::mem::take(&mut task.cx.commit_requested);
            match run {
                Ok(count) => processed += count,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            self.commit_now |= bootstrapping && !task.inputs.iter_mut().any(Input::is_bootstrapping);
            uncommitted_bytes += task.cx.state.uncommitted_bytes();
            for input in &mut task.inputs {
                if !input.paused && input.len() > limit {
                    input.paused = true;
                    pause.push((*input.partition).clone());
                } else if input.paused && input.len() <= limit / 2 {
                    input.paused = false;
                    resume.push((*input.partition).clone());
                }
            }
            if clock.nanos().saturating_sub(began) > LONG_TURN_NANOS {
                self.broke_off_at = Some(task.id);
                break;
            }
        }
        self.commit_now |= uncommitted_bytes > self.app.budget.uncommitted_bytes_max();
        if !pause.is_empty() {
            self.clients.consumer.pause(&pause)?;
        }
        if !resume.is_empty() {
            self.clients.consumer.resume(&resume)?;
        }
        let refused = self.clients.producer.refused();
        if !refused.is_empty() {
            commit::handle_refused(&mut self.clients, self.tasks.values_mut().next(), refused)?;
        }
        result.map(|()| processed)
    }

    fn commit_if_due(&mut self, figures: &mut TurnFigures) -> Result {
        let now_ms = self.app.shared.clock.now_ms();
        let interval_ms = self.app.config.commit_interval.as_millis() as i64;
        let dirty = self.tasks.values().any(|task| task.dirty);
        let due = match self.app.driven {
            Some(driven) => driven.commit_each && dirty,
            None => self.commit_now || now_ms - self.last_commit_ms > interval_ms,
        };
        if !due {
            return Ok(());
        }
        let t0 = self.app.shared.clock.nanos();
        self.last_commit_ms = now_ms;
        self.commit_now = self.raise_barriers()?;
        let waited = std::mem::replace(&mut self.commit_waits, self.commit_now);
        if self.commit_now && (waited || self.clients.transaction != Transaction::None) {
            return Ok(());
        }
        self.commit_ready()?;
        if now_ms - self.last_purge_ms > self.app.config.repartition_purge_interval.as_millis() as i64 {
            self.last_purge_ms = now_ms;
            let running = self.tasks.values().filter(|task| task.state == TaskStateName::Running);
            let inputs =
                running.flat_map(|task| task.inputs.iter().map(|input| (&*input.partition, task.committable(input).0)));
            self.app.purge.note(inputs);
        }
        if dirty {
            figures.commit_nanos = Some(self.app.shared.clock.nanos() - t0);
            self.app.shared.broker_trouble(None);
        }
        Ok(())
    }

    /// Commits every task that does not wait for work under way, whatever the clock says.
    pub(super) fn commit_ready(&mut self) -> Result {
        let mut tasks: Vec<&mut Task> = self.tasks.values_mut().filter(|t| t.dirty && !t.cx.holds.draining).collect();
        commit::commit(&mut self.clients, &mut tasks, FLUSH_MAX)?;
        self.tell_committed();
        Ok(())
    }

    /// True where something has been processed since the last commit.
    pub(crate) fn is_dirty(&self) -> bool {
        self.tasks.values().any(|task| task.dirty)
    }

    fn all_tasks(&mut self) -> impl Iterator<Item = &mut Task> {
        self.tasks.values_mut().chain(self.global.iter_mut().map(|global| &mut global.task))
    }

    /// The store of that name in each of the tasks that have one.
    pub(crate) fn stores(&mut self, name: &str) -> impl Iterator<Item = (&mut TaskState, StoreId)> {
        self.all_tasks().filter_map(move |task| {
            let store = task.stores.iter().position(|store| store == name)?;
            Some((&mut task.cx.state, StoreId(store)))
        })
    }

    /// Each store that has a changelog, with its name and that.
    pub(crate) fn logged_stores(&mut self) -> impl Iterator<Item = (&str, StoreId, &TopicPartition, &TaskState)> {
        self.tasks.values().flat_map(|task| {
            let logged = task.changelogs.0.iter();
            logged.map(|(store, log)| (task.stores[store.0].as_str(), *store, log, &task.cx.state))
        })
    }

    /// As [`stores`](Self::stores), with all that an operator sees of its task.
    pub(crate) fn contexts(&mut self, name: &str) -> impl Iterator<Item = (&mut Cx, StoreId)> {
        self.all_tasks().filter_map(move |task| {
            let store = task.stores.iter().position(|store| store == name)?;
            Some((&mut task.cx, StoreId(store)))
        })
    }

    fn trouble(&mut self, error: &Error) {
        tracing::warn!(thread = self.number, "{error}");
        self.app.shared.broker_trouble(Some(error.to_string()));
        self.busy = false;
    }

    pub(super) fn set_state(&self, to: ThreadState) {
        self.app.shared.thread_state(self.number, to);
    }

    pub(super) fn count(&mut self, id: TaskId, now: Counts) {
        let before = self.published.insert(id, now).unwrap_or_default();
        self.unpublished = self.unpublished.plus(now.minus(before));
    }

    pub(super) fn publish_tasks(&mut self) {
        self.app.shared.turn(self.number, true, Some(self.task_status()), Counts::default());
    }

    fn publish(&mut self, mut figures: TurnFigures) {
        let counts: Vec<_> = self.tasks.iter().map(|(id, task)| (*id, task.cx.counts)).collect();
        for (id, counts) in counts {
            self.count(id, counts);
        }
        let counts = std::mem::take(&mut self.unpublished);
        let now_ms = self.app.shared.clock.now_ms();
        let details = now_ms - self.last_published_ms >= PUBLISH_INTERVAL_MS;
        let lag: i64 = self.tasks.values().map(Task::lag).sum();
        let tasks = details.then(|| {
            self.last_published_ms = now_ms;
            self.cache.set_max(cache_share(&self.app));
            self.task_status()
        });
        figures.counts = counts;
        self.metrics.turn(&figures);
        for task in self.tasks.values_mut().filter(|task| task.holding.is_some()) {
            self.metrics.calls(&std::mem::take(&mut task.cx.calls));
        }
        // A broker without an answer is no fault of the thread's, and no restart would help.
        let excused = self.app.shared.has_broker_trouble() || self.app.shared.is_paused();
        let progress = self.busy || lag == 0 || self.has_work_under_way() || excused;
        self.app.shared.turn(self.number, progress, tasks, counts);
    }

    /// Commits, closes the tasks and the clients.
    fn close(&mut self) -> Result {
        self.set_state(ThreadState::PendingShutdown);
        let committed = match self.clients.transaction {
            Transaction::None | Transaction::Open | Transaction::Committing => {
                self.drain(|_| true).and_then(|()| self.commit_all())
            }
            // What the tasks have is not committed, and cannot be.
            Transaction::Fresh | Transaction::Aborting | Transaction::Ended => Ok(()),
        };
        self.publish(TurnFigures::default());
        let clean = committed.is_ok() && self.tasks.values().all(|task| !task.dirty);
        self.close_tasks(|_| true, clean);
        self.give_up_all_opening();
        self.keeper.finish();
        self.abort_at_the_end();
        if self.app.shared.application_ends() {
            self.tell_others();
        }
        self.owned.clear();
        let closed = self.clients.consumer.close(self.app.shared.leaves(self.number));
        committed.and(closed)
    }
}

/// A stream thread's share of the record cache.
fn cache_share(app: &App) -> usize {
    app.config.cache_max_bytes / app.shared.thread_count().max(1)
}
