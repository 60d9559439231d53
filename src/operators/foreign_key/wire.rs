//! Bytes of a foreign-key join: what its two sides write to each other, and the keys of the store of subscriptions.
//! They equal Kafka Streams', so that instances in Rust and in Java can share topics and stores.

use crate::serdes::{Encoded, Serde, SerdeError, SerdeRef};

/// The hash of a left value; `None`: there is no value.
pub(crate) type Hash = Option<[u8; 16]>;

/// What the foreign side has to do with a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) enum Instruction {
    /// Forget it, answer nothing: the left row has moved to another foreign key, whose answer follows.
    Forget = 0,
    /// Forget it, and answer that there is no foreign row.
    ForgetAndAnswer = 1,
    /// Keep it, and answer with the foreign row or that there is none.
    Answer = 2,
    /// Keep it, and answer where there is a foreign row.
    AnswerIfFound = 3,
}

/// A left row tells the foreign side that it wants to know of a foreign key. The primary key stays bytes: the foreign side
/// has no other use for it than to send it back.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Subscription {
    pub(crate) hash: Hash,
    pub(crate) instruction: Instruction,
    pub(crate) primary_key: Vec<u8>,
    /// Where the left row lives; version 0 (before Kafka Streams 3.4) does not have it.
    pub(crate) primary_partition: Option<i32>,
}

/// The foreign side's answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Response<V> {
    /// The hash that the subscription came with: an answer to a value that is no more is told by it.
    pub(crate) hash: Hash,
    pub(crate) foreign: Option<V>,
    /// The partition to answer to; not written.
    pub(crate) primary_partition: Option<i32>,
}

const NO_HASH: u8 = 0x80;

/// Version byte, with the mark of a hash that is missing.
fn version_byte(version: u8, hash: &Hash) -> u8 {
    if hash.is_some() { version } else { version | NO_HASH }
}

/// Takes the hash off the front, where `version` says that there is one.
fn take_hash(version: u8, bytes: &[u8]) -> Result<(Hash, &[u8]), SerdeError> {
    if version & NO_HASH != 0 {
        return Ok((None, bytes));
    }
    let (hash, rest) = bytes.split_first_chunk::<16>().ok_or_else(|| cut("the hash"))?;
    Ok((Some(*hash), rest))
}

fn cut(what: &str) -> SerdeError {
    SerdeError::Invalid(format!("ends within {what} of a foreign-key join's record"))
}

fn unknown_version(version: u8) -> SerdeError {
    SerdeError::Invalid(format!(
        "is of version {version} of a foreign-key join's records, which this version does not know"
    ))
}

/// `version · instruction · [hash] · primary key · primary partition`.
pub(crate) struct SubscriptionSerde;

impl Serde<Subscription> for SubscriptionSerde {
    fn serialize(&self, value: &Subscription, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        out.push(version_byte(u8::from(value.primary_partition.is_some()), &value.hash));
        out.push(value.instruction as u8);
        out.extend(value.hash.iter().flatten());
        out.extend_from_slice(&value.primary_key);
        out.extend(value.primary_partition.iter().flat_map(|partition| partition.to_be_bytes()));
        Ok(Encoded::Bytes)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Subscription, SerdeError> {
        let bytes = bytes.ok_or(SerdeError::Null)?;
        let ([version, instruction], rest) = bytes.split_first_chunk::<2>().ok_or_else(|| cut("the instruction"))?;
        let instruction = match instruction {
            0 => Instruction::Forget,
            1 => Instruction::ForgetAndAnswer,
            2 => Instruction::Answer,
            3 => Instruction::AnswerIfFound,
            other => return Err(SerdeError::Invalid(format!("has the unknown instruction {other}"))),
        };
        let (hash, rest) = take_hash(*version, rest)?;
        let (primary_key, primary_partition) = match version & !NO_HASH {
            0 => (rest, None),
            1 => {
                let (key, partition) = rest.split_last_chunk::<4>().ok_or_else(|| cut("the partition"))?;
                (key, Some(i32::from_be_bytes(*partition)))
            }
            version => return Err(unknown_version(version)),
        };
        Ok(Subscription { hash, instruction, primary_key: primary_key.to_vec(), primary_partition })
    }
}

/// `version · [hash] · foreign value`; without bytes of a value there is none.
pub(crate) struct ResponseSerde<V>(pub(crate) SerdeRef<V>);

impl<V> Serde<Response<V>> for ResponseSerde<V> {
    fn serialize(&self, value: &Response<V>, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        out.push(version_byte(0, &value.hash));
        out.extend(value.hash.iter().flatten());
        if let Some(foreign) = &value.foreign {
            self.0.serialize(foreign, out)?;
        }
        Ok(Encoded::Bytes)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Response<V>, SerdeError> {
        let bytes = bytes.ok_or(SerdeError::Null)?;
        let (version, rest) = bytes.split_first().ok_or_else(|| cut("the version"))?;
        if version & !NO_HASH != 0 {
            return Err(unknown_version(version & !NO_HASH));
        }
        let (hash, rest) = take_hash(*version, rest)?;
        let foreign = if rest.is_empty() { None } else { Some(self.0.deserialize(Some(rest))?) };
        Ok(Response { hash, foreign, primary_partition: None })
    }
}

/// Bytes that are keys already: primary keys on the foreign side.
pub(crate) struct Raw;

impl Serde<Vec<u8>> for Raw {
    fn serialize(&self, value: &Vec<u8>, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        out.extend_from_slice(value);
        Ok(Encoded::Bytes)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Vec<u8>, SerdeError> {
        bytes.map(<[u8]>::to_vec).ok_or(SerdeError::Null)
    }
}

/// Writes what the keys of all subscriptions to a foreign key begin with: its length and its bytes, as `foreign` appends
/// them.
pub(crate) fn prefix<E>(out: &mut Vec<u8>, foreign: impl FnOnce(&mut Vec<u8>) -> Result<Encoded, E>) -> Result<(), E> {
    out.clear();
    out.extend_from_slice(&[0; 4]);
    foreign(out)?;
    // Kafka's keys are far below 2 GiB; Java's length is 32 bits wide anyway.
    let length = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// The first key behind all that begin with `prefix`; `None`: there is none.
pub(crate) fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::super::murmur3::hash128;
    use super::*;
    use crate::serdes::DefaultSerde;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn written<T>(serde: &dyn Serde<T>, value: &T) -> Vec<u8> {
        let mut out = Vec::new();
        serde.serialize(value, &mut out).expect("encodes");
        out
    }

    #[test]
    fn subscriptions_and_answers_equal_those_of_kafka_streams() {
        let hash = Some(hash128(b"f1:x"));
        let (instruction, primary_key) = (Instruction::AnswerIfFound, b"p1".to_vec());
        let subscription = Subscription { hash, instruction, primary_key, primary_partition: Some(0) };
        let bytes = written(&SubscriptionSerde, &subscription);
        assert_eq!(hex(&bytes), "0103ac4119ca2e77b628df9383cf1ca8e004703100000000");
        assert_eq!(SubscriptionSerde.deserialize(Some(&bytes)).expect("decodes"), subscription);

        let gone = Subscription { hash: None, instruction: Instruction::ForgetAndAnswer, ..subscription };
        assert_eq!(hex(&written(&SubscriptionSerde, &gone)), "8101703100000000");

        let serde = ResponseSerde(String::serde());
        let response = Response { hash, foreign: Some("R1".to_string()), primary_partition: None };
        let bytes = written(&serde, &response);
        assert_eq!(hex(&bytes), "00ac4119ca2e77b628df9383cf1ca8e0045231");
        assert_eq!(serde.deserialize(Some(&bytes)).expect("decodes"), response);
        assert_eq!(hex(&written(&serde, &Response { hash: None, foreign: None, primary_partition: None })), "80");

        let mut key = Vec::new();
        prefix(&mut key, |out| String::serde().serialize(&"f1".to_string(), out)).expect("encodes");
        key.extend_from_slice(b"p1");
        assert_eq!(hex(&key), "0000000266317031");
    }

    #[test]
    fn subscriptions_of_version_0_are_read_and_later_versions_refused() {
        let old = SubscriptionSerde.deserialize(Some(b"\x80\x02key")).expect("decodes");
        assert_eq!((old.primary_key.as_slice(), old.primary_partition), (&b"key"[..], None));
        assert_eq!(written(&SubscriptionSerde, &old), b"\x80\x02key");
        for broken in [&b""[..], b"\x01", b"\x01\x02short", b"\x82\x02key0000", b"\x81\x04key0000", b"\x81\x02key"] {
            assert!(SubscriptionSerde.deserialize(Some(broken)).is_err(), "{broken:?}");
        }
        let answers = ResponseSerde(String::serde());
        for broken in [&b""[..], b"\x00short", b"\x81"] {
            assert!(answers.deserialize(Some(broken)).is_err(), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn all_keys_with_a_prefix_lie_before_its_end(prefix in "[\\x00-\\x7f]{0,3}", rest in "[\\x00-\\x7f]{0,3}", tail in 0..3usize) {
            let mut prefix = prefix.into_bytes();
            prefix.extend(std::iter::repeat_n(0xff, tail));
            let key = [prefix.clone(), rest.into_bytes()].concat();
            let end = end_of(&prefix);
            prop_assert!(end.as_ref().is_none_or(|end| key < *end && !end.starts_with(&prefix)));
            prop_assert_eq!(end.is_none(), prefix.iter().all(|byte| *byte == 0xff));
        }
    }
}
