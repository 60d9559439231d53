//! The workers: a processor whose store is the queue. What is in it is waiting, running, or to be tried again, and leaves it in
//! the same transaction that says how it ended. So a worker that is killed leaves its tasks to the next one, and nothing
//! that has ended is run again.

use crate::model::{Event, What};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use watersmeet::prelude::*;
use watersmeet::processor::{KeyValueStore, Processor, ProcessorContext, Punctuation, PunctuationType, StateStore};
use watersmeet::serdes::DefaultSerde;
use watersmeet::serdes::formats::json;

/// What a worker does with a task: gets its key, the attempt, and what was asked for; says the result, or why not.
pub type Work =
    Arc<dyn Fn(String, u32, Value) -> Pin<Box<dyn Future<Output = Result<Value, String>> + Send>> + Send + Sync>;

pub const EVENTS: &str = "events";
pub const DEAD_LETTERS: &str = "dead-letters";

/// What is told of a task fits into a record of Kafka's.
const RESULT_BYTES_MAX: usize = 384 << 10;
const REASON_CHARS_MAX: usize = 2_000;

/// How the workers work.
#[derive(Clone)]
pub struct Settings {
    /// How many tasks of one partition run at once.
    pub concurrency: usize,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// The pause before the second attempt; it doubles from one to the next.
    pub retry: Duration,
    /// How often is looked for what has ended or is due.
    pub look_every_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { concurrency: 8, timeout: Duration::from_secs(30), retry: Duration::from_secs(1), look_every_ms: 20 }
    }
}

/// An entry of the queue; its key in the store is when it is due, then the task's key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub task: String,
    /// The attempt to come.
    pub attempt: u32,
    pub max_attempts: u32,
    pub work: Value,
}

fn due_key(due_ms: i64, task: &str) -> String {
    format!("{due_ms:015}/{task}")
}

/// Adds the workers to a topology that reads `topic`: what happens is written there as well, what fails for good to
/// `dead_letters`.
pub fn add(builder: &StreamsBuilder, topic: &str, dead_letters: &str, settings: Settings, runtime: Handle, work: Work) {
    let queue = builder.add_state_store(KeyValueStore::store("queue", String::serde(), json()));
    let known = builder.add_state_store(KeyValueStore::store("known", String::serde(), json()));
    let processing = Processing::default().named("worker").store(&queue).store(&known);
    let name: Arc<str> = topic.into();
    let supplier = move || {
        Worker::new(name.clone(), (queue.clone(), known.clone()), settings.clone(), runtime.clone(), work.clone())
    };
    let stream = builder.stream(topic, Consumed::<String, Event>::json());
    let outcome = stream.process(supplier, processing);
    outcome.to(topic, Produced::json().named(EVENTS));
    outcome.to(dead_letters, Produced::json().named(DEAD_LETTERS));
}

/// What the workers know of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Known {
    InQueue,
    Completed,
}

type Queue = KeyValueStore<String, Entry>;
type Tasks = KeyValueStore<String, Known>;
type Stores = (StateStore<Queue>, StateStore<Tasks>);

struct Worker {
    /// Where dead letters came from.
    topic: Arc<str>,
    stores: Stores,
    queue: Option<Queue>,
    /// A task that is queued twice, or after it has been completed, is not run again.
    known: Option<Tasks>,
    settings: Settings,
    runtime: Handle,
    work: Work,
    /// Nothing in the queue has a smaller key: what has left it need not be passed over again and again.
    first: Option<String>,
    /// By their keys in the queue.
    running: HashMap<String, (Entry, AbortHandle)>,
    ended: Receiver<(String, Result<Value, String>)>,
    ends: Sender<(String, Result<Value, String>)>,
}

/// Ends what it names when it goes.
struct Ending(AbortHandle);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Context<'a> = ProcessorContext<'a, String, Event>;

impl Worker {
    fn new(topic: Arc<str>, stores: Stores, settings: Settings, runtime: Handle, work: Work) -> Self {
        let (ends, ended) = channel();
        let (queue, known, first, running) = (None, None, None, HashMap::new());
        Self { topic, stores, queue, known, settings, runtime, work, first, running, ended, ends }
    }

    fn queue(&mut self) -> &mut Queue {
        self.queue.as_mut().expect("opened in init")
    }

    fn known(&mut self) -> &mut Tasks {
        self.known.as_mut().expect("opened in init")
    }

    fn say(&self, context: &mut Context<'_>, task: &str, what: What) -> Result {
        let at_ms = context.now_ms();
        context.forward_to(EVENTS, Record::new(task.into(), Event { at_ms, what }, at_ms))
    }

    /// Starts what is due, as far as there is room. What runs is in the queue as well, so that a crash forgets nothing.
    fn fill(&mut self, context: &mut Context<'_>) -> Result {
        if self.running.len() >= self.settings.concurrency {
            return Ok(());
        }
        let (limit, until) = (self.settings.concurrency, due_key(context.now_ms() + 1, ""));
        let first = self.first.take();
        let due = self.queue().first(context, first.as_ref(), Some(&until), limit)?;
        self.first = Some(due.first().map_or(until, |(key, _)| key.clone()));
        for (key, entry) in due {
            if self.running.len() >= self.settings.concurrency || self.running.contains_key(&key) {
                continue;
            }
            self.say(context, &entry.task, What::Started { attempt: entry.attempt })?;
            let (ends, name, timeout) = (self.ends.clone(), key.clone(), self.settings.timeout);
            let work = (self.work)(entry.task.clone(), entry.attempt, entry.work.clone());
            let run = self.runtime.spawn(async move {
                // A task of its own, so that its panic is a failure like others.
                let work = tokio::spawn(work);
                let _ended_with_this = Ending(work.abort_handle());
                let ended = match tokio::time::timeout(timeout, work).await {
                    Ok(Ok(ended)) => ended,
                    Ok(Err(panic)) => Err(format!("it panicked: {panic}")),
                    Err(_) => Err(format!("it took longer than {timeout:?}")),
                };
                // Where the worker has gone, another one begins anew.
                let _ = ends.send((name, ended));
            });
            self.running.insert(key, (entry, run.abort_handle()));
        }
        Ok(())
    }

    fn put(&mut self, context: &mut Context<'_>, due_ms: i64, entry: &Entry) -> Result {
        let key = due_key(due_ms, &entry.task);
        if self.first.as_ref().is_some_and(|first| *first > key) {
            self.first = Some(key.clone());
        }
        self.queue().put(context, &key, Some(entry))
    }

    fn end(&mut self, context: &mut Context<'_>, key: &str, ended: Result<Value, String>) -> Result {
        let Some((entry, _)) = self.running.remove(key) else { return Ok(()) };
        self.queue().delete(context, &key.to_owned())?;
        let attempt = entry.attempt;
        let ended = ended.and_then(|result| match result.to_string().len() {
            bytes if bytes > RESULT_BYTES_MAX => {
                Err(format!("its result has {bytes} bytes: no more than {RESULT_BYTES_MAX}"))
            }
            _ => Ok(result),
        });
        let reason: String = match ended {
            Ok(result) => {
                self.known().put(context, &entry.task, Some(&Known::Completed))?;
                return self.say(context, &entry.task, What::Completed { attempt, result });
            }
            Err(reason) => reason.chars().take(REASON_CHARS_MAX).collect(),
        };
        let again = attempt < entry.max_attempts;
        let pause_ms = self.settings.retry.as_millis() as i64 * (1 << (attempt - 1).min(10));
        let retry_at_ms = again.then_some(context.now_ms() + pause_ms);
        self.say(context, &entry.task, What::Failed { attempt, reason: reason.clone(), retry_at_ms })?;
        match retry_at_ms {
            Some(due_ms) => self.put(context, due_ms, &Entry { attempt: attempt + 1, ..entry }),
            None => {
                self.known().put(context, &entry.task, None)?;
                self.give_up(context, entry, &reason)
            }
        }
    }

    /// The task as it was queued, with why it failed: `watersmeet dlq replay` queues it anew.
    fn give_up(&self, context: &mut Context<'_>, entry: Entry, reason: &str) -> Result {
        let at_ms = context.now_ms();
        let what = What::Queued { work: entry.work, max_attempts: entry.max_attempts };
        let mut record = Record::new(entry.task, Event { at_ms, what }, at_ms);
        let message = format!("{} attempts failed; the last one: {reason}", entry.attempt);
        for (name, value) in [("exception", "task_queue::Failed"), ("message", &message), ("topic", &self.topic)] {
            record.headers.add(format!("__streams.errors.{name}"), Some(value.as_bytes()));
        }
        context.forward_to(DEAD_LETTERS, record)
    }
}

impl Processor<String, Event, String, Event> for Worker {
    fn init(&mut self, context: &mut Context<'_>) -> Result {
        self.queue = Some(context.store(&self.stores.0)?);
        self.known = Some(context.store(&self.stores.1)?);
        context.schedule(self.settings.look_every_ms, PunctuationType::WallClock);
        Ok(())
    }

    fn process(&mut self, context: &mut Context<'_>, record: Record<String, Event>) -> Result {
        let What::Queued { work, max_attempts } = record.value.what else { return Ok(()) };
        if self.known().put_if_absent(context, &record.key, &Known::InQueue)?.is_some() {
            return Ok(());
        }
        // Who has queued it may have another clock.
        let due_ms = record.timestamp_ms.min(context.now_ms());
        let entry = Entry { task: record.key, attempt: 1, max_attempts, work };
        self.put(context, due_ms, &entry)
    }

    fn punctuate(&mut self, context: &mut Context<'_>, _: Punctuation) -> Result {
        while let Ok((key, ended)) = self.ended.try_recv() {
            self.end(context, &key, ended)?;
        }
        self.fill(context)
    }

    fn close(&mut self) {
        self.running.values().for_each(|(_, run)| run.abort());
    }
}
