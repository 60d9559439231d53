//! Source: bytes to a typed record; what does not decode meets the deserialization policy.

use super::cx::Stage;
use super::{Cx, Port, RecordContext};
use crate::broker::{RawRecord, TopicPartition};
use crate::config::Timestamps;
use crate::error::{Error, Kind, Result};
use crate::record::{Record, Timestamp};
use crate::serdes::{SerdeError, SerdeRef};
use crate::topology::Source;
use std::rc::Rc;

/// Gives each record its timestamp: from the record as consumed, and the largest timestamp of its partition so far
/// (-1 before the first). A negative result drops the record.
///
/// Source: Kafka Streams' `TimestampExtractor`; without one `default.timestamp.extractor` says what to do.
pub type TimestampExtractor = std::sync::Arc<dyn Fn(&RawRecord, Timestamp) -> Timestamp + Send + Sync>;

/// How a topic's records get their timestamps.
#[derive(Clone, Default)]
pub(crate) enum TimestampsOf {
    /// As the configuration says.
    #[default]
    Default,
    /// By one of the library's rules.
    Rule(Timestamps),
    /// By the user's function.
    Function(TimestampExtractor),
}

impl TimestampsOf {
    /// The application wrote these timestamps itself.
    pub(crate) const OF_REPARTITION: Self = Self::Rule(Timestamps::FailOnInvalid);

    /// The timestamp of `raw`; a negative one drops the record.
    fn get(
        &self,
        cx: &Cx,
        partition: &TopicPartition,
        raw: &RawRecord,
        partition_time_ms: Timestamp,
    ) -> Result<Timestamp> {
        let rule = match self {
            Self::Function(extractor) => return Ok(extractor(raw, partition_time_ms)),
            Self::Rule(rule) => *rule,
            Self::Default => cx.timestamps,
        };
        let own_ms = raw.meta.timestamp_ms;
        match rule {
            Timestamps::WallClock => Ok(cx.now_ms),
            _ if own_ms >= 0 => Ok(own_ms),
            Timestamps::SkipInvalid => Ok(own_ms),
            Timestamps::PartitionTimeOnInvalid if partition_time_ms >= 0 => Ok(partition_time_ms),
            Timestamps::PartitionTimeOnInvalid | Timestamps::FailOnInvalid => {
                Err(Error::new(Kind::Record, format!("the record's timestamp is {own_ms}"))
                    .topic(&*partition.topic)
                    .partition(partition.partition)
                    .offset(raw.meta.offset)
                    .hint("correct the producer, or set default.timestamp.extractor to skip-invalid"))
            }
        }
    }
}

/// Decodes a topic's records.
pub(crate) struct Decode<K, V> {
    node: String,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    timestamps: TimestampsOf,
    out: Port<K, V>,
    /// The next record of each of the task's inputs; without a key and value where a null is none of this type's.
    heads: Vec<Option<Decoded<K, V>>>,
}

/// Key and value, or why there are none.
type Decoded<K, V> = Result<(K, V), &'static str>;

impl<K, V> Decode<K, V> {
    pub(crate) fn new(
        node: String,
        key: SerdeRef<K>,
        value: SerdeRef<V>,
        timestamps: TimestampsOf,
        out: Port<K, V>,
    ) -> Self {
        Self { node, key, value, timestamps, out, heads: Vec::new() }
    }
}

impl<K, V> Source for Decode<K, V> {
    fn decode(
        &mut self,
        cx: &mut Cx,
        input: usize,
        partition: &Rc<TopicPartition>,
        raw: &RawRecord,
        partition_time_ms: Timestamp,
    ) -> Result<Option<Timestamp>> {
        let key = self.key.deserialize(raw.key());
        let value = self.value.deserialize(raw.value());
        let decoded = match (key, value) {
            (Ok(key), Ok(value)) => Ok((key, value)),
            (Err(SerdeError::Null), Ok(_) | Err(SerdeError::Null)) => {
                Err("its key is null, and this stream's key type has no null")
            }
            (Ok(_), Err(SerdeError::Null)) => Err("its value is null, and this stream's value type has no null"),
            (key, value) => {
                let timestamp_ms = raw.meta.timestamp_ms;
                cx.current = Some(RecordContext { partition: partition.clone(), raw: raw.clone(), timestamp_ms });
                let (part, error) = match (key, value) {
                    (Err(error), _) if !matches!(error, SerdeError::Null) => ("key", Some(error)),
                    (_, value) => ("value", value.err()),
                };
                let text = error.map_or_else(String::new, |error| format!("{part} {error}"));
                cx.faulty_record(Stage::Deserialization, &self.node, &text)?;
                return Ok(None);
            }
        };
        if self.heads.len() <= input {
            self.heads.resize_with(input + 1, || None);
        }
        self.heads[input] = Some(decoded);
        self.timestamps.get(cx, partition, raw, partition_time_ms).map(Some)
    }

    fn process(&mut self, cx: &mut Cx, input: usize) -> Result {
        let (Some(current), Some(decoded)) = (&cx.current, self.heads[input].take()) else { return Ok(()) };
        match decoded {
            Ok((key, value)) => {
                let (timestamp_ms, headers) = (current.timestamp_ms, current.raw.meta.headers.clone());
                self.out.push(cx, Record { key, value, timestamp_ms, headers })
            }
            Err(why) => {
                cx.drop_record(&self.node, why);
                Ok(())
            }
        }
    }
}
