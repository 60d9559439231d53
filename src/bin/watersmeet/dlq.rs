//! `watersmeet dlq`: what is in a dead-letter topic, and back with it to where it came from.

use crate::READER_IS_GONE;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use watersmeet::broker::{
    Batch, Broker, Consumer, Event, Isolation, Outgoing, Producer, RawRecord, Role, TopicPartition, Written,
};
use watersmeet::config::{Config, Settings};
use watersmeet::error::{Error, Kind, Result};
use watersmeet::kafka::KafkaBroker;
use watersmeet::record::Headers;

const PREFIX: &str = "__streams.errors.";
/// Says of a record that was replayed which dead letter it was.
const REPLAYED: &str = "__watersmeet.replayed";
/// How long the brokers may take.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// Where a dead letter is in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct At {
    partition: i32,
    offset: i64,
}

impl std::str::FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('@').and_then(|(p, o)| Some((p.parse().ok()?, o.parse().ok()?)));
        let (partition, offset) = parts.ok_or("write it as list does: PARTITION@OFFSET, such as 0@17")?;
        Ok(Self { partition, offset })
    }
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

/// A dead letter.
struct Letter {
    at: At,
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Headers,
}

impl Letter {
    fn header(&self, name: &str) -> Option<String> {
        self.headers.last(&format!("{PREFIX}{name}")).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// Where it came from: topic, and partition and offset where they are known.
    fn origin(&self) -> String {
        let topic = self.header("topic").unwrap_or_else(|| "(not said)".into());
        match (self.header("partition"), self.header("offset")) {
            (Some(partition), Some(offset)) => format!("{topic}-{partition}@{offset}"),
            _ => topic,
        }
    }

    /// A result that the broker refused: it has no value any more, and where it should go is not where it came from.
    fn is_result(&self) -> bool {
        self.header("exception").is_some_and(|exception| exception == "watersmeet::Production")
    }

    fn fits(&self, filter: &Filter) -> bool {
        let has = |text: &Option<String>, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| text.as_ref().is_some_and(|text| text.contains(wanted)))
        };
        let of_topic = filter.from_topic.is_none() || self.header("topic") == filter.from_topic;
        let somewhere = || {
            [self.header("message"), Some(text(self.key.as_deref())), Some(text(self.value.as_deref()))]
                .iter()
                .any(|part| has(part, &filter.contains))
        };
        of_topic && has(&self.header("exception"), &filter.exception) && somewhere()
    }

    /// The headers that it came with.
    fn own_headers(&self) -> Headers {
        let mut headers = Headers::default();
        for header in self.headers.iter().filter(|header| !header.name.starts_with(PREFIX)) {
            headers.add(header.name.clone(), header.value.as_deref());
        }
        headers
    }
}

pub(crate) fn dlq(options: &Options) -> Result<ExitCode> {
    match &options.command {
        Command::List { place, filter, limit, json } => {
            let mut letters = place.open()?.read(None)?;
            letters.retain(|letter| letter.fits(filter));
            letters.sort_by_key(|letter| (letter.timestamp_ms, letter.at));
            let first = if *limit == 0 { 0 } else { letters.len().saturating_sub(*limit) };
            for letter in &letters[first..] {
                if READER_IS_GONE.load(Ordering::Relaxed) {
                    break;
                }
                list(letter, *json);
            }
            if !json {
                let shown = letters.len() - first;
                eprintln!("{shown} of {} dead letters", letters.len());
            }
        }
        Command::Show { place, which } => show(&place.open()?.one(*which)?),
        Command::Replay { place, filter, which, all, to, dry_run } => {
            if which.is_empty() && !all {
                return Err(Error::new(Kind::Config, "nothing is chosen")
                    .hint("name dead letters as `list` does (0@17), or choose all with --all"));
            }
            let topic = place.open()?;
            let mut letters = match which.is_empty() {
                true => topic.read(None)?,
                false => which.iter().map(|at| topic.one(*at)).collect::<Result<Vec<_>>>()?,
            };
            letters.retain(|letter| letter.fits(filter));
            letters.sort_by_key(|letter| letter.at);
            return topic.replay(&letters, to.as_deref(), *dry_run);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(letter: &Letter, json: bool) {
    let says = |name: &str| letter.header(name).unwrap_or_default();
    if json {
        let line = json!({
            "at": letter.at.to_string(),
            "timestamp_ms": letter.timestamp_ms,
            "from": letter.origin(),
            "topic": letter.header("topic"),
            "exception": letter.header("exception"),
            "message": letter.header("message"),
            "key": text(letter.key.as_deref()),
            "value": text(letter.value.as_deref()),
        });
        return out!("{line}");
    }
    let key = letter.key.as_deref().map_or("(no key)".into(), |key| text(Some(key)));
    let message = says("message").replace('\n', " ");
    out!("{:<10} {:<40} {:<28} {}  {}", letter.at.to_string(), letter.origin(), says("exception"), key, message);
}

fn show(letter: &Letter) {
    out!("at         {}", letter.at);
    out!("timestamp  {} ms", letter.timestamp_ms);
    out!("from       {}", letter.origin());
    for header in letter.headers.iter() {
        out!("header     {} = {}", header.name, text(header.value.as_deref()));
    }
    out!("key        {}", text(letter.key.as_deref()));
    out!("value      {}", text(letter.value.as_deref()));
}

/// Bytes for people: text where they are that, else in hexadecimal digits.
fn text(bytes: Option<&[u8]>) -> String {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => "(null)".into(),
        Some((Ok(text), _)) => text.to_owned(),
        Some((Err(_), bytes)) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{digits}")
        }
    }
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

/// The topic, open.
struct DeadLetters {
    broker: KafkaBroker,
    topic: String,
    partitions: i32,
}

impl DeadLetters {
    fn open(config: &Config, topic: String) -> Result<Self> {
        let broker = KafkaBroker::connect(config, None)?;
        let found = broker.admin()?.topics(std::slice::from_ref(&topic))?.into_iter().flatten().next();
        let missing = || Error::new(Kind::BrokerFatal, "there is no such topic").topic(&topic);
        let partitions = found.ok_or_else(missing)?.partitions;
        Ok(Self { broker, topic, partitions })
    }

    fn consumer(&self) -> Result<Box<dyn Consumer>> {
        // What was not committed is no dead letter.
        self.broker.consumer(Role::Restore { thread: 1 }, Isolation::ReadCommitted)
    }

    fn one(&self, at: At) -> Result<Letter> {
        let found = if (0..self.partitions).contains(&at.partition) { self.read(Some(at))?.pop() } else { None };
        found.ok_or_else(|| {
            let missing = Error::new(Kind::Config, "there is no dead letter at this place").topic(&self.topic);
            missing.partition(at.partition).offset(at.offset).hint("look where they are: watersmeet dlq list")
        })
    }

    /// Everything that is there now; or only what is at this place.
    fn read(&self, only: Option<At>) -> Result<Vec<Letter>> {
        let mut consumer = self.consumer()?;
        let partitions = (0..self.partitions).filter(|p| only.is_none_or(|at| at.partition == *p));
        let partitions: Vec<_> = partitions.map(|p| TopicPartition::new(self.topic.as_str(), p)).collect();
        let mut starts = Vec::new();
        let mut open = Vec::new();
        for (partition, bounds) in partitions.iter().zip(consumer.offset_bounds(&partitions)?) {
            let (start, end) = match only {
                Some(at) if !bounds.contains(&at.offset) => continue,
                Some(at) => (at.offset, at.offset + 1),
                None => (bounds.start, bounds.end),
            };
            if start < end {
                starts.push((partition.clone(), Some(start)));
                open.push((partition.clone(), end));
            }
        }
        consumer.assign(&starts)?;
        let mut letters = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        let (mut batch, mut events) = (Batch::default(), Vec::new());
        while !open.is_empty() {
            batch.clear();
            consumer.poll(Duration::from_millis(100), 5_000, &mut batch, &mut events)?;
            let bytes = Rc::new(std::mem::take(&mut batch.bytes));
            for meta in batch.records.drain(..) {
                let source = &batch.sources[meta.source as usize];
                let Some((_, end)) = open.iter().find(|(partition, _)| partition == source) else { continue };
                if meta.offset < *end {
                    letters.push(letter(source.partition, &RawRecord { bytes: bytes.clone(), meta: meta.clone() }));
                }
                open.retain(|(partition, end)| partition != source || meta.offset + 1 < *end);
            }
            for event in events.drain(..) {
                match event {
                    // The last offsets may be those of a transaction's marker, which is no record.
                    Event::End { partition, .. } => open.retain(|(known, _)| *known != partition),
                    Event::Trouble(error) => eprintln!("watersmeet: {error}"),
                    _ => {}
                }
            }
            if Instant::now() > deadline && letters.is_empty() {
                return Err(Error::new(Kind::Broker, "the topic cannot be read").topic(&self.topic));
            }
        }
        letters.retain(|letter| only.is_none_or(|at| letter.at == at));
        Ok(letters)
    }

    fn replay(&self, letters: &[Letter], to: Option<&str>, dry_run: bool) -> Result<ExitCode> {
        let mut producer = self.broker.producer(1, None)?;
        let (mut sent, mut left) = (0, 0);
        for letter in letters {
            let target = match (to, letter.header("topic")) {
                _ if letter.is_result() => Err("it is a result that was refused, and its value is gone"),
                (Some(topic), _) => Ok(topic.to_owned()),
                (None, Some(topic)) => Ok(topic),
                (None, None) => Err("it does not say where it came from; name a topic with --to"),
            };
            match target {
                Ok(topic) => {
                    out!("{:<10} -> {topic}{}", letter.at.to_string(), if dry_run { " (not sent)" } else { "" });
                    if !dry_run {
                        self.send(&mut *producer, letter, &topic)?;
                    }
                    sent += 1;
                }
                Err(why) => {
                    eprintln!("{:<10} is left out: {why}", letter.at.to_string());
                    left += 1;
                }
            }
        }
        producer.flush(PATIENCE)?;
        let refused = producer.refused();
        for record in &refused {
            eprintln!("watersmeet: {}", record.error);
        }
        let done = sent - refused.len();
        eprintln!("{done} dead letters {}, {left} left out", if dry_run { "would be sent" } else { "sent" });
        Ok(if refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Key, value, timestamp and headers as they once were; the partition follows from the key.
    fn send(&self, producer: &mut dyn Producer, letter: &Letter, topic: &str) -> Result {
        let mut headers = letter.own_headers();
        headers.remove(REPLAYED);
        let partition = TopicPartition::new(self.topic.as_str(), letter.at.partition);
        let place = Written { partition, offset: letter.at.offset };
        headers.add(REPLAYED, Some(place.to_string().as_bytes()));
        let record = Outgoing {
            topic: &Arc::from(topic),
            partition: None,
            key: letter.key.as_deref(),
            value: letter.value.as_deref(),
            timestamp_ms: Some(letter.timestamp_ms).filter(|ms| *ms >= 0),
            headers: &headers,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match producer.send(record) {
                Err(error) if error.is_retriable() && Instant::now() < deadline => continue,
                sent => return sent,
            }
        }
    }
}

fn letter(partition: i32, record: &RawRecord) -> Letter {
    Letter {
        at: At { partition, offset: record.meta.offset },
        timestamp_ms: record.meta.timestamp_ms,
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: record.meta.headers.clone(),
    }
}
