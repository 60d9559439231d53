//! What consumers and producers share: a librdkafka client whose callbacks only put values into an inbox.
//!
//! The callbacks run on the thread that polls, inside librdkafka's poll; the owner takes the values out after the poll
//! has returned. So nothing of ours ever runs in the middle of librdkafka.

use super::code;
use crate::error::{Error, Result};
use crate::record::Headers;
use rdkafka::ClientConfig;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaType};
use rdkafka_sys as sys;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a request to the broker may take before it counts as passing trouble.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Something that librdkafka called back about.
#[derive(Debug)]
pub(super) enum Happened {
    /// The group gave these partitions.
    Assigned(Vec<(String, i32)>),
    /// The group wants these partitions back, or (`lost`) has given them away already.
    Revoked { partitions: Vec<(String, i32)>, lost: bool },
    /// A trouble of the client as a whole.
    Error(RDKafkaErrorCode, String),
    /// A record that was not delivered.
    Undelivered(Undelivered),
}

/// A copy of an undelivered record.
#[derive(Debug)]
pub(super) struct Undelivered {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Headers,
    /// What the producer left in the record's opaque pointer; 0 for none.
    pub(super) timestamp_ms: i64,
    pub(super) code: RDKafkaErrorCode,
}

/// The callbacks' side of a client.
#[derive(Default)]
pub(super) struct Inbox {
    happened: Mutex<Vec<Happened>>,
    /// Set when the client closes: rebalances are then agreed to at once, as nobody is left to do it.
    closing: AtomicBool,
}

impl ClientContext for Inbox {}

impl Inbox {
    pub(super) fn put(&self, happened: Happened) {
        self.happened.lock().unwrap_or_else(PoisonError::into_inner).push(happened);
    }

    pub(super) fn take(&self) -> Vec<Happened> {
        std::mem::take(&mut *self.happened.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_closing(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }
}

/// Makes a client with all callbacks.
pub(super) fn create(config: &ClientConfig, kind: RDKafkaType) -> Result<Client<Inbox>> {
    let doing = "creating a Kafka client";
    let native = config.create_native_config().map_err(|e| code::from_rdkafka(e, doing))?;
    // SAFETY: the settings are alive and not yet given to a client; the functions have the signatures asked for.
    unsafe {
        sys::rd_kafka_conf_set_log_cb(native.ptr(), Some(on_log));
        sys::rd_kafka_conf_set_error_cb(native.ptr(), Some(on_error));
        match kind {
            RDKafkaType::RD_KAFKA_CONSUMER => sys::rd_kafka_conf_set_rebalance_cb(native.ptr(), Some(on_rebalance)),
            RDKafkaType::RD_KAFKA_PRODUCER => sys::rd_kafka_conf_set_dr_msg_cb(native.ptr(), Some(on_delivery)),
        }
    }
    Client::new(config, native, kind, Inbox::default()).map_err(|e| code::from_rdkafka(e, doing))
}

/// The fatal error that ended the client, if one did.
pub(super) fn fatal(client: &Client<Inbox>, doing: &str) -> Option<Error> {
    let (code, reason) = client.fatal_error()?;
    Some(code::error(code, doing).source(reason))
}

/// The inbox behind a callback's opaque pointer.
///
/// # Safety
/// `opaque` must come from a client of [`create`]: rdkafka's `Client` sets it to the `Inbox` that it owns and that
/// outlives every callback.
unsafe fn inbox<'a>(opaque: *mut c_void) -> &'a Inbox {
    // SAFETY: as above.
    unsafe { &*opaque.cast::<Inbox>() }
}

/// # Safety
/// `text` must be null or a string that ends with a zero byte.
pub(super) unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The bytes at `data`, `None` where it is null.
///
/// # Safety
/// `data` must be null or have `len` bytes that live for `'a`.
pub(super) unsafe fn bytes<'a>(data: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: as above.
    (!data.is_null()).then(|| unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) })
}

/// A message's headers.
///
/// # Safety
/// `message` must be alive.
pub(super) unsafe fn headers(message: *const sys::rd_kafka_message_t) -> Headers {
    let mut headers = Headers::default();
    let mut native = std::ptr::null_mut();
    // SAFETY: the message is alive; its headers, names and values live as long, and are copied here.
    unsafe {
        if sys::rd_kafka_message_headers(message, &mut native) != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return headers;
        }
        let (mut name, mut value, mut len) = (std::ptr::null(), std::ptr::null(), 0);
        while sys::rd_kafka_header_get_all(native, headers.len(), &mut name, &mut value, &mut len)
            == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            headers.add(text(name), bytes(value, len));
        }
    }
    headers
}

unsafe extern "C" fn on_log(_: *const sys::rd_kafka_t, level: c_int, facility: *const c_char, line: *const c_char) {
    // SAFETY: librdkafka passes two strings.
    let (facility, line) = unsafe { (text(facility), text(line)) };
    match level {
        // A connection that fails is an error to librdkafka, though it tries again; ours to judge is the health page.
        ..=4 => tracing::warn!(target: "librdkafka", "{facility}: {line}"),
        5..=6 => tracing::info!(target: "librdkafka", "{facility}: {line}"),
        _ => tracing::debug!(target: "librdkafka", "{facility}: {line}"),
    }
}

unsafe extern "C" fn on_error(rk: *mut sys::rd_kafka_t, error: c_int, reason: *const c_char, opaque: *mut c_void) {
    // SAFETY: see `inbox`; the reason is a string, and `rk` the client that calls.
    unsafe {
        let inbox = inbox(opaque);
        inbox.put(Happened::Error(code::code(error), text(reason)));
        // librdkafka's close waits on the queue that this would wake: it would take that for the end, and the client's
        // destruction would then wait for the end of that close for ever.
        if !inbox.is_closing() {
            wake(rk);
        }
    }
}

unsafe extern "C" fn on_rebalance(
    rk: *mut sys::rd_kafka_t,
    error: sys::rd_kafka_resp_err_t,
    partitions: *mut sys::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    // SAFETY: see `inbox`; `rk` is the client that calls, and the list is alive during the call.
    unsafe {
        let inbox = inbox(opaque);
        if inbox.is_closing() {
            let failed = if is_eager(rk) {
                sys::rd_kafka_assign(rk, std::ptr::null());
                std::ptr::null_mut()
            } else if error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
                sys::rd_kafka_incremental_assign(rk, partitions)
            } else {
                sys::rd_kafka_incremental_unassign(rk, partitions)
            };
            if !failed.is_null() {
                sys::rd_kafka_error_destroy(failed);
            }
            return;
        }
        let list = match partitions.as_ref() {
            Some(list) if list.cnt > 0 => std::slice::from_raw_parts(list.elems, list.cnt as usize),
            _ => &[],
        };
        let partitions = list.iter().map(|tp| (text(tp.topic), tp.partition)).collect();
        inbox.put(match error {
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Happened::Assigned(partitions),
            _ => Happened::Revoked { partitions, lost: sys::rd_kafka_assignment_lost(rk) != 0 },
        });
        wake(rk);
    }
}

unsafe extern "C" fn on_delivery(
    _: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    opaque: *mut c_void,
) {
    // SAFETY: see `inbox`; the message is alive during the call, and everything of it is copied.
    unsafe {
        let code = message_code(message);
        let Some(m) = message.as_ref().filter(|_| code != RDKafkaErrorCode::NoError) else { return };
        inbox(opaque).put(Happened::Undelivered(Undelivered {
            topic: text(sys::rd_kafka_topic_name(m.rkt)),
            partition: m.partition,
            key: bytes(m.key, m.key_len).map(<[u8]>::to_vec),
            value: bytes(m.payload, m.len).map(<[u8]>::to_vec),
            headers: headers(message),
            timestamp_ms: m._private.addr() as i64,
            code,
        }));
    }
}

/// Whether the group's protocol replaces whole assignments.
///
/// # Safety
/// `rk` must be alive.
pub(super) unsafe fn is_eager(rk: *mut sys::rd_kafka_t) -> bool {
    // SAFETY: as above; the name is a constant.
    unsafe { text(sys::rd_kafka_rebalance_protocol(rk)) == "EAGER" }
}

/// A message's error code.
///
/// # Safety
/// `message` must be alive.
pub(super) unsafe fn message_code(message: *const sys::rd_kafka_message_t) -> RDKafkaErrorCode {
    // SAFETY: the message is alive. The field is read as the number that it is in C: as an enum it would be undefined
    // behaviour for a code that this version doesn't know.
    code::code(unsafe { std::ptr::addr_of!((*message).err).cast::<i32>().read() })
}

/// Lets a consumer's poll return now, although no record came. Does nothing for a producer.
///
/// # Safety
/// `rk` must be alive.
unsafe fn wake(rk: *mut sys::rd_kafka_t) {
    // SAFETY: the queue is a counted reference, which is given back.
    unsafe {
        let queue = sys::rd_kafka_queue_get_consumer(rk);
        if !queue.is_null() {
            sys::rd_kafka_queue_yield(queue);
            sys::rd_kafka_queue_destroy(queue);
        }
    }
}
