//! The first topology: stock movements meet their products, on a Kafka inside this process.
//!
//! `cargo run --release --example stream_table_join`

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use watersmeet::broker::{Broker, Outgoing};
use watersmeet::clock::SystemClock;
use watersmeet::kafka::mock::MockCluster;
use watersmeet::prelude::*;

#[derive(Clone, Serialize, Deserialize)]
struct Product {
    name: String,
    price: f64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Stock {
    pieces: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Merged {
    name: String,
    price: f64,
    pieces: i64,
}

fn main() -> Result<()> {
    // 1. Define: a table, a stream, their join. Products that are sold out are left out.
    let builder = StreamsBuilder::new();
    let products: KTable<String, Product> =
        builder.table("MSG-SOURCE-A", Consumed::json().ready_first(), Materialized::rocksdb("products"));
    let (seen, merged) = channel();
    builder
        .stream("MSG-SOURCE-B", Consumed::<String, Stock>::json())
        .join(&products, |stock, product| {
            (stock.pieces > 0).then_some(Merged { name: product.name, price: product.price, pieces: stock.pieces })
        })
        .flatten_values()
        .peek(move |key, value| {
            let _nobody_listens = seen.send((key.clone(), value.clone()));
        })
        .to("MSG-MERGED", Produced::json());
    let topology = builder.build()?;
    println!("{}", topology.describe());

    // 2. A Kafka inside this process, with the topics and some records. On a real one this is `Streams::start`.
    let cluster = MockCluster::start(1)?;
    for topic in ["MSG-SOURCE-A", "MSG-SOURCE-B", "MSG-MERGED", "first-topology-products-changelog"] {
        cluster.create_topic(topic, 1)?;
    }
    let folder = std::env::temp_dir().join(format!("watersmeet-example-{}", std::process::id()));
    let config = Config { state_dir: folder.clone(), ..Config::new("first-topology") };
    let broker = cluster.broker(&config, None)?;
    send(&*broker, "MSG-SOURCE-A", "apple", r#"{"name":"Apple","price":0.4}"#)?;
    send(&*broker, "MSG-SOURCE-A", "pear", r#"{"name":"Pear","price":0.5}"#)?;
    send(&*broker, "MSG-SOURCE-B", "apple", r#"{"pieces":12}"#)?;
    send(&*broker, "MSG-SOURCE-B", "pear", r#"{"pieces":0}"#)?;
    send(&*broker, "MSG-SOURCE-B", "plum", r#"{"pieces":3}"#)?;
    send(&*broker, "MSG-SOURCE-B", "apple", r#"{"pieces":11}"#)?;

    // 3. Run.
    let streams = Streams::start_on(topology, config, broker, SystemClock::shared())?;
    for _ in 0..2 {
        match merged.recv_timeout(Duration::from_secs(30)) {
            Ok((key, value)) => println!("{key}: {value:?}"),
            Err(_) => println!("nothing came; state: {:?}", streams.status().state),
        }
    }
    streams.close(Duration::from_secs(10));
    drop(streams);
    // The example cleans up after itself; if it cannot, the system's temporary folder will be.
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}

fn send(broker: &dyn Broker, topic: &str, key: &str, value: &str) -> Result<()> {
    let mut producer = broker.producer(0, None)?;
    producer.send(Outgoing {
        topic: &Arc::from(topic),
        partition: None,
        key: Some(key.as_bytes()),
        value: Some(value.as_bytes()),
        timestamp_ms: None,
        headers: &Headers::default(),
    })?;
    producer.flush(Duration::from_secs(10))
}
