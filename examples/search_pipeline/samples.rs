//! Records to begin with: films and their ratings, chat rooms, playlists.

use crate::pipeline::Pipeline;
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use watersmeet::error::Kind;
use watersmeet::prelude::*;
use watersmeet::record::Headers;

const CATALOG: &str = include_str!("../data/catalog.jsonl");
const RATINGS: &str = include_str!("../data/ratings.jsonl");
const CHATROOMS: &str = include_str!("chatrooms.jsonl");
const PLAYLISTS: &str = include_str!("playlists.jsonl");

#[derive(Deserialize)]
struct Line {
    key: String,
    value: Value,
    timestamp: i64,
}

pub fn send(streams: &Streams, pipeline: &Pipeline) -> Result {
    let topic_of = |name: &str| pipeline.index(name).map(|index| index.topic.as_str());
    let films = pipeline.films.as_ref();
    let files = [
        (films.map(|films| films.catalog.as_str()), CATALOG),
        (films.map(|films| films.ratings.as_str()), RATINGS),
        (topic_of("chatroom"), CHATROOMS),
        (topic_of("playlist"), PLAYLISTS),
    ];
    for (topic, lines) in files {
        let Some(topic) = topic else { continue };
        let producer = streams.producer(topic, Produced::<String, Value>::json())?;
        for line in lines.lines() {
            let Line { key, value, timestamp } = serde_json::from_str(line)
                .map_err(|e| Error::new(Kind::Internal, "the shipped data is damaged").source(e))?;
            // The answer is not waited for: `flush` does.
            drop(producer.send_record(&Record { key, value, timestamp_ms: timestamp, headers: Headers::default() }));
        }
        producer.flush(Duration::from_secs(30))?;
    }
    Ok(())
}
