//! What Envoy's HTTP connection manager changes in headers on their way in and out, so that
//! plugins see what they would see there.

use crate::flags::ResponseFlags;
use crate::rng::Rng;
use crate::router::reply;
use crate::stream::LocalReply;
use crate::{Downstream, Headers, Protocol};
use bytes::Bytes;
use host_sim_bootstrap::HttpConnectionManager;

/// Headers that belong to one connection, not to the message.
const HOP_BY_HOP: [&str; 4] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding"];

/// Request headers that only an internal peer may send. Since 1.33 no address is internal unless
/// `internal_address_config` says so, and that is not simulated: every client is external.
const INTERNAL: [&str; 15] = [
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-url",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
];

/// Request headers that not even another proxy may pass to an edge.
const BEHIND_THE_EDGE: [&str; 4] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-original-path",
];

/// What is refused before any filter sees it. `None`: the request may go on.
pub(crate) fn refusal(
    headers: &Headers,
    protocol: Protocol,
) -> Option<(LocalReply, ResponseFlags)> {
    let is_connect = headers.get(":method") == Some(b"CONNECT");
    let is_absolute = || headers.get(":path").is_some_and(|path| path.starts_with(b"/"));
    if protocol == Protocol::Http10 {
        let reply = reply(426, "Upgrade Required", "low_version");
        return Some((reply, ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR));
    }
    let reply = if !headers.contains(":authority") {
        reply(400, "", "missing_host_header")
    } else if !is_connect && !is_absolute() {
        reply(404, "", "absolute_path_rejected")
    } else {
        return None;
    };
    Some((reply, ResponseFlags::default()))
}

/// `mutateRequestHeaders`.
pub(crate) fn amend(
    headers: &mut Headers,
    manager: &HttpConnectionManager,
    downstream: &Downstream,
    rng: &mut Rng,
) {
    let edge = manager.use_remote_address;
    headers.retain(|name, value| match std::str::from_utf8(name) {
        Ok("te") => value.eq_ignore_ascii_case(b"trailers"),
        Ok(name) => {
            !HOP_BY_HOP.contains(&name)
                && !(name.starts_with("x-envoy-")
                    && (INTERNAL.contains(&name) || (edge && BEHIND_THE_EDGE.contains(&name))))
        }
        Err(_) => true,
    });
    let scheme = if downstream.tls.is_some() { "https" } else { "http" };
    if edge {
        forwarded_for(headers, manager, downstream);
    }
    if edge || !headers.contains("x-forwarded-proto") {
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

fn forwarded_for(headers: &mut Headers, manager: &HttpConnectionManager, downstream: &Downstream) {
    let client = downstream.remote.ip().to_string();
    if !manager.skip_xff_append {
        let earlier = headers.get_str("x-forwarded-for").map(|list| format!("{list},{client}"));
        headers.set_static("x-forwarded-for", earlier.unwrap_or_else(|| client.clone()));
    }
    headers.set_static("x-envoy-external-address", client);
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
        let id = uuid(&mut Rng::new(1, Some(2), None));
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"));
    }
}
