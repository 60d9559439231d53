//! Whether an answer equals the expected one, aspect by aspect, and where they differ first.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that is compared, in the order in which it is told.
pub const ASPECTS: [&str; 11] = [
    "error",
    "outputs",
    "order",
    "repartition",
    "changelog",
    "describe",
    "internal_topics",
    "stores",
    "side_effects",
    "queries",
    "metrics",
];

/// The outcome of one aspect: `Ok`, or the first difference.
pub type Outcome = Result<(), String>;

/// Compares in all aspects that the expected answer has.
pub fn compare(expected: &Value, actual: &Value) -> BTreeMap<&'static str, Outcome> {
    let mut all = BTreeMap::new();
    let of_kind = |kind: &str| -> BTreeSet<&str> {
        let topics = expected["internal_topics"].as_object();
        topics.into_iter().flatten().filter(|(_, t)| t["kind"] == kind).map(|(name, _)| name.as_str()).collect()
    };
    let (changelogs, repartitions) = (of_kind("changelog"), of_kind("repartition"));
    all.insert("error", error(&expected["error"], &actual["error"]));
    if expected.get("outputs").is_some() {
        let external = |t: &str| !changelogs.contains(t) && !repartitions.contains(t);
        all.insert("outputs", by_topic(expected, actual, external));
        all.insert("order", list(&records(expected, external), &records(actual, external)));
        if !repartitions.is_empty() {
            all.insert("repartition", by_topic(expected, actual, |t| repartitions.contains(t)));
        }
        if !changelogs.is_empty() {
            all.insert("changelog", by_topic(expected, actual, |t| changelogs.contains(t)));
        }
    }
    for field in &ASPECTS[5..] {
        let Some(want) = expected.get(*field) else { continue };
        let empty = want.as_object().is_some_and(Map::is_empty) || want.as_array().is_some_and(Vec::is_empty);
        let outcome = match actual.get(*field) {
            None if empty => continue,
            None => Err("not in the answer".into()),
            Some(have) => difference(want, have, ""),
        };
        all.insert(*field, outcome);
    }
    all
}

/// Phase and event are the contract; classes and messages are each implementation's own.
fn error(expected: &Value, actual: &Value) -> Outcome {
    let place = |error: &Value| (error["phase"].clone(), error["event"].clone());
    match (expected, actual) {
        (Value::Null, Value::Null) => Ok(()),
        (Value::Null, _) => Err(format!("none expected, got {actual}")),
        (_, Value::Null) => Err(format!("expected {expected}")),
        _ if place(expected) == place(actual) => Ok(()),
        _ => Err(format!("expected {expected}, got {actual}")),
    }
}

/// The records of those topics, each as the text of what counts.
fn records(answer: &Value, which: impl Fn(&str) -> bool) -> Vec<String> {
    let of_topic = |r: &&Value| which(r["topic"].as_str().unwrap_or_default());
    answer["outputs"].as_array().into_iter().flatten().filter(of_topic).map(record).collect()
}

fn record(record: &Value) -> String {
    let own = ["__streams.errors.exception", "__streams.errors.message", "__streams.errors.stacktrace"];
    let comparable = |header: &Value| match header[0].as_str() {
        Some(name) if own.contains(&name) => json!([name]),
        _ => header.clone(),
    };
    let headers: Vec<Value> = record["headers"].as_array().into_iter().flatten().map(comparable).collect();
    let mut parts: Vec<String> = ["event", "topic", "ts", "k", "v"].map(|f| format!("{f} {}", record[f])).into();
    for field in ["key", "value"] {
        if let Some(decoded) = record.get(field) {
            parts.push(format!("({field} {decoded})"));
        }
    }
    if !headers.is_empty() {
        parts.push(format!("headers {}", Value::Array(headers)));
    }
    parts.join(" ")
}

/// A record's text without what is there for people only.
fn counts(record: &str) -> String {
    let cut = |text: &str, from: &str, to: Option<&str>| match text.find(from) {
        None => text.to_string(),
        Some(at) => {
            let end = to.and_then(|to| text[at..].find(to)).map_or(text.len(), |len| at + len);
            format!("{}{}", &text[..at], &text[end..])
        }
    };
    cut(record, " (key ", Some(" headers ["))
}

fn by_topic(expected: &Value, actual: &Value, which: impl Fn(&str) -> bool) -> Outcome {
    let topics = |answer: &Value| -> BTreeSet<String> {
        let all = answer["outputs"].as_array().into_iter().flatten().filter_map(|r| r["topic"].as_str());
        all.filter(|topic| which(topic)).map(str::to_owned).collect()
    };
    let mut all = topics(expected);
    all.extend(topics(actual));
    for topic in all {
        let (mut want, mut have) = (records(expected, |t| t == topic), records(actual, |t| t == topic));
        if is_buffer(expected, &topic) {
            // Kafka Streams writes the records of one commit in the order of a hash set.
            let event = |r: &str| r.split(' ').nth(1).and_then(|n| n.parse::<i64>().ok()).unwrap_or_default();
            let key = |r: &str| r.split(" k ").nth(1).unwrap_or_default().to_string();
            for side in [&mut want, &mut have] {
                side.sort_by_key(|r| (event(r), key(r)));
            }
        }
        list(&want, &have)?;
    }
    Ok(())
}

/// The changelog of a suppress buffer, known by the header of its records.
fn is_buffer(expected: &Value, topic: &str) -> bool {
    let marked = |r: &Value| r["headers"].as_array().into_iter().flatten().any(|header| header[0] == "v");
    let all = expected["outputs"].as_array().into_iter().flatten();
    topic.ends_with("-changelog") && all.filter(|r| r["topic"] == topic).any(marked)
}

fn list(expected: &[String], actual: &[String]) -> Outcome {
    for at in 0..expected.len().max(actual.len()) {
        let [want, have] = [expected, actual].map(|side| side.get(at).map_or("nothing", String::as_str));
        if counts(want) != counts(have) {
            return Err(format!("record {at}\n      expected {want}\n      got      {have}"));
        }
    }
    Ok(())
}

/// The first difference of two JSON values.
fn difference(expected: &Value, actual: &Value, path: &str) -> Outcome {
    if expected == actual {
        return Ok(());
    }
    let text = |value: Option<&Value>| value.map_or("nothing".into(), Value::to_string);
    match (expected, actual) {
        (Value::Object(want), Value::Object(have)) => {
            for name in want.keys().chain(have.keys()) {
                match (want.get(name), have.get(name)) {
                    (Some(want), Some(have)) => difference(want, have, &format!("{path}/{name}"))?,
                    (want, have) => return Err(format!("{path}/{name}: expected {}, got {}", text(want), text(have))),
                }
            }
        }
        (Value::Array(want), Value::Array(have)) => {
            for at in 0..want.len().max(have.len()) {
                if want.get(at) != have.get(at) {
                    let (want, have) = (text(want.get(at)), text(have.get(at)));
                    return Err(format!("{path}/{at}\n      expected {want}\n      got      {have}"));
                }
            }
        }
        (Value::String(want), Value::String(have)) => {
            let mut have = have.lines();
            for (at, line) in want.lines().enumerate() {
                let other = have.next().unwrap_or("nothing");
                if line != other {
                    return Err(format!("{path} line {}\n      expected {line}\n      got      {other}", at + 1));
                }
            }
        }
        _ => {}
    }
    Err(format!("{path}: expected {expected}, got {actual}"))
}
