//! What came back from a poll, and who sent it.
//!
//! A failed HTTP call does not fail: Envoy answers it itself, with a 503 when it could not connect
//! and a 504 when time ran out. And a call that was steered to an address which has left the
//! cluster is answered by some other endpoint, which would then vouch for the absent one. So an
//! answer counts for its target only when it is known to come from there: the upstream instance
//! names the endpoint in `x-weir-served`, which no reply of Envoy's own carries. Without an
//! upstream instance the host's own replies are still told apart, by headers that only a proxied
//! response has; a stand-in is not.

use shared_state::Endpoint;

/// Names the endpoint that served an attempt; set by the upstream instance.
pub const SERVED_HEADER: &str = "x-weir-served";

/// Marks a poll, and a stream of load reports, for the upstream instance, which leaves judging them to
/// whoever sent them. A client that sends it as well achieves nothing: only what came on no
/// connection was sent by the proxy itself.
pub const POLL_HEADER: &str = "x-weir-poll";

/// Set by Envoy's router on a response that came from an endpoint, never on its own replies.
pub const PROXIED_HEADER: &str = "x-envoy-upstream-service-time";

/// Largest body of a health answer that is read, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// What the host handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer<'a> {
    /// `:status`; `None` if there were no headers, as after a reset in the middle of the body.
    pub status: Option<u16>,
    /// [`SERVED_HEADER`].
    pub served: Option<&'a str>,
    /// It has [`PROXIED_HEADER`], or a `server` header.
    pub proxied: bool,
    /// The header in which the endpoint's agent may speak.
    pub agent: Option<&'a str>,
    /// The body, or a byte more of it than is read.
    pub body: &'a [u8],
}

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The endpoint that was asked, with this status.
    Target(u16),
    /// Another endpoint: the one asked is no member, or steering does not work.
    Other,
    /// Someone, but nothing says who, although the upstream instance is known to be there.
    Unknown,
    /// The host: the cluster's own limits left no room for the poll.
    Overflow,
    /// The host: no connection.
    ConnectFailure,
    /// The host: no answer in time.
    Timeout,
    /// Nobody: the answer was cut off.
    Reset,
}

impl Answer<'_> {
    /// Who sent this answer to a poll of `target`. `named` tells whether answers of this cluster
    /// are known to name their endpoint.
    pub fn origin(&self, target: Endpoint, named: bool) -> Origin {
        let Some(status) = self.status else { return Origin::Reset };
        if let Some(served) = self.served {
            let served = served.parse::<Endpoint>();
            return if served == Ok(target) { Origin::Target(status) } else { Origin::Other };
        }
        match status {
            503 if (named || !self.proxied) && self.says_overflow() => Origin::Overflow,
            503 if named || !self.proxied => Origin::ConnectFailure,
            504 if named || !self.proxied => Origin::Timeout,
            _ if named => Origin::Unknown,
            _ => Origin::Target(status),
        }
    }

    /// Envoy's text for a call that its circuit breaker refused. The endpoint has no part in it.
    fn says_overflow(&self) -> bool {
        self.body.ends_with(b"reset reason: overflow")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Endpoint {
        "10.0.0.1:80".parse().unwrap()
    }

    fn origin(status: u16, served: Option<&str>, proxied: bool, named: bool) -> Origin {
        Answer { status: Some(status), served, proxied, ..Answer::default() }
            .origin(target(), named)
    }

    #[test]
    fn an_endpoint_that_is_named_is_believed_whatever_the_status() {
        for status in [200, 503, 504] {
            assert_eq!(origin(status, Some("10.0.0.1:80"), false, true), Origin::Target(status));
        }
    }

    #[test]
    fn a_stand_in_does_not_vouch_for_an_endpoint_that_has_left() {
        for served in ["10.0.0.2:80", "10.0.0.1:81", "nonsense", ""] {
            assert_eq!(origin(200, Some(served), true, true), Origin::Other, "{served}");
        }
    }

    #[test]
    fn replies_of_the_host_are_failures_to_reach_the_endpoint() {
        for named in [true, false] {
            assert_eq!(origin(503, None, false, named), Origin::ConnectFailure);
            assert_eq!(origin(504, None, false, named), Origin::Timeout);
        }
    }

    #[test]
    fn a_full_cluster_is_not_the_endpoints_fault() {
        let body =
            b"upstream connect error or disconnect/reset before headers. reset reason: overflow";
        let full = Answer { status: Some(503), body, ..Answer::default() };
        assert_eq!(full.origin(target(), true), Origin::Overflow);
    }

    #[test]
    fn without_an_upstream_instance_a_proxied_503_is_the_endpoints_own() {
        assert_eq!(origin(503, None, true, false), Origin::Target(503));
    }

    #[test]
    fn an_answer_that_should_name_its_endpoint_and_does_not_says_nothing() {
        assert_eq!(origin(200, None, true, true), Origin::Unknown);
        assert_eq!(origin(200, None, true, false), Origin::Target(200));
    }

    #[test]
    fn no_headers_are_a_reset() {
        assert_eq!(Answer::default().origin(target(), true), Origin::Reset);
    }
}
