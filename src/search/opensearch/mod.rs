//! OpenSearch and Elasticsearch over HTTP.
//!
//! Both know external versions: of the writes of one id the one with the largest version stays, in whichever order they come.
//! A delete is remembered for `index.gc_deletes` (set to an hour here): so long a late write of an older version does not
//! bring the document back.

mod bulk;
mod http;
mod searching;

use self::http::{Http, Response};
use super::{Answer, Found, Hits, IndexSchema, Operation, Outcome, Search, SearchEngine, SearchError, check_name};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

/// A server, or a cluster behind one address, of OpenSearch (2 or later) or Elasticsearch (7 or later).
///
/// ```
/// use watersmeet::search::OpenSearch;
/// let engine = OpenSearch::new("http://127.0.0.1:9200")?;
/// # Ok::<(), watersmeet::search::SearchError>(())
/// ```
pub struct OpenSearch {
    http: Http,
    /// Indexes and aliases that have been seen: where documents may be written.
    seen: Mutex<BTreeSet<String>>,
}

impl OpenSearch {
    /// The server at this URL. It need not run yet.
    ///
    /// # Errors
    /// The URL is none.
    pub fn new(url: &str) -> Result<Self, SearchError> {
        Ok(Self { http: Http::new(url)?, seen: Mutex::default() })
    }

    /// Names user and password with each request.
    ///
    /// # Errors
    /// The name has a colon.
    pub fn user(mut self, name: &str, password: &str) -> Result<Self, SearchError> {
        if name.contains(':') {
            return Err(SearchError::Refused(format!("{name:?} has a colon, which no user's name may have")));
        }
        self.http.authorize(&format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}"))))?;
        Ok(self)
    }

    /// Trusts servers with certificates of these authorities, too: one or more certificates as PEM, such as a company's own. (Those
    /// of the system are trusted anyway.)
    ///
    /// # Errors
    /// It has no certificates.
    pub fn certificate_authority(mut self, pem: &[u8]) -> Result<Self, SearchError> {
        self.http.trust(pem)?;
        Ok(self)
    }

    /// Sends this with each request as `Authorization`, such as `ApiKey <key>` or `Bearer <token>`.
    ///
    /// # Errors
    /// It has characters that no header takes.
    pub fn authorization(mut self, value: &str) -> Result<Self, SearchError> {
        self.http.authorize(value)?;
        Ok(self)
    }

    /// A request with a JSON body, or none where it is null; an answer that tells of no success is an error.
    async fn json(&self, method: Method, path: &str, body: &Value) -> Result<Response, SearchError> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        succeeded(self.http.request(method, path, JSON, body).await?)
    }

    /// Sees to it that a server does not make an index of its own, with guessed types, for documents whose index is not there:
    /// before the first write, and after each that went wrong.
    async fn look_for(&self, index: &str) -> Result<(), SearchError> {
        if self.seen.lock().unwrap_or_else(PoisonError::into_inner).contains(index) {
            return Ok(());
        }
        let response = self.http.request(Method::HEAD, &format!("/{index}"), JSON, Vec::new()).await?;
        match response.status {
            StatusCode::NOT_FOUND => return Err(SearchError::NoIndex(index.to_string())),
            // Who may write need not be allowed to ask.
            StatusCode::FORBIDDEN => {}
            _ => drop(succeeded(response)?),
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(index.to_string());
        Ok(())
    }

    /// Writes documents into an index that is there.
    async fn write(&self, index: &str, operations: &[Operation]) -> Result<Vec<Outcome>, SearchError> {
        let path = format!("/{index}/_bulk?filter_path=errors,items.*.status,items.*.error");
        let response = self.http.request(Method::POST, &path, LINES, bulk::body(operations)).await?;
        let malformed = response.status == StatusCode::BAD_REQUEST;
        let response = succeeded(response).map_err(|error| match error {
            // One write is to blame.
            SearchError::Refused(why) if malformed => SearchError::TooMuch(why),
            other => other,
        })?;
        bulk::outcomes(&response.body, operations.len())
    }

    /// The indexes that an alias stands for.
    async fn indexes(&self, alias: &str) -> Result<Vec<String>, SearchError> {
        let response = self.http.request(Method::GET, &format!("/_alias/{alias}"), JSON, Vec::new()).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        let response = succeeded(response)?;
        let indexes: BTreeMap<String, Value> = read(&response)?;
        Ok(indexes.into_keys().collect())
    }
}

/// Reads an answer. What cannot be read did not come from a search engine, but from something between: it may pass.
fn read<'a, T: Deserialize<'a>>(response: &'a Response) -> Result<T, SearchError> {
    serde_json::from_slice(&response.body)
        .map_err(|e| SearchError::unavailable(format!("its answer is not as expected: {e}")))
}

/// The body of an answer that tells of an error.
#[derive(Deserialize)]
struct Failure {
    error: Cause,
}

/// Type and reason of an error.
#[derive(Deserialize)]
struct Cause {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    caused_by: Option<Box<Cause>>,
}

impl Cause {
    fn text(&self) -> String {
        let mut text = self.kind.clone();
        if let Some(reason) = &self.reason {
            text = format!("{text}: {reason}");
        }
        match &self.caused_by {
            Some(cause) => format!("{text} ({})", cause.text()),
            None => text,
        }
    }
}

/// Success, or the error that the answer tells of.
fn succeeded(response: Response) -> Result<Response, SearchError> {
    if response.status.is_success() {
        return Ok(response);
    }
    let failure: Option<Failure> = serde_json::from_slice(&response.body).ok();
    let kind = failure.as_ref().map_or("", |failure| &failure.error.kind);
    let text = failure.as_ref().map_or_else(
        || String::from_utf8_lossy(&response.body[..response.body.len().min(200)]).into_owned(),
        |failure| failure.error.text(),
    );
    let what = format!("{} {text}", response.status);
    Err(match response.status {
        StatusCode::PAYLOAD_TOO_LARGE => SearchError::TooMuch(what),
        status if status.is_server_error() || is_passing(status, kind) => {
            SearchError::Unavailable { what, after: response.after }
        }
        StatusCode::NOT_FOUND if kind.contains("not_found") => SearchError::NoIndex(text),
        _ => SearchError::Refused(what),
    })
}

/// What goes away by itself, or when somebody makes room: too many requests, an index that is blocked because a disk is full.
fn is_passing(status: StatusCode, kind: &str) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) || kind == "cluster_block_exception"
}

/// A document's id as a part of a path.
fn in_path(id: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    id.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

impl SearchEngine for OpenSearch {
    fn bulk<'a>(&'a self, index: &'a str, operations: &'a [Operation]) -> Answer<'a, Vec<Outcome>> {
        Box::pin(async move {
            check_name(index)?;
            self.look_for(index).await?;
            let written = self.write(index, operations).await;
            if written.is_err() {
                self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(index);
            }
            written
        })
    }

    fn search<'a>(&'a self, index: &'a str, search: &'a Search) -> Answer<'a, Hits> {
        Box::pin(async move {
            check_name(index)?;
            search.check()?;
            let body = searching::body(search);
            let response = self.json(Method::POST, &format!("/{index}/_search"), &body).await?;
            searching::hits(&response)
        })
    }

    fn document<'a>(&'a self, index: &'a str, id: &'a str) -> Answer<'a, Option<Found>> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "_version")]
            version: i64,
            #[serde(rename = "_source")]
            source: Box<RawValue>,
        }
        Box::pin(async move {
            check_name(index)?;
            let path = format!("/{index}/_doc/{}", in_path(id));
            let response = self.http.request(Method::GET, &path, JSON, Vec::new()).await?;
            // Both a document and an index that is not there are 404; only the second is told as an error.
            let is_error = serde_json::from_slice::<Failure>(&response.body).is_ok();
            if response.status == StatusCode::NOT_FOUND && !is_error {
                return Ok(None);
            }
            let response = succeeded(response)?;
            let answer: Answer = read(&response)?;
            Ok(Some(Found { version: answer.version, document: answer.source.get().to_string() }))
        })
    }

    fn create_index<'a>(&'a self, index: &'a str, schema: &'a IndexSchema) -> Answer<'a, bool> {
        Box::pin(async move {
            check_name(index)?;
            let field = |kind: Value| move |name: &String| (name.clone(), kind.clone());
            let date = json!({ "type": "date", "format": "strict_date_optional_time||epoch_millis" });
            let mut fields: Map<String, Value> = schema.text.iter().map(field(json!({ "type": "text" }))).collect();
            fields.extend(schema.numbers.iter().map(field(json!({ "type": "double" }))));
            fields.extend(schema.dates.iter().map(field(date)));
            let mut settings = json!({ "gc_deletes": "1h" });
            if !schema.text.is_empty() {
                settings["query.default_field"] = json!(schema.text);
            }
            // Other fields are only kept: their types are not guessed from whichever document comes first.
            let mappings = json!({ "dynamic": false, "properties": fields });
            let body = json!({ "settings": { "index": settings }, "mappings": mappings });
            let response = self.http.request(Method::PUT, &format!("/{index}"), JSON, body.to_string().into()).await?;
            let failure: Option<Failure> = serde_json::from_slice(&response.body).ok();
            if failure.is_some_and(|failure| failure.error.kind == "resource_already_exists_exception") {
                return Ok(false);
            }
            succeeded(response).map(|_| true)
        })
    }

    fn delete_index<'a>(&'a self, index: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            check_name(index)?;
            match self.json(Method::DELETE, &format!("/{index}"), &Value::Null).await {
                Ok(_) | Err(SearchError::NoIndex(_)) => Ok(()),
                Err(error) => Err(error),
            }
        })
    }

    fn alias<'a>(&'a self, alias: &'a str) -> Answer<'a, Option<String>> {
        Box::pin(async move {
            check_name(alias)?;
            Ok(self.indexes(alias).await?.into_iter().next())
        })
    }

    fn point_alias<'a>(&'a self, alias: &'a str, index: &'a str) -> Answer<'a, Option<String>> {
        Box::pin(async move {
            check_name(index)?;
            check_name(alias)?;
            let before = self.indexes(alias).await?;
            let mut actions = vec![json!({ "add": { "index": index, "alias": alias } })];
            let others = before.iter().filter(|before| *before != index);
            actions.extend(others.map(|other| json!({ "remove": { "index": other, "alias": alias } })));
            self.json(Method::POST, "/_aliases", &json!({ "actions": actions })).await?;
            Ok(before.into_iter().next())
        })
    }

    fn refresh<'a>(&'a self, index: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            check_name(index)?;
            self.json(Method::POST, &format!("/{index}/_refresh"), &Value::Null).await.map(|_| ())
        })
    }
}

#[cfg(test)]
mod tests;
