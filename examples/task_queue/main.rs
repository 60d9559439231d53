//! A task queue without Redis: `POST /enqueue`, `GET /task/{id}?wait=5s`. See README.md.
//!
//! Two applications, which may run in one process or apart: the front end keeps a table of what has become of each task, the
//! workers a queue. Both read the topic `tasks`, in which everything is written that happens to a task.

#[path = "../common/mod.rs"]
mod common;
mod front;
mod model;
mod work;
mod worker;

use common::Place;
use std::sync::Arc;
use watersmeet::config::Policy;
use watersmeet::error::Kind;
use watersmeet::prelude::*;

const PARTITIONS: i32 = 6;

fn main() -> Result<()> {
    let place = Place::new("task-queue", "127.0.0.1:8080")?;
    // Everything that happens to tasks; and those that have failed for good, with records that are no events.
    let (tasks, dead_letters) = (place.topic("tasks"), place.topic("dead-letters"));
    place.create_topics(&[&tasks, &dead_letters], PARTITIONS)?;
    // Both parts unless one is asked for: TASK_QUEUE_PARTS=front or TASK_QUEUE_PARTS=workers.
    let parts = std::env::var("TASK_QUEUE_PARTS").unwrap_or_default();

    let runtime = work_thread()?;
    let mut clients = Vec::new();
    if parts != "front" {
        let builder = StreamsBuilder::new();
        worker::add(&builder, &tasks, &dead_letters, worker::Settings::default(), runtime, work::work());
        let mut config = with_dead_letters(place.exactly_once(), &dead_letters);
        config.application_id += "-workers";
        // Nobody asks the workers.
        config.application_server = None;
        clients.push(Arc::new(place.start(builder.build()?, config)?));
    }
    if parts != "workers" {
        let builder = StreamsBuilder::new();
        front::add(&builder, &tasks);
        let mut config = with_dead_letters(place.config.clone(), &dead_letters);
        config.application_id += "-front";
        // What a worker has not committed has not happened.
        config.consumer.push(("isolation.level".into(), "read_committed".into()));
        let streams = Arc::new(place.start(builder.build()?, config)?);
        place.serve(front::Front::new(streams.clone(), &tasks)?.routes(clients.first().cloned()), async {})?;
        println!("http://{}/  (POST /enqueue, GET /task/{{id}}?wait=5s, GET /health)", place.address());
        clients.push(streams);
    }
    let code = common::run(&clients)?;
    drop(clients);
    drop(place);
    std::process::exit(code);
}

/// A thread on which all of the work is done: work that waits. What computes for long belongs into `spawn_blocking`.
fn work_thread() -> Result<tokio::runtime::Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::new(Kind::Internal, "the workers' runtime cannot start").source(e))?;
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    Ok(handle)
}

/// What is no event goes to the dead letters, and is counted.
fn with_dead_letters(mut config: Config, topic: &str) -> Config {
    config.errors.deserialization = Policy::DeadLetter;
    config.errors.dead_letter_topic = Some(topic.into());
    config
}
