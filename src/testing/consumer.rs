//! A consumer of the broker in memory.

use super::broker::{Cluster, State, unknown_topic};
use super::faults::Request;
use super::group::{Change, Gone};
use crate::broker::{Batch, Committed, Consumer, Event, Isolation, TopicPartition, Waker};
use crate::error::{Error, Kind, Result};
use crate::record::Timestamp;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A consumer of a [`MemoryBroker`](super::MemoryBroker).
pub(super) struct MemoryConsumer {
    cluster: Arc<Cluster>,
    group: String,
    member: String,
    isolation: Isolation,
    topics: Vec<Arc<str>>,
    /// The generation in which it joined; `None` outside of the group.
    joined: Option<u64>,
    /// What the group gave and has not got back.
    held: BTreeSet<TopicPartition>,
    fetches: BTreeMap<TopicPartition, Fetch>,
    /// Topics whose absence has been told.
    missing: BTreeSet<Arc<str>>,
    in_trouble: bool,
    bell: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Fetch {
    position: i64,
    paused: bool,
    /// The end as of the last fetch.
    end: Option<i64>,
    /// The end that was told by an event.
    end_told: Option<i64>,
    out_of_range: bool,
}

/// What a transaction needs to know of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupMetadata {
    pub(super) group: String,
    pub(super) member: String,
    pub(super) joined: u64,
}

impl MemoryConsumer {
    pub(super) fn new(cluster: Arc<Cluster>, group: String, member: String, isolation: Isolation) -> Self {
        Self {
            cluster,
            group,
            member,
            isolation,
            topics: Vec::new(),
            joined: None,
            held: BTreeSet::new(),
            fetches: BTreeMap::new(),
            missing: BTreeSet::new(),
            in_trouble: false,
            bell: Arc::default(),
        }
    }

    /// Heartbeat and fetch. What passes by itself is told as an event, as librdkafka does it.
    fn turn(&mut self, max_records: usize, batch: &mut Batch, events: &mut Vec<Event>) -> Result {
        let cluster = self.cluster.clone();
        let heartbeat = match self.topics.is_empty() {
            true => Ok(()),
            false => cluster.request(Request::Heartbeat, |state| self.heartbeat(state, events)),
        };
        let fetched = heartbeat.and_then(|()| {
            cluster.request(Request::Fetch, |state| {
                self.fetch(state, max_records, batch, events);
                Ok(())
            })
        });
        match fetched {
            Ok(()) if self.in_trouble => {
                self.in_trouble = false;
                events.push(Event::TroubleOver);
                Ok(())
            }
            Err(error) if error.is_retriable() => {
                if !std::mem::replace(&mut self.in_trouble, true) {
                    events.push(Event::Trouble(error));
                }
                Ok(())
            }
            other => other,
        }
    }

    fn heartbeat(&mut self, state: &mut State, events: &mut Vec<Event>) -> Result {
        let now_ms = state.now_ms();
        for topic in &self.topics {
            match state.topics.contains_key(topic) {
                true => _ = self.missing.remove(topic),
                false if self.missing.insert(topic.clone()) => events.push(Event::MissingTopic(topic.to_string())),
                false => {}
            }
        }
        let (group, counts) = state.group_and_counts(&self.group);
        let joined = match self.joined {
            Some(joined) => joined,
            // Joins again only when everything lost has been let go.
            None if self.held.is_empty() => {
                self.cluster.wake();
                *self.joined.insert(group.join(&self.member, &self.topics))
            }
            None => return Ok(()),
        };
        match group.heartbeat(&self.member, joined, counts, now_ms) {
            Ok(None) => {}
            Ok(Some(Change::Give(list))) => events.push(Event::Revoking(list)),
            Ok(Some(Change::Take(list))) => {
                self.held.extend(list.iter().cloned());
                events.push(Event::Assigned(list));
            }
            Err(Gone::Removed) => {
                self.joined = None;
                if !self.held.is_empty() {
                    events.push(Event::Lost(self.held.iter().cloned().collect()));
                }
            }
            Err(Gone::Replaced) => return Err(replaced(&self.member)),
        }
        Ok(())
    }

    /// Records of the assigned partitions, in the order in which they were written.
    fn fetch(&mut self, state: &State, max_records: usize, batch: &mut Batch, events: &mut Vec<Event>) {
        let mut found = Vec::new();
        for (tp, fetch) in &mut self.fetches {
            let Some(log) = state.log(tp).filter(|_| !fetch.paused && !fetch.out_of_range) else { continue };
            let bounds = log.bounds();
            if !(bounds.start..=bounds.end).contains(&fetch.position) {
                fetch.out_of_range = true;
                events.push(Event::OffsetOutOfRange(tp.clone()));
                continue;
            }
            fetch.end = Some(log.visible_bounds(self.isolation).end);
            found.extend(log.visible(fetch.position, self.isolation).take(max_records).map(|record| (tp, record)));
        }
        found.sort_by_key(|(_, record)| record.sequence);
        found.truncate(max_records);
        let mut next = BTreeMap::new();
        for (tp, record) in found {
            let source = batch.source(&tp.topic, tp.partition);
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            batch.push(source, record.offset, record.timestamp_ms, key, value, record.headers.clone());
            next.insert(tp.clone(), record.offset + 1);
        }
        for (tp, fetch) in &mut self.fetches {
            let Some(log) = state.log(tp).filter(|_| !fetch.paused && !fetch.out_of_range) else { continue };
            fetch.position = next.get(tp).copied().unwrap_or(fetch.position);
            if log.visible(fetch.position, self.isolation).next().is_none() {
                // Behind the end of what is visible where the offset came from one who sees more.
                let end = log.visible_bounds(self.isolation).end.max(fetch.position);
                fetch.position = end;
                if fetch.end_told.replace(end) != Some(end) {
                    events.push(Event::End { partition: tp.clone(), offset: end });
                }
            }
        }
    }

    fn leave(&mut self, at_once: bool) {
        let Some(joined) = self.joined.take() else { return };
        self.topics.clear();
        let connected = self.cluster.is_connected();
        self.cluster.change(|state| {
            let (now_ms, group) = (state.now_ms(), state.group(&self.group));
            match at_once && connected {
                true => group.leave(&self.member, joined),
                false => group.fall_silent(&self.member, joined, now_ms),
            }
        });
    }
}

fn replaced(member: &str) -> Error {
    Error::new(Kind::BrokerFatal, format!("another member has joined under the name {member}"))
        .hint("stop one of the two processes, or give each a name of its own")
}

impl Consumer for MemoryConsumer {
    fn subscribe(&mut self, topics: &[Arc<str>]) -> Result {
        self.topics = topics.to_vec();
        if let Some(joined) = self.joined {
            self.cluster.change(|state| state.group(&self.group).resubscribe(&self.member, joined, topics));
        }
        Ok(())
    }

    fn poll(&mut self, timeout: Duration, max_records: usize, batch: &mut Batch, events: &mut Vec<Event>) -> Result {
        let known = (batch.records.len(), events.len());
        self.turn(max_records, batch, events)?;
        if known == (batch.records.len(), events.len()) && !timeout.is_zero() {
            self.cluster.wait(timeout, &self.bell);
            self.turn(max_records, batch, events)?;
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        let (cluster, bell) = (self.cluster.clone(), self.bell.clone());
        Arc::new(move || cluster.ring(&bell))
    }

    fn assign(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result {
        let state = self.cluster.lock();
        for (tp, offset) in partitions {
            let position = offset.or_else(|| state.log(tp).map(|log| log.bounds().start)).unwrap_or(0);
            let fetch = Fetch { position, paused: false, end: None, end_told: None, out_of_range: false };
            self.fetches.insert(tp.clone(), fetch);
        }
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result {
        for tp in partitions {
            self.fetches.remove(tp);
            self.held.remove(tp);
        }
        if let Some(joined) = self.joined
            && self.cluster.is_connected()
        {
            self.cluster.change(|state| state.group(&self.group).release(&self.member, joined, partitions));
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result {
        for tp in partitions {
            if let Some(fetch) = self.fetches.get_mut(tp) {
                fetch.paused = true;
            }
        }
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result {
        for tp in partitions {
            if let Some(fetch) = self.fetches.get_mut(tp) {
                fetch.paused = false;
            }
        }
        Ok(())
    }

    fn committed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Option<Committed>>> {
        self.cluster.request(Request::Committed, |state| {
            let pending = |tp: &&TopicPartition| state.is_offset_pending(&self.group, tp);
            if self.isolation == Isolation::ReadCommitted
                && let Some(tp) = partitions.iter().find(pending)
            {
                return Err(Error::new(Kind::Broker, "the offset is in a transaction that has not ended")
                    .topic(&*tp.topic)
                    .partition(tp.partition));
            }
            let offsets = &state.group(&self.group).offsets;
            Ok(partitions.iter().map(|tp| offsets.get(tp).cloned()).collect())
        })
    }

    fn commit(&mut self, offsets: &[(TopicPartition, Committed)]) -> Result {
        self.cluster.request(Request::Commit, |state| {
            let now_ms = state.now_ms();
            let group = state.group(&self.group);
            group.expire(now_ms);
            match self.joined.map_or(Err(Gone::Removed), |joined| group.check(&self.member, joined)) {
                Err(Gone::Removed) => Err(Error::new(Kind::Migrated, "this member is no longer in the group")
                    .hint("nothing to do, the member joins again")),
                Err(Gone::Replaced) => Err(replaced(&self.member)),
                Ok(()) => {
                    group.offsets.extend(offsets.iter().cloned());
                    Ok(())
                }
            }
        })
    }

    fn cached_end_offset(&self, partition: &TopicPartition) -> Option<i64> {
        self.fetches.get(partition)?.end
    }

    fn offset_bounds(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Range<i64>>> {
        self.cluster.request(Request::Offsets, |state| {
            let bounds = |tp: &TopicPartition| state.log(tp).map(|log| log.visible_bounds(self.isolation));
            partitions.iter().map(|tp| bounds(tp).ok_or_else(|| unknown_topic(&tp.topic))).collect()
        })
    }

    fn log_ends(&mut self, partitions: &[TopicPartition]) -> Result<Vec<i64>> {
        self.cluster.request(Request::Offsets, |state| {
            let end = |tp: &TopicPartition| state.log(tp).map(|log| log.bounds().end);
            partitions.iter().map(|tp| end(tp).ok_or_else(|| unknown_topic(&tp.topic))).collect()
        })
    }

    fn offsets_since(&mut self, partitions: &[TopicPartition], timestamp_ms: Timestamp) -> Result<Vec<i64>> {
        self.cluster.request(Request::Offsets, |state| {
            let since = |tp: &TopicPartition| {
                let log = state.log(tp).ok_or_else(|| unknown_topic(&tp.topic))?;
                let young = log.records().iter().find(|record| record.timestamp_ms >= timestamp_ms);
                Ok(young.map_or(log.visible_bounds(self.isolation).end, |record| record.offset))
            };
            partitions.iter().map(since).collect()
        })
    }

    fn seek(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result {
        let paused = |tp: &TopicPartition| self.fetches.get(tp).is_some_and(|fetch| fetch.paused);
        let held: Vec<TopicPartition> = partitions.iter().map(|(tp, _)| tp).filter(|tp| paused(tp)).cloned().collect();
        self.assign(partitions)?;
        self.pause(&held)
    }

    fn group_metadata(&mut self) -> Option<Box<dyn Any>> {
        let (group, member) = (self.group.clone(), self.member.clone());
        self.joined.map(|joined| Box::new(GroupMetadata { group, member, joined }) as Box<dyn Any>)
    }

    fn close(&mut self, leave: bool) -> Result {
        self.leave(leave);
        self.fetches.clear();
        self.held.clear();
        Ok(())
    }
}

impl Drop for MemoryConsumer {
    /// A consumer that is dropped without `close` is a process that was killed.
    fn drop(&mut self) {
        self.leave(false);
    }
}
