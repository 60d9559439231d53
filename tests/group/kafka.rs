//! On a real Kafka.
