//! `watersmeet dlq`: what is in a dead-letter topic, and back with it to where it came from.

mod letter;
mod topic;

use crate::READER_IS_GONE;
use clap::{Args, Subcommand};
use letter::{At, Letter};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use topic::DeadLetters;
use watersmeet::config::Settings;
use watersmeet::error::{Error, Kind, Result};

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One line for each dead letter: where it is, where it came from, and what was wrong.
    List {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        filter: Filter,
        /// No more than this many, the newest ones; 0 is all.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// As JSON, an object a line.
        #[arg(long)]
        json: bool,
    },
    /// Everything about one dead letter: headers, key and value.
    Show {
        #[command(flatten)]
        place: Place,
        /// Which one, as `list` names it: PARTITION@OFFSET.
        which: At,
    },
    /// Sends dead letters as they once came to the topics that they came from. They stay in the dead-letter topic, too.
    Replay {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        filter: Filter,
        /// Which ones, as `list` names them: PARTITION@OFFSET. Without any, --all is needed.
        which: Vec<At>,
        /// All of them, or all that --from-topic, --exception and --contains leave.
        #[arg(long)]
        all: bool,
        /// Another topic than the one that they came from.
        #[arg(long, value_name = "TOPIC")]
        to: Option<String>,
        /// Only says what would be sent.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which dead-letter topic, and on which Kafka.
#[derive(Args)]
struct Place {
    /// A configuration file, for bootstrap.servers, errors.dead.letter.topic and the clients' settings.
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// Sets a key over the file and the environment. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The brokers, in place of the file's bootstrap.servers.
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_server: Option<String>,
    /// The topic, in place of the file's errors.dead.letter.topic.
    #[arg(long)]
    topic: Option<String>,
}

/// Which of them.
#[derive(Args)]
struct Filter {
    /// Only those that came from this topic.
    #[arg(long, value_name = "TOPIC")]
    from_topic: Option<String>,
    /// Only those with this text in the name of their exception.
    #[arg(long, value_name = "TEXT")]
    exception: Option<String>,
    /// Only those with this text in their message, key or value.
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
}

pub(crate) fn dlq(options: &Options) -> Result<ExitCode> {
    match &options.command {
        Command::List { place, filter, limit, json } => {
            let (letters, found) = newest(&place.open()?, filter, *limit)?;
            for letter in &letters {
                if READER_IS_GONE.load(Ordering::Relaxed) {
                    break;
                }
                list(letter, *json);
            }
            if !json {
                eprintln!("{} of {found} dead letters", letters.len());
            }
        }
        Command::Show { place, which } => show(&place.open()?.one(*which)?),
        Command::Replay { place, filter, which, all, to, dry_run } => {
            if which.is_empty() && !all {
                return Err(Error::new(Kind::Config, "nothing is chosen")
                    .hint("name dead letters as `list` does (0@17), or choose all with --all"));
            }
            let topic = place.open()?;
            let mut replay = topic.replay(to.clone(), *dry_run)?;
            match which.is_empty() {
                true => topic.each(&mut |letter| {
                    if letter.fits(filter) {
                        replay.send(&letter)?;
                    }
                    Ok(true)
                })?,
                false => {
                    for at in which {
                        replay.send(&topic.one(*at)?)?;
                    }
                }
            }
            // Who names one wants it to be sent.
            let complete = which.is_empty() || replay.left_out == 0;
            return Ok(if replay.end()? && complete { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The newest ones, oldest first, and how many there are.
fn newest(topic: &DeadLetters, filter: &Filter, limit: usize) -> Result<(Vec<Letter>, usize)> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    let (mut letters, mut found) = (Vec::new(), 0);
    let trim = |letters: &mut Vec<Letter>| {
        letters.sort_by_key(|letter| (letter.timestamp_ms, letter.at));
        letters.drain(..letters.len().saturating_sub(limit));
    };
    topic.each(&mut |letter| {
        if letter.fits(filter) {
            found += 1;
            letters.push(letter);
            // Not for each one, and never many more than are wanted.
            if letters.len() >= limit.saturating_mul(2).max(1_000) {
                trim(&mut letters);
            }
        }
        Ok(true)
    })?;
    trim(&mut letters);
    Ok((letters, found))
}

fn list(letter: &Letter, json: bool) {
    if json {
        let line = json!({
            "at": letter.at.to_string(),
            "timestamp_ms": letter.timestamp_ms,
            "from": letter.origin(),
            "topic": letter.header("topic"),
            "exception": letter.header("exception"),
            "message": letter.header("message"),
            "key": letter::json(letter.key.as_deref()),
            "value": letter::json(letter.value.as_deref()),
        });
        return out!("{line}");
    }
    let says = |name: &str| letter::short(Some(letter.header(name).unwrap_or_default().as_bytes()), 1_000);
    let key = letter.key.as_deref().map_or("(no key)".into(), |key| letter::short(Some(key), 60));
    let (at, origin) = (letter.at.to_string(), letter::short(Some(letter.origin().as_bytes()), 200));
    out!("{at:<10} {origin:<40} {:<28} {key}  {}", says("exception"), says("message"));
}

fn show(letter: &Letter) {
    out!("at         {}", letter.at);
    out!("timestamp  {} ms", letter.timestamp_ms);
    out!("from       {}", letter::shown(Some(letter.origin().as_bytes())));
    for header in letter.headers.iter() {
        let name = letter::shown(Some(header.name.as_bytes()));
        out!("header     {name} = {}", letter::shown(header.value.as_deref()));
    }
    out!("key        {}", letter::shown(letter.key.as_deref()));
    out!("value      {}", letter::shown(letter.value.as_deref()));
}

impl Place {
    fn open(&self) -> Result<DeadLetters> {
        let mut settings = Settings::default();
        if let Some(file) = &self.config {
            settings = Settings::load(file)?;
        } else {
            // The file's one key that has no default; nothing here depends on it.
            settings.add_override("streams.application.id=watersmeet-dlq")?;
        }
        self.overrides.iter().try_for_each(|assignment| settings.add_override(assignment))?;
        let mut config = settings.config()?;
        if let Some(servers) = &self.bootstrap_server {
            config.bootstrap_servers.clone_from(servers);
        }
        let topic = self.topic.clone().or_else(|| config.errors.dead_letter_topic.clone());
        let topic = topic.ok_or_else(|| {
            Error::new(Kind::Config, "no dead-letter topic is named")
                .hint("name it with --topic, or give the application's file with --config")
        })?;
        DeadLetters::open(&config, topic)
    }
}
