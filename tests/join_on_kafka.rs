//! `watersmeet run` on a real Kafka, as its users run it: the program, its configuration file, its probes, its signals.
//! Needs `WATERSMEET_KAFKA`; `./dev test` starts a broker for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use watersmeet::broker::{Batch, Broker, Isolation, NewTopic, Outgoing, Role, TopicPartition};
use watersmeet::config::Config;
use watersmeet::kafka::KafkaBroker;
use watersmeet::partitioner::partition_for_key;
use watersmeet::record::Headers;

const LIMIT: Duration = Duration::from_secs(90);
/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(10);
const PARTITIONS: i32 = 4;

/// The broker that tests may use, and names that no other test uses.
struct Kafka {
    address: String,
    broker: Arc<dyn Broker>,
    run: String,
}

impl Kafka {
    fn new(test: &str) -> Option<Self> {
        let Some(address) = std::env::var("WATERSMEET_KAFKA").ok().filter(|address| !address.is_empty()) else {
            eprintln!("WATERSMEET_KAFKA is not set: no real Kafka to test against");
            return None;
        };
        let mut config = Config::new(test);
        config.bootstrap_servers = address.clone();
        let broker: Arc<dyn Broker> = Arc::new(KafkaBroker::connect(&config, None).unwrap());
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        Some(Self { address, broker, run: format!("{test}-{nanos}") })
    }

    fn topic(&self, name: &str) -> Arc<str> {
        self.topic_of(name, PARTITIONS, &[])
    }

    fn topic_of(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> Arc<str> {
        let name = format!("{}-{name}", self.run);
        let config = config.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut admin = self.broker.admin().unwrap();
        admin.create_topics(&[NewTopic { name: name.clone(), partitions, replication: -1, config }]).unwrap();
        until("the topic is there", || admin.topics(std::slice::from_ref(&name)).unwrap()[0].is_some());
        name.into()
    }

    fn send<'a>(&self, topic: &Arc<str>, records: impl Iterator<Item = (&'a str, Option<String>, i64)>) {
        let mut producer = self.broker.producer(1, None).unwrap();
        let headers = Headers::default();
        for (key, value, timestamp_ms) in records {
            let value = value.as_deref().map(str::as_bytes);
            let (key, timestamp_ms) = (Some(key.as_bytes()), Some(timestamp_ms));
            let record = Outgoing { topic, partition: None, key, value, timestamp_ms, headers: &headers };
            while producer.send(record).is_err() {
                producer.serve();
            }
        }
        producer.flush(LIMIT).unwrap();
    }

    /// Everything in a topic: partition, key, value, in order per partition.
    fn read(&self, topic: &Arc<str>, partitions: i32) -> Vec<(i32, String, String)> {
        let mut consumer = self.broker.consumer(Role::Restore { thread: 1 }, Isolation::AsConfigured).unwrap();
        let all: Vec<_> = (0..partitions).map(|p| TopicPartition::new(topic.clone(), p)).collect();
        let end: i64 = consumer.offset_bounds(&all).unwrap().into_iter().map(|bounds| bounds.end).sum();
        let starts: Vec<_> = all.into_iter().map(|tp| (tp, Some(0))).collect();
        consumer.assign(&starts).unwrap();
        let (mut records, mut batch, mut events) = (Vec::new(), Batch::default(), Vec::new());
        until("the topic is read", || {
            batch.clear();
            consumer.poll(Duration::from_millis(50), 10_000, &mut batch, &mut events).unwrap();
            for record in &batch.records {
                let text = |range: &Option<std::ops::Range<u32>>| {
                    let bytes = range.as_ref().map(|r| &batch.bytes[r.start as usize..r.end as usize]);
                    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
                };
                let partition = batch.sources[record.source as usize].partition;
                records.push((partition, text(&record.key), text(&record.value)));
            }
            records.len() as i64 >= end
        });
        records
    }

    fn count(&self, topic: &Arc<str>, partitions: i32) -> i64 {
        let mut consumer = self.broker.consumer(Role::Restore { thread: 1 }, Isolation::AsConfigured).unwrap();
        let all: Vec<_> = (0..partitions).map(|p| TopicPartition::new(topic.clone(), p)).collect();
        consumer.offset_bounds(&all).unwrap().into_iter().map(|bounds| bounds.end).sum()
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// A join's topics and its state directory; the program can be started on it again and again.
struct Job<'a> {
    kafka: &'a Kafka,
    table: Arc<str>,
    stream: Arc<str>,
    output: Arc<str>,
    dead_letters: Arc<str>,
    state: tempfile::TempDir,
}

impl<'a> Job<'a> {
    fn new(kafka: &'a Kafka) -> Self {
        let [table, stream, output] = ["table", "stream", "output"].map(|name| kafka.topic(name));
        let dead_letters = kafka.topic_of("dead-letters", 1, &[]);
        Self { kafka, table, stream, output, dead_letters, state: tempfile::tempdir().unwrap() }
    }

    fn arguments(&self, command: &str, settings: &[String]) -> Vec<String> {
        let set = [
            format!("streams.application.id={}", self.kafka.run),
            format!("streams.bootstrap.servers={}", self.kafka.address),
            format!("streams.state.dir={}", self.state.path().display()),
            format!("join.table.topic={}", self.table),
            format!("join.stream.topic={}", self.stream),
            format!("join.output.topic={}", self.output),
            format!("errors.dead.letter.topic={}", self.dead_letters),
            "http.listen=127.0.0.1:0".to_string(),
        ];
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/config/search-join.toml");
        let mut arguments = vec![command.to_string(), "--config".into(), config.into()];
        for setting in set.iter().chain(settings) {
            arguments.extend(["--set".into(), setting.clone()]);
        }
        arguments
    }

    fn run(&self, settings: &[String]) -> Program {
        Program::start(&self.arguments("run", settings))
    }

    /// The exit code and what was printed of a command that ends by itself.
    fn ends(&self, command: &str, settings: &[String]) -> (i32, String) {
        let output = program().args(self.arguments(command, settings)).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.code().unwrap_or(-1), text)
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watersmeet"));
    command.env("WATERSMEET_LOG", "info").stdin(Stdio::null());
    command
}

/// The program while it runs; killed with the test.
struct Program {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Program {
    fn start(arguments: &[String]) -> Self {
        let mut child = program().args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, written) = (child.stderr.take().unwrap(), log.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log }
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Where its probes are.
    fn address(&self) -> String {
        let mut address = None;
        until("the program says where its page is", || {
            let log = self.log();
            assert!(!log.contains("watersmeet: "), "the program gave up: {log}");
            let at = log.split_once("http://").map(|(_, rest)| rest.to_string());
            address = at.and_then(|rest| rest.split_once('/').map(|(address, _)| address.to_string()));
            address.is_some()
        });
        address.unwrap()
    }

    /// The status code and the body of a path.
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (code, answer)
    }

    fn until_ready(&self) {
        until("the program is ready", || self.get("/readyz").0 == 200);
    }

    fn signal(&self, signal: i32) {
        // SAFETY: sends a signal to a child of this test's own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Waits for the end; gives the exit code.
    fn end(&mut self) -> i32 {
        let mut code = None;
        until("the program ends", || {
            code = self.child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1));
            code.is_some()
        });
        code.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(path: &str) -> Vec<serde_json::Value> {
    let path = format!("{}/examples/data/flights/{path}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn load(kafka: &Kafka, topic: &Arc<str>, rows: &[serde_json::Value]) {
    let record = |row: &serde_json::Value| {
        let key: &'static str = Box::leak(row["key"].as_str().unwrap().to_string().into_boxed_str());
        (key, Some(row["value"].to_string()), row["timestamp"].as_i64().unwrap())
    };
    kafka.send(topic, rows.iter().map(record));
}

#[test]
fn every_flight_comes_out_once_in_order_with_its_airport() {
    let Some(kafka) = Kafka::new("flights") else { return };
    let job = Job::new(&kafka);
    let (airports, flights) = (lines("airports.jsonl"), lines("flights.jsonl"));
    load(&kafka, &job.table, &airports);
    load(&kafka, &job.stream, &flights);
    let mut program = job.run(&[]);
    program.until_ready();
    until("all flights are out", || kafka.count(&job.output, PARTITIONS) >= flights.len() as i64);
    for path in ["/livez", "/startupz", "/health"] {
        assert_eq!(program.get(path).0, 200, "{path}");
    }
    assert!(program.get("/health").1.contains("RUNNING"));
    program.signal(libc::SIGTERM);
    assert_eq!(program.end(), 0, "{}", program.log());

    let states: BTreeMap<&str, &serde_json::Value> =
        airports.iter().map(|row| (row["key"].as_str().unwrap(), &row["value"])).collect();
    let mut expected: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for flight in &flights {
        let key = flight["key"].as_str().unwrap();
        let mut merged = states[key].as_object().unwrap().clone();
        merged.extend(flight["value"].as_object().unwrap().clone());
        expected.entry(key.into()).or_default().push(merged.into());
    }
    let mut seen: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    for (partition, key, value) in kafka.read(&job.output, PARTITIONS) {
        assert_eq!(partition, partition_for_key(key.as_bytes(), PARTITIONS));
        seen.entry(key).or_default().push(serde_json::from_str(&value).unwrap());
    }
    assert_eq!(seen, expected);
}

#[test]
fn a_kill_in_the_middle_loses_nothing_and_reloads_nothing() {
    let Some(kafka) = Kafka::new("kill") else { return };
    let job = Job::new(&kafka);
    let keys: Vec<String> = (0..5_000).map(|n| format!("key-{n}")).collect();
    let count = 1_500_000;
    kafka.send(&job.table, keys.iter().map(|key| (key.as_str(), Some(format!(r#"{{"name":"{key}"}}"#)), 1)));
    let event = |n: usize| (keys[n * 7 % keys.len()].as_str(), Some(format!(r#"{{"n":{n}}}"#)), n as i64);
    kafka.send(&job.stream, (0..count).map(event));
    let settings = ["streams.commit.interval.ms=100".to_string()];
    let mut program = job.run(&settings);
    until("a part is out", || kafka.count(&job.output, PARTITIONS) > 50_000);
    program.signal(libc::SIGKILL);
    program.end();
    assert!(kafka.count(&job.output, PARTITIONS) < count as i64, "it was killed too late to show anything");

    let mut program = job.run(&settings);
    program.until_ready();
    let health = |program: &Program| program.get("/health").1;
    until("nothing is left to do", || {
        kafka.count(&job.output, PARTITIONS) >= count as i64 && health(&program).contains("\"lag\": 0")
    });
    program.signal(libc::SIGINT);
    assert_eq!(program.end(), 0, "{}", program.log());
    assert!(!program.log().contains("from 0 to"), "the table was reloaded: {}", program.log());
    let number = |value: String| serde_json::from_str::<serde_json::Value>(&value).unwrap()["n"].as_u64().unwrap();
    let seen: BTreeSet<u64> =
        kafka.read(&job.output, PARTITIONS).into_iter().map(|(_, _, value)| number(value)).collect();
    assert_eq!(seen.len(), count);
}

#[test]
fn a_malformed_record_meets_each_policy() {
    let Some(kafka) = Kafka::new("policies") else { return };
    for (policy, out, dead) in [("continue", 2, 0), ("dead-letter", 2, 1), ("fail", 1, 1)] {
        let kafka = Kafka {
            run: format!("{}-{policy}", kafka.run),
            address: kafka.address.clone(),
            broker: kafka.broker.clone(),
        };
        let job = Job::new(&kafka);
        kafka.send(&job.table, [("k", Some(r#"{"a":1}"#.to_string()), 1)].into_iter());
        let values = [r#"{"b":1}"#, "this is not JSON", r#"{"b":2}"#];
        kafka.send(&job.stream, values.into_iter().map(|value| ("k", Some(value.to_string()), 2)));
        let mut program = job.run(&[format!("errors.deserialization={policy}")]);
        if policy == "fail" {
            assert_eq!(program.end(), 1);
            let log = program.log();
            assert!(log.contains(&*job.stream) && log.contains("offset 1"), "{log}");
        } else {
            until("the good records are out", || kafka.count(&job.output, PARTITIONS) == out);
            until("the bad one is counted", || program.get("/metrics").1.contains("dropped"));
            program.signal(libc::SIGTERM);
            assert_eq!(program.end(), 0, "{}", program.log());
        }
        assert_eq!((kafka.count(&job.output, PARTITIONS), kafka.count(&job.dead_letters, 1)), (out, dead), "{policy}");
        if policy == "dead-letter" {
            assert_eq!(kafka.read(&job.dead_letters, 1)[0].2, "this is not JSON");
        }
    }
}

#[test]
fn a_result_that_is_too_large_meets_each_policy() {
    let Some(kafka) = Kafka::new("oversized") else { return };
    for (policy, out, dead) in [("continue", 2, 0), ("dead-letter", 2, 1)] {
        let kafka = Kafka {
            run: format!("{}-{policy}", kafka.run),
            address: kafka.address.clone(),
            broker: kafka.broker.clone(),
        };
        let mut job = Job::new(&kafka);
        job.output = kafka.topic_of("small", PARTITIONS, &[("max.message.bytes", "20000")]);
        let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(30_000));
        kafka.send(&job.table, [("k", Some(r#"{"a":1}"#.to_string()), 1)].into_iter());
        let values = [r#"{"b":1}"#.to_string(), large, r#"{"b":2}"#.to_string()];
        kafka.send(&job.stream, values.into_iter().map(|value| ("k", Some(value), 2)));
        let mut program = job.run(&[format!("errors.production={policy}")]);
        program.until_ready();
        until("the small ones are out", || {
            kafka.count(&job.output, PARTITIONS) >= out && kafka.count(&job.dead_letters, 1) >= dead
        });
        program.signal(libc::SIGTERM);
        assert_eq!(program.end(), 0, "{}", program.log());
        let values: BTreeSet<String> = kafka.read(&job.output, PARTITIONS).into_iter().map(|(_, _, v)| v).collect();
        assert_eq!(values.len() as i64, out, "{policy}");
    }
}

#[test]
fn topics_that_are_missing_or_do_not_fit_are_named() {
    let Some(kafka) = Kafka::new("topics") else { return };
    let job = Job::new(&kafka);
    for command in ["run", "check"] {
        let (code, text) = job.ends(command, &["join.table.topic=no-such-topic".to_string()]);
        assert_eq!(code, 3, "{command}: {text}");
        assert!(text.contains("no-such-topic") && text.contains("create it"), "{command}: {text}");
    }
    let odd = kafka.topic_of("odd", PARTITIONS + 1, &[]);
    for command in ["run", "check"] {
        let (code, text) = job.ends(command, &[format!("join.table.topic={odd}")]);
        assert_eq!(code, 3, "{command}: {text}");
        let counts = if command == "run" {
            [format!("{odd}=5"), format!("{}=4", job.stream)]
        } else {
            [format!("{odd} has 5"), format!("{} has 4", job.stream)]
        };
        assert!(counts.iter().all(|count| text.contains(count)), "{command}: {text}");
    }
    let (code, text) = job.ends("check", &[]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_broker_that_is_not_there_is_waited_for_and_the_probes_say_so() {
    let Some(kafka) = Kafka::new("unreachable") else { return };
    let job = Job::new(&kafka);
    // A port that was free a moment ago, and that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut program = job.run(&[format!("streams.bootstrap.servers=127.0.0.1:{port}")]);
    assert_eq!(program.get("/readyz").0, 503);
    assert_eq!(program.get("/startupz").0, 503);
    until("health names the broker", || program.get("/health").1.contains("bootstrap.servers"));
    program.signal(libc::SIGINT);
    assert_eq!(program.end(), 0, "{}", program.log());
    let (code, text) = job.ends("check", &[format!("streams.bootstrap.servers=127.0.0.1:{port}")]);
    assert_eq!(code, 3, "{text}");
}

#[test]
fn a_state_directory_that_cannot_be_used_is_explained() {
    let Some(kafka) = Kafka::new("state-dir") else { return };
    let job = Job::new(&kafka);
    let first = job.run(&[]);
    first.until_ready();
    let (code, text) = job.ends("run", &[]);
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("lock") && text.contains("state.dir"), "{text}");
    // A file in place of the folder: nobody can write into it, not even root.
    let file = job.state.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (code, text) = job.ends("run", &[format!("streams.state.dir={}", file.display())]);
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("state.dir"), "{text}");
}
