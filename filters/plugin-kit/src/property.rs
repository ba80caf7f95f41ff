//! Attributes of the stream and of the proxy, typed. What the host does not know now is `None`:
//! most attributes exist in some phases only.

use crate::ffi;
use shared_state::{Endpoint, ReportedResponse, UnixNanos, decode, encode};

/// An attribute's bytes. The segments of its path are joined by NUL, as the ABI wants them, so that a
/// path is put together when the module is built and not for each request.
pub fn bytes(path: &str) -> Option<Vec<u8>> {
    ffi::property(path.as_bytes()).ok()
}

/// An attribute that is text. Bytes that are no UTF-8 are replaced.
pub fn string(path: &str) -> Option<String> {
    bytes(path).map(into_text)
}

/// An attribute that is a number: eight bytes, little-endian.
pub fn uint(path: &str) -> Option<u64> {
    Some(u64::from_le_bytes(bytes(path)?.as_slice().try_into().ok()?))
}

/// Name of the cluster that the route names.
pub fn cluster_name() -> Option<String> {
    string("xds\0cluster_name").filter(|name| !name.is_empty())
}

/// False for what the proxy itself, or a plugin, has sent: it came on no connection.
pub fn has_connection() -> bool {
    bytes("connection\0id").is_some()
}

/// Name of the route.
pub fn route_name() -> Option<String> {
    string("xds\0route_name").filter(|name| !name.is_empty())
}

/// The endpoint of the last attempt. `None` before there was one, and for addresses that are no
/// `ip:port`.
pub fn upstream_address() -> Option<Endpoint> {
    string("upstream\0address")?.parse().ok()
}

/// Zone of the endpoint of the last attempt; empty if it has none. `None` before there was one.
pub fn upstream_zone() -> Option<String> {
    string("upstream\0locality\0zone")
}

/// Zone of the node that the proxy runs on.
pub fn node_zone() -> Option<String> {
    let of = |path: &str| string(path).filter(|zone| !zone.is_empty());
    of("xds\0node\0locality\0zone").or_else(|| of("node\0locality\0zone"))
}

/// How many endpoints the cluster has, unhealthy ones included.
pub fn num_endpoints() -> Option<u32> {
    u32::try_from(uint("upstream\0num_endpoints")?).ok()
}

/// How many attempts were made; 0 if none or unknown.
pub fn attempt_count() -> u32 {
    uint("upstream\0request_attempt_count").and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

/// Status of the response that the client gets.
pub fn response_code() -> Option<u16> {
    u16::try_from(uint("response\0code")?).ok().filter(|code| *code != 0)
}

/// Envoy's response flags, as the legacy bit vector; 0 if unknown.
pub fn response_flags() -> u64 {
    uint("response\0flags").unwrap_or(0)
}

/// [`response_code_details`] of a response that an endpoint sent.
pub const VIA_UPSTREAM: &str = "via_upstream";

/// [`response_code_details`] where the VM of a filter died, and the proxy answered in its stead.
pub const VM_DIED: &str = "wasm_fail_stream";

/// Why the response has its status: `via_upstream`, or a reason of the proxy.
pub fn response_code_details() -> Option<String> {
    string("response\0code_details")
}

/// Why the connection to the endpoint failed, if it did.
pub fn upstream_failure_reason() -> Option<String> {
    string("upstream\0transport_failure_reason").filter(|reason| !reason.is_empty())
}

/// When the request came, by the host's clock.
pub fn request_time() -> Option<UnixNanos> {
    uint("request\0time").map(UnixNanos::from_nanos)
}

/// Address of the client, `ip:port`, as the proxy trusts it.
pub fn source_address() -> Option<String> {
    string("source\0address")
}

/// Stores a short line for access logs: `%FILTER_STATE(wasm.<key>:PLAIN)%`.
pub fn set_filter_state(key: &str, value: &str) {
    // Without a stream there is no access log either.
    let _ = ffi::set_property(key.as_bytes(), value.as_bytes());
}

/// Filter state that holds what a filter made of the steering header.
const EDITED_LIST: &str = "weir.edited_list";

/// Says that the steering header was changed after the router wrote it, and what is left of it.
///
/// The router cannot look for itself: request headers are not readable in response callbacks, and by
/// then an upstream filter has stripped this one.
pub fn set_edited_list(list: &str) {
    // Some value, so that a list that is gone can be told from one that was never changed.
    set_filter_state(EDITED_LIST, if list.is_empty() { "-" } else { list });
}

/// What is left of the steering header, if a filter has changed it.
pub fn edited_list() -> Option<String> {
    string(EDITED_LIST)
}

/// Filter state that holds how many endpoints of the cluster may be left out.
const SPARE: &str = "weir.spare";

/// Says how many endpoints of the cluster can be done without, at the load that it has.
///
/// The router knows the load, and the breakers of endpoints come after it. A property and no header:
/// it needs nobody to take it off, and no client can send it.
pub fn set_spare(endpoints: usize) {
    set_filter_state(SPARE, &endpoints.to_string());
}

/// How many endpoints of the cluster can be done without, if a filter has said so.
pub fn spare() -> Option<u32> {
    string(SPARE)?.parse().ok()
}

/// Filter state that holds the load report of the response.
const LOAD_REPORT: &str = "weir.load_report";

/// Leaves the response's load report to the filters that see the response later.
pub fn set_load_report(reported: &ReportedResponse) {
    // Without a stream nobody comes later.
    let _ = ffi::set_property(LOAD_REPORT.as_bytes(), &encode(reported));
}

/// The response's load report, if a filter has left one.
pub fn load_report() -> Option<ReportedResponse> {
    decode(&bytes(LOAD_REPORT)?).ok()
}

pub(crate) fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
