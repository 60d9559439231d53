//! Sink: a typed record to bytes, into the outbox.

use super::cx::{Stage, TopicId};
use super::{Cx, Push};
use crate::error::Result;
use crate::record::Record;
use crate::serdes::SerdeRef;

/// Encodes records for one topic.
pub(crate) struct Encode<K, V> {
    pub(crate) node: String,
    pub(crate) topic: TopicId,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
}

impl<K, V> Push<K, V> for Encode<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        let Record { key, value, timestamp_ms, headers } = record;
        let sent = cx.outbox.push(
            self.topic,
            None,
            Some(timestamp_ms),
            headers,
            |out| self.key.serialize(&key, out),
            |out| self.value.serialize(&value, out),
        );
        match sent {
            Ok(()) => {
                cx.counts.produced += 1;
                Ok(())
            }
            Err(error) => cx.faulty_record(Stage::Production, &self.node, &error),
        }
    }
}
