//! Asking a registry for the endpoints of a cluster.

use metric_router_core::{MAX_ANSWER_BYTES, Registry, RegistryAnswer};
use plugin_kit::call::{self, CallError};
use plugin_kit::headers::{self, Map};

/// Asks, and gives the number of the call.
pub(crate) fn ask(registry: &Registry) -> Result<u32, CallError> {
    let headers = [
        (":method", "GET"),
        (":path", registry.path.as_str()),
        (":authority", registry.host.as_deref().unwrap_or(&registry.cluster)),
        (":scheme", "http"),
        ("accept", "application/json"),
        ("user-agent", "weir-metric-router"),
    ];
    call::dispatch(&registry.cluster, &headers, b"", registry.timeout)
}

/// The body of the answer, in its callback: one byte more than is read, so that one too long is
/// known as such.
pub(crate) fn body() -> Vec<u8> {
    call::body(MAX_ANSWER_BYTES + 1)
}

/// The answer, in its callback.
pub(crate) fn answer(num_headers: usize, body: &[u8]) -> RegistryAnswer<'_> {
    let status = if num_headers > 0 { headers::get(Map::CallResponse, ":status") } else { None };
    RegistryAnswer { status: status.and_then(|status| status.parse().ok()), body }
}
