//! Chaos on a real Kafka, as long as wanted: `./dev chaos` starts a cluster and this. Ends with 1 where anything is lost or repeated.

#[path = "../tests/exactly_once/chaos.rs"]
mod chaos;
#[path = "../tests/exactly_once/job.rs"]
mod job;

use std::process::{Command, ExitCode};
use std::time::Duration;

fn main() -> ExitCode {
    chaos::be_instance_if_told();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let text = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str, default: f64| text(name).map_or(default, |text| text.parse().expect("a number"));
    let Some(bootstrap) = text("--bootstrap").or_else(|| std::env::var("WATERSMEET_KAFKA").ok()) else {
        eprintln!("no Kafka: give --bootstrap HOST:PORT, or use ./dev chaos");
        return ExitCode::SUCCESS;
    };
    let rate = number("--rate", 5_000.0);
    let minutes = text("--records")
        .map_or(number("--minutes", 1.0), |records| records.parse::<f64>().expect("a number of records") / rate / 60.0);
    let options = chaos::Options {
        bootstrap,
        seed: number("--seed", 1.0) as u64,
        instances: number("--instances", 3.0) as usize,
        load: Duration::from_secs_f64(minutes * 60.0),
        rate: rate as usize,
        kills: text("--kills").map(|kills| kills.parse().expect("a number of kills")),
        replication: number("--replication", -1.0) as i32,
        broker_restart: text("--broker-restart"),
    };
    let dir = tempfile::tempdir().expect("a folder");
    let command = || Command::new(std::env::current_exe().expect("this program"));
    let report = chaos::run(&options, dir.path(), &command);
    println!(
        "{} records, {} SIGKILL, {} SIGSTOP, {} broker restarts; all out {:.1} s after the last: {}",
        report.records,
        report.kills,
        report.stops,
        report.broker_restarts,
        report.done_after.as_secs_f64(),
        if report.faults.is_empty() { "exact" } else { "WRONG" }
    );
    for fault in report.faults.iter().take(20) {
        println!("  {fault}");
    }
    if report.faults.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("state and logs stay in {}", dir.keep().display());
    ExitCode::FAILURE
}
