//! The ends of logs as brokers know them, with everything that is in open transactions.

use super::client::{self, REQUEST_TIMEOUT};
use super::code;
use super::consumer::{END, Queue, check};
use super::partitions::List;
use crate::broker::TopicPartition;
use crate::error::{Error, Kind, Result};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;
use std::ptr::NonNull;

const DOING: &str = "asking for the ends of logs";

/// Asks for the ends of these logs, and gives them in the order asked for.
///
/// # Safety
/// `rk` must be alive.
pub(super) unsafe fn log_ends(rk: *mut sys::rd_kafka_t, partitions: &[TopicPartition]) -> Result<Vec<i64>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let list = List::new(partitions.iter().map(|p| (p, END)));
    // SAFETY: the client and the list are alive during the call, which copies what it needs; the answer comes to a queue of
    // its own and is alive until its event is destroyed. Without options all records count, committed or not.
    unsafe {
        let Some(queue) = NonNull::new(sys::rd_kafka_queue_new(rk)).map(Queue) else {
            return Err(Error::new(Kind::Internal, "no queue for an answer"));
        };
        sys::rd_kafka_ListOffsets(rk, list.ptr(), std::ptr::null(), queue.0.as_ptr());
        let event = sys::rd_kafka_queue_poll(queue.0.as_ptr(), REQUEST_TIMEOUT.as_millis() as i32);
        if event.is_null() {
            return Err(code::error(RDKafkaErrorCode::OperationTimedOut, DOING));
        }
        let ends = answered(event, partitions);
        sys::rd_kafka_event_destroy(event);
        ends
    }
}

/// The offsets that the request was answered with.
///
/// # Safety
/// The event must be alive.
unsafe fn answered(event: *mut sys::rd_kafka_event_t, partitions: &[TopicPartition]) -> Result<Vec<i64>> {
    // SAFETY: the event is alive, and with it the result and its list; topics' names are strings.
    unsafe {
        check(sys::rd_kafka_event_error(event), DOING)?;
        let result = sys::rd_kafka_event_ListOffsets_result(event);
        let mut count = 0;
        let infos = match result.is_null() {
            true => return Err(Error::new(Kind::Internal, "an answer of another kind")),
            false => sys::rd_kafka_ListOffsets_result_infos(result, &mut count),
        };
        let mut ends = vec![None; partitions.len()];
        for i in 0..count {
            let tp = &*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(i));
            let topic = client::text(tp.topic);
            check(tp.err, DOING).map_err(|error| error.topic(&*topic).partition(tp.partition))?;
            if let Some(i) = partitions.iter().position(|p| *p.topic == *topic && p.partition == tp.partition) {
                ends[i] = Some(tp.offset);
            }
        }
        let missing = || Error::new(Kind::Broker, "the broker did not tell the end of every log");
        ends.into_iter().map(|end| end.ok_or_else(missing)).collect()
    }
}
