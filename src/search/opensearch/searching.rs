//! Searches: the request's body, and the hits of the answer.

use super::super::{Hit, Hits, Search, SearchError, Sort};
use super::http::Response;
use super::read;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The request's body.
pub(super) fn body(search: &Search) -> Value {
    // Each word may be in another field, as in the embedded engine. What has no letter or digit is no word.
    let words: Vec<&str> =
        search.query.split_whitespace().filter(|word| word.contains(|c: char| c.is_alphanumeric())).collect();
    let word = |(i, word): (usize, &&str)| {
        let kind = if i + 1 == words.len() { "bool_prefix" } else { "best_fields" };
        let mut query = json!({ "query": word, "type": kind, "operator": "and", "lenient": true });
        if !search.fields.is_empty() {
            query["fields"] = json!(search.fields);
        }
        json!({ "multi_match": query })
    };
    let query = match (search.query.trim().is_empty(), words.is_empty()) {
        (true, _) => json!({ "match_all": {} }),
        (false, true) => json!({ "match_none": {} }),
        (false, false) => json!({ "bool": { "must": words.iter().enumerate().map(word).collect::<Vec<_>>() } }),
    };
    let by = |field: &String, order: &str| json!([{ field: { "order": order, "missing": "_last", "unmapped_type": "double" } }, "_score"]);
    let sort = match &search.sort {
        Sort::Relevance => json!(["_score"]),
        Sort::Largest(field) => by(field, "desc"),
        Sort::Smallest(field) => by(field, "asc"),
    };
    json!({ "query": query, "sort": sort, "from": search.start, "size": search.size, "track_total_hits": true })
}

#[derive(Deserialize)]
struct Answer {
    hits: Outer,
}

#[derive(Deserialize)]
struct Outer {
    total: Total,
    hits: Vec<Inner>,
}

#[derive(Deserialize)]
struct Total {
    value: u64,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_score")]
    score: Option<f32>,
    #[serde(rename = "_source")]
    source: Box<RawValue>,
}

/// The hits of an answer.
pub(super) fn hits(response: &Response) -> Result<Hits, SearchError> {
    let Answer { hits } = read(response)?;
    let hit = |inner: Inner| Hit { id: inner.id, score: inner.score, document: inner.source };
    Ok(Hits { total: hits.total.value, hits: hits.hits.into_iter().map(hit).collect() })
}
