//! Header names that Envoy keeps in a slot of their own: one value each, and `host` for
//! `:authority`.
//!
//! A plugin sees it: a second value of such a name is appended to the first with a comma, where
//! any other name gets a second entry. The names are those that Envoy 1.40 lists as it starts.

use crate::Headers;
use host_sim_abi::MapType;
use std::borrow::Cow;

const REQUEST: &[&[u8]] = &[
    b":authority",
    b":method",
    b":path",
    b":protocol",
    b":scheme",
    b"accept",
    b"accept-encoding",
    b"access-control-request-headers",
    b"access-control-request-method",
    b"access-control-request-private-network",
    b"authentication",
    b"authorization",
    b"cache-control",
    b"cdn-loop",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"expect",
    b"grpc-accept-encoding",
    b"grpc-timeout",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"keep-alive",
    b"origin",
    b"pragma",
    b"proxy-connection",
    b"proxy-status",
    b"referer",
    b"te",
    b"transfer-encoding",
    b"upgrade",
    b"user-agent",
    b"via",
    b"x-client-trace-id",
    b"x-envoy-attempt-count",
    b"x-envoy-decorator-operation",
    b"x-envoy-downstream-service-cluster",
    b"x-envoy-downstream-service-node",
    b"x-envoy-expected-rq-timeout-ms",
    b"x-envoy-external-address",
    b"x-envoy-force-trace",
    b"x-envoy-hedge-on-per-try-timeout",
    b"x-envoy-internal",
    b"x-envoy-ip-tags",
    b"x-envoy-is-timeout-retry",
    b"x-envoy-max-retries",
    b"x-envoy-original-host",
    b"x-envoy-original-path",
    b"x-envoy-original-url",
    b"x-envoy-retriable-header-names",
    b"x-envoy-retriable-status-codes",
    b"x-envoy-retry-grpc-on",
    b"x-envoy-retry-on",
    b"x-envoy-upstream-alt-stat-name",
    b"x-envoy-upstream-rq-per-try-timeout-ms",
    b"x-envoy-upstream-rq-timeout-alt-response",
    b"x-envoy-upstream-rq-timeout-ms",
    b"x-envoy-upstream-stream-duration-ms",
    b"x-forwarded-client-cert",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-request-id",
];

const RESPONSE: &[&[u8]] = &[
    b":status",
    b"access-control-allow-credentials",
    b"access-control-allow-headers",
    b"access-control-allow-methods",
    b"access-control-allow-origin",
    b"access-control-allow-private-network",
    b"access-control-expose-headers",
    b"access-control-max-age",
    b"age",
    b"cache-control",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"date",
    b"etag",
    b"expires",
    b"grpc-message",
    b"grpc-status",
    b"keep-alive",
    b"last-modified",
    b"location",
    b"proxy-connection",
    b"proxy-status",
    b"server",
    b"transfer-encoding",
    b"upgrade",
    b"vary",
    b"via",
    b"x-envoy-attempt-count",
    b"x-envoy-decorator-operation",
    b"x-envoy-degraded",
    b"x-envoy-immediate-health-check-fail",
    b"x-envoy-ratelimited",
    b"x-envoy-upstream-canary",
    b"x-envoy-upstream-healthchecked-cluster",
    b"x-envoy-upstream-service-time",
    b"x-request-id",
];

const RESPONSE_TRAILERS: &[&[u8]] = &[b"grpc-message", b"grpc-status"];

/// The name under which a map keeps a header.
pub(crate) fn canonical(map: MapType, name: &[u8]) -> Cow<'_, [u8]> {
    if map == MapType::HttpRequestHeaders && name.eq_ignore_ascii_case(b"host") {
        return Cow::Borrowed(b":authority");
    }
    if name.iter().any(u8::is_ascii_uppercase) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    }
}

/// Adds a value as that map does.
pub(crate) fn append(headers: &mut Headers, map: MapType, name: &[u8], value: &[u8]) {
    let name = canonical(map, name);
    let inline = match map {
        MapType::HttpRequestHeaders => REQUEST,
        MapType::HttpResponseHeaders => RESPONSE,
        MapType::HttpResponseTrailers => RESPONSE_TRAILERS,
        _ => &[],
    };
    let old = headers.value(&name).filter(|_| inline.contains(&&*name)).cloned();
    match old {
        Some(old) => headers.set(&name, &[&old, b",".as_slice(), value].concat()),
        None => headers.add(&name, value),
    }
}

/// A request's headers from a guest's pairs.
pub(crate) fn request_headers<'a>(
    pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in pairs {
        append(&mut headers, MapType::HttpRequestHeaders, name, value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_value_is_appended_to_the_first_where_envoy_has_one_slot() {
        let pairs = [("accept", "a"), ("Accept", "b"), ("x-twice", "a"), ("x-twice", "b")];
        let pairs = pairs.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let headers = request_headers(pairs);
        assert_eq!(headers.get("accept"), Some(b"a,b".as_slice()));
        assert_eq!(headers.get_all("x-twice").count(), 2);
    }

    #[test]
    fn host_is_the_authority_of_a_request_only() {
        let request = canonical(MapType::HttpRequestHeaders, b"Host");
        assert_eq!(&*request, b":authority");
        assert_eq!(&*canonical(MapType::HttpResponseHeaders, b"Host"), b"host");
    }
}
