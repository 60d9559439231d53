//! A search pipeline: topics into indexes of a search engine, a search API, a page, and new indexes filled beside the old.
//! See README.md.

mod api;
#[path = "../common/mod.rs"]
mod common;
mod films;
mod pipeline;
mod reindex;
mod samples;

use common::Place;
use pipeline::{Index, Pipeline};
use reindex::Reindexes;
use std::sync::Arc;
use std::time::Duration;
use watersmeet::config::Policy;
use watersmeet::prelude::*;
use watersmeet::search::{SearchEngine, SearchError};
use watersmeet::serdes::JsonObject;

/// Records that are no JSON, and documents that the engine refuses.
const DEAD_LETTERS: &str = "search-dead-letters";
const PARTITIONS: i32 = 3;

fn main() -> Result<()> {
    let place = Arc::new(Place::new("search-pipeline", "127.0.0.1:8080")?);
    let pipeline = Arc::new(Pipeline::load()?);
    // Topics of the embedded Kafka begin anew with each start, and so must the engine's own folder.
    let fresh = place.is_embedded().then(|| place.config.state_dir.join("indexes"));
    let engine = pipeline.engine(fresh)?;
    let begun = prepare(&*engine, &pipeline)?;
    place.create_topics(&pipeline.topics(), PARTITIONS)?;
    place.create_topics(&[&DEAD_LETTERS.to_owned()], 1)?;

    let streams = Arc::new(place.start(topology(&pipeline, &engine)?, config(&place))?);
    if place.is_embedded() || std::env::var("SEARCH_PIPELINE_SAMPLES").is_ok() {
        samples::send(&streams, &pipeline)?;
    }
    let reindexes = Reindexes::new(place.clone(), engine.clone());
    for (index, new) in begun {
        reindexes.begin(&index, Some(new));
    }
    let api = api::Api::new(streams.clone(), engine, pipeline, reindexes)?;
    place.serve(api.routes(), async {})?;
    println!("http://{}/  (GET /v1/api/search/{{index}}?query=, POST /index/{{index}})", place.address());
    let code = common::run(&[streams])?;
    if place.is_embedded() {
        // What is left behind in the system's temporary folder does no harm.
        let _ = std::fs::remove_dir_all(&place.config.state_dir);
    }
    std::process::exit(code);
}

/// All indexes of the pipeline, each from its topic; the films from their join.
fn topology(pipeline: &Pipeline, engine: &Arc<dyn SearchEngine>) -> Result<Topology> {
    let builder = StreamsBuilder::new();
    if let Some(films) = &pipeline.films {
        films::add(&builder, films);
    }
    for index in &pipeline.indexes {
        add_index(&builder, &index.topic, engine, &index.name);
    }
    builder.build()
}

/// A topic into an index, or into the index that an alias stands for. Values are JSON objects, which go on as they are; a null
/// deletes the document of that key.
fn add_index(builder: &StreamsBuilder, topic: &str, engine: &Arc<dyn SearchEngine>, index: &str) {
    builder
        .stream(topic, Consumed::<String, Option<JsonObject>>::default())
        .index_into(IndexInto::new(engine.clone(), index).named(format!("index-{index}")));
}

/// The place's settings, with a topic for what is not as it should be.
fn config(place: &Place) -> Config {
    let mut config = place.config.clone();
    config.errors.deserialization = Policy::DeadLetter;
    config.errors.production = Policy::DeadLetter;
    config.errors.dead_letter_topic.get_or_insert(DEAD_LETTERS.into());
    config
}

/// Sees to it that each name is an alias of an index: so a new index can take the place of the old one. Returns those where one
/// has, that may not be complete: the process was killed at the switch.
fn prepare(engine: &dyn SearchEngine, pipeline: &Pipeline) -> Result<Vec<(Index, String)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::new(watersmeet::error::Kind::Internal, "no runtime").source(e))?;
    runtime.block_on(async {
        let mut incomplete = Vec::new();
        for index in &pipeline.indexes {
            let begun = loop {
                match prepare_one(engine, index).await {
                    Ok(begun) => break begun,
                    Err(error) if error.is_retriable() => eprintln!("waiting for the search engine: {error}"),
                    Err(error) => return Err(error.into_error()),
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            };
            incomplete.extend(begun.map(|begun| (index.clone(), begun)));
        }
        Ok(incomplete)
    })
}

async fn prepare_one(engine: &dyn SearchEngine, index: &Index) -> Result<Option<String>, SearchError> {
    let complete = reindex::complete(&index.name);
    let Some(current) = engine.alias(&index.name).await? else {
        let first = reindex::numbered(&index.name, 1);
        engine.create_index(&first, &index.schema()).await?;
        engine.point_alias(&complete, &first).await?;
        engine.point_alias(&index.name, &first).await?;
        return Ok(None);
    };
    let complete = engine.alias(&complete).await?;
    Ok((complete.as_ref() != Some(&current)).then_some(current))
}
