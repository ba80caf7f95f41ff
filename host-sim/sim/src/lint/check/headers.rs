//! Header maps: out of phase, ill-formed, or Envoy's own.

use crate::lint::call::{map_name, quoted};
use crate::lint::scene::{Half, Hit, Scene, Seen};
use host_sim_abi::{MapType, Status, pairs};

/// Headers that belong to one hop.
const HOP_BY_HOP: [&[u8]; 8] = [
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"transfer-encoding",
    b"upgrade",
    b"te",
    b"trailer",
    b"http2-settings",
];

/// Headers whose values are not for everybody.
const SECRETS: [&[u8]; 5] =
    [b"authorization", b"cookie", b"set-cookie", b"x-api-key", b"proxy-authorization"];

/// Headers that say where a request goes, not who sent it: their values are few.
const FEW_VALUES: [&[u8]; 6] =
    [b":method", b":scheme", b":authority", b"host", b"content-type", b"x-forwarded-proto"];

/// Shortest value that is taken for one that tells clients apart.
const SHORTEST: usize = 4;

pub(super) fn check(seen: &Seen<'_>, scene: &mut Scene<'_>, hits: &mut Vec<Hit>) {
    let Some(map) = MapType::from_raw(seen.number(0)) else {
        let message = format!("there is no map {}", seen.number(0));
        return hits.push(Hit::new("unknown-enum-value", seen.call.name, message));
    };
    availability(seen, map, hits);
    let name = seen.name();
    if matches!(name, "add_header_map_value" | "replace_header_map_value") {
        names(seen, map, seen.bytes(1), seen.bytes(3), hits);
    }
    if name == "set_header_map_pairs" {
        let bytes = seen.bytes(1);
        malformed(bytes, "the map to set", hits);
        for (key, value) in pairs::decode(bytes).unwrap_or_default() {
            names(seen, map, key, value, hits);
        }
    }
    if let Some(half) = half_of(map) {
        let key = seen.bytes(1);
        let gone = match name {
            "remove_header_map_value" | "replace_header_map_value" | "add_header_map_value" => {
                key.eq_ignore_ascii_case(b"content-length")
            }
            "set_header_map_pairs" => true,
            _ => false,
        };
        scene.stream.length_removed[half as usize] |= gone && seen.is_ok();
    }
    if seen.is_ok() && map == MapType::HttpRequestHeaders {
        match name {
            "get_header_map_value" => note(seen, scene, seen.bytes(1), seen.given(3)),
            "get_header_map_pairs" => {
                for (key, value) in pairs::decode(seen.given(1)).unwrap_or_default() {
                    note(seen, scene, key, value);
                }
            }
            _ => {}
        }
    }
}

fn half_of(map: MapType) -> Option<Half> {
    match map {
        MapType::HttpRequestHeaders => Some(Half::Request),
        MapType::HttpResponseHeaders => Some(Half::Response),
        _ => None,
    }
}

/// Keeps what a client has chosen.
fn note(seen: &Seen<'_>, scene: &mut Scene<'_>, key: &[u8], value: &[u8]) {
    let key = key.to_ascii_lowercase();
    if seen.facts.names(value) || value.len() < SHORTEST || FEW_VALUES.contains(&key.as_slice()) {
        return;
    }
    let stream = &mut *scene.stream;
    if SECRETS.contains(&key.as_slice()) && value.len() >= 8 && stream.secrets.len() < 16 {
        stream.secrets.push(value.to_vec());
    }
    if stream.client.len() < 32 {
        stream.client.push(value.to_vec());
    }
}

fn availability(seen: &Seen<'_>, map: MapType, hits: &mut Vec<Hit>) {
    let name = seen.name();
    let headers = matches!(map, MapType::HttpRequestHeaders | MapType::HttpResponseHeaders);
    let missing = match name {
        "get_header_map_pairs" => headers && seen.is_ok() && seen.given(1).is_empty(),
        "get_header_map_value" => {
            seen.is(Status::BadArgument)
                || (seen.is(Status::NotFound)
                    && seen.callback == "proxy_on_log"
                    && map == MapType::HttpRequestTrailers)
        }
        _ => seen.is(Status::BadArgument),
    };
    if !missing {
        return;
    }
    let what = map_name(map);
    let place = phase(seen);
    let (lint, verb) = if name.starts_with("get_") {
        ("phase-invalid-read", "read")
    } else {
        ("phase-invalid-write", "changed")
    };
    let hit = Hit::new(lint, what, format!("{what} cannot be {verb} in {place}"));
    hits.push(match own_callback(map) {
        Some(callback) if seen.callback == callback => {
            hit.mend("use them before continue_stream, close_stream or a local reply".to_owned())
        }
        Some(callback) if lint == "phase-invalid-read" => hit.mend(format!(
            "read them in {callback} (Rust: {}) and keep what you need in the context",
            rust(callback)
        )),
        Some(callback) => hit.mend(format!(
            "change them in {callback} (Rust: {}); return Pause there if the decision comes later",
            rust(callback)
        )),
        None => hit,
    });
}

/// Where we are, in words.
pub(super) fn phase(seen: &Seen<'_>) -> String {
    match seen.half() {
        Some(Half::Request) => format!("a request callback such as {}", seen.callback),
        Some(Half::Response) => format!("a response callback such as {}", seen.callback),
        None if seen.callback.is_empty() => "the module's start".to_owned(),
        None => seen.callback.to_owned(),
    }
}

fn own_callback(map: MapType) -> Option<&'static str> {
    Some(match map {
        MapType::HttpRequestHeaders => "proxy_on_request_headers",
        MapType::HttpRequestTrailers => "proxy_on_request_trailers",
        MapType::HttpResponseHeaders => "proxy_on_response_headers",
        MapType::HttpResponseTrailers => "proxy_on_response_trailers",
        MapType::HttpCallResponseHeaders | MapType::HttpCallResponseTrailers => {
            "proxy_on_http_call_response"
        }
        MapType::GrpcCallInitialMetadata => "proxy_on_grpc_receive_initial_metadata",
        MapType::GrpcCallTrailingMetadata => "proxy_on_grpc_receive_trailing_metadata",
    })
}

/// The Rust SDK's name of a callback.
pub(super) fn rust(callback: &str) -> String {
    let short = callback.strip_prefix("proxy_").unwrap_or(callback);
    match short.strip_prefix("on_re") {
        Some(rest) if rest.starts_with("quest_") || rest.starts_with("sponse_") => {
            format!("on_http_re{rest}")
        }
        _ => short.to_owned(),
    }
}

fn names(seen: &Seen<'_>, map: MapType, key: &[u8], value: &[u8], hits: &mut Vec<Hit>) {
    let shown = quoted(key);
    if is_invalid(key, value) {
        let message = format!("header {shown}: {} is no valid header", quoted(value));
        return hits.push(Hit::new("invalid-header", shown, message));
    }
    if key.iter().any(u8::is_ascii_uppercase) {
        let message = format!("header {shown} is set with capitals");
        hits.push(Hit::new("uppercase-header", shown.clone(), message));
    }
    let hops = half_of(map).is_some() && seen.is_ok();
    if hops && HOP_BY_HOP.contains(&key.to_ascii_lowercase().as_slice()) {
        let message = format!("{} {shown} is set", map_name(map));
        hits.push(Hit::new("hop-by-hop-header", shown, message));
    }
}

fn is_invalid(key: &[u8], value: &[u8]) -> bool {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let bare = key.strip_prefix(b":").unwrap_or(key);
    bare.is_empty() || !bare.iter().all(token) || value.iter().any(|b| matches!(b, 0 | 10 | 13))
}

/// Bytes that should be a map and are none.
pub(super) fn malformed(bytes: &[u8], what: &str, hits: &mut Vec<Hit>) {
    if bytes.is_empty() {
        return;
    }
    if let Err(error) = pairs::decode(bytes) {
        let message = format!("{what} cannot be decoded: {error}");
        hits.push(Hit::new("malformed-pairs", what, message));
    }
}
