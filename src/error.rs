//! The one error type: what happened, where, and what to do next.

use std::borrow::Cow;
use std::fmt;

/// The result of everything in this crate that can fail.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// What the reader of an error should do about it. Few on purpose: the text carries the detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A setting is missing, unknown, of the wrong type or contradicts another: correct it and start again.
    Config,
    /// The topology cannot be built or does not fit the topics: correct the code or the topics.
    Topology,
    /// The broker cannot be reached or refused the request for now: it is retried; check broker and network.
    Broker,
    /// The broker refused for good (authorization, unknown topic, unsupported): somebody must change something there.
    BrokerFatal,
    /// Another member has taken over this member's partitions or transactional id: give up the tasks, join again.
    Migrated,
    /// The transaction cannot be committed: it is aborted, and its records are processed again.
    Aborted,
    /// The state directory or a store cannot be used: locked, not writable, full or corrupt.
    State,
    /// A store on disk is damaged: it is set aside, and restored from its changelog.
    Corrupt,
    /// Another thread of this process has not let go of it yet: it is waited for.
    Busy,
    /// What was asked for is not here now: a store is being restored or has moved. Ask again.
    Unavailable,
    /// One record cannot be decoded, processed or produced, and the policy for that is to fail.
    Record,
    /// User code panicked or returned an error that no policy covers.
    User,
    /// A broken promise inside this crate: please report it.
    Internal,
}

/// Where an error happened. Every part that is known is printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct At {
    /// Topic of the record or request.
    pub topic: Option<String>,
    /// Partition of that topic.
    pub partition: Option<i32>,
    /// Offset in that partition.
    pub offset: Option<i64>,
    /// Name of the store.
    pub store: Option<String>,
    /// Configuration key.
    pub key: Option<String>,
    /// Name of the topology's node.
    pub node: Option<String>,
}

/// What happened, where, and what to do next.
///
/// ```
/// use watersmeet::error::{Error, Kind};
/// let error = Error::new(Kind::Config, "is 0, but at least one thread is needed")
///     .key("num.stream.threads")
///     .hint("set it to 1 or more");
/// assert_eq!(error.to_string(), "num.stream.threads: is 0, but at least one thread is needed. Next: set it to 1 or more");
/// assert_eq!(format!("{error:?}"), format!("{error} (Config)"), "what a `main` that returns it prints");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    what: Cow<'static, str>,
    at: At,
    hint: Option<Cow<'static, str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `what` says what happened.
    pub fn new(kind: Kind, what: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, what: what.into(), at: At::default(), hint: None, source: None }))
    }

    /// Adds what the reader should do next.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the configuration key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.0.at.key = Some(key.into());
        self
    }

    /// Adds the topic.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.0.at.topic = Some(topic.into());
        self
    }

    /// Adds the partition.
    pub fn partition(mut self, partition: i32) -> Self {
        self.0.at.partition = Some(partition);
        self
    }

    /// Adds the offset.
    pub fn offset(mut self, offset: i64) -> Self {
        self.0.at.offset = Some(offset);
        self
    }

    /// Adds the store's name.
    pub fn store(mut self, store: impl Into<String>) -> Self {
        self.0.at.store = Some(store.into());
        self
    }

    /// Adds the node's name.
    pub fn node(mut self, node: impl Into<String>) -> Self {
        self.0.at.node = Some(node.into());
        self
    }

    /// Adds the error that caused this one.
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What the reader should do about it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Where it happened.
    pub fn at(&self) -> &At {
        &self.0.at
    }

    /// What happened, without the place, the cause and the hint.
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// True where trying again later may succeed without anybody changing anything.
    pub fn is_retriable(&self) -> bool {
        matches!(self.0.kind, Kind::Broker | Kind::Unavailable)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let At { topic, partition, offset, store, key, node } = &self.0.at;
        let mut place = Vec::new();
        place.extend(key.clone());
        place.extend(node.as_ref().map(|n| format!("node {n}")));
        place.extend(store.as_ref().map(|s| format!("store {s}")));
        place.extend(topic.as_ref().map(|t| format!("topic {t}")));
        place.extend(partition.map(|p| format!("partition {p}")));
        place.extend(offset.map(|o| format!("offset {o}")));
        if !place.is_empty() {
            write!(f, "{}: ", place.join(", "))?;
        }
        f.write_str(&self.0.what)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, ". Next: {hint}")?;
        }
        Ok(())
    }
}

/// As it is for people, since that is how a `main` that returns it ends.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| &**s as _)
    }
}
