//! `map`, `map_values`, `flat_map_values`, `select_key`, `peek` and their kin: one record in, its results out.

use super::cx::Stage;
use super::{Cx, Port, Push};
use crate::error::Result;
use crate::record::Record;
use std::fmt::Display;
use std::marker::PhantomData;

/// Turns a record into any number of others: the general case that the public operators are written with.
pub(crate) struct Each<F, K2, V2> {
    pub(crate) f: F,
    pub(crate) out: Port<K2, V2>,
}

impl<K, V, K2, V2, F> Push<K, V> for Each<F, K2, V2>
where
    F: FnMut(&mut Cx, Record<K, V>, &mut Port<K2, V2>) -> Result,
{
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        (self.f)(cx, record, &mut self.out)
    }
}

/// `map_values`, kept apart from [`Each`] because it is the most used one: nothing but the call.
pub(crate) struct MapValues<F, K, W> {
    pub(crate) f: F,
    pub(crate) out: Port<K, W>,
}

impl<K, V, W, F: Fn(&K, V) -> W> Push<K, V> for MapValues<F, K, W> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        let Record { key, value, timestamp_ms, headers } = record;
        let value = (self.f)(&key, value);
        self.out.push(cx, Record { key, value, timestamp_ms, headers })
    }
}

/// `try_map_values`: what fails is handled by the processing policy.
pub(crate) struct TryMapValues<F, K, W, E> {
    pub(crate) node: String,
    pub(crate) f: F,
    pub(crate) out: Port<K, W>,
    pub(crate) error: PhantomData<fn() -> E>,
}

impl<K, V, W, E: Display, F: Fn(&K, V) -> Result<W, E>> Push<K, V> for TryMapValues<F, K, W, E> {
    fn push(&mut self, cx: &mut Cx, record: Record<K, V>) -> Result {
        let Record { key, value, timestamp_ms, headers } = record;
        match (self.f)(&key, value) {
            Ok(value) => self.out.push(cx, Record { key, value, timestamp_ms, headers }),
            Err(error) => {
                let seen = cx.seen(timestamp_ms, &headers);
                cx.faulty_record_seen(Stage::Processing, &self.node, &error, seen)
            }
        }
    }
}
