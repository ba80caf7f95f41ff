//! protobuf's well-known types as plugin configuration, reduced to what a module reads.
//!
//! A `Struct` reaches a module as a serialized protobuf message, not as JSON. Envoy writes its map in
//! no particular order; host-sim sorts it, so that a run can be repeated.

use serde_json::Value;

use crate::reader::{Message, Reader};

/// An `Any`, reduced to the bytes Envoy hands to the module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configuration {
    /// What the module reads.
    pub bytes: Vec<u8>,
    /// Where the bytes come from.
    pub kind: ConfigurationKind,
}

/// What a [`Configuration`] was written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConfigurationKind {
    /// No configuration: no bytes.
    #[default]
    Absent,
    /// `StringValue`: the string.
    String,
    /// `BytesValue`: the bytes.
    Bytes,
    /// `Struct`: the serialized protobuf message, which is *not* JSON.
    Struct,
}

/// What `configuration` may be.
pub(crate) const WELL_KNOWN: &[Message<Configuration>] = &[
    Message { name: "google.protobuf.StringValue", read: string_value },
    Message { name: "google.protobuf.BytesValue", read: bytes_value },
    Message { name: "google.protobuf.Struct", read: struct_value },
];

fn string_value(message: &mut Reader<'_>) -> Option<Configuration> {
    let bytes = message.text("value").into_bytes();
    Some(Configuration { bytes, kind: ConfigurationKind::String })
}

fn bytes_value(message: &mut Reader<'_>) -> Option<Configuration> {
    let bytes = message.bytes("value").unwrap_or_default();
    Some(Configuration { bytes, kind: ConfigurationKind::Bytes })
}

fn struct_value(message: &mut Reader<'_>) -> Option<Configuration> {
    let fields = message.json_object("value").unwrap_or_default();
    let bytes = encode_struct(&fields);
    Some(Configuration { bytes, kind: ConfigurationKind::Struct })
}

/// `google.protobuf.Struct`: field 1 is a map from names to values.
fn encode_struct(fields: &serde_json::Map<String, Value>) -> Vec<u8> {
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let mut out = Vec::new();
    for (name, value) in sorted {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, name.as_bytes());
        put_bytes(&mut entry, 2, &encode_value(value));
        put_bytes(&mut out, 1, &entry);
    }
    out
}

/// `google.protobuf.Value`: a one-of, so that its zeroes are written too.
fn encode_value(value: &Value) -> Vec<u8> {
    const VARINT: u8 = 0;
    const FIXED64: u8 = 1;
    let mut out = Vec::new();
    match value {
        Value::Null => out.extend([1 << 3 | VARINT, 0]),
        Value::Number(number) => {
            out.push(2 << 3 | FIXED64);
            out.extend(number.as_f64().unwrap_or(f64::NAN).to_le_bytes());
        }
        Value::String(text) => put_bytes(&mut out, 3, text.as_bytes()),
        Value::Bool(flag) => out.extend([4 << 3 | VARINT, u8::from(*flag)]),
        Value::Object(fields) => put_bytes(&mut out, 5, &encode_struct(fields)),
        Value::Array(values) => {
            let mut list = Vec::new();
            for value in values {
                put_bytes(&mut list, 1, &encode_value(value));
            }
            put_bytes(&mut out, 6, &list);
        }
    }
    out
}

/// A length-delimited field.
fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    const LENGTH_DELIMITED: u8 = 2;
    out.push(field << 3 | LENGTH_DELIMITED);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_struct_is_the_message_that_protobuf_writes() {
        let Value::Object(fields) = json!({"b": [null, true], "a": 1.5, "c": {"d": "e"}}) else {
            unreachable!()
        };
        // Golden: what protobuf's own `SerializeToString(deterministic=True)` gives.
        let golden = concat!(
            "0a0e0a0161120911000000000000f83f",
            "0a0f0a0162120a32080a0208000a022001",
            "0a110a0163120c2a0a0a080a016412031a0165",
        );
        let hex: String = encode_struct(&fields).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden);
    }

    #[test]
    fn a_length_above_127_takes_two_bytes() {
        let mut out = Vec::new();
        put_bytes(&mut out, 1, &[7; 300]);
        assert_eq!(out[..3], [0x0a, 0xac, 0x02]);
        assert_eq!(out.len(), 303);
    }
}
