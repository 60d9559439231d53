//! Both sides of a table's change in one value: what a grouped table's repartition topic carries.
//!
//! Source: Kafka Streams' `ChangedSerializer` and `ChangedDeserializer`. The last byte tells the layout: 0 old only, 1 new
//! only, 2 both, with the new one's length before it; 3, 4, 5 are the same with one more byte that tells whether the change
//! is the latest.

use super::{Encoded, Serde, SerdeError, SerdeRef};
use crate::record::Change;

/// Changes of values that `0` reads and writes.
pub(crate) struct Changes<V>(pub(crate) SerdeRef<V>);

impl<V> Serde<Change<V>> for Changes<V> {
    fn serialize(&self, change: &Change<V>, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        match (&change.new, &change.old) {
            (Some(new), None) => {
                self.0.serialize(new, out)?;
                out.push(1);
            }
            (None, Some(old)) => {
                self.0.serialize(old, out)?;
                out.push(0);
            }
            (Some(new), Some(old)) => {
                let mut bytes = Vec::new();
                self.0.serialize(new, &mut bytes)?;
                varint(bytes.len() as i32, out);
                out.extend_from_slice(&bytes);
                self.0.serialize(old, out)?;
                out.push(2);
            }
            (None, None) => return Err(SerdeError::Invalid("is a change from nothing to nothing".into())),
        }
        Ok(Encoded::Bytes)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Change<V>, SerdeError> {
        let bytes = bytes.ok_or(SerdeError::Null)?;
        let unknown = || SerdeError::Invalid("is not a change of a table".into());
        let (layout, rest) = bytes.split_last().ok_or_else(unknown)?;
        let (layout, is_latest, rest) = match layout {
            0..=2 => (*layout, true, rest),
            3..=5 => rest.split_last().map(|(latest, rest)| (layout - 3, *latest == 1, rest)).ok_or_else(unknown)?,
            _ => return Err(unknown()),
        };
        let read = |bytes: &[u8]| self.0.deserialize(Some(bytes)).map(Some);
        let (new, old) = match layout {
            0 => (None, read(rest)?),
            1 => (read(rest)?, None),
            _ => {
                let (length, rest) = read_varint(rest).ok_or_else(unknown)?;
                let (new, old) = rest.split_at_checked(length).ok_or_else(unknown)?;
                (read(new)?, read(old)?)
            }
        };
        Ok(Change { old, new, is_latest })
    }
}

/// Kafka's variable-length integer: zigzag, seven bits a byte, the lowest first.
pub(crate) fn varint(value: i32, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 31)) as u32;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads a [`varint`] that is a length; gives what is behind it too.
pub(crate) fn read_varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u32;
    for (i, byte) in bytes.iter().enumerate().take(5) {
        value |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let value = (value >> 1) as i32 ^ -((value & 1) as i32);
            return Some((usize::try_from(value).ok()?, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serdes::DefaultSerde;

    #[test]
    fn bytes_are_kafka_streams_own() {
        let serde = Changes(String::serde());
        let mut out = Vec::new();
        for (new, old, bytes) in
            [(Some("a2"), Some("a1"), &b"\x04a2a1\x02"[..]), (Some("a"), None, b"a\x01"), (None, Some("a"), b"a\x00")]
        {
            out.clear();
            let change = Change::latest(new.map(str::to_string), old.map(str::to_string));
            serde.serialize(&change, &mut out).expect("encodes");
            assert_eq!(out, bytes);
            assert_eq!(serde.deserialize(Some(bytes)).expect("decodes"), change);
        }
        assert!(!serde.deserialize(Some(b"a\x00\x04")).expect("decodes").is_latest);
        assert!(serde.deserialize(Some(b"\x0aab\x02")).is_err() && serde.deserialize(Some(b"")).is_err());
    }
}
