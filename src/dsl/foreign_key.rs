//! `KTable` joined with a `KTable` by a key that its rows name: `join_on`, `left_join_on`.

use super::graph::{Graph, GraphId, GraphNode, Write};
use super::ktable::write_source;
use super::table_node::View;
use super::table_values::known_serdes;
use super::to_table::OnDemand;
use super::writer::Writer;
use super::{KTable, Materialized, TableJoined};
use crate::operators::Build;
use crate::operators::foreign_key::answer::{Announce, Answer, Receive};
use crate::operators::foreign_key::resolve::Resolve;
use crate::operators::foreign_key::subscribe::Subscribe;
use crate::operators::foreign_key::wire::{Raw, Response, ResponseSerde, Subscription, SubscriptionSerde};
use crate::operators::sink::{Encode, Partitioning};
use crate::operators::source::{Decode, TimestampsOf};
use crate::operators::{ErasedPort, Port, join_children};
use crate::partitioner::{Partitions, StreamPartitioner};
use crate::record::{Change, Data};
use crate::serdes::{Optional, SerdeRef};
use crate::state::{Changelog, Engine, StoreKind, StoreSpec};
use crate::topology::{Node, NodeId, NodeKind, SinkTopic, Source, TopicName};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

const REGISTRATION: &str = "KTABLE-FK-JOIN-SUBSCRIPTION-REGISTRATION";
const PROCESSOR: &str = "KTABLE-FK-JOIN-SUBSCRIPTION-PROCESSOR";

impl<K: Data, V: Data> KTable<K, V> {
    /// Joins each row with the row of another table whose key it names: many rows may name the same. A change of either
    /// table changes the result. The tables need not be partitioned alike.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// let builder = StreamsBuilder::new();
    /// let orders = builder.table("orders", Consumed::<i64, (String, i64)>::json(), Materialized::default());
    /// let customers = builder.table("customers", Consumed::<String, String>::default(), Materialized::default());
    /// orders
    ///     .join_on(&customers, |(customer, _)| customer.clone(), |(_, pieces), name| format!("{pieces} for {name}"))
    ///     .to_stream()
    ///     .to("shipments", Produced::default());
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "join")]
    #[doc(alias = "foreign key")]
    pub fn join_on<KO: Data, VO: Data, R: Data>(
        &self,
        other: &KTable<KO, VO>,
        foreign_key: impl Fn(&V) -> KO + Send + Sync + 'static,
        joiner: impl Fn(&V, &VO) -> R + Send + Sync + 'static,
    ) -> KTable<K, R> {
        let joiner = move |_: &K, row: &V, foreign: &VO| Some(joiner(row, foreign));
        let foreign_key = move |_: &K, row: &V| foreign_key(row);
        self.join_on_with(other, foreign_key, joiner, TableJoined::default(), Materialized::default())
    }

    /// As [`join_on`](Self::join_on); both functions also get the key, `None` is no row, `joined` names the operator, and
    /// the result has a store of its own if `materialized` names one. A row whose foreign key is null is left out.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.table("orders", Consumed::<String, String>::default(), Materialized::default());
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let named = orders.join_on_with(
    ///     &people,
    ///     |_, person| person.clone(),
    ///     |order, _, name| Some(format!("{order} for {name}")),
    ///     TableJoined::named("orders-people"),
    ///     Materialized::default(),
    /// );
    /// named.to_stream().to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("people", "p", "Ada", 0), ("orders", "o1", "p", 1)], "out")?;
    /// assert_eq!(results, [("o1".into(), "o1 for Ada".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn join_on_with<KO: Data, VO: Data, R: Data>(
        &self,
        other: &KTable<KO, VO>,
        foreign_key: impl Fn(&K, &V) -> KO + Send + Sync + 'static,
        joiner: impl Fn(&K, &V, &VO) -> Option<R> + Send + Sync + 'static,
        joined: TableJoined<K, KO>,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        let joiner =
            move |key: &K, row: &V, foreign: Option<&VO>| foreign.and_then(|foreign| joiner(key, row, foreign));
        self.join_foreign(other, false, foreign_key, joiner, joined, materialized)
    }

    /// Joins each row with the row of another table whose key it names, or with `None` where there is none.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.table("orders", Consumed::<String, String>::default(), Materialized::default());
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let named = orders.left_join_on(&people, |person| person.clone(), |person, name| match name {
    ///     Some(name) => name.clone(),
    ///     None => format!("{person}?"),
    /// });
    /// named.to_stream().to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "o1", "p", 0), ("people", "p", "Ada", 1)], "out")?;
    /// assert_eq!(results, [("o1".into(), "p?".into()), ("o1".into(), "Ada".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "leftJoin")]
    pub fn left_join_on<KO: Data, VO: Data, R: Data>(
        &self,
        other: &KTable<KO, VO>,
        foreign_key: impl Fn(&V) -> KO + Send + Sync + 'static,
        joiner: impl Fn(&V, Option<&VO>) -> R + Send + Sync + 'static,
    ) -> KTable<K, R> {
        let joiner = move |_: &K, row: &V, foreign: Option<&VO>| Some(joiner(row, foreign));
        let foreign_key = move |_: &K, row: &V| foreign_key(row);
        self.left_join_on_with(other, foreign_key, joiner, TableJoined::default(), Materialized::default())
    }

    /// As [`left_join_on`](Self::left_join_on), with what [`join_on_with`](Self::join_on_with) adds. A row whose foreign key
    /// is null is joined with `None`.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.table("orders", Consumed::<String, String>::default(), Materialized::default());
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let named = orders.left_join_on_with(
    ///     &people,
    ///     |_, person| person.clone(),
    ///     |_, _, name| name.cloned(),
    ///     TableJoined::default(),
    ///     Materialized::memory("named-orders").values(),
    /// );
    /// named.to_stream().to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("people", "p", "Ada", 0), ("orders", "o1", "p", 1)], "out")?;
    /// assert_eq!(results, [("o1".into(), "Ada".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn left_join_on_with<KO: Data, VO: Data, R: Data>(
        &self,
        other: &KTable<KO, VO>,
        foreign_key: impl Fn(&K, &V) -> KO + Send + Sync + 'static,
        joiner: impl Fn(&K, &V, Option<&VO>) -> Option<R> + Send + Sync + 'static,
        joined: TableJoined<K, KO>,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        self.join_foreign(other, true, foreign_key, joiner, joined, materialized)
    }

    fn join_foreign<KO: Data, VO: Data, R: Data>(
        &self,
        other: &KTable<KO, VO>,
        left: bool,
        foreign_key: impl Fn(&K, &V) -> KO + Send + Sync + 'static,
        joiner: impl Fn(&K, &V, Option<&VO>) -> Option<R> + Send + Sync + 'static,
        joined: TableJoined<K, KO>,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        let graph = &self.graph;
        other.table.send_old_values(true);
        self.table.send_old_values(true);
        let names = Names::new(graph, joined.name.as_deref(), materialized.name.clone());
        let this = known_serdes(graph, &names.send, self.key.clone(), self.value.clone());
        let foreign = known_serdes(graph, &names.send, other.key.clone(), other.value.clone());
        let key = materialized.key.clone().or_else(|| self.key.clone());
        let value = materialized.value.clone();
        let result = OnDemand::new(names.result_store.clone(), key.clone(), value.clone(), &materialized);
        let (Some(this), Some(foreign)) = (this, foreign) else {
            let (node, table) = (self.node, Rc::new(result.table));
            return KTable { graph: graph.clone(), node, sources: Vec::new(), key, value, table };
        };

        let add = |name: &str, parents: Vec<GraphId>, versioned, write: Write| {
            graph.add(GraphNode { name: name.into(), parents, versioned, write: Some(write), ..GraphNode::default() })
        };
        let send =
            add(&names.send, vec![self.node], None, subscribe(left, foreign_key, this.clone(), foreign.0.clone()));
        let sink = subscription_sink(names.registration.clone(), foreign.0.clone(), joined.other_partitioner);
        let sink = add(&names.registration_sink, vec![send], None, sink);
        let source = subscription_source(names.registration.clone());
        let source = add(&names.registration_source, vec![sink], None, source);
        graph.copartition(other.sources.iter().copied().chain([source]));
        add(&names.store, Vec::new(), None, subscription_store(names.store.clone()));
        let received = add(&names.receive, vec![source], None, receive(names.store.clone()));
        let view = other.table.view();
        let answered = add(&names.answer, vec![received], None, answer(foreign.0.clone(), view));
        let changed = announce::<KO, VO>(names.store.clone(), foreign.0.clone());
        let announced = add(&names.announce, vec![other.node], None, changed);
        let sink = response_sink(names.response.clone(), this.0.clone(), foreign.1.clone(), joined.partitioner);
        let sink = add(&names.response_sink, vec![answered, announced], None, sink);
        let source = response_source(names.response.clone(), this.0, foreign.1);
        let source = add(&names.response_source, vec![sink], None, source);
        let mut sources = self.sources.clone();
        sources.push(source);
        graph.copartition(sources.iter().copied());
        let resolved = resolve(left, this.1, self.table.view(), joiner);
        let resolved = add(&names.resolve, vec![source], None, resolved);
        let versioned = Some(materialized.history_ms.is_some());
        let node = add(&names.result, vec![resolved], versioned, result_table(result.clone(), materialized));
        KTable { graph: graph.clone(), node, sources, key, value, table: Rc::new(result.table) }
    }
}

/// The names of a foreign-key join's two topics, its store and its nodes, given out in Kafka Streams' order.
struct Names {
    registration: String,
    send: String,
    registration_sink: String,
    registration_source: String,
    store: String,
    receive: String,
    answer: String,
    announce: String,
    response: String,
    response_sink: String,
    response_source: String,
    resolve: String,
    result: String,
    result_store: String,
}

impl Names {
    fn new(graph: &Graph, given: Option<&str>, result_store: Option<String>) -> Self {
        let name = |suffix: &str, prefix: &str| {
            let name = given.map(|name| format!("{name}-{suffix}"));
            graph.name_or(name.as_deref(), prefix)
        };
        let response = "KTABLE-FK-JOIN-SUBSCRIPTION-RESPONSE";
        // The fields are evaluated as they stand here.
        Self {
            registration: format!("{}-topic", name("subscription-registration", REGISTRATION)),
            send: name("subscription-registration-processor", REGISTRATION),
            registration_sink: name("subscription-registration-sink", "KTABLE-SINK"),
            registration_source: name("subscription-registration-source", "KTABLE-SOURCE"),
            store: name("subscription-store", "KTABLE-FK-JOIN-SUBSCRIPTION-STATE-STORE"),
            receive: name("subscription-receive", PROCESSOR),
            answer: name("subscription-join-foreign", PROCESSOR),
            announce: name("foreign-join-subscription", PROCESSOR),
            response: format!("{}-topic", name("subscription-response", response)),
            response_sink: name("subscription-response-sink", "KTABLE-SINK"),
            response_source: name("subscription-response-source", "KTABLE-SOURCE"),
            resolve: name("subscription-response-resolver", &format!("{response}-RESOLVER-PROCESSOR")),
            result: name("result", "KTABLE-FK-JOIN-OUTPUT"),
            result_store: result_store.unwrap_or_else(|| graph.next_name("KTABLE-FK-JOIN-OUTPUT-STATE-STORE")),
        }
    }
}

fn subscribe<K: Data, V: Data, KO: Data>(
    left: bool,
    foreign_key_of: impl Fn(&K, &V) -> KO + Send + Sync + 'static,
    (key, value): (SerdeRef<K>, SerdeRef<V>),
    foreign_key: SerdeRef<KO>,
) -> Write {
    let foreign_key_of = Arc::new(foreign_key_of);
    Box::new(move |writer, name, parents| {
        let only_latest = writer.versioned_parents[0];
        writer.processor(name, parents, move |build: &mut Build, out: Port<Option<Vec<u8>>, Subscription>| {
            let foreign_key_of = foreign_key_of.clone();
            Box::new(Subscribe {
                node: build.node.clone(),
                left,
                only_latest,
                foreign_key_of: move |key: &K, row: &V| foreign_key_of(key, row),
                key: key.clone(),
                value: value.clone(),
                foreign_key: foreign_key.clone(),
                out,
            }) as Port<K, Change<V>>
        })
    })
}

fn subscription_sink<KO: Data>(
    topic: String,
    foreign_key: SerdeRef<KO>,
    partitioner: Option<StreamPartitioner<KO, ()>>,
) -> Write {
    let by_bytes = partitioner.map(|by| {
        StreamPartitioner::new(move |topic: &str, key: &Option<Vec<u8>>, _: &Subscription, count| {
            match foreign_key.deserialize(key.as_deref()) {
                Ok(key) => by.partitions(topic, &key, &(), count),
                // A subscription without a foreign key may go anywhere.
                Err(_) => Partitions::ByKey,
            }
        })
    });
    let partitioning = Partitioning::from(by_bytes);
    Box::new(move |writer, name, parents| {
        let key: SerdeRef<Option<Vec<u8>>> = Arc::new(Optional(Arc::new(Raw)));
        write_sink(writer, name, parents, topic, key, Arc::new(SubscriptionSerde), partitioning)
    })
}

fn subscription_source(topic: String) -> Write {
    Box::new(move |writer, name, _| {
        let key: SerdeRef<Option<Vec<u8>>> = Arc::new(Optional(Arc::new(Raw)));
        write_topic_source(writer, name, topic, key, Arc::new(SubscriptionSerde))
    })
}

/// Whether the store of subscriptions keeps headers: Kafka Streams' does in memory.
fn keeps_headers(writer: &Writer) -> bool {
    writer.defaults.engine == Engine::Memory
}

fn subscription_store(name: String) -> Write {
    Box::new(move |writer, _, _| {
        let engine = writer.defaults.engine;
        let kind = StoreKind::Subscriptions { headers: keeps_headers(writer) };
        let spec = StoreSpec { name, engine, kind, changelog: Changelog::Own { config: Vec::new() }, cached: false };
        writer.store(spec, &[]);
        // A store has no children that would ask for its node.
        NodeId(usize::MAX)
    })
}

fn receive(store: String) -> Write {
    Box::new(move |writer, name, parents| {
        let (kept, with_headers) = (store.clone(), keeps_headers(writer));
        let node = writer.processor(name, parents, move |build: &mut Build, out| {
            let store = build.store(&kept);
            let node = build.node.clone();
            Box::new(Receive {
                node,
                store,
                out,
                key_bytes: Vec::new(),
                row: Vec::new(),
                with_headers,
                stored: Vec::new(),
            }) as Port<Option<Vec<u8>>, Subscription>
        });
        writer.connect(node, &store);
        node
    })
}

fn answer<KO: Data, VO: Data>(key: SerdeRef<KO>, view: View<KO, VO>) -> Write {
    Box::new(move |writer, name, parents| {
        let View { stores, make } = view;
        let node = writer.processor(name, parents, move |build: &mut Build, out: Port<Vec<u8>, Response<VO>>| {
            let (node, foreign) = (build.node.clone(), make(build));
            Box::new(Answer { node, key: key.clone(), foreign, out }) as Port<Option<Vec<u8>>, Subscription>
        });
        stores.iter().for_each(|store| writer.connect(node, store));
        node
    })
}

fn announce<KO: Data, VO: Data>(store: String, key: SerdeRef<KO>) -> Write {
    Box::new(move |writer, name, parents| {
        let (only_latest, kept) = (writer.versioned_parents[0], store.clone());
        let with_headers = keeps_headers(writer);
        let node = writer.processor(name, parents, move |build: &mut Build, out: Port<Vec<u8>, Response<VO>>| {
            let (node, store) = (build.node.clone(), build.store(&kept));
            Box::new(Announce { node, only_latest, store, with_headers, key: key.clone(), out, prefix: Vec::new() })
                as Port<KO, Change<VO>>
        });
        writer.connect(node, &store);
        node
    })
}

/// An answer goes back to the partition that asked. One that does not say which, as those of old versions, goes where this
/// table's key belongs. Source: `KTableImpl.doJoinOnForeignKey`.
fn response_sink<K: Data, VO: Data>(
    topic: String,
    key: SerdeRef<K>,
    foreign: SerdeRef<VO>,
    partitioner: Option<StreamPartitioner<K, ()>>,
) -> Write {
    let asker = |answer: &Response<VO>| answer.primary_partition;
    let partitioning = match partitioner {
        None => Partitioning::ByValue(asker),
        Some(by) => Partitioning::By(StreamPartitioner::new(
            move |topic: &str, bytes: &Vec<u8>, answer: &Response<VO>, count| match asker(answer) {
                Some(partition) => Partitions::One(partition),
                None => match key.deserialize(Some(bytes)) {
                    Ok(key) => by.partitions(topic, &key, &(), count),
                    Err(_) => Partitions::ByKey,
                },
            },
        )),
    };
    Box::new(move |writer, name, parents| {
        write_sink(writer, name, parents, topic, Arc::new(Raw), Arc::new(ResponseSerde(foreign)), partitioning)
    })
}

fn response_source<K: Data, VO: Data>(topic: String, key: SerdeRef<K>, foreign: SerdeRef<VO>) -> Write {
    Box::new(move |writer, name, _| {
        write_topic_source::<K, Response<VO>>(writer, name, topic, key, Arc::new(ResponseSerde(foreign)))
    })
}

fn resolve<K: Data, V: Data, VO: Data, R: Data>(
    left: bool,
    value: SerdeRef<V>,
    view: View<K, V>,
    join: impl Fn(&K, &V, Option<&VO>) -> Option<R> + Send + Sync + 'static,
) -> Write {
    let join = Arc::new(join);
    Box::new(move |writer, name, parents| {
        let View { stores, make } = view;
        let node = writer.processor(name, parents, move |build: &mut Build, out: Port<K, Option<R>>| {
            let join = join.clone();
            Box::new(Resolve {
                node: build.node.clone(),
                left,
                value: value.clone(),
                rows: make(build),
                join: move |key: &K, row: &V, foreign: Option<&VO>| join(key, row, foreign),
                out,
                foreign: PhantomData,
            }) as Port<K, Response<VO>>
        });
        stores.iter().for_each(|store| writer.connect(node, store));
        node
    })
}

fn result_table<K: Data, R: Data>(result: OnDemand<K, R>, materialized: Materialized<K, R>) -> Write {
    Box::new(move |writer, name, parents| {
        let node = write_source(writer, name, parents[0], &result.table);
        result.write_store(writer, node, &materialized);
        node
    })
}

/// Writes a sink to one of the join's own topics.
fn write_sink<K: Data, V: Data>(
    writer: &mut Writer,
    name: &str,
    parents: &[NodeId],
    topic: String,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    partitioning: Partitioning<K, V>,
) -> NodeId {
    writer.internal_topic(&topic, None);
    let topic = TopicName::Internal(topic);
    let internal = topic.clone();
    writer.sink(name, parents, SinkTopic::Fixed(topic), move |build| {
        let topic = internal.on_broker(build.application_id);
        Box::new(Encode::new(build, &topic, key.clone(), value.clone(), partitioning.clone()))
    })
}

/// Writes a source of one of the join's own topics.
fn write_topic_source<K: Data, V: Data>(
    writer: &mut Writer,
    name: &str,
    topic: String,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
) -> NodeId {
    let make = move |build: &mut Build, children: Vec<ErasedPort>| {
        let out = join_children::<K, V>(children);
        Box::new(Decode::new(build.node.clone(), key.clone(), value.clone(), TimestampsOf::Default, out))
            as Box<dyn Source>
    };
    let kind = NodeKind::Source {
        topics: vec![TopicName::Internal(topic)],
        pattern: None,
        bootstrap: false,
        reset: None,
        make: Arc::new(make),
    };
    writer.add(Node { name: name.into(), kind, parents: Vec::new(), stores: Vec::new() })
}
