//! Bytes, text and numbers, byte-equal to Java's serdes: UTF-8, and big endian two's complement or IEEE 754.

use super::{DefaultSerde, Encoded, Format, Serde, SerdeError, SerdeRef};
use std::sync::Arc;

/// Bytes as they are. Java: `ByteArraySerde`.
///
/// ```
/// use watersmeet::serdes::{Serde, primitives::Bytes};
/// assert_eq!(Bytes.deserialize(Some(b"ab")).ok(), Some(vec![97, 98]));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Bytes;

impl Serde<Vec<u8>> for Bytes {
    fn serialize(&self, value: &Vec<u8>, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        out.extend_from_slice(value);
        Ok(Encoded::Bytes)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Vec<u8>, SerdeError> {
        bytes.map(<[u8]>::to_vec).ok_or(SerdeError::Null)
    }
}

/// UTF-8 text. Java: `StringSerde`; but where Java replaces bytes that are not UTF-8, they are an error here.
///
/// ```
/// use watersmeet::serdes::{Serde, primitives::Text};
/// assert_eq!(Text.deserialize(Some(b"ab")).ok().as_deref(), Some("ab"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Text;

impl Serde<String> for Text {
    fn serialize(&self, value: &String, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        out.extend_from_slice(value.as_bytes());
        Ok(Encoded::Bytes)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<String, SerdeError> {
        let bytes = bytes.ok_or(SerdeError::Null)?;
        let text = std::str::from_utf8(bytes);
        text.map(str::to_owned).map_err(|e| SerdeError::Invalid(format!("is not UTF-8 text: {e}")))
    }

    fn format(&self) -> Format {
        Format::Text
    }
}

impl DefaultSerde for Vec<u8> {
    fn serde() -> SerdeRef<Self> {
        Arc::new(Bytes)
    }
}

impl DefaultSerde for String {
    fn serde() -> SerdeRef<Self> {
        Arc::new(Text)
    }
}

/// One byte, 0 or 1. Java: `BooleanSerde`.
///
/// ```
/// use watersmeet::serdes::{Serde, primitives::Bool};
/// assert_eq!(Bool.deserialize(Some(&[1])).ok(), Some(true));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Bool;

impl Serde<bool> for Bool {
    fn serialize(&self, value: &bool, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        out.push(u8::from(*value));
        Ok(Encoded::Bytes)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<bool, SerdeError> {
        match bytes.ok_or(SerdeError::Null)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [byte] => {
                Err(SerdeError::Invalid(format!("is the byte {byte}, but bool takes 0 or 1 (Java: BooleanSerde)")))
            }
            bytes => {
                let got = bytes.len();
                Err(SerdeError::Invalid(format!("has {got} bytes, but bool takes 1 (Java: BooleanSerde)")))
            }
        }
    }

    fn format(&self) -> Format {
        Format::Boolean
    }
}

impl DefaultSerde for bool {
    fn serde() -> SerdeRef<Self> {
        Arc::new(Bool)
    }
}

/// A number of fixed size.
///
/// ```
/// use watersmeet::serdes::{Serde, primitives::Number};
/// let mut bytes = Vec::new();
/// assert!(Number.serialize(&258i32, &mut bytes).is_ok() && bytes == [0, 0, 1, 2]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Number;

macro_rules! numbers {
    ($($t:ty, $java:literal, $format:ident;)*) => {$(
        impl Serde<$t> for Number {
            fn serialize(&self, value: &$t, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
                out.extend_from_slice(&value.to_be_bytes());
                Ok(Encoded::Bytes)
            }

            fn deserialize(&self, bytes: Option<&[u8]>) -> Result<$t, SerdeError> {
                let bytes = bytes.ok_or(SerdeError::Null)?;
                let whole = <[u8; size_of::<$t>()]>::try_from(bytes);
                whole.map(<$t>::from_be_bytes).map_err(|_| {
                    let (want, got) = (size_of::<$t>(), bytes.len());
                    SerdeError::Invalid(format!("has {got} bytes, but {} takes {want} (Java: {})", stringify!($t), $java))
                })
            }

            fn format(&self) -> Format {
                Format::$format
            }
        }

        impl DefaultSerde for $t {
            fn serde() -> SerdeRef<Self> {
                Arc::new(Number)
            }
        }
    )*};
}

numbers! {
    i16, "ShortSerde", Short;
    i32, "IntegerSerde", Int;
    i64, "LongSerde", Long;
    f32, "FloatSerde", Float;
    f64, "DoubleSerde", Double;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes<T: DefaultSerde>(value: T) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(T::serde().serialize(&value, &mut out).ok(), Some(Encoded::Bytes));
        out
    }

    #[test]
    fn bytes_are_javas() {
        assert_eq!(bytes(1_234_567i32), [0x00, 0x12, 0xd6, 0x87]);
        assert_eq!(bytes(-1i64), [0xff; 8]);
        assert_eq!(bytes(1.5f64), [0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes(-2i16), [0xff, 0xfe]);
        assert_eq!(bytes(1.5f32), [0x3f, 0xc0, 0, 0]);
        assert_eq!(bytes(true), [1]);
        assert_eq!(bytes("한글".to_string()), [0xed, 0x95, 0x9c, 0xea, 0xb8, 0x80]);
    }

    #[test]
    fn a_wrong_length_is_told() {
        let error = i32::serde().deserialize(Some(b"12345")).expect_err("five bytes").to_string();
        assert_eq!(error, "has 5 bytes, but i32 takes 4 (Java: IntegerSerde)");
        assert!(i64::serde().deserialize(Some(&[])).is_err());
        assert!(bool::serde().deserialize(Some(&[2])).is_err());
        assert!(bool::serde().deserialize(Some(&[0, 0])).is_err());
    }

    #[test]
    fn null_needs_an_option() {
        assert!(matches!(String::serde().deserialize(None), Err(SerdeError::Null)));
        assert_eq!(<Option<String>>::serde().deserialize(None).ok(), Some(None));
        assert_eq!(<Option<String>>::serde().serialize(&None, &mut Vec::new()).ok(), Some(Encoded::Null));
    }

    #[test]
    fn text_that_is_not_utf8_is_an_error() {
        assert!(String::serde().deserialize(Some(&[0xff])).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(a: i64, b: i32, c: String, d: Vec<u8>, e: i16, f: f64, g: bool) {
            prop_assert_eq!(i64::serde().deserialize(Some(&bytes(a))).ok(), Some(a));
            prop_assert_eq!(i32::serde().deserialize(Some(&bytes(b))).ok(), Some(b));
            prop_assert_eq!(String::serde().deserialize(Some(&bytes(c.clone()))).ok(), Some(c));
            prop_assert_eq!(<Vec<u8>>::serde().deserialize(Some(&bytes(d.clone()))).ok(), Some(d));
            prop_assert_eq!(f64::serde().deserialize(Some(&bytes(f))).map(f64::to_bits).ok(), Some(f.to_bits()));
            prop_assert_eq!(bool::serde().deserialize(Some(&bytes(g))).ok(), Some(g));
            prop_assert_eq!(i16::serde().deserialize(Some(&bytes(e))).ok(), Some(e));
        }
    }
}
