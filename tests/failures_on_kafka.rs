//! The main job on a real Kafka when something goes wrong around it: signals, panics, a broker that comes and goes, a disk
//! that is full. `./dev test` starts that Kafka; otherwise `WATERSMEET_KAFKA` names one, and without it there is nothing to
//! test here.

mod on_kafka;

use on_kafka::program::{App, Program, get};
use on_kafka::trouble;
use on_kafka::{Kafka, Message, OwnKafka, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use watersmeet::config::{Config, Uncaught};
use watersmeet::prelude::*;
use watersmeet::streams::State;

/// `count` records of `keys` keys in turn; each says its number.
fn numbered(range: std::ops::Range<usize>, keys: usize) -> impl Iterator<Item = Message> {
    range.map(move |n| Message::new(&format!("k{}", n % keys), format!("{{\"n\":{n}}}"), 2_000))
}

/// A row for each of those keys.
fn rows(keys: usize) -> impl Iterator<Item = Message> {
    (0..keys).map(|k| Message::new(&format!("k{k}"), format!("{{\"row\":{k}}}"), 1_000))
}

/// The numbers that came out, each the first time that it did, by key.
fn numbers(output: &[Message]) -> BTreeMap<String, Vec<u64>> {
    let mut numbers = BTreeMap::<String, Vec<u64>>::new();
    for message in output {
        let seen = numbers.entry(message.key().to_owned()).or_default();
        let (value, n) = (message.json(), message.json()["n"].as_u64().expect("a number"));
        assert_eq!(format!("k{}", value["row"]), message.key(), "joined with its own row");
        if !seen.contains(&n) {
            seen.push(n);
        }
    }
    numbers
}

fn in_order(numbers: &BTreeMap<String, Vec<u64>>) -> bool {
    numbers.values().all(|numbers| numbers.is_sorted())
}

/// Waits until the program has processed all that the stream's topic has.
fn until_processed(program: &mut Program, app: &App) {
    let end = app.kafka.count(&app.stream);
    program.until_health("everything is processed", |health| position(health, &app.stream) == end);
}

/// How many records of a topic have been processed.
fn position(health: &Value, topic: &str) -> i64 {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let tasks = list(&health["threads"]).into_iter().flat_map(|thread| list(&thread["tasks"]));
    let inputs = tasks.flat_map(|task| list(&task["partitions"])).filter(|input| input["topic"] == topic);
    inputs.filter_map(|input| input["position"].as_i64()).sum()
}

#[test]
fn a_table_that_is_ready_first_holds_the_stream() {
    let Some(kafka) = Kafka::given() else { return };
    let app = App::new(&kafka, "ready", 2);
    // By their timestamps the stream's records come first.
    kafka.send(&app.stream, numbered(0..500, 50));
    kafka.send(&app.table, rows(50).map(|row| Message { timestamp_ms: 5_000, ..row }));
    let (ready, other) = ([("join.table.ready", "true")], format!("{}-2", app.id));
    let mut program = app.run(&ready);
    until_processed(&mut program, &app);
    assert_eq!(program.health()["totals"]["join_misses"], 0);
    assert_eq!(program.terminate(), 0);
    assert_eq!(kafka.count(&app.output), 500);

    let by_time = [("join.table.ready", "false"), ("streams.application.id", &other)];
    let mut program = app.run(&by_time);
    until_processed(&mut program, &app);
    assert_eq!(program.health()["totals"]["join_misses"], 500);
    assert_eq!(program.terminate(), 0);
    assert_eq!(kafka.count(&app.output), 500);
}

#[test]
fn signals_drain_and_the_exit_code_says_how_it_ended() {
    let Some(kafka) = Kafka::given() else { return };
    let app = App::new(&kafka, "signals", 2);
    kafka.send(&app.table, rows(10));
    let mut sent = 0;
    for signal in [libc::SIGTERM, libc::SIGINT] {
        kafka.send(&app.stream, numbered(sent..sent + 1_000, 10));
        sent += 1_000;
        // Commits come by the clock only after a minute: what is committed at the end is the drain's.
        let mut program = app.run(&[("streams.commit.interval.ms", "60000")]);
        until_processed(&mut program, &app);
        program.signal(signal);
        assert_eq!(program.wait(), 0, "{}", program.log());
        assert_eq!(kafka.count(&app.output), sent as i64, "nothing missing, nothing twice");
    }
    let mut program = app.run(&[("streams.shutdown.timeout.ms", "0")]);
    program.until_running();
    assert_eq!(program.terminate(), 4);
    assert!(program.log().contains("processed again at the next start"), "{}", program.log());
}

/// The join in code; its closure panics at `n` 500 as long as `panics` says so.
fn panicking(app: &App, uncaught: Uncaught, panics: &Arc<AtomicBool>) -> Streams {
    let (builder, panics) = (StreamsBuilder::new(), panics.clone());
    let table =
        builder.table(&app.table, Consumed::<String, Value>::json().ready_first(), Materialized::rocksdb("rows"));
    let join = move |mut stream: Value, row: Value| {
        assert!(stream["n"] != 500 || !panics.load(Ordering::Relaxed), "500 is not to my taste");
        stream["row"] = row["row"].clone();
        stream
    };
    builder.stream(&app.stream, Consumed::<String, Value>::json()).join(&table, join).to(&app.output, Produced::json());
    let mut config = Config::new(&app.id);
    config.bootstrap_servers.clone_from(&app.kafka.servers);
    config.state_dir = app.state_dir();
    config.uncaught = uncaught;
    Streams::start(builder.build().expect("builds"), config).expect("starts")
}

#[test]
fn a_panic_in_user_code_ends_the_thread_and_no_more_than_it_should() {
    let Some(kafka) = Kafka::given() else { return };
    for uncaught in [Uncaught::ReplaceThread, Uncaught::ShutdownClient] {
        let app = App::new(&kafka, "panic", 2);
        kafka.send(&app.table, rows(10));
        kafka.send(&app.stream, numbered(0..1_000, 10));
        let panics = Arc::new(AtomicBool::new(true));
        let streams = panicking(&app, uncaught, &panics);
        let address = streams.serve_http("127.0.0.1:0").expect("a free port").to_string();
        until("a thread has ended", || (streams.status().totals.failed_threads > 0).then_some(()));
        if uncaught == Uncaught::ShutdownClient {
            assert!(streams.wait_for(&[State::Error], on_kafka::PATIENCE));
            let (code, why) = get(&address, "/livez");
            assert_eq!(code, 503);
            assert!(why.contains("500 is not to my taste") && why.contains("offset"), "{why}");
            assert_eq!((get(&address, "/readyz").0, get(&address, "/health").0), (503, 503));
            continue;
        }
        // Dead and replaced in turn, until the fault has passed; then nothing is missing.
        until("it is not live while the thread is dead", || (get(&address, "/livez").0 == 503).then_some(()));
        until("it is replaced, and dies again", || (streams.status().totals.failed_threads > 1).then_some(()));
        panics.store(false, Ordering::Relaxed);
        let health = || serde_json::from_str(&get(&address, "/health").1).expect("JSON");
        until("everything is processed", || (position(&health(), &app.stream) == 1_000).then_some(()));
        until("it is live again", || (get(&address, "/livez").0 == 200).then_some(()));
        assert!(streams.close(Duration::from_secs(30)));
        let numbers = numbers(&kafka.read(&app.output));
        assert_eq!(numbers.values().map(Vec::len).sum::<usize>(), 1_000);
        assert!(in_order(&numbers));
    }
}

#[test]
fn a_broker_that_is_not_there_yet_or_goes_away_is_waited_for_and_told_of() {
    if Kafka::given().is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let own = OwnKafka::start(&folder.path().join("kafka"));
    let app = App::new(&own.kafka, "outage", 2);
    own.kafka.send(&app.table, rows(100));
    own.kafka.send(&app.stream, numbered(0..1_000, 100));
    own.stop();

    let check = app.command("check", &[]).output().expect("check runs");
    assert_eq!(check.status.code(), Some(3));
    let text = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(text.contains("problem: ") && text.contains("Next: "), "{text}");

    let mut program = app.run(&[("streams.stall.limit.ms", "15000")]);
    let in_trouble = |health: &Value| health["broker_trouble"].is_object();
    let health = program.until_health("the broker's absence is seen", in_trouble);
    assert_eq!((&health["status"], &health["started"]), (&json!("UP"), &json!(false)));
    assert_eq!(["/livez", "/readyz", "/startupz", "/health"].map(|path| program.code(path)), [200, 503, 503, 200]);

    own.start_again();
    program.until_running();
    let mut output = own.kafka.counter(&app.output);
    output.reach(1_000);
    program.until_health("the trouble is over", |health| health["broker_trouble"].is_null());
    assert_eq!(["/livez", "/readyz", "/startupz", "/health"].map(|path| program.code(path)), [200; 4]);

    own.stop();
    let health = program.until_health("the outage is seen", in_trouble);
    assert_eq!(health["status"], "UP");
    assert_eq!(["/livez", "/startupz"].map(|path| program.code(path)), [200; 2]);
    own.start_again();
    own.kafka.send(&app.stream, numbered(1_000..2_000, 100));
    output.reach(2_000);
    program.until_health("the trouble is over", |health| health["broker_trouble"].is_null());
    assert_eq!(program.health()["totals"]["failed_threads"], 0);
    let numbers = numbers(&own.kafka.read(&app.output));
    assert_eq!(numbers.values().map(Vec::len).sum::<usize>(), 2_000);
    assert!(in_order(&numbers));

    own.stop();
    program.until_health("the outage is seen", in_trouble);
    // Everything is committed, and nobody there to say good-bye to.
    assert_eq!(program.terminate(), 0, "{}", program.log());
}

#[test]
fn a_state_directory_that_is_not_writable_or_full_is_explained_and_a_start_with_room_makes_it_good() {
    let Some(kafka) = Kafka::given() else { return };
    let (app, keys) = (App::new(&kafka, "disk", 1), 20_000);
    let row = |k: usize| json!({"row": k, "pad": "x".repeat(500)}).to_string();
    kafka.send(&app.table, (0..keys).map(|k| Message::new(&format!("k{k}"), row(k), 1_000)));
    kafka.send(&app.stream, numbered(0..keys, keys));
    std::fs::create_dir(app.state_dir()).expect("the folder is ours");

    let mut command = app.command("run", &[]);
    trouble::not_writable(&mut command, &app.state_dir());
    let mut program = Program::spawn(command);
    assert_eq!(program.wait(), 1, "{}", program.log());
    assert!(
        program.log().contains("state.dir") && program.log().contains("Next: make it writable"),
        "{}",
        program.log()
    );
    trouble::writable_again(&app.state_dir());

    // Who the member is lies on that disk, and is gone with it: the group waits for it this long.
    let mut command = app.command("run", &[("consumer.session.timeout.ms", "6000")]);
    trouble::full_disk(&mut command, &app.state_dir());
    let mut program = Program::spawn(command);
    assert_eq!(program.wait(), 1, "{}", program.log());
    let log = program.log();
    assert!(log.contains("Next: ") && log.contains("free space"), "{log}");

    let mut program = app.run(&[]);
    until_processed(&mut program, &app);
    assert_eq!(program.terminate(), 0);
    let numbers = numbers(&kafka.read(&app.output));
    assert_eq!(numbers.values().map(Vec::len).sum::<usize>(), keys);
}
