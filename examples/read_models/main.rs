//! Read models (CQRS): commands and events of an ordering service, and what is read of them, served and pushed. See README.md.

mod api;
#[path = "../common/mod.rs"]
mod common;
mod model;
mod push;
mod topology;

use common::Place;
use model::{Command, Customer};
use std::sync::Arc;
use std::time::Duration;
use watersmeet::config::Policy;
use watersmeet::prelude::*;

const PARTITIONS: i32 = 4;

/// The service's topics.
pub struct Topics {
    pub customers: String,
    pub commands: String,
    pub events: String,
    /// What is no record of the service's, from any of the others.
    pub dead_letters: String,
}

fn main() -> Result<()> {
    let place = Place::new("ordering", "127.0.0.1:8080")?;
    let topics = Topics {
        customers: place.topic("customers"),
        commands: place.topic("commands"),
        events: place.topic("events"),
        dead_letters: place.topic("dead-letters"),
    };
    let Topics { customers, commands, events, dead_letters } = &topics;
    place.create_topics(&[customers, commands, events, dead_letters], PARTITIONS)?;

    let mut config = place.exactly_once();
    config.errors.deserialization = Policy::DeadLetter;
    config.errors.dead_letter_topic = Some(topics.dead_letters.clone());
    let streams = Arc::new(place.start(topology::ordering(&topics)?, config)?);
    let hub = push::Hub::new();
    place.serve(api::Api::new(streams.clone(), hub.clone(), &topics)?.routes(), hub.run(streams.clone()))?;
    println!("http://{}/  (a page; the rest is in README.md)", place.address());
    if place.is_embedded() {
        some_orders(&streams, &topics)?;
    }
    let code = common::run(std::slice::from_ref(&streams))?;
    drop((streams, place));
    std::process::exit(code);
}

/// So that there is something to be seen.
fn some_orders(streams: &Streams, topics: &Topics) -> Result {
    let customers = streams.producer(&topics.customers, Produced::<String, Customer>::json())?;
    for (id, name, city) in [("c1", "Ada", "London"), ("c2", "Emmy", "Erlangen"), ("c3", "Sofja", "Stockholm")] {
        customers.send(&id.into(), &Customer { name: name.into(), city: city.into() });
    }
    let commands = streams.producer(&topics.commands, Produced::<String, Command>::json())?;
    for (order, customer, product, quantity, price_cents) in
        [("o1", "c1", "chair", 4, 4_900), ("o2", "c2", "table", 1, 24_900), ("o3", "c1", "lamp", 2, 1_950)]
    {
        let line = Command::AddLine { line: "1".into(), product: product.into(), quantity, price_cents };
        commands.send(&order.into(), &Command::Place { customer: customer.into() });
        commands.send(&order.into(), &line);
    }
    commands.flush(Duration::from_secs(10))
}
