//! Which partition a record goes to: by a function of the user's own, or by the default partitioner of Java's producer: which partition a key belongs to. A table's row and a stream's record of the
//! same key meet only if everybody who writes their topics computes this alike.

use std::sync::Arc;

/// Where a [`StreamPartitioner`] sends a record.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::partitioner::Partitions;
/// assert_eq!(Partitions::from(3), Partitions::One(3));
/// assert_eq!(Partitions::from(None), Partitions::ByKey);
/// assert_eq!(Partitions::from(vec![0, 1]), Partitions::Each(vec![0, 1]));
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitions {
    /// Where its key belongs by the default partitioner.
    ByKey,
    /// To this partition.
    One(i32),
    /// To each of these; to none where there are none: then the record counts as dropped.
    Each(Vec<i32>),
}

impl From<i32> for Partitions {
    fn from(partition: i32) -> Self {
        Self::One(partition)
    }
}

impl From<Option<i32>> for Partitions {
    /// `None` is [`Partitions::ByKey`].
    fn from(partition: Option<i32>) -> Self {
        partition.map_or(Self::ByKey, Self::One)
    }
}

impl From<Vec<i32>> for Partitions {
    fn from(partitions: Vec<i32>) -> Self {
        Self::Each(partitions)
    }
}

/// Chooses the partition of each record that is written to a topic, in place of the default partitioner.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// let to_the_first = StreamPartitioner::new(|_topic: &str, _key: &String, _value: &String, _partitions| 0);
/// let produced = Produced::default().partitioner(to_the_first);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct StreamPartitioner<K, V>(Choose<K, V>);

type Choose<K, V> = Arc<dyn Fn(&str, &K, &V, i32) -> Partitions + Send + Sync>;

impl<K, V> StreamPartitioner<K, V> {
    /// `choose` gets topic, key, value and how many partitions the topic has; it gives a partition, an `Option` of one
    /// (`None`: by the key), several, or [`Partitions`].
    ///
    /// ```
    /// use watersmeet::partitioner::{Partitions, StreamPartitioner};
    /// let by_value = StreamPartitioner::new(|_topic: &str, _key: &String, value: &i32, partitions| value % partitions);
    /// assert_eq!(by_value.partitions("t", &"k".into(), &5, 3), Partitions::One(2));
    /// ```
    pub fn new<P: Into<Partitions>>(choose: impl Fn(&str, &K, &V, i32) -> P + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |topic, key, value, count| choose(topic, key, value, count).into()))
    }

    /// Where a record goes.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::partitioner::Partitions;
    /// let to_the_last = StreamPartitioner::new(|_: &str, _: &String, _: &String, partitions| partitions - 1);
    /// assert_eq!(to_the_last.partitions("out", &"k".into(), &"v".into(), 4), Partitions::One(3));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn partitions(&self, topic: &str, key: &K, value: &V, count: i32) -> Partitions {
        (self.0)(topic, key, value, count)
    }
}

impl<K, V> Clone for StreamPartitioner<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Java's `Utils.murmur2`: MurmurHash 2, 32 bits, seed 0x9747b28c, words little-endian.
///
/// ```
/// assert_eq!(watersmeet::partitioner::murmur2(b"foobar"), -790332482);
/// ```
pub fn murmur2(bytes: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    // Kafka's keys are far below 4 GiB; Java's length is 32 bits wide anyway.
    let mut h = 0x9747_b28c ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        h ^= tail.iter().rfold(0, |word, byte| word << 8 | u32::from(*byte));
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    (h ^ (h >> 15)) as i32
}

/// The partition of `key` in a topic of `count` partitions. An empty key is hashed like any other; a null key has no
/// partition of its own and is left to the producer.
///
/// ```
/// assert_eq!(watersmeet::partitioner::partition_for_key(b"abc", 12), 3);
/// ```
///
/// # Panics
/// If `count` is 0: a topic has at least one partition.
pub fn partition_for_key(key: &[u8], count: i32) -> i32 {
    (murmur2(key) & i32::MAX) % count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key, Java's hash, partition of 3, of 6 and of 12, as Kafka's own client (4.3) computes them.
    type Observed<'a> = (&'a [u8], i32, [i32; 3]);

    #[test]
    fn hashes_and_partitions_equal_javas() {
        let observed: &[Observed] = &[
            (b"", 275646681, [0, 3, 9]),
            (b"a", -1563381124, [1, 4, 4]),
            (b"ab", 316155434, [2, 2, 2]),
            (b"abc", 479470107, [0, 3, 3]),
            (b"abcd", -1323649548, [2, 2, 8]),
            (b"abcde", 461995741, [1, 1, 1]),
            (b"abcdef", 1870650108, [0, 0, 0]),
            (b"abcdefg", -346467175, [1, 1, 1]),
            (b"abcdefgh", -955427363, [0, 3, 9]),
            (b"abcdefghi", -619679810, [0, 0, 6]),
            (b"21", -973932308, [0, 0, 0]),
            (b"foobar", -790332482, [0, 0, 6]),
            (b"a-little-bit-long-string", -985981536, [2, 2, 8]),
            ("가".as_bytes(), -239756153, [0, 3, 3]),
            ("한글".as_bytes(), -1593753763, [1, 1, 1]),
            ("대한민국 서울".as_bytes(), 521791398, [0, 0, 6]),
            ("키값-001".as_bytes(), -828973646, [0, 0, 6]),
            (&0i64.to_be_bytes(), -522759933, [2, 5, 11]),
            (&1i64.to_be_bytes(), 2100486060, [0, 0, 0]),
            (&(-1i64).to_be_bytes(), 185950397, [2, 5, 5]),
            (&1_234_567i32.to_be_bytes(), -466759864, [1, 4, 4]),
            (&[0xff], -311467685, [0, 3, 3]),
            (&[0x80, 0x81, 0x82], -1975640061, [2, 5, 11]),
            (&[0; 5], 263274959, [2, 5, 11]),
        ];
        for (key, hash, partitions) in observed {
            assert_eq!(murmur2(key), *hash, "{key:?}");
            assert_eq!([3, 6, 12].map(|count| partition_for_key(key, count)), *partitions, "{key:?}");
        }
    }
}
