//! What a buffer holds back of one key, and its bytes in the buffer's changelog.
//!
//! Source: Kafka Streams' `BufferValue` and `ProcessorRecordContext`, format version 3.

use crate::broker::TopicPartition;
use crate::error::{Error, Kind, Result};
use crate::record::{Headers, Timestamp};
use std::rc::Rc;

/// A value's bytes, shared where two of them are the same.
pub(crate) type Bytes = Rc<[u8]>;

/// Length of a null.
const NULL: i32 = -1;
/// Length of an old value that is the prior one.
const SAME_AS_PRIOR: i32 = -2;

/// Key and value of a record as it was consumed: for its dead letter, long after the record is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceBytes {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
}

/// The last change of a key, and the record that caused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BufferValue {
    pub(crate) origin: BufferOrigin,
    /// What everybody below saw last, before the key's first change was held back.
    pub(crate) prior: Option<Bytes>,
    /// The value before the last change.
    pub(crate) old: Option<Bytes>,
    /// The value now; `None` is a delete.
    pub(crate) new: Option<Bytes>,
}

/// A record without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BufferOrigin {
    pub(crate) timestamp_ms: Timestamp,
    pub(crate) partition: Rc<TopicPartition>,
    pub(crate) offset: i64,
    pub(crate) headers: Headers,
    /// Only kept where there are dead letters, and not logged.
    pub(crate) source: Option<Rc<SourceBytes>>,
}

impl BufferValue {
    /// A value; an `old` that equals `prior` is kept once.
    pub(crate) fn new(origin: BufferOrigin, prior: Option<Bytes>, old: Option<Bytes>, new: Option<Bytes>) -> Self {
        let old = if old == prior { prior.clone() } else { old };
        Self { origin, prior, old, new }
    }

    /// Appends the value's bytes and the time by which it is kept in order.
    pub(crate) fn encode(&self, time_ms: Timestamp, out: &mut Vec<u8>) {
        let BufferOrigin { timestamp_ms, partition, offset, headers, .. } = &self.origin;
        out.extend_from_slice(&timestamp_ms.to_be_bytes());
        out.extend_from_slice(&offset.to_be_bytes());
        put_sized(Some(partition.topic.as_bytes()), out);
        out.extend_from_slice(&partition.partition.to_be_bytes());
        put_headers(headers, out);
        put_sized(self.prior.as_deref(), out);
        match &self.old {
            Some(_) if self.old == self.prior => out.extend_from_slice(&SAME_AS_PRIOR.to_be_bytes()),
            old => put_sized(old.as_deref(), out),
        }
        put_sized(self.new.as_deref(), out);
        out.extend_from_slice(&time_ms.to_be_bytes());
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`Kind::State`]: these are no such bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, Timestamp)> {
        let mut rest = bytes;
        read(&mut rest).filter(|_| rest.is_empty()).ok_or_else(|| {
            Error::new(Kind::State, format!("a row of {} bytes is not of a buffer's format", bytes.len()))
                .hint("the changelog is another store's, or older than Kafka Streams 2.4: reset the application")
        })
    }

    /// The bytes that Kafka Streams counts for it.
    pub(crate) fn counted_bytes(&self) -> u64 {
        let len = |value: &Option<Bytes>| value.as_ref().map_or(0, |bytes| bytes.len());
        let old = if self.old == self.prior { 0 } else { len(&self.old) };
        // Names count as Java has them: in UTF-16.
        let chars = |text: &str| text.encode_utf16().count();
        let BufferOrigin { partition, headers, .. } = &self.origin;
        let headers = headers.iter().map(|h| chars(&h.name) + h.value.as_ref().map_or(0, Vec::len));
        let context = 8 + 8 + 4 + chars(&partition.topic) + headers.sum::<usize>();
        (len(&self.prior) + old + len(&self.new) + context) as u64
    }
}

fn put_sized(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        None => out.extend_from_slice(&NULL.to_be_bytes()),
        Some(bytes) => {
            out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

/// Appends headers: how many, then each with its name and value.
pub(super) fn put_headers(headers: &Headers, out: &mut Vec<u8>) {
    out.extend_from_slice(&(headers.len() as i32).to_be_bytes());
    for header in headers.iter() {
        put_sized(Some(header.name.as_bytes()), out);
        put_sized(header.value.as_deref(), out);
    }
}

/// Takes headers off the front of `rest`.
pub(super) fn take_headers(rest: &mut &[u8]) -> Option<Headers> {
    let mut headers = Headers::default();
    // -1: written before records had headers.
    for _ in 0..i32::from_be_bytes(take(rest)?) {
        let name = take_text(rest)?;
        headers.add(name, take_sized(rest)?);
    }
    Some(headers)
}

fn read(rest: &mut &[u8]) -> Option<(BufferValue, Timestamp)> {
    let (timestamp_ms, offset) = (i64::from_be_bytes(take(rest)?), i64::from_be_bytes(take(rest)?));
    let topic = take_text(rest)?;
    let partition = Rc::new(TopicPartition::new(topic, i32::from_be_bytes(take(rest)?)));
    let headers = take_headers(rest)?;
    let prior: Option<Bytes> = take_sized(rest)?.map(Bytes::from);
    let old = match i32::from_be_bytes(take(rest)?) {
        SAME_AS_PRIOR => prior.clone(),
        NULL => None,
        len => Some(Bytes::from(take_bytes(rest, len)?)),
    };
    let new = take_sized(rest)?.map(Bytes::from);
    let origin = BufferOrigin { timestamp_ms, partition, offset, headers, source: None };
    Some((BufferValue { origin, prior, old, new }, i64::from_be_bytes(take(rest)?)))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*first)
}

fn take_bytes<'a>(rest: &mut &'a [u8], len: i32) -> Option<&'a [u8]> {
    let (first, behind) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = behind;
    Some(first)
}

/// The outer `None`: no such bytes; the inner one: null.
fn take_sized<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match i32::from_be_bytes(take(rest)?) {
        NULL => Some(None),
        len => take_bytes(rest, len).map(Some),
    }
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_sized(rest)??).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        hex.chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("hex"))
            .collect()
    }

    /// What Kafka Streams 4.3 wrote for the first record of a window `[20, 30)` that is counted.
    const JAVA: &str = "0000000000000019 0000000000000000 00000002 696e 00000000 00000001 00000002 686b 00000002 6876
        00000008 0000000000000000 fffffffe 00000008 0000000000000001 000000000000001e";

    #[test]
    fn bytes_are_those_of_kafka_streams() {
        let (value, time_ms) = BufferValue::decode(&bytes(JAVA)).expect("decodes");
        assert_eq!((time_ms, value.origin.timestamp_ms, &*value.origin.partition.topic), (30, 25, "in"));
        assert_eq!(value.origin.headers.last("hk"), Some(&b"hv"[..]));
        assert_eq!(
            (value.old.as_deref(), value.new.as_deref()),
            (Some(&[0u8; 8][..]), Some(&[0, 0, 0, 0, 0, 0, 0, 1][..]))
        );
        let mut out = Vec::new();
        value.encode(time_ms, &mut out);
        assert_eq!(out, bytes(JAVA));
        assert_eq!(value.counted_bytes(), 8 + 8 + 20 + 2 + 4);
    }

    #[test]
    fn nulls_and_different_values_come_back() {
        let partition = Rc::new(TopicPartition::new("", -1));
        let mut headers = Headers::default();
        headers.add("n", None);
        let origin = BufferOrigin { timestamp_ms: 5, partition, offset: -1, headers, source: None };
        for (prior, old, new) in [(None, None, None), (None, Some("a"), Some("")), (Some("x"), None, None)] {
            let part = |text: Option<&str>| text.map(|text| Bytes::from(text.as_bytes()));
            let value = BufferValue::new(origin.clone(), part(prior), part(old), part(new));
            let mut out = Vec::new();
            value.encode(7, &mut out);
            assert_eq!(BufferValue::decode(&out).expect("decodes"), (value, 7));
            assert!(BufferValue::decode(&out[..out.len() - 1]).is_err());
        }
    }
}
