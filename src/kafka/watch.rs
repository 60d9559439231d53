//! What librdkafka tells badly: that the brokers are back (it never says so), that they are still gone (it says so 20
//! times a second), and that a topic is missing (which a broker that has not heard of a new topic yet says as well).

use super::client::Inbox;
use super::code;
use crate::broker::Event;
use crate::error::Result;
use rdkafka::client::Client;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;
use std::time::{Duration, Instant};

/// How often brokers or topics that seem to be gone are looked for.
const AGAIN: Duration = Duration::from_secs(1);
/// A topic that is unknown for so long is missing.
const MISSING_AFTER: Duration = Duration::from_secs(4);

/// Brokers and topics that seem to be gone.
#[derive(Default)]
pub(super) struct Watch {
    /// When to look for the brokers again; `None` while they are there.
    brokers: Option<Instant>,
    /// They are back, and nobody has been told yet.
    back: bool,
    /// Topics, since when, and when to look for them again.
    topics: Vec<(String, Instant, Instant)>,
}

impl Watch {
    /// All brokers are down: an event the first time.
    pub(super) fn brokers_down(&mut self, words: String) -> Option<Event> {
        let known = self.brokers.replace(self.brokers.unwrap_or_else(|| Instant::now() + AGAIN));
        known
            .is_none()
            .then(|| Event::Trouble(code::error(RDKafkaErrorCode::AllBrokersDown, "consuming").source(words)))
    }

    /// While all brokers are down, a request need not wait for its own time to find out. Who asks may ask for nothing else, and
    /// poll nothing, until he is answered: so this looks for the brokers as well, and waits until it is time to.
    pub(super) fn check(&mut self, client: &Client<Inbox>, doing: &str) -> Result {
        if let Some(at) = self.brokers {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            self.look_for_brokers(client);
        }
        match self.brokers {
            Some(_) => Err(code::error(RDKafkaErrorCode::AllBrokersDown, doing)),
            None => Ok(()),
        }
    }

    fn look_for_brokers(&mut self, client: &Client<Inbox>) {
        let now = Instant::now();
        if self.brokers.is_some_and(|at| at <= now) {
            self.back = is_connected(client);
            self.brokers = (!self.back).then_some(now + AGAIN);
        }
    }

    /// A broker doesn't know this topic.
    pub(super) fn topic_unknown(&mut self, topic: String) {
        if !self.topics.iter().any(|(known, ..)| *known == topic) {
            let now = Instant::now();
            self.topics.push((topic, now, now));
        }
    }

    /// Looks again for what seems to be gone, where it is time to. Costs nothing while nothing is gone.
    pub(super) fn look(&mut self, client: &Client<Inbox>, events: &mut Vec<Event>) {
        if self.brokers.is_none() && self.topics.is_empty() && !self.back {
            return;
        }
        self.look_for_brokers(client);
        if std::mem::take(&mut self.back) {
            events.push(Event::TroubleOver);
        }
        if self.brokers.is_some() {
            return;
        }
        let now = Instant::now();
        self.topics.retain_mut(|(topic, since, again)| {
            if *again > now {
                return true;
            }
            *again = now + AGAIN;
            let Ok(found) = client.fetch_metadata(Some(topic), AGAIN) else { return true };
            let unknown =
                |code| matches!(code, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic);
            let is_unknown = |t: &rdkafka::metadata::MetadataTopic| t.error().is_some_and(|e| unknown(e.into()));
            if !found.topics().iter().any(is_unknown) {
                // The group has to hear that its partitions are there, and librdkafka tells it after a look at all topics only.
                drop(client.fetch_metadata(None, AGAIN));
                return false;
            }
            if since.elapsed() < MISSING_AFTER {
                return true;
            }
            events.push(Event::MissingTopic(topic.clone()));
            false
        });
    }
}

/// Whether any broker can be asked something.
fn is_connected(client: &Client<Inbox>) -> bool {
    let mut metadata = std::ptr::null();
    // SAFETY: the client is alive; metadata that arrives within the millisecond is given back.
    unsafe {
        let error = sys::rd_kafka_metadata(client.native_ptr(), 0, std::ptr::null_mut(), &mut metadata, 1);
        if !metadata.is_null() {
            sys::rd_kafka_metadata_destroy(metadata);
        }
        // This one says that no broker is there to ask; any other, even a time-out, that one was asked.
        error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TRANSPORT
    }
}
