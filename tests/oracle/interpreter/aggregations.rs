//! Steps that group and aggregate.

use super::keys::Key;
use super::streams::{required, spec};
use super::{Handle, Interpreter, Made, same, wrong_input};
use crate::aggregators::{Aggregator, aggregator, reducer};
use crate::case::{Fields, Stop};
use crate::functions::mapper;
use crate::val::{Type, Val, Var};
use std::rc::Rc;
use watersmeet::dsl::{Grouped, KGroupedStream, KStream, KTable, Materialized};
use watersmeet::record::Data;
use watersmeet::serdes::SerdeRef;

fn grouped<K: Data, V: Data>(step: Fields, key: SerdeRef<K>, value: SerdeRef<V>) -> Grouped<K, V> {
    let grouped = Grouped::with(key, value);
    match step.named() {
        Some(name) => grouped.named(name),
        None => grouped,
    }
}

/// (key, value, aggregate) to aggregate, as the DSL calls it.
pub(super) fn add(aggregator: &Aggregator) -> impl Fn(&Var, &Var, Option<Val>) -> Option<Val> + Send + Sync + 'static {
    let add = aggregator.add.clone();
    move |k, v, a| add(k, v, &a)
}

impl Interpreter {
    pub(super) fn group_by_key(&mut self, step: Fields) -> Result<(), Stop> {
        let (stream, key, value) = self.stream_input(step, 0)?;
        let grouped = stream.group_by_key(grouped(step, key.nullable(), value.nullable()));
        self.put(step, Handle::GroupedStream(grouped), key, value)
    }

    pub(super) fn group_by<K: Key>(
        &mut self,
        step: Fields,
        stream: KStream<K, Var>,
        key: Type,
        value: Type,
    ) -> Result<(), Stop> {
        let keys = mapper(&required(step, "mapper")?, &key, &value)?;
        let (key_of, options) = (keys.f, grouped(step, keys.out.nullable(), value.nullable()));
        let grouped = stream.group_by(move |k: &K, v| key_of(&k.var(), v), options);
        self.put(step, Handle::GroupedStream(grouped), keys.out, value)
    }

    pub(super) fn group_table_by<K: Key>(
        &mut self,
        step: Fields,
        table: KTable<K, Val>,
        key: Type,
        value: Type,
    ) -> Result<(), Stop> {
        let keys = mapper(&spec(step, "key_mapper", "key"), &key, &value)?;
        let values = mapper(&spec(step, "value_mapper", "identity"), &key, &value)?;
        let options = grouped(step, keys.out.nullable(), values.out.nullable());
        let (key_of, value_of) = (keys.f, values.f);
        let select = move |k: &K, v: &Val| {
            let row = Some(v.clone());
            (key_of(&k.var(), &row), value_of(&k.var(), &row))
        };
        self.put(step, Handle::GroupedTable(Rc::new(table.group_by(select, options))), keys.out, values.out)
    }

    /// The `Materialized` of an aggregation, which always has serdes.
    pub(super) fn kept(&mut self, step: Fields, key: &Type, value: &Type) -> Result<Materialized<Var, Val>, Stop> {
        let given = self.materialized(step, key, value)?;
        let kept = given.unwrap_or_else(|| Materialized::with(key.nullable(), value.serde()));
        Ok(match step.named() {
            Some(name) => kept.operator(name),
            None => kept,
        })
    }

    pub(super) fn count(&mut self, step: Fields) -> Result<(), Stop> {
        let Made { handle, key, .. } = self.input(step, 0)?;
        if handle.is_windowed() {
            return self.windowed_count(step, handle, key);
        }
        let kept = self.kept(step, &key, &Type::Long)?;
        let table = match handle {
            Handle::GroupedStream(grouped) => grouped.count_with(Val::Long, Val::as_long, kept),
            Handle::GroupedTable(grouped) => grouped.count_with(Val::Long, Val::as_long, kept),
            _ => return Err(wrong_input(step)),
        };
        self.put(step, Handle::Table(table), key, Type::Long)
    }

    pub(super) fn reduce(&mut self, step: Fields) -> Result<(), Stop> {
        let Made { handle, key, value } = self.input(step, 0)?;
        if handle.is_windowed() {
            return self.windowed_reduce(step, handle, key, value);
        }
        let kept = self.kept(step, &key, &value)?;
        let table = match handle {
            Handle::GroupedStream(grouped) => {
                let reduce = reducer(step.text("reducer")?, &value)?;
                grouped.reduce_with(Var::clone, move |a, v| reduce(&Some(a.clone()), v), kept)
            }
            Handle::GroupedTable(grouped) => {
                let more = reducer(step.text("adder")?, &value)?;
                let less = reducer(step.text("subtractor")?, &value)?;
                let more = move |a: &Val, v: &Var| more(&Some(a.clone()), v);
                let less = move |a: &Val, v: &Var| less(&Some(a.clone()), v);
                grouped.reduce_with(Var::clone, more, less, kept)
            }
            _ => return Err(wrong_input(step)),
        };
        self.put(step, Handle::Table(table), key, value)
    }

    pub(super) fn aggregate(&mut self, step: Fields) -> Result<(), Stop> {
        let Made { handle, key, value } = self.input(step, 0)?;
        if handle.is_windowed() {
            return self.windowed_aggregate(step, handle, key, value);
        }
        let by = match &handle {
            Handle::Cogrouped(_, by) => by.clone(),
            _ => aggregator(step.text("aggregator")?, &value)?,
        };
        let kept = self.kept(step, &key, &by.out)?;
        let start = by.start.clone();
        let start = move || start.clone();
        let table = match handle {
            Handle::GroupedStream(grouped) => grouped.aggregate_with(start, add(&by), kept),
            Handle::GroupedTable(grouped) => {
                let subtract = by.subtract.clone();
                grouped.aggregate_with(start, add(&by), move |k, v, a| subtract(k, v, &a), kept)
            }
            Handle::Cogrouped(cogrouped, _) => cogrouped.aggregate_with(start, kept),
            _ => return Err(wrong_input(step)),
        };
        self.put(step, Handle::Table(table), key, by.out)
    }

    fn grouped_input(&self, step: Fields, number: usize) -> Result<(KGroupedStream<Var, Var>, Type, Type), Stop> {
        match self.input(step, number)? {
            Made { handle: Handle::GroupedStream(grouped), key, value } => Ok((grouped, key, value)),
            _ => Err(wrong_input(step)),
        }
    }

    pub(super) fn cogroup(&mut self, step: Fields) -> Result<(), Stop> {
        let specs = step.texts("aggregators");
        let (grouped, key, value) = self.grouped_input(step, 0)?;
        let first = aggregator(specs.first().ok_or("cogroup needs aggregators")?, &value)?;
        let mut all = grouped.cogroup_with(add(&first));
        for (number, spec) in specs.iter().enumerate().skip(1) {
            let (grouped, other_key, value) = self.grouped_input(step, number)?;
            let next = aggregator(spec, &value)?;
            same(step, "aggregates", &first.out, &next.out)?;
            same(step, "keys", &key, &other_key)?;
            all = all.cogroup_with(&grouped, add(&next));
        }
        let out = first.out.clone();
        self.put(step, Handle::Cogrouped(Rc::new(all), first), key, out)
    }
}
