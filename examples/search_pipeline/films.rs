//! Films joined with their ratings: what the search shows of a film.

use crate::pipeline::Films;
use serde_json::{Map, Value, json};
use watersmeet::prelude::*;

type Object = Map<String, Value>;

/// Adds the join.
pub fn add(builder: &StreamsBuilder, films: &Films) {
    let consumed = || Consumed::<String, Object>::json();
    let catalog = builder.table(&films.catalog, consumed().ready_first(), Materialized::rocksdb("catalog"));
    builder
        .stream(&films.ratings, consumed())
        .join(&catalog, |rating, film| merged(&film, rating))
        .to(&films.merged, Produced::json());
}

/// All fields of both, and those that the index knows.
fn merged(film: &Object, rating: Object) -> Object {
    let mut merged = film.clone();
    merged.insert("name".into(), film.get("title").map_or_else(|| json!(""), text));
    merged.insert("created_at".into(), json!(film.get("released").and_then(Value::as_str).and_then(day)));
    merged.insert("popularity".into(), rating.get("votes").cloned().unwrap_or_default());
    merged.extend(rating);
    merged
}

/// Titles such as 300 are numbers in the data.
fn text(value: &Value) -> Value {
    value.as_str().map_or_else(|| json!(value.to_string()), |text| json!(text))
}

/// "Jun 12 1998" as "1998-06-12".
fn day(text: &str) -> Option<String> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = text.split_whitespace();
    let month = parts.next().and_then(|name| MONTHS.iter().position(|month| *month == name))? + 1;
    let (day, year): (u8, u16) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    ((1..=31).contains(&day) && year >= 1000).then(|| format!("{year:04}-{month:02}-{day:02}"))
}
