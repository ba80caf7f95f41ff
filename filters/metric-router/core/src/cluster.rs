//! One cluster as one worker sees it: pick, learn, measure.

mod response;

use crate::division::{Balance, Home, Part, Run};
use crate::exchange::Exchange;
use crate::flight::Flight;
use crate::look::Readings;
use crate::membership::{Exploration, falls_within};
use crate::pick::{Pick, Reason, Steered, Unsteered};
use crate::policy::{Choice, Policies, Ranked, Scene};
use crate::refresh::Elsewhere;
use crate::registry::Enquiry;
use crate::row::Table;
use crate::service_time::Concurrency;
use crate::shared::Notes;
use crate::spare::{Spare, Word};
use crate::steering::Effectiveness;
use crate::{
    Attributes, Candidate, ClusterConfig, Endpoints, Note, Policy, Registry, RegistryAnswer,
    Snapshot, Told as Answered, Unusable, key,
};
use core::time::Duration;
use shared_state::{
    Cas, Endpoint, Key, Listed, Members, SharedStore, UnixNanos, WorkerEntry, WorkerReport,
    WorkerSlot, zone_id,
};

/// How often the number of endpoints is asked for, at least.
const SIZE_INTERVAL: Duration = Duration::from_secs(1);

/// Requests after which it is asked for again: as many as there are endpoints, within these bounds.
/// A hostcall a request would be too many.
const SIZE_PICKS: (u32, u32) = (11, 16);

/// As much of the requests that verify the list are left while an endpoint is known to be unfit or
/// fails: the proxy's own policy may send them there, and where it counts requests in flight it likes
/// to. That it has been replaced by another shows besides when it is tried, by who serves instead.
const CAUTION: f64 = 1.0 / 64.0;

/// The endpoints of one cluster, and what this worker makes of them.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) name: String,
    pub(crate) config: ClusterConfig,
    pub(crate) members_key: Key<Members>,
    /// What was last read there, and in which version.
    pub(crate) members: (Option<Members>, Option<Cas>),
    pub(crate) max_endpoints: usize,
    /// Endpoints that are listed, by the configuration or by a registry, in order of address.
    pub(crate) listed: Vec<Listed>,
    /// Where the list comes from, if a registry has it.
    pub(crate) enquiry: Option<Enquiry>,
    pub(crate) listing_read_at: Option<UnixNanos>,
    /// The endpoints as of the last refresh.
    pub(crate) known: Vec<Endpoint>,
    pub(crate) table: Table,
    pub(crate) snapshot: Snapshot,
    pub(crate) policies: Policies,
    /// The zone that the proxy is in.
    pub(crate) zone: Home,
    pub(crate) balance: Balance,
    /// How many requests the endpoints work on at once.
    pub(crate) concurrency: Concurrency,
    /// Requests of this worker in flight, to whatever endpoint.
    pub(crate) in_flight: u32,
    /// Requests of other workers in flight to the candidates, as they have last been heard of.
    pub(crate) load_elsewhere: f64,
    /// How far the workers have come with telling each other.
    pub(crate) exchange: Exchange,
    /// An endpoint is believed to have changed its speed, which no snapshot knows of yet.
    pub(crate) has_changed: bool,
    pub(crate) spare: Spare,
    /// How many endpoints may be left out, while one is or may be.
    pub(crate) spared: Option<usize>,
    /// When breakers were told that.
    word: Word,
    /// An endpoint is unfit, or has failed twice in a row or more, as of the last refresh.
    pub(crate) is_wary: bool,
    /// When it last was.
    pub(crate) wary_at: Option<UnixNanos>,
    pub(crate) exploration: Exploration,
    steering: Effectiveness,
    /// One that another endpoint has just served for.
    pub(crate) suspect: Option<Endpoint>,
    /// When the last report came with a response.
    pub(crate) reported_at: UnixNanos,
    /// Answers in a row that came from where they were expected.
    pub(crate) settled: u32,
    /// How often the clock is read.
    pub(crate) readings: Readings,
    /// [`Config::is_thrifty`](crate::Config::is_thrifty).
    pub(crate) is_thrifty: bool,
    /// Requests since the proxy was asked for its number of endpoints.
    unsized_picks: u32,
    /// Responses so far.
    pub(crate) answers: u32,
    /// How many there had been when the last report came.
    pub(crate) reported_with: u32,
    /// Records tell what endpoints report, as of the last refresh.
    pub(crate) is_told: bool,
    /// How many endpoints the proxy says there are, and when it said so.
    pub(crate) size: Option<(u32, UnixNanos)>,
    pub(crate) refreshed_at: Option<UnixNanos>,
    /// How often the snapshot was rebuilt.
    pub(crate) refreshes: usize,
    /// What the other workers last told.
    pub(crate) elsewhere: Vec<Elsewhere>,
    /// What the other workers were last told, and in which slot.
    pub(crate) published: Option<(WorkerSlot, Vec<WorkerEntry>)>,
    /// Where the workers report, by number of the slot.
    pub(crate) report_keys: Vec<(u16, Key<WorkerReport>)>,
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
            members: (None, None),
            max_endpoints,
            listed: Vec::new(),
            enquiry: None,
            listing_read_at: None,
            known: Vec::new(),
            table: Table::default(),
            snapshot: Snapshot::default(),
            policies: Policies::default(),
            zone: Home::default(),
            balance: Balance::default(),
            concurrency: Concurrency::default(),
            in_flight: 0,
            load_elsewhere: 0.0,
            exchange: Exchange::default(),
            has_changed: false,
            spare: Spare::default(),
            spared: None,
            word: Word::default(),
            is_wary: false,
            wary_at: None,
            exploration: Exploration::default(),
            steering: Effectiveness::default(),
            suspect: None,
            reported_at: UnixNanos::ZERO,
            settled: 0,
            readings: Readings::default(),
            is_thrifty: false,
            unsized_picks: 0,
            answers: 0,
            reported_with: 0,
            is_told: false,
            size: None,
            refreshed_at: None,
            refreshes: 0,
            elsewhere: Vec::new(),
            published: None,
            report_keys: Vec::new(),
            notes: Notes::default(),
            is_active: false,
            told: Told::default(),
            unsteered: Unsteered::default(),
            config,
        };
        match &cluster.config.endpoints {
            Endpoints::Static(list) => {
                let list = list.clone();
                cluster.list(list);
                cluster.rebuild_alone(now);
            }
            Endpoints::Registry(registry) => {
                let label = cluster.config.canary.as_ref().map(|canary| canary.label.clone());
                cluster.enquiry = Some(Enquiry::new(name, registry.clone(), label));
            }
            Endpoints::Learned { .. } => {}
        }
        cluster
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True if [`Cluster::set_size`] should be called before the next pick.
    pub fn wants_size(&self, now: UnixNanos) -> bool {
        let due = |(size, at): (u32, UnixNanos)| {
            let is_old = at > now || now.since(at) >= SIZE_INTERVAL;
            is_old || self.unsized_picks >= size.clamp(SIZE_PICKS.0, SIZE_PICKS.1)
        };
        matches!(self.config.endpoints, Endpoints::Learned { .. }) && self.size.is_none_or(due)
    }

    /// The proxy says how many endpoints the cluster has.
    pub fn set_size(&mut self, size: u32, now: UnixNanos) {
        self.unsized_picks = 0;
        if self.size.is_some_and(|(before, _)| before != size) {
            self.exploration.begin();
            self.unsettle();
        }
        self.size = Some((size, now));
    }

    /// The registry to ask now, if this worker is the one that asks it.
    pub fn question(
        &mut self,
        store: &impl SharedStore,
        owner: Option<u64>,
        now: UnixNanos,
    ) -> Option<Registry> {
        let enquiry = self.enquiry.as_mut()?;
        enquiry.is_due(store, owner, now).then(|| enquiry.registry().clone())
    }

    /// Takes up what the registry answered. What cannot be used is noted, and changes nothing.
    pub fn answered(
        &mut self,
        store: &impl SharedStore,
        answer: Result<RegistryAnswer<'_>, Unusable>,
        now: UnixNanos,
    ) -> Option<Answered> {
        let enquiry = self.enquiry.as_mut()?;
        let members = &self.members_key;
        let taken = answer.map_err(Note::Registry);
        let taken = taken.and_then(|answer| enquiry.answered(store, members, answer, now));
        match taken {
            Ok((list, told)) => {
                self.list(list);
                Some(told)
            }
            Err(note) => {
                self.notes.push(note);
                None
            }
        }
    }

    /// Takes up a list, in order of address.
    pub(crate) fn list(&mut self, list: Vec<Listed>) {
        self.known = list.iter().map(|listed| listed.endpoint).collect();
        self.listed = list;
    }

    /// What is known of an endpoint besides its address.
    pub(crate) fn site(&self, endpoint: Endpoint) -> Listed {
        let at = self.listed.binary_search_by_key(&endpoint, |listed| listed.endpoint);
        let found = at.ok().and_then(|at| self.listed.get(at)).copied();
        found.unwrap_or(Listed::new(endpoint))
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
        let now = self.recent(now);
        self.take_changes(now, draw);
        self.is_active = true;
        self.unsized_picks = self.unsized_picks.saturating_add(1);
        let mut flight = Flight { started_at: now, ..Flight::default() };
        if let Some(reason) = self.obstacle(now, (draw >> 32) as u32) {
            return (self.leave(reason), flight);
        }
        let key = match self.config.policy {
            Policy::ConsistentHash => key::hash(&self.config.consistent_hash.key, request),
            _ => None,
        };
        let Some((part, mut choice)) = self.choose(request, key, now, draw as u32) else {
            return (self.leave(Reason::NoEndpoints), flight);
        };
        if enforced {
            self.ask_about_suspect(&mut choice, now);
        }
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
        let elsewhere = |ranked: &Ranked| self.snapshot.candidates.get(ranked.place);
        let elsewhere = choice.list.first().and_then(elsewhere).map_or(0.0, |it| it.elsewhere);
        let place = choice.list.first().and_then(|ranked| self.row(ranked));
        let first = place.and_then(|row| self.table.at(row));
        let Some(row) = first else { return (self.leave(Reason::NoEndpoints), flight) };
        row.picks = row.picks.saturating_add(1);
        let first = row.endpoint;
        if enforced {
            flight.ahead = Some(f64::from(row.in_flight) + elsewhere);
            self.has_changed |= row.pass_time(now, &self.concurrency);
            row.in_flight = row.in_flight.saturating_add(1);
            self.in_flight = self.in_flight.saturating_add(1);
            self.exchange.count();
            flight.watched = row.watch(now, &self.readings, &self.concurrency);
            flight.charged = Some(first);
            flight.place = place.unwrap_or(0);
            flight.list = list;
            flight.is_routine = self.is_routine(flight.place, choice.why, now);
            if self.overlooks(&flight) {
                flight.is_overlooked = true;
                // It would count as worked on, and not as answered.
                self.end_watch(&mut flight, None);
            }
        }
        let listed = |ranked: &Ranked| self.snapshot.candidates.get(ranked.place);
        let has_unfit = choice.list.iter().filter_map(listed).any(|own| own.is_unfit);
        let steered = Steered {
            first,
            list: text,
            candidates: self.snapshot.candidates.len(),
            policy: choice.policy,
            part,
            why: choice.why,
            considered: choice.considered,
            spare: self.spared,
            says_spare: self.spared.is_some() && self.word.is_due(has_unfit, now),
            ranked: choice.list,
        };
        (Pick::Steer(steered), flight)
    }

    fn row(&self, ranked: &Ranked) -> Option<usize> {
        self.snapshot.candidates.get(ranked.place).map(|candidate| candidate.row)
    }

    /// The endpoints to list, first those of the part of the cluster that the request goes to, and
    /// which part that is.
    fn choose(
        &mut self,
        request: &dyn Attributes,
        key: Option<u64>,
        now: UnixNanos,
        draw: u32,
    ) -> Option<(Part, Choice)> {
        let canary = self.config.canary.as_ref();
        let sticky = canary.and_then(|canary| match canary.sticky.as_slice() {
            [] => None,
            parts => key::hash(parts, request),
        });
        let share = canary.map_or(0.0, |canary| canary.share);
        let mut policies = core::mem::take(&mut self.policies);
        let mut chosen: Option<(Part, Choice)> = None;
        for run in self.snapshot.division.order(draw, sticky, share, self.balance.share()).iter() {
            let listed = chosen.as_ref().map_or(0, |(_, choice)| choice.list.len());
            if listed >= self.max_endpoints {
                break;
            }
            let mut choice = policies.choose(&self.scene(run, now, draw, key));
            for ranked in &mut choice.list {
                ranked.place = ranked.place.saturating_add(run.places.start);
            }
            match &mut chosen {
                Some((_, first)) => first.list.append(&mut choice.list),
                None if choice.list.is_empty() => {}
                None => chosen = Some((run.part, choice)),
            }
        }
        self.policies = policies;
        if let Some((_, choice)) = &mut chosen {
            choice.list.truncate(self.max_endpoints);
        }
        chosen
    }

    /// What the policy sees now of one part.
    pub(crate) fn scene(
        &self,
        run: &Run,
        now: UnixNanos,
        draw: u32,
        key: Option<u64>,
    ) -> Scene<'_> {
        let candidates = self.snapshot.candidates.get(run.places.clone()).unwrap_or_default();
        let load = if candidates.len() == self.snapshot.candidates.len() {
            f64::from(self.in_flight) + self.load_elsewhere
        } else {
            let own = |candidate: &Candidate| self.table.rows().get(candidate.row);
            let own = |candidate| own(candidate).map_or(0.0, |row| f64::from(row.in_flight));
            candidates.iter().map(|candidate| own(candidate) + candidate.elsewhere).sum()
        };
        Scene {
            config: &self.config,
            candidates,
            first: run.places.start,
            part: run.part,
            table: &self.table,
            most: self.max_endpoints,
            draw,
            now,
            load,
            comfortable: self.concurrency.comfortable(),
            key,
        }
    }

    /// The proxy's own zone, where the configuration names none.
    pub fn set_home(&mut self, node: u64) {
        let Some(locality) = &self.config.locality else { return };
        let zone = locality.zone.as_deref().map_or(node, zone_id);
        self.zone = Home::new(zone);
        if matches!(self.config.endpoints, Endpoints::Static(_)) {
            self.rebuild_alone(UnixNanos::ZERO);
        }
    }

    /// Share of the known endpoints that are fit to be picked; `None` if none is known.
    pub(crate) fn fit_share(&self) -> Option<f64> {
        (self.snapshot.known > 0).then(|| self.snapshot.fit as f64 / self.snapshot.known as f64)
    }

    /// True if it should be told which zone this endpoint is in.
    pub fn wants_zone(&self, endpoint: Endpoint) -> bool {
        let is_unknown = || {
            let place = self.table.place(endpoint);
            place
                .and_then(|place| self.table.rows().get(place))
                .is_some_and(|row| row.zone.is_none())
        };
        self.zone.is_known()
            && matches!(self.config.endpoints, Endpoints::Learned { .. })
            && is_unknown()
    }

    /// The endpoint is in this zone.
    pub fn set_zone(&mut self, endpoint: Endpoint, zone: u64) {
        if let Some(row) = self.table.find(endpoint) {
            row.zone = Some(zone);
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
        let Endpoints::Learned { exploration, mut verification } = self.config.endpoints else {
            return None;
        };
        if self.is_wary {
            verification *= CAUTION;
        }
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
}

#[cfg(test)]
mod tests;
