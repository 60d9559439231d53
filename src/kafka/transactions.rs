//! librdkafka's transactions: its calls, and what their errors ask for.

use super::client::{self, REQUEST_TIMEOUT};
use super::code;
use super::consumer::GroupMetadata;
use super::partitions::List;
use crate::broker::{Committed, TopicPartition};
use crate::error::{Error, Kind, Result};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;
use std::any::Any;

// SAFETY of all that is unsafe here: `rk` must be a live producer that has a transactional id.

fn timeout_ms() -> i32 {
    REQUEST_TIMEOUT.as_millis() as i32
}

pub(super) unsafe fn init(rk: *mut sys::rd_kafka_t) -> Result {
    // SAFETY: see above.
    unsafe { check(sys::rd_kafka_init_transactions(rk, timeout_ms()), "taking the transactional id") }
}

pub(super) unsafe fn begin(rk: *mut sys::rd_kafka_t) -> Result {
    // SAFETY: see above.
    unsafe { check(sys::rd_kafka_begin_transaction(rk), "beginning a transaction") }
}

pub(super) unsafe fn send_offsets(
    rk: *mut sys::rd_kafka_t,
    offsets: &[(TopicPartition, Committed)],
    group: &dyn Any,
) -> Result {
    let group = group.downcast_ref::<GroupMetadata>();
    let group = group.ok_or_else(|| Error::new(Kind::Internal, "the metadata of another broker's group"))?;
    let mut list = List::new(offsets.iter().map(|(p, committed)| (p, committed.offset)));
    list.set_metadata(offsets.iter().map(|(_, committed)| &*committed.metadata));
    // SAFETY: see above; the list and the group's metadata are alive during the call.
    unsafe {
        let error = sys::rd_kafka_send_offsets_to_transaction(rk, list.ptr(), group.ptr(), timeout_ms());
        check(error, "adding offsets to the transaction")
    }
}

pub(super) unsafe fn commit(rk: *mut sys::rd_kafka_t) -> Result {
    // SAFETY: see above.
    unsafe { check(sys::rd_kafka_commit_transaction(rk, timeout_ms()), "committing the transaction") }
}

pub(super) unsafe fn abort(rk: *mut sys::rd_kafka_t) -> Result {
    // SAFETY: see above.
    unsafe { check(sys::rd_kafka_abort_transaction(rk, timeout_ms()), "aborting the transaction") }
}

/// What an error asks for: a new producer, an abort, or the same call again.
unsafe fn check(error: *mut sys::rd_kafka_error_t, doing: &str) -> Result {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the error is ours; its text is copied before it is destroyed.
    let (code, words, fatal, abort, again) = unsafe {
        let found = (
            RDKafkaErrorCode::from(sys::rd_kafka_error_code(error)),
            client::text(sys::rd_kafka_error_string(error)),
            sys::rd_kafka_error_is_fatal(error) != 0,
            sys::rd_kafka_error_txn_requires_abort(error) != 0,
            sys::rd_kafka_error_is_retriable(error) != 0,
        );
        sys::rd_kafka_error_destroy(error);
        found
    };
    let known = code::error(code, doing);
    let kind = match known.kind() {
        // No second attempt changes these.
        kind @ Kind::BrokerFatal => kind,
        _ if fatal => Kind::Migrated,
        _ if abort => Kind::Aborted,
        _ if again => Kind::Broker,
        kind => kind,
    };
    if kind == known.kind() {
        return Err(known.source(words));
    }
    Err(Error::new(kind, format!("{doing}: {words} ({code:?})")))
}
