//! `connection.*`, `source.*`, `destination.*`

use super::{StreamScene, int, tls};
use crate::Downstream;
use crate::cel::Value;
use crate::stream::Role;
use std::net::SocketAddr;

impl StreamScene<'_> {
    pub(super) fn connection(&self, name: &str) -> Option<Value> {
        let downstream = self.downstream()?;
        let tls = downstream.tls.as_ref();
        match name {
            "id" => Some(Value::Uint(downstream.connection_id)),
            "mtls" => Some(Value::Bool(tls.is_some_and(|tls| tls.peer.is_some()))),
            "requested_server_name" => {
                Some(Value::text(tls.and_then(|tls| tls.sni.as_deref()).unwrap_or_default()))
            }
            name => tls::attribute(tls?, name),
        }
    }

    pub(super) fn source(&self, name: &str) -> Option<Value> {
        endpoint(self.downstream()?.remote, name)
    }

    pub(super) fn destination(&self, name: &str) -> Option<Value> {
        endpoint(self.downstream()?.local, name)
    }

    fn downstream(&self) -> Option<&Downstream> {
        match self.exchange.map(|stream| &stream.role) {
            Some(Role::Exchange(exchange)) => Some(&exchange.downstream),
            Some(Role::Connection(connection)) => Some(&connection.downstream),
            _ => None,
        }
    }
}

fn endpoint(address: SocketAddr, name: &str) -> Option<Value> {
    match name {
        "address" => Some(Value::text(address.to_string())),
        "port" => Some(int(address.port().into())),
        _ => None,
    }
}
