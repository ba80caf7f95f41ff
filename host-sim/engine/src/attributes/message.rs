//! Messages among the attributes: their encoding, and their fields.

use crate::cel::{Message, Value};
use crate::protobuf::{put_double, put_message, put_number, put_string, put_varint};
use host_sim_bootstrap::{Locality, Metadata, Node};
use serde_json::{Map, Value as Json};

/// `envoy.config.core.v3.Metadata`
pub(super) fn metadata(filters: &Metadata) -> Value {
    let mut encoded = Vec::new();
    let mut namespaces = Vec::with_capacity(filters.len());
    for (namespace, content) in filters {
        let Json::Object(content) = content else { continue };
        let mut entry = Vec::new();
        put_string(&mut entry, 1, namespace);
        put_message(&mut entry, 2, &structure(content));
        put_message(&mut encoded, 1, &entry);
        namespaces.push((Value::text(namespace), Value::json(&Json::Object(content.clone()))));
    }
    let fields = vec![
        ("filter_metadata", Value::Map(namespaces)),
        ("typed_filter_metadata", Value::Map(Vec::new())),
    ];
    Value::Message(Box::new(Message { encoded: encoded.into(), fields }))
}

/// `envoy.config.core.v3.Locality`
pub(super) fn locality(locality: &Locality) -> Value {
    let Locality { region, zone, sub_zone } = locality;
    let mut encoded = Vec::new();
    put_string(&mut encoded, 1, region);
    put_string(&mut encoded, 2, zone);
    put_string(&mut encoded, 3, sub_zone);
    let fields = vec![
        ("region", Value::text(region)),
        ("zone", Value::text(zone)),
        ("sub_zone", Value::text(sub_zone)),
    ];
    Value::Message(Box::new(Message { encoded: encoded.into(), fields }))
}

/// `envoy.config.core.v3.Node`, without Envoy's list of its extensions.
pub(super) fn node(node: &Node) -> Value {
    const USER_AGENT: &str = "envoy";
    let mut encoded = Vec::new();
    put_string(&mut encoded, 1, &node.id);
    put_string(&mut encoded, 2, &node.cluster);
    if !node.metadata.is_empty() {
        put_message(&mut encoded, 3, &structure(&node.metadata));
    }
    let place = locality(&node.locality);
    if let Value::Message(message) = &place
        && !message.encoded.is_empty()
    {
        put_message(&mut encoded, 4, &message.encoded);
    }
    put_string(&mut encoded, 6, USER_AGENT);
    let fields = vec![
        ("id", Value::text(&node.id)),
        ("cluster", Value::text(&node.cluster)),
        ("metadata", Value::json(&Json::Object(node.metadata.clone()))),
        ("locality", place),
        ("user_agent_name", Value::text(USER_AGENT)),
    ];
    Value::Message(Box::new(Message { encoded: encoded.into(), fields }))
}

/// `google.protobuf.Struct`
fn structure(members: &Map<String, Json>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in members {
        let mut entry = Vec::new();
        put_string(&mut entry, 1, key);
        put_message(&mut entry, 2, &dynamic(value));
        put_message(&mut out, 1, &entry);
    }
    out
}

/// `google.protobuf.Value`, one of whose fields is always there.
fn dynamic(value: &Json) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Json::Null => put_flag(&mut out, 1, 0),
        Json::Number(number) => put_double(&mut out, 2, number.as_f64().unwrap_or_default()),
        Json::String(text) => put_message(&mut out, 3, text.as_bytes()),
        Json::Bool(flag) => put_flag(&mut out, 4, u64::from(*flag)),
        Json::Object(members) => put_message(&mut out, 5, &structure(members)),
        Json::Array(items) => {
            let mut list = Vec::new();
            items.iter().for_each(|item| put_message(&mut list, 1, &dynamic(item)));
            put_message(&mut out, 6, &list);
        }
    }
    out
}

/// A member of a oneof, which is there even when it is 0.
fn put_flag(out: &mut Vec<u8>, number: u32, value: u64) {
    if value == 0 {
        put_varint(out, u64::from(number << 3));
        put_varint(out, 0);
    } else {
        put_number(out, number, value);
    }
}
