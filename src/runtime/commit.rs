//! Commit. At least once, in this order:
//!
//! 1. everything produced is flushed, and what was refused has met its policy;
//! 2. each task's state and the changelog offsets that it corresponds to are written in one batch;
//! 3. the input offsets are committed to the group.
//!
//! A crash between two of these repeats records, and never loses one: outputs are out before the state says so, and the
//! state is written before the group forgets the inputs.
//!
//! Exactly once, in this order:
//!
//! 1. everything produced is flushed;
//! 2. the input offsets are added to the transaction, and it is committed;
//! 3. each task's state and the changelog offsets that it corresponds to are written in one batch.
//!
//! A crash before the end of 2 leaves a state that knows nothing of the transaction, which is aborted; one after it a state
//! that is behind its changelog by this one transaction, which the restore brings. Do not reorder either.

use super::metadata::Metadata;
use super::task::Task;
use super::thread::Clients;
use super::transaction::Transaction;
use crate::broker::{Committed, Refused, TopicPartition};
use crate::config::Policy;
use crate::error::{Error, Kind, Result};
use crate::record::Headers;
use crate::state::StoreId;
use std::sync::Arc;
use std::time::Duration;

/// The header that names what a dead letter has left out, since it would have been too large.
const LEFT_OUT: &str = "__watersmeet.left.out";

/// Where a task's stores are logged, by store.
#[derive(Clone, Default)]
pub(crate) struct Changelogs(pub(crate) Vec<(StoreId, TopicPartition)>);

/// Commits these tasks. Tasks without news cost nothing.
pub(crate) fn commit(clients: &mut Clients, tasks: &mut [&mut Task], flush_max: Duration) -> Result {
    if clients.transaction == Transaction::Committing {
        // Nothing has changed since: this is only about the answer.
        return finish_transaction(clients, tasks);
    }
    for task in tasks.iter_mut() {
        let flushed = if task.dirty { task.flush() } else { Ok(()) };
        // Also what came before a record that failed.
        let drained = task.cx.outbox.drain(|record| clients.producer.send(record));
        flushed.and(drained)?;
    }
    settle(clients, tasks, flush_max)?;
    count_logged(clients, tasks)?;
    let mut offsets = Vec::new();
    for task in tasks.iter_mut().filter(|task| task.dirty) {
        let closed_ms = task.closed_ms();
        for input in &task.inputs {
            let (offset, time_ms) = task.committable(input);
            let metadata = Metadata { time_ms, closed_ms: closed_ms.clone() }.encode();
            let committed = Committed { offset, metadata };
            offsets.push(((*input.partition).clone(), committed));
        }
    }
    if clients.transaction == Transaction::None {
        write_state(tasks)?;
        if !offsets.is_empty() {
            clients.consumer.commit(&offsets)?;
        }
        tasks.iter_mut().for_each(|task| task.dirty = false);
        return Ok(());
    }
    if offsets.is_empty() {
        return Ok(());
    }
    let not_a_member = || Error::new(Kind::Migrated, "there is no member of the group to commit for");
    let group = clients.consumer.group_metadata().ok_or_else(not_a_member)?;
    clients.producer.send_offsets(&offsets, &*group)?;
    clients.transaction = Transaction::Committing;
    finish_transaction(clients, tasks)
}

/// Commits the transaction, and begins the next one.
fn finish_transaction(clients: &mut Clients, tasks: &mut [&mut Task]) -> Result {
    clients.producer.commit_transaction()?;
    clients.transaction = Transaction::Open;
    for task in tasks.iter_mut() {
        task.dirty = false;
        // Once for each log, however often it was tried to commit.
        while let Some(i) = task.unmarked.pop_first() {
            task.log_ends[i] += 1;
        }
    }
    write_state(tasks)?;
    clients.producer.begin_transaction()
}

/// Writes what the tasks have changed, with the offsets that it corresponds to.
fn write_state(tasks: &mut [&mut Task]) -> Result {
    for task in tasks {
        let logged = task.changelogs.0.iter().zip(&task.log_ends).map(|((_, tp), end)| {
            // A source topic that serves as changelog has been applied up to the input's position.
            (tp.clone(), task.position(tp).unwrap_or(*end))
        });
        let logged: Vec<_> = logged.collect();
        task.cx.state.commit(&logged)?;
        task.cx.cache.committed();
    }
    Ok(())
}

/// Moves the ends of the tasks' changelogs, now that everything they logged is acknowledged: a task is the only writer of
/// its changelog partitions, so counting is enough, and asks nothing of the broker. Whatever else got in between (a
/// zombie's records) makes the count fall short of the log's end, which costs a restore some records that it has already.
fn count_logged(clients: &mut Clients, tasks: &mut [&mut Task]) -> Result {
    let transactional = clients.transaction != Transaction::None;
    let recount = std::mem::take(&mut clients.recount);
    for task in tasks.iter_mut() {
        for (i, (store, tp)) in task.changelogs.0.iter().enumerate() {
            let Some(topic) = task.cx.changelogs[store.0] else { continue };
            let pushed = task.cx.outbox.take_pushed(topic);
            if transactional && pushed > 0 {
                task.unmarked.insert(i);
            }
            if recount {
                // Not all that was pushed has got there.
                task.log_ends[i] = clients.consumer.log_ends(std::slice::from_ref(tp))?[0];
            } else {
                task.log_ends[i] += pushed;
            }
        }
    }
    Ok(())
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
    clients.recount = true;
    for record in refused {
        let transactional = clients.transaction != Transaction::None;
        if record.error.is_retriable() {
            // The record is gone: what it came from has to be processed again.
            let kind = if transactional { Kind::Aborted } else { Kind::Migrated };
            return Err(Error::new(kind, "records were lost on their way").source(production_failed(record)));
        }
        if transactional && record.by_broker {
            // The transaction is spoilt, and would be again.
            return Err(production_failed(record));
        }
        let dead_letters = task.cx.dead_letters.map(|topic| task.cx.outbox.topic_name(topic).clone());
        if record.error.kind() == Kind::Record
            && dead_letters.as_ref() == Some(&record.topic)
            && send_shorter(clients, &record)?
        {
            continue;
        }
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

/// A dead letter has headers that its record did not have: one of the largest records that topics take does not fit any more.
/// It goes without its value, then without its key; where they are to be found, the headers tell. False: nothing is left.
fn send_shorter(clients: &mut Clients, record: &Refused) -> Result<bool> {
    let (part, bytes) = match (&record.value, &record.key) {
        (Some(value), _) => ("value", value.len()),
        (None, Some(key)) => ("key", key.len()),
        (None, None) => return Ok(false),
    };
    tracing::warn!("a dead letter goes without its {part} of {bytes} bytes: {}", record.error);
    let mut headers = record.headers.clone();
    headers.add(LEFT_OUT, Some(format!("{part} ({bytes} bytes)").as_bytes()));
    clients.producer.send(crate::broker::Outgoing {
        topic: &record.topic,
        partition: None,
        key: record.key.as_deref().filter(|_| part != "key"),
        value: None,
        timestamp_ms: record.timestamp_ms,
        headers: &headers,
    })?;
    Ok(true)
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
