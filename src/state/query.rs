//! Questions about one store of a task, as bytes: what queries from outside come down to.

use super::segmented::{Keys, Segmented, TimedRow};
use super::versioned::{Version, Versioned};
use super::{StoreId, StoreKind, TaskState};
use crate::error::{Error, Kind, Result};
use crate::record::Timestamp;

/// Which writes a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    /// Those of the last commit: what is read is not taken back by a crash. Of a store on disk it costs the stream threads
    /// nothing.
    #[default]
    Committed,
    /// Also those of the open commit interval. The stream thread answers between two runs of records.
    Latest,
}

/// What is asked of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// The row of a key. For key-value stores.
    Get(Vec<u8>),
    /// The first rows with `from <= key < to`, in the order of their keys' bytes. For key-value stores.
    Range {
        /// From this key; `None` is no bound.
        from: Option<Vec<u8>>,
        /// To before this key; `None` is no bound.
        to: Option<Vec<u8>>,
        /// No more than this many.
        limit: usize,
    },
    /// The row of exactly this key and time (a window's start, a session's end) and suffix (0 for windows, a session's
    /// start).
    At {
        /// The key.
        key: Vec<u8>,
        /// A window's start, a session's end.
        time_ms: Timestamp,
        /// 0 for windows, a session's start.
        suffix: i64,
    },
    /// Windows that begin, or sessions that end, in this time, both ends included.
    Fetch {
        /// Of these keys.
        keys: KeyRange,
        /// From this time.
        from_ms: Timestamp,
        /// To this time.
        to_ms: Timestamp,
        /// No more than this many.
        limit: usize,
    },
    /// What holds now, or held at that time. For versioned stores.
    AsOf(Vec<u8>, Option<Timestamp>),
    /// Everything that held at some time between these two, both included; the oldest first. For versioned stores.
    History(Vec<u8>, Timestamp, Timestamp),
    /// Roughly how many rows there are.
    Entries,
}

/// Which keys a [`Query::Fetch`] means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRange {
    /// This one.
    One(Vec<u8>),
    /// Those from the first to the second, both included; `None` is no bound.
    Between(Option<Vec<u8>>, Option<Vec<u8>>),
}

impl KeyRange {
    fn keys(&self) -> Keys<'_> {
        match self {
            KeyRange::One(key) => Keys::One(key),
            KeyRange::Between(from, to) => Keys::Range(from.as_deref(), to.as_deref()),
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Of a `Get` and an `At`.
    Row(Option<Vec<u8>>),
    /// Of a `Range`: keys and rows.
    Rows(Vec<(Vec<u8>, Vec<u8>)>),
    /// Of a `Fetch`.
    Timed(Vec<TimedRow>),
    /// Of an `AsOf` and a `History`.
    Versions(Vec<Version>),
    /// Of an `Entries`.
    Entries(u64),
}

/// Answers `query` about a store, with the store's view where it has one.
///
/// # Errors
/// [`Kind::State`]: the disk cannot be read. [`Kind::Topology`]: the store is of another kind.
pub(crate) fn ask(
    state: &mut TaskState,
    store: StoreId,
    timed: Option<&mut Segmented>,
    versioned: Option<&Versioned>,
    query: &Query,
) -> Result<Found> {
    match (query, timed, versioned) {
        (Query::Entries, ..) => Ok(Found::Entries(state.approximate_entries(store))),
        (Query::Get(key), None, None) => Ok(Found::Row(state.get(store, key)?.map(|row| row.to_vec()))),
        (Query::Range { from, to, limit }, None, None) => {
            let mut rows = Vec::new();
            if *limit > 0 {
                state.range(store, from.as_deref(), to.as_deref(), &mut |key, row| {
                    rows.push((key.to_vec(), row.to_vec()));
                    rows.len() < *limit
                })?;
            }
            Ok(Found::Rows(rows))
        }
        (Query::At { key, time_ms, suffix }, Some(timed), _) => {
            Ok(Found::Row(timed.get(state, key, *time_ms, *suffix)?))
        }
        (Query::Fetch { keys, from_ms, to_ms, limit }, Some(timed), _) => {
            Ok(Found::Timed(timed.fetch_first(state, keys.keys(), *from_ms, *to_ms, *limit)?))
        }
        (Query::AsOf(key, at_ms), _, Some(versioned)) => {
            let at_ms = at_ms.unwrap_or(Timestamp::MAX);
            Ok(Found::Versions(versioned.get_as_of(state, key, at_ms)?.into_iter().collect()))
        }
        (Query::History(key, from_ms, to_ms), _, Some(versioned)) => {
            Ok(Found::Versions(versioned.history(state, key, *from_ms, *to_ms)?))
        }
        _ => Err(Error::new(Kind::Topology, "the store is of another kind than this query").hint(
            "ask key-value stores by key, window and session stores by key and time, versioned ones as of a time",
        )),
    }
}

/// Whether a store of this kind has an answer to `query`.
pub(crate) fn fits(kind: &StoreKind, query: &Query) -> bool {
    match query {
        Query::Entries => true,
        Query::Get(_) | Query::Range { .. } => matches!(kind, StoreKind::KeyValue { .. }),
        Query::At { .. } | Query::Fetch { .. } => {
            matches!(kind, StoreKind::Window { .. } | StoreKind::Session { .. })
        }
        Query::AsOf(..) | Query::History(..) => matches!(kind, StoreKind::Versioned { .. }),
    }
}

impl Found {
    /// Whether nothing was found.
    pub fn is_nothing(&self) -> bool {
        match self {
            Found::Row(row) => row.is_none(),
            Found::Rows(rows) => rows.is_empty(),
            Found::Timed(rows) => rows.is_empty(),
            Found::Versions(versions) => versions.is_empty(),
            Found::Entries(entries) => *entries == 0,
        }
    }
}
