//! The instances of an application, as its group knows them: who has which partitions, and where they can be asked.
//!
//! Nobody tells the others anything: each member's client id says where its instance is (`application.server`), and the
//! group's coordinator knows the rest. Source: `StreamsMetadata`, `KeyQueryMetadata`.

use super::queries::{StoreBytes, Stores};
use crate::broker::TopicPartition;
use crate::error::Result;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How long what the coordinator said is believed.
const BELIEVED_MS: i64 = 2_000;

/// An instance of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
#[doc(alias = "StreamsMetadata")]
pub struct Instance {
    /// Where it can be asked; `None`: its `application.server` is not set.
    pub server: Option<String>,
    /// The partitions that its stream threads read.
    pub partitions: Vec<TopicPartition>,
}

/// What the coordinator said last, and when.
pub(crate) type Known = Mutex<Option<(i64, Arc<Vec<Instance>>)>>;

impl Stores {
    /// The instances of the application, as of a moment ago.
    ///
    /// # Errors
    /// [`Kind::Broker`](crate::error::Kind::Broker): the coordinator gives no answer.
    pub fn instances(&self) -> Result<Arc<Vec<Instance>>> {
        let app = self.app();
        let mut known = app.instances.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = app.shared.clock.now_ms();
        if let Some((at_ms, instances)) = &*known
            && (*at_ms..*at_ms + BELIEVED_MS).contains(&now_ms)
        {
            return Ok(instances.clone());
        }
        let mut by_server: BTreeMap<Option<String>, Vec<TopicPartition>> = BTreeMap::new();
        for member in app.broker.admin()?.members(&app.config.application_id)? {
            by_server.entry(member.server).or_default().extend(member.partitions);
        }
        let instances = by_server.into_iter().map(|(server, mut partitions)| {
            partitions.sort();
            Instance { server, partitions }
        });
        let instances = Arc::new(instances.collect::<Vec<_>>());
        *known = Some((now_ms, instances.clone()));
        Ok(instances)
    }

    /// Where other instances reach this one.
    pub fn own_server(&self) -> Option<&str> {
        self.app().config.application_server.as_deref()
    }

    /// What the coordinator said is no longer believed: it led to an instance that does not have what it should.
    pub fn forget_instances(&self) {
        *self.app().instances.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl StoreBytes {
    /// Where the task of this partition can be asked, if that is another instance than this one; `None`: nobody knows.
    ///
    /// # Errors
    /// As [`Stores::instances`].
    pub fn server_of(&self, partition: i32) -> Result<Option<String>> {
        let (stores, inputs) = (self.stores(), self.inputs());
        let own = stores.own_server().map(str::to_owned);
        let reads = |instance: &&Instance| {
            instance.partitions.iter().any(|tp| tp.partition == partition && inputs.contains(&tp.topic))
        };
        let instances = stores.instances()?;
        Ok(instances
            .iter()
            .find(reads)
            .and_then(|instance| instance.server.clone())
            .filter(|s| Some(s) != own.as_ref()))
    }

    /// The other instances that have partitions of the store.
    ///
    /// # Errors
    /// As [`Stores::instances`].
    pub fn other_servers(&self) -> Result<Vec<String>> {
        let (stores, inputs) = (self.stores(), self.inputs());
        let own = stores.own_server().map(str::to_owned);
        let reads = |instance: &&Instance| instance.partitions.iter().any(|tp| inputs.contains(&tp.topic));
        let servers = stores.instances()?.iter().filter(reads).filter_map(|i| i.server.clone()).collect::<Vec<_>>();
        Ok(servers.into_iter().filter(|server| Some(server) != own.as_ref()).collect())
    }
}
