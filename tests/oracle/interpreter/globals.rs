//! Global tables and stores, and joins of streams with them.

use super::options::consumed_rows;
use super::streams::required;
use super::{Handle, Interpreter, Made, same, wrong_input};
use crate::aggregators::joiner;
use crate::case::{Fields, Stop};
use crate::functions::mapper;
use crate::val::{Val, Var};
use watersmeet::dsl::Consumed;
use watersmeet::error::Result as Processed;
use watersmeet::processor::{KeyValueStore, Processor, ProcessorContext};
use watersmeet::record::Record;
use watersmeet::state::Engine;

impl Interpreter {
    pub(super) fn global_table(&mut self, step: Fields) -> Result<(), Stop> {
        let (key, value) = (step.r#type("key")?, step.r#type("value")?);
        let topic = step.text("topic")?;
        self.sources.insert(topic.into(), (key.clone(), value.clone()));
        let materialized = self.materialized(step, &key, &value)?.unwrap_or_default();
        let table = self.builder.global_table(topic, consumed_rows(step, &key, &value)?, materialized);
        self.put(step, Handle::GlobalTable(table), key, value)
    }

    /// A processor puts key and value.
    pub(super) fn global_store(&mut self, step: Fields) -> Result<(), Stop> {
        let fields = step.fields("store").ok_or_else(|| Stop::Case("a global store without store".into()))?;
        let (name, topic) = (fields.text("name")?, step.text("topic")?);
        let (key, value) = (fields.r#type("key")?, fields.r#type("value")?);
        if fields.text("kind")? != "key_value" {
            return Err(Stop::NotYet("global stores of other kinds".into()));
        }
        self.sources.insert(topic.into(), (key.clone(), value.clone()));
        self.stores.insert(name.into(), (key.clone(), value.clone()));
        let store = KeyValueStore::<Var, Val>::store(name, key.nullable(), value.serde());
        let store = match fields.maybe_text("store") {
            Some("in_memory") => store.engine(Engine::Memory),
            _ => store,
        };
        let consumed = Consumed::with(key.nullable(), value.nullable());
        self.builder.add_global_store(store, topic, consumed, Keep);
        Ok(())
    }

    pub(super) fn stream_global_table_join(&mut self, step: Fields) -> Result<(), Stop> {
        let (stream, key, left) = self.stream_input(step, 0)?;
        let Made { handle: Handle::GlobalTable(table), key: table_key, value: right } = self.input(step, 1)? else {
            return Err(wrong_input(step));
        };
        let select = mapper(&required(step, "key_selector")?, &key, &left)?;
        same(step, "keys", &select.out, &table_key)?;
        let joiner = joiner(step.text("joiner")?, &left, &right)?;
        let (f, select) = (joiner.f, select.f);
        let select = move |k: &Var, v: &Var| select(k, v);
        let stream = match step.text("type")? {
            "inner" => stream.join_global_with(&table, select, move |k, v, row| f(k, &v, &Some(row)), step.named()),
            _ => stream.left_join_global_with(&table, select, move |k, v, row| f(k, &v, &row), step.named()),
        };
        self.put(step, Handle::Stream(stream), key, joiner.out)
    }
}

struct Keep(KeyValueStore<Var, Val>);

impl Processor<Var, Var, (), ()> for Keep {
    fn process(&mut self, context: &mut ProcessorContext<'_, (), ()>, record: Record<Var, Var>) -> Processed {
        self.0.put(context, &record.key, record.value.as_ref())
    }
}
