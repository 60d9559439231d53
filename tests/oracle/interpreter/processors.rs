//! Steps that add processors and their stores.

use super::{Contents, Handle, Interpreter};
use crate::case::{Fields, Stop};
use crate::processors::{Job, job};
use crate::store_commands::AnyStore;
use crate::val::Type;
use watersmeet::dsl::Processing;
use watersmeet::state::{Engine, StoreKind};

impl Interpreter {
    pub(super) fn add_store(&mut self, step: Fields) -> Result<(), Stop> {
        let fields = step.fields("store").ok_or("add_store needs a store")?;
        let (name, key, value) = (fields.text("name")?, fields.r#type("key")?, fields.r#type("value")?);
        let engine = match fields.maybe_text("store").unwrap_or("rocksdb") {
            "rocksdb" => Engine::RocksDb,
            "in_memory" => Engine::Memory,
            "lru" => Engine::MemoryLru { max_entries: fields.number("max_entries")? as usize },
            other => return Err(Stop::NotYet(format!("store {other}"))),
        };
        let window = |timestamped| -> Result<StoreKind, Stop> {
            Ok(StoreKind::Window {
                retention_ms: fields.number("retention_ms")?,
                size_ms: fields.number("window_size_ms")?,
                duplicates: fields.flag("retain_duplicates", false),
                order: watersmeet::state::WindowOrder::Key,
                timestamped,
                headers: false,
            })
        };
        let kind = match fields.text("kind")? {
            "key_value" => StoreKind::KeyValue { timestamped: false },
            "timestamped_key_value" => StoreKind::KeyValue { timestamped: true },
            // How the past is cut into segments cannot be seen from outside.
            "versioned" => StoreKind::Versioned { history_ms: fields.number("retention_ms")? },
            "window" => window(false)?,
            "timestamped_window" => window(true)?,
            "session" => StoreKind::Session { retention_ms: fields.number("retention_ms")? },
            other => return Err(Stop::NotYet(format!("store kind {other}"))),
        };
        let store = AnyStore::of(name, kind, &key, &value).ok_or("no such store")?;
        let (cached, logged) = (fields.flag("caching", false), fields.flag("logging", true));
        macro_rules! add {
            ($store:ident, $variant:ident) => {{
                let store = $store.engine(engine);
                let store = if cached { store.cached() } else { store };
                let store = if logged { store } else { store.without_changelog() };
                AnyStore::$variant(self.builder.add_state_store(store))
            }};
        }
        let store = match store {
            AnyStore::KeyValue(store) => add!(store, KeyValue),
            AnyStore::Timestamped(store) => add!(store, Timestamped),
            AnyStore::Window(store) => add!(store, Window),
            AnyStore::Session(store) => add!(store, Session),
            AnyStore::Versioned(store) => add!(store, Versioned),
        };
        self.special.insert(name.into(), Contents::Rows(key.clone(), value));
        self.own_stores.insert(name.into(), (store, key));
        Ok(())
    }

    /// The job of a process step, the types that it forwards, and what it is connected to.
    fn job(&self, step: Fields, key: &Type, value: &Type) -> Result<(Job, Type, Type, Processing), Stop> {
        let names = step.texts("stores");
        let store = names.first().and_then(|name| {
            self.own_stores.get(*name).cloned().or_else(|| {
                // A table's: it keeps timestamps.
                let (key, value) = self.stores.get(*name)?;
                let kind = StoreKind::KeyValue { timestamped: true };
                Some((AnyStore::of(name, kind, key, value)?, key.clone()))
            })
        });
        let (job, key, value) = job(step, store, key, value)?;
        let connected = names.iter().fold(Processing::default(), |all, name| all.store_named(*name));
        Ok((job, key, value, step.named().map_or(connected.clone(), |name| connected.named(name))))
    }

    pub(super) fn process(&mut self, step: Fields) -> Result<(), Stop> {
        let (stream, key, value) = self.stream_input(step, 0)?;
        let (job, key, value, connected) = self.job(step, &key, &value)?;
        self.put(step, Handle::Stream(stream.process(move || job.worker(), connected)), key, value)
    }

    pub(super) fn process_values(&mut self, step: Fields) -> Result<(), Stop> {
        let (stream, key, value) = self.stream_input(step, 0)?;
        let (job, key, value, connected) = self.job(step, &key, &value)?;
        self.put(step, Handle::Stream(stream.process_values(move || job.worker(), connected)), key, value)
    }
}
