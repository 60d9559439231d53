//! Steps on tables, and joins of streams with them.

use super::options::consumed_rows;
use super::{Handle, Interpreter, same};
use crate::aggregators::joiner;
use crate::case::{Fields, Stop};
use watersmeet::dsl::Joined;

impl Interpreter {
    pub(super) fn table(&mut self, step: Fields) -> Result<(), Stop> {
        let (key, value) = (step.r#type("key")?, step.r#type("value")?);
        let topic = step.text("topic")?;
        self.sources.insert(topic.into(), (key.clone(), value.clone()));
        let materialized = self.materialized(step, (&key, &value), key.nullable())?.unwrap_or_default();
        let table = self.builder.table(topic, consumed_rows(step, &key, &value)?, materialized);
        self.put(step, Handle::Table(table), key, value)
    }

    pub(super) fn to_stream(&mut self, step: Fields) -> Result<(), Stop> {
        let (table, key, value) = self.table_input(step, 0)?;
        if step.get("mapper").is_some() {
            return Err(Stop::NotYet("to_stream with a mapper".into()));
        }
        self.put_stream(step, table.to_stream(), key, value)
    }

    pub(super) fn stream_table_join(&mut self, step: Fields) -> Result<(), Stop> {
        let (stream, key, left) = self.stream_input(step, 0)?;
        let (table, table_key, right) = self.table_input(step, 1)?;
        same(step, "keys", &key, &table_key)?;
        let joiner = joiner(step.text("joiner")?, &left, &right)?;
        let mut joined = Joined::with(key.nullable(), left.nullable());
        if let Some(name) = step.named() {
            joined = joined.name(name);
        }
        if let Some(grace_ms) = step.maybe_number("grace_ms") {
            joined = joined.grace_ms(grace_ms);
        }
        let f = joiner.f;
        let stream = match step.text("type")? {
            "inner" => stream.join_with(&table, move |k, v, row| f(k, &v, &Some(row)), joined),
            _ => stream.left_join_with(&table, move |k, v, row| f(k, &v, &row), joined),
        };
        self.put(step, Handle::Stream(stream), key, joiner.out)
    }
}
