//! A versioned table: a record meets the row that was there at its own time, however late it comes.

use watersmeet::prelude::*;
use watersmeet::testing::results;

pub fn run() -> Result<Vec<String>> {
    let builder = StreamsBuilder::new();
    let prices = Materialized::versioned("prices", 3_600_000);
    let prices = builder.table("prices", Consumed::<String, String>::default(), prices);
    let orders = builder.stream("orders", Consumed::<String, String>::default());
    orders.join(&prices, |order, price| format!("{order} for {price}")).to("bills", Produced::default());

    let records = [
        ("prices", "tea", "3", 0),
        ("prices", "tea", "4", 100),
        ("orders", "tea", "late", 50),
        ("orders", "tea", "new", 120),
    ];
    let bills = results::<String, String>(builder.build()?, &records, "bills")?;
    assert_eq!(bills, [("tea".into(), "late for 3".into()), ("tea".into(), "new for 4".into())]);
    Ok(super::lines(bills))
}
