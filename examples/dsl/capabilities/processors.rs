//! An operator of one's own, with a store and calls by stream time; and a topology put together node by node.

use watersmeet::prelude::*;
use watersmeet::processor::{
    KeyValueStore, Processor, ProcessorContext, Punctuation, PunctuationType, StateStore, TopologyBuilder,
};
use watersmeet::serdes::DefaultSerde;
use watersmeet::testing::results;

type Counts = KeyValueStore<String, i64>;

/// Counts by key, and tells all counts every 100 ms of stream time.
struct Report {
    store: StateStore<Counts>,
    counts: Option<Counts>,
}

impl Processor<String, String, String, i64> for Report {
    fn init(&mut self, context: &mut ProcessorContext<'_, String, i64>) -> Result {
        self.counts = Some(context.store(&self.store)?);
        context.schedule(100, PunctuationType::StreamTime);
        Ok(())
    }

    fn process(&mut self, context: &mut ProcessorContext<'_, String, i64>, record: Record<String, String>) -> Result {
        let Some(counts) = &mut self.counts else { return Ok(()) };
        let count = counts.get(context, &record.key)?.unwrap_or(0) + 1;
        counts.put(context, &record.key, Some(&count))
    }

    fn punctuate(&mut self, context: &mut ProcessorContext<'_, String, i64>, punctuation: Punctuation) -> Result {
        let Some(counts) = &mut self.counts else { return Ok(()) };
        for (key, count) in counts.all(context)? {
            context.forward(Record::new(key, count, punctuation.time_ms))?;
        }
        Ok(())
    }
}

pub fn run() -> Result<Vec<String>> {
    let builder = TopologyBuilder::new();
    let counts = builder.add_state_store(Counts::store("counts", String::serde(), i64::serde()));
    let clicks = builder.add_source("clicks-in", "clicks", Consumed::<String, String>::default());
    let (store, processing) = (counts.clone(), Processing::default().store(&counts));
    let report = move || Report { store: store.clone(), counts: None };
    let reports = builder.add_processor("report", report, &[&clicks], processing);
    builder.add_sink("reports-out", "reports", Produced::default(), &[&reports]);

    let records =
        [("clicks", "a", "x", 10), ("clicks", "b", "x", 20), ("clicks", "a", "x", 30), ("clicks", "a", "x", 130)];
    let reports = results::<String, i64>(builder.build()?, &records, "reports")?;
    assert!(reports.contains(&("a".into(), 3)) && reports.contains(&("b".into(), 1)));
    Ok(super::lines(reports))
}
