//! What reading and merging two JSON objects costs, the configured join's work per record: `JsonObject` beside the same
//! work on `serde_json`'s raw values and on its trees.
//!
//! `cargo bench --bench json`

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt;
use std::hint::black_box;
use std::time::Instant;
use watersmeet::serdes::JsonObject;

const AIRPORT: &str = r#"{"iata":"DTW","name":"Detroit Metropolitan-Wayne County","city":"Detroit","state":"MI","country":"USA","latitude":42.21205889,"longitude":-83.34883583,"altitude_ft":645,"note":"on time mostly"}"#;
const FLIGHT: &str = r#"{"date":"2001/01/01 00:47","delay":66,"distance":1750,"origin":"DTW","destination":"LAS","carrier":"Northwest Airlines","number":1201,"tail":"N301US","state":"NV"}"#;

fn main() {
    println!("a row of {} B, a record of {} B; the best of 9 rounds", AIRPORT.len(), FLIGHT.len());
    let (row, record) = (AIRPORT.as_bytes(), FLIGHT.as_bytes());
    let parse = |text| JsonObject::parse(black_box(text)).expect("an object");
    let (parsed_row, parsed_record) = (parse(row), parse(record));
    time("JsonObject: read the row", || parse(row));
    time("JsonObject: read the record", || parse(record));
    time("JsonObject: merge them", || parsed_row.merged_with(black_box(&parsed_record)));
    time("JsonObject: all three", || parse(row).merged_with(&parse(record)));
    time("serde_json, raw values: all three", || merge_raw(&raw(black_box(row)), &raw(black_box(record))));
    time("serde_json, trees: all three, and print", || {
        let mut merged: Map<String, Value> = serde_json::from_slice(black_box(row)).expect("an object");
        merged.extend(serde_json::from_slice::<Map<String, Value>>(black_box(record)).expect("an object"));
        serde_json::to_string(&merged).expect("JSON")
    });
    time("serde_json: only check the row", || serde_json::from_slice::<IgnoredAny>(black_box(row)).expect("JSON"));
}

fn time<R>(what: &str, mut work: impl FnMut() -> R) {
    const TIMES: u32 = 100_000;
    let mut round = || {
        let start = Instant::now();
        for _ in 0..TIMES {
            black_box(work());
        }
        start.elapsed() / TIMES
    };
    let best = (0..9).map(|_| round()).min().unwrap_or_default();
    println!("{what:<40} {:>6} ns", best.as_nanos());
}

/// The shortest that a library offers: names decoded, values left as text. Escaped names would need more.
type Fields<'a> = Vec<(&'a str, &'a RawValue)>;

fn raw(text: &[u8]) -> Fields<'_> {
    struct Object;
    impl<'de> Visitor<'de> for Object {
        type Value = Fields<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::with_capacity(16);
            while let Some(field) = map.next_entry()? {
                fields.push(field);
            }
            Ok(fields)
        }
    }
    serde_json::Deserializer::from_slice(text).deserialize_map(Object).expect("an object")
}

fn merge_raw(row: &Fields, record: &Fields) -> String {
    let value = |name: &str| record.iter().find(|field| field.0 == name).map(|field| field.1);
    let mut merged = String::with_capacity(512);
    for (name, own) in row {
        push(&mut merged, name, value(name).unwrap_or(own));
    }
    for (name, value) in record.iter().filter(|field| row.iter().all(|other| other.0 != field.0)) {
        push(&mut merged, name, value);
    }
    merged.push('}');
    merged
}

fn push(object: &mut String, name: &str, value: &RawValue) {
    for part in [if object.is_empty() { "{\"" } else { ",\"" }, name, "\":", value.get()] {
        object.push_str(part);
    }
}
