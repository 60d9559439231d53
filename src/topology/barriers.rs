//! Where a commit has to wait for work that is under way.
//!
//! A record that a node holds (a call is under way for it) is not committed, but what was done for it on the way may be: it
//! would be done again, or be taken for done, after a crash.

use super::{NodeId, NodeKind, Topology};
use std::collections::BTreeSet;

impl Topology {
    /// Whether tasks of these nodes may only commit when nothing is under way.
    ///
    /// At least once this is so where a store may have changed on a record's way to a holder: the store would say that the
    /// record has been seen, and it would not get here again. Exactly once it is so where a store may change for a record that
    /// some holder still has: it would change again.
    pub fn commits_wait_for_holders(&self, nodes: &[NodeId], exactly_once: bool) -> bool {
        let nodes: BTreeSet<NodeId> = nodes.iter().copied().collect();
        let changes = |n: &NodeId| !self.nodes[n.0].stores.is_empty() && !self.readers.contains(n);
        self.holders.iter().filter(|holder| nodes.contains(holder)).any(|holder| {
            let above = self.above(*holder);
            if above.iter().any(changes) {
                return true;
            }
            let sources = above.iter().filter(|n| matches!(self.nodes[n.0].kind, NodeKind::Source { .. }));
            exactly_once && self.reached_without(sources.copied(), *holder).iter().any(changes)
        })
    }

    fn above(&self, node: NodeId) -> BTreeSet<NodeId> {
        let mut above = BTreeSet::new();
        let mut next = self.nodes[node.0].parents.clone();
        while let Some(n) = next.pop() {
            if above.insert(n) {
                next.extend(&self.nodes[n.0].parents);
            }
        }
        above
    }

    /// The nodes that records of these sources reach, but for those that they reach through `holder` only.
    fn reached_without(&self, sources: impl Iterator<Item = NodeId>, holder: NodeId) -> BTreeSet<NodeId> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<NodeId> = sources.collect();
        while let Some(n) = next.pop() {
            if n != holder && reached.insert(n) {
                next.extend(self.children(n));
            }
        }
        reached
    }
}
