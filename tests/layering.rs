//! The layers of the source tree, as a test: who may use whom, which folder may name which library, how long a file may be.
//!
//! A failure here means that a seam is in the wrong place, or that the table is: change it only together with
//! ARCHITECTURE.md, and say why.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Module, and the modules of this crate that it may use. Lowest layer first; see ARCHITECTURE.md.
const ALLOWED: &[(&str, &[&str])] = &[
    // 0: words that everyone uses
    ("error", &[]),
    ("record", &[]),
    ("clock", &[]),
    ("backoff", &[]),
    ("config", &["error"]),
    ("status", &[]),
    // 1: bytes <-> values; what Kafka looks like from inside
    ("serdes", &["error", "record"]),
    ("broker", &["error", "record"]),
    ("partitioner", &[]),
    ("windows", &["error", "record", "serdes"]),
    // 2: stores; the Kafka adapter
    ("state", &["broker", "config", "error", "record", "serdes"]),
    ("kafka", &["broker", "config", "error", "record"]),
    ("search", &["backoff", "clock", "error"]),
    // 3: operators know stores and the next port, not Kafka's client
    (
        "operators",
        &["backoff", "broker", "config", "error", "partitioner", "record", "search", "serdes", "state", "windows"],
    ),
    // 4: the graph holds operators as opaque boxes
    ("topology", &["broker", "error", "operators", "record", "serdes", "state"]),
    ("metrics", &["operators", "status"]),
    // 5: siblings that meet only in `topology`
    (
        "dsl",
        &[
            "backoff",
            "config",
            "error",
            "operators",
            "partitioner",
            "record",
            "search",
            "serdes",
            "state",
            "topology",
            "windows",
        ],
    ),
    (
        "runtime",
        &[
            "broker",
            "clock",
            "config",
            "error",
            "metrics",
            "operators",
            "partitioner",
            "record",
            "serdes",
            "state",
            "status",
            "topology",
        ],
    ),
    // 6: those who watch, ask and write
    ("queries", &["broker", "error", "operators", "record", "runtime", "serdes", "state"]),
    ("producer", &["broker", "config", "dsl", "error", "kafka", "partitioner", "record", "serdes"]),
    ("http", &["broker", "error", "metrics", "queries", "runtime", "serdes", "state", "status"]),
    // 7: what a user has in hand, and what runs a topology without Kafka
    (
        "streams",
        &[
            "broker", "clock", "config", "dsl", "error", "http", "kafka", "metrics", "producer", "queries", "runtime",
            "state", "status", "topology",
        ],
    ),
    (
        "testing",
        &[
            "broker",
            "clock",
            "config",
            "dsl",
            "error",
            "operators",
            "partitioner",
            "record",
            "runtime",
            "serdes",
            "state",
            "status",
            "topology",
        ],
    ),
];

/// Single files that may do more than their module, and why.
const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("operators/source.rs", "topology", "implements the trait under which the graph holds a source")];

/// A library, and the only place in `src` that names it.
const OWNERS: &[(&str, &str)] = &[
    ("rdkafka", "kafka/"),
    ("rdkafka_sys", "kafka/"),
    ("rocksdb", "state/"),
    ("warp", "http"),
    ("prometheus", "metrics"),
    ("bincode", "serdes/"),
    ("tantivy", "search/embedded/"),
    ("hyper", "search/opensearch/"),
    ("ureq", "http/"),
    ("native_tls", "search/opensearch/"),
    ("clap", "bin/"),
    ("tracing_subscriber", "bin/"),
];

/// A call, the only place in `src` that makes it, and why.
const CALLS: &[(&str, &str, &str)] = &[
    ("SystemTime::now(", "clock.rs", "take a clock::Clock, so that a simulation with the same seed repeats itself"),
    ("process::exit(", "bin/", "return the exit code: state must be flushed and threads joined first"),
];

const LINES_MAX: usize = 700;

#[test]
fn modules_use_only_the_layers_below() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let module = file.split(['/', '.']).next().unwrap();
        if matches!(module, "lib" | "bin") || file.ends_with("/tests.rs") {
            continue; // glue; unit tests may reach further
        }
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{file}: module {module} is not in the table of tests/layering.rs"));
            continue;
        };
        for used in used_modules(&product_code(&text)) {
            let exception = EXCEPTIONS.iter().any(|(f, m, _)| *f == file && *m == used);
            if used != module && !allowed.contains(&used.as_str()) && !exception {
                wrong.push(format!("{file}: {module} may not use {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "layers broken:\n  {}", wrong.join("\n  "));
}

#[test]
fn exceptions_are_still_needed() {
    let sources = sources();
    for (file, module, why) in EXCEPTIONS {
        let text = sources.iter().find(|(f, _)| f == file).map(|(_, text)| product_code(text));
        let used = text.is_some_and(|text| used_modules(&text).contains(*module));
        assert!(used, "{file} does not use {module} any more ({why}): remove the exception");
    }
}

#[test]
fn each_library_is_named_in_one_place() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let code = without_comments(&text);
        for (library, owner) in OWNERS {
            if !file.starts_with(owner) && names_library(&code, library) {
                wrong.push(format!("{file} names {library}, which belongs to src/{owner}"));
            }
        }
    }
    assert!(wrong.is_empty(), "libraries out of place:\n  {}", wrong.join("\n  "));
}

#[test]
fn calls_to_the_system_are_made_in_one_place() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let code = product_code(&text);
        for (call, owner, instead) in CALLS {
            if !file.starts_with(owner) && code.contains(call) {
                wrong.push(format!("{file} calls {call}…): {instead}"));
            }
        }
    }
    assert!(wrong.is_empty(), "calls out of place:\n  {}", wrong.join("\n  "));
}

#[test]
fn files_stay_small() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(file, text)| (file, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "longer than {LINES_MAX} lines: {long:?}");
}

/// Every `.rs` file below `src`, by its path there, with `/` on every system.
fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    assert!(!files.is_empty(), "no sources below {}", root.display());
    let name = |f: &Path| f.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
    files.iter().map(|f| (name(f), std::fs::read_to_string(f).unwrap())).collect()
}

/// Comments cut out. Good enough for this tree: a `//` inside a string also ends the line, which can only hide a name, not
/// invent one.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The code without comments and without its unit tests, which may reach further (by convention the last item of a file).
fn product_code(text: &str) -> String {
    let code = without_comments(text);
    match code.find("#[cfg(test)]\nmod tests {") {
        Some(start) => code[..start].to_string(),
        None => code,
    }
}

/// The `x` of every `crate::x` and of every `crate::{x…, y…}`.
fn used_modules(code: &str) -> BTreeSet<String> {
    let word = |s: &str| s.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut used = BTreeSet::new();
    for (at, start) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + start.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            used.insert(word(rest));
            continue;
        };
        // The names at depth 0 of the braces.
        let (mut depth, mut item) = (0, 0);
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    used.insert(word(&list[item..i]));
                    item = i + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    used.remove("");
    used
}

/// True where the code has `library::…` or `use library;`, and not as a part of a longer path or word.
fn names_library(code: &str, library: &str) -> bool {
    code.match_indices(library).any(|(at, _)| {
        let before = &code[..at];
        let after = &code[at + library.len()..];
        let own = before.ends_with("::") && !before.trim_end_matches("::").ends_with([' ', '\n', '(', '<', '&']);
        let inside = before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"' || c == '.') || own;
        !inside && (after.starts_with("::") || (before.ends_with("use ") && after.starts_with(';')))
    })
}

#[test]
fn the_reading_of_sources_works() {
    let code = "use crate::error::Result;\nuse crate::{broker::{A, B}, state};\nlet x = crate::http::serve();\nmy_crate::no::x();";
    assert_eq!(used_modules(code).into_iter().collect::<Vec<_>>(), ["broker", "error", "http", "state"]);
    assert!(names_library("use rocksdb::DB;", "rocksdb"));
    assert!(names_library("let x: &rocksdb::DB", "rocksdb"));
    assert!(names_library("use ::rocksdb::DB;", "rocksdb"));
    assert!(!names_library("use crate::state::rocksdb::open;", "rocksdb"));
    assert!(!names_library("Materialized::rocksdb(\"products\")", "rocksdb"));
    assert!(!names_library("\"rocksdb::x\"", "rocksdb"));
    assert_eq!(product_code("a\n#[cfg(test)]\nmod tests {\nuse crate::dsl;\n}"), "a\n");
}
