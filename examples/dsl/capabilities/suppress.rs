//! One result for each window, when it is over: by the aggregation itself, or by `suppress`.

use watersmeet::dsl::{BufferConfig, Suppressed};
use watersmeet::prelude::*;
use watersmeet::testing::results;
use watersmeet::windows::{EmitStrategy, TimeWindows};

pub fn run() -> Result<Vec<String>> {
    let builder = StreamsBuilder::new();
    let clicks = builder.stream("clicks", Consumed::<String, String>::default()).group_by_key(Grouped::default());
    let minutes = clicks.windowed_by(TimeWindows::of_size(10));
    let held_back = minutes.count(Materialized::default());
    let held_back = held_back.suppress(Suppressed::until_window_closes(BufferConfig::unbounded()));
    held_back.to_stream().select_key(|key, _| format!("held back {}", key.key)).to("counts", Produced::default());
    let at_the_end = minutes.emit_strategy(EmitStrategy::OnWindowClose).count(Materialized::default());
    at_the_end.to_stream().select_key(|key, _| format!("at the end {}", key.key)).to("counts", Produced::default());

    let records = [("clicks", "a", "x", 1), ("clicks", "a", "y", 4), ("clicks", "a", "z", 12)];
    let mut counts = results::<String, i64>(builder.build()?, &records, "counts")?;
    counts.sort();
    assert_eq!(counts, [("at the end a".into(), 2), ("held back a".into(), 2)]);
    Ok(super::lines(counts))
}
