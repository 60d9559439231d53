//! The same count in tumbling, hopping and sliding windows and in sessions.

use watersmeet::dsl::KTable;
use watersmeet::prelude::*;
use watersmeet::testing::results;
use watersmeet::windows::{SessionWindows, SlidingWindows, TimeWindows, Windowed};

pub fn run() -> Result<Vec<String>> {
    let builder = StreamsBuilder::new();
    let clicks = builder.stream("clicks", Consumed::<String, String>::default()).group_by_key(Grouped::default());
    write(&clicks.windowed_by(TimeWindows::of_size(10)).count(Materialized::default()), "tumbling");
    write(&clicks.windowed_by(TimeWindows::of_size(10).advance_by(5)).count(Materialized::default()), "hopping");
    write(&clicks.windowed_by(SlidingWindows::of_time_difference(10)).count(Materialized::default()), "sliding");
    write(&clicks.windowed_by(SessionWindows::of_inactivity_gap(5)).count(Materialized::default()), "sessions");

    let records = [("clicks", "a", "x", 1), ("clicks", "a", "y", 4), ("clicks", "a", "z", 12)];
    let counts = results::<String, i64>(builder.build()?, &records, "counts")?;
    assert!(
        counts.contains(&("tumbling of a from 0".into(), 2)) && counts.contains(&("sessions of a from 1".into(), 2))
    );
    Ok(super::lines(counts))
}

/// Writes the counts with the windows in their keys.
fn write(counts: &KTable<Windowed<String>, i64>, kind: &'static str) {
    let text = move |key: &Windowed<String>, _: &i64| format!("{kind} of {} from {}", key.key, key.window.start_ms);
    counts.to_stream().flatten_values().select_key(text).to("counts", Produced::default());
}
