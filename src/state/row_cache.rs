//! Hot rows of one store, in front of RocksDB: a look-up there costs microseconds, here a fraction of one.
//!
//! Rows lie one after the other in segments; an index of eight bytes a row finds them. Where no more memory is to be had,
//! the oldest segment is swept: rows read since the last sweep stay, the others go (CLOCK). One thread owns a cache; all
//! caches of a process share one [`RowBudget`].

use super::row_index::{RowIndex, hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Small, so that many stores can share a small budget; large against a row.
const SEGMENT_BYTES: usize = 256 << 10;
/// Length of the key (u16), length of the row (u16).
const HEADER_BYTES: usize = 4;
/// The length of a row that says: the store has no row of this key.
const ABSENT: u16 = u16::MAX;
/// A huge row would push out a thousand small ones.
const ENTRY_BYTES_MAX: usize = 32 << 10;

/// The memory that all caches of a process share. None may have more than its equal part while others want memory.
#[derive(Debug)]
pub(super) struct RowBudget {
    total: usize,
    used: AtomicUsize,
    caches: AtomicUsize,
}

impl RowBudget {
    pub(super) fn new(total: usize) -> Self {
        Self { total, used: AtomicUsize::new(0), caches: AtomicUsize::new(0) }
    }

    /// Bytes that all caches hold now.
    pub(super) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    fn share(&self) -> usize {
        self.total / self.caches.load(Relaxed).max(1)
    }

    fn may_grow(&self, own: usize) -> bool {
        self.used() + SEGMENT_BYTES <= self.total || own + SEGMENT_BYTES <= self.share()
    }

    fn must_shrink(&self, own: usize) -> bool {
        self.used() > self.total && own > self.share()
    }
}

/// Rows of one store that were read or written lately, as of the last commit.
pub(super) struct RowCache {
    budget: Arc<RowBudget>,
    index: RowIndex,
    segments: Vec<Vec<u8>>,
    /// The segment that is being filled; the one behind it is the oldest.
    current: usize,
    /// Bytes that are booked in the budget.
    booked: usize,
}

/// Where a row lies; valid until the next change.
#[derive(Clone, Copy)]
pub(super) struct Found(u64);

impl RowCache {
    pub(super) fn new(budget: Arc<RowBudget>) -> Self {
        budget.caches.fetch_add(1, Relaxed);
        Self { budget, index: RowIndex::default(), segments: Vec::new(), current: 0, booked: 0 }
    }

    /// Looks for a row, and remembers that it was wanted.
    #[inline]
    pub(super) fn find(&mut self, key: &[u8]) -> Option<Found> {
        let segments = &self.segments;
        let slot = self.index.find(hash(key), |at| entry(segments, at).0 == key)?;
        Some(Found(self.index.touch(slot)))
    }

    /// What was found; `None`: the store has no row of that key.
    #[inline]
    pub(super) fn row(&self, found: Found) -> Option<&[u8]> {
        entry(&self.segments, found.0).1
    }

    /// Sets a row, as it is in the store now; `None`: the store has none.
    pub(super) fn put(&mut self, key: &[u8], row: Option<&[u8]>) {
        let hash = hash(key);
        let segments = &self.segments;
        if let Some(slot) = self.index.find(hash, |at| entry(segments, at).0 == key) {
            self.index.remove(slot);
        }
        let bytes = HEADER_BYTES + key.len() + row.map_or(0, <[u8]>::len);
        if bytes > ENTRY_BYTES_MAX || !self.make_room(bytes) {
            return;
        }
        let segment = &mut self.segments[self.current];
        let at = (self.current * SEGMENT_BYTES + segment.len()) as u64;
        segment.extend_from_slice(&(key.len() as u16).to_le_bytes());
        segment.extend_from_slice(&row.map_or(ABSENT, |row| row.len() as u16).to_le_bytes());
        segment.extend_from_slice(key);
        segment.extend_from_slice(row.unwrap_or_default());
        self.index.insert(hash, at);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        (self.index, self.segments, self.current) = (RowIndex::default(), Vec::new(), 0);
        self.book();
    }

    /// Gives memory back where other caches want it.
    pub(super) fn trim(&mut self) {
        while self.segments.len() > 1 && self.budget.must_shrink(self.booked) {
            let last = self.segments.len() - 1;
            self.sweep(last, false);
            self.segments.pop();
            self.current = self.current.min(last - 1);
            self.book();
        }
    }

    /// How many bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        self.segments.len() * SEGMENT_BYTES + self.index.bytes()
    }

    /// Makes the current segment one with room for `bytes`. False: the budget has nothing for this cache.
    fn make_room(&mut self, bytes: usize) -> bool {
        let has_room = |segment: &Vec<u8>| segment.len() + bytes <= SEGMENT_BYTES;
        if self.segments.get(self.current).is_some_and(has_room) {
            return true;
        }
        self.trim();
        self.book();
        if self.budget.may_grow(self.booked) {
            self.segments.push(Vec::with_capacity(SEGMENT_BYTES));
            self.current = self.segments.len() - 1;
            self.book();
            return true;
        }
        // The first round takes the marks off, so the second one frees.
        for _ in 0..2 * self.segments.len() {
            self.current = (self.current + 1) % self.segments.len();
            self.sweep(self.current, true);
            if has_room(&self.segments[self.current]) {
                return true;
            }
        }
        false
    }

    /// Removes the rows of a segment; those that were wanted since the last time stay (`keep`), moved together.
    fn sweep(&mut self, number: usize, keep: bool) {
        let base = (number * SEGMENT_BYTES) as u64;
        let (mut from, mut to) = (0, 0);
        while from < self.segments[number].len() {
            let at = base + from as u64;
            let (key, row) = entry(&self.segments, at);
            let (bytes, hash) = (HEADER_BYTES + key.len() + row.map_or(0, <[u8]>::len), hash(key));
            // A row that the index does not lead to was replaced or deleted.
            if let Some(slot) = self.index.find(hash, |other| other == at) {
                if keep && self.index.touched(slot) {
                    self.segments[number].copy_within(from..from + bytes, to);
                    self.index.moved(slot, base + to as u64);
                    to += bytes;
                } else {
                    self.index.remove(slot);
                }
            }
            from += bytes;
        }
        self.segments[number].truncate(to);
    }

    fn book(&mut self) {
        let now = self.segments.len() * SEGMENT_BYTES + self.index.bytes();
        self.budget.used.fetch_add(now, Relaxed);
        self.budget.used.fetch_sub(self.booked, Relaxed);
        self.booked = now;
    }
}

impl Drop for RowCache {
    fn drop(&mut self) {
        self.clear();
        self.budget.caches.fetch_sub(1, Relaxed);
    }
}

/// Key and row that lie at `at`.
#[inline]
fn entry(segments: &[Vec<u8>], at: u64) -> (&[u8], Option<&[u8]>) {
    let at = at as usize;
    let rest = &segments[at / SEGMENT_BYTES][at % SEGMENT_BYTES..];
    let (header, rest) = rest.split_at(HEADER_BYTES);
    let key_bytes = u16::from_le_bytes([header[0], header[1]]);
    let row_bytes = u16::from_le_bytes([header[2], header[3]]);
    let (key, rest) = rest.split_at(usize::from(key_bytes));
    (key, (row_bytes != ABSENT).then(|| &rest[..usize::from(row_bytes)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// What it knows of a key: nothing, or the row, or that there is none.
    fn get(cache: &mut RowCache, key: &[u8]) -> Option<Option<Vec<u8>>> {
        cache.find(key).map(|found| cache.row(found).map(<[u8]>::to_vec))
    }

    fn fill(cache: &mut RowCache, keys: std::ops::Range<u32>) {
        for n in keys {
            cache.put(&n.to_be_bytes(), Some(&[n as u8; 200]));
        }
    }

    fn hits(cache: &mut RowCache, keys: std::ops::Range<u32>) -> usize {
        keys.filter(|n| get(cache, &n.to_be_bytes()).flatten().is_some_and(|row| row == [*n as u8; 200])).count()
    }

    #[test]
    fn it_stays_within_its_budget_and_prefers_rows_that_are_read() {
        let budget = Arc::new(RowBudget::new(4 * SEGMENT_BYTES));
        let mut cache = RowCache::new(budget.clone());
        fill(&mut cache, 0..1000);
        for from in (1000..100_000).step_by(1000) {
            assert_eq!(hits(&mut cache, 0..1000), 1000, "rows that are read stay");
            fill(&mut cache, from..from + 1000);
        }
        assert!(budget.used() <= 4 * SEGMENT_BYTES && cache.bytes() == budget.used());
        assert!(hits(&mut cache, 1000..100_000) > 1000);
    }

    #[test]
    fn caches_share_the_budget_and_give_it_back() {
        let budget = Arc::new(RowBudget::new(10 * SEGMENT_BYTES));
        let mut first = RowCache::new(budget.clone());
        fill(&mut first, 0..100_000);
        assert!(first.bytes() > 8 * SEGMENT_BYTES);
        let mut second = RowCache::new(budget.clone());
        fill(&mut second, 0..100_000);
        first.trim();
        assert!(budget.used() <= 10 * SEGMENT_BYTES, "{}", budget.used());
        assert!(second.bytes() > 3 * SEGMENT_BYTES);
        assert!(hits(&mut first, 0..100_000) > 0 && hits(&mut second, 0..100_000) > 0);
        drop((first, second));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn without_a_budget_it_holds_nothing() {
        let mut cache = RowCache::new(Arc::new(RowBudget::new(0)));
        fill(&mut cache, 0..10);
        assert_eq!((hits(&mut cache, 0..10), cache.bytes()), (0, 0));
    }

    proptest! {
        #[test]
        fn a_row_that_it_has_is_the_last_one_put(
            ops in proptest::collection::vec((0..400u16, proptest::option::of(0..3000usize)), 0..4000),
        ) {
            let mut cache = RowCache::new(Arc::new(RowBudget::new(2 * SEGMENT_BYTES)));
            let mut model: HashMap<u16, Option<Vec<u8>>> = HashMap::new();
            for (i, (key, bytes)) in ops.into_iter().enumerate() {
                let row = bytes.map(|bytes| vec![i as u8; bytes]);
                cache.put(&key.to_be_bytes(), row.as_deref());
                model.insert(key, row);
                let key = key.wrapping_mul(31) % 400;
                if let Some(row) = get(&mut cache, &key.to_be_bytes()) {
                    prop_assert_eq!(Some(&row), model.get(&key));
                }
            }
            for key in 0..400u16 {
                if let Some(row) = get(&mut cache, &key.to_be_bytes()) {
                    prop_assert_eq!(Some(&row), model.get(&key));
                }
            }
        }
    }
}
