//! Where a topic is read from that the group has no offset of.

use std::time::Duration;

/// Where a topic's partitions are read from of which the application's group has not committed an offset yet. Source: KIP-1106.
///
/// ```
/// use watersmeet::prelude::*;
/// use watersmeet::topology::OffsetReset;
/// let from_now_on = Consumed::<String, String>::default().offset_reset(OffsetReset::Latest);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// From the beginning.
    Earliest,
    /// From the end: what is there already is not read.
    Latest,
    /// From the first record that is not older than this.
    ByDuration(Duration),
    /// Nowhere: that there is no offset is an error.
    Fail,
}
