//! Simulations of whole applications: see `watersmeet::testing::Simulation`. Without arguments some seeds of each scenario, as
//! a test; `./dev sim` runs more of them, or shows one.

mod scenarios;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use watersmeet::testing::Violation;

const USAGE: &str = "usage: sim [--seeds A..B] [--scenario NAME] [--threads N]
                      runs these seeds, each with the scenario that is its turn
       sim --seed N [--scenario NAME] [--detailed]
                      runs one seed twice, compares the runs, and prints what happened";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(usage) => {
            eprintln!("{usage}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

#[derive(Default)]
struct Options {
    seed: Option<u64>,
    seeds: Option<(u64, u64)>,
    scenario: Option<String>,
    threads: Option<usize>,
    detailed: bool,
}

fn run(arguments: &[String]) -> Result<bool, String> {
    let mut options = Options::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text} is not a number"));
        match argument.as_str() {
            "--seed" => options.seed = Some(number(value()?)?),
            "--seeds" => {
                let (from, to) = value()?.split_once("..").ok_or("--seeds wants A..B")?;
                options.seeds = Some((number(from)?, number(to)?));
            }
            "--scenario" => options.scenario = Some(value()?.clone()),
            "--threads" => options.threads = Some(number(value()?)? as usize),
            "--detailed" => options.detailed = true,
            // What `cargo test` may pass to every test program.
            "--nocapture" | "--quiet" | "-q" => {}
            other => return Err(format!("there is no option {other}")),
        }
    }
    if let Some(name) = &options.scenario
        && !scenarios::NAMES.contains(&name.as_str())
    {
        return Err(format!("there is no scenario {name}: {}", scenarios::NAMES.join(", ")));
    }
    Ok(match options.seed {
        Some(seed) => one(seed, &options),
        None => many(&options),
    })
}

fn name(seed: u64, options: &Options) -> &str {
    options.scenario.as_deref().unwrap_or(scenarios::NAMES[(seed % scenarios::NAMES.len() as u64) as usize])
}

/// Every scenario under both guarantees.
fn exactly_once(seed: u64) -> bool {
    (seed / scenarios::NAMES.len() as u64) % 2 == 1
}

fn guarantee(seed: u64) -> &'static str {
    if exactly_once(seed) { "exactly once" } else { "at least once" }
}

/// One seed, twice: the same must happen.
fn one(seed: u64, options: &Options) -> bool {
    let name = name(seed, options);
    let simulation = scenarios::scenario(name, exactly_once(seed), seed);
    let simulation = if options.detailed { simulation.detailed() } else { simulation };
    let runs = [simulation.run(seed), simulation.run(seed)];
    let text = |run: &Result<watersmeet::testing::Outcome, _>| match run {
        Ok(outcome) => format!("{}\n{outcome:?}", outcome.trace.join("\n")),
        Err(violation) => format!("{violation}"),
    };
    let [first, second] = runs.each_ref().map(text);
    println!("scenario {name}, {}\n{first}", guarantee(seed));
    if first != second {
        let differ = first.lines().zip(second.lines()).find(|(a, b)| a != b);
        println!("NOT THE SAME when it ran again: {differ:?}");
    }
    runs[0].is_ok() && first == second
}

fn many(options: &Options) -> bool {
    let (from, to) = options.seeds.unwrap_or((0, 450));
    let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (next, faults, stop) = (AtomicU64::new(from), AtomicU64::new(0), AtomicBool::new(false));
    let wrong: Mutex<BTreeMap<u64, String>> = Mutex::default();
    let begun = Instant::now();
    // What panics is told as a violation, with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to {
                        break;
                    }
                    let run = || scenarios::scenario(name(seed, options), exactly_once(seed), seed).run(seed);
                    let run = std::panic::catch_unwind(run).unwrap_or_else(|_| {
                        let what = "the simulation itself panicked".to_string();
                        Err(Box::new(Violation { seed, what, trace: Vec::new() }))
                    });
                    match run {
                        Ok(outcome) => _ = faults.fetch_add(outcome.faults, Ordering::Relaxed),
                        Err(violation) => {
                            let mut wrong = wrong.lock().expect("no holder panics");
                            wrong.insert(seed, violation.what.clone());
                            stop.store(wrong.len() >= 20, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no holder panics");
    for (seed, what) in &wrong {
        println!("seed {seed} ({}, {}): {what}", name(*seed, options), guarantee(*seed));
    }
    if let Some(seed) = wrong.keys().next() {
        println!("see what happened with: ./dev sim --seed {seed}");
    }
    let (seeds, seconds) = (next.load(Ordering::Relaxed).min(to) - from, begun.elapsed().as_secs_f64());
    let faults = faults.load(Ordering::Relaxed);
    println!("{seeds} seeds in {seconds:.1} s, {faults} faults, {} violations", wrong.len());
    // As the last line of every test program reads.
    let (passed, failed) = (seeds - wrong.len() as u64, wrong.len());
    println!("test result: {}. {passed} passed; {failed} failed", if failed == 0 { "ok" } else { "FAILED" });
    failed == 0
}
