//! librdkafka's settings: what watersmeet sets, what the user may override, and what must stay.

use super::code;
use super::members::with_server;
use crate::broker::{Isolation, Role};
use crate::config::{Config, TRANSACTION_TIMEOUT_MS};
use crate::error::{Error, Kind, Result};
use rdkafka::ClientConfig;

/// A consumer's defaults. Its memory is bounded by the queue (`consumer_queue_bytes`, 6 MB) and one fetch under way per broker
/// (`fetch_max_bytes`, 4 MB).
const CONSUMER: &[(&str, &str)] = &[
    ("auto.offset.reset", "earliest"),
    ("allow.auto.create.topics", "false"),
    // The loopback, TLS and the log's own checks cover this; it costs a tenth of the consumer's time.
    ("check.crcs", "false"),
    ("fetch.error.backoff.ms", "100"),
    ("fetch.message.max.bytes", "1048576"),
    // librdkafka's default of 1000 stalls a fast consumer for a second each time its queue is full.
    ("fetch.queue.backoff.ms", "5"),
    // Partitions that are assigned or resumed while a fetch waits at the broker have to wait for its end.
    ("fetch.wait.max.ms", "100"),
    ("isolation.level", "read_uncommitted"),
    ("queued.min.messages", "100000"),
    ("reconnect.backoff.max.ms", "1000"),
    ("socket.nagle.disable", "true"),
    ("topic.metadata.refresh.interval.ms", "30000"),
];

/// A producer's defaults. Its memory is bounded by the queue (`producer_queue_bytes`, 12 MB).
const PRODUCER: &[(&str, &str)] = &[
    ("batch.num.messages", "10000"),
    ("compression.codec", "none"),
    ("enable.idempotence", "true"),
    ("linger.ms", "5"),
    ("message.max.bytes", "1000000"),
    // Equal to Java's: murmur2 of the key, any partition for a null key; librdkafka's own default is CRC32.
    ("partitioner", "murmur2_random"),
    ("queue.buffering.max.messages", "100000"),
    ("reconnect.backoff.max.ms", "1000"),
    ("socket.nagle.disable", "true"),
];

/// An admin client's defaults.
const ADMIN: &[(&str, &str)] = &[("allow.auto.create.topics", "false"), ("reconnect.backoff.max.ms", "1000")];

/// What the runtime relies on, and why nobody may set it.
const MANAGED: &[(&str, &str)] = &[
    ("bootstrap.servers", "set bootstrap.servers under [streams] instead"),
    ("client.id", "set client.id under [streams] instead"),
    ("delivery.report.only.error", "the producer counts what was acknowledged by itself"),
    ("enable.auto.commit", "offsets are committed together with state, every commit.interval.ms"),
    ("enable.auto.offset.store", "offsets are committed together with state, every commit.interval.ms"),
    ("enable.partition.eof", "the runtime needs the ends of partitions to know its lag"),
    ("group.id", "the group is application.id under [streams]"),
    ("log.queue", "librdkafka's log goes to the application's"),
    ("transactional.id", "set processing.guarantee under [streams] instead"),
];

/// The settings of every client of one application, checked.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    consumer: ClientConfig,
    producer: ClientConfig,
    admin: ClientConfig,
    client_id: String,
    /// `application.server`.
    server: Option<String>,
    /// `group.instance.id` without the thread's number; `None`: a member that nobody remembers.
    instance_id: Option<String>,
}

impl Settings {
    /// Merges the user's settings over the defaults, and checks every one.
    pub(super) fn new(config: &Config, identity: Option<&str>) -> Result<Self> {
        let merged = |section: &str, defaults: &[(&str, &str)], user: &[(String, String)]| {
            let mut merged = ClientConfig::new();
            for (key, value) in defaults {
                merged.set(*key, *value);
            }
            for (key, value) in user {
                if let Some((_, instead)) = MANAGED.iter().find(|(managed, _)| managed == key) {
                    let what = "is managed by watersmeet and cannot be set here";
                    return Err(Error::new(Kind::Config, what).key(format!("{section}.{key}")).hint(*instead));
                }
                merged.set(key, value);
            }
            merged.set("bootstrap.servers", &config.bootstrap_servers);
            // Creating the native settings is what checks keys and values; no client is made.
            match merged.create_native_config() {
                Ok(_) => Ok(merged),
                Err(error) => Err(code::from_rdkafka(error, &format!("[{section}]"))),
            }
        };
        let kilobytes = |bytes: usize| (bytes >> 10).max(1).to_string();
        let (queue, sends) = (kilobytes(config.consumer_queue_bytes), kilobytes(config.producer_queue_bytes));
        let fetch = config.fetch_max_bytes.to_string();
        let of_consumer = [("queued.max.messages.kbytes", queue.as_str()), ("fetch.max.bytes", fetch.as_str())];
        let of_producer = [("queue.buffering.max.kbytes", sends.as_str())];
        let mut consumer = merged("consumer", &[CONSUMER, &of_consumer].concat(), &config.consumer)?;
        let mut producer = merged("producer", &[PRODUCER, &of_producer].concat(), &config.producer)?;
        let admin = merged("admin", ADMIN, &config.admin)?;

        let user_instance = consumer.get("group.instance.id").map(str::to_owned);
        let instance_id = if consumer.get("group.protocol").is_some_and(|p| p.eq_ignore_ascii_case("consumer")) {
            // Equal partition numbers of all topics go to one member: joins need that.
            if consumer.get("group.remote.assignor").is_none() {
                consumer.set("group.remote.assignor", "range");
            }
            // A static member of this protocol is locked out by its own earlier life until the session has run out.
            user_instance
        } else {
            if consumer.get("partition.assignment.strategy").is_none() {
                consumer.set("partition.assignment.strategy", "range");
            }
            user_instance.or_else(|| identity.map(str::to_owned))
        };
        consumer.remove("group.instance.id");
        consumer.set("group.id", &config.application_id);
        consumer.set("enable.auto.commit", "false");
        consumer.set("enable.auto.offset.store", "false");
        consumer.set("enable.partition.eof", "true");
        // Only failures cost a report; what was acknowledged is what was sent less what is left and what failed.
        producer.set("delivery.report.only.error", "true");

        let client_id = config.client_id.clone();
        let client_id = client_id.unwrap_or_else(|| format!("{}-{}", config.application_id, std::process::id()));
        let server = config.application_server.clone();
        Ok(Self { consumer, producer, admin, client_id, server, instance_id })
    }

    /// The settings of a consumer.
    pub(super) fn consumer(&self, role: &Role, isolation: Isolation) -> ClientConfig {
        let mut config = self.consumer.clone();
        if isolation == Isolation::ReadCommitted {
            config.set("isolation.level", "read_committed");
        }
        match role {
            Role::Main { thread } => {
                let client_id = format!("{}-StreamThread-{thread}-consumer", self.client_id);
                config.set("client.id", with_server(client_id, self.server.as_deref()));
                if let Some(instance) = &self.instance_id {
                    config.set("group.instance.id", format!("{instance}-{thread}"));
                }
            }
            Role::Restore { thread } => {
                config.set("client.id", format!("{}-StreamThread-{thread}-restore-consumer", self.client_id));
                // A changelog that lost records needs a fresh start of the store, not another offset.
                config.set("auto.offset.reset", "error");
            }
            Role::Global => {
                config.set("client.id", format!("{}-global-consumer", self.client_id));
                config.set("auto.offset.reset", "error");
            }
        }
        config
    }

    /// The settings of a stream thread's producer.
    pub(super) fn producer(&self, thread: usize, transactional_id: Option<&str>) -> ClientConfig {
        let mut config = self.producer.clone();
        if let Some(id) = transactional_id {
            config.set("transactional.id", id);
            if config.get("transaction.timeout.ms").is_none() {
                config.set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string());
            }
        }
        config.set("client.id", format!("{}-StreamThread-{thread}-producer", self.client_id));
        config
    }

    /// The settings of what an application sends its own records with: it wants an answer for each.
    pub(super) fn sender(&self) -> ClientConfig {
        let mut config = self.producer.clone();
        config.set("delivery.report.only.error", "false");
        config.set("client.id", format!("{}-sender", self.client_id));
        config
    }

    /// The settings of an admin client.
    pub(super) fn admin(&self) -> ClientConfig {
        let mut config = self.admin.clone();
        config.set("client.id", format!("{}-admin", self.client_id));
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(consumer: &[(&str, &str)]) -> Config {
        let mut config = Config::new("app");
        config.consumer = consumer.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        config
    }

    #[test]
    fn a_static_classic_member_with_range_is_the_default() {
        let settings = Settings::new(&config(&[]), Some("id")).unwrap();
        let main = settings.consumer(&Role::Main { thread: 2 }, Isolation::AsConfigured);
        assert_eq!(main.get("group.instance.id"), Some("id-2"));
        assert_eq!(main.get("partition.assignment.strategy"), Some("range"));
        assert!(main.get("client.id").unwrap().ends_with("-StreamThread-2-consumer"));
        let restore = settings.consumer(&Role::Restore { thread: 2 }, Isolation::AsConfigured);
        assert_eq!(restore.get("auto.offset.reset"), Some("error"));
        assert_eq!(restore.get("group.instance.id"), None);
    }

    #[test]
    fn the_consumer_protocol_has_the_servers_range_and_no_static_member() {
        let settings = Settings::new(&config(&[("group.protocol", "consumer")]), Some("id")).unwrap();
        let main = settings.consumer(&Role::Main { thread: 1 }, Isolation::AsConfigured);
        assert_eq!(main.get("group.remote.assignor"), Some("range"));
        assert_eq!(main.get("partition.assignment.strategy"), None);
        assert_eq!(main.get("group.instance.id"), None);
    }

    #[test]
    fn users_override_defaults() {
        let settings = Settings::new(&config(&[("fetch.queue.backoff.ms", "7")]), None).unwrap();
        assert_eq!(
            settings.consumer(&Role::Main { thread: 1 }, Isolation::AsConfigured).get("fetch.queue.backoff.ms"),
            Some("7")
        );
    }

    #[test]
    fn wrong_settings_name_their_key() {
        for (key, value, part) in [
            ("fetch.quue.backoff.ms", "7", "no setting of librdkafka"),
            ("fetch.wait.max.ms", "soon", "soon"),
            ("enable.auto.commit", "true", "commit.interval.ms"),
        ] {
            let error = Settings::new(&config(&[(key, value)]), None).unwrap_err();
            assert_eq!(error.kind(), Kind::Config);
            let text = error.to_string();
            assert!(text.contains(key) && text.contains(part), "{text}");
        }
    }
}
