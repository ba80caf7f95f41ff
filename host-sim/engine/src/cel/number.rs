//! Comparison across numeric types, arithmetic that does not wrap, and what a value costs.

use super::eval::{Failed, Outcome};
use super::value::Value;
use std::cmp::Ordering;

/// Equality; values of different kinds are different, numbers are compared as numbers.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            let has = |key: &Value, value: &Value| {
                b.iter().any(|(own, other)| equal(own, key) && equal(other, value))
            };
            a.len() == b.len() && a.iter().all(|(key, value)| has(key, value))
        }
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::Message(a), Value::Message(b)) => a.encoded == b.encoded,
        _ => order(a, b) == Some(Ordering::Equal),
    }
}

/// Order of values that have one.
pub(super) fn order(a: &Value, b: &Value) -> Option<Ordering> {
    use Value::{Bool, Bytes, Double, Duration, Int, Text, Timestamp, Uint};
    match (a, b) {
        (Bool(a), Bool(b)) => Some(a.cmp(b)),
        (Int(a), Int(b)) | (Duration(a), Duration(b)) | (Timestamp(a), Timestamp(b)) => {
            Some(a.cmp(b))
        }
        (Uint(a), Uint(b)) => Some(a.cmp(b)),
        (Double(a), Double(b)) => a.partial_cmp(b),
        (Int(a), Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Uint(a), Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Int(a), Double(b)) => (*a as f64).partial_cmp(b),
        (Double(a), Int(b)) => a.partial_cmp(&(*b as f64)),
        (Uint(a), Double(b)) => (*a as f64).partial_cmp(b),
        (Double(a), Uint(b)) => a.partial_cmp(&(*b as f64)),
        (Text(a), Text(b)) | (Bytes(a), Bytes(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Deepest nesting of a value: it is copied, compared and dropped by recursion.
const MAX_NESTING: usize = 100;

/// Bytes of text that cost a step, and keys of maps that are compared in one.
const A_STEP: usize = 64;

/// Steps that it costs to copy a value or to look through it; none if it is too deep to exist.
pub(super) fn cost(value: &Value) -> Option<u64> {
    cost_within(value, MAX_NESTING)
}

fn cost_within(value: &Value, nesting: usize) -> Option<u64> {
    let mut steps = 0u64;
    match value {
        Value::Text(bytes) | Value::Bytes(bytes) => steps = (bytes.len() / A_STEP) as u64,
        Value::List(items) => {
            let inside = nesting.checked_sub(1)?;
            for item in items {
                steps = steps.saturating_add(cost_within(item, inside)?).saturating_add(1);
            }
        }
        Value::Map(members) => {
            let inside = nesting.checked_sub(1)?;
            steps = lookups(members.len());
            for (key, value) in members {
                let member = cost_within(key, inside)?.saturating_add(cost_within(value, inside)?);
                steps = steps.saturating_add(member).saturating_add(1);
            }
        }
        Value::Headers(headers) => steps = headers.as_ref().map_or(0, |h| h.len() as u64),
        _ => {}
    }
    Some(steps)
}

/// Steps for as many keys, each compared with all others.
pub(super) fn lookups(keys: usize) -> u64 {
    (keys.saturating_mul(keys) / A_STEP) as u64
}

/// A place in a list.
pub(super) fn index(key: &Value) -> Option<usize> {
    match key {
        Value::Int(at) => usize::try_from(*at).ok(),
        Value::Uint(at) => usize::try_from(*at).ok(),
        Value::Double(at) if at.fract() == 0.0 && *at >= 0.0 => Some(*at as usize),
        _ => None,
    }
}

/// An arithmetic operator.
pub(super) fn arithmetic(operator: &str, a: &Value, b: &Value) -> Outcome {
    use Value::{Bytes, Double, Duration, Int, List, Text, Timestamp, Uint};
    Ok(match (operator, a, b) {
        ("+", Int(a), Int(b)) => Int(a.checked_add(*b).ok_or(Failed)?),
        ("-", Int(a), Int(b)) => Int(a.checked_sub(*b).ok_or(Failed)?),
        ("*", Int(a), Int(b)) => Int(a.checked_mul(*b).ok_or(Failed)?),
        ("/", Int(a), Int(b)) => Int(a.checked_div(*b).ok_or(Failed)?),
        ("%", Int(a), Int(b)) => Int(a.checked_rem(*b).ok_or(Failed)?),
        ("+", Uint(a), Uint(b)) => Uint(a.checked_add(*b).ok_or(Failed)?),
        ("-", Uint(a), Uint(b)) => Uint(a.checked_sub(*b).ok_or(Failed)?),
        ("*", Uint(a), Uint(b)) => Uint(a.checked_mul(*b).ok_or(Failed)?),
        ("/", Uint(a), Uint(b)) => Uint(a.checked_div(*b).ok_or(Failed)?),
        ("%", Uint(a), Uint(b)) => Uint(a.checked_rem(*b).ok_or(Failed)?),
        ("+", Double(a), Double(b)) => Double(a + b),
        ("-", Double(a), Double(b)) => Double(a - b),
        ("*", Double(a), Double(b)) => Double(a * b),
        ("/", Double(a), Double(b)) => Double(a / b),
        ("+", Text(a), Text(b)) => Text([&a[..], b].concat().into()),
        ("+", Bytes(a), Bytes(b)) => Bytes([&a[..], b].concat().into()),
        ("+", List(a), List(b)) => List(a.iter().chain(b).cloned().collect()),
        ("+", Duration(a), Duration(b)) => Duration(a.checked_add(*b).ok_or(Failed)?),
        ("-", Duration(a), Duration(b)) => Duration(a.checked_sub(*b).ok_or(Failed)?),
        ("+", Timestamp(a), Duration(b)) | ("+", Duration(a), Timestamp(b)) => {
            Timestamp(a.checked_add(*b).ok_or(Failed)?)
        }
        ("-", Timestamp(a), Duration(b)) => Timestamp(a.checked_sub(*b).ok_or(Failed)?),
        ("-", Timestamp(a), Timestamp(b)) => Duration(a.checked_sub(*b).ok_or(Failed)?),
        _ => return Err(Failed),
    })
}
