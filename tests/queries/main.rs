//! Interactive queries: typed reads from any thread, and `/stores`.

mod http;
mod instances;
#[path = "../on_kafka/mod.rs"]
mod on_kafka;
mod services;
mod typed;
mod written;

use on_kafka::waiting::{PATIENCE, wait_until};
