//! What the maker of an operator gets from the task.

use super::calls::Calls;
use super::holds::Holds;
use super::{Hook, Hooks, Outbox};
use crate::state::StoreId;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What a node sees of the task that it is made for.
pub struct Build<'a> {
    /// The node's own name.
    pub node: String,
    /// The task's stores, by name.
    pub stores: &'a BTreeMap<String, StoreId>,
    /// Gives each topic that the task writes to a number for its outbox.
    pub outbox: &'a mut Outbox,
    /// The application's id, the prefix of internal topics.
    pub application_id: &'a str,
    /// Which of the stores are cached, by their ids.
    pub cached: &'a [bool],
    /// There is a dead-letter topic.
    pub dead_letters: bool,
    /// What nodes want to do besides taking records.
    pub hooks: &'a mut Hooks,
    /// Where calls to the outside run.
    pub calls: &'a Calls,
    /// What keeps the task's offsets from being committed.
    pub holds: &'a Holds,
    /// What is held back has to go on in the order in which it came: a transaction may end at any record.
    pub in_order: bool,
    /// The names of the node's children, in their order.
    pub children: Vec<String>,
}

impl Build<'_> {
    /// True where rows of `store` are logged and sent on when it is flushed.
    pub fn is_cached(&self, store: StoreId) -> bool {
        self.cached[store.0]
    }

    /// Registers a hook of `store`: see [`Hook`].
    pub fn hook(&mut self, store: StoreId, hook: Rc<RefCell<dyn Hook>>) {
        self.hooks.add(store, hook);
    }

    /// The store of that name.
    ///
    /// # Panics
    /// Where the node was not connected to it, which the DSL does when it adds the node.
    pub fn store(&self, name: &str) -> StoreId {
        *self.stores.get(name).unwrap_or_else(|| panic!("node {} is not connected to store {name}", self.node))
    }
}
