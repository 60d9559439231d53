//! The id that a client gets for what it has sent: the record's key, and where the record is in its topic.

use std::fmt;
use std::sync::Arc;
use watersmeet::broker::TopicPartition;
use watersmeet::producer::Written;

/// A key, and where its record is. So every instance knows in which partition the key's row is, and how far a table must be to have
/// it: what one has sent, one finds, at once and everywhere.
pub struct RowId {
    pub key: String,
    pub written: Written,
}

impl RowId {
    /// Reads what [`Display`](fmt::Display) writes of a record of `topic`.
    pub fn parse(topic: &Arc<str>, text: &str) -> Option<Self> {
        let mut parts = text.rsplitn(3, '.');
        let (offset, partition, key) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
        let partition = TopicPartition { topic: topic.clone(), partition };
        // It goes into the path of another instance, too.
        let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        plain.then(|| Self { key: key.into(), written: Written { partition, offset } })
    }

    pub fn partition(&self) -> i32 {
        self.written.partition.partition
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.key, self.partition(), self.written.offset)
    }
}
