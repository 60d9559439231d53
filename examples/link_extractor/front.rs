//! HTTP: `POST /texts` takes a text, `GET /links/{id}?wait=5s` has what was found in it.

use crate::app::LINKS;
use crate::client::Found;
use crate::common::{self, Answer, Asked, RowId, ask_again, failed, forward, refuse, reply, waiting};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use warp::Filter;
use warp::http::StatusCode;
use watersmeet::error::Kind;
use watersmeet::prelude::*;
use watersmeet::producer::TopicProducer;
use watersmeet::queries::{KeyValueReads, Owner};
use watersmeet::serdes::{DefaultSerde, formats};

const BODY_MAX: u64 = 256 << 10;
const WAIT_MAX: Duration = Duration::from_secs(60);
const PAGE: &str = include_str!("page.html");

#[derive(Clone)]
pub struct Front {
    streams: Arc<Streams>,
    topic: Arc<str>,
    texts: TopicProducer<String, String>,
    /// Makes keys, with the process's own part.
    next: Arc<AtomicU64>,
}

impl Front {
    pub fn new(streams: Arc<Streams>, topic: &str) -> Result<Self> {
        let texts = streams.producer(topic, Produced::default())?;
        Ok(Self { streams, topic: topic.into(), texts, next: Arc::default() })
    }

    pub fn routes(self) -> impl Filter<Extract = (Answer,), Error = Infallible> + Clone {
        let library = common::library(self.streams.clone(), None);
        let with = warp::any().map(move || self.clone());
        let texts = warp::path!("texts")
            .and(warp::post())
            .and(warp::body::content_length_limit(BODY_MAX))
            .and(warp::body::bytes())
            .and(with.clone())
            .then(|body: warp::hyper::body::Bytes, front: Front| async move { front.take(&body).await });
        let links = warp::path!("links" / String)
            .and(warp::get())
            .and(warp::query())
            .and(with)
            .then(|id: String, asked: Asked, front: Front| async move { front.links(&id, asked).await });
        texts.or(links).unify().or(common::page(PAGE)).unify().or(library).unify().recover(common::rejected).unify()
    }

    async fn take(&self, body: &[u8]) -> Answer {
        let Ok(text) = String::from_utf8(body.to_vec()) else {
            return refuse(StatusCode::BAD_REQUEST, "the body is no text in UTF-8");
        };
        let key = format!("{:x}-{}", std::process::id(), self.next.fetch_add(1, Ordering::Relaxed));
        match self.texts.send(&key, &text).await {
            Ok(written) => {
                let id = RowId { key, written }.to_string();
                reply(StatusCode::ACCEPTED, &json!({ "id": id, "links": format!("/links/{id}") }))
            }
            Err(error) => failed(&error),
        }
    }

    async fn links(&self, text: &str, asked: Asked) -> Answer {
        let Some(id) = RowId::parse(&self.topic, text) else {
            return refuse(StatusCode::NOT_FOUND, "this is no id of a text");
        };
        let wait = match asked.wait(WAIT_MAX) {
            Ok(wait) => wait,
            Err(refused) => return *refused,
        };
        // What is read is there as soon as the text's offset is committed, and that waits for its call.
        let store = self.streams.store(LINKS).after(&id.written).timeout(wait);
        let reads: KeyValueReads<String, Found> = match store.key_value_with(String::serde(), formats::json()) {
            Ok(reads) => reads,
            Err(error) => return failed(&error),
        };
        let (partition, owning) = (id.partition(), reads.clone());
        match waiting(move || owning.owner_of(partition)).await {
            Ok(Owner::Here) => {}
            Ok(Owner::At(server)) if !asked.forwarded => {
                let path = format!("/links/{text}?wait={}ms&forwarded=true", wait.as_millis());
                return forward(server, path, wait).await;
            }
            Ok(_) => return ask_again("the partition of this text is moving"),
            Err(error) => return failed(&error),
        }
        match waiting(move || reads.get(&id.key)).await {
            Ok(Some(found)) => reply(StatusCode::OK, &json!(found)),
            Ok(None) => refuse(StatusCode::NOT_FOUND, "there is no such text, or the service could not read it"),
            Err(error) if error.kind() == Kind::Unavailable => {
                reply(StatusCode::ACCEPTED, &json!({ "status": "not yet", "reason": error.to_string() }))
            }
            Err(error) => failed(&error),
        }
    }
}
