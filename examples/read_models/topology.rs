//! Commands become events, and events what is read. All of it exactly-once: no command is obeyed twice, and no order counts
//! twice in a sum.

use crate::Topics;
use crate::model::{Command, Customer, Event, Order, Totals, View};
use watersmeet::prelude::*;
use watersmeet::processor::{KeyValueStore, Processor, ProcessorContext, StateStore};
use watersmeet::serdes::DefaultSerde;
use watersmeet::serdes::formats::json;

/// The read models' stores.
pub const ORDERS: &str = "orders";
pub const TOTALS: &str = "customer-totals";

/// The whole service.
pub fn ordering(topics: &Topics) -> Result<Topology> {
    let builder = StreamsBuilder::new();
    decide(&builder, topics);
    read_models(&builder, topics);
    builder.build()
}

/// One decision after the other for each order.
fn decide(builder: &StreamsBuilder, topics: &Topics) {
    let orders = builder.add_state_store(KeyValueStore::store("decided", String::serde(), json()));
    let processing = Processing::default().named("decide").store(&orders);
    builder
        .stream(&topics.commands, Consumed::<String, Command>::json())
        .process(move || Decide { store: orders.clone(), orders: None }, processing)
        .to(&topics.events, Produced::json());
}

struct Decide {
    store: StateStore<KeyValueStore<String, Order>>,
    orders: Option<KeyValueStore<String, Order>>,
}

impl Processor<String, Command, String, Event> for Decide {
    fn init(&mut self, context: &mut ProcessorContext<'_, String, Event>) -> Result {
        self.orders = Some(context.store(&self.store)?);
        Ok(())
    }

    fn process(
        &mut self,
        context: &mut ProcessorContext<'_, String, Event>,
        record: Record<String, Command>,
    ) -> Result {
        let orders = self.orders.as_mut().expect("opened in init");
        let order = orders.get(context, &record.key)?;
        let event = Order::decide(order.as_ref(), record.value.clone());
        if let Some(order) = Order::after(order, &event) {
            orders.put(context, &record.key, Some(&order))?;
        }
        context.forward(record.with_value(event))
    }
}

/// Orders with their lines and their customer, and sums for each customer.
fn read_models(builder: &StreamsBuilder, topics: &Topics) {
    let customers =
        builder.table(&topics.customers, Consumed::<String, Customer>::json(), Materialized::rocksdb("customers"));
    let orders = builder
        .stream(&topics.events, Consumed::<String, Event>::json())
        .group_by_key(Grouped::default())
        .aggregate_with(
            || None,
            |_, event, order| Order::after(order, event),
            Materialized::rocksdb("orders-by-themselves").json(),
        );
    // A customer who moves changes all of his orders.
    orders.left_join_on_with(
        &customers,
        |_, order| order.customer.clone(),
        |_, order, customer| Some(View::new(order, customer)),
        TableJoined::named("with-customer"),
        Materialized::rocksdb(ORDERS).json(),
    );
    let of_customer = Grouped::with(String::serde(), json()).named("by-customer");
    orders.group_by(|_, order| (order.customer.clone(), order.clone()), of_customer).aggregate(
        Totals::default,
        |_, order, totals| totals.and(order, 1),
        |_, order, totals| totals.and(order, -1),
        Materialized::rocksdb(TOTALS).json(),
    );
}
