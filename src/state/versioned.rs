//! Versioned rows: for every key what holds now, and what held before, as long as the history goes back.
//!
//! In the ordered byte store, by the first byte of the physical key:
//! - `1 · key` → what holds now: `1 · from · value`; nothing where the row was deleted;
//! - `2 · key length · key · to` → what held before `to`: `kind · from · value`, where kind 0 is a delete. One look into the
//!   order of `to` finds what held at a time, or what came next. The time of the last delete is the last `to`; where
//!   nothing ends then, a delete that lasted no time stands for it;
//! - `3 · to · key length · key` → nothing: what to forget first;
//! - `4` → the largest timestamp that was put.
//!
//! What can be seen depends on timestamps alone. Source: Kafka Streams' `RocksDBVersionedStore` (KIP-889), which keeps other
//! bytes and answers the same; a delete at the very time of the only value is forgotten at once there, and so it is here.

use super::{StoreId, StoreKind, StoreSpec, TaskState};
use crate::error::Result;
use crate::record::Timestamp;

const NOW: u8 = 1;
const PAST: u8 = 2;
const EXPIRY: u8 = 3;
const OBSERVED: [u8; 1] = [4];

/// A value, and from when it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The value's bytes; `None`: the row was deleted.
    pub value: Option<Vec<u8>>,
    /// From this time.
    pub from_ms: Timestamp,
    /// To before this time; `None`: it holds now.
    pub to_ms: Option<Timestamp>,
}

/// Where a value went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It holds now.
    Now,
    /// It held, until this time.
    Until(Timestamp),
    /// It is older than the history, and was not taken.
    TooOld,
}

/// A versioned store of one task.
#[derive(Debug)]
pub struct Versioned {
    store: StoreId,
    history_ms: i64,
    /// The largest timestamp that was put; -1 before the first.
    observed_ms: Timestamp,
}

impl Versioned {
    /// The view of a store of that kind; `None` for other kinds.
    pub fn new(store: StoreId, spec: &StoreSpec) -> Option<Self> {
        match spec.kind {
            StoreKind::Versioned { history_ms } => Some(Self { store, history_ms, observed_ms: -1 }),
            _ => None,
        }
    }

    /// How long the past can be looked up.
    pub fn history_ms(&self) -> i64 {
        self.history_ms
    }

    /// Sets (`Some`) or deletes (`None`) the value that holds from `from_ms` on, until what is known to follow it.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the disk cannot be read.
    pub fn put(
        &mut self,
        state: &mut TaskState,
        key: &[u8],
        value: Option<&[u8]>,
        from_ms: Timestamp,
    ) -> Result<Placed> {
        if from_ms < self.observed_ms.saturating_sub(self.history_ms) {
            return Ok(Placed::TooOld);
        }
        if from_ms > self.observed_ms {
            self.observed_ms = from_ms;
            state.put(self.store, &OBSERVED, Some(&from_ms.to_be_bytes()));
            self.forget(state)?;
        }
        let now = self.now(state, key)?;
        if let Some(before) = now.as_ref().filter(|now| now.from_ms <= from_ms) {
            if before.from_ms < from_ms {
                self.write_past(state, key, from_ms, before.from_ms, before.value.as_deref());
            }
            self.write_now(state, key, value, from_ms);
            return Ok(Placed::Now);
        }
        let next_ms = match self.past_at(state, key, from_ms)? {
            Some(Version { value: before, from_ms: before_ms, to_ms: Some(to_ms) }) if before_ms <= from_ms => {
                if before_ms < from_ms {
                    self.write_past(state, key, from_ms, before_ms, before.as_deref());
                }
                Some(to_ms)
            }
            next => next.or(now).map(|next| next.from_ms),
        };
        let Some(until_ms) = next_ms else {
            if value.is_none() && state.get(self.store, &past_key(key, from_ms))?.is_none() {
                self.write_past(state, key, from_ms, from_ms, None);
            }
            self.write_now(state, key, value, from_ms);
            return Ok(Placed::Now);
        };
        self.write_past(state, key, until_ms, from_ms, value);
        Ok(Placed::Until(until_ms))
    }

    fn write_now(&self, state: &mut TaskState, key: &[u8], value: Option<&[u8]>, from_ms: Timestamp) {
        let row = value.map(|value| row(Some(value), from_ms));
        state.put(self.store, &now_key(key), row.as_deref());
    }

    /// What holds now, with the time since when; `None` where the row was deleted or never there.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the disk cannot be read.
    pub fn get(&self, state: &mut TaskState, key: &[u8]) -> Result<Option<(Vec<u8>, Timestamp)>> {
        Ok(self.now(state, key)?.and_then(|now| Some((now.value?, now.from_ms))))
    }

    /// What held at `at_ms`. What holds now is known however old it is; of the past only what is not older than the history.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the disk cannot be read.
    pub fn get_as_of(&self, state: &mut TaskState, key: &[u8], at_ms: Timestamp) -> Result<Option<Version>> {
        if let Some(now) = self.now(state, key)?.filter(|now| now.from_ms <= at_ms) {
            return Ok(Some(now));
        }
        if at_ms < self.observed_ms.saturating_sub(self.history_ms) {
            return Ok(None);
        }
        Ok(self.past_at(state, key, at_ms)?.filter(|at| at.from_ms <= at_ms && at.value.is_some()))
    }

    /// The values of `key` that held at some time from `from_ms` to `to_ms`, both included, as far as
    /// [`get_as_of`](Self::get_as_of) can find them; the oldest first.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the disk cannot be read.
    pub fn history(
        &self,
        state: &mut TaskState,
        key: &[u8],
        from_ms: Timestamp,
        to_ms: Timestamp,
    ) -> Result<Vec<Version>> {
        let first_ms = from_ms.max(self.observed_ms.saturating_sub(self.history_ms));
        let (from, mut to) = (past_key(key, first_ms.saturating_add(1)), past_key(key, i64::MAX));
        to.push(0);
        let mut versions = Vec::new();
        state.range(self.store, Some(&from), Some(&to), &mut |physical, row| {
            versions.extend(split_past(physical).and_then(|(_, until_ms)| read(row, Some(until_ms))));
            true
        })?;
        versions.extend(self.now(state, key)?);
        versions.retain(|version| version.value.is_some() && version.from_ms <= to_ms);
        Ok(versions)
    }

    /// All values that [`get_as_of`](Self::get_as_of) can find, key by key, oldest first.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the disk cannot be read.
    pub fn all(&self, state: &mut TaskState) -> Result<Vec<(Vec<u8>, Vec<Version>)>> {
        let mut keys = std::collections::BTreeMap::<Vec<u8>, Vec<Version>>::new();
        let first_ms = self.observed_ms.saturating_sub(self.history_ms);
        state.range(self.store, Some(&[PAST]), Some(&[EXPIRY]), &mut |physical, row| {
            if let Some((key, to_ms)) = split_past(physical)
                && to_ms > first_ms
                && let Some(version) = read(row, Some(to_ms))
            {
                keys.entry(key.to_vec()).or_default().push(version);
            }
            true
        })?;
        state.range(self.store, Some(&[NOW]), Some(&[PAST]), &mut |physical, row| {
            keys.entry(physical[1..].to_vec()).or_default().extend(read(row, None));
            true
        })?;
        keys.values_mut().for_each(|versions| versions.retain(|version| version.value.is_some()));
        Ok(keys.into_iter().filter(|(_, versions)| !versions.is_empty()).collect())
    }

    /// Rows have been restored behind the view's back.
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the disk cannot be read.
    pub fn restored(&mut self, state: &mut TaskState) -> Result {
        let observed = state.get(self.store, &OBSERVED)?;
        let observed_ms = observed.and_then(|row| row.first_chunk().map(|ms| Timestamp::from_be_bytes(*ms)));
        self.observed_ms = self.observed_ms.max(observed_ms.unwrap_or(-1));
        Ok(())
    }

    fn now(&self, state: &mut TaskState, key: &[u8]) -> Result<Option<Version>> {
        Ok(state.get(self.store, &now_key(key))?.and_then(|row| read(&row, None)))
    }

    /// Of the past, the first version that ends after `at_ms`: the one that held then, or else the one that came next.
    fn past_at(&self, state: &TaskState, key: &[u8], at_ms: Timestamp) -> Result<Option<Version>> {
        let (from, mut to) = (past_key(key, at_ms.saturating_add(1)), past_key(key, i64::MAX));
        to.push(0);
        let mut found = None;
        state.range(self.store, Some(&from), Some(&to), &mut |physical, row| {
            found = split_past(physical).and_then(|(_, to_ms)| read(row, Some(to_ms)));
            false
        })?;
        Ok(found)
    }

    fn write_past(
        &self,
        state: &mut TaskState,
        key: &[u8],
        to_ms: Timestamp,
        from_ms: Timestamp,
        value: Option<&[u8]>,
    ) {
        state.put(self.store, &past_key(key, to_ms), Some(&row(value, from_ms)));
        state.put(self.store, &expiry_key(key, to_ms), Some(&[]));
    }

    /// Deletes what is older than the history.
    fn forget(&self, state: &mut TaskState) -> Result {
        let first_ms = self.observed_ms.saturating_sub(self.history_ms);
        let mut end = vec![EXPIRY];
        end.extend_from_slice(&sortable(first_ms.saturating_add(1)));
        let mut over = Vec::new();
        state.range(self.store, Some(&[EXPIRY]), Some(&end), &mut |physical, _| {
            over.push(physical.to_vec());
            true
        })?;
        for expiry in over {
            state.put(self.store, &expiry, None);
            if let Some((to, keyed)) = expiry[1..].split_first_chunk::<8>() {
                state.put(self.store, &[&[PAST], keyed, to].concat(), None);
            }
        }
        Ok(())
    }
}

/// Big-endian bytes that sort as the number does, negative ones first.
fn sortable(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

fn now_key(key: &[u8]) -> Vec<u8> {
    [&[NOW], key].concat()
}

fn past_key(key: &[u8], to_ms: Timestamp) -> Vec<u8> {
    [&[PAST], &(key.len() as u32).to_be_bytes()[..], key, &sortable(to_ms)].concat()
}

fn expiry_key(key: &[u8], to_ms: Timestamp) -> Vec<u8> {
    [&[EXPIRY], &sortable(to_ms)[..], &(key.len() as u32).to_be_bytes(), key].concat()
}

/// Key and end of a past version's physical key.
fn split_past(physical: &[u8]) -> Option<(&[u8], Timestamp)> {
    let (key, to) = physical.get(5..)?.split_last_chunk::<8>()?;
    Some((key, i64::from_be_bytes(*to) ^ i64::MIN))
}

fn row(value: Option<&[u8]>, from_ms: Timestamp) -> Vec<u8> {
    [&[u8::from(value.is_some())], &from_ms.to_be_bytes()[..], value.unwrap_or_default()].concat()
}

fn read(row: &[u8], to_ms: Option<Timestamp>) -> Option<Version> {
    let (kind, rest) = row.split_first()?;
    let (from, value) = rest.split_first_chunk::<8>()?;
    Some(Version { value: (*kind == 1).then(|| value.to_vec()), from_ms: i64::from_be_bytes(*from), to_ms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::state::{Changelog, Engine, MemoryBudget};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn open(history_ms: i64) -> (TaskState, Versioned) {
        let kind = StoreKind::Versioned { history_ms };
        let spec = StoreSpec { kind, ..StoreSpec::table("v", Engine::Memory, Changelog::None) };
        let budget = Arc::new(MemoryBudget::new(&Config::new("test")));
        let state = TaskState::open(None, std::slice::from_ref(&spec), budget).expect("opens");
        (state, Versioned::new(StoreId(0), &spec).expect("a versioned store"))
    }

    #[test]
    fn a_value_holds_until_the_next_one() {
        let (mut state, mut view) = open(100);
        let mut put = |value: Option<&[u8]>, from_ms| view.put(&mut state, b"k", value, from_ms).expect("puts");
        assert_eq!(put(Some(b"10"), 10), Placed::Now);
        assert_eq!(put(Some(b"30"), 30), Placed::Now);
        assert_eq!(put(Some(b"20"), 20), Placed::Until(30));
        assert_eq!(put(Some(b"5"), 5), Placed::Until(10));
        assert_eq!(put(None, 40), Placed::Now);
        assert_eq!(put(Some(b"35"), 35), Placed::Until(40));
        assert_eq!(put(Some(b"35!"), 35), Placed::Until(40));
        let mut at = |at_ms| {
            let found = view.get_as_of(&mut state, b"k", at_ms).expect("reads");
            found.map(|v| (String::from_utf8(v.value.expect("is there")).expect("text"), v.from_ms, v.to_ms))
        };
        let found = |value: &str, from_ms, to_ms| Some((value.to_string(), from_ms, Some(to_ms)));
        assert_eq!(at(4), None);
        assert_eq!(at(5), found("5", 5, 10));
        assert_eq!(at(19), found("10", 10, 20));
        assert_eq!(at(34), found("30", 30, 35));
        assert_eq!(at(39), found("35!", 35, 40));
        assert_eq!(at(40), None);
        assert_eq!(view.get(&mut state, b"k").expect("reads"), None);
    }

    #[test]
    fn what_is_older_than_the_history_is_refused_and_forgotten() {
        let (mut state, mut view) = open(10);
        for (key, from_ms) in [(b"a", 1), (b"a", 2), (b"b", 5)] {
            view.put(&mut state, key, Some(b"v"), from_ms).expect("puts");
        }
        view.put(&mut state, b"b", None, 6).expect("puts");
        view.put(&mut state, b"c", Some(b"v"), 30).expect("puts");
        assert_eq!(view.put(&mut state, b"a", Some(b"w"), 19).expect("puts"), Placed::TooOld);
        assert_eq!(view.get(&mut state, b"a").expect("reads"), Some((b"v".to_vec(), 2)));
        let mut rows = 0;
        let count = &mut |_: &[u8], _: &[u8]| {
            rows += 1;
            true
        };
        state.range(StoreId(0), None, None, count).expect("reads");
        assert_eq!(rows, 3, "what holds of a and c, and the largest timestamp");
    }

    #[test]
    fn a_delete_at_the_time_of_the_only_value_is_forgotten() {
        let (mut state, mut view) = open(100);
        let mut put = |value: Option<&[u8]>, from_ms| view.put(&mut state, b"k", value, from_ms).expect("puts");
        assert_eq!([put(Some(b"6"), 6), put(None, 6), put(Some(b"5"), 5)], [Placed::Now; 3]);
        assert_eq!([put(None, 7), put(Some(b"9"), 9), put(None, 9)], [Placed::Now; 3]);
        assert_eq!(put(Some(b"8"), 8), Placed::Now);
        assert_eq!([put(None, 20), put(Some(b"20"), 20), put(None, 20)], [Placed::Now; 3]);
        assert_eq!(put(Some(b"19"), 19), Placed::Until(20));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn agrees_with_a_map_of_times(puts in proptest::collection::vec((0..3u8, any::<Option<u8>>(), 0..60i64), 0..60)) {
            let (mut state, mut view) = open(20);
            let mut model: BTreeMap<(u8, i64), Option<u8>> = BTreeMap::new();
            let mut observed_ms = -1;
            for (key, value, from_ms) in puts {
                let next = model.range((key, from_ms + 1)..(key, i64::MAX)).next().map(|((_, ms), _)| *ms);
                if value.is_none() && model.contains_key(&(key, from_ms)) {
                    // See the module's text: such a delete may be forgotten.
                    continue;
                }
                let placed = view.put(&mut state, &[key], value.as_ref().map(std::slice::from_ref), from_ms).expect("puts");
                if from_ms < observed_ms - 20 {
                    prop_assert_eq!(placed, Placed::TooOld);
                    continue;
                }
                observed_ms = observed_ms.max(from_ms);
                prop_assert_eq!(placed, next.map_or(Placed::Now, Placed::Until));
                model.insert((key, from_ms), value);
                for at_ms in (observed_ms - 20).max(0)..70 {
                    let want = model.range((key, 0)..=(key, at_ms)).next_back().and_then(|(_, value)| *value);
                    let got = view.get_as_of(&mut state, &[key], at_ms).expect("reads").and_then(|v| v.value);
                    prop_assert_eq!(got, want.map(|value| vec![value]), "at {}", at_ms);
                }
            }
        }
    }
}
