//! Repartition: records go through a topic of the application's own, so that equal keys meet in one task.
//!
//! Source: `KStreamImpl.createRepartitionedSource`; three nodes: a filter for null keys, a sink, a source.

use super::graph::{Graph, GraphId, GraphNode, Growing, Role};
use super::writer::Writer;
use crate::operators::Build;
use crate::operators::filter::Filter;
use crate::operators::sink::{Encode, Partitioning};
use crate::operators::source::{Decode, TimestampsOf};
use crate::operators::{Anew, ErasedPort, Port, join_children, share};
use crate::record::{Data, Nullable};
use crate::serdes::SerdeRef;
use crate::topology::{Node, NodeId, NodeKind, Recipe, SinkTopic, Source, TopicName};
use std::rc::Rc;
use std::sync::Arc;

const SUFFIX: &str = "-repartition";

/// A repartition topic and the three nodes around it. Its types are hidden in `ports`, because the optimizer moves it.
pub(crate) struct Repartition {
    pub(super) names: Names,
    /// How many partitions the user asked for.
    partitions: Option<i32>,
    /// Records without a key are dropped. No where a left or outer join below wants them.
    pub(super) drop_null_keys: bool,
    pub(super) ports: Rc<dyn Ports>,
}

/// The names of a repartition topic and of its nodes.
pub(crate) struct Names {
    /// The topic, without the application's id.
    pub(super) topic: String,
    filter: String,
    sink: String,
    pub(super) source: String,
}

impl Names {
    /// The names that `base` gives. Three numbers are used up whether they are needed or not, as in Kafka Streams.
    pub(super) fn new(base: &str, mut next_name: impl FnMut(&str) -> String) -> Self {
        let topic = if base.ends_with(SUFFIX) { base.to_string() } else { format!("{base}{SUFFIX}") };
        let (sink, filter, source) =
            (next_name("KSTREAM-SINK"), next_name("KSTREAM-FILTER"), next_name("KSTREAM-SOURCE"));
        if is_generated(base) {
            return Self { topic, filter, sink, source };
        }
        Self {
            filter: format!("{topic}-filter"),
            sink: format!("{topic}-sink"),
            source: format!("{topic}-source"),
            topic,
        }
    }
}

/// Whether a name is one of `KSTREAM…` with a number of ten digits.
fn is_generated(name: &str) -> bool {
    let Some((front, number)) = name.rsplit_once('-') else { return false };
    front.starts_with("KSTREAM") && number.len() == 10 && number.bytes().all(|b| b.is_ascii_digit())
}

/// The ports of a repartition's nodes, for records of some type.
pub(crate) trait Ports {
    fn filter(&self, drop_null_keys: bool) -> Recipe;
    fn sink(&self, topic: String) -> Recipe;
    fn source(&self) -> Arc<dyn Fn(&mut Build, Vec<ErasedPort>) -> Box<dyn Source> + Send + Sync>;
}

struct Typed<K, V> {
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    partitioning: Partitioning<K, V>,
}

impl<K: Data, V: Data> Ports for Typed<K, V> {
    fn filter(&self, drop_null_keys: bool) -> Recipe {
        let make = move |build: &mut Build, children: Vec<ErasedPort>| {
            let keep = move |key: &K, _: &V| !(drop_null_keys && key.is_null());
            let out = Anew::of(build, join_children::<K, V>(children));
            let port: Port<K, V> = Box::new(Filter { keep, out });
            Box::new(port) as ErasedPort
        };
        Recipe { make: Arc::new(make), share: share::<K, V> }
    }

    fn sink(&self, topic: String) -> Recipe {
        let (key, value, partitioning) = (self.key.clone(), self.value.clone(), self.partitioning.clone());
        let make = move |build: &mut Build, _: Vec<ErasedPort>| {
            let topic = TopicName::Internal(topic.clone()).on_broker(build.application_id);
            let port: Port<K, V> =
                Box::new(Encode::new(build, &topic, key.clone(), value.clone(), partitioning.clone()));
            Box::new(port) as ErasedPort
        };
        Recipe { make: Arc::new(make), share: share::<K, V> }
    }

    fn source(&self) -> Arc<dyn Fn(&mut Build, Vec<ErasedPort>) -> Box<dyn Source> + Send + Sync> {
        let (key, value) = (self.key.clone(), self.value.clone());
        Arc::new(move |build: &mut Build, children: Vec<ErasedPort>| {
            Box::new(Decode::new(
                build.node.clone(),
                key.clone(),
                value.clone(),
                TimestampsOf::OF_REPARTITION,
                join_children::<K, V>(children),
            ))
        })
    }
}

impl Repartition {
    /// A repartition topic of this base name.
    pub(crate) fn new<K: Data, V: Data>(
        graph: &Graph,
        base: &str,
        key: SerdeRef<K>,
        value: SerdeRef<V>,
        partitioning: Partitioning<K, V>,
        partitions: Option<i32>,
    ) -> Self {
        let names = Names::new(base, |prefix| graph.next_name(prefix));
        Self { names, partitions, drop_null_keys: false, ports: Rc::new(Typed { key, value, partitioning }) }
    }

    /// Adds it behind `parent`.
    pub(crate) fn add(self, graph: &Graph, parent: GraphId, optimizable: bool) -> GraphId {
        graph.add(self.node(vec![parent], optimizable))
    }

    fn node(self, parents: Vec<GraphId>, optimizable: bool) -> GraphNode {
        let name = self.names.source.clone();
        GraphNode { name, parents, role: Role::Repartition { spec: self, optimizable }, ..GraphNode::default() }
    }

    /// One repartition in place of several that carry the same records: it keeps the name of the first.
    pub(super) fn merged(growing: &mut Growing, first_topic: &str, ports: Rc<dyn Ports>) -> GraphNode {
        let names = Names::new(first_topic, |prefix| Graph::next_name_of(growing, prefix));
        let spec = Self { names, partitions: None, drop_null_keys: false, ports };
        spec.node(Vec::new(), true)
    }

    pub(super) fn write(self, writer: &mut Writer, parents: &[NodeId]) -> NodeId {
        let Names { topic, filter, sink, source } = self.names;
        writer.internal_topic(&topic, self.partitions);
        let node = |name, kind, parents| Node { name, kind, parents, stores: Vec::new() };
        let filter =
            writer.add(node(filter, NodeKind::Processor(self.ports.filter(self.drop_null_keys)), parents.to_vec()));
        let name = TopicName::Internal(topic.clone());
        let recipe = self.ports.sink(topic);
        writer.add(node(sink, NodeKind::Sink { topic: SinkTopic::Fixed(name.clone()), recipe }, vec![filter]));
        let kind = NodeKind::Source {
            topics: vec![name],
            pattern: None,
            bootstrap: false,
            reset: None,
            make: self.ports.source(),
        };
        writer.add(node(source, kind, Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::is_generated;

    #[test]
    fn generated_names_are_told_from_given_ones() {
        assert!(is_generated("KSTREAM-AGGREGATE-STATE-STORE-0000000002"));
        assert!(!is_generated("counts") && !is_generated("KSTREAM-0000") && !is_generated("KTABLE-X-0000000002"));
    }
}
