//! Instances whose records wait for calls to the outside are killed in the middle of them, and in the end every record counts
//! once.

use super::job;
use super::on_kafka::{Kafka, Message, unique};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use watersmeet::broker::{Batch, Broker, Isolation, RawRecord, Role, TopicPartition};
use watersmeet::prelude::*;
use watersmeet::serdes::DefaultSerde;

const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 4;
const INSTANCES: usize = 2;
const ROUNDS: usize = 5;
const RECORDS_PER_ROUND: usize = 1_000;
/// What tells a process that it is an instance: its settings, one a line.
const INSTANCE: &str = "WATERSMEET_CALLS_INSTANCE";

/// Two ways: behind a store, where commits wait for calls; and in front of one, where a transaction ends in the middle of calls.
fn topology(prefix: &str) -> Topology {
    let builder = StreamsBuilder::new();
    let stream = builder.stream(&format!("{prefix}in"), Consumed::<String, String>::default());
    let counts = stream.group_by_key(Grouped::default()).count(Materialized::rocksdb("counts").without_cache());
    let asked = counts.to_stream().map_async(AsyncOptions::new(100).order(CallOrder::Key), |call| async move {
        answer(call.attempt, call.value.unwrap_or_default()).await
    });
    asked.to(&format!("{prefix}counts"), Produced::default());
    let digit = |key: &String, _: &String| key.chars().last().map_or(String::new(), String::from);
    let repartitioned = Repartitioned::with(String::serde(), String::serde()).named("by-digit");
    let by_digit = stream.select_key(digit).repartition(repartitioned);
    let asked = by_digit.map_async(AsyncOptions::new(100).order(CallOrder::None), |call| async move {
        answer(call.attempt, call.value.clone()).await
    });
    let digits = asked.group_by_key(Grouped::with(String::serde(), String::serde()));
    let digits = digits.count(Materialized::rocksdb("digits").without_cache());
    digits.to_stream().to(&format!("{prefix}digits"), Produced::default());
    builder.build().expect("builds")
}

/// What the service says, after 1 to 40 ms; now and then not at the first attempt.
async fn answer<T>(attempt: u32, value: T) -> std::result::Result<T, CallError> {
    use std::hash::BuildHasher;
    let random = std::hash::RandomState::new().hash_one(attempt);
    tokio::time::sleep(Duration::from_millis(1 + random % 40)).await;
    if attempt == 1 && random.is_multiple_of(50) { Err("busy".into()) } else { Ok(value) }
}

/// Runs an instance and never comes back, where this process is to be one.
pub fn be_instance_if_told() {
    job::be_instance_if_told(INSTANCE, |prefix, config| {
        config.commit_interval = Duration::from_millis(100);
        topology(prefix)
    });
}

/// Ended with the test.
struct Instance(Child);

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(kafka: &Kafka, id: &str, dir: &Path, number: usize) -> Instance {
    let settings = format!("{}\n{id}\n{}", kafka.servers, dir.join(format!("state-{number}")).display());
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join(format!("{number}.log")));
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["instance", "--exact", "--nocapture"])
        .env(INSTANCE, settings)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("the folder is writable"))
        .spawn();
    Instance(child.expect("the program starts"))
}

/// What is wrong, if anything.
pub fn run(kafka: &Kafka) -> Vec<String> {
    let (id, dir) = (unique("calls"), tempfile::tempdir().expect("a folder"));
    let topic = |name: &str| format!("{id}-{name}");
    for name in ["in", "counts", "digits"] {
        // The records are of 1970, which a broker would delete as too old.
        kafka.create(&topic(name), PARTITIONS, &[("retention.ms", "-1")]);
    }
    let mut instances: Vec<Instance> = (0..INSTANCES).map(|n| start(kafka, &id, dir.path(), n)).collect();
    let mut counts = kafka.counter(&topic("counts"));
    for round in 0..ROUNDS {
        let numbers = round * RECORDS_PER_ROUND..(round + 1) * RECORDS_PER_ROUND;
        kafka.send(&topic("in"), numbers.map(|n| Message::new(&format!("k{}", n % 37), "v", n as i64)));
        // When some of it is done, and some is not. Markers of transactions count as well, so this comes early.
        counts.reach((round * RECORDS_PER_ROUND + RECORDS_PER_ROUND / 4) as i64);
        let number = round % INSTANCES;
        instances[number].0.kill().expect("it runs");
        instances[number].0.wait().expect("it has ended");
        instances[number] = start(kafka, &id, dir.path(), number);
    }
    let total = ROUNDS * RECORDS_PER_ROUND;
    let faults = ["counts", "digits"].into_iter().flat_map(|name| {
        let faults = job::faults(&outputs(kafka, &topic(name), total), total);
        faults.into_iter().map(move |fault| format!("{name}: {fault}"))
    });
    let faults: Vec<String> = faults.collect();
    if !faults.is_empty() {
        let log = |n| std::fs::read_to_string(dir.path().join(format!("{n}.log"))).unwrap_or_default();
        (0..INSTANCES).for_each(|n| eprintln!("-- instance {n}\n{}", log(n)));
    }
    faults
}

/// What is committed in a topic, as soon as there is enough of it, and a little later.
fn outputs(kafka: &Kafka, topic: &str, enough: usize) -> Vec<(String, i64)> {
    let mut consumer =
        kafka.broker().consumer(Role::Restore { thread: 1 }, Isolation::ReadCommitted).expect("a consumer");
    let partitions: Vec<_> = (0..PARTITIONS).map(|p| (TopicPartition::new(topic, p), Some(0))).collect();
    consumer.assign(&partitions).expect("assigned");
    let (mut batch, mut events, mut outputs) = (Batch::default(), Vec::new(), Vec::new());
    let mut deadline = Instant::now() + PATIENCE;
    let mut complete = false;
    while Instant::now() < deadline {
        batch.clear();
        consumer.poll(Duration::from_millis(100), 10_000, &mut batch, &mut events).expect("polled");
        events.clear();
        let bytes = Rc::new(std::mem::take(&mut batch.bytes));
        for meta in batch.records.drain(..) {
            let record = RawRecord { bytes: bytes.clone(), meta };
            let key = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
            outputs.push((key, job::count(record.value().unwrap_or_default())));
        }
        if outputs.len() >= enough && !complete {
            // What counts twice would come now.
            (complete, deadline) = (true, Instant::now() + Duration::from_secs(1));
        }
    }
    if !complete {
        let partitions: Vec<TopicPartition> = partitions.into_iter().map(|(tp, _)| tp).collect();
        eprintln!("{topic}: {} of {enough}, ends at {:?}", outputs.len(), consumer.log_ends(&partitions));
    }
    outputs
}
