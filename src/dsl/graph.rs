//! The logical graph while it grows: what the user declared, before it is optimized and written as a topology.
//!
//! Source: Kafka Streams' `InternalStreamsBuilder` and `GraphNode`; its rules decide names, the order of nodes and with it
//! the numbers of sub-topologies and the order in which children see a record.

use super::optimize;
use super::repartition::Repartition;
use super::topics::SelectedTopics;
use super::writer::{Defaults, Writer};
use crate::config::Optimization;
use crate::error::{Error, Kind, Result};
use crate::topology::{NodeId, OffsetReset, Topology};
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

/// A node of the logical graph: index into [`Growing::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GraphId(pub(crate) usize);

/// Writes a logical node as physical ones, under the physical nodes of its parents; returns the one that children get
/// their records from.
pub(crate) type Write = Box<dyn FnOnce(&mut Writer, &str, &[NodeId]) -> NodeId>;

/// What the optimizer has to know of a node.
#[derive(Default)]
pub(crate) enum Role {
    /// Nothing.
    #[default]
    Plain,
    /// It reads topics, from there where the group has no offset: nodes that read the same ones become one.
    StreamSource(SelectedTopics, Option<OffsetReset>),
    /// It gives records a new key.
    KeyChanging,
    /// It gives records a new value.
    ValueChanging,
    /// A processor of the user's own: whether it may change the key, and whether the types of records stay the same.
    Process {
        /// `process` may, `process_values` not.
        may_change_key: bool,
        /// Records go out as what they came in.
        same_types: bool,
    },
    /// It brings streams together.
    Merge,
    /// It sends records through a topic of its own. `optimizable`: it may be merged with others.
    Repartition {
        /// What is sent, and where.
        spec: Repartition,
        /// False for `repartition()`, whose topic is the user's wish.
        optimizable: bool,
    },
    /// The join of two windowed streams.
    StreamStreamJoin(SelfJoin),
}

/// How a join of a stream with itself is told and rewritten: see `single.store.self.join`.
pub(crate) struct SelfJoin {
    /// The node that keeps the right stream's records.
    pub(crate) other_windowed: GraphId,
    /// Set by the optimizer, read by the join's `write`.
    pub(crate) is_self_join: Rc<std::cell::Cell<bool>>,
}

/// A logical node as an operator adds it.
#[derive(Default)]
pub(crate) struct GraphNode {
    /// Its name; the physical node has the same, or names made of it.
    pub(crate) name: String,
    /// The nodes that it gets records from; none for sources and stores.
    pub(crate) parents: Vec<GraphId>,
    /// What it means to the optimizer.
    pub(crate) role: Role,
    /// A left or outer join: records without a key may reach it.
    pub(crate) null_keys_welcome: bool,
    /// Whether the table that it makes is versioned; `None`: as its parents.
    pub(crate) versioned: Option<bool>,
    /// How long the windows that it makes take records after their end.
    pub(crate) window_grace_ms: Option<i64>,
    /// How it is written.
    pub(crate) write: Option<Write>,
    /// In the order in which they were added.
    pub(super) children: Vec<GraphId>,
    pub(super) priority: usize,
    pub(super) written: Option<NodeId>,
    pub(super) removed: bool,
}

/// The graph while it grows; shared by the builder and all handles.
#[derive(Clone, Default)]
pub(crate) struct Graph(Rc<RefCell<Growing>>);

#[derive(Default)]
pub(crate) struct Growing {
    pub(super) nodes: Vec<GraphNode>,
    /// Children of the root: sources and stores.
    pub(super) roots: Vec<GraphId>,
    /// Numbers given out so far. One counter for nodes and stores, as in Kafka Streams, so that names agree.
    names: usize,
    priorities: usize,
    /// Sources whose topics must have equally many partitions.
    pub(super) copartitioned: Vec<Vec<GraphId>>,
    /// What went wrong on the way; told at `build`, so that operators can be chained without `?`.
    errors: Vec<Error>,
}

impl Graph {
    /// The next generated name: prefix and a number of ten digits.
    pub(crate) fn next_name(&self, prefix: &str) -> String {
        let mut inner = self.0.borrow_mut();
        let number = inner.names;
        inner.names += 1;
        format!("{prefix}-{number:010}")
    }

    /// How many numbers have been given out.
    pub(crate) fn names_made(&self) -> usize {
        self.0.borrow().names
    }

    /// `given`, or the next generated name; the number is used up either way, as in Kafka Streams.
    pub(crate) fn name_or(&self, given: Option<&str>, prefix: &str) -> String {
        let generated = self.next_name(prefix);
        given.map_or(generated, str::to_owned)
    }

    /// Adds a node.
    pub(crate) fn add(&self, node: GraphNode) -> GraphId {
        self.0.borrow_mut().add(node)
    }

    /// How long the windows of `node`'s records take records after their end: what the nodes above say that make windows.
    /// `None`: there are no windows. Source: `GraphGraceSearchUtil`.
    pub(crate) fn window_grace_ms(&self, node: GraphId) -> Option<i64> {
        let (own, parents) = {
            let inner = self.0.borrow();
            let node = &inner.nodes[node.0];
            (node.window_grace_ms, node.parents.clone())
        };
        if own.is_some() {
            return own;
        }
        let above: Option<Vec<i64>> = parents.into_iter().map(|parent| self.window_grace_ms(parent)).collect();
        above?.into_iter().max()
    }

    /// Whether all that comes from these sources comes from one topic: only then offsets tell what is newer.
    pub(crate) fn is_one_topic(&self, sources: &[GraphId]) -> bool {
        let [source] = sources else { return false };
        match &self.0.borrow().nodes[source.0].role {
            Role::StreamSource(SelectedTopics::Named(names), _) => names.len() == 1,
            Role::StreamSource(SelectedTopics::Matching(_), _) => false,
            _ => true,
        }
    }

    pub(crate) fn name(&self, node: GraphId) -> String {
        self.0.borrow().nodes[node.0].name.clone()
    }

    pub(crate) fn rename(&self, node: GraphId, name: String) {
        self.0.borrow_mut().nodes[node.0].name = name;
    }

    /// Demands that the topics of these sources have equally many partitions.
    pub(crate) fn copartition(&self, sources: impl IntoIterator<Item = GraphId>) {
        self.0.borrow_mut().copartitioned.push(sources.into_iter().collect());
    }

    pub(crate) fn fail(&self, error: Error) {
        self.0.borrow_mut().errors.push(error);
    }

    /// Optimizes the graph and writes it.
    pub(super) fn build(&self, optimization: Optimization, defaults: Defaults) -> Result<Topology> {
        let mut inner = self.0.take();
        if !inner.errors.is_empty() {
            return Err(inner.errors.remove(0));
        }
        optimize::merge_sources(&mut inner)?;
        if optimization.merge_repartition_topics {
            optimize::judge_processors(&mut inner, optimization.processors_stay_above);
            optimize::merge_repartitions(&mut inner);
        }
        if optimization.single_store_self_join {
            optimize::rewrite_self_joins(&mut inner);
        }
        optimize::drop_null_keys(&mut inner);
        inner.write(Writer::new(optimization.reuse_ktable_source_topics, defaults))
    }

    /// Numbers go on where `growing` stands: the optimizer makes names while the graph is taken out.
    pub(super) fn next_name_of(growing: &mut Growing, prefix: &str) -> String {
        let number = growing.names;
        growing.names += 1;
        format!("{prefix}-{number:010}")
    }
}

impl Growing {
    pub(super) fn add(&mut self, mut node: GraphNode) -> GraphId {
        let id = GraphId(self.nodes.len());
        // Every edge uses up a number: what is compared is only their order.
        self.priorities += node.parents.len().max(1);
        node.priority = self.priorities;
        for parent in &node.parents {
            self.nodes[parent.0].children.push(id);
        }
        if node.parents.is_empty() {
            self.roots.push(id);
        }
        self.nodes.push(node);
        id
    }

    /// True where the rows that `node` sends have a history: its own say, else that of all its parents.
    pub(super) fn is_versioned(&self, node: GraphId) -> bool {
        let node = &self.nodes[node.0];
        node.versioned
            .unwrap_or_else(|| !node.parents.is_empty() && node.parents.iter().all(|parent| self.is_versioned(*parent)))
    }

    /// Writes the nodes in the order of their creation, a node when all its parents are written.
    /// Source: `InternalStreamsBuilder.buildAndOptimizeTopology`.
    fn write(mut self, mut writer: Writer) -> Result<Topology> {
        let versioned: Vec<bool> = (0..self.nodes.len()).map(|n| self.is_versioned(GraphId(n))).collect();
        let mut heap: BinaryHeap<Reverse<(usize, usize)>> = BinaryHeap::new();
        let priority = |nodes: &[GraphNode], id: &GraphId| Reverse((nodes[id.0].priority, id.0));
        heap.extend(self.roots.iter().filter(|id| !self.nodes[id.0].removed).map(|id| priority(&self.nodes, id)));
        while let Some(Reverse((_, n))) = heap.pop() {
            let parents: Option<Vec<NodeId>> =
                self.nodes[n].parents.iter().map(|parent| self.nodes[parent.0].written).collect();
            if let (Some(parents), None) = (parents, self.nodes[n].written) {
                let name = self.nodes[n].name.clone();
                writer.versioned_parents = self.nodes[n].parents.iter().map(|p| versioned[p.0]).collect();
                let role = std::mem::take(&mut self.nodes[n].role);
                self.nodes[n].written = Some(match (role, self.nodes[n].write.take()) {
                    (Role::Repartition { spec, .. }, _) => spec.write(&mut writer, &parents),
                    (_, Some(write)) => write(&mut writer, &name, &parents),
                    (_, None) => {
                        return Err(Error::new(Kind::Internal, "a node of the graph has nothing to write").node(name));
                    }
                });
            }
            heap.extend(self.nodes[n].children.iter().map(|id| priority(&self.nodes, id)));
        }
        let groups =
            self.copartitioned.iter().map(|group| group.iter().filter_map(|id| self.nodes[id.0].written).collect());
        writer.copartitioned(groups.collect());
        writer.finish()
    }
}
