//! The memory engine: a map. It is empty after each start, so it has no committed offsets.

use super::overlay::Overlay;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Rows of one memory store, as of the last commit.
#[derive(Debug, Default)]
pub(super) struct MemoryRows {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
}

impl MemoryRows {
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.rows.get(key).map(Vec::as_slice)
    }

    pub(super) fn commit(&mut self, writes: &Overlay) {
        for (key, value) in writes.iter() {
            let old = match value {
                Some(value) => {
                    self.bytes += key.len() + value.len();
                    self.rows.insert(key.to_vec(), value.to_vec())
                }
                None => self.rows.remove(key),
            };
            self.bytes -= old.map_or(0, |old| key.len() + old.len());
        }
    }

    pub(super) fn range(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> impl Iterator<Item = (&[u8], &[u8])> {
        let empty = matches!((from, to), (Some(from), Some(to)) if from >= to);
        let from = from.map_or(Bound::Unbounded, Bound::Included);
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (!empty).then(|| self.rows.range::<[u8], _>((from, to)));
        range.into_iter().flatten().map(|(key, row)| (key.as_slice(), row.as_slice()))
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes as u64
    }
}
