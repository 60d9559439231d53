//! Transactions of the broker in memory: whose each transactional id is, what is open, and how it ends. As in Kafka a
//! transaction begins with its first record or offset, ends with a marker in every partition that it wrote to, and is
//! aborted when it has been open for too long.

use super::broker::State;
use super::consumer::GroupMetadata;
use super::log::StoredRecord;
use crate::broker::{Committed, TopicPartition};
use crate::error::{Error, Kind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long a transaction may be open: Kafka Streams' `transaction.timeout.ms`.
pub(super) const TRANSACTION_TIMEOUT_MS: i64 = 10_000;

/// All that the broker knows of transactions.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    ids: BTreeMap<String, Transactional>,
    /// How many have begun.
    begun: u64,
    /// Markers are not written until this is false again.
    pub(super) hold_markers: bool,
}

/// One transactional id.
#[derive(Debug, Default)]
struct Transactional {
    /// Grows when the id changes hands: whoever has an older one is fenced.
    epoch: u64,
    open: Option<Open>,
    /// How the producer's last transaction ended: its number there, and whether it was committed.
    last: Option<(u64, bool)>,
}

#[derive(Debug)]
struct Open {
    /// Its number among all of the broker.
    number: u64,
    /// Its number among those of its producer.
    turn: u64,
    began_ms: i64,
    partitions: BTreeSet<TopicPartition>,
    offsets: BTreeMap<String, BTreeMap<TopicPartition, Committed>>,
    /// It is decided; its markers are not written yet.
    ending: Option<bool>,
}

/// One transaction of one producer, as its requests name it.
#[derive(Debug, Clone)]
pub(super) struct InTransaction {
    pub(super) id: Arc<str>,
    pub(super) epoch: u64,
    pub(super) turn: u64,
}

fn fenced(id: &str) -> Error {
    Error::new(Kind::Migrated, format!("another producer has the transactional id {id}, or its transaction timed out"))
        .hint("nothing to do, the tasks are opened again with a new producer")
}

fn still_ending() -> Error {
    Error::new(Kind::Broker, "the broker still ends the transaction before")
}

impl State {
    /// Gives the id to a producer, which is known by the epoch from now on. What its predecessor left open is aborted.
    pub(super) fn init_transactions(&mut self, id: &str) -> Result<u64> {
        let known = self.transactions.ids.entry(id.into()).or_default();
        if known.open.as_ref().is_some_and(|open| open.ending.is_some()) {
            return Err(still_ending());
        }
        known.epoch += 1;
        known.last = None;
        let (epoch, open) = (known.epoch, known.open.take());
        if let Some(open) = open {
            self.end(open, false);
        }
        Ok(epoch)
    }

    /// The open transaction, begun where it is not.
    fn open(&mut self, of: &InTransaction) -> Result<&mut Open> {
        self.expire_transactions();
        let now_ms = self.now_ms();
        let Transactions { ids, begun, .. } = &mut self.transactions;
        let known = ids.get_mut(&*of.id).filter(|known| known.epoch == of.epoch).ok_or_else(|| fenced(&of.id))?;
        if known.open.as_ref().is_some_and(|open| open.ending.is_some()) {
            return Err(still_ending());
        }
        Ok(known.open.get_or_insert_with(|| {
            *begun += 1;
            let (partitions, offsets) = Default::default();
            Open { number: *begun, turn: of.turn, began_ms: now_ms, partitions, offsets, ending: None }
        }))
    }

    /// Appends a record of a transaction.
    pub(super) fn append_in(&mut self, of: &InTransaction, topic: &Arc<str>, mut record: StoredRecord) -> Result {
        let open = self.open(of)?;
        record.transaction = Some(open.number);
        let partition = TopicPartition::new(topic.clone(), record.partition);
        self.append(topic, record)?;
        self.open(of)?.partitions.insert(partition);
        Ok(())
    }

    /// Adds offsets to a transaction.
    pub(super) fn add_offsets(
        &mut self,
        of: &InTransaction,
        offsets: &[(TopicPartition, Committed)],
        of_group: &GroupMetadata,
    ) -> Result {
        let now_ms = self.now_ms();
        let group = self.group(&of_group.group);
        group.expire(now_ms);
        if group.check(&of_group.member, of_group.joined).is_err() {
            return Err(Error::new(Kind::Aborted, "this member is no longer in the group")
                .hint("nothing to do, the member joins again"));
        }
        let open = self.open(of)?;
        open.offsets.entry(of_group.group.clone()).or_default().extend(offsets.iter().cloned());
        Ok(())
    }

    /// Ends a transaction. One that has ended so already, or never began, is no error: the answer may have been lost.
    pub(super) fn end_transaction(&mut self, of: &InTransaction, commit: bool) -> Result {
        self.expire_transactions();
        let hold = self.transactions.hold_markers;
        let known = self.transactions.ids.get_mut(&*of.id).filter(|known| known.epoch == of.epoch);
        let known = known.ok_or_else(|| fenced(&of.id))?;
        match &mut known.open {
            Some(open) if open.ending == Some(commit) && open.turn == of.turn => Ok(()),
            Some(open) if open.ending.is_some() => Err(still_ending()),
            Some(open) if hold => {
                // The group hears of it before the partitions do.
                open.ending = Some(commit);
                known.last = Some((of.turn, commit));
                let offsets = std::mem::take(&mut open.offsets);
                self.commit_offsets(offsets, commit);
                Ok(())
            }
            Some(_) => {
                known.last = Some((of.turn, commit));
                if let Some(open) = known.open.take() {
                    self.end(open, commit);
                }
                Ok(())
            }
            None => match known.last {
                Some((turn, committed)) if turn == of.turn && committed != commit => Err(fenced(&of.id)),
                _ => Ok(()),
            },
        }
    }

    /// Writes the markers of a transaction, and its offsets to their groups.
    fn end(&mut self, open: Open, commit: bool) {
        for tp in &open.partitions {
            let topic = self.topics.get_mut(&tp.topic);
            if let Some(log) = topic.and_then(|topic| topic.partitions.get_mut(tp.partition as usize)) {
                log.end_transaction(open.number, commit);
            }
        }
        self.commit_offsets(open.offsets, commit);
    }

    fn commit_offsets(&mut self, offsets: BTreeMap<String, BTreeMap<TopicPartition, Committed>>, commit: bool) {
        for (group, offsets) in offsets.into_iter().filter(|_| commit) {
            self.group(&group).offsets.extend(offsets);
        }
    }

    /// Writes the markers that were held.
    pub(super) fn write_markers(&mut self) {
        let is_ending = |known: &mut Transactional| known.open.take_if(|open| open.ending.is_some());
        let mut ending: Vec<Open> = self.transactions.ids.values_mut().filter_map(is_ending).collect();
        ending.sort_by_key(|open| open.number);
        for open in ending {
            let commit = open.ending == Some(true);
            self.end(open, commit);
        }
    }

    /// Aborts what has been open for too long; whose it was is fenced.
    pub(super) fn expire_transactions(&mut self) {
        let now_ms = self.now_ms();
        let mut expired = Vec::new();
        for known in self.transactions.ids.values_mut() {
            let late = |open: &mut Open| open.ending.is_none() && now_ms - open.began_ms >= TRANSACTION_TIMEOUT_MS;
            if let Some(open) = known.open.take_if(late) {
                known.epoch += 1;
                expired.push(open);
            }
        }
        expired.sort_by_key(|open| open.number);
        for open in expired {
            self.end(open, false);
        }
    }

    /// Whether the offset of this partition is in an open transaction: what it is going to be is not known yet.
    pub(super) fn is_offset_pending(&self, group: &str, partition: &TopicPartition) -> bool {
        let mut open = self.transactions.ids.values().filter_map(|known| known.open.as_ref());
        open.any(|open| open.offsets.get(group).is_some_and(|offsets| offsets.contains_key(partition)))
    }

    /// The transactional ids that have a transaction open.
    pub(super) fn open_transactions(&self) -> Vec<String> {
        let open = self.transactions.ids.iter().filter(|(_, known)| known.open.is_some());
        open.map(|(id, _)| id.clone()).collect()
    }
}
