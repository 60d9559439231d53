//! A range of rows over all tasks of a client that have the store, page by page, in the order of their keys' bytes.

use super::queries::StoreBytes;
use crate::error::Result;
use crate::state::query::{Found, Query};
use std::collections::VecDeque;

/// How many rows a task is asked for at once: a stream thread is not kept from its records for long.
const PAGE: usize = 500;

/// Rows of a range: partition, key, row. Each page of a partition is as of one moment; pages are as of different ones.
pub struct Scan {
    store: StoreBytes,
    to: Option<Vec<u8>>,
    parts: Vec<Part>,
    failed: bool,
}

/// The part of one partition.
struct Part {
    partition: i32,
    rows: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// Where the next page begins; `None`: there is none.
    next: Option<Option<Vec<u8>>>,
}

impl Scan {
    pub(super) fn new(store: StoreBytes, from: Option<Vec<u8>>, to: Option<Vec<u8>>, limit: usize) -> Result<Self> {
        let limit = limit.min(PAGE);
        let first = Query::Range { from, to: to.clone(), limit };
        let parts = store.ask_all(&first)?.into_iter().map(|answer| Part::new(answer.partition, answer.found, limit));
        Ok(Self { parts: parts.collect(), store, to, failed: false })
    }

    fn refill(&mut self, part: usize) -> Result {
        let part = &mut self.parts[part];
        if let Some(from) = part.next.take() {
            let query = Query::Range { from, to: self.to.clone(), limit: PAGE };
            let answer = self.store.ask(part.partition, &query)?;
            *part = Part::new(part.partition, answer.found, PAGE);
        }
        Ok(())
    }
}

impl Part {
    fn new(partition: i32, found: Found, limit: usize) -> Self {
        let rows = if let Found::Rows(rows) = found { rows } else { Vec::new() };
        // The smallest key behind the last one is that with a zero byte.
        let next = rows.last().filter(|_| rows.len() >= limit).map(|(key, _)| Some([&key[..], &[0]].concat()));
        Self { partition, rows: rows.into(), next }
    }
}

impl Iterator for Scan {
    type Item = Result<(i32, Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        for part in 0..self.parts.len() {
            if self.parts[part].rows.is_empty()
                && let Err(error) = self.refill(part)
            {
                self.failed = true;
                return Some(Err(error));
            }
        }
        let head = |part: &&mut Part| part.rows.front().map(|(key, _)| key.clone());
        let smallest = self.parts.iter_mut().filter(|part| !part.rows.is_empty()).min_by_key(head)?;
        let (key, row) = smallest.rows.pop_front()?;
        Some(Ok((smallest.partition, key, row)))
    }
}
