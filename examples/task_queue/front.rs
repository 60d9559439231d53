//! The front end: tasks are put on the topic, and what has become of them is read from the table `status`, in whichever
//! instance it is.

use crate::common::{self, Answer, Asked, RowId, ask_again, failed, forward, refuse, reply, waiting};
use crate::model::{Event, Task, What};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use warp::Filter;
use warp::http::StatusCode;
use watersmeet::clock::{Clock, SystemClock};
use watersmeet::prelude::*;
use watersmeet::producer::TopicProducer;
use watersmeet::queries::{Event as Change, KeyValueReads, Owner};
use watersmeet::serdes::{DefaultSerde, formats};

pub const STATUS: &str = "status";
const BODY_MAX: u64 = 256 << 10;
const WAIT_MAX: Duration = Duration::from_secs(60);
const ATTEMPTS_MAX: u32 = 20;
/// How long the table may need until it has a task that has just been queued.
const OWN_WRITE_MAX: Duration = Duration::from_secs(5);
const PAGE: &str = include_str!("page.html");

/// Adds the table of what has become of each task.
pub fn add(builder: &StreamsBuilder, topic: &str) {
    builder.stream(topic, Consumed::<String, Event>::json()).group_by_key(Grouped::default()).aggregate_with(
        || None,
        |_, event, task| Task::after(task, event),
        Materialized::rocksdb(STATUS).json(),
    );
}

/// What the endpoints need.
#[derive(Clone)]
pub struct Front {
    streams: Arc<Streams>,
    topic: Arc<str>,
    tasks: TopicProducer<String, Event>,
    clock: Arc<dyn Clock>,
}

/// Random enough that no two tasks have the same.
fn new_key() -> String {
    let part = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", part(), part())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    work: Value,
    #[serde(default = "three")]
    max_attempts: u32,
}

fn three() -> u32 {
    3
}

impl Front {
    pub fn new(streams: Arc<Streams>, topic: &str) -> Result<Self> {
        let tasks = streams.producer(topic, Produced::json())?;
        Ok(Self { streams, topic: topic.into(), tasks, clock: SystemClock::shared() })
    }

    pub fn routes(self, workers: Option<Arc<Streams>>) -> impl Filter<Extract = (Answer,), Error = Infallible> + Clone {
        let library = common::library(self.streams.clone(), workers.map(|workers| ("workers", workers)));
        let with = warp::any().map(move || self.clone());
        let enqueue = warp::path!("enqueue")
            .and(warp::post())
            .and(warp::body::content_length_limit(BODY_MAX))
            .and(warp::body::bytes())
            .and(with.clone())
            .then(|body: warp::hyper::body::Bytes, front: Front| async move { front.enqueue(&body).await });
        let task = warp::path!("task" / String)
            .and(warp::get())
            .and(warp::query())
            .and(with)
            .then(|id: String, asked: Asked, front: Front| async move { front.task(&id, asked).await });
        enqueue.or(task).unify().or(common::page(PAGE)).unify().or(library).unify().recover(common::rejected).unify()
    }

    async fn enqueue(&self, body: &[u8]) -> Answer {
        let wanted: Wanted = match serde_json::from_slice(body) {
            Ok(wanted) => wanted,
            Err(error) => {
                let what = format!("the body is not {{\"work\": …, \"max_attempts\": 3}}: {error}");
                return refuse(StatusCode::BAD_REQUEST, what);
            }
        };
        if !(1..=ATTEMPTS_MAX).contains(&wanted.max_attempts) {
            return refuse(StatusCode::BAD_REQUEST, format!("max_attempts is not between 1 and {ATTEMPTS_MAX}"));
        }
        let (key, at_ms) = (new_key(), self.clock.now_ms());
        let what = What::Queued { work: wanted.work, max_attempts: wanted.max_attempts };
        match self.tasks.send(&key, &Event { at_ms, what }).await {
            Ok(written) => {
                let id = RowId { key, written }.to_string();
                let mut answer = reply(StatusCode::ACCEPTED, &json!({ "id": id, "status": "queued" }));
                if let Ok(location) = format!("/task/{id}").parse() {
                    answer.headers_mut().insert("location", location);
                }
                answer
            }
            Err(error) => failed(&error),
        }
    }

    async fn task(&self, text: &str, asked: Asked) -> Answer {
        let Some(id) = RowId::parse(&self.topic, text) else {
            return refuse(StatusCode::NOT_FOUND, "this is no id of a task");
        };
        let wait = match asked.wait(WAIT_MAX) {
            Ok(wait) => wait,
            Err(refused) => return *refused,
        };
        self.answer(text, id, wait, asked.forwarded).await.unwrap_or_else(|error| failed(&error))
    }

    async fn answer(&self, text: &str, id: RowId, wait: Duration, forwarded: bool) -> Result<Answer> {
        let table = self.streams.store(STATUS).after(&id.written).timeout(OWN_WRITE_MAX);
        let rows: KeyValueReads<String, Task> = table.key_value_with(String::serde(), formats::json())?;
        let partition = id.partition();
        if rows.partition_of(&id.key)?.is_some_and(|of_key| of_key != partition) {
            return Ok(refuse(StatusCode::NOT_FOUND, "this is no id of a task"));
        }
        let asking = rows.clone();
        match waiting(move || asking.owner_of(partition)).await? {
            Owner::Here => self.local(text, id, rows, wait).await,
            Owner::At(server) if !forwarded => {
                let path = format!("/task/{text}?wait={}ms&forwarded=true", wait.as_millis());
                Ok(forward(server, path, OWN_WRITE_MAX + wait).await)
            }
            Owner::At(_) | Owner::Unknown => Ok(ask_again("the partition of this task is moving")),
        }
    }

    /// What is known here of a task; waits for its end, as long as `wait` says.
    async fn local(&self, text: &str, id: RowId, rows: KeyValueReads<String, Task>, wait: Duration) -> Result<Answer> {
        let deadline = Instant::now() + wait;
        // Watch first: what changes after the look is told.
        let mut changes = rows.watch_key(&id.key)?;
        let Some(mut task) = waiting(move || rows.get(&id.key)).await? else {
            return Ok(refuse(StatusCode::NOT_FOUND, "there is no such task"));
        };
        while !task.has_ended() {
            match tokio::time::timeout_at(deadline, changes.next()).await {
                Ok(Ok(Change::Row { value: Some(changed), .. })) => task = changed,
                Ok(Ok(Change::Here(_) | Change::Row { .. })) => {}
                // It moves, or time is over: what was known last.
                Ok(_) | Err(_) => break,
            }
        }
        let mut body = serde_json::to_value(&task).unwrap_or_default();
        body["id"] = json!(text);
        Ok(reply(StatusCode::OK, &body))
    }
}
