//! Typed topics of a test: records in, records out.

use super::broker::MemoryBroker;
use super::driver::Inner;
use super::log::StoredRecord;
use crate::broker::Outgoing;
use crate::dsl::{Consumed, Produced};
use crate::error::{Error, Kind, Result};
use crate::record::{Headers, Record, Timestamp};
use crate::serdes::{Encoded, SerdeError, SerdeRef};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// An input topic of a [`TopologyTestDriver`](super::TopologyTestDriver). Each record is processed, with everything that
/// follows from it, and committed before `pipe…` returns.
///
/// ```
/// use watersmeet::prelude::*;
/// use watersmeet::testing::TopologyTestDriver;
///
/// let builder = StreamsBuilder::new();
/// builder.stream("in", Consumed::<String, i64>::default()).map_values(|n| n * 2).to("out", Produced::default());
/// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
///
/// let input = driver.create_input_topic("in", Produced::<String, i64>::default()).with_time(1_000, 10);
/// input.pipe("a", 1)?;
/// input.pipe("a", 2)?;
/// input.pipe_at("a", 3, 500)?;
///
/// let output = driver.create_output_topic("out", Consumed::<String, i64>::default());
/// let times: Vec<_> = output.read_records_to_vec()?.into_iter().map(|r| (r.value, r.timestamp_ms)).collect();
/// assert_eq!(times, [(2, 1_000), (4, 1_010), (6, 500)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct TestInputTopic<K, V> {
    driver: Rc<RefCell<Inner>>,
    topic: Arc<str>,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    time_ms: Cell<Timestamp>,
    advance_ms: i64,
}

impl<K, V> TestInputTopic<K, V> {
    pub(super) fn new(driver: Rc<RefCell<Inner>>, name: &str, produced: Produced<K, V>, time_ms: Timestamp) -> Self {
        let Produced { key, value, .. } = produced;
        Self { driver, topic: name.into(), key, value, time_ms: Cell::new(time_ms), advance_ms: 0 }
    }

    /// The timestamp of the next record that comes without one, and by how much each such record moves it on. At first:
    /// the wall clock when the topic was made, and 0.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// input.with_time(100, 5).pipe("a", "x")?;
    /// assert_eq!(output.read_record()?.map(|record| record.timestamp_ms), Some(100));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "autoAdvance")]
    pub fn with_time(mut self, start_ms: Timestamp, auto_advance_ms: i64) -> Self {
        self.time_ms = Cell::new(start_ms);
        self.advance_ms = auto_advance_ms;
        self
    }

    /// Moves on the timestamp of the next record that comes without one.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// input.advance_time_ms(50);
    /// input.pipe("a", "x")?;
    /// assert_eq!(output.read_record()?.map(|record| record.timestamp_ms), Some(50));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "advanceTime")]
    pub fn advance_time_ms(&self, by_ms: i64) {
        self.time_ms.set(self.time_ms.get() + by_ms);
    }

    /// Pipes a record with the topic's own time.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// input.pipe("a", "x")?;
    /// assert_eq!(output.read_value()?, Some("x".into()));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// What ends a stream thread: a record that fails under the policy `fail`, a panic in a closure, a store that cannot be
    /// used. The driver is of no use afterwards, except for reading topics. Trouble with the broker is no error: as in
    /// production it shows in [`status`](super::TopologyTestDriver::status), and the record waits.
    #[doc(alias = "pipeInput")]
    pub fn pipe(&self, key: impl Into<K>, value: impl Into<V>) -> Result {
        self.pipe_at(key, value, self.next_time_ms())
    }

    /// Pipes a record with this timestamp.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// input.pipe_at("a", "x", 9)?;
    /// assert_eq!(output.read_record()?.map(|record| record.timestamp_ms), Some(9));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`pipe`](Self::pipe).
    pub fn pipe_at(&self, key: impl Into<K>, value: impl Into<V>, timestamp_ms: Timestamp) -> Result {
        self.pipe_record(Record::new(key.into(), value.into(), timestamp_ms))
    }

    /// Pipes a record with its own timestamp and headers.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// let mut record = Record::new("a".to_string(), "x".to_string(), 9);
    /// record.headers.add("trace", Some(b"1"));
    /// input.pipe_record(record.clone())?;
    /// assert_eq!(output.read_record()?, Some(record));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`pipe`](Self::pipe).
    pub fn pipe_record(&self, record: Record<K, V>) -> Result {
        let key = self.encode(&self.key, &record.key)?;
        let value = self.encode(&self.value, &record.value)?;
        self.pipe_bytes(key.as_deref(), value.as_deref(), record.timestamp_ms, &record.headers)
    }

    /// Pipes keys and values, each with the topic's own time.
    ///
    /// ```
    /// use watersmeet::prelude::*;
    /// use watersmeet::testing::TopologyTestDriver;
    /// # let builder = StreamsBuilder::new();
    /// builder.stream("in", Consumed::<String, i64>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// driver.create_input_topic("in", Produced::<String, i64>::default()).pipe_all([("a", 1), ("b", 2), ("a", 3)])?;
    /// let output = driver.create_output_topic("out", Consumed::<String, i64>::default());
    /// assert_eq!(output.read_to_map()?, [("a".into(), 3), ("b".into(), 2)].into());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`pipe`](Self::pipe).
    #[doc(alias = "pipeKeyValueList")]
    pub fn pipe_all(&self, rows: impl IntoIterator<Item = (impl Into<K>, impl Into<V>)>) -> Result {
        rows.into_iter().try_for_each(|(key, value)| self.pipe(key, value))
    }

    /// Pipes a null value with the topic's own time: a tombstone for a table.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// builder.table("rows", Consumed::<String, String>::default(), Materialized::memory("rows"));
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("rows", Produced::<String, String>::default());
    /// input.pipe("a", "x")?;
    /// input.pipe_tombstone("a")?;
    /// assert!(driver.store_rows("rows")?.is_empty());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`pipe`](Self::pipe).
    pub fn pipe_tombstone(&self, key: impl Into<K>) -> Result {
        let key = self.encode(&self.key, &key.into())?;
        self.pipe_bytes(key.as_deref(), None, self.next_time_ms(), &Headers::default())
    }

    /// Pipes bytes as they are: what no serde would write, such as a malformed record.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// input.pipe_bytes(Some(b"a"), Some(b"x"), 0, &Headers::default())?;
    /// assert_eq!(output.read_value()?, Some("x".into()));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`pipe`](Self::pipe).
    pub fn pipe_bytes(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp_ms: Timestamp,
        headers: &Headers,
    ) -> Result {
        let mut driver = self.driver.borrow_mut();
        driver.thread()?;
        if !driver.reads(&self.topic) {
            return Err(Error::new(Kind::Topology, "nothing in the topology reads this topic").topic(&*self.topic));
        }
        driver.follow_patterns(&self.topic)?;
        let (topic, timestamp_ms) = (&self.topic, Some(timestamp_ms));
        driver.broker.append(Outgoing { topic, partition: None, key, value, timestamp_ms, headers })?;
        driver.run()
    }

    fn next_time_ms(&self) -> Timestamp {
        self.time_ms.replace(self.time_ms.get() + self.advance_ms)
    }

    fn encode<T>(&self, serde: &SerdeRef<T>, part: &T) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        match serde.serialize(part, &mut bytes) {
            Ok(Encoded::Bytes) => Ok(Some(bytes)),
            Ok(Encoded::Null) => Ok(None),
            Err(error) => Err(Error::new(Kind::Record, format!("cannot be encoded: {error}")).topic(&*self.topic)),
        }
    }
}

/// An output topic of a [`TopologyTestDriver`](super::TopologyTestDriver): each record is read once, in the order in which
/// all of the topic's partitions were written.
///
/// Its errors are of [`Kind::Record`]: bytes that do not decode, or a null where `K` or `V` has none (declare `Option`).
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// # let builder = StreamsBuilder::new();
/// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
/// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
/// let input = driver.create_input_topic("in", Produced::<String, String>::default());
/// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
/// input.pipe("a", "x")?;
/// assert_eq!(output.read_to_vec()?, [("a".into(), "x".into())]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct TestOutputTopic<K, V> {
    broker: MemoryBroker,
    topic: String,
    key: SerdeRef<K>,
    value: SerdeRef<V>,
    /// The sequence number of the record read last.
    read: Cell<u64>,
}

impl<K, V> TestOutputTopic<K, V> {
    pub(super) fn new(broker: MemoryBroker, topic: &str, consumed: Consumed<K, V>) -> Self {
        let Consumed { key, value, .. } = consumed;
        Self { broker, topic: topic.into(), key, value, read: Cell::new(0) }
    }

    /// The next record; `None` where all have been read.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// input.pipe_at("a", "x", 9)?;
    /// assert_eq!(output.read_record()?, Some(Record::new("a".into(), "x".into(), 9)));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// It does not decode. It counts as read all the same.
    #[doc(alias = "readRecord")]
    pub fn read_record(&self) -> Result<Option<Record<K, V>>> {
        let Some(record) = self.broker.record_after(&self.topic, self.read.get()) else { return Ok(None) };
        self.read.set(record.sequence);
        let key = self.key.deserialize(record.key.as_deref()).map_err(|e| self.failed("key", &record, e))?;
        let value = self.value.deserialize(record.value.as_deref()).map_err(|e| self.failed("value", &record, e))?;
        let StoredRecord { timestamp_ms, headers, .. } = record;
        Ok(Some(Record { key, value, timestamp_ms, headers }))
    }

    /// Key and value of the next record; `None` where all have been read.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// input.pipe("a", "x")?;
    /// assert_eq!(output.read_key_value()?, Some(("a".into(), "x".into())));
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`read_record`](Self::read_record).
    #[doc(alias = "readKeyValue")]
    pub fn read_key_value(&self) -> Result<Option<(K, V)>> {
        Ok(self.read_record()?.map(|record| (record.key, record.value)))
    }

    /// The value of the next record; `None` where all have been read.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// assert_eq!(output.read_value()?, None);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`read_record`](Self::read_record).
    #[doc(alias = "readValue")]
    pub fn read_value(&self) -> Result<Option<V>> {
        Ok(self.read_record()?.map(|record| record.value))
    }

    /// Keys and values of all records not read yet.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// input.pipe_all([("a", "x"), ("b", "y")])?;
    /// assert_eq!(output.read_to_vec()?, [("a".into(), "x".into()), ("b".into(), "y".into())]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`read_record`](Self::read_record).
    #[doc(alias = "readKeyValuesToList")]
    pub fn read_to_vec(&self) -> Result<Vec<(K, V)>> {
        std::iter::from_fn(|| self.read_key_value().transpose()).collect()
    }

    /// The values of all records not read yet.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// input.pipe_all([("a", "x"), ("b", "y")])?;
    /// assert_eq!(output.read_values_to_vec()?, ["x", "y"]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`read_record`](Self::read_record).
    #[doc(alias = "readValuesToList")]
    pub fn read_values_to_vec(&self) -> Result<Vec<V>> {
        std::iter::from_fn(|| self.read_value().transpose()).collect()
    }

    /// The last value of each key among the records not read yet.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// input.pipe_all([("a", "x"), ("a", "y")])?;
    /// assert_eq!(output.read_to_map()?, [("a".into(), "y".into())].into());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`read_record`](Self::read_record).
    #[doc(alias = "readKeyValuesToMap")]
    pub fn read_to_map(&self) -> Result<BTreeMap<K, V>>
    where
        K: Ord,
    {
        std::iter::from_fn(|| self.read_key_value().transpose()).collect()
    }

    /// All records not read yet.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// input.pipe_at("a", "x", 9)?;
    /// assert_eq!(output.read_records_to_vec()?[0].timestamp_ms, 9);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`read_record`](Self::read_record).
    #[doc(alias = "readRecordsToList")]
    pub fn read_records_to_vec(&self) -> Result<Vec<Record<K, V>>> {
        std::iter::from_fn(|| self.read_record().transpose()).collect()
    }

    /// True where all records have been read.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// # let builder = StreamsBuilder::new();
    /// # builder.stream("in", Consumed::<String, String>::default()).to("out", Produced::default());
    /// let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    /// let input = driver.create_input_topic("in", Produced::<String, String>::default());
    /// let output = driver.create_output_topic("out", Consumed::<String, String>::default());
    /// assert!(output.is_empty());
    /// input.pipe("a", "x")?;
    /// assert!(!output.is_empty());
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    #[doc(alias = "isEmpty")]
    pub fn is_empty(&self) -> bool {
        self.broker.record_after(&self.topic, self.read.get()).is_none()
    }

    fn failed(&self, part: &str, record: &StoredRecord, error: SerdeError) -> Error {
        Error::new(Kind::Record, format!("the {part} does not decode: {error}"))
            .topic(&self.topic)
            .partition(record.partition)
            .offset(record.offset)
            .hint("read the topic with the serdes it is written with; Option<T> lets nulls in")
    }
}
