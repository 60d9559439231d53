//! Counts, and several streams in one aggregate.

use watersmeet::prelude::*;
use watersmeet::serdes::DefaultSerde;
use watersmeet::testing::results;

pub fn run() -> Result<Vec<String>> {
    let builder = StreamsBuilder::new();
    let lines = builder.stream("lines", Consumed::<String, String>::default());
    let words = lines.flat_map_values(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let by_word = words.group_by(|_, word| word.clone(), Grouped::with(String::serde(), String::serde()));
    let counts = by_word.count(Materialized::memory("counts"));
    counts.to_stream().to("counts", Produced::default());

    let sales = builder.stream("sales", Consumed::<String, String>::default());
    let returns = builder.stream("returns", Consumed::<String, String>::default());
    let balance = sales
        .group_by_key(Grouped::default())
        .cogroup(|_, _, so_far: i64| so_far + 1)
        .cogroup(&returns.group_by_key(Grouped::default()), |_, _, so_far| so_far - 1)
        .aggregate(|| 0, Materialized::memory("balance").values());
    balance.to_stream().to("counts", Produced::default());

    let records = [("lines", "1", "to be or not to be", 0), ("sales", "tea", "x", 1), ("returns", "tea", "x", 2)];
    let counts = results::<String, i64>(builder.build()?, &records, "counts")?;
    assert!(counts.contains(&("be".into(), 2)) && counts.ends_with(&[("tea".into(), 1), ("tea".into(), 0)]));
    Ok(super::lines(counts))
}
