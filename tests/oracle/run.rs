//! Runs one case through the library and writes down everything that came out.

use super::case::{Fields, Stop};
use super::interpreter::options::rule;
use super::interpreter::{Contents, Interpreter, Types};
use super::store_commands::AnyStore;
use super::stores;
use super::val::{Type, base64, from_base64, render};
use serde_json::{Map, Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use watersmeet::config::{Config, EmitIntervals, Optimization, Policy, StoreFormat, Timestamps};
use watersmeet::dsl::{Defaults, Produced};
use watersmeet::error::Error;
use watersmeet::record::Headers;
use watersmeet::state::Engine;
use watersmeet::testing::{Commits, DriverOptions, StoredRecord, TopologyTestDriver};
use watersmeet::topology::Topology;
use watersmeet::topology::internal_topics::{InternalTopicSpec, Purpose};

/// The answer to a case. Never panics: whatever goes wrong is in the answer's field `error`.
pub fn run(case: &Value) -> Value {
    let mut answer = Map::new();
    answer.insert("name".into(), case["name"].clone());
    let outcome = catch_unwind(AssertUnwindSafe(|| Run::of(case, &mut answer)));
    let error = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(Failure::Stop(Stop::Case(what)))) => Some(json!({"phase": "case", "message": what})),
        Ok(Err(Failure::Stop(Stop::NotYet(what)))) => Some(json!({"phase": "not yet", "message": what})),
        Ok(Err(Failure::At(phase, None, what))) => Some(json!({"phase": phase, "message": what})),
        Ok(Err(Failure::At(phase, Some(event), what))) => {
            Some(json!({"phase": phase, "event": event, "message": what}))
        }
        Err(panic) => Some(json!({"phase": "panic", "message": panic_text(&*panic)})),
    };
    if let Some(error) = error {
        answer.insert("error".into(), error);
    }
    Value::Object(answer)
}

/// Why there is no complete answer.
enum Failure {
    Stop(Stop),
    /// The library failed: in which phase, at which event, and why.
    At(&'static str, Option<usize>, String),
}

impl<S: Into<Stop>> From<S> for Failure {
    fn from(stop: S) -> Self {
        Failure::Stop(stop.into())
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_else(|| "a panic".into())
}

/// What fails in the library is an error or, where it is called wrongly, a panic.
fn attempt<T>(phase: &'static str, event: Option<usize>, f: impl FnOnce() -> Result<T, Error>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::At(phase, event, error.to_string())),
        Err(panic) => Err(Failure::At(phase, event, format!("panic: {}", panic_text(&*panic)))),
    }
}

struct Run<'a> {
    case: Fields<'a>,
    interpreter: Interpreter,
    driver: TopologyTestDriver,
    /// Only `commit` events commit, and the end.
    explicit: bool,
    outputs: Vec<Value>,
    queries: Vec<Value>,
}

impl<'a> Run<'a> {
    fn of(case: &'a Value, answer: &mut Map<String, Value>) -> Result<(), Failure> {
        let empty = json!({});
        let case = Fields(case);
        let config = case.fields("config").unwrap_or(Fields(&empty));
        let default_value = Type::named(config.maybe_text("default_value_serde").unwrap_or("string"))?;
        let mut interpreter = Interpreter::new(defaults(config), default_value);
        let optimization = optimization(config)?;
        let steps = case.list("topology");
        // A panic of the builder's is one of its refusals; a step that is wrong or not there yet is not.
        let builder = match catch_unwind(AssertUnwindSafe(|| interpreter.run(steps))) {
            Ok(result) => result?,
            Err(panic) => return Err(Failure::At("build", None, format!("panic: {}", panic_text(&*panic)))),
        };
        let topology = attempt("build", None, || builder.build_with(optimization))?;
        answer.insert("describe".into(), json!(topology.describe()));
        let settings = settings(config, optimization)?;
        answer.insert("internal_topics".into(), internal_topics(&topology, &settings.application_id));
        let start_ms = config.maybe_number("start_wall_clock_ms").unwrap_or(0);
        let explicit = config.maybe_text("commit") == Some("explicit");
        let commits = if explicit { Commits::Explicit } else { Commits::Each };
        let options = DriverOptions { start_ms, commits, ..DriverOptions::default() };
        let driver = attempt("start", None, || TopologyTestDriver::with(topology, settings, options))?;
        let mut run = Run { case, interpreter, driver, explicit, outputs: Vec::new(), queries: Vec::new() };
        let outcome = run.events();
        answer.insert("outputs".into(), json!(run.outputs));
        answer.insert("side_effects".into(), json!(run.interpreter.effects.all()));
        if !run.queries.is_empty() {
            answer.insert("queries".into(), json!(run.queries));
        }
        answer.insert("metrics".into(), json!({"dropped_records": run.dropped()}));
        outcome?;
        let stores = attempt("stores", None, || stores::all(&run.driver, &run.interpreter))?;
        answer.insert("stores".into(), stores);
        attempt("close", None, || run.driver.close())
    }

    fn events(&mut self) -> Result<(), Failure> {
        for (number, event) in self.case.list("events").iter().enumerate() {
            self.interpreter.effects.event.store(number, Ordering::Relaxed);
            let fields = Fields(event);
            if fields.get("topic").is_some() {
                self.record(number, fields)?;
            } else if let Some(by_ms) = fields.maybe_number("advance_wall_clock_ms") {
                let outcome = attempt("event", Some(number), || self.driver.advance_wall_clock_ms(by_ms));
                self.collect(number);
                outcome?;
            } else if let Some(query) = fields.fields("query") {
                self.query(number, query)?;
            } else if fields.get("commit").is_some() {
                self.commit(number)?;
            } else {
                return Err(Failure::Stop(Stop::NotYet(format!("event {event}"))));
            }
        }
        let end = self.case.list("events").len();
        self.interpreter.effects.event.store(end, Ordering::Relaxed);
        // A commit may send records through internal topics, which makes more to commit.
        while self.explicit && self.commit(end)? {}
        Ok(())
    }

    fn query(&mut self, number: usize, query: Fields) -> Result<(), Failure> {
        let (name, command) = (query.text("store")?, query.text("command")?);
        let (key, value) = match self.interpreter.contents(name) {
            Contents::Rows(key, value) => (key, value),
            _ => return Err(Failure::Stop(Stop::Case(format!("no store with the name '{name}'")))),
        };
        let spec = self.driver.stores().into_iter().find(|spec| spec.name == name);
        let spec = spec.ok_or_else(|| format!("no store with the name '{name}'"))?;
        let store = AnyStore::of(name, spec.kind, &key, &value).ok_or("no commands on such a store")?;
        let own = key.read(&query.0["key"])?;
        let ask = || store.ask(&self.driver, &key, &own, command);
        let result = attempt("event", Some(number), ask)?;
        let result: Vec<Value> = result.into_iter().map(|(key, value)| json!([key, value])).collect();
        self.queries.push(json!({"event": number, "result": result}));
        Ok(())
    }

    fn commit(&mut self, number: usize) -> Result<bool, Failure> {
        let outcome = attempt("event", Some(number), || self.driver.commit());
        self.collect(number);
        outcome
    }

    fn record(&mut self, number: usize, event: Fields) -> Result<(), Failure> {
        let topic = event.text("topic")?;
        let Some((key, value)) = self.interpreter.types_read(topic) else {
            return Err(Failure::At("event", Some(number), format!("unknown topic: {topic}")));
        };
        let bytes = |raw: &str, field: &str, r#type: &Type| match event.maybe_text(raw) {
            Some(text) => from_base64(text).map(Some),
            None => r#type.bytes(&r#type.read(&event.0[field])?),
        };
        let (key, value) = (bytes("key_b64", "key", &key)?, bytes("value_b64", "value", &value)?);
        let mut headers = Headers::default();
        for header in event.list("headers") {
            headers.add(header[0].as_str().unwrap_or_default(), header[1].as_str().map(str::as_bytes));
        }
        let timestamp_ms = event.number("ts")?;
        let input = self.driver.create_input_topic(topic, Produced::<Vec<u8>, Vec<u8>>::default());
        let pipe = || input.pipe_bytes(key.as_deref(), value.as_deref(), timestamp_ms, &headers);
        let outcome = attempt("event", Some(number), pipe);
        self.collect(number);
        outcome
    }

    /// Writes down the records that event `number` has made.
    fn collect(&mut self, number: usize) {
        for (topic, record) in self.driver.produced() {
            let types = self.interpreter.types_written(&topic);
            self.outputs.push(output(number, &topic, &record, types));
        }
    }

    fn dropped(&self) -> u64 {
        let totals = self.driver.status().totals;
        totals.dropped + totals.dead_lettered
    }
}

/// The topics that the application owns, with their settings.
fn internal_topics(topology: &Topology, application_id: &str) -> Value {
    let topic = |spec: InternalTopicSpec| {
        let mut entry: Map<String, Value> = spec.config.into_iter().map(|(key, value)| (key, json!(value))).collect();
        let kind = if spec.purpose == Purpose::Repartition { "repartition" } else { "changelog" };
        entry.insert("kind".into(), json!(kind));
        if let Some(partitions) = spec.partitions {
            entry.insert("partitions".into(), json!(partitions));
        }
        if spec.purpose == Purpose::SourceAsChangelog {
            entry.insert("is_source_topic".into(), json!(true));
        }
        (spec.name, Value::Object(entry))
    };
    Value::Object(topology.internal_topic_specs(application_id).into_iter().map(topic).collect())
}

/// A record that was produced.
fn output(event: usize, topic: &str, record: &StoredRecord, types: Option<&Types>) -> Value {
    let bytes = |part: &Option<Vec<u8>>| part.as_deref().map(base64);
    let ts = (record.timestamp_ms >= 0).then_some(record.timestamp_ms);
    let mut all = json!({
        "event": event, "topic": topic, "ts": ts, "k": bytes(&record.key), "v": bytes(&record.value),
    });
    if let Some((key, value)) = types {
        let key = key.nullable().deserialize(record.key.as_deref());
        let value = value.nullable().deserialize(record.value.as_deref());
        if let (Ok(key), Ok(value)) = (key, value) {
            all["key"] = render(&key);
            all["value"] = render(&value);
        }
    }
    if !record.headers.is_empty() {
        let pair = |h: &watersmeet::record::Header| json!([h.name, h.value.as_deref().map(base64)]);
        all["headers"] = record.headers.iter().map(pair).collect();
    }
    all
}

fn defaults(config: Fields) -> Defaults {
    let engine = if config.maybe_text("default_store") == Some("in_memory") { Engine::Memory } else { Engine::RocksDb };
    Defaults { engine, explicit_names: config.flag("ensure_explicit_internal_resource_naming", false) }
}

fn optimization(config: Fields) -> Result<Optimization, Stop> {
    let mut chosen = Optimization::default();
    for name in config.maybe_text("optimization").unwrap_or("none").split(',') {
        match name.trim() {
            "none" => {}
            "all" => chosen = Optimization::ALL,
            "reuse.ktable.source.topics" => chosen.reuse_ktable_source_topics = true,
            "merge.repartition.topics" => chosen.merge_repartition_topics = true,
            "single.store.self.join" => chosen.single_store_self_join = true,
            other => return Err(Stop::Case(format!("unknown optimization '{other}'"))),
        }
    }
    Ok(chosen)
}

/// The library's settings of a case's `config`.
fn settings(config: Fields, optimization: Optimization) -> Result<Config, Stop> {
    let mut settings = Config::new(config.maybe_text("application_id").unwrap_or("app"));
    settings.optimization = optimization;
    settings.max_task_idle_ms = config.maybe_number("max_task_idle_ms").unwrap_or(0);
    settings.emit_intervals = EmitIntervals {
        outer_join_ms: config.maybe_number("outer_join_emit_interval_ms").unwrap_or(0),
        window_close_ms: config.maybe_number("window_close_emit_interval_ms").unwrap_or(0),
    };
    let dead_letters = config.maybe_text("dead_letter_topic");
    let policy = |field: &str| match (config.maybe_text(field), dead_letters) {
        (Some("continue"), None) => Policy::Continue,
        (Some("continue"), Some(_)) => Policy::DeadLetter,
        _ => Policy::Fail,
    };
    settings.errors.deserialization = policy("deserialization_handler");
    settings.errors.processing = policy("processing_handler");
    settings.errors.dead_letter_topic = dead_letters.map(str::to_owned);
    settings.timestamps =
        config.maybe_text("default_timestamp_extractor").and_then(rule).unwrap_or(Timestamps::FailOnInvalid);
    if config.maybe_text("store_format") == Some("headers") {
        settings.store_format = StoreFormat::Headers;
    }
    settings.cache_max_bytes = usize::try_from(config.maybe_number("cache_bytes").unwrap_or(0)).unwrap_or(0);
    Ok(settings)
}
