//! What Kafka looks like from inside: the port that the runtime sees, and that three brokers implement
//! (rdkafka in `kafka/`, librdkafka's mock cluster through the same adapter, memory in `testing/broker.rs`).
//!
//! A rebalance is a value that comes out of [`Consumer::poll`]; nobody calls back into a task.

use crate::error::{Error, Kind, Result};
use crate::record::{Headers, Timestamp};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names a partition.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// The records of one poll. Keys and values lie one after the other in `bytes`, so that a record costs a copy and no
/// allocation; a [`RawRecord`] keeps the whole batch's bytes alive until it has been processed.
#[derive(Debug, Default)]
pub struct Batch {
    /// Keys and values of all records.
    pub bytes: Vec<u8>,
    /// The records, in the order in which they came.
    pub records: Vec<BatchRecord>,
    /// The partitions of this batch; `BatchRecord::source` points here.
    pub sources: Vec<TopicPartition>,
}

/// One record of a [`Batch`].
#[derive(Debug, Clone)]
pub struct BatchRecord {
    /// Index into [`Batch::sources`].
    pub source: u32,
    /// The record's offset.
    pub offset: i64,
    /// The record's timestamp; -1 where it has none.
    pub timestamp_ms: Timestamp,
    /// Where the key is in [`Batch::bytes`]; `None` is null.
    pub key: Option<Range<u32>>,
    /// Where the value is in [`Batch::bytes`]; `None` is null.
    pub value: Option<Range<u32>>,
    /// The record's headers.
    pub headers: Headers,
}

impl Batch {
    /// Forgets the records. The bytes' buffer is a new one if a record still points into the old one.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.sources.clear();
    }

    /// The index of `partition` in [`Batch::sources`], added where it is new. Batches hold few partitions and come in
    /// runs of one, so the last one is looked at first.
    pub fn source(&mut self, topic: &Arc<str>, partition: i32) -> u32 {
        let same = |tp: &TopicPartition| tp.partition == partition && *tp.topic == **topic;
        if let Some(i) = self.sources.iter().rposition(same) {
            return i as u32;
        }
        self.sources.push(TopicPartition { topic: topic.clone(), partition });
        self.sources.len() as u32 - 1
    }

    /// Appends a record.
    pub fn push(
        &mut self,
        source: u32,
        offset: i64,
        timestamp_ms: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Headers,
    ) {
        let mut keep = |part: Option<&[u8]>| {
            part.map(|part| {
                let start = self.bytes.len() as u32;
                self.bytes.extend_from_slice(part);
                start..self.bytes.len() as u32
            })
        };
        let (key, value) = (keep(key), keep(value));
        self.records.push(BatchRecord { source, offset, timestamp_ms, key, value, headers });
    }
}

/// One consumed record, as it lies in a partition's queue: bytes, not yet decoded.
#[derive(Debug, Clone)]
pub struct RawRecord {
    /// The bytes of the batch that it came with.
    pub bytes: Rc<Vec<u8>>,
    /// Offset, timestamp, headers, and where key and value are.
    pub meta: BatchRecord,
}

impl RawRecord {
    /// The key's bytes; `None` is null.
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        self.meta.key.as_ref().map(|r| &self.bytes[r.start as usize..r.end as usize])
    }

    /// The value's bytes; `None` is null.
    #[inline]
    pub fn value(&self) -> Option<&[u8]> {
        self.meta.value.as_ref().map(|r| &self.bytes[r.start as usize..r.end as usize])
    }
}

/// What came out of a poll besides records.
#[derive(Debug)]
pub enum Event {
    /// The group gave this member these partitions, in addition to those it has. It fetches nothing of them until
    /// [`Consumer::assign`] is called. Every rebalance ends with one, of no partitions where there are none to add.
    Assigned(Vec<TopicPartition>),
    /// The group asks these partitions back. They stay this member's until [`Consumer::unassign`] is called: commit
    /// first, then call it.
    Revoking(Vec<TopicPartition>),
    /// These partitions belong to others already; what is not committed can no longer be. Call `unassign` all the same.
    Lost(Vec<TopicPartition>),
    /// Everything of this partition, up to `offset`, has been delivered: its lag is zero for now.
    End {
        /// The partition.
        partition: TopicPartition,
        /// The offset of the next record to come.
        offset: i64,
    },
    /// A fetch met an offset that the log no longer or not yet has, and no `auto.offset.reset` covers it.
    OffsetOutOfRange(TopicPartition),
    /// A passing trouble, such as a broker that is gone: the client retries by itself; shown in health and log.
    Trouble(crate::error::Error),
    /// The brokers answer again after a `Trouble`.
    TroubleOver,
    /// A subscribed topic does not exist (any more).
    MissingTopic(String),
}

/// A committed offset, with the metadata string that was committed with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The offset of the next record to consume.
    pub offset: i64,
    /// Kafka Streams keeps the partition's time in it (`compat`: `02` · i64, base64).
    pub metadata: String,
}

/// Ends the waiting of a consumer's poll, from any thread; where none waits, the next one does not.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// A consumer: a member of the group after [`subscribe`](Consumer::subscribe), or a reader of partitions that are given
/// by [`assign`](Consumer::assign) alone (restore). Owned by one thread.
///
/// Requests block at most the client's request timeout; a timeout or a lost connection is [`Kind::Broker`], being
/// fenced or no longer a member [`Kind::Migrated`], authorization and the like [`Kind::BrokerFatal`].
///
/// [`Kind::Broker`]: crate::error::Kind::Broker
/// [`Kind::Migrated`]: crate::error::Kind::Migrated
/// [`Kind::BrokerFatal`]: crate::error::Kind::BrokerFatal
pub trait Consumer {
    /// Joins the group with these topics.
    fn subscribe(&mut self, topics: &[Arc<str>]) -> Result;
    /// Waits up to `timeout` for a first record or event, then adds all that is there without waiting, up to
    /// `max_records` records, to `batch`, and events to `events`.
    fn poll(&mut self, timeout: Duration, max_records: usize, batch: &mut Batch, events: &mut Vec<Event>) -> Result;
    /// What ends the waiting of [`poll`](Consumer::poll), also after the consumer has gone.
    fn waker(&self) -> Waker;
    /// Starts to fetch these partitions at these offsets; `None` is the earliest offset (`auto.offset.reset` otherwise).
    /// Adds to those already assigned.
    fn assign(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result;
    /// True where a rebalance takes all partitions back before it gives new ones: what is revoked may come again at once.
    fn is_eager(&self) -> bool {
        false
    }
    /// Stops fetching these partitions, and gives them back to the group where it asked for them.
    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result;
    /// Holds these partitions: nothing of them comes out of `poll` until `resume`. Records already fetched may be
    /// dropped and fetched again.
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result;
    /// Ends `pause`.
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result;
    /// The group's committed offsets, in the order asked for. With [`Isolation::ReadCommitted`] those that are in an open
    /// transaction are waited for: until then the answer is [`Kind::Broker`].
    fn committed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Option<Committed>>>;
    /// Commits, and waits for the answer.
    fn commit(&mut self, offsets: &[(TopicPartition, Committed)]) -> Result;
    /// The end offset of the partition as of the last fetch, without asking the broker; `None` while unknown.
    fn cached_end_offset(&self, partition: &TopicPartition) -> Option<i64>;
    /// Earliest and end offsets, asked from the broker, in the order asked for. The end is that of what this consumer gets to
    /// see: with [`Isolation::ReadCommitted`] open transactions are behind it.
    fn offset_bounds(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Range<i64>>>;
    /// The ends of the logs, asked from the broker, in the order asked for: with everything that is in open transactions.
    fn log_ends(&mut self, partitions: &[TopicPartition]) -> Result<Vec<i64>>;
    /// The offset of the first record that is not older than `timestamp_ms`, asked from the broker, in the order asked for; the end
    /// where there is none.
    fn offsets_since(&mut self, partitions: &[TopicPartition], timestamp_ms: Timestamp) -> Result<Vec<i64>>;
    /// Goes on fetching at these offsets; what was fetched of these partitions and has not come out of `poll` is dropped.
    fn seek(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result;
    /// The group metadata that a transaction needs; opaque to the runtime.
    fn group_metadata(&mut self) -> Option<Box<dyn std::any::Any>>;
    /// Ends the membership. `leave` tells the group at once; otherwise a member with a stable identity may come back.
    fn close(&mut self, leave: bool) -> Result;
}

/// One record to produce.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The topic.
    pub topic: &'a Arc<str>,
    /// The partition; `None`: by murmur2 of the key as Java's producer does it, any partition for a null key.
    pub partition: Option<i32>,
    /// The key's bytes.
    pub key: Option<&'a [u8]>,
    /// The value's bytes.
    pub value: Option<&'a [u8]>,
    /// The timestamp; `None`: the producer's clock.
    pub timestamp_ms: Option<Timestamp>,
    /// The headers.
    pub headers: &'a Headers,
}

/// A record that the broker or the client refused, and why.
#[derive(Debug)]
pub struct Refused {
    /// Where it should have gone.
    pub topic: Arc<str>,
    /// The partition, as far as it was chosen.
    pub partition: Option<i32>,
    /// Its key, for the dead letter.
    pub key: Option<Vec<u8>>,
    /// Its value, for the dead letter.
    pub value: Option<Vec<u8>>,
    /// Its headers, for the dead letter.
    pub headers: Headers,
    /// Its timestamp.
    pub timestamp_ms: Option<Timestamp>,
    /// The broker refused it, and not the client: a transaction that it was part of cannot be committed.
    pub by_broker: bool,
    /// Why: `Kind::Record` where this record alone is at fault (too large), otherwise the broker's trouble.
    pub error: crate::error::Error,
}

/// A producer, idempotent; owned by one thread, used by all of its tasks.
///
/// One with a transactional id sends in transactions only, and in this order: [`init_transactions`], then for each
/// transaction [`begin_transaction`], records, [`send_offsets`], [`commit_transaction`] or [`abort_transaction`].
/// What these answer says what is next: [`Kind::Broker`] the same call again, [`Kind::Aborted`] `abort_transaction`,
/// [`Kind::Migrated`] a new producer. A producer without an id never gets to see these calls.
///
/// [`init_transactions`]: Producer::init_transactions
/// [`begin_transaction`]: Producer::begin_transaction
/// [`send_offsets`]: Producer::send_offsets
/// [`commit_transaction`]: Producer::commit_transaction
/// [`abort_transaction`]: Producer::abort_transaction
/// [`Kind::Broker`]: crate::error::Kind::Broker
/// [`Kind::Aborted`]: crate::error::Kind::Aborted
/// [`Kind::Migrated`]: crate::error::Kind::Migrated
pub trait Producer {
    /// Takes the record into the client's queue. Waits while the queue is full, serving delivery reports meanwhile: that
    /// is the backpressure. A record that is refused at once or later comes out of [`refused`](Producer::refused).
    fn send(&mut self, record: Outgoing<'_>) -> Result;
    /// Serves delivery reports without waiting. Call it once per turn.
    fn serve(&mut self);
    /// Waits until everything sent has been acknowledged or refused, at most `timeout`.
    fn flush(&mut self, timeout: Duration) -> Result;
    /// Takes the records that were refused since the last call.
    fn refused(&mut self) -> Vec<Refused>;
    /// Records acknowledged so far, for metrics.
    fn acknowledged(&self) -> u64;
    /// Makes the transactional id this producer's: whoever had it is fenced, what he left open is aborted.
    fn init_transactions(&mut self) -> Result;
    /// Begins a transaction: everything sent from now on belongs to it. Asks nothing of the broker.
    fn begin_transaction(&mut self) -> Result;
    /// Adds the group's offsets to the transaction; `group` comes from [`Consumer::group_metadata`]. Called again, the last
    /// ones count.
    fn send_offsets(&mut self, offsets: &[(TopicPartition, Committed)], group: &dyn std::any::Any) -> Result;
    /// Ends the transaction: its records and offsets count, all of them. After [`Kind::Broker`] nobody knows whether it is
    /// committed: only this same call may follow.
    ///
    /// [`Kind::Broker`]: crate::error::Kind::Broker
    fn commit_transaction(&mut self) -> Result;
    /// Ends the transaction: nothing of it counts, records in the client's queue are dropped.
    fn abort_transaction(&mut self) -> Result;
}

/// Where a record of the application's own has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[doc(alias = "RecordMetadata")]
pub struct Written {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset there.
    pub offset: i64,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

impl FromStr for Written {
    type Err = Error;

    /// Reads what [`Display`](fmt::Display) writes: `<topic>-<partition>@<offset>`.
    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (partition, offset) = text.rsplit_once('@')?;
            let (topic, partition) = partition.rsplit_once('-')?;
            let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
            (!topic.is_empty()).then(|| Self { partition: TopicPartition::new(topic, partition), offset })
        };
        parse().ok_or_else(|| {
            Error::new(Kind::User, format!("{text:?} is no place of a record"))
                .hint("write <topic>-<partition>@<offset>")
        })
    }
}

/// Is told what became of a record: on a thread of the client's, so it must not wait.
pub type Delivered = Box<dyn FnOnce(Result<Written>) + Send + Sync>;

/// Sends an application's own records: from any thread, without a stream thread, each with an answer. Idempotent, in no
/// transaction. Cheap to keep for as long as the application runs.
pub trait Sender: Send + Sync {
    /// Takes the record into the client's queue. `delivered` is called in any case, also at once.
    fn send(&self, record: Outgoing<'_>, delivered: Delivered);
    /// Waits until everything sent has been answered, at most `timeout`.
    fn flush(&self, timeout: Duration) -> Result;
    /// The end of a partition's log, asked from the broker: every record that has been answered is before it.
    fn log_end(&self, partition: &TopicPartition) -> Result<i64>;
}

/// What is known of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// The number of partitions.
    pub partitions: i32,
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// The name.
    pub name: String,
    /// The number of partitions.
    pub partitions: i32,
    /// The replication factor; -1 is the broker's default.
    pub replication: i32,
    /// The settings, such as `cleanup.policy`.
    pub config: Vec<(String, String)>,
}

/// A member of a group, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Its client's name.
    pub client_id: String,
    /// Where the instance that it is of can be asked (`application.server`).
    pub server: Option<String>,
    /// What it has.
    pub partitions: Vec<TopicPartition>,
}

/// Topics: look-up, creation, settings, and the end of records that nobody needs any more.
pub trait Admin {
    /// The topics of these names; `None` where there is none. Does not create any.
    fn topics(&mut self, names: &[String]) -> Result<Vec<Option<TopicInfo>>>;
    /// All topics that the application may see.
    fn all_topics(&mut self) -> Result<BTreeMap<String, TopicInfo>>;
    /// Creates topics; one that exists already is no error.
    fn create_topics(&mut self, topics: &[NewTopic]) -> Result;
    /// The settings of topics that exist, in the order asked for; those that the broker does not tell are left out.
    fn settings(&mut self, topics: &[String]) -> Result<Vec<BTreeMap<String, String>>>;
    /// Deletes the records before these offsets. An offset that is not there (any more) is no error.
    fn delete_records(&mut self, before: &[(TopicPartition, i64)]) -> Result;
    /// The members of a group; none where there is no such group.
    fn members(&mut self, group: &str) -> Result<Vec<GroupMember>>;
}

/// Which consumer is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A member of the group; the number is its stream thread's.
    Main {
        /// The stream thread's number, from 1.
        thread: usize,
    },
    /// Reads changelogs for the thread of this number.
    Restore {
        /// The stream thread's number, from 1.
        thread: usize,
    },
    /// Reads the topics of global tables, all partitions of them.
    Global,
}

/// Which records a consumer gets to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// All, unless the application's own settings for consumers say otherwise (`consumer.isolation.level`).
    #[default]
    AsConfigured,
    /// Those of committed transactions, and those without one; nothing behind the first open transaction.
    ReadCommitted,
}

/// Makes clients. One per application; each client belongs to the thread that asked for it.
pub trait Broker: Send + Sync {
    /// A consumer for `role`.
    fn consumer(&self, role: Role, isolation: Isolation) -> Result<Box<dyn Consumer>>;
    /// The producer of stream thread `thread`; one that sends in transactions where it has a transactional id.
    fn producer(&self, thread: usize, transactional_id: Option<&str>) -> Result<Box<dyn Producer>>;
    /// An admin client.
    fn admin(&self) -> Result<Box<dyn Admin>>;
    /// What an application sends its own records with.
    fn sender(&self) -> Result<Arc<dyn Sender>> {
        Err(Error::new(Kind::Internal, "this broker takes no records of an application's own"))
    }
}
