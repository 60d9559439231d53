//! The thread that writes an index: takes all bulks that wait, applies them in order, and commits once for all of them. So
//! the more is waiting, the less a single write costs.

use super::documents::Fields;
use super::failed;
use crate::clock::{Clock, SystemClock};
use crate::search::{Operation, Outcome, SearchError};
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use tantivy::query::RangeQuery;
use tantivy::{IndexReader, IndexWriter, Term};
use tokio::sync::oneshot;

/// What tantivy may hold in memory before it writes a segment.
const MEMORY_BYTES: usize = 32 << 20;
/// How many operations go into one commit, about.
const OPERATIONS_PER_COMMIT: usize = 20_000;
/// How long a delete is remembered, and how often the older ones are looked for.
const DELETES_KEPT_MS: i64 = 3_600_000;
const FORGET_INTERVAL_MS: i64 = 600_000;

/// A bulk, and who waits for it.
pub(super) struct Job {
    pub(super) operations: Vec<Operation>,
    pub(super) answer: oneshot::Sender<Result<Vec<Outcome>, SearchError>>,
}

/// Starts the thread of one index; it ends when the index is dropped.
pub(super) fn start(
    name: &str,
    index: &tantivy::Index,
    fields: Fields,
    reader: IndexReader,
    work: Receiver<Job>,
) -> Result<(), SearchError> {
    let index = index.clone();
    // Now, so that who comes second to an index hears of it at once.
    let writer = Some(open(&index).map_err(failed)?);
    let mut writer = Writer { index, writer, fields, reader, clock: SystemClock::shared(), forgotten_ms: 0 };
    let thread = std::thread::Builder::new().name(format!("index {name}"));
    thread.spawn(move || writer.run(&work)).map(drop).map_err(SearchError::unavailable)
}

fn open(index: &tantivy::Index) -> tantivy::Result<IndexWriter> {
    index.writer_with_num_threads(1, MEMORY_BYTES)
}

struct Writer {
    index: tantivy::Index,
    /// None after an error: a writer that had one is of no use any more.
    writer: Option<IndexWriter>,
    fields: Fields,
    reader: IndexReader,
    clock: Arc<dyn Clock>,
    /// When old deletes were forgotten last.
    forgotten_ms: i64,
}

impl Writer {
    fn run(&mut self, work: &Receiver<Job>) {
        while let Ok(first) = work.recv() {
            let mut jobs = vec![first];
            let mut count = jobs[0].operations.len();
            while count < OPERATIONS_PER_COMMIT {
                let Ok(next) = work.try_recv() else { break };
                count += next.operations.len();
                jobs.push(next);
            }
            match self.write(&jobs) {
                Ok(outcomes) => {
                    for (job, outcomes) in jobs.into_iter().zip(outcomes) {
                        // Nobody waits any more where a task was closed.
                        let _ = job.answer.send(Ok(outcomes));
                    }
                }
                Err(error) => {
                    // What is half done is forgotten, so that trying again begins at what is on disk.
                    self.writer = None;
                    let error = failed(error);
                    jobs.into_iter().for_each(|job| drop(job.answer.send(Err(error.clone()))));
                }
            }
        }
    }

    fn write(&mut self, jobs: &[Job]) -> tantivy::Result<Vec<Vec<Outcome>>> {
        let now_ms = self.clock.now_ms();
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let writer = open(&self.index)?;
                // What the one before has left may be what fills the disk.
                writer.garbage_collect_files().wait()?;
                none.insert(writer)
            }
        };
        let searcher = self.reader.searcher();
        // The versions of what is not on disk yet.
        let mut versions: HashMap<&str, i64> = HashMap::new();
        let mut all = Vec::with_capacity(jobs.len());
        for job in jobs {
            let mut outcomes = Vec::with_capacity(job.operations.len());
            for Operation { id, version, document } in &job.operations {
                let known = match versions.get(id.as_str()) {
                    Some(known) => Some(*known),
                    None => self.fields.version(&searcher, id)?.map(|(known, _)| known),
                };
                if known.is_some_and(|known| known > *version) {
                    outcomes.push(Outcome::Stale);
                    continue;
                }
                let made = match document {
                    Some(text) => self.fields.document(id, *version, text),
                    None => Ok(self.fields.deleted(id, *version, now_ms)),
                };
                outcomes.push(match made {
                    Ok(document) => {
                        if known.is_some() {
                            writer.delete_term(self.fields.id_term(id));
                        }
                        writer.add_document(document)?;
                        versions.insert(id, *version);
                        Outcome::Written
                    }
                    Err(why) => Outcome::Refused(why),
                });
            }
            all.push(outcomes);
        }
        if now_ms - self.forgotten_ms >= FORGET_INTERVAL_MS {
            self.forgotten_ms = now_ms;
            let until = Term::from_field_i64(self.fields.deleted_ms, now_ms - DELETES_KEPT_MS);
            let old = RangeQuery::new(Bound::Unbounded, Bound::Excluded(until));
            writer.delete_query(Box::new(old))?;
        }
        writer.commit()?;
        self.reader.reload()?;
        Ok(all)
    }
}
