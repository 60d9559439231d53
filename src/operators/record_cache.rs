//! The record cache: rows that have been written and are not logged and sent on yet, so that of several writes to one row
//! in a commit interval only the last one is.
//!
//! Source: Kafka Streams' `ThreadCache`, `NamedCache` and `CachingKeyValueStore`. There a cached write is in the cache only;
//! here it is in the store at once, which readers see in either case, and the cache remembers what the store had before.

use super::RecordContext;
use crate::broker::{BatchRecord, RawRecord, TopicPartition};
use crate::record::{Headers, Timestamp};
use crate::state::{StoreId, StoreKind, StoreSpec};
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// The bytes that all tasks of one thread may hold back together (`statestore.cache.max.bytes` by threads).
#[derive(Debug, Clone)]
pub struct CacheBudget {
    max: usize,
    used: Rc<Cell<usize>>,
}

impl CacheBudget {
    /// A budget of so many bytes. With 0 nothing is held back at all.
    pub fn new(max: usize) -> Self {
        Self { max, used: Rc::default() }
    }

    /// True where there is a cache.
    pub fn is_some(&self) -> bool {
        self.max > 0
    }

    fn add(&self, bytes: usize) {
        self.used.set(self.used.get() + bytes);
    }

    fn free(&self, bytes: usize) {
        self.used.set(self.used.get() - bytes);
    }
}

/// What the stores of one task hold back.
#[derive(Debug)]
pub struct RecordCache {
    stores: Vec<Option<Held>>,
    budget: CacheBudget,
}

/// What one store holds back, in the order of the last writes.
#[derive(Debug, Default)]
struct Held {
    /// Rows begin with their timestamp.
    timestamped: bool,
    places: HashMap<Rc<[u8]>, u64>,
    rows: BTreeMap<u64, HeldRow>,
    next: u64,
    /// Rows that were sent on since the last commit, and whether they exist: the store's last commit does not know it.
    sent: HashMap<Rc<[u8]>, bool>,
    bytes: usize,
}

/// A row that is held back.
#[derive(Debug)]
pub(crate) struct HeldRow {
    /// As the changelog has it.
    pub(crate) key: Rc<[u8]>,
    /// What was written; `None` is a delete.
    pub(crate) row: Option<Vec<u8>>,
    /// What the store had when it was sent on last; `None` where nobody asked.
    pub(crate) old: Option<Option<Vec<u8>>>,
    pub(crate) origin: Origin,
    bytes: usize,
}

/// The record that wrote a row: what comes of the row has its timestamp, headers and place.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) timestamp_ms: Timestamp,
    pub(crate) headers: Headers,
    place: Option<(Rc<TopicPartition>, i64)>,
}

impl Origin {
    /// A record with this timestamp and headers, made while `current` was processed.
    pub(crate) fn new(timestamp_ms: Timestamp, headers: Headers, current: Option<&RecordContext>) -> Self {
        Self { timestamp_ms, headers, place: current.map(|c| (c.partition.clone(), c.raw.meta.offset)) }
    }

    /// The record as it is processed again; its bytes are gone.
    pub(crate) fn context(&self) -> Option<RecordContext> {
        let (partition, offset) = self.place.clone()?;
        let (timestamp_ms, headers) = (self.timestamp_ms, self.headers.clone());
        let meta = BatchRecord { source: 0, offset, timestamp_ms, key: None, value: None, headers };
        Some(RecordContext { partition, raw: RawRecord { bytes: Rc::default(), meta }, timestamp_ms })
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
                StoreKind::Versioned { .. } | StoreKind::Buffer => return None,
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
        Some(held.rows.get(held.places.get(key)?)?.row.as_deref())
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
        let before = held.places.remove_entry(key).and_then(|(key, place)| Some((key, held.rows.remove(&place)?)));
        let (key, old) = match before {
            Some((key, row)) => {
                held.bytes -= row.bytes;
                self.budget.free(row.bytes);
                (key, row.old)
            }
            None => (Rc::from(key), old),
        };
        // Kafka Streams' count: the key, three references, a flag, the row, its record.
        let bytes = key.len() + 24 + 1 + row.map_or(0, <[u8]>::len) + origin.bytes();
        held.bytes += bytes;
        self.budget.add(bytes);
        held.places.insert(key.clone(), held.next);
        held.rows.insert(held.next, HeldRow { key, row: row.map(<[u8]>::to_vec), old, origin, bytes });
        held.next += 1;
    }

    /// True where the thread holds more back than it may.
    pub(crate) fn is_over(&self) -> bool {
        self.budget.used.get() > self.budget.max
    }

    /// Takes all that the store holds back, in the order of the last writes.
    pub(crate) fn take(&mut self, store: StoreId) -> Vec<HeldRow> {
        let Some(held) = &mut self.stores[store.0] else { return Vec::new() };
        self.budget.free(std::mem::take(&mut held.bytes));
        held.places.clear();
        std::mem::take(&mut held.rows).into_values().collect()
    }

    /// A row has been sent on; it exists, or it does not.
    pub(crate) fn sent(&mut self, store: StoreId, key: Rc<[u8]>, exists: bool) {
        if let Some(held) = &mut self.stores[store.0] {
            held.sent.insert(key, exists);
        }
    }

    /// Whether the row existed when it was sent on last; `None`: as the store's last commit has it.
    pub(crate) fn existed(&self, store: StoreId, key: &[u8]) -> Option<bool> {
        self.stores[store.0].as_ref()?.sent.get(key).copied()
    }

    /// True where any store holds something back.
    pub(crate) fn is_dirty(&self) -> bool {
        self.stores.iter().flatten().any(|held| !held.rows.is_empty())
    }

    /// The stores have been committed.
    pub(crate) fn committed(&mut self) {
        self.stores.iter_mut().flatten().for_each(|held| held.sent.clear());
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
        let origin = Origin::new(1, Headers::default(), None);
        cache.hold(STORE, key.as_bytes(), Some(&[0; 10]), Some(old.map(|old| old.as_bytes().to_vec())), origin);
    }

    fn keys(rows: &[HeldRow]) -> Vec<&str> {
        rows.iter().map(|row| std::str::from_utf8(&row.key).expect("text")).collect()
    }

    #[test]
    fn rows_come_in_the_order_of_their_last_writes_with_what_was_there_before_the_first() {
        let mut cache = cache(&CacheBudget::new(1_000));
        hold(&mut cache, "a", Some("before"));
        hold(&mut cache, "b", None);
        hold(&mut cache, "a", Some("between"));
        assert_eq!(cache.get(STORE, b"a"), Some(Some(&[0; 10][..])));
        assert!(cache.get(STORE, b"c").is_none() && cache.is_dirty());
        let rows = cache.take(STORE);
        assert_eq!(keys(&rows), ["b", "a"]);
        assert_eq!(rows[1].old, Some(Some(b"before".to_vec())));
        assert!(cache.take(STORE).is_empty() && !cache.is_dirty());
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
        one.take(STORE);
        assert_eq!(budget.used.get(), 0);
    }

    #[test]
    fn only_a_store_that_wants_it_is_cached_and_only_with_a_budget() {
        let (some, none) = (cache(&CacheBudget::new(1)), cache(&CacheBudget::new(0)));
        assert_eq!([some.is_cached(STORE), some.is_cached(StoreId(1)), none.is_cached(STORE)], [true, false, false]);
    }
}
