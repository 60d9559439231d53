//! The graph in sub-topologies: what has to run in one task because it is connected or shares a store.

use super::java_order::hash_order;
use super::{Node, NodeId, NodeKind, TopicName, TopicPattern, Topology};
use crate::error::{Error, Kind, Result};
use std::collections::{BTreeMap, BTreeSet};

/// A part of the topology whose nodes run in one task per partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubTopology {
    /// Its number: the first part of its tasks' ids.
    pub id: usize,
    /// Its nodes, in the order in which they were added.
    pub nodes: Vec<NodeId>,
    /// The topics that it reads.
    pub source_topics: Vec<TopicName>,
    /// The patterns of further topics that it reads.
    pub source_patterns: Vec<TopicPattern>,
    /// The topics that it writes, as far as they are known beforehand.
    pub sink_topics: Vec<TopicName>,
    /// Its stores, in the order in which Kafka Streams registers them: node by node, each node's as a `HashSet` has them.
    pub stores: Vec<String>,
    /// It fills a global store: it makes no tasks, its topics are read as a whole.
    pub global: bool,
}

/// Splits the topology. Nodes belong together that are connected or use the same store; sub-topologies are numbered by
/// their first node. Source: `InternalTopologyBuilder.makeNodeGroups`.
///
/// # Errors
/// [`Kind::Topology`] where a node uses a store that was never added.
pub fn sub_topologies(topology: &Topology) -> Result<Vec<SubTopology>> {
    let mut group: Vec<usize> = (0..topology.nodes.len()).collect();
    let mut store_user: BTreeMap<&str, usize> = BTreeMap::new();
    for (n, node) in topology.nodes.iter().enumerate() {
        for parent in &node.parents {
            unite(&mut group, n, parent.0);
        }
        for store in &node.stores {
            if !topology.stores.contains_key(store) {
                return Err(Error::new(Kind::Topology, "the store has not been added")
                    .node(&node.name)
                    .store(store)
                    .hint("add it to the builder before a node uses it"));
            }
            let first = *store_user.entry(store).or_insert(n);
            unite(&mut group, n, first);
        }
    }
    let mut parts: BTreeMap<usize, Vec<NodeId>> = BTreeMap::new();
    for n in 0..topology.nodes.len() {
        // The root of a group is its first node, so that the map's order is the numbering.
        parts.entry(root(&group, n)).or_default().push(NodeId(n));
    }
    Ok(parts.into_values().enumerate().map(|(id, nodes)| sub_topology(topology, id, nodes)).collect())
}

/// The whole topology as one: what a test driver runs in a single task.
///
/// # Errors
/// As [`sub_topologies`].
pub fn all_in_one(topology: &Topology) -> Result<SubTopology> {
    united(topology, false)
}

/// What fills the global stores, as one: it runs once per client.
///
/// # Errors
/// As [`sub_topologies`].
pub fn global(topology: &Topology) -> Result<SubTopology> {
    united(topology, true)
}

fn united(topology: &Topology, global: bool) -> Result<SubTopology> {
    let parts = sub_topologies(topology)?.into_iter().filter(|sub| sub.global == global);
    let mut nodes: Vec<NodeId> = parts.flat_map(|sub| sub.nodes).collect();
    nodes.sort();
    Ok(sub_topology(topology, 0, nodes))
}

fn root(group: &[usize], mut n: usize) -> usize {
    while group[n] != n {
        n = group[n];
    }
    n
}

fn unite(group: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(group, a), root(group, b));
    group[a.max(b)] = a.min(b);
}

fn sub_topology(topology: &Topology, id: usize, nodes: Vec<NodeId>) -> SubTopology {
    let all = || nodes.iter().map(|n| &topology.nodes[n.0]);
    let sink = |node: &Node| match &node.kind {
        NodeKind::Sink { topic, .. } => topic.fixed().cloned(),
        _ => None,
    };
    let source_topics = all().flat_map(Node::source_topics).cloned().collect();
    let source_patterns = all().filter_map(Node::source_pattern).cloned().collect();
    let sink_topics = all().filter_map(sink).collect::<BTreeSet<_>>().into_iter().collect();
    let mut stores: Vec<String> = Vec::new();
    for store in all().flat_map(|node| hash_order(node.stores.iter().map(String::as_str))) {
        if !stores.iter().any(|known| known == store) {
            stores.push(store.into());
        }
    }
    let global = stores.iter().any(|store| topology.global_stores.contains(store));
    SubTopology { id, nodes, source_topics, source_patterns, sink_topics, stores, global }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn a_join_is_one_and_what_is_apart_is_another() {
        let builder = StreamsBuilder::new();
        let table = builder.table("a", Consumed::<String, String>::default(), Materialized::rocksdb("s"));
        builder.stream("x", Consumed::<String, String>::default()).to("y", Produced::default());
        let b = builder.stream("b", Consumed::<String, String>::default());
        b.join(&table, |b, a| b + &a).to("out", Produced::default());
        let topology = builder.build().expect("a topology");
        let subs = sub_topologies(&topology).expect("split");
        let topics = |s: &SubTopology| s.source_topics.iter().map(|t| t.plain().to_owned()).collect::<Vec<_>>();
        assert_eq!(subs.iter().map(topics).collect::<Vec<_>>(), [vec!["a", "b"], vec!["x"]]);
        assert_eq!(subs[0].stores, ["s"]);
        assert_eq!(subs[1].sink_topics, [TopicName::User("y".into())]);
    }
}
