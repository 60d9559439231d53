//! A JSON object kept as text: checked when it is read, merged by copying, never taken apart into values.
//!
//! The configured join merges two objects per record and looks into neither. Parsing them into trees and printing the
//! result would cost more than all the rest of a record's way and would rewrite numbers (`1.0`, `1e3`, 20 digits). So the
//! text is checked once, strictly (RFC 8259), and values are copied byte for byte. `benches/json.rs` compares this with
//! what libraries offer.

use super::json_scan::{Field, Shape, scan};
use super::{DefaultSerde, Encoded, Format, Serde, SerdeError, SerdeRef};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

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
#[derive(Clone)]
pub struct JsonObject {
    text: String,
    /// Where the fields stand, where reading the text has told; what was merged has not been read again.
    shape: Option<Shape>,
}

impl JsonObject {
    /// Checks that `text` is one JSON object and nothing else.
    ///
    /// # Errors
    /// [`SerdeError::Invalid`]: says what was found instead, and at which byte.
    pub fn parse(text: &[u8]) -> Result<Self, SerdeError> {
        let text = std::str::from_utf8(text).map_err(|e| SerdeError::Invalid(format!("is not UTF-8 text: {e}")))?;
        let shape = scan(text)
            .map_err(|(what, at)| SerdeError::Invalid(format!("is not a JSON object: {what} at byte {at}")))?;
        Ok(Self { text: text.to_owned(), shape: Some(shape) })
    }

    /// The object's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Both objects' fields: this one's in their order, replaced in place where `over` has a field of that name, then
    /// the other fields of `over`. Of fields with the same name within one object the last counts, at the place of the
    /// first. Values, and what stands between fields that stay neighbours, are copied as they are.
    pub fn merged_with(&self, over: &JsonObject) -> JsonObject {
        let text = match (&*self.shape(), &*over.shape()) {
            (Shape::Plain(ours), Shape::Plain(theirs)) => merge_plain(&self.text, ours, &over.text, theirs),
            _ => merge_any(&self.text, &over.text),
        };
        JsonObject { text, shape: None }
    }

    /// `{"table":…,"stream":…}`: `self` is the table's row where there is one.
    pub fn nested(table: Option<&JsonObject>, stream: &JsonObject) -> JsonObject {
        let table = table.map_or("null", JsonObject::as_str);
        let text = [r#"{"table":"#, table, r#","stream":"#, &stream.text, "}"].concat();
        JsonObject { text, shape: None }
    }

    fn shape(&self) -> Cow<'_, Shape> {
        match &self.shape {
            Some(shape) => Cow::Borrowed(shape),
            // What has been read or merged is an object; were it none, merge_any would say so.
            None => Cow::Owned(scan(&self.text).unwrap_or(Shape::Odd)),
        }
    }
}

/// Merges objects whose names can be compared as they stand, copying neighbours at once.
fn merge_plain(table: &str, ours: &[Field], stream: &str, theirs: &[Field]) -> String {
    let mut merged = String::with_capacity(table.len() + stream.len());
    merged.push('{');
    let mut used = 0u64; // one bit for each of theirs: Shape::Plain has no more than 64
    let mut run = 0..0;
    for field in ours {
        match theirs.iter().position(|other| field.same_name(table, other, stream)) {
            None => extend(&mut run, field),
            Some(i) => {
                used |= 1 << i;
                push(&mut merged, &table[std::mem::take(&mut run)]);
                push(&mut merged, &table[field.name()]);
                merged.push_str(&stream[theirs[i].value()]);
            }
        }
    }
    push(&mut merged, &table[std::mem::take(&mut run)]);
    for (i, field) in theirs.iter().enumerate() {
        if used & 1 << i == 0 {
            extend(&mut run, field);
        } else {
            push(&mut merged, &stream[std::mem::take(&mut run)]);
        }
    }
    push(&mut merged, &stream[run]);
    merged.push('}');
    merged
}

fn extend(run: &mut std::ops::Range<usize>, field: &Field) {
    let whole = field.name().start..field.value().end;
    *run = if run.start == run.end { whole } else { run.start..whole.end };
}

/// Appends a field or several to an object that is being written.
fn push(object: &mut String, fields: &str) {
    if !fields.is_empty() {
        if object.len() > 1 {
            object.push(',');
        }
        object.push_str(fields);
    }
}

/// Merges any two objects: names with escapes or given twice, and objects of very many fields.
fn merge_any(table: &str, stream: &str) -> String {
    let mut at: HashMap<Cow<str>, usize> = HashMap::new();
    let mut fields: Vec<(&str, &str)> = Vec::new();
    for object in [table, stream] {
        // Both were checked when they were read.
        let Raw(raw) = serde_json::from_str(object).unwrap_or_default();
        for (name, value) in raw {
            // A name with half a surrogate pair means no text; it is equal to itself only.
            let meant = serde_json::from_str::<String>(name.get()).map_or(Cow::Borrowed(name.get()), Cow::Owned);
            match at.get(&meant) {
                Some(i) => fields[*i].1 = value.get(),
                None => {
                    at.insert(meant, fields.len());
                    fields.push((name.get(), value.get()));
                }
            }
        }
    }
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}:{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// An object's names and values, as they stand in the text.
#[derive(Default)]
struct Raw<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Raw<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> serde::de::Visitor<'de> for Fields {
            type Value = Raw<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Raw(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl PartialEq for JsonObject {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for JsonObject {}

impl fmt::Debug for JsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// Raw JSON has to be read to be written through serde; inside a newtype struct, which stands for its content, that
        /// is left undone by a serializer that only asks what kind of value this is (`record::Nullable`).
        struct Text<'a>(&'a str);
        impl Serialize for Text<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let raw: &RawValue = serde_json::from_str(self.0).map_err(serde::ser::Error::custom)?;
                raw.serialize(serializer)
            }
        }
        serializer.serialize_newtype_struct("JsonObject", &Text(&self.text))
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

    fn format(&self) -> Format {
        Format::Json
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
            ("this too", "no JSON was found"),
            (" false", "false was found at byte 1"),
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
        assert_eq!(
            merged(r#"{"a":1,"b":2,"c":3}"#, r#"{"x":0,"b":4,"y":5,"z":6}"#),
            r#"{"a":1,"b":4,"c":3,"x":0,"y":5,"z":6}"#
        );
        assert_eq!(merged(r#"{"abcdefgh":1,"abcdefgi":2}"#, r#"{"abcdefgi":3}"#), r#"{"abcdefgh":1,"abcdefgi":3}"#);
        // What stands between neighbours stays.
        assert_eq!(merged(r#"{ "a" : 1 , "b": 2 }"#, r#"{"c": 3}"#), r#"{"a" : 1 , "b": 2,"c": 3}"#);
    }

    #[test]
    fn a_merged_object_can_be_merged_again() {
        let twice = object(r#"{"a":1}"#).merged_with(&object(r#"{"b":2}"#)).merged_with(&object(r#"{"a":3}"#));
        assert_eq!(twice.as_str(), r#"{"a":3,"b":2}"#);
    }

    #[test]
    fn many_fields_do_not_cost_their_square() {
        let wide = |value: &str| {
            let fields: Vec<String> = (0..100_000).map(|n| format!("\"f{n}\":{value}")).collect();
            format!("{{{}}}", fields.join(","))
        };
        // With every name compared with every other this would take minutes.
        assert_eq!(merged(&wide("1"), &wide("2")), wide("2"));
    }

    #[test]
    fn serde_writes_the_object_as_it_is() {
        let row = object(r#"{"a": 1.0}"#);
        assert_eq!(serde_json::to_string(&vec![&row]).expect("JSON"), r#"[{"a": 1.0}]"#);
        assert!(!crate::record::Nullable::is_null(&row));
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

    /// Objects as text: with space, escapes in names, names given twice, and up to 80 fields.
    fn object_text() -> impl Strategy<Value = String> {
        let name = prop_oneof!["[a-c]{1,2}", "[a-c]{7}[a-c]{0,2}", "[0-9]{2}", r"(\\u006[123]|a){1,2}"];
        let field = ("[ \n]?", name, "[ \t]?", json())
            .prop_map(|(a, name, b, value)| format!("{a}\"{name}\"{b}:{a}{value}{b}"))
            .boxed();
        let few = proptest::collection::vec(field.clone(), 0..8);
        let many = proptest::collection::vec(field, 60..80);
        prop_oneof![9 => few, 1 => many].prop_map(|fields| format!("{{{}}}", fields.join(",")))
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
        fn escapes_doubles_and_space_do_not_change_what_merging_means(table in object_text(), stream in object_text()) {
            let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
            let (mut want, over) = (value(&table), value(&stream));
            for (name, value) in over.as_object().expect("an object") {
                want[name] = value.clone();
            }
            let merged = merged(&table, &stream);
            prop_assert_eq!(value(&merged), want);
            // No name is left twice.
            let Raw(fields) = serde_json::from_str(&merged).expect("JSON");
            prop_assert_eq!(fields.len(), value(&merged).as_object().expect("an object").len());
        }

        #[test]
        fn exactly_what_serde_json_takes_for_an_object_is_one(
            start in r#"\{("a":)?"#,
            middle in r#"([{}\[\]",:\\u0-9eE+. \n-]|"a":|null|true|false|1\.5|"é\\n"){0,12}"#,
            end in r#"\}?"#,
        ) {
            let text = format!("{start}{middle}{end}");
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(JsonObject::parse(text.as_bytes()).is_ok(), theirs, "{}", text);
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
