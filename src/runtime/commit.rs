//! Commit, at least once, in this order:
//!
//! 1. everything produced is flushed, and what was refused has met its policy;
//! 2. each task's state and the changelog offsets that it corresponds to are written in one batch;
//! 3. the input offsets are committed to the group.
//!
//! A crash between two of these repeats records, and never loses one: outputs are out before the state says so, and the
//! state is written before the group forgets the inputs. Do not reorder.

use super::metadata::Metadata;
use super::task::Task;
use super::thread::Clients;
use crate::broker::{Committed, Refused, TopicPartition};
use crate::config::Policy;
use crate::error::{Error, Kind, Result};
use crate::record::Headers;
use crate::state::StoreId;
use std::sync::Arc;
use std::time::Duration;

/// Where a task's stores are logged, by store.
#[derive(Clone, Default)]
pub(crate) struct Changelogs(pub(crate) Vec<(StoreId, TopicPartition)>);

/// Commits these tasks. Tasks without news cost nothing.
pub(crate) fn commit(clients: &mut Clients, tasks: &mut [&mut Task], flush_max: Duration) -> Result {
    for task in tasks.iter_mut() {
        let flushed = if task.dirty { task.flush() } else { Ok(()) };
        // Also what came before a record that failed.
        let drained = task.cx.outbox.drain(|record| clients.producer.send(record));
        flushed.and(drained)?;
    }
    settle(clients, tasks, flush_max)?;
    let mut offsets = Vec::new();
    for task in tasks.iter_mut().filter(|task| task.dirty) {
        let logged = logged_offsets(clients, task)?;
        task.cx.state.commit(&logged)?;
        task.cx.cache.committed();
        let closed_ms = task.closed_ms();
        for input in &task.inputs {
            let metadata = Metadata { time_ms: input.time_ms, closed_ms: closed_ms.clone() }.encode();
            let committed = Committed { offset: input.position, metadata };
            offsets.push(((*input.partition).clone(), committed));
        }
    }
    if !offsets.is_empty() {
        clients.consumer.commit(&offsets)?;
    }
    for task in tasks.iter_mut() {
        task.dirty = false;
    }
    Ok(())
}

/// The changelog offsets that the task's state corresponds to, now that everything it logged is acknowledged. The task is
/// the only writer of its changelog partitions, so their ends are the answer; a source topic that serves as changelog
/// has been applied up to the input's position.
fn logged_offsets(clients: &mut Clients, task: &Task) -> Result<Vec<(TopicPartition, i64)>> {
    let (inputs, own): (Vec<_>, Vec<_>) = task.changelogs.0.iter().map(|(_, tp)| tp).partition(|tp| task.reads(tp));
    let mut offsets: Vec<_> = inputs.into_iter().filter_map(|tp| Some((tp.clone(), task.position(tp)?))).collect();
    if !own.is_empty() {
        let own: Vec<TopicPartition> = own.into_iter().cloned().collect();
        let bounds = clients.consumer.offset_bounds(&own)?;
        offsets.extend(own.into_iter().zip(bounds).map(|(tp, bounds)| (tp, bounds.end)));
    }
    Ok(offsets)
}

/// Flushes until nothing is under way. What was refused meets the production policy; dead letters are flushed again.
fn settle(clients: &mut Clients, tasks: &mut [&mut Task], flush_max: Duration) -> Result {
    loop {
        clients.producer.flush(flush_max)?;
        let refused = clients.producer.refused();
        if refused.is_empty() {
            return Ok(());
        }
        handle_refused(clients, tasks.first_mut().map(|task| &mut **task), refused)?;
    }
}

/// The production policy for records that the broker or the client refused.
pub(crate) fn handle_refused(clients: &mut Clients, task: Option<&mut Task>, refused: Vec<Refused>) -> Result {
    let Some(task) = task else { return Ok(()) };
    for record in refused {
        let dead_letters = task.cx.dead_letters.map(|topic| task.cx.outbox.topic_name(topic).clone());
        match (task.cx.policies.production, dead_letters) {
            // Only a fault of the record itself may be skipped: a broker that gives no answer is no reason to lose one.
            (policy, _) if policy == Policy::Fail || record.error.kind() != Kind::Record => {
                return Err(production_failed(record));
            }
            (Policy::DeadLetter, Some(topic)) if topic != record.topic => {
                send_dead_letter(clients, &topic, &record)?;
                task.cx.counts.dead_lettered += 1;
                tracing::warn!("{}; sent to the dead-letter topic", record.error);
            }
            _ => {
                task.cx.counts.dropped += 1;
                tracing::warn!("{}; the record is skipped (policy: continue)", record.error);
            }
        }
    }
    Ok(())
}

fn production_failed(record: Refused) -> Error {
    let kind = record.error.kind();
    Error::new(kind, "a record could not be produced").topic(&*record.topic).source(record.error).hint(match kind {
        Kind::Record => {
            "set errors.production to \"continue\" or \"dead-letter\", or raise the topic's max.message.bytes"
        }
        _ => "check the broker; the records since the last commit are processed again after the restart",
    })
}

/// A refused record, with KIP-1034's headers. Where it was too large, its bytes would be refused again: then only the
/// headers and the key go.
fn send_dead_letter(clients: &mut Clients, topic: &Arc<str>, record: &Refused) -> Result {
    let mut headers: Headers = record.headers.clone();
    headers.add("__streams.errors.exception", Some(b"watersmeet::Production"));
    headers.add("__streams.errors.message", Some(record.error.to_string().as_bytes()));
    headers.add("__streams.errors.topic", Some(record.topic.as_bytes()));
    clients.producer.send(crate::broker::Outgoing {
        topic,
        partition: None,
        key: record.key.as_deref(),
        value: None,
        timestamp_ms: record.timestamp_ms,
        headers: &headers,
    })
}
