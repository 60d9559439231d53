//! The examples that are services, as their users start them, on a real Kafka: killed in the middle, and asked all the time.
//! Needs `WATERSMEET_KAFKA`, and the examples built (`cargo build --release --examples`, as `./dev test` does).

use super::on_kafka::program::{Program, program};
use super::on_kafka::{Kafka, Message, unique, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// An example with a name, an address and a folder of its own.
pub struct Service {
    example: PathBuf,
    id: String,
    folder: PathBuf,
    address: String,
    servers: String,
    running: Option<Program>,
}

impl Service {
    /// `None` where there is no Kafka to test against.
    pub fn start(kafka: &Kafka, example: &str, id: &str, folder: &Path) -> Self {
        let here = std::env::current_exe().expect("this program");
        let built = here.parent().and_then(Path::parent).expect("a target directory").join("examples").join(example);
        assert!(built.exists(), "{} is not built: cargo build --release --examples", built.display());
        // Nobody else on this machine asks for a port by number at this moment.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let mut service = Self {
            example: built,
            id: id.into(),
            folder: folder.into(),
            address: free.to_string(),
            servers: kafka.servers.clone(),
            running: None,
        };
        service.start_again();
        service
    }

    pub fn start_again(&mut self) {
        let (name, folder) = (self.example.file_name().expect("a name").to_string_lossy(), &self.folder);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(&*name).join("kafka.toml");
        let mut command = Command::new(&self.example);
        command.arg("--config").arg(file);
        for (key, value) in [
            ("streams.application.id", self.id.as_str()),
            ("streams.bootstrap.servers", &self.servers),
            ("streams.state.dir", &folder.display().to_string()),
            ("http.listen", &self.address),
        ] {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        self.running = Some(Program::spawn(command));
    }

    pub fn kill(&mut self) {
        self.running.as_mut().expect("it runs").kill();
    }

    /// The code and the JSON of an answer; an error where nobody answers.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> std::io::Result<(u16, Value)> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let (address, body) = (&self.address, if body.is_null() { String::new() } else { body.to_string() });
        write!(stream, "{method} {path} HTTP/1.0\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let code = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
        code.zip(body).ok_or_else(|| std::io::Error::other(format!("no answer: {text}")))
    }

    /// Asks until the code is this one.
    pub fn until(&self, method: &str, path: &str, body: &Value, code: u16) -> Value {
        let mut last = String::new();
        let log = || self.running.as_ref().map(Program::log).unwrap_or_default();
        until(&format!("{method} {path}\n{}", log()), || {
            let answer = self.ask(method, path, body);
            last = format!("{answer:?}");
            answer.ok().filter(|(found, _)| *found == code).map(|(_, body)| body)
        })
    }
}

fn events_of(kafka: &Kafka, topic: &str, which: &str) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for record in kafka.read(topic) {
        if record.json()["event"] == which {
            *count.entry(record.key().to_owned()).or_default() += 1;
        }
    }
    count
}

#[test]
fn tasks_are_neither_lost_nor_completed_twice_when_workers_and_front_ends_are_killed() {
    const TASKS: usize = 120;
    let Some(kafka) = Kafka::given() else { return };
    let (id, folder) = (unique("tasks"), tempfile::tempdir().expect("a folder"));
    let mut services: Vec<Service> =
        (0..2).map(|n| Service::start(&kafka, "task_queue", &id, &folder.path().join(n.to_string()))).collect();
    let mut ids = Vec::new();
    for n in 0..TASKS {
        if n == TASKS / 3 || n == 2 * TASKS / 3 {
            let victim = &mut services[n * 3 / TASKS - 1];
            victim.kill();
            victim.start_again();
        }
        // Every third one fails at first, every tenth one for good.
        let fail = if n % 10 == 9 { 9 } else { u64::from(n % 3 == 0) };
        let body = json!({ "work": { "ms": 20 + n, "fail": fail, "n": n }, "max_attempts": 2 });
        let answer = services[n % 2].until("POST", "/enqueue", &body, 202);
        let id = answer["id"].as_str().expect("an id").to_owned();
        // At once, and from the other one: it is there, or moves; never unknown.
        if let Ok((code, task)) = services[(n + 1) % 2].ask("GET", &format!("/task/{id}"), &Value::Null) {
            assert!(code == 200 || code == 503, "{id}: {code} {task}");
        }
        ids.push((n, id));
    }
    services[0].kill();
    services[0].start_again();
    for (n, id) in &ids {
        let path = format!("/task/{id}?wait=5s");
        let task = until(&format!("task {n}, {id}, ends"), || {
            let (code, task) = services[n % 2].ask("GET", &path, &Value::Null).ok()?;
            assert_ne!(code, 404, "{id} is gone");
            Some(task).filter(|task| code == 200 && (task["status"] == "completed" || task["status"] == "failed"))
        });
        let wanted = if n % 10 == 9 { "failed" } else { "completed" };
        assert_eq!((&task["status"], &task["work"]["n"]), (&json!(wanted), &json!(n)), "{task}");
    }
    // What nobody was given is told at once, by whichever is asked.
    let known = &ids[0].1;
    let (key, place) = known.split_once('.').expect("a key and a place");
    let partition: i32 = place.split_once('.').and_then(|(partition, _)| partition.parse().ok()).expect("a partition");
    for service in &services {
        service.until("GET", &format!("/task/{known}"), &Value::Null, 200);
        for made_up in [(partition, 999_999), ((partition + 1) % 6, 0), (77, 0), (-1, 0)] {
            let (begun, id) = (Instant::now(), format!("{key}.{}.{}", made_up.0, made_up.1));
            let (code, answer) = service.ask("GET", &format!("/task/{id}?wait=9s"), &Value::Null).expect("an answer");
            assert_eq!(code, 404, "{id}: {answer}");
            assert!(begun.elapsed() < Duration::from_secs(3), "{id}: {:?}", begun.elapsed());
        }
    }
    let (tasks, dead) = (format!("{id}-tasks"), format!("{id}-dead-letters"));
    let completed = events_of(&kafka, &tasks, "completed");
    assert_eq!(completed.len(), TASKS - TASKS / 10);
    assert!(completed.values().all(|count| *count == 1), "{completed:?}");
    let letters = kafka.read(&dead);
    assert_eq!(letters.len(), TASKS / 10);
    assert!(letters[0].header("__streams.errors.message").contains("was told to fail"), "{:?}", letters[0]);
}

/// The command's exit code, output and words.
fn dlq_words(kafka: &Kafka, verb: &str, topic: &str, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(program());
    command.args(["dlq", verb, "--bootstrap-server", &kafka.servers, "--topic", topic]).args(arguments);
    let output = command.output().expect("the program starts");
    let [out, words] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
    (output.status.success(), out, words)
}

/// The command's output.
fn dlq(kafka: &Kafka, verb: &str, topic: &str, arguments: &[&str]) -> String {
    let (success, out, words) = dlq_words(kafka, verb, topic, arguments);
    assert!(success, "{verb}: {words}");
    out
}

/// The orders that a reader of `/events` is told of, until `enough` says so of one.
fn pushed(service: &Service, mut enough: impl FnMut(&Value) -> bool) -> Value {
    let mut stream = until("it answers", || TcpStream::connect(&service.address).ok());
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    write!(stream, "GET /events HTTP/1.0\r\nhost: it\r\n\r\n").expect("asks");
    let pushed = BufReader::new(stream).lines().find_map(|line| {
        let line = line.expect("a change is pushed");
        serde_json::from_str(line.strip_prefix("data:")?).ok().filter(&mut enough)
    });
    pushed.expect("it is pushed")
}

#[test]
fn read_models_are_served_and_pushed_and_what_is_no_record_changes_only_a_counter_and_the_dead_letters() {
    /// More than one answer about rows has.
    const MANY: usize = 1_050;
    let Some(kafka) = Kafka::given() else { return };
    let (id, folder) = (unique("orders"), tempfile::tempdir().expect("a folder"));
    let topic = |name: &str| format!("{id}-{name}");
    let mut one = Service::start(&kafka, "read_models", &id, &folder.path().join("one"));
    one.until("PUT", "/customers/c1", &json!({ "name": "Ada", "city": "London" }), 202);
    let command = |service: &Service, body: Value| service.until("POST", "/orders/o1/commands", &body, 202);
    command(&one, json!({ "command": "place", "customer": "c1" }));
    let line = json!({ "command": "add-line", "line": "1", "product": "chair", "quantity": 4, "price_cents": 4900 });
    command(&one, line);
    let shows = |service: &Service, what: &str, is_so: &dyn Fn(&Value) -> bool| {
        until(what, || {
            let (code, order) = service.ask("GET", "/orders/o1", &Value::Null).ok()?;
            Some(order).filter(|order| code == 200 && is_so(order))
        })
    };
    let order = shows(&one, "the order is complete", &|order| {
        order["customer"]["name"] == "Ada" && order["total_cents"] == 19_600
    });

    // What is no record, in each topic: no JSON, JSON that is something else, bytes that are no text, and one so large that its
    // dead letter is too large.
    let no_key = Message { key: Some(vec![0xff]), ..Message::new("", "{\"event\":\"shipped\"}", 5) };
    let faults = [
        ("customers", Message::new("o1", "no JSON", 5)),
        ("commands", Message::new("o1", "{\"command\":", 5)),
        ("events", Message::new("o1", "{\"event\":\"flown\"}", 5)),
        ("customers", Message::new("c1", [0xff, 0x1b], 6)),
        ("events", no_key),
        ("commands", Message::new("o1", vec![b'x'; 999_900], 5)),
    ];
    let count = faults.len();
    for (name, fault) in faults {
        kafka.send(&topic(name), [fault]);
    }
    let dead = topic("dead-letters");
    kafka.counter(&dead).reach(count as i64);
    until("the counter says so", || {
        let text = super::on_kafka::program::get(&one.address, "/metrics").1;
        let lines = text.lines().filter(|line| line.starts_with("watersmeet_records_dead_lettered_total"));
        let sum: f64 = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum();
        (sum == count as f64).then_some(())
    });
    assert_eq!(shows(&one, "the order", &|_| true), order, "nothing else has changed");

    // Pushed as it changes, also what another instance has.
    let mut two = Service::start(&kafka, "read_models", &id, &folder.path().join("two"));
    let shipped = std::thread::scope(|scope| {
        let shipped = scope.spawn(|| pushed(&two, |order| order["status"] == "shipped"));
        until("the second one has begun", || two.ask("GET", "/orders/o1", &Value::Null).ok());
        command(&one, json!({ "command": "ship" }));
        shipped.join().expect("it is pushed")
    });
    assert_eq!(shipped["customer"]["city"], "London");

    // Killed, and there again.
    one.kill();
    one.start_again();
    command(&one, json!({ "command": "cancel" }));
    let rejected = |order: &Value| order["last_rejection"].is_string() && order["status"] == "shipped";
    shows(&one, "the order after the kill", &rejected);
    shows(&two, "the same from the other one", &rejected);
    let totals = one.until("GET", "/customers/c1/totals", &Value::Null, 200);
    assert_eq!((&totals["shipped"], &totals["turnover_cents"]), (&json!(1), &json!(19_600)), "{totals}");
    // Who begins to listen is told of all orders.
    let place = |n: usize| Message::new(&format!("many {n}"), r#"{"command":"place","customer":"c1"}"#, 7);
    kafka.send(&topic("commands"), (0..MANY).map(place));
    until("all orders are there", || {
        let (_, orders) = one.ask("GET", &format!("/orders?limit={}", 2 * MANY), &Value::Null).ok()?;
        (orders["orders"].as_array()?.len() == MANY + 1).then_some(())
    });
    let mut told = BTreeSet::new();
    pushed(&two, |order| {
        told.insert(order["id"].to_string());
        told.len() == MANY + 1
    });
    assert_eq!(one.until("GET", "/orders/many%207", &Value::Null, 200)["id"], "many 7");
    two.kill();

    // What the dead letters say, and back with one of them to a topic that takes it.
    let list = dlq(&kafka, "list", &dead, &[]);
    assert_eq!(list.lines().count(), count, "{list}");
    for name in ["customers", "commands", "events"] {
        assert!(list.contains(&topic(name)), "{list}");
    }
    let found = dlq(&kafka, "list", &dead, &["--json", "--contains", "flown"]);
    let found: Value = serde_json::from_str(found.trim()).expect("one object");
    let at = found["at"].as_str().expect("a place");
    let binary = dlq(&kafka, "list", &dead, &["--json", "--contains", "0xff1b"]);
    assert!(binary.contains(r#""value":{"hex":"ff1b"}"#), "{binary}");
    let short = dlq(&kafka, "list", &dead, &["--json", "--from-topic", &topic("commands")]);
    let short = short.lines().find(|line| line.contains(r#""value":null"#)).expect("one without its value");
    let short: Value = serde_json::from_str(short).expect("an object");
    let (sent, _, words) = dlq_words(&kafka, "replay", &dead, &[short["at"].as_str().expect("a place")]);
    assert!(!sent && words.contains("value (999900 bytes)") && words.contains(&topic("commands")), "{words}");
    let shown = dlq(&kafka, "show", &dead, &[at]);
    assert!(shown.contains("flown") && shown.contains("__streams.errors.exception"), "{shown}");
    kafka.create(&topic("mended"), 1, &[]);
    dlq(&kafka, "replay", &dead, &["--to", &topic("mended"), at]);
    let mended = kafka.read(&topic("mended"));
    assert_eq!(mended.len(), 1);
    assert_eq!((mended[0].key(), mended[0].timestamp_ms), ("o1", 5));
    assert_eq!(mended[0].header("__watersmeet.replayed"), format!("{dead}-{at}"));
    assert!(mended[0].header("__streams.errors.topic").is_empty());
}
