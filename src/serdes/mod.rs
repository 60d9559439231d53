//! Bytes to values and back.

pub(crate) mod change;
pub mod formats;
mod json_object;
mod json_scan;
pub mod primitives;

pub use json_object::{JsonObject, JsonObjects};

use std::sync::Arc;

/// Why bytes and value do not fit. The source or sink adds topic, partition and offset.
#[derive(Debug, thiserror::Error)]
pub enum SerdeError {
    /// The bytes are null, and the type has no null: declare `Option<T>` to let it in.
    #[error("is null")]
    Null,
    /// The bytes are not of this format.
    #[error("{0}")]
    Invalid(String),
}

/// Whether [`Serde::serialize`] wrote bytes or the value is null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoded {
    /// The bytes were appended (possibly none: empty is not null).
    Bytes,
    /// The value is null; nothing was appended.
    Null,
}

/// Turns values into bytes and back. Shared by all threads.
pub trait Serde<T>: Send + Sync {
    /// Appends the bytes of `value` to `out`.
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<Encoded, SerdeError>;
    /// Reads a value; `None` is Kafka's null.
    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<T, SerdeError>;
}

/// A serde that can be handed around.
pub type SerdeRef<T> = Arc<dyn Serde<T>>;

/// Types with a serde of their own, byte-equal to the Java serde of that type: what `Consumed::default()` uses.
pub trait DefaultSerde: Sized {
    /// That serde.
    fn serde() -> SerdeRef<Self>;
}

/// Adds null to another serde: `None` is Kafka's null.
pub struct Optional<T>(pub SerdeRef<T>);

impl<T> Serde<Option<T>> for Optional<T> {
    fn serialize(&self, value: &Option<T>, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        value.as_ref().map_or(Ok(Encoded::Null), |value| self.0.serialize(value, out))
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Option<T>, SerdeError> {
        match bytes {
            None => Ok(None),
            bytes => self.0.deserialize(bytes).map(Some),
        }
    }
}

impl<T: DefaultSerde + 'static> DefaultSerde for Option<T> {
    fn serde() -> SerdeRef<Self> {
        Arc::new(Optional(T::serde()))
    }
}
