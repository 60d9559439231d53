//! From the partitions that a thread owns to its tasks: a pure function.

use super::task::TaskId;
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
/// checked.
///
/// # Errors
/// [`Kind::Topology`] where a task's partitions are not all owned.
pub(crate) fn tasks(
    owned: &BTreeSet<TopicPartition>,
    inputs: &Inputs,
    partition_counts: &BTreeMap<Arc<str>, i32>,
) -> Result<BTreeMap<TaskId, Vec<TopicPartition>>> {
    let mut tasks: BTreeMap<TaskId, Vec<TopicPartition>> = BTreeMap::new();
    for tp in owned {
        for (sub_topology, topics) in inputs.iter().enumerate() {
            if topics.contains(&tp.topic) {
                tasks.entry(TaskId { sub_topology, partition: tp.partition }).or_default().push(tp.clone());
            }
        }
    }
    for (id, partitions) in &tasks {
        for topic in &inputs[id.sub_topology] {
            let count = partition_counts.get(topic).copied().unwrap_or(0);
            if id.partition < count && !partitions.iter().any(|tp| tp.topic == *topic) {
                return Err(Error::new(
                    Kind::Topology,
                    format!("task {id} was assigned without this partition, so its joins would miss records"),
                )
                .topic(&**topic)
                .partition(id.partition)
                .hint("use the range assignor: partition.assignment.strategy=range, or group.remote.assignor=range"));
            }
        }
    }
    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(owned: &[(&str, i32)]) -> Result<Vec<String>> {
        let inputs = vec![vec!["a".into(), "b".into()], vec!["c".into()]];
        let counts = [("a".into(), 2), ("b".into(), 2), ("c".into(), 3)].into();
        let owned = owned.iter().map(|(t, p)| TopicPartition::new(*t, *p)).collect();
        Ok(tasks(&owned, &inputs, &counts)?.keys().map(ToString::to_string).collect())
    }

    #[test]
    fn equal_partitions_of_all_topics_make_a_task() {
        assert_eq!(run(&[("a", 0), ("b", 0), ("c", 2)]).ok(), Some(vec!["0_0".into(), "1_2".into()]));
    }

    #[test]
    fn a_task_without_one_of_its_partitions_is_an_error() {
        let error = run(&[("a", 1)]).expect_err("b-1 is missing").to_string();
        assert!(error.contains("topic b, partition 1") && error.contains("range"), "{error}");
    }
}
