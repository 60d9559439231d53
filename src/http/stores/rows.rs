//! Rows as JSON: those of one key, and those of a range over all instances.

use super::format::Formats;
use super::parameters::Parameters;
use super::{ANSWER_MAX, Request, client, failed};
use crate::error::{Error, Kind, Result};
use crate::http::reply::{JSON, line, reply};
use crate::queries::behind_prefix;
use crate::runtime::queries::Answer;
use crate::state::query::{Found, KeyRange, Query};
use crate::state::segmented::TimedRow;
use crate::state::{StoreKind, StoreSpec, timestamped};
use serde_json::{Map, Value, json};
use warp::http::{Response, StatusCode};

/// The windows or sessions of a key.
pub(super) fn fetch_of_key(key: Vec<u8>, p: &Parameters) -> Query {
    let (from_ms, to_ms) = (p.from_ms.unwrap_or(0), p.to_ms.unwrap_or(i64::MAX));
    Query::Fetch { keys: KeyRange::One(key), from_ms, to_ms, limit: p.limit }
}

pub(super) fn entries(found: &Found) -> u64 {
    if let Found::Entries(entries) = found { *entries } else { 0 }
}

/// Adds what was found of one key.
pub(super) fn insert_found(body: &mut Map<String, Value>, formats: &Formats, spec: &StoreSpec, answer: &Answer) {
    match &answer.found {
        Found::Row(Some(row)) => insert_value(body, formats, spec, row),
        Found::Timed(rows) => {
            let row = |row: &TimedRow| Value::Object(timed(formats, spec, row));
            body.insert("rows".into(), rows.iter().map(row).collect());
        }
        Found::Versions(versions) => {
            let version = |version: &crate::state::versioned::Version| {
                let value = version.value.as_ref().map(|value| formats.value(value));
                json!({ "from_ms": version.from_ms, "to_ms": version.to_ms, "value": value })
            };
            body.insert("versions".into(), versions.iter().map(version).collect());
        }
        Found::Row(None) | Found::Rows(_) | Found::Entries(_) => {}
    }
}

fn insert_value(body: &mut Map<String, Value>, formats: &Formats, spec: &StoreSpec, row: &[u8]) {
    if spec.kind.is_timestamped() {
        body.insert("value".into(), formats.value(timestamped::value(row)));
        body.insert("timestamp_ms".into(), json!(timestamped::timestamp_ms(row)));
    } else {
        body.insert("value".into(), formats.value(row));
    }
}

/// The times and the value of a window or session.
fn timed(formats: &Formats, spec: &StoreSpec, row: &TimedRow) -> Map<String, Value> {
    let (start_ms, end_ms) = match spec.kind {
        StoreKind::Window { size_ms, .. } => (row.time_ms, row.time_ms.saturating_add(size_ms)),
        _ => (row.suffix, row.time_ms),
    };
    let mut body = Map::new();
    body.insert("start_ms".into(), json!(start_ms));
    body.insert("end_ms".into(), json!(end_ms));
    insert_value(&mut body, formats, spec, &row.value);
    body
}

/// A row with what it is sorted by.
type Sorted = (Vec<u8>, i64, Value);

impl Request<'_> {
    /// The rows of a range: of this instance, and of the others unless it is to be `local`.
    pub(super) fn rows(&self) -> Result<Response<String>> {
        let limit = self.parameters.limit;
        // One more than asked for tells whether there are more.
        let mut rows = match self.store.spec().kind {
            StoreKind::KeyValue { .. } => self.key_values(limit + 1)?,
            StoreKind::Window { .. } | StoreKind::Session { .. } => self.timed(limit + 1)?,
            StoreKind::Versioned { .. } | StoreKind::Subscriptions { .. } | StoreKind::Buffer => {
                return Err(Error::new(Kind::Topology, "the rows of this store are only told key by key")
                    .store(&self.store.spec().name)
                    .hint("ask for /stores/<store>/<key>, with as_of_ms for an earlier time"));
            }
        };
        let mut complete = true;
        if !self.parameters.local && !self.store.is_global() {
            for server in self.store.other_servers()? {
                match self.rows_of(&server)? {
                    Ok((others, all)) => {
                        complete &= all;
                        rows.extend(others);
                    }
                    Err(response) => return Ok(response),
                }
            }
        }
        rows.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        complete &= rows.len() <= limit;
        rows.truncate(limit);
        let by_key = matches!(self.store.spec().kind, StoreKind::KeyValue { .. });
        let next = rows.last().filter(|_| by_key && !complete).and_then(|(key, ..)| self.formats.key_text(key));
        let mut body = self.head();
        body.insert("rows".into(), rows.into_iter().map(|(_, _, row)| row).collect());
        body.insert("complete".into(), json!(complete));
        if let Some(next) = next {
            body.insert("after".into(), json!(next));
        }
        Ok(reply(StatusCode::OK, JSON, line(&Value::Object(body))))
    }

    fn bounds(&self) -> Result<(Option<Vec<u8>>, Option<Vec<u8>>)> {
        let p = self.parameters;
        let bytes = |text: &Option<String>| text.as_deref().map(|text| self.formats.key_bytes(text)).transpose();
        let behind = |key: Vec<u8>| [&key[..], &[0]].concat();
        let prefix = p.prefix.as_ref().map(|prefix| prefix.as_bytes().to_vec());
        let from = [bytes(&p.from)?, bytes(&p.after)?.map(behind), prefix.clone()].into_iter().flatten().max();
        let end = prefix.and_then(|prefix| behind_prefix(&prefix));
        let to = [bytes(&p.to)?.map(behind), end].into_iter().flatten().min();
        Ok((from, to))
    }

    fn key_values(&self, limit: usize) -> Result<Vec<Sorted>> {
        let (from, to) = self.bounds()?;
        let row = |row: Result<(i32, Vec<u8>, Vec<u8>)>| {
            let (partition, key, row) = row?;
            let mut body = Map::new();
            body.insert("key".into(), self.formats.key(&key));
            insert_value(&mut body, &self.formats, self.store.spec(), &row);
            body.insert("partition".into(), json!(partition));
            Ok((key, 0, Value::Object(body)))
        };
        self.store.scan(from, to, limit)?.take(limit).map(row).collect()
    }

    fn timed(&self, limit: usize) -> Result<Vec<Sorted>> {
        let (from, to) = self.bounds()?;
        let (from_ms, to_ms) = (self.parameters.from_ms.unwrap_or(0), self.parameters.to_ms.unwrap_or(i64::MAX));
        let query = Query::Fetch { keys: KeyRange::Between(from, to.clone()), from_ms, to_ms, limit };
        let mut rows = Vec::new();
        for answer in self.store.ask_all(&query)? {
            let Found::Timed(found) = answer.found else { continue };
            // The end is excluded here, and included there.
            for row in found.into_iter().filter(|row| to.as_ref().is_none_or(|to| row.key < *to)) {
                let mut body = Map::new();
                body.insert("key".into(), self.formats.key(&row.key));
                body.extend(timed(&self.formats, self.store.spec(), &row));
                body.insert("partition".into(), json!(answer.partition));
                rows.push((row.key, row.time_ms, Value::Object(body)));
            }
        }
        Ok(rows)
    }

    /// The rows that another instance has, and whether that are all; or its answer, where that is none.
    #[allow(clippy::type_complexity)]
    fn rows_of(&self, server: &str) -> Result<Result<(Vec<Sorted>, bool), Response<String>>> {
        let (code, text) = match client::get(server, &self.elsewhere(), ANSWER_MAX) {
            Ok(answer) => answer,
            Err(error) => {
                self.store.stores().forget_instances();
                return Ok(Err(failed(&error.store(&self.store.spec().name))));
            }
        };
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let (Some(rows), 200) = (body["rows"].as_array(), code) else {
            self.store.stores().forget_instances();
            let what = body["error"].as_str().unwrap_or("it gives no rows");
            let error = Error::new(Kind::Unavailable, format!("the instance at {server} says: {what}"));
            return Ok(Err(failed(&error.store(&self.store.spec().name).hint("ask again in a moment"))));
        };
        let sorted = |row: &Value| {
            let text = row["key"].as_str().map_or_else(|| row["key"].to_string(), str::to_owned);
            let key = self.formats.key_bytes(&text).unwrap_or_else(|_| text.into_bytes());
            let time_ms = row["start_ms"].as_i64().unwrap_or(0);
            (key, time_ms, row.clone())
        };
        Ok(Ok((rows.iter().map(sorted).collect(), body["complete"] == json!(true))))
    }
}
