//! `process_values`: operators of the user's own that leave keys as they are.

use super::Cx;
use super::process::{Processor, ProcessorContext};
use super::punctuation::Punctuation;
use super::store_views::StoreContext;
use crate::error::Result;
use crate::record::{Data, Headers, Record, Timestamp};

/// An operator of the user's own that leaves keys as they are, so that nothing has to be repartitioned behind it.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// struct Length;
/// impl ValueProcessor<String, String, i64> for Length {
///     fn process(&mut self, context: &mut ValueContext<'_, '_, String, i64>, record: FixedKeyRecord<String, String>) -> Result {
///         let length = record.value.len() as i64;
///         context.forward(record.with_value(length))
///     }
/// }
/// # let builder = StreamsBuilder::new();
/// let stream = builder.stream("in", Consumed::<String, String>::default());
/// stream.process_values(|| Length, Processing::default()).to("out", Produced::default());
/// let results = results::<String, i64>(builder.build()?, &[("in", "a", "xyz", 7)], "out")?;
/// assert_eq!(results, [("a".into(), 3)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub trait ValueProcessor<K, V, V2> {
    /// Called once, before the first record.
    fn init(&mut self, context: &mut ValueContext<'_, '_, K, V2>) -> Result {
        let _ = context;
        Ok(())
    }

    /// Takes one record.
    fn process(&mut self, context: &mut ValueContext<'_, '_, K, V2>, record: FixedKeyRecord<K, V>) -> Result;

    /// A punctuation is due.
    fn punctuate(&mut self, context: &mut ValueContext<'_, '_, K, V2>, punctuation: Punctuation) -> Result {
        let _ = (context, punctuation);
        Ok(())
    }

    /// Called when the task closes.
    fn close(&mut self) {}
}

/// A record whose key cannot be changed. Source: KIP-820's `FixedKeyRecord`.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// struct Length;
/// impl ValueProcessor<String, String, i64> for Length {
///     fn process(&mut self, context: &mut ValueContext<'_, '_, String, i64>, record: FixedKeyRecord<String, String>) -> Result {
///         let length = record.value.len() as i64;
///         context.forward(record.with_value(length))
///     }
/// }
/// # let builder = StreamsBuilder::new();
/// let stream = builder.stream("in", Consumed::<String, String>::default());
/// stream.process_values(|| Length, Processing::default()).to("out", Produced::default());
/// let results = results::<String, i64>(builder.build()?, &[("in", "a", "xyz", 7)], "out")?;
/// assert_eq!(results, [("a".into(), 3)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FixedKeyRecord<K, V> {
    key: K,
    /// The value.
    pub value: V,
    /// Event time.
    pub timestamp_ms: Timestamp,
    /// The headers.
    pub headers: Headers,
}

impl<K, V> FixedKeyRecord<K, V> {
    /// The key.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct Length;
    /// impl ValueProcessor<String, String, i64> for Length {
    ///     fn process(&mut self, context: &mut ValueContext<'_, '_, String, i64>, record: FixedKeyRecord<String, String>) -> Result {
    ///         let length = record.key().len() as i64;
    ///         context.forward(record.with_value(length))
    ///     }
    /// }
    /// # let builder = StreamsBuilder::new();
    /// let stream = builder.stream("in", Consumed::<String, String>::default());
    /// stream.process_values(|| Length, Processing::default()).to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("in", "a", "xyz", 7)], "out")?;
    /// assert_eq!(results, [("a".into(), 1)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The same record with another value.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct Length;
    /// impl ValueProcessor<String, String, i64> for Length {
    ///     fn process(&mut self, context: &mut ValueContext<'_, '_, String, i64>, record: FixedKeyRecord<String, String>) -> Result {
    ///         let length = record.value.len() as i64;
    ///         context.forward(record.with_value(length))
    ///     }
    /// }
    /// # let builder = StreamsBuilder::new();
    /// let stream = builder.stream("in", Consumed::<String, String>::default());
    /// stream.process_values(|| Length, Processing::default()).to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("in", "a", "xyz", 7)], "out")?;
    /// assert_eq!(results, [("a".into(), 3)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn with_value<W>(self, value: W) -> FixedKeyRecord<K, W> {
        FixedKeyRecord { key: self.key, value, timestamp_ms: self.timestamp_ms, headers: self.headers }
    }
}

/// What a [`ValueProcessor`] sees of its task.
///
/// ```
/// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
/// struct Length;
/// impl ValueProcessor<String, String, i64> for Length {
///     fn process(&mut self, context: &mut ValueContext<'_, '_, String, i64>, record: FixedKeyRecord<String, String>) -> Result {
///         let length = record.value.len() as i64;
///         context.forward(record.with_value(length))
///     }
/// }
/// # let builder = StreamsBuilder::new();
/// let stream = builder.stream("in", Consumed::<String, String>::default());
/// stream.process_values(|| Length, Processing::default()).to("out", Produced::default());
/// let results = results::<String, i64>(builder.build()?, &[("in", "a", "xyz", 7)], "out")?;
/// assert_eq!(results, [("a".into(), 3)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
pub struct ValueContext<'a, 'b, K, V>(&'b mut ProcessorContext<'a, K, V>);

impl<K, V> StoreContext for ValueContext<'_, '_, K, V> {
    fn cx(&mut self) -> &mut Cx {
        self.0.cx()
    }
}

impl<'a, K: Data, V: Data> ValueContext<'a, '_, K, V> {
    /// Sends a record to all children.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct Length;
    /// impl ValueProcessor<String, String, i64> for Length {
    ///     fn process(&mut self, context: &mut ValueContext<'_, '_, String, i64>, record: FixedKeyRecord<String, String>) -> Result {
    ///         let length = record.value.len() as i64;
    ///         context.forward(record.with_value(length))
    ///     }
    /// }
    /// # let builder = StreamsBuilder::new();
    /// let stream = builder.stream("in", Consumed::<String, String>::default());
    /// stream.process_values(|| Length, Processing::default()).to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("in", "a", "xyz", 7)], "out")?;
    /// assert_eq!(results, [("a".into(), 3)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// What goes wrong below; hand it on.
    pub fn forward(&mut self, record: FixedKeyRecord<K, V>) -> Result {
        let FixedKeyRecord { key, value, timestamp_ms, headers } = record;
        self.0.forward(Record { key, value, timestamp_ms, headers })
    }

    /// Everything that does not send records.
    ///
    /// ```
    /// # use watersmeet::{prelude::*, processor::*, record::*, serdes::*, testing::*};
    /// struct Length;
    /// impl ValueProcessor<String, String, i64> for Length {
    ///     fn process(&mut self, context: &mut ValueContext<'_, '_, String, i64>, record: FixedKeyRecord<String, String>) -> Result {
    ///         let time = context.context().stream_time_ms();
    ///         context.forward(record.with_value(time))
    ///     }
    /// }
    /// # let builder = StreamsBuilder::new();
    /// let stream = builder.stream("in", Consumed::<String, String>::default());
    /// stream.process_values(|| Length, Processing::default()).to("out", Produced::default());
    /// let results = results::<String, i64>(builder.build()?, &[("in", "a", "xyz", 7)], "out")?;
    /// assert_eq!(results, [("a".into(), 7)]);
    /// # Ok::<(), watersmeet::error::Error>(())
    /// ```
    pub fn context(&mut self) -> &mut ProcessorContext<'a, K, V> {
        self.0
    }
}

/// A [`ValueProcessor`] as a [`Processor`].
pub(crate) struct Values<P>(pub(crate) P);

impl<K, V, V2, P: ValueProcessor<K, V, V2>> Processor<K, V, K, V2> for Values<P> {
    fn init(&mut self, context: &mut ProcessorContext<'_, K, V2>) -> Result {
        self.0.init(&mut ValueContext(context))
    }

    fn process(&mut self, context: &mut ProcessorContext<'_, K, V2>, record: Record<K, V>) -> Result {
        let Record { key, value, timestamp_ms, headers } = record;
        self.0.process(&mut ValueContext(context), FixedKeyRecord { key, value, timestamp_ms, headers })
    }

    fn punctuate(&mut self, context: &mut ProcessorContext<'_, K, V2>, punctuation: Punctuation) -> Result {
        self.0.punctuate(&mut ValueContext(context), punctuation)
    }

    fn close(&mut self) {
        self.0.close();
    }
}
