//! Answering a request instead of forwarding it, and forwarding one that was held.

use crate::ffi;

/// An answer of our own.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// HTTP status.
    pub status: u16,
    /// Why, for `%RESPONSE_CODE_DETAILS%`; no spaces.
    pub details: &'a str,
    /// Headers to add.
    pub headers: &'a [(&'a str, &'a str)],
    /// Body; may be empty.
    pub body: &'a [u8],
    /// Status for a gRPC request, which the host then answers with trailers only.
    pub grpc_status: Option<u32>,
}

/// Sends it. Return `Action::Pause` from the callback afterwards. Answers whether the host took it.
pub fn reply(reply: Reply<'_>) -> bool {
    let headers = serialize(reply.headers);
    let grpc = reply.grpc_status.and_then(|status| i32::try_from(status).ok()).unwrap_or(-1);
    ffi::send_local_response(reply.status, reply.details, reply.body, &headers, grpc).is_ok()
}

/// The stream of a request, as the ABI numbers streams.
const HTTP_REQUEST: u32 = 0;

/// Lets a request go on whose callback answered `Action::Pause`. It does so when the callback that
/// runs now has returned. Answers whether the host took it.
pub fn resume_request() -> bool {
    ffi::continue_stream(HTTP_REQUEST).is_ok()
}

/// As [`resume_request`], for another stream of this VM: by its number, from any callback. Answers
/// false for a stream that is gone.
pub fn resume_request_of(stream: u32) -> bool {
    if ffi::set_effective_context(stream).is_err() {
        return false;
    }
    let resumed = resume_request();
    // Back to the context that the callback is for.
    let _ = ffi::set_effective_context(0);
    resumed
}

/// A header map as the ABI writes it: count, sizes, then names and values, each ended by NUL.
fn serialize(pairs: &[(&str, &str)]) -> Vec<u8> {
    let size = |text: &str| u32::try_from(text.len()).unwrap_or(0).to_le_bytes();
    let mut bytes = u32::try_from(pairs.len()).unwrap_or(0).to_le_bytes().to_vec();
    for (name, value) in pairs {
        bytes.extend(size(name));
        bytes.extend(size(value));
    }
    for (name, value) in pairs {
        for text in [name, value] {
            bytes.extend(text.bytes());
            bytes.push(0);
        }
    }
    bytes
}
