//! `split`: one stream in several, each record in the first branch whose predicate it meets.

use super::KStream;
use super::graph::{GraphId, GraphNode};
use super::writer::Writer;
use crate::operators::Build;
use crate::operators::branch::Branch;
use crate::operators::{ErasedPort, Port, join_children};
use crate::record::Data;
use crate::topology::NodeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

type Predicate<K, V> = Arc<dyn Fn(&K, &V) -> bool + Send + Sync>;

/// What a branch may be told: its name.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let branches = orders.split(Some("by")).branch(|_, v| v == "x", Branched::named("-x")).no_default_branch();
/// if let Some(xs) = branches.get("by-x") {
///     xs.to("out", Produced::default());
/// }
/// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "b", "y", 0)], "out")?;
/// assert_eq!(results, [("a".into(), "x".into())]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Branched {
    name: Option<String>,
}

impl Branched {
    /// Names the branch: the node is `<split><name>`, and so is its key in [`Branches`].
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let branched = Branched::named("-large");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()) }
    }
}

/// A stream on its way into branches: see [`KStream::split`].
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let splitting = orders.split(None);
/// let branches = splitting.branch(|_, v| v.len() > 1, Branched::default()).no_default_branch();
/// assert_eq!(branches.iter().count(), 1);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct BranchedKStream<K, V> {
    stream: KStream<K, V>,
    name: String,
    node: GraphId,
    /// Which branch takes a record: predicates in their order, shared with the node that is written later.
    predicates: Arc<Mutex<Vec<Option<Predicate<K, V>>>>>,
    branches: Branches<K, V>,
}

/// The branches of a split, by name.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let branches = orders.split(Some("by")).branch(|_, v| v == "x", Branched::named("-x")).no_default_branch();
/// assert!(branches.get("by-x").is_some());
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Clone)]
pub struct Branches<K, V>(BTreeMap<String, KStream<K, V>>);

impl<K, V> Branches<K, V> {
    /// The branch of that name: the split's name and the branch's, or the branch's number from 1 (the default branch is 0).
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let branches = orders.split(Some("by")).branch(|_, v| v == "x", Branched::default()).no_default_branch();
    /// assert!(branches.get("by1").is_some() && branches.get("by0").is_none());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn get(&self, name: &str) -> Option<&KStream<K, V>> {
        self.0.get(name)
    }

    /// All branches with their names.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let branches = orders.split(Some("by")).branch(|_, v| v == "x", Branched::default()).no_default_branch();
    /// for (name, branch) in branches.iter() {
    ///     branch.to(&format!("out-{name}"), Produced::default());
    /// }
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out-by1")?;
    /// assert_eq!(results, [("a".into(), "x".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (&str, &KStream<K, V>)> {
        self.0.iter().map(|(name, stream)| (name.as_str(), stream))
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Splits the stream: each record goes to the first branch whose predicate is true for it, to the default branch where
    /// none is, and nowhere where there is no default branch.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// # let stream = builder.stream("in", Consumed::<String, i64>::default());
    /// let branches = stream
    ///     .split(Some("sign-"))
    ///     .branch(|_, n| *n < 0, Branched::named("negative"))
    ///     .default_branch(Branched::named("other"));
    /// branches.get("sign-negative").unwrap().to("debts", Produced::default());
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn split(&self, name: Option<&str>) -> BranchedKStream<K, V> {
        let name = self.graph.name_or(name, "KSTREAM-BRANCH");
        let predicates = Arc::new(Mutex::new(Vec::<Option<Predicate<K, V>>>::new()));
        let written = predicates.clone();
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            let predicates = written.lock().map(|list| list.clone()).unwrap_or_default();
            writer.erased_processor::<K, V>(name, parents, move |_: &mut Build, children: Vec<ErasedPort>| {
                let ports = children.into_iter().map(|child| join_children::<K, V>(vec![child]));
                let branches = predicates.iter().cloned().zip(ports).collect();
                let port: Port<K, V> = Box::new(Branch { branches });
                Box::new(port) as ErasedPort
            })
        };
        let (parents, write) = (vec![self.node], Some(Box::new(write) as _));
        let node = self.graph.add(GraphNode { name: name.clone(), parents, write, ..GraphNode::default() });
        BranchedKStream { stream: self.clone(), name, node, predicates, branches: Branches(BTreeMap::new()) }
    }
}

impl<K: Data, V: Data> BranchedKStream<K, V> {
    /// Adds a branch for the records for which `predicate` is true, and which no earlier branch took.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let branches = orders.split(Some("by")).branch(|_, v| v == "x", Branched::named("-x")).no_default_branch();
    /// branches.get("by-x").expect("was named so").to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "b", "y", 0)], "out")?;
    /// assert_eq!(results, [("a".into(), "x".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn branch(mut self, predicate: impl Fn(&K, &V) -> bool + Send + Sync + 'static, branched: Branched) -> Self {
        let number = self.branches.0.len() + 1;
        self.add(Some(Arc::new(predicate)), &branched, number);
        self
    }

    /// Ends the split: what no branch took goes to this one.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let branches = orders.split(Some("by")).branch(|_, v| v == "x", Branched::default()).default_branch(Branched::named("-rest"));
    /// branches.get("by-rest").expect("was named so").to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "b", "y", 0)], "out")?;
    /// assert_eq!(results, [("b".into(), "y".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "defaultBranch")]
    pub fn default_branch(mut self, branched: Branched) -> Branches<K, V> {
        self.add(None, &branched, 0);
        self.branches
    }

    /// Ends the split: what no branch took is dropped.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let branches = orders.split(Some("by")).branch(|_, v| v == "x", Branched::default()).no_default_branch();
    /// branches.get("by1").expect("the first branch").to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "b", "y", 0)], "out")?;
    /// assert_eq!(results, [("a".into(), "x".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "noDefaultBranch")]
    pub fn no_default_branch(self) -> Branches<K, V> {
        self.branches
    }

    fn add(&mut self, predicate: Option<Predicate<K, V>>, branched: &Branched, number: usize) {
        let generated = number.to_string();
        let name = format!("{}{}", self.name, branched.name.as_deref().unwrap_or(&generated));
        let _used_up = self.stream.graph.next_name("KSTREAM-BRANCHCHILD");
        if let Ok(mut list) = self.predicates.lock() {
            list.push(predicate);
        }
        let write = |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            writer.passing(name, parents, |_: &mut Build, out: Port<K, V>| out)
        };
        let (parents, write) = (vec![self.node], Some(Box::new(write) as _));
        let node = self.stream.graph.add(GraphNode { name: name.clone(), parents, write, ..GraphNode::default() });
        self.branches.0.insert(name, self.stream.at(node));
    }
}
