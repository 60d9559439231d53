//! Rows that are forgotten by time: windows and sessions, on the ordered byte store.
//!
//! A row's physical key is `segment (8) · key · time (8) · suffix`, or `segment · time · key · suffix` where windows are looked
//! for by time more than by key; the time is a window's start or a session's end, the
//! suffix a sequence number (4) or a session's start (8). All rows of a segment are dropped together. What can be seen
//! depends on the largest time that was put ("observed"), not on the wall clock. Two engines forget differently, and so do
//! Kafka Streams' two: on disk a row is refused only when its whole segment is over, in memory as soon as it is too old.
//!
//! Source: `AbstractRocksDBSegmentedBytesStore`, `InMemoryWindowStore`, `InMemorySessionStore`, `WindowKeySchema`,
//! `SessionKeySchema`.

use super::buffer_value::{put_headers, take_headers};
use super::{Engine, StoreId, StoreKind, StoreSpec, TaskState, WindowOrder};
use crate::error::Result;
use crate::record::Headers;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

const SEGMENT_MIN_MS: i64 = 60_000;

/// What is behind the key in a row's physical key, besides the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suffix {
    Sequence,
    Start,
}

/// A row of such a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedRow {
    /// The key's bytes.
    pub key: Vec<u8>,
    /// A window's start, or a session's end.
    pub time_ms: i64,
    /// A window's sequence number (0 without duplicates), or a session's start.
    pub suffix: i64,
    /// The row's bytes.
    pub value: Vec<u8>,
    /// The headers of the record that it comes from, where the store keeps them.
    pub headers: Headers,
}

/// Which keys are meant.
#[derive(Debug, Clone, Copy)]
pub enum Keys<'a> {
    /// This one.
    One(&'a [u8]),
    /// Those from the first to the second, both included; `None` is no bound.
    Range(Option<&'a [u8]>, Option<&'a [u8]>),
}

impl Keys<'_> {
    fn contain(&self, key: &[u8]) -> bool {
        match self {
            Keys::One(one) => *one == key,
            Keys::Range(from, to) => from.is_none_or(|from| from <= key) && to.is_none_or(|to| key <= to),
        }
    }
}

/// A window or session store of one task.
#[derive(Debug)]
pub struct Segmented {
    store: StoreId,
    engine: Engine,
    suffix: Suffix,
    duplicates: bool,
    /// Rows begin with the headers of the records that they come from.
    headers: bool,
    order: WindowOrder,
    retention_ms: i64,
    segment_ms: i64,
    /// The largest time that was put; -1 before the first.
    observed_ms: i64,
    /// The same of what a cache in front of the store has let go of.
    flushed_ms: i64,
    /// The segments that have rows; `None` until they are looked up.
    segments: Option<BTreeSet<i64>>,
    /// The last sequence number given out.
    sequence: i32,
    /// Set where the store is cached.
    kept: Option<Kept>,
}

/// What a cache in front of the store would still have: then rows are seen however old they are, as in Kafka Streams, whose
/// caches forget nothing by time. Here are those that the store itself has not any more.
#[derive(Debug, Default)]
struct Kept {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
}

/// How many bytes of rows that are too old for it a store keeps.
const KEPT_BYTES_MAX: usize = 1 << 20;

impl Kept {
    fn put(&mut self, physical: &[u8], row: Option<&[u8]>) {
        if let Some(row) = self.rows.remove(physical) {
            self.bytes -= physical.len() + row.len();
        }
        if let Some(row) = row {
            self.bytes += physical.len() + row.len();
            self.rows.insert(physical.to_vec(), row.to_vec());
        }
        while self.bytes > KEPT_BYTES_MAX
            && let Some((oldest, row)) = self.rows.pop_first()
        {
            self.bytes -= oldest.len() + row.len();
        }
    }
}

impl Segmented {
    /// The view of a store of that kind; `None` for other kinds.
    pub fn new(store: StoreId, spec: &StoreSpec) -> Option<Self> {
        let (suffix, duplicates, headers, order, retention_ms) = match spec.kind {
            StoreKind::Window { retention_ms, duplicates, order, headers, .. } => {
                (Suffix::Sequence, duplicates, headers, order, retention_ms)
            }
            StoreKind::Session { retention_ms } => (Suffix::Start, false, false, WindowOrder::Key, retention_ms),
            _ => return None,
        };
        Some(Self {
            store,
            engine: spec.engine,
            suffix,
            duplicates,
            headers,
            order,
            retention_ms,
            segment_ms: (retention_ms / 2).max(SEGMENT_MIN_MS),
            observed_ms: -1,
            flushed_ms: -1,
            segments: None,
            sequence: 0,
            kept: None,
        })
    }

    /// The same with a cache in front: rows are seen longer.
    pub fn cached(mut self, cached: bool) -> Self {
        self.kept = cached.then(Kept::default);
        self
    }

    /// The same where this is already known to be the largest time that was put.
    pub(super) fn observing(mut self, observed_ms: i64) -> Self {
        self.observed_ms = observed_ms;
        self
    }

    /// The largest time that was put; -1 before the first.
    pub fn observed_ms(&self) -> i64 {
        self.observed_ms
    }

    /// True where rows of equal key and time are kept apart. Deleting one of them is not possible.
    pub fn has_duplicates(&self) -> bool {
        self.duplicates
    }

    /// True where a delete is not even a sign of time going on: Kafka Streams' engines differ in that.
    pub fn ignores_deletes(&self) -> bool {
        self.duplicates && self.engine == Engine::RocksDb
    }

    /// The next sequence number for rows of equal key and time: from 1, and 0 where there are no duplicates.
    pub fn next_sequence(&mut self) -> i64 {
        if self.duplicates {
            self.sequence = (self.sequence + 1) & i32::MAX;
        }
        i64::from(self.sequence)
    }

    /// Sequence numbers go on behind this end of the store's changelog. Each of those given out before came with a record
    /// of it, so none is given out again: a row of equal key and time would be lost.
    pub fn sequences_from(&mut self, changelog_end: i64) {
        if self.duplicates {
            self.sequence = (changelog_end & i64::from(i32::MAX)) as i32;
        }
    }

    /// Puts (`Some`) or deletes (`None`) a row. False: it is too old, and was not taken.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the disk cannot be read.
    pub fn put(
        &mut self,
        state: &mut TaskState,
        key: &[u8],
        time_ms: i64,
        suffix: i64,
        value: Option<&[u8]>,
    ) -> Result<bool> {
        self.observed_ms = self.observed_ms.max(time_ms);
        let alive = self.is_taken(time_ms, self.observed_ms);
        let segment = self.segment(time_ms);
        let physical = self.physical(segment, key, time_ms, suffix);
        if let Some(kept) = &mut self.kept {
            kept.put(&physical, value.filter(|_| !alive));
        }
        // A delete that the store would not take: it forgets the row anyway, while a cache would have the delete.
        if alive || (value.is_none() && self.kept.is_some()) {
            if value.is_some() {
                self.segments(state)?.insert(segment);
            }
            state.put(self.store, &physical, value);
        }
        self.forget(state)?;
        Ok(alive)
    }

    /// Whether the store takes a row of this time when `observed_ms` is the largest time.
    fn is_taken(&self, time_ms: i64, observed_ms: i64) -> bool {
        let over_ms = observed_ms.saturating_sub(self.retention_ms);
        match self.engine {
            Engine::Memory | Engine::MemoryLru { .. } => time_ms > over_ms,
            Engine::RocksDb => self.segment(time_ms) >= self.segment(over_ms),
        }
    }

    /// A cache in front of the store lets go of a row of this time. False: the store behind it would not take it.
    pub fn flushed(&mut self, time_ms: i64) -> bool {
        self.flushed_ms = self.flushed_ms.max(time_ms);
        self.is_taken(time_ms, self.flushed_ms)
    }

    /// Whether the store behind a cache would show a row of this time.
    pub fn shows_flushed(&self, time_ms: i64) -> bool {
        time_ms >= self.first_stored_ms(self.flushed_ms)
    }

    /// The time in a changelog record's key.
    pub fn time_of_changelog(&self, key: &[u8]) -> Option<i64> {
        split(key, self.suffix_bytes()).map(|(_, time_ms, _)| time_ms)
    }

    /// Deletes a row; unlike [`put`](Self::put) it is never too old.
    pub fn remove(&mut self, state: &mut TaskState, key: &[u8], time_ms: i64, suffix: i64) {
        if self.engine == Engine::RocksDb {
            self.observed_ms = self.observed_ms.max(time_ms);
        }
        let physical = self.physical(self.segment(time_ms), key, time_ms, suffix);
        if let Some(kept) = &mut self.kept {
            kept.put(&physical, None);
        }
        state.put(self.store, &physical, None);
    }

    /// The row of exactly this key, time and suffix, unless it is too old to be seen.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the disk cannot be read.
    pub fn get(&self, state: &mut TaskState, key: &[u8], time_ms: i64, suffix: i64) -> Result<Option<Vec<u8>>> {
        if time_ms < self.first_visible_ms() {
            return Ok(None);
        }
        let physical = self.physical(self.segment(time_ms), key, time_ms, suffix);
        if let Some(row) = self.kept.as_ref().and_then(|kept| kept.rows.get(&physical)) {
            return Ok(Some(row.clone()));
        }
        Ok(state.get(self.store, &physical)?.map(|row| self.taken_apart(&row).1.to_vec()))
    }

    /// The same, as the store has it that is behind a cache.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the disk cannot be read.
    pub fn get_uncached(
        &self,
        state: &mut TaskState,
        key: &[u8],
        time_ms: i64,
        suffix: i64,
    ) -> Result<Option<Vec<u8>>> {
        if time_ms < self.first_stored_ms(self.observed_ms) {
            return Ok(None);
        }
        let physical = self.physical(self.segment(time_ms), key, time_ms, suffix);
        Ok(state.get(self.store, &physical)?.map(|row| row.to_vec()))
    }

    /// The rows of these keys with `from_ms <= time <= to_ms` that are not too old to be seen, in the engine's order: on disk
    /// segment by segment and key by key, in memory by time.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the disk cannot be read.
    pub fn fetch(&mut self, state: &TaskState, keys: Keys<'_>, from_ms: i64, to_ms: i64) -> Result<Vec<TimedRow>> {
        self.fetch_first(state, keys, from_ms, to_ms, usize::MAX)
    }

    /// The first `limit` rows of [`fetch`](Self::fetch).
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the disk cannot be read.
    pub fn fetch_first(
        &mut self,
        state: &TaskState,
        keys: Keys<'_>,
        from_ms: i64,
        to_ms: i64,
        limit: usize,
    ) -> Result<Vec<TimedRow>> {
        let from_ms = from_ms.max(self.first_visible_ms());
        let by_time = self.order == WindowOrder::KeyShownByStart && matches!(keys, Keys::Range(None, None));
        let mut rows = if self.engine == Engine::RocksDb && !by_time {
            self.scan(state, keys, from_ms, to_ms, limit)?
        } else {
            let mut rows = self.scan(state, keys, from_ms, to_ms, usize::MAX)?;
            rows.sort_by(|a, b| (a.time_ms, &a.key, a.suffix).cmp(&(b.time_ms, &b.key, b.suffix)));
            rows
        };
        rows.truncate(limit);
        Ok(rows)
    }

    /// The rows of all keys with `from_ms <= time <= to_ms` that are still there, by time; on disk also those that are too
    /// old to be seen otherwise, as long as their segment is alive. Rows of equal time come on disk by suffix and key, in
    /// memory by key and suffix.
    ///
    /// Source: `RocksDBTimeOrderedSessionSegmentedBytesStore.fetchSessions`, `InMemorySessionStore.findSessions`.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the disk cannot be read.
    pub fn fetch_alive(&mut self, state: &TaskState, from_ms: i64, to_ms: i64) -> Result<Vec<TimedRow>> {
        if self.engine != Engine::RocksDb {
            return self.fetch(state, Keys::Range(None, None), from_ms, to_ms);
        }
        let mut rows = self.scan(state, Keys::Range(None, None), from_ms, to_ms, usize::MAX)?;
        rows.sort_by(|a, b| (a.time_ms, a.suffix, &a.key).cmp(&(b.time_ms, b.suffix, &b.key)));
        Ok(rows)
    }

    /// The bytes under which a row is kept, written into `out` where they are not those of its value.
    pub fn stored<'a>(&self, value: &'a [u8], headers: &Headers, out: &'a mut Vec<u8>) -> &'a [u8] {
        if !self.headers {
            return value;
        }
        out.clear();
        put_headers(headers, out);
        out.extend_from_slice(value);
        out
    }

    fn row(&self, key: &[u8], time_ms: i64, suffix: i64, stored: &[u8]) -> TimedRow {
        let (headers, value) = self.taken_apart(stored);
        TimedRow { key: key.to_vec(), time_ms, suffix, value: value.to_vec(), headers }
    }

    fn taken_apart<'a>(&self, mut stored: &'a [u8]) -> (Headers, &'a [u8]) {
        let headers = if self.headers { take_headers(&mut stored) } else { None };
        (headers.unwrap_or_default(), stored)
    }

    /// The first `limit` rows of these keys and times, in the order of their physical keys; there may be more.
    fn scan(
        &mut self,
        state: &TaskState,
        keys: Keys<'_>,
        from_ms: i64,
        to_ms: i64,
        limit: usize,
    ) -> Result<Vec<TimedRow>> {
        let mut rows = Vec::new();
        if to_ms < from_ms || limit == 0 {
            return Ok(rows);
        }
        let (first, last) = (self.segment(from_ms), self.segment(to_ms));
        let segments: Vec<i64> =
            self.segments(state)?.range((Bound::Included(first), Bound::Included(last))).copied().collect();
        for segment in segments {
            let (from, to) = self.bounds(segment, keys, from_ms, to_ms);
            let visit = &mut |physical: &[u8], value: &[u8]| {
                if let Some((key, time_ms, suffix)) = self.logical(physical)
                    && (from_ms..=to_ms).contains(&time_ms)
                    && keys.contain(key)
                {
                    rows.push(self.row(key, time_ms, suffix, value));
                }
                rows.len() < limit
            };
            state.range(self.store, Some(&from), to.as_deref(), visit)?;
            if rows.len() >= limit {
                break;
            }
        }
        if let Some(kept) = self.kept.as_ref().filter(|kept| !kept.rows.is_empty()) {
            let (from, to) = (sortable(first).to_vec(), last.checked_add(1).map(|next| sortable(next).to_vec()));
            let to = to.map_or(Bound::Unbounded, Bound::Excluded);
            for (physical, value) in kept.rows.range::<Vec<u8>, _>((Bound::Included(from), to)) {
                if let Some((key, time_ms, suffix)) = self.logical(physical)
                    && (from_ms..=to_ms).contains(&time_ms)
                    && keys.contain(key)
                {
                    rows.push(self.row(key, time_ms, suffix, value));
                }
            }
            // Of what both have, the store's is older.
            let physical = |row: &TimedRow| self.physical(self.segment(row.time_ms), &row.key, row.time_ms, row.suffix);
            let merged: BTreeMap<_, _> = rows.into_iter().map(|row| (physical(&row), row)).collect();
            rows = merged.into_values().collect();
        }
        Ok(rows)
    }

    /// The physical key of a changelog record's key (`key · time · suffix`, sessions with the end first as well).
    pub fn physical_of_changelog(&self, key: &[u8]) -> Option<Vec<u8>> {
        let (key, time_ms, suffix) = split(key, self.suffix_bytes())?;
        Some(self.physical(self.segment(time_ms), key, time_ms, suffix))
    }

    /// The changelog record's key of a row.
    pub fn changelog_key(&self, key: &[u8], time_ms: i64, suffix: i64, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(key);
        out.extend_from_slice(&time_ms.to_be_bytes());
        match self.suffix {
            Suffix::Sequence => out.extend_from_slice(&(suffix as i32).to_be_bytes()),
            Suffix::Start => out.extend_from_slice(&suffix.to_be_bytes()),
        }
    }

    /// Splits a physical key: key, time, suffix.
    pub fn logical<'a>(&self, physical: &'a [u8]) -> Option<(&'a [u8], i64, i64)> {
        let rest = physical.get(8..)?;
        if self.order != WindowOrder::Start {
            return split(rest, self.suffix_bytes());
        }
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let (key, suffix) = rest.split_at_checked(rest.len().checked_sub(self.suffix_bytes())?)?;
        Some((key, i64::from_be_bytes(*time), suffix_of(suffix)?))
    }

    /// Rows of a time before this are not seen any more.
    pub fn first_visible_ms(&self) -> i64 {
        if self.kept.is_some() { i64::MIN } else { self.first_stored_ms(self.observed_ms) }
    }

    fn first_stored_ms(&self, observed_ms: i64) -> i64 {
        let over_ms = observed_ms.saturating_sub(self.retention_ms);
        // Kafka Streams' time-ordered window stores show one millisecond more: a window that closes right now.
        let longer = self.order != WindowOrder::Key && self.engine == Engine::RocksDb;
        if longer { over_ms } else { over_ms.saturating_add(1) }
    }

    fn first_live_segment(&self) -> i64 {
        self.segment(self.observed_ms.saturating_sub(self.retention_ms))
    }

    fn segment(&self, time_ms: i64) -> i64 {
        time_ms / self.segment_ms
    }

    fn suffix_bytes(&self) -> usize {
        match self.suffix {
            Suffix::Sequence => 4,
            Suffix::Start => 8,
        }
    }

    fn physical(&self, segment: i64, key: &[u8], time_ms: i64, suffix: i64) -> Vec<u8> {
        let mut rest = Vec::new();
        self.changelog_key(key, time_ms, suffix, &mut rest);
        if self.order == WindowOrder::Start {
            // `key · time` becomes `time · key`.
            rest[..key.len() + 8].rotate_left(key.len());
        }
        [&sortable(segment)[..], &rest].concat()
    }

    /// The range of physical keys of one segment that holds all rows wanted; some others may lie between them.
    fn bounds(&self, segment: i64, keys: Keys<'_>, from_ms: i64, to_ms: i64) -> (Vec<u8>, Option<Vec<u8>>) {
        let next = segment.checked_add(1).map(|next| sortable(next).to_vec());
        let prefix = |key: &[u8]| [&sortable(segment)[..], key].concat();
        if self.order == WindowOrder::Start {
            let to = to_ms.checked_add(1).map(|to_ms| prefix(&to_ms.to_be_bytes()));
            return (prefix(&from_ms.max(0).to_be_bytes()), to.or(next));
        }
        match keys {
            Keys::One(key) => {
                let from = [&prefix(key)[..], &from_ms.max(0).to_be_bytes()].concat();
                let to = to_ms.checked_add(1).map(|to_ms| [&prefix(key)[..], &to_ms.to_be_bytes()].concat());
                (from, to.or_else(|| Some([&prefix(key)[..], &[0xff; 9]].concat())))
            }
            // A longer key may lie before a shorter one's times: only the lower bound is sharp.
            Keys::Range(from, _) => (prefix(from.unwrap_or_default()), next),
        }
    }

    /// Drops the segments that are over.
    fn forget(&mut self, state: &mut TaskState) -> Result {
        let first_live = self.first_live_segment();
        while let Some(segment) = self.segments(state)?.first().copied().filter(|segment| *segment < first_live) {
            let mut keys = Vec::new();
            let kept = &mut self.kept;
            state.range(self.store, Some(&sortable(segment)), Some(&sortable(segment + 1)), &mut |key, row| {
                if let Some(kept) = kept {
                    kept.put(key, Some(row));
                }
                keys.push(key.to_vec());
                true
            })?;
            keys.iter().for_each(|key| state.put(self.store, key, None));
            self.segments(state)?.remove(&segment);
        }
        Ok(())
    }

    /// The segments that have rows, looked up at first use by skipping from one to the next.
    fn segments(&mut self, state: &TaskState) -> Result<&mut BTreeSet<i64>> {
        if self.segments.is_none() {
            let mut found = BTreeSet::new();
            let mut from = sortable(i64::MIN).to_vec();
            loop {
                let mut next = None;
                state.range(self.store, Some(&from), None, &mut |key, _| {
                    next = key.first_chunk().map(|segment| unsortable(*segment));
                    false
                })?;
                let Some(segment) = next else { break };
                found.insert(segment);
                let Some(after) = segment.checked_add(1) else { break };
                from = sortable(after).to_vec();
            }
            self.segments = Some(found);
        }
        Ok(self.segments.get_or_insert_default())
    }

    /// Rows have been restored behind the view's back: what it knows of them is looked up again.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the disk cannot be read.
    pub fn restored(&mut self, state: &TaskState) -> Result {
        self.segments = None;
        let Some(last) = self.segments(state)?.last().copied() else { return Ok(()) };
        let mut observed_ms = -1;
        state.range(self.store, Some(&sortable(last)), None, &mut |key, _| {
            if let Some((_, time_ms, _)) = self.logical(key) {
                observed_ms = observed_ms.max(time_ms);
            }
            true
        })?;
        self.observed_ms = self.observed_ms.max(observed_ms);
        self.flushed_ms = self.observed_ms;
        Ok(())
    }
}

/// Big-endian bytes that sort as the number does, negative ones first.
fn sortable(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

fn unsortable(bytes: [u8; 8]) -> i64 {
    i64::from_be_bytes(bytes) ^ i64::MIN
}

/// Key, time and suffix of `key · time · suffix`.
fn split(bytes: &[u8], suffix_bytes: usize) -> Option<(&[u8], i64, i64)> {
    let (rest, suffix) = bytes.split_at_checked(bytes.len().checked_sub(suffix_bytes)?)?;
    let (key, time) = rest.split_last_chunk::<8>()?;
    Some((key, i64::from_be_bytes(*time), suffix_of(suffix)?))
}

fn suffix_of(bytes: &[u8]) -> Option<i64> {
    Some(match bytes.len() {
        4 => i64::from(i32::from_be_bytes(*bytes.first_chunk()?)),
        _ => i64::from_be_bytes(*bytes.first_chunk()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::state::{Changelog, MemoryBudget};
    use std::sync::Arc;

    fn open(engine: Engine, kind: StoreKind) -> (tempfile::TempDir, TaskState, Segmented) {
        let dir = tempfile::tempdir().expect("a folder");
        let spec = StoreSpec { kind, ..StoreSpec::table("w", engine, Changelog::None) };
        let budget = Arc::new(MemoryBudget::new(&Config::new("test")));
        let state = TaskState::open(Some(dir.path()), std::slice::from_ref(&spec), budget).expect("opens");
        let view = Segmented::new(StoreId(0), &spec).expect("a window store");
        (dir, state, view)
    }

    #[test]
    fn sequence_numbers_go_on_behind_the_changelogs_end_where_there_are_duplicates() {
        let kind = |duplicates| StoreKind::Window {
            retention_ms: 1_000,
            size_ms: 10,
            duplicates,
            order: WindowOrder::Key,
            timestamped: false,
            headers: false,
        };
        for (duplicates, next) in [(true, 8), (false, 0)] {
            let (_dir, _state, mut view) = open(Engine::Memory, kind(duplicates));
            view.sequences_from(7);
            assert_eq!(view.next_sequence(), next);
        }
    }

    fn window(retention_ms: i64) -> StoreKind {
        StoreKind::Window {
            retention_ms,
            size_ms: 10,
            duplicates: false,
            order: WindowOrder::Key,
            timestamped: false,
            headers: false,
        }
    }

    fn times(rows: &[TimedRow]) -> Vec<(String, i64)> {
        rows.iter().map(|row| (String::from_utf8_lossy(&row.key).into_owned(), row.time_ms)).collect()
    }

    #[test]
    fn on_disk_rows_come_segment_by_segment_and_in_memory_by_time() {
        for (engine, order) in [
            (Engine::RocksDb, [("a", 5), ("a", 50), ("b", 5), ("a", 70_000)]),
            (Engine::Memory, [("a", 5), ("b", 5), ("a", 50), ("a", 70_000)]),
        ] {
            let (_dir, mut state, mut view) = open(engine, window(120_000));
            for (key, time_ms) in [("a", 70_000), ("b", 5), ("a", 50), ("a", 5)] {
                assert!(view.put(&mut state, key.as_bytes(), time_ms, 0, Some(b"v")).expect("puts"));
            }
            let all = view.fetch(&state, Keys::Range(None, None), 0, i64::MAX).expect("reads");
            assert_eq!(times(&all), order.map(|(key, ms)| (key.to_string(), ms)));
            let a = view.fetch(&state, Keys::One(b"a"), 6, 70_000).expect("reads");
            assert_eq!(times(&a), [("a".to_string(), 50), ("a".to_string(), 70_000)]);
        }
    }

    #[test]
    fn what_is_too_old_is_refused_by_row_in_memory_and_by_segment_on_disk() {
        for (engine, taken) in [(Engine::RocksDb, true), (Engine::Memory, false)] {
            let (_dir, mut state, mut view) = open(engine, window(15));
            view.put(&mut state, b"k", 100, 0, Some(b"v")).expect("puts");
            assert_eq!(view.put(&mut state, b"k", 85, 0, Some(b"v")).expect("puts"), taken);
            assert_eq!(view.get(&mut state, b"k", 85, 0).expect("reads"), None, "too old to be seen");
            view.put(&mut state, b"k", 86, 0, Some(b"w")).expect("puts");
            assert_eq!(view.get(&mut state, b"k", 86, 0).expect("reads").as_deref(), Some(&b"w"[..]));
        }
    }

    #[test]
    fn segments_that_are_over_are_deleted() {
        let (_dir, mut state, mut view) = open(Engine::RocksDb, window(60_000));
        view.put(&mut state, b"k", 1, 0, Some(b"v")).expect("puts");
        view.put(&mut state, b"k", 200_000, 0, Some(b"v")).expect("puts");
        let mut rows = 0;
        state
            .range(StoreId(0), None, None, &mut |_, _| {
                rows += 1;
                true
            })
            .expect("reads");
        assert_eq!(rows, 1);
        assert!(!view.put(&mut state, b"k", 1, 0, Some(b"v")).expect("puts"));
    }

    #[test]
    fn a_view_finds_what_an_earlier_one_left() {
        let (_dir, mut state, mut view) = open(Engine::RocksDb, StoreKind::Session { retention_ms: 1000 });
        view.put(&mut state, b"k", 20, 10, Some(b"v")).expect("puts");
        view.put(&mut state, b"kk", 90_000, 5, Some(b"v")).expect("puts");
        let spec = StoreSpec {
            kind: StoreKind::Session { retention_ms: 100_000 },
            ..StoreSpec::table("w", Engine::RocksDb, Changelog::None)
        };
        let mut again = Segmented::new(StoreId(0), &spec).expect("a session store");
        again.restored(&state).expect("reads");
        assert_eq!(again.observed_ms(), 90_000);
    }
}
