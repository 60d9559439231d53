//! The broker itself: topics, groups, and a handle through which tests write, read and break things.

use super::consumer::MemoryConsumer;
use super::faults::{Fault, Faults, Gate, Request};
use super::group::{Group, PartitionCounts};
use super::log::{Log, StoredRecord, Topic};
use super::producer::MemoryProducer;
use super::transactions::Transactions;
use crate::broker::{
    Admin, Broker, Committed, Consumer, Delivered, GroupMember, Isolation, NewTopic, Outgoing, Producer, Role, Sender,
    TopicInfo, TopicPartition, Written,
};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Kind, Result};
use crate::partitioner::partition_for_key;
use crate::record::Timestamp;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A Kafka in memory: topics with partitions, consumer groups, committed offsets. Deterministic: the same calls in the same
/// order give the same records at the same offsets. Clones are handles to one broker.
///
/// A client of it belongs to a group and to a process. Members are known by process and stream thread
/// (`group.instance.id`), so a process that comes back gets its partitions back at once; one that only ends keeps them
/// until 45 seconds of the broker's clock have passed.
///
/// ```
/// use watersmeet::testing::MemoryBroker;
///
/// let broker = MemoryBroker::new();
/// broker.create_topic("in", 3);
/// broker.produce("in", "key".as_bytes(), "value".as_bytes(), 1_000)?;
/// broker.produce("in", "key".as_bytes(), None, 2_000)?;
/// let records = broker.records("in");
/// assert_eq!((records.len(), records[1].offset, records[1].timestamp_ms), (2, 1, 2_000));
/// assert_eq!(records[1].value, None);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Clone)]
pub struct MemoryBroker(Arc<Cluster>);

/// What the clients of one process share of a broker.
#[derive(Clone)]
pub(super) struct Cluster {
    state: Arc<Mutex<State>>,
    /// Something has changed that a waiting poll may want to see.
    changed: Arc<Condvar>,
    /// Empty for the test's own handle.
    process: String,
    gate: Option<Arc<dyn Gate>>,
}

/// Topics, groups, faults.
pub(super) struct State {
    pub(super) topics: BTreeMap<Arc<str>, Topic>,
    groups: BTreeMap<String, Group>,
    /// Where processes can be asked.
    servers: BTreeMap<String, String>,
    pub(super) faults: Faults,
    pub(super) transactions: Transactions,
    clock: Arc<dyn Clock>,
    sequence: u64,
    /// How many partitions a topic gets that a client writes to without its being there; `None`: it is refused.
    created_on_write: Option<i32>,
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBroker {
    /// A broker without topics, on the machine's clock.
    pub fn new() -> Self {
        Self::with_clock(SystemClock::shared())
    }

    /// A broker without topics, on this clock.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self::gated(clock, None)
    }

    /// A broker without topics, all of whose requests pass this gate.
    pub(super) fn gated(clock: Arc<dyn Clock>, gate: Option<Arc<dyn Gate>>) -> Self {
        let (topics, groups, servers, faults, transactions) = Default::default();
        let state = State { topics, groups, servers, faults, transactions, clock, sequence: 0, created_on_write: None };
        let (state, changed, process) = (Arc::new(Mutex::new(state)), Arc::default(), String::new());
        Self(Arc::new(Cluster { state, changed, process, gate }))
    }

    /// Makes the clients of one process (a name of your choice) of the application `group`: what
    /// [`Streams::start_on`](crate::streams::Streams::start_on) wants.
    pub fn client(&self, group: &str, process: &str) -> Arc<dyn Broker> {
        let cluster = Arc::new(Cluster { process: process.into(), ..(*self.0).clone() });
        Arc::new(Client { cluster, group: group.into(), process: process.into() })
    }

    /// As [`client`](Self::client), for a process that can be asked at this address (`application.server`).
    pub fn client_at(&self, group: &str, process: &str, server: &str) -> Arc<dyn Broker> {
        self.0.change(|state| state.servers.insert(process.into(), server.into()));
        self.client(group, process)
    }

    /// Creates a topic, if there is none of that name.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        self.0.change(|state| state.create_topic(name, partitions, &[]));
    }

    /// Changes a setting of a topic. The broker heeds `max.message.bytes` and `cleanup.policy` (a compacted topic refuses
    /// records without a key; when it is compacted, [`compact`](Self::compact) says).
    pub fn configure_topic(&self, name: &str, key: &str, value: &str) {
        self.0.change(|state| {
            if let Some(topic) = state.topics.get_mut(name) {
                topic.config.push((key.into(), value.into()));
            }
        });
    }

    /// Deletes a topic with its records.
    pub fn delete_topic(&self, name: &str) {
        self.0.change(|state| state.topics.remove(name));
    }

    /// The topics, with their numbers of partitions.
    pub fn topics(&self) -> BTreeMap<String, i32> {
        let state = self.0.lock();
        state.topics.iter().map(|(name, topic)| (name.to_string(), topic.partitions.len() as i32)).collect()
    }

    /// A setting of a topic.
    pub fn topic_setting(&self, name: &str, key: &str) -> Option<String> {
        self.0.lock().topics.get(name)?.setting(key).map(str::to_string)
    }

    /// Appends a record to the partition that Java's producer would choose (a null key: partition 0). Returns partition and
    /// offset.
    ///
    /// # Errors
    /// There is no such topic, or the topic refuses the record.
    pub fn produce<'a>(
        &self,
        topic: &str,
        key: impl Into<Option<&'a [u8]>>,
        value: impl Into<Option<&'a [u8]>>,
        timestamp_ms: Timestamp,
    ) -> Result<(i32, i64)> {
        let (topic, headers) = (&topic.into(), &Default::default());
        let (key, value, timestamp_ms) = (key.into(), value.into(), Some(timestamp_ms));
        self.append(Outgoing { topic, partition: None, key, value, timestamp_ms, headers })
    }

    /// Appends a record with everything that a record may have. Returns partition and offset.
    ///
    /// # Errors
    /// There is no such topic or partition, or the topic refuses the record.
    pub fn append(&self, record: Outgoing<'_>) -> Result<(i32, i64)> {
        self.0.change(|state| {
            let partition = state.partition_for(record.topic, record.partition, record.key, 0)?;
            state.append(record.topic, state.stored(&record, partition))
        })
    }

    /// The records of all partitions of a topic, in the order in which they were written, whatever became of their
    /// transactions.
    pub fn records(&self, topic: &str) -> Vec<StoredRecord> {
        let state = self.0.lock();
        let logs = state.topics.get(topic).into_iter().flat_map(|topic| &topic.partitions);
        let mut records: Vec<_> = logs.flat_map(Log::records).cloned().collect();
        records.sort_by_key(|record| record.sequence);
        records
    }

    /// Those of them that a consumer with `isolation.level=read_committed` gets to see.
    pub fn committed_records(&self, topic: &str) -> Vec<StoredRecord> {
        let state = self.0.lock();
        let logs = state.topics.get(topic).into_iter().flat_map(|topic| &topic.partitions);
        let mut records: Vec<_> = logs.flat_map(|log| log.visible(0, Isolation::ReadCommitted)).cloned().collect();
        records.sort_by_key(|record| record.sequence);
        records
    }

    /// The transactional ids that have a transaction open.
    pub fn open_transactions(&self) -> Vec<String> {
        self.0.lock().open_transactions()
    }

    /// From now on the partitions hear of the end of a transaction only when this is called with `false`; producer and group
    /// hear of it at once. A broker does not write all of a transaction's markers at the same time.
    pub fn hold_markers(&self, hold: bool) {
        self.0.change(|state| {
            state.transactions.hold_markers = hold;
            if !hold {
                state.write_markers();
            }
        });
    }

    /// The record of a topic that was written next after the one of this sequence number.
    pub(super) fn record_after(&self, topic: &str, sequence: u64) -> Option<StoredRecord> {
        let state = self.0.lock();
        let logs = state.topics.get(topic)?.partitions.iter();
        logs.filter_map(|log| log.after(sequence).first().cloned()).min_by_key(|record| record.sequence)
    }

    /// The records of all topics that clients have written after the one of this sequence number, in the order in which
    /// they were written.
    pub(super) fn written_after(&self, sequence: u64) -> Vec<(Arc<str>, StoredRecord)> {
        let state = self.0.lock();
        let of_topic = |(name, topic): (&Arc<str>, &Topic)| {
            let records = topic.partitions.iter().flat_map(|log| log.after(sequence)).filter(|record| record.by_client);
            records.map(|record| (name.clone(), record.clone())).collect::<Vec<_>>()
        };
        let mut records: Vec<_> = state.topics.iter().flat_map(of_topic).collect();
        records.sort_by_key(|(_, record)| record.sequence);
        records
    }

    /// From now on a topic that a client writes to is created where it does not exist, as Kafka's
    /// `auto.create.topics.enable` lets it.
    pub fn create_topics_on_write(&self, partitions: i32) {
        self.0.change(|state| state.created_on_write = Some(partitions));
    }

    /// The offset that the next record of this partition gets; 0 where it does not exist.
    pub fn end_offset(&self, topic: &str, partition: i32) -> i64 {
        self.0.lock().log(&TopicPartition::new(topic, partition)).map_or(0, |log| log.bounds().end)
    }

    /// The offsets that a group has committed.
    pub fn committed(&self, group: &str) -> BTreeMap<TopicPartition, Committed> {
        self.0.lock().groups.get(group).map(|group| group.offsets.clone()).unwrap_or_default()
    }

    /// The members of a group (process and stream thread, such as `p-1`) with their partitions.
    pub fn members(&self, group: &str) -> BTreeMap<String, Vec<TopicPartition>> {
        self.0.lock().groups.get(group).map(Group::members).unwrap_or_default()
    }

    /// Removes a member from its group without its knowing, as a broker does that has not heard of it for too long. Its
    /// partitions are free; it learns of it by the next answer.
    pub fn remove_member(&self, group: &str, member: &str) {
        self.0.change(|state| state.group(group).remove(member));
    }

    /// The heartbeats of a member stop, or come again.
    pub(super) fn silence(&self, group: &str, member: &str, silent: bool) {
        self.0.change(|state| {
            let now_ms = state.now_ms();
            state.group(group).silence(member, silent.then_some(now_ms));
        });
    }

    /// How many committed records a partition has from this offset on.
    pub(super) fn records_from(&self, tp: &TopicPartition, offset: i64) -> usize {
        self.0.lock().log(tp).map_or(0, |log| log.visible(offset, Isolation::ReadCommitted).count())
    }

    /// Deletes the records of a partition before `offset`.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        self.with_log(topic, partition, |log| log.delete_before(offset));
    }

    /// Uses up offsets without records, as the markers of transactions do.
    pub fn skip_offsets(&self, topic: &str, partition: i32, count: i64) {
        self.with_log(topic, partition, |log| log.skip(count));
    }

    /// Compacts a partition: only the newest record of each key stays, and tombstones only where `keep_tombstones` says so.
    pub fn compact(&self, topic: &str, partition: i32, keep_tombstones: bool) {
        self.with_log(topic, partition, |log| log.compact(keep_tombstones));
    }

    /// From now on no request is answered, or they are again.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.0.change(|state| state.faults.unreachable = unreachable);
    }

    /// The next request of this sort fails like this; called several times, so do as many.
    pub fn fail_next(&self, request: Request, fault: Fault) {
        self.0.change(|state| state.faults.add(request, fault));
    }

    fn with_log(&self, topic: &str, partition: i32, change: impl FnOnce(&mut Log)) {
        self.0.change(|state| {
            let topic = state.topics.get_mut(topic);
            if let Some(log) = topic.and_then(|topic| topic.partitions.get_mut(partition as usize)) {
                change(log);
            }
        });
    }
}

impl Cluster {
    /// Every change below is whole before anything can panic, so a poisoned lock still guards sound data.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits for a change, at most so long, unless the bell has been rung. Where a gate decides who is next, nobody waits.
    pub(super) fn wait(&self, timeout: std::time::Duration, bell: &AtomicBool) {
        if self.gate.is_none() {
            let state = self.lock();
            if !bell.swap(false, Ordering::AcqRel) {
                drop(self.changed.wait_timeout(state, timeout));
            }
        }
    }

    /// Rings a bell for whoever waits by it.
    pub(super) fn ring(&self, bell: &AtomicBool) {
        bell.store(true, Ordering::Release);
        // Nobody is between looking at the bell and waiting.
        drop(self.lock());
        self.changed.notify_all();
    }

    /// A request is about to be sent: whoever decides about faults does it here, before the broker is locked.
    ///
    /// # Errors
    /// The process no longer runs.
    pub(super) fn meet(&self, request: Request) -> Result<Option<Fault>> {
        let fault = match &self.gate {
            Some(gate) => gate.pass(&self.process, request)?,
            None => None,
        };
        Ok(fault.or_else(|| self.lock().faults.meet(request)))
    }

    /// False where the process no longer runs: what it does from now on does not reach the broker.
    pub(super) fn is_connected(&self) -> bool {
        self.gate.as_ref().is_none_or(|gate| gate.runs(&self.process))
    }

    /// One request to the broker.
    pub(super) fn request<T>(&self, request: Request, run: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let fault = self.meet(request)?;
        let state = &mut *self.lock();
        state.expire_transactions();
        match fault {
            None => run(state),
            Some(Fault::AnswerLost) => run(state).and_then(|_| Err(Fault::AnswerLost.error(request))),
            Some(fault) => Err(fault.error(request)),
        }
    }

    /// Wakes the polls that wait.
    pub(super) fn wake(&self) {
        self.changed.notify_all();
    }
}

impl PartitionCounts for BTreeMap<Arc<str>, Topic> {
    fn count(&self, topic: &str) -> Option<i32> {
        self.get(topic).map(|topic| topic.partitions.len() as i32)
    }
}

impl State {
    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    pub(super) fn group(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.into()).or_default()
    }

    /// A group together with what it must know of the topics.
    pub(super) fn group_and_counts(&mut self, name: &str) -> (&mut Group, &dyn PartitionCounts) {
        (self.groups.entry(name.into()).or_default(), &self.topics)
    }

    pub(super) fn log(&self, tp: &TopicPartition) -> Option<&Log> {
        self.topics.get(&tp.topic)?.partitions.get(usize::try_from(tp.partition).ok()?)
    }

    /// Creates the topic of a client's record, where that is allowed.
    pub(super) fn create_on_write(&mut self, topic: &str) {
        if let Some(partitions) = self.created_on_write
            && !self.topics.contains_key(topic)
        {
            self.create_topic(topic, partitions, &[]);
        }
    }

    fn create_topic(&mut self, name: &str, partitions: i32, config: &[(String, String)]) {
        self.topics.entry(name.into()).or_insert_with(|| Topic::new(partitions, config));
    }

    /// The partition for a record; one without key and partition goes to the `turn`th, round.
    pub(super) fn partition_for(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        turn: i32,
    ) -> Result<i32> {
        let count = self.topics.count(topic).ok_or_else(|| unknown_topic(topic))?;
        match (partition, key) {
            (Some(p), _) if (0..count).contains(&p) => Ok(p),
            (Some(p), _) => {
                let error = Error::new(Kind::BrokerFatal, format!("the topic has only {count} partitions"));
                Err(error.topic(topic).partition(p))
            }
            (None, Some(key)) => Ok(partition_for_key(key, count)),
            (None, None) => Ok(turn % count),
        }
    }

    pub(super) fn stored(&self, record: &Outgoing<'_>, partition: i32) -> StoredRecord {
        StoredRecord {
            partition,
            offset: -1,
            timestamp_ms: record.timestamp_ms.unwrap_or_else(|| self.now_ms()),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.clone(),
            untimed: record.timestamp_ms.is_none(),
            by_client: false,
            sequence: 0,
            transaction: None,
        }
    }

    /// Appends a record to its partition, if the topic takes it.
    pub(super) fn append(&mut self, topic: &str, mut record: StoredRecord) -> Result<(i32, i64)> {
        let log = self.topics.get_mut(topic).ok_or_else(|| unknown_topic(topic))?;
        log.check(topic, &record)?;
        self.sequence += 1;
        record.sequence = self.sequence;
        let partition = record.partition;
        Ok((partition, log.partitions[partition as usize].append(record)))
    }
}

pub(super) fn unknown_topic(topic: &str) -> Error {
    let error = Error::new(Kind::BrokerFatal, "the broker does not know this topic");
    error.topic(topic).hint("create the topic, or correct its name")
}

/// Makes the clients of one process.
struct Client {
    cluster: Arc<Cluster>,
    group: String,
    process: String,
}

impl Broker for Client {
    fn consumer(&self, role: Role, isolation: Isolation) -> Result<Box<dyn Consumer>> {
        let member = match role {
            Role::Main { thread } => format!("{}-{thread}", self.process),
            Role::Restore { thread } => format!("{}-{thread}-restore", self.process),
            Role::Global => format!("{}-global", self.process),
        };
        Ok(Box::new(MemoryConsumer::new(self.cluster.clone(), self.group.clone(), member, isolation)))
    }

    fn producer(&self, _thread: usize, transactional_id: Option<&str>) -> Result<Box<dyn Producer>> {
        Ok(Box::new(MemoryProducer::new(self.cluster.clone(), transactional_id)))
    }

    fn admin(&self) -> Result<Box<dyn Admin>> {
        Ok(Box::new(MemoryAdmin(self.cluster.clone())))
    }

    fn sender(&self) -> Result<Arc<dyn Sender>> {
        Ok(Arc::new(MemoryBroker(self.cluster.clone())))
    }
}

/// Appends at once.
impl Sender for MemoryBroker {
    fn send(&self, record: Outgoing<'_>, delivered: Delivered) {
        let written = |(partition, offset)| Written {
            partition: TopicPartition { topic: record.topic.clone(), partition },
            offset,
        };
        delivered(self.append(record).map(written));
    }

    fn flush(&self, _: std::time::Duration) -> Result {
        Ok(())
    }

    fn log_end(&self, partition: &TopicPartition) -> Result<i64> {
        self.0.request(Request::Offsets, |state| {
            state.log(partition).map(|log| log.bounds().end).ok_or_else(|| unknown_topic(&partition.topic))
        })
    }
}

struct MemoryAdmin(Arc<Cluster>);

impl Admin for MemoryAdmin {
    fn topics(&mut self, names: &[String]) -> Result<Vec<Option<TopicInfo>>> {
        self.0.request(Request::Topics, |state| {
            Ok(names.iter().map(|name| state.topics.count(name).map(|partitions| TopicInfo { partitions })).collect())
        })
    }

    fn all_topics(&mut self) -> Result<BTreeMap<String, TopicInfo>> {
        self.0.request(Request::Topics, |state| {
            let info = |topic: &Topic| TopicInfo { partitions: topic.partitions.len() as i32 };
            Ok(state.topics.iter().map(|(name, topic)| (name.to_string(), info(topic))).collect())
        })
    }

    fn create_topics(&mut self, topics: &[NewTopic]) -> Result {
        self.0.request(Request::CreateTopics, |state| {
            for topic in topics {
                state.create_topic(&topic.name, topic.partitions, &topic.config);
            }
            Ok(())
        })?;
        self.0.wake();
        Ok(())
    }

    fn settings(&mut self, topics: &[String]) -> Result<Vec<BTreeMap<String, String>>> {
        self.0.request(Request::Settings, |state| {
            let settings =
                |name: &String| state.topics.get(&**name).map(|topic| topic.config.iter().cloned().collect());
            Ok(topics.iter().map(|name| settings(name).unwrap_or_default()).collect())
        })
    }

    fn delete_records(&mut self, before: &[(TopicPartition, i64)]) -> Result {
        self.0.request(Request::DeleteRecords, |state| {
            for (tp, offset) in before {
                let topic = state.topics.get_mut(&tp.topic);
                if let Some(log) = topic.and_then(|topic| topic.partitions.get_mut(tp.partition as usize)) {
                    log.delete_before(*offset);
                }
            }
            Ok(())
        })
    }

    fn members(&mut self, group: &str) -> Result<Vec<GroupMember>> {
        self.0.request(Request::Members, |state| {
            let member = |(client_id, partitions): (String, _)| {
                let process = client_id.rsplit_once('-').map_or("", |(process, _)| process);
                GroupMember { server: state.servers.get(process).cloned(), client_id, partitions }
            };
            let members = state.groups.get(group).map(Group::members).unwrap_or_default();
            Ok(members.into_iter().map(member).collect())
        })
    }
}
