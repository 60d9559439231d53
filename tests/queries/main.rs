//! Interactive queries: typed reads from any thread, and `/stores`.

mod http;
mod instances;
#[path = "../on_kafka/mod.rs"]
mod on_kafka;
mod services;
mod typed;
mod written;

use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
