//! A producer of the broker in memory: what is sent waits in the client until it is served or flushed, and is lost with it.

use super::broker::{Cluster, State};
use super::faults::{Fault, Request};
use super::log::StoredRecord;
use crate::broker::{Outgoing, Producer, Refused};
use crate::error::{Error, Kind, Result};
use crate::record::{Headers, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// librdkafka's default of `queue.buffering.max.messages`.
const QUEUE_MAX: usize = 100_000;

/// An idempotent producer of a [`MemoryBroker`](super::MemoryBroker).
pub(super) struct MemoryProducer {
    cluster: Arc<Cluster>,
    queue: VecDeque<Waiting>,
    refused: Vec<Refused>,
    acknowledged: u64,
    /// Per topic the partition of the next record without a key.
    turns: BTreeMap<Arc<str>, i32>,
}

#[derive(Debug, Clone)]
struct Waiting {
    topic: Arc<str>,
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp_ms: Option<Timestamp>,
    headers: Headers,
    /// The broker has it, but the answer was lost: sent again, it is recognized.
    appended: bool,
}

impl MemoryProducer {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        let (queue, refused, turns) = Default::default();
        Self { cluster, queue, refused, acknowledged: 0, turns }
    }

    /// Sends what waits, in order, until the broker gives no answer.
    fn deliver(&mut self) -> Result {
        while let Some(mut record) = self.queue.pop_front() {
            let fault = match self.cluster.meet(Request::Produce) {
                Ok(fault) => fault,
                Err(error) => {
                    self.queue.push_front(record);
                    return Err(error);
                }
            };
            let result = match fault {
                Some(Fault::Refused(kind)) => Err(Fault::Refused(kind).error(Request::Produce)),
                _ if record.appended => Ok(()),
                _ => self.cluster.clone().change(|state| self.append(state, &record)),
            };
            match result {
                Ok(()) if fault.is_none() => self.acknowledged += 1,
                Ok(()) => {
                    record.appended = true;
                    self.queue.push_front(record);
                    return Ok(());
                }
                Err(error) if error.is_retriable() => {
                    self.queue.push_front(record);
                    return Ok(());
                }
                Err(error) => self.refused.push(record.refused(error)),
            }
        }
        Ok(())
    }

    fn append(&mut self, state: &mut State, record: &Waiting) -> Result {
        state.create_on_write(&record.topic);
        let turn = self.turns.entry(record.topic.clone()).or_default();
        let partition = state.partition_for(&record.topic, record.partition, record.key.as_deref(), *turn)?;
        *turn += i32::from(record.partition.is_none() && record.key.is_none());
        let stored = StoredRecord { by_client: true, ..state.stored(&record.outgoing(), partition) };
        state.append(&record.topic, stored).map(|_| ())
    }
}

impl Waiting {
    fn outgoing(&self) -> Outgoing<'_> {
        Outgoing {
            topic: &self.topic,
            partition: self.partition,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            timestamp_ms: self.timestamp_ms,
            headers: &self.headers,
        }
    }

    fn refused(self, error: Error) -> Refused {
        let Self { topic, key, value, headers, timestamp_ms, .. } = self;
        Refused { topic, partition: self.partition, key, value, headers, timestamp_ms, error }
    }
}

impl Producer for MemoryProducer {
    fn send(&mut self, record: Outgoing<'_>) -> Result {
        if self.queue.len() >= QUEUE_MAX {
            self.deliver()?;
            if self.queue.len() >= QUEUE_MAX {
                let error = Error::new(Kind::Broker, "the producer's queue is full and stays so");
                return Err(error.topic(&**record.topic).hint("check that the brokers run and accept records"));
            }
        }
        self.queue.push_back(Waiting {
            topic: record.topic.clone(),
            partition: record.partition,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            timestamp_ms: record.timestamp_ms,
            headers: record.headers.clone(),
            appended: false,
        });
        Ok(())
    }

    fn serve(&mut self) {
        // A process that no longer runs learns of it by its next request.
        let _ = self.deliver();
    }

    fn flush(&mut self, _timeout: Duration) -> Result {
        self.deliver()?;
        match self.queue.len() {
            0 => Ok(()),
            n => Err(Error::new(Kind::Broker, format!("{n} records are not acknowledged"))
                .hint("check that the brokers run and accept records")),
        }
    }

    fn refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refused)
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged
    }
}
