//! Links out of texts, by a slow service that is asked for many texts at a time. See README.md.

mod app;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod front;
mod measure;
mod service;

use common::Place;
use std::sync::Arc;
use std::time::Duration;
use watersmeet::config::Policy;
use watersmeet::prelude::*;
use watersmeet::streams::State;

const PARTITIONS: i32 = 4;

fn main() -> Result<()> {
    let place = Place::new("link-extractor", "127.0.0.1:8080")?;
    let [texts, links, dead_letters] = ["texts", "links", "dead-letters"].map(|name| place.topic(name));
    place.create_topics(&[&texts, &links, &dead_letters], PARTITIONS)?;
    // The shipped service, unless there is another one.
    let (service, stats) = match std::env::var("LINK_SERVICE") {
        Ok(address) => (address, None),
        Err(_) => {
            let (address, stats) = service::start("127.0.0.1:0")?;
            (address.to_string(), Some(stats))
        }
    };
    let builder = StreamsBuilder::new();
    app::add(&builder, &texts, &links, client::LinkService::new(service.clone()));
    let mut config = place.exactly_once();
    // What the service cannot read, or did not answer in six attempts, is set aside.
    config.errors.processing = Policy::DeadLetter;
    config.errors.deserialization = Policy::DeadLetter;
    config.errors.dead_letter_topic = Some(dead_letters);
    let streams = Arc::new(place.start(builder.build()?, config)?);
    place.serve(front::Front::new(streams.clone(), &texts)?.routes(), async {})?;
    // Who asks at once should not be told to come back.
    streams.wait_for(&[State::Running], Duration::from_secs(30));
    println!("http://{}/  (POST /texts, GET /links/{{id}}?wait=5s, GET /metrics)", place.address());
    println!("the service: http://{service}/  (POST /extract, GET /stats)");
    if let Ok(count) = std::env::var("LINKS_MEASURE") {
        measure::run(&streams, &texts, count.parse().unwrap_or(500))?;
        if let Some(stats) = stats {
            println!("the service: {}", stats.json());
        }
        return Ok(());
    }
    let code = common::run(&[streams])?;
    drop(place);
    std::process::exit(code);
}
