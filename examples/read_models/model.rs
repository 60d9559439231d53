//! What is written about orders and customers, and the rows that it adds up to.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A record of `customers`; its key is the customer's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Customer {
    pub name: String,
    pub city: String,
}

/// A record of `order-commands`, which says what somebody wants; its key is the order's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    Place { customer: String },
    AddLine { line: String, product: String, quantity: u32, price_cents: u64 },
    RemoveLine { line: String },
    Ship,
    Cancel,
}

/// A record of `order-events`, which says what has happened; its key is the order's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    Placed {
        customer: String,
    },
    LineAdded {
        line: String,
        product: String,
        quantity: u32,
        price_cents: u64,
    },
    LineRemoved {
        line: String,
    },
    Shipped,
    Cancelled,
    /// A command that made no sense.
    Rejected {
        command: Command,
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
        self.lines.values().map(|line| line.price_cents.saturating_mul(line.quantity.into())).sum()
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
                self.turnover_cents += sign * order.total_cents() as i64;
            }
        }
        self
    }
}
