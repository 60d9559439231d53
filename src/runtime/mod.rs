//! The runtime: threads, tasks, commit. [`Streams`](crate::streams::Streams) is what a user has of it.

mod application_end;
mod assignment;
mod commit;
mod drain;
mod exposed;
mod first_offsets;
mod global;
pub mod instances;
pub(crate) mod keeper;
mod listeners;
mod metadata;
mod opening;
mod pace;
mod prepare;
mod purge;
pub mod queries;
mod queue;
mod ready;
mod rebalance;
mod restoring;
mod scan;
mod shared;
pub(crate) mod supervisor;
mod task;
mod task_init;
pub mod thread;
mod topics;
mod transaction;
mod verify;

pub use listeners::{Listeners, RestoreListener};
pub use supervisor::Ended;
pub use task::TaskId;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Result;
use crate::metrics::{Metrics, SharedMemory};
use crate::operators::calls::Calls;
use crate::state::directory::StateDirectory;
use crate::state::{Engine, GlobalStores, MemoryBudget, StoreSpec};
use crate::topology::Topology;
use prepare::Plan;
use purge::Purge;
use shared::Shared;
use std::sync::{Arc, Mutex, OnceLock};
use thread::{App, Driven};
use topics::Topics;

/// The application's folder, where a store needs one.
pub(crate) fn directory(topology: &Topology, config: &Config) -> Result<StateDirectory> {
    let persistent = topology.stores.values().any(|store| store.engine == Engine::RocksDb);
    StateDirectory::open(&config.state_dir, &config.application_id, persistent)
}

/// Everything that the threads of one client share, checked.
pub(crate) fn app(
    topology: Topology,
    config: Config,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    directory: StateDirectory,
    budget: MemoryBudget,
    driven: Option<Driven>,
) -> Result<App> {
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
    Ok(App {
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
