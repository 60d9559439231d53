//! The limit: what the adapters to Kafka can carry when nobody does anything with the records. Consumes one topic and
//! produces the same bytes to another, each record to the partition that it came from.
//!
//! `cargo bench --bench passthrough -- BOOTSTRAP FROM TO [RECORDS]`
//!
//! A topic FROM that does not exist is made, with 4 partitions and RECORDS (default 1,000,000) records of 150 bytes.

use std::time::{Duration, Instant};
use watersmeet::broker::{Batch, Broker, Event, Isolation, NewTopic, Outgoing, Role, TopicPartition};
use watersmeet::config::Config;
use watersmeet::error::Result;
use watersmeet::kafka::KafkaBroker;
use watersmeet::record::Headers;

const PARTITIONS: i32 = 4;
const FLUSH: Duration = Duration::from_secs(60);

fn main() -> Result {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let (bootstrap, from, to) = match &args[..] {
        [bootstrap, from, to, ..] => (bootstrap, from, to),
        _ => {
            println!("usage: cargo bench --bench passthrough -- BOOTSTRAP FROM TO [RECORDS]");
            return Ok(());
        }
    };
    let records = args.get(3).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let mut config = Config::new("passthrough");
    config.bootstrap_servers = bootstrap.clone();
    // Any of librdkafka's settings, to try out: CONSUMER=key=value,… PRODUCER=key=value,…
    config.consumer = from_environment("CONSUMER");
    config.producer = from_environment("PRODUCER");
    let broker = KafkaBroker::connect(&config, None)?;
    if broker.admin()?.topics(std::slice::from_ref(from))?[0].is_none() {
        fill(&broker, from, records)?;
    }
    create(&broker, to)?;
    carry(&broker, from, to)
}

fn from_environment(name: &str) -> Vec<(String, String)> {
    let all = std::env::var(name).unwrap_or_default();
    all.split(',').filter_map(|one| one.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
}

fn create(broker: &KafkaBroker, name: &str) -> Result {
    let new = NewTopic { name: name.into(), partitions: PARTITIONS, replication: -1, config: Vec::new() };
    broker.admin()?.create_topics(&[new])
}

fn fill(broker: &KafkaBroker, name: &str, records: usize) -> Result {
    create(broker, name)?;
    let mut producer = broker.producer(1, None)?;
    let (topic, headers) = (name.into(), Headers::default());
    for i in 0..records {
        let key = format!("key-{:08}", i * 7919 % 500_000);
        let value = format!("{{\"sku\":\"{key}\",\"price\":{},\"pad\":\"{:-<90}\"}}", i % 1000, i);
        let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
        producer.send(Outgoing {
            topic: &topic,
            partition: None,
            key,
            value,
            timestamp_ms: None,
            headers: &headers,
        })?;
    }
    producer.flush(FLUSH)
}

fn carry(broker: &KafkaBroker, from: &str, to: &str) -> Result {
    let mut consumer = broker.consumer(Role::Restore { thread: 1 }, Isolation::AsConfigured)?;
    let mut producer = broker.producer(1, None)?;
    let all: Vec<_> = (0..PARTITIONS).map(|p| (TopicPartition::new(from, p), None)).collect();
    consumer.assign(&all)?;
    let (to, mut batch, mut events) = (to.into(), Batch::default(), Vec::new());
    let (mut ended, mut count, mut bytes, mut first) = (0, 0_u64, 0_u64, None);
    while ended < PARTITIONS {
        batch.clear();
        consumer.poll(Duration::from_millis(100), 2000, &mut batch, &mut events)?;
        for record in &batch.records {
            let part = |range: &Option<std::ops::Range<u32>>| {
                range.as_ref().map(|range| &batch.bytes[range.start as usize..range.end as usize])
            };
            producer.send(Outgoing {
                topic: &to,
                partition: Some(batch.sources[record.source as usize].partition),
                key: part(&record.key),
                value: part(&record.value),
                timestamp_ms: Some(record.timestamp_ms),
                headers: &record.headers,
            })?;
        }
        first = first.or((!batch.records.is_empty()).then(|| (Instant::now(), cpu())));
        (count, bytes) = (count + batch.records.len() as u64, bytes + batch.bytes.len() as u64);
        producer.serve();
        ended += events.drain(..).filter(|event| matches!(event, Event::End { .. })).count() as i32;
    }
    producer.flush(FLUSH)?;
    let (since, cpu_before) = first.unwrap_or((Instant::now(), cpu()));
    let (seconds, cpu) = (since.elapsed().as_secs_f64(), cpu() - cpu_before);
    assert_eq!(producer.acknowledged(), count);
    println!(
        "{count} records, {} MB in {seconds:.2} s: {:.0} records/s, {:.2} CPU s per million, peak {} MB",
        bytes >> 20,
        count as f64 / seconds,
        cpu * 1e6 / count as f64,
        peak_mb(),
    );
    Ok(())
}

/// Processor time of all threads so far, in seconds; 0 where there is no `/proc`.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the program's name, in brackets: user and system time are the 12th and 13th field, in hundredths of a second.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The most memory so far, in megabytes; 0 where there is no `/proc`.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|kb| kb.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) >> 10
}
