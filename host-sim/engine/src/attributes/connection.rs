//! `connection.*`, `source.*`, `destination.*`

use super::{Scene, put_bool, put_int, put_text};
use crate::Downstream;
use crate::stream::Role;
use host_sim_abi::Status;

impl Scene<'_> {
    pub(super) fn connection(&self, name: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
        let downstream = self.downstream()?;
        let tls = downstream.tls.as_ref();
        match name {
            b"id" => put_int(out, downstream.connection_id),
            b"mtls" => put_bool(out, false),
            b"requested_server_name" => {
                let sni = tls.and_then(|tls| tls.sni.as_deref());
                put_text(out, sni.unwrap_or_default())
            }
            b"tls_version" => put_text(out, &tls.ok_or(Status::NotFound)?.version),
            _ => Err(Status::NotFound),
        }
    }

    pub(super) fn source(&self, name: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
        endpoint(self.downstream()?.remote, name, out)
    }

    pub(super) fn destination(&self, name: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
        endpoint(self.downstream()?.local, name, out)
    }

    fn downstream(&self) -> Result<&Downstream, Status> {
        match self.exchange.map(|stream| &stream.role) {
            Some(Role::Exchange(exchange)) => Ok(&exchange.downstream),
            Some(Role::Connection(connection)) => Ok(&connection.downstream),
            _ => Err(Status::NotFound),
        }
    }
}

fn endpoint(address: std::net::SocketAddr, name: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    match name {
        b"address" => put_text(out, &address.to_string()),
        b"port" => put_int(out, address.port().into()),
        _ => Err(Status::NotFound),
    }
}
