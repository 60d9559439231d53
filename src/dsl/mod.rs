//! The DSL: typed handles over an untyped graph. A handle holds no data; adding an operator adds a node.

mod kstream;
mod ktable;
mod options;

pub use kstream::KStream;
pub use ktable::KTable;
pub use options::{Consumed, Joined, Materialized, Produced};

use crate::config::Optimization;
use crate::error::{Error, Kind, Result};
use crate::operators::source::Decode;
use crate::operators::{ErasedPort, Port, join_children, share};
use crate::record::Data;
use crate::serdes::Optional;
use crate::state::{Changelog, StoreSpec};
use crate::topology::{Build, Node, NodeId, NodeKind, Recipe, TopicName, Topology};
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

/// Builds a topology: the entry of the DSL.
///
/// ```
/// use watersmeet::prelude::*;
///
/// let builder = StreamsBuilder::new();
/// let products = builder.table("products", Consumed::<String, String>::default(), Materialized::rocksdb("products"));
/// builder
///     .stream("orders", Consumed::<String, String>::default())
///     .join(&products, |order, product| format!("{order} of {product}"))
///     .to("merged", Produced::default());
/// let topology = builder.build()?;
/// assert!(topology.describe().contains("KSTREAM-JOIN"));
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Default)]
pub struct StreamsBuilder {
    graph: Graph,
}

impl StreamsBuilder {
    /// An empty builder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a topic as a stream: every record counts for itself.
    pub fn stream<K: Data, V: Data>(&self, topic: &str, consumed: Consumed<K, V>) -> KStream<K, V> {
        let name = self.graph.next_name("KSTREAM-SOURCE");
        let node = self.graph.source(name, topic, consumed);
        KStream::new(self.graph.clone(), node)
    }

    /// Reads a topic as a table: a record is the new value of its key's row, a null value deletes the row.
    ///
    /// Rows are kept in a store if `materialized` names one or if an operator reads the table; otherwise the table keeps
    /// nothing and only passes changes on (Kafka Streams does the same).
    #[doc(alias = "KTable")]
    pub fn table<K: Data, V: Data>(
        &self,
        topic: &str,
        consumed: Consumed<K, V>,
        materialized: Materialized,
    ) -> KTable<K, V> {
        let asked_for = materialized.name.is_some();
        let store = match materialized.name {
            Some(name) => name,
            None => self.graph.next_name(&format!("{topic}-STATE-STORE")),
        };
        let source = self.graph.next_name("KSTREAM-SOURCE");
        let name = self.graph.next_name("KTABLE-SOURCE");
        let (key, value) = (consumed.key.clone(), consumed.value.clone());
        let consumed = Consumed {
            key: consumed.key,
            value: Arc::new(Optional(consumed.value)) as _,
            extractor: consumed.extractor,
            ready_first: consumed.ready_first,
        };
        let source: NodeId = self.graph.source::<K, Option<V>>(source, topic, consumed);
        let changelog = if materialized.logging_off {
            Changelog::None
        } else {
            Changelog::Own { config: materialized.topic_config }
        };
        let spec = StoreSpec { name: store, engine: materialized.engine, changelog };
        let table = KTable::source(self.graph.clone(), source, name, spec, topic, key, value);
        if asked_for {
            table.materialize();
        }
        table
    }

    /// Checks the graph and makes it a topology, without optimizations (Kafka Streams' default).
    ///
    /// # Errors
    /// [`Kind::Topology`]: a name twice, a topic read twice in conflict, an empty graph.
    pub fn build(self) -> Result<Topology> {
        self.build_with(Optimization::default())
    }

    /// Checks the graph and makes it a topology with these optimizations (`topology.optimization`).
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_with(self, optimization: Optimization) -> Result<Topology> {
        let mut inner = self.graph.0.take();
        if let Some(error) = inner.errors.pop() {
            return Err(error);
        }
        if optimization.reuse_ktable_source_topics {
            for (store, topic) in &inner.table_topics {
                if let Some(spec) = inner.topology.stores.get_mut(store)
                    && matches!(spec.changelog, Changelog::Own { .. })
                {
                    spec.changelog = Changelog::Source { topic: topic.clone() };
                }
            }
        }
        inner.check()?;
        Ok(inner.topology)
    }
}

/// The graph while it grows; shared by the builder and all handles.
#[derive(Clone, Default)]
pub(crate) struct Graph(Rc<RefCell<Growing>>);

#[derive(Default)]
struct Growing {
    topology: Topology,
    /// Numbers given out so far. One counter for nodes and stores, as in Kafka Streams, so that names agree.
    names: usize,
    /// The source topic of each table with a store.
    table_topics: Vec<(String, String)>,
    /// What went wrong on the way; told at `build`, so that operators can be chained without `?`.
    errors: Vec<Error>,
}

impl Growing {
    fn check(&self) -> Result {
        if self.topology.nodes.is_empty() {
            return Err(Error::new(Kind::Topology, "the topology has no source")
                .hint("add at least one with StreamsBuilder::stream or ::table"));
        }
        let mut names = HashSet::new();
        for node in &self.topology.nodes {
            check_name(&node.name)?;
            if !names.insert(&node.name) {
                return Err(Error::new(Kind::Topology, format!("two nodes have the name {}", node.name))
                    .hint("give one of them another name"));
            }
        }
        let mut topics = HashSet::new();
        for topic in self.topology.nodes.iter().flat_map(Node::source_topics) {
            if !topics.insert(topic) {
                let what = format!("topic {} is read by two sources", topic.plain());
                return Err(Error::new(Kind::Topology, what)
                    .topic(topic.plain())
                    .hint("read it once and use the handle twice"));
            }
        }
        Ok(())
    }
}

/// Kafka's rule for names of topics, which node and store names end up in. Source: `Named.validate`.
fn check_name(name: &str) -> Result {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let problem = match name {
        "" => "is empty".to_string(),
        "." | ".." => "cannot be \".\" or \"..\"".to_string(),
        name if name.len() > 249 => "is longer than 249 characters".to_string(),
        name if !name.chars().all(legal) => {
            "contains a character other than ASCII alphanumerics, '.', '_' and '-'".to_string()
        }
        _ => return Ok(()),
    };
    Err(Error::new(Kind::Topology, format!("name {name:?} is illegal, it {problem}")).hint("rename it"))
}

impl Graph {
    /// The next generated name: prefix and a number of ten digits.
    pub(crate) fn next_name(&self, prefix: &str) -> String {
        let mut inner = self.0.borrow_mut();
        let number = inner.names;
        inner.names += 1;
        format!("{prefix}-{number:010}")
    }

    fn add(&self, node: Node) -> NodeId {
        let nodes = &mut self.0.borrow_mut().topology.nodes;
        nodes.push(node);
        NodeId(nodes.len() - 1)
    }

    fn source<K: Data, V: Data>(&self, name: String, topic: &str, consumed: Consumed<K, V>) -> NodeId {
        let Consumed { key, value, extractor, ready_first } = consumed;
        let make = move |build: &mut Build, children: Vec<ErasedPort>| {
            Box::new(Decode {
                node: build.node.clone(),
                key: key.clone(),
                value: value.clone(),
                extractor: extractor.clone(),
                out: join_children::<K, V>(children),
            }) as Box<dyn crate::topology::Source>
        };
        let topics = vec![TopicName::User(topic.into())];
        let kind = NodeKind::Source { topics, bootstrap: ready_first, make: Arc::new(make) };
        self.add(Node { name, kind, parents: Vec::new(), stores: Vec::new() })
    }

    /// Adds a node that takes `Record<K, V>` and sends `Record<K2, V2>`.
    pub(crate) fn processor<K: Data, V: Data, K2: Data, V2: Data>(
        &self,
        name: String,
        parents: Vec<NodeId>,
        stores: Vec<String>,
        make: impl Fn(&mut Build, Port<K2, V2>) -> Port<K, V> + Send + Sync + 'static,
    ) -> NodeId {
        let make = move |build: &mut Build, children: Vec<ErasedPort>| {
            Box::new(make(build, join_children(children))) as ErasedPort
        };
        let kind = NodeKind::Processor(Recipe { make: Arc::new(make), share: share::<K, V> });
        self.add(Node { name, kind, parents, stores })
    }

    /// Adds a node that writes `Record<K, V>` to a topic.
    pub(crate) fn sink<K: Data, V: Data>(
        &self,
        name: String,
        parent: NodeId,
        topic: &str,
        make: impl Fn(&mut Build) -> Port<K, V> + Send + Sync + 'static,
    ) -> NodeId {
        let make = move |build: &mut Build, _: Vec<ErasedPort>| Box::new(make(build)) as ErasedPort;
        let recipe = Recipe { make: Arc::new(make), share: share::<K, V> };
        let kind = NodeKind::Sink { topic: Some(TopicName::User(topic.into())), recipe };
        self.add(Node { name, kind, parents: vec![parent], stores: Vec::new() })
    }

    pub(crate) fn rename(&self, node: NodeId, name: String) {
        self.0.borrow_mut().topology.nodes[node.0].name = name;
    }

    /// Adds a store and connects it to the node that owns it. Adding the same store again changes nothing.
    pub(crate) fn add_store(&self, spec: StoreSpec, owner: NodeId, source_topic: &str) {
        let mut inner = self.0.borrow_mut();
        if inner.topology.nodes[owner.0].stores.contains(&spec.name) {
            return;
        }
        if let Err(error) = check_name(&spec.name) {
            inner.errors.push(error);
        }
        let name = spec.name.clone();
        if inner.topology.stores.insert(name.clone(), spec).is_some() {
            let error = Error::new(Kind::Topology, "a different store has already been added with this name");
            inner.errors.push(error.store(&name).hint("give one of them another name"));
        }
        inner.topology.nodes[owner.0].stores.push(name.clone());
        inner.table_topics.push((name, source_topic.into()));
    }

    pub(crate) fn fail(&self, error: Error) {
        self.0.borrow_mut().errors.push(error);
    }
}
