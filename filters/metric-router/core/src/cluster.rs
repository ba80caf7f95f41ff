//! One cluster as one worker sees it: pick, learn, measure.

use crate::ewma::believable;
use crate::flight::{Flight, Outcome, Response};
use crate::membership::{Exploration, falls_within};
use crate::note::Source;
use crate::pick::{Pick, Reason, Steered, Unsteered};
use crate::policy::{Policies, Ranked, Scene};
use crate::row::{MISSES_ALLOWED, Table};
use crate::shared::Notes;
use crate::steering::Effectiveness;
use crate::{Attributes, ClusterConfig, Endpoints, Note, Policy, Snapshot, key};
use core::time::Duration;
use shared_state::{
    BreakerState, Endpoint, Key, Members, SharedStore, Transition, UnixNanos, WorkerEntry,
    WorkerSlot,
};

/// How often a sighting of a known endpoint is written down.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(5);

/// How often the number of endpoints is asked for.
const SIZE_INTERVAL: Duration = Duration::from_secs(1);

/// After a breaker's last change, misses of its endpoint prove nothing: circuit-breaker may have
/// struck it off the list.
const BREAKER_DOUBT: Duration = Duration::from_secs(10);

/// The endpoints of one cluster, and what this worker makes of them.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) name: String,
    pub(crate) config: ClusterConfig,
    pub(crate) members_key: Key<Members>,
    max_endpoints: usize,
    /// The endpoints as of the last refresh.
    pub(crate) known: Vec<Endpoint>,
    pub(crate) table: Table,
    pub(crate) snapshot: Snapshot,
    pub(crate) policies: Policies,
    /// Requests of this worker in flight, to whatever endpoint.
    in_flight: u32,
    /// Requests of other workers in flight to the candidates, as of the last refresh.
    pub(crate) load_elsewhere: f64,
    pub(crate) exploration: Exploration,
    steering: Effectiveness,
    /// How many endpoints the proxy says there are, and when it said so.
    pub(crate) size: Option<(u32, UnixNanos)>,
    pub(crate) refreshed_at: Option<UnixNanos>,
    /// What the other workers were last told, and in which slot.
    pub(crate) published: Option<(WorkerSlot, Vec<WorkerEntry>)>,
    pub(crate) notes: Notes,
    /// A request has come. Workers without any, such as the main thread's VM, have nothing to say.
    pub(crate) is_active: bool,
    told: Told,
    pub(crate) unsteered: Unsteered,
}

/// Gauges as they were last told.
#[derive(Debug, Default)]
struct Told {
    members: usize,
    is_ineffective: bool,
}

impl Cluster {
    /// A cluster of which only the configuration is known.
    pub fn new(name: &str, config: ClusterConfig, max_endpoints: usize, now: UnixNanos) -> Self {
        let mut cluster = Self {
            name: name.to_owned(),
            members_key: Members::key(name),
            max_endpoints,
            known: Vec::new(),
            table: Table::default(),
            snapshot: Snapshot::default(),
            policies: Policies::default(),
            in_flight: 0,
            load_elsewhere: 0.0,
            exploration: Exploration::default(),
            steering: Effectiveness::default(),
            size: None,
            refreshed_at: None,
            published: None,
            notes: Notes::default(),
            is_active: false,
            told: Told::default(),
            unsteered: Unsteered::default(),
            config,
        };
        if let Endpoints::Static(list) = &cluster.config.endpoints {
            cluster.known.clone_from(list);
            cluster.rebuild_alone(now);
        }
        cluster
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True if [`Cluster::set_size`] should be called before the next pick.
    pub fn wants_size(&self, now: UnixNanos) -> bool {
        matches!(self.config.endpoints, Endpoints::Learned { .. })
            && self.size.is_none_or(|(_, at)| at > now || now.since(at) >= SIZE_INTERVAL)
    }

    /// The proxy says how many endpoints the cluster has.
    pub fn set_size(&mut self, size: u32, now: UnixNanos) {
        self.size = Some((size, now));
    }

    /// Decides where a request goes. `enforced` is false if the list will not be sent; such a
    /// request is accounted for where it turns out to have gone. Reads no shared data.
    pub fn pick(
        &mut self,
        request: &dyn Attributes,
        now: UnixNanos,
        draw: u64,
        enforced: bool,
    ) -> (Pick, Flight) {
        self.is_active = true;
        let mut flight = Flight { started_at: now, ..Flight::default() };
        if let Some(reason) = self.obstacle(now, (draw >> 32) as u32) {
            return (self.leave(reason), flight);
        }
        let key = match self.config.policy {
            Policy::ConsistentHash => key::hash(&self.config.consistent_hash.key, request),
            _ => None,
        };
        let mut policies = core::mem::take(&mut self.policies);
        let choice = policies.choose(&self.scene(now, draw as u32, key));
        self.policies = policies;
        let mut text = String::with_capacity(choice.list.len() * 22);
        let mut list = Vec::with_capacity(choice.list.len());
        for row in choice.list.iter().filter_map(|ranked| self.row(ranked)) {
            if let Some(row) = self.table.rows().get(row) {
                if !list.is_empty() {
                    text.push(',');
                }
                text.push_str(&row.text);
                list.push(row.endpoint);
            }
        }
        let first = choice.list.first().and_then(|ranked| self.row(ranked));
        let first = first.and_then(|row| self.table.at(row));
        let Some(row) = first else { return (self.leave(Reason::NoEndpoints), flight) };
        row.picks = row.picks.saturating_add(1);
        let first = row.endpoint;
        if enforced {
            row.in_flight = row.in_flight.saturating_add(1);
            self.in_flight = self.in_flight.saturating_add(1);
            flight.charged = Some(first);
            flight.list = list;
        }
        let steered = Steered {
            first,
            list: text,
            candidates: self.snapshot.candidates.len(),
            policy: choice.policy,
            why: choice.why,
            considered: choice.considered,
            scores: choice.list.iter().map(|ranked| ranked.score).collect(),
        };
        (Pick::Steer(steered), flight)
    }

    fn row(&self, ranked: &Ranked) -> Option<usize> {
        self.snapshot.candidates.get(ranked.place).map(|candidate| candidate.row)
    }

    /// What the policy sees now.
    pub(crate) fn scene(&self, now: UnixNanos, draw: u32, key: Option<u64>) -> Scene<'_> {
        Scene {
            config: &self.config,
            candidates: &self.snapshot.candidates,
            table: &self.table,
            most: self.max_endpoints,
            draw,
            now,
            load: f64::from(self.in_flight) + self.load_elsewhere,
            key,
        }
    }

    /// Accounts for a response, once: measures the endpoint that served it and learns from it.
    pub fn respond(
        &mut self,
        store: &impl SharedStore,
        flight: &mut Flight,
        response: Response,
        now: UnixNanos,
    ) {
        if flight.responded {
            return;
        }
        flight.responded = true;
        let Some(served) = response.served else { return };
        self.move_charge(flight, served);
        let astray = flight.went_astray(response.served);
        let hit = flight.is_steered() && !astray;
        if hit {
            self.steering.confirm();
        }
        // After a retry the time went to several endpoints.
        let took = (hit || response.attempts <= 1).then(|| now.since(flight.started_at));
        self.serve(store, served, response.outcome, took, now);
        for failed in flight.failed_before(&response) {
            if let Some(row) = self.table.find(failed) {
                row.measure(Outcome::Failure, None, now, &self.config.least_cost);
            }
        }
        if let Some(first) = flight.first()
            && astray
            && response.attempts == 1
            && !response.edited
        {
            self.miss(store, first, now);
        }
    }

    /// The stream is over: whatever came of it, it is no longer in flight. May be called again.
    pub fn finish(&mut self, flight: &mut Flight) {
        if let Some(row) = flight.charged.take().and_then(|endpoint| self.table.find(endpoint)) {
            row.in_flight = row.in_flight.saturating_sub(1);
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }

    /// Requests of this worker that wait for `endpoint`.
    pub fn in_flight(&mut self, endpoint: Endpoint) -> u32 {
        self.table.find(endpoint).map_or(0, |row| row.in_flight)
    }

    /// How many endpoints were known as of the last refresh.
    pub fn members(&self) -> usize {
        self.known.len()
    }

    /// True while the proxy is believed to ignore the list.
    pub fn is_steering_ineffective(&mut self, now: UnixNanos) -> bool {
        self.steering.is_suspended(now)
    }

    /// Picks by first endpoint, since the last call.
    pub fn take_picks(&mut self, mut each: impl FnMut(&str, u64)) {
        for row in self.table.rows_mut() {
            if row.picks > 0 {
                each(&row.text, core::mem::take(&mut row.picks));
            }
        }
    }

    /// The number of known endpoints, if it has changed since the last call.
    pub fn take_members(&mut self) -> Option<usize> {
        let members = self.known.len();
        if !self.is_active || self.told.members == members {
            return None;
        }
        self.told.members = members;
        Some(members)
    }

    /// Whether the proxy is believed to ignore the list, if that has changed since the last call.
    pub fn take_ineffective(&mut self, now: UnixNanos) -> Option<bool> {
        let is_ineffective = self.is_steering_ineffective(now);
        let before = core::mem::replace(&mut self.told.is_ineffective, is_ineffective);
        (before != is_ineffective).then_some(is_ineffective)
    }

    /// Weights by 1000 that changed since the last call; the average endpoint has 1000.
    pub fn take_weights(&mut self, mut each: impl FnMut(&str, u64)) {
        let is_active = self.is_active;
        for row in self.table.rows_mut().iter_mut().filter(|_| is_active) {
            if row.weight_milli != row.weight_told {
                row.weight_told = row.weight_milli;
                each(&row.text, row.weight_milli);
            }
        }
    }

    /// What went wrong since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        self.notes.take()
    }

    fn obstacle(&mut self, now: UnixNanos, draw: u32) -> Option<Reason> {
        if self.snapshot.candidates.is_empty() && !self.snapshot.panic {
            return Some(Reason::NoEndpoints);
        }
        if self.steering.is_suspended(now) {
            return Some(Reason::SteeringIneffective);
        }
        if self.snapshot.panic {
            return Some(Reason::Panic);
        }
        let Endpoints::Learned { exploration, verification } = self.config.endpoints else {
            return None;
        };
        let size = self.size.map(|(size, _)| size);
        let share = self.exploration.share(size, exploration, verification);
        falls_within(draw, share).then_some(Reason::Exploring)
    }

    fn leave(&mut self, reason: Reason) -> Pick {
        if reason == Reason::Exploring {
            self.exploration.explored();
        }
        self.unsteered.count(reason);
        Pick::Leave(reason)
    }

    fn move_charge(&mut self, flight: &mut Flight, served: Endpoint) {
        if flight.charged == Some(served) {
            return;
        }
        self.finish(flight);
        if let Some(row) = self.table.get_or_add(&self.name, served) {
            row.in_flight = row.in_flight.saturating_add(1);
            self.in_flight = self.in_flight.saturating_add(1);
            flight.charged = Some(served);
        }
    }

    fn serve(
        &mut self,
        store: &impl SharedStore,
        served: Endpoint,
        outcome: Outcome,
        took: Option<Duration>,
        now: UnixNanos,
    ) {
        let learns = matches!(self.config.endpoints, Endpoints::Learned { .. });
        let Some(row) = self.table.get_or_add(&self.name, served) else { return };
        let is_known = row.is_known;
        let took = row.measure(outcome, took, now, &self.config.least_cost);
        if let (Some(took), Policy::PeakEwma) = (took, self.config.policy) {
            row.peak.record(took, now, self.config.peak_ewma.decay_time);
        }
        let misses = core::mem::take(&mut row.misses);
        // Just learned, it becomes known with the next refresh; so ask no more often than that.
        let interval = if is_known { CONFIRM_INTERVAL } else { self.config.update_interval };
        let age = now.since(row.confirmed_at);
        let due = misses > 0 || row.confirmed_at > now || age >= interval;
        if learns && due {
            row.confirmed_at = now;
            let seen = |prior| Members::seen(prior, served, now);
            self.notes.update(store, &self.members_key, Source::Members, seen);
        }
        if misses > 0 {
            self.steering.contradict(misses, now);
        }
    }

    /// A request sent to `first` was served by something else at its first attempt: `first` is no
    /// member, or the proxy does not listen.
    fn miss(&mut self, store: &impl SharedStore, first: Endpoint, now: UnixNanos) {
        let Some(row) = self.table.find(first) else { return };
        let breaker = self.notes.read(store, &row.breaker_key, Source::Breaker);
        let struck_off = breaker.is_some_and(|breaker| {
            let changed_at = believable(breaker.changed_at, now);
            breaker.state != BreakerState::Closed || now.since(changed_at) < BREAKER_DOUBT
        });
        if struck_off {
            return;
        }
        row.miss(now);
        if matches!(self.config.endpoints, Endpoints::Learned { .. }) {
            let surplus = self.size.is_some_and(|(size, _)| self.known.len() > size as usize);
            let allowed = if surplus { 1 } else { MISSES_ALLOWED };
            let missed =
                |prior| -> Transition<Members, bool> { Members::missed(prior, first, allowed) };
            self.notes.update(store, &self.members_key, Source::Members, missed);
        }
    }
}

#[cfg(test)]
mod tests;
