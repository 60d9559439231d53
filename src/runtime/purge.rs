//! Repartition topics keep nothing by time: what has been consumed and committed is deleted from them, now and then.
//! Threads note how far they have committed; the deletion itself runs beside them, since nobody waits for it.
//! Source: `TaskManager.maybePurgeCommittedRecords`.

use crate::broker::{Broker, TopicPartition};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What of the repartition topics may be deleted.
#[derive(Default)]
pub(crate) struct Purge {
    topics: BTreeSet<Arc<str>>,
    /// Committed and not yet deleted.
    noted: Mutex<BTreeMap<TopicPartition, i64>>,
    running: AtomicBool,
}

impl Purge {
    /// For these repartition topics.
    pub(crate) fn new(topics: BTreeSet<Arc<str>>) -> Self {
        Self { topics, ..Self::default() }
    }

    /// Notes committed offsets; those of other topics are passed over.
    pub(crate) fn note<'a>(&self, committed: impl Iterator<Item = (&'a TopicPartition, i64)>) {
        if self.topics.is_empty() {
            return;
        }
        let own = committed.filter(|(tp, offset)| *offset > 0 && self.topics.contains(&tp.topic));
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.extend(own.map(|(tp, offset)| (tp.clone(), offset)));
    }

    /// Takes what is to be deleted now; `None` where there is nothing, or the last deletion is still under way.
    pub(crate) fn begin(&self) -> Option<Vec<(TopicPartition, i64)>> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.is_empty() || self.running.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(std::mem::take(&mut *noted).into_iter().collect())
    }

    /// Deletes. What fails is tried again with the next note of its partition.
    pub(crate) fn run(&self, broker: &dyn Broker, before: &[(TopicPartition, i64)]) {
        match broker.admin().and_then(|mut admin| admin.delete_records(before)) {
            Ok(()) => tracing::debug!("purged {} repartition partitions", before.len()),
            Err(error) => tracing::warn!("repartition topics could not be purged, which is tried again: {error}"),
        }
        self.running.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemoryBroker;

    #[test]
    fn only_repartition_topics_are_purged_up_to_what_is_committed() {
        let memory = MemoryBroker::new();
        for topic in ["r", "in"] {
            memory.create_topic(topic, 1);
            (0..5).for_each(|n| _ = memory.produce(topic, &b"k"[..], &b"v"[..], n).expect("is there"));
        }
        let purge = Purge::new(["r".into()].into());
        assert_eq!(purge.begin(), None);
        let (r, input) = (TopicPartition::new("r", 0), TopicPartition::new("in", 0));
        purge.note([(&r, 2), (&input, 3)].into_iter());
        purge.note([(&r, 4)].into_iter());
        let before = purge.begin().expect("something to delete");
        assert_eq!(before, [(r.clone(), 4)]);
        purge.note([(&r, 5)].into_iter());
        assert_eq!(purge.begin(), None, "one at a time");
        purge.run(&*memory.client("app", "p"), &before);
        assert_eq!((memory.records("r").len(), memory.records("in").len()), (1, 5));
        assert_eq!(purge.begin(), Some(vec![(r, 5)]));
    }
}
