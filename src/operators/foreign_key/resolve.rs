//! The left side again: an answer becomes a row of the result.

use super::murmur3::hash128;
use super::wire::Response;
use crate::error::Result;
use crate::operators::cx::Stage;
use crate::operators::getter::Getter;
use crate::operators::{Cx, Port, Push};
use crate::record::Record;
use crate::serdes::SerdeRef;

/// Joins an answer with the left row, if that is still the one that asked.
///
/// Source: Kafka Streams' `ResponseJoinProcessorSupplier`.
pub(crate) struct Resolve<K, V, VO, R, J> {
    pub(crate) node: String,
    /// Left join: a left row without a foreign one has a result.
    pub(crate) left: bool,
    pub(crate) value: SerdeRef<V>,
    pub(crate) rows: Box<dyn Getter<K, V>>,
    pub(crate) join: J,
    pub(crate) out: Port<K, Option<R>>,
    pub(crate) foreign: std::marker::PhantomData<fn(VO)>,
}

impl<K, V, VO, R, J> Push<K, Response<VO>> for Resolve<K, V, VO, R, J>
where
    J: Fn(&K, &V, Option<&VO>) -> Option<R>,
{
    fn push(&mut self, cx: &mut Cx, record: Record<K, Response<VO>>) -> Result {
        let Record { key, value: Response { hash, foreign, .. }, timestamp_ms, headers } = record;
        let row = self.rows.get(cx, &key)?.map(|(row, _)| row);
        let mut bytes = Vec::new();
        let now = match row.as_ref().map(|row| self.value.serialize(row, &mut bytes)).transpose() {
            Ok(encoded) => encoded.map(|_| hash128(&bytes)),
            Err(error) => return cx.faulty_record(Stage::Processing, &self.node, &error),
        };
        if hash != now {
            // The left row has changed since it asked; its new value has asked again.
            cx.counts.dropped += 1;
            tracing::trace!(node = self.node, "an answer to a value that is no more is dropped");
            return Ok(());
        }
        let value = match &row {
            Some(row) if self.left || foreign.is_some() => (self.join)(&key, row, foreign.as_ref()),
            _ => None,
        };
        self.out.push(cx, Record { key, value, timestamp_ms, headers })
    }
}
