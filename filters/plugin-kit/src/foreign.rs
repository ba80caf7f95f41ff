//! What Envoy does beside the ABI, by functions that are called by name.

use crate::ffi;

/// Where a cluster of type ORIGINAL_DST looks for the address to connect to.
const ORIGINAL_DST: &str = "envoy.network.transport_socket.original_dst_address";

/// Names the endpoint that a cluster of type ORIGINAL_DST connects to. Answers whether the host has
/// taken it.
pub fn set_original_dst(address: &str) -> bool {
    ffi::foreign("set_envoy_filter_state", &filter_state(ORIGINAL_DST, address)).is_ok()
}

/// `SetEnvoyFilterStateArguments { string path = 1; string value = 2; }`, for this stream only. Both
/// are short: a length is one byte.
fn filter_state(path: &str, value: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(path.len().saturating_add(value.len()).saturating_add(4));
    for (tag, text) in [(0x0a, path), (0x12, value)] {
        let text = text.as_bytes().get(..text.len().min(127)).unwrap_or_default();
        message.extend([tag, text.len() as u8]);
        message.extend(text);
    }
    message
}
