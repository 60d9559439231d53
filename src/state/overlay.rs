//! The writes of the open commit interval: reads see them before the engine's rows.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Bytes that a row costs besides its own: the map's node, two vectors.
const ROW_OVERHEAD_BYTES: usize = 64;

/// Uncommitted writes of one store; `None` is a delete. Ordered, so that range scans can merge it.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

impl Overlay {
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        if self.rows.is_empty() {
            return None;
        }
        self.rows.get(key).map(Option::as_deref)
    }

    pub(super) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        if let Some(row) = self.rows.get_mut(key) {
            self.bytes -= row.as_ref().map_or(0, Vec::len);
            self.bytes += value.map_or(0, <[u8]>::len);
            match (row, value) {
                (Some(row), Some(value)) => {
                    row.clear();
                    row.extend_from_slice(value);
                }
                (row, value) => *row = value.map(<[u8]>::to_vec),
            }
        } else {
            self.bytes += key.len() + value.map_or(0, <[u8]>::len) + ROW_OVERHEAD_BYTES;
            self.rows.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn range(&self, from: Option<&[u8]>, to: Option<&[u8]>) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let from = from.map_or(Bound::Unbounded, Bound::Included);
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        // BTreeMap panics on a range that ends before it starts; such a range is empty.
        let empty = matches!((from, to), (Bound::Included(from), Bound::Excluded(to)) if from >= to);
        let range = (!empty).then(|| self.rows.range::<[u8], _>((from, to)));
        range.into_iter().flatten().map(|(key, row)| (key.as_slice(), row.as_deref()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.rows.iter().map(|(key, row)| (key.as_slice(), row.as_deref()))
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.bytes = 0;
    }
}
