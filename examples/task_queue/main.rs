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
use warp::Filter;
use watersmeet::config::Policy;
use watersmeet::error::Kind;
use watersmeet::prelude::*;

const PARTITIONS: i32 = 6;

fn main() -> Result<()> {
    let place = Place::new("task-queue", "127.0.0.1:8080")?;
    // Everything that happens to tasks; and those that have failed for good, with records that are no events.
    let (tasks, dead_letters) = (place.topic("tasks"), place.topic("dead-letters"));
    place.create_topics(&[&tasks, &dead_letters], PARTITIONS)?;
    let (works, answers) = parts()?;

    let mut clients = Vec::new();
    if works {
        let builder = StreamsBuilder::new();
        worker::add(&builder, &tasks, &dead_letters, worker::Settings::default(), work_thread()?, work::work());
        let mut config = place.exactly_once();
        config.application_id += "-workers";
        // What is no event goes to the dead letters, and is counted.
        config.errors.deserialization = Policy::DeadLetter;
        config.errors.dead_letter_topic = Some(dead_letters);
        // Nobody asks the workers.
        config.application_server = None;
        clients.push(Arc::new(place.start(builder.build()?, config)?));
    }
    if answers {
        let builder = StreamsBuilder::new();
        front::add(&builder, &tasks);
        let mut config = place.config.clone();
        config.application_id += "-front";
        // The workers have seen to what is no event.
        config.errors.deserialization = Policy::Continue;
        // What a worker has not committed has not happened.
        config.consumer.push(("isolation.level".into(), "read_committed".into()));
        let streams = Arc::new(place.start(builder.build()?, config)?);
        place.serve(front::Front::new(streams.clone(), &tasks)?.routes(clients.first().cloned()), async {})?;
        println!("http://{}/  (POST /enqueue, GET /task/{{id}}?wait=5s, GET /health)", place.address());
        clients.push(streams);
    } else if let [workers] = &clients[..] {
        place.serve(common::library(workers.clone(), None).recover(common::rejected).unify(), async {})?;
        println!("http://{}/  (the workers' page, /health, /metrics)", place.address());
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

/// Whether workers run here, and the front end: both unless one is asked for.
fn parts() -> Result<(bool, bool)> {
    match std::env::var("TASK_QUEUE_PARTS").unwrap_or_default().as_str() {
        "" => Ok((true, true)),
        "workers" => Ok((true, false)),
        "front" => Ok((false, true)),
        other => Err(Error::new(Kind::Config, format!("{other:?} is no part"))
            .key("TASK_QUEUE_PARTS")
            .hint("front or workers")),
    }
}
