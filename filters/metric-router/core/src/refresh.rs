//! The tick's work for one cluster: read what others know, rebuild the snapshot, tell what we know.

use crate::division::{Part, Zones};
use crate::ewma::{believable, decay};
use crate::note::Source;
use crate::row::{Row, TROUBLE_AGE, streak};
use crate::worker::{MODULE, Worker};
use crate::{Cluster, Condition, Endpoints, Facts, HotCold, Load, Locality, Policy, Snapshot};
use core::time::Duration;
use shared_state::{
    Endpoint, EndpointHealth, HealthState, Key, Listed, LoadReport, Members, SharedStore,
    UnixNanos, WorkerEntry, WorkerReport, WorkerSlot,
};

/// Age from which a health record says nothing: its writer is gone or has stopped.
const MAX_HEALTH_AGE: Duration = Duration::from_secs(30);

/// Age from which a learned endpoint may be dropped if the cluster has fewer than are known.
const SURPLUS_AGE: Duration = Duration::from_secs(60);

/// Age from which a load report says nothing of the load now.
const MAX_REPORT_AGE: Duration = Duration::from_secs(10);

/// How often a registry's list is read.
const LISTING_INTERVAL: Duration = Duration::from_secs(1);

/// Age of the proxy's number of endpoints up to which endpoints are dropped by it.
const SIZE_AGE: Duration = Duration::from_secs(5);

/// How long a cluster is upset by an endpoint that was out or failed: one that comes back is ramped up
/// for as long, unless that is configured.
const UPSET: Duration = Duration::from_secs(10);

/// Endpoints whose records are read in one tick. With more of them each has its turn; those that
/// have failed here go before. A worker that knows nothing yet reads them all.
const RECORDS_AT_ONCE: usize = 64;

/// Endpoints up to which the workers tell each other of them with every tick. A record of four times
/// as many is written and read with every fourth: what others have in flight is smoothed over a
/// second anyway.
const ENTRIES_AT_ONCE: usize = 256;

/// Responses of which one is asked for its report where no record tells what endpoints report.
const ANSWERS_A_REPORT: u32 = 16;

/// Responses without a report after which one in a thousand is asked.
const ASKED_IN_VAIN: u32 = 256;

/// What the other workers say of one endpoint, added up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elsewhere {
    endpoint: Endpoint,
    in_flight: u64,
    answered: u64,
    last_answer: UnixNanos,
    last_success: UnixNanos,
    /// What those that know it say how long it takes, in microseconds, added up, and their number.
    latency: (u64, u32),
    /// The longest run of failures that one of them has seen, and its last.
    streak: u32,
    last_failure: UnixNanos,
}

impl Cluster {
    /// True if the snapshot is due. Ticks are not exact, so a tenth less than the interval will do.
    pub(crate) fn is_due(&self, now: UnixNanos) -> bool {
        let interval = self.config.update_interval;
        self.refreshed_at.is_none_or(|at| at > now || now.since(at) >= interval * 9 / 10)
    }

    /// Reads shared data and rebuilds the snapshot.
    pub(crate) fn refresh(
        &mut self,
        store: &impl SharedStore,
        worker: &Worker,
        now: UnixNanos,
        draw: u64,
    ) {
        self.readings.close(self.refreshed_at.map(|before| now.since(before)));
        self.refreshed_at = Some(now);
        if matches!(self.config.endpoints, Endpoints::Learned { .. }) {
            self.refresh_members(store, now);
        }
        if self.enquiry.is_some() {
            self.refresh_listing(store, now);
        }
        self.exploration.update(self.known.len());
        if self.is_peers_turn() {
            self.elsewhere = self.read_peers(store, worker, now);
        }
        self.table.compact(&self.known, now);
        self.concurrency.settle();
        let known = core::mem::take(&mut self.known);
        self.read_records(store, &known);
        let reports = |row: &Row| row.health.as_ref().is_some_and(|health| health.report.is_some());
        self.is_told = self.table.rows().iter().any(reports);
        self.known = known;
        self.exchange.follow(&self.known);
        let facts = self.facts(now);
        self.spare.observe(f64::from(self.in_flight) + self.load_elsewhere, now);
        let spare = self.spare.of(facts.len(), &self.concurrency);
        self.rebuild(&facts, spare, now, draw);
        self.spared = spare.filter(|_| self.has_trouble(now));
        let fails = |row: &Row| row.is_known && row.is_in_trouble(now);
        self.is_wary =
            self.snapshot.fit < self.snapshot.known || self.table.rows().iter().any(fails);
        if self.is_wary {
            self.wary_at = Some(now);
        }
        self.refreshes = self.refreshes.wrapping_add(1);
        self.exchange(store, worker, now);
    }

    /// What is known of all endpoints.
    fn facts(&mut self, now: UnixNanos) -> Vec<Facts> {
        let known = core::mem::take(&mut self.known);
        let elsewhere = core::mem::take(&mut self.elsewhere);
        let facts = known.iter().filter_map(|endpoint| {
            let at = elsewhere.binary_search_by_key(endpoint, |sum| sum.endpoint);
            let elsewhere = at.ok().and_then(|at| elsewhere.get(at));
            self.gather(*endpoint, elsewhere, now)
        });
        let facts = facts.collect();
        self.elsewhere = elsewhere;
        self.known = known;
        self.has_changed = false;
        facts
    }

    /// Takes up at once that an endpoint has changed its speed, where there are not too many to be
    /// looked at between two ticks.
    pub(crate) fn take_changes(&mut self, now: UnixNanos, draw: u64) {
        if self.has_changed && self.known.len() <= RECORDS_AT_ONCE {
            let facts = self.facts(now);
            let spare = self.spare.of(facts.len(), &self.concurrency);
            self.rebuild(&facts, spare, now, draw);
        }
    }

    /// True if this is a tick to tell the other workers, and to hear from them.
    fn is_peers_turn(&self) -> bool {
        self.refreshes.is_multiple_of(1 + self.known.len() / ENTRIES_AT_ONCE)
    }

    /// Reads what health-signal and circuit-breaker have written of some of the endpoints.
    fn read_records(&mut self, store: &impl SharedStore, known: &[Endpoint]) {
        let mut turn: Vec<Endpoint> = Vec::with_capacity(2 * RECORDS_AT_ONCE);
        if known.len() > RECORDS_AT_ONCE {
            let failed =
                self.table.rows().iter().filter(|row| row.is_known && row.new_failures > 0);
            turn.extend(failed.map(|row| row.endpoint).take(RECORDS_AT_ONCE));
        }
        let most = if self.refreshes == 0 { known.len() } else { RECORDS_AT_ONCE.min(known.len()) };
        let begin = self.refreshes.wrapping_mul(RECORDS_AT_ONCE) % known.len().max(1);
        turn.extend(known.iter().cycle().skip(begin).take(most));
        for endpoint in turn {
            if let Some(row) = self.table.get_or_add(&self.name, endpoint) {
                let (health, breaker) = (&mut row.health, &mut row.breaker);
                let (of_health, of_breaker) = (&mut row.versions.0, &mut row.versions.1);
                let notes = &mut self.notes;
                notes.reread(store, &row.health_key, Source::Health, (health, of_health));
                notes.reread(store, &row.breaker_key, Source::Breaker, (breaker, of_breaker));
            }
        }
    }

    /// True if [`Cluster::report`] should be told what a response reports: while picks go by it, and,
    /// where no record tells what endpoints report, of one response in some, lest a policy that needs
    /// to know never learns it. With each one more hostcall would be spent.
    pub fn wants_reports(&self) -> bool {
        let needs = matches!(self.config.policy, Policy::Auto | Policy::WeightedRoundRobin);
        // Most endpoints report nothing: whoever has not for a while is hardly asked any more.
        let silence = self.answers.wrapping_sub(self.reported_with);
        let interval = ANSWERS_A_REPORT * if silence < ASKED_IN_VAIN { 1 } else { 64 };
        let is_asked = needs && !self.is_told && self.answers.is_multiple_of(interval);
        // A policy that lives by them notices soon when some come.
        let is_in_vain = silence >= ASKED_IN_VAIN && !self.answers.is_multiple_of(ANSWERS_A_REPORT);
        is_asked || !is_in_vain && self.policies.wants_reports(self.config.policy)
    }

    /// A load report that came with a response of `endpoint`: at once, because what the shared
    /// records tell of it is some ticks old. It is as new as the response, whatever time stands in
    /// it: who read it may know the time by its tick, and reports of one moment cannot be ordered.
    /// So of several responses of one reading of the clock each is a little later.
    pub fn report(&mut self, endpoint: Endpoint, report: &LoadReport, now: UnixNanos) {
        self.reported_with = self.answers;
        if !self.is_told
            && let Some(row) = self.table.find(endpoint)
        {
            row.report = Some(LoadReport { received_at: now, ..report.clone() });
        }
        let Some(load) = load(report, &self.config.hot_cold, None, now) else { return };
        self.reported_at = self.recent(now).plus(Duration::from_nanos(1));
        let load = Load { reported_at: self.reported_at, ..load };
        let now = self.reported_at;
        let row = self.table.place(endpoint).and_then(|row| self.table.rows().get(row));
        let Some(place) = row.and_then(|row| row.candidate) else { return };
        let mut policies = core::mem::take(&mut self.policies);
        let runs = self.snapshot.division.runs();
        if let Some(run) = runs.iter().find(|run| run.places.contains(&place)) {
            policies.feed(&self.scene(run, now, 0, None), endpoint, load);
        }
        self.policies = policies;
    }

    /// Rebuilds the snapshot without looking at shared data.
    pub(crate) fn rebuild_alone(&mut self, now: UnixNanos) {
        let sites: Vec<Listed> = self.known.iter().map(|endpoint| self.site(*endpoint)).collect();
        let facts: Vec<Facts> = (sites.into_iter())
            .filter_map(|site| {
                let row = self.table.place_or_add(&self.name, site.endpoint)?;
                let part = self.zone.part(&site);
                Some(unknown(site, part, row))
            })
            .collect();
        self.rebuild(&facts, None, now, 0);
    }

    /// Tells the other workers what this one has in flight and has measured, if they do not know:
    /// it has changed, could not be written, or stands in a slot that is lost.
    pub(crate) fn publish(&mut self, store: &impl SharedStore, worker: &Worker, now: UnixNanos) {
        let Some(slot) = worker.slot else { return };
        if !self.is_peers_turn() {
            return;
        }
        let entries = self.table.entries(&self.concurrency);
        if self.published.as_ref().is_some_and(|(at, told)| *at == slot && *told == entries) {
            return;
        }
        let Some(key) = report_key(&mut self.report_keys, &self.name, slot) else { return };
        let report = WorkerReport { owner: slot.owner, written_at: now, entries };
        let is_written = self.notes.write(store, key, &report);
        self.published = is_written.then_some((slot, report.entries));
    }

    fn refresh_members(&mut self, store: &impl SharedStore, now: UnixNanos) {
        let (key, read) = (&self.members_key, &mut self.members);
        self.notes.reread(store, key, Source::Members, (&mut read.0, &mut read.1));
        let members = read.0.get_or_insert_default();
        let size = self.size.filter(|(_, at)| *at <= now && now.since(*at) < SIZE_AGE);
        // An endpoint that is never picked is never missed either: drop the one unseen for longest.
        if let Some((size, _)) = size
            && members.list.len() > size as usize
            && let Some(oldest) = members.list.iter().min_by_key(|member| member.last_seen).copied()
            && now.since(oldest.last_seen) >= SURPLUS_AGE
        {
            let drop = |prior| Members::missed(prior, oldest.endpoint, 1);
            self.notes.update(store, key, Source::Members, drop);
            members.list.retain(|member| member.endpoint != oldest.endpoint);
            // Whoever could not write that down tries again.
            read.1 = None;
        }
        self.known = members.endpoints().collect();
    }

    /// Reads what the worker that asks the registry has been told.
    fn refresh_listing(&mut self, store: &impl SharedStore, now: UnixNanos) {
        let fresh = |at: UnixNanos| at <= now && now.since(at) < LISTING_INTERVAL;
        if self.listing_read_at.is_some_and(fresh) {
            return;
        }
        self.listing_read_at = Some(now);
        let Some(enquiry) = &self.enquiry else { return };
        // What cannot be read is no reason to forget what was known.
        if let Some(listing) = self.notes.read(store, enquiry.listing_key(), Source::Listing) {
            self.list(listing.list);
        }
    }

    /// Sums over the reports of the other workers, in order of endpoint.
    fn read_peers(
        &mut self,
        store: &impl SharedStore,
        worker: &Worker,
        now: UnixNanos,
    ) -> Vec<Elsewhere> {
        let mut sums: Vec<Elsewhere> = Vec::new();
        for peer in &worker.peers {
            let key = report_key(&mut self.report_keys, &self.name, *peer);
            let report = key.and_then(|key| self.notes.read(store, key, Source::Workers));
            // A report of the slot's former owner is of requests that are long done.
            let Some(report) = report.filter(|report| report.owner == peer.owner) else { continue };
            for entry in &report.entries {
                add(&mut sums, entry, now);
            }
        }
        sums
    }

    /// What is known of `endpoint`; `None` if it is taken for gone.
    fn gather(
        &mut self,
        endpoint: Endpoint,
        elsewhere: Option<&Elsewhere>,
        now: UnixNanos,
    ) -> Option<Facts> {
        let mut site = self.site(endpoint);
        let place = self.table.place_or_add(&self.name, endpoint)?;
        let row = self.table.at(place)?;
        if let Some(zone) = row.zone {
            site.zone = zone;
        }
        let part = self.zone.part(&site);
        row.pass_time(now, &self.concurrency);
        row.new_failures = 0;
        let in_flight_elsewhere = row.load_elsewhere(elsewhere.map_or(0, |sum| sum.in_flight), now);
        if row.is_absent(now) {
            return None;
        }
        let told = row.health.as_ref().and_then(|health| health.report.as_ref());
        let report = told.or(row.report.as_ref());
        let answered = row.answered().saturating_add(elsewhere.map_or(0, |sum| sum.answered));
        row.throughput.count(answered, now);
        if let Some(report) = report {
            // One report in some is a poor picture of a rate, and better than none to who needs one.
            if told.is_some() || self.config.policy == Policy::WeightedRoundRobin {
                row.orca.observe(report, now, &self.config.load_reports);
            }
            row.throughput.report(f64::from(report.rps), report.received_at, now);
            row.utilization = utilization(report, now);
        }
        let own_share = row.throughput.share();
        let load = report.and_then(|report| load(report, &self.config.hot_cold, own_share, now));
        let health = row.health.as_ref().filter(|health| is_current(health, now));
        let shared = health.filter(|health| health.latency_us > 0);
        let shared = shared.map(|health| f64::from(health.latency_us) / 1e6);
        // Where no record tells it the other workers do, and among them the one whose VM has died.
        let shared = shared.or_else(|| {
            let (micros, count) = elsewhere?.latency;
            (count > 0).then(|| micros as f64 / 1e6 / f64::from(count))
        });
        let certainty = row.service_time.certainty();
        let latency = match (row.service_time.value(&self.concurrency), shared) {
            (Some(own), Some(shared)) => Some(shared + (own - shared) * certainty),
            (own, shared) => own.or(shared),
        };
        let last_answer =
            row.last_answer(now).max(elsewhere.map_or(UnixNanos::ZERO, |sum| sum.last_answer));
        let latency_age = now.since(last_answer);
        let rules = &self.config.least_cost;
        let shared_ratio = health.map(|health| {
            // It stands still while nothing is sent there.
            let ratio = f64::from(health.error_ratio).clamp(0.0, 1.0);
            ratio * decay(latency_age, rules.forgiveness())
        });
        let error_ratio = shared_ratio.unwrap_or_else(|| row.error_ratio(now, rules));
        // A run of failures that no success has ended anywhere is one here too: of a worker whose VM
        // has died nothing else is left.
        let has_served = |sum: &Elsewhere| row.last_success.max(sum.last_success);
        let streak_elsewhere = elsewhere
            .filter(|sum| sum.last_failure > has_served(sum))
            .map_or(0.0, |sum| streak(sum.streak, sum.last_failure, now, rules));
        Some(Facts {
            endpoint,
            part,
            listed: f64::from(site.weight),
            row: place,
            state: health.map_or(HealthState::Unknown, |health| health.state),
            state_since: health.map(|health| health.state_since),
            came_at: row.came_at(now),
            breaker_rejects: row.breaker.as_ref().is_some_and(|breaker| breaker.rejects(now)),
            elsewhere: in_flight_elsewhere,
            orca: row.orca.usable(now, &self.config.load_reports),
            reported_rps: Some(row.orca.rps(now, rules.decay_time)),
            latency,
            latency_age,
            certainty,
            error_ratio: error_ratio.max(row.streak(now, rules)).max(streak_elsewhere),
            works: row.works(now),
            weight: health.map_or(1.0, |health| weight(health.weight)),
            load,
        })
    }

    fn rebuild(&mut self, facts: &[Facts], spare: Option<usize>, now: UnixNanos, draw: u64) {
        let is_upset = self.wary_at.is_some_and(|at| now.since(believable(at, now)) < UPSET);
        let condition = Condition { spare, is_upset };
        self.snapshot = Snapshot::build(facts, &self.config, condition, now);
        self.prepare(now, draw);
        if let Some(rules) = &self.config.locality {
            let zones = self.zones(rules);
            self.balance.update(zones, rules, now);
        }
    }

    /// Makes the snapshot ready to be picked from.
    pub(crate) fn prepare(&mut self, now: UnixNanos, draw: u64) {
        self.index();
        let mut policies = core::mem::take(&mut self.policies);
        policies.keep(self.snapshot.division.runs());
        for run in self.snapshot.division.runs() {
            policies.update(&self.scene(run, now, draw as u32, None), &self.known, draw);
        }
        self.policies = policies;
    }

    /// True if an endpoint is left out, or may be by whoever sees what this worker sees.
    fn has_trouble(&self, now: UnixNanos) -> bool {
        let has_failed = |row: &Row| {
            let at = believable(row.last_failure, now);
            row.is_known && now.since(at) < TROUBLE_AGE
        };
        self.snapshot.fit < self.snapshot.known || self.table.rows().iter().any(has_failed)
    }

    /// What the own zone has to do, and what the others.
    fn zones(&self, rules: &Locality) -> Zones {
        // Load times rate, and rate.
        let (mut local, mut remote) = ((0.0, 0.0), (0.0, 0.0));
        for run in self.snapshot.division.runs() {
            let side = if run.part.is_remote { &mut remote } else { &mut local };
            let candidates = self.snapshot.candidates.get(run.places.clone()).unwrap_or_default();
            for candidate in candidates {
                let Some(row) = self.table.rows().get(candidate.row) else { continue };
                let in_flight = f64::from(row.in_flight) + candidate.elsewhere;
                let reported = row.utilization.map(|load| load * candidate.rate);
                side.0 += reported.unwrap_or(in_flight / f64::from(rules.endpoint_concurrency));
                side.1 += candidate.rate;
            }
        }
        let load = |(load, rate): (f64, f64)| if rate > 0.0 { load / rate } else { 0.0 };
        let due = local.1 / (local.1 + remote.1).max(f64::MIN_POSITIVE);
        Zones { local: load(local), remote: load(remote), due }
    }

    /// Writes into the rows what the snapshot says of them.
    fn index(&mut self) {
        for row in self.table.rows_mut() {
            row.weight_milli = 0;
            row.candidate = None;
        }
        self.load_elsewhere = 0.0;
        for (place, candidate) in self.snapshot.candidates.iter().enumerate() {
            self.load_elsewhere += candidate.elsewhere;
            if let Some(row) = self.table.at(candidate.row) {
                row.candidate = Some(place);
                // A float beyond the range becomes its end; an endpoint that is picked shows.
                let weight = candidate.rate * candidate.admission;
                row.weight_milli = ((weight * 1000.0) as u64).max(1);
            }
        }
    }
}

/// Where the worker in this slot reports, which is put together once and not with every tick.
fn report_key<'k>(
    keys: &'k mut Vec<(u16, Key<WorkerReport>)>,
    cluster: &str,
    slot: WorkerSlot,
) -> Option<&'k Key<WorkerReport>> {
    let at = keys.iter().position(|(index, _)| *index == slot.index).unwrap_or_else(|| {
        keys.push((slot.index, WorkerReport::key(MODULE, cluster, slot.index)));
        keys.len() - 1
    });
    keys.get(at).map(|(_, key)| key)
}

fn add(sums: &mut Vec<Elsewhere>, entry: &WorkerEntry, now: UnixNanos) {
    let last_success = believable(entry.last_success, now);
    let last_failure = believable(entry.last_failure, now);
    let one = Elsewhere {
        endpoint: entry.endpoint,
        in_flight: u64::from(entry.in_flight),
        answered: entry.succeeded.saturating_add(entry.failed),
        last_answer: last_success.max(last_failure),
        last_success,
        latency: (entry.latency_us.into(), u32::from(entry.latency_us > 0)),
        streak: entry.consecutive_failures,
        last_failure,
    };
    match sums.binary_search_by_key(&entry.endpoint, |sum| sum.endpoint) {
        Ok(at) => {
            if let Some(sum) = sums.get_mut(at) {
                sum.in_flight = sum.in_flight.saturating_add(one.in_flight);
                sum.answered = sum.answered.saturating_add(one.answered);
                sum.last_answer = sum.last_answer.max(one.last_answer);
                sum.last_success = sum.last_success.max(last_success);
                sum.latency.0 = sum.latency.0.saturating_add(one.latency.0);
                sum.latency.1 = sum.latency.1.saturating_add(one.latency.1);
                if one.streak > sum.streak {
                    (sum.streak, sum.last_failure) = (one.streak, last_failure);
                }
            }
        }
        Err(at) => sums.insert(at, one),
    }
}

fn unknown(site: Listed, part: Part, row: usize) -> Facts {
    Facts {
        endpoint: site.endpoint,
        part,
        listed: f64::from(site.weight),
        row,
        state: HealthState::Unknown,
        state_since: None,
        came_at: None,
        breaker_rejects: false,
        works: false,
        elsewhere: 0.0,
        orca: None,
        reported_rps: None,
        latency: None,
        latency_age: Duration::ZERO,
        certainty: 0.0,
        error_ratio: 0.0,
        weight: 1.0,
        load: None,
    }
}

/// What a report says of the endpoint's load; `None` if that is nothing, or was long ago.
fn load(
    report: &LoadReport,
    rules: &HotCold,
    own_share: Option<f64>,
    now: UnixNanos,
) -> Option<Load> {
    // A report from the future was received before the clock stepped back.
    let reported_at = report.received_at.min(now);
    let utilization = report.application_utilization.max(report.cpu_utilization);
    let in_flight = report
        .named(&rules.rif_metric)
        .or_else(|| (utilization > 0.0).then_some(utilization))
        .filter(|_| now.since(reported_at) < MAX_HEALTH_AGE)?;
    Some(Load {
        reported_at,
        in_flight: f64::from(in_flight),
        latency: report.named(&rules.latency_metric).map(f64::from),
        own_share,
    })
}

/// An endpoint that asks for nothing is not picked by state, and not by a rate of nothing.
fn weight(asked: f32) -> f64 {
    if asked.is_finite() { f64::from(asked).clamp(0.01, 100.0) } else { 1.0 }
}

/// What an endpoint says of its own load, if it has said so lately.
fn utilization(report: &LoadReport, now: UnixNanos) -> Option<f64> {
    let is_fresh = report.received_at <= now && now.since(report.received_at) < MAX_REPORT_AGE;
    let said = [report.application_utilization, report.cpu_utilization];
    let said = said.into_iter().find(|utilization| *utilization > 0.0);
    said.filter(|_| is_fresh).map(f64::from)
}

/// True unless the record is old, or was written before the clock stepped back.
fn is_current(health: &EndpointHealth, now: UnixNanos) -> bool {
    now.since(health.written_at) < MAX_HEALTH_AGE
        && !health.written_at.is_stale_deadline(now, MAX_HEALTH_AGE)
}

#[cfg(test)]
mod tests;
