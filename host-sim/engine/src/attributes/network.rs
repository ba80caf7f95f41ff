//! Attributes of a connection with network filters, where they differ from a request's.
//!
//! Envoy answers the same names from the connection's own record: sizes count bytes, the maps of
//! headers are there and empty, and what only a response has is absent, to the very end.

use super::{Scene, Segments, put_duration, put_int, put_text};
use crate::connection::Connection;
use host_sim_abi::{Status, pairs};

impl Scene<'_> {
    /// `None`: nothing is different.
    pub(super) fn network(
        &self,
        connection: &Connection,
        first: &[u8],
        rest: &Segments<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Result<(), Status>> {
        let leaf = rest.0.first().copied().unwrap_or_default();
        let info = &self.stream.info;
        let tcp = !connection.http;
        Some(match (first, leaf) {
            (_, b"") => return None,
            (b"request", b"time") => put_int(out, info.start.0),
            (b"request", b"size" | b"total_size") => put_int(out, info.request_bytes),
            (b"request", b"headers") => {
                pairs::encode(std::iter::empty::<(&[u8], &[u8])>(), out);
                Ok(())
            }
            (b"request", _) => Err(Status::NotFound),
            (b"response", b"size" | b"total_size") => put_int(out, info.response_bytes),
            (b"response", b"flags") => put_int(out, info.flags.bits()),
            (b"response", _) => Err(Status::NotFound),
            (b"connection", b"requested_server_name") => {
                let tls = connection.downstream.tls.as_ref();
                put_text(out, tls.and_then(|tls| tls.sni.as_deref()).unwrap_or_default())
            }
            (b"upstream", b"transport_failure_reason") if tcp => {
                put_text(out, info.transport_failure.as_deref().unwrap_or_default())
            }
            // Known as soon as there is a connection, not when an endpoint has been chosen.
            (b"upstream", b"local_address") => {
                let local = connection.upstream_local.ok_or(Status::NotFound);
                local.and_then(|local| put_text(out, &local.to_string()))
            }
            (b"upstream", b"cx_pool_ready_duration") => {
                let connected = connection.connected.ok_or(Status::NotFound);
                connected.and_then(|at| put_duration(out, at.since(connection.asked)))
            }
            // A message, which has no encoding of its own when it is empty.
            (b"xds", b"upstream_host_metadata") if info.endpoint.is_some() => {
                Err(Status::SerializationFailure)
            }
            (b"xds", b"route_name" | b"virtual_host_name") => Err(Status::NotFound),
            _ => return None,
        })
    }
}
