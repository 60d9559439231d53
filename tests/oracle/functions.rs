//! The named functions of the cases: mappers, flat mappers and predicates. Joiners and aggregators: `aggregators.rs`.
//!
//! A function is a name, or a name, a colon and an argument; types are checked when the function is made.

use super::val::{Type, Val, Var, text};
use serde_json::{Value, json};
use std::sync::Arc;
use watersmeet::partitioner::murmur2;

/// (key, value) to something, and the type of what comes out.
#[derive(Clone)]
pub struct Mapper {
    pub out: Type,
    pub f: Arc<dyn Fn(&Var, &Var) -> Var + Send + Sync>,
}

/// (key, value) to any number of values, and their type.
#[derive(Clone)]
pub struct Flat {
    pub out: Type,
    pub f: Arc<dyn Fn(&Var) -> Vec<Var> + Send + Sync>,
}

/// (key, value) to yes or no.
pub type Predicate = Arc<dyn Fn(&Var, &Var) -> bool + Send + Sync>;

/// What a function is made of: its name and its argument.
pub struct Spec<'a> {
    text: &'a str,
    pub name: &'a str,
    arg: Option<&'a str>,
}

impl<'a> Spec<'a> {
    pub fn new(text: &'a str) -> Self {
        match text.split_once(':') {
            Some((name, arg)) => Self { text, name, arg: Some(arg) },
            None => Self { text, name: text, arg: None },
        }
    }

    pub fn arg(&self) -> Result<String, String> {
        self.arg.map(str::to_owned).ok_or_else(|| format!("function '{}' needs an argument", self.text))
    }

    pub fn number(&self) -> Result<i64, String> {
        self.arg()?.parse().map_err(|_| format!("function '{}' needs a whole number", self.text))
    }

    pub fn want(&self, have: &Type, allowed: &[Type]) -> Result<(), String> {
        if allowed.contains(have) { Ok(()) } else { Err(format!("function '{}' does not take {have:?}", self.text)) }
    }

    pub fn unknown(&self, what: &str) -> String {
        format!("unknown {what} '{}'", self.text)
    }
}

/// What a function of a case fails with on purpose.
pub fn thrown(what: String) -> ! {
    std::panic::panic_any(what)
}

/// A mapper, or a list of mappers where each gets the original key and the value from the one before.
pub fn mapper(spec: &Value, key: &Type, value: &Type) -> Result<Mapper, String> {
    match spec {
        Value::String(spec) => one_mapper(spec, key, value),
        Value::Array(specs) => {
            let mut all = Mapper { out: value.clone(), f: Arc::new(|_, v| v.clone()) };
            for spec in specs {
                let (before, next) = (all.f, mapper(spec, key, &all.out)?);
                all = Mapper { out: next.out, f: Arc::new(move |k, v| (next.f)(k, &before(k, v))) };
            }
            Ok(all)
        }
        other => Err(format!("{other} is no mapper")),
    }
}

fn one_mapper(spec: &str, key: &Type, value: &Type) -> Result<Mapper, String> {
    use Type::*;
    let spec = &Spec::new(spec);
    let v = || value.clone();
    let any = |out: Type, f: Arc<dyn Fn(&Var, &Var) -> Var + Send + Sync>| Ok(Mapper { out, f });
    // On values that are there; a null stays one.
    fn there(out: Type, f: impl Fn(&Val) -> Var + Send + Sync + 'static) -> Result<Mapper, std::string::String> {
        Ok(Mapper { out, f: Arc::new(move |_, v| v.as_ref().and_then(&f)) })
    }
    // On strings.
    let string = |f: Arc<dyn Fn(&str) -> Option<std::string::String> + Send + Sync>| {
        spec.want(value, &[String])?;
        there(String, move |v| f(v.as_str()).map(Val::String))
    };
    // On whole numbers, which wrap.
    let whole = |f: Arc<dyn Fn(i64) -> i64 + Send + Sync>| {
        spec.want(value, &[Long, Int])?;
        there(v(), move |v| match v {
            Val::Int(n) => Some(Val::Int(f(i64::from(*n)) as i32)),
            other => Some(Val::Long(f(other.as_long()))),
        })
    };
    let number = |out: Type, f: fn(i64) -> Val| {
        spec.want(value, &[Long, Int])?;
        there(out, move |v| Some(f(v.as_long())))
    };
    match spec.name {
        "identity" => any(v(), Arc::new(|_, v| v.clone())),
        "key" => any(key.clone(), Arc::new(|k, _| k.clone())),
        "null" => any(v(), Arc::new(|_, _| None)),
        "const" => {
            let arg = Val::String(spec.arg()?);
            any(String, Arc::new(move |_, _| Some(arg.clone())))
        }
        "upper" => string(Arc::new(|s| Some(s.to_ascii_uppercase()))),
        "lower" => string(Arc::new(|s| Some(s.to_ascii_lowercase()))),
        "reverse" => string(Arc::new(|s| Some(s.chars().rev().collect()))),
        "append" => {
            let arg = spec.arg()?;
            string(Arc::new(move |s| Some(format!("{s}{arg}"))))
        }
        "prepend" => {
            let arg = spec.arg()?;
            string(Arc::new(move |s| Some(format!("{arg}{s}"))))
        }
        "prefix" => {
            let n = spec.number()? as usize;
            string(Arc::new(move |s| Some(s.chars().take(n).collect())))
        }
        "before" => {
            let arg = spec.arg()?;
            string(Arc::new(move |s| Some(s.split_once(&*arg).map_or(s, |(before, _)| before).into())))
        }
        "after" => {
            let arg = spec.arg()?;
            string(Arc::new(move |s| s.split_once(&*arg).map(|(_, after)| after.into())))
        }
        "null_if_contains" => {
            let arg = spec.arg()?;
            string(Arc::new(move |s| (!s.contains(&*arg)).then(|| s.into())))
        }
        "or_else" => {
            spec.want(value, &[String])?;
            let arg = Val::String(spec.arg()?);
            any(v(), Arc::new(move |_, v| v.clone().or_else(|| Some(arg.clone()))))
        }
        "value_len" => {
            spec.want(value, &[String, Bytes])?;
            there(Int, |v| Some(Val::Int(v.plain_bytes().len() as i32)))
        }
        "text" => any(String, Arc::new(|_, v| Some(Val::String(text(v))))),
        "with_key" => {
            let arg = spec.arg()?;
            any(String, Arc::new(move |k, v| Some(Val::String(format!("{}{arg}{}", text(k), text(v))))))
        }
        "null_if" => {
            let arg = spec.arg()?;
            any(v(), Arc::new(move |_, v| if text(v) == arg { None } else { v.clone() }))
        }
        "throw_if" => {
            let arg = spec.arg()?;
            any(v(), Arc::new(move |_, v| if text(v) == arg { thrown(format!("throw_if:{arg}")) } else { v.clone() }))
        }
        "parse_long" => {
            spec.want(value, &[String])?;
            there(Long, |v| parse_long(v.as_str()).map(Val::Long))
        }
        "add" => {
            let n = spec.number()?;
            whole(Arc::new(move |v| v.wrapping_add(n)))
        }
        "mul" => {
            let n = spec.number()?;
            whole(Arc::new(move |v| v.wrapping_mul(n)))
        }
        "mod" => {
            let n = spec.number()?;
            whole(Arc::new(move |v| v.rem_euclid(n)))
        }
        "to_long" => number(Long, Val::Long),
        "to_int" => number(Int, |n| Val::Int(n as i32)),
        "to_double" => number(Double, |n| Val::Double(n as f64)),
        "scale" => {
            spec.want(value, &[Double])?;
            let by: f64 = spec.arg()?.parse().map_err(|_| "scale needs a number")?;
            there(Double, move |v| Some(Val::Double(v.as_double() * by)))
        }
        "to_bytes" => {
            spec.want(value, &[String])?;
            there(Bytes, |v| Some(Val::Bytes(v.plain_bytes())))
        }
        "from_bytes" => {
            spec.want(value, &[Bytes])?;
            there(String, |v| Some(Val::String(std::string::String::from_utf8_lossy(&v.plain_bytes()).into_owned())))
        }
        "to_json" => {
            spec.want(value, &[String, Long, Int, Json])?;
            there(Json, |v| Some(Val::Json(json!({"v": v.to_json()}))))
        }
        "json_get" => {
            spec.want(value, &[Json])?;
            let name = spec.arg()?;
            there(Json, move |v| field(v, &name).map(Val::Json))
        }
        "json_text" => {
            spec.want(value, &[Json])?;
            let name = spec.arg()?;
            there(String, move |v| {
                field(v, &name).map(|f| match f {
                    Value::String(s) => Val::String(s),
                    other => Val::String(other.to_string()),
                })
            })
        }
        "json_set" => {
            spec.want(value, &[Json])?;
            let arg = spec.arg()?;
            let (name, text) = arg.split_once('=').ok_or("json_set needs field=text")?;
            let (name, text) = (name.to_string(), text.to_string());
            there(Json, move |v| match v {
                Val::Json(Value::Object(fields)) => {
                    let mut fields = fields.clone();
                    fields.insert(name.clone(), json!(text));
                    Some(Val::Json(Value::Object(fields)))
                }
                other => Some(other.clone()),
            })
        }
        "window_key" | "window_start" | "window_end" => {
            let inner = key.inner().ok_or_else(|| format!("'{}' needs a windowed key", spec.name))?.clone();
            let (out, part): (Type, fn(&Val) -> Var) = match spec.name {
                "window_key" => (inner, |k| window(k).map(|(key, _, _)| key.clone())),
                "window_start" => (Long, |k| window(k).map(|(_, start, _)| Val::Long(start))),
                _ => (Long, |k| window(k).map(|(_, _, end)| Val::Long(end))),
            };
            any(out, Arc::new(move |k, _| k.as_ref().and_then(part)))
        }
        "on_key" => {
            let Mapper { out, f } = one_mapper(&spec.arg()?, key, key)?;
            any(out, Arc::new(move |k, _| f(k, k)))
        }
        _ => Err(spec.unknown("mapper")),
    }
}

fn window(key: &Val) -> Option<(&Val, i64, i64)> {
    match key {
        Val::Windowed { key, start_ms, end_ms } => Some((key, *start_ms, *end_ms)),
        _ => None,
    }
}

/// A minus or none, and 1 to 18 digits.
fn parse_long(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let fits = (1..=18).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

/// A field that is there and not null.
fn field(value: &Val, name: &str) -> Option<Value> {
    let Val::Json(value) = value else { return None };
    value.get(name).filter(|field| !field.is_null()).cloned()
}

pub fn flat(spec: &str, value: &Type) -> Result<Flat, String> {
    let spec = Spec::new(spec);
    let f: Arc<dyn Fn(&Var) -> Vec<Var> + Send + Sync> = match spec.name {
        "split_words" | "split" => {
            spec.want(value, &[Type::String])?;
            let by = if spec.name == "split" { spec.arg()? } else { " ".into() };
            Arc::new(move |v| {
                let pieces = v.iter().flat_map(|v| v.as_str().split(&*by));
                pieces.filter(|piece| !piece.is_empty()).map(|piece| Some(piece.into())).collect()
            })
        }
        "repeat" => {
            let n = spec.number()? as usize;
            Arc::new(move |v| vec![v.clone(); n])
        }
        "with_null" => Arc::new(|v| vec![v.clone(), None]),
        "none" => Arc::new(|_| Vec::new()),
        _ => return Err(spec.unknown("flat mapper")),
    };
    Ok(Flat { out: value.clone(), f })
}

pub fn predicate(spec: &str, key: &Type, value: &Type) -> Result<Predicate, String> {
    use Type::*;
    let spec = Spec::new(spec);
    let string = |f: fn(&str, &str) -> bool| -> Result<Predicate, std::string::String> {
        spec.want(value, &[String])?;
        let arg = spec.arg()?;
        Ok(Arc::new(move |_, v| v.as_ref().is_some_and(|v| f(v.as_str(), &arg))))
    };
    Ok(match spec.name {
        "all" => Arc::new(|_, _| true),
        "none" => Arc::new(|_, _| false),
        "value_not_null" => Arc::new(|_, v| v.is_some()),
        "value_null" => Arc::new(|_, v| v.is_none()),
        "key_not_null" => Arc::new(|k, _| k.is_some()),
        "len_gt" => {
            spec.want(value, &[String, Bytes])?;
            let n = spec.number()?;
            Arc::new(move |_, v| v.as_ref().is_some_and(|v| v.plain_bytes().len() as i64 > n))
        }
        "contains" => string(|v, arg| v.contains(arg))?,
        "starts_with" => string(|v, arg| v.starts_with(arg))?,
        "value_eq" => {
            let arg = spec.arg()?;
            Arc::new(move |_, v| text(v) == arg)
        }
        "key_eq" => {
            let arg = spec.arg()?;
            Arc::new(move |k, _| text(k) == arg)
        }
        "key_hash_mod" | "value_hash_mod" => {
            let arg = spec.arg()?;
            let parts = arg.split_once(',').and_then(|(n, r)| Some((n.parse::<i32>().ok()?, r.parse::<i32>().ok()?)));
            let (n, rest) = parts.ok_or("a hash needs n,r")?;
            let of_key = spec.name.starts_with("key");
            Arc::new(move |k, v| hash(if of_key { k } else { v }) % n == rest)
        }
        "gt" | "lt" => {
            spec.want(value, &[Long, Int, Double])?;
            let (n, above) = (spec.number()? as f64, spec.name == "gt");
            Arc::new(move |_, v| v.as_ref().is_some_and(|v| if above { v.as_double() > n } else { v.as_double() < n }))
        }
        "even" => {
            spec.want(value, &[Long, Int])?;
            Arc::new(|_, v| v.as_ref().is_some_and(|v| v.as_long() & 1 == 0))
        }
        "not" => {
            let inner = predicate(&spec.arg()?, key, value)?;
            Arc::new(move |k, v| !inner(k, v))
        }
        "on_key" => {
            let inner = predicate(&spec.arg()?, key, key)?;
            Arc::new(move |k, _| inner(k, k))
        }
        "throw_if" => {
            let arg = spec.arg()?;
            Arc::new(move |_, v| if text(v) == arg { thrown(format!("throw_if:{arg}")) } else { true })
        }
        _ => return Err(spec.unknown("predicate")),
    })
}

/// The default partitioner's hash.
fn hash(value: &Var) -> i32 {
    value.as_ref().map_or(0, |v| (murmur2(&v.plain_bytes()) & 0x7fff_ffff) as i32)
}
