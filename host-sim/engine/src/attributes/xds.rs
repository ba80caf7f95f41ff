//! `xds.*`

use super::{Scene, Segments, put_int, put_text};
use crate::Engine;
use crate::protobuf::put_string;
use crate::stream::Role;
use host_sim_abi::{Status, pairs};
use host_sim_bootstrap::{RouteConfig, VirtualHost};

impl Scene<'_> {
    pub(super) fn xds(&self, name: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
        let info = &self.stream.info;
        match name {
            b"cluster_name" => put_text(out, info.cluster.as_ref().ok_or(Status::NotFound)?.name()),
            b"route_name" => {
                let (host, at) = self.route().ok_or(Status::NotFound)?;
                put_text(out, host.routes.get(at).map_or("", |route| &route.name))
            }
            b"virtual_host_name" => put_text(out, &self.route().ok_or(Status::NotFound)?.0.name),
            b"listener_direction" => put_int(out, 0),
            b"filter_chain_name" => Ok(()),
            // Metadata messages, empty: the bootstrap subset has none.
            b"listener_metadata" => Ok(()),
            b"cluster_metadata" => info.cluster.as_ref().map(|_| ()).ok_or(Status::NotFound),
            b"route_metadata" | b"virtual_host_metadata" => {
                self.route().map(|_| ()).ok_or(Status::NotFound)
            }
            // Null where an endpoint has none, and null has no encoding.
            b"upstream_host_metadata" | b"upstream_host_locality_metadata" => {
                Err(info.endpoint.map_or(Status::NotFound, |_| Status::SerializationFailure))
            }
            _ => Err(Status::NotFound),
        }
    }

    fn route(&self) -> Option<(&VirtualHost, usize)> {
        let exchange = self.exchange?;
        let at = exchange.info.route?;
        let Role::Exchange(own) = &exchange.role else { return None };
        let listener = self.engine.bootstrap().listeners.get(own.listener)?;
        let table: &RouteConfig = &listener.http()?.route_config;
        Some((table.virtual_hosts.get(at.host)?, at.route))
    }
}

/// `xds.node`, whole as a message or a field of it.
pub(super) fn node(engine: &Engine, path: &Segments<'_>, out: &mut Vec<u8>) -> Result<(), Status> {
    let node = &engine.bootstrap().node;
    match path.0.as_slice() {
        [] => {
            put_string(out, 1, &node.id);
            put_string(out, 2, &node.cluster);
            Ok(())
        }
        [b"id"] => put_text(out, &node.id),
        [b"cluster"] => put_text(out, &node.cluster),
        [b"metadata"] => {
            let mut encoded = Vec::new();
            for (name, value) in &node.metadata {
                let mut bytes = Vec::new();
                // What has no encoding is there by name.
                let _ = put_value(&mut bytes, value);
                encoded.push((name.as_bytes(), bytes));
            }
            pairs::encode(encoded.iter().map(|(name, value)| (*name, value.as_slice())), out);
            Ok(())
        }
        [b"metadata", key] => {
            let key = std::str::from_utf8(key).map_err(|_| Status::NotFound)?;
            put_value(out, node.metadata.get(key).ok_or(Status::NotFound)?)
        }
        _ => Err(Status::NotFound),
    }
}

/// A value of a `Struct`.
fn put_value(out: &mut Vec<u8>, value: &serde_json::Value) -> Result<(), Status> {
    match value {
        serde_json::Value::String(text) => put_text(out, text),
        serde_json::Value::Bool(value) => super::put_bool(out, *value),
        // A protobuf Value holds every number as a double.
        serde_json::Value::Number(number) => {
            out.extend_from_slice(&number.as_f64().unwrap_or_default().to_le_bytes());
            Ok(())
        }
        _ => Err(Status::SerializationFailure),
    }
}
