//! `/stores`: what the stores hold, as JSON. A key of another instance is asked for there.

mod format;
mod parameters;
mod rows;

use super::client;
use super::reply::{JSON, line, reply};
use crate::error::{Error, Kind};
use crate::runtime::queries::{Answer, StoreBytes, Stores, kind_name};
use crate::state::query::{Level, Query};
use crate::state::{Engine, StoreKind};
use format::Formats;
use parameters::Parameters;
use serde_json::{Map, Value, json};
use warp::http::{HeaderValue, Response, StatusCode};

/// As long as a stream thread of another instance is waited for there, and a bit.
const ANSWER_MAX: std::time::Duration = std::time::Duration::from_secs(3);

/// The answer to a request for `path`, which is `/stores` or begins with `/stores/`.
pub(super) fn answer(stores: &Stores, path: &str, query: &str) -> Response<String> {
    let request = Parameters::parse(query).and_then(|parameters| {
        let rest = path.strip_prefix("/stores").unwrap_or_default();
        let Some(rest) = rest.strip_prefix('/').filter(|rest| !rest.is_empty()) else { return Ok(list(stores)) };
        let (name, key) = rest.split_once('/').map_or((rest, None), |(name, key)| (name, Some(key)));
        let name = parameters::decode(name, false)?;
        let store = stores.store(&name)?.level(parameters.level);
        let store = match &parameters.after_record {
            Some(record) => store.after(record),
            None => store,
        };
        let formats = Formats::new(&parameters, store.formats());
        let request = Request { formats, store, parameters: &parameters, path, query };
        match key {
            Some(key) => request.key(&parameters::decode(key, false)?),
            None => request.rows(),
        }
    });
    request.unwrap_or_else(|error| failed(&error))
}

/// A request for one store.
struct Request<'a> {
    store: StoreBytes,
    formats: Formats,
    parameters: &'a Parameters,
    path: &'a str,
    query: &'a str,
}

impl Request<'_> {
    /// Everything about one key.
    fn key(&self, text: &str) -> Result<Response<String>, Error> {
        let key = self.formats.key_bytes(text)?;
        let query = self.query_of_key(&key);
        let expected = self.parameters.partition.or_else(|| self.store.partition_of(&key));
        let asked = match self.parameters.partition {
            Some(partition) => self.store.ask(partition, &query),
            None => self.store.ask_key(&key, &query),
        };
        match asked {
            Ok(answer) => Ok(self.reply_of_key(&key, &answer)),
            Err(error) if error.kind() == Kind::Unavailable && !self.parameters.local => {
                match expected.map(|partition| self.store.server_of(partition)).transpose()?.flatten() {
                    Some(server) => Ok(self.pass_on(&server)),
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn query_of_key(&self, key: &[u8]) -> Query {
        let (key, p) = (key.to_vec(), self.parameters);
        match self.store.spec().kind {
            StoreKind::KeyValue { .. } | StoreKind::Subscriptions { .. } | StoreKind::Buffer => Query::Get(key),
            StoreKind::Window { .. } | StoreKind::Session { .. } => rows::fetch_of_key(key, p),
            StoreKind::Versioned { .. } => match (p.from_ms, p.to_ms) {
                (None, None) => Query::AsOf(key, p.as_of_ms),
                (from_ms, to_ms) => Query::History(key, from_ms.unwrap_or(0), to_ms.unwrap_or(i64::MAX)),
            },
        }
    }

    fn reply_of_key(&self, key: &[u8], answer: &Answer) -> Response<String> {
        let mut body = self.head();
        body.insert("key".into(), self.formats.key(key));
        let nothing = answer.found.is_nothing();
        rows::insert_found(&mut body, &self.formats, self.store.spec(), answer);
        body.insert("partition".into(), json!(answer.partition));
        self.insert_staleness(&mut body, answer);
        if nothing {
            body.insert("error".into(), json!("there is no row of this key"));
        }
        let code = if nothing { StatusCode::NOT_FOUND } else { StatusCode::OK };
        reply(code, JSON, line(&Value::Object(body)))
    }

    /// Store, instance and level: what every answer begins with.
    fn head(&self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("store".into(), json!(self.store.spec().name));
        if let Some(server) = self.store.stores().own_server() {
            body.insert("instance".into(), json!(server));
        }
        body.insert("level".into(), json!(level_name(self.parameters.level)));
        body
    }

    fn insert_staleness(&self, body: &mut Map<String, Value>, answer: &Answer) {
        let staleness = self.store.staleness(answer);
        body.insert("as_of_ms".into(), json!(staleness.as_of_ms));
        body.insert("lag".into(), json!(staleness.lag));
    }

    /// Asks another instance the same.
    fn pass_on(&self, server: &str) -> Response<String> {
        match client::get(server, &self.elsewhere(), ANSWER_MAX) {
            Ok((code, body)) => {
                // What it should have, it has not, or is about to lose: the next question asks the coordinator again.
                if code != 200 && code != 404 {
                    self.store.stores().forget_instances();
                }
                let code = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
                let mut response = reply(code, JSON, body);
                if code == StatusCode::SERVICE_UNAVAILABLE {
                    retry_later(&mut response);
                }
                response
            }
            Err(error) => {
                self.store.stores().forget_instances();
                failed(&error.store(&self.store.spec().name))
            }
        }
    }

    /// This request for another instance, which is not to pass it on.
    fn elsewhere(&self) -> String {
        let and = if self.query.is_empty() { "" } else { "&" };
        format!("{}?{}{and}scope=local", self.path, self.query)
    }
}

fn list(stores: &Stores) -> Response<String> {
    let one = |spec: crate::state::StoreSpec| {
        let store = stores.store(&spec.name).ok();
        let entries = store.as_ref().and_then(|store| store.ask_all(&Query::Entries).ok());
        let entries: Option<u64> =
            entries.map(|answers| answers.iter().map(|answer| rows::entries(&answer.found)).sum());
        json!({
            "name": spec.name,
            "kind": kind_name(&spec),
            "engine": engine_name(spec.engine),
            "global": store.as_ref().is_some_and(StoreBytes::is_global),
            "partitions": store.as_ref().and_then(StoreBytes::partitions),
            "local_partitions": store.as_ref().map(StoreBytes::local_partitions),
            "entries": entries,
        })
    };
    let known: Vec<Value> = stores.specs().into_iter().map(one).collect();
    let mut body = json!({ "stores": known });
    if let Some(server) = stores.own_server() {
        let instance = |instance: &crate::runtime::instances::Instance| {
            let partitions: Vec<String> = instance.partitions.iter().map(ToString::to_string).collect();
            json!({ "server": instance.server, "partitions": partitions })
        };
        body["instance"] = json!(server);
        match stores.instances() {
            Ok(instances) => body["instances"] = instances.iter().map(instance).collect(),
            Err(error) => body["instances_unknown"] = json!(error.to_string()),
        }
    }
    reply(StatusCode::OK, JSON, line(&body))
}

fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::RocksDb => "rocksdb",
        Engine::Memory => "memory",
        Engine::MemoryLru { .. } => "memory-lru",
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Committed => "committed",
        Level::Latest => "latest",
    }
}

/// What went wrong: whether to ask again is in the code.
fn failed(error: &Error) -> Response<String> {
    let code = match error.kind() {
        Kind::Unavailable | Kind::Broker => StatusCode::SERVICE_UNAVAILABLE,
        Kind::State if error.what().starts_with("the client is no longer") => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Topology if error.what().starts_with("there is no store") => StatusCode::NOT_FOUND,
        Kind::Topology | Kind::User => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let body = json!({ "error": error.to_string(), "retry": error.is_retriable() });
    let mut response = reply(code, JSON, line(&body));
    if error.is_retriable() {
        retry_later(&mut response);
    }
    response
}

fn retry_later(response: &mut Response<String>) {
    response.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
}
