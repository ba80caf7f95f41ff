//! The repair loop around serde.

use crate::node::{Kind, Mistake, Node};
use crate::{Problem, Problems, document, nearest};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Largest configuration that is read, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;

/// Deepest nesting that is read.
pub const MAX_DEPTH: usize = 32;

/// Problems that are collected before the loop gives up.
const MAX_PROBLEMS: usize = 50;

/// A configuration that has its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<T> {
    /// The value.
    pub value: T,
    /// Eight hex digits that change when the meaning of the document changes, and not with its
    /// white space or the order of its keys.
    pub hash: String,
}

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
        Kind::UnknownField { field, expected } => match nearest(&field, expected.iter().copied()) {
            Some(meant) => format!("unknown field: did you mean '{meant}'?"),
            None if expected.is_empty() => "unknown field: none is expected here".to_owned(),
            None => format!("unknown field: expected one of {}", expected.join(", ")),
        },
        Kind::UnknownVariant { variant, expected } => {
            match nearest(&variant, expected.iter().copied()) {
                Some(meant) => format!("'{variant}' is not known: did you mean '{meant}'?"),
                None => {
                    format!("'{variant}' is not known: expected one of {}", expected.join(", "))
                }
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;
    use proptest::prelude::*;

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Bucket {
        max_tokens: Option<u32>,
        fill_interval: Option<Span>,
    }

    #[derive(Debug, serde::Deserialize, PartialEq, Clone, Copy)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        Enforce,
        Shadow,
    }

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Root {
        mode: Option<Mode>,
        #[serde(default)]
        buckets: Vec<Bucket>,
    }

    fn problems(json: &str) -> String {
        parse::<Root>(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_good_document_has_a_value_and_a_hash_of_its_meaning() {
        let one = parse::<Root>(br#"{"mode":"shadow","buckets":[{"max_tokens":3}]}"#).unwrap();
        let two = parse::<Root>(br#" {"buckets":[{"max_tokens":3.0}], "mode":"shadow"}"#).unwrap();
        assert_eq!(one, two);
        assert_eq!(one.hash.len(), 8);
    }

    #[test]
    fn nothing_reads_as_an_empty_object() {
        assert!(parse::<Root>(b"  \n").unwrap().value.buckets.is_empty());
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let json = r#"{"mod":"shadow","mode":"shadov","buckets":[
            {"max_token":1},{"fill_interval":"50ms","max_tokens":"3"}]}"#;
        let mut told: Vec<_> = problems(json).lines().map(str::to_owned).collect();
        told.sort();
        assert_eq!(
            told,
            [
                "/buckets/0/max_token: unknown field: did you mean 'max_tokens'?",
                "/buckets/1/fill_interval: '50ms' is no duration: write decimal seconds with an \
                 's', such as \"0.5s\"",
                "/buckets/1/max_tokens: expected u32, found the text \"3\"",
                "/mod: unknown field: did you mean 'mode'?",
                "/mode: 'shadov' is not known: did you mean 'shadow'?",
            ]
        );
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        assert_eq!(
            problems(r#"{"buckets":[{"max_tokens":1,"max_tokens":2}]}"#),
            "/buckets/0/max_tokens: this key stands twice: keep one"
        );
    }

    #[test]
    fn a_protobuf_struct_is_recognised() {
        assert!(problems("\n\u{10}\n\u{4}mode\u{12}\u{8}").contains("StringValue"));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
        assert!(problems(&deep).contains("deeper than 32"));
        let large = format!("\"{}\"", "x".repeat(MAX_BYTES));
        assert!(problems(&large).contains("too many"));
    }

    #[test]
    fn broken_json_names_line_and_column() {
        assert!(problems("{\"mode\":\n }").contains("line 2 column 2"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse::<Root>(&bytes);
        }
    }
}
