//! Which rows of a store stay that keeps only so many: those used last.

use std::collections::{BTreeMap, HashMap};

/// The order in which the rows of one store were used. Source: Kafka Streams' `MemoryLRUCache`; reading a row uses it, going
/// through a range does not.
#[derive(Debug)]
pub(super) struct Lru {
    max_entries: usize,
    uses: HashMap<Vec<u8>, u64>,
    /// The same by time, the longest ago first.
    order: BTreeMap<u64, Vec<u8>>,
    now: u64,
    evicted: Option<Vec<u8>>,
}

impl Lru {
    pub(super) fn new(max_entries: usize) -> Self {
        Self { max_entries, uses: HashMap::new(), order: BTreeMap::new(), now: 0, evicted: None }
    }

    /// These are the store's rows now.
    pub(super) fn begin<'a>(&mut self, keys: impl Iterator<Item = &'a [u8]>) {
        *self = Self::new(self.max_entries);
        for key in keys {
            self.put(key, true);
        }
    }

    /// A row was read, if there is one.
    pub(super) fn used(&mut self, key: &[u8]) {
        self.now += 1;
        if let Some(use_) = self.uses.get_mut(key)
            && let Some(key) = self.order.remove(use_)
        {
            *use_ = self.now;
            self.order.insert(self.now, key);
        }
    }

    /// A row was written or deleted; returns the one that has to go for it.
    pub(super) fn put(&mut self, key: &[u8], is_there: bool) -> Option<&[u8]> {
        self.evicted = None;
        if !is_there {
            if let Some(use_) = self.uses.remove(key) {
                self.order.remove(&use_);
            }
            return None;
        }
        self.used(key);
        if !self.uses.contains_key(key) {
            self.uses.insert(key.to_vec(), self.now);
            self.order.insert(self.now, key.to_vec());
        }
        if self.uses.len() > self.max_entries
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.uses.remove(&oldest);
            self.evicted = Some(oldest);
        }
        self.evicted()
    }

    /// The row that went for the one that was put last.
    pub(super) fn evicted(&self) -> Option<&[u8]> {
        self.evicted.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_that_was_not_used_for_the_longest_time_goes() {
        let mut lru = Lru::new(2);
        assert_eq!(lru.put(b"a", true), None);
        assert_eq!(lru.put(b"b", true), None);
        lru.used(b"a");
        assert_eq!(lru.put(b"c", true), Some(&b"b"[..]));
        assert_eq!(lru.put(b"a", true), None);
        assert_eq!(lru.put(b"d", true), Some(&b"c"[..]));
        assert_eq!(lru.put(b"d", false), None);
        assert_eq!(lru.put(b"e", true), None);
        assert_eq!(lru.evicted(), None);
        lru.begin([&b"x"[..], b"y"].into_iter());
        assert_eq!(lru.put(b"z", true), Some(&b"x"[..]));
    }
}
