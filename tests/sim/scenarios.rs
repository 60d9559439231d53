//! The topologies that are simulated, with inputs whose results do not depend on the order in which partitions are read.

use std::time::Duration;
use watersmeet::config::{Optimization, Policy};
use watersmeet::prelude::*;
use watersmeet::serdes::DefaultSerde;
use watersmeet::testing::{Compare, Simulation};
use watersmeet::windows::{JoinWindows, TimeWindows};

/// The scenarios by their names.
pub const NAMES: &[&str] = &[
    "map",
    "aggregate",
    "memory",
    "repartition",
    "table",
    "join",
    "windows",
    "stream-stream",
    "changes",
    "calls",
    "calls-behind-state",
    "calls-beside",
    "calls-failing",
];

/// The scenario of that name. The seed decides its settings, too.
pub fn scenario(name: &str, exactly_once: bool, seed: u64) -> Simulation {
    let pick = |of: &[u64], bit: u64| of[(seed / bit) as usize % of.len()];
    let config = if exactly_once { Config::new("sim").exactly_once() } else { Config::new("sim") };
    let config = Config {
        commit_interval: Duration::from_millis(pick(&[0, 20, 200, 1_000], 1)),
        cache_max_bytes: pick(&[0, 1 << 20], 5) as usize,
        buffered_records_per_partition: pick(&[1_000, 3], 7) as usize,
        ..config
    };
    let partitions = pick(&[1, 2, 3, 4], 3) as i32;
    // A cache leaves out what came and went between two commits.
    let cached = config.cache_max_bytes > 0;
    let each = if exactly_once && !cached { Compare::Exact } else { Compare::Latest };
    let (joined, mapped) =
        if exactly_once { (Compare::Multiset, Compare::Exact) } else { (Compare::Contains, Compare::Contains) };
    let add = move |value: &str, set: String| add(value, &set, exactly_once);
    let sets = |store: Materialized<String, String>| store.serdes(String::serde(), String::serde());
    let simulation = match name {
        "map" => Simulation::new(config, map).output("out", mapped),
        "aggregate" => {
            Simulation::new(config, move || aggregate(sets(Materialized::rocksdb("sets")), add)).output("out", each)
        }
        "memory" => {
            Simulation::new(config, move || aggregate(sets(Materialized::memory("sets")), add)).output("out", each)
        }
        "repartition" => Simulation::new(config, move || repartition(add)).output("out", Compare::Latest),
        "table" => Simulation::new(config, table).output("out", each),
        "join" => Simulation::new(config, join).output("out", Compare::Latest),
        "windows" => Simulation::new(config, move || windows(add)).output("out", each),
        "stream-stream" => Simulation::new(config, stream_stream).output("out", joined),
        // Taking out and adding are two records: at least once cannot promise that both come.
        "changes" if exactly_once && !cached => {
            Simulation::new(config, move || changes(add)).output("out", Compare::Latest)
        }
        "calls" => Simulation::new(config, calls).output("out", mapped),
        "calls-behind-state" => {
            Simulation::new(config, move || calls_behind_state(sets(Materialized::rocksdb("sets")), add))
                .output("out", each)
        }
        "calls-beside" => Simulation::new(config, calls_beside).output("out", mapped).output("other", mapped),
        "calls-failing" => {
            let order = [CallOrder::None, CallOrder::Key, CallOrder::All][(seed / 11 % 3) as usize];
            let mut config = config;
            (config.errors.processing, config.errors.deserialization) = (Policy::DeadLetter, Policy::DeadLetter);
            config.errors.dead_letter_topic = Some("dead".into());
            Simulation::new(config, move || calls_failing(order)).output("out", mapped).output("dead", joined)
        }
        "changes" => Simulation::new(config, move || changes(add)),
        _ => panic!("there is no scenario {name}: {NAMES:?}"),
    };
    let simulation = ["in", "other", "out", "dead"].iter().fold(simulation, |s, topic| s.topic(topic, partitions));
    let strings = Produced::<String, String>::default;
    let key = |n: u64| format!("k{}", (n * 7 + seed) % 9);
    let records = |from: u64, to: u64| (from..to).map(move |n| (key(n), n.to_string(), n as i64 * 10));
    let other = records(100, 120).chain(records(100, 110));
    let both = matches!(name, "join" | "stream-stream");
    let simulation = if both { simulation.input("other", strings(), other).expect("encodes") } else { simulation };
    let simulation = simulation.input("in", strings(), records(100, 160)).expect("encodes");
    if name != "calls-failing" {
        return simulation;
    }
    // What is no text is a dead letter as soon as it is seen, while calls for earlier records are under way.
    let no_text = (0..9).map(|n| (key(n), vec![0xff, n as u8], 700));
    let simulation = simulation.input("in", Produced::<String, Vec<u8>>::default(), no_text).expect("encodes");
    simulation.input("in", strings(), records(160, 180)).expect("encodes")
}

fn strings(builder: &StreamsBuilder, topic: &str) -> KStream<String, String> {
    builder.stream(topic, Consumed::<String, String>::default())
}

/// Adds a value to a sorted set; once more is the same, or is not.
fn add(value: &str, set: &str, counted: bool) -> String {
    let mut set: Vec<&str> = set.split(' ').filter(|v| !v.is_empty()).collect();
    if counted || !set.contains(&value) {
        set.push(value);
        set.sort();
    }
    set.join(" ")
}

fn without(value: &str, set: &str) -> String {
    let mut set: Vec<&str> = set.split(' ').filter(|v| !v.is_empty()).collect();
    if let Some(i) = set.iter().position(|v| *v == value) {
        set.remove(i);
    }
    set.join(" ")
}

/// How a value is added.
trait Add: Fn(&str, String) -> String + Send + Sync + 'static {}
impl<F: Fn(&str, String) -> String + Send + Sync + 'static> Add for F {}

fn map() -> watersmeet::error::Result<Topology> {
    let builder = StreamsBuilder::new();
    strings(&builder, "in").map_values(|v| format!("<{v}>")).to("out", Produced::default());
    builder.build()
}

fn aggregate(store: Materialized<String, String>, add: impl Add) -> watersmeet::error::Result<Topology> {
    let builder = StreamsBuilder::new();
    let sets = strings(&builder, "in").group_by_key(Grouped::default()).aggregate(
        String::new,
        move |_, v: &String, set| add(v, set),
        store,
    );
    sets.to_stream().to("out", Produced::default());
    builder.build()
}

fn repartition(add: impl Add) -> watersmeet::error::Result<Topology> {
    let builder = StreamsBuilder::new();
    let by_digit = strings(&builder, "in").select_key(|_, v| v[v.len() - 1..].to_string());
    let sets = by_digit.group_by_key(Grouped::with(String::serde(), String::serde())).aggregate(
        String::new,
        move |_, v: &String, set| add(v, set),
        Materialized::rocksdb("sets").serdes(String::serde(), String::serde()),
    );
    sets.to_stream().to("out", Produced::default());
    builder.build()
}

/// A call that takes a moment, for some of the records a longer one.
fn asked(stream: KStream<String, String>, order: CallOrder) -> KStream<String, String> {
    stream.map_async(AsyncOptions::new(4).order(order), |call| async move { Ok(format!("<{}>", call.value)) })
}

/// Under exactly once transactions end in the middle of what is under way.
fn calls() -> watersmeet::error::Result<Topology> {
    let builder = StreamsBuilder::new();
    asked(strings(&builder, "in"), CallOrder::Key).to("out", Produced::default());
    builder.build()
}

/// A store has seen what calls are under way for: commits wait for them.
fn calls_behind_state(store: Materialized<String, String>, add: impl Add) -> watersmeet::error::Result<Topology> {
    let builder = StreamsBuilder::new();
    let sets = strings(&builder, "in").group_by_key(Grouped::default()).aggregate(
        String::new,
        move |_, v: &String, set| add(v, set),
        store,
    );
    asked(sets.to_stream().map_values(|set| set.unwrap_or_default()), CallOrder::Key).to("out", Produced::default());
    builder.build()
}

/// Records go to one topic at once, and to another after a call, and after a second one behind it.
fn calls_beside() -> watersmeet::error::Result<Topology> {
    let builder = StreamsBuilder::new();
    let stream = strings(&builder, "in");
    stream.to("other", Produced::default());
    let once = asked(stream.filter(|_, v| !v.ends_with('7')), CallOrder::All);
    asked(once, CallOrder::Key).to("out", Produced::default());
    builder.build()
}

/// Some calls succeed the second time, and some never do.
fn calls_failing(order: CallOrder) -> watersmeet::error::Result<Topology> {
    let builder = StreamsBuilder::new();
    let retry = Retry { pause: Duration::ZERO, ..Retry::times(1) };
    let options = AsyncOptions::new(4).order(order).retry(retry);
    let asked = strings(&builder, "in").map_async(options, |call| async move {
        match call.value.as_bytes().last() {
            Some(b'3') => Err(CallError::permanent("no")),
            Some(b'5') => Err("never".into()),
            Some(b'7') if call.attempt == 1 => Err("not yet".into()),
            _ => Ok(format!("<{}>", call.value)),
        }
    });
    asked.to("out", Produced::default());
    builder.build()
}

/// A table whose own topic is its changelog.
fn table() -> watersmeet::error::Result<Topology> {
    let builder = StreamsBuilder::new();
    let optimization = Optimization::ALL;
    let table = builder.table("in", Consumed::<String, String>::default(), Materialized::rocksdb("rows"));
    table.map_values(|v| format!("<{v}>")).to_stream().to("out", Produced::default());
    builder.build_with(optimization)
}

/// Two tables: each row has the last of both.
fn join() -> watersmeet::error::Result<Topology> {
    let builder = StreamsBuilder::new();
    let left = builder.table("in", Consumed::<String, String>::default(), Materialized::rocksdb("left"));
    let right = builder.table("other", Consumed::<String, String>::default(), Materialized::memory("right"));
    let joined = left.outer_join(&right, |l, r| format!("{l:?}+{r:?}"));
    joined.to_stream().to("out", Produced::default());
    builder.build()
}

fn windows(add: impl Add) -> watersmeet::error::Result<Topology> {
    let builder = StreamsBuilder::new();
    let windows = TimeWindows::of_size_and_grace(200, 100_000);
    let sets = strings(&builder, "in").group_by_key(Grouped::default()).windowed_by(windows).aggregate(
        String::new,
        move |_, v: &String, set| add(v, set),
        Materialized::rocksdb("sets").serdes(String::serde(), String::serde()),
    );
    sets.to_stream()
        .select_key(|w, _| format!("{}@{}", w.key, w.window.start_ms))
        .to("out", Produced::with(String::serde(), Option::<String>::serde()));
    builder.build()
}

fn stream_stream() -> watersmeet::error::Result<Topology> {
    let builder = StreamsBuilder::new();
    let windows = JoinWindows::of_time_difference_and_grace(200, 100_000);
    let (left, right) = (strings(&builder, "in"), strings(&builder, "other"));
    left.join_stream(&right, |_, l, r| format!("{l}+{r}"), windows, StreamJoined::default())
        .to("out", Produced::default());
    builder.build()
}

/// A table grouped anew: what a row was is taken out where it was, and what it is now is added where it is.
fn changes(add: impl Add) -> watersmeet::error::Result<Topology> {
    let builder = StreamsBuilder::new();
    let rows = builder.table("in", Consumed::<String, String>::default(), Materialized::rocksdb("rows"));
    let by_digit = rows
        .group_by(|k, v| (v[v.len() - 1..].to_string(), k.clone()), Grouped::with(String::serde(), String::serde()));
    let sets = by_digit.aggregate(
        String::new,
        move |_, v: &String, set| add(v, set),
        |_, v: &String, set| without(v, &set),
        Materialized::rocksdb("sets").serdes(String::serde(), String::serde()),
    );
    sets.to_stream().to("out", Produced::default());
    builder.build()
}
