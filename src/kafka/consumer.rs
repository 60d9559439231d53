//! A consumer on librdkafka: batches out of its queue, rebalances as values.
//!
//! rdkafka hands out one record per call; `rd_kafka_consume_batch_queue` hands out hundreds, and serves the callbacks
//! on the way. What must stay in this order: a rebalance that the group started is answered exactly once, when the
//! runtime has assigned or given back everything that it was about; until then the group waits for this member.

use super::client::{self, Happened, Inbox, REQUEST_TIMEOUT};
use super::code;
use super::ends;
use super::partitions::{Held, List, Partitions};
use super::watch::Watch;
use crate::broker::{Batch, Committed, Consumer, Event, Role, TopicPartition, Waker};
use crate::error::{Error, Kind, Result};
use crate::record::Timestamp;
use rdkafka::ClientConfig;
use rdkafka::client::Client;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaType};
use rdkafka_sys as sys;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Messages taken from librdkafka at once, and the bytes after which a poll takes no more: they bound a batch.
const CHUNK: usize = 512;
const BATCH_BYTES: usize = 8 << 20;

/// How long a close waits until the request to leave is on its way.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// Where a partition starts that has no offset yet.
const BEGINNING: i64 = -2;
pub(super) const END: i64 = -1;
const NONE: i64 = -1001;

/// A consumer on librdkafka.
pub(super) struct KafkaConsumer {
    /// Given back before the client is.
    queue: Queue,
    bell: Arc<Bell>,
    client: Client<Inbox>,
    partitions: Partitions,
    watch: Watch,
    /// What the group asked back and the runtime has not yet given.
    revoking: Vec<TopicPartition>,
    messages: Vec<*mut sys::rd_kafka_message_t>,
    /// Where a partition without an offset starts.
    start: i64,
    /// Whether the group knows this member by a name of its own (`group.instance.id`).
    is_static: bool,
    /// Offsets in open transactions are not seen by its requests.
    reads_committed: bool,
    closed: bool,
}

/// A counted reference to one of librdkafka's queues.
pub(super) struct Queue(pub(super) NonNull<sys::rd_kafka_queue_t>);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and the client that it belongs to is destroyed later.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

// SAFETY: librdkafka guards its queues itself, and counts their references atomically.
unsafe impl Send for Queue {}

/// Ends the waiting of a poll, from any thread.
struct Bell {
    /// A reference of its own to the consumer's queue; `None` when the consumer has gone.
    queue: Mutex<Option<Queue>>,
    /// It has been rung since the last poll began to wait.
    rung: AtomicBool,
}

impl Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        if let Some(queue) = &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
            // SAFETY: the queue is alive, and stays so as long as the lock is held.
            unsafe { sys::rd_kafka_queue_yield(queue.0.as_ptr()) }
        }
    }
}

/// What a transaction needs to know of the group.
pub(super) struct GroupMetadata(NonNull<sys::rd_kafka_consumer_group_metadata_t>);

impl GroupMetadata {
    pub(super) fn ptr(&self) -> *const sys::rd_kafka_consumer_group_metadata_t {
        self.0.as_ptr()
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: it was made for this value alone.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) }
    }
}

impl KafkaConsumer {
    pub(super) fn new(config: &ClientConfig, role: &Role) -> Result<Self> {
        let client = client::create(config, RDKafkaType::RD_KAFKA_CONSUMER)?;
        // SAFETY: the client is alive. Errors and logs come out of the consumer's queue as well, so that one queue serves
        // everything.
        unsafe { sys::rd_kafka_poll_set_consumer(client.native_ptr()) };
        // SAFETY: the client is alive; what it gives is a counted reference.
        let take = || unsafe { NonNull::new(sys::rd_kafka_queue_get_consumer(client.native_ptr())).map(Queue) };
        let queue = take().ok_or_else(|| Error::new(Kind::Internal, "a consumer without a group has no queue"))?;
        let bell = Arc::new(Bell { queue: Mutex::new(take()), rung: AtomicBool::new(false) });
        let start = match (role, config.get("auto.offset.reset")) {
            (Role::Restore { .. } | Role::Global, _) => BEGINNING,
            (_, Some("latest" | "largest" | "end")) => END,
            (_, Some("error")) => NONE,
            _ => BEGINNING,
        };
        Ok(Self {
            queue,
            bell,
            client,
            partitions: Partitions::default(),
            watch: Watch::default(),
            revoking: Vec::new(),
            messages: Vec::with_capacity(CHUNK),
            start,
            is_static: config.get("group.instance.id").is_some(),
            reads_committed: config.get("isolation.level").is_some_and(|level| level == "read_committed"),
            closed: false,
        })
    }

    fn rk(&self) -> *mut sys::rd_kafka_t {
        self.client.native_ptr()
    }

    /// Takes up to `max` messages, waiting up to `timeout` until there are that many or something else happened.
    fn consume(&mut self, timeout: Duration, max: usize, batch: &mut Batch, events: &mut Vec<Event>) -> usize {
        // SAFETY: the vector has room for `max` pointers, and librdkafka says how many it wrote.
        unsafe {
            let max = max.min(self.messages.capacity());
            let n = sys::rd_kafka_consume_batch_queue(
                self.queue.0.as_ptr(),
                timeout.as_millis() as i32,
                self.messages.as_mut_ptr(),
                max,
            );
            self.messages.set_len(n.max(0) as usize);
        }
        // The partition of the last message: they come in runs of one.
        let (mut last, mut index, mut source) = ((std::ptr::null_mut(), -1), 0, 0);
        for &message in &self.messages {
            // SAFETY: the message is ours until it is destroyed, at the end of this block; nothing borrowed from it
            // is left then, as `push` copies.
            unsafe {
                let m = &*message;
                match client::message_code(message) {
                    RDKafkaErrorCode::NoError => {
                        if last != (m.rkt, m.partition) {
                            match self.partitions.index(m.rkt, m.partition) {
                                Some(found) => {
                                    (last, index) = ((m.rkt, m.partition), found);
                                    let name = &self.partitions.get(index).name;
                                    source = batch.source(&name.topic, name.partition);
                                }
                                // Given back in between: not ours any more.
                                None => {
                                    sys::rd_kafka_message_destroy(message);
                                    continue;
                                }
                            }
                        }
                        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
                        let timestamp = sys::rd_kafka_message_timestamp(message, &mut kind);
                        let key = client::bytes(m.key, m.key_len);
                        let value = client::bytes(m.payload, m.len);
                        batch.push(source, m.offset, timestamp, key, value, client::headers(message));
                        let held = self.partitions.get_mut(index);
                        (held.position, held.at_end) = (m.offset + 1, false);
                    }
                    code => {
                        let event = consumer_error(&self.partitions, &mut self.watch, m, code);
                        if let Some(Event::End { partition, offset }) = &event {
                            self.partitions.reached_end(partition, *offset);
                        }
                        events.extend(event);
                    }
                }
                sys::rd_kafka_message_destroy(message);
            }
        }
        self.messages.len()
    }

    /// Turns what the callbacks left behind into events. A rebalance about nothing is answered here, as there is nothing
    /// that the runtime could assign or give back; that it is over is told all the same.
    fn take_events(&mut self, events: &mut Vec<Event>) -> Result {
        for happened in self.client.context().take() {
            match happened {
                Happened::Assigned(list) if list.is_empty() => {
                    self.assign(&[])?;
                    events.push(Event::Assigned(Vec::new()));
                }
                Happened::Assigned(list) => events.push(Event::Assigned(self.partitions.names(list))),
                Happened::Revoked { partitions, lost } => {
                    let list = self.partitions.names(partitions);
                    self.revoking = list.clone();
                    match (list.is_empty(), lost) {
                        (true, _) => self.unassign(&[])?,
                        (false, true) => events.push(Event::Lost(list)),
                        (false, false) => events.push(Event::Revoking(list)),
                    }
                }
                Happened::Error(RDKafkaErrorCode::Fatal, _) => {}
                // One broker of several, or an idle connection: the log has it.
                Happened::Error(RDKafkaErrorCode::BrokerTransportFailure, _) => {}
                Happened::Error(RDKafkaErrorCode::AllBrokersDown, words) => {
                    events.extend(self.watch.brokers_down(words));
                }
                Happened::Error(code, words) => {
                    events.push(Event::Trouble(code::error(code, "consuming").source(words)));
                }
                Happened::Undelivered(_) => {}
            }
        }
        Ok(())
    }

    /// Tells librdkafka the whole assignment, at the positions reached.
    fn assign_all(&mut self) -> Result {
        let list = List::new(self.partitions.iter().map(|p| (&p.name, p.position)));
        // SAFETY: the client and the list are alive; librdkafka copies the list.
        check(unsafe { sys::rd_kafka_assign(self.rk(), list.ptr()) }, "assigning partitions")?;
        let paused: Vec<_> = self.partitions.iter().filter(|p| p.paused).map(|p| p.name.clone()).collect();
        if paused.is_empty() { Ok(()) } else { self.set_paused(&paused, true) }
    }

    /// To be called after partitions have been resumed, by us or by librdkafka itself in an incremental rebalance: says again
    /// where `which` of them are.
    ///
    /// `rd_kafka_consume_batch_queue` counts the end of a partition as if it were a record, so librdkafka takes its position
    /// to be one too far (as of 2.12.1, `rd_kafka_q_serve_rkmessages`). It goes by that position when it resumes: the next
    /// record would be left out, or, where there is none yet, the log be read from its beginning.
    ///
    /// And a thread that fetches and has found everything paused sleeps for up to a second. To resume does not wake it, a
    /// seek does (`rd_kafka_toppar_set_fetch_state`), unless it goes to 0.
    fn correct_positions(&mut self, which: impl Fn(&TopicPartition) -> bool) -> Result {
        let position = |held: &Held| match held.position {
            0 if held.at_end => Some(BEGINNING),
            // What else is not a record's offset may mean another one by now.
            position => (position > 0 || position == BEGINNING).then_some(position),
        };
        let resumed = self.partitions.iter().filter(|held| which(&held.name));
        let known: Vec<_> = resumed.filter_map(|held| Some((&held.name, position(held)?))).collect();
        if known.is_empty() {
            return Ok(());
        }
        let list = List::new(known.into_iter());
        // SAFETY: the client and the list are alive. Without a time-out nothing is waited for, but what was fetched from
        // other positions does not come out any more from here on.
        check_error(unsafe { sys::rd_kafka_seek_partitions(self.rk(), list.ptr(), 0) }, "seeking")
    }

    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) -> Result {
        let list = List::new(partitions.iter().map(|p| (p, NONE)));
        // SAFETY: the client and the list are alive.
        let error = unsafe {
            if paused {
                sys::rd_kafka_pause_partitions(self.rk(), list.ptr())
            } else {
                sys::rd_kafka_resume_partitions(self.rk(), list.ptr())
            }
        };
        check(error, if paused { "pausing partitions" } else { "resuming partitions" })?;
        for partition in self.partitions.iter_mut().filter(|p| partitions.contains(&p.name)) {
            partition.paused = paused;
        }
        Ok(())
    }

    /// What an offset stands for in `auto.offset.reset`'s terms, for all partitions in one request per leader.
    fn offsets_at(&mut self, partitions: &[TopicPartition], at: i64) -> Result<Vec<i64>> {
        let doing = "asking for offsets";
        self.watch.check(&self.client, doing)?;
        let list = List::new(partitions.iter().map(|p| (p, at)));
        // SAFETY: the client and the list are alive; the answer is written into the list.
        let error =
            unsafe { sys::rd_kafka_offsets_for_times(self.rk(), list.ptr(), REQUEST_TIMEOUT.as_millis() as i32) };
        if RDKafkaErrorCode::from(error) == RDKafkaErrorCode::UnknownPartition {
            // Who asks has seen the topic: one that has just been created is not known everywhere at once.
            return Err(Error::new(Kind::Broker, format!("{doing}: not every broker knows the topic yet")));
        }
        check(error, doing)?;
        list.check(doing)?;
        Ok(list.offsets(partitions))
    }

    /// Answers a rebalance that the runtime took and did not answer: the close would wait for that, without end.
    fn answer_for_the_last_time(&mut self) {
        let none = List::new(std::iter::empty());
        let revoking = List::new(self.revoking.iter().map(|p| (p, NONE)));
        // SAFETY: the client and the lists are alive; null is the empty assignment. Where nothing waits for these, they
        // change nothing or fail, and the close goes on.
        unsafe {
            if self.is_eager() {
                sys::rd_kafka_assign(self.rk(), std::ptr::null());
            } else {
                let _ = check_error(sys::rd_kafka_incremental_unassign(self.rk(), revoking.ptr()), "");
                let _ = check_error(sys::rd_kafka_incremental_assign(self.rk(), none.ptr()), "");
            }
        }
    }

    /// Makes the group forget this member although it has a stable name: librdkafka's close never does.
    fn leave_group(&mut self) {
        // SAFETY: the client is alive.
        unsafe { sys::rd_kafka_unsubscribe(self.rk()) };
        let deadline = Instant::now() + LEAVE_MAX;
        let (mut batch, mut events) = (Batch::default(), Vec::new());
        // The member's id is gone as soon as the request to leave is on its way.
        while Instant::now() < deadline && self.has_member_id() {
            self.consume(Duration::from_millis(5), 1, &mut batch, &mut events);
        }
    }

    fn has_member_id(&self) -> bool {
        // SAFETY: the client is alive; the id was made for us and is given back.
        unsafe {
            let id = sys::rd_kafka_memberid(self.rk());
            if id.is_null() {
                return false;
            }
            let some = *id != 0;
            sys::rd_kafka_mem_free(self.rk(), id.cast());
            some
        }
    }
}

impl Consumer for KafkaConsumer {
    fn subscribe(&mut self, topics: &[Arc<str>]) -> Result {
        let names: Vec<_> = topics.iter().map(|topic| TopicPartition::new(topic.clone(), -1)).collect();
        let list = List::new(names.iter().map(|name| (name, NONE)));
        // SAFETY: the client and the list are alive; librdkafka copies the list.
        check(unsafe { sys::rd_kafka_subscribe(self.rk(), list.ptr()) }, "subscribing")
    }

    fn poll(&mut self, timeout: Duration, max_records: usize, batch: &mut Batch, events: &mut Vec<Event>) -> Result {
        if let Some(error) = client::fatal(&self.client, "consuming") {
            return Err(error);
        }
        let (mut left, known) = (max_records.max(1), events.len());
        let mut taken = self.consume(Duration::ZERO, left.min(CHUNK), batch, events);
        self.take_events(events)?;
        let rung = self.bell.rung.swap(false, Ordering::AcqRel);
        if taken == 0 && events.len() == known && !timeout.is_zero() && !rung {
            // librdkafka would wait for a full batch: wait for one message, then take what is there.
            taken = self.consume(timeout, 1, batch, events);
            left -= taken;
            if taken == 1 && left > 0 {
                taken = self.consume(Duration::ZERO, left.min(CHUNK), batch, events);
                left -= taken;
            }
        } else {
            left -= taken;
        }
        while taken == CHUNK && left > 0 && batch.bytes.len() < BATCH_BYTES {
            taken = self.consume(Duration::ZERO, left.min(CHUNK), batch, events);
            left -= taken;
        }
        self.take_events(events)?;
        self.watch.look(&self.client, events);
        Ok(())
    }

    fn waker(&self) -> Waker {
        let bell = self.bell.clone();
        Arc::new(move || bell.ring())
    }

    fn assign(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result {
        let list = List::new(partitions.iter().map(|(p, offset)| (p, offset.unwrap_or(self.start))));
        for (name, offset) in partitions {
            self.partitions.add(name, offset.unwrap_or(self.start));
        }
        if self.is_eager() {
            return self.assign_all();
        }
        // SAFETY: the client and the list are alive; librdkafka copies the list.
        check_error(unsafe { sys::rd_kafka_incremental_assign(self.rk(), list.ptr()) }, "assigning partitions")?;
        self.correct_positions(|held| partitions.iter().all(|(new, _)| new != held))
    }

    fn is_eager(&self) -> bool {
        // SAFETY: the client is alive.
        unsafe { client::is_eager(self.rk()) }
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result {
        let paused: Vec<_> = self
            .partitions
            .iter()
            .filter(|p| p.paused && partitions.contains(&p.name))
            .map(|p| p.name.clone())
            .collect();
        if !paused.is_empty() {
            // librdkafka would remember it, should the partition come back.
            self.set_paused(&paused, false)?;
        }
        let revoked = std::mem::take(&mut self.revoking);
        let of_group = partitions.iter().all(|p| revoked.contains(p));
        self.partitions.remove(partitions);
        if of_group {
            // Everything that the group asked for goes in one answer.
            self.revoking = revoked.into_iter().filter(|p| !partitions.contains(p)).collect();
            if !self.revoking.is_empty() {
                return Ok(());
            }
        } else {
            self.revoking = revoked;
        }
        if self.is_eager() {
            return if self.partitions.is_empty() {
                // SAFETY: the client is alive; null is the empty assignment.
                check(unsafe { sys::rd_kafka_assign(self.rk(), std::ptr::null()) }, "giving partitions back")
            } else {
                self.assign_all()
            };
        }
        let list = List::new(partitions.iter().map(|p| (p, NONE)));
        // SAFETY: the client and the list are alive; librdkafka copies the list.
        check_error(unsafe { sys::rd_kafka_incremental_unassign(self.rk(), list.ptr()) }, "giving partitions back")?;
        self.correct_positions(|_| true)
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result {
        self.set_paused(partitions, true)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result {
        self.set_paused(partitions, false)?;
        self.correct_positions(|held| partitions.contains(held))
    }

    fn committed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Option<Committed>>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let doing = "asking for committed offsets";
        self.watch.check(&self.client, doing)?;
        let list = List::new(partitions.iter().map(|p| (p, NONE)));
        // SAFETY: the client and the list are alive; the answer is written into the list.
        let error = unsafe { sys::rd_kafka_committed(self.rk(), list.ptr(), REQUEST_TIMEOUT.as_millis() as i32) };
        check(error, doing)?;
        list.check(doing)?;
        Ok(list.committed(partitions))
    }

    fn commit(&mut self, offsets: &[(TopicPartition, Committed)]) -> Result {
        if offsets.is_empty() {
            return Ok(());
        }
        let doing = "committing offsets";
        self.watch.check(&self.client, doing)?;
        let mut list = List::new(offsets.iter().map(|(p, committed)| (p, committed.offset)));
        list.set_metadata(offsets.iter().map(|(_, committed)| &*committed.metadata));
        // SAFETY: the client and the list are alive and the list is copied. The answer comes to a queue of its own, so
        // that the wait has an end (librdkafka's own may last the whole session timeout) and a late answer is dropped.
        let error = unsafe {
            let Some(queue) = NonNull::new(sys::rd_kafka_queue_new(self.rk())).map(Queue) else {
                return Err(Error::new(Kind::Internal, "no queue for a commit's answer"));
            };
            let queue = queue.0.as_ptr();
            check(sys::rd_kafka_commit_queue(self.rk(), list.ptr(), queue, None, std::ptr::null_mut()), doing)?;
            let event = sys::rd_kafka_queue_poll(queue, REQUEST_TIMEOUT.as_millis() as i32);
            if event.is_null() {
                return Err(code::error(RDKafkaErrorCode::OperationTimedOut, doing));
            }
            let error = sys::rd_kafka_event_error(event);
            sys::rd_kafka_event_destroy(event);
            error
        };
        check(error, doing)
    }

    fn cached_end_offset(&self, partition: &TopicPartition) -> Option<i64> {
        let topic = std::ffi::CString::new(&*partition.topic).ok()?;
        let (mut low, mut high) = (NONE, NONE);
        // SAFETY: the client, the name and the two numbers are alive during the call.
        let error = unsafe {
            let topic = topic.as_ptr();
            sys::rd_kafka_get_watermark_offsets(self.rk(), topic, partition.partition, &mut low, &mut high)
        };
        (check(error, "").is_ok() && high >= 0).then_some(high)
    }

    fn offset_bounds(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Range<i64>>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let (low, high) = (self.offsets_at(partitions, BEGINNING)?, self.offsets_at(partitions, END)?);
        Ok(low.into_iter().zip(high).map(|(low, high)| low..high).collect())
    }

    fn log_ends(&mut self, partitions: &[TopicPartition]) -> Result<Vec<i64>> {
        if !self.reads_committed {
            return self.offsets_at(partitions, END);
        }
        self.watch.check(&self.client, "asking for the ends of logs")?;
        // SAFETY: the client is alive.
        unsafe { ends::log_ends(self.rk(), partitions) }
    }

    fn offsets_since(&mut self, partitions: &[TopicPartition], timestamp_ms: Timestamp) -> Result<Vec<i64>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let (found, ends) = (self.offsets_at(partitions, timestamp_ms)?, self.offsets_at(partitions, END)?);
        Ok(found.into_iter().zip(ends).map(|(offset, end)| if offset < 0 { end } else { offset }).collect())
    }

    fn seek(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result {
        let doing = "going back to what is committed";
        let list = List::new(partitions.iter().map(|(p, offset)| (p, offset.unwrap_or(self.start))));
        for (name, offset) in partitions {
            if let Some(held) = self.partitions.iter_mut().find(|held| held.name == *name) {
                held.position = offset.unwrap_or(self.start);
            }
        }
        // SAFETY: the client and the list are alive; the answer is written into the list.
        let sought = check_error(
            unsafe { sys::rd_kafka_seek_partitions(self.rk(), list.ptr(), REQUEST_TIMEOUT.as_millis() as i32) },
            doing,
        );
        sought.and_then(|()| list.check(doing)).map_err(|error| match error.kind() {
            // Its fetching has not begun yet: soon it has.
            Kind::Internal => Error::new(Kind::Broker, "a partition cannot go back yet").source(error),
            _ => error,
        })
    }

    fn group_metadata(&mut self) -> Option<Box<dyn std::any::Any>> {
        // SAFETY: the client is alive; what it makes is ours.
        let metadata = unsafe { NonNull::new(sys::rd_kafka_consumer_group_metadata(self.rk())) };
        metadata.map(|metadata| Box::new(GroupMetadata(metadata)) as _)
    }

    fn close(&mut self, leave: bool) -> Result {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        self.client.context().set_closing();
        self.answer_for_the_last_time();
        if leave && self.is_static {
            self.leave_group();
        }
        self.partitions = Partitions::default();
        // SAFETY: the client is alive; callbacks that this calls only write to the inbox.
        check(unsafe { sys::rd_kafka_consumer_close(self.rk()) }, "closing the consumer")
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        *self.bell.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Err(error) = self.close(false) {
            tracing::warn!("{error}");
        }
    }
}

/// A message that is no record but an event or an error.
///
/// # Safety
/// The message must be alive.
unsafe fn consumer_error(
    partitions: &Partitions,
    watch: &mut Watch,
    m: &sys::rd_kafka_message_t,
    code: RDKafkaErrorCode,
) -> Option<Event> {
    // SAFETY: the message is alive, and with it its topic; an error's payload is its text.
    let (topic, words) = unsafe {
        let topic = (!m.rkt.is_null()).then(|| client::text(sys::rd_kafka_topic_name(m.rkt)));
        (topic.unwrap_or_default(), client::text(sys::rd_kafka_message_errstr(m)))
    };
    let partition = || partitions.name(&topic, m.partition);
    match code {
        RDKafkaErrorCode::PartitionEOF => Some(Event::End { partition: partition()?, offset: m.offset }),
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            watch.topic_unknown(topic);
            None
        }
        RDKafkaErrorCode::AllBrokersDown => watch.brokers_down(words),
        RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
            Some(Event::OffsetOutOfRange(partition()?))
        }
        // `fatal` reports it.
        RDKafkaErrorCode::Fatal => None,
        code => {
            let error = code::error(code, "consuming").source(words);
            Some(Event::Trouble(if topic.is_empty() { error } else { error.topic(topic) }))
        }
    }
}

pub(super) fn check(error: sys::rd_kafka_resp_err_t, doing: &str) -> Result {
    match RDKafkaErrorCode::from(error) {
        RDKafkaErrorCode::NoError => Ok(()),
        code => Err(code::error(code, doing)),
    }
}

/// The same for librdkafka's richer errors, which it destroys.
fn check_error(error: *mut sys::rd_kafka_error_t, doing: &str) -> Result {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the error is ours; its text is copied before it is destroyed.
    unsafe {
        let (code, words) = (sys::rd_kafka_error_code(error), client::text(sys::rd_kafka_error_string(error)));
        sys::rd_kafka_error_destroy(error);
        Err(code::error(code.into(), doing).source(words))
    }
}
