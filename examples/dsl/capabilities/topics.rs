//! Topics by a pattern, topics chosen by the record, and partitions chosen by a function.

use watersmeet::prelude::*;
use watersmeet::testing::results;

pub fn run() -> Result<Vec<String>> {
    let builder = StreamsBuilder::new();
    let all = builder.stream(TopicPattern::new("orders-.*")?, Consumed::<String, String>::default());
    let by_country = TopicNameExtractor::new("ByCountry", |_: &String, country: &String, _| format!("to-{country}"));
    let to_the_last = StreamPartitioner::new(|_: &str, _: &String, _: &String, partitions| partitions - 1);
    all.to_dynamic(by_country, Produced::default().partitioner(to_the_last));

    let records = [("orders-asia", "a", "jp", 0), ("orders-europe", "b", "it", 1), ("orders-asia", "c", "it", 2)];
    let to_italy = results::<String, String>(builder.build()?, &records, "to-it")?;
    assert_eq!(to_italy.len(), 2);
    Ok(super::lines(to_italy))
}
