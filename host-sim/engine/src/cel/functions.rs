//! The functions of the language, and which of them exist.
//!
//! Existence is the parser's business: Envoy refuses an expression that calls an unknown function,
//! or a known one with too few arguments, when it is created. Types are found out when it runs.

use super::eval::{Failed, Outcome};
use super::number::{arithmetic, equal, order};
use super::time::{self, parts, zone};
use super::value::Value;
use std::cmp::Ordering;

/// Largest compiled pattern of `matches`.
const PATTERN_BYTES: usize = 1 << 20;

/// Names, as functions or as methods, with the numbers of their arguments, target included.
const KNOWN: [(&str, bool, bool, usize, usize); 24] = [
    ("size", true, true, 1, 1),
    ("contains", false, true, 2, 2),
    ("startsWith", false, true, 2, 2),
    ("endsWith", false, true, 2, 2),
    ("matches", true, true, 2, 2),
    ("int", true, false, 1, 1),
    ("uint", true, false, 1, 1),
    ("double", true, false, 1, 1),
    ("string", true, false, 1, 1),
    ("bytes", true, false, 1, 1),
    ("dyn", true, false, 1, 1),
    ("type", true, false, 1, 1),
    ("duration", true, false, 1, 1),
    ("timestamp", true, false, 1, 1),
    ("getFullYear", false, true, 1, 2),
    ("getMonth", false, true, 1, 2),
    ("getDate", false, true, 1, 2),
    ("getDayOfMonth", false, true, 1, 2),
    ("getDayOfWeek", false, true, 1, 2),
    ("getDayOfYear", false, true, 1, 2),
    ("getHours", false, true, 1, 2),
    ("getMinutes", false, true, 1, 2),
    ("getSeconds", false, true, 1, 2),
    ("getMilliseconds", false, true, 1, 2),
];

const TYPES: [&str; 9] =
    ["null_type", "bool", "int", "uint", "double", "string", "bytes", "list", "map"];

/// The function of that name and shape.
pub(super) fn known(name: &str, method: bool, args: usize) -> Option<&'static str> {
    let fits = |(own, function, own_method, least, most): &&(&str, bool, bool, usize, usize)| {
        let shape = if method { *own_method } else { *function };
        *own == name && shape && (*least..=*most).contains(&args)
    };
    KNOWN.iter().find(fits).map(|(name, ..)| *name)
}

/// Types have names too.
pub(super) fn type_named(name: &str) -> Option<Value> {
    TYPES.into_iter().find(|own| *own == name).map(Value::Type)
}

/// Calls a function or operator.
pub(super) fn call(function: &'static str, args: &[Value]) -> Outcome {
    match args {
        [only] => unary(function, only),
        [first, second] => binary(function, first, second),
        _ => Err(Failed),
    }
}

fn unary(function: &str, value: &Value) -> Outcome {
    Ok(match function {
        "!" => match value {
            Value::Bool(value) => Value::Bool(!value),
            _ => return Err(Failed),
        },
        "negate" => match value {
            Value::Int(value) => Value::Int(value.checked_neg().ok_or(Failed)?),
            Value::Double(value) => Value::Double(-value),
            _ => return Err(Failed),
        },
        "size" => Value::Int(size(value).ok_or(Failed)?),
        "dyn" => value.clone(),
        "type" => Value::Type(value.type_name()),
        "int" => Value::Int(int(value).ok_or(Failed)?),
        "uint" => Value::Uint(uint(value).ok_or(Failed)?),
        "double" => Value::Double(double(value).ok_or(Failed)?),
        "string" => string(value).ok_or(Failed)?,
        "bytes" => match value {
            Value::Text(bytes) | Value::Bytes(bytes) => Value::Bytes(bytes.clone()),
            _ => return Err(Failed),
        },
        "duration" => match value {
            Value::Duration(_) => value.clone(),
            value => Value::Duration(text(value).and_then(time::duration).ok_or(Failed)?),
        },
        "timestamp" => match value {
            Value::Timestamp(_) => value.clone(),
            Value::Int(seconds) => {
                Value::Timestamp(seconds.checked_mul(1_000_000_000).ok_or(Failed)?)
            }
            value => Value::Timestamp(text(value).and_then(time::timestamp).ok_or(Failed)?),
        },
        accessor => return part(accessor, value, 0),
    })
}

fn binary(function: &str, a: &Value, b: &Value) -> Outcome {
    let ordered = |wanted: &[Ordering]| {
        let found = order(a, b).ok_or(Failed)?;
        Ok(Value::Bool(wanted.contains(&found)))
    };
    let texts = || text_bytes(a).zip(text_bytes(b)).ok_or(Failed);
    match function {
        "==" => Ok(Value::Bool(equal(a, b))),
        "!=" => Ok(Value::Bool(!equal(a, b))),
        "<" => ordered(&[Ordering::Less]),
        "<=" => ordered(&[Ordering::Less, Ordering::Equal]),
        ">" => ordered(&[Ordering::Greater]),
        ">=" => ordered(&[Ordering::Greater, Ordering::Equal]),
        "contains" => texts().map(|(a, b)| {
            // Linear: both may be long.
            Value::Bool(memchr::memmem::find(a, b).is_some())
        }),
        "startsWith" => texts().map(|(a, b)| Value::Bool(a.starts_with(b))),
        "endsWith" => texts().map(|(a, b)| Value::Bool(a.ends_with(b))),
        "matches" => {
            let pattern = text(b).ok_or(Failed)?;
            let subject = text_bytes(a).ok_or(Failed)?;
            let mut builder = regex::bytes::RegexBuilder::new(pattern);
            let compiled = builder.size_limit(PATTERN_BYTES).build().map_err(|_| Failed)?;
            Ok(Value::Bool(compiled.is_match(subject)))
        }
        "+" | "-" | "*" | "/" | "%" => arithmetic(function, a, b),
        accessor => part(accessor, a, text(b).and_then(zone).ok_or(Failed)?),
    }
}

/// A part of a time, in a zone that is some seconds ahead.
fn part(accessor: &str, value: &Value, ahead: i64) -> Outcome {
    const MILLI: i64 = 1_000_000;
    if let Value::Duration(nanos) = value {
        return Ok(Value::Int(match accessor {
            "getHours" => nanos / (3_600_000 * MILLI),
            "getMinutes" => nanos / (60_000 * MILLI),
            "getSeconds" => nanos / (1000 * MILLI),
            "getMilliseconds" => nanos / MILLI % 1000,
            _ => return Err(Failed),
        }));
    }
    let Value::Timestamp(nanos) = value else { return Err(Failed) };
    let parts = parts(*nanos, ahead);
    Ok(Value::Int(match accessor {
        "getFullYear" => parts.year,
        "getMonth" => parts.month,
        "getDate" => parts.day + 1,
        "getDayOfMonth" => parts.day,
        "getDayOfWeek" => parts.day_of_week,
        "getDayOfYear" => parts.day_of_year,
        "getHours" => parts.hour,
        "getMinutes" => parts.minute,
        "getSeconds" => parts.second,
        "getMilliseconds" => parts.millisecond,
        _ => return Err(Failed),
    }))
}

fn size(value: &Value) -> Option<i64> {
    let size = match value {
        Value::Text(text) => String::from_utf8_lossy(text).chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => items.len(),
        Value::Map(members) => members.len(),
        Value::Headers(headers) => {
            let mut names: Vec<&[u8]> =
                headers.iter().flat_map(|headers| headers.iter()).map(|(name, _)| name).collect();
            names.sort_unstable();
            names.dedup();
            names.len()
        }
        _ => return None,
    };
    i64::try_from(size).ok()
}

fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(value) => Some(*value),
        Value::Uint(value) => i64::try_from(*value).ok(),
        Value::Double(value) if value.abs() < 9.2e18 => Some(*value as i64),
        Value::Timestamp(nanos) => Some(nanos.div_euclid(1_000_000_000)),
        Value::Text(_) => text(value)?.parse().ok(),
        _ => None,
    }
}

fn uint(value: &Value) -> Option<u64> {
    match value {
        Value::Uint(value) => Some(*value),
        Value::Int(value) => u64::try_from(*value).ok(),
        Value::Double(value) if (0.0..1.8e19).contains(value) => Some(*value as u64),
        Value::Text(_) => text(value)?.parse().ok(),
        _ => None,
    }
}

fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Double(value) => Some(*value),
        Value::Int(value) => Some(*value as f64),
        Value::Uint(value) => Some(*value as f64),
        Value::Text(_) => text(value)?.parse().ok(),
        _ => None,
    }
}

fn string(value: &Value) -> Option<Value> {
    Some(Value::text(match value {
        Value::Text(_) => return Some(value.clone()),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.to_owned(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Duration(nanos) => time::duration_text(*nanos),
        Value::Timestamp(nanos) => time::timestamp_text(*nanos),
        _ => return None,
    }))
}

fn text_bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    std::str::from_utf8(text_bytes(value)?).ok()
}
