//! The binary's commands as a user types them, without a Kafka.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/search-join.toml");
const LIMIT: Duration = Duration::from_secs(60);

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_watersmeet"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WATERSMEET_")) {
        command.env_remove(name);
    }
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(arguments).output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// A free port on which nobody listens.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

#[test]
fn help_names_commands_and_exit_codes() {
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, 0);
    for word in ["demo", "run", "topology", "check", "dlq", "Exit codes"] {
        assert!(help.contains(word), "{word} is not in:\n{help}");
    }
    assert_eq!(run(&["run", "--help"]).0, 0);
    let (code, version, _) = run(&["--version"]);
    assert_eq!((code, version.trim()), (0, concat!("watersmeet ", env!("CARGO_PKG_VERSION"))));
    assert_eq!(run(&["runn"]).0, 2);
    assert_eq!(run(&[]).0, 2);
}

#[test]
fn dead_letters_are_asked_for_by_name_and_replayed_only_where_they_are_chosen() {
    let wrong: [(&[&str], &str); 3] = [
        (&["dlq", "list"], "--topic"),
        (&["dlq", "replay", "--topic", "dead"], "--all"),
        (&["dlq", "show", "--topic", "dead", "17"], "PARTITION@OFFSET"),
    ];
    for (arguments, says) in wrong {
        let (code, _, errors) = run(arguments);
        assert_eq!(code, 2, "{arguments:?}: {errors}");
        assert!(errors.contains(says), "{arguments:?}: {errors}");
    }
}

#[test]
fn wrong_configuration_is_named_with_what_was_probably_meant() {
    let wrong = [
        ("streams.num.stream.thread=3", "did you mean streams.num.stream.threads?"),
        ("streams.num.stream.threads=three", "a whole number"),
        ("errors.production=ignore", "fail, continue, dead-letter"),
        ("consumer.fetch.wait.max.milliseconds=5", "no setting of librdkafka"),
        ("streams.num.stream.threads", "has no \"=\""),
    ];
    for (setting, says) in wrong {
        let (code, _, errors) = run(&["run", "--config", FILE, "--set", setting]);
        assert_eq!(code, 2, "{setting}: {errors}");
        assert!(errors.contains(says), "{setting}: {errors}");
    }
    let (code, _, errors) = run(&["run", "--config", "/no/such/file.toml"]);
    assert_eq!(code, 2);
    assert!(errors.contains("/no/such/file.toml") && errors.contains("--config"), "{errors}");
}

#[test]
fn settings_come_from_file_then_environment_then_set() {
    let topology = |set: &[&str], variable: Option<&str>| {
        let mut command = command(&["topology", "--config", FILE]);
        command.args(set).envs(variable.map(|value| ("WATERSMEET_JOIN_STREAM_TOPIC", value)));
        String::from_utf8(command.output().expect("runs").stdout).expect("text")
    };
    assert!(topology(&[], None).contains("topics: [MSG-SOURCE-B]"));
    assert!(topology(&[], Some("seen")).contains("topics: [seen]"));
    assert!(topology(&["--set", "join.stream.topic=events"], Some("seen")).contains("topics: [events]"));
}

#[test]
fn the_topology_comes_in_four_formats() {
    let topology = |format: &str| {
        let (code, text, errors) = run(&["topology", "--config", FILE, "--format", format]);
        assert_eq!((code, errors.as_str()), (0, ""), "{format}");
        text
    };
    let text = topology("text");
    assert!(text.starts_with("Topologies:\n   Sub-topology: 0"), "{text}");
    assert!(text.contains("Sink:") && text.contains("(topic: MSG-MERGED)"), "{text}");
    assert!(["flowchart", "graph"].iter().any(|word| topology("mermaid").starts_with(word)));
    assert!(topology("dot").starts_with("digraph"));
    let json: serde_json::Value = serde_json::from_str(&topology("json")).expect("JSON");
    assert!(json.to_string().contains("MSG-SOURCE-A"));
    assert_eq!(run(&["topology", "--config", FILE, "--format", "svg"]).0, 2);
}

#[test]
fn check_says_what_it_could_not_see() {
    let servers = format!("streams.bootstrap.servers=127.0.0.1:{}", closed_port());
    let (code, out, errors) = run(&["check", "--config", FILE, "--set", &servers]);
    assert_eq!(code, 3, "{errors}");
    assert!(out.contains("configuration: ok") && out.contains("Read, Describe on topic MSG-SOURCE-A"), "{out}");
    assert!(errors.contains("problem: ") && errors.contains("Next: "), "{errors}");
}

/// Runs `demo` and reads the first lines, or all; returns the exit code, what was read and standard error.
fn demo(arguments: &[&str], lines: Option<usize>) -> (i32, String, String) {
    let mut child = command(&["demo"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let (out, mut errors) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let mut text = String::new();
    for line in BufReader::new(out).lines().map_while(Result::ok).take(lines.unwrap_or(usize::MAX)) {
        text.push_str(&line);
        text.push('\n');
    }
    // The pipe is closed now.
    let (ended, end) = channel();
    let pid = child.id();
    std::thread::spawn(move || {
        let mut said = String::new();
        let read = errors.read_to_string(&mut said);
        let code = child.wait().expect("a child of ours").code();
        // The test may have given up.
        let _ = ended.send((code.unwrap_or(-1), read.map(|_| said).unwrap_or_default()));
    });
    let (code, errors) = end.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("demo (pid {pid}) does not end: {text}"));
    (code, text, errors)
}

#[test]
fn the_demo_joins_every_film_and_ends_when_told() {
    let (code, text, errors) = demo(&["--for", "8s"], None);
    assert_eq!((code, errors.as_str()), (0, ""), "{text}");
    let last = text.lines().last().expect("a last line");
    assert!(last.starts_with("merged=3201 dropped=1 dead-lettered=4 in "), "{last}");
    for step in ["1  Starting", "2  Loading 3201 films", "3  Joining", "4  Done: 3201 merged"] {
        assert!(text.lines().any(|line| line.starts_with(step)), "{step} is not in:\n{text}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let (_, text, errors) = demo(&["--for", "2s"], Some(1));
    assert_eq!(text.lines().count(), 1);
    assert!(!errors.contains("panicked"), "{errors}");
    let mut child = command(&["topology", "--config", FILE]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.as_mut().expect("the program starts");
    drop(child.stdout.take());
    let mut errors = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
    child.wait().expect("a child of ours");
    assert!(!errors.contains("panicked"), "{errors}");
}
