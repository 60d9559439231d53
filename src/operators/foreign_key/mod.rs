//! Foreign-key joins: a left row's value names the key of the foreign row that it belongs to.
//!
//! The left side subscribes to foreign keys through a topic that is partitioned like the foreign table; the foreign side
//! keeps the subscriptions and answers, now and at each change of its row, through a topic that is partitioned like the
//! left table. Source: KIP-213 and Kafka Streams' `foreignkeyjoin` package.

pub(crate) mod answer;
mod murmur3;
pub(crate) mod resolve;
pub(crate) mod subscribe;
pub(crate) mod wire;
