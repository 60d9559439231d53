//! What was typed: keys and values with where each came from (file and line, environment, `--set`), and its way to a
//! [`Config`]. Later sources win: file, then environment, then `--set`.

use super::keys::{self, Type};
use super::{Config, Guarantee, Optimization, Policy, StoreFormat, Timestamps, Uncaught};
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// Keys and values as typed.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    values: BTreeMap<String, Value>,
}

#[derive(Debug, Clone)]
struct Value {
    text: String,
    origin: String,
}

/// The stream-table join that a configuration file describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinSettings {
    /// `join.table.topic`.
    pub table_topic: String,
    /// `join.table.store`.
    pub table_store: String,
    /// `join.table.engine` is `memory`.
    pub table_in_memory: bool,
    /// `join.table.ready`.
    pub table_ready: bool,
    /// `join.stream.topic`.
    pub stream_topic: String,
    /// `join.kind` is `left`.
    pub left: bool,
    /// `join.merge` is `nest`.
    pub nest: bool,
    /// `join.output.topic`.
    pub output_topic: String,
}

impl Settings {
    /// Reads a file, then the environment.
    ///
    /// # Errors
    /// [`Kind::Config`]: the file cannot be read, or a key is unknown; the error names key and line.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::new(Kind::Config, format!("the configuration file {} cannot be read", path.display()))
                .source(e)
                .hint("give its path with --config")
        })?;
        let mut settings = Self::default();
        settings.add_toml(&text, &path.display().to_string())?;
        settings.add_environment(std::env::vars())?;
        Ok(settings)
    }

    /// Adds what a TOML text says; `name` is the file's, for errors.
    ///
    /// # Errors
    /// [`Kind::Config`]: not TOML, or a key is unknown.
    pub fn add_toml(&mut self, text: &str, name: &str) -> Result {
        let line = |at: usize| text[..at.min(text.len())].lines().count().max(1);
        let table = DeTable::parse(text).map_err(|e| {
            let at = e.span().map_or(1, |span| line(span.start + 1));
            let hint = "in TOML an inline table cannot be added to: write table.topic = … and table.ready = …";
            Error::new(Kind::Config, format!("{name} line {at}: {}", e.message())).hint(hint)
        })?;
        let mut found = Vec::new();
        flatten(table.get_ref(), "", &mut found);
        for (key, value, at) in found {
            self.set(&key, value, format!("{name} line {}", line(at + 1)))?;
        }
        Ok(())
    }

    /// Adds every variable `WATERSMEET_<SECTION>_<KEY>`.
    ///
    /// # Errors
    /// [`Kind::Config`]: a variable with that prefix fits no key.
    pub fn add_environment(&mut self, variables: impl Iterator<Item = (String, String)>) -> Result {
        for (variable, value) in variables {
            let Some(rest) = variable.strip_prefix("WATERSMEET_") else { continue };
            let known = keys::KEYS.iter().find(|key| keys::variable(key.name) == variable);
            let client = |section: &&&str| rest.starts_with(&format!("{}_", section.to_uppercase()));
            let is_section = ["STREAMS_", "JOIN_", "ERRORS_", "HTTP_"].iter().any(|section| rest.starts_with(section));
            let key = match (known, keys::CLIENT_SECTIONS.iter().find(client)) {
                (Some(key), _) => key.name.to_string(),
                (None, Some(_)) => rest.to_lowercase().replace('_', "."),
                // Other variables of that prefix, such as WATERSMEET_KAFKA, belong to others.
                (None, None) if !is_section => continue,
                (None, None) => rest.to_lowercase().replace('_', "."),
            };
            self.set(&key, value, format!("variable {variable}"))?;
        }
        Ok(())
    }

    /// Adds `key=value`, as after `--set`.
    ///
    /// # Errors
    /// [`Kind::Config`]: no `=`, or the key is unknown.
    pub fn add_override(&mut self, assignment: &str) -> Result {
        let (key, value) = assignment.split_once('=').ok_or_else(|| {
            Error::new(Kind::Config, format!("--set {assignment} has no \"=\""))
                .hint("write it like --set streams.num.stream.threads=3")
        })?;
        self.set(key.trim(), value.trim().to_string(), format!("--set {assignment}"))
    }

    fn set(&mut self, key: &str, text: String, origin: String) -> Result {
        let client =
            keys::CLIENT_SECTIONS.iter().any(|s| key.strip_prefix(s).is_some_and(|rest| rest.starts_with('.')));
        if !client {
            let row = keys::find(key).ok_or_else(|| unknown(key, &origin))?;
            check_type(row, &text).map_err(|what| Error::new(Kind::Config, what).key(format!("{key} ({origin})")))?;
        }
        self.values.insert(key.into(), Value { text, origin });
        Ok(())
    }

    fn text(&self, key: &str) -> Option<&str> {
        debug_assert!(keys::find(key).is_some(), "{key} is not in the table of keys");
        let default = || keys::find(key).map(|row| row.default).filter(|default| !default.is_empty());
        self.values.get(key).map(|value| value.text.as_str()).or_else(default)
    }

    fn required(&self, key: &str) -> Result<String> {
        self.text(key).map(str::to_owned).ok_or_else(|| {
            Error::new(Kind::Config, "is missing")
                .key(key)
                .hint(format!("set it in the file, as {}, or with --set {key}=…", keys::variable(key)))
        })
    }

    fn parse<T: FromStr>(&self, key: &str) -> Result<T> {
        let text = self.required(key)?;
        let place = || self.values.get(key).map_or(key.to_string(), |v| format!("{key} ({})", v.origin));
        text.parse().map_err(|_| Error::new(Kind::Config, format!("{text:?} is out of range")).key(place()))
    }

    fn duration(&self, key: &str) -> Result<Duration> {
        self.parse(key).map(Duration::from_millis)
    }

    fn section(&self, section: &str) -> Vec<(String, String)> {
        let key = |(key, value): (&String, &Value)| {
            Some((key.strip_prefix(section)?.strip_prefix('.')?.to_string(), value.text.clone()))
        };
        self.values.iter().filter_map(key).collect()
    }

    fn policy(&self, key: &str) -> Policy {
        match self.text(key) {
            Some("continue") => Policy::Continue,
            Some("dead-letter") => Policy::DeadLetter,
            _ => Policy::Fail,
        }
    }

    /// The runtime's settings, checked.
    ///
    /// # Errors
    /// [`Kind::Config`]: a key is missing or out of range, or keys contradict each other.
    pub fn config(&self) -> Result<Config> {
        let mut config = Config::new(self.required("streams.application.id")?);
        if self.text("streams.processing.guarantee") == Some("exactly_once_v2") {
            config = config.exactly_once();
        }
        config.bootstrap_servers = self.required("streams.bootstrap.servers")?;
        config.client_id = self.text("streams.client.id").map(str::to_owned);
        config.application_server = self.text("streams.application.server").map(str::to_owned);
        config.num_stream_threads = self.parse("streams.num.stream.threads")?;
        if config.guarantee == Guarantee::AtLeastOnce || self.values.contains_key("streams.commit.interval.ms") {
            config.commit_interval = self.duration("streams.commit.interval.ms")?;
        }
        if let Some(dir) = self.text("streams.state.dir") {
            config.state_dir = dir.into();
        }
        config.state_cleanup_delay = self.duration("streams.state.cleanup.delay.ms")?;
        config.optimization = self.optimization()?;
        config.timestamps = match self.text("streams.default.timestamp.extractor") {
            Some("skip-invalid") => Timestamps::SkipInvalid,
            Some("partition-time-on-invalid") => Timestamps::PartitionTimeOnInvalid,
            Some("wall-clock") => Timestamps::WallClock,
            _ => Timestamps::FailOnInvalid,
        };
        config.store_format = match self.text("streams.dsl.store.format") {
            Some("headers") => StoreFormat::Headers,
            _ => StoreFormat::Plain,
        };
        config.max_task_idle_ms = self.parse("streams.max.task.idle.ms")?;
        config.buffered_records_per_partition = self.parse("streams.buffered.records.per.partition")?;
        config.poll = self.duration("streams.poll.ms")?;
        config.replication_factor = self.parse("streams.replication.factor")?;
        config.repartition_purge_interval = self.duration("streams.repartition.purge.interval.ms")?;
        config.metadata_max_age = self.duration("streams.metadata.max.age.ms")?;
        config.task_timeout = self.duration("streams.task.timeout.ms")?;
        config.cache_max_bytes = self.parse("streams.statestore.cache.max.bytes")?;
        config.block_cache_bytes = self.parse("streams.rocksdb.block.cache.bytes")?;
        config.write_buffer_bytes = self.parse("streams.rocksdb.write.buffer.bytes")?;
        if self.text("streams.memory.max.bytes").is_some() {
            let limit = self.parse("streams.memory.max.bytes")?;
            config.memory_max_bytes = Some(limit);
            if !self.values.contains_key("streams.statestore.cache.max.bytes") {
                config.grow_caches(limit);
            }
        }
        config.shutdown_timeout = self.duration("streams.shutdown.timeout.ms")?;
        config.shutdown_leave_group = self.parse("streams.shutdown.leave.group")?;
        config.stall_limit = self.duration("streams.stall.limit.ms")?;
        config.errors.deserialization = self.policy("errors.deserialization");
        config.errors.processing = self.policy("errors.processing");
        config.errors.production = self.policy("errors.production");
        config.errors.dead_letter_topic = self.text("errors.dead.letter.topic").map(str::to_owned);
        config.uncaught = match self.text("errors.uncaught") {
            Some("replace-thread") => Uncaught::ReplaceThread,
            Some("shutdown-application") => Uncaught::ShutdownApplication,
            _ => Uncaught::ShutdownClient,
        };
        config.consumer = self.section("consumer");
        config.producer = self.section("producer");
        config.admin = self.section("admin");
        config.check()?;
        Ok(config)
    }

    fn optimization(&self) -> Result<Optimization> {
        let text = self.required("streams.topology.optimization")?;
        let mut optimization = Optimization::default();
        for word in text.split(',').map(str::trim) {
            match word {
                "none" | "" => {}
                "all" => optimization = Optimization::ALL,
                "reuse.ktable.source.topics" => optimization.reuse_ktable_source_topics = true,
                "merge.repartition.topics" => optimization.merge_repartition_topics = true,
                "single.store.self.join" => optimization.single_store_self_join = true,
                "processors.stay.above" => optimization.processors_stay_above = true,
                word => {
                    return Err(Error::new(Kind::Config, format!("{word:?} is no optimization"))
                        .key("streams.topology.optimization")
                        .hint(
                            "use none, all, or a comma list of reuse.ktable.source.topics, merge.repartition.topics, \
                               single.store.self.join, processors.stay.above",
                        ));
                }
            }
        }
        Ok(optimization)
    }

    /// The join that `[join]` describes.
    ///
    /// # Errors
    /// [`Kind::Config`]: a topic is missing, or two are the same.
    pub fn join(&self) -> Result<JoinSettings> {
        let join = JoinSettings {
            table_topic: self.required("join.table.topic")?,
            table_store: self.required("join.table.store")?,
            table_in_memory: self.text("join.table.engine") == Some("memory"),
            table_ready: self.parse("join.table.ready")?,
            stream_topic: self.required("join.stream.topic")?,
            left: self.text("join.kind") == Some("left"),
            nest: self.text("join.merge") == Some("nest"),
            output_topic: self.required("join.output.topic")?,
        };
        for (key, topic) in [("join.stream.topic", &join.stream_topic), ("join.output.topic", &join.output_topic)] {
            if *topic == join.table_topic || key == "join.output.topic" && *topic == join.stream_topic {
                return Err(Error::new(Kind::Config, format!("{topic} is used twice"))
                    .key(key)
                    .hint("table, stream and output need a topic each"));
            }
        }
        Ok(join)
    }

    /// `http.listen`; `None`: no HTTP.
    pub fn http_listen(&self) -> Option<&str> {
        self.text("http.listen")
    }
}

fn unknown(key: &str, origin: &str) -> Error {
    let hint = match keys::suggestion(key) {
        Some(near) => format!("did you mean {near}?"),
        None => {
            "sections are [streams], [join], [errors], [http], and [consumer], [producer], [admin] for librdkafka's \
                 keys"
                .into()
        }
    };
    Error::new(Kind::Config, "no such key").key(format!("{key} ({origin})")).hint(hint)
}

fn check_type(row: &keys::Key, text: &str) -> Result<(), String> {
    let ok = match row.kind {
        Type::Text => true,
        Type::Integer => text.parse::<i64>().is_ok(),
        Type::Bool => text.parse::<bool>().is_ok(),
        Type::OneOf(words) => words.contains(&text),
    };
    if ok {
        return Ok(());
    }
    let wanted = match row.kind {
        Type::Integer => "a whole number".into(),
        Type::Bool => "true or false".into(),
        Type::OneOf(words) => format!("one of {}", words.join(", ")),
        Type::Text => "text".into(),
    };
    Err(format!("is {text:?}, but has to be {wanted}"))
}

/// Leaves of the tables, with their dotted names and where their values stand in the text.
fn flatten(table: &DeTable<'_>, prefix: &str, found: &mut Vec<(String, String, usize)>) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        let text = match value.get_ref() {
            DeValue::Table(inner) => {
                flatten(inner, &name, found);
                continue;
            }
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string().replace('_', ""),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(yes) => yes.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            DeValue::Array(items) => {
                let text = |item: &toml::Spanned<DeValue<'_>>| item.get_ref().as_str().map(str::to_owned);
                items.iter().filter_map(text).collect::<Vec<_>>().join(",")
            }
        };
        found.push((name, text, value.span().start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = include_str!("../../config/search-join.toml");

    fn file(text: &str) -> Result<Settings> {
        let mut settings = Settings::default();
        settings.add_toml(text, "f.toml")?;
        Ok(settings)
    }

    fn error(result: Result<impl Sized>) -> String {
        result.err().expect("an error").to_string()
    }

    #[test]
    fn the_shipped_file_is_right() {
        let settings = file(FILE).expect("parses");
        assert_eq!(settings.config().expect("a config").num_stream_threads, 3);
        assert_eq!(settings.join().expect("a join").table_topic, "MSG-SOURCE-A");
        assert!(settings.http_listen().is_some());
    }

    #[test]
    fn unknown_keys_are_errors_with_line_and_suggestion() {
        let text = error(file("[streams]\napplication.id = \"x\"\nnum.stream.thread = 3\n"));
        assert!(text.contains("streams.num.stream.thread (f.toml line 3)"), "{text}");
        assert!(text.contains("did you mean streams.num.stream.threads?"), "{text}");
    }

    #[test]
    fn wrong_types_are_errors_with_line() {
        let text = error(file("[streams]\nnum.stream.threads = \"three\"\n"));
        assert!(text.contains("f.toml line 2") && text.contains("a whole number"), "{text}");
        let text = error(file("[errors]\ndeserialization = \"ignore\"\n"));
        assert!(text.contains("fail, continue, dead-letter"), "{text}");
        let text = error(file("[join]\ntable = { topic = \"a\" }\ntable.ready = true\n"));
        assert!(text.contains("line 3") && text.contains("inline table"), "{text}");
    }

    #[test]
    fn later_sources_win() {
        let mut settings = file(FILE).expect("parses");
        let environment =
            [("WATERSMEET_STREAMS_NUM_STREAM_THREADS", "5"), ("WATERSMEET_CONSUMER_FETCH_MIN_BYTES", "9")];
        let environment = environment.map(|(k, v)| (k.to_string(), v.to_string()));
        settings.add_environment(environment.into_iter()).expect("known");
        settings.add_override("join.table.topic=products").expect("known");
        settings.add_override("streams.bootstrap.servers=localhost:1").expect("known");
        let config = settings.config().expect("a config");
        assert_eq!((config.num_stream_threads, config.bootstrap_servers.as_str()), (5, "localhost:1"));
        assert!(config.consumer.contains(&("fetch.min.bytes".into(), "9".into())));
        assert_eq!(settings.join().expect("a join").table_topic, "products");
        assert!(error(settings.add_override("join.table.topic")).contains("has no \"=\""));
    }

    #[test]
    fn combinations_are_checked() {
        let mut settings = file(FILE).expect("parses");
        settings.add_override("streams.processing.guarantee=exactly_once_v2").expect("known");
        let commit_interval = |settings: &Settings| settings.config().expect("a config").commit_interval.as_millis();
        let own = settings.values.remove("streams.commit.interval.ms");
        assert_eq!(commit_interval(&settings), 100);
        settings.values.extend(own.map(|own| ("streams.commit.interval.ms".into(), own)));
        settings.add_override("streams.commit.interval.ms=700").expect("known");
        assert_eq!(commit_interval(&settings), 700);
        let settings = file("[streams]\napplication.id=\"x\"\n[errors]\nprocessing = \"dead-letter\"").expect("parses");
        assert!(error(settings.config()).contains("errors.dead.letter.topic"));
        assert!(error(file("").expect("parses").config()).contains("streams.application.id: is missing"));
        let mut settings = file(FILE).expect("parses");
        settings.add_override("join.output.topic=MSG-SOURCE-B").expect("known");
        assert!(error(settings.join()).contains("used twice"));
    }
}
