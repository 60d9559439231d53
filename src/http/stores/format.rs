//! Keys and values between bytes and JSON.
//!
//! A store's bytes are what its serdes make of the types; the types themselves are not known here. What the serdes say of
//! their bytes is used, else what the request says, else what the bytes look like.

use super::parameters::Parameters;
use crate::error::{Error, Kind, Result};
use crate::serdes::Format;
use serde_json::{Value, json};

/// The bytes that `text` stands for.
fn bytes(format: Format, text: &str) -> Option<Vec<u8>> {
    Some(match format {
        Format::Text => text.as_bytes().to_vec(),
        Format::Json => serde_json::to_vec(&serde_json::from_str::<Value>(text).ok()?).ok()?,
        Format::Short => text.parse::<i16>().ok()?.to_be_bytes().to_vec(),
        Format::Int => text.parse::<i32>().ok()?.to_be_bytes().to_vec(),
        Format::Long => text.parse::<i64>().ok()?.to_be_bytes().to_vec(),
        Format::Float => text.parse::<f32>().ok()?.to_be_bytes().to_vec(),
        Format::Double => text.parse::<f64>().ok()?.to_be_bytes().to_vec(),
        Format::Boolean => vec![u8::from(text.parse::<bool>().ok()?)],
        _ => {
            let pairs: Vec<&[u8]> = text.as_bytes().chunks(2).collect();
            let byte = |pair: &&[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            text.len().is_multiple_of(2).then(|| pairs.iter().map(byte).collect()).flatten()?
        }
    })
}

/// `None`: the bytes are of another format.
fn json(format: Format, bytes: &[u8]) -> Option<Value> {
    Some(match format {
        Format::Text => json!(std::str::from_utf8(bytes).ok()?),
        Format::Json => serde_json::from_slice(bytes).ok()?,
        Format::Short => json!(i16::from_be_bytes(bytes.try_into().ok()?)),
        Format::Int => json!(i32::from_be_bytes(bytes.try_into().ok()?)),
        Format::Long => json!(i64::from_be_bytes(bytes.try_into().ok()?)),
        Format::Float => json!(f32::from_be_bytes(bytes.try_into().ok()?)),
        Format::Double => json!(f64::from_be_bytes(bytes.try_into().ok()?)),
        Format::Boolean => json!(*bytes.first().filter(|_| bytes.len() == 1)? != 0),
        // Bytes of which nothing is known may be readable all the same.
        _ => return None,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The formats of a store's keys and values, as far as they are known.
pub(super) struct Formats {
    key: Format,
    value: Format,
    /// The URL has bytes as digits.
    hex: bool,
}

impl Formats {
    /// What the request says goes before what the serdes say.
    pub(super) fn new(parameters: &Parameters, (key, value): (Format, Format)) -> Self {
        let hex = parameters.key_format == Some(Format::Bytes);
        Self { key: parameters.key_format.unwrap_or(key), value: parameters.value_format.unwrap_or(value), hex }
    }

    /// The key that a URL means.
    pub(super) fn key_bytes(&self, text: &str) -> Result<Vec<u8>> {
        let format = if self.key == Format::Bytes && !self.hex { Format::Text } else { self.key };
        let wrong = || Error::new(Kind::User, format!("{text:?} is no key of the format {format:?}"));
        bytes(format, text).ok_or_else(wrong)
    }

    /// A key as JSON.
    pub(super) fn key(&self, bytes: &[u8]) -> Value {
        match self.hex {
            true => json!(hex(bytes)),
            false => json(self.key, bytes).unwrap_or_else(|| guessed(bytes, Format::Text)),
        }
    }

    /// A value as JSON.
    pub(super) fn value(&self, bytes: &[u8]) -> Value {
        json(self.value, bytes).unwrap_or_else(|| guessed(bytes, Format::Json))
    }

    /// What stands in a URL for a key that has been shown.
    pub(super) fn key_text(&self, bytes: &[u8]) -> Option<String> {
        Some(match self.key(bytes) {
            Value::String(text) if self.key != Format::Json => text,
            other => other.to_string(),
        })
        .filter(|text| self.key_bytes(text).is_ok_and(|again| again == bytes))
    }
}

/// What the bytes look like: JSON (where that is likely), text, or nothing that can be read.
fn guessed(bytes: &[u8], likely: Format) -> Value {
    let readable = |text: &&str| !text.chars().any(|c| c.is_control() && !c.is_whitespace());
    match (json(likely, bytes), std::str::from_utf8(bytes).ok().filter(readable)) {
        (Some(value), Some(_)) => value,
        (_, Some(text)) => json!(text),
        (_, None) => json!({ "hex": hex(bytes) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_bytes_is_shown() {
        let of = |query: &str| Formats::new(&Parameters::parse(query).expect("right"), (Format::Text, Format::Bytes));
        assert_eq!(of("value=long").value(&7i64.to_be_bytes()), json!(7));
        assert_eq!(of("value=long").value(b"seven"), json!("seven"), "of another format");
        assert_eq!(of("").value(&7i64.to_be_bytes()), json!({ "hex": "0000000000000007" }));
        assert_eq!(of("").value(br#"{"a":1}"#), json!({ "a": 1 }));
        assert_eq!((of("").value(b"a chair"), of("").key(b"12")), (json!("a chair"), json!("12")));
    }

    #[test]
    fn keys_of_urls_are_keys_again() {
        for (query, text, bytes) in [
            ("", "p1", b"p1".to_vec()),
            ("key=int", "-2", (-2i32).to_be_bytes().to_vec()),
            ("key=hex", "00ff", vec![0, 255]),
            ("key=boolean", "true", vec![1]),
        ] {
            let formats = Formats::new(&Parameters::parse(query).expect("right"), (Format::Text, Format::Bytes));
            assert_eq!(formats.key_bytes(text).ok(), Some(bytes.clone()));
            assert_eq!(formats.key_text(&bytes).as_deref(), Some(text));
        }
        let formats = Formats::new(&Parameters::parse("key=int").expect("right"), (Format::Text, Format::Bytes));
        assert!(formats.key_bytes("two").is_err());
    }
}
