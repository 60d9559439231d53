//! What is written about tasks, and what a task is: the events in the topic `tasks`, and the row that they add up to.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A record of the topic `tasks`; its key is the task's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened, in milliseconds since the epoch.
    pub at_ms: i64,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// Somebody wants it done.
    Queued { work: Value, max_attempts: u32 },
    /// A worker has begun.
    Started { attempt: u32 },
    /// It is done.
    Completed { attempt: u32, result: Value },
    /// It went wrong; it is tried again at this time, or (`None`) never.
    Failed { attempt: u32, reason: String, retry_at_ms: Option<i64> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Queued,
    Processing,
    Completed,
    Failed,
}

/// A row of the table `status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub status: Status,
    /// How many attempts have begun.
    pub attempts: u32,
    pub max_attempts: u32,
    pub work: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at_ms: Option<i64>,
    pub queued_at_ms: i64,
    pub changed_at_ms: i64,
}

impl Task {
    /// Nothing more will happen to it.
    pub fn has_ended(&self) -> bool {
        matches!(self.status, Status::Completed | Status::Failed)
    }

    /// The row after one more event. An event that comes twice changes nothing.
    pub fn after(task: Option<Task>, event: &Event) -> Option<Task> {
        let at_ms = event.at_ms;
        if let What::Queued { work, max_attempts } = &event.what {
            // A task that has failed for good may be queued anew: from the dead-letter topic.
            return Some(task.filter(|task| task.status != Status::Failed).unwrap_or_else(|| Task {
                status: Status::Queued,
                attempts: 0,
                max_attempts: *max_attempts,
                work: work.clone(),
                result: None,
                reason: None,
                retry_at_ms: None,
                queued_at_ms: at_ms,
                changed_at_ms: at_ms,
            }));
        }
        let mut task = task?;
        task.changed_at_ms = at_ms;
        task.retry_at_ms = None;
        match &event.what {
            What::Queued { .. } => {}
            What::Started { attempt } => {
                (task.status, task.attempts) = (Status::Processing, *attempt);
            }
            What::Completed { attempt, result } => {
                (task.status, task.attempts) = (Status::Completed, *attempt);
                (task.result, task.reason) = (Some(result.clone()), None);
            }
            What::Failed { attempt, reason, retry_at_ms } => {
                (task.attempts, task.reason, task.retry_at_ms) = (*attempt, Some(reason.clone()), *retry_at_ms);
                task.status = if retry_at_ms.is_some() { Status::Queued } else { Status::Failed };
            }
        }
        Some(task)
    }
}
