//! Configuration: what may be set, its defaults, and what it means once checked.

pub mod keys;
mod memory;
mod settings;

pub use memory::container_limit;
pub use settings::{JoinSettings, Settings};

use crate::error::{Error, Kind, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a transaction may be open, as in Kafka Streams: that is how long readers of what follows it, and whoever takes over
/// its partitions, may have to wait after a crash.
pub(crate) const TRANSACTION_TIMEOUT_MS: u128 = 10_000;

/// The default of `commit.interval.ms` under exactly_once_v2: nobody sees a result before it is committed.
const EXACTLY_ONCE_COMMIT_INTERVAL: Duration = Duration::from_millis(100);

/// What to do with one record that is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Stop: the thread ends with an error that names the record.
    Fail,
    /// Skip the record, count and log it.
    Continue,
    /// Send it as consumed to the dead-letter topic, with KIP-1034's headers, and go on.
    DeadLetter,
}

/// The policy of each stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPolicies {
    /// Bytes that do not decode (`errors.deserialization`).
    pub deserialization: Policy,
    /// Closures that return an error (`errors.processing`).
    pub processing: Policy,
    /// Results that do not encode or that the broker refuses (`errors.production`).
    pub production: Policy,
    /// The topic for dead letters (`errors.dead.letter.topic`).
    pub dead_letter_topic: Option<String>,
}

/// Where the timestamps of records come from (`default.timestamp.extractor`). Source: Kafka Streams' four extractors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timestamps {
    /// From the record; a negative one ends the task. Java: `FailOnInvalidTimestamp`.
    #[default]
    FailOnInvalid,
    /// From the record; one with a negative timestamp is skipped and counted. Java: `LogAndSkipOnInvalidTimestamp`.
    SkipInvalid,
    /// From the record; in the place of a negative one the largest that its partition has had. Java:
    /// `UsePartitionTimeOnInvalidTimestamp`.
    PartitionTimeOnInvalid,
    /// The time at which the record is read. Java: `WallclockTimestampExtractor`.
    WallClock,
}

/// How stores keep their rows (`dsl.store.format`). Source: KIP-1271.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoreFormat {
    /// Value and timestamp.
    #[default]
    Plain,
    /// With headers: a deleted row's changelog record has those of the record that deleted it.
    Headers,
}

/// What a crash may do to records (`processing.guarantee`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Guarantee {
    /// Repeat those since the last commit.
    #[default]
    AtLeastOnce,
    /// Nothing: what a commit interval read, wrote and kept counts as a whole or not at all.
    ExactlyOnceV2,
}

/// What to do when a thread ends with an error or a panic. Source: KIP-671.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncaught {
    /// Start another thread in its place.
    ReplaceThread,
    /// Close this client; its state becomes ERROR.
    ShutdownClient,
    /// Close every instance of the application: this one tells the others by a note with its committed offsets, and leaves
    /// the group.
    ShutdownApplication,
}

/// How often, in wall-clock time, windowed operators look for what is over. Kafka Streams has the same two intervals as
/// internal settings; its test driver sets both to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmitIntervals {
    /// Left and outer stream-stream joins: records that found no partner.
    pub outer_join_ms: i64,
    /// Aggregations that send a window on when it closes.
    pub window_close_ms: i64,
}

impl Default for EmitIntervals {
    fn default() -> Self {
        Self { outer_join_ms: 1000, window_close_ms: 1000 }
    }
}

/// `topology.optimization`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Optimization {
    /// Tables use their source topic as changelog.
    pub reuse_ktable_source_topics: bool,
    /// Repartition topics below one key change are merged.
    pub merge_repartition_topics: bool,
    /// A stream joined with itself keeps one store.
    pub single_store_self_join: bool,
    /// Repartition topics are not moved above `process` and `process_values`. Not part of `all`: Kafka Streams moves them
    /// (KAFKA-19668; its internal setting `__enable.process.processValue.fix__` is off), and its topologies are the measure.
    /// Set it where such an operator below a change of key changes keys or values itself, without changing their types.
    pub processors_stay_above: bool,
}

impl Optimization {
    /// `all`.
    pub const ALL: Self = Self {
        reuse_ktable_source_topics: true,
        merge_repartition_topics: true,
        single_store_self_join: true,
        processors_stay_above: false,
    };
}

/// The runtime's settings, checked. Kafka Streams' keys under `[streams]`; defaults are Kafka Streams' unless said..
#[derive(Debug, Clone)]
pub struct Config {
    /// `application.id`: the group, the prefix of internal topics, the folder under `state.dir`.
    pub application_id: String,
    /// `bootstrap.servers`.
    pub bootstrap_servers: String,
    /// `client.id`; default `<application.id>-<process id>`.
    pub client_id: Option<String>,
    /// `application.server`: where other instances reach this one's HTTP, as `host:port`; without it they cannot ask it.
    pub application_server: Option<String>,
    /// `num.stream.threads`, default 1.
    pub num_stream_threads: usize,
    /// `processing.guarantee`; see [`exactly_once`](Self::exactly_once).
    pub guarantee: Guarantee,
    /// `commit.interval.ms`, default 1000 (Kafka Streams: 30000): a commit is cheap here, and what is repeated after a
    /// crash is what came since the last one.
    pub commit_interval: Duration,
    /// `state.dir`.
    pub state_dir: PathBuf,
    /// `state.cleanup.delay.ms`: after how long the state of a task that is elsewhere is removed, default 600000.
    pub state_cleanup_delay: Duration,
    /// `topology.optimization`.
    pub optimization: Optimization,
    /// `default.timestamp.extractor`: that of topics which are read without one of their own.
    pub timestamps: Timestamps,
    /// `dsl.store.format`.
    pub store_format: StoreFormat,
    /// `max.task.idle.ms`, default 0; negative: never wait.
    pub max_task_idle_ms: i64,
    /// `buffered.records.per.partition`, default 1000.
    pub buffered_records_per_partition: usize,
    /// `poll.ms`, default 100.
    pub poll: Duration,
    /// `replication.factor` of internal topics, default -1 (the broker's).
    pub replication_factor: i32,
    /// `repartition.purge.interval.ms`: how often what has been consumed is deleted from repartition topics, default 30000.
    pub repartition_purge_interval: Duration,
    /// `metadata.max.age.ms`: how often topics are looked for that match a pattern, default 300000.
    pub metadata_max_age: Duration,
    /// `task.timeout.ms`, default 300000.
    pub task_timeout: Duration,
    /// How often windowed operators look for what is over.
    pub emit_intervals: EmitIntervals,
    /// `memory.max.bytes`: what the parts below may have together; without it three quarters of the container's limit.
    pub memory_max_bytes: Option<usize>,
    /// What a consumer's queue holds, `queued.max.messages.kbytes` unless `[consumer]` sets that.
    pub consumer_queue_bytes: usize,
    /// What a consumer asks for at once, `fetch.max.bytes` unless `[consumer]` sets that.
    pub fetch_max_bytes: usize,
    /// What a producer's queue holds, `queue.buffering.max.kbytes` unless `[producer]` sets that.
    pub producer_queue_bytes: usize,
    /// `statestore.cache.max.bytes`: budget of uncommitted writes and of hot rows, of all threads together.
    pub cache_max_bytes: usize,
    /// `rocksdb.block.cache.bytes`: shared by all stores.
    pub block_cache_bytes: usize,
    /// `rocksdb.write.buffer.bytes`: shared by all stores.
    pub write_buffer_bytes: usize,
    /// `shutdown.timeout.ms`: the deadline of a drain, default 30000.
    pub shutdown_timeout: Duration,
    /// `shutdown.leave.group`: whether a client that closes gives its partitions to others at once, default false.
    pub shutdown_leave_group: bool,
    /// `stall.limit.ms`: a thread with lag and without progress for longer is not live, default 60000.
    pub stall_limit: Duration,
    /// `[errors]`.
    pub errors: ErrorPolicies,
    /// `errors.uncaught`.
    pub uncaught: Uncaught,
    /// `[consumer]`: librdkafka's settings for consumers.
    pub consumer: Vec<(String, String)>,
    /// `[producer]`: librdkafka's settings for producers.
    pub producer: Vec<(String, String)>,
    /// `[admin]`: librdkafka's settings for admin clients.
    pub admin: Vec<(String, String)>,
}

impl Config {
    /// The defaults, for an application of this id.
    pub fn new(application_id: impl Into<String>) -> Self {
        Self {
            application_id: application_id.into(),
            bootstrap_servers: "localhost:9092".into(),
            client_id: None,
            application_server: None,
            num_stream_threads: 1,
            guarantee: Guarantee::default(),
            commit_interval: Duration::from_secs(1),
            state_dir: std::env::temp_dir().join("watersmeet"),
            state_cleanup_delay: Duration::from_secs(600),
            optimization: Optimization::default(),
            timestamps: Timestamps::default(),
            store_format: StoreFormat::default(),
            max_task_idle_ms: 0,
            buffered_records_per_partition: 1000,
            poll: Duration::from_millis(100),
            replication_factor: -1,
            repartition_purge_interval: Duration::from_secs(30),
            metadata_max_age: Duration::from_secs(300),
            task_timeout: Duration::from_secs(300),
            emit_intervals: EmitIntervals::default(),
            memory_max_bytes: None,
            consumer_queue_bytes: 6 << 20,
            fetch_max_bytes: 4 << 20,
            producer_queue_bytes: 12 << 20,
            cache_max_bytes: 128 << 20,
            block_cache_bytes: 8 << 20,
            write_buffer_bytes: 16 << 20,
            shutdown_timeout: Duration::from_secs(30),
            shutdown_leave_group: false,
            stall_limit: Duration::from_secs(60),
            errors: ErrorPolicies {
                deserialization: Policy::Fail,
                processing: Policy::Fail,
                production: Policy::Fail,
                dead_letter_topic: None,
            },
            uncaught: Uncaught::ShutdownClient,
            consumer: Vec::new(),
            producer: Vec::new(),
            admin: Vec::new(),
        }
    }

    /// The same with `processing.guarantee` exactly_once_v2, and its default of `commit.interval.ms`: 100, as in Kafka
    /// Streams, since readers see results when they are committed.
    ///
    /// ```
    /// use watersmeet::config::Config;
    /// assert_eq!(Config::new("app").exactly_once().commit_interval.as_millis(), 100);
    /// ```
    pub fn exactly_once(mut self) -> Self {
        self.guarantee = Guarantee::ExactlyOnceV2;
        self.commit_interval = EXACTLY_ONCE_COMMIT_INTERVAL;
        self
    }

    /// Whether `processing.guarantee` is exactly_once_v2.
    pub fn is_exactly_once(&self) -> bool {
        self.guarantee == Guarantee::ExactlyOnceV2
    }

    /// Reads the runtime's settings from a file and the environment; `[join]` and `[http]` are for the binary.
    ///
    /// # Errors
    /// [`Kind::Config`]: the error names key and line.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        Settings::load(path)?.config()
    }

    /// Checks combinations; called before any thread starts.
    ///
    /// # Errors
    /// [`Kind::Config`]: the error names the key.
    pub fn check(&self) -> Result {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.application_id.is_empty() || !self.application_id.chars().all(legal) {
            return Err(Error::new(
                Kind::Config,
                format!("{:?} cannot be part of a topic's name", self.application_id),
            )
            .key("streams.application.id")
            .hint("use letters, digits, '.', '_' and '-'"));
        }
        if self.num_stream_threads == 0 {
            return Err(Error::new(Kind::Config, "is 0, but at least one thread is needed")
                .key("streams.num.stream.threads")
                .hint("set it to 1 or more"));
        }
        if let Some(server) = &self.application_server
            && !server.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        {
            return Err(Error::new(Kind::Config, format!("{server:?} is no address"))
                .key("streams.application.server")
                .hint("write it as <host>:<port>, where this instance's http.listen is reached from the others"));
        }
        let timeout_ms = self.producer.iter().rfind(|(key, _)| key == "transaction.timeout.ms");
        let timeout_ms = timeout_ms.and_then(|(_, text)| text.parse().ok()).unwrap_or(TRANSACTION_TIMEOUT_MS);
        if self.is_exactly_once() && self.commit_interval.as_millis() >= timeout_ms {
            let what = format!(
                "is {}, but the broker aborts transactions that are open for {timeout_ms} ms",
                self.commit_interval.as_millis()
            );
            return Err(Error::new(Kind::Config, what)
                .key("streams.commit.interval.ms")
                .hint("make it much smaller, or raise producer.transaction.timeout.ms"));
        }
        let ErrorPolicies { deserialization, processing, production, dead_letter_topic } = &self.errors;
        if [deserialization, processing, production].contains(&&Policy::DeadLetter) && dead_letter_topic.is_none() {
            return Err(Error::new(Kind::Config, "a policy is dead-letter, but there is no dead-letter topic")
                .key("errors.dead.letter.topic")
                .hint("name a topic, and create it"));
        }
        Ok(())
    }
}
