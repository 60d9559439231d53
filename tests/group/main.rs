//! Several threads and instances of one application: who has which task, what moves, what is kept, what is restored. On
//! the broker in memory, and on a real Kafka where `WATERSMEET_KAFKA` names one.

mod java;
mod kafka;
mod memory;
mod versions;
#[path = "../waiting/mod.rs"]
mod waiting;

use std::time::Duration;
use watersmeet::prelude::*;

const PATIENCE: Duration = Duration::from_secs(120);

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    waiting::until(PATIENCE, Duration::from_millis(2), what, || condition().then_some(()));
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Counts the values of `in` by what they are: two sub-topologies with a repartition topic between them, and a store with a
/// changelog.
fn counts() -> Topology {
    counts_of("in", "out")
}

fn counts_of(input: &str, output: &str) -> Topology {
    let builder = StreamsBuilder::new();
    let stream = builder.stream(input, Consumed::<String, String>::default());
    let grouped = stream.group_by(|_, value| value.clone(), Grouped::keys().values().named("by-value"));
    let counted = grouped.count(Materialized::rocksdb("counts"));
    counted.to_stream().to(output, Produced::default());
    builder.build().expect("builds")
}
