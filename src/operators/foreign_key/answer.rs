//! The foreign side: keeps subscriptions, and answers them now and at each change of a foreign row.

use super::wire::{Instruction, Response, Subscription, SubscriptionSerde, end_of, prefix};
use crate::error::{Error, Kind, Result};
use crate::operators::cx::Stage;
use crate::operators::getter::Getter;
use crate::operators::{Cx, Port, Push};
use crate::record::{Change, Nullable, Record};
use crate::serdes::{Encoded, Serde, SerdeError, SerdeRef};
use crate::state::{StoreId, subscriptions};

/// Keeps subscriptions under foreign key and primary key, and lets them pass.
///
/// Source: Kafka Streams' `SubscriptionReceiveProcessorSupplier`.
pub(crate) struct Receive {
    pub(crate) node: String,
    pub(crate) store: StoreId,
    pub(crate) out: Port<Option<Vec<u8>>, Subscription>,
    pub(crate) key_bytes: Vec<u8>,
    pub(crate) row: Vec<u8>,
    /// Rows of the store have headers.
    pub(crate) with_headers: bool,
    /// The row as the store has it.
    pub(crate) stored: Vec<u8>,
}

impl Push<Option<Vec<u8>>, Subscription> for Receive {
    fn push(&mut self, cx: &mut Cx, record: Record<Option<Vec<u8>>, Subscription>) -> Result {
        let subscription = &record.value;
        let Some(foreign) = &record.key else {
            if subscription.instruction != Instruction::Answer {
                cx.drop_record(&self.node, "a subscription needs a foreign key, and this one's is null");
                return Ok(());
            }
            return self.out.push(cx, record);
        };
        let written = prefix(&mut self.key_bytes, |out| {
            out.extend_from_slice(foreign);
            Ok(Encoded::Bytes)
        });
        self.row.clear();
        if let Err(error) = written.and_then(|()| SubscriptionSerde.serialize(subscription, &mut self.row)) {
            return cx.faulty_record(Stage::Processing, &self.node, &error);
        }
        self.key_bytes.extend_from_slice(&subscription.primary_key);
        let row = match subscription.instruction {
            Instruction::Forget | Instruction::ForgetAndAnswer => None,
            Instruction::Answer | Instruction::AnswerIfFound => Some(&*self.row),
        };
        let stored = row.map(|row| {
            let headers = self.with_headers.then_some(&record.headers);
            subscriptions::encode(row, record.timestamp_ms, headers, &mut self.stored);
            self.stored.as_slice()
        });
        cx.state.put(self.store, &self.key_bytes, stored);
        cx.log(self.store, &self.key_bytes, row, record.timestamp_ms, record.headers.clone());
        self.out.push(cx, record)
    }
}

/// Answers a subscription with the foreign row as it is now.
///
/// Source: Kafka Streams' `SubscriptionJoinProcessorSupplier`.
pub(crate) struct Answer<KO, VO> {
    pub(crate) node: String,
    pub(crate) key: SerdeRef<KO>,
    pub(crate) foreign: Box<dyn Getter<KO, VO>>,
    pub(crate) out: Port<Vec<u8>, Response<VO>>,
}

impl<KO, VO> Push<Option<Vec<u8>>, Subscription> for Answer<KO, VO> {
    fn push(&mut self, cx: &mut Cx, record: Record<Option<Vec<u8>>, Subscription>) -> Result {
        let Record { key, value: subscription, timestamp_ms, headers } = record;
        let Subscription { hash, instruction, primary_key, primary_partition } = subscription;
        if instruction == Instruction::Forget {
            return Ok(());
        }
        let row = match key.map(|key| self.key.deserialize(Some(&key))).transpose() {
            Ok(None) => None,
            Ok(Some(key)) => self.foreign.get(cx, &key)?,
            Err(error) => return cx.faulty_record(Stage::Processing, &self.node, &error),
        };
        let timestamp_ms = row.as_ref().map_or(timestamp_ms, |(_, row_ms)| timestamp_ms.max(*row_ms));
        let foreign = match (instruction, row) {
            (Instruction::AnswerIfFound, None) => return Ok(()),
            (Instruction::ForgetAndAnswer, _) => None,
            (_, row) => row.map(|(row, _)| row),
        };
        let value = Response { hash, foreign, primary_partition };
        self.out.push(cx, Record { key: primary_key, value, timestamp_ms, headers })
    }
}

/// How many subscriptions are read before they are answered: one foreign row may have millions.
const BATCH: usize = 1000;

/// Answers all subscriptions to a foreign row that changes.
///
/// Source: Kafka Streams' `ForeignTableJoinProcessorSupplier`.
pub(crate) struct Announce<KO, VO> {
    pub(crate) node: String,
    /// The foreign table is versioned: what changed in its past does not change the result.
    pub(crate) only_latest: bool,
    pub(crate) store: StoreId,
    /// Rows of the store have headers.
    pub(crate) with_headers: bool,
    pub(crate) key: SerdeRef<KO>,
    pub(crate) out: Port<Vec<u8>, Response<VO>>,
    pub(crate) prefix: Vec<u8>,
}

impl<KO, VO> Announce<KO, VO> {
    /// Up to [`BATCH`] subscriptions from `start` on; where the next ones begin, if there may be more.
    fn subscriptions(&self, cx: &Cx, start: &[u8]) -> Result<(Vec<Subscription>, Option<Vec<u8>>)> {
        let end = end_of(&self.prefix);
        let mut found: Vec<Result<Subscription, SerdeError>> = Vec::new();
        let mut next = None;
        cx.state.range(self.store, Some(start), end.as_deref(), &mut |key, row| {
            if found.len() == BATCH {
                next = Some(key.to_vec());
                return false;
            }
            found.push(SubscriptionSerde.deserialize(Some(subscriptions::decode(row, self.with_headers).1)));
            true
        })?;
        let found = found.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| {
            Error::new(Kind::State, format!("a subscription of a foreign-key join does not decode: {error}"))
                .node(&self.node)
                .hint("the store holds something else: give the join another name, or reset the application")
        })?;
        Ok((found, next))
    }
}

impl<KO: Nullable, VO: Clone> Push<KO, Change<VO>> for Announce<KO, VO> {
    fn push(&mut self, cx: &mut Cx, record: Record<KO, Change<VO>>) -> Result {
        if record.key.is_null() {
            cx.drop_record(&self.node, "a foreign-key join needs a key, and this one is null");
            return Ok(());
        }
        if self.only_latest && !record.value.is_latest {
            cx.drop_record(&self.node, "a change of a versioned table's past does not change a join's result");
            return Ok(());
        }
        let Record { key, value: change, timestamp_ms, headers } = record;
        if let Err(error) = prefix(&mut self.prefix, |out| self.key.serialize(&key, out)) {
            return cx.faulty_record(Stage::Processing, &self.node, &error);
        }
        let mut start = Some(self.prefix.clone());
        while let Some(from) = start {
            let (subscriptions, next) = self.subscriptions(cx, &from)?;
            for Subscription { hash, primary_key: key, primary_partition, .. } in subscriptions {
                let value = Response { hash, foreign: change.new.clone(), primary_partition };
                self.out.push(cx, Record { key, value, timestamp_ms, headers: headers.clone() })?;
            }
            start = next;
        }
        Ok(())
    }
}
