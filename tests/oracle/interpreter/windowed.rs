//! Steps that aggregate window by window.

use super::aggregations::add;
use super::{Handle, Interpreter, Made, wrong_input};
use crate::aggregators::{Aggregator, aggregator, reducer};
use crate::case::{Fields, Stop};
use crate::val::{Type, Val, Var};
use watersmeet::dsl::{CogroupedKStream, KGroupedStream, Materialized, TimeWindowed, WindowedBy};
use watersmeet::windows::{EmitStrategy, SessionWindows, SlidingWindows, TimeWindows, UnlimitedWindows};

/// The windows of a step.
enum Cut {
    Time(TimeWindows),
    Sliding(SlidingWindows),
    Unlimited(UnlimitedWindows),
    Sessions(SessionWindows),
}

impl Cut {
    fn of(window: Fields) -> Result<Self, Stop> {
        let grace_ms = window.maybe_number("grace_ms").unwrap_or(0);
        Ok(match window.text("type")? {
            "tumbling" => Cut::Time(TimeWindows::of_size_and_grace(window.number("size_ms")?, grace_ms)),
            "hopping" => Cut::Time(
                TimeWindows::of_size_and_grace(window.number("size_ms")?, grace_ms)
                    .advance_by(window.number("advance_ms")?),
            ),
            "sliding" => {
                Cut::Sliding(SlidingWindows::of_time_difference_and_grace(window.number("diff_ms")?, grace_ms))
            }
            "session" => Cut::Sessions(SessionWindows::of_inactivity_gap_and_grace(window.number("gap_ms")?, grace_ms)),
            "unlimited" => Cut::Unlimited(UnlimitedWindows::start_on(window.number("start_ms")?)),
            other => return Err(Stop::Case(format!("unknown windows '{other}'"))),
        })
    }

    /// The type of the keys that these windows make.
    fn key(&self, inner: Type, window: Fields) -> Result<Type, Stop> {
        Ok(match self {
            Cut::Time(_) => Type::TimeWindowed(Box::new(inner), window.number("size_ms")?),
            Cut::Sliding(_) => Type::TimeWindowed(Box::new(inner), window.number("diff_ms")?),
            Cut::Unlimited(_) => Type::TimeWindowed(Box::new(inner), i64::MAX),
            Cut::Sessions(_) => Type::SessionWindowed(Box::new(inner)),
        })
    }

    fn stream(&self, grouped: KGroupedStream<Var, Var>, emit: EmitStrategy) -> Handle {
        let time =
            |windowed: TimeWindowed<KGroupedStream<Var, Var>>| Handle::TimeWindowed(windowed.emit_strategy(emit));
        match *self {
            Cut::Time(windows) => time(windows.cut(grouped)),
            Cut::Sliding(windows) => time(windows.cut(grouped)),
            Cut::Unlimited(windows) => time(windows.cut(grouped)),
            Cut::Sessions(windows) => Handle::SessionWindowed(windows.cut(grouped).emit_strategy(emit)),
        }
    }

    fn cogrouped(&self, cogrouped: CogroupedKStream<Var, Val>, by: Aggregator) -> Handle {
        match *self {
            Cut::Time(windows) => Handle::TimeWindowedCogrouped(windows.cut(cogrouped), by),
            Cut::Sliding(windows) => Handle::TimeWindowedCogrouped(windows.cut(cogrouped), by),
            Cut::Unlimited(windows) => Handle::TimeWindowedCogrouped(windows.cut(cogrouped), by),
            Cut::Sessions(windows) => Handle::SessionWindowedCogrouped(windows.cut(cogrouped), by),
        }
    }
}

impl Handle {
    pub(super) fn is_windowed(&self) -> bool {
        matches!(
            self,
            Handle::TimeWindowed(_)
                | Handle::SessionWindowed(_)
                | Handle::TimeWindowedCogrouped(..)
                | Handle::SessionWindowedCogrouped(..)
        )
    }
}

/// What two sessions become together, as the DSL calls it.
fn merge(by: &Aggregator) -> impl Fn(&Var, Option<Val>, Val) -> Option<Val> + Send + Sync + 'static {
    let merge = by.merge.clone();
    move |k, a, b| merge(k, &a, &Some(b))
}

impl Interpreter {
    pub(super) fn windowed_by(&mut self, step: Fields) -> Result<(), Stop> {
        let window = step.fields("window").ok_or("windowed_by needs a window")?;
        let cut = Cut::of(window)?;
        let Made { handle, key, value } = self.input(step, 0)?;
        let emit = match step.maybe_text("emit") {
            Some("on_window_close") => EmitStrategy::OnWindowClose,
            _ => EmitStrategy::OnWindowUpdate,
        };
        let key = cut.key(key, window)?;
        let handle = match handle {
            Handle::GroupedStream(grouped) => cut.stream(grouped, emit),
            Handle::Cogrouped(cogrouped, by) => cut.cogrouped((*cogrouped).clone(), by),
            _ => return Err(wrong_input(step)),
        };
        self.put(step, handle, key, value)
    }

    pub(super) fn windowed_count(&mut self, step: Fields, handle: Handle, key: Type) -> Result<(), Stop> {
        let kept = self.kept_windows(step, &key, &Type::Long)?;
        let table = match handle {
            Handle::TimeWindowed(windowed) => windowed.count_with(Val::Long, Val::as_long, kept),
            Handle::SessionWindowed(windowed) => windowed.count_with(Val::Long, Val::as_long, kept),
            _ => return Err(wrong_input(step)),
        };
        self.put(step, Handle::WindowedTable(table), key, Type::Long)
    }

    pub(super) fn windowed_reduce(&mut self, step: Fields, handle: Handle, key: Type, value: Type) -> Result<(), Stop> {
        let kept = self.kept_windows(step, &key, &value)?;
        let reduce = reducer(step.text("reducer")?, &value)?;
        let merge = reduce.clone();
        let more = move |a: &Val, v: &Var| reduce(&Some(a.clone()), v);
        let table = match handle {
            Handle::TimeWindowed(windowed) => windowed.reduce_with(Var::clone, more, kept),
            Handle::SessionWindowed(windowed) => {
                let both = move |a: &Val, b: &Val| merge(&Some(a.clone()), &Some(b.clone()));
                windowed.reduce_with(Var::clone, more, both, kept)
            }
            _ => return Err(wrong_input(step)),
        };
        self.put(step, Handle::WindowedTable(table), key, value)
    }

    pub(super) fn windowed_aggregate(
        &mut self,
        step: Fields,
        handle: Handle,
        key: Type,
        value: Type,
    ) -> Result<(), Stop> {
        let by = match &handle {
            Handle::TimeWindowedCogrouped(_, by) | Handle::SessionWindowedCogrouped(_, by) => by.clone(),
            _ => aggregator(step.text("aggregator")?, &value)?,
        };
        let kept = self.kept_windows(step, &key, &by.out)?;
        let start = by.start.clone();
        let start = move || start.clone();
        let table = match handle {
            Handle::TimeWindowed(windowed) => windowed.aggregate_with(start, add(&by), kept),
            Handle::SessionWindowed(windowed) => windowed.aggregate_with(start, add(&by), merge(&by), kept),
            Handle::TimeWindowedCogrouped(windowed, _) => windowed.aggregate_with(start, kept),
            Handle::SessionWindowedCogrouped(windowed, _) => windowed.aggregate_with(start, merge(&by), kept),
            _ => return Err(wrong_input(step)),
        };
        self.put(step, Handle::WindowedTable(table), key, by.out)
    }

    /// The `Materialized` of an aggregation whose rows have windowed keys: it has the serde of the keys inside.
    fn kept_windows(&mut self, step: Fields, key: &Type, value: &Type) -> Result<Materialized<Var, Val>, Stop> {
        let inner = key.inner().ok_or("windows have windowed keys")?;
        self.kept(step, inner, value)
    }
}
