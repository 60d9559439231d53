//! Where partitions begin of which the group has no offset, as far as their sources say so.

use super::prepare::Plan;
use super::task_init::Positions;
use crate::broker::{Consumer, TopicPartition};
use crate::error::{Error, Kind, Result};
use crate::topology::OffsetReset;
use std::collections::BTreeMap;

/// The first offsets of those of `positions` that are not known and whose sources have a rule of their own.
///
/// # Errors
/// [`Kind::BrokerFatal`] where the rule is that there must be an offset, [`Kind::Broker`] where the broker gives no answer.
pub(super) fn first_offsets(
    plan: &Plan,
    application_id: &str,
    consumer: &mut dyn Consumer,
    positions: &Positions,
    now_ms: i64,
) -> Result<BTreeMap<TopicPartition, i64>> {
    let mut found = BTreeMap::new();
    for tp in positions.iter().filter(|(_, known)| known.is_none()).map(|(tp, _)| tp) {
        let asked = std::slice::from_ref(tp);
        let offset = match plan.reset_of(&tp.topic, application_id) {
            None => continue,
            Some(OffsetReset::Earliest) => consumer.offset_bounds(asked)?.first().map(|bounds| bounds.start),
            Some(OffsetReset::Latest) => consumer.offset_bounds(asked)?.first().map(|bounds| bounds.end),
            Some(OffsetReset::ByDuration(age)) => {
                let since_ms = now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
                consumer.offsets_since(asked, since_ms.max(0))?.first().copied()
            }
            Some(OffsetReset::Fail) => {
                return Err(Error::new(
                    Kind::BrokerFatal,
                    "the group has no offset, and its source takes none for an error",
                )
                .topic(&*tp.topic)
                .partition(tp.partition)
                .hint("set the group's offsets, or give the source another offset_reset"));
            }
        };
        found.extend(offset.map(|offset| (tp.clone(), offset)));
    }
    Ok(found)
}
