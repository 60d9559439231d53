//! Several grouped streams, cut into windows and aggregated into one table.

use super::cogrouped::{CogroupedKStream, Initializer, merge};
use super::grouped::{store_name, unknown_serdes};
use super::windowed::{SessionWindowed, TimeWindowed, WindowedBy};
use super::windowed_table::{Frame, Shape, WindowedTable};
use super::{KTable, Materialized};
use crate::record::Data;
use crate::windows::{EmitStrategy, SessionWindows, Windowed};
use std::sync::Arc;

/// How the aggregate of a window of several streams begins, and what two sessions become together.
pub(crate) enum Begin<K, A> {
    Time(Shape, Initializer<A>),
    #[allow(clippy::type_complexity)]
    Sessions(SessionWindows, Initializer<A>, Arc<dyn Fn(&K, Option<A>, A) -> Option<A> + Send + Sync>),
}

impl<K, A> Clone for Begin<K, A> {
    fn clone(&self) -> Self {
        match self {
            Self::Time(shape, initializer) => Self::Time(*shape, initializer.clone()),
            Self::Sessions(windows, initializer, merger) => {
                Self::Sessions(*windows, initializer.clone(), merger.clone())
            }
        }
    }
}

/// Several grouped streams cut into tumbling, hopping, sliding or unlimited windows.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let cogrouped = orders.group_by_key(Grouped::default()).cogroup(|_, _, n: i64| n + 1);
/// let windowed = cogrouped.windowed_by(TimeWindows::of_size(10));
/// windowed.aggregate(|| 0, Materialized::default().values()).to_stream().flatten_values()
///     .select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms))
///     .to("out", Produced::default());
/// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1)], "out")?;
/// assert_eq!(results, [("a@0".into(), 1), ("a@0".into(), 2)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub type TimeWindowedCogroupedKStream<K, A> = TimeWindowed<CogroupedKStream<K, A>>;

/// Several grouped streams cut into sessions.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let cogrouped = orders.group_by_key(Grouped::default()).cogroup(|_, _, n: i64| n + 1);
/// let windowed = cogrouped.windowed_by(SessionWindows::of_inactivity_gap(5));
/// windowed.aggregate(|| 0, |_, one, other| one + other, Materialized::default().values()).to_stream().flatten_values()
///     .select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms))
///     .to("out", Produced::default());
/// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1)], "out")?;
/// assert_eq!(results, [("a@0".into(), 1), ("a@0".into(), 2)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub type SessionWindowedCogroupedKStream<K, A> = SessionWindowed<CogroupedKStream<K, A>>;

impl<K: Data, A: Data> CogroupedKStream<K, A> {
    /// Cuts the streams into windows.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// use watersmeet::windows::TimeWindows;
    /// let builder = StreamsBuilder::new();
    /// let goals = builder.stream("goals", Consumed::<String, i64>::default()).group_by_key(Grouped::default());
    /// let cards = builder.stream("cards", Consumed::<String, String>::default()).group_by_key(Grouped::default());
    /// let per_hour = goals
    ///     .cogroup(|_, minute, so_far: String| format!("{so_far} goal:{minute}"))
    ///     .cogroup(&cards, |_, card, so_far| format!("{so_far} card:{card}"))
    ///     .windowed_by(TimeWindows::of_size(3_600_000))
    ///     .aggregate(String::new, Materialized::rocksdb("per-hour").values());
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "windowedBy")]
    pub fn windowed_by<W: WindowedBy>(&self, windows: W) -> W::Of<Self> {
        windows.cut(self.clone())
    }
}

impl<K: Data, A: Data> TimeWindowedCogroupedKStream<K, A> {
    /// Aggregates the records of all streams into one table, whose windows begin as `initializer` says.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let cogrouped = orders.group_by_key(Grouped::default()).cogroup(|_, _, n: i64| n + 1);
    /// let windowed = cogrouped.windowed_by(TimeWindows::of_size(10));
    /// windowed.aggregate(|| 0, Materialized::default().values()).to_stream().select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms)).to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 1), ("a@0".into(), 2)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn aggregate(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        self.aggregate_with(move || Some(initializer()), materialized)
    }

    /// As [`aggregate`](Self::aggregate), where `None` is "no aggregate".
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let cogrouped = orders.group_by_key(Grouped::default()).cogroup_with(|_, _, n: Option<i64>| Some(n? + 1));
    /// let windowed = cogrouped.windowed_by(TimeWindows::of_size(10));
    /// windowed.aggregate_with(|| Some(0), Materialized::memory("counts").values()).to_stream().select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms)).to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 1)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn aggregate_with(
        &self,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        aggregation(&self.grouped, materialized, Begin::Time(self.shape, Arc::new(initializer)))
    }
}

impl<K: Data, A: Data> SessionWindowedCogroupedKStream<K, A> {
    /// Aggregates the records of all streams into one table, whose sessions begin as `initializer` says; `merger` makes one
    /// of the aggregates of two sessions that become one.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let cogrouped = orders.group_by_key(Grouped::default()).cogroup(|_, _, n: i64| n + 1);
    /// let windowed = cogrouped.windowed_by(SessionWindows::of_inactivity_gap(5));
    /// windowed.aggregate(|| 0, |_, one, other| one + other, Materialized::default().values()).to_stream().flatten_values()
    ///     .select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms))
    ///     .to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 1), ("a@0".into(), 2)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn aggregate(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        merger: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        self.aggregate_with(move || Some(initializer()), move |k, a, b| a.map(|a| merger(k, a, b)), materialized)
    }

    /// As [`aggregate`](Self::aggregate), where `None` is "no aggregate".
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let cogrouped = orders.group_by_key(Grouped::default()).cogroup_with(|_, _, n: Option<i64>| Some(n? + 1));
    /// let windowed = cogrouped.windowed_by(SessionWindows::of_inactivity_gap(5));
    /// windowed
    ///     .aggregate_with(|| Some(0), |_, one: Option<i64>, other| Some(one? + other), Materialized::memory("counts").values()).to_stream().flatten_values()
    ///     .select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms))
    ///     .to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 1)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn aggregate_with(
        &self,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        merger: impl Fn(&K, Option<A>, A) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let begin = Begin::Sessions(self.windows, Arc::new(initializer), Arc::new(merger));
        aggregation(&self.grouped, materialized, begin)
    }
}

fn aggregation<K: Data, A: Data>(
    cogrouped: &CogroupedKStream<K, A>,
    materialized: Materialized<K, A>,
    begin: Begin<K, A>,
) -> KTable<Windowed<K>, A> {
    let graph = cogrouped.members[0].graph();
    let frame = match &begin {
        Begin::Time(shape, _) => Frame::Time(*shape),
        Begin::Sessions(windows, ..) => Frame::Sessions(*windows),
    };
    let store = store_name(graph, &materialized, "COGROUPKSTREAM-AGGREGATE");
    let parents = cogrouped.parents(&store);
    let key = cogrouped.members.iter().find_map(|member| member.key());
    let Some(table) = WindowedTable::new(graph, &store, &materialized, key, frame, EmitStrategy::OnWindowUpdate) else {
        return unknown_serdes(graph, parents[0], parents);
    };
    let mut nodes = Vec::new();
    for (i, (member, parent)) in cogrouped.members.iter().zip(&parents).enumerate() {
        let name = cogrouped.node_name(&materialized, &format!("-cogroup-agg-{i}"), "COGROUPKSTREAM-AGGREGATE");
        // The first one makes the store.
        let store = (i == 0).then(|| materialized.clone());
        nodes.push(member.aggregate_windows(name, *parent, &table, store, begin.clone()));
    }
    let name = cogrouped.node_name(&materialized, "-cogroup-merge", "COGROUPKSTREAM-MERGE");
    let node = merge::<Windowed<K>, A>(graph, name, nodes, Some(false));
    table.handle(graph, node, parents)
}
