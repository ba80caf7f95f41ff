//! Values of attributes and expressions, and how a guest gets them.

use super::eval::Activation;
use crate::Headers;
use bytes::Bytes;
use host_sim_abi::{Status, pairs};

/// A value. What the host keeps elsewhere (groups of attributes) is looked up, not copied.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    /// Text; header values need not be UTF-8.
    Text(Bytes),
    Bytes(Bytes),
    /// Nanoseconds.
    Duration(i64),
    /// Nanoseconds since 1970.
    Timestamp(i64),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
    /// A header map; none where a filter may not see it.
    Headers(Option<Headers>),
    Group(Group),
    Message(Box<Message>),
    Type(&'static str),
}

/// A map of attributes: it has members, but no size and no encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Request,
    Response,
    Connection,
    Source,
    Destination,
    Upstream,
    Xds,
    FilterState,
    UpstreamFilterState,
}

/// A protobuf message: its encoding, and its fields as values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) encoded: Bytes,
    pub(crate) fields: Vec<(&'static str, Value)>,
}

impl Value {
    pub(crate) fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Bytes::copy_from_slice(text.as_ref().as_bytes()))
    }

    /// A member of a `google.protobuf.Struct`.
    pub(crate) fn json(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            // A protobuf Value holds every number as a double.
            serde_json::Value::Number(number) => Self::Double(number.as_f64().unwrap_or_default()),
            serde_json::Value::String(text) => Self::text(text),
            serde_json::Value::Array(items) => Self::List(items.iter().map(Self::json).collect()),
            serde_json::Value::Object(members) => {
                let pair = |(key, value)| (Self::text(key), Self::json(value));
                Self::Map(members.iter().map(pair).collect())
            }
        }
    }

    /// Name of the type, as `type()` gives it.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(_) | Self::Headers(_) | Self::Group(_) => "map",
            Self::Message(_) => "message",
            Self::Type(_) => "type",
        }
    }
}

/// What a key leads to: of maps, messages, lists and groups of attributes.
pub(crate) fn field(value: &Value, key: &[u8], scene: &impl Activation) -> Option<Value> {
    match value {
        Value::Group(group) => scene.member(*group, key),
        Value::Headers(headers) => headers_value(headers.as_ref()?, key).map(Value::Text),
        Value::Map(members) => {
            let found =
                members.iter().find(|(own, _)| matches!(own, Value::Text(own) if own == key));
            found.map(|(_, value)| value.clone())
        }
        Value::Message(message) => {
            let found = message.fields.iter().find(|(own, _)| own.as_bytes() == key);
            found.map(|(_, value)| value.clone())
        }
        Value::List(items) => {
            let at: usize = std::str::from_utf8(key).ok()?.trim().parse().ok()?;
            items.get(at).cloned()
        }
        _ => None,
    }
}

/// Every value of a header, joined with commas.
pub(crate) fn headers_value(headers: &Headers, name: &[u8]) -> Option<Bytes> {
    let name = name.to_ascii_lowercase();
    let mut values = headers.iter().filter(|(own, _)| *own == name).map(|(_, value)| value);
    let first = values.next()?;
    let mut joined = first.to_vec();
    for value in values {
        joined.push(b',');
        joined.extend_from_slice(value);
    }
    Some(joined.into())
}

/// Appends a value as a guest reads it: numbers and times in 8 bytes little-endian, maps and lists
/// as pairs, messages in their own encoding.
pub(crate) fn serialize(value: &Value, out: &mut Vec<u8>) -> Result<(), Status> {
    match value {
        Value::Bool(value) => out.push(u8::from(*value)),
        Value::Int(value) | Value::Duration(value) | Value::Timestamp(value) => {
            out.extend_from_slice(&value.to_le_bytes());
        }
        Value::Uint(value) => out.extend_from_slice(&value.to_le_bytes()),
        Value::Double(value) => out.extend_from_slice(&value.to_le_bytes()),
        Value::Text(bytes) | Value::Bytes(bytes) => out.extend_from_slice(bytes),
        Value::List(items) => {
            let items = items.iter().map(bytes_of).collect::<Result<Vec<_>, _>>()?;
            pairs::encode(items.iter().map(|item| (item.as_slice(), &b""[..])), out);
        }
        Value::Map(members) => {
            let pair = |(key, value)| Ok((bytes_of(key)?, bytes_of(value)?));
            let members =
                members.iter().map(|(k, v)| pair((k, v))).collect::<Result<Vec<_>, _>>()?;
            pairs::encode(members.iter().map(|(k, v)| (k.as_slice(), v.as_slice())), out);
        }
        Value::Headers(headers) => encode_headers(headers.as_ref(), out),
        Value::Message(message) => out.extend_from_slice(&message.encoded),
        Value::Null | Value::Group(_) | Value::Type(_) => return Err(Status::SerializationFailure),
    }
    Ok(())
}

fn bytes_of(value: &Value) -> Result<Vec<u8>, Status> {
    let mut out = Vec::new();
    serialize(value, &mut out)?;
    Ok(out)
}

/// One entry a name.
fn encode_headers(headers: Option<&Headers>, out: &mut Vec<u8>) {
    let mut joined: Vec<(&[u8], Bytes)> = Vec::new();
    for (name, _) in headers.into_iter().flat_map(Headers::iter) {
        if !joined.iter().any(|(seen, _)| *seen == name)
            && let Some(value) = headers.and_then(|headers| headers_value(headers, name))
        {
            joined.push((name, value));
        }
    }
    pairs::encode(joined.iter().map(|(name, value)| (*name, value.as_ref())), out);
}
