//! An idempotent producer on librdkafka.
//!
//! Only failures are reported back: what was acknowledged is what was sent, less what is still on its way, less what
//! failed. That saves a report per record.

use super::client::{self, Happened, Inbox, Undelivered};
use super::code;
use super::transactions;
use crate::broker::{Committed, Outgoing, Producer, Refused, TopicPartition};
use crate::error::{Error, Kind, Result};
use rdkafka::ClientConfig;
use rdkafka::client::Client;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaType};
use rdkafka_sys as sys;
use std::any::Any;
use std::collections::VecDeque;
use std::ffi::{CString, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sys::rd_kafka_vtype_t as vtype;

/// How long `send` waits for room in a full queue before it counts as the broker's trouble. Short: the caller keeps the record,
/// goes on turning (rebalances, health, shutdown), and tries again.
const MAX_BLOCK: Duration = Duration::from_millis(200);

/// The partition that says: by the partitioner.
const UNASSIGNED: i32 = -1;

/// A producer on librdkafka.
pub(super) struct KafkaProducer {
    /// librdkafka's handles of the topics sent to; they save a look-up by name for every record. Given back before the
    /// client is.
    topics: Vec<(Arc<str>, Topic)>,
    client: Client<Inbox>,
    sent: u64,
    failed: u64,
    refused: Vec<Refused>,
    /// Records of batches that were too large for their topic. The broker refuses a batch as a whole, and librdkafka,
    /// unlike Java's producer, does not split it: each is sent again alone, which shows whose fault it is. Those that are
    /// not at fault come behind what was sent meanwhile.
    suspects: VecDeque<Undelivered>,
    /// The only record on its way is one of those.
    alone: bool,
    /// A transaction that has lost a record cannot be committed, so none is sent again.
    transactional: bool,
}

/// A counted reference to one of librdkafka's topics.
struct Topic(NonNull<sys::rd_kafka_topic_t>);

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and the client that it belongs to is destroyed later.
        unsafe { sys::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

impl KafkaProducer {
    pub(super) fn new(config: &ClientConfig) -> Result<Self> {
        let client = client::create(config, RDKafkaType::RD_KAFKA_PRODUCER)?;
        Ok(Self {
            topics: Vec::new(),
            client,
            sent: 0,
            failed: 0,
            refused: Vec::new(),
            suspects: VecDeque::new(),
            alone: false,
            transactional: config.get("transactional.id").is_some(),
        })
    }

    fn rk(&self) -> *mut sys::rd_kafka_t {
        self.client.native_ptr()
    }

    /// The handle of a topic. Few per application, and the same `Arc` comes again and again.
    fn topic(&mut self, name: &Arc<str>) -> Result<*mut sys::rd_kafka_topic_t> {
        let found = self.topics.iter().find(|(known, _)| Arc::ptr_eq(known, name) || known == name);
        if let Some((_, topic)) = found {
            return Ok(topic.0.as_ptr());
        }
        let cannot = |why| Error::new(Kind::Config, why).topic(&**name);
        let c_name = CString::new(&**name).map_err(|_| cannot("the name holds a zero byte"))?;
        // SAFETY: the client and the name are alive; null settings are the client's own.
        let topic = unsafe { sys::rd_kafka_topic_new(self.rk(), c_name.as_ptr(), std::ptr::null_mut()) };
        let topic = NonNull::new(topic).ok_or_else(|| cannot("is no name for a topic"))?;
        self.topics.push((name.clone(), Topic(topic)));
        Ok(topic.as_ptr())
    }

    /// Hands one record to librdkafka, which copies it.
    fn produce(&self, topic: *mut sys::rd_kafka_topic_t, record: &Outgoing<'_>) -> Result<(), RDKafkaErrorCode> {
        let mem = |part: Option<&[u8]>| {
            let ptr = part.map_or(std::ptr::null_mut(), |part| part.as_ptr().cast_mut().cast::<c_void>());
            sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size: part.map_or(0, <[u8]>::len) }
        };
        type Value = sys::rd_kafka_vu_s__bindgen_ty_1;
        let arg = |vtype, u| sys::rd_kafka_vu_t { vtype, u };
        // librdkafka takes 0 for "now"; a millisecond after the epoch is nearer to the truth.
        let timestamp = record.timestamp_ms.map_or(0, |ms| if ms == 0 { 1 } else { ms });
        let headers = Headers::new(record.headers);
        let args = [
            arg(vtype::RD_KAFKA_VTYPE_RKT, Value { rkt: topic }),
            arg(vtype::RD_KAFKA_VTYPE_PARTITION, Value { i32_: record.partition.unwrap_or(UNASSIGNED) }),
            arg(vtype::RD_KAFKA_VTYPE_MSGFLAGS, Value { i: sys::RD_KAFKA_MSG_F_COPY }),
            arg(vtype::RD_KAFKA_VTYPE_KEY, Value { mem: mem(record.key) }),
            arg(vtype::RD_KAFKA_VTYPE_VALUE, Value { mem: mem(record.value) }),
            arg(vtype::RD_KAFKA_VTYPE_TIMESTAMP, Value { i64_: timestamp }),
            // A failed record's report has no timestamp, but it has this: never followed as a pointer.
            arg(vtype::RD_KAFKA_VTYPE_OPAQUE, Value { ptr: std::ptr::without_provenance_mut(timestamp as usize) }),
            arg(vtype::RD_KAFKA_VTYPE_HEADERS, Value { headers: headers.0 }),
        ];
        // Without headers the last argument is left out.
        let count = args.len() - usize::from(headers.0.is_null());
        // SAFETY: client, topic, key, value and headers are alive during the call. On success the headers are
        // librdkafka's, otherwise they stay ours.
        unsafe {
            let error = sys::rd_kafka_produceva(self.rk(), args.as_ptr(), count);
            if error.is_null() {
                std::mem::forget(headers);
                return Ok(());
            }
            let code = sys::rd_kafka_error_code(error);
            sys::rd_kafka_error_destroy(error);
            Err(code.into())
        }
    }

    /// Serves librdkafka's callbacks, waiting up to `timeout` for one.
    fn serve_for(&mut self, timeout: Duration) {
        // SAFETY: the client is alive; the callbacks only write to its inbox.
        unsafe { sys::rd_kafka_poll(self.rk(), timeout.as_millis() as i32) };
        self.take_reports();
    }

    fn take_reports(&mut self) {
        for happened in self.client.context().take() {
            match happened {
                Happened::Undelivered(record) => {
                    self.failed += 1;
                    if record.code == RDKafkaErrorCode::MessageSizeTooLarge && !self.alone && !self.transactional {
                        self.suspects.push_back(record);
                    } else {
                        self.refused.push(refused(record));
                    }
                }
                // librdkafka repeats this one at every attempt to connect; health shows it as long as it lasts.
                Happened::Error(RDKafkaErrorCode::AllBrokersDown, words) => tracing::debug!("producing: {words}"),
                Happened::Error(code, words) => tracing::warn!("producing: {words} ({code:?})"),
                _ => {}
            }
        }
    }

    fn check_fatal(&self) -> Result {
        let Some(error) = client::fatal(&self.client, "producing") else { return Ok(()) };
        Err(match error.kind() {
            Kind::BrokerFatal => error,
            // Whatever broke the sequence: the records since the last commit have to be produced anew, by a new producer.
            _ => Error::new(Kind::Migrated, "the producer lost its place").source(error),
        })
    }

    fn in_flight(&self) -> u64 {
        // SAFETY: the client is alive.
        unsafe { sys::rd_kafka_outq_len(self.rk()) }.max(0) as u64
    }
}

impl Producer for KafkaProducer {
    fn send(&mut self, record: Outgoing<'_>) -> Result {
        let topic = self.topic(record.topic)?;
        let mut waiting_since = None;
        loop {
            let code = match self.produce(topic, &record) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(());
                }
                Err(code) => code,
            };
            if code != RDKafkaErrorCode::QueueFull {
                self.check_fatal()?;
                self.refused.push(Refused {
                    topic: record.topic.clone(),
                    partition: record.partition,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    headers: record.headers.clone(),
                    timestamp_ms: record.timestamp_ms,
                    by_broker: false,
                    error: at(code::error(code, "producing"), record.topic, record.partition.unwrap_or(UNASSIGNED)),
                });
                return Ok(());
            }
            if waiting_since.get_or_insert_with(Instant::now).elapsed() > MAX_BLOCK {
                let error = Error::new(Kind::Broker, "the producer's queue is full and stays so");
                return Err(error.topic(&**record.topic).hint("check that the brokers run and accept records"));
            }
            self.check_fatal()?;
            self.serve_for(Duration::from_millis(1));
        }
    }

    fn serve(&mut self) {
        self.serve_for(Duration::ZERO);
    }

    fn flush(&mut self, timeout: Duration) -> Result {
        let deadline = Instant::now() + timeout;
        self.flush_until(deadline, timeout)?;
        while let Some(suspect) = self.suspects.pop_front() {
            if let Err(error) = self.send_again(&suspect) {
                self.suspects.push_front(suspect);
                return Err(error);
            }
            self.alone = true;
            let flushed = self.flush_until(deadline, timeout);
            self.alone = false;
            flushed?;
        }
        Ok(())
    }

    fn refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refused)
    }

    fn acknowledged(&self) -> u64 {
        self.sent.saturating_sub(self.failed + self.in_flight())
    }

    fn init_transactions(&mut self) -> Result {
        // SAFETY: the client is alive; of this and the calls below the caller promises that it has a transactional id, and
        // librdkafka answers with an error where it has not.
        unsafe { transactions::init(self.rk()) }
    }

    fn begin_transaction(&mut self) -> Result {
        // SAFETY: as above.
        unsafe { transactions::begin(self.rk()) }
    }

    fn send_offsets(&mut self, offsets: &[(TopicPartition, Committed)], group: &dyn Any) -> Result {
        // SAFETY: as above.
        unsafe { transactions::send_offsets(self.rk(), offsets, group) }
    }

    fn commit_transaction(&mut self) -> Result {
        // SAFETY: as above.
        let committed = unsafe { transactions::commit(self.rk()) };
        self.take_reports();
        committed
    }

    fn abort_transaction(&mut self) -> Result {
        // SAFETY: as above.
        let aborted = unsafe { transactions::abort(self.rk()) };
        // Reports of what was dropped: nobody's fault.
        self.serve();
        self.refused.clear();
        self.suspects.clear();
        aborted
    }
}

impl KafkaProducer {
    fn send_again(&mut self, record: &Undelivered) -> Result {
        self.send(Outgoing {
            topic: &Arc::from(&*record.topic),
            partition: (record.partition >= 0).then_some(record.partition),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            timestamp_ms: (record.timestamp_ms != 0).then_some(record.timestamp_ms),
            headers: &record.headers,
        })
    }

    /// Waits until nothing is on its way.
    fn flush_until(&mut self, deadline: Instant, timeout: Duration) -> Result {
        let mut looks = 0;
        while self.in_flight() > 0 {
            // A millisecond at a time: with only failures reported, nothing wakes the wait when the last record is acknowledged.
            // `rd_kafka_flush` makes the client send without lingering, and wakes every one of its threads: once in a while is
            // enough, in between the wait alone.
            // SAFETY: the client is alive; the callbacks only write to its inbox.
            unsafe {
                match looks % 16 {
                    0 => _ = sys::rd_kafka_flush(self.rk(), 1),
                    _ => _ = sys::rd_kafka_poll(self.rk(), 1),
                }
            }
            looks += 1;
            self.take_reports();
            self.check_fatal()?;
            if Instant::now() >= deadline {
                let what = format!("{} records are not acknowledged after {timeout:?}", self.in_flight());
                return Err(Error::new(Kind::Broker, what).hint("check that the brokers run and accept records"));
            }
        }
        self.take_reports();
        self.check_fatal()
    }
}

impl Drop for KafkaProducer {
    fn drop(&mut self) {
        // Who wanted these records has flushed; otherwise the end of the client would wait for them.
        // SAFETY: the client is alive.
        unsafe { sys::rd_kafka_purge(self.rk(), sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT) };
    }
}

/// Headers on their way to librdkafka; null where there are none.
struct Headers(*mut sys::rd_kafka_headers_t);

impl Headers {
    fn new(headers: &crate::record::Headers) -> Self {
        if headers.is_empty() {
            return Self(std::ptr::null_mut());
        }
        // SAFETY: the list is new and ours; names and values are copied.
        unsafe {
            let list = sys::rd_kafka_headers_new(headers.len());
            for header in headers.iter() {
                let (value, len) = match &header.value {
                    Some(value) => (value.as_ptr().cast::<c_void>(), value.len() as isize),
                    None => (std::ptr::null(), 0),
                };
                sys::rd_kafka_header_add(list, header.name.as_ptr().cast(), header.name.len() as isize, value, len);
            }
            Self(list)
        }
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the list is ours unless librdkafka took it, and then this is forgotten.
            unsafe { sys::rd_kafka_headers_destroy(self.0) }
        }
    }
}

fn refused(record: Undelivered) -> Refused {
    let topic: Arc<str> = record.topic.into();
    Refused {
        error: at(code::error(record.code, "producing"), &topic, record.partition),
        topic,
        partition: (record.partition >= 0).then_some(record.partition),
        key: record.key,
        value: record.value,
        headers: record.headers,
        timestamp_ms: (record.timestamp_ms != 0).then_some(record.timestamp_ms),
        by_broker: true,
    }
}

fn at(error: Error, topic: &str, partition: i32) -> Error {
    let error = error.topic(topic);
    if partition >= 0 { error.partition(partition) } else { error }
}
