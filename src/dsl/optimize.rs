//! What `topology.optimization` does to the logical graph, and what is always done.
//!
//! Source: `InternalStreamsBuilder.optimizeTopology` and `mergeDuplicateSourceNodes`.

use super::graph::{GraphId, GraphNode, Growing, Role};
use super::repartition::Repartition;
use super::topics::SelectedTopics;
use crate::error::{Error, Kind, Result};
use std::collections::{BTreeMap, BTreeSet};

impl Growing {
    fn node(&self, id: GraphId) -> &GraphNode {
        &self.nodes[id.0]
    }

    fn remove_child(&mut self, parent: GraphId, child: GraphId) {
        self.nodes[parent.0].children.retain(|c| *c != child);
        self.nodes[child.0].parents.retain(|p| *p != parent);
    }

    fn add_child(&mut self, parent: GraphId, child: GraphId) {
        if !self.nodes[parent.0].children.contains(&child) {
            self.nodes[parent.0].children.push(child);
        }
        if !self.nodes[child.0].parents.contains(&parent) {
            self.nodes[child.0].parents.push(parent);
        }
    }

    /// The node itself or the nearest above it, depth first along its parents, for which `is_it`: Kafka Streams'
    /// `findParentNodeMatching`.
    fn find_above(&self, start: GraphId, is_it: &dyn Fn(GraphId) -> bool) -> Option<GraphId> {
        if is_it(start) {
            return Some(start);
        }
        self.node(start).parents.iter().find_map(|parent| self.find_above(*parent, is_it))
    }

    fn changes_key(&self, id: GraphId) -> bool {
        matches!(self.node(id).role, Role::KeyChanging)
    }

    fn changes_value(&self, id: GraphId) -> bool {
        matches!(self.node(id).role, Role::ValueChanging)
    }
}

/// Streams of the same topics are read once.
pub(super) fn merge_sources(growing: &mut Growing) -> Result {
    let mut readers: BTreeMap<String, GraphId> = BTreeMap::new();
    for source in growing.roots.clone() {
        let Role::StreamSource(topics, reset) = &growing.node(source).role else { continue };
        let topics: BTreeSet<String> = read(topics);
        let known: Option<GraphId> = topics.iter().find_map(|topic| readers.get(topic).copied());
        let Some(first) = known else {
            readers.extend(topics.into_iter().map(|topic| (topic, source)));
            continue;
        };
        let Role::StreamSource(others, other_reset) = &growing.node(first).role else { continue };
        if read(others) != topics {
            let what = "Two source nodes are subscribed to overlapping but not equal input topics";
            return Err(Error::new(Kind::Topology, what).hint("read each topic in one `stream`, and merge the streams"));
        }
        if other_reset != reset {
            let what = "Can't configure different offset reset policies on the same input topic(s)";
            return Err(Error::new(Kind::Topology, what).hint("give each `stream` of them the same offset_reset"));
        }
        for child in growing.node(source).children.clone() {
            growing.remove_child(source, child);
            growing.add_child(first, child);
        }
        growing.nodes[source.0].removed = true;
        for group in &mut growing.copartitioned {
            group.iter_mut().filter(|id| **id == source).for_each(|id| *id = first);
        }
    }
    Ok(())
}

/// The names, or the pattern with a mark that no name has.
fn read(topics: &SelectedTopics) -> BTreeSet<String> {
    match topics {
        SelectedTopics::Named(names) => names.iter().cloned().collect(),
        SelectedTopics::Matching(pattern) => [format!("/{}/", pattern.as_str())].into(),
    }
}

/// What processors of the user's own change, as far as the merging of repartition topics goes: nothing, to Kafka Streams. Where
/// they `stay_above`, or where their types tell that they change something, they count as what they are.
pub(super) fn judge_processors(growing: &mut Growing, stay_above: bool) {
    for node in &mut growing.nodes {
        node.role = match node.role {
            Role::Process { same_types: true, .. } if !stay_above => Role::Plain,
            Role::Process { may_change_key: true, .. } => Role::KeyChanging,
            Role::Process { .. } => Role::ValueChanging,
            _ => continue,
        };
    }
}

/// Several repartitions below one change of key carry the same records: one of them will do.
pub(super) fn merge_repartitions(growing: &mut Growing) {
    for (changer, repartitions) in mergeable(growing) {
        let Some(Role::Repartition { spec, .. }) = repartitions.first().map(|id| &growing.nodes[id.0].role) else {
            continue;
        };
        let ports = spec.ports.clone();
        let topic = spec.names.topic.clone();
        let node = Repartition::merged(growing, &topic, ports);
        let merged = growing.add(GraphNode { parents: vec![changer], ..node });
        growing.remove_child(changer, merged);
        growing.nodes[merged.0].priority = growing.node(changer).priority;
        for replaced in repartitions {
            let is_below = |id: GraphId| growing.node(id).parents.contains(&changer);
            let Some(below) = growing.find_above(replaced, &is_below) else { continue };
            growing.add_child(merged, below);
            growing.remove_child(changer, below);
            let (children, parents) = (growing.node(replaced).children.clone(), growing.node(replaced).parents.clone());
            for child in &children {
                for parent in &parents {
                    growing.add_child(*parent, *child);
                }
                growing.nodes[child.0].parents.retain(|p| *p != replaced);
            }
            for parent in parents {
                growing.remove_child(parent, replaced);
            }
            growing.nodes[replaced.0].children.clear();
            for group in &mut growing.copartitioned {
                group.iter_mut().filter(|id| **id == replaced).for_each(|id| *id = merged);
            }
        }
        growing.add_child(changer, merged);
    }
}

/// Changers of keys, or merges of what they changed, with the repartitions below them that may become one.
fn mergeable(growing: &Growing) -> Vec<(GraphId, Vec<GraphId>)> {
    let ids = || (0..growing.nodes.len()).map(GraphId);
    let mut found: Vec<(GraphId, Vec<GraphId>)> =
        ids().filter(|id| growing.changes_key(*id)).map(|id| (id, Vec::new())).collect();
    for id in ids() {
        if !matches!(growing.node(id).role, Role::Repartition { optimizable: true, .. }) {
            continue;
        }
        let changer = growing.find_above(id, &|n| growing.changes_key(n));
        let nearest = growing.find_above(id, &|n| growing.changes_key(n) || growing.changes_value(n));
        if let (Some(changer), true) = (changer, changer == nearest)
            && let Some((_, list)) = found.iter_mut().find(|(id, _)| *id == changer)
        {
            list.push(id);
        }
    }
    let merges: Vec<GraphId> = ids().filter(|id| matches!(growing.node(*id).role, Role::Merge)).collect();
    let mut gone = BTreeSet::new();
    let mut moved: Vec<(GraphId, Vec<GraphId>)> = Vec::new();
    for merge in merges {
        let below = |id: &GraphId| growing.find_above(*id, &|n| growing.node(n).parents.contains(&merge)).is_some();
        let mut taken = Vec::new();
        for (changer, list) in &found {
            let above = growing.find_above(merge, &|n| growing.node(n).parents.contains(changer)).is_some();
            if list.iter().all(below) && above {
                taken.extend(list.iter().copied().filter(|id| !taken.contains(id)).collect::<Vec<_>>());
                gone.insert(*changer);
            }
        }
        moved.push((merge, taken));
    }
    found.extend(moved);
    found.retain(|(id, list)| !gone.contains(id) && !list.is_empty());
    found
}

/// A stream joined with itself keeps its records once.
pub(super) fn rewrite_self_joins(growing: &mut Growing) {
    for n in 0..growing.nodes.len() {
        let Role::StreamStreamJoin(join) = &growing.nodes[n].role else { continue };
        let other = join.other_windowed;
        let mut parents = growing.nodes[n].parents.clone();
        parents.dedup();
        let [parent] = parents[..] else { continue };
        join.is_self_join.set(true);
        growing.remove_child(parent, other);
        growing.nodes[other.0].removed = true;
    }
}

/// Records without a key are dropped before a repartition topic, unless a left or outer join below wants them.
/// Source: `NodesWithRelaxedNullKeyJoinDownstream`.
pub(super) fn drop_null_keys(growing: &mut Growing) {
    fn wanted(growing: &Growing, id: GraphId, known: &mut BTreeMap<GraphId, bool>) -> bool {
        if let Some(known) = known.get(&id) {
            return *known;
        }
        let children = growing.node(id).children.clone();
        let mut result = false;
        for child in children {
            result |= wanted(growing, child, known) || growing.node(child).null_keys_welcome;
        }
        known.insert(id, result);
        result
    }
    let mut known = BTreeMap::new();
    for n in 0..growing.nodes.len() {
        let wanted = wanted(growing, GraphId(n), &mut known);
        if let Role::Repartition { spec, .. } = &mut growing.nodes[n].role {
            spec.drop_null_keys = !wanted;
        }
    }
}
