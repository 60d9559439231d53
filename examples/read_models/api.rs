//! What the service answers: commands go to the topic, queries to the read models, changes to whoever listens.

use crate::Topics;
use crate::common::{self, Answer, failed, refuse, reply, waiting};
use crate::model::{Command, Customer};
use crate::push::{Change, Hub, told};
use crate::topology::{ORDERS, TOTALS};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::broadcast::{self, error::RecvError};
use warp::Filter;
use warp::http::StatusCode;
use warp::reply::Reply;
use warp::sse::Event;
use watersmeet::prelude::*;
use watersmeet::producer::TopicProducer;

const PAGE: &str = include_str!("page.html");
const BODY_MAX: u64 = 64 << 10;
/// How many orders a new reader is shown before changes are told.
const SHOWN_MAX: usize = 1_000;

#[derive(Clone)]
pub struct Api {
    streams: Arc<Streams>,
    commands: TopicProducer<String, Command>,
    customers: TopicProducer<String, Customer>,
    hub: Hub,
}

#[derive(Deserialize)]
struct Listened {
    /// Only this order.
    order: Option<String>,
    /// Only the changes of this instance: for the other ones.
    #[serde(default)]
    local: bool,
}

impl Api {
    pub fn new(streams: Arc<Streams>, hub: Hub, topics: &Topics) -> Result<Self> {
        let commands = streams.producer(&topics.commands, Produced::json())?;
        let customers = streams.producer(&topics.customers, Produced::json())?;
        Ok(Self { streams, commands, customers, hub })
    }

    pub fn routes(self) -> impl Filter<Extract = (impl Reply,), Error = Infallible> + Clone {
        let library = common::library(self.streams.clone(), None);
        let with = warp::any().map(move || self.clone());
        let body = warp::body::content_length_limit(BODY_MAX).and(warp::body::bytes());
        let order = warp::path!("orders" / String);
        let query = warp::query::raw().or(warp::any().map(String::new)).unify();
        let command = warp::path!("orders" / String / "commands").and(warp::post()).and(body).and(with.clone()).then(
            |id: String, body: warp::hyper::body::Bytes, api: Api| async move { write(&api.commands, id, &body).await },
        );
        let customer = warp::path!("customers" / String).and(warp::put()).and(body).and(with.clone()).then(
            |id: String, body: warp::hyper::body::Bytes, api: Api| async move {
                write(&api.customers, id, &body).await
            },
        );
        let one = order.and(warp::get()).and(with.clone()).then(|id: String, api: Api| api.one(ORDERS, id));
        let totals = warp::path!("customers" / String / "totals").and(warp::get()).and(with.clone());
        let totals = totals.then(|id: String, api: Api| api.one(TOTALS, id));
        let all = warp::path!("orders").and(warp::get()).and(query).and(with.clone());
        let all = all.then(|query: String, api: Api| async move { api.all(query).await });
        let page = common::page(PAGE).map(Reply::into_response);
        let events = warp::path!("events").and(warp::get()).and(warp::query()).and(with);
        let events = events.then(|listened: Listened, api: Api| async move {
            let stream = api.events(listened).await;
            warp::sse::reply(warp::sse::keep_alive().stream(stream)).into_response()
        });
        let answers = command.or(customer).unify().or(one).unify().or(totals).unify().or(all).unify();
        let answers = answers.or(library).unify().map(Reply::into_response);
        page.or(events).unify().or(answers).unify().recover(common::rejected)
    }

    /// A row, from whichever instance has it.
    async fn one(self, store: &'static str, id: String) -> Answer {
        let path = format!("/stores/{store}/{}", encoded(&id));
        let answer = waiting(move || self.streams.answer_http("GET", &path, "key=text")).await;
        if answer.status() != StatusCode::OK {
            return answer;
        }
        let row: Value = serde_json::from_str(answer.body()).unwrap_or_default();
        reply(StatusCode::OK, &told(&id, &row["value"]))
    }

    /// Orders of all instances, page by page: `limit`, `from`, `to`, `after`, as `/stores` has them.
    async fn all(&self, query: String) -> Answer {
        let streams = self.streams.clone();
        let answer = waiting(move || streams.answer_http("GET", &format!("/stores/{ORDERS}"), &query)).await;
        if answer.status() != StatusCode::OK {
            return answer;
        }
        let body: Value = serde_json::from_str(answer.body()).unwrap_or_default();
        let order = |row: &Value| told(row["key"].as_str().unwrap_or_default(), &row["value"]);
        let orders: Vec<Value> = body["rows"].as_array().into_iter().flatten().map(order).collect();
        reply(StatusCode::OK, &json!({ "orders": orders, "complete": body["complete"], "after": body["after"] }))
    }

    /// First the orders as they are, then each that changes.
    async fn events(self, listened: Listened) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
        // Listen first: what changes while the orders are read is told after them.
        let changes = if listened.local { self.hub.local.subscribe() } else { self.hub.all.subscribe() };
        let mut first = VecDeque::new();
        if !listened.local {
            first = self.orders_now(&listened).await;
        }
        let state = Listener { api: self, listened, changes, waiting: first };
        stream::unfold(state, |mut state| async move { state.next().await.map(|event| (event, state)) }).map(Ok)
    }

    async fn orders_now(&self, listened: &Listened) -> VecDeque<Value> {
        let (path, query) = match &listened.order {
            Some(id) => (format!("/stores/{ORDERS}/{}", encoded(id)), "key=text".to_owned()),
            None => (format!("/stores/{ORDERS}"), format!("limit={SHOWN_MAX}")),
        };
        let streams = self.streams.clone();
        let answer = waiting(move || streams.answer_http("GET", &path, &query)).await;
        let body: Value = serde_json::from_str(answer.body()).unwrap_or_default();
        let rows = match &listened.order {
            Some(_) if answer.status() == StatusCode::OK => vec![body],
            _ => body["rows"].as_array().cloned().unwrap_or_default(),
        };
        rows.iter().map(|row| told(row["key"].as_str().unwrap_or_default(), &row["value"])).collect()
    }
}

/// Somebody who listens to changes.
struct Listener {
    api: Api,
    listened: Listened,
    changes: broadcast::Receiver<Change>,
    waiting: VecDeque<Value>,
}

impl Listener {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(order) = self.waiting.pop_front() {
                return Some(Event::default().event("order").data(order.to_string()));
            }
            match self.changes.recv().await {
                Ok(Change::Order(order)) => {
                    let id = || serde_json::from_str::<Value>(&order).ok()?["id"].as_str().map(str::to_owned);
                    if self.listened.order.is_none() || self.listened.order == id() {
                        return Some(Event::default().event("order").data(&*order));
                    }
                }
                Ok(Change::Reset) | Err(RecvError::Lagged(_)) if self.listened.local => {
                    return Some(Event::default().event("reset").data("{}"));
                }
                Ok(Change::Reset) | Err(RecvError::Lagged(_)) => {
                    self.waiting = self.api.orders_now(&self.listened).await
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Puts what somebody wants on its topic.
async fn write<V: DeserializeOwned>(producer: &TopicProducer<String, V>, id: String, body: &[u8]) -> Answer {
    if id.is_empty() || id.len() > 100 {
        return refuse(StatusCode::BAD_REQUEST, "an id has between 1 and 100 bytes");
    }
    let value: V = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("this cannot be understood: {error}")),
    };
    match producer.send(&id, &value).await {
        Ok(written) => reply(StatusCode::ACCEPTED, &json!({ "id": id, "written": written.to_string() })),
        Err(error) => failed(&error),
    }
}

/// An id as part of a path.
fn encoded(id: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    id.bytes().map(byte).collect()
}
