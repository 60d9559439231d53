//! `filter`, `filter_not`, `flatten_values`: records that do not go on.

use super::{Cx, Port, Push};
use crate::error::Result;
use crate::record::Record;

/// Lets a record pass where the predicate says so.
pub(crate) struct Filter<F, K, V> {
    pub(crate) keep: F,
    pub(crate) out: Port<K, V>,
}

impl<K, V, F: Fn(&K, &V) -> bool> Push<K, V> for Filter<F, K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        if (self.keep)(&record.key, &record.value) { self.out.push(cx, record) } else { Ok(()) }
    }
}

/// Lets the values pass that are there.
pub(crate) struct FlattenValues<K, V> {
    pub(crate) out: Port<K, V>,
}

impl<K, V> Push<K, Option<V>> for FlattenValues<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, Option<V>>) -> Result {
        let Record { key, value, timestamp_ms, headers } = record;
        match value {
            Some(value) => self.out.push(cx, Record { key, value, timestamp_ms, headers }),
            None => Ok(()),
        }
    }
}
