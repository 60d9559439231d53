//! `shutdown-application`: how instances end together that cannot talk to each other.
//!
//! An instance that ends its application leaves a note with the committed offsets of its partitions, as one more entry of
//! their metadata, and leaves the group. Whoever gets one of these partitions finds the note, ends, and does the same with
//! its own partitions, until nobody is left. A note from before an instance's own start is not meant for it: it was started
//! to go on. (Kafka Streams tells the others through its assignor, which librdkafka does not let us have.)

use super::metadata::Metadata;
use super::task_init::Positions;
use super::thread::StreamThread;
use crate::broker::{Committed, TopicPartition};
use crate::config::Uncaught;
use crate::error::{Error, Kind, Result};

/// The entry among those that name stores; its time is that of the end.
const NOTE: &str = "watersmeet.shutdown-application";

impl StreamThread {
    /// The thread ends by an error. Where that ends the application, the others are told.
    pub(super) fn failed(&mut self) {
        if self.app.config.uncaught == Uncaught::ShutdownApplication {
            self.app.shared.end_application();
        }
        if !self.app.shared.application_ends() {
            return;
        }
        self.close_tasks(|_| true, false);
        self.abort_at_the_end();
        self.tell_others();
        if let Err(error) = self.clients.consumer.close(true) {
            tracing::warn!(thread = self.number, "{error}");
        }
    }

    /// Leaves the note with this thread's partitions.
    pub(super) fn tell_others(&mut self) {
        let owned: Vec<TopicPartition> = std::mem::take(&mut self.owned).into_iter().collect();
        if owned.is_empty() {
            return;
        }
        if let Err(error) = self.leave_notes(owned) {
            tracing::warn!(thread = self.number, "could not tell the other instances to end: {error}");
        }
    }

    fn leave_notes(&mut self, owned: Vec<TopicPartition>) -> Result {
        let now_ms = self.app.shared.clock.now_ms();
        let committed = self.clients.consumer.committed(&owned)?;
        let mut notes = Vec::with_capacity(owned.len());
        // Without a commit yet, where it begins is said only if that changes nothing.
        let from_the_start = !self.app.config.consumer.iter().any(|(key, _)| key == "auto.offset.reset");
        for (tp, committed) in owned.into_iter().zip(committed) {
            let (offset, text) = match committed {
                Some(committed) => (committed.offset, committed.metadata),
                None if from_the_start => {
                    let bounds = self.clients.consumer.offset_bounds(std::slice::from_ref(&tp))?;
                    let Some(bounds) = bounds.first() else { continue };
                    (bounds.start, String::new())
                }
                None => continue,
            };
            let mut metadata = Metadata::decode(&text);
            metadata.closed_ms.insert(NOTE.into(), now_ms);
            notes.push((tp, Committed { offset, metadata: metadata.encode() }));
        }
        self.clients.consumer.commit(&notes)
    }

    /// Whether one of the partitions that have come has a note for this instance: then it is an error to end by.
    pub(super) fn check_notes(&self, positions: &Positions) -> Result {
        let notes = positions.iter().filter_map(|(tp, known)| Some((tp, *known.as_ref()?.1.closed_ms.get(NOTE)?)));
        let started_ms = self.app.shared.started_ms;
        let Some((tp, _)) = notes.into_iter().find(|(_, ended_ms)| *ended_ms > started_ms) else { return Ok(()) };
        self.app.shared.end_application();
        let why = "another instance has ended the application (errors.uncaught = \"shutdown-application\")";
        Err(Error::new(Kind::User, why)
            .topic(&*tp.topic)
            .partition(tp.partition)
            .hint("see why in the log of the instance that had this partition, then start the instances again"))
    }
}
