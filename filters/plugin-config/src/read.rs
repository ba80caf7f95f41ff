//! From bytes to a typed configuration.

use crate::notes::Notes;
use crate::value;
use crate::{Fields, Problems, Value};

/// Largest configuration that is read, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;

/// Deepest nesting that is read.
pub const MAX_DEPTH: usize = 32;

/// A configuration that has its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<T> {
    /// The value.
    pub value: T,
    /// Eight hex digits that change when the meaning of the document changes, and not with its
    /// white space or the order of its keys.
    pub hash: String,
}

/// Reads `bytes` by `config`, which asks for every field there is. Nothing but white space reads as
/// `{}`: a control plane that is given an empty configuration may send none.
pub fn read<T>(bytes: &[u8], config: impl FnOnce(Fields<'_>) -> T) -> Result<Parsed<T>, Problems> {
    let document = document(bytes)?;
    let mut notes = Notes::default();
    let value = config(Fields::root(&document, &mut notes));
    notes.into_result()?;
    Ok(Parsed { value, hash: format!("{:08x}", hash(&document, FNV_OFFSET)) })
}

/// The fields that `config` asks for when it reads `bytes`, each once: the names from the outermost
/// object on, joined by dots, without the indices of lists.
#[cfg(feature = "record")]
pub fn asked<T>(bytes: &[u8], config: impl FnOnce(Fields<'_>) -> T) -> Vec<String> {
    let mut notes = Notes::default();
    if let Ok(document) = document(bytes) {
        config(Fields::root(&document, &mut notes));
    }
    let plain = |pointer: &String| {
        let steps = pointer.split('/').skip(1).filter(|step| step.parse::<usize>().is_err());
        steps.collect::<Vec<_>>().join(".")
    };
    let mut names: Vec<_> = notes.asked.iter().map(plain).collect();
    names.sort();
    names.dedup();
    names
}

/// Refuses what serde_json would let pass: duplicate keys (the last would win in silence), great
/// depth, great size, and a `google.protobuf.Struct`, which Envoy hands over as protobuf bytes
/// although its documentation says JSON.
fn document(bytes: &[u8]) -> Result<Value, Problems> {
    if bytes.trim_ascii().is_empty() {
        return Ok(Value::Object(Vec::new()));
    }
    if bytes.len() > MAX_BYTES {
        let message = format!("{} bytes are too many: the limit is {MAX_BYTES}", bytes.len());
        return Err(Problems::one("", message));
    }
    if looks_like_protobuf(bytes) {
        return Err(Problems::one(
            "",
            "the configuration arrived as protobuf bytes, not JSON: Envoy does this to a \
             google.protobuf.Struct; wrap the JSON text in a google.protobuf.StringValue",
        ));
    }
    let document = value::read(bytes)
        .map_err(|error| Problems::one("", format!("not valid JSON: {error}")))?;
    if document.depth > MAX_DEPTH {
        return Err(Problems::one("", format!("nested deeper than {MAX_DEPTH} levels")));
    }
    match document.duplicate {
        Some(pointer) => Err(Problems::one(pointer, "this key stands twice: keep one")),
        None => Ok(document.value),
    }
}

/// A serialized `Struct` begins with the tag of its map field, a length, and the tag of the key.
fn looks_like_protobuf(bytes: &[u8]) -> bool {
    matches!(bytes, [0x0a, _, 0x0a, ..] | [0x0a, _, _, 0x0a, ..])
        && core::str::from_utf8(bytes).map_or(true, |text| !text.trim_start().starts_with('{'))
}

/// FNV-1a's start.
const FNV_OFFSET: u32 = 0x811c_9dc5;

/// Hashes what a document means: kinds and values, objects in the order of their keys.
fn hash(value: &Value, seed: u32) -> u32 {
    let number = |bits: u64| fnv1a(&bits.to_le_bytes(), fnv1a(b"d", seed));
    match value {
        Value::Null => fnv1a(b"n", seed),
        Value::Bool(value) => fnv1a(&[b'b', u8::from(*value)], seed),
        Value::Integer(value) => number(value.cast_unsigned()),
        Value::Number(value) => number(value.to_bits()),
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
    use crate::{Choice, Or, Required};
    use core::time::Duration;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Clone, Copy)]
    enum Mode {
        Enforce,
        Shadow,
    }

    impl Choice for Mode {
        const CHOICES: &'static [(&'static str, Self)] =
            &[("enforce", Self::Enforce), ("shadow", Self::Shadow)];
    }

    #[derive(Debug, PartialEq)]
    struct Root {
        mode: Mode,
        buckets: Vec<(u32, Duration)>,
    }

    fn root(mut fields: Fields<'_>) -> Root {
        Root {
            mode: fields.choice("mode", Mode::Enforce),
            buckets: fields.each("buckets", |_, mut fields| {
                let interval = Duration::from_millis(1)..=Duration::from_secs(10);
                let tokens = fields.integer("max_tokens", 1..=u32::MAX, Required);
                (tokens, fields.duration("fill_interval", interval, Or(Duration::from_secs(1))))
            }),
        }
    }

    fn problems(json: &str) -> String {
        read(json.as_bytes(), root).unwrap_err().to_string()
    }

    #[test]
    fn a_good_document_has_a_value_and_a_hash_of_its_meaning() {
        let one = read(br#"{"mode":"shadow","buckets":[{"max_tokens":3}]}"#, root).unwrap();
        let two = read(br#" {"buckets":[{"max_tokens":3.0}], "mode":"shadow"}"#, root).unwrap();
        assert_eq!(one, two);
        assert_eq!(one.hash, "8bf6d140");
    }

    #[test]
    fn nothing_reads_as_an_empty_object() {
        assert!(read(b"  \n", root).unwrap().value.buckets.is_empty());
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let json = r#"{"mod":"shadow","mode":"shadov","buckets":[
            {"max_token":1},{"fill_interval":"50ms","max_tokens":"3"},7,{}]}"#;
        let mut told: Vec<_> = problems(json).lines().map(str::to_owned).collect();
        told.sort();
        assert_eq!(
            told,
            [
                "/buckets/0/max_token: unknown field: did you mean 'max_tokens'?",
                "/buckets/1/fill_interval: '50ms' is no duration: write decimal seconds with an \
                 's', such as \"0.5s\"",
                "/buckets/1/max_tokens: expected a whole number, found the text \"3\"",
                "/buckets/2: expected an object, found 7",
                "/buckets/3: missing field 'max_tokens': add it, it has no default",
                "/mod: unknown field: did you mean 'mode'?",
                "/mode: 'shadov' is not known: did you mean 'shadow'?",
            ]
        );
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        assert_eq!(
            problems(r#"{"buckets":[{"max_tokens":1},{"max_tokens":1,"max_tokens":2}]}"#),
            "/buckets/1/max_tokens: this key stands twice: keep one"
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

    #[test]
    fn a_document_of_mistakes_is_told_in_part() {
        let many: Vec<_> = (0..200).map(|at| format!("\"x{at}\":1")).collect();
        assert_eq!(problems(&format!("{{{}}}", many.join(","))).lines().count(), 50);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes, root);
        }
    }
}
