//! Tables of tables and joins of tables, record by record, against what Kafka Streams does with the same records.

use watersmeet::prelude::*;
use watersmeet::testing::*;

type Row = (&'static str, &'static str, Option<&'static str>, i64);

/// Pipes records into their topics, and gives what each made in `out`, as `key=value@timestamp`.
fn outputs(builder: StreamsBuilder, records: &[Row]) -> Result<Vec<Vec<String>>> {
    let driver = TopologyTestDriver::new(builder.build()?, Config::new("app"))?;
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
