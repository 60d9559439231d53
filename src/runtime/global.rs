//! Global stores: one task per client reads all partitions of their topics, with a consumer of its own, outside of the
//! group. Source: Kafka Streams' `GlobalStreamThread` and `GlobalStateUpdateTask`.

use super::app::App;
use super::pace::Limits;
use super::queue::Input;
use super::task::{Task, TaskId};
use super::task_init::{context, make_ports};
use crate::broker::{Batch, Consumer, Event, RawRecord, Role, TopicPartition};
use crate::config::Policy;
use crate::error::{Error, Kind, Result};
use crate::operators::cx::Counts;
use crate::operators::{CacheBudget, Hooks};
use crate::state::{StoreId, TaskState};
use crate::topology::{NodeId, Source};
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How many records one turn takes.
const RECORDS_PER_TURN_MAX: usize = 5_000;
/// How long a turn waits for records: the client's end waits for it as well.
const POLL: Duration = Duration::from_millis(100);
/// The pause before a broker without an answer is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// The task that fills the global stores, and what it reads with.
pub(crate) struct GlobalTask {
    pub(crate) task: Task,
    consumer: Box<dyn Consumer>,
    /// Per input, its end when the task began: the stores are complete when it has been read.
    ends: Vec<i64>,
    batch: Batch,
    events: Vec<Event>,
    published: Counts,
}

impl GlobalTask {
    /// The task with its stores complete; `None` where there are no global stores.
    pub(crate) fn restored(app: &App) -> Result<Option<Self>> {
        if app.globals.specs().is_empty() {
            return Ok(None);
        }
        let mut global = Self::open(app)?;
        while !global.is_complete() {
            global.turn(app, POLL)?;
        }
        Ok(Some(global))
    }

    fn open(app: &App) -> Result<Self> {
        let specs = app.globals.specs();
        let id = TaskId { sub_topology: app.plan.global.id, partition: -1 };
        let state = TaskState::of_globals(&app.globals, app.budget.clone());
        let mut cx = context(app, id, state, specs, &CacheBudget::new(0));
        cx.changelogs = vec![None; specs.len()];
        // There is no producer here, so there are no dead letters either, as in Kafka Streams.
        for policy in [&mut cx.policies.deserialization, &mut cx.policies.processing] {
            if *policy == Policy::DeadLetter {
                *policy = Policy::Continue;
            }
        }
        // Kafka Streams' test driver passes over what does not decode, whatever the policy.
        if app.driven.is_some() {
            cx.policies.deserialization = Policy::Continue;
        }
        let mut hooks = Hooks::default();
        let (sources, _) = make_ports(app, &app.plan.global.nodes, specs, &mut cx, &mut hooks);
        let (nodes, sources): (Vec<NodeId>, Vec<Box<dyn Source>>) = sources.into_iter().unzip();
        let read = |node: &NodeId| app.plan.topology.nodes[node.0].source_topics();
        let topics: Vec<String> = nodes.iter().flat_map(read).map(|topic| topic.plain().to_string()).collect();
        let mut consumer = app.broker.consumer(Role::Global, app.isolation())?;
        let (mut inputs, mut ends, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for (topic, info) in topics.iter().zip(app.broker.admin()?.topics(&topics)?) {
            let Some(info) = info else {
                return Err(Error::new(Kind::Topology, "the topic of a global table does not exist")
                    .topic(topic)
                    .hint("create it, or correct its name"));
            };
            let partitions = (0..info.partitions).map(|p| TopicPartition::new(topic.as_str(), p));
            let partitions: Vec<TopicPartition> = partitions.collect();
            let bounds = consumer.offset_bounds(&partitions)?;
            let source = app.plan.source_of(&nodes, topic, &app.config.application_id).unwrap_or(0);
            let store = store_of(app, topic);
            let positions = positions(&mut cx.state, store, &partitions, &bounds)?;
            for ((partition, bounds), position) in partitions.into_iter().zip(bounds).zip(positions) {
                starts.push((partition.clone(), Some(position)));
                inputs.push(Input::new(partition, source, position, -1));
                ends.push(bounds.end);
            }
        }
        consumer.assign(&starts)?;
        // It never waits for a record of another topic: there is no time among them.
        let mut task = Task::new(id, sources, cx, -1);
        task.inputs = inputs;
        task.hooks = hooks;
        task.stores = specs.iter().map(|spec| spec.name.clone()).collect();
        task.restored()?;
        for (number, name) in task.stores.iter().enumerate() {
            task.cx.state.feed(StoreId(number), app.exposed.feed(name), -1);
        }
        let (batch, events, published) = Default::default();
        Ok(Self { task, consumer, ends, batch, events, published })
    }

    /// True when everything has been read that was there at the beginning.
    fn is_complete(&self) -> bool {
        self.task.inputs.iter().zip(&self.ends).all(|(input, end)| input.position >= *end)
    }

    /// Takes what has come, and lets the other tasks see it. Returns how many records it took.
    pub(crate) fn turn(&mut self, app: &App, timeout: Duration) -> Result<usize> {
        self.batch.clear();
        self.consumer.poll(timeout, RECORDS_PER_TURN_MAX, &mut self.batch, &mut self.events)?;
        let bytes = Rc::new(std::mem::take(&mut self.batch.bytes));
        let sources = &self.batch.sources;
        for meta in self.batch.records.drain(..) {
            let tp = &sources[meta.source as usize];
            if let Some(input) = self.task.inputs.iter().position(|input| *input.partition == *tp) {
                self.task.push(input, RawRecord { bytes: bytes.clone(), meta });
            }
        }
        let count = self.task.process(app.shared.clock.now_ms(), Limits::none(&*app.shared.clock), |_| Ok(()))?;
        for event in std::mem::take(&mut self.events) {
            self.handle(app, event)?;
        }
        if self.task.dirty {
            self.task.flush()?;
            let offsets = self.task.inputs.iter().map(|input| ((*input.partition).clone(), input.position));
            self.task.cx.state.commit(&offsets.collect::<Vec<_>>())?;
            self.task.cx.cache.committed();
            self.task.dirty = false;
        }
        app.shared.count(self.task.cx.counts.minus(self.published));
        self.published = self.task.cx.counts;
        Ok(count)
    }

    fn handle(&mut self, app: &App, event: Event) -> Result {
        match event {
            Event::End { partition, offset } => {
                for input in self.task.inputs.iter_mut().filter(|input| *input.partition == partition) {
                    input.reached_end(offset);
                }
            }
            Event::OffsetOutOfRange(partition) => {
                tracing::error!("{partition}: the log no longer has what the global store needs: reading it anew");
                *self = Self::open(app)?;
            }
            Event::MissingTopic(topic) => {
                return Err(Error::new(Kind::Topology, "the topic of a global table has been deleted")
                    .topic(topic)
                    .hint("create it again, or remove it from the topology"));
            }
            Event::Trouble(error) => app.shared.broker_trouble(Some(error.to_string())),
            Event::TroubleOver => app.shared.broker_trouble(None),
            Event::Assigned(_) | Event::Revoking(_) | Event::Lost(_) => {}
        }
        Ok(())
    }
}

/// The store that `topic` fills.
fn store_of(app: &App, topic: &str) -> StoreId {
    let nodes = &app.plan.topology.nodes;
    let reads = |n: &NodeId| nodes[n.0].source_topics().iter().any(|t| t.plain() == topic);
    let source = app.plan.global.nodes.iter().copied().find(reads);
    let behind = |n: &&NodeId| source.is_some_and(|source| nodes[n.0].parents.contains(&source));
    let stores = app.plan.global.nodes.iter().filter(behind).flat_map(|n| &nodes[n.0].stores);
    let specs = app.globals.specs();
    let mut ids = stores.filter_map(|store| specs.iter().position(|spec| spec.name == *store));
    StoreId(ids.next().unwrap_or(0))
}

/// Where to read on, per partition. Where the store is of another life of the topic, or the topic has lost what it needs,
/// it is emptied and read anew.
fn positions(
    state: &mut TaskState,
    store: StoreId,
    partitions: &[TopicPartition],
    bounds: &[Range<i64>],
) -> Result<Vec<i64>> {
    let known: Vec<Option<i64>> =
        partitions.iter().map(|tp| state.committed_offset(store, tp)).collect::<Result<_>>()?;
    let fits = |(known, bounds): (&Option<i64>, &Range<i64>)| {
        known.is_none_or(|offset| offset >= bounds.start && offset <= bounds.end)
    };
    if known.iter().zip(bounds).all(fits) {
        return Ok(known.iter().zip(bounds).map(|(known, bounds)| known.unwrap_or(bounds.start)).collect());
    }
    for tp in partitions {
        tracing::error!("{tp} does not have what the global store has read of it: reading it anew");
        state.wipe(store, tp)?;
    }
    Ok(bounds.iter().map(|bounds| bounds.start).collect())
}

/// The thread that fills the global stores, until the client stops. `ready` is set when they are complete.
pub(super) fn run(app: &App, ready: &AtomicBool) -> Result {
    let mut global: Option<GlobalTask> = None;
    while !app.shared.is_stopping() {
        let turn = match &mut global {
            Some(task) => task.turn(app, POLL).map(drop),
            none => GlobalTask::open(app).map(|task| *none = Some(task)),
        };
        match turn {
            Ok(()) if global.as_ref().is_some_and(GlobalTask::is_complete) => ready.store(true, Ordering::Release),
            Ok(()) => {}
            Err(error) if error.is_retriable() => {
                app.shared.broker_trouble(Some(error.to_string()));
                std::thread::sleep(AGAIN);
            }
            Err(error) => return Err(error),
        }
    }
    match global {
        Some(mut task) => task.consumer.close(false),
        None => Ok(()),
    }
}
