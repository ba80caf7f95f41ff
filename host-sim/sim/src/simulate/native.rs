//! A proxy with a native policy: Envoy's router around it, as far as balancing goes.

use super::draws::Draws;
use super::gate::{Busy, Checked, CircuitBreakers, End, Gate};
use super::outlier::{Outliers, PANIC_THRESHOLD};
use super::policy::{Policy, Scene, Seen};
use super::proxy::Proxy;
use super::server::AttemptId;
use super::spec::load::Clients;
use super::spec::{Arm, Experiment};
use super::world::{Load, Outcome, Try, World};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// `host_selection_retry_max_attempts`: how often a retry's choice is made again because it was
/// tried before. The last stands.
const RESELECTIONS: usize = 5;

/// Envoy's `retry_back_off.base_interval`.
const BASE_BACK_OFF: Duration = Duration::from_millis(25);

/// See the module.
pub(crate) struct Native {
    number: usize,
    policy: Box<dyn Policy>,
    outliers: Option<Outliers>,
    checked: Option<Checked>,
    breakers: Option<CircuitBreakers>,
    gates: Vec<Box<dyn Gate>>,
    retries: u32,
    per_try_timeout: Option<Duration>,
    weights: Vec<u32>,
    all: Vec<usize>,
    /// Whom checks and outlier detection leave, where there are checks.
    healthy: Vec<usize>,
    active: Vec<u32>,
    draws: Draws,
    flights: HashMap<AttemptId, Flight>,
    /// The attempt of each try that has one.
    attempts: HashMap<Try, AttemptId>,
    waiting: Vec<Waiting>,
    /// When attempts have taken too long, in order.
    timeouts: VecDeque<(Duration, AttemptId)>,
    /// When requests passed the gates, where there are any.
    passed: HashMap<Try, Duration>,
}

/// An attempt under way.
#[derive(Debug)]
struct Flight {
    id: Try,
    endpoint: usize,
    started: Duration,
    tried: Vec<usize>,
}

/// A retry to come.
#[derive(Debug)]
struct Waiting {
    at: Duration,
    id: Try,
    tried: Vec<usize>,
}

impl Native {
    /// Proxy `number` of an arm; nothing if the arm has no policy.
    pub(crate) fn new(
        experiment: &Experiment,
        arm: &Arm,
        number: usize,
        seed: u64,
    ) -> Option<Self> {
        let weights: Vec<u32> = experiment.servers().map(|(group, _)| group.weight).collect();
        let endpoints = weights.len();
        let kind = arm.policy.as_ref()?.kinds().into_iter().next()?;
        let draws = |name| Draws::new(seed, name, number as u64);
        let outliers = arm.outlier_detection.as_ref();
        let checks = arm.health_checks.as_ref();
        let admission = arm.admission_control.as_ref().map(|rules| rules.gate());
        let adaptive = arm.adaptive_concurrency.as_ref().map(|rules| rules.gate());
        Some(Self {
            number,
            policy: kind.policy(endpoints),
            outliers: outliers.map(|spec| Outliers::new(spec, endpoints, draws("outliers"))),
            checked: checks.map(|rules| rules.begin(endpoints, &mut draws("checks"))),
            breakers: arm.circuit_breakers.clone(),
            gates: admission.into_iter().chain(adaptive).collect(),
            retries: arm.retries,
            per_try_timeout: arm.per_try_timeout.map(|timeout| timeout.0),
            weights,
            all: (0..endpoints).collect(),
            healthy: (0..endpoints).collect(),
            active: vec![0; endpoints],
            draws: draws("proxy"),
            flights: HashMap::new(),
            attempts: HashMap::new(),
            waiting: Vec::new(),
            timeouts: VecDeque::new(),
            passed: HashMap::new(),
        })
    }

    fn busy(&self) -> Busy {
        let again = self.flights.values().filter(|flight| flight.tried.len() > 1).count();
        Busy { requests: self.flights.len(), retries: self.waiting.len() + again }
    }

    /// Chooses whom checks leave; below half of them, nobody's health counts.
    fn look_at_health(&mut self) {
        let Some(checked) = &self.checked else { return };
        let is_in = |at: &usize| {
            let ejected = self.outliers.as_ref().is_some_and(|outliers| outliers.has_ejected(*at));
            checked.is_healthy(*at) && !ejected
        };
        self.healthy.clear();
        self.healthy.extend(self.all.iter().copied().filter(is_in));
        if (self.healthy.len() as f64) < PANIC_THRESHOLD * self.all.len() as f64 {
            self.healthy.clone_from(&self.all);
        }
    }

    fn start(&mut self, id: Try, mut tried: Vec<usize>, world: &mut World) {
        if self.breakers.as_ref().is_some_and(|breakers| !breakers.has_room(self.busy())) {
            return self.reply(id, 503, world);
        }
        self.look_at_health();
        let not_ejected = || self.outliers.as_ref().map_or(&*self.all, |own| own.eligible());
        let scene = Scene {
            now: world.now(),
            eligible: if self.checked.is_some() { &self.healthy } else { not_ejected() },
            active: &self.active,
            weights: &self.weights,
            servers: world.servers(),
        };
        let mut endpoint = self.policy.pick(&scene, &mut self.draws);
        for _ in 0..RESELECTIONS {
            if endpoint.is_none_or(|endpoint| !tried.contains(&endpoint)) {
                break;
            }
            endpoint = self.policy.pick(&scene, &mut self.draws);
        }
        let Some(endpoint) = endpoint else { return self.reply(id, 503, world) };
        let attempt = world.start(self.number, endpoint, Load::Request(id.request));
        self.active[endpoint] += 1;
        tried.push(endpoint);
        self.attempts.insert(id, attempt);
        self.flights.insert(attempt, Flight { id, endpoint, started: world.now(), tried });
        if let Some(timeout) = self.per_try_timeout {
            self.timeouts.push_back((world.now() + timeout, attempt));
        }
    }

    /// An attempt is over, its endpoint, or the proxy for it, gave this status.
    fn end(&mut self, flight: Flight, outcome: Outcome, status: u16, world: &mut World) {
        let (endpoint, now) = (flight.endpoint, world.now());
        self.attempts.remove(&flight.id);
        self.active[endpoint] = self.active[endpoint].saturating_sub(1);
        let report = match outcome {
            Outcome::Answer(_, report) => report,
            Outcome::Refused | Outcome::Reset => None,
        };
        self.policy.ended(&Seen { now, endpoint, took: now - flight.started, report });
        if let Some(outliers) = &mut self.outliers {
            outliers.ended(now, endpoint, status);
        }
        let tries = u32::try_from(flight.tried.len()).unwrap_or(u32::MAX);
        let may_retry = || self.breakers.as_ref().is_none_or(|own| own.may_retry(self.busy()));
        if !matches!(status, 502..=504) || tries > self.retries || !may_retry() {
            return self.reply(flight.id, status, world);
        }
        // Envoy's: uniform up to base * (2^n - 1), at most ten times the base.
        let most = BASE_BACK_OFF * (2_u32.saturating_pow(tries) - 1).min(10);
        let at = now + most.mul_f64(self.draws.unit());
        self.waiting.push(Waiting { at, id: flight.id, tried: flight.tried });
    }

    fn reply(&mut self, id: Try, status: u16, world: &mut World) {
        self.leave(id, Some(status), world.now());
        world.reply(id, status);
    }

    /// Tells the gates that a request which they let pass is over.
    fn leave(&mut self, id: Try, status: Option<u16>, now: Duration) {
        let Some(started) = self.passed.remove(&id) else { return };
        let end = End { now, started, status };
        self.gates.iter_mut().for_each(|gate| gate.ended(&end, &mut self.draws));
    }

    /// The first attempt that has not ended in time, if it is late by now.
    fn late(&mut self, now: Duration) -> Option<AttemptId> {
        while let Some((at, attempt)) = self.timeouts.front().copied() {
            if at > now {
                return None;
            }
            self.timeouts.pop_front();
            if self.flights.contains_key(&attempt) {
                return Some(attempt);
            }
        }
        None
    }
}

impl Proxy for Native {
    fn request(&mut self, id: Try, _: &Clients, _: u64, world: &mut World) {
        let now = world.now();
        // Of those that would let it pass, none counts what another refused.
        for at in 0..self.gates.len() {
            if !self.gates[at].admits(now, &mut self.draws) {
                let end = End { now, started: now, status: None };
                self.gates.iter_mut().take(at).for_each(|gate| gate.ended(&end, &mut self.draws));
                return world.reply(id, 503);
            }
        }
        if !self.gates.is_empty() {
            self.passed.insert(id, now);
        }
        self.start(id, Vec::new(), world);
    }

    fn answered(&mut self, attempt: AttemptId, outcome: Outcome, world: &mut World) {
        if self.checked.as_mut().is_some_and(|checked| checked.answered(attempt, outcome)) {
            return;
        }
        let Some(flight) = self.flights.remove(&attempt) else { return };
        let status = match outcome {
            Outcome::Answer(status, _) => status,
            Outcome::Refused | Outcome::Reset => 503,
        };
        self.end(flight, outcome, status, world);
    }

    fn abort(&mut self, id: Try, world: &mut World) {
        self.waiting.retain(|waiting| waiting.id != id);
        self.leave(id, None, world.now());
        let Some(attempt) = self.attempts.remove(&id) else { return };
        if let Some(flight) = self.flights.remove(&attempt) {
            self.active[flight.endpoint] = self.active[flight.endpoint].saturating_sub(1);
            world.cancel(attempt);
        }
    }

    fn deadline(&mut self) -> Option<Duration> {
        while self.timeouts.front().is_some_and(|(_, own)| !self.flights.contains_key(own)) {
            self.timeouts.pop_front();
        }
        let sweep = self.outliers.as_ref().map(Outliers::deadline);
        let check = self.checked.as_ref().and_then(Checked::deadline);
        let timeout = self.timeouts.front().map(|(at, _)| *at);
        let gates = self.gates.iter().filter_map(|gate| gate.deadline());
        let waiting = self.waiting.iter().map(|waiting| waiting.at);
        waiting.chain(gates).chain(sweep).chain(check).chain(timeout).min()
    }

    fn wake(&mut self, world: &mut World) {
        let now = world.now();
        if let Some(outliers) = self.outliers.as_mut().filter(|own| own.deadline() <= now) {
            outliers.sweep(now);
        }
        if let Some(checked) = &mut self.checked {
            checked.wake(self.number, world);
        }
        for gate in &mut self.gates {
            if gate.deadline().is_some_and(|due| due <= now) {
                gate.wake(now, &mut self.draws);
            }
        }
        while let Some(attempt) = self.late(now) {
            if let Some(flight) = self.flights.remove(&attempt) {
                world.cancel(attempt);
                self.end(flight, Outcome::Reset, 504, world);
            }
        }
        while let Some(at) = self.waiting.iter().position(|waiting| waiting.at <= now) {
            let Waiting { id, tried, .. } = self.waiting.remove(at);
            self.start(id, tried, world);
        }
    }
}
