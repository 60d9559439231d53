//! Bulk requests: two lines a write, and what the answer says of each.

use super::super::{Operation, Outcome, SearchError};
use super::{Cause, is_passing};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;

/// The request's body.
pub(super) fn body(operations: &[Operation]) -> Vec<u8> {
    let mut out = Vec::with_capacity(operations.iter().map(|o| o.len_bytes() + 64).sum());
    for Operation { id, version, document } in operations {
        let verb = if document.is_some() { "index" } else { "delete" };
        // Writing to a Vec does not fail.
        let _ =
            write!(out, r#"{{"{verb}":{{"_id":{},"version":{version},"version_type":"external_gte"}}}}"#, json!(id));
        out.push(b'\n');
        if let Some(document) = document {
            // A line break can only stand between values: inside of text JSON has to escape it.
            out.extend(document.iter().map(|&b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }));
            out.push(b'\n');
        }
    }
    out
}

#[derive(Deserialize)]
struct Answer {
    errors: bool,
    #[serde(default)]
    items: Vec<BTreeMap<String, Item>>,
}

#[derive(Deserialize)]
struct Item {
    status: u16,
    #[serde(default)]
    error: Option<Cause>,
}

/// What the answer to a request of `count` operations says of each.
pub(super) fn outcomes(answer: &[u8], count: usize) -> Result<Vec<Outcome>, SearchError> {
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|e| SearchError::unavailable(format!("its answer is not as expected: {e}")))?;
    if answer.items.len() != count {
        return Err(SearchError::unavailable(format!("it answered {} of {count} writes", answer.items.len())));
    }
    if !answer.errors {
        // A delete of what is not there has the status 404 and is no error: its version is remembered.
        return Ok(vec![Outcome::Written; count]);
    }
    answer.items.into_iter().flat_map(BTreeMap::into_values).map(outcome).collect()
}

fn outcome(item: Item) -> Result<Outcome, SearchError> {
    let Some(cause) = item.error else { return Ok(Outcome::Written) };
    let status = StatusCode::from_u16(item.status).unwrap_or(StatusCode::BAD_REQUEST);
    let why = format!("{} {}", item.status, cause.text());
    Ok(match status {
        StatusCode::CONFLICT => Outcome::Stale,
        status if status.is_server_error() || is_passing(status, &cause.kind) => Outcome::Busy(why),
        _ if cause.kind == "index_not_found_exception" => return Err(SearchError::NoIndex(cause.text())),
        _ => Outcome::Refused(why),
    })
}
