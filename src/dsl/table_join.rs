//! `KTable` joined with a `KTable` by equal keys: `join`, `left_join`, `outer_join`.

use super::graph::GraphNode;
use super::ktable::StoredTable;
use super::table_node::{Flag, TableNode, View};
use super::table_values::known_serdes;
use super::writer::Writer;
use super::{KTable, Materialized, TableJoined};
use crate::operators::Build;
use crate::operators::Port;
use crate::operators::getter::Getter;
use crate::operators::table_join::{JoinedRow, Merger, Needs, TableJoinSide};
use crate::operators::table_store::TableOut;
use crate::record::{Change, Data};
use crate::topology::NodeId;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

/// The table that a join makes.
struct Joined<K, A, B, R, J> {
    this: Rc<dyn TableNode<K, A>>,
    other: Rc<dyn TableNode<K, B>>,
    needs: Needs,
    join: Arc<J>,
    send_old: Flag,
    stored: Option<StoredTable<K, R>>,
}

impl<K, A, B, R, J> TableNode<K, R> for Joined<K, A, B, R, J>
where
    K: Data,
    A: Data,
    B: Data,
    R: Data,
    J: Fn(&K, Option<&A>, Option<&B>) -> Option<R> + Send + Sync + 'static,
{
    fn view(&self) -> View<K, R> {
        if let Some(stored) = &self.stored {
            return stored.view();
        }
        let (this, other, join, needs) = (self.this.view(), self.other.view(), self.join.clone(), self.needs);
        let mut stores = this.stores;
        stores.extend(other.stores);
        let make = move |build: &mut Build| {
            let join = join.clone();
            let join = move |key: &K, a: Option<&A>, b: Option<&B>| join(key, a, b);
            let (this, other) = ((this.make)(build), (other.make)(build));
            Box::new(JoinedRow { needs, this, other, join }) as Box<dyn Getter<K, R>>
        };
        View { stores, make: Arc::new(make) }
    }

    fn send_old_values(&self, _: bool) -> bool {
        self.this.send_old_values(true);
        self.other.send_old_values(true);
        self.send_old.set();
        true
    }
}

impl<K: Data, A: Data> KTable<K, A> {
    /// Joins the rows of two tables of the same key. A change of either table changes the result; without one of the rows
    /// there is none. Timestamps are the larger of both rows'.
    ///
    /// The topics must have the same number of partitions and the same partitioning, which is checked at start.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// let builder = StreamsBuilder::new();
    /// let names = builder.table("names", Consumed::<String, String>::default(), Materialized::default());
    /// let stock = builder.table("stock", Consumed::<String, i64>::default(), Materialized::default());
    /// names.join(&stock, |name, pieces| format!("{pieces} of {name}")).to_stream();
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn join<B: Data, R: Data>(
        &self,
        other: &KTable<K, B>,
        joiner: impl Fn(&A, &B) -> R + Send + Sync + 'static,
    ) -> KTable<K, R> {
        let joiner = move |_: &K, a: &A, b: &B| Some(joiner(a, b));
        self.join_with(other, joiner, TableJoined::default(), Materialized::default())
    }

    /// As [`join`](Self::join); the joiner also gets the key, `None` is no row, `joined` names the operator, and the result
    /// has a store of its own if `materialized` is given.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let names = builder.table("names", Consumed::<String, String>::default(), Materialized::default());
    /// # let towns = builder.table("towns", Consumed::<String, String>::default(), Materialized::default());
    /// let both = names.join_with(&towns, |_, name, town| Some(format!("{name} of {town}")), TableJoined::named("both"), Materialized::default());
    /// both.to_stream().to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("names", "p", "Ada", 0), ("towns", "p", "Rome", 1)], "out")?;
    /// assert_eq!(results, [("p".into(), "Ada of Rome".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn join_with<B: Data, R: Data>(
        &self,
        other: &KTable<K, B>,
        joiner: impl Fn(&K, &A, &B) -> Option<R> + Send + Sync + 'static,
        joined: TableJoined<K, K>,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        let join = move |key: &K, a: Option<&A>, b: Option<&B>| a.zip(b).and_then(|(a, b)| joiner(key, a, b));
        self.join_rows(other, Needs { this: true, other: true }, join, joined, materialized)
    }

    /// Joins each row with the other table's row of the same key, or with `None` where there is none.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let names = builder.table("names", Consumed::<String, String>::default(), Materialized::default());
    /// # let towns = builder.table("towns", Consumed::<String, String>::default(), Materialized::default());
    /// names.left_join(&towns, |name, town| format!("{name}:{}", town.is_some())).to_stream().to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("names", "p", "Ada", 0), ("towns", "p", "Rome", 1)], "out")?;
    /// assert_eq!(results, [("p".into(), "Ada:false".into()), ("p".into(), "Ada:true".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "leftJoin")]
    pub fn left_join<B: Data, R: Data>(
        &self,
        other: &KTable<K, B>,
        joiner: impl Fn(&A, Option<&B>) -> R + Send + Sync + 'static,
    ) -> KTable<K, R> {
        let joiner = move |_: &K, a: &A, b: Option<&B>| Some(joiner(a, b));
        self.left_join_with(other, joiner, TableJoined::default(), Materialized::default())
    }

    /// As [`left_join`](Self::left_join), with what [`join_with`](Self::join_with) adds.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let names = builder.table("names", Consumed::<String, String>::default(), Materialized::default());
    /// # let towns = builder.table("towns", Consumed::<String, String>::default(), Materialized::default());
    /// let both = names.left_join_with(
    ///     &towns,
    ///     |_, name, town| Some(format!("{name}:{}", town.is_some())),
    ///     TableJoined::default(),
    ///     Materialized::default(),
    /// );
    /// both.to_stream().to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("names", "p", "Ada", 0), ("towns", "p", "Rome", 1)], "out")?;
    /// assert_eq!(results, [("p".into(), "Ada:false".into()), ("p".into(), "Ada:true".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn left_join_with<B: Data, R: Data>(
        &self,
        other: &KTable<K, B>,
        joiner: impl Fn(&K, &A, Option<&B>) -> Option<R> + Send + Sync + 'static,
        joined: TableJoined<K, K>,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        self.table.send_old_values(true);
        let join = move |key: &K, a: Option<&A>, b: Option<&B>| a.and_then(|a| joiner(key, a, b));
        self.join_rows(other, Needs { this: true, other: false }, join, joined, materialized)
    }

    /// Joins the rows of two tables of the same key, as long as one of them is there.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let names = builder.table("names", Consumed::<String, String>::default(), Materialized::default());
    /// # let towns = builder.table("towns", Consumed::<String, String>::default(), Materialized::default());
    /// names
    ///     .outer_join(&towns, |name, town| format!("{}:{}", name.is_some(), town.is_some()))
    ///     .to_stream()
    ///     .to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("towns", "p", "Rome", 0), ("names", "p", "Ada", 1)], "out")?;
    /// assert_eq!(results, [("p".into(), "false:true".into()), ("p".into(), "true:true".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "outerJoin")]
    pub fn outer_join<B: Data, R: Data>(
        &self,
        other: &KTable<K, B>,
        joiner: impl Fn(Option<&A>, Option<&B>) -> R + Send + Sync + 'static,
    ) -> KTable<K, R> {
        let joiner = move |_: &K, a: Option<&A>, b: Option<&B>| Some(joiner(a, b));
        self.outer_join_with(other, joiner, TableJoined::default(), Materialized::default())
    }

    /// As [`outer_join`](Self::outer_join), with what [`join_with`](Self::join_with) adds.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let names = builder.table("names", Consumed::<String, String>::default(), Materialized::default());
    /// # let towns = builder.table("towns", Consumed::<String, String>::default(), Materialized::default());
    /// let both = names.outer_join_with(&towns, |_, name, town| name.or(town).cloned(), TableJoined::default(), Materialized::default());
    /// both.to_stream().to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("towns", "p", "Rome", 0), ("names", "p", "Ada", 1)], "out")?;
    /// assert_eq!(results, [("p".into(), "Rome".into()), ("p".into(), "Ada".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn outer_join_with<B: Data, R: Data>(
        &self,
        other: &KTable<K, B>,
        joiner: impl Fn(&K, Option<&A>, Option<&B>) -> Option<R> + Send + Sync + 'static,
        joined: TableJoined<K, K>,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R> {
        self.table.send_old_values(true);
        other.table.send_old_values(true);
        self.join_rows(other, Needs { this: false, other: false }, joiner, joined, materialized)
    }

    fn join_rows<B: Data, R: Data, J>(
        &self,
        other: &KTable<K, B>,
        needs: Needs,
        join: J,
        joined: TableJoined<K, K>,
        materialized: Materialized<K, R>,
    ) -> KTable<K, R>
    where
        J: Fn(&K, Option<&A>, Option<&B>) -> Option<R> + Send + Sync + 'static,
    {
        let store = materialized.is_given().then(|| {
            let named = materialized.name.clone();
            named.unwrap_or_else(|| self.graph.next_name("KTABLE-MERGE-STATE-STORE"))
        });
        let given = joined.name.as_deref();
        let suffixed = |suffix: &str, prefix: &str| {
            let name = given.map(|name| format!("{name}{suffix}"));
            self.graph.name_or(name.as_deref(), prefix)
        };
        let name = suffixed("", "KTABLE-MERGE");
        let (this_name, other_name) =
            (suffixed("-join-this", "KTABLE-JOINTHIS"), suffixed("-join-other", "KTABLE-JOINOTHER"));
        let sources = self.copartitioned_with(other);
        let (this_view, other_view) = (self.table.view(), other.table.view());

        let key = materialized.key.clone().or_else(|| self.key.clone());
        let value = materialized.value.clone();
        let (send_old, join) = (Flag::default(), Arc::new(join));
        let stored = store.and_then(|store| {
            let serdes = known_serdes(&self.graph, &name, key.clone(), value.clone());
            serdes.map(|serdes| StoredTable::new(store, serdes, send_old.clone()))
        });
        let table = Joined {
            this: self.table.clone(),
            other: other.table.clone(),
            needs,
            join: join.clone(),
            send_old: send_old.clone(),
            stored: stored.clone(),
        };
        let versioned = Some(materialized.history_ms.is_some());
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            let [this_versioned, other_versioned] = [writer.versioned_parents[0], writer.versioned_parents[1]];
            let spec = stored.as_ref().map(|stored| {
                writer.formats(&stored.store, &stored.key, &stored.value);
                materialized.table_spec(&stored.store, writer.defaults.engine)
            });
            let (mirrored, merged_old) = (join.clone(), send_old.clone());
            let reversed = Arc::new(move |key: &K, b: Option<&B>, a: Option<&A>| mirrored(key, a, b));
            let (this_stores, other_stores) = (this_view.stores.clone(), other_view.stores.clone());
            let this_side = side(needs, this_versioned, send_old.clone(), other_view, join);
            let other_side = side(needs.reversed(), other_versioned, send_old, this_view, reversed);
            let this = writer.processor(&this_name, &parents[..1], this_side);
            let other = writer.processor(&other_name, &parents[1..], other_side);
            let merger = writer.processor(name, &[this, other], move |build: &mut Build, out: Port<K, Change<R>>| {
                let rows = stored.as_ref().and_then(|stored| stored.rows(build));
                Box::new(Merger(TableOut::new(build, rows, merged_old.get(), out))) as Port<K, Change<R>>
            });
            other_stores.iter().for_each(|store| writer.connect(this, store));
            this_stores.iter().for_each(|store| writer.connect(other, store));
            spec.into_iter().for_each(|spec| writer.store(spec, &[merger]));
            merger
        };
        let (parents, write) = (vec![self.node, other.node], Some(Box::new(write) as _));
        let node = self.graph.add(GraphNode { name, parents, versioned, write, ..GraphNode::default() });
        KTable { graph: self.graph.clone(), node, sources, key, value, table: Rc::new(table) }
    }

    /// Demands that both tables are partitioned alike; the sources of both.
    fn copartitioned_with<B>(&self, other: &KTable<K, B>) -> Vec<super::graph::GraphId> {
        let mut sources = self.sources.clone();
        sources.extend(other.sources.iter().copied().filter(|source| !self.sources.contains(source)));
        self.graph.copartition(sources.iter().copied());
        sources
    }
}

/// How the node of one side is made: changes of `A` meet rows of `B`.
fn side<K: Data, A: Data, B: Data, R: Data, J>(
    needs: Needs,
    only_latest: bool,
    send_old: Flag,
    other: View<K, B>,
    join: Arc<J>,
) -> impl Fn(&mut Build, Port<K, Change<R>>) -> Port<K, Change<A>> + Send + Sync + 'static
where
    J: Fn(&K, Option<&A>, Option<&B>) -> Option<R> + Send + Sync + 'static,
{
    move |build, out| {
        let join = join.clone();
        Box::new(TableJoinSide {
            node: build.node.clone(),
            needs,
            only_latest,
            send_old: send_old.get(),
            other: (other.make)(build),
            join: move |key: &K, a: Option<&A>, b: Option<&B>| join(key, a, b),
            out,
            values: PhantomData,
        })
    }
}
