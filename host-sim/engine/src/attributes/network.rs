//! Attributes of a connection with network filters, where they differ from a request's.
//!
//! Envoy answers the same names from the connection's own record: sizes count bytes, the maps of
//! headers are there and empty, and what only a response has is absent, to the very end.

use super::{StreamScene, duration, int};
use crate::cel::{Group, Value};
use crate::connection::Connection;

impl StreamScene<'_> {
    /// The outer `None`: nothing is different.
    pub(super) fn network(
        &self,
        connection: &Connection,
        group: Group,
        name: &str,
    ) -> Option<Option<Value>> {
        let info = &self.stream.info;
        let tcp = !connection.http;
        Some(match (group, name) {
            (Group::Request, "time") => Some(Value::Timestamp(info.start.0.cast_signed())),
            (Group::Request, "size" | "total_size") => Some(int(info.request_bytes)),
            (Group::Request, "headers") => Some(Value::Headers(None)),
            (Group::Request, _) => None,
            (Group::Response, "size" | "total_size") => Some(int(info.response_bytes)),
            (Group::Response, "flags") => Some(int(info.flags.bits())),
            (Group::Response, "headers" | "trailers") => Some(Value::Headers(None)),
            (Group::Response, _) => None,
            (Group::Upstream, "transport_failure_reason") if tcp => {
                Some(Value::text(info.transport_failure.as_deref().unwrap_or_default()))
            }
            (Group::Upstream, "cx_pool_ready_duration") => {
                connection.connected.map(|at| duration(at.since(connection.asked)))
            }
            (Group::Xds, "route_name" | "virtual_host_name") => None,
            _ => return None,
        })
    }
}
