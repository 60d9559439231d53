//! `KTable.group_by`: each change of a row leaves its old group and enters its new one.
//!
//! Source: `KTableRepartitionMap`. The old pair goes first, so that a group shrinks before another grows; where both are of
//! one group, they travel together.

use super::{Cx, Port, Push};
use crate::error::{Error, Kind, Result};
use crate::record::{Change, Nullable, Record};
use std::sync::Arc;

/// Makes the grouped pair of a row.
pub(crate) type Mapper<K, V, K2, V2> = Arc<dyn Fn(&K, &V) -> Option<(K2, V2)> + Send + Sync>;

/// Sends a change on under the keys of its groups.
pub(crate) struct TableGroup<K, V, K2, V2> {
    pub(crate) node: String,
    pub(crate) mapper: Mapper<K, V, K2, V2>,
    /// Of a versioned table: changes of the past are left out.
    pub(crate) versioned: bool,
    pub(crate) out: Port<K2, Change<V2>>,
}

impl<K, V, K2, V2> Push<K, Change<V>> for TableGroup<K, V, K2, V2>
where
    K: Nullable,
    K2: Nullable + PartialEq,
    V2: Nullable,
{
    fn push(&mut self, cx: &mut Cx, record: Record<K, Change<V>>) -> Result {
        let Record { key, value, timestamp_ms, headers } = record;
        if key.is_null() {
            return Err(Error::new(Kind::User, "the key of a row to group is null").node(&self.node));
        }
        let is_latest = value.is_latest;
        if self.versioned && !is_latest {
            return Ok(());
        }
        let pair = |value: Option<V>| {
            let pair = value.and_then(|value| (self.mapper)(&key, &value));
            pair.filter(|(key, value)| !key.is_null() && !value.is_null())
        };
        let (new, old) = (pair(value.new), pair(value.old));
        let out = &mut self.out;
        let mut send = |key, new, old| {
            let value = Change { old, new, is_latest };
            out.push(cx, Record { key, value, timestamp_ms, headers: headers.clone() })
        };
        match (new, old) {
            (Some((key, new)), Some((old_key, old))) if key == old_key => send(key, Some(new), Some(old)),
            (new, old) => {
                if let Some((key, old)) = old {
                    send(key, None, Some(old))?;
                }
                match new {
                    Some((key, new)) => send(key, Some(new), None),
                    None => Ok(()),
                }
            }
        }
    }
}
