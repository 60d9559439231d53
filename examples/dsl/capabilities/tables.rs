//! Tables: filtered, joined, grouped by something else.

use watersmeet::prelude::*;
use watersmeet::serdes::DefaultSerde;
use watersmeet::testing::results;

pub fn run() -> Result<Vec<String>> {
    let builder = StreamsBuilder::new();
    let text = Consumed::<String, String>::default;
    let names = builder.table("names", text(), Materialized::memory("names"));
    let towns = builder.table("towns", text(), Materialized::memory("towns"));
    let both = names.outer_join(&towns, |name, town| format!("{name:?} {town:?}"));
    both.to_stream().to("people", Produced::default());
    let texts = Grouped::with(String::serde(), String::serde());
    let in_town = towns.group_by(|person, town| (town.clone(), person.clone()), texts).count(Materialized::default());
    in_town.map_values(|n| format!("{n} people")).to_stream().to("people", Produced::default());

    let records =
        [("names", "1", "Ada", 0), ("towns", "1", "Rome", 1), ("towns", "2", "Rome", 2), ("towns", "1", "Oslo", 3)];
    let people = results::<String, Option<String>>(builder.build()?, &records, "people")?;
    assert!(people.contains(&("Rome".into(), Some("2 people".into()))));
    assert!(people.contains(&("Oslo".into(), Some("1 people".into()))));
    Ok(super::lines(people))
}
