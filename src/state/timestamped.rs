//! Rows of timestamped key-value stores: the timestamp (i64, big endian), then the value. Source: Kafka Streams'
//! `ValueAndTimestampSerializer`.

use crate::record::Timestamp;

/// The timestamp of a row in a store that keeps none.
pub const UNKNOWN_MS: Timestamp = -1;

/// Writes a row into `out`, which is cleared first.
pub fn encode(value: &[u8], timestamp_ms: Timestamp, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&timestamp_ms.to_be_bytes());
    out.extend_from_slice(value);
}

/// The value of a row.
#[inline]
pub fn value(row: &[u8]) -> &[u8] {
    row.get(8..).unwrap_or_default()
}

/// The timestamp of a row; -1 where the row is too short to have one.
pub fn timestamp_ms(row: &[u8]) -> Timestamp {
    row.first_chunk().map_or(-1, |bytes| Timestamp::from_be_bytes(*bytes))
}
