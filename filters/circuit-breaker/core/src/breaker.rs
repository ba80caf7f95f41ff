//! The state machine of one breaker, as two pure functions over its shared record.
//!
//! ```text
//!        failure rate, slow calls, failures in a row, an outlier among its peers
//!   Closed ------------------------------------------> Open <----+----------------+
//!     ^                                                 |        | probes failed  | as Closed
//!     |                                                 | first request           |
//!     |  ramp over            probes succeeded          v after the open time     |
//!     +------------- Ramping <---------------------- HalfOpen                     |
//!     |                 +---------------------------------------------------------+
//!     +------------------------- (without a ramp) ------+
//! ```
//!
//! - [`admit`] asks whether a request may pass, and [`record`] tells what became of requests. Both
//!   are run by [`shared_state::update()`], so each change of state is one compare-and-swap that
//!   increments the epoch: among all workers one makes it, and is told so by [`Change`].
//! - Open becomes HalfOpen lazily, with the first request that comes, as in resilience4j: a timer
//!   would open the gate of a cluster that has no traffic.
//! - Half-open, a fixed number of requests pass and decide, as soon as the remaining ones cannot
//!   change the outcome. Each holds a permit that is a lease: one whose request was lost (worker
//!   gone, callback never called) runs out and is resolved, so HalfOpen cannot stick, as it did in
//!   resilience4j (#903, #935, #2289) and Hystrix.
//! - A result counts only in the state that its request was sent in. One that is late, from before
//!   the last change, proves nothing about what came after, and never decides.
//! - The back-off grows with each trip, and decays on evidence only: after an interval in which
//!   enough requests succeeded, not by mere time as Envoy's outlier detection does (#21142).
//! - Ramping, a growing share of requests passes by draw ([`Ramp`](crate::Ramp)) and whatever passes is counted,
//!   so a server that cannot bear its load opens the breaker again before all of it has come.

mod alike;
mod rules;

use crate::change::{Change, Reason};
use crate::window::{self, Sums};
use core::time::Duration;
pub use rules::{LeaseExpiry, Rules, SlowCalls};
use shared_state::{
    BreakerRecord, BreakerState, BreakerWindow, CLOCK_TOLERANCE, HalfOpenProgress, PermitLease,
    Transition, UnixNanos,
};

/// Longest wait that a rejection by a half-open or ramping breaker names: another request may pass.
const SHORT_RETRY: Duration = Duration::from_secs(1);

/// The right to send one request through a half-open breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Epoch that it belongs to.
    pub epoch: u32,
    /// Number within the epoch.
    pub id: u32,
}

/// Whether a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Allow,
    /// It may, as a probe. Its outcome must come with the permit.
    Probe(Permit),
    /// It may not, and not before this time has passed.
    Reject {
        /// Time until it is worth another try.
        retry_after: Duration,
    },
}

/// What a request proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// The breaker's subject works.
    Success,
    /// It does not.
    Failure,
    /// It does not, and said so as a gateway does: 502, 503 or 504.
    Gateway,
    /// It did not answer, or not to the end: the proxy noticed.
    Local,
    /// It is asked for too much. Counts in rates, and not in a row.
    Shed,
    /// Nothing: the client left, or something else answered.
    #[default]
    Ignored,
}

impl Verdict {
    /// True if the failure rate counts it.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failure | Self::Gateway | Self::Local | Self::Shed)
    }
}

/// What became of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// When the request was let pass.
    pub started_at: UnixNanos,
    /// The permit it passed with.
    pub permit: Option<Permit>,
    /// What it proved.
    pub verdict: Verdict,
    /// It took longer than a call should. One whose client left while it did is slow, too.
    pub slow: bool,
    /// How long the endpoint asked not to be called.
    pub retry_after: Option<Duration>,
}

impl Outcome {
    /// Neither slow nor a word on when to come again.
    pub const fn new(started_at: UnixNanos, permit: Option<Permit>, verdict: Verdict) -> Self {
        Self { started_at, permit, verdict, slow: false, retry_after: None }
    }

    /// True if it changes nothing.
    pub(crate) fn says_nothing(&self) -> bool {
        let unheard = !self.slow && self.retry_after.is_none() && self.permit.is_none();
        self.verdict == Verdict::Ignored && unheard
    }
}

/// How permits were resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PermitTally {
    /// By a success.
    pub succeeded: u32,
    /// By a failure.
    pub failed: u32,
    /// Given back, for their request proved nothing.
    pub returned: u32,
    /// By running out.
    pub expired: u32,
}

/// An answer of the state machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Step<T> {
    /// The answer.
    pub value: T,
    /// The change of state that this step makes, if it is the one that is stored.
    pub change: Option<Change>,
    /// Permits that this step resolves.
    pub permits: PermitTally,
    /// The record as it is from now on.
    pub record: BreakerRecord,
}

/// Whether a request may pass at `now`. `draw` is one uniform number.
pub fn admit(
    rules: &Rules,
    prior: Option<BreakerRecord>,
    now: UnixNanos,
    draw: u64,
) -> Transition<BreakerRecord, Step<Admission>> {
    admitted(Machine::new(rules, prior.unwrap_or_default(), now, draw), false)
}

/// As [`admit`], of an endpoint that cannot be spared: if its breaker is open it becomes half-open
/// before its time.
pub(crate) fn admit_needed(
    rules: &Rules,
    prior: Option<BreakerRecord>,
    now: UnixNanos,
    draw: u64,
) -> Transition<BreakerRecord, Step<Admission>> {
    admitted(Machine::new(rules, prior.unwrap_or_default(), now, draw), true)
}

fn admitted(
    mut machine: Machine<'_>,
    is_needed: bool,
) -> Transition<BreakerRecord, Step<Admission>> {
    machine.reap();
    machine.pass_time();
    let (rules, now, draw) = (machine.rules, machine.now, machine.draw);
    // One step makes one change: what has just opened is asked the next time.
    if is_needed && machine.record.state == BreakerState::Open && machine.change.is_none() {
        machine.begin_half_open(Reason::Needed);
    }
    let admission = match machine.record.state {
        BreakerState::Closed => Admission::Allow,
        BreakerState::Open => {
            Admission::Reject { retry_after: machine.record.open_until.since(now) }
        }
        BreakerState::HalfOpen => machine.grant(),
        BreakerState::Ramping => ramping(rules, &machine.record, now, draw),
    };
    machine.finish(admission)
}

/// Whether a ramping breaker lets one request pass. Needs no write, so a worker may ask it of what
/// it last read.
pub(crate) fn ramping(
    rules: &Rules,
    record: &BreakerRecord,
    now: UnixNanos,
    draw: u64,
) -> Admission {
    if rules.ramp.admits(now.since(record.changed_at), draw) {
        Admission::Allow
    } else {
        Admission::Reject { retry_after: SHORT_RETRY }
    }
}

/// Opens the breaker of an endpoint that succeeds in less than `threshold` percent, which is too
/// little beside its peers; unless it does better by now, or does not count requests.
pub(crate) fn outlier(
    rules: &Rules,
    prior: Option<BreakerRecord>,
    threshold: f64,
    now: UnixNanos,
    draw: u64,
) -> Transition<BreakerRecord, Step<()>> {
    let mut machine = Machine::new(rules, prior.unwrap_or_default(), now, draw);
    let sums = window::sums_at(&machine.record.window, rules.window, now);
    let percent = 100.0 - sums.failure_rate();
    let counts = matches!(machine.record.state_at(now), BreakerState::Closed);
    if counts && sums.total > 0 && percent < threshold {
        machine.open(Reason::Outlier { percent, threshold });
    }
    machine.finish(())
}

/// Records what became of requests, in the order of their ends. `draw` is one uniform number.
pub fn record(
    rules: &Rules,
    prior: Option<BreakerRecord>,
    outcomes: &[Outcome],
    now: UnixNanos,
    draw: u64,
) -> Transition<BreakerRecord, Step<()>> {
    let mut machine = Machine::new(rules, prior.unwrap_or_default(), now, draw);
    machine.reap();
    let mut left = outcomes;
    // Whatever follows a change was sent before it.
    while let (Some((first, later)), None) = (left.split_first(), &machine.change) {
        machine.take(first);
        left = machine.take_like(first, later);
    }
    // After the outcomes, for one step makes one change: a ramp whose time is over opens as one
    // whose time is not.
    if machine.change.is_none() && machine.record.state == BreakerState::Ramping {
        machine.pass_time();
    }
    machine.finish(())
}

struct Machine<'a> {
    rules: &'a Rules,
    record: BreakerRecord,
    now: UnixNanos,
    draw: u64,
    dirty: bool,
    change: Option<Change>,
    permits: PermitTally,
}

impl<'a> Machine<'a> {
    fn new(rules: &'a Rules, record: BreakerRecord, now: UnixNanos, draw: u64) -> Self {
        let permits = PermitTally::default();
        Self { rules, record, now, draw, dirty: false, change: None, permits }
    }

    fn finish<T>(self, value: T) -> Transition<BreakerRecord, Step<T>> {
        let Self { mut record, dirty, change, permits, now, .. } = self;
        if dirty {
            record.written_at = now;
            let step = Step { value, change, permits, record: record.clone() };
            Transition::Store(record, step)
        } else {
            Transition::Keep(Step { value, change, permits, record })
        }
    }

    /// Resolves permits whose lease ran out. One that ends further ahead than a lease is long was
    /// granted before the clock stepped back: it says nothing, and is free again.
    fn reap(&mut self) {
        if self.record.state != BreakerState::HalfOpen {
            return;
        }
        let longest = self.rules.permit_lease.saturating_add(CLOCK_TOLERANCE);
        let (mut expired, mut stale) = (0u16, 0u16);
        self.record.half_open.leases.retain(|lease| {
            let is_over = lease.expires_at <= self.now;
            let is_stale = lease.expires_at.is_stale_deadline(self.now, longest);
            expired += u16::from(is_over);
            stale += u16::from(is_stale);
            !is_over && !is_stale
        });
        let progress = &mut self.record.half_open;
        match self.rules.on_lease_expiry {
            LeaseExpiry::Failure => progress.failed = progress.failed.saturating_add(expired),
            LeaseExpiry::Ignored => progress.left = progress.left.saturating_add(expired),
        }
        progress.left = progress.left.saturating_add(stale);
        self.permits.expired += u32::from(expired);
        self.permits.returned += u32::from(stale);
        self.dirty |= expired > 0 || stale > 0;
        self.decide_half_open();
    }

    /// Leaves a state whose time is over.
    fn pass_time(&mut self) {
        let next = self.record.state_at(self.now);
        match (self.record.state, next) {
            (BreakerState::Open, BreakerState::HalfOpen) if self.change.is_none() => {
                self.begin_half_open(Reason::OpenTimeOver);
            }
            (BreakerState::Ramping, BreakerState::Closed) => self.end_ramp(),
            _ => {}
        }
    }

    fn begin_half_open(&mut self, reason: Reason) {
        let total = self.rules.permitted_calls.max(1);
        self.enter(BreakerState::HalfOpen, reason);
        self.record.half_open =
            HalfOpenProgress { total, left: total, ..HalfOpenProgress::default() };
    }

    fn grant(&mut self) -> Admission {
        let progress = &mut self.record.half_open;
        let under_way = u16::try_from(progress.leases.len()).unwrap_or(u16::MAX);
        let is_first = self.rules.one_at_first && progress.succeeded == 0;
        let most = if is_first { 1 } else { self.rules.max_concurrent.max(1) };
        if progress.left == 0 || under_way >= most {
            let next_lease = progress.leases.iter().map(|lease| lease.expires_at.since(self.now));
            let retry_after = next_lease.min().unwrap_or(SHORT_RETRY).min(SHORT_RETRY);
            return Admission::Reject { retry_after };
        }
        let permit = Permit { epoch: self.record.epoch, id: progress.next_id };
        let expires_at = self.now.plus(self.rules.permit_lease);
        progress.left -= 1;
        progress.next_id = progress.next_id.wrapping_add(1);
        progress.leases.push(PermitLease { id: permit.id, expires_at });
        self.dirty = true;
        Admission::Probe(permit)
    }

    fn take(&mut self, outcome: &Outcome) {
        let counts = matches!(self.record.state, BreakerState::Closed | BreakerState::Ramping);
        match outcome.permit {
            Some(permit) if self.record.state == BreakerState::HalfOpen => {
                self.resolve(permit, outcome);
            }
            None if counts && !self.is_late(outcome) => self.count(outcome),
            // Half-open, only permits decide; open, nothing does; and a permit of an earlier epoch
            // has been resolved without its result.
            _ => {}
        }
    }

    /// True for a request from before requests were counted. A moment in the future was written
    /// before the clock stepped back, and makes nothing late; unless another worker wrote it just
    /// now.
    fn is_late(&self, outcome: &Outcome) -> bool {
        let from = self.record.counted_from;
        outcome.started_at < from && !from.is_stale_deadline(self.now, CLOCK_TOLERANCE)
    }

    /// Remembers how long the endpoint asked not to be called.
    fn heed(&mut self, outcome: &Outcome) {
        let wait = outcome.retry_after.filter(|_| self.rules.respect_retry_after);
        let Some(wait) = wait else { return };
        let not_before = self.now.plus(wait.min(self.rules.backoff.max));
        if not_before > self.record.not_before || self.least_open_time().is_zero() {
            self.record.not_before = not_before;
            self.dirty = true;
        }
    }

    /// How long an endpoint still asked not to be called. What lies further ahead than the longest
    /// open time was written before the clock stepped back.
    fn least_open_time(&self) -> Duration {
        let (asked, max) = (self.record.not_before, self.rules.backoff.max);
        let is_stale = asked.is_stale_deadline(self.now, max.saturating_add(CLOCK_TOLERANCE));
        if is_stale { Duration::ZERO } else { asked.since(self.now).min(max) }
    }

    fn resolve(&mut self, permit: Permit, outcome: &Outcome) {
        if permit.epoch != self.record.epoch {
            return;
        }
        let progress = &mut self.record.half_open;
        let Some(at) = progress.leases.iter().position(|lease| lease.id == permit.id) else {
            return;
        };
        progress.leases.swap_remove(at);
        let proves_nothing = outcome.verdict == Verdict::Ignored && !outcome.slow;
        let (counter, tally) = if proves_nothing {
            (&mut progress.left, &mut self.permits.returned)
        } else if outcome.verdict.is_failure() {
            (&mut progress.failed, &mut self.permits.failed)
        } else {
            (&mut progress.succeeded, &mut self.permits.succeeded)
        };
        *counter = counter.saturating_add(1);
        *tally += 1;
        progress.slow = progress.slow.saturating_add(u16::from(outcome.slow));
        self.dirty = true;
        self.heed(outcome);
        self.decide_half_open();
    }

    /// Leaves HalfOpen as soon as the permits that are not resolved yet cannot change the outcome.
    fn decide_half_open(&mut self) {
        let HalfOpenProgress { total, succeeded, failed, slow, .. } = self.record.half_open;
        let rules = self.rules;
        let reaches =
            |part: u16, threshold: f64| f64::from(part) * 100.0 >= threshold * f64::from(total);
        let fails = |failed: u16| reaches(failed, rules.failure_rate_threshold);
        let drags =
            |slow: u16| rules.slow_calls.is_some_and(|calls| reaches(slow, calls.rate_threshold));
        let open = total.saturating_sub(succeeded).saturating_sub(failed);
        if fails(failed) {
            self.open(Reason::ProbesFailed { failed, of: total });
        } else if drags(slow) {
            self.open(Reason::ProbesSlow { slow, of: total });
        } else if total > 0 && !fails(failed + open) && !drags(slow.saturating_add(open)) {
            self.recover(Reason::ProbesSucceeded { succeeded, of: total });
        }
    }

    fn count(&mut self, outcome: &Outcome) {
        self.heed(outcome);
        let verdict = outcome.verdict;
        if verdict == Verdict::Ignored && !outcome.slow {
            return;
        }
        self.dirty = true;
        let (failed, window) = (verdict.is_failure(), self.rules.window);
        window::count(&mut self.record.window, window, self.now, failed, outcome.slow);
        self.count_in_a_row(verdict);
        if verdict == Verdict::Success {
            self.decay();
        }
        if let Some(reason) = self.reason_to_trip() {
            self.open(reason);
        }
    }

    fn count_in_a_row(&mut self, verdict: Verdict) {
        let splits = self.rules.local_origin_failures.is_some();
        let record = &mut self.record;
        let grow = |run: &mut u32| *run = run.saturating_add(1);
        match verdict {
            Verdict::Ignored | Verdict::Shed => return,
            Verdict::Success => record.consecutive_failures = 0,
            // As in Envoy, it says nothing of what the endpoint would have answered.
            Verdict::Local if splits => {
                grow(&mut record.consecutive_local_origin_failures);
                return;
            }
            Verdict::Failure | Verdict::Gateway | Verdict::Local => {
                grow(&mut record.consecutive_failures);
            }
        }
        // Without the split, what the proxy made itself is the 503 or 504 that the client sees.
        match verdict {
            Verdict::Gateway | Verdict::Local => grow(&mut record.consecutive_gateway_failures),
            _ => record.consecutive_gateway_failures = 0,
        }
        record.consecutive_local_origin_failures = 0;
    }

    /// Forgets one trip when the interval is over and enough requests succeeded since it began.
    fn decay(&mut self) {
        let record = &mut self.record;
        if record.trips == 0 {
            return;
        }
        record.decay_successes = record.decay_successes.saturating_add(1);
        if record.decay_from > self.now.plus(CLOCK_TOLERANCE) {
            record.decay_from = self.now;
        }
        let is_over = self.now.since(record.decay_from) >= self.rules.decay_interval;
        if is_over && record.decay_successes >= self.rules.minimum_number_of_calls {
            record.trips -= 1;
            record.decay_from = self.now;
            record.decay_successes = 0;
        }
    }

    fn reason_to_trip(&self) -> Option<Reason> {
        let (record, rules) = (&self.record, self.rules);
        let reached = |run: u32, limit: u32| (limit > 0 && run >= limit).then_some(run);
        let local = rules.local_origin_failures.unwrap_or(0);
        let in_a_row = reached(record.consecutive_failures, rules.consecutive_failures)
            .map(Reason::ConsecutiveFailures);
        let in_a_row = in_a_row.or_else(|| {
            reached(record.consecutive_gateway_failures, rules.consecutive_gateway_failures)
                .map(Reason::ConsecutiveGatewayFailures)
        });
        let in_a_row = in_a_row.or_else(|| {
            reached(record.consecutive_local_origin_failures, local)
                .map(Reason::ConsecutiveLocalOriginFailures)
        });
        in_a_row.or_else(|| self.rate_to_trip())
    }

    fn rate_to_trip(&self) -> Option<Reason> {
        let sums: Sums = window::sums(&self.record.window);
        if sums.total < u64::from(self.rules.minimum_number_of_calls) {
            return None;
        }
        let (calls, rate) = (sums.total, sums.failure_rate());
        if sums.failed > 0 && rate >= self.rules.failure_rate_threshold {
            return Some(Reason::FailureRate { percent: rate, calls });
        }
        let percent = sums.slow_rate();
        let slow = self.rules.slow_calls.filter(|slow| percent >= slow.rate_threshold);
        slow.filter(|_| sums.slow > 0).map(|_| Reason::SlowCallRate { percent, calls })
    }

    fn open(&mut self, reason: Reason) {
        self.record.trips = self.record.trips.saturating_add(1);
        let drawn = self.rules.backoff.open_time(self.record.trips, self.draw);
        let open_time = drawn.max(self.least_open_time());
        let percent = match reason {
            Reason::FailureRate { percent, .. } | Reason::SlowCallRate { percent, .. } => percent,
            Reason::Outlier { percent, .. } => 100.0 - percent,
            _ => 100.0,
        };
        self.enter(BreakerState::Open, reason);
        // A cast of a float saturates.
        self.record.severity = (percent * 10.0) as u16;
        self.record.open_until = self.now.plus(open_time);
        if let Some(change) = &mut self.change {
            change.time = Some(open_time);
        }
    }

    /// The way back after the probes: all at once, or along the ramp.
    fn recover(&mut self, reason: Reason) {
        let window = self.rules.ramp.window;
        let to = if window.is_zero() { BreakerState::Closed } else { BreakerState::Ramping };
        self.enter(to, reason);
        self.record.ramp_until = self.now.plus(window);
        self.record.counted_from = self.now;
        self.record.decay_from = self.now;
        self.record.decay_successes = 0;
        if let (BreakerState::Ramping, Some(change)) = (to, &mut self.change) {
            change.time = Some(window);
        }
    }

    /// From here on all requests pass. Those that passed before were as good a proof, so what was
    /// counted stays.
    fn end_ramp(&mut self) {
        let record = &mut self.record;
        record.state = BreakerState::Closed;
        record.epoch = record.epoch.wrapping_add(1);
        record.changed_at = self.now;
        self.change = Some(Change {
            epoch: record.epoch,
            from: BreakerState::Ramping,
            to: BreakerState::Closed,
            reason: Reason::RampOver,
            time: None,
        });
        self.dirty = true;
    }

    /// Changes the state. Nothing that was counted in one state is carried into the next.
    fn enter(&mut self, to: BreakerState, reason: Reason) {
        let from = self.record.state;
        self.record.state = to;
        self.record.epoch = self.record.epoch.wrapping_add(1);
        self.record.changed_at = self.now;
        self.record.consecutive_failures = 0;
        self.record.consecutive_gateway_failures = 0;
        self.record.consecutive_local_origin_failures = 0;
        self.record.window = BreakerWindow::default();
        self.record.half_open = HalfOpenProgress::default();
        self.change = Some(Change { epoch: self.record.epoch, from, to, reason, time: None });
        self.dirty = true;
    }
}

#[cfg(test)]
mod tests;
