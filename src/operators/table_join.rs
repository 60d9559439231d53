//! Table-table joins of equal keys, inner, left and outer: a change of either table changes the result's row.
//!
//! Source: Kafka Streams' `KTableKTableInnerJoin`, `…LeftJoin`, `…RightJoin`, `…OuterJoin` and `…JoinMerger`. What they
//! have in common is that a side may be needed: without its row there is no result.

use super::getter::Getter;
use super::table_store::TableOut;
use super::{Cx, Port, Push};
use crate::error::Result;
use crate::record::{Change, Nullable, Record, Timestamp};

/// Which rows a result needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    /// The row of the table whose changes are pushed.
    pub(crate) this: bool,
    /// The row of the table that is read.
    pub(crate) other: bool,
}

impl Needs {
    /// The same as the other side sees it.
    pub(crate) fn reversed(self) -> Self {
        Self { this: self.other, other: self.this }
    }

    /// Whether a result can be made of what there is; never of nothing.
    fn met_by<A, B>(self, this: &Option<A>, other: &Option<B>) -> bool {
        let (this, other) = (this.is_some(), other.is_some());
        (this || !self.this) && (other || !self.other) && (this || other)
    }
}

/// One side of a join: changes of `A`, rows of `B`.
pub(crate) struct TableJoinSide<K, A, B, R, J> {
    pub(crate) node: String,
    pub(crate) needs: Needs,
    /// The pushed table is versioned: what changed in its past does not change the result.
    pub(crate) only_latest: bool,
    pub(crate) send_old: bool,
    pub(crate) other: Box<dyn Getter<K, B>>,
    pub(crate) join: J,
    pub(crate) out: Port<K, Change<R>>,
    pub(crate) values: std::marker::PhantomData<fn(A)>,
}

impl<K, A, B, R, J> Push<K, Change<A>> for TableJoinSide<K, A, B, R, J>
where
    K: Nullable,
    J: Fn(&K, Option<&A>, Option<&B>) -> Option<R>,
{
    fn push(&mut self, cx: &mut Cx, record: Record<K, Change<A>>) -> Result {
        if record.key.is_null() {
            cx.drop_record(&self.node, "a table-table join needs a key, and this one is null");
            return Ok(());
        }
        if self.only_latest && !record.value.is_latest {
            cx.drop_record(&self.node, "a change of a versioned table's past does not change a join's result");
            return Ok(());
        }
        let Record { key, value: change, timestamp_ms, headers } = record;
        let other = self.other.get(cx, &key)?;
        if other.is_none() && (self.needs.other || change.new.is_none() && change.old.is_none()) {
            return Ok(());
        }
        let timestamp_ms = other.as_ref().map_or(timestamp_ms, |(_, other_ms)| timestamp_ms.max(*other_ms));
        let other = other.map(|(row, _)| row);
        let result = |this: &Option<A>| {
            if self.needs.met_by(this, &other) { (self.join)(&key, this.as_ref(), other.as_ref()) } else { None }
        };
        let new = result(&change.new);
        let old = if self.send_old { result(&change.old) } else { None };
        let value = Change { old, new, is_latest: change.is_latest };
        self.out.push(cx, Record { key, value, timestamp_ms, headers })
    }
}

/// Where both sides' results meet.
pub(crate) struct Merger<K, R>(pub(crate) TableOut<K, R>);

impl<K: Clone, R: Clone> Push<K, Change<R>> for Merger<K, R> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, Change<R>>) -> Result {
        self.0.send(cx, record)
    }
}

/// Reads the row of a join that has no store: from both tables, each time anew.
pub(crate) struct JoinedRow<K, A, B, J> {
    pub(crate) needs: Needs,
    pub(crate) this: Box<dyn Getter<K, A>>,
    pub(crate) other: Box<dyn Getter<K, B>>,
    pub(crate) join: J,
}

impl<K, A, B, R, J: Fn(&K, Option<&A>, Option<&B>) -> Option<R>> Getter<K, R> for JoinedRow<K, A, B, J> {
    fn get(&mut self, cx: &mut Cx, key: &K) -> Result<Option<(R, Timestamp)>> {
        let this = self.this.get(cx, key)?;
        if self.needs.this && this.is_none() {
            return Ok(None);
        }
        let other = self.other.get(cx, key)?;
        if !self.needs.met_by(&this, &other) {
            return Ok(None);
        }
        let ms = |row_ms: Option<Timestamp>| row_ms.unwrap_or(-1);
        let timestamp_ms = ms(this.as_ref().map(|(_, ms)| *ms)).max(ms(other.as_ref().map(|(_, ms)| *ms)));
        let row = (self.join)(key, this.as_ref().map(|(row, _)| row), other.as_ref().map(|(row, _)| row));
        Ok(row.map(|row| (row, timestamp_ms)))
    }
}
