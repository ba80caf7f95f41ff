//! The state machine against a small executable specification, over random histories.
//!
//! The specification says in the plainest way what the README says: it keeps every outcome with its
//! time and looks through all of them, where the machine keeps sums. Both get the same history of
//! requests that are let pass, succeed, fail, drag, ask to be left alone or are lost, and must give
//! the same answers and make the same changes at every step. The clock runs forward here; what
//! happens when it steps back is the business of `races`.
//!
//! `WEIR_MODEL_STEPS` says how many steps; a million take some seconds with optimisation.

use crate::breaker::{Admission, LeaseExpiry, Outcome, Permit, Rules, SlowCalls, Verdict};
use crate::breaker::{admit, record};
use crate::{Backoff, Jitter, Ramp, Window};
use BreakerState::{Closed, HalfOpen, Open, Ramping};
use core::time::Duration;
use shared_state::{BreakerRecord, BreakerState, Transition, UnixNanos};
use std::collections::BTreeSet;

/// What the README's diagram shows.
const README: &str = include_str!("../../README.md");

#[derive(Debug)]
struct Spec {
    rules: Rules,
    state: BreakerState,
    epoch: u32,
    /// When the state began, requests began to count, and the state ends by itself.
    changed_at: UnixNanos,
    counted_from: UnixNanos,
    until: UnixNanos,
    not_before: UnixNanos,
    /// Everything that was counted: when, whether it failed, whether it was slow.
    log: Vec<(UnixNanos, bool, bool)>,
    /// Everything that says something about a row, newest last.
    row: Vec<Verdict>,
    trips: u32,
    good_since: (UnixNanos, u32),
    free: u16,
    held: Vec<(u32, UnixNanos)>,
    next_id: u32,
    /// Of the probes: succeeded, failed, slow.
    probes: (u16, u16, u16),
    changes: BTreeSet<(&'static str, &'static str)>,
}

impl Spec {
    fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: Closed,
            epoch: 0,
            changed_at: UnixNanos::ZERO,
            counted_from: UnixNanos::ZERO,
            until: UnixNanos::ZERO,
            not_before: UnixNanos::ZERO,
            log: Vec::new(),
            row: Vec::new(),
            trips: 0,
            good_since: (UnixNanos::ZERO, 0),
            free: 0,
            held: Vec::new(),
            next_id: 0,
            probes: (0, 0, 0),
            changes: BTreeSet::new(),
        }
    }

    fn go(&mut self, to: BreakerState, now: UnixNanos) {
        self.changes.insert((self.state.name(), to.name()));
        (self.state, self.changed_at) = (to, now);
        self.epoch += 1;
    }

    fn forget(&mut self) {
        self.log.clear();
        self.row.clear();
        self.held.clear();
        (self.free, self.next_id, self.probes) = (0, 0, (0, 0, 0));
    }

    fn open(&mut self, now: UnixNanos, draw: u64) {
        self.trips += 1;
        let time = self.rules.backoff.open_time(self.trips, draw);
        self.go(Open, now);
        self.forget();
        self.until = now.plus(time).max(self.not_before);
    }

    fn recover(&mut self, now: UnixNanos) {
        let ramp = self.rules.ramp.window;
        self.go(if ramp.is_zero() { Closed } else { Ramping }, now);
        self.forget();
        (self.counted_from, self.until) = (now, now.plus(ramp));
        self.good_since = (now, 0);
    }

    fn end_ramp(&mut self, now: UnixNanos) {
        if self.state == Ramping && self.until <= now {
            self.go(Closed, now);
        }
    }

    /// What becomes of permits that are lost.
    fn reap(&mut self, now: UnixNanos, draw: u64) -> bool {
        if self.state != HalfOpen {
            return false;
        }
        let lost = self.held.iter().filter(|(_, ends)| *ends <= now).count() as u16;
        self.held.retain(|(_, ends)| *ends > now);
        match self.rules.on_lease_expiry {
            LeaseExpiry::Failure => self.probes.1 += lost,
            LeaseExpiry::Ignored => self.free += lost,
        }
        self.judge_probes(now, draw)
    }

    fn judge_probes(&mut self, now: UnixNanos, draw: u64) -> bool {
        let (good, bad, slow) = self.probes;
        let of = self.rules.permitted_calls;
        let share = |part: u16| f64::from(part) * 100.0 / f64::from(of);
        let fails = |part| share(part) >= self.rules.failure_rate_threshold;
        let drags = |part| self.rules.slow_calls.is_some_and(|s| share(part) >= s.rate_threshold);
        let unknown = of - good - bad;
        if fails(bad) || drags(slow) {
            self.open(now, draw);
            return true;
        }
        let decided = !fails(bad + unknown) && !drags(slow + unknown);
        if decided {
            self.recover(now);
        }
        decided
    }

    fn admit(&mut self, now: UnixNanos, draw: u64) -> Option<Option<Permit>> {
        let decided = self.reap(now, draw);
        self.end_ramp(now);
        if self.state == Open && self.until <= now && !decided {
            self.go(HalfOpen, now);
            self.forget();
            self.free = self.rules.permitted_calls;
        }
        match self.state {
            Closed => Some(None),
            Open => None,
            Ramping => {
                let share = self.rules.ramp.share(now.since(self.changed_at));
                let drawn = (draw >> 11) as f64 / (1u64 << 53) as f64;
                (drawn < share).then_some(None)
            }
            HalfOpen => {
                let is_first = self.rules.one_at_first && self.probes.0 == 0;
                let most = if is_first { 1 } else { self.rules.max_concurrent.into() };
                let may = self.free > 0 && self.held.len() < most;
                may.then(|| {
                    let id = self.next_id;
                    self.next_id += 1;
                    self.free -= 1;
                    self.held.push((id, now.plus(self.rules.permit_lease)));
                    Some(Permit { epoch: self.epoch, id })
                })
            }
        }
    }

    fn end(&mut self, outcome: &Outcome, now: UnixNanos, draw: u64) {
        if self.reap(now, draw) {
            return;
        }
        self.take(outcome, now, draw);
        self.end_ramp(now);
    }

    fn take(&mut self, outcome: &Outcome, now: UnixNanos, draw: u64) {
        let counts = matches!(self.state, Closed | Ramping);
        match outcome.permit {
            Some(permit) if self.state == HalfOpen && permit.epoch == self.epoch => {
                let before = self.held.len();
                self.held.retain(|(id, _)| *id != permit.id);
                if self.held.len() < before {
                    self.listen(outcome, now);
                    match outcome.verdict {
                        Verdict::Ignored if !outcome.slow => self.free += 1,
                        verdict if verdict.is_failure() => self.probes.1 += 1,
                        _ => self.probes.0 += 1,
                    }
                    self.probes.2 += u16::from(outcome.slow);
                    self.judge_probes(now, draw);
                }
            }
            None if counts && outcome.started_at >= self.counted_from => {
                self.listen(outcome, now);
                self.count(outcome, now, draw);
            }
            _ => {}
        }
    }

    fn listen(&mut self, outcome: &Outcome, now: UnixNanos) {
        if let Some(wait) = outcome.retry_after {
            self.not_before = self.not_before.max(now.plus(wait.min(self.rules.backoff.max)));
        }
    }

    fn count(&mut self, outcome: &Outcome, now: UnixNanos, draw: u64) {
        if outcome.verdict == Verdict::Ignored && !outcome.slow {
            return;
        }
        self.log.push((now, outcome.verdict.is_failure(), outcome.slow));
        if !matches!(outcome.verdict, Verdict::Ignored | Verdict::Shed) {
            self.row.push(outcome.verdict);
        }
        if outcome.verdict == Verdict::Success && self.trips > 0 {
            self.good_since.1 += 1;
            let is_long = now.since(self.good_since.0) >= self.rules.decay_interval;
            if is_long && self.good_since.1 >= self.rules.minimum_number_of_calls {
                self.trips -= 1;
                self.good_since = (now, 0);
            }
        }
        if self.has_a_row() || self.has_a_rate(now) {
            self.open(now, draw);
        }
    }

    /// The verdicts since the last that ended such a row.
    fn in_a_row(&self, of: fn(Verdict) -> bool, skips: fn(Verdict) -> bool) -> u32 {
        let said = self.row.iter().rev().filter(|verdict| !skips(**verdict));
        said.take_while(|verdict| of(**verdict)).count() as u32
    }

    fn has_a_row(&self) -> bool {
        let rules = &self.rules;
        let reached = |row: u32, limit: u32| limit > 0 && row >= limit;
        let local = |verdict| verdict == Verdict::Local;
        let (answers, gateways): (u32, u32) = if rules.local_origin_failures.is_some() {
            (
                self.in_a_row(Verdict::is_failure, local),
                self.in_a_row(|verdict| verdict == Verdict::Gateway, local),
            )
        } else {
            let gateway = |verdict| matches!(verdict, Verdict::Gateway | Verdict::Local);
            (self.in_a_row(Verdict::is_failure, |_| false), self.in_a_row(gateway, |_| false))
        };
        reached(answers, rules.consecutive_failures)
            || reached(gateways, rules.consecutive_gateway_failures)
            || rules
                .local_origin_failures
                .is_some_and(|limit| reached(self.in_a_row(local, |_| false), limit))
    }

    fn window(&self, now: UnixNanos) -> Vec<(bool, bool)> {
        let live: Vec<_> = match self.rules.window {
            Window::Time(size) => {
                let tenth = size.as_nanos() as u64 / 10;
                let bucket = |at: UnixNanos| at.as_nanos() / tenth;
                let live = self.log.iter().filter(|(at, ..)| bucket(*at) + 10 > bucket(now));
                live.collect()
            }
            Window::Count(size) => self.log.iter().rev().take(size.into()).collect(),
        };
        live.into_iter().map(|(_, failed, slow)| (*failed, *slow)).collect()
    }

    fn has_a_rate(&self, now: UnixNanos) -> bool {
        let live = self.window(now);
        let percent = |part: usize| part as f64 * 100.0 / live.len() as f64;
        let (failed, slow) =
            (live.iter().filter(|call| call.0).count(), live.iter().filter(|call| call.1).count());
        let fails = failed > 0 && percent(failed) >= self.rules.failure_rate_threshold;
        let limit = self.rules.slow_calls.map(|slow| slow.rate_threshold);
        let drags = slow > 0 && limit.is_some_and(|limit| percent(slow) >= limit);
        live.len() >= self.rules.minimum_number_of_calls as usize && (fails || drags)
    }
}

struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 8) % bound
    }
}

fn rules(draws: &mut Draws) -> Rules {
    let window = match draws.below(2) {
        0 => Window::Time(Duration::from_secs(10)),
        _ => Window::Count(12),
    };
    let backoff = Backoff {
        base: Duration::from_secs(1),
        max: Duration::from_secs(8),
        multiplier: 2.0,
        jitter: Jitter::Equal,
    };
    let slow = SlowCalls { duration: Duration::from_secs(1), rate_threshold: 60.0 };
    let permitted_calls = 1 + draws.below(4) as u16;
    Rules {
        window,
        minimum_number_of_calls: 6,
        failure_rate_threshold: [40.0, 50.0, 100.0][draws.below(3) as usize],
        slow_calls: (draws.below(2) == 0).then_some(slow),
        consecutive_failures: draws.below(5) as u32,
        consecutive_gateway_failures: draws.below(4) as u32,
        local_origin_failures: (draws.below(2) == 0).then_some(draws.below(4) as u32),
        backoff,
        decay_interval: Duration::from_secs(5),
        permitted_calls,
        max_concurrent: 1 + draws.below(permitted_calls.into()) as u16,
        one_at_first: draws.below(2) == 1,
        permit_lease: Duration::from_secs(2),
        on_lease_expiry: [LeaseExpiry::Failure, LeaseExpiry::Ignored][draws.below(2) as usize],
        respect_retry_after: true,
        ramp: Ramp { window: Duration::from_secs(draws.below(2) * 6), ..Ramp::NONE },
    }
}

/// The record, driven as [`shared_state::update()`] drives it.
#[derive(Default)]
struct Machine(Option<BreakerRecord>);

impl Machine {
    fn make<T>(&mut self, step: Transition<BreakerRecord, T>) -> T {
        match step {
            Transition::Keep(value) => value,
            Transition::Store(record, value) => {
                self.0 = Some(record);
                value
            }
        }
    }

    fn agrees_with(&self, spec: &Spec) {
        let record = self.0.clone().unwrap_or_default();
        assert_eq!(
            (record.state, record.epoch, record.trips, record.half_open.left),
            (spec.state, spec.epoch, spec.trips, spec.free),
            "{spec:#?}\n{record:#?}"
        );
        assert_eq!(record.half_open.leases.len(), spec.held.len(), "{spec:#?}\n{record:#?}");
    }
}

/// One history of so many steps. Gives the changes of state that came in it.
fn play(seed: u64, steps: u32) -> BTreeSet<(&'static str, &'static str)> {
    let mut draws = Draws(seed);
    let rules = rules(&mut draws);
    let (mut spec, mut machine) = (Spec::new(rules), Machine::default());
    let mut now = UnixNanos::from_secs(1_000_000);
    let mut in_flight: Vec<(UnixNanos, Option<Permit>)> = Vec::new();
    // Faults come and go, or nothing would ever recover.
    let mut is_bad = false;
    for _ in 0..steps {
        let draw = draws.next();
        match draws.below(20) {
            0 => is_bad = !is_bad,
            1..=3 => now = now.plus(Duration::from_millis(draws.below(1500))),
            4 if !in_flight.is_empty() => {
                let lost = draws.below(in_flight.len() as u64) as usize;
                in_flight.swap_remove(lost);
            }
            5..=12 => {
                let step = admit(&rules, machine.0.clone(), now, draw);
                let answer = match machine.make(step).value {
                    Admission::Allow => Some(None),
                    Admission::Probe(permit) => Some(Some(permit)),
                    Admission::Reject { .. } => None,
                };
                assert_eq!(answer, spec.admit(now, draw), "seed {seed}: {spec:#?}");
                in_flight.extend(answer.map(|permit| (now, permit)));
            }
            _ if !in_flight.is_empty() => {
                let ended = draws.below(in_flight.len() as u64) as usize;
                let (started_at, permit) = in_flight.swap_remove(ended);
                let bad = [Verdict::Failure, Verdict::Gateway, Verdict::Local, Verdict::Shed];
                let verdict = match draws.below(if is_bad { 8 } else { 24 }) {
                    at @ 0..=3 => bad[at as usize],
                    4 => Verdict::Ignored,
                    _ => Verdict::Success,
                };
                let slow =
                    rules.slow_calls.is_some() && draws.below(if is_bad { 2 } else { 9 }) == 0;
                let asks = draws.below(8) == 0;
                let retry_after = asks.then(|| Duration::from_secs(draws.below(12)));
                let outcome = Outcome { started_at, permit, verdict, slow, retry_after };
                let step = record(&rules, machine.0.clone(), &[outcome], now, draw);
                machine.make(step);
                spec.end(&outcome, now, draw);
            }
            _ => {}
        }
        machine.agrees_with(&spec);
    }
    spec.changes
}

/// The arrows of the README's diagram.
fn drawn() -> BTreeSet<(&'static str, &'static str)> {
    let (_, diagram) = README.split_once("stateDiagram-v2\n").expect("a diagram");
    let arrow = |line: &'static str| {
        let (from, rest) = line.trim().split_once(" --> ")?;
        Some((from, rest.split(':').next()?.trim()))
    };
    let lines = diagram.lines().take_while(|line| !line.starts_with("```"));
    lines.filter_map(arrow).filter(|(from, _)| *from != "[*]").collect()
}

#[test]
fn the_machine_does_what_the_specification_says_and_the_diagram_shows() {
    let steps = std::env::var("WEIR_MODEL_STEPS").ok().and_then(|steps| steps.parse().ok());
    let seeds = steps.unwrap_or(400_000u64) / 1000;
    let mut changes = BTreeSet::new();
    for seed in 0..seeds {
        changes.extend(play(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1000));
    }
    assert_eq!(changes, drawn());
}
