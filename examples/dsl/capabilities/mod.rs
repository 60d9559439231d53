//! One file for each capability: a topology, some records, and what comes of them.

mod aggregations;
mod foreign_keys;
mod joins;
mod processors;
mod stateless;
mod suppress;
mod tables;
mod topics;
mod versions;
mod windows;

use watersmeet::error::Result;

/// Runs a capability and returns what it has to show.
pub type Run = fn() -> Result<Vec<String>>;

pub const ALL: &[(&str, Run)] = &[
    ("stateless", stateless::run),
    ("topics", topics::run),
    ("aggregations", aggregations::run),
    ("windows", windows::run),
    ("suppress", suppress::run),
    ("joins", joins::run),
    ("tables", tables::run),
    ("foreign-keys", foreign_keys::run),
    ("versions", versions::run),
    ("processors", processors::run),
];

/// Keys and values as lines.
fn lines<K: std::fmt::Display, V: std::fmt::Debug>(rows: Vec<(K, V)>) -> Vec<String> {
    rows.into_iter().map(|(key, value)| format!("{key} {value:?}")).collect()
}
