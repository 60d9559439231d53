//! A case as JSON, and how fields are taken out of it.

use super::val::Type;
use serde_json::Value;

/// Why a case has no result.
#[derive(Debug)]
pub enum Stop {
    /// The case itself is wrong.
    Case(String),
    /// The library has no such operator yet.
    NotYet(String),
}

impl From<String> for Stop {
    fn from(what: String) -> Self {
        Stop::Case(what)
    }
}

impl From<&str> for Stop {
    fn from(what: &str) -> Self {
        Stop::Case(what.into())
    }
}

/// Fields of a JSON object, such as a step or its `materialized`.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a Value);

impl<'a> Fields<'a> {
    pub fn get(self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    pub fn text(self, field: &str) -> Result<&'a str, String> {
        self.maybe_text(field).ok_or_else(|| format!("text '{field}' is missing in {}", self.0))
    }

    pub fn maybe_text(self, field: &str) -> Option<&'a str> {
        self.get(field).and_then(Value::as_str)
    }

    pub fn number(self, field: &str) -> Result<i64, String> {
        self.maybe_number(field).ok_or_else(|| format!("whole number '{field}' is missing in {}", self.0))
    }

    pub fn maybe_number(self, field: &str) -> Option<i64> {
        self.get(field).and_then(Value::as_i64)
    }

    pub fn flag(self, field: &str, otherwise: bool) -> bool {
        self.get(field).and_then(Value::as_bool).unwrap_or(otherwise)
    }

    /// A text, or a list of texts.
    pub fn texts(self, field: &str) -> Vec<&'a str> {
        match self.get(field) {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(text)) => vec![text],
            _ => Vec::new(),
        }
    }

    pub fn list(self, field: &str) -> &'a [Value] {
        self.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub fn fields(self, field: &str) -> Option<Fields<'a>> {
        self.get(field).map(Fields)
    }

    pub fn r#type(self, field: &str) -> Result<Type, String> {
        Type::named(self.text(field)?)
    }

    /// The name of the operator; none where the case leaves it to be generated.
    pub fn named(self) -> Option<&'a str> {
        self.maybe_text("named")
    }
}
