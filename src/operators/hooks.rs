//! What a node does besides taking records: when a commit is near, and when its store has been restored.

use super::Cx;
use crate::error::Result;
use crate::state::StoreId;
use std::cell::RefCell;
use std::rc::Rc;

/// A node that keeps something beside its store: rows that are not sent on yet, an index in memory.
pub trait Hook {
    /// A commit is near: send on and log what is held back. Called store by store, in the order in which the stores were
    /// added, and again as long as any of them had something to send.
    fn flush(&mut self, cx: &mut Cx) -> Result {
        let _ = cx;
        Ok(())
    }

    /// The stores are complete: read from them what the node keeps in memory. Called once, before the first record.
    fn restored(&mut self, cx: &mut Cx) -> Result {
        let _ = cx;
        Ok(())
    }
}

/// The hooks of one task.
#[derive(Default)]
pub struct Hooks(Vec<(StoreId, Rc<RefCell<dyn Hook>>)>);

impl Hooks {
    /// Adds one; hooks of the same store stay in the order in which they were added.
    pub fn add(&mut self, store: StoreId, hook: Rc<RefCell<dyn Hook>>) {
        self.0.push((store, hook));
        self.0.sort_by_key(|(store, _)| *store);
    }

    /// Calls [`Hook::flush`] of all, store by store. What a cached store holds back that no hook sends on is logged in its
    /// turn.
    ///
    /// # Errors
    /// The first of theirs.
    pub fn flush(&mut self, cx: &mut Cx) -> Result {
        loop {
            let mut hooks = self.0.iter().peekable();
            for store in (0..cx.cache.stores()).map(StoreId) {
                while let Some((_, hook)) = hooks.next_if(|(of, _)| *of == store) {
                    hook.borrow_mut().flush(cx)?;
                }
                cx.flush_unsent(store);
            }
            // Parents come first, so nearly always once is enough.
            if !cx.cache.is_dirty() {
                return Ok(());
            }
        }
    }

    /// Calls [`Hook::restored`] of all.
    ///
    /// # Errors
    /// The first of theirs.
    pub fn restored(&mut self, cx: &mut Cx) -> Result {
        self.0.iter().try_for_each(|(_, hook)| hook.borrow_mut().restored(cx))
    }
}
