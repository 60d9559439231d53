use super::*;
use crate::http::fixture;
use crate::status::Trouble;
use std::collections::BTreeSet;

fn turn() -> TurnFigures {
    TurnFigures {
        consumed: 10,
        consumed_bytes: 1_500,
        poll_nanos: 2_000_000,
        process_nanos: 300_000,
        commit_nanos: Some(40_000_000),
        restored: 4,
        counts: Counts { processed: 9, dropped: 1, dead_lettered: 2, produced: 8, join_misses: 3 },
    }
}

fn line(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
}

#[test]
fn turns_add_up_per_thread() {
    let metrics = Metrics::new("shop");
    let (one, two) = (metrics.thread(1), metrics.thread(2));
    one.turn(&turn());
    one.turn(&turn());
    two.turn(&TurnFigures::default());
    let text = metrics.text(&fixture::running());
    line(&text, r#"watersmeet_records_consumed_total{thread="1"} 20"#);
    line(&text, r#"watersmeet_records_consumed_total{thread="2"} 0"#);
    line(&text, r#"watersmeet_bytes_consumed_total{thread="1"} 3000"#);
    line(&text, r#"watersmeet_records_processed_total{thread="1"} 18"#);
    line(&text, r#"watersmeet_records_produced_total{thread="1"} 16"#);
    line(&text, r#"watersmeet_records_dropped_total{thread="1"} 2"#);
    line(&text, r#"watersmeet_records_dead_lettered_total{thread="1"} 4"#);
    line(&text, r#"watersmeet_join_misses_total{thread="1"} 6"#);
    line(&text, r#"watersmeet_restored_records_total{thread="1"} 8"#);
    line(&text, r#"watersmeet_commit_seconds_count{thread="1"} 2"#);
    line(&text, r#"watersmeet_commit_seconds_count{thread="2"} 0"#);
    line(&text, r#"watersmeet_poll_seconds_count{thread="2"} 1"#);
    line(&text, r#"watersmeet_process_seconds_count{thread="2"} 0"#);
}

#[test]
fn gauges_come_from_the_status() {
    let metrics = Metrics::new("shop");
    let text = metrics.text(&fixture::running());
    line(&text, r#"watersmeet_state{state="RUNNING"} 1"#);
    line(&text, r#"watersmeet_state{state="REBALANCING"} 0"#);
    line(&text, "watersmeet_client_state 2");
    line(&text, "watersmeet_ready 1");
    line(&text, r#"watersmeet_threads{state="RUNNING"} 2"#);
    line(&text, r#"watersmeet_thread_state{thread="2"} 4"#);
    line(&text, r#"watersmeet_tasks{state="RUNNING"} 4"#);
    line(&text, r#"watersmeet_lag{partition="3",topic="stock"} 7"#);
    line(&text, r#"watersmeet_store_entries{store="products",task="0_3"} 250"#);
    line(&text, r#"watersmeet_uncommitted_bytes{task="0_0"} 128"#);
    line(&text, r#"watersmeet_buffered_records{partition="0",topic="products"} 3"#);

    let mut status = fixture::restoring();
    status.broker_trouble = Some(Trouble { since_ms: 0, what: "down".into() });
    status.threads.truncate(1);
    let text = metrics.text(&status);
    line(&text, r#"watersmeet_state{state="RUNNING"} 0"#);
    line(&text, "watersmeet_broker_trouble 1");
    line(&text, r#"watersmeet_restore_remaining_records{store="products",task="0_0"} 600"#);
    assert!(!text.contains(r#"partition="3""#), "a partition that has gone leaves no series:\n{text}");
}

/// The table in docs/metrics.md, checked both ways: name, type and labels.
#[test]
fn the_documentation_is_complete() {
    let metrics = Metrics::new("shop");
    metrics.thread(1).turn(&turn());
    metrics.watch_shared_memory(|| SharedMemory { block_cache_bytes: 5, memtable_bytes: 6 });
    let mut status = fixture::restoring();
    let task = &mut status.threads[0].tasks[1];
    (task.in_flight, task.waiting) = (2, 3);
    let text = metrics.text(&status);
    line(&text, r#"watersmeet_calls_waiting{task="0_1"} 3"#);
    line(&text, "watersmeet_rocksdb_block_cache_bytes 5");
    line(&text, "watersmeet_rocksdb_memtable_bytes 6");
    let mut actual = BTreeSet::new();
    for (name, kind) in text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split_once(' ')) {
        let sample = text.lines().find(|l| !l.starts_with('#') && l.starts_with(name)).unwrap();
        let labels = sample.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
        let labels: Vec<_> = labels.split(',').filter_map(|l| Some(l.split_once('=')?.0)).collect();
        let labels: Vec<_> = labels.into_iter().filter(|l| *l != "le").collect();
        actual.insert(format!("{name} {kind} {}", labels.join(",")));
    }
    let table = include_str!("../../docs/metrics.md");
    let rows = table.lines().filter(|l| l.starts_with("| `"));
    let documented: BTreeSet<String> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(|cell| cell.trim().replace('`', "")).collect();
            let mut labels: Vec<_> = cells[3].split(',').map(str::trim).filter(|l| !l.is_empty()).collect();
            labels.sort_unstable();
            format!("{} {} {}", cells[1], cells[2], labels.join(","))
        })
        .collect();
    let missing: Vec<_> = actual.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&actual).collect();
    // The process's own figures are there on Linux only.
    let stale: Vec<_> = stale.iter().filter(|s| cfg!(target_os = "linux") || !s.starts_with("process_")).collect();
    assert!(missing.is_empty() && stale.is_empty(), "not documented: {missing:?}, documented but gone: {stale:?}");
}
