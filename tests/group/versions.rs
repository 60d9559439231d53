//! A new version of an application in place of the old one, on a real Kafka.

use super::kafka::{Counts, Kafka, values};
use super::{PATIENCE, counts_of, dir, wait_until};
use watersmeet::prelude::*;
use watersmeet::streams::State;

/// What the old version does.
fn copies(input: &str, output: &str) -> Topology {
    let builder = StreamsBuilder::new();
    builder.stream(input, Consumed::<String, String>::default()).to(output, Produced::default());
    builder.build().expect("builds")
}

/// It reads a further topic, the one that it repartitions by. The group knows both members by their names, and gives them
/// what they had.
#[test]
fn what_a_new_version_reads_besides_is_read_though_its_members_come_back_under_their_names() {
    for instances in [1, 2] {
        let Some(kafka) = Kafka::new("versions") else { return };
        let (input, output) = (kafka.topic("in"), kafka.topic("out"));
        let dirs: Vec<_> = (0..instances).map(|_| dir()).collect();
        let start = |version: &dyn Fn() -> Topology| -> Vec<Streams> {
            let start = |dir: &tempfile::TempDir| {
                Streams::start(version(), kafka.config(dir.path(), "classic")).expect("starts")
            };
            dirs.iter().map(start).collect()
        };
        let run = |all: &[Streams]| {
            all.iter().all(|s| s.state() == State::Running && s.status().threads.iter().any(|t| !t.tasks.is_empty()))
        };
        let copied = kafka.topic("copies");
        let old = start(&|| copies(&input, &copied));
        wait_until("the old version runs", || run(&old));
        assert!(old.iter().all(|streams| streams.close(PATIENCE)));
        drop(old);
        let new = start(&|| counts_of(&input, &output));
        wait_until("the new version runs", || run(&new));
        kafka.send(&input, values(5));
        let mut counts = Counts::new(&kafka, &output);
        counts.wait_for(5);
        assert!(new.iter().all(|streams| streams.close(PATIENCE)));
    }
}
