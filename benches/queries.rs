//! What queries cost, and what they cost the stream thread: a table of ROWS rows and a stream of RECORDS joined with it, on the
//! broker in memory, while another thread asks for rows.
//!
//! `cargo bench --profile release --bench queries -- [rows=200000] [records=2000000]`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use watersmeet::clock::SystemClock;
use watersmeet::prelude::*;
use watersmeet::queries::Level;
use watersmeet::testing::MemoryBroker;

fn topology(in_memory: bool) -> Topology {
    let builder = StreamsBuilder::new();
    let materialized = if in_memory { Materialized::memory("rows") } else { Materialized::rocksdb("rows") };
    let table = builder.table("T", Consumed::<String, String>::default().ready_first(), materialized);
    let stream = builder.stream("in", Consumed::<String, String>::default());
    stream.join(&table, |v: String, t: String| v + &t[..4]).to("out", Produced::default());
    builder.build().expect("builds")
}

fn key(n: usize) -> String {
    format!("key-{n:08}")
}

/// CPU time of the thread whose name begins so, in seconds.
fn cpu_seconds(name: &str) -> f64 {
    let mut ticks = 0.0;
    for task in std::fs::read_dir("/proc/self/task").expect("Linux").flatten() {
        let text = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let Some((head, rest)) = text.rsplit_once(") ") else { continue };
        if head.split_once('(').is_some_and(|(_, comm)| comm.starts_with(name)) {
            let fields: Vec<&str> = rest.split(' ').collect();
            ticks += fields[11].parse::<f64>().unwrap_or(0.0) + fields[12].parse::<f64>().unwrap_or(0.0);
        }
    }
    ticks / 100.0
}

/// Asks at `rate` per second (0: not at all, `None`: as fast as it can) until `stop`. Returns how often, and the latencies.
fn ask(streams: &Streams, level: Level, rows: usize, rate: Option<u64>, stop: &AtomicBool) -> Vec<Duration> {
    let reads = streams.store("rows").level(level).key_value::<String, String>().expect("is there");
    let (begun, mut latencies) = (Instant::now(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        if let Some(rate) = rate
            && latencies.len() as f64 > begun.elapsed().as_secs_f64() * rate as f64
        {
            std::thread::park_timeout(Duration::from_micros(50));
            continue;
        }
        let asked = Instant::now();
        let n = latencies.len().wrapping_mul(7919) % rows;
        assert!(reads.get(&key(n)).expect("answers").is_some());
        latencies.push(asked.elapsed());
    }
    latencies
}

fn run(in_memory: bool, level: Option<Level>, rate: Option<u64>, rows: usize, records: usize) {
    let broker = MemoryBroker::new();
    for topic in ["T", "in", "out"] {
        broker.create_topic(topic, 2);
    }
    let value = "v".repeat(100);
    for n in 0..rows {
        broker.produce("T", key(n).as_bytes(), value.as_bytes(), 1).expect("is there");
    }
    let dir = tempfile::tempdir().expect("a folder");
    let config = Config { state_dir: dir.path().into(), ..Config::new("bench") };
    let client = broker.client("bench", "one");
    let streams =
        Arc::new(Streams::start_on(topology(in_memory), config, client, SystemClock::shared()).expect("starts"));
    let done = |wanted: usize| streams.status().totals.processed as usize >= wanted;
    while !done(rows) {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    std::thread::park_timeout(Duration::from_millis(1_500));
    for n in 0..records {
        broker.produce("in", key(n.wrapping_mul(31) % rows).as_bytes(), value.as_bytes(), 2).expect("is there");
    }
    let (stop, begun, cpu) = (Arc::new(AtomicBool::new(false)), Instant::now(), cpu_seconds("StreamThread"));
    let asker = level.map(|level| {
        let (streams, stop) = (streams.clone(), stop.clone());
        std::thread::spawn(move || ask(&streams, level, rows, rate, &stop))
    });
    while !done(rows + records) {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let (took, cpu) = (begun.elapsed(), cpu_seconds("StreamThread") - cpu);
    stop.store(true, Ordering::Relaxed);
    let mut latencies = asker.map(|asker| asker.join().expect("asks")).unwrap_or_default();
    latencies.sort();
    let at = |part: f64| latencies.get((latencies.len() as f64 * part) as usize).map_or(0.0, |l| l.as_secs_f64() * 1e6);
    println!(
        "{:<7} {:<10} {:>9} queries/s  p50 {:>7.1} us  p99 {:>8.1} us | stream {:>9.0} records/s, {:.2} us of its CPU per record",
        if in_memory { "memory" } else { "rocksdb" },
        level.map_or("none".into(), |level| format!("{level:?}")),
        (latencies.len() as f64 / took.as_secs_f64()) as u64,
        at(0.5),
        at(0.99),
        records as f64 / took.as_secs_f64(),
        cpu * 1e6 / records as f64,
    );
}

fn main() {
    let (mut rows, mut records) = (200_000, 2_000_000);
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("rows", n)) => rows = n.parse().expect("a number"),
            Some(("records", n)) => records = n.parse().expect("a number"),
            _ => {}
        }
    }
    for in_memory in [false, true] {
        run(in_memory, None, None, rows, records);
        for level in [Level::Committed, Level::Latest] {
            run(in_memory, Some(level), Some(2_000), rows, records);
            run(in_memory, Some(level), None, rows, records);
        }
    }
}
