//! Aggregation of a stream's records by key and window.

pub(crate) mod emit;
mod results;
mod rows;
pub(crate) mod session;
pub(crate) mod sliding;
pub(crate) mod time;

pub(crate) use results::Results;
pub(crate) use rows::{SessionRows, TimedStore, WindowRows};

use super::aggregate::Updated;
use std::sync::Arc;

/// Makes the aggregate after a record of key, value, and the aggregate before.
pub(crate) type Update<K, V, A> = Arc<dyn Fn(&K, &V, Option<A>) -> Updated<A> + Send + Sync>;
