//! What a node does besides taking records: when a commit is near, and when its store has been restored.

use super::Cx;
use super::punctuation::{Punctuation, PunctuationType};
use crate::broker::TopicPartition;
use crate::error::Result;
use crate::record::Timestamp;
use crate::state::StoreId;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

/// A node that keeps something beside its store: rows that are not sent on yet, an index in memory.
pub trait Hook {
    /// The task begins: its stores are there. Called once, nodes in the order in which they were added.
    fn init(&mut self, cx: &mut Cx) -> Result {
        let _ = cx;
        Ok(())
    }

    /// A punctuation of this node is due.
    fn punctuate(&mut self, cx: &mut Cx, punctuation: Punctuation) -> Result {
        let _ = (cx, punctuation);
        Ok(())
    }

    /// The task ends.
    fn close(&mut self) {}

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

/// A node with work that goes on after [`Push::push`](super::Push::push): calls, requests. For each record that it has not done
/// with it keeps a [`Hold`](super::holds::Hold).
pub trait Work {
    /// Takes in what has ended, sends on what came of it, releases the holds, and begins what may begin; called once per turn
    /// while the task holds anything. Where [`Holds::draining`](super::holds::Holds) is set, what is collected goes out at once.
    /// Returns how much has ended.
    ///
    /// # Errors
    /// What goes wrong below, or what a policy does not cover: the task ends.
    fn work(&mut self, cx: &mut Cx) -> Result<usize>;

    /// The task gives up these partitions (`None`: all): cancels what is under way for their records, and releases their
    /// holds. They will be processed again.
    fn abandon(&mut self, cx: &mut Cx, partitions: Option<&[TopicPartition]>);

    /// How much is under way, and how much waits to begin.
    fn under_way(&self) -> (usize, usize);

    /// Whether it is to be called again soon though nothing may end: something goes out when it has waited long enough.
    fn is_timed(&self) -> bool {
        false
    }
}

/// The hooks of one task.
#[derive(Default)]
pub struct Hooks {
    /// Those of stores, in the order of the stores.
    stores: Vec<(StoreId, Rc<RefCell<dyn Hook>>)>,
    /// Those of nodes without a store of their own: they begin, are called by punctuations, and end. Nodes are made from the
    /// last to the first.
    nodes: Vec<Rc<RefCell<dyn Hook>>>,
    /// The nodes have begun, and will end.
    begun: bool,
    /// Those with work under way, children before parents.
    works: Vec<Rc<RefCell<dyn Work>>>,
    /// How long they are waited for at most when the task goes.
    patience: Duration,
}

impl Hooks {
    /// Adds one of a store; hooks of the same store stay in the order in which they were added.
    pub fn add(&mut self, store: StoreId, hook: Rc<RefCell<dyn Hook>>) {
        self.stores.push((store, hook));
        self.stores.sort_by_key(|(store, _)| *store);
    }

    /// The number of the node that is added next.
    pub fn next_number(&self) -> usize {
        self.nodes.len()
    }

    /// Adds one of a node.
    pub fn add_node(&mut self, hook: Rc<RefCell<dyn Hook>>) {
        self.nodes.push(hook);
    }

    /// Adds a node with work of its own, and how long it is waited for when the task goes.
    pub fn add_work(&mut self, work: Rc<RefCell<dyn Work>>, patience: Duration) {
        self.works.push(work);
        self.patience = self.patience.max(patience);
    }

    /// True where a node may have work under way.
    pub fn has_works(&self) -> bool {
        !self.works.is_empty()
    }

    /// How long work is waited for at most when the task goes.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Calls [`Work::work`] of all, parents first. Returns how much has ended.
    ///
    /// # Errors
    /// The first of theirs.
    pub fn work(&mut self, cx: &mut Cx) -> Result<usize> {
        self.works.iter().rev().try_fold(0, |ended, work| Ok(ended + work.borrow_mut().work(cx)?))
    }

    /// Calls [`Work::abandon`] of all.
    pub fn abandon(&mut self, cx: &mut Cx, partitions: Option<&[TopicPartition]>) {
        self.works.iter().for_each(|work| work.borrow_mut().abandon(cx, partitions));
    }

    /// Whether one of them is to be called again soon ([`Work::is_timed`]).
    pub fn is_timed(&self) -> bool {
        self.works.iter().any(|work| work.borrow().is_timed())
    }

    /// How much is under way, and how much waits to begin.
    pub fn under_way(&self) -> (usize, usize) {
        self.works.iter().map(|work| work.borrow().under_way()).fold((0, 0), |(a, b), (c, d)| (a + c, b + d))
    }

    /// Calls [`Hook::flush`] of all, store by store. What a cached store holds back that no hook sends on is logged in its
    /// turn. Where one fails, those that have not had their turn still get it, as in Kafka Streams.
    ///
    /// # Errors
    /// The first of theirs.
    pub fn flush(&mut self, cx: &mut Cx) -> Result {
        let mut result = Ok(());
        loop {
            let mut hooks = self.stores.iter().peekable();
            for store in (0..cx.cache.stores()).map(StoreId) {
                while let Some((_, hook)) = hooks.next_if(|(of, _)| *of == store) {
                    let flushed = hook.borrow_mut().flush(cx);
                    result = result.and(flushed);
                }
                cx.flush_unsent(store);
            }
            // Parents come first, so nearly always once is enough.
            if result.is_err() || !cx.cache.is_dirty() {
                return result;
            }
        }
    }

    /// Calls [`Hook::restored`] of all, then lets the nodes begin.
    ///
    /// # Errors
    /// The first of theirs.
    pub fn restored(&mut self, cx: &mut Cx) -> Result {
        self.stores.iter().try_for_each(|(_, hook)| hook.borrow_mut().restored(cx))?;
        self.nodes.iter().rev().try_for_each(|hook| hook.borrow_mut().init(cx))?;
        self.begun = true;
        Ok(())
    }

    /// Calls the punctuations that are due, the earliest first.
    ///
    /// # Errors
    /// The first of theirs.
    pub fn punctuate(&mut self, cx: &mut Cx, kind: PunctuationType, now_ms: Timestamp) -> Result {
        while let Some((node, punctuation)) = cx.punctuations.due(kind, now_ms) {
            self.nodes[node].borrow_mut().punctuate(cx, punctuation)?;
        }
        Ok(())
    }
}

/// Nodes that have begun end with their task, however that ends.
impl Drop for Hooks {
    fn drop(&mut self) {
        if !self.begun {
            return;
        }
        for hook in self.nodes.iter().rev() {
            // It may be dropped because one of them has panicked.
            if catch_unwind(AssertUnwindSafe(|| hook.borrow_mut().close())).is_err() {
                tracing::warn!(
                    "a processor has panicked while it was closed, which changes nothing: its task has ended"
                );
            }
        }
    }
}
