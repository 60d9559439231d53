//! Interactive queries: what the stores hold, typed, from any thread.
//!
//! ```
//! use watersmeet::prelude::*;
//! use watersmeet::clock::SystemClock;
//! use watersmeet::streams::State;
//! use watersmeet::testing::MemoryBroker;
//!
//! let builder = StreamsBuilder::new();
//! builder.table("products", Consumed::<String, String>::default(), Materialized::memory("products"));
//! let broker = MemoryBroker::new();
//! broker.create_topic("products", 2);
//! broker.produce("products", "p1".as_bytes(), "a chair".as_bytes(), 5)?;
//! let client = broker.client("shop", "one");
//! let streams = Streams::start_on(builder.build()?, Config::new("shop"), client, SystemClock::shared())?;
//! assert!(streams.wait_for(&[State::Running], std::time::Duration::from_secs(10)));
//!
//! let products = streams.store("products").latest().key_value::<String, String>()?;
//! while products.get(&"p1".into())?.is_none() {
//!     std::thread::yield_now();
//! }
//! assert_eq!(products.get(&"p1".into())?.as_deref(), Some("a chair"));
//! # Ok::<(), watersmeet::error::Error>(())
//! ```
//!
//! By default a query sees what is committed: of a store on disk it is read without a word to the stream threads, and a crash
//! does not take it back. [`latest`](Store::latest) sees also what is not committed yet; that, and everything in memory, the
//! stream thread answers between two runs of records.
//!
//! [`after`](Store::after) a record that the application has written, a query has it. [`watch`](KeyValueReads::watch) tells
//! what changes, as it is committed.
//!
//! An instance reads the partitions that it has. A key whose partition is elsewhere, or is being restored, is
//! [`Kind::Unavailable`]: ask again, or ask the instance that has it (over HTTP the question is passed on).
//!
//! Source: `KafkaStreams.store`, `ReadOnlyKeyValueStore`, `ReadOnlyWindowStore`, `ReadOnlySessionStore`.
//!
//! [`Kind::Unavailable`]: crate::error::Kind::Unavailable

mod key_value;
mod timed;
mod versioned;
mod watch;

pub use crate::runtime::queries::{Owner, Staleness};
pub use crate::state::query::Level;
pub(crate) use key_value::behind_prefix;
pub use key_value::{KeyValueReads, KeyValueRow, Rows};
pub use timed::{SessionReads, WindowReads};
pub use versioned::VersionedReads;
pub use watch::{Changes, Event};

use crate::broker::Written;
use crate::error::{Error, Kind, Result};
use crate::runtime::queries::{StoreBytes, Stores, kind_name};
use crate::serdes::{DefaultSerde, Encoded, SerdeRef};
use crate::state::StoreKind;
use std::time::Duration;

/// A store of a client, before it is known what its keys and values are.
#[derive(Clone)]
pub struct Store {
    stores: Stores,
    name: String,
    level: Level,
    timeout: Option<Duration>,
    after: Option<Written>,
}

impl Store {
    pub(crate) fn new(stores: Stores, name: &str) -> Self {
        Self { stores, name: name.into(), level: Level::default(), timeout: None, after: None }
    }

    /// Has this record, which the application has written: a query waits until a commit has it, at most as long as an answer
    /// is waited for. So whoever has written something reads it.
    ///
    /// Its topic has to be one that the store's own sub-topology reads; its partition has to be with this instance.
    #[doc(alias = "PositionBound")]
    pub fn after(mut self, record: &Written) -> Self {
        self.after = Some(record.clone());
        self
    }

    /// Sees also what is not committed yet.
    pub fn latest(self) -> Self {
        self.level(Level::Latest)
    }

    /// Sets which writes are seen.
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    /// Sets how long the answer of a stream thread is waited for, where one is needed (2 seconds).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// As a key-value store with these types' own serdes.
    ///
    /// # Errors
    /// [`Kind::Topology`]: there is no such store, or it is of another kind.
    pub fn key_value<K: DefaultSerde, V: DefaultSerde>(self) -> Result<KeyValueReads<K, V>> {
        self.key_value_with(K::serde(), V::serde())
    }

    /// As a key-value store with these serdes.
    ///
    /// # Errors
    /// As [`key_value`](Self::key_value).
    pub fn key_value_with<K, V>(self, key: SerdeRef<K>, value: SerdeRef<V>) -> Result<KeyValueReads<K, V>> {
        let store = self.of_kind("key-value", |kind| matches!(kind, StoreKind::KeyValue { .. }))?;
        Ok(KeyValueReads { typed: Typed { store, key, value } })
    }

    /// As a window store with these types' own serdes.
    ///
    /// # Errors
    /// As [`key_value`](Self::key_value).
    pub fn window<K: DefaultSerde, V: DefaultSerde>(self) -> Result<WindowReads<K, V>> {
        self.window_with(K::serde(), V::serde())
    }

    /// As a window store with these serdes.
    ///
    /// # Errors
    /// As [`key_value`](Self::key_value).
    pub fn window_with<K, V>(self, key: SerdeRef<K>, value: SerdeRef<V>) -> Result<WindowReads<K, V>> {
        let store = self.of_kind("window", |kind| matches!(kind, StoreKind::Window { .. }))?;
        Ok(WindowReads { typed: Typed { store, key, value } })
    }

    /// As a session store with these types' own serdes.
    ///
    /// # Errors
    /// As [`key_value`](Self::key_value).
    pub fn session<K: DefaultSerde, V: DefaultSerde>(self) -> Result<SessionReads<K, V>> {
        self.session_with(K::serde(), V::serde())
    }

    /// As a session store with these serdes.
    ///
    /// # Errors
    /// As [`key_value`](Self::key_value).
    pub fn session_with<K, V>(self, key: SerdeRef<K>, value: SerdeRef<V>) -> Result<SessionReads<K, V>> {
        let store = self.of_kind("session", |kind| matches!(kind, StoreKind::Session { .. }))?;
        Ok(SessionReads { typed: Typed { store, key, value } })
    }

    /// As a versioned store with these types' own serdes.
    ///
    /// # Errors
    /// As [`key_value`](Self::key_value).
    pub fn versioned<K: DefaultSerde, V: DefaultSerde>(self) -> Result<VersionedReads<K, V>> {
        self.versioned_with(K::serde(), V::serde())
    }

    /// As a versioned store with these serdes.
    ///
    /// # Errors
    /// As [`key_value`](Self::key_value).
    pub fn versioned_with<K, V>(self, key: SerdeRef<K>, value: SerdeRef<V>) -> Result<VersionedReads<K, V>> {
        let store = self.of_kind("versioned", |kind| matches!(kind, StoreKind::Versioned { .. }))?;
        Ok(VersionedReads { typed: Typed { store, key, value } })
    }

    fn of_kind(self, wanted: &str, is_it: impl Fn(&StoreKind) -> bool) -> Result<StoreBytes> {
        let store = self.stores.store(&self.name)?.level(self.level);
        let store = match self.timeout {
            Some(timeout) => store.timeout(timeout),
            None => store,
        };
        let store = match &self.after {
            Some(record) => store.after(record),
            None => store,
        };
        match is_it(&store.spec().kind) {
            true => Ok(store),
            false => {
                let is = kind_name(store.spec());
                Err(Error::new(Kind::Topology, format!("it is a {is} store, not a {wanted} store")).store(self.name))
            }
        }
    }
}

/// A store with the serdes of its keys and values.
struct Typed<K, V> {
    store: StoreBytes,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
}

impl<K, V> Clone for Typed<K, V> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), key: self.key.clone(), value: self.value.clone() }
    }
}

// Derived, they would ask keys and values to be `Clone`.
macro_rules! clone {
    ($($reads:ident),*) => {$(
        impl<K, V> Clone for $reads<K, V> {
            fn clone(&self) -> Self {
                Self { typed: self.typed.clone() }
            }
        }
    )*};
}
clone!(KeyValueReads, WindowReads, SessionReads, VersionedReads);

impl<K, V> Typed<K, V> {
    fn key_bytes(&self, key: &K) -> Result<Vec<u8>> {
        encode(&self.key, key).map_err(|e| e.store(&self.store.spec().name))
    }

    fn key(&self, bytes: &[u8]) -> Result<K> {
        decode(&self.key, bytes).map_err(|e| e.store(&self.store.spec().name))
    }

    fn value(&self, bytes: &[u8]) -> Result<V> {
        decode(&self.value, bytes).map_err(|e| e.store(&self.store.spec().name))
    }
}

fn encode<T>(serde: &SerdeRef<T>, value: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match serde.serialize(value, &mut bytes) {
        Ok(Encoded::Bytes) => Ok(bytes),
        Ok(Encoded::Null) => Err(Error::new(Kind::User, "no store has a null key")),
        Err(error) => Err(Error::new(Kind::User, format!("the key does not encode: {error}"))),
    }
}

fn decode<T>(serde: &SerdeRef<T>, bytes: &[u8]) -> Result<T> {
    serde.deserialize(Some(bytes)).map_err(|error| {
        Error::new(Kind::User, format!("a key or value does not decode: {error}"))
            .hint("read the store with the serdes that the topology has for it")
    })
}
