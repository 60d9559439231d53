//! Streams joined with a table, with a table that every instance has whole, and with each other.

use watersmeet::prelude::*;
use watersmeet::testing::results;
use watersmeet::windows::JoinWindows;

pub fn run() -> Result<Vec<String>> {
    let builder = StreamsBuilder::new();
    let text = Consumed::<String, String>::default;
    let orders = builder.stream("orders", text());
    let customers = builder.table("customers", text(), Materialized::memory("customers"));
    let products = builder.global_table("products", text(), Materialized::memory("products"));
    orders.left_join(&customers, |order, name| format!("{order} of {name:?}")).to("joined", Produced::default());
    orders
        .join_global(&products, |_, product| product.clone(), |_, price| format!("costs {price}"))
        .to("joined", Produced::default());
    let payments = builder.stream("payments", text());
    let soon = JoinWindows::of_time_difference(60);
    orders
        .join_stream(&payments, |_, order, paid| format!("{order} paid with {paid}"), soon, StreamJoined::default())
        .to("joined", Produced::default());

    let records = [
        ("products", "tea", "3 EUR", 0),
        ("customers", "c1", "Ada", 1),
        ("orders", "c1", "tea", 2),
        ("payments", "c1", "cash", 40),
        ("payments", "c1", "card", 400),
    ];
    let joined = results::<String, String>(builder.build()?, &records, "joined")?;
    let values: Vec<&str> = joined.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["tea of Some(\"Ada\")", "costs 3 EUR", "tea paid with cash"]);
    Ok(super::lines(joined))
}
