//! What Envoy's HTTP connection manager changes in headers on their way in and out, so that
//! plugins see what they would see there.

use crate::rng::Rng;
use crate::{Downstream, Headers};
use bytes::Bytes;
use host_sim_bootstrap::HttpConnectionManager;

/// Headers that belong to one connection, not to the message.
const HOP_BY_HOP: [&str; 4] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding"];

/// Request headers that only a trusted peer may send.
const INTERNAL: [&str; 5] = [
    "x-envoy-internal",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
];

/// `mutateRequestHeaders`.
pub(crate) fn amend(
    headers: &mut Headers,
    manager: &HttpConnectionManager,
    downstream: &Downstream,
    rng: &mut Rng,
) {
    HOP_BY_HOP.iter().for_each(|name| {
        headers.remove(name.as_bytes());
    });
    if headers.get("te").is_some_and(|te| !te.eq_ignore_ascii_case(b"trailers")) {
        headers.remove(b"te");
    }
    let scheme = if downstream.tls.is_some() { "https" } else { "http" };
    let internal = is_internal(downstream);
    let edge = manager.use_remote_address && !internal;
    if edge {
        INTERNAL.iter().for_each(|name| {
            headers.remove(name.as_bytes());
        });
    }
    if manager.use_remote_address {
        forwarded_for(headers, manager, downstream, internal);
    }
    if manager.use_remote_address || !headers.contains("x-forwarded-proto") {
        headers.set_static("x-forwarded-proto", scheme);
    }
    if !headers.contains(":scheme") {
        headers.set_static(":scheme", scheme);
    }
    let keeps = !edge || manager.preserve_external_request_id;
    if manager.generate_request_id && !(keeps && headers.contains("x-request-id")) {
        headers.set_static("x-request-id", uuid(rng));
    }
}

/// `mutateResponseHeaders`.
pub(crate) fn amend_response(
    headers: &mut Headers,
    manager: &HttpConnectionManager,
    request_id: Option<Bytes>,
) {
    HOP_BY_HOP.iter().for_each(|name| {
        headers.remove(name.as_bytes());
    });
    headers.set_static("server", manager.server_name.clone());
    if let Some(id) = request_id {
        headers.set_static("x-request-id", id);
    }
}

/// RFC 1918 and loopback.
fn is_internal(downstream: &Downstream) -> bool {
    match downstream.remote.ip() {
        std::net::IpAddr::V4(ip) => ip.is_private() || ip.is_loopback(),
        std::net::IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
    }
}

fn forwarded_for(
    headers: &mut Headers,
    manager: &HttpConnectionManager,
    downstream: &Downstream,
    internal: bool,
) {
    let client = downstream.remote.ip().to_string();
    if !manager.skip_xff_append {
        let earlier = headers.get_str("x-forwarded-for").map(|list| format!("{list},{client}"));
        headers.set_static("x-forwarded-for", earlier.unwrap_or_else(|| client.clone()));
    }
    if internal {
        headers.set_static("x-envoy-internal", "true");
    } else {
        headers.set_static("x-envoy-external-address", client);
    }
}

/// A version 4 UUID.
fn uuid(rng: &mut Rng) -> String {
    let bits = (u128::from(rng.next()) << 64) | u128::from(rng.next());
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let mut text = String::with_capacity(36);
    for nibble in 0..32 {
        if matches!(nibble, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        let digit = (bits >> (124 - 4 * nibble)) & 0xf;
        text.push(char::from_digit(digit as u32, 16).unwrap_or('0'));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_version_4_uuid() {
        let id = uuid(&mut Rng::new(1, 2));
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"));
    }
}
