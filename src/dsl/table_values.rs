//! Tables of tables: `filter`, `map_values`, `transform_values`.

use super::graph::{Graph, GraphNode};
use super::ktable::StoredTable;
use super::table_node::{Flag, TableNode, View};
use super::writer::Writer;
use super::{KTable, Materialized};
use crate::error::{Error, Kind};
use crate::operators::Build;
use crate::operators::Port;
use crate::operators::getter::Getter;
use crate::operators::table_store::TableOut;
use crate::operators::table_values::{ComputedRow, TableValues};
use crate::record::{Change, Data};
use crate::serdes::SerdeRef;
use crate::topology::NodeId;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

/// A table that is computed from another one whenever it is read.
struct Computed<K, V, F> {
    above: Rc<dyn TableNode<K, V>>,
    f: Arc<F>,
    send_old: Flag,
}

impl<K, V, W, F> TableNode<K, W> for Computed<K, V, F>
where
    K: Data,
    V: Data,
    W: Data,
    F: Fn(&K, Option<&V>) -> Option<W> + Send + Sync + 'static,
{
    fn view(&self) -> View<K, W> {
        let (above, f) = (self.above.view(), self.f.clone());
        let make = move |build: &mut Build| {
            let f = f.clone();
            let f = move |key: &K, row: Option<&V>| f(key, row);
            Box::new(ComputedRow { f, above: (above.make)(build) }) as Box<dyn Getter<K, W>>
        };
        View { stores: above.stores, make: Arc::new(make) }
    }

    fn send_old_values(&self, force: bool) -> bool {
        if self.above.send_old_values(force) {
            self.send_old.set();
        }
        self.send_old.get()
    }
}

impl<K: Data, V: Data> KTable<K, V> {
    /// Keeps the rows for which `keep` is true; a row that no longer passes is deleted.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// let builder = StreamsBuilder::new();
    /// let stock = builder.table("stock", Consumed::<String, i64>::default(), Materialized::rocksdb("stock"));
    /// stock.filter(|_product, pieces| *pieces < 10).to_stream().to("scarce", Produced::default());
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn filter(&self, keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KTable<K, V> {
        self.filter_with(keep, Materialized::default())
    }

    /// As [`filter`](Self::filter), with a store of its own if `materialized` names one.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// people.filter_with(|_, name| name != "nobody", Materialized::memory("somebody")).to_stream().to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("people", "p", "Ada", 0)], "out")?;
    /// assert_eq!(results, [("p".into(), "Ada".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn filter_with(
        &self,
        keep: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        self.take_number("KTABLE-FILTER", &materialized);
        let f = move |key: &K, row: Option<&V>| row.filter(|row| keep(key, row)).cloned();
        // A filter above a table with a store knows what was there, and need not tell of rows that never passed.
        let send_old = Flag::new(self.table.send_old_values(false));
        let name = self.graph.name_or(materialized.operator.as_deref(), "KTABLE-FILTER");
        self.computed(name, f, Some(send_old), self.value.clone(), materialized)
    }

    /// Drops the rows for which `drop` is true.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// people.filter_not(|_, name| name == "nobody").to_stream().to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("people", "p", "Ada", 0)], "out")?;
    /// assert_eq!(results, [("p".into(), "Ada".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "filterNot")]
    pub fn filter_not(&self, drop: impl Fn(&K, &V) -> bool + Send + Sync + 'static) -> KTable<K, V> {
        self.filter(move |key, row| !drop(key, row))
    }

    /// As [`filter_not`](Self::filter_not), with a store of its own if `materialized` names one.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// people.filter_not_with(|_, name| name == "nobody", Materialized::memory("somebody")).to_stream().to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("people", "p", "Ada", 0)], "out")?;
    /// assert_eq!(results, [("p".into(), "Ada".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn filter_not_with(
        &self,
        drop: impl Fn(&K, &V) -> bool + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<K, V> {
        self.filter_with(move |key, row| !drop(key, row), materialized)
    }

    /// Makes a new row of each row. Without a store the new rows are computed whenever they are read.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// let users = builder.table("users", Consumed::<String, String>::default(), Materialized::default());
    /// let name_lengths = users.map_values(|name| name.len() as i64);
    /// ```
    #[doc(alias = "mapValues")]
    pub fn map_values<W: Data>(&self, f: impl Fn(&V) -> W + Send + Sync + 'static) -> KTable<K, W> {
        self.map_values_with(move |_, row| Some(f(row)), Materialized::default())
    }

    /// As [`map_values`](Self::map_values); `f` also gets the key, `None` is no row, and the new rows have a store of their
    /// own if `materialized` names one.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let lengths = people.map_values_with(|_, name| Some(name.len() as i64), Materialized::memory("lengths").values());
    /// lengths.to_stream().to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("people", "p", "Ada", 0)], "out")?;
    /// assert_eq!(results, [("p".into(), 3)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn map_values_with<W: Data>(
        &self,
        f: impl Fn(&K, &V) -> Option<W> + Send + Sync + 'static,
        materialized: Materialized<K, W>,
    ) -> KTable<K, W> {
        self.take_number("KTABLE-MAPVALUES", &materialized);
        let name = self.graph.name_or(materialized.operator.as_deref(), "KTABLE-MAPVALUES");
        self.computed(name, move |key: &K, row: Option<&V>| row.and_then(|row| f(key, row)), None, None, materialized)
    }

    /// Makes a new row of each row and of each delete: `f` gets the key, and the row or `None`.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # let builder = StreamsBuilder::new();
    /// # let stock = builder.table("stock", Consumed::<String, i64>::default(), Materialized::default());
    /// let with_deletes = stock.transform_values(|_product, pieces| Some(pieces.copied().unwrap_or(0)));
    /// ```
    #[doc(alias = "transformValues")]
    pub fn transform_values<W: Data>(
        &self,
        f: impl Fn(&K, Option<&V>) -> Option<W> + Send + Sync + 'static,
    ) -> KTable<K, W> {
        self.transform_values_with(f, Materialized::default())
    }

    /// As [`transform_values`](Self::transform_values), with a store of its own if `materialized` names one.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let lengths = people.transform_values_with(|_, name| name.map(|name| name.len() as i64), Materialized::memory("lengths").values());
    /// lengths.to_stream().to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("people", "p", "Ada", 0)], "out")?;
    /// assert_eq!(results, [("p".into(), 3)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn transform_values_with<W: Data>(
        &self,
        f: impl Fn(&K, Option<&V>) -> Option<W> + Send + Sync + 'static,
        materialized: Materialized<K, W>,
    ) -> KTable<K, W> {
        let name = self.graph.name_or(materialized.operator.as_deref(), "KTABLE-TRANSFORMVALUES");
        self.computed(name, f, None, None, materialized)
    }

    /// Sets the serdes that operators on this table take where they are not given others: `map_values` and its kin change
    /// the type of a table's rows, and do not know how the new ones are written.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
    /// let lengths = people.map_values(|name| name.len() as i64).serdes(String::serde(), i64::serde());
    /// lengths.to_stream().to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("people", "p", "Ada", 0)], "out")?;
    /// assert_eq!(results, [("p".into(), 3)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn serdes(self, key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key: Some(key), value: Some(value), ..self }
    }

    /// Kafka Streams gives a store that is not named a number, and then makes no store.
    fn take_number<W>(&self, operator: &str, materialized: &Materialized<K, W>) {
        if materialized.is_given() && materialized.name.is_none() {
            self.graph.next_name(&format!("{operator}-STATE-STORE"));
        }
    }

    /// Adds the node that computes rows of this table's. `filter`: it is one, and whether it gets old values.
    fn computed<W: Data, F>(
        &self,
        name: String,
        f: F,
        filter: Option<Flag>,
        inherited: Option<SerdeRef<W>>,
        materialized: Materialized<K, W>,
    ) -> KTable<K, W>
    where
        F: Fn(&K, Option<&V>) -> Option<W> + Send + Sync + 'static,
    {
        let (is_filter, send_old) = (filter.is_some(), filter.unwrap_or_default());
        let key = materialized.key.clone().or_else(|| self.key.clone());
        let value = materialized.value.clone().or(inherited);
        let f = Arc::new(f);
        let stored = materialized.name.clone().and_then(|store| {
            let serdes = known_serdes(&self.graph, &name, key.clone(), value.clone());
            serdes.map(|serdes| StoredTable::new(store, serdes, send_old.clone()))
        });
        let table: Rc<dyn TableNode<K, W>> = match &stored {
            Some(stored) => Rc::new(stored.clone()),
            None => Rc::new(Computed { above: self.table.clone(), f: f.clone(), send_old: send_old.clone() }),
        };
        let versioned = materialized.is_versioned();
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            let spec = stored.as_ref().map(|stored| {
                writer.formats(&stored.store, &stored.key, &stored.value);
                materialized.table_spec(&stored.store, writer.defaults.engine)
            });
            let skip_nothing = is_filter && !writer.versioned_parents[0];
            let node = writer.processor(name, parents, move |build: &mut Build, out: Port<K, Change<W>>| {
                let f = f.clone();
                let rows = stored.as_ref().and_then(|stored| stored.rows(build));
                Box::new(TableValues {
                    f: move |key: &K, row: Option<&V>| f(key, row),
                    out: TableOut::new(build, rows, send_old.get(), out),
                    skip_nothing,
                    values: PhantomData,
                }) as Port<K, Change<V>>
            });
            spec.into_iter().for_each(|spec| writer.store(spec, &[node]));
            node
        };
        let (parents, write) = (vec![self.node], Some(Box::new(write) as _));
        let node = self.graph.add(GraphNode { name, parents, versioned, write, ..GraphNode::default() });
        KTable { graph: self.graph.clone(), node, sources: self.sources.clone(), key, value, table }
    }
}

/// Both serdes, or an error at build: a store cannot do without them.
pub(super) fn known_serdes<K, V>(
    graph: &Graph,
    node: &str,
    key: Option<SerdeRef<K>>,
    value: Option<SerdeRef<V>>,
) -> Option<(SerdeRef<K>, SerdeRef<V>)> {
    let serdes = key.zip(value);
    if serdes.is_none() {
        graph.fail(serdes_not_known().node(node));
    }
    serdes
}

pub(super) fn serdes_not_known() -> Error {
    Error::new(Kind::Topology, "a table with a store needs the serdes of its keys and rows, and they are not known")
        .hint("an operator above changed a type: give them with Materialized::with or KTable::serdes")
}
