//! `split`: each record to the first branch that takes it.

use super::{Cx, Port, Push};
use crate::error::Result;
use crate::record::Record;
use std::sync::Arc;

/// Branches with their predicates, in order; one without takes what the others left.
pub(crate) struct Branch<K, V> {
    pub(crate) branches: Vec<(Option<Predicate<K, V>>, Port<K, V>)>,
}

/// What a branch takes.
pub(crate) type Predicate<K, V> = Arc<dyn Fn(&K, &V) -> bool + Send + Sync>;

impl<K, V> Push<K, V> for Branch<K, V> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        let takes = |(predicate, _): &&mut (Option<Predicate<K, V>>, Port<K, V>)| {
            predicate.as_ref().is_none_or(|predicate| predicate(&record.key, &record.value))
        };
        match self.branches.iter_mut().find(takes) {
            Some((_, port)) => port.push(cx, record),
            None => Ok(()),
        }
    }
}
