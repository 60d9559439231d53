//! Who wants to be told: of the client's states, and of restores.

use crate::broker::TopicPartition;
use crate::status::State;
use std::sync::Arc;

/// Is told how the restore of stores goes. The methods are called by stream threads, which wait meanwhile: be quick.
/// Source: `StateRestoreListener`.
pub trait RestoreListener: Send + Sync {
    /// The store begins to read this changelog, from offset `start` to before `end`.
    fn on_restore_start(&self, partition: &TopicPartition, store: &str, start: i64, end: i64) {
        let _ = (partition, store, start, end);
    }

    /// So many records have come into the store; `end` is the offset of the last of them.
    fn on_batch_restored(&self, partition: &TopicPartition, store: &str, end: i64, count: i64) {
        let _ = (partition, store, end, count);
    }

    /// The store is complete, with so many records restored.
    fn on_restore_end(&self, partition: &TopicPartition, store: &str, total: i64) {
        let _ = (partition, store, total);
    }

    /// The task has moved to another thread or instance before its store was complete.
    fn on_restore_suspended(&self, partition: &TopicPartition, store: &str, total: i64) {
        let _ = (partition, store, total);
    }
}

type OnState = dyn Fn(State, State) + Send + Sync;

/// Who wants to be told what.
///
/// ```
/// use std::sync::Arc;
/// use watersmeet::broker::TopicPartition;
/// use watersmeet::streams::{Listeners, RestoreListener};
///
/// struct Log;
/// impl RestoreListener for Log {
///     fn on_restore_end(&self, partition: &TopicPartition, store: &str, total: i64) {
///         println!("{store} has {total} records from {partition}");
///     }
/// }
/// let listeners = Listeners::default()
///     .on_restore(Arc::new(Log))
///     .on_state(|new, old| println!("{old:?} -> {new:?}"));
/// ```
#[derive(Clone, Default)]
pub struct Listeners {
    pub(crate) restore: Option<Arc<dyn RestoreListener>>,
    pub(crate) state: Option<Arc<OnState>>,
}

impl Listeners {
    /// Tells this one of restores.
    #[doc(alias = "setGlobalStateRestoreListener")]
    pub fn on_restore(mut self, listener: Arc<dyn RestoreListener>) -> Self {
        self.restore = Some(listener);
        self
    }

    /// Calls this with the client's new state and the old one, in the order of the changes.
    #[doc(alias = "setStateListener")]
    pub fn on_state(mut self, listener: impl Fn(State, State) + Send + Sync + 'static) -> Self {
        self.state = Some(Arc::new(listener));
        self
    }
}
