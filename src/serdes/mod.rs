//! Bytes to values and back.

pub(crate) mod change;
pub mod formats;
mod json_object;
mod json_scan;
pub mod primitives;

pub use json_object::{JsonObject, JsonObjects};

use std::sync::Arc;

/// Why bytes and value do not fit. The source or sink adds topic, partition and offset.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// assert!(matches!(i64::serde().deserialize(None), Err(SerdeError::Null)));
/// assert!(matches!(i64::serde().deserialize(Some(b"x")), Err(SerdeError::Invalid(_))));
/// ```
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
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// let mut bytes = Vec::new();
/// assert!(matches!(Option::<i64>::serde().serialize(&None, &mut bytes), Ok(Encoded::Null)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoded {
    /// The bytes were appended (possibly none: empty is not null).
    Bytes,
    /// The value is null; nothing was appended.
    Null,
}

/// What bytes are, told to those who do not know the type: queries over HTTP show rows by it.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// assert_eq!(i64::serde().format(), Format::Long);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// UTF-8 text.
    Text,
    /// JSON text.
    Json,
    /// One byte, 0 or 1.
    Boolean,
    /// An integer of 16 bits, big endian.
    Short,
    /// An integer of 32 bits, big endian.
    Int,
    /// An integer of 64 bits, big endian.
    Long,
    /// A floating-point number of 32 bits, big endian.
    Float,
    /// A floating-point number of 64 bits, big endian.
    Double,
    /// Bytes of which no more is known.
    Bytes,
}

/// Turns values into bytes and back. Shared by all threads.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// /// One letter, as one byte.
/// struct Letter;
/// impl Serde<char> for Letter {
///     fn serialize(&self, value: &char, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
///         out.push(u8::try_from(*value).map_err(|e| SerdeError::Invalid(e.to_string()))?);
///         Ok(Encoded::Bytes)
///     }
///     fn deserialize(&self, bytes: Option<&[u8]>) -> Result<char, SerdeError> {
///         match bytes.ok_or(SerdeError::Null)? {
///             [byte] => Ok(char::from(*byte)),
///             _ => Err(SerdeError::Invalid("is not one byte".into())),
///         }
///     }
/// }
/// let consumed = Consumed::with(String::serde(), std::sync::Arc::new(Letter));
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub trait Serde<T>: Send + Sync {
    /// Appends the bytes of `value` to `out`.
    fn serialize(&self, value: &T, out: &mut Vec<u8>) -> Result<Encoded, SerdeError>;
    /// Reads a value; `None` is Kafka's null.
    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<T, SerdeError>;
    /// What its bytes are, where others could read them.
    fn format(&self) -> Format {
        Format::Bytes
    }
    /// How many bytes at the end of a key have no say in its partition: a windowed key belongs where its key does.
    fn unpartitioned_len(&self) -> usize {
        0
    }
}

/// A serde that can be handed around.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// let serde: SerdeRef<i64> = i64::serde();
/// let consumed = Consumed::with(String::serde(), serde);
/// ```
pub type SerdeRef<T> = Arc<dyn Serde<T>>;

/// Types with a serde of their own, byte-equal to the Java serde of that type: what `Consumed::default()` uses.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// assert_eq!(i32::serde().deserialize(Some(&[0, 0, 0, 7])).ok(), Some(7));
/// ```
pub trait DefaultSerde: Sized {
    /// That serde.
    fn serde() -> SerdeRef<Self>;
}

/// Adds null to another serde: `None` is Kafka's null.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// let serde = Optional(i64::serde());
/// assert!(matches!(serde.deserialize(None), Ok(None)));
/// ```
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

    fn format(&self) -> Format {
        self.0.format()
    }

    fn unpartitioned_len(&self) -> usize {
        self.0.unpartitioned_len()
    }
}

impl<T: DefaultSerde + 'static> DefaultSerde for Option<T> {
    fn serde() -> SerdeRef<Self> {
        Arc::new(Optional(T::serde()))
    }
}
