//! An HTTP server's frame: JSON answers, errors of the library as answers, waiting, and handing on.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use warp::Filter;
use warp::http::{HeaderValue, Response, StatusCode};
use watersmeet::error::Kind;
use watersmeet::prelude::*;

/// An answer with its whole body.
pub type Answer = Response<String>;

/// A JSON answer.
pub fn reply(code: StatusCode, body: &Value) -> Answer {
    let response = Response::builder().status(code).header("content-type", "application/json");
    response.header("cache-control", "no-store").body(format!("{body}\n")).expect("the headers are constants")
}

/// An answer that says what is wrong.
pub fn refuse(code: StatusCode, what: impl Into<String>) -> Answer {
    reply(code, &json!({ "error": what.into() }))
}

/// An error of the library as an answer: 404 where somebody has made up what was asked for, 503 where asking again will do.
pub fn failed(error: &Error) -> Answer {
    match error.kind() {
        Kind::User => refuse(StatusCode::NOT_FOUND, error.to_string()),
        _ if error.is_retriable() => ask_again(error.to_string()),
        _ => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// What cannot be answered now: 503, and when to ask again.
pub fn ask_again(why: impl Into<String>) -> Answer {
    let mut answer = refuse(StatusCode::SERVICE_UNAVAILABLE, why);
    answer.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
    answer
}

/// Runs what waits (for a stream thread, or for another instance) without keeping the server from others.
pub async fn waiting<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

/// Other instances, as this one asks them: it takes no thread to wait for them, however many do.
static INSTANCES: LazyLock<Client<HttpConnector, Full<Bytes>>> = LazyLock::new(|| {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(Duration::from_secs(1)));
    // No connection is kept: the instance at its other end may be gone by the next question.
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)
});

/// What another instance answers to `path`, which may take it as long as `wait`.
pub async fn forward(server: String, path: String, wait: Duration) -> Answer {
    let Ok(uri) = format!("http://{server}{path}").parse() else {
        return refuse(StatusCode::NOT_FOUND, "there is nothing here");
    };
    let asked = async {
        let (head, body) = INSTANCES.get(uri).await.ok()?.into_parts();
        let body = String::from_utf8(body.collect().await.ok()?.to_bytes().to_vec()).ok()?;
        let response = Response::builder().status(head.status).header("content-type", "application/json");
        response.body(body).ok()
    };
    let answer = tokio::time::timeout(wait + Duration::from_secs(5), asked).await.ok().flatten();
    answer.unwrap_or_else(|| ask_again(format!("the instance at {server}, which should have this, gives no answer")))
}

/// The page for people, at `/`.
pub fn page(html: &'static str) -> impl Filter<Extract = (Answer,), Error = warp::Rejection> + Clone {
    warp::path::end().and(warp::get()).map(move || {
        let response = Response::builder().header("content-type", "text/html; charset=utf-8");
        response.body(html.to_owned()).expect("the headers are constants")
    })
}

/// How a row is asked for that may not be there yet.
#[derive(serde::Deserialize)]
pub struct Asked {
    wait: Option<String>,
    /// Set where another instance asks.
    #[serde(default)]
    pub forwarded: bool,
}

impl Asked {
    /// How long to wait for it, `max` at most; an answer where that is no time.
    pub fn wait(&self, max: Duration) -> std::result::Result<Duration, Box<Answer>> {
        match self.wait.as_deref().map(duration) {
            None => Ok(Duration::ZERO),
            Some(Some(wait)) => Ok(wait.min(max)),
            Some(None) => Err(Box::new(refuse(StatusCode::BAD_REQUEST, "wait is a time such as 5s or 500ms"))),
        }
    }
}

/// Hands everything that the example does not serve itself to the library: `/health`, `/metrics`, `/stores`, and so on. `beside`
/// is a further application of this process, if it runs here: its paths begin with its name, such as `/workers/metrics`.
pub fn library(
    streams: Arc<Streams>,
    beside: Option<(&'static str, Arc<Streams>)>,
) -> impl Filter<Extract = (Answer,), Error = warp::Rejection> + Clone {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let reads = warp::get().or(warp::head()).unify();
    reads.and(warp::method()).and(warp::path::full()).and(query).then(
        move |method: warp::http::Method, path: warp::path::FullPath, query: String| {
            let (mut streams, mut path) = (streams.clone(), path.as_str().to_owned());
            if let Some((name, other)) = &beside
                && let Some(rest) = path.strip_prefix('/').and_then(|path| path.strip_prefix(name))
                && rest.starts_with('/')
            {
                (streams, path) = (other.clone(), rest.to_owned());
            }
            waiting(move || streams.answer_http(method.as_str(), &path, &query))
        },
    )
}

/// Rejections of filters as JSON: 404, 405, 413 and so on.
pub async fn rejected(rejection: warp::Rejection) -> Result<Answer, Infallible> {
    use warp::reject::{LengthRequired, MethodNotAllowed, PayloadTooLarge};
    Ok(if rejection.find::<LengthRequired>().is_some() {
        refuse(StatusCode::LENGTH_REQUIRED, "the request does not say how long its body is")
    } else if rejection.find::<PayloadTooLarge>().is_some() {
        refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
    } else if rejection.find::<MethodNotAllowed>().is_some() {
        refuse(StatusCode::METHOD_NOT_ALLOWED, "this path has no such method")
    } else if rejection.is_not_found() {
        refuse(StatusCode::NOT_FOUND, "there is nothing here")
    } else {
        refuse(StatusCode::BAD_REQUEST, format!("{rejection:?}"))
    })
}

/// A duration such as `5s`, `500ms` or `2m`; a bare number is seconds.
fn duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..at].parse().ok()?;
    match &text[at..] {
        "ms" => Some(Duration::from_millis(number)),
        "s" | "" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    }
}
