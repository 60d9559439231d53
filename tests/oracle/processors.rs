//! The processors of the cases.

use super::case::{Fields, Stop};
use super::store_commands::{AnyStore, Opened};
use super::val::{Type, Val, Var, text};
use watersmeet::error::{Error, Kind, Result};
use watersmeet::processor::{
    FixedKeyRecord, KeyValueStore, Processor, ProcessorContext, Punctuation, PunctuationType, StateStore, ValueContext,
    ValueProcessor,
};
use watersmeet::record::Record;

type Rows = StateStore<KeyValueStore<Var, Val>>;

/// What a processor of a case does.
#[derive(Clone)]
pub enum Job {
    Dedup(Rows),
    Counter(Counter),
    TagHeader(String, Option<String>),
    DropHeader(String),
    ShiftTimestamp(i64),
    Metadata,
    Repeat(i64),
    Route,
    StoreOps(AnyStore, Type),
    Lookup(AnyStore),
    RunningCount(Rows),
}

#[derive(Clone)]
pub struct Counter {
    store: Rows,
    interval_ms: i64,
    clock: PunctuationType,
    start_ms: Option<i64>,
    clear: bool,
    cancel_after: Option<i64>,
}

/// A job in a task, with its store.
pub struct Worker {
    job: Job,
    store: Option<Opened>,
    /// How often punctuations have come.
    fired: i64,
}

impl Job {
    /// A processor for one task.
    pub fn worker(&self) -> Worker {
        Worker { job: self.clone(), store: None, fired: 0 }
    }

    fn store(&self) -> Option<AnyStore> {
        match self {
            Job::Dedup(store) | Job::RunningCount(store) | Job::Counter(Counter { store, .. }) => {
                Some(AnyStore::KeyValue(store.clone()))
            }
            Job::StoreOps(store, _) | Job::Lookup(store) => Some(store.clone()),
            _ => None,
        }
    }
}

/// The job of a step, with the types of the records that it forwards.
pub fn job(step: Fields, store: Option<(AnyStore, Type)>, key: &Type, value: &Type) -> Result<(Job, Type, Type), Stop> {
    let rows = || match &store {
        Some((AnyStore::KeyValue(rows), _)) => Ok(rows.clone()),
        _ => Err(Stop::Case(format!("a key-value store is missing in {}", step.0))),
    };
    let header = || step.text("header").map(str::to_owned);
    let (key, value) = (key.clone(), value.clone());
    Ok(match step.text("processor")? {
        "dedup" => (Job::Dedup(rows()?), key, value),
        "counter" => {
            let counter = Counter {
                store: rows()?,
                interval_ms: step.number("interval_ms")?,
                clock: match step.text("clock")? {
                    "wall_clock" => PunctuationType::WallClock,
                    _ => PunctuationType::StreamTime,
                },
                start_ms: step.maybe_number("start_ms"),
                clear: step.flag("clear", false),
                cancel_after: step.maybe_number("cancel_after"),
            };
            (Job::Counter(counter), key, Type::Long)
        }
        "tag_header" => (Job::TagHeader(header()?, step.maybe_text("header_value").map(str::to_owned)), key, value),
        "drop_header" => (Job::DropHeader(header()?), key, value),
        "shift_timestamp" => (Job::ShiftTimestamp(step.number("by_ms")?), key, value),
        "metadata" => (Job::Metadata, key, Type::String),
        "repeat" => (Job::Repeat(step.number("times")?), key, Type::String),
        "route" => (Job::Route, key, value),
        "store_ops" => {
            let (store, keys) = store.ok_or("store_ops needs a store")?;
            (Job::StoreOps(store, keys), Type::String, Type::String)
        }
        "lookup" => {
            let (store, _) = store.ok_or("lookup needs a store")?;
            (Job::Lookup(store), key, Type::String)
        }
        "running_count" => (Job::RunningCount(rows()?), key, Type::String),
        other => return Err(Stop::Case(format!("unknown processor '{other}'"))),
    })
}

fn string(text: String) -> Var {
    Some(Val::String(text))
}

/// The key-value store that a job was given.
fn rows(store: &mut Option<Opened>) -> Result<&mut KeyValueStore<Var, Val>> {
    match store {
        Some(Opened::KeyValue(rows)) => Ok(rows),
        _ => Err(Error::new(Kind::Internal, "the processor has no key-value store")),
    }
}

impl Processor<Var, Var, Var, Var> for Worker {
    fn init(&mut self, context: &mut ProcessorContext<'_, Var, Var>) -> Result {
        self.store = self.job.store().map(|store| store.open(context)).transpose()?;
        if let Job::Counter(Counter { interval_ms, clock, start_ms, .. }) = self.job {
            match start_ms {
                Some(start_ms) => context.schedule_from(start_ms, interval_ms, clock),
                None => context.schedule(interval_ms, clock),
            };
        }
        Ok(())
    }

    fn process(&mut self, context: &mut ProcessorContext<'_, Var, Var>, mut record: Record<Var, Var>) -> Result {
        match &self.job {
            Job::Dedup(_) if record.key.is_none() => context.forward(record),
            Job::Dedup(_) => {
                let store = rows(&mut self.store)?;
                if store.get(context, &record.key)? == record.value {
                    return Ok(());
                }
                store.put(context, &record.key, record.value.as_ref())?;
                context.forward(record)
            }
            Job::Counter(_) => {
                if record.key.is_none() {
                    return Ok(());
                }
                let store = rows(&mut self.store)?;
                let count = store.get(context, &record.key)?.map_or(0, |count| count.as_long());
                store.put(context, &record.key, Some(&Val::Long(count + 1)))
            }
            Job::TagHeader(name, value) => {
                record.headers.add(name.clone(), value.as_deref().map(str::as_bytes));
                context.forward(record)
            }
            Job::DropHeader(name) => {
                record.headers.remove(name);
                context.forward(record)
            }
            Job::ShiftTimestamp(by_ms) => {
                record.timestamp_ms = (record.timestamp_ms + *by_ms).max(0);
                context.forward(record)
            }
            Job::Metadata => {
                let place = context.metadata();
                let place = place.map_or("none".into(), |at| format!("{}/{}/{}", at.topic, at.partition, at.offset));
                let (stream_ms, wall_ms) = (context.stream_time_ms(), context.now_ms());
                let (task, value) = (context.task_id(), text(&record.value));
                let all = format!("{place} stream={stream_ms} wall={wall_ms} task={task} value={value}");
                context.forward(record.with_value(string(all)))
            }
            Job::Repeat(times) => (0..*times).try_for_each(|number| {
                let value = string(format!("{}#{number}", text(&record.value)));
                context.forward(record.clone().with_value(value))
            }),
            Job::Route => match text(&record.value).split_once('>') {
                Some((child, rest)) => context.forward_to(child, record.with_value(string(rest.into()))),
                None => context.forward(record),
            },
            Job::StoreOps(_, keys) => {
                let command = text(&record.value);
                let store = self.store.as_mut().ok_or_else(|| Error::new(Kind::Internal, "there is no store"))?;
                let answers = store.run(keys, context, (&record.key, record.timestamp_ms), &command)?;
                answers.into_iter().try_for_each(|(key, value)| {
                    context.forward(record.clone().with_key(string(key)).with_value(string(value)))
                })
            }
            Job::Lookup(_) => {
                let found = match &mut self.store {
                    Some(store) if record.key.is_some() => store.lookup(context, &record.key)?,
                    _ => None,
                };
                let value = string(format!("{}|{}", text(&record.value), found.unwrap_or("null".into())));
                context.forward(record.with_value(value))
            }
            Job::RunningCount(_) => Err(Error::new(Kind::Internal, "running_count is for process_values")),
        }
    }

    fn punctuate(&mut self, context: &mut ProcessorContext<'_, Var, Var>, punctuation: Punctuation) -> Result {
        let Job::Counter(counter) = &self.job else { return Ok(()) };
        let store = rows(&mut self.store)?;
        for (key, count) in store.all(context)? {
            context.forward(Record::new(key.clone(), Some(count), punctuation.time_ms))?;
            if counter.clear {
                store.delete(context, &key)?;
            }
        }
        self.fired += 1;
        if Some(self.fired) == counter.cancel_after {
            context.cancel(punctuation.schedule);
        }
        Ok(())
    }
}

impl ValueProcessor<Var, Var, Var> for Worker {
    fn init(&mut self, context: &mut ValueContext<'_, '_, Var, Var>) -> Result {
        self.store = self.job.store().map(|store| store.open(context.context())).transpose()?;
        Ok(())
    }

    fn process(
        &mut self,
        context: &mut ValueContext<'_, '_, Var, Var>,
        mut record: FixedKeyRecord<Var, Var>,
    ) -> Result {
        match &self.job {
            Job::TagHeader(name, value) => {
                record.headers.add(name.clone(), value.as_deref().map(str::as_bytes));
                context.forward(record)
            }
            Job::RunningCount(_) => {
                let mut count = 0;
                if record.key().is_some() {
                    let store = rows(&mut self.store)?;
                    count = store.get(context, record.key())?.map_or(0, |count| count.as_long()) + 1;
                    store.put(context, record.key(), Some(&Val::Long(count)))?;
                }
                let value = string(format!("{}#{count}", text(&record.value)));
                context.forward(record.with_value(value))
            }
            _ => Err(Error::new(Kind::Internal, "this processor is not for process_values")),
        }
    }
}
