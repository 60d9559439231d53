//! A producer of the broker in memory: what is sent waits in the client until it is served or flushed, and is lost with it.

use super::broker::{Cluster, State};
use super::consumer::GroupMetadata;
use super::faults::{Fault, Request};
use super::log::StoredRecord;
use super::transactions::InTransaction;
use crate::broker::{Committed, Outgoing, Producer, Refused, TopicPartition};
use crate::error::{Error, Kind, Result};
use crate::record::{Headers, Timestamp};
use std::any::Any;
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
    transactions: Option<OwnTransactions>,
}

/// Where a producer with a transactional id is.
#[derive(Debug)]
struct OwnTransactions {
    now: InTransaction,
    /// Between begin and end.
    open: bool,
    /// A request was answered so that nothing but this may follow.
    failed: Option<Kind>,
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
    pub(super) fn new(cluster: Arc<Cluster>, transactional_id: Option<&str>) -> Self {
        let (queue, refused, turns) = Default::default();
        let transactions = transactional_id.map(|id| OwnTransactions {
            now: InTransaction { id: id.into(), epoch: 0, turn: 0 },
            open: false,
            failed: None,
        });
        Self { cluster, queue, refused, acknowledged: 0, turns, transactions }
    }

    /// What an earlier answer made impossible.
    fn check(&self) -> Result {
        match self.transactions.as_ref().and_then(|own| own.failed) {
            None => Ok(()),
            Some(Kind::Migrated) => Err(Error::new(Kind::Migrated, "the producer is fenced")),
            Some(kind) => Err(Error::new(kind, "the transaction has to be aborted")),
        }
    }

    fn own(&mut self) -> Result<&mut OwnTransactions> {
        let internal = || Error::new(Kind::Internal, "a producer without a transactional id has no transactions");
        self.transactions.as_mut().ok_or_else(internal)
    }

    /// Remembers an answer after which not everything may follow.
    fn noted<T>(&mut self, result: Result<T>) -> Result<T> {
        if let (Err(error), Some(own)) = (&result, &mut self.transactions)
            && matches!(error.kind(), Kind::Migrated | Kind::Aborted)
        {
            own.failed = Some(error.kind());
        }
        result
    }

    fn end(&mut self, commit: bool) -> Result {
        let cluster = self.cluster.clone();
        let now = self.own()?.now.clone();
        let ended = cluster.request(Request::EndTransaction, |state| state.end_transaction(&now, commit));
        self.noted(ended)?;
        cluster.wake();
        self.own()?.open = false;
        Ok(())
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
                Err(error) if matches!(error.kind(), Kind::Migrated | Kind::Aborted) => {
                    self.queue.push_front(record);
                    return self.noted(Err(error));
                }
                Err(error) => {
                    self.refused.push(record.refused(error));
                    if let Some(own) = &mut self.transactions {
                        // As with librdkafka: a transaction that has lost a record is not committed.
                        own.failed = Some(Kind::Aborted);
                    }
                }
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
        match &self.transactions {
            Some(own) => state.append_in(&own.now, &record.topic, stored),
            None => state.append(&record.topic, stored).map(|_| ()),
        }
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
        Refused { topic, partition: self.partition, key, value, headers, timestamp_ms, by_broker: true, error }
    }
}

impl Producer for MemoryProducer {
    fn send(&mut self, record: Outgoing<'_>) -> Result {
        self.check()?;
        if self.transactions.as_ref().is_some_and(|own| !own.open) {
            return Err(Error::new(Kind::Internal, "a record outside of a transaction").topic(&**record.topic));
        }
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
        self.check()?;
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

    fn init_transactions(&mut self) -> Result {
        let id = self.own()?.now.id.clone();
        let epoch = self.cluster.clone().request(Request::InitTransactions, |state| state.init_transactions(&id))?;
        self.cluster.wake();
        self.own()?.now.epoch = epoch;
        Ok(())
    }

    fn begin_transaction(&mut self) -> Result {
        self.check()?;
        let own = self.own()?;
        if own.open || own.now.epoch == 0 {
            return Err(Error::new(Kind::Internal, "a transaction cannot begin here"));
        }
        own.open = true;
        own.now.turn += 1;
        Ok(())
    }

    fn send_offsets(&mut self, offsets: &[(TopicPartition, Committed)], group: &dyn Any) -> Result {
        self.check()?;
        let now = self.own()?.now.clone();
        let group = group.downcast_ref::<GroupMetadata>();
        let group = group.ok_or_else(|| Error::new(Kind::Internal, "the metadata of another broker's group"))?;
        let sent = self.cluster.clone().request(Request::SendOffsets, |state| state.add_offsets(&now, offsets, group));
        self.noted(sent)
    }

    fn commit_transaction(&mut self) -> Result {
        self.check()?;
        self.flush(Duration::ZERO)?;
        self.check()?;
        self.end(true)
    }

    fn abort_transaction(&mut self) -> Result {
        if self.own()?.failed == Some(Kind::Migrated) {
            return self.check();
        }
        self.queue.clear();
        self.refused.clear();
        self.end(false)?;
        self.own()?.failed = None;
        Ok(())
    }
}
