//! Two instances on a real Kafka, by either protocol of the group: each finds the other's keys. Needs `WATERSMEET_KAFKA`;
//! `./dev test` starts a broker for it.

use super::http::{free_address, get};
use super::on_kafka::{Kafka, Message, unique};
use super::{PATIENCE, wait_until};
use serde_json::json;
use std::time::{Duration, Instant};
use watersmeet::prelude::*;
use watersmeet::streams::State;

fn start(kafka: &Kafka, app: &str, topic: &str, protocol: &str, dir: &std::path::Path) -> (Streams, String) {
    let builder = StreamsBuilder::new();
    builder.table(topic, Consumed::<String, String>::default(), Materialized::rocksdb("rows"));
    let server = free_address();
    let config = Config {
        bootstrap_servers: kafka.servers.clone(),
        state_dir: dir.into(),
        commit_interval: Duration::from_millis(50),
        application_server: Some(server.clone()),
        consumer: vec![("group.protocol".into(), protocol.into())],
        ..Config::new(app)
    };
    let streams = Streams::start(builder.build().expect("builds"), config).expect("starts");
    streams.serve_http(&server).expect("the address is free");
    (streams, server)
}

#[test]
fn each_instance_finds_the_keys_of_the_other() {
    let Some(kafka) = Kafka::given() else { return };
    for protocol in ["classic", "consumer"] {
        let (app, dirs) = (unique("queries"), [(); 2].map(|()| tempfile::tempdir().expect("a folder")));
        let topic = format!("{app}-rows");
        kafka.create(&topic, 4, &[]);
        kafka.send(&topic, (0..100).map(|n| Message::new(&format!("k{n:02}"), format!("v{n}"), 5)));
        let (one, at_one) = start(&kafka, &app, &topic, protocol, dirs[0].path());
        assert!(one.wait_for(&[State::Running], PATIENCE));
        let (two, at_two) = start(&kafka, &app, &topic, protocol, dirs[1].path());
        let rows = |server: &str, scope: &str| {
            let rows =
                get(server, &format!("/stores/rows?limit=1000&scope={scope}")).body["rows"].as_array().map(Vec::len);
            rows.unwrap_or(0)
        };
        wait_until("each has its half", || {
            let (one, two) = (rows(&at_one, "local"), rows(&at_two, "local"));
            one > 0 && two > 0 && one + two == 100
        });
        wait_until("both know of both", || rows(&at_one, "all") == 100 && rows(&at_two, "all") == 100);
        for server in [&at_one, &at_two] {
            let mut elsewhere = 0;
            for n in 0..100 {
                let answer = get(server, &format!("/stores/rows/k{n:02}"));
                assert_eq!((answer.code, &answer.body["value"]), (200, &json!(format!("v{n}"))), "{}", answer.body);
                elsewhere += usize::from(answer.body["instance"] != json!(server));
            }
            assert!((1..100).contains(&elsewhere), "{protocol}: {elsewhere} of 100 are with the other");
        }
        // The stream thread is woken out of its poll, which waits for 100 ms.
        let latest = one.store("rows").latest().key_value::<String, String>().expect("is there");
        let begun = Instant::now();
        (0..50).for_each(|n| drop(latest.get(&format!("k{n:02}"))));
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert!(two.close(PATIENCE) && one.close(PATIENCE));
    }
}
