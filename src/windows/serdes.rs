//! Windowed keys in topics, byte-equal to Java's `TimeWindowedSerde` and `SessionWindowedSerde`.

use super::{Window, Windowed};
use crate::serdes::{Encoded, Serde, SerdeError, SerdeRef};

/// Keys of tumbling, hopping, sliding or unlimited windows: the key, then the start (i64, big endian). The end is not
/// written: it is the start and the windows' size.
///
/// ```
/// use watersmeet::prelude::*;
/// use watersmeet::serdes::DefaultSerde;
/// use watersmeet::windows::{TimeWindowedSerde, Windowed};
/// let keys: SerdeRef<Windowed<String>> = TimeWindowedSerde::of(String::serde(), 60_000);
/// let counts = Consumed::with(keys, i64::serde());
/// ```
pub struct TimeWindowedSerde<K> {
    key: SerdeRef<K>,
    size_ms: i64,
}

impl<K: 'static> TimeWindowedSerde<K> {
    /// Keys by `key`, windows of this size.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let keys = TimeWindowedSerde::of(String::serde(), 60_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn of(key: SerdeRef<K>, size_ms: i64) -> SerdeRef<Windowed<K>> {
        std::sync::Arc::new(Self { key, size_ms })
    }
}

impl<K> Serde<Windowed<K>> for TimeWindowedSerde<K> {
    fn serialize(&self, value: &Windowed<K>, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        let encoded = self.key.serialize(&value.key, out)?;
        if encoded == Encoded::Bytes {
            out.extend_from_slice(&value.window.start_ms.to_be_bytes());
        }
        Ok(encoded)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Windowed<K>, SerdeError> {
        let (key, [start_ms]) = split(bytes.ok_or(SerdeError::Null)?)?;
        let window = Window::new(start_ms, start_ms.saturating_add(self.size_ms));
        Ok(Windowed { key: self.key.deserialize(Some(key))?, window })
    }

    fn unpartitioned_len(&self) -> usize {
        8
    }
}

/// Keys of sessions: the key, then end and start of the session (i64, big endian).
///
/// ```
/// use watersmeet::prelude::*;
/// use watersmeet::serdes::DefaultSerde;
/// use watersmeet::windows::{SessionWindowedSerde, Windowed};
/// let keys: SerdeRef<Windowed<String>> = SessionWindowedSerde::of(String::serde());
/// ```
pub struct SessionWindowedSerde<K> {
    key: SerdeRef<K>,
}

impl<K: 'static> SessionWindowedSerde<K> {
    /// Keys by `key`.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let keys = SessionWindowedSerde::of(String::serde());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn of(key: SerdeRef<K>) -> SerdeRef<Windowed<K>> {
        std::sync::Arc::new(Self { key })
    }
}

impl<K> Serde<Windowed<K>> for SessionWindowedSerde<K> {
    fn serialize(&self, value: &Windowed<K>, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        let encoded = self.key.serialize(&value.key, out)?;
        if encoded == Encoded::Bytes {
            out.extend_from_slice(&value.window.end_ms.to_be_bytes());
            out.extend_from_slice(&value.window.start_ms.to_be_bytes());
        }
        Ok(encoded)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Windowed<K>, SerdeError> {
        let (key, [end_ms, start_ms]) = split(bytes.ok_or(SerdeError::Null)?)?;
        Ok(Windowed { key: self.key.deserialize(Some(key))?, window: Window::new(start_ms, end_ms) })
    }

    fn unpartitioned_len(&self) -> usize {
        16
    }
}

/// The key's bytes, and the `N` times behind it.
fn split<const N: usize>(bytes: &[u8]) -> Result<(&[u8], [i64; N]), SerdeError> {
    let short = || SerdeError::Invalid(format!("{} bytes are too few for a windowed key", bytes.len()));
    let at = bytes.len().checked_sub(8 * N).ok_or_else(short)?;
    let (key, rest) = bytes.split_at(at);
    let mut times = [0; N];
    for (time, bytes) in times.iter_mut().zip(rest.chunks_exact(8)) {
        *time = i64::from_be_bytes(bytes.try_into().map_err(|_| short())?);
    }
    Ok((key, times))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serdes::DefaultSerde;

    fn round_trip(serde: &SerdeRef<Windowed<String>>, window: Window, tail: &[u8]) {
        let key = Windowed { key: "k".to_string(), window };
        let mut bytes = Vec::new();
        serde.serialize(&key, &mut bytes).expect("encodes");
        assert_eq!(bytes, [b"k", tail].concat());
        assert_eq!(serde.deserialize(Some(&bytes)).expect("decodes"), key);
        assert!(serde.deserialize(Some(&tail[1..])).is_err());
    }

    #[test]
    fn windowed_keys_have_javas_bytes() {
        let (ten, twenty) = (10i64.to_be_bytes(), 20i64.to_be_bytes());
        round_trip(&TimeWindowedSerde::of(String::serde(), 10), Window::new(10, 20), &ten);
        round_trip(&SessionWindowedSerde::of(String::serde()), Window::new(10, 20), &[twenty, ten].concat());
    }

    #[test]
    fn the_end_of_a_window_does_not_overflow() {
        let serde = TimeWindowedSerde::of(String::serde(), i64::MAX);
        let bytes = [b"k".as_slice(), &5i64.to_be_bytes()].concat();
        assert_eq!(serde.deserialize(Some(&bytes)).expect("decodes").window, Window::new(5, i64::MAX));
    }
}
