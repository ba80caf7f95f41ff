//! Between the engine's headers and the `http` crate's.
//!
//! The engine sees what Envoy's filters see: lower-case names, pseudo headers for both HTTP
//! versions, no headers that belong to one connection. Connection headers go at the codec, where
//! Envoy's connection manager drops them: on requests before the filters, on responses after.

use bytes::{Bytes, BytesMut};
use host_sim_engine::Headers;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts as RequestParts;
use http::response::Parts as ResponseParts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version};

/// A downstream request's head, as filters see it.
pub(crate) fn request_headers(parts: RequestParts, tls: bool) -> Headers {
    let RequestParts { method, uri, headers: map, .. } = parts;
    let mut headers = Headers::new();
    let host = map.get(HOST).map(|value| Bytes::copy_from_slice(value.as_bytes()));
    let authority = uri.authority().map(|a| Bytes::copy_from_slice(a.as_str().as_bytes()));
    if let Some(authority) = authority.or(host) {
        headers.add_bytes(Bytes::from_static(b":authority"), authority);
    }
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    headers.add_bytes(Bytes::from_static(b":path"), Bytes::copy_from_slice(path.as_bytes()));
    headers.add_bytes(Bytes::from_static(b":method"), method_bytes(&method));
    // The scheme a client claims in HTTP/2 is not to be trusted: Envoy overwrites it as well.
    let scheme: &[u8] = if tls { b"https" } else { b"http" };
    headers.add_bytes(Bytes::from_static(b":scheme"), Bytes::from_static(scheme));
    let nominated = nominated_by_connection(&map);
    append(&mut headers, &map, |name, value| {
        // `expect` is answered by this codec when the body is first read.
        !is_hop_by_hop(name)
            && *name != HOST
            && *name != EXPECT
            && *name != UPGRADE
            && (*name != TE || value.as_bytes().eq_ignore_ascii_case(b"trailers"))
            && !nominated.iter().any(|n| n == name.as_str())
    });
    headers
}

/// An upstream response's head, as filters see it.
pub(crate) fn response_headers(parts: ResponseParts) -> Headers {
    let mut headers = Headers::new();
    let status = Bytes::copy_from_slice(parts.status.as_str().as_bytes());
    headers.add_bytes(Bytes::from_static(b":status"), status);
    append(&mut headers, &parts.headers, |_, _| true);
    headers
}

/// Trailers, as filters see them.
pub(crate) fn trailers(map: &HeaderMap) -> Headers {
    let mut headers = Headers::new();
    append(&mut headers, map, |_, _| true);
    headers
}

/// Trailers, as the codec writes them.
pub(crate) fn trailer_map(trailers: Headers) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(trailers.len());
    for (name, value) in trailers.into_pairs() {
        insert(&mut map, &name, value);
    }
    map
}

/// An attempt's head, as the codec of that HTTP version writes it.
pub(crate) fn upstream_request<B>(
    headers: Headers,
    version: Version,
    tls: bool,
    body: B,
) -> Result<Request<B>, http::Error> {
    let mut map = HeaderMap::with_capacity(headers.len());
    let (mut method, mut authority, mut path) = (Method::GET, Bytes::new(), Bytes::new());
    for (name, value) in headers.into_pairs() {
        match name.as_ref() {
            b":method" => method = Method::from_bytes(&value)?,
            b":authority" => authority = value,
            b":path" => path = value,
            [b':', ..] | b"host" => {}
            _ => insert(&mut map, &name, value),
        }
    }
    strip_hop_by_hop(&mut map);
    let uri = if version == Version::HTTP_2 {
        let scheme = if tls { "https" } else { "http" };
        Uri::builder()
            .scheme(scheme)
            .authority(authority.as_ref())
            .path_and_query(path.as_ref())
            .build()?
    } else {
        map.insert(HOST, HeaderValue::from_maybe_shared(authority)?);
        Uri::from_maybe_shared(path)?
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = version;
    *request.headers_mut() = map;
    Ok(request)
}

/// A response's head, as the downstream codec writes it.
pub(crate) fn downstream_response<B>(
    headers: Headers,
    body: B,
) -> Result<Response<B>, http::Error> {
    let mut response = Response::new(body);
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers.into_pairs() {
        match name.as_ref() {
            b":status" => *response.status_mut() = http::StatusCode::from_bytes(&value)?,
            [b':', ..] => {}
            _ => insert(&mut map, &name, value),
        }
    }
    strip_hop_by_hop(&mut map);
    if response.status().is_informational() || response.status() == http::StatusCode::NO_CONTENT {
        map.remove(CONTENT_LENGTH);
    }
    *response.headers_mut() = map;
    Ok(response)
}

fn method_bytes(method: &Method) -> Bytes {
    match *method {
        Method::GET => Bytes::from_static(b"GET"),
        Method::POST => Bytes::from_static(b"POST"),
        _ => Bytes::copy_from_slice(method.as_str().as_bytes()),
    }
}

/// Copies pairs into one buffer that they share: two allocations a message, not two a header.
fn append(
    headers: &mut Headers,
    map: &HeaderMap,
    keep: impl Fn(&HeaderName, &HeaderValue) -> bool,
) {
    let size = map.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let mut buffer = BytesMut::with_capacity(size);
    let mut copy = |bytes: &[u8]| {
        buffer.extend_from_slice(bytes);
        buffer.split().freeze()
    };
    for (name, value) in map {
        if keep(name, value) {
            headers.add_bytes(copy(name.as_str().as_bytes()), copy(value.as_bytes()));
        }
    }
}

/// Adds a pair, unless a plugin made it something that no codec can write.
fn insert(map: &mut HeaderMap, name: &[u8], value: Bytes) {
    if let (Ok(name), Ok(value)) =
        (HeaderName::from_bytes(name), HeaderValue::from_maybe_shared(value))
    {
        map.append(name, value);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

fn strip_hop_by_hop(map: &mut HeaderMap) {
    map.remove(CONNECTION);
    map.remove(TRANSFER_ENCODING);
    map.remove(UPGRADE);
    map.remove("keep-alive");
    map.remove("proxy-connection");
}

/// Headers that a `connection` header declares to be for this hop only (RFC 9110, 7.6.1).
fn nominated_by_connection(map: &HeaderMap) -> Vec<String> {
    let values = map.get_all(CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).map(|name| name.trim().to_lowercase());
    // `te` is judged on its own; the usual values name no header.
    names
        .filter(|n| !matches!(n.as_str(), "" | "close" | "keep-alive" | "te" | "upgrade"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(request: http::request::Builder) -> RequestParts {
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_request_gets_pseudo_headers_and_loses_connection_headers() {
        let request = Request::get("/a?b")
            .header("host", "x.test")
            .header("connection", "keep-alive, x-hop")
            .header("x-hop", "1")
            .header("te", "gzip")
            .header("x-a", "1")
            .header("x-a", "2");
        let headers = request_headers(parts(request), true);
        let expected = [
            (":authority", "x.test"),
            (":path", "/a?b"),
            (":method", "GET"),
            (":scheme", "https"),
            ("x-a", "1"),
            ("x-a", "2"),
        ];
        assert_eq!(headers, Headers::from_pairs(expected));
    }

    #[test]
    fn http1_carries_the_authority_as_host_and_http2_in_the_uri() {
        let headers = [
            (":authority", "x.test"),
            (":path", "/a"),
            (":method", "PUT"),
            (":scheme", "http"),
            ("connection", "close"),
        ];
        let headers = Headers::from_pairs(headers);
        let one = upstream_request(headers.clone(), Version::HTTP_11, false, ()).unwrap();
        assert_eq!((one.uri().to_string().as_str(), one.headers().len()), ("/a", 1));
        assert_eq!(one.headers()["host"], "x.test");
        let two = upstream_request(headers, Version::HTTP_2, true, ()).unwrap();
        assert_eq!(two.uri().to_string(), "https://x.test/a");
        assert_eq!((two.method(), two.headers().len()), (&Method::PUT, 0));
    }

    #[test]
    fn a_header_that_no_codec_can_write_is_left_out() {
        let headers = Headers::from_pairs([(":status", "200"), ("bad", "a\nb"), ("good", "c")]);
        let response = downstream_response(headers, ()).unwrap();
        assert_eq!(response.headers().len(), 1);
    }

    #[test]
    fn a_status_that_is_no_number_is_an_error() {
        let headers = Headers::from_pairs([(":status", "abc")]);
        assert!(downstream_response(headers, ()).is_err());
    }
}
