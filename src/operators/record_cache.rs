//! The record cache: rows that have been written and are not logged and sent on yet, so that of several writes to one row
//! in a commit interval only the last one is.
//!
//! Source: Kafka Streams' `ThreadCache`, `NamedCache` and `CachingKeyValueStore`. There a cached write is in the cache only;
//! here it is in the store at once, which readers see in either case, and the cache remembers what the store had before.

use super::RecordContext;
use crate::broker::TopicPartition;
use crate::record::{Headers, Timestamp};
use crate::state::buffer_value::{BufferOrigin, SourceBytes};
use crate::state::row_index::{RowIndex, hash};
use crate::state::{StoreId, StoreKind, StoreSpec};
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

/// The bytes that all tasks of one thread may hold back together (`statestore.cache.max.bytes` by threads).
#[derive(Debug, Clone)]
pub struct CacheBudget {
    max: Rc<Cell<usize>>,
    used: Rc<Cell<usize>>,
}

impl CacheBudget {
    /// A budget of so many bytes. With 0 nothing is held back at all.
    pub fn new(max: usize) -> Self {
        Self { max: Rc::new(Cell::new(max)), used: Rc::default() }
    }

    /// True where there is a cache.
    pub fn is_some(&self) -> bool {
        self.max.get() > 0
    }

    /// Makes the budget larger or smaller, for all that share it.
    pub fn set_max(&self, max: usize) {
        self.max.set(max);
    }

    fn add(&self, bytes: usize) {
        self.used.set(self.used.get() + bytes);
    }

    fn free(&self, bytes: usize) {
        self.used.set(self.used.get() - bytes);
    }
}

/// What the stores of one task hold back.
pub struct RecordCache {
    stores: Vec<Option<Held>>,
    budget: CacheBudget,
}

/// What one store holds back, in the order of the last writes.
#[derive(Default)]
struct Held {
    /// Rows begin with their timestamp.
    timestamped: bool,
    /// Where each key's row is.
    index: RowIndex,
    /// A row that was written again has left a gap where it was.
    rows: Vec<Option<HeldRow>>,
    gaps: usize,
    bytes: usize,
    /// What was sent on since the last commit, and whether it exists: the store's last commit does not know it.
    sent: Vec<HeldRow>,
    /// The same by key, as far as somebody has asked.
    exist: HashMap<Vec<u8>, bool>,
}

/// A row that is held back.
#[derive(Debug)]
pub(crate) struct HeldRow {
    /// Key and row, one behind the other.
    data: Vec<u8>,
    key_len: usize,
    deleted: bool,
    /// What the store had when it was sent on last; `None` where nobody asked.
    pub(crate) old: Option<Option<Vec<u8>>>,
    pub(crate) origin: Origin,
    /// What it counts in the budget.
    bytes: usize,
}

impl HeldRow {
    /// As the changelog has it.
    pub(crate) fn key(&self) -> &[u8] {
        &self.data[..self.key_len]
    }

    /// What was written; `None` is a delete.
    pub(crate) fn row(&self) -> Option<&[u8]> {
        (!self.deleted).then(|| &self.data[self.key_len..])
    }

    fn write(&mut self, row: Option<&[u8]>, origin: Origin) {
        self.data.truncate(self.key_len);
        self.data.extend_from_slice(row.unwrap_or_default());
        self.deleted = row.is_none();
        // Kafka Streams' count: the key, three references, a flag, the row, its record.
        self.bytes = self.data.len() + 24 + 1 + origin.bytes();
        self.origin = origin;
    }
}

impl Held {
    fn find(&self, key: &[u8]) -> Option<usize> {
        self.index.find(hash(key), |at| self.rows[at as usize].as_ref().is_some_and(|row| row.key() == key))
    }

    fn close_gaps(&mut self) {
        self.rows.retain(Option::is_some);
        self.gaps = 0;
        self.index = RowIndex::default();
        for (at, row) in self.rows.iter().flatten().enumerate() {
            self.index.insert(hash(row.key()), at as u64);
        }
    }
}

/// The record that wrote a row: what comes of the row has its timestamp, headers and place.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) timestamp_ms: Timestamp,
    pub(crate) headers: Headers,
    place: Option<(Rc<TopicPartition>, i64)>,
    /// Only kept where there are dead letters.
    source: Option<Rc<SourceBytes>>,
}

impl Origin {
    /// A record with this timestamp and headers, made while `current` was processed. `keep`: with the bytes of that one.
    pub(crate) fn new(timestamp_ms: Timestamp, headers: Headers, current: Option<&RecordContext>, keep: bool) -> Self {
        let place = current.map(|c| (c.partition.clone(), c.raw.meta.offset));
        let source = current.filter(|_| keep).map(RecordContext::source_bytes);
        Self { timestamp_ms, headers, place, source }
    }

    /// The record as it is processed again.
    pub(crate) fn context(&self) -> Option<RecordContext> {
        let (partition, offset) = self.place.clone()?;
        let (timestamp_ms, headers, source) = (self.timestamp_ms, self.headers.clone(), self.source.clone());
        Some(RecordContext::held(BufferOrigin { timestamp_ms, partition, offset, headers, source }))
    }

    /// As Kafka Streams counts it.
    fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|h| h.name.len() + h.value.as_ref().map_or(0, Vec::len));
        8 + 8 + 4 + self.place.as_ref().map_or(0, |(tp, _)| tp.topic.len()) + headers.sum::<usize>()
    }
}

impl RecordCache {
    /// A cache for a task's stores. Versioned stores and buffers have none.
    pub fn new(stores: &[StoreSpec], budget: CacheBudget) -> Self {
        let held = |spec: &StoreSpec| {
            let timestamped = match spec.kind {
                StoreKind::KeyValue { timestamped } | StoreKind::Window { timestamped, .. } => timestamped,
                StoreKind::Session { .. } => false,
                StoreKind::Versioned { .. } | StoreKind::Subscriptions { .. } | StoreKind::Buffer => return None,
            };
            (spec.cached && budget.is_some()).then(|| Held { timestamped, ..Held::default() })
        };
        Self { stores: stores.iter().map(held).collect(), budget }
    }

    /// How many stores the task has.
    pub(crate) fn stores(&self) -> usize {
        self.stores.len()
    }

    /// True where this store holds rows back.
    pub fn is_cached(&self, store: StoreId) -> bool {
        self.stores[store.0].is_some()
    }

    /// True where the store's rows begin with their timestamp.
    pub(crate) fn is_timestamped(&self, store: StoreId) -> bool {
        self.stores[store.0].as_ref().is_some_and(|held| held.timestamped)
    }

    /// What is held back for this key: a row, or that it is deleted.
    pub(crate) fn get(&self, store: StoreId, key: &[u8]) -> Option<Option<&[u8]>> {
        let held = self.stores[store.0].as_ref()?;
        let at = held.index.at(held.find(key)?);
        held.rows[at as usize].as_ref().map(HeldRow::row)
    }

    /// Holds a row back, behind all others. `old` counts where nothing is held back for this key yet.
    pub(crate) fn hold(
        &mut self,
        store: StoreId,
        key: &[u8],
        row: Option<&[u8]>,
        old: Option<Option<Vec<u8>>>,
        origin: Origin,
    ) {
        let Some(held) = &mut self.stores[store.0] else { return };
        let at = held.rows.len() as u64;
        let slot = held.find(key);
        let before = slot.and_then(|slot| held.rows[held.index.at(slot) as usize].take());
        let mut new = match (slot, before) {
            (Some(slot), Some(before)) => {
                held.index.moved(slot, at);
                held.gaps += 1;
                held.bytes -= before.bytes;
                self.budget.free(before.bytes);
                before
            }
            _ => {
                held.index.insert(hash(key), at);
                let mut data = Vec::with_capacity(key.len() + row.map_or(0, <[u8]>::len));
                data.extend_from_slice(key);
                HeldRow { data, key_len: key.len(), deleted: true, old, origin: origin.clone(), bytes: 0 }
            }
        };
        new.write(row, origin);
        held.bytes += new.bytes;
        self.budget.add(new.bytes);
        held.rows.push(Some(new));
        if held.gaps > held.rows.len() / 2 + 64 {
            held.close_gaps();
        }
    }

    /// True where the thread holds more back than it may.
    pub(crate) fn is_over(&self) -> bool {
        self.budget.used.get() > self.budget.max.get()
    }

    /// Takes all that the store holds back, in the order of the last writes.
    pub(crate) fn take(&mut self, store: StoreId) -> impl Iterator<Item = HeldRow> + use<> {
        let rows = self.stores[store.0].as_mut().map(|held| {
            self.budget.free(std::mem::take(&mut held.bytes));
            held.index = RowIndex::default();
            held.gaps = 0;
            std::mem::take(&mut held.rows)
        });
        rows.into_iter().flatten().flatten()
    }

    /// A row has been sent on.
    pub(crate) fn sent(&mut self, store: StoreId, row: HeldRow) {
        if let Some(held) = &mut self.stores[store.0] {
            held.sent.push(row);
        }
    }

    /// Whether the row existed when it was sent on last; `None`: as the store's last commit has it.
    pub(crate) fn existed(&mut self, store: StoreId, key: &[u8]) -> Option<bool> {
        let held = self.stores[store.0].as_mut()?;
        held.exist.extend(held.sent.drain(..).map(|row| (row.key().to_vec(), !row.deleted)));
        held.exist.get(key).copied()
    }

    /// True where any store holds something back.
    pub(crate) fn is_dirty(&self) -> bool {
        self.stores.iter().flatten().any(|held| !held.rows.is_empty())
    }

    /// The stores have been committed.
    pub(crate) fn committed(&mut self) {
        for held in self.stores.iter_mut().flatten() {
            held.sent.clear();
            held.exist.clear();
        }
    }
}

impl Drop for RecordCache {
    fn drop(&mut self) {
        self.stores.iter().flatten().for_each(|held| self.budget.free(held.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Changelog, Engine};

    const STORE: StoreId = StoreId(0);

    fn cache(budget: &CacheBudget) -> RecordCache {
        let table = StoreSpec::table("s", Engine::Memory, Changelog::None);
        RecordCache::new(&[StoreSpec { cached: true, ..table.clone() }, table], budget.clone())
    }

    fn hold(cache: &mut RecordCache, key: &str, old: Option<&str>) {
        let origin = Origin::new(1, Headers::default(), None, false);
        cache.hold(STORE, key.as_bytes(), Some(&[0; 10]), Some(old.map(|old| old.as_bytes().to_vec())), origin);
    }

    fn keys(rows: &[HeldRow]) -> Vec<&str> {
        rows.iter().map(|row| std::str::from_utf8(row.key()).expect("text")).collect()
    }

    #[test]
    fn rows_come_in_the_order_of_their_last_writes_with_what_was_there_before_the_first() {
        let mut cache = cache(&CacheBudget::new(1_000));
        hold(&mut cache, "a", Some("before"));
        hold(&mut cache, "b", None);
        hold(&mut cache, "a", Some("between"));
        assert_eq!(cache.get(STORE, b"a"), Some(Some(&[0; 10][..])));
        assert!(cache.get(STORE, b"c").is_none() && cache.is_dirty());
        let rows: Vec<_> = cache.take(STORE).collect();
        assert_eq!(keys(&rows), ["b", "a"]);
        assert_eq!(rows[1].old, Some(Some(b"before".to_vec())));
        assert!(cache.take(STORE).next().is_none() && !cache.is_dirty());
    }

    #[test]
    fn rows_that_are_written_again_and_again_take_no_more_room() {
        let mut cache = cache(&CacheBudget::new(1_000));
        for i in 0..10_000 {
            hold(&mut cache, if i % 3 == 0 { "a" } else { "b" }, None);
        }
        assert!(cache.stores[0].as_ref().is_some_and(|held| held.rows.len() < 1_000));
        assert_eq!(cache.budget.used.get(), 2 * 56);
        let rows: Vec<_> = cache.take(STORE).collect();
        assert_eq!(keys(&rows), ["b", "a"]);
    }

    #[test]
    fn what_was_sent_on_is_known_until_the_commit() {
        let mut cache = cache(&CacheBudget::new(1_000));
        hold(&mut cache, "a", None);
        for row in cache.take(STORE) {
            cache.sent(STORE, row);
        }
        assert_eq!((cache.existed(STORE, b"a"), cache.existed(STORE, b"b")), (Some(true), None));
        cache.committed();
        assert_eq!(cache.existed(STORE, b"a"), None);
    }

    #[test]
    fn bytes_are_counted_as_kafka_streams_counts_them_over_all_tasks_of_a_thread() {
        let budget = CacheBudget::new(2 * 56);
        let (mut one, mut two) = (cache(&budget), cache(&budget));
        hold(&mut one, "a", None);
        hold(&mut two, "b", None);
        hold(&mut two, "b", None);
        assert_eq!((budget.used.get(), one.is_over()), (2 * 56, false));
        hold(&mut two, "c", None);
        assert!(one.is_over());
        drop(two);
        assert_eq!(budget.used.get(), 56);
        drop(one.take(STORE));
        assert_eq!(budget.used.get(), 0);
    }

    #[test]
    fn only_a_store_that_wants_it_is_cached_and_only_with_a_budget() {
        let (some, none) = (cache(&CacheBudget::new(1)), cache(&CacheBudget::new(0)));
        assert_eq!([some.is_cached(STORE), some.is_cached(StoreId(1)), none.is_cached(STORE)], [true, false, false]);
    }
}
