//! The request of a call, header by header as Envoy writes it.

use super::GrpcRequest;
use crate::Headers;
use base64::Engine as _;
use std::time::Duration;

/// Headers in the order Envoy writes them.
pub(super) fn request_headers(request: &GrpcRequest) -> Headers {
    let service = &request.service;
    let authority =
        if service.authority.is_empty() { &service.cluster } else { &service.authority };
    let mut headers = Headers::from_pairs([
        (":method", "POST"),
        (":path", request.path.as_str()),
        (":authority", authority.as_str()),
        (":scheme", "http"),
        ("te", "trailers"),
    ]);
    if let Some(timeout) = request.timeout {
        headers.set_static("grpc-timeout", timeout_value(timeout));
    }
    headers.set_static("content-type", "application/grpc");
    for (name, value) in service.initial_metadata.iter() {
        headers.set(name, value);
    }
    add_metadata(&mut headers, &request.metadata);
    encode_binary(&mut headers);
    if !service.skip_envoy_headers {
        headers.set_static("x-envoy-internal", "true");
    }
    if let Some(timeout) = request.timeout.filter(|timeout| !timeout.is_zero()) {
        headers.set_static("x-envoy-expected-rq-timeout-ms", timeout.as_millis().to_string());
    }
    headers
}

/// The guest's metadata comes last; what Envoy knows by itself gets a second value, not a second
/// line.
fn add_metadata(headers: &mut Headers, metadata: &Headers) {
    const INLINE: [&[u8]; 7] =
        [b":method", b":path", b":authority", b":scheme", b"te", b"grpc-timeout", b"content-type"];
    for (name, value) in metadata.iter() {
        // An old name of the same header.
        let name = if name == b"host" { b":authority" } else { name };
        match headers.value(name).cloned() {
            Some(first) if INLINE.contains(&name) => {
                headers.set(name, &[&first[..], b",", value].concat());
            }
            _ => headers.add(name, value),
        }
    }
}

/// Names that end in `-bin` carry base64.
fn encode_binary(headers: &mut Headers) {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for (name, _) in headers.iter() {
        if name.ends_with(b"-bin") && !names.iter().any(|known| known == name) {
            names.push(name.to_vec());
        }
    }
    for name in names {
        let value = headers.value(&name).cloned().unwrap_or_default();
        let value = base64::engine::general_purpose::STANDARD.encode(value);
        headers.set(&name, value.as_bytes());
    }
}

/// `grpc-timeout` has eight digits at most, and takes coarser units for more.
fn timeout_value(timeout: Duration) -> String {
    const MAX: u128 = 99_999_999;
    let (mut time, mut unit) = (timeout.as_millis(), 'm');
    for (factor, next) in [(1000, 'S'), (60, 'M'), (60, 'H')] {
        if time > MAX {
            (time, unit) = (time / factor, next);
        }
    }
    format!("{time}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_takes_coarser_units_when_it_does_not_fit() {
        let value = |ms| timeout_value(Duration::from_millis(ms));
        assert_eq!(value(0), "0m");
        assert_eq!(value(99_999_999), "99999999m");
        assert_eq!(value(123_456_789), "123456S");
        assert_eq!(value(u64::from(u32::MAX) * 1000), "71582788M");
    }
}
