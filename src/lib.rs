//! Kafka Streams for Rust.

pub mod clock;
pub mod config;
pub mod error;
pub mod metrics;
pub mod record;

pub mod serdes;

// -- define --
pub mod dsl;
pub mod topology;

// -- consume --
pub mod broker;
pub mod kafka;

// -- operate --
pub mod operators;

// -- keep state --
pub mod state;

// -- run: tasks, threads, commit --
pub mod runtime;

// -- watch, test --
pub mod http;
pub mod testing;
