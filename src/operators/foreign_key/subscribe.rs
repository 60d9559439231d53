//! The left side: a change of a row becomes subscriptions.

use super::murmur3::hash128;
use super::wire::{Instruction, Subscription};
use crate::error::Result;
use crate::operators::cx::Stage;
use crate::operators::{Cx, Port, Push};
use crate::record::{Change, Headers, Nullable, Record, Timestamp};
use crate::serdes::{Encoded, SerdeError, SerdeRef};

/// Subscribes left rows to the foreign keys that they name, and unsubscribes them.
///
/// Source: Kafka Streams' `SubscriptionSendProcessorSupplier`.
pub(crate) struct Subscribe<K, V, KO, F> {
    pub(crate) node: String,
    /// Left join: rows without a foreign key, and deletes, are answered as well.
    pub(crate) left: bool,
    /// The left table is versioned: what changed in its past does not change the result.
    pub(crate) only_latest: bool,
    pub(crate) foreign_key_of: F,
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) foreign_key: SerdeRef<KO>,
    pub(crate) out: Port<Option<Vec<u8>>, Subscription>,
}

/// What all subscriptions of one change have in common.
struct Subject {
    hash: Option<[u8; 16]>,
    primary_key: Vec<u8>,
    timestamp_ms: Timestamp,
    headers: Headers,
}

impl<K, V, KO: Nullable, F: Fn(&K, &V) -> KO> Subscribe<K, V, KO, F> {
    fn foreign_key(&self, key: &K, row: Option<&V>) -> Result<Option<Vec<u8>>, SerdeError> {
        let Some(foreign) = row.map(|row| (self.foreign_key_of)(key, row)).filter(|foreign| !foreign.is_null()) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let encoded = self.foreign_key.serialize(&foreign, &mut bytes)?;
        Ok((encoded == Encoded::Bytes).then_some(bytes))
    }

    fn common(&self, record: &Record<K, Change<V>>) -> Result<Subject, SerdeError> {
        let mut bytes = Vec::new();
        let hash = match &record.value.new {
            None => None,
            Some(row) => {
                self.value.serialize(row, &mut bytes)?;
                Some(hash128(&bytes))
            }
        };
        let mut primary_key = Vec::new();
        self.key.serialize(&record.key, &mut primary_key)?;
        Ok(Subject { hash, primary_key, timestamp_ms: record.timestamp_ms, headers: record.headers.clone() })
    }

    fn send(&mut self, cx: &mut Cx, change: &Subject, foreign: Option<Vec<u8>>, instruction: Instruction) -> Result {
        let Subject { hash, primary_key, timestamp_ms, headers } = change;
        let (primary_key, primary_partition) = (primary_key.clone(), Some(cx.partition));
        let value = Subscription { hash: *hash, instruction, primary_key, primary_partition };
        self.out.push(cx, Record { key: foreign, value, timestamp_ms: *timestamp_ms, headers: headers.clone() })
    }

    /// Every change wants an answer; one without a foreign key is sent under a null key, and answered with nothing.
    fn send_left(&mut self, cx: &mut Cx, change: &Subject, old: Option<Vec<u8>>, new: Option<Vec<u8>>) -> Result {
        if old.is_some() && old != new {
            self.send(cx, change, old, Instruction::Forget)?;
        }
        self.send(cx, change, new, Instruction::Answer)
    }

    fn send_inner(
        &mut self,
        cx: &mut Cx,
        change: &Subject,
        old: Option<Vec<u8>>,
        new: Option<Vec<u8>>,
        deleted: bool,
    ) -> Result {
        match (old, new) {
            (old, None) => {
                if !deleted {
                    cx.drop_record(&self.node, "a foreign-key join needs a foreign key, and this row's is null");
                }
                match old {
                    Some(old) => self.send(cx, change, Some(old), Instruction::ForgetAndAnswer),
                    None => Ok(()),
                }
            }
            (Some(old), Some(new)) if old != new => {
                self.send(cx, change, Some(old), Instruction::Forget)?;
                // Where the new foreign row is missing, the result with the old one has to be deleted.
                self.send(cx, change, Some(new), Instruction::Answer)
            }
            (_, Some(new)) => self.send(cx, change, Some(new), Instruction::AnswerIfFound),
        }
    }
}

impl<K, V, KO: Nullable, F: Fn(&K, &V) -> KO> Push<K, Change<V>> for Subscribe<K, V, KO, F> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, Change<V>>) -> Result {
        if self.only_latest && !record.value.is_latest {
            cx.drop_record(&self.node, "a change of a versioned table's past does not change a join's result");
            return Ok(());
        }
        let Change { old, new, .. } = &record.value;
        if old.is_none() && new.is_none() {
            return Ok(());
        }
        let found = self.foreign_key(&record.key, old.as_ref()).and_then(|old| {
            let new = self.foreign_key(&record.key, new.as_ref())?;
            Ok((old, new, self.common(&record)?))
        });
        match found {
            Ok((old, new, change)) if self.left => self.send_left(cx, &change, old, new),
            Ok((old, new, change)) => self.send_inner(cx, &change, old, new, record.value.new.is_none()),
            Err(error) => cx.faulty_record(Stage::Processing, &self.node, &error),
        }
    }
}
