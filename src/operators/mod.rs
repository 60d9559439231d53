//! Operators: what a record meets between source and sink. One file each; an operator knows the next port, its stores and
//! [`Cx`], and neither Kafka nor the runtime.

pub(crate) mod aggregate;
pub(crate) mod branch;
mod build;
pub mod calls;
pub mod cx;
pub(crate) mod filter;
pub(crate) mod foreign_key;
pub(crate) mod getter;
pub(crate) mod grace_join;
pub(crate) mod held;
pub mod holds;
mod hooks;
pub(crate) mod index_into;
pub(crate) mod map;
pub mod map_async;
pub mod process;
pub mod process_values;
pub mod punctuation;
pub(crate) mod record_cache;
pub(crate) mod sink;
pub(crate) mod sizes;
pub(crate) mod source;
pub mod store_views;
pub(crate) mod stream_global_join;
pub(crate) mod stream_stream_join;
pub(crate) mod stream_table_join;
pub(crate) mod suppress;
pub(crate) mod table_aggregate;
pub(crate) mod table_group;
pub(crate) mod table_join;
pub(crate) mod table_source;
pub(crate) mod table_store;
pub(crate) mod table_values;
pub(crate) mod timed_rows;
pub(crate) mod windowed;

pub use build::Build;
pub use cx::{Cx, Outbox, RecordContext};
pub use hooks::{Hook, Hooks, Work};
pub use record_cache::{CacheBudget, RecordCache};
pub use source::TimestampExtractor;

use crate::error::Result;
use crate::record::{Data, Record};
use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// The only contract an operator knows: take a record, hand results to the port that it owns.
pub trait Push<K, V> {
    /// Takes one record. An error ends the task; what a policy covers is handled inside.
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result;
}

/// Where an operator sends its results.
pub type Port<K, V> = Box<dyn Push<K, V>>;

/// A [`Port`] whose types only the two DSL nodes at its ends know. Opened once per edge and task, never per record.
pub type ErasedPort = Box<dyn Any>;

/// Opens an erased port.
///
/// # Panics
/// Where the DSL joined two nodes of different types, which its typed handles rule out.
pub fn open<K: 'static, V: 'static>(port: ErasedPort) -> Port<K, V> {
    *port.downcast().expect("the DSL joined two ports of different types")
}

/// Ends a branch that nobody reads.
struct Nowhere;

impl<K, V> Push<K, V> for Nowhere {
    fn push(&mut self, _: &mut Cx, _: Record<K, V>) -> Result {
        Ok(())
    }
}

/// Sends each record to several ports, depth first, in the order in which they were added (as Kafka Streams does).
struct Tee<K, V> {
    first: Vec<Port<K, V>>,
    last: Port<K, V>,
}

impl<K: Data, V: Data> Push<K, V> for Tee<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        for port in &mut self.first {
            port.push(cx, record.clone())?;
        }
        self.last.push(cx, record)
    }
}

/// In front of what takes new records of a node: a record that is made of another has a context of its own, so what is freed
/// below (see [`sink`]) is there again for what comes after. Only where there are dead letters.
pub(crate) struct Anew<K, V> {
    pub(crate) out: Port<K, V>,
}

impl<K: 'static, V: 'static> Anew<K, V> {
    /// `out` as one who sends new records has it.
    pub(crate) fn of(build: &Build, out: Port<K, V>) -> Port<K, V> {
        if build.dead_letters { Box::new(Self { out }) } else { out }
    }
}

impl<K, V> Push<K, V> for Anew<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        let bytes = cx.current.as_ref().map(|c| (c.raw.meta.key.clone(), c.raw.meta.value.clone()));
        let result = self.out.push(cx, record);
        if let (Some(current), Some(bytes)) = (&mut cx.current, bytes) {
            (current.raw.meta.key, current.raw.meta.value) = bytes;
        }
        result
    }
}

/// One port that several parents push to. The graph has no cycles, so the borrow cannot collide.
struct Shared<K, V>(Rc<RefCell<Port<K, V>>>);

impl<K, V> Push<K, V> for Shared<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        self.0.borrow_mut().push(cx, record)
    }
}

/// Makes one port of the ports of all children.
pub fn join_children<K: Data, V: Data>(children: Vec<ErasedPort>) -> Port<K, V> {
    let mut ports: Vec<Port<K, V>> = children.into_iter().map(open).collect();
    match ports.pop() {
        None => Box::new(Nowhere),
        Some(last) if ports.is_empty() => last,
        Some(last) => Box::new(Tee { first: ports, last }),
    }
}

/// Turns a panic of user code into a record at fault, where the processing policy does not end the task.
///
/// Source: `ProcessorNode.process`, which hands every exception to the processing handler; the innermost node gets it.
struct Guard<K, V> {
    node: String,
    port: Port<K, V>,
}

impl<K, V> Push<K, V> for Guard<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        let seen = cx.seen(record.timestamp_ms, &record.headers);
        match catch_unwind(AssertUnwindSafe(|| self.port.push(cx, record))) {
            Ok(result) => result,
            Err(panic) => cx.faulty_record_seen(cx::Stage::Processing, &self.node, &panic_text(&*panic), seen),
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").into()
}

/// Makes `count` ports, one per parent, out of one. With `guard`, the node's name, panics meet the processing policy.
pub fn share<K: 'static, V: 'static>(port: ErasedPort, count: usize, guard: Option<&str>) -> Vec<ErasedPort> {
    let port = match guard {
        Some(node) => Box::new(Box::new(Guard::<K, V> { node: node.into(), port: open(port) }) as Port<K, V>) as _,
        None => port,
    };
    if count == 1 {
        return vec![port];
    }
    let shared = Rc::new(RefCell::new(open::<K, V>(port)));
    (0..count).map(|_| Box::new(Box::new(Shared(shared.clone())) as Port<K, V>) as ErasedPort).collect()
}
