//! The repair loop around serde.

use crate::node::{Kind, Mistake, Node};
use crate::{Parsed, Problem, Problems, document, nearest};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Problems that are collected before the loop gives up.
const MAX_PROBLEMS: usize = 50;

/// Reads `bytes` as a `T`. Nothing but white space reads as `{}`: a control plane that is given an
/// empty configuration may send none.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<Parsed<T>, Problems> {
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    let document = document::read(bytes)?;
    let hash = format!("{:08x}", hash(&document, FNV_OFFSET));
    let mut mended = document;
    let mut problems = Vec::new();
    loop {
        match T::deserialize(Node(&mended)) {
            Ok(value) if problems.is_empty() => return Ok(Parsed { value, hash }),
            Ok(_) => return Err(Problems(problems)),
            Err(mistake) => {
                let (problem, mend) = diagnose(mistake);
                problems.push(problem);
                if problems.len() >= MAX_PROBLEMS || !remove(&mut mended, &mend) {
                    return Err(Problems(problems));
                }
            }
        }
    }
}

/// The problem, and the place whose removal lets the next one come to light.
fn diagnose(mistake: Mistake) -> (Problem, Vec<String>) {
    let mut steps = mistake.steps;
    steps.reverse();
    let message = match mistake.kind {
        Kind::UnknownField { field, expected } => match nearest(&field, expected) {
            Some(meant) => format!("unknown field: did you mean '{meant}'?"),
            None if expected.is_empty() => "unknown field: none is expected here".to_owned(),
            None => format!("unknown field: expected one of {}", expected.join(", ")),
        },
        Kind::UnknownVariant { variant, expected } => match nearest(&variant, expected) {
            Some(meant) => format!("'{variant}' is not known: did you mean '{meant}'?"),
            None => {
                format!("'{variant}' is not known: expected one of {}", expected.join(", "))
            }
        },
        Kind::Other(message) => message.replace('`', "'"),
    };
    (Problem { pointer: pointer(&steps), message }, steps)
}

fn pointer(steps: &[String]) -> String {
    steps.iter().map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1"))).collect()
}

/// Removes the value at `steps`. A missing field has nothing to remove, and ends the loop.
fn remove(document: &mut Value, steps: &[String]) -> bool {
    let Some((last, parents)) = steps.split_last() else { return false };
    let mut place = document;
    for step in parents {
        let below = match place {
            Value::Object(object) => object.get_mut(step),
            Value::Array(list) => step.parse().ok().and_then(|at: usize| list.get_mut(at)),
            _ => None,
        };
        match below {
            Some(below) => place = below,
            None => return false,
        }
    }
    match place {
        Value::Object(object) => object.remove(last).is_some(),
        // Removing an element would shift the places of those after it.
        _ => false,
    }
}

/// FNV-1a's start.
const FNV_OFFSET: u32 = 0x811c_9dc5;

/// Hashes what a document means: kinds and values, objects in the order of their keys.
fn hash(value: &Value, seed: u32) -> u32 {
    match value {
        Value::Null => fnv1a(b"n", seed),
        Value::Bool(value) => fnv1a(&[b'b', u8::from(*value)], seed),
        Value::Number(number) => {
            let bits = number
                .as_i64()
                .map_or_else(|| number.as_f64().unwrap_or(0.0).to_bits(), i64::cast_unsigned);
            fnv1a(&bits.to_le_bytes(), fnv1a(b"d", seed))
        }
        Value::String(text) => fnv1a(&[0], fnv1a(text.as_bytes(), fnv1a(b"s", seed))),
        Value::Array(items) => {
            let inside = items.iter().fold(fnv1a(b"[", seed), |seed, item| hash(item, seed));
            fnv1a(b"]", inside)
        }
        Value::Object(object) => {
            let inside = object.iter().fold(fnv1a(b"{", seed), |seed, (key, value)| {
                hash(value, fnv1a(&[0], fnv1a(key.as_bytes(), seed)))
            });
            fnv1a(b"}", inside)
        }
    }
}

fn fnv1a(bytes: &[u8], seed: u32) -> u32 {
    bytes.iter().fold(seed, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
