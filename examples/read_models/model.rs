//! What is written about orders and customers, and the rows that it adds up to.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// An order with all of its lines has to fit into one record of Kafka's, and a sum into a number: so nothing is without limits.
const TEXT_BYTES_MAX: usize = 200;
const LINES_MAX: usize = 1_000;
const QUANTITY_MAX: u32 = 10_000;
const PRICE_CENTS_MAX: u64 = 100_000_000;

/// A text that is not too long. What has a longer one is no record of the service's.
fn short<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(D::Error::custom(format!("a text has between 1 and {TEXT_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// A record of `customers`; its key is the customer's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Customer {
    #[serde(deserialize_with = "short")]
    pub name: String,
    #[serde(deserialize_with = "short")]
    pub city: String,
}

/// A record of `order-commands`, which says what somebody wants; its key is the order's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    Place {
        #[serde(deserialize_with = "short")]
        customer: String,
    },
    AddLine {
        #[serde(deserialize_with = "short")]
        line: String,
        #[serde(deserialize_with = "short")]
        product: String,
        quantity: u32,
        price_cents: u64,
    },
    RemoveLine {
        #[serde(deserialize_with = "short")]
        line: String,
    },
    Ship,
    Cancel,
}

/// A record of `order-events`, which says what has happened; its key is the order's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    Placed {
        #[serde(deserialize_with = "short")]
        customer: String,
    },
    LineAdded {
        #[serde(deserialize_with = "short")]
        line: String,
        #[serde(deserialize_with = "short")]
        product: String,
        quantity: u32,
        price_cents: u64,
    },
    LineRemoved {
        #[serde(deserialize_with = "short")]
        line: String,
    },
    Shipped,
    Cancelled,
    /// A command that made no sense.
    Rejected {
        command: Command,
        #[serde(deserialize_with = "short")]
        reason: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    #[default]
    Open,
    Shipped,
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub product: String,
    pub quantity: u32,
    pub price_cents: u64,
}

/// An order as its own events tell it. Who decides about commands keeps it, and so does the read model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Order {
    pub customer: String,
    pub status: Status,
    pub lines: BTreeMap<String, Line>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rejection: Option<String>,
}

impl Order {
    pub fn total_cents(&self) -> u64 {
        let of_line = |line: &Line| line.price_cents.saturating_mul(line.quantity.into());
        self.lines.values().map(of_line).fold(0, u64::saturating_add)
    }

    /// The order after one more event.
    pub fn after(order: Option<Order>, event: &Event) -> Option<Order> {
        if let Event::Placed { customer } = event {
            return Some(order.unwrap_or_else(|| Order { customer: customer.clone(), ..Order::default() }));
        }
        let mut order = order?;
        match event.clone() {
            Event::Placed { .. } => {}
            Event::LineAdded { line, product, quantity, price_cents } => {
                order.lines.insert(line, Line { product, quantity, price_cents });
            }
            Event::LineRemoved { line } => drop(order.lines.remove(&line)),
            Event::Shipped => order.status = Status::Shipped,
            Event::Cancelled => order.status = Status::Cancelled,
            Event::Rejected { reason, .. } => order.last_rejection = Some(reason),
        }
        Some(order)
    }

    /// What a command does to an order.
    pub fn decide(order: Option<&Order>, command: Command) -> Event {
        let why_not = match (order, &command) {
            (None, Command::Place { .. }) => None,
            (None, _) => Some("there is no such order"),
            (Some(_), Command::Place { .. }) => Some("the order has been placed already"),
            (Some(order), _) if order.status == Status::Shipped => Some("the order has been shipped"),
            (Some(order), _) if order.status == Status::Cancelled => Some("the order has been cancelled"),
            (Some(order), Command::RemoveLine { line }) if !order.lines.contains_key(line) => {
                Some("the order has no such line")
            }
            (Some(_), Command::AddLine { quantity: 0, .. }) => Some("a line of no pieces"),
            (Some(_), Command::AddLine { quantity, .. }) if *quantity > QUANTITY_MAX => {
                Some("a line of too many pieces")
            }
            (Some(_), Command::AddLine { price_cents, .. }) if *price_cents > PRICE_CENTS_MAX => Some("it is too dear"),
            (Some(order), Command::AddLine { .. }) if order.lines.len() >= LINES_MAX => Some("too many lines"),
            (Some(order), Command::Ship) if order.lines.is_empty() => Some("the order has no lines"),
            _ => None,
        };
        if let Some(reason) = why_not {
            return Event::Rejected { command, reason: reason.into() };
        }
        match command {
            Command::Place { customer } => Event::Placed { customer },
            Command::AddLine { line, product, quantity, price_cents } => {
                Event::LineAdded { line, product, quantity, price_cents }
            }
            Command::RemoveLine { line } => Event::LineRemoved { line },
            Command::Ship => Event::Shipped,
            Command::Cancel => Event::Cancelled,
        }
    }
}

/// A row of the read model `orders`: everything about an order that somebody may want to see, ready to be shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub customer_id: String,
    /// `null` as long as nobody knows this customer.
    pub customer: Option<Customer>,
    pub total_cents: u64,
    #[serde(flatten)]
    pub order: Shown,
}

/// What is shown of an order as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    pub status: Status,
    pub lines: BTreeMap<String, Line>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rejection: Option<String>,
}

impl View {
    pub fn new(order: &Order, customer: Option<&Customer>) -> Self {
        let Order { status, lines, last_rejection, .. } = order.clone();
        Self {
            customer_id: order.customer.clone(),
            customer: customer.cloned(),
            total_cents: order.total_cents(),
            order: Shown { status, lines, last_rejection },
        }
    }
}

/// A row of the read model `customer-totals`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Totals {
    pub open: i64,
    pub shipped: i64,
    pub cancelled: i64,
    /// Of the orders that were shipped.
    pub turnover_cents: i64,
}

impl Totals {
    /// With (`sign` 1) or without (-1) this order.
    pub fn and(mut self, order: &Order, sign: i64) -> Self {
        match order.status {
            Status::Open => self.open += sign,
            Status::Cancelled => self.cancelled += sign,
            Status::Shipped => {
                self.shipped += sign;
                let total = i64::try_from(order.total_cents()).unwrap_or(i64::MAX);
                self.turnover_cents = self.turnover_cents.saturating_add(sign * total);
            }
        }
        self
    }
}
