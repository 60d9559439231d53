//! exactly_once_v2 on a real Kafka: a short run of chaos (`./dev chaos` is the long one). Needs `WATERSMEET_KAFKA`.

#[path = "exactly_once/calls.rs"]
mod calls;
#[path = "exactly_once/chaos.rs"]
mod chaos;
#[path = "exactly_once/job.rs"]
mod job;
mod on_kafka;

use std::process::Command;
use std::time::Duration;

/// Not a test: this program run again, as an instance.
#[test]
fn instance() {
    chaos::be_instance_if_told();
    calls::be_instance_if_told();
}

#[test]
fn instances_that_are_killed_and_stopped_lose_nothing_and_repeat_nothing() {
    let Some(bootstrap) = std::env::var("WATERSMEET_KAFKA").ok().filter(|address| !address.is_empty()) else {
        eprintln!("WATERSMEET_KAFKA is not set: no real Kafka to test against");
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let command = || {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["instance", "--exact", "--nocapture"]);
        command
    };
    let (load, broker_restart) = (Duration::from_secs(14), None);
    let options = chaos::Options {
        bootstrap,
        seed: 1,
        instances: 2,
        load,
        rate: 4_000,
        replication: -1,
        broker_restart,
        kills: None,
    };
    let report = chaos::run(&options, dir.path(), &command);
    let logs = |i| std::fs::read_to_string(dir.path().join(format!("instance-{i}.log"))).unwrap_or_default();
    assert_eq!(report.faults, [""; 0], "{}\n{}", logs(0), logs(1));
    assert!(report.kills > 0, "it was over before anything happened");
}

#[test]
fn records_that_wait_for_calls_when_an_instance_is_killed_count_once() {
    let Some(kafka) = on_kafka::Kafka::given() else { return };
    assert_eq!(calls::run(&kafka), [""; 0]);
}
