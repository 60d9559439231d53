//! The little command language on stores, which the processor `store_ops` and query events use.

use super::val::{Type, Val, Var, text};
use watersmeet::error::Result;
use watersmeet::processor::{
    KeyValueStore, Placed, ProcessorContext, SessionRow, SessionStore, StateStore, StoreContext,
    TimestampedKeyValueStore, VersionedRecord, VersionedStore, WindowRow, WindowStore,
};
use watersmeet::state::StoreKind;
use watersmeet::testing::TopologyTestDriver;

/// A store of any kind, as it is added to a topology.
#[derive(Clone)]
pub enum AnyStore {
    KeyValue(StateStore<KeyValueStore<Var, Val>>),
    Timestamped(StateStore<TimestampedKeyValueStore<Var, Val>>),
    Window(StateStore<WindowStore<Var, Val>>),
    Session(StateStore<SessionStore<Var, Val>>),
    Versioned(StateStore<VersionedStore<Var, Val>>),
}

/// A store of any kind, as a processor has opened it.
pub enum Opened {
    KeyValue(KeyValueStore<Var, Val>),
    Timestamped(TimestampedKeyValueStore<Var, Val>),
    Window(WindowStore<Var, Val>),
    Session(SessionStore<Var, Val>),
    Versioned(VersionedStore<Var, Val>),
}

/// A key or time, and a value, as texts.
pub type Answer = (String, String);

impl AnyStore {
    /// The store of that name and kind.
    pub fn of(name: &str, kind: StoreKind, key: &Type, value: &Type) -> Option<Self> {
        let (key, value) = (key.nullable(), value.serde());
        Some(match kind {
            StoreKind::KeyValue { timestamped: false } => Self::KeyValue(KeyValueStore::store(name, key, value)),
            StoreKind::KeyValue { timestamped: true } => {
                Self::Timestamped(TimestampedKeyValueStore::store(name, key, value))
            }
            StoreKind::Window { retention_ms, size_ms, duplicates, timestamped, .. } => {
                let make = match (duplicates, timestamped) {
                    (true, _) => WindowStore::with_duplicates,
                    (_, true) => WindowStore::timestamped,
                    _ => WindowStore::store,
                };
                Self::Window(make(name, retention_ms, size_ms, key, value))
            }
            StoreKind::Session { retention_ms } => Self::Session(SessionStore::store(name, retention_ms, key, value)),
            StoreKind::Versioned { history_ms, .. } => {
                Self::Versioned(VersionedStore::store(name, history_ms, key, value))
            }
            _ => return None,
        })
    }

    /// Opens it for a processor.
    pub fn open<K, V>(&self, context: &ProcessorContext<'_, K, V>) -> Result<Opened> {
        Ok(match self {
            Self::KeyValue(store) => Opened::KeyValue(context.store(store)?),
            Self::Timestamped(store) => Opened::Timestamped(context.store(store)?),
            Self::Window(store) => Opened::Window(context.store(store)?),
            Self::Session(store) => Opened::Session(context.store(store)?),
            Self::Versioned(store) => Opened::Versioned(context.store(store)?),
        })
    }

    /// Runs a command from outside.
    pub fn ask(&self, driver: &TopologyTestDriver, keys: &Type, own: &Var, command: &str) -> Result<Vec<Answer>> {
        let (name, words, backwards) = split(command);
        let mut answers = match self {
            Self::KeyValue(store) => driver.look_into(store, |s, cx| key_value(s, keys, cx, own, name, &words)),
            Self::Timestamped(store) => {
                driver.look_into(store, |s, cx| timestamped(s, keys, cx, (own, 0), name, &words))
            }
            Self::Window(store) => driver.look_into(store, |s, cx| window(s, keys, cx, (own, 0), name, &words)),
            Self::Session(store) => driver.look_into(store, |s, cx| session(s, keys, cx, own, name, &words)),
            Self::Versioned(store) => driver.look_into(store, |s, cx| versioned(s, cx, (own, 0), name, &words)),
        }?;
        if backwards {
            answers.reverse();
        }
        Ok(answers)
    }
}

impl Opened {
    /// Runs a command: on the key of a record, at its timestamp.
    pub fn run(
        &mut self,
        keys: &Type,
        at: &mut impl StoreContext,
        own: (&Var, i64),
        command: &str,
    ) -> Result<Vec<Answer>> {
        let (name, words, backwards) = split(command);
        let mut answers = match self {
            Self::KeyValue(store) => key_value(store, keys, at, own.0, name, &words),
            Self::Timestamped(store) => timestamped(store, keys, at, own, name, &words),
            Self::Window(store) => window(store, keys, at, own, name, &words),
            Self::Session(store) => session(store, keys, at, own.0, name, &words),
            Self::Versioned(store) => versioned(store, at, own, name, &words),
        }?;
        if backwards {
            answers.reverse();
        }
        Ok(answers)
    }

    /// The text of a key-value store's row.
    pub fn lookup(&mut self, at: &mut impl StoreContext, key: &Var) -> Result<Option<String>> {
        Ok(match self {
            Self::KeyValue(store) => store.get(at, key)?.map(|value| value.text()),
            Self::Timestamped(store) => store.get(at, key)?.map(|row| stamped(&row)),
            _ => None,
        })
    }
}

/// A command's name and words, and whether its answers come backwards.
fn split(command: &str) -> (&str, Vec<&str>, bool) {
    let words: Vec<&str> = command.split(':').collect();
    let backwards = words[0].starts_with('r') && words[0] != "range";
    (if backwards { &words[0][1..] } else { words[0] }, words, backwards)
}

/// A key as a command has it; empty is none.
fn key(word: &str, r#type: &Type) -> Option<Var> {
    match (word, r#type) {
        ("", _) => None,
        (_, Type::Long) => Some(word.parse().ok().map(Val::Long)),
        (_, Type::Int) => Some(word.parse().ok().map(Val::Int)),
        _ => Some(Some(word.into())),
    }
}

fn number(word: &str) -> i64 {
    word.parse().unwrap_or_else(|_| panic!("{word:?} is no number"))
}

/// A value's text, with the row's timestamp.
fn stamped((value, timestamp_ms): &(Val, i64)) -> String {
    format!("{}@{timestamp_ms}", value.text())
}

/// Kafka Streams' stores do not tell until when a version held.
fn version(record: &VersionedRecord<Val>) -> String {
    format!("{}@{}", record.value.text(), record.from_ms)
}

fn one(key: &Var, value: Option<String>) -> Vec<Answer> {
    vec![(text(key), value.unwrap_or_else(|| "null".into()))]
}

fn key_value(
    store: &mut KeyValueStore<Var, Val>,
    keys: &Type,
    at: &mut impl StoreContext,
    own: &Var,
    name: &str,
    words: &[&str],
) -> Result<Vec<Answer>> {
    let rows = |rows: Vec<(Var, Val)>| rows.iter().map(|(key, value)| (text(key), value.text())).collect();
    let found = |value: Option<Val>| one(own, value.map(|value| value.text()));
    Ok(match name {
        "put" => {
            store.put(at, own, Some(&words[1].into()))?;
            Vec::new()
        }
        "put_if_absent" => found(store.put_if_absent(at, own, &words[1].into())?),
        "del" => found(store.delete(at, own)?),
        "get" => found(store.get(at, own)?),
        "all" => rows(store.all(at)?),
        "range" => rows(store.range(at, key(words[1], keys).as_ref(), key(words[2], keys).as_ref())?),
        "prefix" => rows(store.prefix(at, &Some(words[1].into()), &Type::String.nullable())?),
        other => panic!("unknown command {other} on a key-value store"),
    })
}

fn timestamped(
    store: &mut TimestampedKeyValueStore<Var, Val>,
    keys: &Type,
    at: &mut impl StoreContext,
    (own, ts): (&Var, i64),
    name: &str,
    words: &[&str],
) -> Result<Vec<Answer>> {
    let rows = |rows: Vec<(Var, (Val, i64))>| rows.iter().map(|(key, row)| (text(key), stamped(row))).collect();
    let found = |row: Option<(Val, i64)>| one(own, row.as_ref().map(stamped));
    Ok(match name {
        "put" => {
            store.put(at, own, Some((&words[1].into(), ts)))?;
            Vec::new()
        }
        "put_if_absent" => {
            let had = store.get(at, own)?;
            if had.is_none() {
                store.put(at, own, Some((&words[1].into(), ts)))?;
            }
            found(had)
        }
        "del" => {
            let had = store.get(at, own)?;
            store.put(at, own, None)?;
            found(had)
        }
        "get" => found(store.get(at, own)?),
        "all" => rows(store.range(at, None, None)?),
        "range" => rows(store.range(at, key(words[1], keys).as_ref(), key(words[2], keys).as_ref())?),
        "prefix" => {
            let all = store.range(at, None, None)?.into_iter();
            rows(all.filter(|(key, _)| text(key).starts_with(words[1])).collect())
        }
        other => panic!("unknown command {other} on a key-value store"),
    })
}

fn versioned(
    store: &mut VersionedStore<Var, Val>,
    at: &mut impl StoreContext,
    (own, ts): (&Var, i64),
    name: &str,
    words: &[&str],
) -> Result<Vec<Answer>> {
    let placed = |placed: Placed| {
        one(
            own,
            Some(match placed {
                Placed::Now => "-1".into(),
                Placed::Until(to_ms) => to_ms.to_string(),
                Placed::TooOld => i64::MIN.to_string(),
            }),
        )
    };
    let found = |record: Option<VersionedRecord<Val>>| one(own, record.as_ref().map(version));
    Ok(match name {
        "put" => placed(store.put(at, own, Some(&words[1].into()), ts)?),
        "put_at" => placed(store.put(at, own, Some(&words[2].into()), number(words[1]))?),
        "del_at" => found(store.delete(at, own, number(words[1]))?),
        "get" => found(store.get(at, own)?),
        "get_at" => found(store.get_as_of(at, own, number(words[1]))?),
        other => panic!("unknown command {other} on a versioned store"),
    })
}

fn window(
    store: &mut WindowStore<Var, Val>,
    key_type: &Type,
    at: &mut impl StoreContext,
    (own, ts): (&Var, i64),
    name: &str,
    words: &[&str],
) -> Result<Vec<Answer>> {
    let value = |row: &WindowRow<Var, Val>| match row.timestamp_ms {
        Some(ms) => format!("{}@{ms}", row.value.text()),
        None => row.value.text(),
    };
    let rows = |rows: Vec<WindowRow<Var, Val>>| -> Vec<Answer> {
        let answer =
            |row: &WindowRow<Var, Val>| (format!("[{}@{}/{}]", text(&row.key), row.start_ms, row.end_ms), value(row));
        rows.iter().map(answer).collect()
    };
    Ok(match name {
        "put" => {
            store.put_stamped(at, own, Some(&words[1].into()), ts, ts)?;
            Vec::new()
        }
        "put_at" => {
            store.put_stamped(at, own, Some(&words[2].into()), number(words[1]), ts)?;
            Vec::new()
        }
        "del_at" => {
            store.put_stamped(at, own, None, number(words[1]), ts)?;
            Vec::new()
        }
        "get_at" => one(own, store.get(at, own, number(words[1]))?.as_ref().map(value)),
        "fetch" => {
            let found = store.fetch(at, own, number(words[1]), number(words[2]))?;
            found.iter().map(|row| (format!("{}@{}", text(own), row.start_ms), value(row))).collect()
        }
        "range" => {
            let (from, to) = (key(words[1], key_type), key(words[2], key_type));
            rows(store.fetch_range(at, (from.as_ref(), to.as_ref()), number(words[3]), number(words[4]))?)
        }
        "all" => rows(store.all(at)?),
        "all_in" => rows(store.fetch_range(at, (None, None), number(words[1]), number(words[2]))?),
        other => panic!("unknown command {other} on a window store"),
    })
}

fn session(
    store: &mut SessionStore<Var, Val>,
    key_type: &Type,
    at: &mut impl StoreContext,
    own: &Var,
    name: &str,
    words: &[&str],
) -> Result<Vec<Answer>> {
    let rows = |rows: Vec<SessionRow<Var, Val>>| {
        let answer = |row: &SessionRow<Var, Val>| {
            (format!("[{}@{}/{}]", text(&row.key), row.start_ms, row.end_ms), row.value.text())
        };
        rows.iter().map(answer).collect()
    };
    let bounds = |from: &str, to: &str| (key(from, key_type), key(to, key_type));
    Ok(match name {
        "put" => {
            store.put(at, own, (number(words[1]), number(words[2])), Some(&words[3].into()))?;
            Vec::new()
        }
        "del" => {
            store.remove(at, own, (number(words[1]), number(words[2])))?;
            Vec::new()
        }
        "get" => one(own, store.get(at, own, (number(words[1]), number(words[2])))?.map(|value| value.text())),
        "fetch" => rows(store.fetch(at, own)?),
        "find" => rows(store.find(at, own, number(words[1]), number(words[2]))?),
        "range" => {
            let (from, to) = bounds(words[1], words[2]);
            rows(store.find_range(at, (from.as_ref(), to.as_ref()), 0, i64::MAX)?)
        }
        "find_in" => {
            let (from, to) = bounds(words[1], words[2]);
            rows(store.find_range(at, (from.as_ref(), to.as_ref()), number(words[3]), number(words[4]))?)
        }
        other => panic!("unknown command {other} on a session store"),
    })
}
