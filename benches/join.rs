//! The main job, measured from outside: the built program joins a stream with a table on a real Kafka, and its output is
//! read back and checked.
//!
//! `cargo bench --bench join -- [rows=500000] [records=3000000] [runs=2] [key=value…]`
//!
//! Rows of 200 bytes of JSON, records of 150 bytes whose keys are drawn evenly from theirs, 4 partitions each; both topics
//! are complete before the program starts. A `key=value` with a point in the key is given to the program as `--set`. The
//! Kafka is the one in `WATERSMEET_KAFKA`, else one that `./dev kafka` starts for this. Its load on the same machine is
//! part of what is measured: compare figures of one machine only.

#[path = "../tests/on_kafka/mod.rs"]
mod on_kafka;

use on_kafka::program::{App, Program};
use on_kafka::{Counter, Kafka, Message, OwnKafka, put, until};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 4;

struct Job {
    rows: usize,
    records: usize,
    runs: usize,
    settings: Vec<(String, String)>,
}

fn main() {
    let mut job = Job { rows: 500_000, records: 3_000_000, runs: 2, settings: Vec::new() };
    for argument in std::env::args().skip(1).filter(|argument| !argument.starts_with("--")) {
        let (key, value) = argument.split_once('=').unwrap_or((&argument, ""));
        let number = || value.parse().unwrap_or_else(|_| panic!("{key} is a number, not '{value}'"));
        match key {
            "rows" => job.rows = number(),
            "records" => job.records = number(),
            "runs" => job.runs = number(),
            _ if key.contains('.') => job.settings.push((key.into(), value.into())),
            _ => panic!("unknown argument '{argument}'; see the beginning of benches/join.rs"),
        }
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    match Kafka::given() {
        Some(kafka) => job.run(&kafka),
        None => job.run(&OwnKafka::start(&folder.path().join("kafka")).kafka),
    }
}

impl Job {
    fn run(&self, kafka: &Kafka) {
        let app = App::new(kafka, "bench", PARTITIONS);
        eprintln!("filling topics: {} rows, {} records", self.rows, self.records);
        self.fill(&app);
        for run in 1..=self.runs {
            // Topics stay; what the program remembers of them does not.
            let (id, output) = (format!("{}-{run}", app.id), format!("{}-{run}", app.output));
            kafka.create(&output, PARTITIONS, &[]);
            self.measure(run, &app, &id, &output);
        }
    }

    fn fill(&self, app: &App) {
        let mut producer = app.kafka.producer();
        let mut fill = |topic: &str, count: usize, message: &dyn Fn(usize) -> Message| {
            let topic = Arc::from(topic);
            (0..count).for_each(|n| put(&mut *producer, &topic, &message(n)));
            producer.flush(on_kafka::PATIENCE).expect("all is acknowledged");
        };
        fill(&app.table, self.rows, &|n| Message::new(&key(n), row(n), 1_000));
        fill(&app.stream, self.records, &|n| Message::new(&key(self.drawn(n)), record(self.drawn(n), n), 2_000));
    }

    /// The row that record `n` belongs to: a fixed draw, the same in every run.
    fn drawn(&self, n: usize) -> usize {
        let mixed = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 32) as usize % self.rows
    }

    fn measure(&self, run: usize, app: &App, id: &str, output: &str) {
        let ours = [
            ("streams.application.id", id),
            ("join.output.topic", output),
            ("streams.commit.interval.ms", "30000"),
            ("streams.topology.optimization", "all"),
        ];
        let given = self.settings.iter().map(|(key, value)| (&**key, &**value));
        let settings: Vec<_> = ours.into_iter().chain(given).collect();
        let mut results = app.kafka.counter(output);
        let started = Instant::now();
        let mut program = app.run(&settings);
        let (began, first) = (self.until(&mut results, 1, &mut program), Instant::now());
        let count = self.until(&mut results, self.records as i64, &mut program);
        let (seconds, cpu, peak) = (first.elapsed().as_secs_f64(), cpu(program.pid()), peak_mb(program.pid()));
        let whole = started.elapsed().as_secs_f64();
        let code = program.terminate();
        let checked = self.check(&app.kafka, output);
        let inputs = (self.rows + self.records) as f64;
        println!(
            "run {run}: {:.0} records/s, {:.2} CPU s per million inputs, peak {peak} MB; {whole:.1} s from its start to the \
             last result, exit code {code}; {checked}",
            (count - began) as f64 / seconds,
            cpu * 1e6 / inputs,
        );
    }

    /// Waits for so many results; how many there are.
    fn until(&self, results: &mut Counter, count: i64, program: &mut Program) -> i64 {
        let (mut last, mut since) = (0, Instant::now());
        until(&format!("{count} results"), || {
            std::thread::park_timeout(Duration::from_millis(10));
            let now = results.count();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            assert!(since.elapsed() < Duration::from_secs(60), "stopped at {last} results:\n{}", program.log());
            (now >= count).then_some(now)
        })
    }

    /// Whether every record came out once, joined with its row, in order for its key.
    fn check(&self, kafka: &Kafka, output: &str) -> String {
        let (mut seen, mut last) = (vec![false; self.records], vec![0; self.rows]);
        let (mut wrong, mut repeated, mut disordered) = (0, 0, 0);
        kafka.each(output, |message| {
            let value = message.json();
            let (Some(n), Some(row)) = (value["n"].as_u64(), value["row"].as_u64()) else { return wrong += 1 };
            let (n, row) = (n as usize, row as usize);
            wrong += usize::from(row != self.drawn(n) || value["price"] != price(n) || message.key() != key(row));
            repeated += usize::from(std::mem::replace(&mut seen[n], true));
            disordered += usize::from(std::mem::replace(&mut last[row], n) > n);
        });
        let missing = seen.iter().filter(|seen| !**seen).count();
        match (missing, wrong, repeated, disordered) {
            (0, 0, 0, 0) => "every record once, with its row, in order".into(),
            _ => format!("MISSING {missing}, WRONG {wrong}, REPEATED {repeated}, OUT OF ORDER {disordered}"),
        }
    }
}

fn key(row: usize) -> String {
    format!("product-{row:08}")
}

/// A stream's price wins over the table's.
fn price(n: usize) -> u64 {
    n as u64 % 10_000
}

fn row(n: usize) -> String {
    let key = key(n);
    format!("{{\"id\":\"{key}\",\"row\":{n},\"name\":\"Product number {n}\",\"price\":100001,\"text\":\"{n:~>90}\"}}")
}

fn record(row: usize, n: usize) -> String {
    format!("{{\"id\":\"{}\",\"n\":{n},\"price\":{},\"seen\":\"{n:->76}\"}}", key(row), price(n))
}

/// Processor time of a process so far, in seconds; 0 where there is no `/proc`.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the program's name, in brackets: user and system time are the 12th and 13th field, in hundredths of a second.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The most memory of a process so far, in megabytes; 0 where there is no `/proc`.
fn peak_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|kb| kb.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) >> 10
}
