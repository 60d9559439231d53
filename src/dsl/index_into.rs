//! `index_into`: a stream into a search engine.

use super::KStream;
use super::graph::GraphNode;
use super::writer::Writer;
use crate::backoff::Backoff;
use crate::error::{Error, Kind};
use crate::operators::Port;
use crate::operators::index_into::{IdOf, IndexPort, Indexer, Limits, Target, Version};
use crate::record::Data;
use crate::search::SearchEngine;
use crate::topology::NodeId;
use serde::Serialize;
use std::cell::RefCell;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Into which index records go, and how: see [`KStream::index_into`].
///
/// | | default |
/// |---|---|
/// | id of the document | the key as text |
/// | document | the value as JSON; a value that is `null` deletes the document |
/// | version | the record's offset |
/// | a request | at most 1,000 documents or 5 MiB, at the latest 50 ms after its first document |
/// | requests under way per task | at most 2 |
/// | next attempt after trouble | after 100 ms, doubled up to 5 s |
pub struct IndexInto<K, V> {
    engine: Arc<dyn SearchEngine>,
    index: String,
    id: IdOf<K, V>,
    version: Version<K, V>,
    limits: Limits,
    name: Option<String>,
}

impl<K, V> Clone for IndexInto<K, V> {
    fn clone(&self) -> Self {
        let (engine, index, id) = (self.engine.clone(), self.index.clone(), self.id.clone());
        Self { engine, index, id, version: self.version.clone(), limits: self.limits, name: self.name.clone() }
    }
}

impl<K: Display + 'static, V: 'static> IndexInto<K, V> {
    /// Into this index, or into the one that this alias stands for when a request is made.
    pub fn new(engine: Arc<dyn SearchEngine>, index: impl Into<String>) -> Self {
        Self::with_id(engine, index, |key: &K, _: &V| key.to_string())
    }
}

impl<K: 'static, V: 'static> IndexInto<K, V> {
    /// The same, with ids of the documents that are not the keys as text. Records of the same id should have the same key: only
    /// then are they in one partition, where one comes after the other.
    pub fn with_id(
        engine: Arc<dyn SearchEngine>,
        index: impl Into<String>,
        id: impl Fn(&K, &V) -> String + Send + Sync + 'static,
    ) -> Self {
        let limits = Limits {
            documents: 1_000,
            bytes: 5 << 20,
            in_flight: 2,
            linger: Duration::from_millis(50),
            backoff: Backoff::default(),
            patience: Duration::from_secs(10),
        };
        Self { engine, index: index.into(), id: Arc::new(id), version: Version::Offset, limits, name: None }
    }

    /// Takes the documents' versions from the records' timestamps: of two records of one key that with the later timestamp
    /// wins; of equal timestamps that with the larger offset or, where the stream comes from several topics, the one that is
    /// written last. For such streams, as their offsets do not compare, and where late records shall not count.
    pub fn version_by_timestamp(mut self) -> Self {
        self.version = Version::Timestamp { then_offset: true };
        self
    }

    /// Takes the documents' versions from the records, such as a number that the source has counted; not negative.
    pub fn version_by(mut self, version: impl Fn(&K, &V) -> i64 + Send + Sync + 'static) -> Self {
        self.version = Version::By(Arc::new(version));
        self
    }

    /// How many documents, and how many bytes, one request has at most.
    pub fn request_max(mut self, documents: usize, bytes: usize) -> Self {
        (self.limits.documents, self.limits.bytes) = (documents.max(1), bytes.max(1));
        self
    }

    /// How many requests of one task may be under way. As many are collected besides; then the task takes no further record.
    pub fn in_flight_max(mut self, requests: usize) -> Self {
        self.limits.in_flight = requests.max(1);
        self
    }

    /// How long a document may wait for others to share its request.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.limits.linger = linger;
        self
    }

    /// How long to wait before the next attempt.
    pub fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.limits.backoff = Backoff { first, max, ..Backoff::default() };
        self
    }

    /// How long a task that goes waits for its requests. What is not acknowledged by then is not committed.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.limits.patience = patience;
        self
    }

    /// Names the sink.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl<K: Data, V: Data + Serialize> KStream<K, V> {
    /// Writes each record to a search engine as a document; the stream ends here.
    ///
    /// Documents go in requests of many, several at a time, while the task takes further records; when it has no more room
    /// its partitions are paused. What the engine cannot take now (it does not answer, has too much to do, its disk is full) is
    /// written again until it can. A document that it will never take meets the production policy (`errors.production`): the
    /// client ends, or the record is skipped, or goes to the dead-letter topic.
    ///
    /// The offset that is committed is that of the first record whose document is not acknowledged, so a crash loses none and
    /// repeats some. Every write has a version, and the engine keeps the largest: a repeated or late write never puts an
    /// older document over a newer one. The index ends as if each record had been written once. That holds for both
    /// guarantees: the engine is no part of a transaction, so searches may see a document before its record is committed,
    /// and where a transaction is aborted, the document that comes of its record the next time takes its place.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use watersmeet::prelude::*;
    /// use watersmeet::search::{EmbeddedEngine, IndexSchema, Search, SearchEngine};
    /// use watersmeet::testing::TopologyTestDriver;
    /// # let folder = std::env::temp_dir().join(format!("watersmeet-doc-{}", std::process::id()));
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    ///
    /// let engine = Arc::new(EmbeddedEngine::open(&folder)?);
    /// runtime.block_on(engine.create_index("films", &IndexSchema::default().text("title")))?;
    ///
    /// let builder = StreamsBuilder::new();
    /// let films = builder.stream("films", Consumed::<String, Option<serde_json::Value>>::json());
    /// films.index_into(IndexInto::new(engine.clone(), "films"));
    ///
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("films", Produced::<String, Option<serde_json::Value>>::json());
    /// input.pipe("alien", Some(serde_json::json!({ "title": "Alien" })))?;
    /// input.pipe("brazil", Some(serde_json::json!({ "title": "Brazil" })))?;
    /// input.pipe("alien", None)?;
    /// let found = runtime.block_on(engine.search("films", &Search::new("")))?;
    /// assert_eq!((found.total, found.hits[0].id.as_str()), (1, "brazil"));
    /// # drop(driver);
    /// # std::fs::remove_dir_all(folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn index_into(&self, into: IndexInto<K, V>) {
        let IndexInto { engine, index, id, mut version, limits, name } = into;
        let name = self.graph.name_or(name.as_deref(), "KSTREAM-INDEX");
        let offsets_compare = self.graph.is_one_topic(&self.sources);
        if let Version::Timestamp { then_offset } = &mut version {
            *then_offset = offsets_compare;
        }
        if matches!(version, Version::Offset) && !offsets_compare {
            let what = format!("the documents of {index:?} come from several topics, whose offsets do not compare");
            let hint = "take their versions from timestamps (version_by_timestamp), or write to a topic and index that";
            self.graph.fail(Error::new(Kind::Topology, what).node(&name).hint(hint));
        }
        let document = Arc::new(|value: &V| serde_json::to_vec(value).map_err(|e| format!("no JSON: {e}")));
        let target = Arc::new(Target { engine, index, id, document, version, limits });
        let write = move |writer: &mut Writer, name: &str, parents: &[NodeId]| {
            let node = writer.processor(name, parents, move |build, _: Port<K, V>| {
                let indexer = Rc::new(RefCell::new(Indexer::new(build, target.clone())));
                build.hooks.add_work(indexer.clone(), limits.patience);
                Box::new(IndexPort(indexer)) as Port<K, V>
            });
            writer.holds(node);
            node
        };
        let (parents, write) = (vec![self.node], Some(Box::new(write) as _));
        self.graph.add(GraphNode { name, parents, write, ..GraphNode::default() });
    }
}
