//! Sink: a typed record to bytes, into the outbox.

use super::cx::{RecordContext, Stage, TopicId};
use super::{Build, Cx, Push};
use crate::error::Result;
use crate::partitioner::{Partitions, StreamPartitioner, partition_for_key};
use crate::record::{Headers, Record, Timestamp};
use crate::serdes::SerdeRef;
use std::sync::Arc;

/// Encodes records for one topic.
pub(crate) struct Encode<K, V> {
    node: String,
    topic: TopicId,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    partitioning: Partitioning<K, V>,
}

/// Which partition a record goes to.
pub(crate) enum Partitioning<K, V> {
    /// By murmur2 of the key's bytes, as Java's producer: the producer's matter.
    ByKey,
    /// The same without so many bytes at the key's end: a windowed key belongs where its key does.
    ByKeyWithout(usize),
    /// As the value says; `None` is [`ByKey`](Self::ByKey).
    ByValue(fn(&V) -> Option<i32>),
    /// As the user says.
    By(StreamPartitioner<K, V>),
}

impl<K, V> Partitioning<K, V> {
    /// As the user says, else by the key as `serde` writes it. Source: `StreamSinkNode`, `WindowedStreamPartitioner`.
    pub(crate) fn of_sink(partitioner: Option<StreamPartitioner<K, V>>, serde: &SerdeRef<K>) -> Self {
        match (partitioner, serde.unpartitioned_len()) {
            (Some(partitioner), _) => Self::By(partitioner),
            (None, 0) => Self::ByKey,
            (None, len) => Self::ByKeyWithout(len),
        }
    }
}

impl<K, V> From<Option<StreamPartitioner<K, V>>> for Partitioning<K, V> {
    fn from(partitioner: Option<StreamPartitioner<K, V>>) -> Self {
        partitioner.map_or(Self::ByKey, Self::By)
    }
}

impl<K, V> Clone for Partitioning<K, V> {
    fn clone(&self) -> Self {
        match self {
            Partitioning::ByKey => Partitioning::ByKey,
            Partitioning::ByKeyWithout(len) => Partitioning::ByKeyWithout(*len),
            Partitioning::ByValue(by) => Partitioning::ByValue(*by),
            Partitioning::By(by) => Partitioning::By(by.clone()),
        }
    }
}

impl<K, V> Encode<K, V> {
    /// Writes to `topic`, by its name on the broker.
    pub(crate) fn new(
        build: &mut Build,
        topic: &str,
        key: SerdeRef<K>,
        value: SerdeRef<V>,
        partitioning: Partitioning<K, V>,
    ) -> Self {
        Self { node: build.node.clone(), topic: build.outbox.topic(topic), key, value, partitioning }
    }

    fn send(&mut self, cx: &mut Cx, record: Record<K, V>, partition: Option<i32>) -> Result {
        let Record { key, value, timestamp_ms, headers } = record;
        self.send_parts(cx, &key, &value, timestamp_ms, headers, partition)
    }

    fn send_parts(
        &mut self,
        cx: &mut Cx,
        key: &K,
        value: &V,
        timestamp_ms: Timestamp,
        headers: Headers,
        partition: Option<i32>,
    ) -> Result {
        let seen = cx.seen(timestamp_ms, &headers);
        let sent = cx.outbox.push(
            self.topic,
            partition,
            Some(timestamp_ms),
            headers,
            |out| self.key.serialize(key, out),
            |out| self.value.serialize(value, out),
        );
        match sent {
            Ok(()) => {
                cx.counts.produced += 1;
                // As in Kafka Streams, which frees a record's bytes when it is sent: a dead letter of the same record after
                // that has neither key nor value.
                if let Some(current) = cx.current.as_mut().filter(|_| cx.dead_letters.is_some()) {
                    (current.raw.meta.key, current.raw.meta.value) = (None, None);
                }
                Ok(())
            }
            Err(error) => cx.faulty_record_seen(Stage::Production, &self.node, &error, seen),
        }
    }

    /// Sends a record where the user wants it.
    fn send_by(&mut self, cx: &mut Cx, record: Record<K, V>, by: &StreamPartitioner<K, V>) -> Result {
        let count = cx.partitions_of(self.topic)?;
        let topic = cx.outbox.topic_name(self.topic).clone();
        let chosen = match by.partitions(&topic, &record.key, &record.value, count) {
            Partitions::ByKey => return self.send(cx, record, None),
            Partitions::One(partition) => vec![partition],
            Partitions::Each(partitions) => partitions,
        };
        if chosen.is_empty() {
            cx.drop_record(&self.node, "its partitioner gives no partition");
        }
        for partition in chosen {
            if !(0..count).contains(&partition) {
                let what = format!("its partitioner gives partition {partition} of {count}");
                return cx.faulty_record(Stage::Production, &self.node, &what);
            }
            let Record { key, value, timestamp_ms, headers } = &record;
            self.send_parts(cx, key, value, *timestamp_ms, headers.clone(), Some(partition))?;
        }
        Ok(())
    }
}

impl<K, V> Push<K, V> for Encode<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        match &self.partitioning {
            Partitioning::ByKey => self.send(cx, record, None),
            Partitioning::ByValue(by) => {
                let partition = by(&record.value);
                self.send(cx, record, partition)
            }
            Partitioning::ByKeyWithout(len) => {
                let (len, count) = (*len, cx.partitions_of(self.topic)?);
                let before = cx.counts.produced;
                self.send(cx, record, None)?;
                if cx.counts.produced > before {
                    cx.outbox.place_last(|key| partition_for_key(&key[..key.len().saturating_sub(len)], count));
                }
                Ok(())
            }
            Partitioning::By(by) => {
                let by = by.clone();
                self.send_by(cx, record, &by)
            }
        }
    }
}

/// Chooses a record's topic, of its key, its value and where it came from (`None` where no record caused it).
pub(crate) type TopicOf<K, V> = Arc<dyn Fn(&K, &V, Option<&RecordContext>) -> String + Send + Sync>;

/// Encodes records for topics that are chosen one by one.
pub(crate) struct EncodeByRecord<K, V> {
    topic_of: TopicOf<K, V>,
    /// Writes to the topic that was chosen last.
    sink: Encode<K, V>,
}

impl<K, V> EncodeByRecord<K, V> {
    pub(crate) fn new(topic_of: TopicOf<K, V>, sink: Encode<K, V>) -> Self {
        Self { topic_of, sink }
    }
}

impl<K, V> Push<K, V> for EncodeByRecord<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        let topic = (self.topic_of)(&record.key, &record.value, cx.current.as_ref());
        self.sink.topic = cx.outbox.topic(&topic);
        self.sink.push(cx, record)
    }
}
