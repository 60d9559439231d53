//! The default partitioner of Java's producer: which partition a key belongs to. A table's row and a stream's record of the
//! same key meet only if everybody who writes their topics computes this alike.

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
