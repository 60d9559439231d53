//! What a table's handle knows of the node that makes the table, whatever node that is.
//!
//! Source: `KTableImpl.valueGetterSupplier` and `enableSendingOldValues`, which ask the same of Kafka Streams' processors.

use crate::operators::Build;
use crate::operators::getter::Getter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A way to read a table from other nodes.
pub(crate) struct View<K, V> {
    /// The stores that a reader has to be connected to.
    pub(crate) stores: Vec<String>,
    /// Makes the getter of one task.
    #[allow(clippy::type_complexity)]
    pub(crate) make: Arc<dyn Fn(&mut Build) -> Box<dyn Getter<K, V>> + Send + Sync>,
}

/// The node behind a table's handle, while the graph grows.
pub(crate) trait TableNode<K, V> {
    /// A view of its rows. A source that keeps none is materialized by this.
    fn view(&self) -> View<K, V>;

    /// Asks for the old values in its changes. `force`: materialize what has to be, to have them. Returns whether they
    /// will be sent.
    fn send_old_values(&self, force: bool) -> bool;
}

/// A decision that is made while the graph grows, and read when it is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flag(Arc<AtomicBool>);

impl Flag {
    pub(crate) fn new(value: bool) -> Self {
        let flag = Self::default();
        flag.0.store(value, Ordering::Relaxed);
        flag
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
