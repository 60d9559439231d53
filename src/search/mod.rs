//! Search engines: what an index needs of one, for the sink [`index_into`](crate::dsl::KStream::index_into) and for those
//! who search.
//!
//! Two are here, under the Cargo feature `search`: [`OpenSearch`], for servers of OpenSearch and Elasticsearch, and
//! [`EmbeddedEngine`], which keeps its indexes in a folder of this process and needs no server. Any other is an
//! implementation of [`SearchEngine`].
//!
//! Every write carries a version, and an engine keeps the document with the largest; of equal versions the one that comes
//! last. A write that comes late changes nothing. So an index that is filled at least once ends as if each record had been
//! written exactly once.

pub mod bulk;
#[cfg(feature = "search")]
mod embedded;
#[cfg(feature = "search")]
mod opensearch;
mod query;
mod schema;
mod values;

#[cfg(feature = "search")]
pub use embedded::EmbeddedEngine;
#[cfg(feature = "search")]
pub use opensearch::OpenSearch;
pub use query::{Hit, Hits, Search, Sort};
pub use schema::IndexSchema;

use crate::error::{Error, Kind};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// What an engine answers, some time later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, SearchError>> + Send + 'a>>;

/// One write of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The document's id in the index.
    pub id: String,
    /// The write counts only where the engine has nothing of that id with a larger version. Not negative. An equal version is
    /// the same record again, whose document may have become another one: what it is joined with has changed.
    pub version: i64,
    /// The document, a JSON object as text; `None` deletes it.
    pub document: Option<Vec<u8>>,
}

impl Operation {
    /// How many bytes it is, about.
    pub fn len_bytes(&self) -> usize {
        self.id.len() + self.document.as_ref().map_or(0, Vec::len) + 64
    }
}

/// What became of one [`Operation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is written, and stays so if the engine is killed now.
    Written,
    /// The engine has a larger version.
    Stale,
    /// Not now: the engine has too much to do, or the index is blocked. Try again.
    Busy(String),
    /// The engine will never take this document: the reason.
    Refused(String),
}

/// A document as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The version that it was written with.
    pub version: i64,
    /// The document's JSON text.
    pub document: String,
}

/// Why an engine did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// No answer, or not now: try again, at the earliest after the time that the engine named.
    #[error("the search engine does not answer: {what}")]
    Unavailable {
        /// What happened.
        what: String,
        /// How long the engine asked to wait.
        after: Option<Duration>,
    },
    /// The engine does not take this request as a whole, such as one with too many bytes. Its parts it may.
    #[error("the search engine does not take the request: {0}")]
    TooMuch(String),
    /// There is no index and no alias of that name.
    #[error("the search engine has no index {0}")]
    NoIndex(String),
    /// The engine will not do this, now or later: somebody has to change something.
    #[error("the search engine refuses: {0}")]
    Refused(String),
}

impl SearchError {
    /// Trying again may help.
    pub fn is_retriable(&self) -> bool {
        matches!(self, SearchError::Unavailable { .. })
    }

    /// The same with what to do next, as an error of this crate.
    pub fn into_error(self) -> Error {
        let (kind, hint) = match &self {
            SearchError::Unavailable { .. } => {
                (Kind::Unavailable, "look whether the search engine runs, and ask again")
            }
            SearchError::TooMuch(_) => (Kind::Config, "send less at once, or let the engine take larger requests"),
            SearchError::NoIndex(_) => (Kind::Config, "create the index, or correct its name"),
            SearchError::Refused(_) => (Kind::Config, "see the engine's log; check address, user and index"),
        };
        Error::new(kind, self.to_string()).hint(hint)
    }

    /// No answer, for an engine of your own to say.
    pub fn unavailable(what: impl ToString) -> Self {
        SearchError::Unavailable { what: what.to_string(), after: None }
    }
}

/// A search engine. All of it is asynchronous: the futures run on a tokio runtime.
///
/// The name of an index may be an alias wherever documents are written, read or searched.
pub trait SearchEngine: Send + Sync + 'static {
    /// Writes documents, in this order, and answers when what is [`Written`](Outcome::Written) is safe: one outcome each.
    fn bulk<'a>(&'a self, index: &'a str, operations: &'a [Operation]) -> Answer<'a, Vec<Outcome>>;
    /// Looks for documents.
    fn search<'a>(&'a self, index: &'a str, search: &'a Search) -> Answer<'a, Hits>;
    /// The document of that id, also where searches do not show it yet.
    fn document<'a>(&'a self, index: &'a str, id: &'a str) -> Answer<'a, Option<Found>>;
    /// Makes an index; `false`: there is one of that name.
    fn create_index<'a>(&'a self, index: &'a str, schema: &'a IndexSchema) -> Answer<'a, bool>;
    /// Removes an index and all that is in it; one that is not there is no error.
    fn delete_index<'a>(&'a self, index: &'a str) -> Answer<'a, ()>;
    /// The index that the alias stands for.
    fn alias<'a>(&'a self, alias: &'a str) -> Answer<'a, Option<String>>;
    /// Lets the alias stand for this index, in one step, and returns what it stood for.
    fn point_alias<'a>(&'a self, alias: &'a str, index: &'a str) -> Answer<'a, Option<String>>;
    /// Shows searches all that has been written.
    fn refresh<'a>(&'a self, index: &'a str) -> Answer<'a, ()>;
}

/// Names that all engines take, and that are safe as names of files: what an engine of your own may check first.
///
/// # Errors
/// [`SearchError::Refused`]: it is no such name.
pub fn check_name(name: &str) -> Result<(), SearchError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if starts && name.len() <= 128 && name.chars().all(plain) {
        return Ok(());
    }
    Err(SearchError::Refused(format!(
        "{name:?} is no name for an index: small letters, digits, '-', '_' and '.', a letter or digit first"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_indexes_are_safe_as_files() {
        assert!(check_name("films-2").is_ok());
        for name in ["", "../x", "_all", "Films", "a/b", ".hidden", "a,b", "*"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn only_missing_answers_are_worth_another_try() {
        assert!(SearchError::unavailable("connection refused").is_retriable());
        assert!(!SearchError::NoIndex("films".into()).is_retriable());
        assert_eq!(SearchError::unavailable("gone").into_error().kind(), Kind::Unavailable);
    }
}
