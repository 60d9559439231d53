//! Steps on tables, and joins of streams with them.
#![allow(clippy::wrong_self_convention)] // methods are called as the steps that they build

use super::keys::Key;
use super::options::consumed_rows;
use super::streams::required;
use super::{Contents, Handle, Interpreter, same};
use crate::aggregators::joiner;
use crate::case::{Fields, Stop};
use crate::functions::{mapper, predicate};
use crate::val::{Type, Val, Var};
use watersmeet::dsl::{BufferConfig, Joined, KTable, Materialized, Suppressed, TableJoined};

impl Interpreter {
    pub(super) fn table(&mut self, step: Fields) -> Result<(), Stop> {
        let (key, value) = (step.r#type("key")?, step.r#type("value")?);
        let topic = step.text("topic")?;
        self.sources.insert(topic.into(), (key.clone(), value.clone()));
        let materialized = self.materialized(step, &key, &value)?.unwrap_or_default();
        let table = self.builder.table(topic, consumed_rows(step, &key, &value)?, materialized);
        self.put(step, Handle::Table(table), key, value)
    }

    pub(super) fn to_stream<K: Key>(
        &mut self,
        step: Fields,
        table: KTable<K, Val>,
        key: Type,
        value: Type,
    ) -> Result<(), Stop> {
        let stream = table.to_stream();
        let Some(spec) = step.get("mapper") else { return self.put_stream(step, stream, key, value) };
        // The variant with a mapper names the first of its two nodes.
        let stream = match step.named() {
            Some(name) => stream.named(name),
            None => stream,
        };
        let keys = mapper(spec, &key, &value)?;
        let key_of = keys.f;
        self.put(step, Handle::Stream(stream.select_key(move |k: &K, v| key_of(&k.var(), v))), keys.out, value)
    }

    pub(super) fn to_table(&mut self, step: Fields) -> Result<(), Stop> {
        let (stream, key, value) = self.stream_input(step, 0)?;
        let given = self.materialized(step, &key, &value)?;
        let mut materialized = given.unwrap_or_else(|| Materialized::with(key.nullable(), value.serde()));
        if let Some(name) = step.named() {
            materialized = materialized.operator(name);
        }
        self.put(step, Handle::Table(stream.to_table_with(materialized)), key, value)
    }

    pub(super) fn filter_table<K: Key>(
        &mut self,
        step: Fields,
        table: KTable<K, Val>,
        key: Type,
        value: Type,
        not: bool,
    ) -> Result<(), Stop> {
        let keep = predicate(step.text("predicate")?, &key, &value)?;
        let keep = move |k: &K, v: &Val| keep(&k.var(), &Some(v.clone()));
        let materialized = self.materialized(step, &key, &value)?.unwrap_or_default();
        let filtered =
            if not { table.filter_not_with(keep, materialized) } else { table.filter_with(keep, materialized) };
        self.put_table(step, filtered, key, value)
    }

    pub(super) fn map_table_values<K: Key>(
        &mut self,
        step: Fields,
        table: KTable<K, Val>,
        key: Type,
        value: Type,
    ) -> Result<(), Stop> {
        let values = mapper(&required(step, "mapper")?, &key, &value)?;
        let value_of = values.f;
        let materialized = self.materialized(step, &key, &values.out)?;
        let given = materialized.is_some();
        let f = move |k: &K, v: &Val| value_of(&k.var(), &Some(v.clone()));
        let mapped = table.map_values_with(f, materialized.unwrap_or_default());
        let mapped = self.with_serdes(mapped, &key, given);
        self.put_table(step, mapped, key, values.out)
    }

    pub(super) fn transform_values<K: Key>(
        &mut self,
        step: Fields,
        table: KTable<K, Val>,
        key: Type,
        value: Type,
    ) -> Result<(), Stop> {
        let values = mapper(&required(step, "mapper")?, &key, &value)?;
        let value_of = values.f;
        let materialized = self.materialized(step, &key, &values.out)?;
        let given = materialized.is_some();
        let f = move |k: &K, v: Option<&Val>| value_of(&k.var(), &v.cloned());
        let mapped = table.transform_values_with(f, materialized.unwrap_or_default());
        let mapped = self.with_serdes(mapped, &key, given);
        self.put_table(step, mapped, key, values.out)
    }

    pub(super) fn suppress<K: Key>(
        &mut self,
        step: Fields,
        table: KTable<K, Val>,
        key: Type,
        value: Type,
    ) -> Result<(), Stop> {
        let mode = step.text("mode")?;
        let fields = step.fields("buffer");
        let limit = |name: &str| fields.and_then(|f| f.maybe_number(name)).and_then(|max| u64::try_from(max).ok());
        let mut buffer = match (limit("max_records"), limit("max_bytes")) {
            (None, None) => BufferConfig::unbounded(),
            (Some(records), None) => BufferConfig::max_records(records),
            (None, Some(bytes)) => BufferConfig::max_bytes(bytes),
            (Some(records), Some(bytes)) => BufferConfig::max_records(records).with_max_bytes(bytes),
        };
        let on_full = fields.and_then(|f| f.maybe_text("on_full"));
        if mode == "until_window_closes" || on_full == Some("shut_down") {
            buffer = buffer.shut_down_when_full();
        }
        if !fields.is_none_or(|f| f.flag("logging", true)) {
            buffer = buffer.without_changelog();
        }
        let suppressed = match mode {
            "until_window_closes" => K::until_window_closes(buffer)
                .ok_or_else(|| Stop::Case("suppress until windows close, of a table without windows".into()))?,
            "until_time_limit" => Suppressed::until_time_limit(step.number("limit_ms")?, buffer),
            other => return Err(Stop::Case(format!("unknown mode '{other}' of suppress"))),
        };
        let suppressed = match step.named() {
            Some(name) => suppressed.named(name),
            None => suppressed,
        };
        self.put(step, K::table(table.suppress(suppressed)), key, value)
    }

    pub(super) fn table_table_join(&mut self, step: Fields) -> Result<(), Stop> {
        let (left, key, left_value) = self.table_input(step, 0)?;
        let (right, right_key, right_value) = self.table_input(step, 1)?;
        same(step, "keys", &key, &right_key)?;
        let joiner = joiner(step.text("joiner")?, &left_value, &right_value)?;
        let f = joiner.f;
        let materialized = self.materialized(step, &key, &joiner.out)?;
        let given = materialized.is_some();
        let materialized = materialized.unwrap_or_default();
        let joined = step.named().map_or_else(TableJoined::default, TableJoined::named);
        // The joiners of table joins do not get the key.
        let f = move |a: Option<&Val>, b: Option<&Val>| f(&None, &a.cloned(), &b.cloned());
        let table = match step.text("type")? {
            "inner" => left.join_with(&right, move |_, a, b| f(Some(a), Some(b)), joined, materialized),
            "left" => left.left_join_with(&right, move |_, a, b| f(Some(a), b), joined, materialized),
            "outer" => left.outer_join_with(&right, move |_, a, b| f(a, b), joined, materialized),
            other => return Err(Stop::Case(format!("unknown join type '{other}'"))),
        };
        let table = self.with_serdes(table, &key, given);
        self.put(step, Handle::Table(table), key, joiner.out)
    }

    /// Where an operator is given no serde for its values, the application's default applies further on.
    fn with_serdes<K: Key>(&self, table: KTable<K, Val>, key: &Type, given: bool) -> KTable<K, Val> {
        if given { table } else { table.serdes(K::serde(key), self.default_value.serde()) }
    }

    pub(super) fn fk_join(&mut self, step: Fields) -> Result<(), Stop> {
        let (left, key, left_value) = self.table_input(step, 0)?;
        let (right, right_key, right_value) = self.table_input(step, 1)?;
        let foreign = mapper(&required(step, "extractor")?, &key, &left_value)?;
        same(step, "foreign keys", &foreign.out, &right_key)?;
        let joiner = joiner(step.text("joiner")?, &left_value, &right_value)?;
        let (foreign_key, f) = (foreign.f, joiner.f);
        let given = self.materialized(step, &key, &joiner.out)?;
        let materialized = given.unwrap_or_else(|| Materialized::with(key.nullable(), joiner.out.serde()));
        let joined = step.named().map_or_else(TableJoined::default, TableJoined::named);
        if let Some(name) = step.named() {
            self.special.insert(format!("{name}-subscription-store"), Contents::Subscriptions(key.clone()));
        }
        let foreign_key = move |k: &Var, row: &Val| foreign_key(k, &Some(row.clone()));
        let f = move |a: &Val, b: Option<&Val>| f(&None, &Some(a.clone()), &b.cloned());
        let table = match step.text("type")? {
            "inner" => left.join_on_with(&right, foreign_key, move |_, a, b| f(a, Some(b)), joined, materialized),
            "left" => left.left_join_on_with(&right, foreign_key, move |_, a, b| f(a, b), joined, materialized),
            other => return Err(Stop::Case(format!("unknown join type '{other}'"))),
        };
        self.put(step, Handle::Table(table), key, joiner.out)
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
        if let Some(grace_ms) = step.maybe_number("grace_ms") {
            let prefix = if step.text("type")? == "inner" { "KSTREAM-JOIN" } else { "KSTREAM-LEFTJOIN" };
            let generated = format!("{prefix}-{:010}", self.builder.names_made() - 1);
            let node = step.named().map_or(generated, str::to_owned);
            self.special.insert(format!("{node}-Buffer"), Contents::Held(grace_ms));
        }
        self.put(step, Handle::Stream(stream), key, joiner.out)
    }
}
