//! Deterministic simulation: whole clients on the broker in memory, turned by one OS thread in an order that a seed decides,
//! with everything going wrong that can.

mod fate;
mod instance;
mod rng;
mod verify;
mod world;

use super::broker::MemoryBroker;
use super::log::StoredRecord;
use crate::broker::Broker;
use crate::clock::ManualClock;
use crate::config::Config;
use crate::dsl::Produced;
use crate::error::{Error, Kind, Result};
use crate::record::Timestamp;
use crate::serdes::Encoded;
use crate::topology::Topology;
use fate::Fate;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use world::World;

/// Runs a topology in many ways that a seed decides, and says when one of them comes to what must not be.
///
/// A run has several instances with several stream threads: the real ones, with tasks, stores, rebalances, restore and
/// commits, on a broker in memory, a disk in memory and a clock that moves when told. One OS thread turns them, in an order
/// drawn from the seed, and at every request and every write the seed decides what is met: processes are killed before or
/// after any request and any write, machines lose their last writes, requests and answers are lost or late, others run in
/// the middle of a turn until the group has given up the one that waits, the coordinator moves, members are removed, disks
/// are full, databases corrupt. Then the faults end, and
///
/// - everything must be processed and committed: there is neither a deadlock nor a livelock;
/// - no thread may have ended by an error but those of a full disk;
/// - each store must have exactly what its changelog says;
/// - each [`output`](Self::output) must be what a run without faults makes of the same input, as [`Compare`] says;
///   (under at least once a process that goes on though the group has given it up may write old values behind new ones:
///   where that happened, stores are not compared, and outputs only as [`Compare::Contains`] says);
/// - each [`check`](Self::check) must hold.
///
/// The same seed gives the same run, bit for bit.
///
/// ```
/// use watersmeet::prelude::*;
/// use watersmeet::testing::{Compare, Simulation};
///
/// let simulation = Simulation::new(Config::new("test"), || {
///     let builder = StreamsBuilder::new();
///     builder.stream("in", Consumed::<String, i64>::default()).map_values(|n| n * 2).to("out", Produced::default());
///     builder.build()
/// })
/// .topic("in", 2)
/// .topic("out", 2)
/// .input("in", Produced::<String, i64>::default(), (0..20).map(|n| (format!("k{n}"), n, n)))?
/// .output("out", Compare::Contains);
///
/// for seed in 0..10 {
///     simulation.run(seed)?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Simulation(Rc<Plan>);

/// How the records of a topic are compared with those of a run without faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Each key has the same values in the same order: what exactly once promises where a key's records all come from one
    /// partition.
    Exact,
    /// Each key and value is there as often: what exactly once promises where the order is not certain.
    Multiset,
    /// Each key and value is there at least as often: what at least once promises where nothing depends on state.
    Contains,
    /// Each key's last value is the same: for tables. Under at least once the aggregation must give the same when a record
    /// is added again.
    Latest,
}

/// What a run is made of.
#[derive(Clone)]
struct Plan {
    config: Config,
    topology: Rc<dyn Fn() -> Result<Topology>>,
    topics: Vec<(String, i32)>,
    input: Vec<Input>,
    outputs: Vec<(String, Compare)>,
    checks: Vec<Check>,
    instances_max: usize,
    threads_max: usize,
    wrap: Option<Wrap>,
    torn: bool,
    detailed: bool,
}

type Check = Rc<dyn Fn(&Outcome) -> Result<(), String>>;
type Wrap = Rc<dyn Fn(Arc<dyn Broker>) -> Arc<dyn Broker>>;

/// One record of the input.
#[derive(Clone)]
struct Input {
    topic: Arc<str>,
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp_ms: Timestamp,
}

/// What a run has come to.
#[derive(Clone)]
pub struct Outcome {
    /// The broker, with everything that was written.
    pub broker: MemoryBroker,
    /// The seed.
    pub seed: u64,
    /// Whether processes went on that the group had given up.
    pub zombies: bool,
    /// How many times somebody was turned, at the top.
    pub steps: u64,
    /// How many faults were met.
    pub faults: u64,
    /// A digest of every request and every fault: equal where two runs were the same.
    pub digest: u64,
    /// What happened, line by line.
    pub trace: Vec<String>,
}

impl Outcome {
    /// The committed records of a topic, in the order in which they were written.
    pub fn records(&self, topic: &str) -> Vec<StoredRecord> {
        self.broker.committed_records(topic)
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, steps, faults, digest, .. } = self;
        write!(f, "seed {seed}: {steps} steps, {faults} faults, digest {digest:016x}")
    }
}

/// A run that came to what must not be: what, and everything that happened before.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The seed that shows it again.
    pub seed: u64,
    /// What is wrong.
    pub what: String,
    /// What happened, line by line.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {}: {}", self.seed, self.what)
    }
}

impl std::error::Error for Violation {}

impl Simulation {
    /// A simulation of this topology, made anew for each instance. `state_dir`, `poll` and `num_stream_threads` of the
    /// settings are the simulation's own.
    pub fn new(config: Config, topology: impl Fn() -> Result<Topology> + 'static) -> Self {
        let (topics, input, outputs, checks) = Default::default();
        let (instances_max, threads_max, wrap, torn, detailed) = (3, 2, None, false, false);
        let topology = Rc::new(topology);
        let plan =
            Plan { config, topology, topics, input, outputs, checks, instances_max, threads_max, wrap, torn, detailed };
        Self(Rc::new(plan))
    }

    fn with(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(Rc::make_mut(&mut self.0));
        self
    }

    /// Creates a topic with so many partitions before the instances start: all that are read or written need it, but for
    /// internal ones.
    pub fn topic(self, name: &str, partitions: i32) -> Self {
        self.with(|plan| plan.topics.push((name.into(), partitions)))
    }

    /// Adds records (key, value, timestamp) to the input. They are written in this order, at times that the seed decides,
    /// each to the partition of its key.
    ///
    /// # Errors
    /// A key or value that does not encode.
    pub fn input<K, V>(
        self,
        topic: &str,
        produced: Produced<K, V>,
        records: impl IntoIterator<Item = (K, V, Timestamp)>,
    ) -> Result<Self> {
        let topic: Arc<str> = topic.into();
        let failed = |e| Error::new(Kind::Record, format!("a record of the input cannot be encoded: {e}"));
        let mut input = Vec::new();
        for (key, value, timestamp_ms) in records {
            let (mut k, mut v) = (Vec::new(), Vec::new());
            let key = produced.key.serialize(&key, &mut k).map_err(failed)?;
            let value = produced.value.serialize(&value, &mut v).map_err(failed)?;
            let part = |encoded, bytes| (encoded == Encoded::Bytes).then_some(bytes);
            let (key, value) = (part(key, k), part(value, v));
            input.push(Input { topic: topic.clone(), partition: None, key, value, timestamp_ms });
        }
        Ok(self.with(|plan| plan.input.extend(input)))
    }

    /// At most so many instances, each with at most so many threads; 3 and 2. The seed decides how many.
    pub fn instances(self, instances_max: usize, threads_max: usize) -> Self {
        self.with(|plan| (plan.instances_max, plan.threads_max) = (instances_max.clamp(1, 26), threads_max.max(1)))
    }

    /// Compares the records of a topic with those of a run without faults.
    pub fn output(self, topic: &str, compare: Compare) -> Self {
        self.with(|plan| plan.outputs.push((topic.into(), compare)))
    }

    /// Something that must hold at the end of each run.
    pub fn check(self, check: impl Fn(&Outcome) -> Result<(), String> + 'static) -> Self {
        self.with(|plan| plan.checks.push(Rc::new(check)))
    }

    /// Puts something of your own between the runtime and its broker: to watch what it does, or to plant an error and see
    /// it found.
    pub fn clients(self, wrap: impl Fn(Arc<dyn Broker>) -> Arc<dyn Broker> + 'static) -> Self {
        self.with(|plan| plan.wrap = Some(Rc::new(wrap)))
    }

    /// Plants an error in the disk: a write that a crash interrupts leaves its offsets without its rows.
    pub fn torn_writes(self) -> Self {
        self.with(|plan| plan.torn = true)
    }

    /// Writes down every request, and not only what goes wrong.
    pub fn detailed(self) -> Self {
        self.with(|plan| plan.detailed = true)
    }

    /// One run.
    ///
    /// # Errors
    /// It came to what must not be. The same seed shows it again.
    pub fn run(&self, seed: u64) -> Result<Outcome, Box<Violation>> {
        let (outcome, result) = self.run_once(seed, true);
        result.and_then(|()| self.compare(&outcome)).map_err(|what| {
            let Outcome { trace, .. } = &outcome;
            Box::new(Violation { seed, what, trace: trace.clone() })
        })?;
        Ok(outcome)
    }

    fn compare(&self, outcome: &Outcome) -> Result<(), String> {
        if !self.0.outputs.is_empty() {
            let (calm, result) = self.run_once(outcome.seed, false);
            result.map_err(|what| format!("not even a run without faults comes to a good end: {what}"))?;
            for (topic, compare) in &self.0.outputs {
                // Nobody keeps a zombie from writing old values behind new ones but transactions.
                if *compare == Compare::Contains || !outcome.zombies || self.is_exactly_once() {
                    verify::output(topic, *compare, &outcome.records(topic), &calm.records(topic))?;
                }
            }
        }
        self.0.checks.iter().try_for_each(|check| check(outcome))
    }

    fn is_exactly_once(&self) -> bool {
        self.0.config.is_exactly_once()
    }

    fn run_once(&self, seed: u64, faults: bool) -> (Outcome, Result<(), String>) {
        let root = Root::new();
        let clock = ManualClock::at(0);
        let fate = Fate::new(seed, clock.clone(), self.0.detailed);
        let mut plan = (*self.0).clone();
        if !faults {
            (plan.instances_max, plan.threads_max, plan.wrap) = (1, 1, None);
        }
        let world = Rc::new(World::new(Rc::new(plan), fate.clone(), clock, &root.0));
        let zombies = world.zombies && faults;
        let stores = |()| if zombies && !self.is_exactly_once() { Ok(()) } else { verify::stores(&world) };
        let result = world.run(faults).and_then(stores).and_then(|()| world.close());
        let (steps, faults, digest, trace) = fate.report();
        (Outcome { broker: world.broker.clone(), seed, zombies, steps, faults, digest, trace }, result)
    }
}

/// A folder for the state directories, removed at the end.
struct Root(PathBuf);

impl Root {
    fn new() -> Self {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        // In memory where the system has such a place: there are thousands of runs.
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        Self(parent.join(format!("watersmeet-simulation-{}-{number}", std::process::id())))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // What cannot be removed lies in the system's folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
