//! What an index knows of its documents.

use super::values;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
    /// Whether an index of this schema takes a document: fields that it does not name are not looked at.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, document: &Map<String, Value>) -> Result<(), String> {
        let check = |fields: &[String], what: &str, fits: fn(&Value) -> bool| {
            fields.iter().try_for_each(|name| {
                values::each(document.get(name), &mut |value| match fits(value) {
                    true => Ok(()),
                    false => Err(format!("its field {name:?} is no {what}: {value}")),
                })
            })
        };
        check(&self.text, "text", |value| values::text(value).is_some())?;
        check(&self.numbers, "number", |value| values::number(value).is_some())?;
        check(&self.dates, "date", |value| values::date(value).is_some())
    }

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
