//! `TopologyTestDriver`: the runtime's own thread and tasks, turned by the test.

use super::broker::MemoryBroker;
use super::store::TestStore;
use super::topics::{TestInputTopic, TestOutputTopic};
use crate::clock::{Clock, ManualClock};
use crate::config::Config;
use crate::dsl::{Consumed, Produced};
use crate::error::{Error, Kind, Result};
use crate::runtime::thread::{App, StreamThread, Turn};
use crate::runtime::{self, State, Streams, StreamsStatus};
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
/// restore and commits (one after every record) are those of production. Topics that the topology names are created where
/// they are missing. Source: Kafka Streams' `TopologyTestDriver`, which runs a model of a task with one partition.
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
}

impl Default for DriverOptions {
    fn default() -> Self {
        Self { partitions: 1, start_ms: 0, broker: None }
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
    /// A state directory of the driver's own, removed at the end.
    own_dir: Option<PathBuf>,
}

impl TopologyTestDriver {
    /// Starts the topology, with one partition per topic and the wall clock at 0. Stores on disk lie in a folder that is
    /// removed with the driver, unless `config` names a `state_dir`.
    ///
    /// # Errors
    /// What would keep a client from starting.
    pub fn new(topology: Topology, config: Config) -> Result<Self> {
        Self::with(topology, config, DriverOptions::default())
    }

    /// As [`new`](Self::new), with options.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with(topology: Topology, mut config: Config, options: DriverOptions) -> Result<Self> {
        config.check()?;
        config.poll = Duration::ZERO;
        let own_dir = (config.state_dir == Config::new("").state_dir).then(own_dir);
        if let Some(dir) = &own_dir {
            config.state_dir = dir.clone();
        }
        let clock = ManualClock::at(options.start_ms);
        let broker = options.broker.unwrap_or_else(|| MemoryBroker::with_clock(Arc::new(clock.clone())));
        for topic in topics(&topology, &config) {
            broker.create_topic(&topic, options.partitions);
        }
        let directory = Streams::directory(&topology, &config)?;
        let client = broker.client(&config.application_id, "driver");
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let app = Arc::new(runtime::app(topology, config, client, shared, directory)?);
        app.shared.transition(State::Rebalancing, "starting");
        app.shared.add_thread(1, "driver".into());
        let thread = Some(StreamThread::new(1, app.clone())?);
        let (failed, partitions) = (None, options.partitions);
        let mut inner = Inner { thread, failed, app, broker, clock, partitions, own_dir };
        inner.run()?;
        Ok(Self(Rc::new(RefCell::new(inner))))
    }

    /// A topic to pipe records into, encoded by these serdes. A topic that does not exist yet is created.
    #[doc(alias = "createInputTopic")]
    pub fn create_input_topic<K, V>(&self, name: &str, produced: Produced<K, V>) -> TestInputTopic<K, V> {
        let inner = self.0.borrow();
        inner.broker.create_topic(name, inner.partitions);
        TestInputTopic::new(self.0.clone(), name, produced, inner.clock.now_ms())
    }

    /// A topic to read results from, decoded by these serdes: an output, a dead-letter or a changelog topic.
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
    /// # Errors
    /// As [`pipe`](TestInputTopic::pipe).
    #[doc(alias = "advanceWallClockTime")]
    pub fn advance_wall_clock_ms(&self, by_ms: i64) -> Result {
        let mut inner = self.0.borrow_mut();
        inner.clock.advance_ms(by_ms);
        inner.run()
    }

    /// Processes everything that is in the input topics, and commits: for records that were written straight to the
    /// [`broker`](Self::broker), so that the task can choose among them.
    ///
    /// # Errors
    /// As [`pipe`](TestInputTopic::pipe).
    pub fn run(&self) -> Result {
        self.0.borrow_mut().run()
    }

    /// The broker below.
    pub fn broker(&self) -> MemoryBroker {
        self.0.borrow().broker.clone()
    }

    /// What a client would tell of itself: states, tasks, counts of dropped records, trouble with the broker.
    pub fn status(&self) -> StreamsStatus {
        self.0.borrow().app.shared.status()
    }

    /// Closes the tasks as an orderly shutdown does. A driver that is only dropped ends like a killed process.
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
    /// Turns the thread until there is nothing left to do, and commits.
    ///
    /// A record that the commit's flush wrote may be an input again (repartition topics), so it goes on until a whole round
    /// of turns found nothing.
    pub(super) fn run(&mut self) -> Result {
        while self.turns()? {
            self.thread()?.commit_next_turn();
        }
        Ok(())
    }

    fn turns(&mut self) -> Result<bool> {
        let (mut progress, mut idle) = (false, 0);
        while idle < IDLE_TURNS {
            match self.thread()?.step() {
                Ok(Turn::Progress) => (progress, idle) = (true, 0),
                Ok(Turn::Idle | Turn::Stopped) => idle += 1,
                Err(error) => {
                    self.failed = Some((error.kind(), error.to_string()));
                    self.thread = None;
                    self.app.shared.thread_ended(1, Some(error.to_string()));
                    return Err(error);
                }
            }
        }
        Ok(progress)
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
