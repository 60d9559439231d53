//! What is committed together with an offset: byte-equal to Kafka Streams, so that either can go on where the other stopped.
//!
//! Base64 of: version (2), the partition's time (i64), and where a task sends windows on when they close, for each such
//! store how far that has come: a count (i32), then name (i32 length, UTF-8) and time (i64). Numbers are big endian.
//! Source: `TopicPartitionMetadata`, `ProcessorMetadata`.

use crate::record::Timestamp;
use std::collections::BTreeMap;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The metadata of an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// The largest timestamp of the partition; -1 where it is unknown.
    pub(crate) time_ms: Timestamp,
    /// By store: up to which time its closed windows have been sent on.
    pub(crate) closed_ms: BTreeMap<String, Timestamp>,
}

impl Metadata {
    /// Of a partition of which nothing is known.
    pub(crate) fn unknown() -> Self {
        Self { time_ms: -1, closed_ms: BTreeMap::new() }
    }

    /// As text.
    pub(crate) fn encode(&self) -> String {
        let mut bytes = vec![2];
        bytes.extend_from_slice(&self.time_ms.to_be_bytes());
        if !self.closed_ms.is_empty() {
            bytes.extend_from_slice(&(self.closed_ms.len() as i32).to_be_bytes());
            for (store, closed_ms) in &self.closed_ms {
                bytes.extend_from_slice(&(store.len() as i32).to_be_bytes());
                bytes.extend_from_slice(store.as_bytes());
                bytes.extend_from_slice(&closed_ms.to_be_bytes());
            }
        }
        to_base64(&bytes)
    }

    /// Out of that text. What is something else, or breaks off, is unknown. Versions 1 and 2 are read.
    pub(crate) fn decode(text: &str) -> Self {
        let bytes = from_base64(text);
        let Some((1 | 2, rest)) = bytes.split_first() else { return Self::unknown() };
        let mut rest = rest;
        let Some(time_ms) = number(&mut rest) else { return Self::unknown() };
        Self { time_ms, closed_ms: closed(rest).unwrap_or_default() }
    }
}

fn closed(mut rest: &[u8]) -> Option<BTreeMap<String, Timestamp>> {
    let count = i32::from_be_bytes(take(&mut rest)?);
    let mut closed_ms = BTreeMap::new();
    for _ in 0..count {
        let len = usize::try_from(i32::from_be_bytes(take(&mut rest)?)).ok()?;
        let (store, after) = rest.split_at_checked(len)?;
        rest = after;
        closed_ms.insert(String::from_utf8(store.to_vec()).ok()?, number(&mut rest)?);
    }
    Some(closed_ms)
}

fn number(rest: &mut &[u8]) -> Option<i64> {
    take(rest).map(i64::from_be_bytes)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*chunk)
}

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |i: usize| usize::from(three.get(i).copied().unwrap_or_default());
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (i, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            text.push(if i <= three.len() { char::from(BASE64[word >> shift & 63]) } else { '=' });
        }
    }
    text
}

/// The bytes up to the first character that is no digit.
fn from_base64(text: &str) -> Vec<u8> {
    let digits: Vec<usize> = text.bytes().map_while(|c| BASE64.iter().position(|b| *b == c)).collect();
    let bytes = |four: &[usize]| {
        let word = (0..4).fold(0, |word, i| word << 6 | four.get(i).copied().unwrap_or_default());
        [(word >> 16) as u8, (word >> 8) as u8, word as u8].into_iter().take(four.len() * 6 / 8)
    };
    digits.chunks(4).flat_map(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(time_ms: Timestamp, closed_ms: &[(&str, Timestamp)]) -> Metadata {
        Metadata { time_ms, closed_ms: closed_ms.iter().map(|(store, ms)| (store.to_string(), *ms)).collect() }
    }

    #[test]
    fn metadata_is_what_kafka_streams_writes() {
        let seen = [
            ("AgAAAYvP5WgA", metadata(1_700_000_000_000, &[])),
            ("AgAAAYvP5XhoAAAAAQAAAAN3aW4AAAGLz+VoyA==", metadata(1_700_000_004_200, &[("win", 1_700_000_000_200)])),
        ];
        for (text, metadata) in seen {
            assert_eq!(metadata.encode(), text);
            assert_eq!(Metadata::decode(text), metadata);
        }
        let two = metadata(5, &[("a", 1), ("longer-name", i64::MAX)]);
        assert_eq!(Metadata::decode(&two.encode()), two);
    }

    #[test]
    fn what_others_wrote_or_what_breaks_off_is_unknown() {
        for text in ["", "not base64!!", "AAAAAYvP5WgA", "AgAA"] {
            assert_eq!(Metadata::decode(text), Metadata::unknown(), "{text}");
        }
        assert_eq!(Metadata::decode("Av//////////AAAAAQAA"), Metadata::unknown());
        assert_eq!(Metadata::decode("AQAAAYvP5WgA").time_ms, 1_700_000_000_000);
    }
}
