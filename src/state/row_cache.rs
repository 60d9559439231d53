//! Hot rows of a task, as committed, in front of RocksDB: a look-up there costs microseconds, here a hash and a comparison.
//!
//! Rows lie one after another in segments; an index of slots finds them. When the budget is used up the oldest segment goes
//! as a whole (first in, first out; what is still read comes back with its next look-up). So a row costs its bytes and
//! about 24 more, and nothing is allocated per row.

use super::MemoryBudget;
use std::collections::VecDeque;
use std::sync::Arc;

const SEGMENT_BYTES: usize = 256 << 10;
/// Rows larger than this are not kept: a few of them would drive everything else out.
const ROW_BYTES_MAX: usize = SEGMENT_BYTES / 8;
/// The length of a value that says: there is no row of this key.
const ABSENT: u32 = u32::MAX;
const HEADER: usize = 8;

/// Where a row lies, in one word: the segment's number (28 bits), the place in it (in units of 8 bytes, 15 bits), and as
/// many bits of the key's hash as are left (21), so that most wrong slots are told without a look at the key. The lowest
/// bit is always set, so that no slot is zero. Segment numbers wrap around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot(u64);

const EMPTY: Slot = Slot(0);
const TAG_BITS: u32 = 21;
const PLACE_BITS: u32 = 15;

impl Slot {
    fn new(segment: u64, place: usize, hash: u64) -> Self {
        Self(segment << (TAG_BITS + PLACE_BITS) | (place as u64 / 8) << TAG_BITS | hash >> (64 - TAG_BITS) | 1)
    }

    fn has_tag_of(self, hash: u64) -> bool {
        self.0 & ((1 << TAG_BITS) - 1) == hash >> (64 - TAG_BITS) | 1
    }

    /// How many segments behind `oldest` it is.
    fn segment_from(self, oldest: u64) -> usize {
        let bits = 64 - TAG_BITS - PLACE_BITS;
        ((self.0 >> (TAG_BITS + PLACE_BITS)).wrapping_sub(oldest) & ((1 << bits) - 1)) as usize
    }

    fn place(self) -> usize {
        ((self.0 >> TAG_BITS) & ((1 << PLACE_BITS) - 1)) as usize * 8
    }
}

/// What the cache knows of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cached<'a> {
    /// The row.
    Row(&'a [u8]),
    /// There is no row.
    Absent,
    /// Nothing: ask the engine.
    Unknown,
}

/// Hot rows of one task.
pub(super) struct RowCache {
    slots: Vec<Slot>,
    used: usize,
    segments: VecDeque<Vec<u8>>,
    /// The number of the oldest segment.
    oldest: u64,
    budget: Arc<MemoryBudget>,
}

impl RowCache {
    pub(super) fn new(budget: Arc<MemoryBudget>) -> Self {
        budget.row_cache_opened();
        Self { slots: vec![EMPTY; 64], used: 0, segments: VecDeque::new(), oldest: 0, budget }
    }

    /// What is known of `key` of the store number `store`.
    #[inline]
    pub(super) fn get(&self, store: usize, key: &[u8]) -> Cached<'_> {
        match self.find(hash(store, key), store, key) {
            Some(at) => match self.row(self.slots[at]) {
                (_, Some(row)) => Cached::Row(row),
                (_, None) => Cached::Absent,
            },
            None => Cached::Unknown,
        }
    }

    /// Keeps a row, or that there is none.
    pub(super) fn put(&mut self, store: usize, key: &[u8], value: Option<&[u8]>) {
        let hash = hash(store, key);
        let size = (HEADER + key.len() + value.map_or(0, <[u8]>::len)).next_multiple_of(8);
        let known = self.find(hash, store, key);
        if size > ROW_BYTES_MAX || key.len() >= 1 << 24 {
            if let Some(at) = known {
                self.remove(at);
            }
            return;
        }
        if self.segments.back().is_none_or(|last| last.len() + size > SEGMENT_BYTES) {
            self.begin_segment();
        }
        let Some(last) = self.segments.back_mut() else { return };
        let place = last.len();
        last.extend_from_slice(&((store as u32 & 0xff) << 24 | key.len() as u32).to_le_bytes());
        last.extend_from_slice(&value.map_or(ABSENT, |value| value.len() as u32).to_le_bytes());
        last.extend_from_slice(key);
        last.extend_from_slice(value.unwrap_or_default());
        last.resize(place + size, 0);
        let slot = Slot::new(self.oldest + self.segments.len() as u64 - 1, place, hash);
        // Beginning a segment may have dropped the row that was known, and grown or shifted the slots.
        match self.find_last(hash, store, key, slot) {
            Some(at) => self.slots[at] = slot,
            None => self.insert(slot, hash),
        }
    }

    /// Forgets everything: the store is wiped.
    pub(super) fn clear(&mut self) {
        self.slots = vec![EMPTY; 64];
        self.used = 0;
        self.oldest = self.oldest.wrapping_add(self.segments.len() as u64);
        self.segments.clear();
    }

    /// Bytes in use.
    pub(super) fn bytes(&self) -> usize {
        self.segments.len() * SEGMENT_BYTES + self.slots.len() * size_of::<Slot>()
    }

    /// The slot of `key`, where it has one.
    #[inline]
    fn find(&self, hash: u64, store: usize, key: &[u8]) -> Option<usize> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != EMPTY {
            if self.slots[at].has_tag_of(hash) && self.row(self.slots[at]).0 == (store as u32 & 0xff, key) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// The slot of an earlier row of `key` than `new`.
    fn find_last(&self, hash: u64, store: usize, key: &[u8], new: Slot) -> Option<usize> {
        self.find(hash, store, key).filter(|at| self.slots[*at] != new)
    }

    /// Store, key and value of a row.
    #[inline]
    fn row(&self, slot: Slot) -> ((u32, &[u8]), Option<&[u8]>) {
        let segment = &self.segments[slot.segment_from(self.oldest)];
        row_at(segment, slot.place()).0
    }

    fn insert(&mut self, slot: Slot, hash: u64) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        place(&mut self.slots, slot, hash);
        self.used += 1;
    }

    fn grow(&mut self) {
        let mut slots = vec![EMPTY; self.slots.len() * 2];
        for slot in self.slots.iter().filter(|slot| **slot != EMPTY) {
            let ((store, key), _) = self.row(*slot);
            place(&mut slots, *slot, hash(store as usize, key));
        }
        self.slots = slots;
    }

    /// Empties a slot, and moves those behind it up that would not be found any more.
    fn remove(&mut self, at: usize) {
        let mask = self.slots.len() - 1;
        let mut hole = at;
        let mut next = (at + 1) & mask;
        while self.slots[next] != EMPTY {
            let ((store, key), _) = self.row(self.slots[next]);
            let home = hash(store as usize, key) as usize & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.slots[hole] = EMPTY;
        self.used -= 1;
    }

    fn begin_segment(&mut self) {
        let limit = self.budget.row_cache_bytes_max();
        let mut free = None;
        while !self.segments.is_empty() && self.bytes() + SEGMENT_BYTES > limit {
            free = self.drop_oldest();
        }
        if self.bytes() + SEGMENT_BYTES > limit {
            return;
        }
        let mut segment = free.unwrap_or_else(|| Vec::with_capacity(SEGMENT_BYTES));
        segment.clear();
        self.segments.push_back(segment);
    }

    fn drop_oldest(&mut self) -> Option<Vec<u8>> {
        let mut at = 0;
        while let Some(first) = self.segments.front().filter(|first| at < first.len()) {
            let (((store, key), _), next) = row_at(first, at);
            let hash = hash(store as usize, key);
            let slot = Slot::new(self.oldest, at, hash);
            let mask = self.slots.len() - 1;
            let mut i = hash as usize & mask;
            while self.slots[i] != EMPTY && self.slots[i] != slot {
                i = (i + 1) & mask;
            }
            // A row that was written again since has its slot elsewhere.
            if self.slots[i] == slot {
                self.remove(i);
            }
            at = next;
        }
        self.oldest = self.oldest.wrapping_add(1);
        self.segments.pop_front()
    }
}

impl Drop for RowCache {
    fn drop(&mut self) {
        self.budget.row_cache_closed();
    }
}

/// The row at `place`, and the place of the next one.
#[inline]
#[allow(clippy::type_complexity)]
fn row_at(segment: &[u8], place: usize) -> (((u32, &[u8]), Option<&[u8]>), usize) {
    let word = |at: usize| u32::from_le_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]]);
    let (store_and_key, value_len) = (word(place), word(place + 4));
    let key_end = place + HEADER + (store_and_key & 0xff_ffff) as usize;
    let key = &segment[place + HEADER..key_end];
    let value = (value_len != ABSENT).then(|| &segment[key_end..key_end + value_len as usize]);
    let end = key_end + value.map_or(0, <[u8]>::len);
    (((store_and_key >> 24, key), value), end.next_multiple_of(8))
}

fn place(slots: &mut [Slot], slot: Slot, hash: u64) {
    let mask = slots.len() - 1;
    let mut at = hash as usize & mask;
    while slots[at] != EMPTY {
        at = (at + 1) & mask;
    }
    slots[at] = slot;
}

/// A quick hash of 64 good bits: multiply and fold, eight bytes at a time. Source: wyhash's mixing step.
#[inline]
fn hash(store: usize, key: &[u8]) -> u64 {
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |a: u64, b: u64| {
        let wide = u128::from(a) * u128::from(b);
        wide as u64 ^ (wide >> 64) as u64
    };
    let mut hash = mix(SEED ^ key.len() as u64, SEED.rotate_left(17) ^ (store as u64 & 0xff));
    let mut chunks = key.chunks_exact(8);
    for chunk in &mut chunks {
        // The chunk has eight bytes: the conversion cannot fail.
        let word = chunk.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        hash = mix(hash ^ word, 0xa076_1d64_78bd_642f);
    }
    let mut rest = [0u8; 8];
    rest[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    mix(hash ^ u64::from_le_bytes(rest), 0xe703_7ed1_a0b4_28db)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn cache(bytes: usize) -> RowCache {
        let config = Config { cache_max_bytes: bytes, ..Config::new("test") };
        RowCache::new(Arc::new(MemoryBudget::new(&config)))
    }

    #[test]
    fn without_a_budget_nothing_is_kept() {
        let mut cache = cache(0);
        cache.put(0, b"a", Some(b"1"));
        assert_eq!(cache.get(0, b"a"), Cached::Unknown);
    }

    #[test]
    fn a_row_too_large_is_not_kept_and_its_older_self_is_forgotten() {
        let mut cache = cache(64 << 20);
        cache.put(0, b"a", Some(b"1"));
        cache.put(0, b"a", Some(&vec![0; ROW_BYTES_MAX]));
        assert_eq!(cache.get(0, b"a"), Cached::Unknown);
    }

    #[test]
    fn the_budget_is_kept_and_the_newest_rows_are_there() {
        let mut cache = cache(8 << 20);
        let limit = cache.budget.row_cache_bytes_max();
        for n in 0..100_000u32 {
            cache.put(0, &n.to_be_bytes(), Some(&[7; 200]));
            assert!(cache.bytes() <= limit + cache.slots.len() * 8);
        }
        assert_eq!(cache.get(0, &99_999u32.to_be_bytes()), Cached::Row(&[7; 200]));
        assert_eq!(cache.get(0, &0u32.to_be_bytes()), Cached::Unknown);
        let live = (0..100_000u32).filter(|n| cache.get(0, &n.to_be_bytes()) != Cached::Unknown).count();
        assert_eq!(live, cache.used);
    }

    #[test]
    fn segment_numbers_wrap_around() {
        let mut cache = cache(2 << 20);
        cache.oldest = (1 << 28) - 2;
        for n in 0..40_000u32 {
            cache.put(0, &n.to_be_bytes(), Some(&[7; 200]));
            assert_eq!(cache.get(0, &n.to_be_bytes()), Cached::Row(&[7; 200]));
        }
    }

    proptest! {
        #[test]
        fn what_it_knows_is_true(ops in proptest::collection::vec((0..2usize, 0..500u16, 0..4000usize, any::<bool>()), 0..2000)) {
            let mut cache = cache(4 << 20);
            let mut model: HashMap<(usize, u16), Option<Vec<u8>>> = HashMap::new();
            for (store, key, len, there) in ops {
                let value = there.then(|| vec![key as u8; len]);
                cache.put(store, &key.to_be_bytes(), value.as_deref());
                model.insert((store, key), value);
            }
            for ((store, key), value) in &model {
                match (cache.get(*store, &key.to_be_bytes()), value) {
                    (Cached::Unknown, _) => {}
                    (Cached::Absent, value) => prop_assert!(value.is_none()),
                    (Cached::Row(row), value) => prop_assert_eq!(Some(row), value.as_deref()),
                }
            }
        }
    }
}
