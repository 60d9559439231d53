//! `map_async`: calls to the outside, many at a time, each record's result in its place.
//!
//! The task goes on while calls are under way, and takes further records as long as there is room. The offset of a record is
//! held until its result has gone on ([`Holds`](super::holds::Holds)). Under exactly once a transaction may end at any record,
//! so results go on in the order of the records there ([`Build::in_order`](super::Build)); where a store may have seen a
//! record whose call is under way, the commit waits for it instead (`Topology::commits_wait_for_holders`).

mod attempts;
mod gates;
mod options;

pub(crate) use attempts::{Attempts, Caller, Outcome};
pub use attempts::{Call, CallError};
pub use options::{AsyncOptions, CallOrder, CircuitBreaker, RateLimit, Retry};

use super::calls::{Ended, InFlight};
use super::cx::{RecordContext, Stage};
use super::holds::Hold;
use super::process::RecordMetadata;
use super::{Build, Cx, Port, Push, Work};
use crate::broker::TopicPartition;
use crate::error::{Error, Kind, Result};
use crate::record::{Data, Headers, Nullable, Record, Timestamp};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

/// The records of one task that calls are made for.
pub(crate) struct MapAsync<K, V, W> {
    node: String,
    caller: Caller<K, V, W>,
    attempts: Arc<Attempts>,
    concurrency: usize,
    held_max: usize,
    /// A key's calls are made one after the other.
    by_key: bool,
    /// Results go on in the order of the records.
    in_order: bool,
    out: Port<K, W>,
    in_flight: InFlight<Outcome<W>>,
    /// In the order in which they came, by numbers that rise.
    entries: BTreeMap<u64, Entry<K, V, W>>,
    next: u64,
    /// Those whose call may be made.
    ready: VecDeque<u64>,
    /// By a key's hash: those that wait for the call of the same key that is ready or under way.
    lines: HashMap<u64, VecDeque<u64>>,
    is_full: bool,
}

struct Entry<K, V, W> {
    key: K,
    /// Until its call is made.
    value: Option<V>,
    timestamp_ms: Timestamp,
    headers: Headers,
    line: Option<u64>,
    origin: Option<RecordContext>,
    stream_time_ms: Timestamp,
    hold: Hold,
    /// What came of its call.
    result: Option<Result<W, String>>,
}

impl<K, V, W> MapAsync<K, V, W>
where
    K: Data + Hash + Send,
    V: Data + Send,
    W: Data + Send,
{
    pub(crate) fn new(
        build: &Build,
        options: &AsyncOptions,
        attempts: Arc<Attempts>,
        caller: Caller<K, V, W>,
        out: Port<K, W>,
    ) -> Self {
        Self {
            node: build.node.clone(),
            caller,
            attempts,
            concurrency: options.concurrency,
            held_max: options.held_max.max(options.concurrency),
            by_key: options.order == CallOrder::Key,
            in_order: build.in_order || options.order == CallOrder::All,
            out,
            in_flight: InFlight::new(build.calls.clone(), build.holds),
            entries: BTreeMap::new(),
            next: 0,
            ready: VecDeque::new(),
            lines: HashMap::new(),
            is_full: false,
        }
    }

    fn take(&mut self, cx: &mut Cx, record: Record<K, V>) {
        let Record { key, value, timestamp_ms, headers } = record;
        let number = self.next;
        self.next += 1;
        let line = (self.by_key && !key.is_null()).then(|| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            hasher.finish()
        });
        let (origin, stream_time_ms, hold) = (cx.current.clone(), cx.stream_time_ms, cx.holds.hold());
        let (value, result) = (Some(value), None);
        let entry = Entry { key, value, timestamp_ms, headers, line, origin, stream_time_ms, hold, result };
        self.entries.insert(number, entry);
        self.line_up(number, line);
        self.start();
        self.tell_room(cx);
    }

    /// Lets the call be made, or lets it wait for the one before it of the same key.
    fn line_up(&mut self, number: u64, line: Option<u64>) {
        match line.map(|line| self.lines.entry(line)) {
            Some(std::collections::hash_map::Entry::Occupied(mut line)) => line.get_mut().push_back(number),
            Some(std::collections::hash_map::Entry::Vacant(line)) => {
                line.insert(VecDeque::new());
                self.ready.push_back(number);
            }
            None => self.ready.push_back(number),
        }
    }

    /// Makes calls as far as there is room.
    fn start(&mut self) {
        while self.in_flight.len() < self.concurrency
            && let Some(number) = self.ready.pop_front()
        {
            let Some(entry) = self.entries.get_mut(&number) else { continue };
            let Some(value) = entry.value.take() else { continue };
            let (key, timestamp_ms, headers) = (entry.key.clone(), entry.timestamp_ms, entry.headers.clone());
            let record = Record { key, value, timestamp_ms, headers };
            let origin = entry.origin.as_ref().map(|origin| RecordMetadata {
                topic: origin.partition.topic.to_string(),
                partition: origin.partition.partition,
                offset: origin.raw.meta.offset,
            });
            let (attempts, caller) = (self.attempts.clone(), self.caller.clone());
            let call = Call { record, origin, attempt: 1 };
            self.in_flight.start(number, async move { attempts.run(caller, call).await });
        }
    }

    /// A call has ended.
    fn ended(&mut self, cx: &mut Cx, number: u64, ended: Ended<Outcome<W>>) {
        let result = match ended {
            Ok(Outcome { result, retried, nanos }) => {
                cx.calls.nanos.push(nanos);
                cx.calls.retried += u64::from(retried);
                result
            }
            Err(panic) => Err(format!("the call panicked: {panic}")),
        };
        cx.calls.failed += u64::from(result.is_err());
        let Some(entry) = self.entries.get_mut(&number) else { return };
        entry.result = Some(result);
        let line = entry.line;
        self.leave_line(line);
    }

    /// The call of this key that was ready or under way is no longer: the next one may be made.
    fn leave_line(&mut self, line: Option<u64>) {
        let Some(line) = line else { return };
        match self.lines.get_mut(&line).map(VecDeque::pop_front) {
            Some(Some(next)) => self.ready.push_back(next),
            Some(None) => drop(self.lines.remove(&line)),
            None => {}
        }
    }

    /// Sends a result on, as if its record were processed now.
    fn send_on(&mut self, cx: &mut Cx, number: u64) -> Result {
        let Some(entry) = self.entries.remove(&number) else { return Ok(()) };
        let Entry { key, timestamp_ms, headers, origin, stream_time_ms, hold, result, .. } = entry;
        let now_ms = std::mem::replace(&mut cx.stream_time_ms, stream_time_ms);
        cx.current = origin;
        cx.holds.resume(hold);
        let before = cx.outbox.len();
        let sent = match result {
            Some(Ok(value)) => self.out.push(cx, Record { key, value, timestamp_ms, headers }),
            Some(Err(what)) => {
                let seen = cx.seen(timestamp_ms, &headers);
                cx.faulty_record_seen(Stage::Processing, &self.node, &what, seen)
            }
            None => Ok(()),
        };
        cx.holds.release(hold);
        if cx.outbox.len() > before {
            cx.holds.produced();
        }
        cx.holds.end();
        cx.current = None;
        cx.stream_time_ms = now_ms;
        // The record is no longer in any queue: only a new beginning brings it again.
        sent.map_err(|error| match error.is_retriable() {
            true => Error::new(Kind::Migrated, "the result of a call could not go on").node(&self.node).source(error),
            false => error,
        })
    }

    fn tell_room(&mut self, cx: &mut Cx) {
        let full = self.entries.len() >= self.held_max;
        cx.holds.set_full(&mut self.is_full, full);
    }
}

impl<K, V, W> Work for MapAsync<K, V, W>
where
    K: Data + Hash + Send,
    V: Data + Send,
    W: Data + Send,
{
    fn work(&mut self, cx: &mut Cx) -> Result<usize> {
        self.in_flight.turn();
        let mut count = 0;
        while let Some((number, ended)) = self.in_flight.take_ended(cx.holds.draining) {
            count += 1;
            self.ended(cx, number, ended);
            if !self.in_order {
                self.send_on(cx, number)?;
            }
        }
        while self.in_order
            && let Some((number, entry)) = self.entries.first_key_value()
            && entry.result.is_some()
        {
            let number = *number;
            self.send_on(cx, number)?;
        }
        self.start();
        self.tell_room(cx);
        Ok(count)
    }

    fn abandon(&mut self, cx: &mut Cx, partitions: Option<&[TopicPartition]>) {
        let gone = |entry: &Entry<K, V, W>| match (partitions, &entry.origin) {
            (Some(partitions), Some(origin)) => partitions.contains(&origin.partition),
            (Some(_), None) => false,
            (None, _) => true,
        };
        let numbers: Vec<u64> = self.entries.iter().filter(|(_, entry)| gone(entry)).map(|(n, _)| *n).collect();
        for number in numbers {
            let Some(entry) = self.entries.remove(&number) else { continue };
            cx.holds.release(entry.hold);
            self.in_flight.cancel(number);
            let waits = entry.line.and_then(|line| self.lines.get_mut(&line)).and_then(|line| {
                let at = line.iter().position(|n| *n == number)?;
                line.remove(at)
            });
            self.ready.retain(|n| *n != number);
            if waits.is_none() && entry.result.is_none() {
                self.leave_line(entry.line);
            }
        }
        self.tell_room(cx);
    }

    fn under_way(&self) -> (usize, usize) {
        let running = self.in_flight.len();
        (running, self.entries.len().saturating_sub(running))
    }
}

/// The port of a [`MapAsync`], which the task's hooks share.
pub(crate) struct MapAsyncPort<K, V, W>(pub(crate) Rc<RefCell<MapAsync<K, V, W>>>);

impl<K, V, W> Push<K, V> for MapAsyncPort<K, V, W>
where
    K: Data + Hash + Send,
    V: Data + Send,
    W: Data + Send,
{
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        self.0.borrow_mut().take(cx, record);
        Ok(())
    }
}
