//! A member that comes back under its name gets what it had, at once and without a rebalance, whatever it reads now. Where it
//! reads topics that it did not read before (a new version of the application; or the first time they were not known yet),
//! the group has given their partitions to nobody, and would not for as long as nobody else comes or goes.

use super::thread::StreamThread;
use super::topics::KnownTopics;
use crate::broker::TopicPartition;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeSet;
use std::sync::Arc;

impl StreamThread {
    /// To be called when partitions have been assigned. The first time it makes sure that the group knows what this member
    /// reads; where it does not, the member leaves, and joins again as a new one.
    ///
    /// # Errors
    /// [`Kind::Migrated`]: it joins again. And what it asks may get no answer.
    pub(super) fn join_anew_if_left_out(&mut self) -> Result {
        // Where partitions move one by one some may be nobody's for a moment.
        let may_be = self.may_be_left_out && self.clients.consumer.is_eager();
        let Some(known) = self.app.topics.known().filter(|_| may_be) else { return Ok(()) };
        let left_out = self.left_out(&known)?;
        self.may_be_left_out = false;
        let Some(topic) = left_out else { return Ok(()) };
        // Only who has taken what he was given can leave.
        let given: Vec<_> = self.owned.iter().map(|tp| (tp.clone(), None)).collect();
        self.clients.consumer.assign(&given)?;
        self.clients.consumer.close(true)?;
        Err(Error::new(Kind::Migrated, "the group does not know yet that this member reads this topic").topic(&*topic))
    }

    /// A topic of this member's that nobody in the group reads.
    fn left_out(&self, known: &KnownTopics) -> Result<Option<Arc<str>>> {
        let has = |topic: &Arc<str>| self.owned.iter().any(|tp| tp.topic == *topic);
        let mut missing = known.subscription();
        missing.retain(|topic| !has(topic));
        if missing.is_empty() {
            return Ok(None);
        }
        let members = self.app.broker.admin()?.members(&self.app.config.application_id)?;
        let read: BTreeSet<TopicPartition> = members.into_iter().flat_map(|member| member.partitions).collect();
        // In the middle of a rebalance nobody has anything: then all join, and say what they read.
        Ok(missing.into_iter().find(|topic| !read.is_empty() && !read.iter().any(|tp| tp.topic == *topic)))
    }
}
