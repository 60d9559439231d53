//! `kill -9` and a restart in place, with default settings: how long until results come again from every partition, and how
//! many records of the changelog are read for it. A count of many keys in RocksDB, under both guarantees.
//!
//! `cargo bench --bench restart -- [keys=500000] [runs=1] [guarantee=exactly_once_v2]`; needs a Kafka in `WATERSMEET_KAFKA`, else `./dev kafka` starts one.

#[path = "../tests/on_kafka/mod.rs"]
mod on_kafka;

use on_kafka::{Kafka, Message, OwnKafka, PATIENCE, put, unique};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use watersmeet::broker::{Batch, Broker, Consumer, Isolation, Producer, Role, TopicPartition};
use watersmeet::prelude::*;

const PARTITIONS: i32 = 4;
/// What tells a process that it is the application: its settings, one a line.
const INSTANCE: &str = "WATERSMEET_RESTART_INSTANCE";

fn main() {
    be_instance_if_told();
    let number = |name: &str, default: usize| {
        let given = std::env::args().find_map(|a| a.strip_prefix(&format!("{name}=")).map(str::to_owned));
        given.map_or(default, |text| text.parse().expect("a number"))
    };
    let only = std::env::args().find_map(|a| a.strip_prefix("guarantee=").map(str::to_owned));
    let (keys, runs) = (number("keys", 500_000), number("runs", 1));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let own = Kafka::given().is_none().then(|| OwnKafka::start(&folder.path().join("kafka")));
    let kafka = Kafka::given().unwrap_or_else(|| own.as_ref().expect("started").kafka.clone());
    for run in 1..=runs {
        for guarantee in
            ["at_least_once", "exactly_once_v2"].into_iter().filter(|g| only.as_ref().is_none_or(|o| o == g))
        {
            measure(&kafka, guarantee, keys, run);
        }
    }
}

fn be_instance_if_told() {
    let Ok(settings) = std::env::var(INSTANCE) else { return };
    let settings: Vec<&str> = settings.split('\n').collect();
    let [servers, application_id, state_dir, guarantee] = settings[..] else { panic!("no settings") };
    tracing_subscriber::fmt().with_env_filter("info").with_writer(std::io::stderr).with_ansi(false).init();
    let config = Config::new(application_id);
    let mut config = if guarantee == "exactly_once_v2" { config.exactly_once() } else { config };
    (config.bootstrap_servers, config.state_dir) = (servers.into(), state_dir.into());
    let builder = StreamsBuilder::new();
    let stream = builder.stream(&format!("{application_id}-in"), Consumed::<String, String>::default());
    let counts = stream.group_by_key(Grouped::default()).count(Materialized::rocksdb("counts"));
    counts.to_stream().to(&format!("{application_id}-out"), Produced::default());
    let streams = Streams::start(builder.build().expect("builds"), config).expect("starts");
    let ended = streams.run_until_signal().expect("signals");
    std::process::exit(ended.exit_code());
}

struct Instance {
    child: Child,
    started: Instant,
}

impl Instance {
    fn start(settings: &str, log: &Path) -> Self {
        let log = std::fs::File::create(log).expect("a log");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(INSTANCE, settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let started = Instant::now();
        Self { child: command.spawn().expect("starts"), started }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The committed results of each partition, counted as they come.
struct Results {
    consumer: Box<dyn Consumer>,
    batch: Batch,
    seen: BTreeMap<i32, usize>,
}

impl Results {
    fn new(kafka: &Kafka, topic: &str) -> Self {
        let mut consumer =
            kafka.broker().consumer(Role::Restore { thread: 1 }, Isolation::ReadCommitted).expect("a consumer");
        let starts: Vec<_> = (0..PARTITIONS).map(|p| (TopicPartition::new(topic, p), Some(0))).collect();
        consumer.assign(&starts).expect("assigns");
        Self { consumer, batch: Batch::default(), seen: BTreeMap::new() }
    }

    fn look(&mut self) {
        self.batch.clear();
        let polled = self.consumer.poll(Duration::from_millis(10), 100_000, &mut self.batch, &mut Vec::new());
        polled.expect("polls");
        for record in &self.batch.records {
            *self.seen.entry(self.batch.sources[record.source as usize].partition).or_default() += 1;
        }
    }

    fn total(&self) -> usize {
        self.seen.values().sum()
    }
}

/// Of now: what is older than the topic's retention the broker may delete at any time.
fn record(key: usize) -> Message {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    Message::new(&format!("key-{key}"), "v", now.as_millis() as i64)
}

/// Sends for some seconds, about two thousand records a second, drawn from all keys.
fn traffic(
    producer: &mut dyn Producer,
    topic: &Arc<str>,
    keys: usize,
    sent: &mut usize,
    seconds: f64,
    each: &mut dyn FnMut(),
) {
    let began = Instant::now();
    let first = *sent;
    while began.elapsed().as_secs_f64() < seconds {
        while ((*sent - first) as f64) < began.elapsed().as_secs_f64() * 2_000.0 {
            put(producer, topic, &record((*sent * 7_919) % keys));
            *sent += 1;
        }
        producer.serve();
        each();
    }
}

fn measure(kafka: &Kafka, guarantee: &str, keys: usize, run: usize) {
    let id = unique("restart");
    let (input, output): (Arc<str>, _) = (format!("{id}-in").into(), format!("{id}-out"));
    kafka.create(&input, PARTITIONS, &[]);
    kafka.create(&output, PARTITIONS, &[]);
    // It stays where something is wrong.
    let folder = tempfile::tempdir().expect("a temporary folder").keep();
    eprintln!("state and logs: {}", folder.display());
    let state = folder.join("state");
    let settings = format!("{}\n{id}\n{}\n{guarantee}", kafka.servers, state.display());
    let mut producer = kafka.producer();
    (0..keys).for_each(|n| put(&mut *producer, &input, &record(n)));
    producer.flush(PATIENCE).expect("all is acknowledged");
    let mut results = Results::new(kafka, &output);
    let mut instance = Instance::start(&settings, &folder.join("log-0"));
    let began = Instant::now();
    while results.total() < keys {
        results.look();
        assert!(began.elapsed() < PATIENCE, "only {:?} of {keys} keys are counted", results.seen);
    }
    let mut sent = 0;
    for (i, how) in ["kill -9", "kill -9", "SIGTERM"].into_iter().enumerate() {
        traffic(&mut *producer, &input, keys, &mut sent, 5.0, &mut || results.look());
        if how == "SIGTERM" {
            let _ = Command::new("kill").arg(instance.child.id().to_string()).status();
            let _ = instance.child.wait();
        }
        drop(instance);
        // What it committed at last is not what the next one makes.
        let quiet = Instant::now();
        while quiet.elapsed() < Duration::from_millis(200) {
            results.look();
        }
        results.seen.clear();
        let log = folder.join(format!("log-{}", i + 1));
        // One record for each partition at least is waiting.
        traffic(&mut *producer, &input, keys, &mut sent, 0.2, &mut || ());
        instance = Instance::start(&settings, &log);
        let first = loop {
            traffic(&mut *producer, &input, keys, &mut sent, 0.01, &mut || results.look());
            if results.seen.len() == PARTITIONS as usize {
                break instance.started.elapsed();
            }
            assert!(instance.started.elapsed() < PATIENCE, "nothing comes again");
        };
        println!(
            "run {run}, {guarantee}, {keys} keys, {how}: results of all partitions again after {:.2} s, {} records restored",
            first.as_secs_f64(),
            restored(&std::fs::read_to_string(&log).unwrap_or_default())
        );
    }
    drop(instance);
    let _ = std::fs::remove_dir_all(folder);
}

/// How many offsets the log says were restored: `restoring TOPIC from A to B`.
fn restored(log: &str) -> i64 {
    let range = |line: &str| {
        let words: Vec<&str> = line.split_once(": restoring ")?.1.split(' ').collect();
        let [_, "from", from, "to", to] = words[..] else { return None };
        Some(to.parse::<i64>().ok()? - from.parse::<i64>().ok()?)
    };
    log.lines().filter_map(range).sum()
}
