//! A table joined with another one by a key that its rows name.

use watersmeet::prelude::*;
use watersmeet::testing::results;

pub fn run() -> Result<Vec<String>> {
    let builder = StreamsBuilder::new();
    let text = Consumed::<String, String>::default;
    let orders = builder.table("orders", text(), Materialized::memory("orders"));
    let customers = builder.table("customers", text(), Materialized::memory("customers"));
    let shipments = orders.join_on(&customers, |customer| customer.clone(), |_, address| format!("to {address}"));
    shipments.to_stream().to("shipments", Produced::default());

    let records = [
        ("customers", "c1", "Rome", 0),
        ("orders", "o1", "c1", 1),
        ("orders", "o2", "c1", 2),
        // Both orders are sent elsewhere now.
        ("customers", "c1", "Oslo", 3),
    ];
    let shipments = results::<String, String>(builder.build()?, &records, "shipments")?;
    assert_eq!(shipments.iter().filter(|(_, to)| to == "to Oslo").count(), 2);
    Ok(super::lines(shipments))
}
