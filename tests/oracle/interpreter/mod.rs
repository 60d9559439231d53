//! Builds a topology from the steps of a case: one call of the DSL per step.

mod aggregations;
mod globals;
mod joins;
mod keys;
pub mod options;
mod processors;
mod streams;
mod tables;
mod windowed;

use crate::aggregators::Aggregator;
use crate::case::{Fields, Stop};
use crate::store_commands::AnyStore;
use crate::val::{Type, Val, Var, render};
use keys::Key;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use watersmeet::dsl::{
    CogroupedKStream, Defaults, GlobalKTable, KGroupedStream, KGroupedTable, KStream, KTable,
    SessionWindowedCogroupedKStream, SessionWindowedKStream, StreamsBuilder, TimeWindowedCogroupedKStream,
    TimeWindowedKStream,
};
use watersmeet::prelude::TopicPattern;
use watersmeet::windows::Windowed;

/// Key and value type.
pub type Types = (Type, Type);

/// What a step made.
#[derive(Clone)]
pub enum Handle {
    Stream(KStream<Var, Var>),
    WindowedStream(KStream<Windowed<Var>, Var>),
    Table(KTable<Var, Val>),
    WindowedTable(KTable<Windowed<Var>, Val>),
    GlobalTable(GlobalKTable<Var, Val>),
    GroupedStream(KGroupedStream<Var, Var>),
    GroupedTable(Rc<KGroupedTable<Var, Var>>),
    TimeWindowed(TimeWindowedKStream<Var, Var>),
    SessionWindowed(SessionWindowedKStream<Var, Var>),
    /// With the aggregator of its first stream, which begins and merges.
    Cogrouped(Rc<CogroupedKStream<Var, Val>>, Aggregator),
    TimeWindowedCogrouped(TimeWindowedCogroupedKStream<Var, Val>, Aggregator),
    SessionWindowedCogrouped(SessionWindowedCogroupedKStream<Var, Val>, Aggregator),
}

/// Calls a method of the interpreter with the stream or table that a step takes, whatever its keys are.
macro_rules! on {
    ($self:ident, $step:ident, $stream:ident, $table:ident $(, $argument:expr)*) => {{
        let Made { handle, key, value } = $self.input($step, 0)?;
        match handle {
            Handle::Stream(stream) => $self.$stream($step, stream, key, value $(, $argument)*),
            Handle::WindowedStream(stream) => $self.$stream($step, stream, key, value $(, $argument)*),
            Handle::Table(table) => $self.$table($step, table, key, value $(, $argument)*),
            Handle::WindowedTable(table) => $self.$table($step, table, key, value $(, $argument)*),
            _ => Err(wrong_input($step)),
        }
    }};
    ($self:ident, $step:ident, stream $method:ident $(, $argument:expr)*) => {{
        let Made { handle, key, value } = $self.input($step, 0)?;
        match handle {
            Handle::Stream(stream) => $self.$method($step, stream, key, value $(, $argument)*),
            Handle::WindowedStream(stream) => $self.$method($step, stream, key, value $(, $argument)*),
            _ => Err(wrong_input($step)),
        }
    }};
    ($self:ident, $step:ident, table $method:ident $(, $argument:expr)*) => {{
        let Made { handle, key, value } = $self.input($step, 0)?;
        match handle {
            Handle::Table(table) => $self.$method($step, table, key, value $(, $argument)*),
            Handle::WindowedTable(table) => $self.$method($step, table, key, value $(, $argument)*),
            _ => Err(wrong_input($step)),
        }
    }};
}

/// What a step made, and the types in it.
#[derive(Clone)]
pub struct Made {
    pub handle: Handle,
    pub key: Type,
    pub value: Type,
}

/// What `peek` and `foreach` saw, with the number of the event.
#[derive(Clone, Default)]
pub struct SideEffects {
    pub event: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Value>>>,
}

impl SideEffects {
    fn saw(&self, step: &str, key: &Var, value: &Var) {
        let event = self.event.load(Ordering::Relaxed);
        let seen = json!({"event": event, "step": step, "key": render(key), "value": render(value)});
        self.seen.lock().expect("no panic while it is locked").push(seen);
    }

    pub fn all(&self) -> Vec<Value> {
        self.seen.lock().expect("no panic while it is locked").clone()
    }
}

/// The topology while it is built, and what has to be known of it afterwards.
pub struct Interpreter {
    builder: StreamsBuilder,
    /// The type of the serde that applies to values where nothing else is said.
    default_value: Type,
    made: HashMap<String, Made>,
    pub effects: SideEffects,
    /// Topics that are read.
    pub sources: BTreeMap<String, Types>,
    /// Topics that are read by a pattern.
    patterns: Vec<(TopicPattern, Types)>,
    /// Topics that are written by name; bytes where two steps disagree.
    pub sinks: BTreeMap<String, Types>,
    /// Topics that are chosen while running, by what their names begin with.
    dynamic_sinks: BTreeMap<String, Types>,
    /// Stores with a name.
    pub stores: BTreeMap<String, Types>,
    /// Stores of tables.
    pub tables: BTreeSet<String>,
    /// Stores that were added for processors, and the types of their keys.
    pub own_stores: BTreeMap<String, (AnyStore, Type)>,
    /// Stores that are named after their operator.
    special: BTreeMap<String, Contents>,
    /// Of each step that makes something: the numbers of the names that it made, and the types of what it made.
    steps: Vec<(Range<usize>, Types)>,
}

/// What is in a store.
#[derive(Debug, Clone)]
pub enum Contents {
    /// Keys and values of these types.
    Rows(Type, Type),
    /// The subscriptions of a foreign-key join, with primary keys of this type.
    Subscriptions(Type),
    /// Records of a join of two streams that have met none of the other side.
    Waiting {
        key: Type,
        left: Type,
        right: Type,
    },
    /// Records of a stream that wait for a table for so many milliseconds.
    Held(i64),
    Unknown,
}

impl Interpreter {
    pub fn new(defaults: Defaults, default_value: Type) -> Self {
        Self {
            builder: StreamsBuilder::with_defaults(defaults),
            default_value,
            made: HashMap::new(),
            effects: SideEffects::default(),
            sources: BTreeMap::new(),
            patterns: Vec::new(),
            sinks: BTreeMap::new(),
            dynamic_sinks: BTreeMap::new(),
            stores: BTreeMap::new(),
            special: BTreeMap::new(),
            tables: BTreeSet::new(),
            own_stores: BTreeMap::new(),
            steps: Vec::new(),
        }
    }

    /// The builder after all steps.
    pub fn run(&mut self, steps: &[Value]) -> Result<StreamsBuilder, Stop> {
        for step in steps.iter().map(Fields) {
            let from = self.builder.names_made();
            self.step(step)?;
            let made = step.maybe_text("id").and_then(|id| self.made.get(id));
            self.steps
                .extend(made.map(|made| (from..self.builder.names_made(), (made.key.clone(), made.value.clone()))));
        }
        Ok(std::mem::take(&mut self.builder))
    }

    fn step(&mut self, step: Fields) -> Result<(), Stop> {
        match step.text("op")? {
            "stream" => self.stream(step),
            "table" => self.table(step),
            "global_table" => self.global_table(step),
            "global_store" => self.global_store(step),
            "stream_global_table_join" => self.stream_global_table_join(step),
            "filter" => on!(self, step, filter, filter_table, false),
            "filter_not" => on!(self, step, filter, filter_table, true),
            "map" => on!(self, step, stream map),
            "map_values" => on!(self, step, map_values, map_table_values),
            "flat_map" => on!(self, step, stream flat_map),
            "flat_map_values" => on!(self, step, stream flat_map_values),
            "select_key" => on!(self, step, stream select_key),
            "peek" => on!(self, step, stream peek),
            "foreach" => on!(self, step, stream foreach),
            "merge" => self.merge(step),
            "split" => self.split(step),
            "repartition" => self.repartition(step),
            "to" => on!(self, step, stream to),
            "to_stream" => on!(self, step, table to_stream),
            "to_table" => self.to_table(step),
            "transform_values" => on!(self, step, table transform_values),
            "suppress" => on!(self, step, table suppress),
            "table_table_join" => self.table_table_join(step),
            "group_by_key" => self.group_by_key(step),
            "group_by" => on!(self, step, group_by, group_table_by),
            "count" => self.count(step),
            "reduce" => self.reduce(step),
            "aggregate" => self.aggregate(step),
            "cogroup" => self.cogroup(step),
            "windowed_by" => self.windowed_by(step),
            "fk_join" => self.fk_join(step),
            "stream_stream_join" => self.stream_stream_join(step),
            "add_store" => self.add_store(step),
            "process" => self.process(step),
            "process_values" => self.process_values(step),
            "stream_table_join" => self.stream_table_join(step),
            op => Err(Stop::NotYet(op.into())),
        }
    }

    /// The types of a topic that is read.
    pub fn types_read(&self, topic: &str) -> Option<Types> {
        let matching = || self.patterns.iter().find(|(pattern, _)| pattern.matches(topic));
        self.sources.get(topic).cloned().or_else(|| matching().map(|(_, types)| types.clone()))
    }

    /// The types of a topic that is written; `None` for topics of the application's own.
    pub fn types_written(&self, topic: &str) -> Option<&Types> {
        let dynamic = || self.dynamic_sinks.iter().find(|(prefix, _)| topic.starts_with(*prefix));
        self.sinks.get(topic).or_else(|| dynamic().map(|(_, types)| types))
    }

    /// What is in the store of that name: a store without a name of its own has a number that tells which step made it.
    pub fn contents(&self, store: &str) -> Contents {
        if let Some((key, value)) = self.stores.get(store) {
            return Contents::Rows(key.clone(), value.clone());
        }
        if let Some(contents) = self.special.get(store) {
            return contents.clone();
        }
        let number = |part: &str| (part.len() == 10).then(|| part.parse::<usize>().ok()).flatten();
        let Some(number) = store.split('-').find_map(number) else { return Contents::Unknown };
        let step = self.steps.iter().find(|(numbers, _)| numbers.contains(&number));
        let Some((_, (key, value))) = step.cloned() else { return Contents::Unknown };
        // A windowed store keeps the key inside.
        let key = key.inner().cloned().unwrap_or(key);
        match store.contains("SUBSCRIPTION-STATE-STORE") {
            true => Contents::Subscriptions(key),
            false => Contents::Rows(key, value),
        }
    }

    /// The `number`th input of a step.
    fn input(&self, step: Fields, number: usize) -> Result<Made, Stop> {
        let ids = if step.get("inputs").is_some() { step.texts("inputs") } else { step.texts("input") };
        let made = ids.get(number).and_then(|id| self.made.get(*id));
        made.cloned().ok_or_else(|| Stop::Case(format!("there is no input {number} of {}", step.0)))
    }

    fn stream_input(&self, step: Fields, number: usize) -> Result<(KStream<Var, Var>, Type, Type), Stop> {
        match self.input(step, number)? {
            Made { handle: Handle::Stream(stream), key, value } => Ok((stream, key, value)),
            _ => Err(wrong_input(step)),
        }
    }

    fn table_input(&self, step: Fields, number: usize) -> Result<(KTable<Var, Val>, Type, Type), Stop> {
        match self.input(step, number)? {
            Made { handle: Handle::Table(table), key, value } => Ok((table, key, value)),
            _ => Err(wrong_input(step)),
        }
    }

    fn put(&mut self, step: Fields, handle: Handle, key: Type, value: Type) -> Result<(), Stop> {
        self.put_as(step.text("id")?, handle, key, value)
    }

    /// A step that makes a stream, which is named where the step has a name.
    fn put_stream<K: Key>(
        &mut self,
        step: Fields,
        stream: KStream<K, Var>,
        key: Type,
        value: Type,
    ) -> Result<(), Stop> {
        let stream = match step.named() {
            Some(name) => stream.named(name),
            None => stream,
        };
        self.put(step, K::stream(stream), key, value)
    }

    /// A step that makes a table, which is named where the step has a name.
    fn put_table<K: Key>(&mut self, step: Fields, table: KTable<K, Val>, key: Type, value: Type) -> Result<(), Stop> {
        let table = match step.named() {
            Some(name) => table.named(name),
            None => table,
        };
        self.put(step, K::table(table), key, value)
    }

    fn put_as(&mut self, id: &str, handle: Handle, key: Type, value: Type) -> Result<(), Stop> {
        match self.made.insert(id.into(), Made { handle, key, value }) {
            None => Ok(()),
            Some(_) => Err(Stop::Case(format!("two steps have the id '{id}'"))),
        }
    }
}

fn wrong_input(step: Fields) -> Stop {
    Stop::NotYet(format!("{} of such an input", step.text("op").unwrap_or_default()))
}

/// Types that must be equal.
fn same(step: Fields, what: &str, a: &Type, b: &Type) -> Result<(), Stop> {
    if a == b { Ok(()) } else { Err(Stop::Case(format!("the {what} have the types {a:?} and {b:?} in {}", step.0))) }
}
