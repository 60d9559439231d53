//! A whole test in one call.

use super::TopologyTestDriver;
use crate::config::{Config, EmitIntervals};
use crate::dsl::{Consumed, Produced};
use crate::error::Result;
use crate::record::Timestamp;
use crate::serdes::DefaultSerde;
use crate::topology::Topology;

/// Runs a topology on records of text (topic, key, value, timestamp) and returns what it writes to the topic `output`. What
/// windows send when they close comes without regard to the wall clock.
///
/// ```
/// use watersmeet::prelude::*;
/// use watersmeet::testing::results;
///
/// let builder = StreamsBuilder::new();
/// let words = builder.stream("words", Consumed::<String, String>::default());
/// words.map_values(|word| word.len() as i64).to("lengths", Produced::default());
/// let lengths = results::<String, i64>(builder.build()?, &[("words", "a", "watersmeet", 0)], "lengths")?;
/// assert_eq!(lengths, [("a".into(), 10)]);
/// # Ok::<(), watersmeet::error::Error>(())
/// ```
///
/// # Errors
/// As [`TopologyTestDriver::new`], [`pipe`](super::TestInputTopic::pipe) and
/// [`read_record`](super::TestOutputTopic::read_record).
pub fn results<K: DefaultSerde, V: DefaultSerde>(
    topology: Topology,
    records: &[(&str, &str, &str, Timestamp)],
    output: &str,
) -> Result<Vec<(K, V)>> {
    let emit_intervals = EmitIntervals { outer_join_ms: 0, window_close_ms: 0 };
    let config = Config { emit_intervals, ..Config::new("test") };
    let driver = TopologyTestDriver::new(topology, config)?;
    for (topic, key, value, timestamp_ms) in records {
        let input = driver.create_input_topic(topic, Produced::<String, String>::default());
        input.pipe_at(*key, *value, *timestamp_ms)?;
    }
    driver.create_output_topic(output, Consumed::default()).read_to_vec()
}
