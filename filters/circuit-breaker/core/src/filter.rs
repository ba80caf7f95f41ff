//! One worker's filter: what a request, and its end, mean to every breaker it touches.
//!
//! On the way in the guards decide first, in the order of the configuration, for a rejected request
//! has no destination; then the list of endpoints is thinned out. At the end each breaker learns what
//! the request proved about it, and each permit that the request held is resolved, whatever
//! happened: a permit of a guard behind which another one rejected, or for an endpoint that was
//! never tried, is given back.
//!
//! What the host knows costs a hostcall each, and almost every request finds all breakers closed and
//! succeeds. So nothing is asked before it matters: of a response that came to its end with a status
//! which no scope counts, neither the flags nor their details; of an endpoint that is known in one
//! cluster only, that cluster only if it must be told what went wrong.

mod exchange;
mod explain;
mod of_cluster;

use crate::breaker::{Admission, Outcome, Verdict};
use crate::class::Ending;
use crate::config::{Action, Config, Debug, GuardScope, Mode};
use crate::destinations::{self, Selection};
use crate::load::{Cause, Ended, Loads, Ticket};
use crate::spared::Spared;
use crate::worker::{Clock, Degradation, Event, Subject, Which, WorkerBreakers};
use core::time::Duration;
use exchange::Held;
pub use exchange::{Decision, Exchange, Request, Response, Steering};
use of_cluster::OfCluster;
use request_key::{KeyPart, fingerprint, fingerprint_of, siphash_2_4};
use shared_state::{Endpoint, HashSeed, SharedStore, UnixNanos};
use std::rc::Rc;

/// Names of clusters and routes that are kept; they come from the host's configuration.
const MAX_NAMES: usize = 1024;

/// For so long after a breaker began to count, the moment at which a request is sent must be exact:
/// it says whether its outcome counts.
const EXACT: Duration = Duration::from_secs(10);

/// How often endpoints are compared with each other.
const COMPARE: Duration = Duration::from_secs(1);

/// When it is worth another try after too much was under way.
const OVERLOADED: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Guard {
    breakers: WorkerBreakers,
    loads: Option<Loads>,
    /// Overrides have been told, which for keys takes the seed.
    is_ready: bool,
}

/// All breakers, as one worker sees them.
#[derive(Debug)]
pub struct Filter {
    config: Config,
    endpoints: Option<WorkerBreakers>,
    spared: Spared,
    guards: Vec<Guard>,
    drawn: HashSeed,
    seed: Option<HashSeed>,
    /// In order.
    names: Vec<Rc<str>>,
    /// What keys are called.
    nameless: Rc<str>,
    slow_after: Option<Duration>,
    compared_at: UnixNanos,
    degraded: Vec<Degradation>,
}

impl Filter {
    /// Follows no breaker yet. `drawn` is a seed drawn by this worker; it is used if no worker has
    /// stored one before.
    pub fn new(config: Config, drawn: HashSeed) -> Self {
        let endpoints = config.endpoints.as_ref().map(|endpoints| {
            let scope = &endpoints.scope;
            let mut breakers = WorkerBreakers::new(&scope.name, scope.rules);
            let which = |key: &[String]| match key {
                [cluster, endpoint] => Which::Named(Subject {
                    name: cluster.as_str().into(),
                    endpoint: endpoint.parse().ok(),
                    key: None,
                }),
                _ => Which::All,
            };
            let overrides = scope.overrides.iter();
            breakers.force(overrides.map(|forced| (which(&forced.key), forced.state)).collect());
            breakers
        });
        // A number that no other VM has, and that says nothing about the seed.
        let owner = siphash_2_4(drawn.0, b"owner");
        let guards = config.guards.iter().map(|guard| {
            let name = &guard.scope.name;
            let breakers = WorkerBreakers::new(name, guard.scope.rules).with_slots(guard.slots);
            let loads = || Loads::new(&config.name, name, guard.load, owner);
            let loads = (!guard.load.is_empty()).then(loads);
            Guard { breakers, loads, is_ready: false }
        });
        let guards = guards.collect();
        let slow = |scope: &crate::Scope| scope.rules.slow_calls.map(|slow| slow.duration);
        let scopes = config.guards.iter().map(|guard| &guard.scope);
        let scopes = scopes.chain(config.endpoints.iter().map(|endpoints| &endpoints.scope));
        let slow_after = scopes.filter_map(slow).min();
        // Every latency matters.
        let is_adaptive = config.guards.iter().any(|guard| guard.load.adaptive.is_some());
        let slow_after = if is_adaptive { Some(Duration::ZERO) } else { slow_after };
        Self {
            config,
            endpoints,
            spared: Spared::default(),
            guards,
            drawn,
            seed: None,
            names: Vec::new(),
            nameless: "".into(),
            slow_after,
            compared_at: UnixNanos::ZERO,
            degraded: Vec::new(),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The least duration that makes a call slow in any scope; `None` if none does.
    pub fn slow_after(&self) -> Option<Duration> {
        self.slow_after
    }

    /// Decides on a request. There is an exchange if it is sent; hand that to [`Filter::end`]. In
    /// shadow mode the decision is told, and the exchange is that of the request as it was.
    pub fn begin(
        &mut self,
        store: &impl SharedStore,
        request: &impl Request,
        clock: impl Clock,
        draw: &mut impl FnMut() -> u64,
    ) -> (Decision, Option<Exchange>) {
        let enforces = self.config.mode == Mode::Enforce;
        let (mut held, mut rejection, mut open) = (Vec::new(), None, None);
        let (mut is_exact, mut no_retries) = (false, false);
        for guard in 0..self.guards.len() {
            let Some(subject) = self.subject(store, guard, request) else { continue };
            let Some(Guard { breakers, .. }) = self.guards.get_mut(guard) else { continue };
            let admission = breakers.admit(store, &subject, clock, draw());
            is_exact |= clock.recent().since(breakers.counted_from(&subject)) < EXACT;
            let few = !breakers.is_settled(&subject);
            let (cause, retry_after) = match admission {
                Admission::Reject { retry_after } => (Cause::Breaker, retry_after),
                Admission::Allow | Admission::Probe(_) => {
                    let permit = match admission {
                        Admission::Probe(permit) => Some(permit),
                        _ => None,
                    };
                    match self.count_in(store, guard, &subject, clock, draw()) {
                        Ok((ticket, is_spent)) => {
                            let suppresses =
                                self.config.guards.get(guard).is_some_and(|g| g.suppress_retries);
                            no_retries |= is_spent || few && suppresses;
                            held.push(Held { guard, subject, permit, ticket });
                            continue;
                        }
                        Err(cause) => {
                            let subject = subject.clone();
                            let back = Held { guard, subject, permit, ticket: None };
                            self.give_back(store, vec![back], clock, draw);
                            (cause, OVERLOADED)
                        }
                    }
                }
            };
            if self.config.guards.get(guard).is_some_and(|guard| guard.action == Action::Pass) {
                open.get_or_insert((guard, subject));
                continue;
            }
            let decision = Decision::Reject { guard, subject, cause, retry_after };
            if enforces {
                self.give_back(store, held, clock, draw);
                return (decision, self.elsewhere(guard, clock));
            }
            rejection.get_or_insert(decision);
        }
        let list = self.endpoints.as_ref().and_then(|_| request.destinations());
        let list = list.map(|list| destinations::parse(&list)).unwrap_or_default();
        let mut steering = Steering::Keep;
        let (cluster, selection, sent) = match self.thin_out(store, request, &list, clock, draw) {
            None => (None, Selection { keep: list.clone(), ..Selection::default() }, list),
            Some((cluster, selection)) => {
                let from = self.endpoints_count_from(&cluster, &list);
                is_exact |= clock.recent().since(from) < EXACT;
                steering = steering_to(&list, &selection);
                let sent = if enforces { selection.keep.clone() } else { list };
                (Some(cluster), selection, sent)
            }
        };
        let probe = selection.permit.zip(selection.keep.first().copied());
        let exchange = Exchange {
            started_at: if is_exact { clock.now() } else { clock.recent() },
            cluster,
            destinations: sent,
            probe: probe.map(|(permit, endpoint)| (endpoint, permit)),
            held,
        };
        let decision =
            rejection.unwrap_or(Decision::Pass { steering, selection, open, no_retries });
        (decision, Some(exchange))
    }

    /// The exchange of a request that a guard sends to another cluster: whoever serves it there is
    /// judged, and nothing that was asked about it here.
    fn elsewhere(&self, guard: usize, clock: impl Clock) -> Option<Exchange> {
        let guard = self.config.guards.get(guard)?;
        matches!(guard.action, Action::Fallback { .. }).then(|| Exchange {
            started_at: clock.recent(),
            cluster: None,
            destinations: Vec::new(),
            probe: None,
            held: Vec::new(),
        })
    }

    fn give_back(
        &mut self,
        store: &impl SharedStore,
        held: Vec<Held>,
        clock: impl Clock,
        draw: &mut impl FnMut() -> u64,
    ) {
        for held in held {
            let Some(guard) = self.guards.get_mut(held.guard) else { continue };
            if held.permit.is_some() {
                let outcome = Outcome::new(clock.recent(), held.permit, Verdict::Ignored);
                guard.breakers.record(store, &held.subject, outcome, clock, draw());
            }
            if let (Some(loads), Some(ticket)) = (&mut guard.loads, held.ticket) {
                loads.end(store, &held.subject, ticket, None, (clock, draw()));
            }
        }
    }

    /// Counts a request in where that is limited. Tells whether its retries are spent, too.
    fn count_in(
        &mut self,
        store: &impl SharedStore,
        guard: usize,
        subject: &Subject,
        clock: impl Clock,
        draw: u64,
    ) -> Result<(Option<Ticket>, bool), Cause> {
        let loads = self.guards.get_mut(guard).and_then(|guard| guard.loads.as_mut());
        let Some(loads) = loads else { return Ok((None, false)) };
        let ticket = loads.begin(store, subject, clock, draw)?;
        Ok((ticket, loads.is_spent(subject)))
    }

    /// Gives back what a request holds that the host forgot before it logged it.
    pub fn abandon(
        &mut self,
        store: &impl SharedStore,
        exchange: Exchange,
        clock: impl Clock,
        draw: &mut impl FnMut() -> u64,
    ) {
        self.give_back(store, exchange.held, clock, draw);
    }

    /// Tells every breaker what the end of a request means to it.
    pub fn end(
        &mut self,
        store: &impl SharedStore,
        mut exchange: Exchange,
        response: &impl Response,
        clock: impl Clock,
        draw: &mut impl FnMut() -> u64,
    ) {
        let server = self.endpoints.as_ref().and_then(|_| response.server());
        let ending = self.ending(&exchange, response, server);
        let asks_to_wait = ending.via_upstream && matches!(ending.status, Some(429 | 503));
        let retry_after = if asks_to_wait { response.retry_after() } else { None };
        let elapsed = self.slow_after.and_then(|_| response.elapsed());
        let reached = || server.is_some() || response.server().is_some();
        let held = core::mem::take(&mut exchange.held);
        let outcome = |scope: &crate::Scope, permit| {
            let verdict = scope.classify.verdict(&ending);
            let limit = scope.rules.slow_calls.map(|slow| slow.duration);
            let is_over = elapsed.zip(limit).is_some_and(|(elapsed, limit)| elapsed > limit);
            let counts = || verdict != Verdict::Ignored || ending.client_left() && reached();
            let slow = is_over && counts();
            Outcome { slow, retry_after, ..Outcome::new(exchange.started_at, permit, verdict) }
        };
        for held in held {
            let config = self.config.guards.get(held.guard);
            let (Some(config), Some(guard)) = (config, self.guards.get_mut(held.guard)) else {
                continue;
            };
            let outcome = outcome(&config.scope, held.permit);
            guard.breakers.record(store, &held.subject, outcome, clock, draw());
            if let (Some(loads), Some(ticket)) = (&mut guard.loads, held.ticket) {
                let budgeted = config.load.retry_budget.is_some();
                let ended = Ended {
                    verdict: outcome.verdict,
                    overloaded: asks_to_wait || ending.timed_out(),
                    elapsed,
                    attempts: if budgeted { response.attempts() } else { 1 },
                };
                loads.end(store, &held.subject, ticket, Some(ended), (clock, draw()));
            }
        }
        if let Some(endpoints) = &self.config.endpoints {
            let last = outcome(&endpoints.scope, None);
            self.end_at_endpoints(store, exchange, response, (server, last), (clock, draw));
        }
    }

    /// How the request ended, by as few questions as will do.
    fn ending(
        &self,
        exchange: &Exchange,
        response: &impl Response,
        server: Option<Endpoint>,
    ) -> Ending {
        let status = response.status();
        let is_plain = |status| {
            let guards = self.config.guards.iter().map(|guard| &guard.scope);
            let mut scopes = guards.chain(self.config.endpoints.iter().map(|e| &e.scope));
            scopes.all(|scope| scope.classify.is_plain(status))
        };
        let is_plain = !exchange.has_permit()
            && response.is_complete()
            && status.is_some_and(is_plain)
            && (server.is_some() || response.via_upstream());
        let grpc_status = response.grpc_status();
        if is_plain {
            return Ending { flags: 0, via_upstream: true, status, grpc_status };
        }
        let (flags, via_upstream) = (response.flags(), response.via_upstream());
        Ending { flags, via_upstream, status, grpc_status }
    }

    fn end_at_endpoints(
        &mut self,
        store: &impl SharedStore,
        exchange: Exchange,
        response: &impl Response,
        (server, last): (Option<Endpoint>, Outcome),
        (clock, draw): (impl Clock, &mut impl FnMut() -> u64),
    ) {
        let attempts = if exchange.was_retried(server) { response.attempts() } else { 1 };
        let Exchange { started_at, cluster, destinations, mut probe, .. } = exchange;
        let is_simple = attempts <= 1 && last.verdict == Verdict::Success && !last.slow;
        let known = cluster.or_else(|| {
            let breakers = self.endpoints.as_ref().filter(|_| is_simple)?;
            breakers.cluster_of(server?).cloned()
        });
        // Nobody was asked, so there is nobody to tell of.
        if known.is_none() && server.is_none() && destinations.is_empty() {
            return;
        }
        let cluster = known.or_else(|| Some(self.intern(&response.cluster()?)));
        let (Some(breakers), Some(cluster)) = (&mut self.endpoints, cluster) else {
            if server.is_some() {
                self.degraded.push(Degradation::NoCluster);
            }
            return;
        };
        let subject =
            |endpoint| Subject { name: Rc::clone(&cluster), endpoint: Some(endpoint), key: None };
        let mut permit =
            |endpoint| probe.take_if(|(probed, _)| *probed == endpoint).map(|(_, permit)| permit);
        let earlier = destinations::failed_before(&destinations, attempts, server);
        let earlier: Vec<_> = earlier.collect();
        let num_endpoints = if earlier.is_empty() { 0 } else { response.num_endpoints() };
        for failed in earlier {
            // Which kind of failure is not told; what is retried is mostly of a gateway's.
            let failure = Outcome::new(started_at, permit(failed), Verdict::Gateway);
            let at = (clock, draw());
            breakers.record_unconfirmed(store, &subject(failed), failure, num_endpoints, at);
        }
        if let Some(server) = server {
            let last = Outcome { permit: permit(server), ..last };
            breakers.record(store, &subject(server), last, clock, draw());
        }
        if let Some((untried, permit)) = probe {
            let returned = Outcome::new(started_at, Some(permit), Verdict::Ignored);
            breakers.record(store, &subject(untried), returned, clock, draw());
        }
    }

    /// Stores what has waited long enough, and compares endpoints with each other.
    pub fn tick(
        &mut self,
        store: &impl SharedStore,
        now: UnixNanos,
        draw: &mut impl FnMut() -> u64,
    ) {
        for loads in self.guards.iter_mut().filter_map(|guard| guard.loads.as_mut()) {
            loads.tick(store, now);
        }
        let guards = self.guards.iter_mut().map(|guard| &mut guard.breakers);
        for breakers in self.endpoints.iter_mut().chain(guards) {
            breakers.tick(store, now, &mut *draw);
        }
        let rule = self.config.endpoints.as_ref().and_then(|endpoints| endpoints.success_rate);
        let is_due = now < self.compared_at || now.since(self.compared_at) >= COMPARE;
        if let (Some(rule), Some(breakers), true) = (rule, &mut self.endpoints, is_due) {
            self.compared_at = now;
            breakers.open_outliers(store, &rule, now, draw);
        }
    }

    /// What happened since the last call, each with its guard; `None` for endpoints.
    pub fn take_events(&mut self) -> Vec<(Option<usize>, Event)> {
        let mut events = Vec::new();
        let scopes = self.guards.iter().map(|guard| &guard.breakers).chain(&self.endpoints);
        if self.degraded.is_empty() && !scopes.into_iter().any(WorkerBreakers::has_events) {
            return events;
        }
        events.extend(self.degraded.drain(..).map(|why| (None, Event::Degraded(why))));
        if let Some(breakers) = &mut self.endpoints {
            events.extend(breakers.take_events().into_iter().map(|event| (None, event)));
        }
        for (at, guard) in self.guards.iter_mut().enumerate() {
            let of_guard = guard.breakers.take_events().into_iter();
            events.extend(of_guard.map(|event| (Some(at), event)));
        }
        events
    }

    /// The configured question, if this is its secret.
    pub fn debug(&self) -> Option<&Debug> {
        self.config.debug.as_ref()
    }

    /// What a guard has a breaker for, of this request; `None` if a part of the key has no value.
    fn subject(
        &mut self,
        store: &impl SharedStore,
        guard: usize,
        request: &impl Request,
    ) -> Option<Subject> {
        let config = self.config.guards.get(guard)?;
        if config.slots.is_some() {
            let seed = self.seed(store);
            let config = self.config.guards.get(guard)?;
            let own = self.guards.get_mut(guard)?;
            own.tell_overrides(config, |key| {
                let values = config.by.iter().zip(key).map(|(part, text)| part.value_of(text));
                let key = fingerprint_of(seed, &config.scope.name, values)?;
                Some(Subject { name: Rc::clone(&self.nameless), endpoint: None, key: Some(key) })
            });
            let key = fingerprint(seed, &config.scope.name, &config.by, request)?;
            let name = Rc::clone(&self.nameless);
            return Some(Subject { name, endpoint: None, key: Some(key) });
        }
        let name_of = |part: &KeyPart| match part {
            KeyPart::Route => request.route(),
            _ => request.cluster(),
        };
        let name = match config.by.as_slice() {
            [one] => name_of(one),
            all => all.iter().map(name_of).collect::<Option<Vec<_>>>().map(|all| all.join("/")),
        };
        let Some(name) = name else {
            self.degraded.push(Degradation::NoCluster);
            return None;
        };
        let name = self.intern(&name);
        let config = self.config.guards.get(guard)?;
        self.guards.get_mut(guard)?.tell_overrides(config, |key| {
            Some(Subject { name: key.join("/").into(), endpoint: None, key: None })
        });
        Some(Subject { name, endpoint: None, key: None })
    }

    /// The seed of all workers, fetched once.
    fn seed(&mut self, store: &impl SharedStore) -> HashSeed {
        if let Some(seed) = self.seed {
            return seed;
        }
        let drawn = self.drawn;
        match HashSeed::agreed(store, drawn) {
            Ok(found) => {
                self.seed = Some(found.value);
                found.value
            }
            // This worker's own keys agree with each other, until the others' can be asked for.
            Err(_) => {
                self.degraded.push(Degradation::Store);
                drawn
            }
        }
    }

    /// Takes endpoints out of a list; `None` if all of them stay, which takes no question to the host.
    fn thin_out(
        &mut self,
        store: &impl SharedStore,
        request: &impl Request,
        list: &[Endpoint],
        clock: impl Clock,
        draw: &mut impl FnMut() -> u64,
    ) -> Option<(Rc<str>, Selection)> {
        let (scope, breakers) = self.config.endpoints.as_ref().zip(self.endpoints.as_mut())?;
        if list.iter().all(|endpoint| breakers.is_closed(store, *endpoint, clock)) {
            return None;
        }
        let (always_keep_one, percent) = (scope.always_keep_one, scope.max_ejection_percent);
        let Some(cluster) = request.cluster() else {
            self.degraded.push(Degradation::NoCluster);
            return None;
        };
        let cluster = self.intern(&cluster);
        let mut of_cluster = OfCluster {
            breakers: self.endpoints.as_mut()?,
            spared: &mut self.spared,
            store,
            cluster: &cluster,
            clock,
            draw,
            percent,
            request,
            pardoned: None,
        };
        let selection = destinations::select(list, always_keep_one, &mut of_cluster);
        Some((cluster, selection))
    }

    /// From when on requests to the endpoints of a list count, all of them.
    fn endpoints_count_from(&self, cluster: &Rc<str>, list: &[Endpoint]) -> UnixNanos {
        let Some(breakers) = &self.endpoints else { return UnixNanos::ZERO };
        let from = list.iter().map(|endpoint| {
            let (name, endpoint) = (Rc::clone(cluster), Some(*endpoint));
            breakers.counted_from(&Subject { name, endpoint, key: None })
        });
        from.max().unwrap_or(UnixNanos::ZERO)
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

impl Guard {
    /// Once, and then never again.
    fn tell_overrides(
        &mut self,
        config: &GuardScope,
        named: impl Fn(&[String]) -> Option<Subject>,
    ) {
        if self.is_ready {
            return;
        }
        self.is_ready = true;
        let which = |key: &[String]| match key {
            [] => Some(Which::All),
            key => named(key).map(Which::Named),
        };
        let overrides = config.scope.overrides.iter();
        let forced = overrides.filter_map(|forced| Some((which(&forced.key)?, forced.state)));
        self.breakers.force(forced.collect());
    }
}

fn steering_to(list: &[Endpoint], selection: &Selection) -> Steering {
    if selection.keep == list {
        Steering::Keep
    } else if selection.keep.is_empty() {
        Steering::Remove
    } else {
        Steering::Replace(destinations::format(&selection.keep))
    }
}

#[cfg(test)]
mod tests;
