//! `TopologyTestDriver`: the runtime's own thread and tasks, turned by the test.

use super::broker::MemoryBroker;
use super::log::StoredRecord;
use super::store::TestStore;
use super::topics::{TestInputTopic, TestOutputTopic};
use crate::clock::{Clock, ManualClock};
use crate::config::{Config, Guarantee};
use crate::dsl::{Consumed, Produced};
use crate::error::{Error, Kind, Result};
use crate::runtime::app::{App, Driven};
use crate::runtime::keeper::Place;
use crate::runtime::thread::{StreamThread, Turn};
use crate::state::MemoryBudget;
use crate::status::{State, StreamsStatus};
use crate::topology::{NodeKind, SinkTopic, TopicName, Topology};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many turns without work show that there is none: one may open tasks, the next finish their restore, the third
/// fetch for them.
const IDLE_TURNS: usize = 3;

/// Runs a topology in a test: no Kafka, no threads, no waiting. Records go in one by one, results can be read when
/// [`pipe`](TestInputTopic::pipe) returns, and time moves when told.
///
/// What runs is the real thing, a stream thread with its tasks and stores, on a [`MemoryBroker`]: partitions, changelogs,
/// restore and commits are those of production. Topics that the topology names are created where they are missing.
///
/// As Kafka Streams' `TopologyTestDriver` does, one task per partition number runs the whole topology, so that what goes
/// through a repartition topic comes back to the same task, in an order that depends on nothing but the records. A record
/// is committed as soon as it has been processed, unless [`DriverOptions::commits`] says otherwise.
///
/// ```
/// use watersmeet::prelude::*;
/// use watersmeet::testing::TopologyTestDriver;
///
/// let builder = StreamsBuilder::new();
/// let names = builder.table("names", Consumed::<String, String>::default(), Materialized::memory("names"));
/// builder
///     .stream("visits", Consumed::<String, i64>::default())
///     .join(&names, |page, name| format!("{name} was on page {page}"))
///     .to("named-visits", Produced::default());
///
/// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
/// let names = driver.create_input_topic("names", Produced::<String, String>::default());
/// let visits = driver.create_input_topic("visits", Produced::<String, i64>::default());
/// let named = driver.create_output_topic("named-visits", Consumed::<String, String>::default());
///
/// visits.pipe("u1", 1)?;
/// names.pipe("u1", "Ada")?;
/// visits.pipe("u1", 2)?;
/// assert_eq!(named.read_to_vec()?, [("u1".into(), "Ada was on page 2".into())]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct TopologyTestDriver(Rc<RefCell<Inner>>);

/// What a [`TopologyTestDriver`] may be told.
///
/// ```
/// use watersmeet::testing::{DriverOptions, MemoryBroker};
/// let options = DriverOptions { partitions: 4, broker: Some(MemoryBroker::new()), ..Default::default() };
/// ```
#[derive(Clone)]
pub struct DriverOptions {
    /// How many partitions the topics get that the driver creates; 1.
    pub partitions: i32,
    /// The wall clock at the start, in milliseconds since the epoch; 0.
    pub start_ms: i64,
    /// The broker to run on, such as that of an earlier driver; a new one.
    pub broker: Option<MemoryBroker>,
    /// When the driver commits; after each record.
    pub commits: Commits,
}

/// When a [`TopologyTestDriver`] commits.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// # let builder = StreamsBuilder::new();
/// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
/// let options = DriverOptions { commits: Commits::Explicit, ..Default::default() };
/// let driver = TopologyTestDriver::with(builder.build()?, Config::new("test"), options)?;
/// driver.create_input_topic("in", Produced::<String, String>::default()).pipe("a", "x")?;
/// assert!(driver.commit()?);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Commits {
    /// After each record that was processed.
    #[default]
    Each,
    /// When [`TopologyTestDriver::commit`] is called: what caches and buffers hold back comes out then.
    Explicit,
}

impl Default for DriverOptions {
    fn default() -> Self {
        Self { partitions: 1, start_ms: 0, broker: None, commits: Commits::Each }
    }
}

/// What topics and stores of a driver share with it.
pub(super) struct Inner {
    /// `None` after an error: as in production, the thread is gone then.
    thread: Option<StreamThread>,
    failed: Option<(Kind, String)>,
    app: Arc<App>,
    pub(super) broker: MemoryBroker,
    clock: ManualClock,
    partitions: i32,
    /// The last of the records that [`TopologyTestDriver::produced`] has given out.
    produced: u64,
    /// A state directory of the driver's own, removed at the end.
    own_dir: Option<PathBuf>,
}

impl TopologyTestDriver {
    /// Starts the topology, with one partition per topic and the wall clock at 0. Stores on disk lie in a folder that is
    /// removed with the driver, unless `config` names a `state_dir`.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// assert!(driver.broker().topics().contains_key("in"));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// What would keep a client from starting.
    pub fn new(topology: Topology, config: Config) -> Result<Self> {
        Self::with(topology, config, DriverOptions::default())
    }

    /// As [`new`](Self::new), with options.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let options = DriverOptions { partitions: 4, ..Default::default() };
    /// let driver = TopologyTestDriver::with(builder.build()?, Config::new("test"), options)?;
    /// assert_eq!(driver.broker().topics()["in"], 4);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with(topology: Topology, mut config: Config, options: DriverOptions) -> Result<Self> {
        config.check()?;
        config.poll = Duration::ZERO;
        // What is written is seen at once: a test has no use for transactions, and Kafka Streams' driver none either.
        config.guarantee = Guarantee::AtLeastOnce;
        let own_dir = (config.state_dir == Config::new("").state_dir).then(own_dir);
        if let Some(dir) = &own_dir {
            config.state_dir = dir.clone();
        }
        let clock = ManualClock::at(options.start_ms);
        let broker = options.broker.unwrap_or_else(|| MemoryBroker::with_clock(Arc::new(clock.clone())));
        broker.create_topics_on_write(options.partitions);
        for topic in topics(&topology, &config) {
            broker.create_topic(&topic, options.partitions);
        }
        let directory = App::directory(&topology, &config)?;
        let client = broker.client(&config.application_id, "driver");
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let driven = Some(Driven { commit_each: options.commits == Commits::Each, partitions: options.partitions });
        let budget = MemoryBudget::new(&config);
        let mut app = App::new(topology, config, client, shared, directory, budget, driven)?;
        app.keepers = Place::Turns(Arc::new(|| true));
        let app = Arc::new(app);
        app.shared.transition(State::Rebalancing, "starting");
        app.shared.add_thread(1, "driver".into());
        let thread = Some(StreamThread::new(1, app.clone())?);
        let (failed, partitions) = (None, options.partitions);
        let mut inner = Inner { thread, failed, app, broker, clock, partitions, produced: 0, own_dir };
        inner.run()?;
        Ok(Self(Rc::new(RefCell::new(inner))))
    }

    /// A topic to pipe records into, encoded by these serdes. A topic that does not exist yet is created.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// driver.create_input_topic("in", Produced::<String, String>::default()).pipe("a", "x")?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "createInputTopic")]
    pub fn create_input_topic<K, V>(&self, name: &str, produced: Produced<K, V>) -> TestInputTopic<K, V> {
        let inner = self.0.borrow();
        inner.broker.create_topic(name, inner.partitions);
        TestInputTopic::new(self.0.clone(), name, produced, inner.clock.now_ms())
    }

    /// A topic to read results from, decoded by these serdes: an output, a dead-letter or a changelog topic.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// input.pipe("a", "x")?;
    /// assert_eq!(output.read_value()?, Some("x".into()));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "createOutputTopic")]
    pub fn create_output_topic<K, V>(&self, name: &str, consumed: Consumed<K, V>) -> TestOutputTopic<K, V> {
        TestOutputTopic::new(self.0.borrow().broker.clone(), name, consumed)
    }

    /// A key-value store to look into, decoded by these serdes.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// use watersmeet::testing::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.table("names", Consumed::<String, String>::default(), Materialized::memory("names-store"));
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// driver.create_input_topic("names", Produced::<String, String>::default()).pipe("u1", "Ada")?;
    ///
    /// let store = driver.key_value_store("names-store", Consumed::<String, String>::default());
    /// assert_eq!(store.get(&"u1".into())?, Some("Ada".into()));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "getKeyValueStore")]
    pub fn key_value_store<K, V>(&self, name: &str, consumed: Consumed<K, V>) -> TestStore<K, V> {
        TestStore::new(self.0.clone(), name, consumed)
    }

    /// Moves the wall clock on, then runs whatever that makes due, such as records that waited for `max.task.idle.ms`.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// driver.advance_wall_clock_ms(60_000)?;
    /// assert_eq!(driver.status().now_ms, 60_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`pipe`](TestInputTopic::pipe).
    #[doc(alias = "advanceWallClockTime")]
    pub fn advance_wall_clock_ms(&self, by_ms: i64) -> Result {
        let mut inner = self.0.borrow_mut();
        inner.clock.advance_ms(by_ms);
        inner.run()
    }

    /// Processes everything that is in the input topics: for records that were written straight to the
    /// [`broker`](Self::broker), so that the task can choose among them.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// // Written past the input topic, as another application would.
    /// driver.broker().produce("in", "a".as_bytes(), "x".as_bytes(), 0)?;
    /// driver.run()?;
    /// assert_eq!(driver.broker().records("out").len(), 1);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`pipe`](TestInputTopic::pipe).
    pub fn run(&self) -> Result {
        self.0.borrow_mut().run()
    }

    /// Commits, then processes what comes of it. Returns whether there was anything to commit; what came of it may be a
    /// reason to commit again.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let options = DriverOptions { commits: Commits::Explicit, ..Default::default() };
    /// let driver = TopologyTestDriver::with(builder.build()?, Config::new("test"), options)?;
    /// assert!(!driver.commit()?, "there is nothing to commit");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`pipe`](TestInputTopic::pipe).
    pub fn commit(&self) -> Result<bool> {
        let mut inner = self.0.borrow_mut();
        let thread = inner.thread()?;
        let dirty = thread.is_dirty();
        let committed = thread.commit_all().inspect_err(|error| thread.let_out(error));
        inner.check(committed)?;
        inner.run()?;
        Ok(dirty)
    }

    /// Everything that the topology has produced since the last call, with the topic of each record, in the order in which it
    /// was sent: to output, repartition, changelog and dead-letter topics alike. A timestamp of -1 is left to the broker's
    /// clock.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// use watersmeet::testing::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// let stream = builder.stream("in", Consumed::<String, i64>::default());
    /// stream.to("one", Produced::default());
    /// stream.map_values(|n| n + 1).to("two", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// driver.create_input_topic("in", Produced::<String, i64>::default()).pipe("a", 1)?;
    ///
    /// let topics: Vec<String> = driver.produced().into_iter().map(|(topic, _)| topic).collect();
    /// assert_eq!(topics, ["one", "two"]);
    /// assert!(driver.produced().is_empty());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "producedTopicNames")]
    pub fn produced(&self) -> Vec<(String, StoredRecord)> {
        let mut inner = self.0.borrow_mut();
        let records = inner.broker.written_after(inner.produced);
        inner.produced = records.last().map_or(inner.produced, |(_, record)| record.sequence);
        let seen = |mut record: StoredRecord| {
            if record.untimed {
                record.timestamp_ms = -1;
            }
            record
        };
        records.into_iter().map(|(topic, record)| (topic.to_string(), seen(record))).collect()
    }

    pub(super) fn inner<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.borrow_mut())
    }

    /// The broker below.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// assert!(driver.broker().records("out").is_empty());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn broker(&self) -> MemoryBroker {
        self.0.borrow().broker.clone()
    }

    /// What a client would tell of itself: states, tasks, counts of dropped records, trouble with the broker.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// input.pipe("a", "x")?;
    /// assert_eq!(driver.status().totals.processed, 1);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn status(&self) -> StreamsStatus {
        self.0.borrow().app.shared.status()
    }

    /// Closes the tasks as an orderly shutdown does. A driver that is only dropped ends like a killed process.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// driver.close()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// The last commit failed.
    pub fn close(self) -> Result {
        let mut inner = self.0.borrow_mut();
        inner.app.shared.stop();
        match inner.thread.take() {
            Some(mut thread) => thread.step().map(|_| ()),
            None => Ok(()),
        }
    }
}

impl Inner {
    /// Turns the thread until there is nothing left to do. What one turn produced may be an input of the next (repartition
    /// topics).
    pub(super) fn run(&mut self) -> Result {
        let mut idle = 0;
        while idle < IDLE_TURNS {
            let turn = self.thread()?.step();
            let turn = self.check(turn)?;
            let settled = self.thread()?.settle();
            match (turn, self.check(settled)?) {
                (Turn::Progress, _) | (_, true) => idle = 0,
                (Turn::Idle | Turn::Stopped, false) => idle += 1,
            }
        }
        Ok(())
    }

    /// Lets the thread see topics that match a pattern and have come. Offsets of all topics of a pattern are counted together,
    /// as Kafka Streams' test driver does.
    pub(super) fn follow_patterns(&mut self, topic: &str) -> Result {
        if let Some(pattern) = self.app.plan.pattern_of(topic) {
            for partition in 0..self.partitions {
                let topics = self.broker.topics().into_keys().filter(|topic| pattern.matches(topic));
                let end = topics.map(|topic| self.broker.end_offset(&topic, partition)).max().unwrap_or(0);
                self.broker.skip_offsets(topic, partition, end - self.broker.end_offset(topic, partition));
            }
            let followed = self.thread()?.follow_patterns(true);
            self.check(followed)?;
            self.run()?;
        }
        Ok(())
    }

    pub(super) fn reads(&self, topic: &str) -> bool {
        let plan = &self.app.plan;
        plan.reads(topic) || plan.global.source_topics.iter().any(|t| t.plain() == topic)
    }

    /// An error ends the thread.
    fn check<T>(&mut self, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| {
            self.failed = Some((error.kind(), error.to_string()));
            self.thread = None;
            self.app.shared.thread_ended(1, Some(error.to_string()));
        })
    }

    pub(super) fn topology(&self) -> &Topology {
        &self.app.plan.topology
    }

    pub(super) fn thread(&mut self) -> Result<&mut StreamThread> {
        self.thread.as_mut().ok_or_else(|| {
            let (kind, what) = self.failed.clone().unwrap_or((Kind::User, "it was closed".into()));
            Error::new(kind, format!("the driver's thread has ended: {what}"))
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.thread = None;
        if let Some(dir) = self.own_dir.take() {
            // What cannot be removed lies in the system's folder for temporary files.
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

/// A folder that no other driver has.
fn own_dir() -> PathBuf {
    static DRIVERS: AtomicUsize = AtomicUsize::new(0);
    let number = DRIVERS.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("watersmeet-driver-{}-{number}", std::process::id()))
}

/// The topics that must be there before a client starts.
fn topics(topology: &Topology, config: &Config) -> Vec<String> {
    let named = topology.nodes.iter().flat_map(|node| match &node.kind {
        NodeKind::Source { topics, .. } => topics.iter().collect(),
        NodeKind::Sink { topic: SinkTopic::Fixed(topic), .. } => vec![topic],
        _ => Vec::new(),
    });
    let named = named.filter_map(|topic| match topic {
        TopicName::User(name) => Some(name.clone()),
        TopicName::Internal(_) => None,
    });
    named.chain(config.errors.dead_letter_topic.clone()).collect()
}
