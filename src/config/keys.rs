//! Every key of the configuration file: one row each, for parsing, for suggestions, and for the documentation.

/// The type of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Bool,
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its full name, section included.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Type,
    /// Its default as text; empty: none.
    pub default: &'static str,
    /// What it means.
    pub doc: &'static str,
}

const POLICY: Type = Type::OneOf(&["fail", "continue", "dead-letter"]);

const fn key(name: &'static str, kind: Type, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc }
}

/// All keys but librdkafka's, which go under [`CLIENT_SECTIONS`] unseen.
pub const KEYS: &[Key] = &[
    key(
        "streams.application.id",
        Type::Text,
        "",
        "The consumer group, the prefix of internal topics, the folder under state.dir. Required.",
    ),
    key("streams.bootstrap.servers", Type::Text, "localhost:9092", "The brokers to ask first."),
    key(
        "streams.client.id",
        Type::Text,
        "",
        "Prefix of thread and client names; default `<application.id>-<process id>`.",
    ),
    key(
        "streams.application.server",
        Type::Text,
        "",
        "Where other instances reach this one's HTTP, as `host:port`: queries for keys that are here are passed on to it. Without it they are not.",
    ),
    key("streams.num.stream.threads", Type::Integer, "1", "How many stream threads share the partitions."),
    key(
        "streams.processing.guarantee",
        Type::OneOf(&["at_least_once", "exactly_once_v2"]),
        "at_least_once",
        "What a crash may do to records: repeat those since the last commit, or nothing (exactly_once_v2: state, offsets and results of a commit interval count as a whole or not at all; consumers of the results read with isolation.level=read_committed).",
    ),
    key(
        "streams.commit.interval.ms",
        Type::Integer,
        "1000",
        "How often state and offsets are committed; 100 by default under exactly_once_v2, where results are seen when they are committed. Kafka Streams' default is 30000 (100); a commit is cheap here, and what is repeated after a crash is what came since the last one.",
    ),
    key(
        "streams.state.dir",
        Type::Text,
        "",
        "Where state is kept on disk; default `watersmeet` in the system's temporary folder.",
    ),
    key(
        "streams.state.cleanup.delay.ms",
        Type::Integer,
        "600000",
        "After how long the local state of a task that has moved to another instance is removed.",
    ),
    key(
        "streams.topology.optimization",
        Type::Text,
        "none",
        "`none`, `all`, or a comma list of reuse.ktable.source.topics, merge.repartition.topics, single.store.self.join, processors.stay.above.",
    ),
    key(
        "streams.default.timestamp.extractor",
        Type::OneOf(&["fail-on-invalid", "skip-invalid", "partition-time-on-invalid", "wall-clock"]),
        "fail-on-invalid",
        "Where timestamps come from: the record, and what to do with a negative one; or the clock.",
    ),
    key(
        "streams.dsl.store.format",
        Type::OneOf(&["default", "headers"]),
        "default",
        "`headers`: the changelog record of a deleted row has the headers of the record that deleted it.",
    ),
    key(
        "streams.max.task.idle.ms",
        Type::Integer,
        "0",
        "How long a task waits for a record on an empty input without lag, to keep records in timestamp order; -1: it never waits.",
    ),
    key(
        "streams.buffered.records.per.partition",
        Type::Integer,
        "1000",
        "How many records of a partition may wait in a task before its fetching is paused.",
    ),
    key("streams.poll.ms", Type::Integer, "100", "How long a poll waits when there is nothing to do."),
    key("streams.replication.factor", Type::Integer, "-1", "Replication of internal topics; -1: the broker's default."),
    key(
        "streams.repartition.purge.interval.ms",
        Type::Integer,
        "30000",
        "How often what has been consumed and committed is deleted from repartition topics.",
    ),
    key(
        "streams.metadata.max.age.ms",
        Type::Integer,
        "300000",
        "How often topics are looked for that match a pattern.",
    ),
    key(
        "streams.task.timeout.ms",
        Type::Integer,
        "300000",
        "How long a broker's request is retried for a task before that is an error.",
    ),
    key(
        "streams.memory.max.bytes",
        Type::Integer,
        "",
        "Memory of the process: RocksDB, caches and client queues shrink to fit, caches that are not set grow. Without it three quarters of the container's limit (cgroup) bound them, where there is one.",
    ),
    key(
        "streams.statestore.cache.max.bytes",
        Type::Integer,
        "134217728",
        "Memory for rows outside of RocksDB: uncommitted writes and hot rows, all threads together.",
    ),
    key("streams.rocksdb.block.cache.bytes", Type::Integer, "8388608", "RocksDB's block cache, shared by all stores."),
    key("streams.rocksdb.write.buffer.bytes", Type::Integer, "16777216", "RocksDB's memtables, shared by all stores."),
    key("streams.shutdown.timeout.ms", Type::Integer, "30000", "How long a drain may take after SIGTERM or SIGINT."),
    key(
        "streams.shutdown.leave.group",
        Type::Bool,
        "false",
        "Whether a drain gives the partitions to other instances at once. Otherwise they wait for this one to be started again in place, at most `session.timeout.ms` (45 s).",
    ),
    key(
        "streams.stall.limit.ms",
        Type::Integer,
        "60000",
        "A thread with lag and without progress for longer is not live.",
    ),
    key("join.table.topic", Type::Text, "", "The table's topic. Required."),
    key("join.table.store", Type::Text, "table", "The name of the table's store, and part of its changelog's name."),
    key("join.table.engine", Type::OneOf(&["rocksdb", "memory"]), "rocksdb", "Where the table's rows are kept."),
    key(
        "join.table.ready",
        Type::Bool,
        "true",
        "Hold the stream until the table has reached the end offsets that it had when the task started.",
    ),
    key("join.stream.topic", Type::Text, "", "The stream's topic. Required."),
    key(
        "join.kind",
        Type::OneOf(&["inner", "left"]),
        "inner",
        "What becomes of a record without a row: left out, or passed on as it is.",
    ),
    key(
        "join.merge",
        Type::OneOf(&["fields", "nest"]),
        "fields",
        "`fields`: the stream's fields over the table's; `nest`: {\"table\":…,\"stream\":…}.",
    ),
    key("join.output.topic", Type::Text, "", "Where merged records go. Required."),
    key("errors.deserialization", POLICY, "fail", "What to do with a record whose bytes do not decode."),
    key("errors.processing", POLICY, "fail", "What to do with a record for which an operator returns an error."),
    key(
        "errors.production",
        POLICY,
        "fail",
        "What to do with a result that does not encode or that the broker refuses.",
    ),
    key("errors.dead.letter.topic", Type::Text, "", "Where dead letters go; needed where a policy is dead-letter."),
    key(
        "errors.uncaught",
        Type::OneOf(&["replace-thread", "shutdown-client", "shutdown-application"]),
        "shutdown-client",
        "What to do when a thread ends with an error or a panic.",
    ),
    key(
        "http.listen",
        Type::Text,
        "",
        "Address of the probes, metrics and the page, such as 0.0.0.0:8080; without it there is none.",
    ),
];

/// Sections whose keys are librdkafka's own.
pub const CLIENT_SECTIONS: &[&str] = &["consumer", "producer", "admin"];

/// The row of a key.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The environment variable of a key: `streams.application.id` is `WATERSMEET_STREAMS_APPLICATION_ID`.
pub fn variable(name: &str) -> String {
    format!("WATERSMEET_{}", name.to_uppercase().replace(['.', '-'], "_"))
}

/// The key that was probably meant.
pub fn suggestion(unknown: &str) -> Option<&'static str> {
    let nearest = KEYS.iter().map(|key| (distance(unknown, key.name), key.name)).min()?;
    (nearest.0 <= 2 + unknown.len() / 6).then_some(nearest.1)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The table of all keys as Markdown: what `docs/configuration.md` holds.
pub fn markdown() -> String {
    let mut text = String::from("| key | default | meaning |\n|---|---|---|\n");
    for key in KEYS {
        let default = if key.default.is_empty() { "–".into() } else { format!("`{}`", key.default) };
        let words = match key.kind {
            Type::OneOf(words) => format!(" One of `{}`.", words.join("`, `")),
            _ => String::new(),
        };
        let doc = key.doc.replace('|', "\\|");
        text += &format!("| `{}` | {default} | {doc}{words} |\n", key.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_misses_are_suggested_and_far_ones_not() {
        assert_eq!(suggestion("streams.aplication.id"), Some("streams.application.id"));
        assert_eq!(suggestion("join.table.topics"), Some("join.table.topic"));
        assert_eq!(suggestion("xyz"), None);
    }

    #[test]
    fn the_documentation_lists_every_key_as_it_is() {
        let docs = include_str!("../../docs/configuration.md");
        assert!(
            docs.contains(&markdown()),
            "docs/configuration.md is out of date; its table should be:\n{}",
            markdown()
        );
    }
}
