//! The binary: a stream-table join from a configuration file, without code.

/// Prints a line to standard output, where somebody still reads it: `println!` panics when `| head` has had enough.
macro_rules! out {
    ($($text:tt)*) => { $crate::print_line(format_args!($($text)*)) };
}

mod check;
mod demo;
mod dlq;
mod join;
mod run;
mod topology;

use clap::{Args, Parser, Subcommand};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use watersmeet::config::Settings;
use watersmeet::error::{Error, Kind};

/// Joins a stream of one Kafka topic with a table of another, and serves its health. Kafka Streams for Rust.
///
/// Exit codes: 0 ended in order; 1 ended by an error while running; 2 wrong usage or configuration; 3 topics do not
/// fit together, or are not there; 4 not everything could be committed before shutdown.timeout.ms; 5 an
/// instance has ended the application.
#[derive(Parser)]
#[command(version, about, long_about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the main job on real data, on a Kafka inside this process.
    Demo(demo::Options),
    /// Runs the join that the file describes, until SIGTERM or SIGINT.
    Run(FileOptions),
    /// Prints the topology that the file describes.
    Topology(topology::Options),
    /// Checks everything that can be known before starting: keys, brokers, topics, partitions, permissions.
    Check(FileOptions),
    /// Lists, shows and replays dead letters.
    Dlq(dlq::Options),
}

/// Where the configuration comes from.
#[derive(Args)]
struct FileOptions {
    /// The configuration file.
    #[arg(long, short, default_value = "config/search-join.toml")]
    config: PathBuf,
    /// Sets a key over the file and the environment, such as streams.bootstrap.servers=localhost:9092. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

impl FileOptions {
    fn settings(&self) -> watersmeet::error::Result<Settings> {
        let mut settings = Settings::load(&self.config)?;
        self.overrides.iter().try_for_each(|assignment| settings.add_override(assignment))?;
        Ok(settings)
    }
}

/// Standard output is closed: nobody reads it any more.
static READER_IS_GONE: AtomicBool = AtomicBool::new(false);

fn print_line(text: std::fmt::Arguments<'_>) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        READER_IS_GONE.store(true, Ordering::Relaxed);
    }
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WATERSMEET_LOG");
    let cli = Cli::parse();
    let default = if matches!(cli.command, Command::Run(_)) { "info" } else { "error" };
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| default.into()))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let ended = match cli.command {
        Command::Demo(options) => demo::demo(&options),
        Command::Run(options) => run::run(&options),
        Command::Topology(options) => topology::topology(&options),
        Command::Check(options) => check::check(&options),
        Command::Dlq(options) => dlq::dlq(&options),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("watersmeet: {error}");
        ExitCode::from(exit_code(&error))
    })
}

fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        Kind::Config => 2,
        Kind::Topology | Kind::Broker | Kind::BrokerFatal => 3,
        _ => 1,
    }
}
