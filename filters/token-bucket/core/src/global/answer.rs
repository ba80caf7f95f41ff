//! What the service says: an `envoy.service.ratelimit.v3.RateLimitResponse`.
//!
//! ```text
//! Code overall_code = 1;                      repeated DescriptorStatus statuses = 2;
//! repeated HeaderValue response_headers_to_add = 3;
//! repeated HeaderValue request_headers_to_add = 4;               bytes raw_body = 5;
//! DescriptorStatus { Code code = 1; RateLimit current_limit = 2; uint32 limit_remaining = 3;
//!                    Duration duration_until_reset = 4 }
//! RateLimit { uint32 requests_per_unit = 1; Unit unit = 2; string name = 3 }
//! Code { UNKNOWN = 0, OK = 1, OVER_LIMIT = 2 }
//! ```
//!
//! Of several statuses the strictest speaks. Limitador's server sends none and says the same in
//! `X-RateLimit-*` headers, so those are read where there is no status. An answer without a code
//! that decides is no answer: Envoy's own filter lets such requests pass, here `failure_mode` does.

use super::headers::Headers;
use super::wire::{Input, Malformed, Value};
use core::time::Duration;

/// Longest body that is passed on, in bytes.
const MAX_BODY: usize = 16 * 1024;

/// Longest time until a reset that is believed: a leap year.
const MAX_RESET: Duration = Duration::from_secs(366 * 86_400);

/// An answer that decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether the hits asked for are granted.
    pub allowed: bool,
    /// The limit in force, if the service says so.
    pub limit: Option<FleetLimit>,
    /// Time until the first of the windows ends in which the hits were counted; `None` if not said.
    pub window_ends: Option<Duration>,
    /// Headers for the client's response.
    pub response_headers: Headers,
    /// Headers for the request as it is forwarded.
    pub request_headers: Headers,
    /// Body of the answer to a request that is refused.
    pub body: Option<Vec<u8>>,
}

/// State of the service's strictest limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetLimit {
    /// Requests of one window; 0 if not said.
    pub requests: u32,
    /// Length of the window in seconds; 0 if not said.
    pub window: u32,
    /// Requests that are left; `None` if not said.
    pub remaining: Option<u32>,
    /// Time until the window ends; `None` if not said.
    pub reset: Option<Duration>,
}

impl Answer {
    /// Reads the message.
    #[inline(never)]
    pub fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut answer = Self::default();
        let (mut code, mut granted, mut over) = (0, None, None);
        let mut input = Input(message);
        while let Some(field) = input.field()? {
            match field {
                (1, Value::Number(number)) => code = number,
                (2, Value::Bytes(status)) => {
                    let (code, limit) = status_of(status)?;
                    let reset = limit.and_then(|limit| limit.reset);
                    answer.window_ends = earliest(answer.window_ends, reset);
                    let strict = if code == OVER_LIMIT { &mut over } else { &mut granted };
                    *strict = strictest(*strict, limit);
                }
                (3, Value::Bytes(header)) => answer.response_headers.take(header)?,
                (4, Value::Bytes(header)) => answer.request_headers.take(header)?,
                (5, Value::Bytes(body)) => {
                    let fits = !body.is_empty() && body.len() <= MAX_BODY;
                    answer.body = fits.then(|| body.to_vec());
                }
                _ => {}
            }
        }
        answer.allowed = match code {
            OK => true,
            OVER_LIMIT => false,
            _ => return Err(Malformed),
        };
        let stated = if answer.allowed { granted } else { over.or(granted) };
        answer.limit = stated.or_else(|| told_in_headers(&answer.response_headers));
        answer.window_ends = answer.window_ends.or_else(|| answer.limit?.reset);
        Ok(answer)
    }
}

const OK: u64 = 1;
const OVER_LIMIT: u64 = 2;

/// A status' code and limit; no limit if none matched the descriptor, as then the other fields say
/// nothing.
fn status_of(message: &[u8]) -> Result<(u64, Option<FleetLimit>), Malformed> {
    let (mut code, mut limit, mut remaining, mut reset) = (0, None, 0, None);
    let mut input = Input(message);
    while let Some(field) = input.field()? {
        match field {
            (1, Value::Number(number)) => code = number,
            (2, Value::Bytes(bytes)) => limit = Some(rate_of(bytes)?),
            (3, Value::Number(number)) => remaining = saturated(number),
            (4, Value::Bytes(bytes)) => reset = Some(duration_of(bytes)?),
            _ => {}
        }
    }
    let limit = limit.map(|(requests, window)| {
        let remaining = Some(remaining);
        FleetLimit { requests, window, remaining, reset }
    });
    Ok((code, limit))
}

fn rate_of(message: &[u8]) -> Result<(u32, u32), Malformed> {
    let (mut requests, mut window) = (0, 0);
    let mut input = Input(message);
    while let Some(field) = input.field()? {
        match field {
            (1, Value::Number(number)) => requests = saturated(number),
            (2, Value::Number(unit)) => window = seconds_of(unit),
            _ => {}
        }
    }
    Ok((requests, window))
}

/// Seconds of a `Unit`; 0 for one that is unknown.
fn seconds_of(unit: u64) -> u32 {
    match unit {
        1 => 1,
        2 => 60,
        3 => 3_600,
        4 => 86_400,
        5 => 30 * 86_400,
        6 => 365 * 86_400,
        _ => 0,
    }
}

/// A `google.protobuf.Duration`: `int64 seconds = 1; int32 nanos = 2`. What is negative is over.
fn duration_of(message: &[u8]) -> Result<Duration, Malformed> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut input = Input(message);
    while let Some(field) = input.field()? {
        match field {
            (1, Value::Number(number)) => seconds = i64::from_le_bytes(number.to_le_bytes()),
            (2, Value::Number(number)) => nanos = i64::from_le_bytes(number.to_le_bytes()),
            _ => {}
        }
    }
    let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let nanos = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
    Ok(seconds.saturating_add(nanos).min(MAX_RESET))
}

/// The limit that leaves less; of two that leave the same the one that ends later, as a request has
/// to wait for both.
fn strictest(one: Option<FleetLimit>, two: Option<FleetLimit>) -> Option<FleetLimit> {
    let (Some(a), Some(b)) = (one, two) else { return one.or(two) };
    let rank = |limit: FleetLimit| (limit.remaining, core::cmp::Reverse(limit.reset));
    Some(if rank(b) < rank(a) { b } else { a })
}

fn earliest(one: Option<Duration>, two: Option<Duration>) -> Option<Duration> {
    match (one, two) {
        (Some(one), Some(two)) => Some(one.min(two)),
        (one, two) => one.or(two),
    }
}

/// What `X-RateLimit-Limit: 10, 10;w=60`, `-Remaining` and `-Reset` say.
fn told_in_headers(headers: &Headers) -> Option<FleetLimit> {
    let number = |name| headers.get(name)?.parse::<u32>().ok();
    let limit = headers.get("x-ratelimit-limit").unwrap_or_default();
    let (first, others) = limit.split_once(',').unwrap_or((limit, ""));
    let window = others.split([';', ',']).find_map(|part| part.trim().strip_prefix("w="));
    let reset = number("x-ratelimit-reset").map(|secs| Duration::from_secs(secs.into()));
    let told = FleetLimit {
        requests: first.trim().parse().unwrap_or(0),
        window: window.and_then(|text| text.trim().parse().ok()).unwrap_or(0),
        remaining: number("x-ratelimit-remaining"),
        reset: reset.map(|reset| reset.min(MAX_RESET)),
    };
    (told != FleetLimit::default()).then_some(told)
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::wire::Message;
    use super::*;
    use proptest::prelude::*;

    fn message(write: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = Message::default();
        write(&mut message);
        message.0
    }

    fn status(code: u64, limit: (u64, u64), remaining: u64, reset: u64) -> Vec<u8> {
        message(|status| {
            status.number(1, code);
            let rate = |rate: &mut Message| {
                rate.number(1, limit.0);
                rate.number(2, limit.1);
            };
            status.bytes(2, &message(rate));
            status.number(3, remaining);
            status.bytes(4, &message(|duration| duration.number(1, reset)));
        })
    }

    fn answer(code: u64, statuses: &[Vec<u8>]) -> Answer {
        let bytes = message(|answer| {
            answer.number(1, code);
            for status in statuses {
                answer.bytes(2, status);
            }
        });
        Answer::decode(&bytes).unwrap()
    }

    fn limit(requests: u32, window: u32, remaining: u32, reset: u64) -> FleetLimit {
        let reset = Some(Duration::from_secs(reset));
        FleetLimit { requests, window, remaining: Some(remaining), reset }
    }

    #[test]
    fn of_several_statuses_the_strictest_speaks() {
        let two = [status(1, (100, 2), 70, 40), status(1, (5, 1), 3, 1)];
        assert_eq!(answer(1, &two).limit, Some(limit(5, 1, 3, 1)));
        let two = [status(1, (100, 2), 70, 40), status(1, (5, 3), 3, 900)];
        assert_eq!(answer(1, &two).window_ends, Some(Duration::from_secs(40)));
        let refused = [status(1, (100, 2), 0, 40), status(2, (5, 1), 0, 1)];
        let told = answer(2, &refused);
        assert!(!told.allowed);
        assert_eq!(told.limit, Some(limit(5, 1, 0, 1)), "of those that refused");
        let both = [status(2, (100, 2), 0, 40), status(2, (5, 1), 0, 1)];
        assert_eq!(answer(2, &both).limit, Some(limit(100, 60, 0, 40)), "the later one");
    }

    #[test]
    fn a_status_of_a_descriptor_without_a_limit_says_nothing() {
        let none = message(|status| status.number(1, 1));
        assert_eq!(answer(1, std::slice::from_ref(&none)).limit, None);
        assert_eq!(answer(1, &[none, status(1, (5, 3), 3, 1)]).limit, Some(limit(5, 3_600, 3, 1)));
    }

    #[test]
    fn where_there_is_no_status_the_headers_speak() {
        let bytes = message(|answer| {
            answer.number(1, 1);
            for (name, value) in [
                ("X-RateLimit-Limit", "10, 10;w=60, 20;w=3600"),
                ("X-RateLimit-Remaining", "4"),
                ("X-RateLimit-Reset", "17"),
            ] {
                let header = |header: &mut Message| {
                    header.bytes(1, name.as_bytes());
                    header.bytes(2, value.as_bytes());
                };
                answer.bytes(3, &message(header));
            }
        });
        assert_eq!(Answer::decode(&bytes).unwrap().limit, Some(limit(10, 60, 4, 17)));
    }

    #[test]
    fn an_answer_that_decides_nothing_is_none() {
        for code in [0, 3, u64::MAX] {
            assert_eq!(Answer::decode(&message(|answer| answer.number(1, code))), Err(Malformed));
        }
        assert_eq!(Answer::decode(b""), Err(Malformed));
        assert_eq!(Answer::decode(b"no message"), Err(Malformed));
    }

    #[test]
    fn a_body_is_passed_on_up_to_its_bound() {
        let with = |body: &[u8]| {
            let bytes = message(|answer| {
                answer.number(1, 2);
                answer.bytes(5, body);
            });
            Answer::decode(&bytes).unwrap().body
        };
        assert_eq!(with(b"slow down"), Some(b"slow down".to_vec()));
        assert_eq!(with(&vec![b'x'; MAX_BODY + 1]), None);
        assert_eq!(with(b""), None);
    }

    #[test]
    fn times_that_no_window_has_are_bounded() {
        let told = |seconds: u64, nanos: u64| {
            let bytes = message(|duration| {
                duration.number(1, seconds);
                duration.number(2, nanos);
            });
            duration_of(&bytes).unwrap()
        };
        assert_eq!(told(1, 500_000_000), Duration::from_millis(1_500));
        assert_eq!(told(u64::MAX, u64::MAX), Duration::ZERO, "both are -1");
        assert_eq!(told(i64::MAX.cast_unsigned(), 0), MAX_RESET);
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer_within_its_bounds_or_none(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            code in 0u64..4,
        ) {
            let mut whole = message(|answer| answer.number(1, code));
            whole.extend(bytes);
            if let Ok(answer) = Answer::decode(&whole) {
                prop_assert!(answer.response_headers.list.len() <= 16);
                prop_assert!(answer.body.is_none_or(|body| body.len() <= MAX_BODY));
                let reset = answer.limit.and_then(|limit| limit.reset);
                prop_assert!(reset.is_none_or(|reset| reset <= MAX_RESET));
            }
        }

        #[test]
        fn a_message_with_bytes_changed_gives_an_answer_or_none(
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6),
        ) {
            let statuses = [status(1, (100, 2), 70, 40), status(2, (5, 1), 3, 1)];
            let mut bytes = message(|answer| {
                answer.number(1, 2);
                for status in &statuses {
                    answer.bytes(2, status);
                }
                answer.bytes(5, b"body");
            });
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let _ = Answer::decode(&bytes);
        }
    }
}
