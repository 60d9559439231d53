//! A status made by hand, for the tests of the probes, the page's data and the metrics.

use crate::status::StreamsStatus;
use crate::status::{
    PartitionStatus, RestoreStatus, State, StoreStatus, TaskStateName, TaskStatus, ThreadState, ThreadStatus, Totals,
};

/// Two threads with two tasks each, of a table-stream join: all RUNNING.
pub(crate) fn running() -> StreamsStatus {
    let threads = (1..=2).map(|n| ThreadStatus {
        name: format!("shop-5b1e-StreamThread-{n}"),
        state: ThreadState::Running,
        last_turn_ms: 99_900,
        last_progress_ms: 99_900,
        tasks: (0..2).map(|i| task((n - 1) * 2 + i)).collect(),
        error: None,
    });
    StreamsStatus {
        application_id: "shop".into(),
        state: State::Running,
        state_since_ms: 90_000,
        reason: "every thread is running".into(),
        has_been_running: true,
        threads: threads.collect(),
        broker_trouble: None,
        totals: Totals {
            processed: 1_000,
            produced: 900,
            dropped: 3,
            dead_lettered: 2,
            join_misses: 95,
            failed_threads: 0,
        },
        stall_limit_ms: 30_000,
        now_ms: 100_000,
    }
}

fn task(partition: i32) -> TaskStatus {
    let input = |topic: &str, lag| PartitionStatus { topic: topic.into(), partition, position: 40, lag, buffered: 3 };
    TaskStatus {
        id: format!("0_{partition}"),
        state: TaskStateName::Running,
        partitions: vec![input("products", Some(0)), input("stock", Some(7))],
        restore: Vec::new(),
        stores: vec![StoreStatus { name: "products".into(), entries: 250 }],
        memory_bytes: 4_096,
        uncommitted_bytes: 128,
        in_flight: 0,
        waiting: 0,
        waiting_for: String::new(),
    }
}

/// As [`running`], with the first task still restoring.
pub(crate) fn restoring() -> StreamsStatus {
    let mut status = running();
    status.state = State::Rebalancing;
    status.reason = "waiting for shop-5b1e-StreamThread-1".into();
    status.has_been_running = false;
    status.threads[0].state = ThreadState::PartitionsAssigned;
    let task = &mut status.threads[0].tasks[0];
    task.state = TaskStateName::Restoring;
    task.restore =
        vec![RestoreStatus { store: "products".into(), restored: 400, total: 1_000, rate: 50.0, eta_s: Some(12.0) }];
    status
}
