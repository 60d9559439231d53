//! Writes the nodes that send records to topics, for streams and for the Processor API.

use super::writer::Writer;
use super::{Produced, TopicNameExtractor};
use crate::operators::sink::{Encode, EncodeByRecord, Partitioning};
use crate::operators::{Build, Port};
use crate::record::Data;
use crate::topology::{NodeId, SinkTopic, TopicName};

/// A sink of one topic.
pub(super) fn write_sink<K: Data, V: Data>(
    writer: &mut Writer,
    name: &str,
    parents: &[NodeId],
    topic: String,
    produced: Produced<K, V>,
) -> NodeId {
    let Produced { key, value, partitioner, .. } = produced;
    let partitioning = Partitioning::of_sink(partitioner, &key);
    let topic_name = TopicName::User(topic.clone());
    writer.sink(name, parents, SinkTopic::Fixed(topic_name), move |build: &mut Build| {
        Box::new(Encode::new(build, &topic, key.clone(), value.clone(), partitioning.clone())) as Port<K, V>
    })
}

/// A sink whose topics are chosen record by record.
pub(super) fn write_dynamic_sink<K: Data, V: Data>(
    writer: &mut Writer,
    name: &str,
    parents: &[NodeId],
    extractor: TopicNameExtractor<K, V>,
    produced: Produced<K, V>,
) -> NodeId {
    let Produced { key, value, partitioner, .. } = produced;
    let partitioning = Partitioning::of_sink(partitioner, &key);
    let TopicNameExtractor { name: extractor, topic_of } = extractor;
    writer.sink(name, parents, SinkTopic::PerRecord(extractor), move |build: &mut Build| {
        let sink = Encode::new(build, "", key.clone(), value.clone(), partitioning.clone());
        Box::new(EncodeByRecord::new(topic_of.clone(), sink)) as Port<K, V>
    })
}
