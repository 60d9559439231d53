//! Records one by one: filtered, made anew, split and brought together again.

use watersmeet::prelude::*;
use watersmeet::testing::results;

pub fn run() -> Result<Vec<String>> {
    let builder = StreamsBuilder::new();
    let orders = builder.stream("orders", Consumed::<String, String>::default());
    // Text to number; what is none is left out.
    let amounts = orders.flat_map_values(|text| text.parse::<i64>().ok());
    let branches = amounts
        .filter(|_, amount| *amount != 0)
        .split(Some("amounts"))
        .branch(|_, amount| *amount < 0, Branched::named("-returned"))
        .default_branch(Branched::named("-sold"));
    let (Some(returned), Some(sold)) = (branches.get("amounts-returned"), branches.get("amounts-sold")) else {
        return Ok(Vec::new());
    };
    let returned = returned.map_values(|amount| format!("{} came back", -amount));
    sold.map_values(|amount| format!("{amount} sold")).merge(&returned).to("report", Produced::default());

    let records =
        [("orders", "tea", "3", 0), ("orders", "tea", "?", 1), ("orders", "milk", "0", 2), ("orders", "tea", "-1", 3)];
    let report = results::<String, String>(builder.build()?, &records, "report")?;
    assert_eq!(report, [("tea".into(), "3 sold".into()), ("tea".into(), "1 came back".into())]);
    Ok(super::lines(report))
}
