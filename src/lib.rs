//! Kafka Streams for Rust.

pub mod backoff;
pub mod clock;
pub mod config;
pub mod error;
pub mod partitioner;
pub mod record;
pub mod status;

pub mod serdes;
pub mod windows;

// -- define --
pub mod dsl;
pub mod topology;

// -- consume --
pub mod broker;
pub mod kafka;

// -- operate --
pub mod operators;

// -- keep state --
pub mod state;

// -- fill indexes --
pub mod search;

// -- run: tasks, threads, commit --
pub mod metrics;
pub mod runtime;

// -- watch, ask, write --
pub mod http;
pub mod producer;
pub mod queries;

// -- have it in one's hand --
pub mod streams;
pub mod testing;

/// The Processor API: operators of the user's own, their stores and punctuations.
pub mod processor {
    pub use crate::dsl::{Outlet, TopologyBuilder};
    pub use crate::operators::process::{Processor, ProcessorContext, RecordMetadata};
    pub use crate::operators::process_values::{FixedKeyRecord, ValueContext, ValueProcessor};
    pub use crate::operators::punctuation::{Punctuation, PunctuationType, ScheduleId};
    pub use crate::operators::store_views::{
        KeyValueStore, SessionRow, SessionStore, StateStore, StoreContext, TimestampedKeyValueStore, VersionedRecord,
        VersionedStore, WindowRow, WindowStore,
    };
    pub use crate::state::versioned::Placed;
}

/// Everything that a topology usually needs.
pub mod prelude {
    pub use crate::config::Config;
    pub use crate::dsl::{
        Branched, Consumed, Grouped, IndexInto, Joined, KStream, KTable, Materialized, Processing, Produced,
        Repartitioned, StreamJoined, StreamsBuilder, TableJoined, TopicNameExtractor,
    };
    pub use crate::error::{Error, Result};
    pub use crate::operators::map_async::{AsyncOptions, Call, CallError, CallOrder, CircuitBreaker, RateLimit, Retry};
    pub use crate::partitioner::StreamPartitioner;
    pub use crate::record::{Headers, Record};
    pub use crate::serdes::{Serde, SerdeRef};
    pub use crate::streams::Streams;
    pub use crate::topology::{TopicPattern, Topology};
}

/// What must not compile does not.
#[cfg(doctest)]
#[doc = include_str!("../docs/type-safety.md")]
struct TypeSafety;

/// The README's topology compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
