//! Interactive queries: typed reads from any thread, and `/stores`.

mod http;
mod instances;
mod links;
#[path = "../on_kafka/mod.rs"]
mod on_kafka;
mod services;
mod typed;
mod written;

use on_kafka::waiting::{PATIENCE, wait_until};
