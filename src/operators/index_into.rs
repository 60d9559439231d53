//! `index_into`: records as documents of a search engine, many in one request.
//!
//! A record's offset is held until the engine has acknowledged its document ([`Holds`](super::holds::Holds)). Documents are
//! divided by their ids among lanes, each with one request under way at most, so that writes of one id keep their order;
//! versions do the rest, should one come twice or late.

use super::calls::{Ended, InFlight};
use super::cx::{RecordContext, Seen, Stage};
use super::holds::Hold;
use super::{Build, Cx, Push, Work};
use crate::backoff::Backoff;
use crate::broker::TopicPartition;
use crate::error::{Error, Kind, Result};
use crate::record::{Record, Timestamp};
use crate::search::bulk::{Written, write_all};
use crate::search::{Operation, SearchEngine, SearchError};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The longest id that engines take, in bytes.
const ID_BYTES_MAX: usize = 512;
/// How many bits of a version by timestamp tell records of the same millisecond apart.
const TIE_BITS: u32 = 20;

/// What makes one write of a document newer than another. See [`IndexInto`](crate::dsl::IndexInto).
pub(crate) enum Version<K, V> {
    /// The record's offset: the last record of a key in its topic wins.
    Offset,
    /// The record's timestamp. Of equal ones the larger offset is newer, where offsets compare.
    Timestamp {
        /// They do: the records come from one topic.
        then_offset: bool,
    },
    /// What this makes of the record; not negative.
    By(Arc<dyn Fn(&K, &V) -> i64 + Send + Sync>),
}

impl<K, V> Clone for Version<K, V> {
    fn clone(&self) -> Self {
        match self {
            Version::Offset => Version::Offset,
            Version::Timestamp { then_offset } => Version::Timestamp { then_offset: *then_offset },
            Version::By(by) => Version::By(by.clone()),
        }
    }
}

impl<K, V> Version<K, V> {
    /// The version of a record, where it has what the version is made of.
    fn of(&self, record: &Record<K, V>, origin: Option<&RecordContext>) -> Option<i64> {
        let offset = origin.map(|origin| origin.raw.meta.offset);
        match self {
            Version::Offset => offset.map(|offset| offset + 1),
            Version::Timestamp { then_offset } => {
                Some(by_timestamp(record.timestamp_ms, offset.filter(|_| *then_offset).unwrap_or(0)))
            }
            Version::By(by) => Some(by(&record.key, &record.value).max(0)),
        }
    }
}

/// Milliseconds, then the end of the offset's digits: later records of the same millisecond are newer.
fn by_timestamp(timestamp_ms: Timestamp, offset: i64) -> i64 {
    (timestamp_ms.max(0) << TIE_BITS) | (offset & ((1 << TIE_BITS) - 1))
}

/// Makes a document's id.
pub(crate) type IdOf<K, V> = Arc<dyn Fn(&K, &V) -> String + Send + Sync>;
/// Makes a document's JSON text; `null` deletes it.
pub(crate) type DocumentOf<V> = Arc<dyn Fn(&V) -> Result<Vec<u8>, String> + Send + Sync>;

/// What the tasks of one sink share.
pub(crate) struct Target<K, V> {
    pub(crate) engine: Arc<dyn SearchEngine>,
    pub(crate) index: String,
    pub(crate) id: IdOf<K, V>,
    pub(crate) document: DocumentOf<V>,
    pub(crate) version: Version<K, V>,
    pub(crate) limits: Limits,
}

/// How much is collected, and how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    pub(crate) documents: usize,
    pub(crate) bytes: usize,
    pub(crate) in_flight: usize,
    pub(crate) linger: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) patience: Duration,
}

/// The documents of one task that are on their way.
pub(crate) struct Indexer<K, V> {
    node: String,
    target: Arc<Target<K, V>>,
    in_flight: InFlight<(Result<Written, SearchError>, Duration)>,
    lanes: Vec<Lane>,
    next: u64,
    is_full: bool,
}

/// Documents that wait, and those that are under way.
#[derive(Default)]
struct Lane {
    collected: VecDeque<(Operation, Origin)>,
    /// How many bytes these have.
    bytes: usize,
    /// When the first of them came.
    since_ms: Timestamp,
    sent: Option<Sent>,
}

/// A request under way: its number, and where its documents come from.
struct Sent {
    number: u64,
    origins: Vec<Origin>,
}

/// Where a document comes from.
struct Origin {
    /// The record at hand, for a dead letter; `None` where no record caused it.
    context: Option<RecordContext>,
    seen: Seen,
    /// `None` where the partition has been given up.
    hold: Option<Hold>,
}

impl Lane {
    fn is_full(&self, limits: &Limits) -> bool {
        self.collected.len() >= limits.documents || self.bytes >= limits.bytes
    }

    fn count_bytes(&mut self) {
        self.bytes = self.collected.iter().map(|(operation, _)| operation.len_bytes()).sum();
    }

    /// What one request may have of it: one document at least.
    fn take_request(&mut self, limits: &Limits) -> (Vec<Operation>, Vec<Origin>) {
        let mut bytes = 0;
        let fits = |(operation, _): &&(Operation, Origin)| {
            bytes += operation.len_bytes();
            bytes <= limits.bytes
        };
        let count = self.collected.iter().take(limits.documents).take_while(fits).count().max(1);
        let request = self.collected.drain(..count).unzip();
        self.count_bytes();
        request
    }
}

impl<K: 'static, V: 'static> Indexer<K, V> {
    pub(crate) fn new(build: &Build, target: Arc<Target<K, V>>) -> Self {
        let lanes = (0..target.limits.in_flight).map(|_| Lane::default()).collect();
        let in_flight = InFlight::new(build.calls.clone(), build.holds);
        Self { node: build.node.clone(), target, in_flight, lanes, next: 0, is_full: false }
    }

    fn take(&mut self, cx: &mut Cx, record: &Record<K, V>) -> Result {
        let Some(version) = self.target.version.of(record, cx.current.as_ref()) else {
            let what = "a record that comes from no topic has no offset, which the documents' versions are made of";
            let hint = "take versions from timestamps, or from the documents";
            return Err(Error::new(Kind::Topology, what).node(&self.node).hint(hint));
        };
        let (id, document) = match self.operation(record) {
            Ok(operation) => operation,
            Err(what) => {
                let seen = cx.seen(record.timestamp_ms, &record.headers);
                return cx.faulty_record_seen(Stage::Production, &self.node, &what, seen);
            }
        };
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let count = self.lanes.len() as u64;
        let lane = &mut self.lanes[(hasher.finish() % count) as usize];
        if lane.collected.is_empty() {
            lane.since_ms = cx.now_ms;
        }
        let operation = Operation { id, version, document };
        lane.bytes += operation.len_bytes();
        let seen = cx.seen(record.timestamp_ms, &record.headers);
        lane.collected
            .push_back((operation, Origin { context: cx.current.clone(), seen, hold: Some(cx.holds.hold()) }));
        self.start(cx);
        Ok(())
    }

    /// Id and document of a record, or what is wrong with it.
    fn operation(&self, record: &Record<K, V>) -> Result<(String, Option<Vec<u8>>), String> {
        let id = (self.target.id)(&record.key, &record.value);
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(format!("the document's id has {} bytes, where 1 to {ID_BYTES_MAX} are possible", id.len()));
        }
        let text = (self.target.document)(&record.value)?;
        match text.first() {
            Some(b'{') => Ok((id, Some(text))),
            _ if text == b"null" => Ok((id, None)),
            _ => Err("the document is no JSON object".into()),
        }
    }

    /// Sends what is complete, or has waited long enough, or is waited for.
    fn start(&mut self, cx: &mut Cx) {
        let limits = &self.target.limits;
        let (now_ms, linger_ms) = (cx.now_ms, limits.linger.as_millis() as i64);
        let mut full = false;
        for lane in &mut self.lanes {
            let due = || lane.is_full(limits) || cx.holds.draining || now_ms - lane.since_ms >= linger_ms;
            if lane.sent.is_none() && !lane.collected.is_empty() && due() {
                let number = self.next;
                self.next += 1;
                let ((operations, origins), target) = (lane.take_request(limits), self.target.clone());
                lane.sent = Some(Sent { number, origins });
                self.in_flight.start(number, async move { write(&target, operations).await });
            }
            full |= lane.is_full(limits);
        }
        cx.holds.set_full(&mut self.is_full, full);
    }

    /// A request has ended: what the engine took is done, what it refuses meets the policy.
    fn ended(&mut self, cx: &mut Cx, number: u64, ended: Ended<(Result<Written, SearchError>, Duration)>) -> Result {
        let lane = self.lanes.iter_mut().find(|lane| lane.sent.as_ref().is_some_and(|sent| sent.number == number));
        let Some(Sent { origins, .. }) = lane.and_then(|lane| lane.sent.take()) else { return Ok(()) };
        let (written, took) = ended
            .map_err(|panic| Error::new(Kind::User, format!("the search engine panicked: {panic}")).node(&self.node))?;
        cx.calls.nanos.push(took.as_nanos() as u64);
        let written = written.map_err(|error| error.into_error().node(&self.node))?;
        cx.calls.retried += written.retries;
        cx.calls.failed += written.refused.len() as u64;
        cx.counts.produced += written.written + written.stale;
        let mut refused = written.refused.into_iter().peekable();
        for (i, origin) in origins.into_iter().enumerate() {
            let why = refused.next_if(|(place, _)| *place == i);
            // The records of a partition that was given up are another one's.
            let Some(hold) = origin.hold else { continue };
            if let Some((_, why)) = why {
                self.refused(cx, hold, origin.context, origin.seen, &why)?;
            }
            cx.holds.release(hold);
        }
        Ok(())
    }

    fn refused(&self, cx: &mut Cx, hold: Hold, context: Option<RecordContext>, seen: Seen, why: &str) -> Result {
        cx.current = context;
        cx.holds.resume(hold);
        let before = cx.outbox.len();
        let what = format!("the search engine refuses the document: {why}");
        let met = cx.faulty_record_seen(Stage::Production, &self.node, &what, seen);
        if cx.outbox.len() > before {
            cx.holds.produced();
        }
        cx.holds.end();
        cx.current = None;
        met
    }
}

/// One request with its repetitions, and how long it took.
async fn write<K, V>(target: &Target<K, V>, operations: Vec<Operation>) -> (Result<Written, SearchError>, Duration) {
    let began = std::time::Instant::now();
    let tell = |why: &str| tracing::warn!(index = target.index, "documents are written again: {why}");
    let written = write_all(&*target.engine, &target.index, operations, target.limits.backoff, &tell).await;
    (written, began.elapsed())
}

impl<K: 'static, V: 'static> Work for Indexer<K, V> {
    fn work(&mut self, cx: &mut Cx) -> Result<usize> {
        self.in_flight.turn();
        let mut count = 0;
        while let Some((number, ended)) = self.in_flight.take_ended(cx.holds.draining) {
            count += 1;
            self.ended(cx, number, ended)?;
        }
        self.start(cx);
        Ok(count)
    }

    fn abandon(&mut self, cx: &mut Cx, partitions: Option<&[TopicPartition]>) {
        let gone = |origin: &Origin| match (partitions, &origin.context) {
            (Some(partitions), Some(context)) => partitions.contains(&context.partition),
            (Some(_), None) => false,
            (None, _) => true,
        };
        let mut give_up = |origin: &mut Origin| {
            let gone = gone(origin);
            if let Some(hold) = origin.hold.take_if(|_| gone) {
                cx.holds.release(hold);
            }
            gone
        };
        for lane in &mut self.lanes {
            lane.collected.retain_mut(|(_, origin)| !give_up(origin));
            lane.count_bytes();
            // A request with records of others as well goes on: its versions see to it that it does no harm.
            if let Some(sent) = &mut lane.sent {
                let given_up = sent.origins.iter_mut().filter_map(|origin| give_up(origin).then_some(())).count();
                if given_up == sent.origins.len() {
                    self.in_flight.cancel(sent.number);
                    lane.sent = None;
                }
            }
        }
        self.start(cx);
    }

    fn is_timed(&self) -> bool {
        self.lanes.iter().any(|lane| lane.sent.is_none() && !lane.collected.is_empty())
    }

    fn under_way(&self) -> (usize, usize) {
        (self.in_flight.len(), self.lanes.iter().map(|lane| lane.collected.len()).sum())
    }
}

/// The port of an [`Indexer`], which the task's hooks share.
pub(crate) struct IndexPort<K, V>(pub(crate) Rc<RefCell<Indexer<K, V>>>);

impl<K: 'static, V: 'static> Push<K, V> for IndexPort<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        self.0.borrow_mut().take(cx, &record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_records_of_one_millisecond_the_later_is_newer() {
        let now_ms = 1_790_000_000_000;
        assert!(by_timestamp(now_ms, 8) > by_timestamp(now_ms, 7));
        assert!(by_timestamp(now_ms + 1, 0) > by_timestamp(now_ms, (1 << TIE_BITS) - 1));
        assert!(by_timestamp(now_ms, 0) > 0);
        assert_eq!(by_timestamp(-1, 0), 0);
    }
}
