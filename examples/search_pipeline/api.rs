//! The search API and the page.

use crate::common::{self, Answer, failed, refuse, reply};
use crate::pipeline::{Index, Pipeline};
use crate::reindex::Reindexes;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use warp::Filter;
use warp::http::StatusCode;
use watersmeet::clock::{Clock, SystemClock};
use watersmeet::prelude::*;
use watersmeet::producer::{TopicProducer, Written};
use watersmeet::search::{Search, SearchEngine, SearchError, Sort};

const SIZE_MAX: usize = 100;
/// The last hit that can be asked for.
const WINDOW: usize = 10_000;
const QUERY_MAX: usize = 500;
const BODY_MAX: u64 = 1 << 20;
/// How long a document that is posted is waited for until searches find it.
const SHOWN_MAX: Duration = Duration::from_secs(5);
const PAGE: &str = include_str!("page.html");

/// An answer that says what is wrong.
type Refusal = Box<Answer>;
type Parameters = BTreeMap<String, String>;

#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    streams: Arc<Streams>,
    engine: Arc<dyn SearchEngine>,
    pipeline: Arc<Pipeline>,
    producers: BTreeMap<String, TopicProducer<String, Value>>,
    reindexes: Reindexes,
    clock: Arc<dyn Clock>,
}

impl Api {
    pub fn new(
        streams: Arc<Streams>,
        engine: Arc<dyn SearchEngine>,
        pipeline: Arc<Pipeline>,
        reindexes: Reindexes,
    ) -> Result<Self> {
        let producer = |index: &Index| Ok((index.name.clone(), streams.producer(&index.topic, Produced::json())?));
        let producers = pipeline.indexes.iter().map(producer).collect::<Result<_>>()?;
        Ok(Self(Arc::new(Inner { streams, engine, pipeline, producers, reindexes, clock: SystemClock::shared() })))
    }

    pub fn routes(self) -> impl Filter<Extract = (Answer,), Error = Infallible> + Clone {
        let library = common::library(self.0.streams.clone(), None);
        let with = warp::any().map(move || self.clone());
        let parameters = || warp::query::<Parameters>();
        let body = || warp::body::content_length_limit(BODY_MAX).and(warp::body::bytes());
        let search = warp::path!("v1" / "api" / "search" / String)
            .and(warp::get())
            .and(parameters())
            .and(with.clone())
            .then(|index: String, asked: Parameters, api: Api| async move { api.search(&index, &asked).await });
        let post = warp::path!("index" / String)
            .or(warp::path!("v1" / "api" / "index" / String))
            .unify()
            .and(warp::post())
            .and(parameters())
            .and(body())
            .and(with.clone())
            .then(|index: String, asked: Parameters, body: warp::hyper::body::Bytes, api: Api| async move {
                api.post(&index, &asked, &body).await
            });
        let reindex = warp::path!("reindex" / String)
            .and(warp::post())
            .and(with.clone())
            .then(|index: String, api: Api| async move { api.reindex(&index) });
        let reindexed = warp::path!("reindex" / String)
            .and(warp::get())
            .and(with.clone())
            .then(|index: String, api: Api| async move { api.reindexed(&index) });
        let indexes = warp::path!("v1" / "api" / "search")
            .and(warp::get())
            .and(with)
            .then(|api: Api| async move { api.indexes() });
        let api = search.or(post).unify().or(reindex).unify().or(reindexed).unify().or(indexes).unify();
        api.or(common::page(PAGE)).unify().or(library).unify().recover(common::rejected).unify()
    }

    fn index(&self, name: &str) -> Result<&Index, Refusal> {
        let indexes = &self.0.pipeline.indexes;
        self.0.pipeline.index(name).ok_or_else(|| {
            let names: Vec<&String> = indexes.iter().map(|index| &index.name).collect();
            Box::new(reply(
                StatusCode::NOT_FOUND,
                &json!({ "error": format!("there is no index {name:?}"), "indexes": names }),
            ))
        })
    }

    fn indexes(&self) -> Answer {
        let indexes = self.0.pipeline.indexes.iter();
        let indexes: Vec<Value> = indexes.map(|index| json!({ "name": index.name, "text": index.text })).collect();
        reply(StatusCode::OK, &json!({ "indexes": indexes }))
    }

    async fn search(&self, name: &str, asked: &Parameters) -> Answer {
        let search = match self.index(name).and_then(|index| read_search(index, asked)) {
            Ok(search) => search,
            Err(refusal) => return *refusal,
        };
        match self.0.engine.search(name, &search).await {
            Ok(hits) => reply(
                StatusCode::OK,
                &json!({
                    "index": name, "query": search.query, "start": search.start, "size": search.size,
                    "total": hits.total, "hits": hits.hits,
                }),
            ),
            Err(error) => no_answer(error),
        }
    }

    /// A document goes to the index's topic, and from there into the index: the topic has all documents, in order.
    async fn post(&self, name: &str, asked: &Parameters, body: &[u8]) -> Answer {
        let read = self.index(name).and_then(|index| {
            let waits = match asked.get("wait").map(String::as_str) {
                None | Some("true") => true,
                Some("false") => false,
                Some(_) => return Err(Box::new(refuse(StatusCode::BAD_REQUEST, "wait is true or false"))),
            };
            Ok((read_document(index, body, self.0.clock.now_ms())?, waits))
        });
        let ((id, document), waits) = match read {
            Ok(read) => read,
            Err(refusal) => return *refusal,
        };
        let written = match self.0.producers[name].send(&id, &document).await {
            Ok(written) => written,
            Err(error) => return failed(&error),
        };
        let shown = waits && self.shown(name, &id, &written).await;
        let code = if shown { StatusCode::CREATED } else { StatusCode::ACCEPTED };
        let Written { partition, offset } = written;
        let (topic, partition) = (partition.topic.to_string(), partition.partition);
        reply(
            code,
            &json!({
                "index": name, "id": id, "searchable": shown, "topic": topic, "partition": partition, "offset": offset,
            }),
        )
    }

    /// Waits until searches find the document: its version is its record's offset plus one.
    async fn shown(&self, index: &str, id: &str, written: &Written) -> bool {
        let deadline = Instant::now() + SHOWN_MAX;
        while Instant::now() < deadline {
            match self.0.engine.document(index, id).await {
                Ok(Some(found)) if found.version > written.offset => return self.0.engine.refresh(index).await.is_ok(),
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(_) => return false,
            }
        }
        false
    }

    fn reindex(&self, name: &str) -> Answer {
        match self.index(name) {
            Ok(index) if self.0.reindexes.begin(index, None) => {
                reply(StatusCode::ACCEPTED, &self.0.reindexes.progress(name))
            }
            Ok(_) => refuse(StatusCode::CONFLICT, format!("{name} is being filled anew already: GET /reindex/{name}")),
            Err(refusal) => *refusal,
        }
    }

    fn reindexed(&self, name: &str) -> Answer {
        self.index(name).map_or_else(|refusal| *refusal, |_| reply(StatusCode::OK, &self.0.reindexes.progress(name)))
    }
}

/// The engine did not answer (503, ask again), or will not (500).
fn no_answer(error: SearchError) -> Answer {
    match error {
        SearchError::Refused(_) | SearchError::NoIndex(_) => {
            refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        }
        passing => common::ask_again(passing.to_string()),
    }
}

/// What is searched for, or what is wrong with the request.
fn read_search(index: &Index, asked: &Parameters) -> Result<Search, Refusal> {
    let bad = |what: String| Box::new(refuse(StatusCode::BAD_REQUEST, what));
    let known = ["query", "size", "sort", "start"];
    if let Some(name) = asked.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(bad(format!("there is no parameter {name:?}: query, size, sort and start are possible")));
    }
    let number = |name: &str, default: usize, min: usize, max: usize| match asked.get(name) {
        None => Ok(default),
        Some(text) => match text.parse::<usize>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(bad(format!("{name} is {text:?}: a whole number from {min} to {max} is possible"))),
        },
    };
    let (size, start) = (number("size", 10, 1, SIZE_MAX)?, number("start", 0, 0, WINDOW)?);
    if start + size > WINDOW {
        return Err(bad(format!("start and size together are more than {WINDOW}: narrow the query")));
    }
    let query = asked.get("query").map(String::as_str).unwrap_or_default();
    if query.len() > QUERY_MAX {
        return Err(bad(format!("query has {} bytes: at most {QUERY_MAX} are possible", query.len())));
    }
    let sort = match asked.get("sort").map(String::as_str) {
        None | Some("relevance") => Sort::Relevance,
        Some("latest") => Sort::Largest(index.latest.clone()),
        Some("popularity") => Sort::Largest(index.popularity.clone()),
        Some(other) => return Err(bad(format!("sort is {other:?}: relevance, latest and popularity are possible"))),
    };
    Ok(Search::new(query).sort(sort).page(start, size))
}

/// Id and document of a body, or what is wrong with it.
fn read_document(index: &Index, body: &[u8], now_ms: i64) -> Result<(String, Value), Refusal> {
    let bad = |what: String| Box::new(refuse(StatusCode::BAD_REQUEST, what));
    let mut document: Map<String, Value> =
        serde_json::from_slice(body).map_err(|e| bad(format!("the body is no JSON object: {e}")))?;
    let name = &index.text[0];
    if document.get(name).and_then(Value::as_str).is_none_or(|text| text.trim().is_empty()) {
        return Err(bad(format!("{name:?} is missing, or is no text, or is empty")));
    }
    let date = document.entry(&index.latest).or_insert(Value::Null);
    if date.is_null() {
        *date = json!(now_ms);
    }
    index.schema().check(&document).map_err(bad)?;
    let id = match document.get("id") {
        None => format!("{:016x}", RandomState::new().hash_one(now_ms)),
        Some(Value::String(id)) if (1..=512).contains(&id.len()) => id.clone(),
        Some(_) => return Err(bad("\"id\" is no text of 1 to 512 bytes".into())),
    };
    document.entry("id").or_insert_with(|| json!(id));
    Ok((id, Value::Object(document)))
}
