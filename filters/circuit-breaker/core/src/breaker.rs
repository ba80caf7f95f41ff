//! The state machine of one breaker, as two pure functions over its shared record.
//!
//! ```text
//!            failure rate, or consecutive failures
//!   Closed ------------------------------------------> Open <----+
//!     ^                                                 |        | failed probes
//!     |            probes succeeded                     | first request after the open time
//!     +------------------------------- HalfOpen <-------+--------+
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

use crate::backoff::Backoff;
use crate::change::{Change, Reason};
use crate::window::{self, Sums};
use core::time::Duration;
use shared_state::{
    BreakerRecord, BreakerState, BreakerWindow, CLOCK_TOLERANCE, HalfOpenProgress, PermitLease,
    Transition, UnixNanos,
};

/// Longest wait that a rejection by a half-open breaker names: probes are short.
const HALF_OPEN_RETRY: Duration = Duration::from_secs(1);

/// The rules of one breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Length of the window that the failure rate is taken over.
    pub window: Duration,
    /// Outcomes in the window below which the failure rate says nothing.
    pub minimum_number_of_calls: u32,
    /// Failure rate that trips, in percent, above 0 and at most 100.
    pub failure_rate_threshold: f64,
    /// Failures in a row that trip; 0 for never.
    pub consecutive_failures: u32,
    /// How long it stays open.
    pub backoff: Backoff,
    /// Least time after which one trip is forgotten by the back-off.
    pub decay_interval: Duration,
    /// Requests that decide, half-open: 1 to [`shared_state::MAX_PERMITS`].
    pub permitted_calls: u16,
    /// How many of them may be under way at once.
    pub max_concurrent: u16,
    /// When a permit is taken for lost.
    pub permit_lease: Duration,
    /// What a lost permit is.
    pub on_lease_expiry: LeaseExpiry,
}

/// What a permit is whose request never told its outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaseExpiry {
    /// A failure: a request that takes longer than its lease is no sign of health.
    #[default]
    Failure,
    /// Free again.
    Ignored,
}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The breaker's subject works.
    Success,
    /// It does not.
    Failure,
    /// Nothing: the client left, or something else answered.
    Ignored,
}

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// When the request was let pass.
    pub started_at: UnixNanos,
    /// The permit it passed with.
    pub permit: Option<Permit>,
    /// What it proved.
    pub verdict: Verdict,
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
    let mut machine = Machine::new(rules, prior.unwrap_or_default(), now, draw);
    machine.reap();
    if machine.change.is_none() && machine.due_for_half_open() {
        machine.begin_half_open();
    }
    let admission = match machine.record.state {
        BreakerState::Closed => Admission::Allow,
        BreakerState::Open => {
            Admission::Reject { retry_after: machine.record.open_until.since(now) }
        }
        BreakerState::HalfOpen => machine.grant(),
    };
    machine.finish(admission)
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
    for outcome in outcomes {
        // Whatever follows a change was sent before it.
        if machine.change.is_some() {
            break;
        }
        machine.take(outcome);
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
        let Self { record, dirty, change, permits, .. } = self;
        if dirty {
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

    fn due_for_half_open(&self) -> bool {
        self.record.state == BreakerState::Open
            && self.record.state_at(self.now) == BreakerState::HalfOpen
    }

    fn begin_half_open(&mut self) {
        let total = self.rules.permitted_calls.max(1);
        self.enter(BreakerState::HalfOpen, Reason::OpenTimeOver);
        self.record.half_open =
            HalfOpenProgress { total, left: total, ..HalfOpenProgress::default() };
    }

    fn grant(&mut self) -> Admission {
        let progress = &mut self.record.half_open;
        let under_way = u16::try_from(progress.leases.len()).unwrap_or(u16::MAX);
        if progress.left == 0 || under_way >= self.rules.max_concurrent.max(1) {
            let next_lease = progress.leases.iter().map(|lease| lease.expires_at.since(self.now));
            let retry_after = next_lease.min().unwrap_or(HALF_OPEN_RETRY).min(HALF_OPEN_RETRY);
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
        match (outcome.permit, self.record.state) {
            (Some(permit), BreakerState::HalfOpen) => self.resolve(permit, outcome.verdict),
            (None, BreakerState::Closed) if !self.is_late(outcome) => self.count(outcome.verdict),
            // Half-open, only permits decide; open, nothing does; and a permit of an earlier epoch
            // has been resolved without its result.
            _ => {}
        }
    }

    /// True for a request from before the last change. A change in the future was made before the
    /// clock stepped back, and makes nothing late; unless another worker made it just now.
    fn is_late(&self, outcome: &Outcome) -> bool {
        let changed_at = self.record.changed_at;
        outcome.started_at < changed_at && !changed_at.is_stale_deadline(self.now, CLOCK_TOLERANCE)
    }

    fn resolve(&mut self, permit: Permit, verdict: Verdict) {
        if permit.epoch != self.record.epoch {
            return;
        }
        let progress = &mut self.record.half_open;
        let Some(at) = progress.leases.iter().position(|lease| lease.id == permit.id) else {
            return;
        };
        progress.leases.swap_remove(at);
        let (counter, tally) = match verdict {
            Verdict::Success => (&mut progress.succeeded, &mut self.permits.succeeded),
            Verdict::Failure => (&mut progress.failed, &mut self.permits.failed),
            Verdict::Ignored => (&mut progress.left, &mut self.permits.returned),
        };
        *counter = counter.saturating_add(1);
        *tally += 1;
        self.dirty = true;
        self.decide_half_open();
    }

    /// Leaves HalfOpen as soon as the permits that are not resolved yet cannot change the outcome.
    fn decide_half_open(&mut self) {
        let HalfOpenProgress { total, succeeded, failed, .. } = self.record.half_open;
        let trips = |failed: u16| {
            f64::from(failed) * 100.0 >= self.rules.failure_rate_threshold * f64::from(total)
        };
        if trips(failed) {
            self.open(Reason::ProbesFailed { failed, of: total });
        } else if !trips(total.saturating_sub(succeeded)) {
            self.close(Reason::ProbesSucceeded { succeeded, of: total });
        }
    }

    fn count(&mut self, verdict: Verdict) {
        let failed = match verdict {
            Verdict::Success => false,
            Verdict::Failure => true,
            Verdict::Ignored => return,
        };
        self.dirty = true;
        window::count(&mut self.record.window, self.rules.window, self.now, failed);
        if failed {
            self.record.consecutive_failures = self.record.consecutive_failures.saturating_add(1);
        } else {
            self.record.consecutive_failures = 0;
            self.decay();
        }
        if let Some(reason) = self.reason_to_trip() {
            self.open(reason);
        }
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
        let in_a_row = self.record.consecutive_failures;
        if self.rules.consecutive_failures > 0 && in_a_row >= self.rules.consecutive_failures {
            return Some(Reason::ConsecutiveFailures(in_a_row));
        }
        let sums: Sums = window::sums(&self.record.window);
        let is_enough = sums.total() >= u64::from(self.rules.minimum_number_of_calls);
        (is_enough && sums.failed > 0 && sums.failure_rate() >= self.rules.failure_rate_threshold)
            .then(|| Reason::FailureRate { percent: sums.failure_rate(), calls: sums.total() })
    }

    fn open(&mut self, reason: Reason) {
        self.record.trips = self.record.trips.saturating_add(1);
        let open_time = self.rules.backoff.open_time(self.record.trips, self.draw);
        self.enter(BreakerState::Open, reason);
        self.record.open_until = self.now.plus(open_time);
        if let Some(change) = &mut self.change {
            change.open_time = Some(open_time);
        }
    }

    fn close(&mut self, reason: Reason) {
        self.enter(BreakerState::Closed, reason);
        self.record.decay_from = self.now;
        self.record.decay_successes = 0;
    }

    /// Changes the state. Nothing that was counted in one state is carried into the next.
    fn enter(&mut self, to: BreakerState, reason: Reason) {
        let from = self.record.state;
        self.record.state = to;
        self.record.epoch = self.record.epoch.wrapping_add(1);
        self.record.changed_at = self.now;
        self.record.consecutive_failures = 0;
        self.record.window = BreakerWindow::default();
        self.record.half_open = HalfOpenProgress::default();
        self.change = Some(Change { epoch: self.record.epoch, from, to, reason, open_time: None });
        self.dirty = true;
    }
}

#[cfg(test)]
mod tests;
