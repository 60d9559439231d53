//! What commits change in a key-value store, as it happens.

use super::KeyValueReads;
use crate::error::{Error, Result};
use crate::record::Timestamp;
use crate::state::feed::{RowEvent, Watch};
use crate::state::timestamped;
use std::task::{Context, Poll};
use std::time::Duration;

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<K, V> {
    /// A commit has set (`Some`) or deleted this row. Of several changes of a key between two commits the last one is told.
    Row {
        /// The key.
        key: K,
        /// The value.
        value: Option<V>,
        /// Its timestamp, where the store keeps one.
        timestamp_ms: Option<Timestamp>,
    },
    /// This instance has this partition from now on. Its rows may have changed elsewhere before: read those that matter.
    Here(i32),
    /// This partition has left this instance.
    Gone(i32),
    /// More changes came than were taken: read the rows anew.
    Missed,
}

/// What commits change in a store, in the partitions of this instance. Watching ends when this is dropped.
///
/// It keeps at most 10,000 changes that nobody takes; then it forgets them, and says that something was missed.
pub struct Changes<K, V> {
    watch: Watch,
    reads: KeyValueReads<K, V>,
}

impl<K, V> KeyValueReads<K, V> {
    /// Tells what changes from now on, commit by commit: what is told, no crash takes back. To begin with the rows as they
    /// are, watch first and read them then.
    ///
    /// ```no_run
    /// # use watersmeet::prelude::*;
    /// use watersmeet::queries::Event;
    /// # async fn push(streams: Streams) -> Result<()> {
    /// let orders = streams.store("orders").key_value::<String, String>()?;
    /// let mut changes = orders.watch()?;
    /// loop {
    ///     if let Event::Row { key, value, .. } = changes.next().await? {
    ///         println!("{key} is now {value:?}");
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State): the client has ended.
    pub fn watch(&self) -> Result<Changes<K, V>> {
        Ok(Changes { watch: self.typed.store.watch(None)?, reads: self.clone() })
    }

    /// As [`watch`](Self::watch), the row of this key only: as cheap with thousands of watchers as with one.
    ///
    /// # Errors
    /// As [`watch`](Self::watch). [`Kind::User`](crate::error::Kind::User): the key does not encode.
    pub fn watch_key(&self, key: &K) -> Result<Changes<K, V>> {
        let key = self.typed.key_bytes(key)?;
        Ok(Changes { watch: self.typed.store.watch(Some(&key))?, reads: self.clone() })
    }
}

impl<K, V> Changes<K, V> {
    /// The next change. May be given up and called again, as in a `select`: nothing is lost.
    ///
    /// # Errors
    /// [`Kind::User`](crate::error::Kind::User): a key or value is not of these types.
    pub async fn next(&mut self) -> Result<Event<K, V>> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`next`](Self::next), for those who write a stream of their own.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event<K, V>>> {
        self.watch.poll(cx).map(|event| self.typed(event))
    }

    /// The next change, waited for on this thread.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::error::Kind::Unavailable): there was none within `timeout`. And as [`next`](Self::next).
    pub fn wait(&mut self, timeout: Duration) -> Result<Event<K, V>> {
        let event =
            self.watch.wait(timeout).map_err(|error: Error| error.store(&self.reads.typed.store.spec().name))?;
        self.typed(event)
    }

    fn typed(&self, event: RowEvent) -> Result<Event<K, V>> {
        let typed = &self.reads.typed;
        Ok(match event {
            RowEvent::Row { key, row, .. } => {
                let key = typed.key(&key)?;
                let Some(row) = row else { return Ok(Event::Row { key, value: None, timestamp_ms: None }) };
                let (value, timestamp_ms) = match typed.store.spec().kind.is_timestamped() {
                    true => (timestamped::value(&row), Some(timestamped::timestamp_ms(&row))),
                    false => (&row[..], None),
                };
                Event::Row { key, value: Some(typed.value(value)?), timestamp_ms }
            }
            RowEvent::Here(partition) => Event::Here(partition),
            RowEvent::Gone(partition) => Event::Gone(partition),
            RowEvent::Missed => Event::Missed,
        })
    }
}
