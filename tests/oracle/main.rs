//! Kafka Streams' own answers as tests: each case is a topology, records, and everything that Kafka Streams made of them.
//! See `cases/README.md` for where they come from, and `./dev oracle` for how to run some of them.

mod aggregators;
mod case;
mod compare;
mod functions;
mod interpreter;
mod processors;
mod report;
mod run;
mod store_commands;
mod stores;
mod val;

use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: oracle [--need A,B|all] [--show N] [--known] [DIR|CASE...]
                              runs cases and compares with what is expected, in the aspects A, B;
                              shows N differences, with --known also those that are known
       oracle --serve         a case a line in, an answer a line out
       oracle --answer CASE   the answer to one case";

fn main() -> ExitCode {
    // A case that panics is a case that fails; its message is in the answer.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--serve"] => serve(),
        ["--answer", path] => answer(Path::new(path)),
        _ => test(&arguments),
    }
}

/// A case per line in, an answer per line out.
fn serve() -> ExitCode {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return ExitCode::FAILURE };
        let answer = match serde_json::from_str(&line) {
            Ok(case) => run::run(&case),
            Err(error) => json!({"error": {"phase": "case", "message": error.to_string()}}),
        };
        if writeln!(out, "{answer}").and_then(|()| out.flush()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn answer(path: &Path) -> ExitCode {
    match read(path) {
        Ok(case) => {
            println!("{:#}", run::run(&case));
            ExitCode::SUCCESS
        }
        Err(error) => usage(&error),
    }
}

fn usage(error: &str) -> ExitCode {
    eprintln!("{error}\n{USAGE}");
    ExitCode::from(2)
}

/// Runs all cases under the given folders, or those that are named.
fn test(arguments: &[String]) -> ExitCode {
    let (mut need, mut show, mut paths, mut known) = (Vec::new(), usize::MAX, Vec::new(), true);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--need" => match rest.next() {
                Some(list) if list != "all" => need = list.split(',').map(str::to_owned).collect(),
                Some(_) => {}
                None => return usage("--need needs a list"),
            },
            "--show" => match rest.next().and_then(|n| n.parse().ok()) {
                Some(n) => show = n,
                None => return usage("--show needs a number"),
            },
            "--known" => known = false,
            // What cargo test hands to every test program, such as --quiet or a filter, is not for this one.
            flag if flag.starts_with('-') => {}
            path => paths.push(PathBuf::from(path)),
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/cases");
    let (mut cases, no_paths) = (Vec::new(), paths.is_empty());
    for path in paths {
        match [path.clone(), root.join(&path)].into_iter().find(|path| path.exists()) {
            Some(path) => find(&path, &mut cases),
            // The start of names: hand/join_.
            None => cases.extend(
                all(&root).into_iter().filter(|case| case.to_string_lossy().contains(&*path.to_string_lossy())),
            ),
        }
    }
    if no_paths {
        cases = all(&root);
    }
    cases.sort();
    let mut report = report::Report::new(need, show, if known { report::known(&root) } else { Default::default() });
    for path in &cases {
        let name = path.strip_prefix(&root).unwrap_or(path).with_extension("").display().to_string();
        match (read(path), read(&path.with_extension("expected.json"))) {
            (Ok(case), Ok(expected)) => report.add(&name, &expected, &run::run(&case)),
            (Err(error), _) | (_, Err(error)) => return usage(&error),
        }
    }
    report.print()
}

fn all(root: &Path) -> Vec<PathBuf> {
    let mut cases = Vec::new();
    find(root, &mut cases);
    cases
}

/// The cases under a folder.
fn find(path: &Path, cases: &mut Vec<PathBuf>) {
    let name = path.to_string_lossy();
    if let Ok(entries) = std::fs::read_dir(path) {
        entries.flatten().for_each(|entry| find(&entry.path(), cases));
    } else if name.ends_with(".json") && !name.ends_with(".expected.json") {
        cases.push(path.to_path_buf());
    }
}

fn read(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}
