//! Writes physical nodes and stores: the topology that the runtime sees.

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::operators::Build;
use crate::operators::store_views::StateStore;
use crate::operators::{Anew, ErasedPort, Port, join_children, share};
use crate::record::Data;
use crate::serdes::{Format, SerdeRef};
use crate::state::{Changelog, Engine, StoreKind, StoreSpec};
use crate::topology::{InternalTopic, Node, NodeId, NodeKind, Recipe, SinkTopic, TopicName, Topology};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// What holds where an operator does not say otherwise.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// let defaults = Defaults { engine: watersmeet::state::Engine::Memory, explicit_names: true };
/// let builder = StreamsBuilder::with_defaults(defaults);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Defaults {
    /// Where tables and aggregations keep their rows (`dsl.store.suppliers.class` in Kafka Streams).
    pub engine: Engine,
    /// Whether `ensure.explicit.internal.resource.naming` is on.
    pub explicit_names: bool,
}

/// The topology while it is written.
pub(crate) struct Writer {
    topology: Topology,
    /// `reuse.ktable.source.topics`.
    pub(crate) reuse_sources: bool,
    pub(crate) defaults: Defaults,
    /// For the node being written: whether each parent's rows have a history.
    pub(crate) versioned_parents: Vec<bool>,
    errors: Vec<Error>,
    /// Stores of processors.
    shared: BTreeSet<String>,
    unnamed: BTreeSet<String>,
}

impl Writer {
    pub(super) fn new(reuse_sources: bool, defaults: Defaults) -> Self {
        Self {
            topology: Topology::default(),
            reuse_sources,
            defaults,
            versioned_parents: Vec::new(),
            errors: Vec::new(),
            shared: BTreeSet::new(),
            unnamed: BTreeSet::new(),
        }
    }

    /// Adds a node as it is.
    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        self.topology.nodes.push(node);
        NodeId(self.topology.nodes.len() - 1)
    }

    /// Adds a node that takes `Record<K, V>` and sends `Record<K2, V2>`, new ones that it makes.
    pub(crate) fn processor<K: Data, V: Data, K2: Data, V2: Data>(
        &mut self,
        name: &str,
        parents: &[NodeId],
        make: impl Fn(&mut Build, Port<K2, V2>) -> Port<K, V> + Send + Sync + 'static,
    ) -> NodeId {
        self.passing(name, parents, move |build: &mut Build, out: Port<K2, V2>| {
            let out = Anew::of(build, out);
            make(build, out)
        })
    }

    /// Adds a node that sends on the records that it takes.
    pub(crate) fn passing<K: Data, V: Data, K2: Data, V2: Data>(
        &mut self,
        name: &str,
        parents: &[NodeId],
        make: impl Fn(&mut Build, Port<K2, V2>) -> Port<K, V> + Send + Sync + 'static,
    ) -> NodeId {
        let make = move |build: &mut Build, children: Vec<ErasedPort>| {
            Box::new(make(build, join_children(children))) as ErasedPort
        };
        self.erased_processor::<K, V>(name, parents, make)
    }

    /// Adds a node that takes `Record<K, V>` and knows its children one by one.
    pub(crate) fn erased_processor<K: Data, V: Data>(
        &mut self,
        name: &str,
        parents: &[NodeId],
        make: impl Fn(&mut Build, Vec<ErasedPort>) -> ErasedPort + Send + Sync + 'static,
    ) -> NodeId {
        let kind = NodeKind::Processor(Recipe { make: Arc::new(make), share: share::<K, V> });
        self.add(Node { name: name.into(), kind, parents: parents.to_vec(), stores: Vec::new() })
    }

    /// Adds a node that writes `Record<K, V>` to a topic.
    pub(crate) fn sink<K: Data, V: Data>(
        &mut self,
        name: &str,
        parents: &[NodeId],
        topic: SinkTopic,
        make: impl Fn(&mut Build) -> Port<K, V> + Send + Sync + 'static,
    ) -> NodeId {
        let make = move |build: &mut Build, _: Vec<ErasedPort>| Box::new(make(build)) as ErasedPort;
        let recipe = Recipe { make: Arc::new(make), share: share::<K, V> };
        let kind = NodeKind::Sink { topic, recipe };
        self.add(Node { name: name.into(), kind, parents: parents.to_vec(), stores: Vec::new() })
    }

    /// Adds a store and connects it to these nodes.
    pub(crate) fn store(&mut self, spec: StoreSpec, users: &[NodeId]) {
        if let Err(error) = check_name(&spec.name) {
            self.errors.push(error);
        }
        let name = spec.name.clone();
        match self.topology.stores.get(&name) {
            Some(_) => self.errors.push(
                Error::new(Kind::Topology, "a different store has already been added with this name")
                    .store(&name)
                    .hint("give one of them another name"),
            ),
            None => {
                self.topology.stores.insert(name.clone(), spec);
                self.topology.store_order.push(name.clone());
            }
        }
        users.iter().for_each(|user| self.connect(*user, &name));
    }

    /// Notes what the bytes of a store are.
    pub(crate) fn formats<K, V>(&mut self, store: &str, key: &SerdeRef<K>, value: &SerdeRef<V>) {
        self.raw_formats(store, key.format(), value.format());
    }

    /// A processor's store as the topology has it; what its rows are is noted.
    pub(crate) fn spec_of<S>(&mut self, store: &StateStore<S>) -> StoreSpec {
        let (key, value) = store.formats();
        self.raw_formats(store.name(), key, value);
        store.spec(self.defaults.engine)
    }

    /// As [`formats`](Self::formats), where the serdes are not at hand.
    pub(super) fn raw_formats(&mut self, store: &str, key: Format, value: Format) {
        self.topology.formats.insert(store.into(), (key, value));
    }

    /// Adds a global store, which `node` fills.
    pub(crate) fn global_store(&mut self, spec: StoreSpec, node: NodeId) {
        let name = spec.name.clone();
        self.store(spec, &[node]);
        self.topology.global_stores.insert(name);
    }

    /// Adds a store of processors, which may be added more than once.
    pub(crate) fn shared_store(&mut self, spec: StoreSpec) {
        if !self.shared.contains(&spec.name) || self.topology.stores.get(&spec.name) != Some(&spec) {
            self.shared.insert(spec.name.clone());
            self.store(spec, &[]);
        }
    }

    /// A store that is not named by the user, whether it comes to be or not.
    pub(crate) fn unnamed_store(&mut self, name: &str) {
        self.unnamed.insert(name.into());
    }

    /// Where `ensure.explicit.internal.resource.naming` is on, nothing may have a name with a number. Source: KIP-1111.
    fn check_explicit_names(&self) -> Result {
        let suppressed = |spec: &StoreSpec| spec.kind == StoreKind::Buffer && spec.changelog == Changelog::None;
        let stores = self.topology.stores.values().filter(|spec| !suppressed(spec)).map(|spec| &spec.name);
        let names = stores.chain(self.topology.internal_topics.keys()).filter(|name| is_generated(name));
        let names: BTreeSet<&String> = names.chain(&self.unnamed).collect();
        if !self.defaults.explicit_names || names.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
        Err(Error::new(Kind::Topology, format!("stores or topics have not been named: {}", names.join(", ")))
            .hint("name them with Materialized::named, Grouped::named, Joined::name and their like"))
    }

    /// Gives a node access to a store. Every node has access to global ones.
    pub(crate) fn connect(&mut self, node: NodeId, store: &str) {
        if self.topology.global_stores.contains(store) {
            return;
        }
        let stores = &mut self.topology.nodes[node.0].stores;
        if !stores.iter().any(|known| known == store) {
            stores.push(store.into());
        }
    }

    /// Of this node records go on later: it keeps offsets from being committed.
    pub(crate) fn holds(&mut self, node: NodeId) {
        self.topology.holders.insert(node);
    }

    /// This node only reads its stores.
    pub(crate) fn reads_only(&mut self, node: NodeId) {
        self.topology.readers.insert(node);
    }

    /// What the rows of a store are, if it has been added.
    pub(crate) fn store_kind(&self, store: &str) -> Option<StoreKind> {
        self.topology.stores.get(store).map(|spec| spec.kind)
    }

    /// The node of that name, if it has been written.
    pub(crate) fn find(&self, name: &str) -> Option<NodeId> {
        self.topology.nodes.iter().position(|node| node.name == name).map(NodeId)
    }

    /// A table's source topic serves as its changelog, where that optimization is on; even that of a table without one.
    pub(crate) fn source_changelog(&self, changelog: Changelog, topic: &str) -> Changelog {
        if self.reuse_sources { Changelog::Source { topic: topic.into() } } else { changelog }
    }

    /// Declares a topic that the application owns; `partitions` as far as it is said.
    pub(crate) fn internal_topic(&mut self, name: &str, partitions: Option<i32>) {
        self.topology.internal_topics.insert(name.into(), InternalTopic { partitions });
    }

    pub(crate) fn fail(&mut self, error: Error) {
        self.errors.push(error);
    }

    pub(super) fn copartitioned(&mut self, groups: Vec<Vec<NodeId>>) {
        self.topology.copartitioned = groups;
    }

    pub(super) fn finish(mut self) -> Result<Topology> {
        if !self.errors.is_empty() {
            return Err(self.errors.remove(0));
        }
        self.check_explicit_names()?;
        let nodes = &self.topology.nodes;
        if !nodes.iter().any(|node| matches!(node.kind, NodeKind::Source { .. })) {
            return Err(Error::new(Kind::Topology, "the topology has no source")
                .hint("add at least one with StreamsBuilder::stream or ::table"));
        }
        let mut names = HashSet::new();
        for node in nodes {
            check_name(&node.name)?;
            if !names.insert(&node.name) {
                return Err(Error::new(Kind::Topology, format!("two nodes have the name {}", node.name))
                    .hint("give one of them another name"));
            }
        }
        let mut readers: BTreeMap<&TopicName, &str> = BTreeMap::new();
        for node in nodes {
            for topic in node.source_topics() {
                if let Some(other) = readers.insert(topic, &node.name) {
                    let what = format!("topic {} is read by two sources, {other} and {}", topic.plain(), node.name);
                    return Err(Error::new(Kind::Topology, what)
                        .topic(topic.plain())
                        .hint("read it once and use the handle twice"));
                }
            }
        }
        for node in nodes {
            let Some(pattern) = node.source_pattern() else { continue };
            if let Some((topic, other)) =
                readers.iter().find(|(topic, _)| matches!(topic, TopicName::User(name) if pattern.matches(name)))
            {
                let what = format!("pattern {} of {} matches a topic that {other} reads", pattern.as_str(), node.name);
                return Err(Error::new(Kind::Topology, what)
                    .topic(topic.plain())
                    .hint("let the pattern leave that topic out, or read it by the pattern alone"));
            }
        }
        Ok(self.topology)
    }
}

/// True for a name with a number of ten digits, as the DSL makes them.
fn is_generated(name: &str) -> bool {
    name.split('-').any(|part| part.len() == 10 && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Kafka's rule for names of topics, which node and store names end up in. Source: `Named.validate`.
pub(crate) fn check_name(name: &str) -> Result {
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

impl From<&Config> for Defaults {
    fn from(_: &Config) -> Self {
        Self::default()
    }
}
