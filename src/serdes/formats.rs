//! JSON and bincode, for every serde type.

use super::{Encoded, Serde, SerdeError, SerdeRef};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// JSON text.
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
        serde_json::to_writer(out, value)
            .map(|()| Encoded::Bytes)
            .map_err(|e| SerdeError::Invalid(format!("does not fit into JSON: {e}")))
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<T, SerdeError> {
        let bytes = bytes.ok_or(SerdeError::Null)?;
        serde_json::from_slice(bytes).map_err(|e| {
            use serde_json::error::Category::*;
            let what = match e.classify() {
                Data => "is JSON of another shape",
                Syntax | Eof | Io => "is not JSON",
            };
            SerdeError::Invalid(format!("{what}: {e}"))
        })
    }
}

/// Bincode 2, standard configuration: compact, private to Rust. Never use it where Java must read.
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
        ::bincode::serde::encode_into_std_write(value, out, ::bincode::config::standard())
            .map(|_| Encoded::Bytes)
            .map_err(|e| SerdeError::Invalid(format!("does not fit into bincode: {e}")))
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<T, SerdeError> {
        let bytes = bytes.ok_or(SerdeError::Null)?;
        let read = ::bincode::serde::decode_from_slice(bytes, ::bincode::config::standard());
        let (value, used) = read.map_err(|e| SerdeError::Invalid(format!("is not bincode of this type: {e}")))?;
        if used < bytes.len() {
            let rest = bytes.len() - used;
            return Err(SerdeError::Invalid(format!("is not bincode of this type: {rest} bytes are left over")));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
