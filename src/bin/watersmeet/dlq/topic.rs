//! A dead-letter topic: read letter by letter, so that it may be as long as it likes, and sent from.

use super::letter::{At, Letter};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use watersmeet::broker::{
    Batch, Broker, Consumer, Event, Isolation, Outgoing, Producer, RawRecord, Role, TopicPartition, Written,
};
use watersmeet::config::Config;
use watersmeet::error::{Error, Kind, Result};
use watersmeet::kafka::KafkaBroker;

/// Says of a record that was replayed which dead letter it was.
const REPLAYED: &str = "__watersmeet.replayed";
/// How long the brokers may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The topic, open.
pub(super) struct DeadLetters {
    broker: KafkaBroker,
    topic: String,
    partitions: i32,
}

impl DeadLetters {
    pub(super) fn open(config: &Config, topic: String) -> Result<Self> {
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

    pub(super) fn one(&self, at: At) -> Result<Letter> {
        let mut found = None;
        if (0..self.partitions).contains(&at.partition) {
            self.read(Some(at), &mut |letter| {
                found = Some(letter);
                Ok(true)
            })?;
        }
        found.ok_or_else(|| {
            let missing = Error::new(Kind::Config, "there is no dead letter at this place").topic(&self.topic);
            missing.partition(at.partition).offset(at.offset).hint("look where they are: watersmeet dlq list")
        })
    }

    /// Each one that is there now, as long as `each` wants more; those of a partition in their order.
    pub(super) fn each(&self, each: &mut dyn FnMut(Letter) -> Result<bool>) -> Result {
        self.read(None, each)
    }

    fn read(&self, only: Option<At>, each: &mut dyn FnMut(Letter) -> Result<bool>) -> Result {
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
        let mut heard = Instant::now();
        let (mut batch, mut events) = (Batch::default(), Vec::new());
        while !open.is_empty() {
            batch.clear();
            consumer.poll(Duration::from_millis(100), 5_000, &mut batch, &mut events)?;
            if !batch.records.is_empty() {
                heard = Instant::now();
            }
            let bytes = Rc::new(std::mem::take(&mut batch.bytes));
            for meta in batch.records.drain(..) {
                let source = &batch.sources[meta.source as usize];
                let Some((_, end)) = open.iter().find(|(partition, _)| partition == source) else { continue };
                let (offset, end) = (meta.offset, *end);
                if only.map_or(offset < end, |at| offset == at.offset)
                    && !each(Letter::new(source.partition, &RawRecord { bytes: bytes.clone(), meta }))?
                {
                    return Ok(());
                }
                open.retain(|(partition, _)| partition != source || offset + 1 < end);
            }
            for event in events.drain(..) {
                match event {
                    // The last offsets may be those of a transaction's marker, which is no record.
                    Event::End { partition, .. } => open.retain(|(known, _)| *known != partition),
                    Event::Trouble(error) => eprintln!("watersmeet: {error}"),
                    _ => {}
                }
            }
            if heard.elapsed() > PATIENCE {
                return Err(Error::new(Kind::Broker, "the topic cannot be read").topic(&self.topic));
            }
        }
        Ok(())
    }

    pub(super) fn replay(&self, to: Option<String>, dry_run: bool) -> Result<Replay> {
        let producer = self.broker.producer(1, None)?;
        Ok(Replay { producer, from: self.topic.clone(), to, dry_run, sent: 0, left_out: 0 })
    }
}

/// Dead letters on their way back.
pub(super) struct Replay {
    producer: Box<dyn Producer>,
    from: String,
    /// Another topic than the one that they came from.
    to: Option<String>,
    dry_run: bool,
    sent: usize,
    pub(super) left_out: usize,
}

impl Replay {
    pub(super) fn send(&mut self, letter: &Letter) -> Result {
        let target = match (letter.is_incomplete(), &self.to, letter.header("topic")) {
            (Some(why), ..) => Err(why),
            (None, Some(topic), _) => Ok(topic.clone()),
            (None, None, Some(topic)) => Ok(topic),
            (None, None, None) => Err("it does not say where it came from; name a topic with --to".into()),
        };
        let at = letter.at.to_string();
        match target {
            Ok(topic) => {
                out!("{at:<10} -> {topic}{}", if self.dry_run { " (not sent)" } else { "" });
                self.sent += 1;
                if self.dry_run { Ok(()) } else { self.produce(letter, &topic) }
            }
            Err(why) => {
                self.left_out += 1;
                eprintln!("{at:<10} is left out: {why}");
                Ok(())
            }
        }
    }

    /// Key, value, timestamp and headers as they once were; the partition follows from the key.
    fn produce(&mut self, letter: &Letter, topic: &str) -> Result {
        let mut headers = letter.own_headers();
        headers.remove(REPLAYED);
        let partition = TopicPartition::new(self.from.as_str(), letter.at.partition);
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
            match self.producer.send(record) {
                Err(error) if error.is_retriable() && Instant::now() < deadline => continue,
                sent => return sent,
            }
        }
    }

    /// Waits for the brokers' answers. True where all that was sent has been taken.
    pub(super) fn end(mut self) -> Result<bool> {
        self.producer.flush(PATIENCE)?;
        let refused = self.producer.refused();
        for record in &refused {
            eprintln!("watersmeet: {}", record.error);
        }
        let (done, left_out) = (self.sent - refused.len(), self.left_out);
        eprintln!("{done} dead letters {}, {left_out} left out", if self.dry_run { "would be sent" } else { "sent" });
        Ok(refused.is_empty())
    }
}
