//! What operators are told: `Consumed`, `Produced`, `Materialized`, timestamp extractors.

use super::Interpreter;
use super::keys::Key;
use crate::case::{Fields, Stop};
use crate::val::{Type, Val, Var, text};
use std::sync::Arc;
use watersmeet::config::Timestamps;
use watersmeet::dsl::{Consumed, Materialized, Produced};
use watersmeet::operators::TimestampExtractor;
use watersmeet::state::Engine;

/// How a stream's topic is read.
pub fn consumed(step: Fields, key: &Type, value: &Type) -> Result<Consumed<Var, Var>, Stop> {
    consumed_with(step, Consumed::with(key.nullable(), value.nullable()), value)
}

/// How a table's topic is read.
pub fn consumed_rows(step: Fields, key: &Type, value: &Type) -> Result<Consumed<Var, Val>, Stop> {
    consumed_with(step, Consumed::with(key.nullable(), value.serde()), value)
}

fn consumed_with<V>(step: Fields, mut consumed: Consumed<Var, V>, value: &Type) -> Result<Consumed<Var, V>, Stop> {
    if let Some(name) = step.named() {
        consumed = consumed.named(name);
    }
    if let Some(spec) = step.maybe_text("timestamp_extractor") {
        consumed = match rule(spec) {
            Some(rule) => consumed.timestamps(rule),
            None => consumed.timestamp_extractor(extractor(spec, value)?),
        };
    }
    Ok(consumed)
}

pub fn produced<K: Key>(step: Fields, key: &Type, value: &Type) -> Produced<K, Var> {
    let produced = Produced::with(K::serde(key), value.nullable());
    match step.named() {
        Some(name) => produced.named(name),
        None => produced,
    }
}

/// The rule of that name, if it is one of the library's.
pub fn rule(spec: &str) -> Option<Timestamps> {
    match spec {
        "fail_on_invalid" => Some(Timestamps::FailOnInvalid),
        "log_and_skip" => Some(Timestamps::SkipInvalid),
        "use_partition_time" => Some(Timestamps::PartitionTimeOnInvalid),
        _ => None,
    }
}

pub fn extractor(spec: &str, value: &Type) -> Result<TimestampExtractor, Stop> {
    let value = value.nullable();
    Ok(match spec {
        "value_after_at" => Arc::new(move |raw, _| {
            let value = text(&value.deserialize(raw.value()).unwrap_or_default());
            let after = value.split_once('@').and_then(|(_, after)| after.parse().ok());
            after.unwrap_or(raw.meta.timestamp_ms)
        }),
        "partition_time" => Arc::new(|_, partition_time_ms| partition_time_ms.max(0)),
        _ => return Err(Stop::Case(format!("unknown timestamp extractor '{spec}'"))),
    })
}

impl Interpreter {
    /// The `Materialized` of a key-value store; `None` where the step has none.
    pub(super) fn materialized<K: Key>(
        &mut self,
        step: Fields,
        key: &Type,
        value: &Type,
    ) -> Result<Option<Materialized<K, Val>>, Stop> {
        let Some(fields) = step.fields("materialized") else { return Ok(None) };
        if let Some(name) = fields.maybe_text("name") {
            self.tables.insert(name.into());
            self.stores.insert(name.into(), (key.clone(), value.clone()));
        }
        let name = || fields.text("name");
        let materialized = match fields.maybe_text("store").unwrap_or("default") {
            store @ ("default" | "rocksdb" | "in_memory") => {
                let materialized = match fields.maybe_text("name") {
                    Some(name) => Materialized::named(name),
                    None => Materialized::default(),
                };
                match store {
                    "rocksdb" => materialized.engine(Engine::RocksDb),
                    "in_memory" => materialized.engine(Engine::Memory),
                    _ => materialized,
                }
            }
            "versioned" => Materialized::versioned(name()?, fields.number("retention_ms")?),
            "lru" => {
                let max_entries = fields.number("max_entries")? as usize;
                Materialized::named(name()?).engine(Engine::MemoryLru { max_entries })
            }
            "plain_rocksdb" => Materialized::rocksdb(name()?).without_timestamps(),
            "in_memory_supplier" => Materialized::memory(name()?),
            "timestamped_rocksdb" | "supplier_rocksdb" => Materialized::rocksdb(name()?),
            "supplier_in_memory" => Materialized::memory(name()?),
            store => return Err(Stop::NotYet(format!("store {store}"))),
        };
        Ok(Some(common(materialized, fields).serdes(K::serde(key), value.serde())))
    }
}

/// What all kinds of stores are told.
fn common<K, V>(mut materialized: Materialized<K, V>, fields: Fields) -> Materialized<K, V> {
    if !fields.flag("caching", true) {
        materialized = materialized.without_cache();
    }
    if !fields.flag("logging", true) {
        materialized = materialized.without_changelog();
    }
    if let (Some(retention_ms), true) =
        (fields.maybe_number("retention_ms"), fields.maybe_text("store") != Some("versioned"))
    {
        let supplier = fields.maybe_text("store").is_some_and(|store| store.starts_with("supplier_"));
        materialized = match supplier {
            true => materialized.store_retention_ms(retention_ms),
            false => materialized.retention_ms(retention_ms),
        };
    }
    let settings = fields.get("logging").and_then(|logging| logging.as_object());
    for (key, value) in settings.into_iter().flatten() {
        materialized = materialized.changelog_config(key, value.as_str().map_or(value.to_string(), str::to_owned));
    }
    materialized
}
