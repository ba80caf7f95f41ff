//! Whose fault it was: the class of one request or attempt, as evidence about one endpoint.
//!
//! Only what the endpoint did may count against it. A client that went away, a full connection
//! pool, a local reply of a filter: these say nothing, and a classification that counted them
//! would let clients, or the proxy itself, take endpoints out. The flags are Envoy's
//! `response.flags` (`StreamInfo::CoreResponseFlag`).

use crate::StatusRanges;

/// What an attempt says about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It works.
    Success,
    /// It failed.
    Failure(FailureKind),
    /// Nothing.
    Neutral,
}

/// How an endpoint failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection.
    Connect,
    /// No answer in time.
    Timeout,
    /// An answer cut off, or none at all.
    Reset,
    /// The attempt ended without an answer, and nothing says why: a timeout of this attempt or a
    /// reset. All that an upstream filter can tell.
    NoAnswer,
    /// An answer with a status that counts as a failure.
    Status,
}

impl FailureKind {
    /// The label `kind` of `weir_attempt_failures_total`, and a word of the access log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::NoAnswer => "no_answer",
            Self::Status => "status",
        }
    }
}

/// What is known of one attempt when it is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// The endpoint's `:status`.
    pub status: Option<u16>,
    /// Its `grpc-status`, from headers or trailers.
    pub grpc_status: Option<u32>,
    /// The host's `response.flags`.
    pub flags: u64,
    /// The connection failed, as an upstream filter is told.
    pub transport_failed: bool,
    /// There was a connection, and the attempt ended before its answer did. Only an upstream
    /// filter looks: downstream, flags say it.
    pub cut_off: bool,
    /// The proxy itself has answered the client: a filter did, or the VM of one has died.
    pub answered_in_stead: bool,
}

const UPSTREAM_REQUEST_TIMEOUT: u64 = 0x4;
const LOCAL_RESET: u64 = 0x8;
const UPSTREAM_REMOTE_RESET: u64 = 0x10;
const UPSTREAM_CONNECTION_FAILURE: u64 = 0x20;
const UPSTREAM_CONNECTION_TERMINATION: u64 = 0x40;
const UPSTREAM_OVERFLOW: u64 = 0x80;
const NO_HEALTHY_UPSTREAM: u64 = 0x2;
const RATE_LIMITED: u64 = 0x800;
const DOWNSTREAM_DISCONNECT: u64 = 0x4000;
const DOWNSTREAM_PROTOCOL_ERROR: u64 = 0x4_0000;
const UPSTREAM_PROTOCOL_ERROR: u64 = 0x80_0000;

const NOT_THE_ENDPOINTS: u64 = UPSTREAM_OVERFLOW
    | NO_HEALTHY_UPSTREAM
    | RATE_LIMITED
    | DOWNSTREAM_DISCONNECT
    | DOWNSTREAM_PROTOCOL_ERROR;

/// gRPC statuses by which a server says that it, not the request, is at fault: `DEADLINE_EXCEEDED`,
/// `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`.
const GRPC_FAILURES: [u32; 4] = [4, 13, 14, 15];

impl Attempt {
    /// What this attempt says. `failures` are the statuses that count against the endpoint.
    pub fn outcome(&self, failures: &StatusRanges) -> Outcome {
        let flagged = |flags| self.flags & flags != 0;
        if flagged(NOT_THE_ENDPOINTS) {
            Outcome::Neutral
        } else if flagged(UPSTREAM_CONNECTION_FAILURE) {
            Outcome::Failure(FailureKind::Connect)
        } else if flagged(UPSTREAM_REQUEST_TIMEOUT) {
            Outcome::Failure(FailureKind::Timeout)
        } else if flagged(
            UPSTREAM_REMOTE_RESET
                | UPSTREAM_CONNECTION_TERMINATION
                | UPSTREAM_PROTOCOL_ERROR
                | LOCAL_RESET,
        ) {
            Outcome::Failure(FailureKind::Reset)
        } else if self.transport_failed {
            let before_answer = self.status.is_none();
            let kind = if before_answer { FailureKind::Connect } else { FailureKind::Reset };
            Outcome::Failure(kind)
        } else if self.answered_in_stead {
            Outcome::Neutral
        } else if self.cut_off {
            Outcome::Failure(match self.status {
                None => FailureKind::NoAnswer,
                // The router hears no more of an answer that it has begun to retry.
                Some(status) if failures.contains(status) => FailureKind::Status,
                Some(_) => FailureKind::Reset,
            })
        } else {
            self.answered(failures)
        }
    }

    /// The client left before there was an answer.
    pub const fn was_abandoned(&self) -> bool {
        self.status.is_none() && self.flags & DOWNSTREAM_DISCONNECT != 0
    }

    fn answered(&self, failures: &StatusRanges) -> Outcome {
        let Some(status) = self.status else { return Outcome::Neutral };
        let grpc_failed = self.grpc_status.is_some_and(|code| GRPC_FAILURES.contains(&code));
        if failures.contains(status) || grpc_failed {
            Outcome::Failure(FailureKind::Status)
        } else {
            Outcome::Success
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(attempt: Attempt) -> Outcome {
        let mut failures = StatusRanges::default();
        failures.add("500-599");
        attempt.outcome(&failures)
    }

    fn flagged(flags: u64) -> Outcome {
        outcome(Attempt { status: Some(503), flags, ..Attempt::default() })
    }

    #[test]
    fn the_clients_and_the_proxys_faults_are_not_the_endpoints() {
        for flags in [0x2, 0x80, 0x800, 0x4000, 0x4_0000, 0x4000 | 0x4] {
            assert_eq!(flagged(flags), Outcome::Neutral, "{flags:#x}");
        }
    }

    #[test]
    fn flags_tell_how_it_failed() {
        // As measured on Envoy 1.40: 32800 refused, 32772 per-try timeout, 4 route timeout.
        assert_eq!(flagged(32_800), Outcome::Failure(FailureKind::Connect));
        assert_eq!(flagged(32_772), Outcome::Failure(FailureKind::Timeout));
        assert_eq!(flagged(4), Outcome::Failure(FailureKind::Timeout));
        assert_eq!(flagged(0x40), Outcome::Failure(FailureKind::Reset));
    }

    #[test]
    fn an_answer_counts_by_its_status() {
        let answered = |status| outcome(Attempt { status: Some(status), ..Attempt::default() });
        for good in [100, 200, 404, 429, 499] {
            assert_eq!(answered(good), Outcome::Success, "{good}");
        }
        for bad in [500, 503, 599] {
            assert_eq!(answered(bad), Outcome::Failure(FailureKind::Status), "{bad}");
        }
    }

    #[test]
    fn a_grpc_status_counts_too() {
        let grpc = |code| {
            let grpc_status = Some(code);
            outcome(Attempt { status: Some(200), grpc_status, ..Attempt::default() })
        };
        assert_eq!(grpc(14), Outcome::Failure(FailureKind::Status));
        assert_eq!(grpc(5), Outcome::Success);
    }

    #[test]
    fn a_transport_failure_is_told_apart_by_what_came_before() {
        let failed =
            |status| outcome(Attempt { status, transport_failed: true, ..Attempt::default() });
        assert_eq!(failed(None), Outcome::Failure(FailureKind::Connect));
        assert_eq!(failed(Some(200)), Outcome::Failure(FailureKind::Reset));
    }

    #[test]
    fn an_attempt_that_was_cut_off_failed_unless_the_client_left() {
        let cut =
            |status, flags| outcome(Attempt { status, flags, cut_off: true, ..Attempt::default() });
        assert_eq!(cut(None, 0), Outcome::Failure(FailureKind::NoAnswer));
        assert_eq!(cut(Some(200), 0), Outcome::Failure(FailureKind::Reset));
        assert_eq!(cut(Some(503), 0), Outcome::Failure(FailureKind::Status));
        assert_eq!(cut(None, 0x4000), Outcome::Neutral);
    }

    #[test]
    fn nobody_is_blamed_where_the_proxy_has_answered_in_the_endpoints_stead() {
        let of = |attempt: Attempt| outcome(Attempt { answered_in_stead: true, ..attempt });
        let cut = |status| of(Attempt { status, cut_off: true, ..Attempt::default() });
        for status in [None, Some(200), Some(503)] {
            assert_eq!(cut(status), Outcome::Neutral, "{status:?}");
        }
        let because_of = |flags| of(Attempt { status: Some(503), flags, ..Attempt::default() });
        assert_eq!(because_of(0), Outcome::Neutral);
        assert_eq!(because_of(0x4), Outcome::Failure(FailureKind::Timeout), "that is why");
    }

    #[test]
    fn a_client_has_abandoned_what_was_not_answered_yet() {
        let left = |status, flags| Attempt { status, flags, ..Attempt::default() }.was_abandoned();
        assert!(left(None, 0x4000));
        assert!(!left(Some(200), 0x4000) && !left(None, 0x4));
    }

    #[test]
    fn an_attempt_that_ended_without_a_word_says_nothing() {
        assert_eq!(outcome(Attempt::default()), Outcome::Neutral);
    }
}
