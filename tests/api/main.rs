//! What the interface offers beside the operators that the oracle's cases compare with Kafka Streams. One binary, because
//! linking takes longer than the tests.

mod capabilities;
mod map_async;
mod offsets;
mod partitioners;
mod patterns;
mod printed;
mod topology_builder;
#[path = "../waiting/mod.rs"]
mod waiting;
