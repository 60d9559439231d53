//! `/stores` of two instances on the broker in memory: a key is found wherever it is, ranges are whole, and what cannot be
//! answered now says so.

use super::{PATIENCE, wait_until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;
use watersmeet::clock::SystemClock;
use watersmeet::prelude::*;
use watersmeet::streams::State;
use watersmeet::testing::MemoryBroker;
use watersmeet::windows::TimeWindows;

/// A loopback address that nobody uses.
pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback").to_string()
}

struct Instance {
    streams: Streams,
    server: String,
}

fn start(broker: &MemoryBroker, process: &str, dir: &Path) -> Instance {
    let builder = StreamsBuilder::new();
    let products = Consumed::<String, Value>::json();
    builder.table("T", products, Materialized::<String, Value>::rocksdb("products"));
    let clicks = builder.stream("C", Consumed::<String, String>::default()).group_by_key(Grouped::default());
    clicks.count(Materialized::memory("clicks"));
    clicks.windowed_by(TimeWindows::of_size_and_grace(100, 10_000)).count(Materialized::rocksdb("per-window"));
    let server = free_address();
    let config = Config {
        state_dir: dir.join(process),
        commit_interval: Duration::from_millis(10),
        application_server: Some(server.clone()),
        ..Config::new("app")
    };
    let client = broker.client_at("app", process, &server);
    let topology = builder.build().expect("builds");
    let streams = Streams::start_on(topology, config, client, SystemClock::shared()).expect("starts");
    streams.serve_http(&server).expect("the address is free");
    Instance { streams, server }
}

pub(crate) struct Answer {
    pub(crate) code: u16,
    head: String,
    pub(crate) body: Value,
}

pub(crate) fn get(server: &str, path: &str) -> Answer {
    let mut socket = TcpStream::connect(server).expect("listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    write!(socket, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("sends");
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("answers");
    let (head, body) = text.split_once("\r\n\r\n").expect("HTTP");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a code");
    Answer { code, head: head.to_lowercase(), body: serde_json::from_str(body).expect("JSON") }
}

fn broker() -> MemoryBroker {
    let broker = MemoryBroker::new();
    broker.create_topic("T", 4);
    broker.create_topic("C", 4);
    for n in 0..40 {
        let (key, value) = (format!("p{n:02}"), format!(r#"{{"n":{n}}}"#));
        broker.produce("T", key.as_bytes(), value.as_bytes(), n).expect("the topic is there");
        broker.produce("C", key.as_bytes(), &b"x"[..], n * 10).expect("the topic is there");
    }
    broker
}

fn local(server: &str, store: &str) -> usize {
    let answer = get(server, &format!("/stores/{store}?scope=local&limit=1000"));
    answer.body["rows"].as_array().map_or(0, Vec::len)
}

#[test]
fn every_instance_answers_for_every_key() {
    let (broker, dir) = (broker(), tempfile::tempdir().expect("a folder"));
    let one = start(&broker, "one", dir.path());
    wait_until("the first instance has all rows", || {
        local(&one.server, "products") == 40
            && local(&one.server, "clicks") == 40
            && local(&one.server, "per-window") == 40
    });
    let two = start(&broker, "two", dir.path());
    wait_until("each has its part", || {
        let parts = |store| [local(&one.server, store), local(&two.server, store)];
        ["products", "clicks", "per-window"].into_iter().all(|store| {
            let [one, two] = parts(store);
            one > 0 && two > 0 && one + two == 40
        })
    });
    // What the coordinator was asked before may be believed for a while.
    wait_until("both know of both", || {
        [&one, &two].iter().all(|instance| {
            let list = get(&instance.server, "/stores").body;
            list["instances"].as_array().is_some_and(|all| {
                all.len() == 2 && all.iter().all(|i| i["partitions"].as_array().is_some_and(|p| p.len() == 4))
            })
        })
    });
    for instance in [&one, &two] {
        let mut elsewhere = 0;
        for n in 0..40 {
            let answer = get(&instance.server, &format!("/stores/products/p{n:02}"));
            assert_eq!(answer.code, 200, "{}", answer.body);
            assert_eq!(answer.body["value"], json!({ "n": n }));
            assert_eq!((&answer.body["key"], &answer.body["timestamp_ms"]), (&json!(format!("p{n:02}")), &json!(n)));
            assert!(answer.body["as_of_ms"].as_i64() > Some(0));
            elsewhere += usize::from(answer.body["instance"] != json!(instance.server));
        }
        assert!((1..40).contains(&elsewhere), "{elsewhere} of 40 are with the other instance");
        let count = get(&instance.server, "/stores/clicks/p07?level=latest").body;
        assert_eq!((&count["value"], &count["level"]), (&json!(1), &json!("latest")));
        let windows = get(&instance.server, "/stores/per-window/p07?from_ms=0&to_ms=100").body;
        let row = &windows["rows"][0];
        assert_eq!((&row["start_ms"], &row["end_ms"], &row["value"]), (&json!(0), &json!(100), &json!(1)), "{windows}");
    }
    let all = get(&one.server, "/stores/products?limit=1000").body;
    let keys: Vec<&str> = all["rows"].as_array().expect("rows").iter().filter_map(|row| row["key"].as_str()).collect();
    assert!(keys.len() == 40 && keys.is_sorted() && all["complete"] == json!(true), "{all}");

    let mut pages = Vec::new();
    let mut after = String::new();
    while pages.len() < 40 {
        let page = get(&two.server, &format!("/stores/products?limit=15{after}")).body;
        pages.extend(page["rows"].as_array().expect("rows").iter().map(|row| row["key"].clone()));
        after = page["after"].as_str().map_or(String::new(), |key| format!("&after={key}"));
        assert_eq!(after.is_empty(), pages.len() == 40);
    }
    assert_eq!(pages, keys.iter().map(|key| json!(key)).collect::<Vec<_>>());
    let range = get(&one.server, "/stores/products?from=p10&to=p12").body;
    assert_eq!(range["rows"].as_array().map(Vec::len), Some(3));
    assert_eq!(get(&one.server, "/stores/products?prefix=p3").body["rows"].as_array().map(Vec::len), Some(10));

    let absent = get(&one.server, "/stores/products/nothing%20here");
    assert_eq!((absent.code, &absent.body["key"]), (404, &json!("nothing here")));
    drop(two.streams);
    // Its partitions stay with it until its session ends: the broker's clock is the machine's.
    let answers: Vec<u16> = (0..40).map(|n| get(&one.server, &format!("/stores/products/p{n:02}")).code).collect();
    assert!(answers.iter().all(|code| [200, 503].contains(code)) && answers.contains(&503), "{answers:?}");
    let refused = (0..40).map(|n| get(&one.server, &format!("/stores/products/p{n:02}"))).find(|a| a.code == 503);
    let refused = refused.expect("one of them");
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
    assert_eq!(refused.body["retry"], json!(true));
}

#[test]
fn what_cannot_be_asked_says_why() {
    let (broker, dir) = (broker(), tempfile::tempdir().expect("a folder"));
    let one = start(&broker, "one", dir.path());
    assert!(one.streams.wait_for(&[State::Running], PATIENCE));
    let error = |path: &str| {
        let answer = get(&one.server, path);
        (answer.code, answer.body["error"].as_str().unwrap_or_default().to_owned())
    };
    let (code, text) = error("/stores/nothing/key");
    assert!(code == 404 && text.contains("clicks, per-window, products"), "{code} {text}");
    assert_eq!(error("/stores/products/p1?level=newest").0, 400);
    assert_eq!(error("/stores/products/p1?key=int").0, 400);
    assert_eq!(error("/stores/products/p1?partition=77").0, 400);
    assert_eq!(error("/storesandmore").0, 404);
    let list = get(&one.server, "/stores").body;
    let kinds: Vec<&str> =
        list["stores"].as_array().expect("stores").iter().filter_map(|s| s["kind"].as_str()).collect();
    assert_eq!(kinds, ["key-value", "window", "key-value"]);
    assert!(one.streams.close(PATIENCE));
    assert_eq!(error("/stores/products/p01").0, 503);
}
