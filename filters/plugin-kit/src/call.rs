//! HTTP calls of the plugin's own, through a cluster of the proxy.
//!
//! The one hostcall that goes through the SDK: its dispatcher panics on the answer to a call that
//! it did not make itself. It lists every status that Envoy gives here.

use crate::ffi;
use core::time::Duration;

/// Buffer of the answer's body.
const CALL_RESPONSE_BODY: u32 = 4;

/// Why a call was not made. No callback follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The cluster does not exist, or a header is missing.
    BadArgument,
    /// The cluster has no endpoint that could be asked.
    NoEndpoint,
}

/// Begins a call and gives its number, which the callback names again. The headers must hold
/// `:method`, `:path` and `:authority`.
pub fn dispatch(
    cluster: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    timeout: Duration,
) -> Result<u32, CallError> {
    let body = if body.is_empty() { None } else { Some(body) };
    proxy_wasm::hostcalls::dispatch_http_call(cluster, headers.to_vec(), body, vec![], timeout)
        .map_err(|status| match status {
            proxy_wasm::types::Status::InternalFailure => CallError::NoEndpoint,
            _ => CallError::BadArgument,
        })
}

/// The answer's body, at most `most` bytes of it. Only in the call's own callback.
pub fn body(most: usize) -> Vec<u8> {
    ffi::buffer(CALL_RESPONSE_BODY, most).unwrap_or_default()
}
