//! A job in which everything that is lost or counted twice shows in the output: each key's counts must be 1, 2, 3, … without
//! a gap and without a repetition. One count is kept on disk, one in memory behind a repartition.

use std::collections::BTreeMap;
use watersmeet::prelude::*;
use watersmeet::serdes::DefaultSerde;

/// Counts by key to `<prefix>counts`, and by the key's last character to `<prefix>digits`.
pub fn topology(prefix: &str) -> Topology {
    let builder = StreamsBuilder::new();
    let stream = builder.stream(&format!("{prefix}in"), Consumed::<String, String>::default());
    let grouped = stream.group_by_key(Grouped::default());
    let counts = grouped.count(Materialized::rocksdb("counts").without_cache());
    counts.to_stream().to(&format!("{prefix}counts"), Produced::default());
    let digit = |key: &String, _: &String| key.chars().last().map_or(String::new(), String::from);
    let by_digit = stream.group_by(digit, Grouped::with(String::serde(), String::serde()));
    let digits = by_digit.count(Materialized::memory("digits").without_cache());
    digits.to_stream().to(&format!("{prefix}digits"), Produced::default());
    builder.build().expect("builds")
}

/// Runs an instance, exactly once, and never comes back, where `variable` tells this process to be one: by its
/// bootstrap.servers, application.id and state.dir, one a line. `topology` gets the prefix of the topics, and may change the
/// settings.
#[allow(dead_code)] // not every program starts itself again
pub fn be_instance_if_told(variable: &str, topology: impl FnOnce(&str, &mut Config) -> Topology) {
    let Ok(settings) = std::env::var(variable) else { return };
    let settings: Vec<&str> = settings.split('\n').collect();
    let [bootstrap, application_id, state_dir] = settings[..] else { panic!("no settings of an instance") };
    let mut config = Config::new(application_id).exactly_once();
    config.bootstrap_servers = bootstrap.into();
    config.state_dir = state_dir.into();
    let topology = topology(&format!("{application_id}-"), &mut config);
    let streams = Streams::start(topology, config).expect("starts");
    let ended = streams.run_until_signal().expect("signals");
    eprintln!("instance {state_dir}: {ended:?}");
    std::process::exit(ended.exit_code());
}

/// What is wrong with these outputs (key and count, in the order of each key), where `total` records went in.
pub fn faults(outputs: &[(String, i64)], total: usize) -> Vec<String> {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    let mut faults = Vec::new();
    for (key, count) in outputs {
        let before = last.entry(key).or_default();
        if *count != *before + 1 {
            faults.push(format!("{key}: {count} follows {before}"));
        }
        *before = *count;
    }
    let sum: i64 = last.values().sum();
    if sum != total as i64 {
        faults.push(format!("the counts add up to {sum}, not to {total}"));
    }
    faults
}

/// A key or a count as it was written.
pub fn count(value: &[u8]) -> i64 {
    value.try_into().map_or(-1, i64::from_be_bytes)
}
