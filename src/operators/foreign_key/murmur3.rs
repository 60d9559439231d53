//! MurmurHash 3, x64, 128 bits, as Kafka Streams computes it over the left value of a foreign-key join. Instances in Rust
//! and in Java compare each other's hashes, so every bit counts.

/// Kafka Streams' seed, for both halves.
const SEED: u64 = 104_729;
const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;

/// The hash, first half first, both big-endian: as it stands in the wrappers.
pub(crate) fn hash128(bytes: &[u8]) -> [u8; 16] {
    let (mut h1, mut h2) = (SEED, SEED);
    let mut blocks = bytes.chunks_exact(16);
    for block in &mut blocks {
        h1 = (h1 ^ mix1(word(&block[..8]))).rotate_left(27).wrapping_add(h2);
        h1 = h1.wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 = (h2 ^ mix2(word(&block[8..]))).rotate_left(31).wrapping_add(h1);
        h2 = h2.wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let tail = blocks.remainder();
    if tail.len() > 8 {
        h2 ^= mix2(word(&tail[8..]));
    }
    if !tail.is_empty() {
        h1 ^= mix1(word(&tail[..tail.len().min(8)]));
    }
    h1 ^= bytes.len() as u64;
    h2 ^= bytes.len() as u64;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    (h1, h2) = (finish(h1), finish(h2));
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    let mut hash = [0; 16];
    hash[..8].copy_from_slice(&h1.to_be_bytes());
    hash[8..].copy_from_slice(&h2.to_be_bytes());
    hash
}

/// Up to eight bytes, little-endian.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rfold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn mix1(k: u64) -> u64 {
    k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn mix2(k: u64) -> u64 {
    k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

fn finish(mut h: u64) -> u64 {
    h = (h ^ (h >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    h = (h ^ (h >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

#[cfg(test)]
mod tests {
    use super::hash128;

    #[test]
    fn hashes_equal_those_of_kafka_streams() {
        let observed: &[(&[u8], u128)] = &[
            (b"", 0x9d2764a018e32942_8c3cf3b035938518),
            (b"a", 0x3361634e7e0f5188_e9c7dda24eae326b),
            (b"abc", 0x8cc66bdf24a3b65e_e942bed9d38bee40),
            (b"0123456789abcde", 0xc480e6b5c0016979_a0d033624a7f7904),
            (b"0123456789abcdef", 0x1a6e941ec6a76967_d7d82808f505d6b1),
            (b"0123456789abcdefg", 0xa93635c3ece7b605_aeed6784d1b08b32),
            ("가나다라마바사".as_bytes(), 0x6e33cd4f4baee46b_49b8aa781e386b36),
            (b"\xff\x80\x90\xa0\xb0\xc0\xd0\xe0\xf0\xff", 0x024e114f1ce09004_69967fe3070181fa),
            (b"f1:x", 0xac4119ca2e77b628_df9383cf1ca8e004),
        ];
        for (bytes, hash) in observed {
            assert_eq!(u128::from_be_bytes(hash128(bytes)), *hash, "{bytes:?}");
        }
    }
}
