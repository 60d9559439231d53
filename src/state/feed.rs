//! Who is told of what commits change in a store: each commit's rows, key by key the last one, never one that a crash could
//! take back. A store that nobody watches pays one look per commit.

use crate::error::{Error, Kind, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How many events may wait for a watcher. Who is slower is told that it missed some.
const EVENTS_MAX: usize = 10_000;

/// What a watcher of a store is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowEvent {
    /// A commit has set (`Some`) or deleted this row.
    Row {
        /// The partition whose task has it; -1: a global store.
        partition: i32,
        /// The key.
        key: Arc<[u8]>,
        /// The row.
        row: Option<Arc<[u8]>>,
    },
    /// The task of this partition runs here now. Its rows may have changed elsewhere before: read them.
    Here(i32),
    /// The task of this partition has left this instance.
    Gone(i32),
    /// There were more changes than this watcher took: read the rows anew.
    Missed,
}

/// One store's watchers.
#[derive(Default)]
pub(crate) struct Feed {
    /// How many there may be: the only thing that a commit looks at where there are none.
    count: AtomicUsize,
    watchers: Mutex<Watchers>,
}

#[derive(Default)]
struct Watchers {
    of_all: Vec<Weak<Inbox>>,
    of_key: HashMap<Vec<u8>, Vec<Weak<Inbox>>>,
}

/// Where a watcher's events arrive.
#[derive(Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<RowEvent>,
    waker: Option<Waker>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, event: RowEvent) {
        let mut waiting = self.lock();
        if waiting.events.len() >= EVENTS_MAX {
            waiting.events.clear();
            waiting.events.push_back(RowEvent::Missed);
        }
        waiting.events.push_back(event);
        let waker = waiting.waker.take();
        drop(waiting);
        self.arrived.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what happens from now on: of all rows, or of that of one key.
    pub(crate) fn watch(self: &Arc<Self>, key: Option<&[u8]>) -> Watch {
        let inbox = Arc::new(Inbox::default());
        let mut watchers = self.lock();
        match key {
            Some(key) => watchers.of_key.entry(key.to_vec()).or_default().push(Arc::downgrade(&inbox)),
            None => watchers.of_all.push(Arc::downgrade(&inbox)),
        }
        self.count.fetch_add(1, Ordering::Release);
        drop(watchers);
        Watch { inbox, feed: self.clone(), key: key.map(<[u8]>::to_vec) }
    }

    /// Tells of a commit's rows.
    pub(super) fn tell<'a>(&self, partition: i32, rows: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let watchers = self.lock();
        for (key, row) in rows {
            let of_key = watchers.of_key.get(key);
            if watchers.of_all.is_empty() && of_key.is_none() {
                continue;
            }
            let event = RowEvent::Row { partition, key: key.into(), row: row.map(Into::into) };
            let all = watchers.of_all.iter().chain(of_key.into_iter().flatten());
            all.filter_map(Weak::upgrade).for_each(|inbox| inbox.put(event.clone()));
        }
    }

    /// Tells all watchers.
    pub(crate) fn tell_all(&self, event: &RowEvent) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let watchers = self.lock();
        let all = watchers.of_all.iter().chain(watchers.of_key.values().flatten());
        all.filter_map(Weak::upgrade).for_each(|inbox| inbox.put(event.clone()));
    }

    fn forget(&self, watch: &Watch) {
        let theirs = |weak: &Weak<Inbox>| weak.as_ptr() != Arc::as_ptr(&watch.inbox);
        let mut watchers = self.lock();
        match &watch.key {
            None => watchers.of_all.retain(theirs),
            Some(key) => {
                if let Some(of_key) = watchers.of_key.get_mut(key) {
                    of_key.retain(theirs);
                    if of_key.is_empty() {
                        watchers.of_key.remove(key);
                    }
                }
            }
        }
        self.count.fetch_sub(1, Ordering::Release);
    }
}

/// A watcher; it ends when it is dropped.
pub struct Watch {
    inbox: Arc<Inbox>,
    feed: Arc<Feed>,
    key: Option<Vec<u8>>,
}

impl Watch {
    /// The next event, waited for on this thread.
    ///
    /// # Errors
    /// [`Kind::Unavailable`]: there was none within `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<RowEvent> {
        let waited = self.inbox.arrived.wait_timeout_while(self.inbox.lock(), timeout, |w| w.events.is_empty());
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let nothing = || Error::new(Kind::Unavailable, format!("nothing has changed within {timeout:?}"));
        waiting.events.pop_front().ok_or_else(nothing)
    }

    /// The next event; where there is none yet, whoever polls is woken.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<RowEvent> {
        let mut waiting = self.inbox.lock();
        match waiting.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                waiting.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.feed.forget(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(feed: &Feed, keys: &[&str]) {
        feed.tell(0, keys.iter().map(|key| (key.as_bytes(), Some(&b"row"[..]))));
    }

    fn drained(watch: &mut Watch) -> Vec<String> {
        let mut seen = Vec::new();
        while let Ok(event) = watch.wait(Duration::ZERO) {
            seen.push(match event {
                RowEvent::Row { key, .. } => String::from_utf8_lossy(&key).into_owned(),
                other => format!("{other:?}"),
            });
        }
        seen
    }

    #[test]
    fn each_watcher_is_told_what_it_watches_until_it_ends() {
        let feed = Arc::new(Feed::default());
        rows(&feed, &["before"]);
        let (mut all, mut one) = (feed.watch(None), feed.watch(Some(b"a")));
        rows(&feed, &["a", "b"]);
        feed.tell_all(&RowEvent::Gone(3));
        assert_eq!(drained(&mut all), ["a", "b", "Gone(3)"]);
        assert_eq!(drained(&mut one), ["a", "Gone(3)"]);
        drop(one);
        drop(all);
        assert_eq!(feed.count.load(Ordering::Acquire), 0);
        assert!(feed.lock().of_key.is_empty() && feed.lock().of_all.is_empty());
    }

    #[test]
    fn a_slow_watcher_keeps_no_memory_and_hears_that_it_missed_something() {
        let feed = Arc::new(Feed::default());
        let mut slow = feed.watch(None);
        for _ in 0..=EVENTS_MAX {
            rows(&feed, &["k"]);
        }
        assert_eq!(drained(&mut slow), ["Missed", "k"]);
    }
}
