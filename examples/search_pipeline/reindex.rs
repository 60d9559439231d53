//! Blue and green: a new index is filled from the beginning of its topic beside the one in use, then the alias is switched.
//!
//! Both writers go on until the new index has everything: the pipeline writes to what the alias stands for, the filler to the
//! new index by its name. Whatever both write, the versions decide, so nothing gets lost or old at the switch.

use crate::common::Place;
use crate::pipeline::Index;
use crate::{add_index, config};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use watersmeet::broker::{Isolation, Role, TopicPartition};
use watersmeet::clock::SystemClock;
use watersmeet::error::Kind;
use watersmeet::prelude::*;
use watersmeet::search::{SearchEngine, SearchError};

/// How long nothing may move before the filling is given up.
const STILL_MAX: Duration = Duration::from_secs(300);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The index behind an alias: the alias with a number.
pub fn numbered(alias: &str, number: u32) -> String {
    format!("{alias}-{number}")
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

    /// Begins; `false`: that index is being filled already.
    pub fn begin(&self, index: &Index) -> bool {
        let mut all = self.0.lock();
        if all.get(&index.name).is_some_and(|progress| matches!(progress.state, "filling" | "switched")) {
            return false;
        }
        all.insert(index.name.clone(), Progress { state: "filling", ..Progress::default() });
        let (inner, index) = (self.0.clone(), index.clone());
        std::thread::spawn(move || {
            if let Err(error) = inner.run(&index) {
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

    fn run(&self, index: &Index) -> Result {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Error::new(Kind::Internal, "no runtime").source(e))?;
        let new = runtime.block_on(self.create(index)).map_err(SearchError::into_error)?;

        // A group of its own with a name of its own: it has committed nothing, so it begins at the beginning.
        let builder = StreamsBuilder::new();
        add_index(&builder, &index.topic, &self.engine, &new);
        let mut config = config(&self.place);
        let now_ms = SystemClock::shared().now_ms();
        config.application_id = format!("{}-fills-{new}-{now_ms}", config.application_id);
        config.shutdown_leave_group = true;
        let filler = self.place.start(builder.build()?, config)?;
        self.read_to_end(index, &filler)?;
        let old = runtime.block_on(self.engine.point_alias(&index.name, &new)).map_err(SearchError::into_error)?;
        self.note(index, |progress| (progress.state, progress.old) = ("switched", old.clone()));
        // What the pipeline wrote to the old index until now.
        self.read_to_end(index, &filler)?;
        filler.close(Duration::from_secs(30));
        // The old one stays, to go back to; the one before it is of no use any more.
        if let Some(before) = old.and_then(|old| number_of(&index.name, &old)).filter(|number| *number > 1) {
            let before = numbered(&index.name, before - 1);
            runtime.block_on(self.engine.delete_index(&before)).map_err(SearchError::into_error)?;
        }
        self.note(index, |progress| progress.state = "done");
        Ok(())
    }

    /// An empty index with the next number.
    async fn create(&self, index: &Index) -> Result<String, SearchError> {
        let current = self.engine.alias(&index.name).await?;
        let number = current.as_deref().and_then(|current| number_of(&index.name, current)).unwrap_or(0) + 1;
        let new = numbered(&index.name, number);
        // What an earlier attempt has left.
        self.engine.delete_index(&new).await?;
        self.engine.create_index(&new, &index.schema()).await?;
        self.note(index, |progress| progress.new.clone_from(&new));
        Ok(new)
    }

    /// Where the topic's partitions end.
    fn ends(&self, topic: &str) -> Result<Vec<(TopicPartition, i64)>> {
        let broker = self.place.broker(&self.place.config)?;
        let found = broker.admin()?.topics(&[topic.to_owned()])?.into_iter().flatten().next();
        let count =
            found.ok_or_else(|| Error::new(Kind::BrokerFatal, "there is no such topic").topic(topic))?.partitions;
        let partitions: Vec<_> = (0..count).map(|partition| TopicPartition::new(topic, partition)).collect();
        let mut consumer = broker.consumer(Role::Restore { thread: 0 }, Isolation::ReadCommitted)?;
        let ends = consumer.log_ends(&partitions)?;
        Ok(partitions.into_iter().zip(ends).collect())
    }

    /// Waits until the filler has written everything that is in the topic now.
    fn read_to_end(&self, index: &Index, filler: &Streams) -> Result {
        let ends = self.ends(&index.topic)?;
        let of = ends.iter().map(|(_, end)| end).sum();
        let (mut last, mut moved) = (-1, Instant::now());
        loop {
            let status = filler.status();
            let tasks: Vec<_> = status.threads.iter().flat_map(|thread| &thread.tasks).collect();
            let position = |tp: &TopicPartition| {
                let partitions = tasks.iter().flat_map(|task| &task.partitions);
                let mut of = partitions.filter(|of| *of.topic == *tp.topic && of.partition == tp.partition);
                of.next().map_or(-1, |of| of.position)
            };
            let read = ends.iter().map(|(tp, end)| position(tp).clamp(0, *end)).sum();
            self.note(index, |progress| (progress.read, progress.of) = (read, of));
            let is_written = tasks.iter().all(|task| task.in_flight + task.waiting == 0);
            if is_written && ends.iter().all(|(tp, end)| position(tp) >= *end) {
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
