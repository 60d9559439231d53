//! Records into search engines: what both engines answer, what a task does when its engine does not, and, on a real OpenSearch
//! and a real Kafka, an engine that is killed while it is filled.

mod engines;
mod killed;
#[path = "../on_kafka/mod.rs"]
mod on_kafka;
mod program;
mod server;
mod sink;
mod tls;
