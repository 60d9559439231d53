//! Key-value stores, as they are read from outside.

use super::{Owner, Staleness, Typed, encode};
use crate::error::{Error, Kind, Result};
use crate::record::Timestamp;
use crate::runtime::queries::{Answer, Scan};
use crate::serdes::SerdeRef;
use crate::state::query::{Found, Query};
use crate::state::timestamped;

/// Reads a key-value store. Cheap to clone, and to keep: each call finds the tasks that run at that moment.
///
/// The errors of its methods: [`Kind::Unavailable`] while what is asked for is being restored, or is with another instance;
/// [`Kind::User`] where key or value are not of these types; [`Kind::State`] where the disk cannot be read, or the client has
/// ended.
#[doc(alias = "ReadOnlyKeyValueStore")]
pub struct KeyValueReads<K, V> {
    pub(super) typed: Typed<K, V>,
}

/// A row of a key-value store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValueRow<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// Its timestamp; `None` where the store keeps none.
    pub timestamp_ms: Option<Timestamp>,
}

impl<K, V> KeyValueReads<K, V> {
    /// The value of `key`.
    ///
    /// # Errors
    /// See [`KeyValueReads`].
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        Ok(self.get_with_timestamp(key)?.map(|(value, _)| value))
    }

    /// The value of `key`, and its timestamp where the store keeps one.
    ///
    /// # Errors
    /// See [`KeyValueReads`].
    #[doc(alias = "ValueAndTimestamp")]
    pub fn get_with_timestamp(&self, key: &K) -> Result<Option<(V, Option<Timestamp>)>> {
        let answer = self.ask(key)?;
        self.value(&answer)
    }

    /// The value of `key`, and how old this answer may be.
    ///
    /// # Errors
    /// See [`KeyValueReads`].
    pub fn get_with_staleness(&self, key: &K) -> Result<(Option<V>, Staleness)> {
        let answer = self.ask(key)?;
        let value = self.value(&answer)?.map(|(value, _)| value);
        Ok((value, self.typed.store.staleness(&answer)))
    }

    /// The rows from key `from` to key `to`, both included, in the order of the keys' bytes; `None` is no bound.
    ///
    /// # Errors
    /// See [`KeyValueReads`]; so may each row be.
    pub fn range(&self, from: Option<&K>, to: Option<&K>) -> Result<Rows<K, V>> {
        let from = from.map(|key| self.typed.key_bytes(key)).transpose()?;
        // The end is excluded below: the smallest key behind `to` is `to` with a zero byte.
        let to = to.map(|key| Ok([&self.typed.key_bytes(key)?[..], &[0]].concat())).transpose()?;
        self.scan(from, to)
    }

    /// All rows, in the order of the keys' bytes.
    ///
    /// # Errors
    /// See [`KeyValueReads`]; so may each row be.
    pub fn all(&self) -> Result<Rows<K, V>> {
        self.range(None, None)
    }

    /// The rows whose keys' bytes begin with those of `prefix`, in their order.
    ///
    /// # Errors
    /// See [`KeyValueReads`]; so may each row be.
    #[doc(alias = "prefixScan")]
    pub fn prefix<P>(&self, prefix: &P, serde: &SerdeRef<P>) -> Result<Rows<K, V>> {
        let from = encode(serde, prefix)?;
        let to = behind_prefix(&from);
        self.scan(Some(from), to)
    }

    /// Roughly how many rows the tasks of this instance have.
    ///
    /// # Errors
    /// See [`KeyValueReads`].
    #[doc(alias = "approximateNumEntries")]
    pub fn approximate_entries(&self) -> Result<u64> {
        let of = |answer: Answer| if let Found::Entries(entries) = answer.found { entries } else { 0 };
        Ok(self.typed.store.ask_all(&Query::Entries)?.into_iter().map(of).sum())
    }

    /// The partition that has the row of `key`, where Java's default partitioner wrote the inputs; `None` before the topics have
    /// been looked at.
    ///
    /// # Errors
    /// [`Kind::User`]: the key does not encode.
    pub fn partition_of(&self, key: &K) -> Result<Option<i32>> {
        Ok(self.typed.store.partition_of(&self.typed.key_bytes(key)?))
    }

    /// Which instance has the row of `key`.
    ///
    /// # Errors
    /// [`Kind::User`]: the key does not encode. [`Kind::Broker`]: the group's coordinator gives no answer.
    #[doc(alias = "queryMetadataForKey")]
    pub fn owner(&self, key: &K) -> Result<Owner> {
        self.partition_of(key)?.map_or(Ok(Owner::Unknown), |partition| self.owner_of(partition))
    }

    /// Which instance has the rows of this partition.
    ///
    /// # Errors
    /// [`Kind::Broker`]: the group's coordinator gives no answer. [`Kind::User`]: there is no such partition.
    pub fn owner_of(&self, partition: i32) -> Result<Owner> {
        self.typed.store.owner_of(partition)
    }

    fn ask(&self, key: &K) -> Result<Answer> {
        let key = self.typed.key_bytes(key)?;
        self.typed.store.ask_key(&key, &Query::Get(key.clone()))
    }

    fn value(&self, answer: &Answer) -> Result<Option<(V, Option<Timestamp>)>> {
        match &answer.found {
            Found::Row(row) => row.as_ref().map(|row| self.row(row)).transpose(),
            _ => Err(Error::new(Kind::Internal, "the answer is of another query")),
        }
    }

    fn row(&self, row: &[u8]) -> Result<(V, Option<Timestamp>)> {
        if !self.typed.store.spec().kind.is_timestamped() {
            return Ok((self.typed.value(row)?, None));
        }
        Ok((self.typed.value(timestamped::value(row))?, Some(timestamped::timestamp_ms(row))))
    }

    fn scan(&self, from: Option<Vec<u8>>, to: Option<Vec<u8>>) -> Result<Rows<K, V>> {
        Ok(Rows { scan: self.typed.store.scan(from, to, usize::MAX)?, reads: self.clone() })
    }
}

/// The smallest bytes behind all that begin with `prefix`; `None`: there are none.
pub(crate) fn behind_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut behind = prefix[..=last].to_vec();
    behind[last] += 1;
    Some(behind)
}

/// Rows of a key-value store. They are read page by page: what is written meanwhile may be among them.
pub struct Rows<K, V> {
    scan: Scan,
    reads: KeyValueReads<K, V>,
}

impl<K, V> Iterator for Rows<K, V> {
    type Item = Result<KeyValueRow<K, V>>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = |(_, key, row): (i32, Vec<u8>, Vec<u8>)| {
            let (value, timestamp_ms) = self.reads.row(&row)?;
            Ok(KeyValueRow { key: self.reads.typed.key(&key)?, value, timestamp_ms })
        };
        Some(self.scan.next()?.and_then(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_one() {
        assert_eq!(behind_prefix(b"ab").as_deref(), Some(&b"ac"[..]));
        assert_eq!(behind_prefix(&[b'a', 255, 255]).as_deref(), Some(&b"b"[..]));
        assert_eq!(behind_prefix(&[255]), None);
        assert_eq!(behind_prefix(b""), None);
    }
}
