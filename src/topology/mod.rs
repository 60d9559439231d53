//! The topology: a graph of untyped nodes with names, edges, stores and the recipe for their ports. No K, no V.

mod barriers;
mod describe;
pub mod internal_topics;
mod java_order;
mod offset_reset;
mod pattern;
pub mod split;

pub use offset_reset::OffsetReset;
pub use pattern::TopicPattern;

use crate::broker::{RawRecord, TopicPartition};
use crate::error::Result;
use crate::operators::{Build, Cx, ErasedPort};
use crate::record::Timestamp;
use crate::serdes::Format;
use crate::state::StoreSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// A node: index into [`Topology::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// A topic's name: as written by the user, or internal, then without the `<application.id>-` that it gets on the broker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicName {
    /// A topic of the user's.
    User(String),
    /// A repartition or subscription topic that the application owns.
    Internal(String),
}

impl TopicName {
    /// The name without prefix, as `describe()` prints it.
    pub fn plain(&self) -> &str {
        match self {
            TopicName::User(name) | TopicName::Internal(name) => name,
        }
    }

    /// The name on the broker.
    pub fn on_broker(&self, application_id: &str) -> String {
        match self {
            TopicName::User(name) => name.clone(),
            TopicName::Internal(name) => format!("{application_id}-{name}"),
        }
    }
}

/// The entry of a task: gets a topic's raw records and decodes them.
///
/// A record is decoded when it becomes the first of its input, so that the task can choose among its inputs by timestamp;
/// the source keeps what it decoded until the record's turn comes.
pub trait Source {
    /// Decodes `raw`, the next record of the task's input number `input`, and returns its timestamp; a negative one drops the
    /// record. `None`: it does not decode, and the error policy lets it be skipped.
    fn decode(
        &mut self,
        cx: &mut Cx,
        input: usize,
        partition: &Rc<TopicPartition>,
        raw: &RawRecord,
        partition_time_ms: Timestamp,
    ) -> Result<Option<Timestamp>>;
    /// Pushes the record that was decoded last for `input` through the task.
    fn process(&mut self, cx: &mut Cx, input: usize) -> Result;
}

/// Where a sink writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkTopic {
    /// To this topic.
    Fixed(TopicName),
    /// To the topic that a function of this name chooses for each record.
    PerRecord(String),
}

impl SinkTopic {
    /// The topic, where there is only one.
    pub fn fixed(&self) -> Option<&TopicName> {
        match self {
            SinkTopic::Fixed(topic) => Some(topic),
            SinkTopic::PerRecord(_) => None,
        }
    }
}

/// What a node is for.
pub enum NodeKind {
    /// Reads topics.
    Source {
        /// These topics.
        topics: Vec<TopicName>,
        /// And those that match.
        pattern: Option<TopicPattern>,
        /// True where other sources of the task wait until this one has reached the end offsets seen at start
        /// (`join.table.ready`).
        bootstrap: bool,
        /// Where its partitions begin that the group has no offset of; `None`: as the configuration says.
        reset: Option<OffsetReset>,
        /// Makes the source of one task out of its children's ports.
        make: Arc<dyn Fn(&mut Build, Vec<ErasedPort>) -> Box<dyn Source> + Send + Sync>,
    },
    /// Processes records.
    Processor(Recipe),
    /// Writes to a topic.
    Sink {
        /// The topic.
        topic: SinkTopic,
        /// How its port is made.
        recipe: Recipe,
    },
}

/// How the ports of a node are made, once per task.
#[derive(Clone)]
pub struct Recipe {
    /// Turns the children's ports (in the order in which they were added) into the node's own.
    pub make: Arc<dyn Fn(&mut Build, Vec<ErasedPort>) -> ErasedPort + Send + Sync>,
    /// [`crate::operators::share`] of the node's input types.
    pub share: fn(ErasedPort, usize, Option<&str>) -> Vec<ErasedPort>,
}

/// One node of the topology.
pub struct Node {
    /// Its name, unique in the topology.
    pub name: String,
    /// What it is for.
    pub kind: NodeKind,
    /// The nodes that it gets records from, in the order in which they were declared.
    pub parents: Vec<NodeId>,
    /// The stores that it uses, by name, in the order in which they were connected.
    pub stores: Vec<String>,
}

impl Node {
    /// The topics that it reads; none for other nodes.
    pub fn source_topics(&self) -> &[TopicName] {
        match &self.kind {
            NodeKind::Source { topics, .. } => topics,
            _ => &[],
        }
    }

    /// The pattern of the topics that it reads, where it does so by a pattern.
    pub fn source_pattern(&self) -> Option<&TopicPattern> {
        match &self.kind {
            NodeKind::Source { pattern, .. } => pattern.as_ref(),
            _ => None,
        }
    }
}

/// The whole graph, checked and ready to run. Cheap to share; each thread makes its own tasks from it.
#[derive(Default)]
pub struct Topology {
    /// All nodes, in the order in which they were added; parents come before children.
    pub nodes: Vec<Node>,
    /// All stores, by name.
    pub stores: BTreeMap<String, StoreSpec>,
    /// Their names in the order in which they were added.
    pub store_order: Vec<String>,
    /// Those of them that one task writes and all read.
    pub global_stores: BTreeSet<String>,
    /// Topics that the application owns, by their names without its id; changelogs not included.
    pub internal_topics: BTreeMap<String, InternalTopic>,
    /// What the keys and the values of stores are, by the stores' names.
    pub formats: BTreeMap<String, (Format, Format)>,
    /// Nodes that keep offsets from being committed: records go on from them later.
    pub holders: BTreeSet<NodeId>,
    /// Nodes that read their stores and never write them.
    pub readers: BTreeSet<NodeId>,
    /// Source nodes whose topics must have equally many partitions.
    pub copartitioned: Vec<Vec<NodeId>>,
}

/// A topic that the application owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalTopic {
    /// How many partitions it was asked to have; `None`: as the topics above it.
    pub partitions: Option<i32>,
}

impl Topology {
    /// The children of `node`, in the order in which they were added.
    pub fn children(&self, node: NodeId) -> Vec<NodeId> {
        (0..self.nodes.len()).map(NodeId).filter(|&n| self.nodes[n.0].parents.contains(&node)).collect()
    }
}
