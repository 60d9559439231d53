//! An application's own records: what a command handler or an HTTP endpoint writes to a topic, with an answer that says
//! where each record is. A query that is asked [`after`](crate::queries::Store::after) that place has it.
//!
//! ```
//! use std::time::Duration;
//! use watersmeet::prelude::*;
//! use watersmeet::producer::TopicProducer;
//! use watersmeet::testing::MemoryBroker;
//!
//! let broker = MemoryBroker::new();
//! broker.create_topic("orders", 4);
//! let orders = TopicProducer::on(&*broker.client("shop", "one"), "orders", Produced::<String, String>::default())?;
//! let written = orders.send(&"o1".into(), &"two chairs".into()).wait(Duration::from_secs(5))?;
//! assert_eq!(written.offset, 0);
//! # Ok::<(), watersmeet::error::Error>(())
//! ```

pub use crate::broker::Written;

use crate::broker::{Broker, Outgoing, Sender};
use crate::config::Config;
use crate::dsl::Produced;
use crate::error::{Error, Kind, Result};
use crate::kafka::KafkaBroker;
use crate::partitioner::{Partitions, StreamPartitioner, partition_for_key};
use crate::record::{Headers, Record, Timestamp};
use crate::serdes::{Encoded, SerdeRef};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Writes records to one topic. Cheap to clone, and usable from any thread.
pub struct TopicProducer<K, V> {
    sender: Arc<dyn Sender>,
    topic: Arc<str>,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    /// And how many partitions the topic has.
    partitioner: Option<(StreamPartitioner<K, V>, i32)>,
}

impl<K, V> Clone for TopicProducer<K, V> {
    fn clone(&self) -> Self {
        Self {
            sender: self.sender.clone(),
            topic: self.topic.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
            partitioner: self.partitioner.clone(),
        }
    }
}

impl<K, V> TopicProducer<K, V> {
    /// A producer with a client of its own, for a program that runs no topology.
    ///
    /// # Errors
    /// As [`Streams::producer`](crate::streams::Streams::producer).
    pub fn connect(config: &Config, topic: &str, produced: Produced<K, V>) -> Result<Self> {
        Self::on(&KafkaBroker::connect(config, None)?, topic, produced)
    }

    /// A producer on any broker.
    ///
    /// # Errors
    /// As [`Streams::producer`](crate::streams::Streams::producer).
    pub fn on(broker: &dyn Broker, topic: &str, produced: Produced<K, V>) -> Result<Self> {
        Self::new(broker, broker.sender()?, topic, produced)
    }

    pub(crate) fn new(
        broker: &dyn Broker,
        sender: Arc<dyn Sender>,
        topic: &str,
        produced: Produced<K, V>,
    ) -> Result<Self> {
        let Produced { key, value, partitioner, .. } = produced;
        let partitioner = match partitioner {
            Some(partitioner) => {
                let found = broker.admin()?.topics(&[topic.to_owned()])?.into_iter().flatten().next();
                let missing = || Error::new(Kind::BrokerFatal, "there is no such topic").topic(topic).hint("create it");
                Some((partitioner, found.ok_or_else(missing)?.partitions))
            }
            None => None,
        };
        Ok(Self { sender, topic: topic.into(), key, value, partitioner })
    }

    /// Writes a record. Nothing has to be done with the answer: the record is on its way. But who drops it does not learn of
    /// a failure.
    pub fn send(&self, key: &K, value: &V) -> Sending {
        self.send_with(key, value, None, &Headers::default())
    }

    /// As [`send`](Self::send), with the record's own timestamp and headers.
    pub fn send_record(&self, record: &Record<K, V>) -> Sending {
        self.send_with(&record.key, &record.value, Some(record.timestamp_ms), &record.headers)
    }

    /// Waits until everything sent has been answered, by this producer and those that share its client.
    ///
    /// # Errors
    /// [`Kind::Broker`]: not within `timeout`.
    pub fn flush(&self, timeout: Duration) -> Result {
        self.sender.flush(timeout)
    }

    fn send_with(&self, key: &K, value: &V, timestamp_ms: Option<Timestamp>, headers: &Headers) -> Sending {
        let answer = Arc::new(Answer::default());
        let sending = Sending { answer: answer.clone() };
        let encoded = self.encode(key, value);
        let (key_bytes, value_bytes, partition) = match encoded {
            Ok(encoded) => encoded,
            Err(error) => {
                answer.give(Err(error.topic(&*self.topic)));
                return sending;
            }
        };
        let record = Outgoing {
            topic: &self.topic,
            partition,
            key: key_bytes.as_deref(),
            value: value_bytes.as_deref(),
            timestamp_ms,
            headers,
        };
        self.sender.send(record, Box::new(move |result| answer.give(result)));
        sending
    }

    #[allow(clippy::type_complexity)]
    fn encode(&self, key: &K, value: &V) -> Result<(Option<Vec<u8>>, Option<Vec<u8>>, Option<i32>)> {
        let (key_bytes, value_bytes) = (encode(&self.key, key, "key")?, encode(&self.value, value, "value")?);
        let Some((partitioner, count)) = &self.partitioner else { return Ok((key_bytes, value_bytes, None)) };
        let partition = match partitioner.partitions(&self.topic, key, value, *count) {
            Partitions::ByKey => key_bytes.as_ref().map(|key| partition_for_key(key, *count)),
            Partitions::One(partition) => Some(partition),
            Partitions::Each(partitions) => match partitions[..] {
                [partition] => Some(partition),
                _ => {
                    let what = format!("the partitioner chose {} partitions for one record", partitions.len());
                    return Err(Error::new(Kind::User, what).hint("choose one: each record has one answer"));
                }
            },
        };
        Ok((key_bytes, value_bytes, partition))
    }
}

fn encode<T>(serde: &SerdeRef<T>, value: &T, which: &str) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match serde.serialize(value, &mut bytes) {
        Ok(Encoded::Bytes) => Ok(Some(bytes)),
        Ok(Encoded::Null) => Ok(None),
        Err(error) => Err(Error::new(Kind::User, format!("the {which} does not encode: {error}"))),
    }
}

/// A record on its way: a future that says where it has been written, in any async runtime; or [`wait`](Self::wait).
pub struct Sending {
    answer: Arc<Answer>,
}

#[derive(Default)]
struct Answer {
    state: Mutex<State>,
    given: Condvar,
}

#[derive(Default)]
struct State {
    result: Option<Result<Written>>,
    waker: Option<Waker>,
}

impl Answer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, result: Result<Written>) {
        let mut state = self.lock();
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        self.given.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Sending {
    /// Waits on this thread.
    ///
    /// # Errors
    /// Why it was not written. [`Kind::Broker`]: not within `timeout`; it may still be.
    pub fn wait(self, timeout: Duration) -> Result<Written> {
        let state = self.answer.lock();
        let waited = self.answer.given.wait_timeout_while(state, timeout, |state| state.result.is_none());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.result.take().unwrap_or_else(|| {
            Err(Error::new(Kind::Broker, format!("a record is not acknowledged after {timeout:?}"))
                .hint("check that the brokers run; it may still be written"))
        })
    }
}

impl Future for Sending {
    type Output = Result<Written>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Written>> {
        let mut state = self.answer.lock();
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
