//! Steps that join two streams.

use super::{Contents, Handle, Interpreter, same};
use crate::aggregators::joiner;
use crate::case::{Fields, Stop};
use crate::val::Type;
use watersmeet::dsl::StreamJoined;
use watersmeet::state::Engine;
use watersmeet::windows::JoinWindows;

impl Interpreter {
    pub(super) fn stream_stream_join(&mut self, step: Fields) -> Result<(), Stop> {
        let (left, key, left_type) = self.stream_input(step, 0)?;
        let (right, right_key, right_type) = self.stream_input(step, 1)?;
        same(step, "keys", &key, &right_key)?;
        let joiner = joiner(step.text("joiner")?, &left_type, &right_type)?;
        let mut joined = StreamJoined::with(key.nullable(), left_type.nullable(), right_type.nullable());
        if let Some(name) = step.named() {
            joined = joined.named(name);
        }
        if let Some(name) = step.maybe_text("store_name") {
            joined = joined.store_name(name);
        }
        joined = match step.maybe_text("store") {
            Some("in_memory") => joined.engine(Engine::Memory),
            Some(_) => joined.engine(Engine::RocksDb),
            None => joined,
        };
        if !step.flag("logging", true) {
            joined = joined.without_changelog();
        }
        let windows = windows(step.fields("window").ok_or_else(|| Stop::Case("a join without window".into()))?);
        let f = joiner.f;
        let stream = match step.text("type")? {
            "inner" => left.join_stream(&right, move |k, a, b| f(k, a, b), windows, joined),
            "left" => left.left_join_stream(&right, move |k, a, b| f(k, a, b.unwrap_or(&None)), windows, joined),
            _ => {
                let join = move |k: &_, a: Option<&_>, b: Option<&_>| f(k, a.unwrap_or(&None), b.unwrap_or(&None));
                left.outer_join_stream(&right, join, windows, joined)
            }
        };
        self.name_stores(step, &key, left_type, right_type)?;
        self.put(step, Handle::Stream(stream), key, joiner.out)
    }

    /// The stores of the two sides, and that of the records that wait for another.
    fn name_stores(&mut self, step: Fields, key: &Type, left: Type, right: Type) -> Result<(), Stop> {
        let kind = step.text("type")?;
        let this = if kind == "outer" { ("OUTERTHIS", "outer-this") } else { ("JOINTHIS", "this") };
        let other = if kind == "inner" { ("JOINOTHER", "other") } else { ("OUTEROTHER", "outer-other") };
        // The last five names were those of two nodes that keep records, two that join, and one that brings together.
        let number = self.builder.names_made() - 3;
        let store = |(generated, given), number| match step.maybe_text("store_name") {
            Some(name) => format!("{name}-{given}-join-store"),
            None => format!("KSTREAM-{generated}-{number:010}-store"),
        };
        let shared = ("OUTERSHARED", if kind == "left" { "left-shared" } else { "outer-shared" });
        let waiting = Contents::Waiting { key: key.clone(), left: left.clone(), right: right.clone() };
        self.special.insert(store(shared, number), waiting);
        self.special.insert(store(this, number), Contents::Rows(key.clone(), left));
        self.special.insert(store(other, number + 1), Contents::Rows(key.clone(), right));
        Ok(())
    }
}

fn windows(fields: Fields) -> JoinWindows {
    let (before, after) = (fields.maybe_number("before_ms"), fields.maybe_number("after_ms"));
    let difference = fields.maybe_number("diff_ms");
    let either = |side: Option<i64>| side.or(difference).unwrap_or(0);
    let difference = difference.unwrap_or_else(|| either(before).max(either(after)));
    let mut windows =
        JoinWindows::of_time_difference_and_grace(difference, fields.maybe_number("grace_ms").unwrap_or(0));
    if let Some(before_ms) = before {
        windows = windows.before(before_ms);
    }
    if let Some(after_ms) = after {
        windows = windows.after(after_ms);
    }
    windows
}
