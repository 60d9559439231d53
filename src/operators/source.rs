//! Source: bytes to a typed record; what does not decode meets the deserialization policy.

use super::cx::Stage;
use super::{Cx, Port};
use crate::broker::RawRecord;
use crate::error::Result;
use crate::record::{Record, Timestamp};
use crate::serdes::{SerdeError, SerdeRef};
use crate::topology::Source;

/// Gives each record its timestamp: from the record as consumed, and the largest timestamp of its partition so far
/// (-1 before the first). A negative result drops the record.
///
/// Source: Kafka Streams' `TimestampExtractor`; without one the record's own timestamp is used, and a negative one drops
/// the record.
pub type TimestampExtractor = std::sync::Arc<dyn Fn(&RawRecord, Timestamp) -> Timestamp + Send + Sync>;

/// Decodes a topic's records.
pub(crate) struct Decode<K, V> {
    pub(crate) node: String,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) extractor: Option<TimestampExtractor>,
    pub(crate) out: Port<K, V>,
}

impl<K, V> Source for Decode<K, V> {
    fn timestamp(&mut self, raw: &RawRecord, partition_time_ms: Timestamp) -> Timestamp {
        match &self.extractor {
            None => raw.meta.timestamp_ms,
            Some(extractor) => extractor(raw, partition_time_ms),
        }
    }

    fn process(&mut self, cx: &mut Cx) -> Result {
        let Some(current) = &mut cx.current else { return Ok(()) };
        let headers =
            if current.raw.meta.headers.is_empty() { Default::default() } else { current.raw.meta.headers.clone() };
        let key = self.key.deserialize(current.raw.key());
        let value = self.value.deserialize(current.raw.value());
        let timestamp_ms = current.timestamp_ms;
        match (key, value) {
            (Ok(key), Ok(value)) => self.out.push(cx, Record { key, value, timestamp_ms, headers }),
            (Err(SerdeError::Null), _) => {
                cx.drop_record(&self.node, "its key is null, and this stream's key type has no null");
                Ok(())
            }
            (Err(error), _) => cx.faulty_record(Stage::Deserialization, &self.node, &format_args!("key {error}")),
            (_, Err(SerdeError::Null)) => {
                cx.drop_record(&self.node, "its value is null, and this stream's value type has no null");
                Ok(())
            }
            (_, Err(error)) => cx.faulty_record(Stage::Deserialization, &self.node, &format_args!("value {error}")),
        }
    }
}
