//! Tables of tables and joins of tables, record by record, against what Kafka Streams does with the same records.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use watersmeet::clock::SystemClock;
use watersmeet::prelude::*;
use watersmeet::streams::State;
use watersmeet::testing::*;

const PATIENCE: Duration = Duration::from_secs(30);

type Row = (&'static str, &'static str, Option<&'static str>, i64);

/// Pipes records into their topics, and gives what each made in `out`, as `key=value@timestamp`.
fn outputs(builder: StreamsBuilder, records: &[Row]) -> Result<Vec<Vec<String>>> {
    // Without a cache every change comes out.
    let config = Config { cache_max_bytes: 0, ..Config::new("app") };
    let driver = TopologyTestDriver::new(builder.build()?, config)?;
    let mut seen = 0;
    let mut all = Vec::new();
    for (topic, key, value, timestamp_ms) in records {
        let input = driver.create_input_topic(topic, Produced::<String, Option<String>>::default());
        input.pipe_at(key.to_string(), value.map(str::to_owned), *timestamp_ms)?;
        let written = driver.broker().records("out");
        let part = |bytes: &Option<Vec<u8>>| bytes.as_deref().map_or("∅".into(), String::from_utf8_lossy).into_owned();
        let line = |r: &StoredRecord| format!("{}={}@{}", part(&r.key), part(&r.value), r.timestamp_ms);
        all.push(written[seen..].iter().map(line).collect());
        seen = written.len();
    }
    Ok(all)
}

fn table(builder: &StreamsBuilder, topic: &str, store: Option<&str>) -> KTable<String, String> {
    let materialized = store.map(Materialized::memory).unwrap_or_default();
    builder.table(topic, Consumed::<String, String>::default(), materialized)
}

fn out(table: KTable<String, String>) {
    table.to_stream().to("out", Produced::default());
}

#[test]
fn a_filter_tells_of_rows_that_never_passed_only_where_it_cannot_know_better() -> Result<()> {
    let records = [
        ("T", "k", Some("n"), 1),
        ("T", "k", Some("y1"), 2),
        ("T", "k", Some("n2"), 3),
        ("T", "k", Some("n3"), 4),
        ("T", "k", None, 5),
    ];
    let cases: [(Option<&str>, Option<&str>, [&[&str]; 5]); 4] = [
        (None, None, [&["k=∅@1"], &["k=y1@2"], &["k=∅@3"], &["k=∅@4"], &["k=∅@5"]]),
        (None, Some("filtered"), [&["k=∅@1"], &["k=y1@2"], &["k=∅@3"], &["k=∅@4"], &["k=∅@5"]]),
        (Some("rows"), None, [&[], &["k=y1@2"], &["k=∅@3"], &[], &[]]),
        (Some("rows"), Some("filtered"), [&[], &["k=y1@2"], &["k=∅@3"], &[], &[]]),
    ];
    for (store, filtered, expected) in cases {
        let builder = StreamsBuilder::new();
        let materialized = filtered.map(Materialized::memory).unwrap_or_default();
        out(table(&builder, "T", store).filter_with(|_, row| row.starts_with('y'), materialized));
        assert_eq!(outputs(builder, &records)?, expected, "{store:?} {filtered:?}");
    }
    Ok(())
}

#[test]
fn rows_of_tables_without_stores_are_computed_from_those_above() -> Result<()> {
    let builder = StreamsBuilder::new();
    let upper = table(&builder, "T", None).filter_not(|_, row| row == "hidden").map_values(|row| row.to_uppercase());
    let pages = builder.stream("in", Consumed::<String, String>::default());
    pages.left_join(&upper, |page, row| format!("{page}/{row:?}")).to("out", Produced::default());
    let records = [
        ("in", "k", Some("p1"), 1),
        ("T", "k", Some("row"), 2),
        ("in", "k", Some("p2"), 3),
        ("T", "k", Some("hidden"), 4),
        ("in", "k", Some("p3"), 5),
    ];
    let expected: [&[&str]; 5] = [&["k=p1/None@1"], &[], &["k=p2/Some(\"ROW\")@3"], &[], &["k=p3/None@5"]];
    assert_eq!(outputs(builder, &records)?, expected);
    Ok(())
}

#[test]
fn inner_left_and_outer_joins_of_tables() -> Result<()> {
    let records = [
        ("A", "k", None, 1),
        ("A", "k", Some("a1"), 10),
        ("B", "k", Some("b1"), 5),
        ("A", "k", Some("a2"), 3),
        ("B", "k", None, 20),
        ("B", "k", None, 21),
        ("A", "k", None, 22),
        ("A", "k", None, 23),
        ("B", "k", Some("b2"), 24),
        ("A", "k", Some("a3"), 7),
        ("A", "k", None, 8),
    ];
    let expected = [
        ["—", "—", "—"],
        ["—", "a1+∅@10", "a1+∅@10"],
        ["a1+b1@10", "a1+b1@10", "a1+b1@10"],
        ["a2+b1@5", "a2+b1@5", "a2+b1@5"],
        ["∅@20", "a2+∅@20", "a2+∅@20"],
        ["∅@21", "a2+∅@21", "a2+∅@21"],
        ["—", "∅@22", "∅@22"],
        ["—", "—", "—"],
        ["—", "—", "∅+b2@24"],
        ["a3+b2@24", "a3+b2@24", "a3+b2@24"],
        ["∅@24", "∅@24", "∅+b2@24"],
    ];
    for (column, kind) in ["inner", "left", "outer"].into_iter().enumerate() {
        let builder = StreamsBuilder::new();
        let (a, b) = (table(&builder, "A", None), table(&builder, "B", Some("b")));
        let text = |row: Option<&String>| row.cloned().unwrap_or("∅".into());
        out(match kind {
            "inner" => a.join(&b, |a, b| format!("{a}+{b}")),
            "left" => a.left_join(&b, move |a, b| format!("{a}+{}", text(b))),
            _ => a.outer_join(&b, move |a, b| format!("{}+{}", text(a), text(b))),
        });
        for (step, lines) in outputs(builder, &records)?.into_iter().enumerate() {
            let want = expected[step][column];
            let want = if want == "—" { vec![] } else { vec![format!("k={want}")] };
            assert_eq!(lines, want, "{kind} {:?}", records[step]);
        }
    }
    Ok(())
}

#[test]
fn foreign_key_joins_follow_both_tables_and_the_key_between_them() -> Result<()> {
    let builder = StreamsBuilder::new();
    let (left, right) = (table(&builder, "L", None), table(&builder, "R", None));
    let foreign_key = |row: &String| row.split_once(':').map_or(String::new(), |(key, _)| key.into());
    out(left.join_on(&right, foreign_key, |row, foreign| format!("{row}|{foreign}")));
    let records = [
        ("L", "p1", Some("f1:a"), 10),
        ("R", "f1", Some("R1"), 5),
        ("L", "p2", Some("f1:b"), 20),
        ("L", "p1", Some("f1:c"), 3),
        ("R", "f1", None, 30),
        ("R", "f1", Some("R2"), 31),
        ("L", "p1", Some("f2:d"), 40),
        ("L", "p2", None, 41),
    ];
    let expected: [&[&str]; 8] = [
        &[],
        &["p1=f1:a|R1@5"],
        &["p2=f1:b|R1@20"],
        &["p1=f1:c|R1@5"],
        &["p1=∅@30", "p2=∅@30"],
        &["p1=f1:c|R2@31", "p2=f1:b|R2@31"],
        &["p1=∅@40"],
        &["p2=∅@41"],
    ];
    assert_eq!(outputs(builder, &records)?, expected);
    Ok(())
}

#[test]
fn a_stream_of_changes_is_a_table() -> Result<()> {
    let builder = StreamsBuilder::new();
    let changes = builder.stream("in", Consumed::<String, Option<String>>::default());
    let rows = changes.to_table_with(Materialized::memory("rows"));
    out(rows.transform_values(|key, row| Some(format!("{key}:{row:?}"))));
    let records = [("in", "k", Some("v"), 1), ("in", "k", None, 2)];
    let expected: [&[&str]; 2] = [&["k=k:Some(\"v\")@1"], &["k=k:None@2"]];
    assert_eq!(outputs(builder, &records)?, expected);
    Ok(())
}

#[test]
fn a_store_without_known_serdes_is_an_error_at_build() {
    let builder = StreamsBuilder::new();
    let lengths = table(&builder, "T", None).map_values(|row| row.len() as i64);
    let named = Materialized::<String, bool>::memory("even");
    lengths.map_values_with(|_, length| Some(length % 2 == 0), named);
    let error = builder.build().err().expect("fails").to_string();
    assert!(error.contains("serdes") && error.contains("KTABLE-MAPVALUES-0000000004"), "{error}");
}

// -- across partitions, threads, and restarts ------------------------------------------------------------------------

fn start(broker: &MemoryBroker, dir: &tempfile::TempDir, topology: Topology) -> Streams {
    let (commit_interval, poll) = (Duration::from_millis(20), Duration::from_millis(10));
    let state_dir = dir.path().to_path_buf();
    let config = Config { state_dir, commit_interval, poll, num_stream_threads: 2, ..Config::new("app") };
    let streams = Streams::start_on(topology, config, broker.client("app", "p"), SystemClock::shared());
    let streams = streams.expect("starts");
    assert!(streams.wait_for(&[State::Running], PATIENCE), "{:?}", streams.status());
    streams
}

/// The table that `out` is: the last value of each key.
fn rows(broker: &MemoryBroker) -> BTreeMap<String, String> {
    let text = |bytes: Option<Vec<u8>>| bytes.map(|bytes| String::from_utf8(bytes).expect("text"));
    let records = broker.records("out").into_iter();
    let rows: BTreeMap<_, _> = records.map(|r| (text(r.key).unwrap_or_default(), text(r.value))).collect();
    rows.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn wait_for_rows(broker: &MemoryBroker, expected: &BTreeMap<String, String>) {
    let deadline = Instant::now() + PATIENCE;
    while rows(broker) != *expected {
        assert!(Instant::now() < deadline, "{:?}\nis not\n{expected:?}", rows(broker));
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn a_foreign_key_join_reaches_all_partitions_and_survives_the_loss_of_its_stores() {
    let topology = || {
        let builder = StreamsBuilder::new();
        let (orders, customers) = (table(&builder, "orders", None), table(&builder, "customers", Some("customers")));
        out(orders.left_join_on(
            &customers,
            |order| order[..2].to_string(),
            |order, customer| format!("{order} for {}", customer.map_or("nobody", String::as_str)),
        ));
        builder.build().expect("builds")
    };
    let broker = MemoryBroker::new();
    for (topic, partitions) in [("orders", 4), ("customers", 3), ("out", 1)] {
        broker.create_topic(topic, partitions);
    }
    let produce = |topic: &str, key: &str, value: &str| {
        broker.produce(topic, key.as_bytes(), value.as_bytes(), 1).expect("the topic is there");
    };
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut orders: BTreeMap<String, String> = BTreeMap::new();
    let expected = |orders: &BTreeMap<String, String>, names: &BTreeMap<String, String>| {
        let name = |order: &str| names.get(&order[..2]).map_or("nobody", String::as_str);
        orders.iter().map(|(key, order)| (key.clone(), format!("{order} for {}", name(order)))).collect()
    };
    let dir = tempfile::tempdir().expect("a folder");
    let streams = start(&broker, &dir, topology());
    for n in 0..60 {
        orders.insert(format!("o{n}"), format!("c{} {n} pieces", n % 9));
        produce("orders", &format!("o{n}"), &orders[&format!("o{n}")]);
    }
    for n in 0..7 {
        names.insert(format!("c{n}"), format!("Ann {n}"));
        produce("customers", &format!("c{n}"), &names[&format!("c{n}")]);
    }
    wait_for_rows(&broker, &expected(&orders, &names));
    // Another customer's, and another name.
    orders.insert("o1".into(), "c5 again".into());
    produce("orders", "o1", "c5 again");
    wait_for_rows(&broker, &expected(&orders, &names));
    assert!(streams.close(PATIENCE));
    drop(dir);

    let dir = tempfile::tempdir().expect("a folder");
    let streams = start(&broker, &dir, topology());
    for (key, name) in [("c1", "Bob"), ("c5", "Eve"), ("c8", "Zoe")] {
        names.insert(key.into(), name.into());
        produce("customers", key, name);
    }
    wait_for_rows(&broker, &expected(&orders, &names));
    assert!(streams.close(PATIENCE));
}

#[test]
fn a_versioned_table_is_restored_with_its_past() {
    let topology = || {
        let builder = StreamsBuilder::new();
        let versioned = Materialized::versioned("prices", 1000);
        let prices = builder.table("prices", Consumed::<String, String>::default(), versioned);
        let sales = builder.stream("sales", Consumed::<String, String>::default());
        sales.join(&prices, |sale, price| format!("{sale} at {price}")).to("out", Produced::default());
        builder.build().expect("builds")
    };
    let broker = MemoryBroker::new();
    for topic in ["prices", "sales", "out"] {
        broker.create_topic(topic, 2);
    }
    let produce = |topic: &str, key: &str, value: &str, ms: i64| {
        broker.produce(topic, key.as_bytes(), value.as_bytes(), ms).expect("the topic is there");
    };
    let committed = |count: i64| {
        let deadline = Instant::now() + PATIENCE;
        while broker.committed("app").values().map(|c| c.offset).sum::<i64>() < count {
            assert!(Instant::now() < deadline, "{:?}", broker.committed("app"));
            std::thread::park_timeout(Duration::from_millis(2));
        }
    };
    let dir = tempfile::tempdir().expect("a folder");
    let streams = start(&broker, &dir, topology());
    for (price, ms) in [("10", 10), ("30", 30), ("20", 20), ("40", 40)] {
        produce("prices", "k", price, ms);
    }
    committed(4);
    assert!(streams.close(PATIENCE));
    drop(dir);

    let dir = tempfile::tempdir().expect("a folder");
    let streams = start(&broker, &dir, topology());
    for (count, (ms, sold)) in [(25, "s at 20"), (39, "s at 30"), (50, "s at 40"), (10, "s at 10")].iter().enumerate() {
        produce("sales", "k", "s", *ms);
        committed(5 + count as i64);
        wait_for_rows(&broker, &BTreeMap::from([("k".to_string(), sold.to_string())]));
    }
    assert!(streams.close(PATIENCE));
}
