//! What is done with a task. Put yours here: it may call other services, as it waits without a thread. It gets the task's key
//! and the attempt: hand them on as an idempotency key, since a worker that is killed in the middle is followed by another.

use crate::worker::Work;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// For trying it out: `{"ms": 500}` takes so long, `{"fail": 2}` fails in the first two attempts; the rest is the result.
pub fn work() -> Work {
    Arc::new(|_task: String, attempt: u32, work: Value| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(work["ms"].as_u64().unwrap_or(0).min(600_000))).await;
            match work["fail"].as_u64() {
                Some(failures) if u64::from(attempt) <= failures => Err(format!("attempt {attempt} was told to fail")),
                _ => Ok(json!({ "done": work })),
            }
        })
    })
}
