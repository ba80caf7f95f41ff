//! One worker's filter: what a request, and its end, mean to every breaker it touches.
//!
//! On the way in the guard decides first, for a rejected request has no destination; then the list
//! of endpoints is thinned out. At the end each breaker learns what the request proved about it,
//! and each permit that the request held is resolved, whatever happened: a permit for an endpoint
//! that was never tried is given back.

use crate::breaker::{Admission, Outcome, Permit, Verdict};
use crate::class::Ending;
use crate::config::{Config, GuardedBy, Mode};
use crate::destinations::{self, Breakers, Selection, View};
use crate::worker::{Event, Subject, WorkerBreakers};
use core::time::Duration;
use shared_state::{Endpoint, SharedStore, UnixNanos};
use std::rc::Rc;

/// Names of clusters and routes that are kept; they come from the host's configuration.
const MAX_NAMES: usize = 1024;

/// A request before it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Cluster that its route names.
    pub cluster: &'a str,
    /// Name of its route, if that has one.
    pub route: Option<&'a str>,
    /// The steering header, if there is one.
    pub destinations: Option<&'a str>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The guard rejects it.
    Reject {
        /// Which breaker is open.
        subject: Subject,
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// It passes.
    Pass {
        /// What to do with the steering header.
        steering: Steering,
        /// What was taken out of it, and why not more.
        selection: Selection,
    },
}

/// What to do with the steering header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steering {
    /// Nothing.
    Keep,
    /// Replace its value.
    Replace(String),
    /// Remove it: the cluster's own policy decides.
    Remove,
}

/// A request that was sent, until it ends.
#[derive(Clone, Debug)]
pub struct Exchange {
    started_at: UnixNanos,
    cluster: Rc<str>,
    destinations: Vec<Endpoint>,
    probe: Option<(Endpoint, Permit)>,
    guard: Option<(Subject, Option<Permit>)>,
}

/// The end of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// How it ended.
    pub ending: Ending,
    /// Who served the last attempt.
    pub server: Option<Endpoint>,
    /// How many attempts there were; see [`Exchange::was_retried`].
    pub attempts: u32,
    /// Endpoints of the cluster; matters only if there was a retry.
    pub num_endpoints: u32,
}

/// All breakers, as one worker sees them.
#[derive(Debug)]
pub struct Filter {
    config: Config,
    endpoints: Option<WorkerBreakers>,
    guard: Option<WorkerBreakers>,
    /// In order.
    names: Vec<Rc<str>>,
}

impl Exchange {
    /// True if the request may have been tried elsewhere before `server` got it. Most requests are
    /// served by the first endpoint of their list, and need no question to the host.
    pub fn was_retried(&self, server: Option<Endpoint>) -> bool {
        self.destinations.first().is_some_and(|first| Some(*first) != server)
    }

    /// The endpoint that this request probes.
    pub fn probed(&self) -> Option<Endpoint> {
        self.probe.map(|(endpoint, _)| endpoint)
    }
}

impl Filter {
    /// Follows no breaker yet.
    pub fn new(config: Config) -> Self {
        let endpoints = config.endpoints.as_ref().map(|endpoints| &endpoints.scope);
        let guard = config.guard.as_ref().map(|guard| &guard.scope);
        let follow = |scope: &crate::Scope| WorkerBreakers::new(&scope.name, scope.rules);
        let (endpoints, guard) = (endpoints.map(follow), guard.map(follow));
        Self { config, endpoints, guard, names: Vec::new() }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Decides on a request. There is an exchange if it passes; hand that to [`Filter::end`]. In
    /// shadow mode the decision is told, and the exchange is that of the request as it was.
    pub fn begin(
        &mut self,
        store: &impl SharedStore,
        incoming: Incoming<'_>,
        now: UnixNanos,
        draw: &mut impl FnMut() -> u64,
    ) -> (Decision, Option<Exchange>) {
        let enforces = self.config.mode == Mode::Enforce;
        let cluster = self.intern(incoming.cluster);
        let (mut guard, mut rejection) = (None, None);
        match self.ask_guard(store, incoming, now, draw) {
            None => {}
            Some((subject, Admission::Allow)) => guard = Some((subject, None)),
            Some((subject, Admission::Probe(permit))) => guard = Some((subject, Some(permit))),
            Some((subject, Admission::Reject { retry_after })) => {
                let rejected = Decision::Reject { subject, retry_after };
                if enforces {
                    return (rejected, None);
                }
                rejection = Some(rejected);
            }
        }
        let list = incoming.destinations.map(destinations::parse).unwrap_or_default();
        let selection = self.select(store, &cluster, &list, now, draw);
        let steering = steering(&list, &selection);
        let probe = selection.permit.zip(selection.keep.first().copied());
        let sent = if enforces { selection.keep.clone() } else { list };
        let exchange = Exchange {
            started_at: now,
            cluster,
            destinations: sent,
            probe: probe.map(|(permit, endpoint)| (endpoint, permit)),
            guard,
        };
        let decision = rejection.unwrap_or(Decision::Pass { steering, selection });
        (decision, Some(exchange))
    }

    /// Tells every breaker what the end of a request means to it.
    pub fn end(
        &mut self,
        store: &impl SharedStore,
        exchange: Exchange,
        ended: &Ended,
        now: UnixNanos,
        draw: &mut impl FnMut() -> u64,
    ) {
        if let (Some(guard), Some(breakers), Some((subject, permit))) =
            (&self.config.guard, &mut self.guard, &exchange.guard)
        {
            let verdict = guard.scope.classify.verdict(&ended.ending);
            let outcome = Outcome { started_at: exchange.started_at, permit: *permit, verdict };
            breakers.record(store, subject, outcome, now, draw());
        }
        self.end_at_endpoints(store, exchange, ended, now, draw);
    }

    fn end_at_endpoints(
        &mut self,
        store: &impl SharedStore,
        exchange: Exchange,
        ended: &Ended,
        now: UnixNanos,
        draw: &mut impl FnMut() -> u64,
    ) {
        let (Some(endpoints), Some(breakers)) = (&self.config.endpoints, &mut self.endpoints)
        else {
            return;
        };
        let Exchange { started_at, cluster, destinations, mut probe, .. } = exchange;
        let subject = |endpoint| Subject { name: Rc::clone(&cluster), endpoint: Some(endpoint) };
        let mut outcome = |endpoint, verdict| {
            let permit = probe.take_if(|(probed, _)| *probed == endpoint).map(|(_, permit)| permit);
            Outcome { started_at, permit, verdict }
        };
        for failed in destinations::failed_before(&destinations, ended.attempts, ended.server) {
            let failure = outcome(failed, Verdict::Failure);
            let at = (now, draw());
            breakers.record_unconfirmed(store, &subject(failed), failure, ended.num_endpoints, at);
        }
        if let Some(server) = ended.server {
            let last = outcome(server, endpoints.scope.classify.verdict(&ended.ending));
            breakers.record(store, &subject(server), last, now, draw());
        }
        if let Some((untried, permit)) = probe {
            let returned = Outcome { started_at, permit: Some(permit), verdict: Verdict::Ignored };
            breakers.record(store, &subject(untried), returned, now, draw());
        }
    }

    /// Stores what has waited long enough.
    pub fn tick(
        &mut self,
        store: &impl SharedStore,
        now: UnixNanos,
        draw: &mut impl FnMut() -> u64,
    ) {
        for breakers in [&mut self.endpoints, &mut self.guard].into_iter().flatten() {
            breakers.tick(store, now, &mut *draw);
        }
    }

    /// What happened since the last call: to endpoints, and to what is guarded.
    pub fn take_events(&mut self) -> (Vec<Event>, Vec<Event>) {
        let take = |breakers: &mut Option<WorkerBreakers>| {
            breakers.as_mut().map(WorkerBreakers::take_events).unwrap_or_default()
        };
        (take(&mut self.endpoints), take(&mut self.guard))
    }

    fn ask_guard(
        &mut self,
        store: &impl SharedStore,
        incoming: Incoming<'_>,
        now: UnixNanos,
        draw: &mut impl FnMut() -> u64,
    ) -> Option<(Subject, Admission)> {
        let name = match self.config.guard.as_ref()?.by {
            GuardedBy::Route => incoming.route.unwrap_or(incoming.cluster),
            GuardedBy::Cluster => incoming.cluster,
        };
        let subject = Subject { name: self.intern(name), endpoint: None };
        let admission = self.guard.as_mut()?.admit(store, &subject, now, draw());
        Some((subject, admission))
    }

    fn select(
        &mut self,
        store: &impl SharedStore,
        cluster: &Rc<str>,
        list: &[Endpoint],
        now: UnixNanos,
        draw: &mut impl FnMut() -> u64,
    ) -> Selection {
        match (&self.config.endpoints, &mut self.endpoints) {
            (Some(endpoints), Some(breakers)) => {
                let mut of_cluster = OfCluster { breakers, store, cluster, now, draw };
                destinations::select(list, endpoints.always_keep_one, &mut of_cluster)
            }
            _ => Selection { keep: list.to_vec(), ..Selection::default() },
        }
    }

    fn intern(&mut self, name: &str) -> Rc<str> {
        let place = self.names.binary_search_by(|known| (**known).cmp(name));
        if let Some(known) = place.ok().and_then(|at| self.names.get(at)) {
            return Rc::clone(known);
        }
        let name: Rc<str> = name.into();
        if let (Err(at), true) = (place, self.names.len() < MAX_NAMES) {
            self.names.insert(at, Rc::clone(&name));
        }
        name
    }
}

fn steering(list: &[Endpoint], selection: &Selection) -> Steering {
    if selection.keep == list {
        Steering::Keep
    } else if selection.keep.is_empty() {
        Steering::Remove
    } else {
        Steering::Replace(destinations::format(&selection.keep))
    }
}

/// The breakers of one cluster's endpoints, during one request.
struct OfCluster<'a, S, D> {
    breakers: &'a mut WorkerBreakers,
    store: &'a S,
    cluster: &'a Rc<str>,
    now: UnixNanos,
    draw: &'a mut D,
}

impl<S, D> OfCluster<'_, S, D> {
    fn subject(&self, endpoint: Endpoint) -> Subject {
        Subject { name: Rc::clone(self.cluster), endpoint: Some(endpoint) }
    }
}

impl<S: SharedStore, D: FnMut() -> u64> Breakers for OfCluster<'_, S, D> {
    fn view(&mut self, endpoint: Endpoint) -> View {
        self.breakers.view(self.store, &self.subject(endpoint), self.now)
    }

    fn admit(&mut self, endpoint: Endpoint) -> Admission {
        let subject = self.subject(endpoint);
        self.breakers.admit(self.store, &subject, self.now, (self.draw)())
    }
}

#[cfg(test)]
mod tests;
