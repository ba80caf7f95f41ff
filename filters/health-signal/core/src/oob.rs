//! Load reports out of band: a gRPC stream to each endpoint, on which it reports by itself.
//!
//! ```text
//! Waiting --due--> Open --a message--> Open      each message begins the watch anew
//!    ^               | closed, or no message for three periods
//!    +---back-off----+ closed as unimplemented --> Unwanted, for good
//! ```
//!
//! As in Envoy, the first connection is drawn from a whole period, so that a fleet does not connect at
//! once; the back-off doubles from one second to thirty and ends with the first message. A server
//! that does not have the service will not get it while it runs.

use core::time::Duration;
use shared_state::UnixNanos;

/// The service of out-of-band reports.
pub const SERVICE: &str = "xds.service.orca.v3.OpenRcaService";

/// Its method: a request, and reports until the stream ends.
pub const METHOD: &str = "StreamCoreMetrics";

/// Largest message that is read, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// gRPC's `UNIMPLEMENTED`.
const UNIMPLEMENTED: u32 = 12;

/// Periods without a message after which a stream is dead.
const PATIENCE: u32 = 3;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// The stream to one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    state: State,
    /// Failures since the last message.
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting { since: UnixNanos, until: UnixNanos },
    Open { token: u32, heard_at: UnixNanos },
    Unwanted,
}

impl Stream {
    /// The first connection lies within `period` of `now`.
    pub fn new(period: Duration, now: UnixNanos, draw: u64) -> Self {
        Self::waiting(period.mul_f64(fraction(draw)), 0, now)
    }

    fn waiting(time: Duration, failures: u32, now: UnixNanos) -> Self {
        Self { state: State::Waiting { since: now, until: now.plus(time) }, failures }
    }

    /// True if it is time to connect. Of a wait that began in the future, before the clock stepped
    /// back, nothing is known but that it is long enough.
    pub fn is_due(&self, now: UnixNanos) -> bool {
        matches!(self.state, State::Waiting { since, until } if now >= until || since > now)
    }

    /// The number of the stream that is open.
    pub fn token(&self) -> Option<u32> {
        if let State::Open { token, .. } = self.state { Some(token) } else { None }
    }

    /// It was opened under this number, or refused by the host.
    pub fn opened(&mut self, token: Option<u32>, now: UnixNanos, draw: u64) {
        match token {
            Some(token) => self.state = State::Open { token, heard_at: now },
            None => self.failed(now, draw),
        }
    }

    /// A message came that is one.
    pub fn heard(&mut self, now: UnixNanos) {
        if let State::Open { heard_at, .. } = &mut self.state {
            *heard_at = now;
            self.failures = 0;
        }
    }

    /// The stream ended with this gRPC status. Answers whether that was for good.
    pub fn closed(&mut self, status: u32, now: UnixNanos, draw: u64) -> bool {
        let for_good = status == UNIMPLEMENTED;
        if for_good {
            self.state = State::Unwanted;
        } else {
            self.failed(now, draw);
        }
        for_good
    }

    /// Something was wrong with it: it is opened again after a while.
    pub fn failed(&mut self, now: UnixNanos, draw: u64) {
        let doubled = SHORTEST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let most = doubled.min(LONGEST);
        let time = most.mul_f64(0.5 + 0.5 * fraction(draw)).max(SHORTEST);
        *self = Self::waiting(time, self.failures.saturating_add(1).min(31), now);
    }

    /// True if it is open and has been silent for too long.
    pub fn is_dead(&mut self, period: Duration, now: UnixNanos) -> bool {
        let State::Open { heard_at, .. } = &mut self.state else { return false };
        // A moment in the future was before the clock stepped back: the silence counts from here.
        *heard_at = (*heard_at).min(now);
        now.since(*heard_at) > period.saturating_mul(PATIENCE)
    }
}

/// The request: an `OrcaLoadReportRequest` with its `report_interval`.
pub fn request(period: Duration) -> Vec<u8> {
    let mut span = Vec::new();
    for (tag, value) in [(0x08, period.as_secs()), (0x10, u64::from(period.subsec_nanos()))] {
        if value > 0 {
            span.push(tag);
            varint(value, &mut span);
        }
    }
    let mut message = vec![0x0a];
    varint(span.len() as u64, &mut message);
    message.extend_from_slice(&span);
    message
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// From 0 to below 1.
fn fraction(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PERIOD: Duration = Duration::from_secs(10);
    const UNAVAILABLE: u32 = 14;

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    fn open() -> Stream {
        let mut stream = Stream::new(PERIOD, at(100), 0);
        stream.opened(Some(7), at(100), 0);
        stream
    }

    #[test]
    fn the_first_connection_lies_within_a_period() {
        assert!(Stream::new(PERIOD, at(100), 0).is_due(at(100)));
        let late = Stream::new(PERIOD, at(100), u64::MAX);
        assert!(!late.is_due(at(109)) && late.is_due(at(110)));
        assert!(late.is_due(at(50)), "the clock stepped back");
    }

    #[test]
    fn the_back_off_doubles_to_thirty_seconds_and_ends_with_a_message() {
        let mut stream = open();
        let mut waits = Vec::new();
        for _ in 0..8 {
            assert!(!stream.closed(UNAVAILABLE, at(1000), u64::MAX));
            waits.push((0..60).find(|secs| stream.is_due(at(1000 + secs))).unwrap());
            stream.opened(Some(8), at(1000), 0);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        stream.heard(at(1000));
        stream.closed(UNAVAILABLE, at(1000), u64::MAX);
        assert!(stream.is_due(at(1001)));
    }

    #[test]
    fn a_server_without_the_service_is_not_asked_again() {
        let mut stream = open();
        assert!(stream.closed(UNIMPLEMENTED, at(101), 0));
        assert!(!stream.is_due(at(1_000_000)));
        assert_eq!(stream.token(), None);
    }

    #[test]
    fn three_periods_of_silence_are_the_end() {
        let mut stream = open();
        assert!(!stream.is_dead(PERIOD, at(130)));
        stream.heard(at(125));
        assert!(!stream.is_dead(PERIOD, at(155)) && stream.is_dead(PERIOD, at(156)));
        assert!(!stream.is_dead(PERIOD, at(50)), "the clock stepped back");
        assert!(stream.is_dead(PERIOD, at(81)));
    }

    #[test]
    fn a_host_that_refuses_is_asked_again_later() {
        let mut stream = Stream::new(PERIOD, at(100), 0);
        stream.opened(None, at(100), 0);
        assert!(!stream.is_due(at(100)) && stream.is_due(at(101)));
    }

    #[test]
    fn the_request_is_a_message_with_a_duration() {
        assert_eq!(request(PERIOD), [0x0a, 2, 0x08, 10]);
        let half = request(Duration::from_millis(500));
        assert_eq!(half, [0x0a, 6, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01]);
        assert_eq!(request(Duration::from_secs(300)), [0x0a, 3, 0x08, 0xac, 0x02]);
    }

    proptest! {
        #[test]
        fn whatever_happens_no_stream_waits_or_is_silent_for_ever(
            steps in proptest::collection::vec((0u8..5, any::<u64>(), 0u64..100_000), 0..40)
        ) {
            let mut stream = Stream::new(PERIOD, at(100), 0);
            let mut now = at(100);
            for (step, draw, millis) in steps {
                now = UnixNanos::from_millis(100_000 + millis);
                match step {
                    0 => stream.opened(Some(1), now, draw),
                    1 => stream.opened(None, now, draw),
                    2 => stream.heard(now),
                    3 => { stream.closed(UNAVAILABLE, now, draw); }
                    _ => { if stream.is_dead(PERIOD, now) { stream.failed(now, draw); } }
                }
            }
            // The clock went back by a hundred seconds at the most.
            let later = now.plus(Duration::from_secs(100 + 31));
            prop_assert!(stream.is_due(later) || stream.is_dead(PERIOD, later));
        }
    }
}
