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
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use warp::Filter;
use warp::http::StatusCode;
use warp::reply::Reply;
use warp::sse::Event;
use watersmeet::prelude::*;
use watersmeet::producer::TopicProducer;

const PAGE: &str = include_str!("page.html");
const BODY_MAX: u64 = 64 << 10;
const ID_BYTES_MAX: usize = 100;
/// How many orders are read at once for one who begins to listen.
const PAGE_ORDERS: usize = 200;
/// How long after orders could not be read, since something moved, they are asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(300);

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
        let events = events.map(|listened: Listened, api: Api| {
            warp::sse::reply(warp::sse::keep_alive().stream(api.events(listened))).into_response()
        });
        let answers = command.or(customer).unify().or(one).unify().or(totals).unify().or(all).unify();
        let answers = answers.or(library).unify().map(Reply::into_response);
        page.or(events).unify().or(answers).unify().recover(common::rejected)
    }

    /// A row, from whichever instance has it.
    async fn one(self, store: &'static str, id: String) -> Answer {
        let path = format!("/stores/{store}/{id}");
        let answer = waiting(move || self.streams.answer_http("GET", &path, "key=text")).await;
        if answer.status() != StatusCode::OK {
            return answer;
        }
        let row: Value = serde_json::from_str(answer.body()).unwrap_or_default();
        reply(StatusCode::OK, &order_of_row(&row))
    }

    /// Orders of all instances, page by page: `limit`, `from`, `to`, `after`, as `/stores` has them.
    async fn all(&self, query: String) -> Answer {
        let streams = self.streams.clone();
        let answer = waiting(move || streams.answer_http("GET", &format!("/stores/{ORDERS}"), &query)).await;
        if answer.status() != StatusCode::OK {
            return answer;
        }
        let body: Value = serde_json::from_str(answer.body()).unwrap_or_default();
        let orders: Vec<Value> = body["rows"].as_array().into_iter().flatten().map(order_of_row).collect();
        reply(StatusCode::OK, &json!({ "orders": orders, "complete": body["complete"], "after": body["after"] }))
    }

    /// First the orders as they are, then each that changes.
    fn events(self, listened: Listened) -> impl Stream<Item = Result<Event, Infallible>> + Send + 'static {
        // Listen first: what changes while the orders are read is told after them.
        let changes = if listened.local { self.hub.local.subscribe() } else { self.hub.all.subscribe() };
        let unread = (!listened.local).then_some(None);
        let state = Listener { api: self, listened, changes, unread, waiting: VecDeque::new() };
        stream::unfold(state, |mut state| async move { state.next().await.map(|event| (event, state)) }).map(Ok)
    }

    /// Some orders as they are, those behind `after`, and where the next ones begin; `None` while something moves.
    async fn some(&self, listened: &Listened, after: Option<&str>) -> Option<(VecDeque<Value>, Option<String>)> {
        let (path, query) = match (&listened.order, after) {
            (Some(id), _) => (format!("/stores/{ORDERS}/{}", encoded(id)), "key=text".to_owned()),
            (None, None) => (format!("/stores/{ORDERS}"), format!("limit={PAGE_ORDERS}")),
            (None, Some(after)) => {
                (format!("/stores/{ORDERS}"), format!("limit={PAGE_ORDERS}&after={}", encoded(after)))
            }
        };
        let streams = self.streams.clone();
        let answer = waiting(move || streams.answer_http("GET", &path, &query)).await;
        let body: Value = serde_json::from_str(answer.body()).ok()?;
        let rows = match (answer.status(), &listened.order) {
            (StatusCode::OK, None) => body["rows"].as_array()?.iter().map(order_of_row).collect(),
            (StatusCode::OK, Some(_)) => VecDeque::from([order_of_row(&body)]),
            (StatusCode::NOT_FOUND, _) => VecDeque::new(),
            _ => return None,
        };
        Some((rows, body["after"].as_str().map(str::to_owned)))
    }
}

/// Somebody who listens to changes. Nothing is kept for one who reads slowly but his place among the changes, and some orders.
struct Listener {
    api: Api,
    listened: Listened,
    changes: broadcast::Receiver<Change>,
    /// The orders behind this one (`Some(None)`: all) are still to be told as they are.
    unread: Option<Option<String>>,
    waiting: VecDeque<Value>,
}

impl Listener {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(order) = self.waiting.pop_front() {
                return Some(Event::default().event("order").data(order.to_string()));
            }
            if let Some(after) = &self.unread {
                match self.api.some(&self.listened, after.as_deref()).await {
                    Some((orders, next)) => (self.waiting, self.unread) = (orders, next.map(Some)),
                    None => tokio::time::sleep(ASK_AGAIN).await,
                }
                continue;
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
                Ok(Change::Reset) | Err(RecvError::Lagged(_)) => self.unread = Some(None),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// An order out of a row of `/stores`.
fn order_of_row(row: &Value) -> Value {
    told(row["key"].as_str().unwrap_or_default(), &row["value"])
}

/// Puts what somebody wants on its topic.
async fn write<V: DeserializeOwned>(producer: &TopicProducer<String, V>, id: String, body: &[u8]) -> Answer {
    let Some(id) = decoded(&id).filter(|id| (1..=ID_BYTES_MAX).contains(&id.len())) else {
        return refuse(StatusCode::BAD_REQUEST, format!("an id is a text of between 1 and {ID_BYTES_MAX} bytes"));
    };
    let value: V = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("this cannot be understood: {error}")),
    };
    match producer.send(&id, &value).await {
        Ok(written) => reply(StatusCode::ACCEPTED, &json!({ "id": id, "written": written.to_string() })),
        Err(error) => failed(&error),
    }
}

/// An id that was part of a path.
fn decoded(part: &str) -> Option<String> {
    let mut parts = part.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// An id as part of a path.
fn encoded(id: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    id.bytes().map(byte).collect()
}
