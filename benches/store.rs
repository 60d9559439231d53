//! What a task's state costs: rows written, committed, and read at random, in time per row and in memory of the process.
//!
//! `cargo bench --bench store -- [rows=500000] [tasks=4] [gets=4000000] [cache=BYTES] [block=BYTES] [write=BYTES]`
//!
//! Keys of 16 bytes, rows of about 200 bytes of JSON, divided among the tasks as by partitions; reads come in runs of 1000
//! per task, as a thread makes them. `cache`, `block` and `write` are the settings `statestore.cache.max.bytes`,
//! `rocksdb.block.cache.bytes` and `rocksdb.write.buffer.bytes`; without them the defaults count.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use watersmeet::broker::TopicPartition;
use watersmeet::config::Config;
use watersmeet::error::Result;
use watersmeet::state::{Changelog, Engine, MemoryBudget, StoreId, StoreSpec, TaskState, timestamped};

const STORE: StoreId = StoreId(0);
const RUN: u64 = 1000;

fn main() -> Result {
    let mut config = Config::new("bench");
    let (mut rows, mut tasks, mut gets) = (500_000, 4, 4_000_000);
    for arg in std::env::args().skip(1) {
        let (name, number) = arg.split_once('=').unwrap_or((&arg, ""));
        let number: usize = number.parse().unwrap_or(0);
        match name {
            "rows" => rows = number as u64,
            "tasks" => tasks = number as u64,
            "gets" => gets = number as u64,
            "cache" => config.cache_max_bytes = number,
            "block" => config.block_cache_bytes = number,
            "write" => config.write_buffer_bytes = number,
            _ => {}
        }
    }
    let dir = tempfile::tempdir()
        .map_err(|e| watersmeet::error::Error::new(watersmeet::error::Kind::State, "no folder").source(e))?;
    println!(
        "{rows} rows, {tasks} tasks, cache {} MB, block cache {} MB, write buffers {} MB; {} MB at the start",
        config.cache_max_bytes >> 20,
        config.block_cache_bytes >> 20,
        config.write_buffer_bytes >> 20,
        memory_mb("VmRSS:")
    );
    let budget = Arc::new(MemoryBudget::new(&config));
    let mut states = open(dir.path(), tasks, &budget)?;

    let began = Instant::now();
    let (mut key, mut row) = (Vec::new(), Vec::new());
    for n in 0..rows {
        let state = &mut states[(n % tasks) as usize];
        make_row(n, 0, &mut key, &mut row);
        state.put(STORE, &key, Some(&row));
        if state.uncommitted_bytes() >= budget.uncommitted_bytes_max() / tasks as usize {
            state.commit(&[(TopicPartition::new("log", 0), n as i64)])?;
        }
    }
    for state in &mut states {
        state.commit(&[])?;
    }
    report("put + commit", rows, began);

    // A restart in between: what was written last is in no cache.
    drop(states);
    let began = Instant::now();
    let mut states = open(dir.path(), tasks, &budget)?;
    report("open", tasks, began);

    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut found = 0;
    for round in ["gets, cold", "gets, warm", "gets, warm"] {
        let began = Instant::now();
        let mut bytes = 0;
        for run in 0..gets / RUN {
            let task = run % tasks;
            for _ in 0..RUN {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let n = random % (rows / tasks) * tasks + task;
                make_key(n, &mut key);
                if let Some(row) = states[task as usize].get(STORE, &key)? {
                    found += 1;
                    bytes += timestamped::value(&row).len();
                }
            }
        }
        report(round, gets, began);
        assert!(bytes > 0);
    }
    assert_eq!(found, 3 * (gets / RUN * RUN));
    println!(
        "  hot rows {} MB, block cache {} MB, memtables {} MB",
        budget.row_cache_bytes() >> 20,
        budget.block_cache_bytes() >> 20,
        budget.write_buffer_bytes() >> 20
    );
    Ok(())
}

fn open(dir: &Path, tasks: u64, budget: &Arc<MemoryBudget>) -> Result<Vec<TaskState>> {
    let spec = StoreSpec::table("table", Engine::RocksDb, Changelog::None);
    (0..tasks)
        .map(|task| TaskState::open(Some(&dir.join(task.to_string())), std::slice::from_ref(&spec), budget.clone()))
        .collect()
}

fn make_key(n: u64, key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(b"product-00000000");
    let (mut n, mut i) = (n, 16);
    while n > 0 {
        i -= 1;
        key[i] = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

fn make_row(n: u64, round: u64, key: &mut Vec<u8>, row: &mut Vec<u8>) {
    make_key(n, key);
    let mut value =
        format!(r#"{{"id":"product-{n:08}","name":"item {n}","brand":"brand-{}","price":{round},"text":""#, n % 997);
    // Words in no order: compresses as text does, about by half.
    let mut seed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while value.len() < 190 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        value.push_str(
            ["water", "meets", "river ", "bank", " stone", "table ", "lamp", " of", "green ", "old"]
                [(seed >> 33) as usize % 10],
        );
    }
    value.push_str("\"}");
    timestamped::encode(value.as_bytes(), 1_700_000_000_000, row);
}

fn report(what: &str, count: u64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{what:>13}: {:>8.0} ns each, {:>9.0} per second; {} MB now, {} MB at most",
        seconds * 1e9 / count as f64,
        count as f64 / seconds,
        memory_mb("VmRSS:"),
        memory_mb("VmHWM:")
    );
}

/// Memory of this process, in megabytes; 0 where there is no `/proc`.
fn memory_mb(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|kb| kb.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) >> 10
}
