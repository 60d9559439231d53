//! Keys and values whose type is known only when a case has been read: the six types of the cases, and windowed keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use watersmeet::serdes::{Encoded, Optional, Serde, SerdeError, SerdeRef};

/// A key or value that may be null, as it flows through a stream.
pub type Var = Option<Val>;

/// A key or value that is there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Val {
    String(String),
    Long(i64),
    Int(i32),
    Double(f64),
    Bytes(Vec<u8>),
    Json(Value),
    Windowed { key: Box<Val>, start_ms: i64, end_ms: i64 },
}

/// The type of a [`Val`], which decides its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    String,
    Long,
    Int,
    Double,
    Bytes,
    Json,
    /// A key of time windows of this size.
    TimeWindowed(Box<Type>, i64),
    /// A key of sessions.
    SessionWindowed(Box<Type>),
}

pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|e| format!("{text:?} is not base64: {e}"))
}

/// The JSON form, which answers and expectations use.
pub fn render(value: &Var) -> Value {
    value.as_ref().map_or(Value::Null, Val::to_json)
}

/// The text form, which many functions use.
pub fn text(value: &Var) -> String {
    value.as_ref().map_or_else(|| "null".into(), Val::text)
}

impl Val {
    pub fn to_json(&self) -> Value {
        match self {
            Val::String(s) => json!(s),
            Val::Long(n) => json!(n),
            Val::Int(n) => json!(n),
            Val::Double(n) => json!(n),
            Val::Bytes(b) => json!(base64(b)),
            Val::Json(v) => v.clone(),
            Val::Windowed { key, start_ms, end_ms } => json!({"key": key.to_json(), "start": start_ms, "end": end_ms}),
        }
    }

    pub fn text(&self) -> String {
        match self {
            Val::String(s) => s.clone(),
            Val::Long(n) => n.to_string(),
            Val::Int(n) => n.to_string(),
            Val::Double(n) => format!("{n:?}"),
            Val::Bytes(b) => base64(b),
            Val::Json(v) => v.to_string(),
            Val::Windowed { key, start_ms, end_ms } => format!("[{}@{start_ms}/{end_ms}]", key.text()),
        }
    }

    /// The bytes; of a windowed key those of the key inside.
    pub fn plain_bytes(&self) -> Vec<u8> {
        match self {
            Val::String(s) => s.clone().into_bytes(),
            Val::Long(n) => n.to_be_bytes().to_vec(),
            Val::Int(n) => n.to_be_bytes().to_vec(),
            Val::Double(n) => n.to_be_bytes().to_vec(),
            Val::Bytes(b) => b.clone(),
            Val::Json(v) => v.to_string().into_bytes(),
            Val::Windowed { key, .. } => key.plain_bytes(),
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Val::String(s) => s,
            other => panic!("{other:?} is no string"),
        }
    }

    pub fn as_long(&self) -> i64 {
        match self {
            Val::Long(n) => *n,
            Val::Int(n) => i64::from(*n),
            Val::Double(n) => *n as i64,
            other => panic!("{other:?} is no number"),
        }
    }

    pub fn as_double(&self) -> f64 {
        match self {
            Val::Double(n) => *n,
            other => other.as_long() as f64,
        }
    }
}

impl From<&str> for Val {
    fn from(text: &str) -> Self {
        Val::String(text.into())
    }
}

impl Type {
    pub fn named(name: &str) -> Result<Self, String> {
        Ok(match name {
            "string" => Type::String,
            "long" => Type::Long,
            "int" => Type::Int,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "json" => Type::Json,
            _ => return Err(format!("unknown type '{name}'")),
        })
    }

    /// The type of the key inside a windowed key.
    pub fn inner(&self) -> Option<&Type> {
        match self {
            Type::TimeWindowed(inner, _) | Type::SessionWindowed(inner) => Some(inner),
            _ => None,
        }
    }

    /// A value from its JSON form.
    pub fn read(&self, value: &Value) -> Result<Var, String> {
        let wrong = || format!("{value} is no {self:?}");
        Ok(Some(match (self, value) {
            (_, Value::Null) => return Ok(None),
            (Type::String, _) => Val::String(value.as_str().ok_or_else(wrong)?.into()),
            (Type::Long, _) => Val::Long(value.as_i64().ok_or_else(wrong)?),
            (Type::Int, _) => Val::Int(value.as_i64().and_then(|n| n.try_into().ok()).ok_or_else(wrong)?),
            (Type::Double, _) => Val::Double(value.as_f64().ok_or_else(wrong)?),
            (Type::Bytes, _) => Val::Bytes(from_base64(value.as_str().ok_or_else(wrong)?)?),
            (Type::Json, _) => Val::Json(value.clone()),
            (Type::TimeWindowed(..) | Type::SessionWindowed(_), _) => return Err("a windowed key is never read".into()),
        }))
    }

    /// The bytes of a value.
    pub fn bytes(&self, value: &Var) -> Result<Option<Vec<u8>>, String> {
        let mut bytes = Vec::new();
        match self.nullable().serialize(value, &mut bytes).map_err(|e| e.to_string())? {
            Encoded::Null => Ok(None),
            Encoded::Bytes => Ok(Some(bytes)),
        }
    }

    /// The serde of rows.
    pub fn serde(&self) -> SerdeRef<Val> {
        Arc::new(TypeSerde(self.clone()))
    }

    /// The serde of keys and values in streams.
    pub fn nullable(&self) -> SerdeRef<Var> {
        Arc::new(Optional(self.serde()))
    }
}

/// The bytes that Kafka's serdes of these types write.
struct TypeSerde(Type);

impl Serde<Val> for TypeSerde {
    fn serialize(&self, value: &Val, out: &mut Vec<u8>) -> Result<Encoded, SerdeError> {
        write(&self.0, value, out)?;
        Ok(Encoded::Bytes)
    }

    fn deserialize(&self, bytes: Option<&[u8]>) -> Result<Val, SerdeError> {
        parse(&self.0, bytes.ok_or(SerdeError::Null)?)
    }
}

fn write(r#type: &Type, value: &Val, out: &mut Vec<u8>) -> Result<(), SerdeError> {
    match (r#type, value) {
        (Type::TimeWindowed(inner, _), Val::Windowed { key, start_ms, .. }) => {
            write(inner, key, out)?;
            out.extend(start_ms.to_be_bytes());
        }
        (Type::SessionWindowed(inner), Val::Windowed { key, start_ms, end_ms }) => {
            write(inner, key, out)?;
            out.extend(end_ms.to_be_bytes());
            out.extend(start_ms.to_be_bytes());
        }
        (Type::String, Val::String(_))
        | (Type::Long, Val::Long(_))
        | (Type::Int, Val::Int(_))
        | (Type::Double, Val::Double(_))
        | (Type::Bytes, Val::Bytes(_))
        | (Type::Json, Val::Json(_)) => out.extend(value.plain_bytes()),
        _ => return Err(SerdeError::Invalid(format!("{value:?} is no {type:?}"))),
    }
    Ok(())
}

fn parse(r#type: &Type, bytes: &[u8]) -> Result<Val, SerdeError> {
    let invalid = || SerdeError::Invalid(format!("{} bytes are no {type:?}", bytes.len()));
    let tail = |count: usize| bytes.len().checked_sub(count).map(|at| bytes.split_at(at)).ok_or_else(invalid);
    let long = |bytes: &[u8]| bytes.try_into().map(i64::from_be_bytes).map_err(|_| invalid());
    Ok(match r#type {
        Type::String => Val::String(String::from_utf8_lossy(bytes).into_owned()),
        Type::Long => Val::Long(long(bytes)?),
        Type::Int => Val::Int(bytes.try_into().map(i32::from_be_bytes).map_err(|_| invalid())?),
        Type::Double => Val::Double(bytes.try_into().map(f64::from_be_bytes).map_err(|_| invalid())?),
        Type::Bytes => Val::Bytes(bytes.to_vec()),
        Type::Json => match serde_json::from_slice(bytes) {
            Ok(Value::Null) | Err(_) => return Err(SerdeError::Invalid("not JSON".into())),
            Ok(value) => Val::Json(value),
        },
        Type::TimeWindowed(inner, size_ms) => {
            let (key, start) = tail(8)?;
            let start_ms = long(start)?;
            let end_ms = start_ms.saturating_add(*size_ms);
            Val::Windowed { key: Box::new(parse(inner, key)?), start_ms, end_ms }
        }
        Type::SessionWindowed(inner) => {
            let (key, times) = tail(16)?;
            let (end_ms, start_ms) = (long(&times[..8])?, long(&times[8..])?);
            Val::Windowed { key: Box::new(parse(inner, key)?), start_ms, end_ms }
        }
    })
}
