//! Opens a task: its state, its ports, its inputs; and brings its stores up to date.

use super::app::App;
use super::commit::Changelogs;
use super::drain::Holding;
use super::metadata::Metadata;
use super::opening::Stores;
use super::queue::Input;
use super::task::{Task, TaskId};
use super::thread::Clients;
use crate::broker::{Consumer, Event, Role, TopicPartition};
use crate::config::{Policy, StoreFormat};
use crate::error::{Error, Kind, Result};
use crate::operators::Build;
use crate::operators::cx::Counts;
use crate::operators::holds::Holds;
use crate::operators::sizes::TopicSizes;
use crate::operators::{CacheBudget, Cx, ErasedPort, Hooks, Outbox, RecordCache};
use crate::state::restore::{Restore, RestorePartition};
use crate::state::segmented::Segmented;
use crate::state::versioned::Versioned;
use crate::state::{Changelog, StoreId, StoreSpec, TaskState};
use crate::status::TaskStateName;
use crate::topology::internal_topics::changelog_topic;
use crate::topology::{NodeId, NodeKind, Source};
use std::collections::BTreeMap;

/// Committed offset and metadata of each input partition; `None` where the group has committed none.
pub(super) type Positions = BTreeMap<TopicPartition, Option<(i64, Metadata)>>;

/// Opens the task `id` on these partitions, with its open stores. It is RESTORING where its changelogs hold what its stores do
/// not, else RUNNING.
pub(super) fn open(
    app: &App,
    clients: &mut Clients,
    cache: &CacheBudget,
    id: TaskId,
    partitions: &[TopicPartition],
    positions: &Positions,
    Stores { state, directory }: Stores,
) -> Result<Task> {
    let sub = &app.plan.sub_topologies[id.sub_topology];
    let specs: Vec<StoreSpec> = app.plan.specs(id.sub_topology).collect();
    let nodes = &sub.nodes;
    // The global stores' ids follow those of the task's own.
    let all: Vec<StoreSpec> = cached(app, nodes, &specs).into_iter().chain(app.globals.specs().to_vec()).collect();
    let mut cx = context(app, id, state, &all, cache);
    cx.holds = Holds::new(clients.work_ended.clone());
    cx.dead_letters = app.config.errors.dead_letter_topic.as_deref().map(|topic| cx.outbox.topic(topic));
    let mut changelogs = Changelogs::default();
    for (i, spec) in specs.iter().enumerate() {
        let (topic, own) = match &spec.changelog {
            Changelog::None => (None, None),
            Changelog::Source { topic } => (Some(topic.clone()), None),
            Changelog::Own { .. } => {
                let topic = changelog_topic(&app.config.application_id, &spec.name);
                let number = cx.outbox.topic(&topic);
                (Some(topic), Some(number))
            }
        };
        cx.changelogs.push(own);
        changelogs.0.extend(topic.map(|topic| (StoreId(i), TopicPartition::new(topic, id.partition))));
    }
    let mut hooks = Hooks::default();
    cx.changelogs.resize(all.len(), None);
    let (sources, bootstrap) = make_ports(app, nodes, &all, &mut cx, &mut hooks);
    let (nodes, sources): (Vec<NodeId>, Vec<Box<dyn Source>>) = sources.into_iter().unzip();
    let mut task = Task::new(id, sources, cx, app.config.max_task_idle_ms);
    task.source_nodes = nodes.into_iter().zip(bootstrap).collect();
    task.changelogs = changelogs;
    task.hooks = hooks;
    task.holding = task.hooks.has_works().then(|| {
        let exactly_once = app.config.is_exactly_once();
        let commits_wait = app.plan.topology.commits_wait_for_holders(&sub.nodes, exactly_once);
        Holding { commits_wait, exactly_once }
    });
    task.directory = directory;
    task.stores = specs.iter().map(|spec| spec.name.clone()).collect();
    add_inputs(app, clients, &mut task, partitions, positions)?;
    start_restore(app, clients, &mut task, &specs, positions)?;
    Ok(task)
}

/// Adds the inputs of these partitions to a task, from where the group has committed.
pub(super) fn add_inputs(
    app: &App,
    clients: &mut Clients,
    task: &mut Task,
    partitions: &[TopicPartition],
    positions: &Positions,
) -> Result {
    let mut inputs = Vec::new();
    let (nodes, first): (Vec<NodeId>, Vec<bool>) = task.source_nodes.iter().copied().unzip();
    for tp in partitions {
        let known = positions.get(tp).cloned().flatten();
        let (offset, Metadata { time_ms, closed_ms }) = known.unwrap_or_else(|| (0, Metadata::unknown()));
        for (store, closed) in task.stores.iter().zip(&mut task.cx.closed_ms) {
            *closed = (*closed).max(closed_ms.get(store).copied());
        }
        task.cx.stream_time_ms = task.cx.stream_time_ms.max(time_ms);
        let source = app.plan.source_of(&nodes, &tp.topic, &app.config.application_id).unwrap_or(0);
        let mut input = Input::new(tp.clone(), source, offset, time_ms);
        input.bootstrap = first[source];
        inputs.push(input);
    }
    set_barrier(clients, &mut inputs)?;
    task.inputs.extend(inputs);
    Ok(())
}

/// What the nodes of one task share, before anything is said of changelogs and dead letters.
pub(super) fn context(app: &App, id: TaskId, state: TaskState, specs: &[StoreSpec], cache: &CacheBudget) -> Cx {
    let cache = RecordCache::new(specs, cache.clone());
    let segmented = |(i, spec)| Some(Segmented::new(StoreId(i), spec)?.cached(cache.is_cached(StoreId(i))));
    Cx {
        current: None,
        partition: id.partition,
        state,
        changelogs: Vec::new(),
        outbox: Outbox::default(),
        sizes: TopicSizes::new(app.broker.clone(), app.driven.map(|driven| driven.partitions), app.topics.sizes()),
        counts: Counts::default(),
        stream_time_ms: -1,
        policies: app.config.errors.clone(),
        timestamps: app.config.timestamps,
        deletes_have_headers: app.config.store_format == StoreFormat::Headers,
        dead_letters: None,
        row: Vec::new(),
        punctuations: Default::default(),
        holds: Default::default(),
        calls: Default::default(),
        context_ms: -1,
        commit_requested: false,
        forwarded: false,
        task_id: id.to_string(),
        closed_ms: vec![None; specs.len()],
        buffers: Default::default(),
        join_times: vec![Default::default(); specs.len()],
        emit_intervals: app.config.emit_intervals,
        now_ms: app.shared.clock.now_ms(),
        segmented: specs.iter().enumerate().map(segmented).collect(),
        cache,
        versioned: specs.iter().enumerate().map(|(i, spec)| Versioned::new(StoreId(i), spec)).collect(),
    }
}

/// The sources of a task with their nodes, and which of them go first.
type Sources = (Vec<(NodeId, Box<dyn Source>)>, Vec<bool>);

/// Makes the ports of all nodes, children before parents, and returns the sources.
pub(super) fn make_ports(app: &App, nodes: &[NodeId], specs: &[StoreSpec], cx: &mut Cx, hooks: &mut Hooks) -> Sources {
    let topology = &app.plan.topology;
    let application_id = app.config.application_id.as_str();
    let stores: BTreeMap<String, StoreId> =
        specs.iter().enumerate().map(|(i, spec)| (spec.name.clone(), StoreId(i))).collect();
    let cached: Vec<bool> = (0..specs.len()).map(|i| cx.cache.is_cached(StoreId(i))).collect();
    // For each edge (parent, child) the port through which the parent reaches the child.
    let mut edges: BTreeMap<(NodeId, NodeId), ErasedPort> = BTreeMap::new();
    let (mut sources, mut bootstrap) = (Vec::new(), Vec::new());
    // Where a panic ends the task anyway, the task catches it, at no cost per record.
    let dead_letters = app.config.errors.dead_letter_topic.is_some();
    let guarded = app.config.errors.processing != Policy::Fail || dead_letters;
    let mut nodes = nodes.to_vec();
    nodes.sort();
    let in_order = app.config.is_exactly_once() && !topology.commits_wait_for_holders(&nodes, true);
    for &n in nodes.iter().rev() {
        let node = &topology.nodes[n.0];
        let children = topology.children(n).into_iter().filter_map(|child| edges.remove(&(n, child))).collect();
        let (node_name, outbox) = (node.name.clone(), &mut cx.outbox);
        let names = topology.children(n).into_iter().map(|child| topology.nodes[child.0].name.clone()).collect();
        let mut build = Build {
            node: node_name,
            stores: &stores,
            outbox,
            application_id,
            cached: &cached,
            dead_letters,
            hooks,
            calls: &app.calls,
            holds: &cx.holds,
            in_order,
            children: names,
        };
        match &node.kind {
            NodeKind::Source { bootstrap: first, make, .. } => {
                sources.push((n, make(&mut build, children)));
                bootstrap.push(*first);
            }
            NodeKind::Processor(recipe) | NodeKind::Sink { recipe, .. } => {
                let port = (recipe.make)(&mut build, children);
                let processes = matches!(node.kind, NodeKind::Processor(_));
                let guard = (guarded && processes).then_some(node.name.as_str());
                let ports = (recipe.share)(port, node.parents.len(), guard);
                edges.extend(node.parents.iter().map(|parent| (*parent, n)).zip(ports));
            }
        }
    }
    (sources, bootstrap)
}

/// The stores, where caching would be noticed: not where nothing is logged and nobody gets the changes, such as that of a
/// table that streams are joined with, and that is restored from its source topic.
fn cached(app: &App, nodes: &[NodeId], specs: &[StoreSpec]) -> Vec<StoreSpec> {
    let topology = &app.plan.topology;
    let mut nodes = nodes.to_vec();
    nodes.sort();
    let noticed = |spec: &StoreSpec| {
        // Parents come first: the first node with the store is the one that writes it.
        let owner = nodes.iter().find(|n| topology.nodes[n.0].stores.contains(&spec.name));
        matches!(spec.changelog, Changelog::Own { .. }) || owner.is_some_and(|n| !topology.children(*n).is_empty())
    };
    specs.iter().map(|spec| StoreSpec { cached: spec.cached && noticed(spec), ..spec.clone() }).collect()
}

/// Inputs that go first are waited for up to the end that they have now.
fn set_barrier(clients: &mut Clients, inputs: &mut [Input]) -> Result {
    let first: Vec<TopicPartition> =
        inputs.iter().filter(|input| input.bootstrap).map(|input| (*input.partition).clone()).collect();
    if first.is_empty() {
        return Ok(());
    }
    let bounds = clients.consumer.offset_bounds(&first)?;
    for (input, bounds) in inputs.iter_mut().filter(|input| input.bootstrap).zip(bounds) {
        // An offset below the log's start (deleted records) would never be reached by counting; the fetch starts there.
        input.position = input.position.max(bounds.start);
        input.bootstrap_end = (input.position < bounds.end).then_some(bounds.end);
    }
    Ok(())
}

/// Starts to read the changelogs, from where each store is to their end; for a source topic that serves as changelog the
/// end is the committed offset, since what follows is processed as input.
fn start_restore(
    app: &App,
    clients: &mut Clients,
    task: &mut Task,
    specs: &[StoreSpec],
    positions: &Positions,
) -> Result {
    let logs: Vec<TopicPartition> = task.changelogs.0.iter().map(|(_, tp)| tp.clone()).collect();
    let mut partitions = Vec::new();
    if !logs.is_empty() {
        let mut bounds = clients.consumer.offset_bounds(&logs)?;
        // A transaction may be committed, and known to be so by the group, before its changelogs hear of it: the restore
        // waits for what is open now.
        task.log_ends = clients.consumer.log_ends(&logs)?;
        bounds.iter_mut().zip(&task.log_ends).for_each(|(bounds, end)| bounds.end = *end);
        for ((store, tp), bounds) in task.changelogs.0.iter().zip(bounds) {
            if let Some(rows) = &mut task.cx.segmented[store.0] {
                rows.sequences_from(bounds.end);
            }
            let end = match positions.get(tp) {
                Some(committed) => committed.as_ref().map_or(bounds.start, |(offset, _)| *offset),
                None => bounds.end,
            };
            let known = task.cx.state.committed_offset(*store, tp)?;
            // A log that ends before what the store has seen was deleted and made anew: the store is of another life.
            let start = known.filter(|offset| *offset <= bounds.end).unwrap_or_else(|| {
                if known.is_some() {
                    tracing::error!(
                        "the changelog {tp} ends before what the store has of it: restoring from its start"
                    );
                }
                bounds.start
            });
            if known.is_some_and(|offset| offset > bounds.end) {
                task.cx.state.wipe(*store, tp)?;
            }
            let start = start.max(bounds.start);
            if start < end {
                partitions.push(RestorePartition { store: *store, partition: tp.clone(), start, end });
            }
        }
    }
    if partitions.is_empty() {
        return task.restored();
    }
    let restorer = match &mut clients.restorer {
        Some(restorer) => restorer,
        none => none.insert(app.broker.consumer(Role::Restore { thread: clients.thread }, app.isolation())?),
    };
    let starts: Vec<_> = partitions.iter().map(|p| (p.partition.clone(), Some(p.start))).collect();
    for p in &partitions {
        tracing::info!("task {}: restoring {} from {} to {}", task.id, p.partition, p.start, p.end);
        if let Some(listener) = &app.restore_listener {
            listener.on_restore_start(&p.partition, &task.stores[p.store.0], p.start, p.end);
        }
    }
    restorer.assign(&starts)?;
    task.restore = Some(Restore::new(partitions, specs, app.shared.clock.nanos()));
    task.state = TaskStateName::Restoring;
    Ok(())
}

/// What the restore consumer has to say besides records.
pub(super) fn restore_event(tasks: &mut BTreeMap<TaskId, Task>, restorer: &mut dyn Consumer, event: &Event) -> Result {
    match event {
        Event::End { partition, offset } => {
            for restore in tasks.values_mut().filter_map(|t| t.restore.as_mut()).filter(|r| r.reads(partition)) {
                restore.reached_end(partition, *offset);
            }
        }
        Event::OffsetOutOfRange(partition) => {
            tracing::error!("{partition}: the log no longer has what the store needs: restoring from its start");
            let start = restorer.offset_bounds(std::slice::from_ref(partition))?[0].start;
            for task in tasks.values_mut() {
                if let Some(restore) = task.restore.as_mut().filter(|r| r.reads(partition)) {
                    restore.start_over(&mut task.cx.state, partition, start)?;
                }
            }
            restorer.unassign(std::slice::from_ref(partition))?;
            restorer.assign(&[(partition.clone(), Some(start))])?;
        }
        Event::MissingTopic(topic) => {
            return Err(Error::new(Kind::Topology, "a changelog topic has been deleted while it was restored")
                .topic(topic)
                .hint("stop all instances, delete the state directory, and start again"));
        }
        Event::Trouble(error) => tracing::warn!("while restoring: {error}"),
        Event::TroubleOver | Event::Assigned(_) | Event::Revoking(_) | Event::Lost(_) => {}
    }
    Ok(())
}
