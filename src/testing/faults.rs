//! Faults on demand. Every request to the broker passes one gate, so whoever decides about faults decides there.

use crate::error::{Error, Kind, Result};
use std::collections::{BTreeMap, VecDeque};

/// A request to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Request {
    /// A member's heartbeat, with which it gets and gives partitions.
    Heartbeat,
    /// Records of the assigned partitions.
    Fetch,
    /// The group's committed offsets.
    Committed,
    /// A commit of offsets.
    Commit,
    /// Earliest and end offsets.
    Offsets,
    /// Look-up of topics.
    Topics,
    /// Creation of topics.
    CreateTopics,
    /// Look-up of topics' settings.
    Settings,
    /// Deletion of records that are not needed any more.
    DeleteRecords,
    /// Look-up of a group's members.
    Members,
    /// One record for a topic.
    Produce,
    /// A producer takes its transactional id.
    InitTransactions,
    /// Offsets for a transaction.
    SendOffsets,
    /// The end of a transaction, committed or aborted.
    EndTransaction,
}

impl Request {
    /// Whether it is answered by the group's coordinator.
    pub(super) fn is_for_the_coordinator(self) -> bool {
        use Request::*;
        matches!(self, Heartbeat | Committed | Commit | InitTransactions | SendOffsets | EndTransaction)
    }
}

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The broker does nothing and answers with an error of this kind.
    Refused(Kind),
    /// The broker does what it was asked to, and the answer is lost: the client sees a time-out.
    AnswerLost,
}

/// What every request passes before it reaches the broker, where a simulation decides about faults and about who is next.
pub(super) trait Gate: Send + Sync {
    /// This process is about to send this request: the fault that it meets, beside those of `fail_next`.
    ///
    /// # Errors
    /// The process no longer runs.
    fn pass(&self, process: &str, request: Request) -> Result<Option<Fault>>;
    /// Whether the process still runs.
    fn runs(&self, process: &str) -> bool;
}

/// The faults to come.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) unreachable: bool,
    next: BTreeMap<Request, VecDeque<Fault>>,
}

impl Faults {
    pub(super) fn add(&mut self, request: Request, fault: Fault) {
        self.next.entry(request).or_default().push_back(fault);
    }

    /// The fault that this request meets.
    pub(super) fn meet(&mut self, request: Request) -> Option<Fault> {
        if self.unreachable {
            return Some(Fault::Refused(Kind::Broker));
        }
        self.next.get_mut(&request)?.pop_front()
    }
}

impl Fault {
    pub(super) fn error(self, request: Request) -> Error {
        match self {
            Fault::Refused(Kind::Broker) => {
                Error::new(Kind::Broker, format!("{request:?}: the broker gives no answer"))
                    .hint("check that the brokers run and that bootstrap.servers is reachable")
            }
            Fault::Refused(kind) => Error::new(kind, format!("{request:?}: refused by the broker")),
            Fault::AnswerLost => Error::new(Kind::Broker, format!("{request:?}: timed out")),
        }
    }
}
