//! What waits for a partner in a left or outer stream-stream join: its keys and its lists of values, byte for byte as
//! Kafka Streams has them (`TimestampedKeyAndJoinSideSerde`, `LeftOrRightValueSerde`, `ListSerde`).

/// The key of a list: time, side, key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JoinKey<'a> {
    pub(crate) time_ms: i64,
    pub(crate) is_left: bool,
    pub(crate) key: &'a [u8],
}

impl<'a> JoinKey<'a> {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.time_ms.to_be_bytes().to_vec();
        bytes.push(u8::from(self.is_left));
        bytes.extend_from_slice(self.key);
        bytes
    }

    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (time, rest) = bytes.split_first_chunk::<8>()?;
        let (side, key) = rest.split_first()?;
        Some(Self { time_ms: i64::from_be_bytes(*time), is_left: *side == 1, key })
    }
}

/// The list with one more value; an empty slice is no list yet.
pub(crate) fn append(list: &[u8], value: &[u8]) -> Vec<u8> {
    let count = values(list).len() as i32 + 1;
    let mut bytes = vec![1];
    bytes.extend_from_slice(&count.to_be_bytes());
    bytes.extend_from_slice(list.get(5..).unwrap_or_default());
    bytes.extend_from_slice(&(value.len() as i32).to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// The values of a list. What is cut off is left out.
pub(crate) fn values(list: &[u8]) -> Vec<&[u8]> {
    let mut values = Vec::new();
    let mut rest = list.get(5..).unwrap_or_default();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        let Some((value, behind)) = behind.split_at_checked(length) else { break };
        values.push(value);
        rest = behind;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_kafka_streams_own() {
        assert_eq!(JoinKey { time_ms: 100, is_left: true, key: b"k" }.bytes(), b"\0\0\0\0\0\0\0\x64\x01k");
        let list = append(&append(&[], b"\x01L1"), b"\x01L2");
        assert_eq!(list, b"\x01\0\0\0\x02\0\0\0\x03\x01L1\0\0\0\x03\x01L2");
        assert_eq!(values(&list), [b"\x01L1", b"\x01L2"]);
        assert!(values(&[]).is_empty() && values(b"\x01\0\0\0\x01\0\0\0\x09x").is_empty());
        assert!(JoinKey::read(b"short").is_none());
    }
}
