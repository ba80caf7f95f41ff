//! gRPC calls and streams of the plugin's own, to a cluster of the proxy.
//!
//! As HTTP calls they go through the SDK, whose dispatcher hands each answer to the context that
//! asked. The answer comes as `on_grpc_call_response` with a status: 0 and a [`message`], or the
//! reason. A call belongs to the root context, so it outlives the stream that made it, and ends by
//! its answer or its timeout; the SDK drops what comes for a stream that is gone. There is no way to
//! cancel here: the SDK would remember a cancelled call for ever.

use crate::call::CallError;
use crate::ffi;
use core::time::Duration;

/// Buffer of the answer's message.
const GRPC_CALL_MESSAGE: u32 = 5;

/// Longest name of a cluster that can be called. Longer ones cannot be written as the SDK wants to
/// have them, which is as text.
pub const MAX_CLUSTER_BYTES: usize = 125;

/// The answer did not come in time, or the service could not be reached. Envoy reports a timeout as
/// this and not as `DEADLINE_EXCEEDED`.
pub const UNAVAILABLE: u32 = 14;

/// Begins a call of `/service/method` and gives its number, which the callback names again.
/// `timeout` is rounded down to whole milliseconds, at least one.
pub fn dispatch(
    cluster: &str,
    service: &str,
    method: &str,
    message: &[u8],
    timeout: Duration,
) -> Result<u32, CallError> {
    let target = target(cluster).ok_or(CallError::BadArgument)?;
    let timeout = timeout.max(Duration::from_millis(1));
    let message = Some(message);
    proxy_wasm::hostcalls::dispatch_grpc_call(&target, service, method, vec![], message, timeout)
        .map_err(|status| match status {
            proxy_wasm::types::Status::InternalFailure => CallError::NoEndpoint,
            _ => CallError::BadArgument,
        })
}

/// Opens a stream of `/service/method` and gives its number, which the callbacks name again: first
/// `on_grpc_stream_initial_metadata`, then messages, at last `on_grpc_stream_close`. `metadata` are
/// headers of the request.
///
/// Not from a callback of another stream's end: the SDK's list of streams is borrowed by then.
pub fn open_stream(
    cluster: &str,
    service: &str,
    method: &str,
    metadata: &[(&str, &str)],
) -> Result<u32, CallError> {
    let target = target(cluster).ok_or(CallError::BadArgument)?;
    let metadata = metadata.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    proxy_wasm::hostcalls::open_grpc_stream(&target, service, method, metadata).map_err(|status| {
        match status {
            proxy_wasm::types::Status::InternalFailure => CallError::NoEndpoint,
            _ => CallError::BadArgument,
        }
    })
}

/// Sends a message on a stream, the only one if `last`. False if the stream is gone.
pub fn send(stream: u32, message: &[u8], last: bool) -> bool {
    ffi::grpc_send(stream, message, last).is_ok()
}

/// Ends a stream. Nothing more is heard of it, but for the few bytes for which the SDK remembers it.
pub fn cancel(stream: u32) {
    // One that is gone needs no end.
    let _ = ffi::grpc_cancel(stream);
}

/// The answer's message, at most `most` bytes of it. Only in the call's own callback.
pub fn message(most: usize) -> Vec<u8> {
    ffi::buffer(GRPC_CALL_MESSAGE, most).unwrap_or_default()
}

/// An `envoy.config.core.v3.GrpcService` that names the cluster. The bare name would do for most
/// clusters, but Envoy first tries to read it as that message, and ends the process over a name that
/// happens to be one.
fn target(cluster: &str) -> Option<String> {
    let name = char::from(u8::try_from(cluster.len()).ok()?);
    let inner = char::from(u8::try_from(cluster.len().checked_add(2)?).ok()?);
    // Both tags are that of field 1, bytes. Lengths from 128 take two bytes, which are no text.
    inner.is_ascii().then(|| format!("\n{inner}\n{name}{cluster}"))
}
