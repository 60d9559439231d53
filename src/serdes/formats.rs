//! JSON and bincode, for every serde type. In both, `Option<T>`'s `None` is Kafka's null.

use super::{Encoded, Format, Serde, SerdeError, SerdeRef};
use crate::record::Nullable;
use serde::de::value::{Error as AnyError, UnitDeserializer};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// JSON text.
///
/// ```
/// use watersmeet::serdes::{Serde, formats::Json};
/// assert_eq!(Serde::<Vec<i32>>::deserialize(&Json, Some(b"[1]")).ok(), Some(vec![1]));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Json;

/// A JSON serde for `T`.
///
/// ```
/// use watersmeet::serdes::{Serde, formats};
/// let serde = formats::json::<Vec<i32>>();
/// assert_eq!(serde.deserialize(Some(b"[1,2]")).ok(), Some(vec![1, 2]));
/// assert!(serde.deserialize(Some(b"[1,")).is_err());
/// ```
pub fn json<T: Serialize + DeserializeOwned>() -> SerdeRef<T> {
    Arc::new(Json)
}

impl<T: Serialize + DeserializeOwned> Serde<T> for Json {
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        append(value, out, "JSON", |out| serde_json::to_writer(out, value))
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<T, SerdeError> {
        let Some(bytes) = bytes else { return null() };
        serde_json::from_slice(bytes).map_err(|e| {
            use serde_json::error::Category::*;
            let what = match e.classify() {
                Data => "is JSON of another shape",
                Syntax | Eof | Io => "is not JSON",
            };
            SerdeError::Invalid(format!("{what}: {e}"))
        })
    }

    fn format(&self) -> Format {
        Format::Json
    }
}

/// Bincode 2, standard configuration: compact, private to Rust. Never use it where Java must read.
///
/// ```
/// use watersmeet::serdes::{Serde, formats::Bincode};
/// let mut bytes = Vec::new();
/// assert!(Bincode.serialize(&7u8, &mut bytes).is_ok() && bytes == [7]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Bincode;

/// A bincode serde for `T`.
///
/// ```
/// use watersmeet::serdes::{Serde, formats};
/// let serde = formats::bincode::<(u8, String)>();
/// let mut bytes = Vec::new();
/// serde.serialize(&(7, "x".into()), &mut bytes)?;
/// assert_eq!(serde.deserialize(Some(&bytes))?, (7, "x".into()));
/// # Ok::<(), watersmeet::serdes::SerdeError>(())
/// ```
pub fn bincode<T: Serialize + DeserializeOwned>() -> SerdeRef<T> {
    Arc::new(Bincode)
}

impl<T: Serialize + DeserializeOwned> Serde<T> for Bincode {
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        let config = ::bincode::config::standard();
        append(value, out, "bincode", |out| ::bincode::serde::encode_into_std_write(value, out, config).map(|_| ()))
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<T, SerdeError> {
        let Some(bytes) = bytes else { return null() };
        let read = ::bincode::serde::decode_from_slice(bytes, ::bincode::config::standard());
        let (value, used) = read.map_err(|e| SerdeError::Invalid(format!("is not bincode of this type: {e}")))?;
        if used < bytes.len() {
            let rest = bytes.len() - used;
            return Err(SerdeError::Invalid(format!("is not bincode of this type: {rest} bytes are left over")));
        }
        Ok(value)
    }
}

/// Nothing for `None`; and where a value fails half-way, nothing of it stays in `out`.
fn append<T: Serialize, E: std::fmt::Display>(
    value: &T,
    out: &mut Vec<u8>,
    format: &str,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Encoded, SerdeError> {
    if value.is_null() {
        return Ok(Encoded::Null);
    }
    let start = out.len();
    encode(out).map(|()| Encoded::Bytes).map_err(|e| {
        out.truncate(start);
        SerdeError::Invalid(format!("does not fit into {format}: {e}"))
    })
}

/// `None` of a type that has it. A `serde_json::Value` would take the unit for its own null, which is not Kafka's.
fn null<T: Serialize + DeserializeOwned>() -> Result<T, SerdeError> {
    let value = T::deserialize(UnitDeserializer::<AnyError>::new()).map_err(|_| SerdeError::Null)?;
    if value.is_null() { Ok(value) } else { Err(SerdeError::Null) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, Serialize, serde::Deserialize)]
    struct Film {
        title: String,
    }

    #[test]
    fn json_errors_tell_syntax_from_shape() {
        let serde = json::<Film>();
        let text = |bytes: &[u8]| serde.deserialize(Some(bytes)).expect_err("malformed").to_string();
        assert!(text(br#"{"title":1776}"#).starts_with("is JSON of another shape: invalid type: integer `1776`"));
        assert!(text(br#"{"title":"#).starts_with("is not JSON: EOF"));
        assert!(matches!(serde.deserialize(None), Err(SerdeError::Null)));
    }

    #[test]
    fn bincode_takes_the_whole_record_or_nothing() {
        let serde = bincode::<u8>();
        assert!(serde.deserialize(Some(&[1, 2])).is_err());
        assert!(serde.deserialize(Some(&[])).is_err());
    }

    #[test]
    fn none_is_null_and_nothing_else_is() {
        for serde in [json::<Option<u8>>(), bincode()] {
            assert_eq!(serde.deserialize(None).ok(), Some(None));
            assert_eq!(serde.serialize(&None, &mut Vec::new()).ok(), Some(Encoded::Null));
            let mut bytes = Vec::new();
            assert_eq!(serde.serialize(&Some(7), &mut bytes).ok(), Some(Encoded::Bytes));
            assert_eq!(serde.deserialize(Some(&bytes)).ok(), Some(Some(7)));
        }
        assert!(matches!(json::<Value>().deserialize(None), Err(SerdeError::Null)));
        assert!(matches!(bincode::<()>().deserialize(None), Err(SerdeError::Null)));
        let mut bytes = Vec::new();
        assert_eq!(json().serialize(&Value::Null, &mut bytes).ok(), Some(Encoded::Bytes));
        assert_eq!(bytes, b"null");
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let names_that_are_no_text = BTreeMap::from([("a", BTreeMap::from([(vec![1u8], 1)]))]);
        let mut out = b"kept".to_vec();
        assert!(
            append(&names_that_are_no_text, &mut out, "JSON", |out| {
                serde_json::to_writer(out, &names_that_are_no_text)
            })
            .is_err()
        );
        assert_eq!(out, b"kept");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value: BTreeMap<String, (Option<i64>, Vec<String>, bool)>) {
            for serde in [json(), bincode()] {
                let mut bytes = Vec::new();
                serde.serialize(&value, &mut bytes).expect("fits");
                prop_assert_eq!(serde.deserialize(Some(&bytes)).ok(), Some(value.clone()));
            }
        }
    }
}
