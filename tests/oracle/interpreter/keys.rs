//! Keys of streams and tables: plain ones, and those that windows make. They are different types to the DSL.

use super::Handle;
use crate::val::{Type, Val, Var};
use std::borrow::Cow;
use watersmeet::dsl::{BufferConfig, KStream, KTable, Suppressed};
use watersmeet::record::Data;
use watersmeet::serdes::SerdeRef;
use watersmeet::windows::{SessionWindowedSerde, TimeWindowedSerde, Windowed};

/// A key as the functions of the cases see it, and what is made of it.
pub trait Key: Data + PartialEq {
    fn var(&self) -> Cow<'_, Var>;
    fn serde(r#type: &Type) -> SerdeRef<Self>;
    fn stream(stream: KStream<Self, Var>) -> Handle;
    fn table(table: KTable<Self, Val>) -> Handle;
    /// Until the key's window closes; `None` where it has none.
    fn until_window_closes(buffer: BufferConfig) -> Option<Suppressed<Self>>;
}

impl Key for Var {
    fn var(&self) -> Cow<'_, Var> {
        Cow::Borrowed(self)
    }

    fn serde(r#type: &Type) -> SerdeRef<Self> {
        r#type.nullable()
    }

    fn stream(stream: KStream<Self, Var>) -> Handle {
        Handle::Stream(stream)
    }

    fn table(table: KTable<Self, Val>) -> Handle {
        Handle::Table(table)
    }

    fn until_window_closes(_: BufferConfig) -> Option<Suppressed<Self>> {
        None
    }
}

impl Key for Windowed<Var> {
    fn var(&self) -> Cow<'_, Var> {
        let key = self.key.clone().map(|key| Val::Windowed {
            key: Box::new(key),
            start_ms: self.window.start_ms,
            end_ms: self.window.end_ms,
        });
        Cow::Owned(key)
    }

    fn serde(r#type: &Type) -> SerdeRef<Self> {
        match r#type {
            Type::TimeWindowed(inner, size_ms) => TimeWindowedSerde::of(inner.nullable(), *size_ms),
            Type::SessionWindowed(inner) => SessionWindowedSerde::of(inner.nullable()),
            other => panic!("{other:?} is no type of windowed keys"),
        }
    }

    fn stream(stream: KStream<Self, Var>) -> Handle {
        Handle::WindowedStream(stream)
    }

    fn table(table: KTable<Self, Val>) -> Handle {
        Handle::WindowedTable(table)
    }

    fn until_window_closes(buffer: BufferConfig) -> Option<Suppressed<Self>> {
        Some(Suppressed::until_window_closes(buffer))
    }
}
