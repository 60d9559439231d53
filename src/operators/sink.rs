//! Sink: a typed record to bytes, into the outbox.

use super::cx::{RecordContext, Stage, TopicId};
use super::{Cx, Push};
use crate::error::Result;
use crate::record::Record;
use crate::serdes::SerdeRef;
use std::sync::Arc;

/// Encodes records for one topic.
pub(crate) struct Encode<K, V> {
    pub(crate) node: String,
    pub(crate) topic: TopicId,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) partitioning: Partitioning<K, V>,
}

/// Which partition a record goes to.
pub(crate) enum Partitioning<K, V> {
    /// By murmur2 of the key's bytes, as Java's producer: the producer's matter.
    ByKey,
    /// As the function says; `None` is [`ByKey`](Self::ByKey).
    #[allow(clippy::type_complexity)]
    By(Arc<dyn Fn(&K, &V) -> Option<i32> + Send + Sync>),
}

impl<K, V> Clone for Partitioning<K, V> {
    fn clone(&self) -> Self {
        match self {
            Partitioning::ByKey => Partitioning::ByKey,
            Partitioning::By(by) => Partitioning::By(by.clone()),
        }
    }
}

impl<K, V> Push<K, V> for Encode<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        let Record { key, value, timestamp_ms, headers } = record;
        let partition = match &self.partitioning {
            Partitioning::ByKey => None,
            Partitioning::By(by) => by(&key, &value),
        };
        let seen = cx.seen(timestamp_ms, &headers);
        let sent = cx.outbox.push(
            self.topic,
            partition,
            Some(timestamp_ms),
            headers,
            |out| self.key.serialize(&key, out),
            |out| self.value.serialize(&value, out),
        );
        match sent {
            Ok(()) => {
                cx.counts.produced += 1;
                // As in Kafka Streams, which frees a record's bytes when a result of it is sent: a dead letter after that
                // has neither key nor value.
                if let Some(current) = cx.current.as_mut().filter(|_| cx.dead_letters.is_some()) {
                    (current.raw.meta.key, current.raw.meta.value) = (None, None);
                }
                Ok(())
            }
            Err(error) => cx.faulty_record_seen(Stage::Production, &self.node, &error, seen),
        }
    }
}

/// Chooses a record's topic, of its key, its value and where it came from (`None` where no record caused it).
pub(crate) type TopicOf<K, V> = Arc<dyn Fn(&K, &V, Option<&RecordContext>) -> String + Send + Sync>;

/// Encodes records for topics that are chosen one by one.
pub(crate) struct EncodeByRecord<K, V> {
    pub(crate) topic_of: TopicOf<K, V>,
    /// Writes to the topic that was chosen last.
    pub(crate) sink: Encode<K, V>,
}

impl<K, V> Push<K, V> for EncodeByRecord<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        let topic = (self.topic_of)(&record.key, &record.value, cx.current.as_ref());
        self.sink.topic = cx.outbox.topic(&topic);
        self.sink.push(cx, record)
    }
}
