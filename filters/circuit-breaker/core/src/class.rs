//! What a finished request proves about its endpoint or route.
//!
//! The host knows more than a status code does. A 503 that Envoy made because a queue was full says
//! nothing about the endpoint; one that it made because the connection was refused says everything;
//! one that another plugin made was never sent. So the response's flags come first, then who
//! answered, and the status last, and only if the endpoint itself sent it.

use crate::Verdict;
use crate::status::StatusSet;

/// Bits of `response.flags`, as Envoy's access log names them.
mod flag {
    pub(super) const NO_HEALTHY_UPSTREAM: u64 = 0x2;
    pub(super) const UPSTREAM_REQUEST_TIMEOUT: u64 = 0x4;
    pub(super) const LOCAL_RESET: u64 = 0x8;
    pub(super) const UPSTREAM_REMOTE_RESET: u64 = 0x10;
    pub(super) const UPSTREAM_CONNECTION_FAILURE: u64 = 0x20;
    pub(super) const UPSTREAM_CONNECTION_TERMINATION: u64 = 0x40;
    pub(super) const UPSTREAM_OVERFLOW: u64 = 0x80;
    pub(super) const DOWNSTREAM_CONNECTION_TERMINATION: u64 = 0x4000;
    pub(super) const UPSTREAM_MAX_STREAM_DURATION: u64 = 0x8_0000;
    pub(super) const UPSTREAM_PROTOCOL_ERROR: u64 = 0x80_0000;
}

/// The client left, or the cluster had no place or no endpoint for the request.
const NOT_THE_ENDPOINT: u64 =
    flag::DOWNSTREAM_CONNECTION_TERMINATION | flag::UPSTREAM_OVERFLOW | flag::NO_HEALTHY_UPSTREAM;

/// The endpoint did not answer, or not to the end.
const THE_ENDPOINT: u64 = flag::UPSTREAM_REQUEST_TIMEOUT
    | flag::LOCAL_RESET
    | flag::UPSTREAM_REMOTE_RESET
    | flag::UPSTREAM_CONNECTION_FAILURE
    | flag::UPSTREAM_CONNECTION_TERMINATION
    | flag::UPSTREAM_MAX_STREAM_DURATION
    | flag::UPSTREAM_PROTOCOL_ERROR;

/// Says "slow down", which is no failure by itself: an endpoint that sheds works.
const TOO_MANY_REQUESTS: u16 = 429;

/// What a gateway answers for a server of its own that fails.
const GATEWAY_FAILURES: [u16; 3] = [502, 503, 504];

/// What is known of a request when it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// `response.flags`.
    pub flags: u64,
    /// The response came from the endpoint: `response.code_details` is `via_upstream`.
    pub via_upstream: bool,
    /// `response.code`.
    pub status: Option<u16>,
    /// `response.grpc_status`, of a gRPC request.
    pub grpc_status: Option<u32>,
}

impl Ending {
    /// The client did not wait for the end.
    pub(crate) const fn client_left(&self) -> bool {
        self.flags & flag::DOWNSTREAM_CONNECTION_TERMINATION != 0
    }

    /// The endpoint did not answer in time.
    pub(crate) const fn timed_out(&self) -> bool {
        self.flags & flag::UPSTREAM_REQUEST_TIMEOUT != 0
    }
}

/// What an endpoint's word that it is asked for too much proves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateLimited {
    /// Nothing.
    #[default]
    Ignore,
    /// A failure of the rate and of probes, though not one in a row: Linkerd's rule.
    Failure,
}

/// Which responses are failures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classify {
    /// Failures.
    pub failure_statuses: StatusSet,
    /// Neither successes nor failures.
    pub ignore_statuses: StatusSet,
    /// What 429 and RESOURCE_EXHAUSTED are.
    pub rate_limited: RateLimited,
    /// gRPC codes that are failures: bit `n` for code `n`.
    pub grpc_failures: u32,
}

impl Classify {
    /// What the ending proves.
    pub fn verdict(&self, ending: &Ending) -> Verdict {
        if ending.flags & NOT_THE_ENDPOINT != 0 {
            return Verdict::Ignored;
        }
        if ending.flags & THE_ENDPOINT != 0 {
            return Verdict::Local;
        }
        match ending.status {
            Some(status) if ending.via_upstream => self.of_response(status, ending.grpc_status),
            _ => Verdict::Ignored,
        }
    }

    /// True if an endpoint's answer with this status, which came to its end, is a success whatever
    /// else the host might tell of it, and no word on when to come again.
    pub fn is_plain(&self, status: u16) -> bool {
        status < 500 && self.of_response(status, None) == Verdict::Success
    }

    fn of_response(&self, status: u16, grpc_status: Option<u32>) -> Verdict {
        if self.ignore_statuses.contains(status) {
            return Verdict::Ignored;
        }
        if status == TOO_MANY_REQUESTS {
            return self.of_rate_limited();
        }
        if self.failure_statuses.contains(status) {
            let is_gateway = GATEWAY_FAILURES.contains(&status);
            return if is_gateway { Verdict::Gateway } else { Verdict::Failure };
        }
        match grpc_status {
            Some(grpc::RESOURCE_EXHAUSTED) => self.of_rate_limited(),
            Some(code) if code < 32 && self.grpc_failures & (1 << code) != 0 => match code {
                // As Envoy translates them: 503 and 504.
                grpc::UNAVAILABLE | grpc::DEADLINE_EXCEEDED => Verdict::Gateway,
                _ => Verdict::Failure,
            },
            _ => Verdict::Success,
        }
    }

    fn of_rate_limited(&self) -> Verdict {
        match self.rate_limited {
            RateLimited::Ignore => Verdict::Ignored,
            RateLimited::Failure => Verdict::Shed,
        }
    }
}

/// Codes of gRPC.
pub mod grpc {
    /// What a breaker answers that rejects.
    pub const UNAVAILABLE: u32 = 14;
    /// The gRPC form of 504.
    pub(crate) const DEADLINE_EXCEEDED: u32 = 4;
    /// The gRPC form of 429.
    pub(crate) const RESOURCE_EXHAUSTED: u32 = 8;

    /// All names, in the order of their codes.
    pub(crate) const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Failure, Gateway, Ignored, Local, Shed, Success};

    fn statuses(text: &str) -> StatusSet {
        let mut set = StatusSet::default();
        assert!(set.add(text), "{text}");
        set
    }

    fn classify() -> Classify {
        Classify {
            failure_statuses: statuses("500-599"),
            ignore_statuses: statuses("404"),
            rate_limited: RateLimited::Ignore,
            grpc_failures: 1 << 14 | 1 << 13,
        }
    }

    fn response(status: u16) -> Ending {
        Ending { via_upstream: true, status: Some(status), ..Ending::default() }
    }

    fn flags(flags: u64, status: u16) -> Ending {
        Ending { flags, status: Some(status), ..Ending::default() }
    }

    fn verdicts<const N: usize>(endings: [Ending; N]) -> [Verdict; N] {
        endings.map(|ending| classify().verdict(&ending))
    }

    #[test]
    fn an_endpoints_own_answer_is_judged_by_its_status() {
        let statuses = [200, 499, 500, 503, 599].map(response);
        assert_eq!(verdicts(statuses), [Success, Success, Failure, Gateway, Failure]);
    }

    #[test]
    fn shedding_and_ignored_statuses_prove_nothing() {
        assert_eq!(verdicts([429, 404].map(response)), [Ignored; 2]);
    }

    #[test]
    fn shedding_can_be_told_to_be_a_failure() {
        let classify = Classify { rate_limited: RateLimited::Failure, ..classify() };
        let grpc = Ending { grpc_status: Some(8), ..response(200) };
        assert_eq!([response(429), grpc].map(|ending| classify.verdict(&ending)), [Shed, Shed]);
    }

    #[test]
    fn a_plain_status_is_a_success_and_says_nothing_else() {
        let plain = [200, 304, 403, 404, 429, 500, 503].map(|status| classify().is_plain(status));
        assert_eq!(plain, [true, true, true, false, false, false, false]);
    }

    #[test]
    fn the_same_503_is_a_failure_only_if_the_endpoint_or_its_connection_made_it() {
        let refused = flags(0x20 | 0x8000, 503);
        let overflow = flags(0x80, 503);
        let no_host = flags(0x2, 503);
        let other_plugin = flags(0, 503);
        assert_eq!(
            verdicts([refused, overflow, no_host, other_plugin]),
            [Local, Ignored, Ignored, Ignored]
        );
    }

    #[test]
    fn timeouts_and_resets_are_failures_even_after_a_good_status() {
        let timeout = flags(0x4, 504);
        let torn = Ending { flags: 0x40, ..response(200) };
        assert_eq!(verdicts([timeout, torn]), [Local, Local]);
    }

    #[test]
    fn a_client_that_leaves_proves_nothing() {
        let early = Ending { flags: 0x4000, ..Ending::default() };
        let late = Ending { flags: 0x4000, ..response(500) };
        assert_eq!(verdicts([early, late]), [Ignored, Ignored]);
    }

    #[test]
    fn a_grpc_status_counts_behind_a_200() {
        let grpc = |code| Ending { grpc_status: Some(code), ..response(200) };
        assert_eq!(
            verdicts([0, 14, 13, 5, 8, 99].map(grpc)),
            [Success, Gateway, Failure, Success, Ignored, Success]
        );
    }
}
