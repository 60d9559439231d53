//! What all threads of a client share.

use super::exposed::Registry;
use super::instances::Known;
use super::keeper;
use super::listeners::RestoreListener;
use super::prepare::Plan;
use super::purge::Purge;
use super::shared::Shared;
use super::topics::Topics;
use crate::broker::{Broker, Isolation, Sender};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Result;
use crate::metrics::{Metrics, SharedMemory};
use crate::operators::calls::Calls;
use crate::state::directory::StateDirectory;
use crate::state::{Engine, GlobalStores, MemoryBudget, StoreSpec};
use crate::topology::Topology;
use std::sync::{Arc, Mutex, OnceLock};

/// Everything but the threads themselves.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) plan: Plan,
    pub(crate) globals: GlobalStores,
    /// Where calls to the outside run.
    pub(crate) calls: Calls,
    /// Where tasks' stores are opened and closed.
    pub(crate) keepers: keeper::Place,
    pub(crate) broker: Arc<dyn Broker>,
    /// See [`sender`](Self::sender).
    pub(crate) sender: OnceLock<Arc<dyn Sender>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) directory: StateDirectory,
    pub(crate) budget: Arc<MemoryBudget>,
    /// Whether a client that closes leaves the group, rather than to come back under its name.
    pub(crate) leaves: bool,
    /// The running tasks' stores, for queries.
    pub(crate) exposed: Arc<Registry>,
    /// The application's instances, for queries.
    pub(crate) instances: Known,
    /// Set where a test turns the thread.
    pub(crate) driven: Option<Driven>,
    /// The source topics.
    pub(crate) topics: Topics,
    pub(crate) purge: Purge,
    /// Who is told of restores.
    pub(crate) restore_listener: Option<Arc<dyn RestoreListener>>,
}

impl App {
    /// An application's folder, where a store needs one.
    pub(crate) fn directory(topology: &Topology, config: &Config) -> Result<StateDirectory> {
        let persistent = topology.stores.values().any(|store| store.engine == Engine::RocksDb);
        StateDirectory::open(&config.state_dir, &config.application_id, persistent)
    }

    /// All of it, checked.
    pub(crate) fn new(
        topology: Topology,
        config: Config,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        directory: StateDirectory,
        budget: MemoryBudget,
        driven: Option<Driven>,
    ) -> Result<Self> {
        let plan = Plan::new(topology, &config.application_id, driven.is_some())?;
        let shared = Shared::new(config.application_id.clone(), clock, config.stall_limit);
        shared.set_thread_count(config.num_stream_threads);
        let budget = Arc::new(budget);
        let globals = plan.global.stores.iter().map(|name| plan.topology.stores[name].clone());
        let globals: Vec<StoreSpec> = globals.collect();
        let persistent = globals.iter().any(|spec| spec.engine == Engine::RocksDb);
        let dir = if persistent { Some(directory.global_dir()?) } else { None };
        let globals = GlobalStores::open(dir.as_deref(), globals, &budget)?;
        let metrics = Metrics::new(&config.application_id);
        let watched = budget.clone();
        metrics.watch_shared_memory(move || SharedMemory {
            block_cache_bytes: watched.block_cache_bytes(),
            memtable_bytes: watched.write_buffer_bytes(),
        });
        // Where nobody can come back under this name, nobody should wait for that.
        let has_name = directory.keeps_identity() || config.consumer.iter().any(|(key, _)| key == "group.instance.id");
        let leaves = config.shutdown_leave_group || !has_name;
        let purge = Purge::new(plan.repartition_topics(&config.application_id));
        Ok(Self {
            plan,
            calls: Calls::default(),
            keepers: keeper::Place::default(),
            globals,
            broker,
            sender: OnceLock::new(),
            shared: Arc::new(shared),
            metrics,
            directory,
            budget,
            exposed: Arc::default(),
            instances: Mutex::default(),
            topics: Topics::default(),
            purge,
            restore_listener: None,
            leaves,
            config,
            driven,
        })
    }

    /// Which records consumers get to see.
    pub(super) fn isolation(&self) -> Isolation {
        if self.config.is_exactly_once() { Isolation::ReadCommitted } else { Isolation::AsConfigured }
    }

    /// What the application's own records are sent with; made when it is first asked for.
    pub(crate) fn sender(&self) -> Result<Arc<dyn Sender>> {
        if let Some(sender) = self.sender.get() {
            return Ok(sender.clone());
        }
        let sender = self.broker.sender()?;
        Ok(self.sender.get_or_init(|| sender).clone())
    }

    /// The transactional id of a thread's producer: `<application.id>-<process id>-<thread>`. Source: Kafka Streams' `StreamsProducer`.
    pub(super) fn transactional_id(&self, thread: usize) -> Option<String> {
        let id = || format!("{}-{}-{thread}", self.config.application_id, self.directory.process_id());
        self.config.is_exactly_once().then(id)
    }
}

/// How a thread runs that a test turns: one task per partition has all of the topology, a turn processes one record of each
/// task, and the clock commits nothing. Source: Kafka Streams' `TopologyTestDriver`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Driven {
    /// Whether the turn that has processed a record commits it.
    pub(crate) commit_each: bool,
    /// How many partitions a topic gets that is created because it is written to.
    pub(crate) partitions: i32,
}
