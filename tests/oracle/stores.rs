//! What is in the stores at the end of a case, as its answer tells it.

use super::interpreter::{Contents, Interpreter};
use super::val::{Type, base64, render};
use serde_json::{Map, Value, json};
use watersmeet::error::Error;
use watersmeet::state::timestamped::UNKNOWN_MS;
use watersmeet::state::{StoreKind, StoreSpec};
use watersmeet::testing::{BufferRow, StoreRow, TopologyTestDriver};

/// All stores, by name.
pub fn all(driver: &TopologyTestDriver, interpreter: &Interpreter) -> Result<Value, Error> {
    let mut all = Map::new();
    for spec in driver.stores() {
        let contents = interpreter.contents(&spec.name);
        let is_table = interpreter.tables.contains(&spec.name);
        all.insert(spec.name.clone(), one(driver, &spec, contents, is_table)?);
    }
    Ok(Value::Object(all))
}

fn one(driver: &TopologyTestDriver, spec: &StoreSpec, contents: Contents, is_table: bool) -> Result<Value, Error> {
    let r#type = match spec.kind {
        StoreKind::KeyValue { .. } | StoreKind::Subscriptions { .. } => "key_value",
        StoreKind::Window { .. } => "window",
        StoreKind::Session { .. } => "session",
        StoreKind::Versioned { .. } => "versioned",
        StoreKind::Buffer => return buffer(driver, &spec.name),
    };
    let mut rows = driver.store_rows(&spec.name)?;
    if let Contents::Held(grace_ms) = contents {
        return Ok(held(&rows, grace_ms));
    }
    if is_table && (spec.kind == StoreKind::KeyValue { timestamped: false }) {
        // That is how a table reads a row without a timestamp.
        rows.iter_mut().for_each(|row| row.timestamp_ms = Some(UNKNOWN_MS));
    }
    // The sort is stable: rows of equal key and time stay in the order in which they came.
    rows.sort_by(|a, b| (&a.key, a.window).cmp(&(&b.key, b.window)));
    if let StoreKind::Versioned { .. } = spec.kind {
        let keys = rows.chunk_by(|a, b| a.key == b.key).map(|versions| versioned(versions, &contents));
        return Ok(json!({"type": r#type, "entries": keys.collect::<Vec<_>>()}));
    }
    let entries: Vec<Value> = match &contents {
        Contents::Waiting { key, left, right } => rows.iter().flat_map(|row| waiting(row, key, left, right)).collect(),
        contents => rows.iter().map(|row| entry(row, contents)).collect(),
    };
    Ok(json!({"type": r#type, "entries": entries}))
}

/// What a buffer holds back.
fn buffer(driver: &TopologyTestDriver, name: &str) -> Result<Value, Error> {
    let mut rows = driver.buffer_rows(name)?;
    let first_ms = rows.first().map(|row| row.time_ms);
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let bytes = |part: &Option<Vec<u8>>| json!(part.as_deref().map(base64));
    let entry = |row: &BufferRow| {
        json!({
            "time": row.time_ms,
            "k": base64(&row.key),
            "prior": bytes(&row.prior),
            "old": bytes(&row.old),
            "new": bytes(&row.new),
            "ts": row.timestamp_ms,
        })
    };
    let entries: Vec<Value> = rows.iter().map(entry).collect();
    let mut all = json!({"type": "buffer", "records": rows.len(), "entries": entries});
    if let Some(first_ms) = first_ms {
        all["min_timestamp"] = json!(first_ms);
    }
    Ok(all)
}

/// The records that a join with a grace period holds back. Behind each value is a time that this buffer does not need, and
/// the oldest time is what Kafka Streams takes for it: the first that is not over.
fn held(rows: &[StoreRow], grace_ms: i64) -> Value {
    let entry = |row: &StoreRow| json!({"k": base64(&row.key), "v": base64(&row.value[..row.value.len() - 8])});
    let entries: Vec<Value> = rows.iter().map(entry).collect();
    let mut all = json!({"type": "buffer", "records": rows.len(), "entries": entries});
    let time = |row: &StoreRow| row.key[1..].first_chunk().map(|time| i64::from_be_bytes(*time));
    if let Some(last_ms) = rows.iter().filter_map(time).max() {
        all["min_timestamp"] = json!(last_ms - grace_ms + 1);
    }
    all
}

/// The key of a record that has met none of the other side: time, side, key.
fn waiting_key(bytes: &[u8], key: &Type) -> Option<Value> {
    let (time, rest) = bytes.split_first_chunk::<8>()?;
    let (side, rest) = rest.split_first()?;
    let side = if *side == 1 { "left" } else { "right" };
    Some(json!({"key": decode(key, rest), "ts": i64::from_be_bytes(*time), "side": side}))
}

/// The values under such a key: each has its length and its side before it.
fn waiting_values(bytes: &[u8], left: &Type, right: &Type) -> Option<Vec<Value>> {
    let mut rest = bytes.get(5..)?;
    let mut all = Vec::new();
    while let Some((len, behind)) = rest.split_first_chunk::<4>() {
        let (value, behind) = behind.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        rest = behind;
        all.push(match value.split_first()? {
            (1, value) => json!({"left": decode(left, value)}),
            (_, value) => json!({"right": decode(right, value)}),
        });
    }
    Some(all)
}

/// What is listed of a row of records that wait: one entry for each.
fn waiting(row: &StoreRow, key: &Type, left: &Type, right: &Type) -> Vec<Value> {
    let bytes = |bytes: &[u8]| json!(base64(bytes));
    let values = waiting_values(&row.value, left, right).unwrap_or_else(|| vec![bytes(&row.value)]);
    let key = waiting_key(&row.key, key).unwrap_or_else(|| bytes(&row.key));
    values.into_iter().map(|value| json!({"key": key, "value": value})).collect()
}

/// A key with its versions.
fn versioned(versions: &[StoreRow], contents: &Contents) -> Value {
    let version = |row: &StoreRow| {
        let (from_ms, to_ms) = row.window.unwrap_or_default();
        let to_ms = (to_ms != i64::MAX).then_some(to_ms);
        json!({"value": value(&row.value, contents), "from": from_ms, "to": to_ms})
    };
    json!({"key": key(&versions[0].key, contents), "versions": versions.iter().map(version).collect::<Vec<_>>()})
}

fn entry(row: &StoreRow, contents: &Contents) -> Value {
    let mut entry = json!({"key": key(&row.key, contents), "value": value(&row.value, contents)});
    if let Some((start_ms, end_ms)) = row.window {
        entry["start"] = json!(start_ms);
        entry["end"] = json!(end_ms);
    }
    if let Some(timestamp_ms) = row.timestamp_ms {
        entry["ts"] = json!(timestamp_ms);
    }
    if !row.headers.is_empty() {
        let headers = row.headers.iter().map(|header| json!([header.name, header.value.as_deref().map(base64)]));
        entry["headers"] = headers.collect();
    }
    entry
}

fn decode(r#type: &Type, bytes: &[u8]) -> Value {
    match r#type.nullable().deserialize(Some(bytes)) {
        Ok(value) => render(&value),
        Err(error) => json!({"bytes": base64(bytes), "error": error.to_string()}),
    }
}

fn key(bytes: &[u8], contents: &Contents) -> Value {
    match contents {
        Contents::Rows(key, _) => decode(key, bytes),
        _ => json!(base64(bytes)),
    }
}

fn value(bytes: &[u8], contents: &Contents) -> Value {
    match contents {
        Contents::Rows(_, value) => decode(value, bytes),
        Contents::Subscriptions(primary_key) => {
            subscription(bytes, primary_key).unwrap_or_else(|| json!(base64(bytes)))
        }
        _ => json!(base64(bytes)),
    }
}

/// A subscription of a foreign-key join: version (its first bit says that there is no hash), instruction, hash of the row,
/// primary key, partition.
fn subscription(bytes: &[u8], primary_key: &Type) -> Option<Value> {
    let (&[version, instruction], mut rest) = bytes.split_first_chunk::<2>()?;
    let name = match instruction {
        0 => "DELETE_KEY_NO_PROPAGATE",
        1 => "DELETE_KEY_AND_PROPAGATE",
        2 => "PROPAGATE_NULL_IF_NO_FK_VAL_AVAILABLE",
        _ => "PROPAGATE_ONLY_IF_FK_VAL_AVAILABLE",
    };
    let mut hash = Value::Null;
    if version & 0x80 == 0 {
        let (words, behind) = rest.split_first_chunk::<16>()?;
        hash = json!(words.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        rest = behind;
    }
    let (key, partition) = rest.split_last_chunk::<4>()?;
    Some(json!({
        "version": version & 0x7f,
        "instruction": name,
        "primary_key": decode(primary_key, key),
        "hash": hash,
        "primary_partition": i32::from_be_bytes(*partition),
    }))
}
