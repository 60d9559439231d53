//! The index of a row cache: an open hash table of eight bytes a row.
//!
//! A slot holds the upper bits of the key's hash, whether the row was read lately, and where it lies. The hash bits give
//! the slot's home as well, so the table grows and closes gaps without touching the rows.

const HASH_BITS: u32 = 27;
const AT_BITS: u32 = 36;
const AT: u64 = (1 << AT_BITS) - 1;
const TOUCHED: u64 = 1 << AT_BITS;
const EMPTY: u64 = u64::MAX;
const SLOTS_MIN: usize = 64;

/// Maps hashes to places; several places may have the same hash.
#[derive(Default)]
pub(crate) struct RowIndex {
    slots: Vec<u64>,
    len: usize,
}

impl RowIndex {
    /// The slot of a place with this hash that `is_it`.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u64) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let tag = hash >> (64 - HASH_BITS);
        let mut slot = self.home(tag);
        loop {
            let word = self.slots[slot];
            if word == EMPTY {
                return None;
            }
            if word >> (64 - HASH_BITS) == tag && is_it(word & AT) {
                return Some(slot);
            }
            slot = self.next(slot);
        }
    }

    /// Where the row of a slot lies.
    #[inline]
    pub(crate) fn at(&self, slot: usize) -> u64 {
        self.slots[slot] & AT
    }

    /// Marks a row as read; returns where it lies.
    #[inline]
    pub(crate) fn touch(&mut self, slot: usize) -> u64 {
        let word = self.slots[slot];
        if word & TOUCHED == 0 {
            self.slots[slot] = word | TOUCHED;
        }
        word & AT
    }

    /// True where a row was read since it was put or moved.
    pub(crate) fn touched(&self, slot: usize) -> bool {
        self.slots[slot] & TOUCHED != 0
    }

    /// The row of a slot lies elsewhere now; it counts as not read.
    pub(crate) fn moved(&mut self, slot: usize, at: u64) {
        self.slots[slot] = self.slots[slot] & !(AT | TOUCHED) | at;
    }

    /// Adds a place, as one not read.
    pub(crate) fn insert(&mut self, hash: u64, at: u64) {
        // At most three quarters full, so that probing stays short.
        if self.len * 4 >= self.slots.len() * 3 {
            let more = vec![EMPTY; (self.slots.len() / 2 * 3).max(SLOTS_MIN)];
            for word in std::mem::replace(&mut self.slots, more) {
                if word != EMPTY {
                    self.place(word);
                }
            }
        }
        self.len += 1;
        self.place(hash >> (64 - HASH_BITS) << (64 - HASH_BITS) | at);
    }

    /// Removes a slot, and moves those behind it nearer to their homes.
    pub(crate) fn remove(&mut self, slot: usize) {
        let slots = self.slots.len();
        let distance = |from: usize, to: usize| if to >= from { to - from } else { to + slots - from };
        let (mut gap, mut slot) = (slot, slot);
        loop {
            slot = self.next(slot);
            let word = self.slots[slot];
            if word == EMPTY {
                break;
            }
            if distance(self.home(word >> (64 - HASH_BITS)), slot) >= distance(gap, slot) {
                self.slots[gap] = word;
                gap = slot;
            }
        }
        self.slots[gap] = EMPTY;
        self.len -= 1;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<u64>()
    }

    fn place(&mut self, word: u64) {
        let mut slot = self.home(word >> (64 - HASH_BITS));
        while self.slots[slot] != EMPTY {
            slot = self.next(slot);
        }
        self.slots[slot] = word;
    }

    #[inline]
    fn home(&self, tag: u64) -> usize {
        ((tag * self.slots.len() as u64) >> HASH_BITS) as usize
    }

    #[inline]
    fn next(&self, slot: usize) -> usize {
        if slot + 1 == self.slots.len() { 0 } else { slot + 1 }
    }
}

/// A hash for short keys: multiply and fold. It is no defence against keys chosen to collide: those cost time, not truth.
#[inline]
pub(crate) fn hash(key: &[u8]) -> u64 {
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let mut hash = 0x9e37_79b9_7f4a_7c15 ^ key.len() as u64;
    let (words, rest) = key.as_chunks::<8>();
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word), 0xa076_1d64_78bd_642f);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    hash = fold(hash ^ u64::from_le_bytes(last), 0xe703_7ed1_a0b4_28db);
    fold(hash ^ 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn hashes_spread() {
        let homes: BTreeSet<u64> = (0..10_000).map(|n| hash(format!("product-{n:08}").as_bytes()) >> 37).collect();
        assert!(homes.len() > 9_990, "{}", homes.len());
        assert_ne!(hash(b"a"), hash(b"a\0"));
    }

    proptest! {
        /// Few homes, so that runs of slots meet and wrap around.
        #[test]
        fn it_agrees_with_a_set(ops in proptest::collection::vec((0..300u64, any::<bool>()), 0..2000)) {
            let (mut index, mut model) = (RowIndex::default(), BTreeSet::new());
            let hash = |at: u64| (at % 7).wrapping_mul(u64::MAX / 6);
            for (at, add) in ops {
                let slot = index.find(hash(at), |other| other == at);
                prop_assert_eq!(slot.is_some(), model.contains(&at));
                match slot {
                    None if add => {
                        index.insert(hash(at), at);
                        model.insert(at);
                    }
                    Some(slot) if !add => {
                        index.remove(slot);
                        model.remove(&at);
                    }
                    _ => {}
                }
            }
            for at in 0..300 {
                prop_assert_eq!(index.find(hash(at), |other| other == at).is_some(), model.contains(&at));
            }
        }
    }
}
