//! `process`, `process_values`: operators of the user's own. And the stores that they use.

use super::graph::{GraphNode, Role};
use super::writer::Writer;
use super::{KStream, StreamsBuilder};
use crate::operators::Build;
use crate::operators::process::{ProcessNode, ProcessParts, ProcessPort, Processor};
use crate::operators::process_values::{ValueProcessor, Values};
use crate::operators::store_views::StateStore;
use crate::operators::{ErasedPort, Port, join_children};
use crate::record::Data;
use crate::topology::NodeId;
use std::any::TypeId;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// What `process` may be told: a name, and the stores that the processor uses.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # struct Loud;
/// # impl Processor<String, String, String, String> for Loud {
/// #     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
/// #         let loud = record.value.to_uppercase();
/// #         context.forward(record.with_value(loud))
/// #     }
/// # }
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let seen = builder.add_state_store(KeyValueStore::<String, i64>::store("seen", String::serde(), i64::serde()));
/// orders.process(|| Loud, Processing::default().named("loud").store(&seen)).to("out", Produced::default());
/// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
/// assert_eq!(results, [("a".into(), "X".into())]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Processing {
    name: Option<String>,
    pub(super) stores: Vec<String>,
}

impl Processing {
    /// Names the operator.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let processing = Processing::default().named("loud");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Connects the processor to a store that was added to the builder.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// # let builder = StreamsBuilder::new();
    /// let seen = builder.add_state_store(KeyValueStore::<String, i64>::store("seen", String::serde(), i64::serde()));
    /// let processing = Processing::default().store(&seen);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn store<S>(self, store: &StateStore<S>) -> Self {
        self.store_named(store.name())
    }

    /// As [`store`](Self::store), by name: stores of tables can be used as well.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let processing = Processing::default().store_named("people-store");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn store_named(mut self, store: impl Into<String>) -> Self {
        self.stores.push(store.into());
        self
    }
}

impl StreamsBuilder {
    /// Adds a store for processors; hand the result to them.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// # let builder = StreamsBuilder::new();
    /// let seen = KeyValueStore::<String, i64>::store("seen", String::serde(), i64::serde());
    /// let seen = builder.add_state_store(seen);
    /// assert_eq!(seen.name(), "seen");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "addStateStore")]
    pub fn add_state_store<S: 'static>(&self, store: StateStore<S>) -> StateStore<S> {
        let added = store.clone();
        let write = move |writer: &mut Writer, _: &str, _: &[NodeId]| {
            let spec = writer.spec_of(&added);
            writer.shared_store(spec);
            // Nothing can be behind a store.
            NodeId(usize::MAX)
        };
        let name = store.name().to_string();
        self.graph.add(GraphNode { name, write: Some(Box::new(write)), ..GraphNode::default() });
        store
    }
}

impl<K: Data, V: Data> KStream<K, V> {
    /// Runs a processor of the user's own: one per task, made by `supplier`. The key may change, so what is behind it is
    /// repartitioned where it has to be.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # struct Loud;
    /// # impl Processor<String, String, String, String> for Loud {
    /// #     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
    /// #         let loud = record.value.to_uppercase();
    /// #         context.forward(record.with_value(loud))
    /// #     }
    /// # }
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// orders.process(|| Loud, Processing::default()).to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("a".into(), "X".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn process<K2: Data, V2: Data, P>(
        &self,
        supplier: impl Fn() -> P + Send + Sync + 'static,
        processing: Processing,
    ) -> KStream<K2, V2>
    where
        P: Processor<K, V, K2, V2> + 'static,
    {
        let node = self.add_process("KSTREAM-PROCESSOR", true, supplier, processing);
        let mut stream = KStream::new(self.graph.clone(), node, self.sources.clone(), (None, None));
        stream.repartition_required = true;
        stream
    }

    /// Runs a processor of the user's own that leaves keys as they are.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// struct Length;
    /// impl ValueProcessor<String, String, i64> for Length {
    ///     fn process(&mut self, context: &mut ValueContext<'_, '_, String, i64>, record: FixedKeyRecord<String, String>) -> Result {
    ///         let length = record.value.len() as i64;
    ///         context.forward(record.with_value(length))
    ///     }
    /// }
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// orders.process_values(|| Length, Processing::default()).to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "xyz", 0)], "out")?;
    /// assert_eq!(results, [("a".into(), 3)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "processValues")]
    pub fn process_values<V2: Data, P>(
        &self,
        supplier: impl Fn() -> P + Send + Sync + 'static,
        processing: Processing,
    ) -> KStream<K, V2>
    where
        P: ValueProcessor<K, V, V2> + 'static,
    {
        let supplier = move || Values(supplier());
        let node = self.add_process::<K, V2, _>("KSTREAM-PROCESSVALUES", false, supplier, processing);
        let mut stream = KStream::new(self.graph.clone(), node, self.sources.clone(), (self.key.clone(), None));
        stream.repartition_required = self.repartition_required;
        stream
    }

    fn add_process<K2: Data, V2: Data, P>(
        &self,
        prefix: &str,
        may_change_key: bool,
        supplier: impl Fn() -> P + Send + Sync + 'static,
        processing: Processing,
    ) -> super::graph::GraphId
    where
        P: Processor<K, V, K2, V2> + 'static,
    {
        let Processing { name, stores } = processing;
        // Unlike elsewhere a given name uses up no number.
        let name = name.unwrap_or_else(|| self.graph.next_name(prefix));
        let supplier = Arc::new(supplier);
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            let connected = stores.clone();
            let node = writer.erased_processor::<K, V>(name, parents, move |build: &mut Build, children| {
                make_processor(build, children, &connected, Box::new(supplier()))
            });
            stores.iter().for_each(|store| writer.connect(node, store));
            node
        };
        let (parents, write) = (vec![self.node], Some(Box::new(write) as _));
        let same_types = TypeId::of::<(K, V)>() == TypeId::of::<(K2, V2)>();
        let role = Role::Process { may_change_key, same_types };
        self.graph.add(GraphNode { name, parents, role, write, ..GraphNode::default() })
    }
}

/// Makes the node of one task.
pub(super) fn make_processor<K: Data, V: Data, K2: Data, V2: Data>(
    build: &mut Build,
    children: Vec<ErasedPort>,
    stores: &[String],
    processor: Box<dyn Processor<K, V, K2, V2>>,
) -> ErasedPort {
    let ports = children.into_iter().map(|child| join_children::<K2, V2>(vec![child]));
    let out: Vec<(String, Port<K2, V2>)> = build.children.iter().cloned().zip(ports).collect();
    let stores: BTreeMap<_, _> = stores.iter().map(|store| (store.clone(), build.store(store))).collect();
    let (name, number) = (build.node.clone(), build.hooks.next_number());
    let application_id = build.application_id.to_string();
    let parts = ProcessParts { processor, name, application_id, stores, number, out };
    let node = Rc::new(RefCell::new(ProcessNode::new(parts)));
    build.hooks.add_node(node.clone());
    let port: Port<K, V> = Box::new(ProcessPort(node));
    Box::new(port)
}
