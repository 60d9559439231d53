//! What an index knows of its documents.

use serde::{Deserialize, Serialize};

/// The fields that an index can search in and sort by. Everything else in a document is kept and given back.
///
/// ```
/// use watersmeet::search::IndexSchema;
/// let films = IndexSchema::default().text("title").text("director").number("votes").date("released");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IndexSchema {
    /// Fields with text to search in.
    pub text: Vec<String>,
    /// Fields with numbers to sort by.
    pub numbers: Vec<String>,
    /// Fields with points in time to sort by: milliseconds since the epoch, or text as in RFC 3339.
    pub dates: Vec<String>,
}

impl IndexSchema {
    /// Adds a field with text to search in.
    pub fn text(mut self, field: impl Into<String>) -> Self {
        self.text.push(field.into());
        self
    }

    /// Adds a field with numbers to sort by.
    pub fn number(mut self, field: impl Into<String>) -> Self {
        self.numbers.push(field.into());
        self
    }

    /// Adds a field with points in time to sort by.
    pub fn date(mut self, field: impl Into<String>) -> Self {
        self.dates.push(field.into());
        self
    }
}
