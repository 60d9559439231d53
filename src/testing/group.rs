//! A consumer group: members, what each one has, committed offsets. A state machine without I/O.
//!
//! Rebalances are incremental, as in Kafka's `consumer` protocol: a member is asked for what it has to give up, keeps the
//! rest, and gets new partitions when their owner has given them back. The target is the `range` assignor's, so equal
//! partition numbers of all topics stay together.

use crate::broker::{Committed, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long a member that no longer sends heartbeats keeps its partitions (Kafka's default, `session.timeout.ms`).
pub(super) const SESSION_TIMEOUT_MS: i64 = 45_000;
/// How long a member may take to give back what it was asked for (Kafka's default, `max.poll.interval.ms`).
pub(super) const REBALANCE_TIMEOUT_MS: i64 = 300_000;

/// How many partitions each topic has; `None` where it does not exist.
pub(super) trait PartitionCounts {
    fn count(&self, topic: &str) -> Option<i32>;
}

/// A consumer group.
#[derive(Debug, Default)]
pub(super) struct Group {
    members: BTreeMap<String, Member>,
    /// Grows with every member that comes or goes.
    pub(super) generation: u64,
    pub(super) offsets: BTreeMap<TopicPartition, Committed>,
}

#[derive(Debug)]
struct Member {
    /// The generation in which it joined: tells it from a predecessor of the same name.
    joined: u64,
    topics: Vec<Arc<str>>,
    owned: BTreeSet<TopicPartition>,
    /// What it was asked to give back, and when.
    asked: Option<(BTreeSet<TopicPartition>, i64)>,
    /// It has joined, or given something back, and has not heard yet that this is over.
    open: bool,
    /// When its heartbeats ended.
    silent_since_ms: Option<i64>,
    /// Its process has ended: they will not come again.
    ended: bool,
}

/// Why a member is no longer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// It was silent, or slow to give partitions back, for too long.
    Removed,
    /// Another member has joined under its name.
    Replaced,
}

/// What a heartbeat brings. A rebalance ends with a `Take`, of nothing where there is nothing to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Give(Vec<TopicPartition>),
    Take(Vec<TopicPartition>),
}

impl Group {
    /// Adds a member; one of the same name is replaced at once, and its partitions are free. Returns the generation by which
    /// the member is known from now on.
    pub(super) fn join(&mut self, name: &str, topics: &[Arc<str>]) -> u64 {
        self.generation += 1;
        let (joined, topics) = (self.generation, topics.to_vec());
        let member = Member {
            joined,
            topics,
            owned: BTreeSet::new(),
            asked: None,
            open: true,
            silent_since_ms: None,
            ended: false,
        };
        self.members.insert(name.into(), member);
        joined
    }

    /// The member reads other topics from now on.
    pub(super) fn resubscribe(&mut self, name: &str, joined: u64, topics: &[Arc<str>]) {
        if let Some(member) = self.members.get_mut(name).filter(|member| member.joined == joined) {
            (member.topics, member.open) = (topics.to_vec(), true);
            self.generation += 1;
        }
    }

    /// Removes the member, whose partitions are free at once.
    pub(super) fn leave(&mut self, name: &str, joined: u64) {
        if self.check(name, joined).is_ok() {
            self.remove(name);
        }
    }

    /// Removes whoever has this name.
    pub(super) fn remove(&mut self, name: &str) {
        self.generation += u64::from(self.members.remove(name).is_some());
    }

    /// The member's heartbeats end: it keeps its partitions until the session has timed out.
    pub(super) fn fall_silent(&mut self, name: &str, joined: u64, now_ms: i64) {
        if let Some(member) = self.members.get_mut(name).filter(|member| member.joined == joined) {
            (member.silent_since_ms, member.ended) = (Some(now_ms), true);
        }
    }

    /// The member's heartbeats end at this time, or have come again.
    pub(super) fn silence(&mut self, name: &str, since_ms: Option<i64>) {
        if let Some(member) = self.members.get_mut(name).filter(|member| !member.ended) {
            member.silent_since_ms = since_ms;
        }
    }

    /// Removes the members whose time is up.
    pub(super) fn expire(&mut self, now_ms: i64) {
        let before = self.members.len();
        self.members.retain(|_, member| {
            let silent = member.silent_since_ms.is_some_and(|since| now_ms - since >= SESSION_TIMEOUT_MS);
            let slow = member.asked.as_ref().is_some_and(|(_, since)| now_ms - since >= REBALANCE_TIMEOUT_MS);
            !silent && !slow
        });
        self.generation += (before - self.members.len()) as u64;
    }

    /// Whether the member is still the one that joined in that generation.
    pub(super) fn check(&self, name: &str, joined: u64) -> Result<(), Gone> {
        match self.members.get(name) {
            None => Err(Gone::Removed),
            Some(member) if member.joined != joined => Err(Gone::Replaced),
            Some(_) => Ok(()),
        }
    }

    /// What the member has to give back, or may take.
    pub(super) fn heartbeat(
        &mut self,
        name: &str,
        joined: u64,
        counts: &dyn PartitionCounts,
        now_ms: i64,
    ) -> Result<Option<Change>, Gone> {
        self.expire(now_ms);
        self.check(name, joined)?;
        let target = self.target(name, counts);
        let others = self.members.iter().filter(|(other, _)| *other != name);
        let taken: BTreeSet<_> = others.flat_map(|(_, member)| &member.owned).cloned().collect();
        let Some(member) = self.members.get_mut(name) else { return Err(Gone::Removed) };
        let give: BTreeSet<_> = member.owned.difference(&target).cloned().collect();
        if !give.is_empty() {
            // Asked once; if the target has changed meanwhile, what came to it is asked for when this is done.
            if member.asked.is_some() {
                return Ok(None);
            }
            member.asked = Some((give.clone(), now_ms));
            member.open = true;
            return Ok(Some(Change::Give(give.into_iter().collect())));
        }
        if member.asked.is_some() {
            return Ok(None);
        }
        let take: Vec<_> = target.difference(&member.owned).filter(|tp| !taken.contains(tp)).cloned().collect();
        member.owned.extend(take.iter().cloned());
        let over = member.open && member.owned == target;
        member.open &= !over;
        Ok((over || !take.is_empty()).then_some(Change::Take(take)))
    }

    /// The member gives these back.
    pub(super) fn release(&mut self, name: &str, joined: u64, partitions: &[TopicPartition]) {
        let Some(member) = self.members.get_mut(name).filter(|member| member.joined == joined) else { return };
        for tp in partitions {
            member.owned.remove(tp);
        }
        let owned = &member.owned;
        member.asked.take_if(|(asked, _)| asked.iter().all(|tp| !owned.contains(tp)));
    }

    /// Who has what.
    pub(super) fn members(&self) -> BTreeMap<String, Vec<TopicPartition>> {
        self.members.iter().map(|(name, member)| (name.clone(), member.owned.iter().cloned().collect())).collect()
    }

    /// What `range` gives to this member: of each topic a run of partitions, the first members one more where it does not
    /// divide. Source: `RangeAssignor`.
    fn target(&self, name: &str, counts: &dyn PartitionCounts) -> BTreeSet<TopicPartition> {
        let mut target = BTreeSet::new();
        for topic in self.members.get(name).map_or(&[][..], |member| &member.topics) {
            let readers = self.members.iter().filter(|(_, member)| member.topics.contains(topic));
            let readers: Vec<&String> = readers.map(|(name, _)| name).collect();
            let (Some(count), Some(i)) = (counts.count(topic), readers.iter().position(|reader| *reader == name))
            else {
                continue;
            };
            let (i, members) = (i as i32, readers.len() as i32);
            let (each, extra) = (count / members, count % members);
            let first = each * i + i.min(extra);
            let run = first..first + each + i32::from(i < extra);
            target.extend(run.map(|partition| TopicPartition::new(topic.clone(), partition)));
        }
        target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Four;
    impl PartitionCounts for Four {
        fn count(&self, topic: &str) -> Option<i32> {
            (topic != "missing").then_some(4)
        }
    }

    fn beat(group: &mut Group, name: &str, joined: u64, now_ms: i64) -> Option<Change> {
        group.heartbeat(name, joined, &Four, now_ms).expect("is a member")
    }

    fn partitions(list: &[i32]) -> Vec<TopicPartition> {
        ["a", "b"].iter().flat_map(|t| list.iter().map(|p| TopicPartition::new(*t, *p))).collect()
    }

    fn topics() -> Vec<Arc<str>> {
        vec!["a".into(), "b".into(), "missing".into()]
    }

    #[test]
    fn a_second_member_gets_its_half_when_the_first_has_given_it_back() {
        let mut group = Group::default();
        let one = group.join("one", &topics());
        assert_eq!(beat(&mut group, "one", one, 0), Some(Change::Take(partitions(&[0, 1, 2, 3]))));
        assert_eq!(beat(&mut group, "one", one, 0), None);
        let two = group.join("two", &topics());
        assert_eq!(beat(&mut group, "two", two, 0), None);
        assert_eq!(beat(&mut group, "one", one, 0), Some(Change::Give(partitions(&[2, 3]))));
        assert_eq!(beat(&mut group, "one", one, 0), None, "asked once");
        assert_eq!(beat(&mut group, "two", two, 0), None, "not given back yet");
        group.release("one", one, &partitions(&[2, 3]));
        assert_eq!(beat(&mut group, "one", one, 0), Some(Change::Take(vec![])), "it is over for this one");
        assert_eq!(beat(&mut group, "one", one, 0), None);
        assert_eq!(beat(&mut group, "two", two, 0), Some(Change::Take(partitions(&[2, 3]))));
        group.leave("one", one);
        assert_eq!(beat(&mut group, "two", two, 0), Some(Change::Take(partitions(&[0, 1]))));
    }

    #[test]
    fn partitions_that_do_not_divide_go_to_the_first_members() {
        let mut group = Group::default();
        let joined = ["x", "y", "z"].map(|name| (name, group.join(name, &["a".into()])));
        let taken = joined.map(|(name, joined)| match beat(&mut group, name, joined, 0) {
            Some(Change::Take(list)) => list.iter().map(|tp| tp.partition).collect(),
            _ => vec![],
        });
        assert_eq!(taken, [vec![0, 1], vec![2], vec![3]]);
    }

    #[test]
    fn a_member_for_which_there_is_nothing_hears_so_once() {
        let mut group = Group::default();
        let one = group.join("one", &["a".into()]);
        beat(&mut group, "one", one, 0);
        let spare = group.join("spare", &["missing".into()]);
        assert_eq!(beat(&mut group, "spare", spare, 0), Some(Change::Take(vec![])));
        assert_eq!(beat(&mut group, "spare", spare, 0), None);
    }

    #[test]
    fn a_silent_member_keeps_its_partitions_until_its_session_has_timed_out() {
        let mut group = Group::default();
        let one = group.join("one", &topics());
        beat(&mut group, "one", one, 0);
        group.fall_silent("one", one, 1_000);
        let two = group.join("two", &topics());
        assert_eq!(beat(&mut group, "two", two, 45_999), None);
        assert_eq!(beat(&mut group, "two", two, 46_000), Some(Change::Take(partitions(&[0, 1, 2, 3]))));
        assert_eq!(group.check("one", one), Err(Gone::Removed));
    }

    #[test]
    fn a_member_that_does_not_give_back_in_time_is_removed() {
        let mut group = Group::default();
        let one = group.join("one", &topics());
        beat(&mut group, "one", one, 0);
        let two = group.join("two", &topics());
        beat(&mut group, "one", one, 0);
        assert_eq!(beat(&mut group, "two", two, REBALANCE_TIMEOUT_MS), Some(Change::Take(partitions(&[0, 1, 2, 3]))));
        assert_eq!(group.heartbeat("one", one, &Four, REBALANCE_TIMEOUT_MS), Err(Gone::Removed));
    }

    #[test]
    fn a_member_that_comes_back_under_its_name_replaces_itself_at_once() {
        let mut group = Group::default();
        let old = group.join("one", &topics());
        beat(&mut group, "one", old, 0);
        let new = group.join("one", &topics());
        assert_eq!(beat(&mut group, "one", new, 0), Some(Change::Take(partitions(&[0, 1, 2, 3]))));
        assert_eq!(group.check("one", old), Err(Gone::Replaced));
        group.leave("one", old);
        group.release("one", old, &partitions(&[0]));
        assert_eq!(group.members()["one"], partitions(&[0, 1, 2, 3]), "the old one has no say any more");
    }
}
