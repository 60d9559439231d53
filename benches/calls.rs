//! What `map_async` itself costs: calls that have their answer at once, beside `map_values`, one task, on the broker in memory.
//! And how soon results go on, where one call is made at a time.
//!
//! `cargo bench --bench calls -- [records=500000]`

use std::time::{Duration, Instant};
use watersmeet::broker::TopicPartition;
use watersmeet::clock::SystemClock;
use watersmeet::prelude::*;
use watersmeet::testing::MemoryBroker;

const RECORD_BYTES: usize = 150;
const KEYS: usize = 1_000;

type Text = KStream<String, String>;

fn main() {
    let given = std::env::args().find_map(|a| a.strip_prefix("records=").map(str::to_owned));
    let records: usize = given.map_or(500_000, |text| text.parse().expect("a number"));
    println!("{records} records of {RECORD_BYTES} bytes, {KEYS} keys; the best of 3");
    let base = best(records, "map_values", |stream| stream.map_values(|v| v.len().to_string()));
    for (order, name) in [(CallOrder::None, "None"), (CallOrder::Key, "Key"), (CallOrder::All, "All")] {
        let ns = best(records, &format!("map_async, 64 at a time, order {name}"), move |stream| {
            stream.map_async(AsyncOptions::new(64).order(order), |call| async move { Ok(call.value.len().to_string()) })
        });
        println!("{:>50} {:.1} times map_values, {} ns more", "", ns as f64 / base as f64, ns.saturating_sub(base));
    }
    best(records / 20, "map_async, one at a time", |stream| {
        stream.map_async(AsyncOptions::new(1).held_max(1), |call| async move { Ok(call.value.len().to_string()) })
    });
}

/// Nanoseconds per record.
fn best(records: usize, name: &str, step: impl Fn(Text) -> Text) -> u128 {
    let ns = (0..3).map(|_| run(records, &step).as_nanos() / records as u128).min().unwrap_or_default();
    println!("{name:<50} {ns:>7} ns per record, {:>9} records/s", 1_000_000_000 / ns.max(1));
    ns
}

/// From the start of the client until everything is committed. Results are thrown away: what is written costs the same.
fn run(records: usize, step: impl Fn(Text) -> Text) -> Duration {
    let (broker, value, dir) = (MemoryBroker::new(), vec![b'x'; RECORD_BYTES], tempfile::tempdir().expect("a folder"));
    broker.create_topic("in", 1);
    for n in 0..records {
        broker.produce("in", format!("k{}", n % KEYS).as_bytes(), value.as_slice(), n as i64).expect("room");
    }
    let builder = StreamsBuilder::new();
    step(builder.stream("in", Consumed::<String, String>::default())).for_each(|_, _| {});
    let commit_interval = Duration::from_millis(10);
    let config = Config { state_dir: dir.path().into(), commit_interval, ..Config::new("app") };
    let (topology, client, clock) =
        (builder.build().expect("builds"), broker.client("app", "p"), SystemClock::shared());
    let began = Instant::now();
    let streams = Streams::start_on(topology, config, client, clock).expect("starts");
    let input = TopicPartition::new("in", 0);
    while broker.committed("app").get(&input).is_none_or(|committed| committed.offset < records as i64) {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let took = began.elapsed();
    drop(streams);
    took
}
