//! Grouped streams cut into windows, and the aggregations of each window's records.

use super::grouped::{store_name, unknown_serdes, use_up_a_number};
use super::windowed_table::{Frame, How, Shape, WindowedTable};
use super::{KGroupedStream, KTable, Materialized};
use crate::operators::aggregate::Updated;
use crate::operators::windowed::session::Fold;
use crate::record::Data;
use crate::serdes::DefaultSerde;
use crate::windows::{EmitStrategy, SessionWindows, SlidingWindows, TimeWindows, UnlimitedWindows, Windowed};
use std::sync::Arc;

/// What a grouped stream can be cut into: [`TimeWindows`], [`SlidingWindows`], [`UnlimitedWindows`] or [`SessionWindows`].
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let windowed = orders.group_by_key(Grouped::default()).windowed_by(TimeWindows::of_size(10));
/// windowed.count(Materialized::default()).to_stream().select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms)).to("out", Produced::default());
/// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 12)], "out")?;
/// assert_eq!(results, [("a@0".into(), 1), ("a@10".into(), 1)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub trait WindowedBy: Copy {
    /// What becomes of a grouped stream: [`TimeWindowedKStream`] or [`SessionWindowedKStream`].
    type Of<G>;

    /// Cuts `grouped`.
    fn cut<G>(self, grouped: G) -> Self::Of<G>;
}

impl WindowedBy for TimeWindows {
    type Of<G> = TimeWindowed<G>;

    fn cut<G>(self, grouped: G) -> TimeWindowed<G> {
        TimeWindowed { grouped, shape: Shape::Time(self.into()), emit: EmitStrategy::OnWindowUpdate }
    }
}

impl WindowedBy for UnlimitedWindows {
    type Of<G> = TimeWindowed<G>;

    fn cut<G>(self, grouped: G) -> TimeWindowed<G> {
        TimeWindowed { grouped, shape: Shape::Time(self.into()), emit: EmitStrategy::OnWindowUpdate }
    }
}

impl WindowedBy for SlidingWindows {
    type Of<G> = TimeWindowed<G>;

    fn cut<G>(self, grouped: G) -> TimeWindowed<G> {
        TimeWindowed { grouped, shape: Shape::Sliding(self), emit: EmitStrategy::OnWindowUpdate }
    }
}

impl WindowedBy for SessionWindows {
    type Of<G> = SessionWindowed<G>;

    fn cut<G>(self, grouped: G) -> SessionWindowed<G> {
        SessionWindowed { grouped, windows: self, emit: EmitStrategy::OnWindowUpdate }
    }
}

/// Something grouped and cut into time windows.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let windowed = orders.group_by_key(Grouped::default()).windowed_by(TimeWindows::of_size(10));
/// windowed.count(Materialized::default()).to_stream().flatten_values()
///     .select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms))
///     .to("out", Produced::default());
/// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 12)], "out")?;
/// assert_eq!(results, [("a@0".into(), 1), ("a@10".into(), 1)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Clone)]
pub struct TimeWindowed<G> {
    pub(super) grouped: G,
    pub(super) shape: Shape,
    emit: EmitStrategy,
}

/// Something grouped and cut into sessions.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let windowed = orders.group_by_key(Grouped::default()).windowed_by(SessionWindows::of_inactivity_gap(5));
/// windowed.count(Materialized::default()).to_stream().flatten_values()
///     .select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms))
///     .to("out", Produced::default());
/// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 20)], "out")?;
/// assert_eq!(results, [("a@0".into(), 1), ("a@20".into(), 1)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Clone)]
pub struct SessionWindowed<G> {
    pub(super) grouped: G,
    pub(super) windows: SessionWindows,
    emit: EmitStrategy,
}

/// A grouped stream cut into tumbling, hopping, sliding or unlimited windows. Made by [`KGroupedStream::windowed_by`].
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let windowed = orders.group_by_key(Grouped::default()).windowed_by(TimeWindows::of_size(10));
/// windowed.count(Materialized::default()).to_stream().flatten_values()
///     .select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms))
///     .to("out", Produced::default());
/// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 12)], "out")?;
/// assert_eq!(results, [("a@0".into(), 1), ("a@10".into(), 1)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub type TimeWindowedKStream<K, V> = TimeWindowed<KGroupedStream<K, V>>;

/// A grouped stream cut into sessions. Made by [`KGroupedStream::windowed_by`].
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let windowed = orders.group_by_key(Grouped::default()).windowed_by(SessionWindows::of_inactivity_gap(5));
/// windowed.count(Materialized::default()).to_stream().flatten_values()
///     .select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms))
///     .to("out", Produced::default());
/// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 20)], "out")?;
/// assert_eq!(results, [("a@0".into(), 1), ("a@20".into(), 1)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub type SessionWindowedKStream<K, V> = SessionWindowed<KGroupedStream<K, V>>;

impl<K: Data, V: Data> KGroupedStream<K, V> {
    /// Cuts the stream into windows: each key's records are aggregated window by window.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// use watersmeet::windows::{EmitStrategy, SessionWindows, TimeWindows};
    /// let builder = StreamsBuilder::new();
    /// let clicks = builder.stream("clicks", Consumed::<String, String>::default()).group_by_key(Grouped::default());
    /// let per_minute = clicks
    ///     .windowed_by(TimeWindows::of_size_and_grace(60_000, 5_000))
    ///     .emit_strategy(EmitStrategy::OnWindowClose)
    ///     .count(Materialized::rocksdb("clicks-per-minute"));
    /// let per_visit = clicks
    ///     .windowed_by(SessionWindows::of_inactivity_gap(30 * 60_000))
    ///     .count(Materialized::rocksdb("clicks-per-visit"));
    /// per_minute.to_stream().map(|page, clicks| (page.key.clone(), clicks)).to("counts", Produced::default());
    /// # builder.build()?;
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "windowedBy")]
    pub fn windowed_by<W: WindowedBy>(&self, windows: W) -> W::Of<Self> {
        windows.cut(self.clone())
    }
}

impl<K: Data, V: Data> TimeWindowedKStream<K, V> {
    /// Says when results are sent on; [`EmitStrategy::OnWindowUpdate`] unless told.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let windowed = orders.group_by_key(Grouped::default()).windowed_by(TimeWindows::of_size(10));
    /// windowed.emit_strategy(EmitStrategy::OnWindowClose).count(Materialized::default()).to_stream().select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms)).to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1), ("orders", "a", "z", 10)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 2)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn emit_strategy(self, emit: EmitStrategy) -> Self {
        Self { emit, ..self }
    }

    /// Counts the records of each key and window.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let windowed = orders.group_by_key(Grouped::default()).windowed_by(TimeWindows::of_size(10));
    /// windowed.count(Materialized::memory("counts")).to_stream().select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms)).to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 1), ("a@0".into(), 2)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<Windowed<K>, i64> {
        let (given, value) = (materialized.is_given(), materialized.value.clone().or_else(|| Some(i64::serde())));
        self.counted(given, |n| n, |n| *n, Materialized { value, ..materialized })
    }

    /// As [`count`](Self::count), into a type of the caller's: `make` makes it of a number, `number` is the number in it.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let windowed = orders.group_by_key(Grouped::default()).windowed_by(TimeWindows::of_size(10));
    /// windowed.count_with(|n| n as i32, |n| i64::from(*n), Materialized::memory("counts").values()).to_stream().select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms)).to("out", Produced::default());
    /// let results = results::<String, i32>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 1)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn count_with<N: Data>(
        &self,
        make: impl Fn(i64) -> N + Send + Sync + 'static,
        number: impl Fn(&N) -> i64 + Send + Sync + 'static,
        materialized: Materialized<K, N>,
    ) -> KTable<Windowed<K>, N> {
        self.counted(materialized.is_given(), make, number, materialized)
    }

    fn counted<N: Data>(
        &self,
        given: bool,
        make: impl Fn(i64) -> N + Send + Sync + 'static,
        number: impl Fn(&N) -> i64 + Send + Sync + 'static,
        materialized: Materialized<K, N>,
    ) -> KTable<Windowed<K>, N> {
        if given && matches!(self.shape, Shape::Time(_)) {
            use_up_a_number(self.grouped.graph(), &materialized);
        }
        self.aggregation("AGGREGATE", materialized, move |_, _, count| Updated::counted(count, &make, &number))
    }

    /// Combines the values of each key and window with each other: the first one as it is, every further one by `reducer`.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let windowed = orders.group_by_key(Grouped::default()).windowed_by(TimeWindows::of_size(10));
    /// windowed.reduce(|so_far, new| format!("{so_far}{new}"), Materialized::default()).to_stream().select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms)).to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1)], "out")?;
    /// assert_eq!(results, [("a@0".into(), "x".into()), ("a@0".into(), "xy".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn reduce(
        &self,
        reducer: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<Windowed<K>, V> {
        let value = materialized.value.clone().or_else(|| self.grouped.grouped.value.clone());
        let materialized = Materialized { value, ..materialized };
        self.reduce_with(|value| Some(value.clone()), move |a, b| Some(reducer(a, b)), materialized)
    }

    /// As [`reduce`](Self::reduce), into another type, and with windows that may end early: `first` makes the aggregate of a
    /// window's first value, `reducer` gets the aggregate so far and a value; a `None` is none.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let windowed = orders.group_by_key(Grouped::default()).windowed_by(TimeWindows::of_size(10));
    /// windowed
    ///     .reduce_with(|first| Some(first.len() as i64), |n, new| Some(n + new.len() as i64), Materialized::default().values()).to_stream().select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms)).to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 1), ("a@0".into(), 2)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn reduce_with<A: Data>(
        &self,
        first: impl Fn(&V) -> Option<A> + Send + Sync + 'static,
        reducer: impl Fn(&A, &V) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        self.aggregation("REDUCE", materialized, move |_, value: &V, old| {
            Updated::reduced(old, value, &first, &reducer)
        })
    }

    /// Folds the records of each key and window into a value of another type, that begins as `initializer` says.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let windowed = orders.group_by_key(Grouped::default()).windowed_by(TimeWindows::of_size(10));
    /// windowed.aggregate(|| 0, |_, v, n: i64| n + v.len() as i64, Materialized::default().values()).to_stream().select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms)).to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "xy", 0), ("orders", "a", "z", 1)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 2), ("a@0".into(), 3)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn aggregate<A: Data>(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        self.aggregate_with(move || Some(initializer()), move |k, v, a| a.map(|a| aggregator(k, v, a)), materialized)
    }

    /// As [`aggregate`](Self::aggregate), where `None` is "no aggregate": an aggregator that gives it deletes the window.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let windowed = orders.group_by_key(Grouped::default()).windowed_by(TimeWindows::of_size(10));
    /// windowed.aggregate_with(|| Some(0), |_, v, n: Option<i64>| Some(n? + v.len() as i64), Materialized::default().values()).to_stream().select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms)).to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "xy", 0), ("orders", "a", "z", 1)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 2), ("a@0".into(), 3)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn aggregate_with<A: Data>(
        &self,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        self.aggregation("AGGREGATE", materialized, move |key, value, stored| {
            Updated::aggregated(stored, &initializer, |so_far| aggregator(key, value, so_far))
        })
    }

    fn aggregation<A: Data>(
        &self,
        operator: &str,
        materialized: Materialized<K, A>,
        update: impl Fn(&K, &V, Option<A>) -> Updated<A> + Send + Sync + 'static,
    ) -> KTable<Windowed<K>, A> {
        let how = How::Time(self.shape, Arc::new(update));
        aggregation(&self.grouped, operator, materialized, self.emit, how)
    }
}

impl<K: Data, V: Data> SessionWindowedKStream<K, V> {
    /// Says when results are sent on; [`EmitStrategy::OnWindowUpdate`] unless told.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let windowed = orders.group_by_key(Grouped::default()).windowed_by(SessionWindows::of_inactivity_gap(5));
    /// windowed.emit_strategy(EmitStrategy::OnWindowClose).count(Materialized::default()).to_stream().flatten_values()
    ///     .select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms))
    ///     .to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1), ("orders", "a", "z", 50)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 2)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn emit_strategy(self, emit: EmitStrategy) -> Self {
        Self { emit, ..self }
    }

    /// Counts the records of each key and session.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let windowed = orders.group_by_key(Grouped::default()).windowed_by(SessionWindows::of_inactivity_gap(5));
    /// windowed.count(Materialized::memory("counts")).to_stream().flatten_values()
    ///     .select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms))
    ///     .to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 1), ("a@0".into(), 2)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn count(&self, materialized: Materialized<K, i64>) -> KTable<Windowed<K>, i64> {
        let (given, value) = (materialized.is_given(), materialized.value.clone().or_else(|| Some(i64::serde())));
        self.counted(given, |n| n, |n| *n, Materialized { value, ..materialized })
    }

    /// As [`count`](Self::count), into a type of the caller's: `make` makes it of a number, `number` is the number in it.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let windowed = orders.group_by_key(Grouped::default()).windowed_by(SessionWindows::of_inactivity_gap(5));
    /// windowed.count_with(|n| n as i32, |n| i64::from(*n), Materialized::memory("counts").values()).to_stream().flatten_values()
    ///     .select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms))
    ///     .to("out", Produced::default());
    /// let results = results::<String, i32>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 1)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn count_with<N: Data>(
        &self,
        make: impl Fn(i64) -> N + Send + Sync + 'static,
        number: impl Fn(&N) -> i64 + Send + Sync + 'static,
        materialized: Materialized<K, N>,
    ) -> KTable<Windowed<K>, N> {
        self.counted(materialized.is_given(), make, number, materialized)
    }

    fn counted<N: Data>(
        &self,
        given: bool,
        make: impl Fn(i64) -> N + Send + Sync + 'static,
        number: impl Fn(&N) -> i64 + Send + Sync + 'static,
        materialized: Materialized<K, N>,
    ) -> KTable<Windowed<K>, N> {
        if given {
            use_up_a_number(self.grouped.graph(), &materialized);
        }
        let (make, number) = (Arc::new(make), Arc::new(number));
        let number_of = number.clone();
        let sum = move |a: Option<&N>, more: i64| Some(make(a.map_or(0, |a| number(a)) + more));
        let (start, one, both) = (sum.clone(), sum.clone(), sum);
        let fold = Fold {
            initializer: Arc::new(move || start(None, 0)),
            aggregator: Arc::new(move |_, _, count: Option<N>| one(count.as_ref(), 1)),
            merger: Arc::new(move |_, a: Option<N>, b: N| both(a.as_ref(), number_of(&b))),
        };
        self.aggregation("AGGREGATE", materialized, fold)
    }

    /// Combines the values of each key and session with each other: the first one as it is, every further one by `reducer`.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let windowed = orders.group_by_key(Grouped::default()).windowed_by(SessionWindows::of_inactivity_gap(5));
    /// windowed.reduce(|so_far, new| format!("{so_far}{new}"), Materialized::default()).to_stream().flatten_values()
    ///     .select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms))
    ///     .to("out", Produced::default());
    /// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1)], "out")?;
    /// assert_eq!(results, [("a@0".into(), "x".into()), ("a@0".into(), "xy".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn reduce(
        &self,
        reducer: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        materialized: Materialized<K, V>,
    ) -> KTable<Windowed<K>, V> {
        let value = materialized.value.clone().or_else(|| self.grouped.grouped.value.clone());
        let materialized = Materialized { value, ..materialized };
        let reducer = Arc::new(reducer);
        let merger = reducer.clone();
        self.reduce_with(
            |value| Some(value.clone()),
            move |a, b| Some(reducer(a, b)),
            move |a, b| Some(merger(a, b)),
            materialized,
        )
    }

    /// As [`reduce`](Self::reduce), into another type, and with sessions that may end early: `first` makes the aggregate of a
    /// session's first value, `reducer` gets the aggregate so far and a value, `merger` the aggregates of two sessions that
    /// become one; a `None` is none.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let windowed = orders.group_by_key(Grouped::default()).windowed_by(SessionWindows::of_inactivity_gap(5));
    /// windowed
    ///     .reduce_with(
    ///         |first| Some(first.len() as i64),
    ///         |n, new| Some(n + new.len() as i64),
    ///         |one, other| Some(one + other),
    ///         Materialized::default().values(),
    ///     ).to_stream().flatten_values()
    ///     .select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms))
    ///     .to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "x", 0), ("orders", "a", "y", 1)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 1), ("a@0".into(), 2)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn reduce_with<A: Data>(
        &self,
        first: impl Fn(&V) -> Option<A> + Send + Sync + 'static,
        reducer: impl Fn(&A, &V) -> Option<A> + Send + Sync + 'static,
        merger: impl Fn(&A, &A) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let fold = Fold {
            initializer: Arc::new(|| None),
            aggregator: Arc::new(move |_, value, so_far| match &so_far {
                None => first(value),
                Some(so_far) => reducer(so_far, value),
            }),
            merger: Arc::new(move |_, so_far, found| match &so_far {
                None => Some(found),
                Some(so_far) => merger(so_far, &found),
            }),
        };
        self.aggregation("REDUCE", materialized, fold)
    }

    /// Folds the records of each key and session into a value of another type, that begins as `initializer` says; `merger`
    /// makes one of the aggregates of two sessions that become one.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let windowed = orders.group_by_key(Grouped::default()).windowed_by(SessionWindows::of_inactivity_gap(5));
    /// windowed
    ///     .aggregate(|| 0, |_, v, n: i64| n + v.len() as i64, |_, one, other| one + other, Materialized::default().values()).to_stream().flatten_values()
    ///     .select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms))
    ///     .to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "xy", 0), ("orders", "a", "z", 1)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 2), ("a@0".into(), 3)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn aggregate<A: Data>(
        &self,
        initializer: impl Fn() -> A + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, A) -> A + Send + Sync + 'static,
        merger: impl Fn(&K, A, A) -> A + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        self.aggregate_with(
            move || Some(initializer()),
            move |k, v, a| a.map(|a| aggregator(k, v, a)),
            move |k, a, b| a.map(|a| merger(k, a, b)),
            materialized,
        )
    }

    /// As [`aggregate`](Self::aggregate), where `None` is "no aggregate": an aggregator that gives it deletes the session.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::testing::results;
    /// # let builder = StreamsBuilder::new();
    /// # let orders = builder.stream("orders", Consumed::<String, String>::default());
    /// let windowed = orders.group_by_key(Grouped::default()).windowed_by(SessionWindows::of_inactivity_gap(5));
    /// windowed
    ///     .aggregate_with(
    ///         || Some(0),
    ///         |_, v, n: Option<i64>| Some(n? + v.len() as i64),
    ///         |_, one: Option<i64>, other| Some(one? + other),
    ///         Materialized::default().values(),
    ///     ).to_stream().flatten_values()
    ///     .select_key(|k, _| format!("{}@{}", k.key, k.window.start_ms))
    ///     .to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("orders", "a", "xy", 0), ("orders", "a", "z", 1)], "out")?;
    /// assert_eq!(results, [("a@0".into(), 2), ("a@0".into(), 3)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn aggregate_with<A: Data>(
        &self,
        initializer: impl Fn() -> Option<A> + Send + Sync + 'static,
        aggregator: impl Fn(&K, &V, Option<A>) -> Option<A> + Send + Sync + 'static,
        merger: impl Fn(&K, Option<A>, A) -> Option<A> + Send + Sync + 'static,
        materialized: Materialized<K, A>,
    ) -> KTable<Windowed<K>, A> {
        let fold =
            Fold { initializer: Arc::new(initializer), aggregator: Arc::new(aggregator), merger: Arc::new(merger) };
        self.aggregation("AGGREGATE", materialized, fold)
    }

    fn aggregation<A: Data>(
        &self,
        operator: &str,
        materialized: Materialized<K, A>,
        fold: Fold<K, V, A>,
    ) -> KTable<Windowed<K>, A> {
        aggregation(&self.grouped, operator, materialized, self.emit, How::Sessions(self.windows, fold))
    }
}

fn aggregation<K: Data, V: Data, A: Data>(
    grouped: &KGroupedStream<K, V>,
    operator: &str,
    materialized: Materialized<K, A>,
    emit: EmitStrategy,
    how: How<K, V, A>,
) -> KTable<Windowed<K>, A> {
    let graph = grouped.graph();
    let frame = match &how {
        How::Time(shape, _) => Frame::Time(*shape),
        How::Sessions(windows, _) => Frame::Sessions(*windows),
    };
    let store = store_name(graph, &materialized, &format!("KSTREAM-{operator}"));
    let name = graph.name_or(materialized.operator.as_deref(), &format!("KSTREAM-{operator}"));
    let (parent, sources) = grouped.parent(&store);
    let key = grouped.grouped.key.clone();
    let Some(table) = WindowedTable::new(graph, &store, &materialized, key, frame, emit) else {
        return unknown_serdes(graph, parent, sources);
    };
    let node = table.add(graph, name, parent, Some(materialized), how);
    table.handle(graph, node, sources)
}
