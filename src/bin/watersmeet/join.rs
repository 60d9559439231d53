//! `[join]` as a topology, built with the library's public DSL. Keys are bytes, values JSON objects kept as text.

use watersmeet::config::{JoinSettings, Optimization};
use watersmeet::error::Result;
use watersmeet::prelude::*;
use watersmeet::serdes::JsonObject;

/// The join as a topology.
pub(crate) fn topology(join: &JoinSettings, optimization: Optimization) -> Result<Topology> {
    let builder = StreamsBuilder::new();
    let mut consumed = Consumed::<Option<Vec<u8>>, JsonObject>::default();
    if join.table_ready {
        consumed = consumed.ready_first();
    }
    let store = &join.table_store;
    let materialized = if join.table_in_memory { Materialized::memory(store) } else { Materialized::rocksdb(store) };
    let table = builder.table(&join.table_topic, consumed, materialized);
    let stream = builder.stream(&join.stream_topic, Consumed::<Option<Vec<u8>>, Option<JsonObject>>::default());
    let nest = join.nest;
    let merge = move |stream: Option<JsonObject>, table: Option<&JsonObject>| {
        let stream = stream?;
        Some(match table {
            _ if nest => JsonObject::nested(table, &stream),
            Some(table) => table.merged_with(&stream),
            None => stream,
        })
    };
    let merged = if join.left {
        stream.left_join(&table, move |stream, table| merge(stream, table.as_ref()))
    } else {
        stream.join(&table, move |stream, table| merge(stream, Some(&table)))
    };
    merged.to(&join.output_topic, Produced::default());
    builder.build_with(optimization)
}
