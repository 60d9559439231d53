//! Joiners, reducers and aggregators of the cases.

use super::functions::{Spec, thrown};
use super::val::{Type, Val, Var, text};
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::sync::Arc;

/// (a, b, c) to a value.
pub type Three = Arc<dyn Fn(&Var, &Var, &Var) -> Var + Send + Sync>;

/// (so far, new) to a value.
pub type Reducer = Arc<dyn Fn(&Var, &Var) -> Var + Send + Sync>;

/// (key, left, right) to a value, and its type.
#[derive(Clone)]
pub struct Joiner {
    pub out: Type,
    pub f: Three,
}

/// What an aggregation needs; `add` and `subtract` take (key, value, aggregate), `merge` takes (key, left, right).
#[derive(Clone)]
pub struct Aggregator {
    pub out: Type,
    pub start: Var,
    pub add: Three,
    pub subtract: Three,
    pub merge: Three,
}

fn long(value: &Var) -> i64 {
    value.as_ref().map_or(0, Val::as_long)
}

fn double(value: &Var) -> f64 {
    value.as_ref().map_or(0.0, Val::as_double)
}

fn some_long(n: i64) -> Var {
    Some(Val::Long(n))
}

fn some_text(text: String) -> Var {
    Some(Val::String(text))
}

fn json_of(value: &Var) -> Value {
    value.as_ref().map_or(Value::Null, Val::to_json)
}

pub fn joiner(spec: &str, left: &Type, right: &Type) -> Result<Joiner, String> {
    use Type::*;
    let spec = Spec::new(spec);
    let (out, f): (Type, Three) = match spec.name {
        "concat" => {
            let s = spec.arg()?;
            (String, Arc::new(move |_, a, b| some_text(format!("{}{s}{}", text(a), text(b)))))
        }
        "concat_key" => {
            let s = spec.arg()?;
            (String, Arc::new(move |k, a, b| some_text(format!("{}{s}{}{s}{}", text(k), text(a), text(b)))))
        }
        "concat_or_null" => {
            let s = spec.arg()?;
            let f = move |_: &Var, a: &Var, b: &Var| {
                if a.is_none() || b.is_none() { None } else { some_text(format!("{}{s}{}", text(a), text(b))) }
            };
            (String, Arc::new(f))
        }
        "left" => (left.clone(), Arc::new(|_, a, _| a.clone())),
        "right" => (right.clone(), Arc::new(|_, _, b| b.clone())),
        "sum" => {
            spec.want(left, &[Long, Int])?;
            spec.want(right, &[Long, Int])?;
            (Long, Arc::new(|_, a, b| some_long(long(a).wrapping_add(long(b)))))
        }
        "left_if_right_longer" => {
            spec.want(right, &[String, Bytes])?;
            let n = spec.number()?;
            let keep = move |b: &Val| b.plain_bytes().len() as i64 > n;
            (left.clone(), Arc::new(move |_, a, b| b.as_ref().filter(|b| keep(b)).and(a.clone())))
        }
        "left_if_right_contains" => {
            spec.want(right, &[String])?;
            let s = spec.arg()?;
            (left.clone(), Arc::new(move |_, a, b| b.as_ref().filter(|b| b.as_str().contains(&*s)).and(a.clone())))
        }
        "json_pair" => (Json, Arc::new(|_, a, b| Some(Val::Json(json!({"l": json_of(a), "r": json_of(b)}))))),
        "throw_if_right" => {
            let s = spec.arg()?;
            let f = move |_: &Var, a: &Var, b: &Var| {
                if text(b) == s {
                    thrown(format!("throw_if_right:{s}"))
                }
                some_text(format!("{}+{}", text(a), text(b)))
            };
            (String, Arc::new(f))
        }
        _ => return Err(spec.unknown("joiner")),
    };
    Ok(Joiner { out, f })
}

/// The smaller or larger by `which`; a null loses, the first wins where both are equal.
fn best(which: Ordering) -> impl Fn(&Var, &Var) -> Var + Send + Sync + Copy {
    move |a, b| match (a, b) {
        (None, other) | (other, None) => other.clone(),
        (Some(x), Some(y)) => {
            if compare(y, x) == which {
                b.clone()
            } else {
                a.clone()
            }
        }
    }
}

fn compare(a: &Val, b: &Val) -> Ordering {
    match (a, b) {
        (Val::Long(_) | Val::Int(_), _) => a.as_long().cmp(&b.as_long()),
        (Val::Double(a), Val::Double(b)) => a.total_cmp(b),
        _ => a.plain_bytes().cmp(&b.plain_bytes()),
    }
}

pub fn reducer(spec: &str, value: &Type) -> Result<Reducer, String> {
    use Type::*;
    let spec = Spec::new(spec);
    Ok(match spec.name {
        "concat" => {
            spec.want(value, &[String])?;
            let s = spec.arg()?;
            Arc::new(move |a, b| some_text(format!("{}{s}{}", text(a), text(b))))
        }
        "concat_unless" => {
            spec.want(value, &[String])?;
            let s = spec.arg()?;
            Arc::new(
                move |a, b| {
                    if text(b).contains(&s) { None } else { some_text(format!("{},{}", text(a), text(b))) }
                },
            )
        }
        "sum" | "sub" => {
            spec.want(value, &[Long, Int, Double])?;
            let sign = if spec.name == "sum" { 1 } else { -1 };
            let whole = move |a: &Var, b: &Var| long(a).wrapping_add(long(b).wrapping_mul(sign));
            match value {
                Long => Arc::new(move |a, b| some_long(whole(a, b))),
                Int => Arc::new(move |a, b| Some(Val::Int(whole(a, b) as i32))),
                _ => Arc::new(move |a, b| Some(Val::Double(double(a) + double(b) * sign as f64))),
            }
        }
        "min" => Arc::new(best(Ordering::Less)),
        "max" => Arc::new(best(Ordering::Greater)),
        "first" => Arc::new(|a, _| a.clone()),
        "last" => Arc::new(|_, b| b.clone()),
        _ => return Err(spec.unknown("reducer")),
    })
}

/// The characters of a text aggregate; null counts as none.
fn so_far(aggregate: &Var) -> &str {
    aggregate.as_ref().map_or("", Val::as_str)
}

fn list(aggregate: &Var) -> Vec<Value> {
    match aggregate {
        Some(Val::Json(Value::Array(list))) => list.clone(),
        _ => Vec::new(),
    }
}

pub fn aggregator(spec: &str, value: &Type) -> Result<Aggregator, String> {
    use Type::*;
    let spec = Spec::new(spec);
    let numbers = |add: fn(i64, &Var) -> i64, subtract: fn(i64, &Var) -> i64| Aggregator {
        out: Long,
        start: some_long(0),
        add: Arc::new(move |_, v, a| some_long(add(long(a), v))),
        subtract: Arc::new(move |_, v, a| some_long(subtract(long(a), v))),
        merge: Arc::new(|_, a, b| some_long(long(a).wrapping_add(long(b)))),
    };
    let texts = |add: Three, subtract: Three, merge: Three| Aggregator {
        out: String,
        start: some_text(std::string::String::new()),
        add,
        subtract,
        merge,
    };
    // Aggregates of the values' own type, from which nothing can be taken away.
    let kept = |add: Three, merge: Three| Aggregator {
        out: value.clone(),
        start: None,
        add,
        subtract: Arc::new(|_, _, a| a.clone()),
        merge,
    };
    let bar: Three = Arc::new(|_, a, b| some_text(format!("{}|{}", so_far(a), so_far(b))));
    Ok(match spec.name {
        "trace" => texts(
            Arc::new(|_, v, a| some_text(format!("{}+{}", so_far(a), text(v)))),
            Arc::new(|_, v, a| some_text(format!("{}-{}", so_far(a), text(v)))),
            bar,
        ),
        "trace_key" => texts(
            Arc::new(|k, v, a| some_text(format!("{}+{}={}", so_far(a), text(k), text(v)))),
            Arc::new(|k, v, a| some_text(format!("{}-{}={}", so_far(a), text(k), text(v)))),
            bar,
        ),
        "append" => {
            let s = spec.arg()?;
            let (add, subtract, merge) = (s.clone(), s.clone(), s);
            let join = |a: &str, s: &str, b: &str| match (a, b) {
                ("", one) | (one, "") => one.to_string(),
                _ => format!("{a}{s}{b}"),
            };
            texts(
                Arc::new(move |_, v, a| match so_far(a) {
                    "" => some_text(text(v)),
                    a => some_text(format!("{a}{add}{}", text(v))),
                }),
                Arc::new(move |_, v, a| {
                    let (gone, mut parts) = (text(v), so_far(a).split(&*subtract).collect::<Vec<_>>());
                    if let Some(at) = parts.iter().position(|part| *part == gone) {
                        parts.remove(at);
                    }
                    some_text(parts.join(&subtract))
                }),
                Arc::new(move |_, a, b| some_text(join(so_far(a), &merge, so_far(b)))),
            )
        }
        "sum" => {
            spec.want(value, &[Long, Int])?;
            numbers(|a, v| a.wrapping_add(long(v)), |a, v| a.wrapping_sub(long(v)))
        }
        "sum_len" => {
            spec.want(value, &[String, Bytes])?;
            let (add, subtract): (fn(i64, &Var) -> i64, fn(i64, &Var) -> i64) = (|a, v| a + len(v), |a, v| a - len(v));
            numbers(add, subtract)
        }
        "count" => numbers(|a, _| a + 1, |a, _| a - 1),
        "cycle" => {
            let n = spec.number()?;
            let add: Three = Arc::new(move |_, _, a| if long(a) + 1 == n { None } else { some_long(long(a) + 1) });
            Aggregator { add, ..numbers(|a, _| a, |a, _| a - 1) }
        }
        "min" | "max" => {
            let best = best(if spec.name == "min" { Ordering::Less } else { Ordering::Greater });
            kept(Arc::new(move |_, v, a| best(a, v)), Arc::new(move |_, a, b| best(a, b)))
        }
        "first" => kept(Arc::new(|_, v, a| a.clone().or(v.clone())), Arc::new(|_, a, b| a.clone().or(b.clone()))),
        "last" => kept(Arc::new(|_, v, _| v.clone()), Arc::new(|_, a, b| b.clone().or(a.clone()))),
        "json_list" => Aggregator {
            out: Json,
            start: Some(Val::Json(json!([]))),
            add: Arc::new(|_, v, a| {
                let mut all = list(a);
                all.push(json_of(v));
                Some(Val::Json(Value::Array(all)))
            }),
            subtract: Arc::new(|_, v, a| {
                let (mut all, gone) = (list(a), json_of(v));
                if let Some(at) = all.iter().position(|one| *one == gone) {
                    all.remove(at);
                }
                Some(Val::Json(Value::Array(all)))
            }),
            merge: Arc::new(|_, a, b| {
                let mut all = list(a);
                all.extend(list(b));
                Some(Val::Json(Value::Array(all)))
            }),
        },
        _ => return Err(spec.unknown("aggregator")),
    })
}

fn len(value: &Var) -> i64 {
    value.as_ref().map_or(0, |v| v.plain_bytes().len() as i64)
}
