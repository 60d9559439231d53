//! `watersmeet demo`: the main job on shipped real data, on a Kafka inside this process.

use crate::{READER_IS_GONE, join};
use clap::Args;
use serde_json::Value;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use watersmeet::broker::{Batch, Broker, Consumer, Isolation, Outgoing, RawRecord, Role, TopicPartition};
use watersmeet::clock::SystemClock;
use watersmeet::config::{Config, JoinSettings, Optimization, Policy};
use watersmeet::error::{Error, Kind, Result};
use watersmeet::kafka::mock::MockCluster;
use watersmeet::prelude::*;

const CATALOG: &str = include_str!("../../../examples/data/catalog.jsonl");
const RATINGS: &str = include_str!("../../../examples/data/ratings.jsonl");
const MALFORMED: &str = include_str!("../../../examples/data/malformed.jsonl");
const PARTITIONS: i32 = 3;
/// How many merged records are shown in full.
const SHOWN: usize = 3;

#[derive(Args)]
pub(crate) struct Options {
    /// How long to run, such as 20s, 500ms or 2m; without it, until ctrl-C.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    run_for: Option<Duration>,
    /// The port of the page; by default a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..at].parse().map_err(|_| format!("{text:?} does not start with a number"))?;
    match &text[at..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" | "" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        unit => Err(format!("{unit:?} is no unit; use ms, s, m or h")),
    }
}

/// What came out, as read from the output topics.
#[derive(Default)]
struct Seen {
    merged: u64,
    dead_lettered: u64,
}

pub(crate) fn demo(options: &Options) -> Result<ExitCode> {
    let began = Instant::now();
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone())
            .map_err(|e| Error::new(Kind::Internal, "cannot listen to signals").source(e))?;
    }
    say("1", "Starting a Kafka inside this process, with four topics of three partitions");
    let cluster = MockCluster::start(1)?;
    let folder = std::env::temp_dir().join(format!("watersmeet-demo-{}", std::process::id()));
    let config = demo_config(&folder);
    let join = demo_join();
    for topic in [&join.table_topic, &join.stream_topic, &join.output_topic, &"MSG-DLQ".to_string()] {
        cluster.create_topic(topic, PARTITIONS)?;
    }
    let broker = cluster.broker(&config, None)?;
    let sent = load(&*broker, &join)?;

    say("3", "Joining: for each rating the film of the same key, the rating's fields added to the film's");
    out!("     MSG-SOURCE-A (table, kept in RocksDB) ──┐");
    out!("     MSG-SOURCE-B (stream) ──────────────────┴── join ──> MSG-MERGED    what is malformed ──> MSG-DLQ");
    let topology = join::topology(&join, config.optimization)?;
    let mut outputs = broker.consumer(Role::Restore { thread: 99 }, Isolation::AsConfigured)?;
    let partitions =
        |topic: &str| (0..PARTITIONS).map(|p| (TopicPartition::new(topic, p), Some(0))).collect::<Vec<_>>();
    outputs.assign(&[partitions(&join.output_topic), partitions("MSG-DLQ")].concat())?;
    let work_began = Instant::now();
    let streams = Streams::start_on(topology, config, broker, SystemClock::shared())?;
    let address = streams.serve_http(&format!("127.0.0.1:{}", options.port))?;
    out!("     watch it: http://{address}/   health: http://{address}/health   metrics: http://{address}/metrics\n");

    let over = || {
        let ended = options.run_for.is_some_and(|limit| began.elapsed() >= limit);
        ended || interrupted.load(Ordering::Relaxed) || READER_IS_GONE.load(Ordering::Relaxed)
    };
    let mut seen = Seen::default();
    let mut worked = None;
    while !over() {
        let moved = look(&mut *outputs, &mut seen)?;
        let status = streams.status();
        if !status.is_live() && status.threads.iter().any(|t| t.error.is_some()) {
            eprintln!("watersmeet: {}", status.reason);
            return Ok(ExitCode::FAILURE);
        }
        // What could not be read as a record is not among those that were processed.
        let done = status.totals.processed + status.totals.dead_lettered;
        let expected = status.totals.produced + status.totals.dead_lettered;
        if worked.is_none() && done >= sent && seen.merged + seen.dead_lettered >= expected {
            worked = Some(work_began.elapsed());
            finished(&seen, &status.totals, options, address.port());
        }
        if !moved && worked.is_some() {
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
    let time = worked.unwrap_or_else(|| work_began.elapsed());
    streams.close(Duration::from_secs(10));
    while look(&mut *outputs, &mut seen)? {}
    let dropped = streams.status().totals.dropped;
    drop(streams);
    // What is left behind in the system's temporary folder does no harm.
    let _ = std::fs::remove_dir_all(folder);
    out!(
        "merged={} dropped={dropped} dead-lettered={} in {:.1} s",
        seen.merged,
        seen.dead_lettered,
        time.as_secs_f64()
    );
    Ok(ExitCode::SUCCESS)
}

fn demo_config(folder: &std::path::Path) -> Config {
    let mut config = Config::new("watersmeet-demo");
    config.state_dir = folder.to_path_buf();
    config.optimization = Optimization::ALL;
    config.errors.deserialization = Policy::DeadLetter;
    config.errors.dead_letter_topic = Some("MSG-DLQ".into());
    config
}

fn demo_join() -> JoinSettings {
    JoinSettings {
        table_topic: "MSG-SOURCE-A".into(),
        table_store: "films".into(),
        table_in_memory: false,
        table_ready: true,
        stream_topic: "MSG-SOURCE-B".into(),
        left: false,
        nest: false,
        output_topic: "MSG-MERGED".into(),
    }
}

fn say(step: &str, what: &str) {
    if std::io::stdout().is_terminal() {
        out!("\x1b[1;36m{step}\x1b[0m  \x1b[1m{what}\x1b[0m");
    } else {
        out!("{step}  {what}");
    }
}

/// Loads films, ratings and malformed records; returns how many records that were.
fn load(broker: &dyn Broker, join: &JoinSettings) -> Result<u64> {
    let mut producer = broker.producer(99, None)?;
    let mut sent = 0;
    let mut send = |topic: &str, key: Option<&str>, value: &str, timestamp_ms: Option<i64>| {
        sent += 1;
        producer.send(Outgoing {
            topic: &Arc::from(topic),
            partition: None,
            key: key.map(str::as_bytes),
            value: Some(value.as_bytes()),
            timestamp_ms,
            headers: &Headers::default(),
        })
    };
    let (mut films, mut ratings) = (0, 0);
    for (topic, lines, count) in [(&join.table_topic, CATALOG, &mut films), (&join.stream_topic, RATINGS, &mut ratings)]
    {
        for line in lines.lines() {
            let line = parse(line)?;
            send(topic, line["key"].as_str(), &line["value"].to_string(), line["timestamp"].as_i64())?;
            *count += 1;
        }
    }
    let mut malformed = 0;
    for line in MALFORMED.lines() {
        let line = parse(line)?;
        let text = line["text"].as_str().unwrap_or_default();
        send(line["topic"].as_str().unwrap_or_default(), line["key"].as_str(), text, Some(1_700_000_200_000))?;
        malformed += 1;
    }
    producer.flush(Duration::from_secs(30))?;
    say("2", &format!("Loading {films} films into MSG-SOURCE-A and {ratings} ratings of them into MSG-SOURCE-B"));
    out!("     and among them {malformed} records that something is wrong with, as real topics have them\n");
    Ok(sent)
}

fn parse(line: &str) -> Result<Value> {
    serde_json::from_str(line).map_err(|e| Error::new(Kind::Internal, "the shipped data is damaged").source(e))
}

/// Reads what has come out since; true where something has.
fn look(outputs: &mut dyn Consumer, seen: &mut Seen) -> Result<bool> {
    let mut batch = Batch::default();
    outputs.poll(Duration::from_millis(50), 5_000, &mut batch, &mut Vec::new())?;
    let bytes = std::rc::Rc::new(std::mem::take(&mut batch.bytes));
    let some = !batch.records.is_empty();
    for meta in batch.records {
        let dead = &*batch.sources[meta.source as usize].topic == "MSG-DLQ";
        let record = RawRecord { bytes: bytes.clone(), meta };
        if dead {
            seen.dead_lettered += 1;
            show_dead_letter(&record);
        } else {
            seen.merged += 1;
            if seen.merged <= SHOWN as u64 {
                out!("     MSG-MERGED  {}", text(record.key()));
                out!("       {}\n", text(record.value()));
            }
        }
    }
    Ok(some)
}

fn show_dead_letter(record: &RawRecord) {
    let header = |name: &str| text(record.meta.headers.last(&format!("__streams.errors.{name}")));
    out!("     MSG-DLQ     {}", text(record.value()));
    out!("       from {}, partition {}, offset {}", header("topic"), header("partition"), header("offset"));
    out!("       {}\n", header("message"));
}

fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or("(no key)".into(), |bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn finished(seen: &Seen, totals: &watersmeet::status::Totals, options: &Options, port: u16) {
    say("4", &format!("Done: {} merged records, of which {SHOWN} are shown above", seen.merged));
    out!("     {} malformed records in MSG-DLQ, each with what was wrong and where it came from", seen.dead_lettered);
    out!("     {} dropped and counted: without a key there is nothing to join on", totals.dropped);
    match options.run_for {
        Some(limit) => {
            out!("     the page stays until {} s are over: http://127.0.0.1:{port}/\n", limit.as_secs_f64())
        }
        None => out!("     the page stays until you press ctrl-C: http://127.0.0.1:{port}/\n"),
    }
}
