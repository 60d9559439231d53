//! Tests without Kafka: a broker in memory, and a driver that runs a topology's real tasks on it, step by step.
//!
//! [`TopologyTestDriver`] is what a user's test needs; [`MemoryBroker`] also serves whole clients
//! ([`Streams::start_on`](crate::streams::Streams::start_on)), several at once, and fails on demand.

mod alone;
mod broker;
mod consumer;
mod contents;
mod driver;
mod faults;
mod group;
mod log;
mod producer;
mod results;
mod simulation;
mod store;
mod topics;
mod transactions;

pub use alone::{process_all, with_store};
pub use broker::MemoryBroker;
pub use contents::{BufferRow, StoreRow};
pub use driver::{Commits, DriverOptions, TopologyTestDriver};
pub use faults::{Fault, Request};
pub use log::StoredRecord;
pub use results::results;
pub use simulation::{Compare, Outcome, Simulation, Violation};
pub use store::TestStore;
pub use topics::{TestInputTopic, TestOutputTopic};
