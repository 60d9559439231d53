//! A JSON object kept as text: checked when it is read, merged by copying, never taken apart into values.
//!
//! The configured join merges two objects per record and looks into neither. Parsing them into trees and printing the
//! result would cost more than all the rest of a record's way and would rewrite numbers (`1.0`, `1e3`, 20 digits). So the
//! text is checked once, strictly (RFC 8259), and values are copied byte for byte.

use super::{DefaultSerde, Encoded, Serde, SerdeError, SerdeRef};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// How deep values may be nested; as serde_json's limit.
const DEPTH_MAX: usize = 128;

/// A JSON object as text, known to be well-formed.
///
/// ```
/// use watersmeet::serdes::{DefaultSerde, JsonObject};
/// let serde = JsonObject::serde();
/// let product = serde.deserialize(Some(br#"{"name":"Apple","price":0.40}"#))?;
/// let stock = serde.deserialize(Some(br#"{"price":0.50,"pieces":12}"#))?;
/// assert_eq!(product.merged_with(&stock).as_str(), r#"{"name":"Apple","price":0.50,"pieces":12}"#);
/// # Ok::<(), watersmeet::serdes::SerdeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct JsonObject {
    text: String,
    /// The fields, found while the text was checked: a merge does not scan it again.
    fields: Vec<Field>,
}

/// Two are equal when their texts are.
impl PartialEq for JsonObject {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for JsonObject {}

/// A field: where its name (between the quotes) and its value stand in the text.
#[derive(Debug, Clone)]
struct Field {
    name: Range<u32>,
    value: Range<u32>,
    /// The name is written with escapes, so that others may mean the same.
    escaped: bool,
}

impl Field {
    fn name<'a>(&self, text: &'a str) -> &'a str {
        part(text, &self.name)
    }

    /// True where the field of `text` has the same name as `other` of `other_text`, as JSON means names: `"\u0061"` is `"a"`.
    #[inline]
    fn same_name(&self, text: &str, other: &Field, other_text: &str) -> bool {
        let (a, b) = (self.name(text), other.name(other_text));
        a == b || ((self.escaped || other.escaped) && unescaped(a) == unescaped(b))
    }
}

fn part<'a>(text: &'a str, range: &Range<u32>) -> &'a str {
    &text[range.start as usize..range.end as usize]
}

impl JsonObject {
    /// Checks that `text` is one JSON object and nothing else.
    ///
    /// # Errors
    /// [`SerdeError::Invalid`]: says what was found instead, and at which byte.
    pub fn parse(text: &[u8]) -> Result<Self, SerdeError> {
        let text = std::str::from_utf8(text).map_err(|e| SerdeError::Invalid(format!("is not UTF-8 text: {e}")))?;
        let mut scan = Scan { bytes: text.as_bytes(), at: 0 };
        let mut fields = Vec::with_capacity(12);
        let checked = scan.object_alone(&mut |field| match fields
            .iter_mut()
            .find(|f: &&mut Field| f.same_name(text, &field, text))
        {
            Some(first) => first.value = field.value,
            None => fields.push(field),
        });
        checked.map_err(|what| SerdeError::Invalid(format!("is not a JSON object: {what} at byte {}", scan.at)))?;
        Ok(Self { text: text.to_owned(), fields })
    }

    /// The object's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Both objects' fields: this one's in their order, replaced in place where `over` has a field of that name, then
    /// the other fields of `over`. Of fields with the same name within one object the last counts.
    pub fn merged_with(&self, over: &JsonObject) -> JsonObject {
        let mut merged = Merged {
            text: String::with_capacity(self.text.len() + over.text.len()),
            fields: Vec::with_capacity(self.fields.len() + over.fields.len()),
        };
        for field in &self.fields {
            let same = over.fields.iter().find(|f| f.same_name(&over.text, field, &self.text));
            let value = same.map_or_else(|| part(&self.text, &field.value), |f| part(&over.text, &f.value));
            merged.push(field.name(&self.text), value, field.escaped);
        }
        for field in &over.fields {
            if !self.fields.iter().any(|f| f.same_name(&self.text, field, &over.text)) {
                merged.push(field.name(&over.text), part(&over.text, &field.value), field.escaped);
            }
        }
        merged.end()
    }

    /// `{"table":…,"stream":…}`: `self` is the table's row where there is one.
    pub fn nested(table: Option<&JsonObject>, stream: &JsonObject) -> JsonObject {
        let table = table.map_or("null", JsonObject::as_str);
        let mut nested =
            Merged { text: String::with_capacity(table.len() + stream.text.len() + 22), fields: Vec::new() };
        nested.push("table", table, false);
        nested.push("stream", &stream.text, false);
        nested.end()
    }
}

/// An object that grows.
struct Merged {
    text: String,
    fields: Vec<Field>,
}

impl Merged {
    fn push(&mut self, name: &str, value: &str, escaped: bool) {
        self.text.push_str(if self.text.is_empty() { "{\"" } else { ",\"" });
        let start = self.text.len() as u32;
        self.text.push_str(name);
        let name = start..self.text.len() as u32;
        self.text.push_str("\":");
        let start = self.text.len() as u32;
        self.text.push_str(value);
        self.fields.push(Field { name, value: start..self.text.len() as u32, escaped });
    }

    fn end(mut self) -> JsonObject {
        self.text.push_str(if self.text.is_empty() { "{}" } else { "}" });
        JsonObject { text: self.text, fields: self.fields }
    }
}

fn unescaped(name: &str) -> Cow<'_, str> {
    if !name.contains('\\') {
        return Cow::Borrowed(name);
    }
    // A name with half a surrogate pair means no text; it is equal to itself only.
    serde_json::from_str::<String>(&format!("\"{name}\"")).map_or(Cow::Borrowed(name), Cow::Owned)
}

/// A strict scanner. Errors are words; `at` then is where they apply.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Scanned<T = ()> = Result<T, &'static str>;

impl Scan<'_> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn object_alone(&mut self, found: &mut impl FnMut(Field)) -> Scanned {
        self.fields(found)?;
        self.space();
        if self.at < self.bytes.len() { Err("there is more text after it") } else { Ok(()) }
    }

    /// The top level's fields.
    fn fields(&mut self, found: &mut impl FnMut(Field)) -> Scanned {
        self.space();
        match self.peek() {
            Some(b'{') => self.object(DEPTH_MAX, found),
            None => Err("nothing is there"),
            Some(b'[') => Err("an array was found"),
            Some(b'"') => Err("text was found"),
            Some(b'0'..=b'9' | b'-') => Err("a number was found"),
            Some(_) if self.word(b"null").is_ok() => Err("null was found"),
            Some(_) => Err("no JSON was found"),
        }
    }

    fn object(&mut self, depth: usize, found: &mut impl FnMut(Field)) -> Scanned {
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err("a field's name is missing");
            }
            let start = self.at as u32 + 1;
            let escaped = self.string()?;
            let name = start..self.at as u32 - 1;
            self.space();
            if self.peek() != Some(b':') {
                return Err("a colon is missing");
            }
            self.at += 1;
            self.space();
            let start = self.at as u32;
            self.value(depth - 1)?;
            found(Field { name, value: start..self.at as u32, escaped });
            if !self.another(b'}')? {
                return Ok(());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Scanned {
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth - 1)?;
            if !self.another(b']')? {
                return Ok(());
            }
        }
    }

    /// After a member: true behind a comma, false behind `end`.
    #[inline]
    fn another(&mut self, end: u8) -> Scanned<bool> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.space();
                Ok(true)
            }
            Some(byte) if byte == end => {
                self.at += 1;
                Ok(false)
            }
            None => Err("it ends in the middle"),
            Some(_) => Err("a comma is missing"),
        }
    }

    fn value(&mut self, depth: usize) -> Scanned {
        if depth == 0 {
            return Err("it is nested too deeply");
        }
        match self.peek() {
            Some(b'"') => self.string().map(|_| ()),
            Some(b'{') => self.object(depth, &mut |_| {}),
            Some(b'[') => self.array(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            None => Err("it ends in the middle"),
            Some(_) => Err("a value is missing"),
        }
    }

    fn word(&mut self, word: &'static [u8]) -> Scanned {
        if !self.bytes[self.at..].starts_with(word) {
            return Err("a value is missing");
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Scanned {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    #[inline]
    fn digits(&mut self) -> Scanned {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err("a digit is missing") } else { Ok(()) }
    }

    /// Text between quotes; true where it has escapes.
    fn string(&mut self) -> Scanned<bool> {
        self.at += 1;
        let mut escaped = false;
        loop {
            // Eight bytes at once, as long as none of them ends the text or needs a closer look.
            while let Some(eight) = self.bytes[self.at..].first_chunk() {
                let special = special_bytes(u64::from_le_bytes(*eight));
                self.at += special.trailing_zeros() as usize / 8;
                if special != 0 {
                    break;
                }
            }
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    self.escape()?;
                    escaped = true;
                }
                Some(0..=0x1f) => return Err("a control character stands in text"),
                Some(_) => self.at += 1,
                None => return Err("it ends in the middle"),
            }
        }
    }

    fn escape(&mut self) -> Scanned {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let hex = self.bytes.get(self.at + 2..self.at + 6);
                if !hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
                    return Err("an escape needs four hexadecimal digits");
                }
                self.at += 6;
            }
            _ => return Err("an escape is wrong"),
        }
        Ok(())
    }
}

/// Marks (0x80) the lowest byte that is a quote, a backslash or a control character; bytes above it may be marked in error.
/// No mark: there is none. Source: "Bit Twiddling Hacks", determine if a word has a byte equal to, or less than, n.
#[inline]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let zero = |w: u64| w.wrapping_sub(ONES) & !w;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let same_as = |byte: u8| zero(word ^ (ONES * u64::from(byte)));
    (same_as(b'"') | same_as(b'\\') | control) & (ONES * 0x80)
}

impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.text).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

/// [`JsonObject`]'s serde: the text itself.
#[derive(Debug, Clone, Copy)]
pub struct JsonObjects;

impl Serde<JsonObject> for JsonObjects {
    fn serialize(&self, value: &JsonObject, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        out.extend_from_slice(value.text.as_bytes());
        Ok(Encoded::Bytes)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<JsonObject, SerdeError> {
        JsonObject::parse(bytes.ok_or(SerdeError::Null)?)
    }
}

impl DefaultSerde for JsonObject {
    fn serde() -> SerdeRef<Self> {
        Arc::new(JsonObjects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn object(text: &str) -> JsonObject {
        JsonObject::parse(text.as_bytes()).expect("an object")
    }

    fn merged(table: &str, stream: &str) -> String {
        object(table).merged_with(&object(stream)).text
    }

    #[test]
    fn what_is_no_object_is_told() {
        for (text, what) in [
            ("", "nothing is there at byte 0"),
            ("[1]", "an array was found at byte 0"),
            ("hello", "no JSON was found"),
            (r#"{"a":1"#, "it ends in the middle at byte 6"),
            (r#"{"a" 1}"#, "a colon is missing at byte 5"),
            (r#"{"a":01}"#, "a comma is missing"),
            (r#"{"a":"\x"}"#, "an escape is wrong"),
            ("{} x", "there is more text after it"),
            ("{\"a\":\"\n\"}", "a control character"),
        ] {
            let error = JsonObject::parse(text.as_bytes()).expect_err(text).to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
        assert!(JsonObject::parse(&[b'{', 0xff, b'}']).is_err());
        assert!(matches!(JsonObjects.deserialize(None), Err(SerdeError::Null)));
    }

    #[test]
    fn nesting_has_a_limit_and_no_stack_overflows() {
        let deep = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert!(JsonObject::parse(deep(100).as_bytes()).is_ok());
        assert!(JsonObject::parse(deep(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn merging_replaces_in_place_and_appends() {
        assert_eq!(merged(r#"{"a":1,"b":2}"#, r#"{"c":3,"a":[1.0, 2e3]}"#), r#"{"a":[1.0, 2e3],"b":2,"c":3}"#);
        assert_eq!(merged("{}", "{ }"), "{}");
        assert_eq!(merged("{}", r#"{"a":1}"#), r#"{"a":1}"#);
        assert_eq!(merged(r#"{"a":1}"#, "{}"), r#"{"a":1}"#);
        assert_eq!(merged(r#"{"a":1,"a":2}"#, "{}"), r#"{"a":2}"#);
        assert_eq!(merged(r#"{"\u0061":1}"#, r#"{"a":2}"#), r#"{"\u0061":2}"#);
        assert_eq!(merged(r#"{"\u00e9":1}"#, r#"{"\u00E9":2}"#), r#"{"\u00e9":2}"#);
    }

    #[test]
    fn nesting_keeps_both() {
        let stream = object(r#"{"a":1}"#);
        assert_eq!(JsonObject::nested(None, &stream).text, r#"{"table":null,"stream":{"a":1}}"#);
        assert_eq!(JsonObject::nested(Some(&object("{}")), &stream).text, r#"{"table":{},"stream":{"a":1}}"#);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|n| Value::from(f64::from(n) / 8.0)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::hash_map("[a-d]|.", inner, 0..6)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    fn json_object() -> impl Strategy<Value = Value> {
        proptest::collection::hash_map("[a-d]|.", json(), 0..6).prop_map(|m| Value::Object(m.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn merging_means_what_merging_values_means(table in json_object(), stream in json_object(), pretty: bool) {
            let text = |v: &Value| if pretty { serde_json::to_string_pretty(v) } else { serde_json::to_string(v) }.expect("text");
            let (mut want, over) = (table.clone(), stream.clone());
            for (name, value) in over.as_object().expect("an object") {
                want[name] = value.clone();
            }
            let got: Value = serde_json::from_str(&merged(&text(&table), &text(&stream))).expect("JSON");
            prop_assert_eq!(got, want);
        }

        #[test]
        fn what_serde_json_reads_is_read_and_broken_text_is_refused(value in json_object(), at: usize, byte: u8) {
            let mut text = value.to_string().into_bytes();
            let at = at % text.len();
            text[at] = byte;
            let theirs = serde_json::from_slice::<serde_json::Map<String, Value>>(&text);
            match (JsonObject::parse(&text), theirs) {
                (Err(error), Ok(_)) => prop_assert!(false, "refused: {error}"),
                // Text as such is kept: what only means no number or no character is the reader's affair.
                (Ok(_), Err(error)) => {
                    let error = error.to_string();
                    let harmless = error.contains("surrogate") || error.contains("out of range") || error.contains("hex escape");
                    prop_assert!(harmless, "accepted: {error}");
                }
                _ => {}
            }
        }
    }
}
