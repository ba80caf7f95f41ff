//! A proxy with a native policy: Envoy's router around it, as far as balancing goes.

use super::draws::Draws;
use super::outlier::Outliers;
use super::policy::{Policy, Scene, Seen};
use super::proxy::Proxy;
use super::server::AttemptId;
use super::spec::load::Clients;
use super::spec::{Arm, Experiment};
use super::world::{Load, Outcome, Try, World};
use std::collections::HashMap;
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
    retries: u32,
    weights: Vec<u32>,
    all: Vec<usize>,
    active: Vec<u32>,
    draws: Draws,
    flights: HashMap<AttemptId, Flight>,
    /// The attempt of each try that has one.
    attempts: HashMap<Try, AttemptId>,
    waiting: Vec<Waiting>,
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
        let outliers = arm.outlier_detection.as_ref();
        Some(Self {
            number,
            policy: kind.policy(endpoints),
            outliers: outliers.map(|spec| {
                let draws = Draws::new(seed, "outliers", number as u64);
                Outliers::new(spec, endpoints, draws)
            }),
            retries: arm.retries,
            weights,
            all: (0..endpoints).collect(),
            active: vec![0; endpoints],
            draws: Draws::new(seed, "proxy", number as u64),
            flights: HashMap::new(),
            attempts: HashMap::new(),
            waiting: Vec::new(),
        })
    }

    fn start(&mut self, id: Try, mut tried: Vec<usize>, world: &mut World) {
        let scene = Scene {
            now: world.now(),
            eligible: self.outliers.as_ref().map_or(&self.all, |outliers| outliers.eligible()),
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
        let Some(endpoint) = endpoint else { return world.reply(id, 503) };
        let attempt = world.start(self.number, endpoint, Load::Request(id.request));
        self.active[endpoint] += 1;
        tried.push(endpoint);
        self.attempts.insert(id, attempt);
        self.flights.insert(attempt, Flight { id, endpoint, started: world.now(), tried });
    }
}

impl Proxy for Native {
    fn request(&mut self, id: Try, _: &Clients, _: u64, world: &mut World) {
        self.start(id, Vec::new(), world);
    }

    fn answered(&mut self, attempt: AttemptId, outcome: Outcome, world: &mut World) {
        let Some(flight) = self.flights.remove(&attempt) else { return };
        let (endpoint, now) = (flight.endpoint, world.now());
        self.attempts.remove(&flight.id);
        self.active[endpoint] = self.active[endpoint].saturating_sub(1);
        let (status, report) = match outcome {
            Outcome::Answer(status, report) => (status, report),
            Outcome::Refused | Outcome::Reset => (503, None),
        };
        self.policy.ended(&Seen { now, endpoint, took: now - flight.started, report });
        if let Some(outliers) = &mut self.outliers {
            outliers.ended(now, endpoint, status);
        }
        let tries = u32::try_from(flight.tried.len()).unwrap_or(u32::MAX);
        if !matches!(status, 502..=504) || tries > self.retries {
            return world.reply(flight.id, status);
        }
        // Envoy's: uniform up to base * (2^n - 1), at most ten times the base.
        let most = BASE_BACK_OFF * (2_u32.saturating_pow(tries) - 1).min(10);
        let at = now + most.mul_f64(self.draws.unit());
        self.waiting.push(Waiting { at, id: flight.id, tried: flight.tried });
    }

    fn abort(&mut self, id: Try, world: &mut World) {
        self.waiting.retain(|waiting| waiting.id != id);
        let Some(attempt) = self.attempts.remove(&id) else { return };
        if let Some(flight) = self.flights.remove(&attempt) {
            self.active[flight.endpoint] = self.active[flight.endpoint].saturating_sub(1);
            world.cancel(attempt);
        }
    }

    fn deadline(&mut self) -> Option<Duration> {
        let sweep = self.outliers.as_ref().map(Outliers::deadline);
        self.waiting.iter().map(|waiting| waiting.at).chain(sweep).min()
    }

    fn wake(&mut self, world: &mut World) {
        let now = world.now();
        if let Some(outliers) = self.outliers.as_mut().filter(|own| own.deadline() <= now) {
            outliers.sweep(now);
        }
        while let Some(at) = self.waiting.iter().position(|waiting| waiting.at <= now) {
            let Waiting { id, tried, .. } = self.waiting.remove(at);
            self.start(id, tried, world);
        }
    }
}
