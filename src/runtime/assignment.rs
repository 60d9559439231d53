//! From the partitions that a thread owns to its tasks: a pure function.

use super::task::TaskId;
use super::topics::KnownTopics;
use crate::broker::TopicPartition;
use crate::error::{Error, Kind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The source topics of each sub-topology, by their names on the broker.
pub(crate) type Inputs = Vec<Vec<Arc<str>>>;

/// The tasks that `owned` partitions make, with the partitions of each.
///
/// A task `(s, p)` needs partition `p` of every source topic of sub-topology `s` that has so many partitions. The group's
/// assignor keeps equal partition numbers together (`range`); should it not, joins would silently miss rows, so it is
/// checked. Where topics come and go (`patient`: they match a pattern), members of the group may know different ones for a
/// while: a task that lacks a partition is left out until it has it.
///
/// # Errors
/// [`Kind::Topology`] where a task's partitions are not all owned.
pub(crate) fn tasks(
    owned: &BTreeSet<TopicPartition>,
    known: &KnownTopics,
    patient: impl Fn(usize) -> bool,
) -> Result<BTreeMap<TaskId, Vec<TopicPartition>>> {
    let KnownTopics { counts, inputs, .. } = known;
    let mut tasks: BTreeMap<TaskId, Vec<TopicPartition>> = BTreeMap::new();
    for tp in owned {
        for (sub_topology, topics) in inputs.iter().enumerate() {
            if topics.contains(&tp.topic) {
                tasks.entry(TaskId { sub_topology, partition: tp.partition }).or_default().push(tp.clone());
            }
        }
    }
    let lacks = |id: &TaskId, partitions: &[TopicPartition]| {
        inputs[id.sub_topology].iter().find(|topic| {
            let has = counts.get(*topic).is_some_and(|count| id.partition < *count);
            has && !partitions.iter().any(|tp| tp.topic == **topic)
        })
    };
    tasks.retain(|id, partitions| !patient(id.sub_topology) || lacks(id, partitions).is_none());
    for (id, partitions) in &tasks {
        if let Some(topic) = lacks(id, partitions) {
            return Err(Error::new(
                Kind::Topology,
                format!("task {id} was assigned without this partition, so its joins would miss records"),
            )
            .topic(&**topic)
            .partition(id.partition)
            .hint("use the range assignor: partition.assignment.strategy=range, or group.remote.assignor=range"));
        }
    }
    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(owned: &[(&str, i32)], patient: usize) -> Result<Vec<String>> {
        let inputs = vec![vec!["a".into(), "b".into()], vec!["c".into()]];
        let counts = [("a".into(), 2), ("b".into(), 2), ("c".into(), 3)].into();
        let owned = owned.iter().map(|(t, p)| TopicPartition::new(*t, *p)).collect();
        let known = KnownTopics::of(counts, inputs);
        Ok(tasks(&owned, &known, |sub_topology| sub_topology == patient)?.keys().map(ToString::to_string).collect())
    }

    #[test]
    fn equal_partitions_of_all_topics_make_a_task() {
        assert_eq!(run(&[("a", 0), ("b", 0), ("c", 2)], 9).ok(), Some(vec!["0_0".into(), "1_2".into()]));
    }

    #[test]
    fn a_task_without_one_of_its_partitions_is_an_error() {
        let error = run(&[("a", 1)], 9).expect_err("b-1 is missing").to_string();
        assert!(error.contains("topic b, partition 1") && error.contains("range"), "{error}");
    }

    #[test]
    fn where_topics_come_and_go_a_task_waits_for_its_partitions() {
        assert_eq!(run(&[("a", 1), ("c", 0)], 0).ok(), Some(vec!["1_0".into()]));
    }
}
