//! Headers that the service wants added, as far as they may be.
//!
//! The service is the operator's own, but what it says reaches clients and upstreams: a header that
//! splits a message, frames it anew or steers the proxy is left out, and so is what is too much.

use super::wire::{Input, Malformed, Value};

/// Most headers of one answer and direction.
const MAX_HEADERS: usize = 16;

/// Longest name, in bytes.
const MAX_NAME: usize = 64;

/// Longest value, in bytes.
const MAX_VALUE: usize = 1024;

/// Where the router in the chain writes the endpoint that it picks.
const STEERING: &str = "x-gateway-destination-endpoint";

/// Headers to add, names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Names and values.
    pub list: Vec<(String, String)>,
    /// How many were left out.
    pub left_out: u32,
}

impl Headers {
    /// The first value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Takes an `envoy.config.core.v3.HeaderValue`: `string key = 1; string value = 2;
    /// bytes raw_value = 3`.
    pub(super) fn take(&mut self, message: &[u8]) -> Result<(), Malformed> {
        let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
        let mut input = Input(message);
        while let Some(field) = input.field()? {
            match field {
                (1, Value::Bytes(bytes)) => name = bytes,
                (2 | 3, Value::Bytes(bytes)) if !bytes.is_empty() => value = bytes,
                _ => {}
            }
        }
        match (checked_name(name), checked_value(value)) {
            (Some(name), Some(value)) if self.list.len() < MAX_HEADERS => {
                self.list.push((name, value));
            }
            _ => self.left_out = self.left_out.saturating_add(1),
        }
        Ok(())
    }
}

fn checked_name(name: &[u8]) -> Option<String> {
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    if name.is_empty() || name.len() > MAX_NAME || !name.iter().all(token) {
        return None;
    }
    let name = core::str::from_utf8(name).ok()?.to_ascii_lowercase();
    let is_not_theirs =
        plugin_config::frames_messages(&name) || name == STEERING || name.starts_with("x-envoy-");
    (!is_not_theirs).then_some(name)
}

fn checked_value(value: &[u8]) -> Option<String> {
    let plain = |b: &u8| matches!(b, b' '..=b'~' | b'\t');
    if value.len() > MAX_VALUE || !value.iter().all(plain) {
        return None;
    }
    core::str::from_utf8(value).ok().map(|value| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::wire::Message;
    use super::*;
    use proptest::prelude::*;

    fn header(name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut message = Message::default();
        message.bytes(1, name);
        message.bytes(2, value);
        message.0
    }

    fn taken(name: &[u8], value: &[u8]) -> Headers {
        let mut headers = Headers::default();
        headers.take(&header(name, value)).unwrap();
        headers
    }

    #[test]
    fn a_header_is_taken_in_lower_case_and_a_raw_value_is_one() {
        assert_eq!(taken(b"X-RateLimit-Limit", b"10").get("x-ratelimit-limit"), Some("10"));
        let mut message = Message::default();
        message.bytes(1, b"x-a");
        message.bytes(3, b"raw");
        let mut headers = Headers::default();
        headers.take(&message.0).unwrap();
        assert_eq!(headers.get("x-a"), Some("raw"));
    }

    #[test]
    fn what_would_split_frame_or_steer_is_left_out() {
        let long = [b'v'; MAX_VALUE + 1];
        for (name, value) in [
            (&b"x-a"[..], &b"1\r\nset-cookie: x"[..]),
            (b"x-a", b"\0"),
            (b"x-a", "\u{e9}".as_bytes()),
            (b"x-a", &long),
            (b"x a", b"1"),
            (b"x-a\r\n", b"1"),
            (b":status", b"200"),
            (b"", b"1"),
            (&[b'n'; MAX_NAME + 1], b"1"),
            (b"Content-Length", b"0"),
            (b"Transfer-Encoding", b"chunked"),
            (b"host", b"elsewhere"),
            (b"X-Envoy-Retry-On", b"5xx"),
            (b"x-gateway-destination-endpoint", b"10.0.0.1:80"),
        ] {
            let headers = taken(name, value);
            assert_eq!((headers.list.len(), headers.left_out), (0, 1), "{name:?}: {value:?}");
        }
    }

    #[test]
    fn there_is_an_end_to_headers() {
        let mut headers = Headers::default();
        for _ in 0..MAX_HEADERS + 3 {
            headers.take(&header(b"x-a", b"1")).unwrap();
        }
        assert_eq!((headers.list.len(), headers.left_out), (MAX_HEADERS, 3));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_header_that_is_not_one(
            name in proptest::collection::vec(any::<u8>(), 0..80),
            value in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            for (name, value) in taken(&name, &value).list {
                prop_assert!(!name.is_empty() && !name.contains(':') && !name.contains(' '));
                prop_assert!(!value.bytes().any(|b| b < b' ' && b != b'\t'));
            }
        }
    }
}
