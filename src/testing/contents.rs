//! Everything in a store of a test's tasks, as bytes.

use super::driver::{Inner, TopologyTestDriver};
use crate::error::{Error, Kind, Result};
use crate::operators::Cx;
use crate::operators::store_views::StateStore;
use crate::record::{Headers, Timestamp};
use crate::state::buffer_value::{BufferValue, Bytes};
use crate::state::segmented::Keys;
use crate::state::{StoreKind, StoreSpec, subscriptions, timestamped};

/// A row of a store, of whatever kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreRow {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// Start and end of the window or session, or of the time in which a version holds (`i64::MAX`: it still does); `None` in
    /// other stores.
    pub window: Option<(Timestamp, Timestamp)>,
    /// The timestamp that is kept with the value; `None` where the store keeps none.
    pub timestamp_ms: Option<Timestamp>,
    /// The value's bytes.
    pub value: Vec<u8>,
    /// The headers that are kept with the value; most stores keep none.
    pub headers: Headers,
}

/// A change that a buffer holds back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferRow {
    /// Its place: when its window ends, or the timestamp of the key's first change.
    pub time_ms: Timestamp,
    /// The key's bytes.
    pub key: Vec<u8>,
    /// What everybody below has seen last.
    pub prior: Option<Vec<u8>>,
    /// The value before the change.
    pub old: Option<Vec<u8>>,
    /// The value now.
    pub new: Option<Vec<u8>>,
    /// The timestamp of the change.
    pub timestamp_ms: Timestamp,
}

impl TopologyTestDriver {
    /// Everything that the buffer of that name, a `suppress` operator's, holds back; the oldest first.
    ///
    /// # Errors
    /// The driver's thread has ended.
    pub fn buffer_rows(&self, name: &str) -> Result<Vec<BufferRow>> {
        self.inner(|inner| {
            let mut all = Vec::new();
            for (cx, store) in inner.thread()?.contexts(name) {
                let row = |(time_ms, key, value): (Timestamp, &Bytes, &BufferValue)| BufferRow {
                    time_ms,
                    key: key.to_vec(),
                    prior: value.prior.as_deref().map(<[u8]>::to_vec),
                    old: value.old.as_deref().map(<[u8]>::to_vec),
                    new: value.new.as_deref().map(<[u8]>::to_vec),
                    timestamp_ms: value.origin.timestamp_ms,
                };
                all.extend(cx.buffers.get(&store).into_iter().flat_map(|buffer| buffer.iter()).map(row));
            }
            Ok(all)
        })
    }

    /// The topology's stores, as they were declared.
    pub fn stores(&self) -> Vec<StoreSpec> {
        self.inner(|inner| inner.topology().stores.values().cloned().collect())
    }

    /// Everything in the store of that name that can still be read, over all tasks: key-value stores by key, window and
    /// session stores in the order of their engine.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// use watersmeet::testing::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.table("names", Consumed::<String, String>::default(), Materialized::memory("names-store"));
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// driver.create_input_topic("names", Produced::<String, String>::default()).pipe_at("u1", "Ada", 5)?;
    ///
    /// let rows = driver.store_rows("names-store")?;
    /// assert_eq!((&rows[0].key[..], &rows[0].value[..], rows[0].timestamp_ms), (&b"u1"[..], &b"Ada"[..], Some(5)));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is no such store, it is of a kind that has no rows of keys and values, or the driver's thread has ended.
    #[doc(alias = "getStateStore")]
    pub fn store_rows(&self, name: &str) -> Result<Vec<StoreRow>> {
        self.inner(|inner| rows(inner, name))
    }
}

impl TopologyTestDriver {
    /// Lets `f` look into a store as a processor would, in the first task that has it.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// use watersmeet::processor::TimestampedKeyValueStore;
    /// use watersmeet::serdes::DefaultSerde;
    /// use watersmeet::testing::TopologyTestDriver;
    ///
    /// let builder = StreamsBuilder::new();
    /// builder.table("names", Consumed::<String, String>::default(), Materialized::memory("names-store"));
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// driver.create_input_topic("names", Produced::<String, String>::default()).pipe_at("u1", "Ada", 5)?;
    ///
    /// let names = TimestampedKeyValueStore::<String, String>::store("names-store", String::serde(), String::serde());
    /// let row = driver.look_into(&names, |names, context| names.get(context, &"u1".into()))?;
    /// assert_eq!(row, Some(("Ada".into(), 5)));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is no such store, or the driver's thread has ended; those of `f`.
    pub fn look_into<S, T>(&self, store: &StateStore<S>, f: impl FnOnce(&mut S, &mut Cx) -> Result<T>) -> Result<T> {
        self.inner(|inner| {
            let unknown = || Error::new(Kind::Topology, "no running task has a store of this name").store(store.name());
            let (cx, id) = inner.thread()?.contexts(store.name()).next().ok_or_else(unknown)?;
            f(&mut store.open(id), cx)
        })
    }
}

fn rows(inner: &mut Inner, name: &str) -> Result<Vec<StoreRow>> {
    let unknown = || Error::new(Kind::Topology, "no running task has a store of this name").store(name);
    let kind = inner.topology().stores.get(name).ok_or_else(unknown)?.kind;
    let mut all = Vec::new();
    for (cx, store) in inner.thread()?.contexts(name) {
        match kind {
            StoreKind::KeyValue { timestamped } => cx.state.range(store, None, None, &mut |key, row| {
                let (key, window, headers) = (key.to_vec(), None, Headers::default());
                all.push(match timestamped {
                    true => {
                        let timestamp_ms = Some(timestamped::timestamp_ms(row));
                        StoreRow { key, window, timestamp_ms, value: timestamped::value(row).to_vec(), headers }
                    }
                    false => StoreRow { key, window, timestamp_ms: None, value: row.to_vec(), headers },
                });
                true
            })?,
            StoreKind::Subscriptions { headers: with_headers } => {
                cx.state.range(store, None, None, &mut |key, row| {
                    let (headers, value) = subscriptions::decode(row, with_headers);
                    let (key, timestamp_ms) = (key.to_vec(), Some(timestamped::timestamp_ms(row)));
                    all.push(StoreRow { key, window: None, timestamp_ms, value: value.to_vec(), headers });
                    true
                })?;
            }
            StoreKind::Window { size_ms, timestamped, .. } => {
                for row in cx.fetch_timed(store, Keys::Range(None, None), i64::MIN, i64::MAX)? {
                    let timestamp_ms = timestamped.then(|| timestamped::timestamp_ms(&row.value));
                    let value = if timestamped { timestamped::value(&row.value).to_vec() } else { row.value };
                    let window = Some((row.time_ms, row.time_ms.saturating_add(size_ms)));
                    all.push(StoreRow { key: row.key, window, timestamp_ms, value, headers: row.headers });
                }
            }
            StoreKind::Session { .. } => {
                for row in cx.fetch_timed(store, Keys::Range(None, None), i64::MIN, i64::MAX)? {
                    let window = Some((row.suffix, row.time_ms));
                    let (key, value, headers) = (row.key, row.value, Headers::default());
                    all.push(StoreRow { key, window, timestamp_ms: None, value, headers });
                }
            }
            StoreKind::Versioned { .. } => {
                let Some(versioned) = &cx.versioned[store.0] else { continue };
                for (key, versions) in versioned.all(&mut cx.state)? {
                    all.extend(versions.into_iter().filter_map(|version| {
                        let window = Some((version.from_ms, version.to_ms.unwrap_or(i64::MAX)));
                        let (key, value, headers) = (key.clone(), version.value?, Headers::default());
                        Some(StoreRow { key, window, timestamp_ms: None, value, headers })
                    }));
                }
            }
            StoreKind::Buffer => {
                return Err(
                    Error::new(Kind::Topology, "a store of this kind has no rows of keys and values").store(name)
                );
            }
        }
    }
    Ok(all)
}
