//! The state of one breaker: circuit-breaker writes it, whoever picks endpoints reads it.
//!
//! One record a breaker, changed by compare-and-swap only, and every change of state increments
//! `epoch`: among all workers exactly one makes a given transition. The record holds what the state
//! machine of circuit-breaker needs and no configuration, but for what a reader must not guess: how
//! many half-open permits there are, when a ramp ends, and how the window is divided. So a worker that
//! still runs the configuration before the last, and a reader that knows none, understand it.

mod window;

pub use window::{
    BreakerWindow, CountWindow, MAX_COUNT_WINDOW, TimeWindow, WINDOW_BUCKETS, WindowBucket,
};

use crate::{CLOCK_TOLERANCE, DecodeError, Key, Reader, Record, UnixNanos, Writer};

/// Most half-open permits of one breaker.
pub const MAX_PERMITS: u16 = 32;

/// Scope under which circuit-breaker keeps the breakers of endpoints unless it is named otherwise.
pub const DEFAULT_ENDPOINT_SCOPE: &str = "endpoint";

/// A breaker's state. Open means rejecting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Requests pass and are counted.
    #[default]
    Closed,
    /// No request passes.
    Open,
    /// Requests with a permit pass, and decide what comes next.
    HalfOpen,
    /// A growing share of requests passes, and all that pass are counted.
    Ramping,
}

impl BreakerState {
    /// The name in logs and documentation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "Closed",
            Self::Open => "Open",
            Self::HalfOpen => "HalfOpen",
            Self::Ramping => "Ramping",
        }
    }

    /// The name as a label of metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Ramping => "ramping",
        }
    }
}

/// The right to send one request through a half-open breaker, until a moment in the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermitLease {
    /// Number within the epoch.
    pub id: u32,
    /// When it is taken for lost.
    pub expires_at: UnixNanos,
}

/// How far a half-open breaker has come. `left`, the leases, `succeeded` and `failed` add up to
/// `total`, so it cannot stick: each permit is free, leased or resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HalfOpenProgress {
    /// Permits that decide.
    pub total: u16,
    /// Permits nobody holds yet.
    pub left: u16,
    /// Number of the next permit.
    pub next_id: u32,
    /// Permits whose request was a success.
    pub succeeded: u16,
    /// Permits whose request was a failure.
    pub failed: u16,
    /// Permits whose request was slow, be it a success or a failure.
    pub slow: u16,
    /// Permits somebody holds.
    pub leases: Vec<PermitLease>,
}

impl HalfOpenProgress {
    fn adds_up(&self) -> bool {
        let parts = [self.left, self.succeeded, self.failed];
        let sum: usize = parts.iter().map(|part| usize::from(*part)).sum();
        self.total <= MAX_PERMITS
            && sum + self.leases.len() == usize::from(self.total)
            && self.slow <= self.succeeded.saturating_add(self.failed)
    }
}

/// The one record of a breaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BreakerRecord {
    /// Counts changes of state.
    pub epoch: u32,
    /// The state as of the last change; see [`BreakerRecord::state_at`] for the state now.
    pub state: BreakerState,
    /// When the state last changed.
    pub changed_at: UnixNanos,
    /// When an open breaker becomes half-open; without meaning in other states.
    pub open_until: UnixNanos,
    /// When a ramping breaker is closed; without meaning in other states.
    pub ramp_until: UnixNanos,
    /// A request that was sent earlier does not count.
    pub counted_from: UnixNanos,
    /// Before this moment an endpoint has asked not to be called again (`Retry-After`).
    pub not_before: UnixNanos,
    /// When it was last written.
    pub written_at: UnixNanos,
    /// Keyed hash of what it is the breaker of, where several keys share a place; 0 elsewhere.
    pub owner: u64,
    /// Trips that the back-off remembers: it grows with each and decays on evidence.
    pub trips: u32,
    /// Failures since the last success, while requests are counted.
    pub consecutive_failures: u32,
    /// Of a gateway's kind (502, 503, 504), since something else came.
    pub consecutive_gateway_failures: u32,
    /// Made by the proxy itself (refused, reset, timed out), since the endpoint last answered.
    pub consecutive_local_origin_failures: u32,
    /// How bad it was when it opened: the share of failures or slow calls, in thousandths.
    pub severity: u16,
    /// Since when evidence for the decay of `trips` is gathered.
    pub decay_from: UnixNanos,
    /// Successes since then.
    pub decay_successes: u32,
    /// Permits, while half-open.
    pub half_open: HalfOpenProgress,
    /// Outcomes, while closed.
    pub window: BreakerWindow,
}

impl BreakerRecord {
    /// Where the breaker of `scope` for `parts` is kept: cluster and endpoint, or the route.
    pub fn key(scope: &str, parts: &[&str]) -> Key<Self> {
        let mut all = Vec::with_capacity(parts.len() + 1);
        all.push(scope);
        all.extend_from_slice(parts);
        Key::new("breaker", &all)
    }

    /// The state now. An open breaker whose time is over is half-open, and a ramping one closed,
    /// though nobody has written that down yet; so is one whose time began before the clock stepped
    /// back, for its end might never come.
    pub fn state_at(&self, now: UnixNanos) -> BreakerState {
        let (until, next) = match self.state {
            BreakerState::Open => (self.open_until, BreakerState::HalfOpen),
            BreakerState::Ramping => (self.ramp_until, BreakerState::Closed),
            BreakerState::Closed | BreakerState::HalfOpen => return self.state,
        };
        let longest = until.since(self.changed_at).saturating_add(CLOCK_TOLERANCE);
        let is_over = until <= now || until.is_stale_deadline(now, longest);
        if is_over { next } else { self.state }
    }

    /// True if a request sent now would not pass: the breaker is open, or every permit is taken.
    /// A permit whose lease has run out may be free or may have decided, so it does not reject; nor
    /// does one granted before the clock stepped back, whose lease ends nobody knows when.
    pub fn rejects(&self, now: UnixNanos) -> bool {
        match self.state_at(now) {
            BreakerState::Closed | BreakerState::Ramping => false,
            BreakerState::Open => true,
            BreakerState::HalfOpen if self.state == BreakerState::HalfOpen => {
                let leases = &self.half_open.leases;
                self.half_open.left == 0
                    && !self.changed_at.is_stale_deadline(now, CLOCK_TOLERANCE)
                    && leases.iter().all(|lease| lease.expires_at > now)
            }
            BreakerState::HalfOpen => false,
        }
    }
}

impl Record for BreakerRecord {
    const TAG: u8 = 7;

    fn write(&self, out: &mut Writer) {
        out.u32(self.epoch);
        out.u8(match self.state {
            BreakerState::Closed => 0,
            BreakerState::Open => 1,
            BreakerState::HalfOpen => 2,
            BreakerState::Ramping => 3,
        });
        for time in [
            self.changed_at,
            self.open_until,
            self.ramp_until,
            self.counted_from,
            self.not_before,
            self.written_at,
            self.decay_from,
        ] {
            out.u64(time.as_nanos());
        }
        out.u64(self.owner);
        for count in [
            self.trips,
            self.consecutive_failures,
            self.consecutive_gateway_failures,
            self.consecutive_local_origin_failures,
            self.decay_successes,
        ] {
            out.u32(count);
        }
        out.u16(self.severity);
        let HalfOpenProgress { total, left, next_id, succeeded, failed, slow, leases } =
            &self.half_open;
        for count in [total, left, succeeded, failed, slow] {
            out.u16(*count);
        }
        out.u32(*next_id);
        out.list(leases, MAX_PERMITS, |out, lease| {
            out.u32(lease.id);
            out.u64(lease.expires_at.as_nanos());
        });
        self.window.write(out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let epoch = input.u32()?;
        let state = match input.u8()? {
            0 => BreakerState::Closed,
            1 => BreakerState::Open,
            2 => BreakerState::HalfOpen,
            3 => BreakerState::Ramping,
            _ => return Err(DecodeError::Field),
        };
        let mut time = || input.u64().map(UnixNanos::from_nanos);
        let (changed_at, open_until, ramp_until) = (time()?, time()?, time()?);
        let (counted_from, not_before) = (time()?, time()?);
        let (written_at, decay_from) = (time()?, time()?);
        let owner = input.u64()?;
        let mut count = || input.u32();
        let (trips, consecutive_failures) = (count()?, count()?);
        let (consecutive_gateway_failures, consecutive_local_origin_failures) =
            (count()?, count()?);
        let decay_successes = count()?;
        let severity = input.u16()?;
        let half_open = read_half_open(input)?;
        if !half_open.adds_up() || (state == BreakerState::HalfOpen) != (half_open.total > 0) {
            return Err(DecodeError::Field);
        }
        Ok(Self {
            epoch,
            state,
            changed_at,
            open_until,
            ramp_until,
            counted_from,
            not_before,
            written_at,
            owner,
            trips,
            consecutive_failures,
            consecutive_gateway_failures,
            consecutive_local_origin_failures,
            severity,
            decay_from,
            decay_successes,
            half_open,
            window: BreakerWindow::read(input)?,
        })
    }
}

fn read_half_open(input: &mut Reader<'_>) -> Result<HalfOpenProgress, DecodeError> {
    Ok(HalfOpenProgress {
        total: input.u16()?,
        left: input.u16()?,
        succeeded: input.u16()?,
        failed: input.u16()?,
        slow: input.u16()?,
        next_id: input.u32()?,
        leases: input.list(MAX_PERMITS, |input| {
            Ok(PermitLease { id: input.u32()?, expires_at: UnixNanos::from_nanos(input.u64()?) })
        })?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};
    use core::time::Duration;
    use proptest::prelude::*;

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    fn open() -> BreakerRecord {
        BreakerRecord {
            epoch: 1,
            state: BreakerState::Open,
            changed_at: at(100),
            open_until: at(105),
            trips: 1,
            ..BreakerRecord::default()
        }
    }

    fn ramping() -> BreakerRecord {
        BreakerRecord { state: BreakerState::Ramping, ramp_until: at(130), ..open() }
    }

    fn half_open(left: u16, leases: &[u64]) -> BreakerRecord {
        let leases: Vec<_> = leases
            .iter()
            .zip(0..)
            .map(|(expires, id)| PermitLease { id, expires_at: at(*expires) })
            .collect();
        let taken = u16::try_from(leases.len()).unwrap();
        BreakerRecord {
            epoch: 2,
            state: BreakerState::HalfOpen,
            changed_at: at(105),
            half_open: HalfOpenProgress {
                total: left + taken,
                left,
                next_id: u32::from(taken),
                leases,
                ..HalfOpenProgress::default()
            },
            ..open()
        }
    }

    #[test]
    fn the_key_names_scope_cluster_and_endpoint() {
        let key = BreakerRecord::key(DEFAULT_ENDPOINT_SCOPE, &["backend", "127.0.0.1:80"]);
        assert_eq!(key.as_str(), "weir/2/breaker/endpoint/backend/127.0.0.1:80");
        assert_eq!(
            BreakerRecord::key("route", &["checkout"]).as_str(),
            "weir/2/breaker/route/checkout"
        );
    }

    #[test]
    fn a_record_in_each_state_survives_the_round_trip() {
        let mut buckets = [WindowBucket::default(); WINDOW_BUCKETS];
        buckets[4] = WindowBucket { succeeded: 7, failed: 9, slow: 16 };
        let width = Duration::from_secs(1);
        let closed = BreakerRecord {
            consecutive_failures: 3,
            window: BreakerWindow::Time(TimeWindow { width, newest: 1_700_000_000, buckets }),
            ..BreakerRecord::default()
        };
        for record in [closed, open(), ramping(), half_open(1, &[120, 121])] {
            assert_eq!(decode::<BreakerRecord>(&encode(&record)), Ok(record));
        }
    }

    #[test]
    fn an_open_breaker_is_half_open_when_its_time_is_over() {
        assert_eq!(open().state_at(at(104)), BreakerState::Open);
        assert_eq!(open().state_at(at(105)), BreakerState::HalfOpen);
        assert!(open().rejects(at(104)) && !open().rejects(at(105)));
    }

    #[test]
    fn a_breaker_opened_before_the_clock_stepped_back_does_not_wait_for_that_future() {
        assert_eq!(open().state_at(at(50)), BreakerState::HalfOpen);
        let moment_before = at(100).minus(Duration::from_millis(1));
        assert_eq!(open().state_at(moment_before), BreakerState::Open, "a worker's older now");
    }

    #[test]
    fn a_ramping_breaker_is_closed_when_its_time_is_over_or_began_in_a_future() {
        let states = [110, 130, 50].map(|secs| ramping().state_at(at(secs)));
        use BreakerState::{Closed, Ramping};
        assert_eq!(states, [Ramping, Closed, Closed]);
        assert!(!ramping().rejects(at(110)));
    }

    #[test]
    fn a_half_open_breaker_rejects_while_every_permit_is_held() {
        assert!(!half_open(1, &[115]).rejects(at(106)));
        assert!(half_open(0, &[115, 116]).rejects(at(106)));
        assert!(!half_open(0, &[115, 116]).rejects(at(115)), "a lease ran out");
    }

    #[test]
    fn permits_granted_before_the_clock_stepped_back_reject_nobody() {
        assert!(!half_open(0, &[115, 116]).rejects(at(50)));
        let moment_before = at(105).minus(Duration::from_millis(1));
        assert!(half_open(0, &[115, 116]).rejects(moment_before), "a worker's older now");
    }

    #[test]
    fn a_half_open_record_that_could_stick_does_not_decode() {
        let mut lost = half_open(1, &[115]);
        lost.half_open.total = 3;
        assert_eq!(decode::<BreakerRecord>(&encode(&lost)), Err(DecodeError::Field));
        let mut slower = half_open(1, &[115]);
        slower.half_open.slow = 1;
        assert_eq!(decode::<BreakerRecord>(&encode(&slower)), Err(DecodeError::Field));
        let none = half_open(0, &[]);
        assert_eq!(decode::<BreakerRecord>(&encode(&none)), Err(DecodeError::Field));
    }

    #[test]
    fn more_leases_than_there_are_permits_for_do_not_decode() {
        let many: Vec<u64> = (0..u64::from(MAX_PERMITS) + 1).collect();
        assert!(decode::<BreakerRecord>(&encode(&half_open(0, &many))).is_err());
    }

    /// Any bytes in a frame that passes every outer check.
    struct Body(Vec<u8>);

    impl Record for Body {
        const TAG: u8 = BreakerRecord::TAG;

        fn write(&self, out: &mut Writer) {
            out.raw(&self.0);
        }

        fn read(_input: &mut Reader<'_>) -> Result<Self, DecodeError> {
            Err(DecodeError::Field)
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = encode(&Body(body));
            if let Ok(record) = decode::<BreakerRecord>(&bytes) {
                prop_assert_eq!(decode::<BreakerRecord>(&encode(&record)), Ok(record));
            }
        }

        #[test]
        fn no_time_panics(now in any::<u64>(), changed in any::<u64>(), until in any::<u64>()) {
            let record = BreakerRecord {
                changed_at: UnixNanos::from_nanos(changed),
                open_until: UnixNanos::from_nanos(until),
                ..open()
            };
            let now = UnixNanos::from_nanos(now);
            prop_assert_eq!(record.rejects(now), record.state_at(now) == BreakerState::Open);
        }
    }
}
