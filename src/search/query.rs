//! What can be searched for, and what comes out.

use serde::Serialize;
use serde_json::value::RawValue;

/// The last hit that can be shown: engines sort all hits up to there.
const WINDOW: usize = 10_000;

/// A search: documents whose text has all of the query's words, the last of them also as the beginning of a word.
///
/// ```
/// use watersmeet::search::{Search, Sort};
/// let search = Search::new("star wa").in_fields(["name"]).sort(Sort::Largest("votes".into())).page(0, 20);
/// assert_eq!(search.size, 20);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// What is looked for; empty finds all documents.
    pub query: String,
    /// In which of the index's text fields; none is all of them.
    pub fields: Vec<String>,
    /// In which order.
    pub sort: Sort,
    /// How many hits are left out at the beginning.
    pub start: usize,
    /// How many hits are wanted at most.
    pub size: usize,
}

impl Search {
    /// The ten most relevant documents for `query`.
    pub fn new(query: impl Into<String>) -> Self {
        Self { query: query.into(), fields: Vec::new(), sort: Sort::Relevance, start: 0, size: 10 }
    }

    /// Looks only in these text fields.
    pub fn in_fields<S: Into<String>>(mut self, fields: impl IntoIterator<Item = S>) -> Self {
        self.fields = fields.into_iter().map(Into::into).collect();
        self
    }

    /// Sorts differently.
    pub fn sort(mut self, sort: Sort) -> Self {
        self.sort = sort;
        self
    }

    /// Leaves `start` hits out, and shows `size`.
    pub fn page(mut self, start: usize, size: usize) -> Self {
        (self.start, self.size) = (start, size);
        self
    }

    /// Whether it asks for no more than engines can answer: what an engine of your own may check first.
    ///
    /// # Errors
    /// [`SearchError::Refused`](super::SearchError::Refused): `start` and `size` together are more than 10,000.
    pub fn check(&self) -> Result<(), super::SearchError> {
        match self.start.checked_add(self.size) {
            Some(end) if end <= WINDOW => Ok(()),
            _ => Err(super::SearchError::Refused(format!("start and size together are more than {WINDOW}"))),
        }
    }
}

/// The order of hits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Sort {
    /// What fits best first.
    #[default]
    Relevance,
    /// The largest value of a number or date field first; documents without one come last.
    Largest(String),
    /// The smallest first.
    Smallest(String),
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Hits {
    /// How many documents there are in all.
    pub total: u64,
    /// Those that were asked for, in order.
    pub hits: Vec<Hit>,
}

/// A document that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Hit {
    /// Its id.
    pub id: String,
    /// How well it fits; `None` where that did not decide the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// The document, as it was written.
    pub document: Box<RawValue>,
}
