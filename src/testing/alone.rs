//! A store or a processor alone, without a topology around it.

use super::TopologyTestDriver;
use crate::config::Config;
use crate::dsl::{Consumed, Processing, Produced, StreamsBuilder};
use crate::error::Result;
use crate::operators::Cx;
use crate::operators::process::{Processor, ProcessorContext};
use crate::operators::store_views::StateStore;
use crate::record::{Data, Record};
use crate::serdes::DefaultSerde;

/// Lets `f` work with a store as a processor would, in a task that has no other.
///
/// ```
/// use watersmeet::processor::KeyValueStore;
/// use watersmeet::serdes::DefaultSerde;
/// use watersmeet::testing::with_store;
///
/// let counts = KeyValueStore::<String, i64>::store("counts", String::serde(), i64::serde());
/// let count = with_store(counts, |counts, context| {
///     counts.put(context, &"a".into(), Some(&1))?;
///     counts.get(context, &"a".into())
/// })?;
/// assert_eq!(count, Some(1));
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
///
/// # Errors
/// Those of `f`.
pub fn with_store<S: 'static, T>(store: StateStore<S>, f: impl FnOnce(&mut S, &mut Cx) -> Result<T>) -> Result<T> {
    let builder = StreamsBuilder::new();
    let store = builder.add_state_store(store);
    let records = builder.stream("records", Consumed::<String, String>::default());
    records.process(|| Nothing, Processing::default().store(&store));
    TopologyTestDriver::new(builder.build()?, Config::new("test"))?.look_into(&store, f)
}

/// Lets a processor take these records, and returns what it forwards.
///
/// ```
/// use watersmeet::prelude::*;
/// use watersmeet::processor::{Processor, ProcessorContext};
/// use watersmeet::testing::process_all;
///
/// struct Loud;
/// impl Processor<String, String, String, String> for Loud {
///     fn process(&mut self, context: &mut ProcessorContext<'_, String, String>, record: Record<String, String>) -> Result {
///         let loud = record.value.to_uppercase();
///         context.forward(record.with_value(loud))
///     }
/// }
/// let forwarded = process_all(|| Loud, [Record::new("a".to_string(), "x".to_string(), 7)])?;
/// assert_eq!((&*forwarded[0].value, forwarded[0].timestamp_ms), ("X", 7));
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
///
/// # Errors
/// Those of the processor.
#[doc(alias = "MockProcessorContext")]
pub fn process_all<K, V, K2, V2, P>(
    supplier: impl Fn() -> P + Send + Sync + 'static,
    records: impl IntoIterator<Item = Record<K, V>>,
) -> Result<Vec<Record<K2, V2>>>
where
    K: Data + DefaultSerde,
    V: Data + DefaultSerde,
    K2: Data + DefaultSerde,
    V2: Data + DefaultSerde,
    P: Processor<K, V, K2, V2> + 'static,
{
    let builder = StreamsBuilder::new();
    let stream = builder.stream("records", Consumed::<K, V>::default());
    stream.process(supplier, Processing::default()).to("forwarded", Produced::<K2, V2>::default());
    let driver = TopologyTestDriver::new(builder.build()?, Config::new("test"))?;
    let input = driver.create_input_topic("records", Produced::<K, V>::default());
    records.into_iter().try_for_each(|record| input.pipe_record(record))?;
    driver.create_output_topic("forwarded", Consumed::<K2, V2>::default()).read_records_to_vec()
}

struct Nothing;

impl Processor<String, String, String, String> for Nothing {
    fn process(&mut self, _: &mut ProcessorContext<'_, String, String>, _: Record<String, String>) -> Result {
        Ok(())
    }
}
