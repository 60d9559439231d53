//! What an operator may be told besides its function: serdes, names, where state lives.

use crate::config::Timestamps;
use crate::operators::sink::TopicOf;
use crate::operators::source::TimestampsOf;
use crate::operators::{RecordContext, TimestampExtractor};
use crate::partitioner::StreamPartitioner;
use crate::serdes::{DefaultSerde, SerdeRef, formats};
use crate::topology::OffsetReset;
use serde::{Serialize, de::DeserializeOwned};

/// How a topic is read: the serdes of key and value, and optionally a timestamp extractor and a barrier.
///
/// ```
/// use watersmeet::prelude::*;
/// let text: Consumed<String, String> = Consumed::default();
/// let json = Consumed::<String, serde_json::Value>::json();
/// ```
pub struct Consumed<K, V> {
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) timestamps: TimestampsOf,
    pub(crate) ready_first: bool,
    pub(crate) reset: Option<OffsetReset>,
    pub(crate) name: Option<String>,
}

impl<K, V> Consumed<K, V> {
    /// Reads with these serdes.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let consumed = Consumed::with(String::serde(), i64::serde());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key, value, timestamps: TimestampsOf::default(), ready_first: false, reset: None, name: None }
    }

    /// Takes timestamps from `extractor` instead of the records themselves.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let by_length: watersmeet::operators::TimestampExtractor =
    ///     std::sync::Arc::new(|record, _| record.value().map_or(-1, |value| value.len() as i64));
    /// let consumed = Consumed::<String, String>::default().timestamp_extractor(by_length);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn timestamp_extractor(mut self, extractor: TimestampExtractor) -> Self {
        self.timestamps = TimestampsOf::Function(extractor);
        self
    }

    /// Takes timestamps by this rule, whatever the configuration says.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let consumed = Consumed::<String, String>::default().timestamps(watersmeet::config::Timestamps::WallClock);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn timestamps(mut self, rule: Timestamps) -> Self {
        self.timestamps = TimestampsOf::Rule(rule);
        self
    }

    /// Names the source.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let consumed = Consumed::<String, String>::default().named("orders-in");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Holds the other topics of a task back until this one has been read up to the end that it had when the task
    /// started: no record of a stream meets a table that is still empty (`join.table.ready`).
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let consumed = Consumed::<String, String>::default().ready_first();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn ready_first(mut self) -> Self {
        self.ready_first = true;
        self
    }

    /// Where partitions begin of which the group has no offset, whatever `consumer.auto.offset.reset` says. An offset that is no
    /// longer in the log is reset as that setting says all the same.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// use watersmeet::topology::OffsetReset;
    /// let last_hour = OffsetReset::ByDuration(std::time::Duration::from_secs(3_600));
    /// let consumed = Consumed::<String, String>::default().offset_reset(last_hour);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withOffsetResetPolicy")]
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.reset = Some(reset);
        self
    }
}

impl<K: DefaultSerde, V: Serialize + DeserializeOwned + 'static> Consumed<K, V> {
    /// Reads JSON values under keys with their default serde.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let consumed = Consumed::<String, Vec<i64>>::json();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn json() -> Self {
        Self::with(K::serde(), formats::json())
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Default for Consumed<K, V> {
    fn default() -> Self {
        Self::with(K::serde(), V::serde())
    }
}

/// How a topic is written: the serdes of key and value, and optionally which partitions records go to.
///
/// ```
/// use watersmeet::prelude::*;
/// let json = Produced::<String, serde_json::Value>::json();
/// ```
pub struct Produced<K, V> {
    pub(crate) key: SerdeRef<K>,
    pub(crate) value: SerdeRef<V>,
    pub(crate) name: Option<String>,
    pub(crate) partitioner: Option<StreamPartitioner<K, V>>,
}

impl<K, V> Produced<K, V> {
    /// Writes with these serdes.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let produced = Produced::with(String::serde(), i64::serde());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key, value, name: None, partitioner: None }
    }

    /// Lets `partitioner` say which partition each record goes to. Without one a record goes where its key belongs, one with
    /// a windowed key where the key without the window does.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// use watersmeet::testing::{DriverOptions, TopologyTestDriver};
    /// # let builder = StreamsBuilder::new();
    /// # let stream = builder.stream("in", Consumed::<String, i32>::default());
    /// let by_value = StreamPartitioner::new(|_topic: &str, _key: &String, value: &i32, partitions| value % partitions);
    /// stream.to("out", Produced::default().partitioner(by_value));
    /// # let options = DriverOptions { partitions: 4, ..Default::default() };
    /// # let driver = TopologyTestDriver::with(builder.build()?, Config::new("test"), options)?;
    /// # driver.create_input_topic("in", Produced::<String, i32>::default()).pipe("a", 7)?;
    /// # assert_eq!(driver.broker().records("out")[0].partition, 3);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withStreamPartitioner")]
    pub fn partitioner(mut self, partitioner: StreamPartitioner<K, V>) -> Self {
        self.partitioner = Some(partitioner);
        self
    }

    /// Names the sink.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let produced = Produced::<String, String>::default().named("orders-out");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl<K: DefaultSerde, V: Serialize + DeserializeOwned + 'static> Produced<K, V> {
    /// Writes JSON values under keys with their default serde.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let produced = Produced::<String, Vec<i64>>::json();
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn json() -> Self {
        Self::with(K::serde(), formats::json())
    }
}

impl<K: DefaultSerde, V: DefaultSerde> Default for Produced<K, V> {
    fn default() -> Self {
        Self::with(K::serde(), V::serde())
    }
}

/// What a stream-table join may be told: its name, serdes for the repartition that it may need, a grace period.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// # let people = builder.table("people", Consumed::<String, String>::default(), Materialized::default());
/// orders.join_with(&people, |_, order, name| order + &name, Joined::named("with-people")).to("out", Produced::default());
/// assert!(builder.build()?.describe().contains("Processor: with-people"));
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct Joined<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    pub(crate) grace_ms: Option<i64>,
}

impl<K, V> Default for Joined<K, V> {
    fn default() -> Self {
        Self { name: None, key: None, value: None, grace_ms: None }
    }
}

impl<K, V> Joined<K, V> {
    /// Names the join's node.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let joined = Joined::<String, String>::named("with-people");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// The stream's serdes, for the repartition that a changed key makes necessary.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let joined = Joined::with(String::serde(), i64::serde());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key: Some(key), value: Some(value), ..Self::default() }
    }

    /// Sets the name.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let joined = Joined::with(String::serde(), i64::serde()).name("with-people");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Holds each record back for this long in stream time, so that the table's rows of its time have come. Needs a
    /// versioned table. Source: KIP-923.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let joined = Joined::<String, String>::default().grace_ms(1_000);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn grace_ms(mut self, grace_ms: i64) -> Self {
        self.grace_ms = Some(grace_ms);
        self
    }
}

/// What a join of tables may be told: its name, which its nodes, topics and stores are named after; and for a join by a
/// foreign key how the tables are partitioned.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// let joined = TableJoined::<String, String>::named("orders-people");
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct TableJoined<K, KO> {
    pub(crate) name: Option<String>,
    pub(crate) partitioner: Option<StreamPartitioner<K, ()>>,
    pub(crate) other_partitioner: Option<StreamPartitioner<KO, ()>>,
}

impl<K, KO> Default for TableJoined<K, KO> {
    fn default() -> Self {
        Self { name: None, partitioner: None, other_partitioner: None }
    }
}

impl<K, KO> TableJoined<K, KO> {
    /// Names the join.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let joined = TableJoined::<String, String>::named("orders-people");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "as")]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// How this table's topic is partitioned, where that is not by key.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let by_length = StreamPartitioner::new(|_: &str, key: &String, (): &(), partitions| key.len() as i32 % partitions);
    /// let joined = TableJoined::<String, String>::default().partitioner(by_length);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withPartitioner")]
    pub fn partitioner(mut self, partitioner: StreamPartitioner<K, ()>) -> Self {
        self.partitioner = Some(partitioner);
        self
    }

    /// How the other table's topic is partitioned, where that is not by key.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let by_length = StreamPartitioner::new(|_: &str, key: &String, (): &(), partitions| key.len() as i32 % partitions);
    /// let joined = TableJoined::<String, String>::default().other_partitioner(by_length);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withOtherPartitioner")]
    pub fn other_partitioner(mut self, partitioner: StreamPartitioner<KO, ()>) -> Self {
        self.other_partitioner = Some(partitioner);
        self
    }
}

/// What `repartition` may be told.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// orders.repartition(Repartitioned::default().named("by-key")).to("out", Produced::default());
/// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out")?;
/// assert_eq!(results, [("a".into(), "x".into())]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct Repartitioned<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) key: Option<SerdeRef<K>>,
    pub(crate) value: Option<SerdeRef<V>>,
    pub(crate) partitions: Option<i32>,
    pub(crate) partitioner: Option<StreamPartitioner<K, V>>,
}

impl<K, V> Default for Repartitioned<K, V> {
    fn default() -> Self {
        Self { name: None, key: None, value: None, partitions: None, partitioner: None }
    }
}

impl<K, V> Repartitioned<K, V> {
    /// With these serdes.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let repartitioned = Repartitioned::with(String::serde(), i64::serde());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn with(key: SerdeRef<K>, value: SerdeRef<V>) -> Self {
        Self { key: Some(key), value: Some(value), ..Self::default() }
    }

    /// Names the topic: `<application.id>-<name>-repartition`.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let repartitioned = Repartitioned::<String, String>::default().named("by-customer");
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Lets `partitioner` say which partition each record goes to. What is behind it is partitioned so: it cannot be joined
    /// with what is partitioned by key.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let by_length = StreamPartitioner::new(|_: &str, key: &String, _: &String, partitions| key.len() as i32 % partitions);
    /// let repartitioned = Repartitioned::default().partitioner(by_length);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "withStreamPartitioner")]
    pub fn partitioner(mut self, partitioner: StreamPartitioner<K, V>) -> Self {
        self.partitioner = Some(partitioner);
        self
    }

    /// How many partitions the topic gets; without this as many as the topics that the stream comes from.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let repartitioned = Repartitioned::<String, String>::default().partitions(12);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }
}

/// Names the topic of each record that [`KStream::to_dynamic`](super::KStream::to_dynamic) writes.
///
/// ```
/// use watersmeet::prelude::*;
/// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
/// use watersmeet::testing::results;
/// # let builder = StreamsBuilder::new();
/// # let orders = builder.stream("orders", Consumed::<String, String>::default());
/// let by_key = TopicNameExtractor::new("ByKey", |key: &String, _: &String, _| format!("out-{key}"));
/// orders.to_dynamic(by_key, Produced::default());
/// let results = results::<String, String>(builder.build()?, &[("orders", "a", "x", 0)], "out-a")?;
/// assert_eq!(results, [("a".into(), "x".into())]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct TopicNameExtractor<K, V> {
    pub(crate) name: String,
    pub(crate) topic_of: TopicOf<K, V>,
}

impl<K, V> TopicNameExtractor<K, V> {
    /// An extractor of this name, which `describe()` shows. `topic_of` gets key, value, and where the record came from.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// # use watersmeet::{dsl::*, processor::*, serdes::DefaultSerde, windows::*};
    /// let by_key = TopicNameExtractor::new("ByKey", |key: &String, _: &String, _| format!("out-{key}"));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn new(
        name: impl Into<String>,
        topic_of: impl Fn(&K, &V, Option<&RecordContext>) -> String + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), topic_of: std::sync::Arc::new(topic_of) }
    }
}
