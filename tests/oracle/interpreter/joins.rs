//! Steps that join two streams.

use super::{Handle, Interpreter, same};
use crate::aggregators::joiner;
use crate::case::{Fields, Stop};
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
        self.put(step, Handle::Stream(stream), key, joiner.out)
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
