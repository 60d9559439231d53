//! A real OpenSearch: what it answers, and what an index has that it was filled with from a real Kafka while it was killed.
//! One test, as one server is enough.

use crate::engines::{all_that_is_promised, run};
use crate::on_kafka::{Kafka, Message, unique};
use crate::program::it_is_killed_while_records_come;
use crate::server::{Server, until};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use watersmeet::prelude::*;
use watersmeet::search::{IndexSchema, OpenSearch, SearchEngine};
use watersmeet::serdes::JsonObject;

const PARTITIONS: i32 = 4;
/// The records are of 1970: without this Kafka deletes them when it looks for old ones.
pub const KEPT: [(&str, &str); 1] = [("retention.ms", "-1")];

/// How many records there are, and how often the engine is killed; `WATERSMEET_DOCUMENTS=200000` is a long run.
fn size() -> (usize, usize) {
    let documents = std::env::var("WATERSMEET_DOCUMENTS").ok().and_then(|count| count.parse().ok());
    documents.map_or((10_000, 1), |documents| (documents, 3))
}

/// Record number `n`: every key has several values, and some of them are deletes.
fn record(n: usize, keys: usize) -> (String, Option<String>) {
    // 7919 is prime, so the keys come in no order.
    let key = format!("key-{}", n.wrapping_mul(7_919) % keys);
    let value = (!n.is_multiple_of(11)).then(|| {
        format!(r#"{{"name":"document number {n} of a test that kills its engine","popularity":{n},"created_at":{n}}}"#)
    });
    (key, value)
}

pub fn message(n: usize, keys: usize) -> Message {
    let (key, value) = record(n, keys);
    Message { key: Some(key.into()), value: value.map(Into::into), timestamp_ms: 1_000, ..Message::default() }
}

fn committed(streams: &Streams) -> i64 {
    let status = streams.status();
    let tasks: Vec<_> = status.threads.iter().flat_map(|thread| &thread.tasks).collect();
    if tasks.iter().any(|task| task.in_flight + task.waiting > 0) {
        return -1;
    }
    tasks.iter().flat_map(|task| &task.partitions).map(|partition| partition.position).sum()
}

#[test]
fn a_real_opensearch_keeps_its_promises_also_when_it_is_killed() {
    let Some(server) = Server::start() else { return };
    run(all_that_is_promised(&OpenSearch::new(&server.url).unwrap()));
    if let Some(kafka) = Kafka::given() {
        // At the same time, so that the engine is killed for both.
        std::thread::scope(|scope| {
            scope.spawn(|| it_is_killed_while_records_come(&kafka, &server));
            an_index_has_its_topics_last_values(&kafka, &server);
        });
    }
}

fn an_index_has_its_topics_last_values(kafka: &Kafka, server: &Server) {
    let ((count, kills), topic, index) = (size(), unique("documents"), "documents");
    let keys = count / 4 + 1;
    kafka.create(&topic, PARTITIONS, &KEPT);
    kafka.send(&topic, (0..count).map(|n| message(n, keys)));

    let engine: Arc<dyn SearchEngine> = Arc::new(OpenSearch::new(&server.url).unwrap());
    let schema = IndexSchema::default().text("name").number("popularity").date("created_at");
    run(engine.create_index(index, &schema)).unwrap();
    let builder = StreamsBuilder::new();
    builder
        .stream(&topic, Consumed::<String, Option<JsonObject>>::default())
        .index_into(IndexInto::new(engine, index).request_max(500, 1 << 20));
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new(unique("indexer"));
    config.bootstrap_servers.clone_from(&kafka.servers);
    config.state_dir = folder.path().to_path_buf();
    config.commit_interval = Duration::from_millis(100);
    let began = Instant::now();
    let streams = Streams::start(builder.build().unwrap(), config).unwrap();

    // In the middle of its work.
    for kill in 1..=kills {
        let some = (count * kill / (kills + 1)) as u64;
        until("a part is written", || (streams.status().totals.produced >= some).then_some(()));
        server.kill();
        server.start_again();
    }
    until("everything is written", || (committed(&streams) == count as i64).then_some(()));
    eprintln!("{count} records, {kills} kills: {:?}", began.elapsed());
    assert!(streams.close(Duration::from_secs(30)));
    holds_the_last_values(kafka, &topic, server, index);
}

/// The index has the last value of each key with the offset that it has, and nothing else.
pub fn holds_the_last_values(kafka: &Kafka, topic: &str, server: &Server, index: &str) {
    let mut expected = BTreeMap::new();
    kafka.each(topic, |message| {
        let value = message.value.is_some().then(|| message.json());
        expected.insert(message.key().to_owned(), value.map(|value| (message.offset + 1, value)));
    });
    let mut found: BTreeMap<String, (i64, serde_json::Value)> =
        server.documents(index).into_iter().map(|(id, version, content)| (id, (version, content))).collect();
    for (key, expected) in &expected {
        assert_eq!(found.remove(key), *expected, "{key}");
    }
    assert!(found.is_empty(), "nothing but what is in the topic: {found:?}");
}
