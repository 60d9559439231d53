//! What an application sends its own records with: an idempotent producer of its own, with an answer for each record.
//!
//! It is made for tens of thousands of records a second from any thread, not for the millions of a topology's results,
//! which go through `producer.rs`.

use super::client::REQUEST_TIMEOUT;
use super::code;
use super::ends;
use crate::broker::{Delivered, Outgoing, Sender, TopicPartition, Written};
use crate::error::{Error, Kind, Result};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use std::time::Duration;

/// A sender on librdkafka. A thread of its own serves the answers.
pub(super) struct KafkaSender(ThreadedProducer<Answers>);

/// Hands answers to those who wait for them.
struct Answers;

impl ClientContext for Answers {
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::info!(target: "librdkafka", "{facility}: {line}");
    }

    fn error(&self, error: KafkaError, words: &str) {
        tracing::warn!("sending: {words} ({error})");
    }
}

impl ProducerContext for Answers {
    type DeliveryOpaque = Box<Delivered>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivered: Box<Delivered>) {
        (*delivered)(match result {
            Ok(message) => Ok(Written {
                partition: TopicPartition::new(message.topic(), message.partition()),
                offset: message.offset(),
            }),
            Err((error, message)) => Err(failed(error.clone(), message.topic())),
        });
    }
}

impl KafkaSender {
    pub(super) fn new(config: &ClientConfig) -> Result<Self> {
        let producer = ThreadedProducer::<_, NoCustomPartitioner>::from_config_and_context(config, Answers);
        Ok(Self(producer.map_err(|e| code::from_rdkafka(e, "creating a Kafka client"))?))
    }
}

impl Sender for KafkaSender {
    fn send(&self, record: Outgoing<'_>, delivered: Delivered) {
        let mut headers = OwnedHeaders::new();
        for header in record.headers.iter() {
            headers = headers.insert(Header { key: &header.name, value: header.value.as_deref() });
        }
        let sent = self.0.send(BaseRecord {
            topic: record.topic,
            partition: record.partition,
            payload: record.value,
            key: record.key,
            timestamp: record.timestamp_ms,
            headers: (!record.headers.is_empty()).then_some(headers),
            delivery_opaque: Box::new(delivered),
        });
        if let Err((error, record)) = sent {
            (*record.delivery_opaque)(Err(failed(error, record.topic)));
        }
    }

    fn flush(&self, timeout: Duration) -> Result {
        self.0.flush(timeout.min(REQUEST_TIMEOUT)).map_err(|e| code::from_rdkafka(e, "sending"))
    }

    fn log_end(&self, partition: &TopicPartition) -> Result<i64> {
        // SAFETY: the client is alive.
        unsafe { ends::log_ends(self.0.client().native_ptr(), std::slice::from_ref(partition)) }.map(|ends| ends[0])
    }
}

fn failed(error: KafkaError, topic: &str) -> Error {
    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
        return Error::new(Kind::Broker, "the queue of records to send is full")
            .topic(topic)
            .hint("send again in a moment, and check that the brokers run");
    }
    code::from_rdkafka(error, "sending").topic(topic)
}
