//! Filter state: what plugins leave on a stream for each other, for access logs and for Envoy.
//!
//! Two kinds share one table of names: properties (`wasm.<path>`, of a declared type) and Envoy's
//! own objects, which exist only under the names that Envoy 1.40 has factories for.

use crate::cel::{Message, Value};
use crate::protobuf;
use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};

/// Entries by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct FilterState(Vec<(Bytes, Entry)>);

/// A value under a name.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    pub(crate) kind: Kind,
    /// It lives as long as the connection.
    pub(crate) connection: bool,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Property(Prototype),
    Object(Object),
}

/// How a property was declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prototype {
    pub(crate) read_only: bool,
    pub(crate) ty: PropertyType,
    /// Type URL of a protobuf property.
    pub(crate) schema: Bytes,
    pub(crate) connection: bool,
}

/// `WasmType` of `declare_property`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PropertyType {
    #[default]
    Bytes,
    Text,
    FlatBuffers,
    Protobuf,
}

/// What an object of Envoy's shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// Its text.
    Text,
    /// Nothing.
    Opaque,
    /// `ip` and `port`.
    Address,
}

impl FilterState {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, entry)| entry)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// False for an entry that stays as it is: read-only, or living for another span.
    pub(crate) fn set(&mut self, key: &[u8], entry: Entry) -> bool {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, slot)) => {
                if slot.connection != entry.connection {
                    return false;
                }
                *slot = entry;
            }
            None => self.0.push((Bytes::copy_from_slice(key), entry)),
        }
        true
    }

    /// Writes a property, declared or not; false if it must not be written again.
    pub(crate) fn set_property(&mut self, key: &[u8], value: Bytes, declared: &Prototype) -> bool {
        if let Some((_, entry)) = self.0.iter_mut().find(|(name, _)| name == key)
            && let Kind::Property(prototype) = &entry.kind
        {
            if prototype.read_only {
                return false;
            }
            entry.value = value;
            return true;
        }
        let connection = declared.connection;
        self.set(key, Entry { value, kind: Kind::Property(declared.clone()), connection })
    }

    /// Adds what is not there yet.
    pub(crate) fn extend(&mut self, other: &Self) {
        for (name, entry) in &other.0 {
            if self.get(name).is_none() {
                self.0.push((name.clone(), entry.clone()));
            }
        }
    }

    /// What the connection keeps when the stream has ended.
    pub(crate) fn of_connection(&self) -> Self {
        Self(self.0.iter().filter(|(_, entry)| entry.connection).cloned().collect())
    }
}

impl Entry {
    /// As an attribute. `last` is whether nothing of the value itself is asked for: then even what
    /// has parts is bytes.
    pub(crate) fn attribute(&self, last: bool) -> Option<Value> {
        let prototype = match &self.kind {
            Kind::Object(Object::Text) => return Some(Value::Bytes(self.value.clone())),
            Kind::Object(Object::Opaque) => return None,
            // A map that has fields, and does not know which.
            Kind::Object(Object::Address) => return Some(self.address()),
            Kind::Property(prototype) => prototype,
        };
        Some(match prototype.ty {
            PropertyType::Text => Value::Text(self.value.clone()),
            PropertyType::Protobuf if !last => self.message(&prototype.schema),
            _ => Value::Bytes(self.value.clone()),
        })
    }

    fn address(&self) -> Value {
        let text = std::str::from_utf8(&self.value).unwrap_or_default();
        let Some(address) = text.parse::<SocketAddr>().ok() else { return Value::Map(Vec::new()) };
        let port = Value::Int(address.port().into());
        let fields = vec![("ip", Value::text(address.ip().to_string())), ("port", port)];
        // As a whole it is an empty map.
        let encoded = Bytes::from_static(&[0; 4]);
        Value::Message(Box::new(Message { encoded, fields }))
    }

    /// Wrappers are what they wrap; fields of other messages need descriptors that are not here.
    fn message(&self, schema: &[u8]) -> Value {
        let wrapped = protobuf::Message::parse(&self.value);
        match (schema.rsplit(|b| *b == b'/').next(), wrapped) {
            (Some(b"google.protobuf.StringValue"), Some(message)) => {
                Value::Text(Bytes::copy_from_slice(message.bytes(1).unwrap_or_default()))
            }
            (Some(b"google.protobuf.BytesValue"), Some(message)) => {
                Value::Bytes(Bytes::copy_from_slice(message.bytes(1).unwrap_or_default()))
            }
            (Some(b"google.protobuf.BoolValue"), Some(message)) => {
                Value::Bool(message.varint(1) != 0)
            }
            (Some(b"google.protobuf.Int64Value" | b"google.protobuf.Int32Value"), Some(m)) => {
                Value::Int(m.varint(1).cast_signed())
            }
            (Some(b"google.protobuf.UInt64Value" | b"google.protobuf.UInt32Value"), Some(m)) => {
                Value::Uint(m.varint(1))
            }
            _ => Value::Message(Box::new(Message {
                encoded: self.value.clone(),
                fields: Vec::new(),
            })),
        }
    }
}

/// Why `set_envoy_filter_state` makes no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoObject {
    /// No factory has that name.
    Unknown,
    /// The factory makes nothing of the bytes.
    BadValue,
}

/// What Envoy's factory of that name makes of the bytes: kind, and how it is written.
pub(crate) fn object(name: &str, value: &[u8]) -> Result<(Object, Bytes), NoObject> {
    let as_it_is = || Bytes::copy_from_slice(value);
    let text = std::str::from_utf8(value).unwrap_or_default();
    let number = |limit: u64| text.parse::<u64>().ok().filter(|number| *number <= limit);
    let numeric = |number: Option<u64>| {
        let number = number.ok_or(NoObject::BadValue)?;
        Ok((Object::Text, Bytes::from(number.to_string())))
    };
    match name {
        "envoy.string"
        | "envoy.hashable_string"
        | "envoy.network.upstream_server_name"
        | "envoy.network.upstream_subject_alt_names"
        | "envoy.network.network_namespace"
        | "envoy.tcp_proxy.cluster"
        | "envoy.upstream.dynamic_host"
        | "envoy.ai.model.request" => Ok((Object::Text, as_it_is())),
        "envoy.network.application_protocols" | "envoy.router.debug_config" => {
            Ok((Object::Opaque, as_it_is()))
        }
        "envoy.bool" => match text {
            "true" | "false" => Ok((Object::Text, as_it_is())),
            _ => Err(NoObject::BadValue),
        },
        "envoy.tcp_proxy.disable_tunneling" => {
            Ok((Object::Text, Bytes::from(if text == "true" { "true" } else { "false" })))
        }
        "envoy.tcp_proxy.per_connection_idle_timeout_ms" | "envoy.ratelimit.hits_addend" => {
            numeric(number(u64::MAX))
        }
        "envoy.upstream.dynamic_port" => numeric(number(u32::MAX.into())),
        "envoy.network.ip" => {
            let ip: IpAddr = text.parse().map_err(|_| NoObject::BadValue)?;
            Ok((Object::Text, Bytes::from(SocketAddr::new(ip, 0).to_string())))
        }
        "envoy.network.transport_socket.original_dst_address"
        | "envoy.filters.listener.original_dst.local_ip"
        | "envoy.filters.listener.original_dst.remote_ip" => {
            text.parse::<SocketAddr>().map_err(|_| NoObject::BadValue)?;
            Ok((Object::Address, as_it_is()))
        }
        "envoy.network.transport_socket.http_11_proxy.info" => {
            let (_, proxy) = text.split_once(',').ok_or(NoObject::BadValue)?;
            proxy.parse::<SocketAddr>().map_err(|_| NoObject::BadValue)?;
            Ok((Object::Opaque, as_it_is()))
        }
        // JSON of messages that have nothing to do here.
        "envoy.ai.llm_protocol.request" => Err(NoObject::BadValue),
        _ => Err(NoObject::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_exist_under_envoys_names_only() {
        assert_eq!(object("my.key", b"x"), Err(NoObject::Unknown));
        assert_eq!(object("envoy.string", b"x"), Ok((Object::Text, "x".into())));
        assert_eq!(object("envoy.bool", b"maybe"), Err(NoObject::BadValue));
        assert_eq!(object("envoy.network.ip", b"1.2.3.4"), Ok((Object::Text, "1.2.3.4:0".into())));
        let steering = "envoy.network.transport_socket.original_dst_address";
        assert_eq!(object(steering, b"bad"), Err(NoObject::BadValue));
        assert_eq!(object(steering, b"1.2.3.4:80"), Ok((Object::Address, "1.2.3.4:80".into())));
    }

    #[test]
    fn a_read_only_property_is_written_once() {
        let mut state = FilterState::default();
        let once = Prototype { read_only: true, ..Prototype::default() };
        assert!(state.set_property(b"wasm.a", "1".into(), &once));
        assert!(!state.set_property(b"wasm.a", "2".into(), &once));
        assert_eq!(state.get(b"wasm.a").unwrap().value, "1");
    }
}
