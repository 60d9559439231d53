//! The example as a process of its own, on a real Kafka and a real engine: it is killed while it fills its index, and while a new
//! index takes the old one's place, and records come all the time.

use crate::engines::run;
use crate::killed::{KEPT, holds_the_last_values, message};
use crate::on_kafka::program::Program;
use crate::on_kafka::{Kafka, PATIENCE, put, unique};
use crate::server::{Server, request, until};
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use watersmeet::search::{IndexSchema, OpenSearch, SearchEngine};

const PARTITIONS: i32 = 3;
const KEYS: usize = 2_000;
/// How many records are sent at once.
const CHUNK: usize = 100;

/// The example that cargo has built beside this program.
fn built() -> Option<PathBuf> {
    let this = std::env::current_exe().expect("a path");
    let example = this.parent()?.parent()?.join("examples/search_pipeline");
    if !example.exists() {
        eprintln!("the example is not built: cargo build --release --examples");
    }
    example.exists().then_some(example)
}

struct App<'a> {
    example: PathBuf,
    folder: &'a Path,
    address: String,
    index: String,
    topic: String,
}

impl<'a> App<'a> {
    fn new(example: PathBuf, folder: &'a Path, kafka: &Kafka, server: &Server) -> Self {
        let (index, topic) = (unique("docs").to_lowercase(), unique("docs"));
        kafka.create(&topic, PARTITIONS, &KEPT);
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it has one").port();
        let app = Self { example, folder, address: format!("127.0.0.1:{port}"), index, topic };
        let pipeline = format!(
            "[engine]\nurl = \"{}\"\n[[index]]\nname = \"{}\"\ntopic = \"{}\"\ntext = [\"name\"]\nlatest = \"created_at\"\n\
             popularity = \"popularity\"\n",
            server.url, app.index, app.topic
        );
        let kafka = format!(
            "[streams]\napplication.id = \"{}\"\nbootstrap.servers = \"{}\"\nstate.dir = \"{}\"\ncommit.interval.ms = 50\n\
             processing.guarantee = \"exactly_once_v2\"\n[http]\nlisten = \"{}\"\n",
            app.index,
            kafka.servers,
            folder.join("state").display(),
            app.address
        );
        std::fs::write(folder.join("pipeline.toml"), pipeline).expect("the folder is writable");
        std::fs::write(folder.join("kafka.toml"), kafka).expect("the folder is writable");
        app
    }

    /// Starts it, and waits until it runs.
    fn run(&self) -> Program {
        let mut command = Command::new(&self.example);
        command.arg("--config").arg(self.folder.join("kafka.toml"));
        command.env("SEARCH_PIPELINE", self.folder.join("pipeline.toml"));
        let program = Program::spawn(command);
        let running = || (self.get("/health")?["state"] == "RUNNING").then_some(());
        until(&format!("the example runs: {}", program.log()), running);
        program
    }

    /// What it answers, if it does.
    fn get(&self, path: &str) -> Option<Value> {
        request(&self.address, "GET", path, "").ok()
    }

    fn reindex(&self) {
        let state = request(&self.address, "POST", &format!("/reindex/{}", self.index), "").expect("it runs");
        assert_eq!(state["state"], "filling", "{state}");
    }

    /// Waits until the new index is so far, and says which it is.
    fn reindexed(&self, is_so: impl Fn(&Value) -> bool) -> Value {
        until("the new index is so far", || {
            let state = self.get(&format!("/reindex/{}", self.index))?;
            assert!(state["error"].is_null(), "{state}");
            is_so(&state).then_some(state)
        })
    }

    /// How many records it has got through, with nothing under way; -1 while there is.
    fn done(&self) -> i64 {
        let Some(health) = self.get("/health") else { return -1 };
        let threads = health["threads"].as_array().into_iter().flatten();
        let tasks: Vec<&Value> = threads.flat_map(|thread| thread["tasks"].as_array().into_iter().flatten()).collect();
        let busy = tasks.iter().any(|task| task["in_flight"] != 0 || task["waiting"] != 0);
        let partitions = tasks.iter().flat_map(|task| task["partitions"].as_array().into_iter().flatten());
        let positions = partitions.map(|partition| partition["position"].as_i64().unwrap_or(0)).sum();
        if busy { -1 } else { positions }
    }

    fn until_done(&self, count: usize) {
        until("everything is written", || (self.done() == count as i64).then_some(()));
    }
}

/// Ends the writing, also where the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Sends records until it is told to stop; returns how many.
fn write(kafka: &Kafka, topic: &str, stop: &AtomicBool) -> usize {
    let (topic, mut producer, mut count) = (Arc::from(topic), kafka.producer(), 0);
    while !stop.load(Ordering::SeqCst) {
        (count..count + CHUNK).for_each(|n| put(&mut *producer, &topic, &message(n, KEYS)));
        count += CHUNK;
        producer.flush(PATIENCE).expect("all is acknowledged");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    count
}

pub fn it_is_killed_while_records_come(kafka: &Kafka, server: &Server) {
    let Some(example) = built() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let app = App::new(example, folder.path(), kafka, server);
    let stop = AtomicBool::new(false);
    let done = |state: &Value| state["state"] == "done";
    let (mut program, count) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(kafka, &app.topic, &stop));
        let stop = Stop(&stop);
        let mut program = app.run();
        let produced = || app.get("/health")?["totals"]["produced"].as_u64().filter(|count| *count > 500);
        until("a part is written", produced);
        program.kill();
        program = app.run();
        // Before the switch nothing has happened to anybody.
        app.reindex();
        app.reindexed(|state| state["records_read"] != 0);
        program.kill();
        program = app.run();
        for _ in 0..2 {
            app.reindex();
            let state = app.reindexed(done);
            assert_ne!(state["old"], state["new"]);
        }
        drop(stop);
        (program, writer.join().expect("it writes"))
    });
    app.until_done(count);
    holds_the_last_values(kafka, &app.topic, server, &app.index);

    // It is killed at the switch: the alias stands for an index that lacks something (here, everything).
    assert_eq!(program.terminate(), 0);
    let (engine, half) = (OpenSearch::new(&server.url).expect("a URL"), format!("{}-77", app.index));
    let schema = IndexSchema::default().text("name").number("popularity").date("created_at");
    assert!(run(engine.create_index(&half, &schema)).expect("it answers"));
    run(engine.point_alias(&app.index, &half)).expect("it answers");
    let _program = app.run();
    app.reindexed(done);
    holds_the_last_values(kafka, &app.topic, server, &half);
}
