//! librdkafka's error codes, sorted by what the reader should do about them.

use crate::error::{Error, Kind};
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

/// What a code asks of the reader, and a hint where there is something to do.
fn meaning(code: RDKafkaErrorCode) -> (Kind, Option<&'static str>) {
    use RDKafkaErrorCode::*;
    match code {
        // Somebody else owns it now: hand the tasks over and join again.
        UnknownMemberId | IllegalGeneration | AssignmentLost | PollExceeded | FencedMemberEpoch => (
            Kind::Migrated,
            Some(
                "nothing to do, the member joins again; if this repeats, raise max.poll.interval.ms or lower the load",
            ),
        ),
        Fenced
        | ProducerFenced
        | InvalidProducerEpoch
        | InvalidProducerIdMapping
        | UnknownProducerId
        | OutOfOrderSequenceNumber
        | TransactionCoordinatorFenced => {
            (Kind::Migrated, Some("nothing to do, the tasks are opened again with a new producer"))
        }
        FencedInstanceId | UnreleasedInstanceId => (
            Kind::BrokerFatal,
            Some(
                "another process runs with this group.instance.id: stop one of the two, or give each its own state.dir",
            ),
        ),

        // One record is at fault, not the broker.
        MessageSizeTooLarge | MessageBatchTooLarge | InvalidMessageSize => (
            Kind::Record,
            Some(
                "raise the topic's max.message.bytes and message.max.bytes under [producer], or let errors.production skip such records",
            ),
        ),
        InvalidMessage | BadMessage | InvalidTimestamp | InvalidRecord => {
            (Kind::Record, Some("look at the record's size, timestamp and, on a compacted topic, its key"))
        }

        // Nothing changes until somebody changes it.
        UnknownTopicOrPartition | UnknownTopic => (Kind::BrokerFatal, Some("create the topic, or correct its name")),
        UnknownPartition => {
            (Kind::BrokerFatal, Some("the topic has fewer partitions than expected: compare their counts"))
        }
        TopicAuthorizationFailed => {
            (Kind::BrokerFatal, Some("grant this principal READ, WRITE and DESCRIBE on the topic"))
        }
        GroupAuthorizationFailed => {
            (Kind::BrokerFatal, Some("grant this principal READ on the group (application.id)"))
        }
        ClusterAuthorizationFailed => (
            Kind::BrokerFatal,
            Some("grant this principal IDEMPOTENT_WRITE, or CREATE for internal topics, on the cluster"),
        ),
        TransactionalIdAuthorizationFailed => {
            (Kind::BrokerFatal, Some("grant this principal WRITE and DESCRIBE on the transactional id"))
        }
        Authentication | SaslAuthenticationFailed | UnsupportedSASLMechanism | IllegalSASLState => {
            (Kind::BrokerFatal, Some("check security.protocol and the sasl.* settings"))
        }
        SSL => (Kind::BrokerFatal, Some("check security.protocol and the ssl.* settings")),
        InvalidReplicationFactor => (
            Kind::BrokerFatal,
            Some("set replication.factor to at most the number of brokers, or to -1 for their default"),
        ),
        InvalidPartitions | InvalidConfig | InvalidTopic | PolicyViolation => (
            Kind::BrokerFatal,
            Some("the broker does not allow this topic: change its settings, or the broker's policy"),
        ),
        InconsistentGroupProtocol => (
            Kind::BrokerFatal,
            Some("other members of this group use another assignment strategy: use the same, or stop them first"),
        ),
        UnsupportedVersion | UnsupportedFeature | NotImplemented | UnsupportedAssignor => {
            (Kind::BrokerFatal, Some("this broker is too old for what is configured, or lacks it: see group.protocol"))
        }
        InvalidGroupId
        | InvalidSessionTimeout
        | OffsetMetadataTooLarge
        | UnsupportedForMessageFormat
        | UnsupportedCompressionType
        | SecurityDisabled => (Kind::BrokerFatal, None),
        AutoOffsetReset | OffsetOutOfRange => (
            Kind::BrokerFatal,
            Some("the log no longer has this offset: reset the group's offsets, or set auto.offset.reset"),
        ),

        // Wrong use of the library.
        InvalidArgument | State | Conflict | NotConfigured | InvalidType => (Kind::Internal, None),

        // The rest passes: connections, leaders that move, time-outs, full queues.
        BrokerTransportFailure | AllBrokersDown | Resolve | OperationTimedOut | MessageTimedOut | TimedOutQueue => (
            Kind::Broker,
            Some("check that the brokers run and that bootstrap.servers and their advertised listeners are reachable"),
        ),
        _ => (Kind::Broker, None),
    }
}

/// An error for `code`; `doing` says what was being done.
pub(super) fn error(code: RDKafkaErrorCode, doing: &str) -> Error {
    let (kind, hint) = meaning(code);
    let error = Error::new(kind, format!("{doing}: {} ({code:?})", plain(code)));
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// An error of rdkafka's safe half.
pub(super) fn from_rdkafka(error_: KafkaError, doing: &str) -> Error {
    match error_ {
        KafkaError::ClientConfig(_, what, key, value) => {
            let what = if what.contains("No such configuration property") {
                format!("is no setting of librdkafka (its value here is {value:?})")
            } else {
                format!("{what} (its value here is {value:?})")
            };
            Error::new(Kind::Config, what).key(key).hint("correct it; librdkafka's CONFIGURATION.md lists the settings")
        }
        KafkaError::ClientCreation(what) => Error::new(Kind::Config, format!("{doing}: {what}"))
            .hint("correct the settings under [consumer], [producer] or [admin]"),
        KafkaError::AdminOp(code) => error(code, doing),
        other => match other.rdkafka_error_code() {
            Some(code) => error(code, doing),
            None => Error::new(Kind::Internal, format!("{doing}: {other}")),
        },
    }
}

/// The code of a number that came over the wire; brokers newer than librdkafka have codes that it doesn't know.
pub(super) fn code(raw: i32) -> RDKafkaErrorCode {
    RDKafkaRespErr::try_from(raw).unwrap_or(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN).into()
}

/// librdkafka's own words, out of `Name (Broker: words)`.
fn plain(code: RDKafkaErrorCode) -> String {
    let text = code.to_string();
    let words = text.split_once('(').map_or(&*text, |(_, words)| words.trim_end_matches(')'));
    words.trim_start_matches("Broker: ").trim_start_matches("Local: ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_what_to_do() {
        let error = error(RDKafkaErrorCode::MessageSizeTooLarge, "producing");
        assert_eq!(error.kind(), Kind::Record);
        assert!(error.to_string().starts_with("producing: Message size too large (MessageSizeTooLarge)"), "{error}");
        assert!(error.to_string().contains("max.message.bytes"), "{error}");
        assert_eq!(super::error(RDKafkaErrorCode::OperationTimedOut, "x").kind(), Kind::Broker);
        assert_eq!(super::error(RDKafkaErrorCode::IllegalGeneration, "x").kind(), Kind::Migrated);
        assert_eq!(super::error(RDKafkaErrorCode::TopicAuthorizationFailed, "x").kind(), Kind::BrokerFatal);
    }

    #[test]
    fn a_code_that_librdkafka_does_not_know_is_unknown() {
        assert_eq!(code(29_999), RDKafkaErrorCode::Unknown);
        assert_eq!(code(10), RDKafkaErrorCode::MessageSizeTooLarge);
    }
}
