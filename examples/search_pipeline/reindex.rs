//! Blue and green: a new index is filled from the beginning of its topic beside the one in use, then the alias is switched.
//!
//! Both writers go on until the new index has everything: the pipeline writes to what the alias stands for, the filler to the
//! new index by its name. Whatever both write, the versions decide, so nothing gets lost or old at the switch.
//!
//! Until then a second alias stands for the index before: should the process be killed at the switch, the next one sees by it that
//! the new index may lack something, and fills it once more. Before the switch nothing has changed for anybody.

use crate::common::Place;
use crate::pipeline::Index;
use crate::{add_index, config};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use watersmeet::broker::{Consumer, Isolation, Role, TopicPartition};
use watersmeet::clock::SystemClock;
use watersmeet::error::Kind;
use watersmeet::prelude::*;
use watersmeet::search::{Answer, SearchEngine, SearchError};

/// How long nothing may move before the filling is given up.
const STILL_MAX: Duration = Duration::from_secs(300);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The index behind an alias: the alias with a number.
pub fn numbered(alias: &str, number: u32) -> String {
    format!("{alias}-{number}")
}

/// The alias of the last index that was complete.
pub fn complete(alias: &str) -> String {
    format!("{alias}-complete")
}

fn number_of(alias: &str, index: &str) -> Option<u32> {
    index.strip_prefix(alias)?.strip_prefix('-')?.parse().ok()
}

/// What is being filled, and what has been.
#[derive(Clone)]
pub struct Reindexes(Arc<Inner>);

struct Inner {
    place: Arc<Place>,
    engine: Arc<dyn SearchEngine>,
    progress: Mutex<BTreeMap<String, Progress>>,
}

#[derive(Clone, Default)]
struct Progress {
    state: &'static str,
    new: String,
    old: Option<String>,
    read: i64,
    of: i64,
    error: Option<String>,
}

impl Reindexes {
    pub fn new(place: Arc<Place>, engine: Arc<dyn SearchEngine>) -> Self {
        Self(Arc::new(Inner { place, engine, progress: Mutex::default() }))
    }

    /// Begins to fill a new index, or goes on with `begun`; `false`: that is being done already.
    pub fn begin(&self, index: &Index, begun: Option<String>) -> bool {
        let mut all = self.0.lock();
        if all.get(&index.name).is_some_and(|progress| matches!(progress.state, "filling" | "switched")) {
            return false;
        }
        all.insert(index.name.clone(), Progress { state: "filling", ..Progress::default() });
        let (inner, index) = (self.0.clone(), index.clone());
        std::thread::spawn(move || {
            if let Err(error) = inner.run(&index, begun) {
                inner.note(&index, |progress| {
                    progress.state = "failed";
                    progress.error = Some(error.to_string());
                });
            }
        });
        true
    }

    pub fn progress(&self, index: &str) -> Value {
        let Some(Progress { state, new, old, read, of, error }) = self.0.lock().get(index).cloned() else {
            return json!({ "state": "none" });
        };
        json!({ "state": state, "new": new, "old": old, "records_read": read, "records": of, "error": error })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, index: &Index, change: impl FnOnce(&mut Progress)) {
        change(self.lock().entry(index.name.clone()).or_default());
    }

    fn run(&self, index: &Index, begun: Option<String>) -> Result {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Error::new(Kind::Internal, "no runtime").source(e))?;
        let new = match begun {
            Some(new) => new,
            None => self.create(&runtime, index)?,
        };
        self.note(index, |progress| progress.new.clone_from(&new));

        // A group of its own with a name of its own: it has committed nothing, so it begins at the beginning.
        let builder = StreamsBuilder::new();
        add_index(&builder, &index.topic, &self.engine, &new);
        let mut config = config(&self.place);
        let now_ms = SystemClock::shared().now_ms();
        config.application_id = format!("{}-fills-{new}-{now_ms}", config.application_id);
        config.shutdown_leave_group = true;
        // Says what the group has committed; no member of it.
        let mut group = self.place.broker(&config)?.consumer(Role::Restore { thread: 0 }, Isolation::ReadCommitted)?;
        let filler = self.place.start(builder.build()?, config)?;
        self.read_to_end(index, &filler, &mut *group)?;
        ask(&runtime, || self.engine.point_alias(&index.name, &new))?;
        self.note(index, |progress| progress.state = "switched");
        // What the pipeline wrote to the old index until now.
        self.read_to_end(index, &filler, &mut *group)?;
        filler.close(Duration::from_secs(30));
        // The old one stays, to go back to; those before it are of no use any more.
        let complete = complete(&index.name);
        let old = ask(&runtime, || self.engine.point_alias(&complete, &new))?;
        for number in 1..old.as_deref().and_then(|old| number_of(&index.name, old)).unwrap_or(1) {
            let before = numbered(&index.name, number);
            ask(&runtime, || self.engine.delete_index(&before))?;
        }
        self.note(index, |progress| (progress.state, progress.old) = ("done", old));
        Ok(())
    }

    /// An empty index with the next number that is free: an attempt that was broken off may have left one, or another instance
    /// fill one.
    fn create(&self, runtime: &Runtime, index: &Index) -> Result<String> {
        let (current, schema) = (ask(runtime, || self.engine.alias(&index.name))?, index.schema());
        let mut number = current.as_deref().and_then(|current| number_of(&index.name, current)).unwrap_or(0);
        loop {
            number += 1;
            let new = numbered(&index.name, number);
            if ask(runtime, || self.engine.create_index(&new, &schema))? {
                return Ok(new);
            }
        }
    }

    /// Where the topic's partitions end.
    fn ends(&self, topic: &str, consumer: &mut dyn Consumer) -> Result<(Vec<TopicPartition>, Vec<i64>)> {
        let mut admin = self.place.broker(&self.place.config)?.admin()?;
        let found = admin.topics(&[topic.to_owned()])?.into_iter().flatten().next();
        let count =
            found.ok_or_else(|| Error::new(Kind::BrokerFatal, "there is no such topic").topic(topic))?.partitions;
        let partitions: Vec<_> = (0..count).map(|partition| TopicPartition::new(topic, partition)).collect();
        let ends = consumer.log_ends(&partitions)?;
        Ok((partitions, ends))
    }

    /// Waits until the filler has written everything that is in the topic now.
    fn read_to_end(&self, index: &Index, filler: &Streams, group: &mut dyn Consumer) -> Result {
        let (partitions, ends) = patiently(|| self.ends(&index.topic, group))?;
        let of = ends.iter().sum();
        let (mut last, mut moved) = (-1, Instant::now());
        loop {
            let status = filler.status();
            // How far each partition is, and whether that is written.
            let tasks: Vec<_> = status.threads.iter().flat_map(|thread| &thread.tasks).collect();
            let place = |tp: &TopicPartition| {
                let task = tasks.iter().find_map(|task| {
                    let mut of = task.partitions.iter();
                    let of = of.find(|of| *of.topic == *tp.topic && of.partition == tp.partition)?;
                    Some((of.position, task.in_flight + task.waiting == 0))
                });
                task.unwrap_or((-1, false))
            };
            let places: Vec<(i64, bool)> = partitions.iter().map(place).collect();
            let read = places.iter().zip(&ends).map(|((position, _), end)| *position.clamp(&0, end)).sum();
            self.note(index, |progress| (progress.read, progress.of) = (read, of));
            // While records come there is always something under way: then what counts is what is committed.
            let committed = group.committed(&partitions).unwrap_or_default();
            let committed =
                |i: usize| committed.get(i).and_then(Option::as_ref).map_or(-1, |committed| committed.offset);
            let mut all = places.iter().zip(&ends).enumerate();
            if all.all(|(i, ((position, is_written), end))| (*is_written && position >= end) || committed(i) >= *end) {
                return Ok(());
            }
            if read > last {
                (last, moved) = (read, Instant::now());
            }
            if moved.elapsed() > STILL_MAX || !status.is_live() {
                return Err(Error::new(Kind::Unavailable, format!("the filling stands still: {}", status.reason)));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// Asks the engine.
fn ask<'a, T>(runtime: &Runtime, call: impl Fn() -> Answer<'a, T>) -> Result<T> {
    patiently(|| runtime.block_on(call()).map_err(SearchError::into_error))
}

/// Asks again and again while there is no answer.
fn patiently<T>(mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    loop {
        match ask() {
            Err(error) if error.is_retriable() && began.elapsed() < STILL_MAX => std::thread::sleep(LOOK_INTERVAL),
            answer => return answer,
        }
    }
}
