//! The leader's table of one cluster: everything known of each endpoint, and the record it makes.
//!
//! The leader feeds it members, the workers' evidence and the answers to polls, and asks it for
//! two things: which endpoints to poll now, and which records to write. It holds no clock and no
//! store, so a whole cluster's life can be played in a test.
//!
//! Polls are of endpoints, but for a query of a Prometheus server, of which one answer tells of all.

use crate::config::{Active, Cluster, PollKind};
use crate::passive::is_fresh;
use crate::row::{PollRow, Row};
use crate::{
    Agent, Answer, Budget, DecidedBy, EndpointMap, Evidence, Origin, PollFailure, Schedule, Signal,
    query,
};
use core::time::Duration;
use shared_state::{Endpoint, EndpointHealth, HealthState, LoadReport, UnixNanos};
use sorting::{sort_by, sort_by_key};
use std::rc::Rc;

/// How long after its timeout a poll is given up. The host answers every call in the end; this is
/// for the call that it forgot.
const GRACE: Duration = Duration::from_secs(1);

/// After how long without a request a cluster has no traffic.
const IDLE_AFTER: Duration = Duration::from_secs(60);

/// The table.
#[derive(Debug)]
pub struct ClusterHealth {
    config: Rc<Cluster>,
    rows: EndpointMap<Row>,
    /// Queries, each with its place among the polls.
    queries: Vec<(usize, PollRow)>,
    budget: Budget,
    /// There have been no requests for a while.
    idle: bool,
    /// Answers of this cluster name their endpoint: an upstream instance is there.
    named: bool,
    /// When an answer last came from the endpoint that was asked.
    steered_at: UnixNanos,
    /// Whose turn it is to be looked at.
    cursor: usize,
    /// Streams of endpoints that have left.
    orphans: Vec<u32>,
}

/// A poll to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its place among the cluster's polls.
    pub poll: usize,
    /// Who is asked; `None` for a query.
    pub endpoint: Option<Endpoint>,
    /// How long to wait for the answer.
    pub timeout: Duration,
}

/// What all endpoints of a cluster add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Streams of load reports that are open.
    pub streams: u64,
    /// Requests that wait for an answer.
    pub in_flight: u64,
    /// Requests that wait inside the endpoints.
    pub queue_depth: u64,
    /// Shares of their capacity that are in use: 1 for each endpoint that is fully used.
    pub utilization: f64,
    /// Endpoints in each state, by [`HealthState::number`].
    pub states: [u64; HealthState::ALL.len()],
}

/// What came of one poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollOutcome {
    /// A good answer of the endpoint.
    Good,
    /// A failure of the endpoint.
    Failed(PollFailure),
    /// Another endpoint answered: no evidence.
    Misattributed,
    /// Nobody knows who answered: no evidence.
    Unattributed,
    /// The host did not send it, or had no room for it: no evidence.
    Refused,
    /// No answer ever came, not even the host's own. Counts as a timeout.
    Lost,
    /// The poll had been given up: no evidence.
    Late,
}

impl PollOutcome {
    /// The label `outcome` of `weir_polls_total`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Failed(failure) => failure.name(),
            Self::Misattributed => "misattributed",
            Self::Unattributed => "unattributed",
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::Late => "late",
        }
    }
}

/// A record to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Publication {
    /// Of which endpoint.
    pub endpoint: Endpoint,
    /// The record.
    pub record: EndpointHealth,
    /// The state before, and what decided the new one, if it changed.
    pub change: Option<(HealthState, DecidedBy)>,
}

impl ClusterHealth {
    /// Without endpoints. `draw` gives the place of the first queries.
    pub fn new(config: Rc<Cluster>, now: UnixNanos, draw: &mut dyn FnMut() -> u64) -> Self {
        let queries = config.active.iter().enumerate();
        let queries = queries.filter(|(_, active)| active.kind == PollKind::PrometheusQuery);
        let mut first =
            |active: &Active| PollRow::new(Schedule::first(now, active.interval, draw()));
        Self {
            queries: queries.map(|(at, active)| (at, first(active))).collect(),
            config,
            rows: EndpointMap::default(),
            budget: Budget::default(),
            idle: true,
            named: false,
            steered_at: UnixNanos::ZERO,
            cursor: 0,
            orphans: Vec::new(),
        }
    }

    /// Takes the list of members. `prior` gives the record that a former leader left of a new
    /// one, `draw` the place of its first polls. Answers the endpoints that are no members any more.
    pub fn set_members(
        &mut self,
        members: impl Iterator<Item = Endpoint>,
        now: UnixNanos,
        prior: impl Fn(Endpoint) -> Option<EndpointHealth>,
        draw: &mut dyn FnMut() -> u64,
    ) -> Vec<Endpoint> {
        let mut members: Vec<Endpoint> = members.collect();
        sort_by(&mut members, Endpoint::cmp);
        members.dedup();
        // Mostly nothing has changed, and to take a thousand rows out and put them in again, each
        // tick, would be most of what the leader does.
        let stays = |endpoint: &Endpoint| members.binary_search(endpoint).is_ok();
        let all = self.rows.iter().map(|(endpoint, _)| endpoint);
        let gone: Vec<_> = all.filter(|endpoint| !stays(endpoint)).collect();
        for endpoint in &gone {
            let row = self.rows.remove(*endpoint);
            self.orphans.extend(row.and_then(|row| row.stream?.token()));
        }
        for endpoint in members {
            self.rows.get_or_insert_with(endpoint, || {
                Row::new(&self.config, prior(endpoint), now, draw)
            });
        }
        gone
    }

    /// Takes what the workers have seen by now.
    pub fn absorb(&mut self, mut evidence: EndpointMap<Evidence>, now: UnixNanos) {
        for (endpoint, row) in self.rows.iter_mut() {
            let evidence = evidence.get_mut(endpoint).map(core::mem::take).unwrap_or_default();
            row.absorb(evidence, &self.config, now);
        }
    }

    /// The next `most` endpoints, in turns.
    pub fn some_endpoints(&mut self, most: usize) -> Vec<Endpoint> {
        let count = self.rows.len();
        let from = if self.cursor >= count { 0 } else { self.cursor };
        let all = self.rows.iter().map(|(endpoint, _)| endpoint);
        let some: Vec<_> = all.skip(from).take(most).collect();
        self.cursor = from.saturating_add(most);
        some
    }

    /// Takes whether the endpoint's circuit breaker is open.
    pub fn set_breaker(&mut self, endpoint: Endpoint, is_open: bool) {
        if let Some(row) = self.rows.get_mut(endpoint) {
            row.breaker_open = is_open;
        }
    }

    /// The polls to send now, the longest due first, as many as may be sent. A poll that requests
    /// make needless is put off; of those, how many is told too.
    pub fn due(&mut self, now: UnixNanos, draw: &mut dyn FnMut() -> u64) -> (Vec<Due>, usize) {
        let config = Rc::clone(&self.config);
        self.note_traffic(now, draw);
        let (mut due, mut spared) = (Vec::new(), 0);
        for (endpoint, row) in self.rows.iter_mut() {
            for (at, active) in config.active.iter().enumerate() {
                if active.kind == PollKind::PrometheusQuery {
                    continue;
                }
                let interval = interval(active, self.idle);
                let spare = row.is_spared(at, active, interval, now);
                let Some(poll) = row.polls.get_mut(at) else { continue };
                if !is_due(poll, active, interval, now) {
                    continue;
                }
                if spare {
                    poll.schedule =
                        poll.schedule.following(now, interval, active.jitter_percent, draw());
                    poll.active.refresh(now);
                    spared += 1;
                    continue;
                }
                let timeout = poll.patience.timeout(active.min_timeout, active.timeout);
                let endpoint = Some(endpoint);
                due.push((poll.schedule, Due { poll: at, endpoint, timeout }));
            }
        }
        for (at, poll) in &self.queries {
            let Some(active) = config.active.get(*at) else { continue };
            if is_due(poll, active, interval(active, self.idle), now) {
                let due_now = Due { poll: *at, endpoint: None, timeout: active.timeout };
                due.push((poll.schedule, due_now));
            }
        }
        sort_by_key(&mut due, |(schedule, _)| *schedule);
        self.budget.refill(config.max_probe_rps, now);
        let sent = due.into_iter().map(|(_, due)| due).take_while(|_| self.budget.take());
        (sent.collect(), spared)
    }

    /// True if there are more polls to send than may be sent.
    pub fn is_over_budget(&self) -> bool {
        let endpoints = self.rows.len() as f64;
        let rate = |active: &Active| {
            let asked = if active.kind == PollKind::PrometheusQuery { 1.0 } else { endpoints };
            asked / interval(active, self.idle).as_secs_f64()
        };
        self.config.active.iter().map(rate).sum::<f64>() > f64::from(self.config.max_probe_rps)
    }

    /// When requests come again after a while without, polls are drawn anew: their turns may be far.
    fn note_traffic(&mut self, now: UnixNanos, draw: &mut dyn FnMut() -> u64) {
        let seen = |row: &Row| row.evidence.last_success.max(row.evidence.last_failure);
        let is_idle = !self.rows.iter().any(|(_, row)| is_fresh(seen(row), now, IDLE_AFTER));
        let resumed = self.idle && !is_idle;
        self.idle = is_idle;
        if !resumed {
            return;
        }
        let config = Rc::clone(&self.config);
        let slowed = |active: &Active| active.no_traffic_interval > active.interval;
        for (_, row) in self.rows.iter_mut() {
            for (poll, active) in row.polls.iter_mut().zip(&config.active) {
                if slowed(active) {
                    poll.schedule = Schedule::first(now, active.interval, draw());
                }
            }
        }
        for (at, poll) in &mut self.queries {
            if let Some(active) = config.active.get(*at).filter(|active| slowed(active)) {
                poll.schedule = Schedule::first(now, active.interval, draw());
            }
        }
    }

    /// The poll `due` was sent under the host's number `token`, or refused by the host.
    pub fn sent(&mut self, due: Due, token: Option<u32>, now: UnixNanos, draw: u64) {
        let config = Rc::clone(&self.config);
        let Some(active) = config.active.get(due.poll) else { return };
        let interval = interval(active, self.idle);
        let Some(poll) = self.poll_mut(due) else { return };
        poll.sent(token, due.timeout, now);
        poll.schedule = poll.schedule.following(now, interval, active.jitter_percent, draw);
    }

    fn poll_mut(&mut self, due: Due) -> Option<&mut PollRow> {
        match due.endpoint {
            Some(endpoint) => self.rows.get_mut(endpoint)?.polls.get_mut(due.poll),
            None => {
                let is_it = |(at, _): &&mut (usize, PollRow)| *at == due.poll;
                self.queries.iter_mut().find(is_it).map(|(_, poll)| poll)
            }
        }
    }

    /// Takes the answer to the poll `due` that was sent as `token`.
    pub fn answered(
        &mut self,
        due: Due,
        token: u32,
        answer: &Answer<'_>,
        now: UnixNanos,
    ) -> PollOutcome {
        let config = Rc::clone(&self.config);
        let Some(active) = config.active.get(due.poll) else { return PollOutcome::Late };
        let Some(endpoint) = due.endpoint else {
            return self.query_answered(due, active, token, answer, now);
        };
        self.named |= answer.served.is_some();
        let limit = self.limit(active);
        let named = self.named;
        let Some(row) = self.rows.get_mut(endpoint) else { return PollOutcome::Late };
        let Some(poll) = row.polls.get_mut(due.poll) else { return PollOutcome::Late };
        let Some(waiting) = poll.take_waiting(token) else { return PollOutcome::Late };
        let failure = match answer.origin(endpoint, named) {
            Origin::Target(status) => {
                self.steered_at = now;
                poll.took(waiting, None, now);
                if let Some(agent) = answer.agent.and_then(|text| Agent::read(text.as_bytes())) {
                    row.hear(&agent);
                }
                return row.answered(due.poll, (status, answer.body), limit, &config, now);
            }
            Origin::Other => return PollOutcome::Misattributed,
            Origin::Unknown => return PollOutcome::Unattributed,
            Origin::Overflow => return PollOutcome::Refused,
            Origin::ConnectFailure => PollFailure::Connect,
            Origin::Timeout => PollFailure::Timeout,
            Origin::Reset => PollFailure::Reset,
        };
        poll.took(waiting, Some(failure), now);
        row.polled(due.poll, Err(failure), limit, &config, now)
    }

    fn query_answered(
        &mut self,
        due: Due,
        active: &Active,
        token: u32,
        answer: &Answer<'_>,
        now: UnixNanos,
    ) -> PollOutcome {
        let waiting = self.poll_mut(due).and_then(|poll| poll.take_waiting(token));
        let (Some(_), Some(query)) = (waiting, &active.query) else { return PollOutcome::Late };
        let failure = match (answer.status, answer.proxied) {
            (None, _) => Some(PollFailure::Reset),
            (Some(503), false) => Some(PollFailure::Connect),
            (Some(504), false) => Some(PollFailure::Timeout),
            _ => None,
        };
        let read = || query::read(answer.status.unwrap_or(0), answer.body, &query.label);
        let values = match failure.map_or_else(read, Err) {
            Ok(values) => values,
            Err(failure) => return PollOutcome::Failed(failure),
        };
        let limit = self.limit(active);
        let config = Rc::clone(&self.config);
        let endpoints: Vec<Endpoint> = self.rows.iter().map(|(endpoint, _)| endpoint).collect();
        for (endpoint, value) in values.of(&endpoints) {
            if let Some(row) = self.rows.get_mut(endpoint) {
                row.add_signal(query.signal, value * query.scale, limit, &config, now);
            }
        }
        PollOutcome::Good
    }

    /// How long the result of a poll counts.
    fn limit(&self, active: &Active) -> Duration {
        self.config.staleness.active.limit(interval(active, self.idle))
    }

    /// Gives up the polls that nobody will answer any more.
    pub fn give_up(&mut self, now: UnixNanos) -> Vec<Due> {
        let config = Rc::clone(&self.config);
        let mut lost = Vec::new();
        let limits: Vec<Duration> = config.active.iter().map(|active| self.limit(active)).collect();
        for (endpoint, row) in self.rows.iter_mut() {
            for (at, limit) in limits.iter().enumerate() {
                let Some(poll) = row.polls.get_mut(at) else { continue };
                let Some(waiting) = give_up(poll, now) else { continue };
                poll.took(waiting, Some(PollFailure::Timeout), now);
                row.polled(at, Err(PollFailure::Timeout), *limit, &config, now);
                let (poll, endpoint, timeout) = (at, Some(endpoint), waiting.timeout);
                lost.push(Due { poll, endpoint, timeout });
            }
        }
        for (at, poll) in &mut self.queries {
            if let Some(waiting) = give_up(poll, now) {
                lost.push(Due { poll: *at, endpoint: None, timeout: waiting.timeout });
            }
        }
        lost
    }

    /// True if answers have lately come from the endpoints that were asked. Only then does an
    /// answer from another one mean that the one asked has left the cluster.
    pub fn is_steering(&self, now: UnixNanos) -> bool {
        let intervals = self.config.active.iter().map(|active| interval(active, self.idle));
        let recent = intervals.max().map(|interval| interval.saturating_mul(2));
        recent.is_some_and(|recent| self.named && is_fresh(self.steered_at, now, recent))
    }

    /// The records to write now: those that differ from what was written, and those last written
    /// a heartbeat ago.
    pub fn publications(&mut self, now: UnixNanos) -> Vec<Publication> {
        let config = Rc::clone(&self.config);
        let limits: Vec<Duration> = config.active.iter().map(|active| self.limit(active)).collect();
        let rows = self.rows.iter_mut();
        rows.filter_map(|(endpoint, row)| row.publication(endpoint, &config, &limits, now))
            .collect()
    }

    /// What the records add up to, as they were last written.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (_, row) in self.rows.iter() {
            totals.streams += u64::from(row.stream.is_some_and(|stream| stream.token().is_some()));
            let Some(record) = &row.published else { continue };
            totals.in_flight += u64::from(record.in_flight);
            totals.queue_depth += u64::from(record.queue_depth.unwrap_or(0));
            totals.utilization += utilization(record).unwrap_or(0.0);
            if let Some(count) = totals.states.get_mut(usize::from(record.state.number())) {
                *count += 1;
            }
        }
        totals
    }

    /// The endpoints to which a stream of load reports is to be opened now, at most `most`.
    pub fn streams_due(&self, most: usize, now: UnixNanos) -> Vec<Endpoint> {
        let is_due = |row: &Row| row.stream.is_some_and(|stream| stream.is_due(now));
        let due = self.rows.iter().filter(|(_, row)| is_due(row)).take(most);
        due.map(|(endpoint, _)| endpoint).collect()
    }

    /// The stream to `endpoint` was opened under this number, or refused by the host.
    pub fn stream_opened(
        &mut self,
        endpoint: Endpoint,
        token: Option<u32>,
        now: UnixNanos,
        draw: u64,
    ) {
        let row = self.rows.get_mut(endpoint);
        if let Some(stream) = row.and_then(|row| row.stream.as_mut()) {
            stream.opened(token, now, draw);
        }
    }

    /// The endpoint of a stream.
    pub fn stream_endpoint(&self, token: u32) -> Option<Endpoint> {
        let is_it = |row: &Row| row.stream.is_some_and(|stream| stream.token() == Some(token));
        self.rows.iter().find(|(_, row)| is_it(row)).map(|(endpoint, _)| endpoint)
    }

    /// A load report came on a stream.
    pub fn stream_said(&mut self, endpoint: Endpoint, report: LoadReport, now: UnixNanos) {
        if let Some(row) = self.rows.get_mut(endpoint) {
            row.streamed(report);
            if let Some(stream) = &mut row.stream {
                stream.heard(now);
            }
        }
    }

    /// A stream ended with this status, or with `None` because of what was on it. Answers whether
    /// it ended for good.
    pub fn stream_ended(
        &mut self,
        endpoint: Endpoint,
        status: Option<u32>,
        now: UnixNanos,
        draw: u64,
    ) -> bool {
        let row = self.rows.get_mut(endpoint);
        let Some(stream) = row.and_then(|row| row.stream.as_mut()) else { return false };
        match status {
            Some(status) => stream.closed(status, now, draw),
            None => {
                stream.failed(now, draw);
                false
            }
        }
    }

    /// The streams to end: of endpoints that have left, and those that have been silent for too
    /// long, which are opened again later.
    pub fn dead_streams(&mut self, now: UnixNanos, draw: &mut dyn FnMut() -> u64) -> Vec<u32> {
        let mut dead = core::mem::take(&mut self.orphans);
        let Some(period) = self.config.orca.oob_reporting_period else { return dead };
        for stream in self.rows.iter_mut().filter_map(|(_, row)| row.stream.as_mut()) {
            if stream.is_dead(period, now) {
                dead.extend(stream.token());
                stream.failed(now, draw());
            }
        }
        dead
    }

    /// All streams that are open.
    pub fn streams(&self) -> Vec<u32> {
        let open = self.rows.iter().filter_map(|(_, row)| row.stream.as_ref()?.token());
        open.chain(self.orphans.iter().copied()).collect()
    }

    /// The record of `endpoint` could not be written: it is due again.
    pub fn publication_failed(&mut self, endpoint: Endpoint) {
        if let Some(row) = self.rows.get_mut(endpoint) {
            row.published = None;
        }
    }
}

/// The share of an endpoint's capacity that is in use, as it reports it: that of the application if
/// it knows one, else that of the CPU.
pub fn utilization(record: &EndpointHealth) -> Option<f64> {
    let report = record.report.as_ref()?;
    let known = Signal::ApplicationUtilization.reported(report);
    known.or_else(|| Signal::CpuUtilization.reported(report))
}

/// The gap between two polls now.
fn interval(active: &Active, idle: bool) -> Duration {
    if idle { active.no_traffic_interval } else { active.interval }
}

fn is_due(poll: &PollRow, active: &Active, interval: Duration, now: UnixNanos) -> bool {
    poll.waiting.is_none() && poll.schedule.is_due(now, interval, active.jitter_percent)
}

/// Takes the poll that has waited for too long.
fn give_up(poll: &mut PollRow, now: UnixNanos) -> Option<crate::row::Waiting> {
    let waiting = poll.waiting?;
    let stepped_back = waiting.sent_at > now;
    if !stepped_back && now.since(waiting.sent_at) <= waiting.timeout.saturating_add(GRACE) {
        return None;
    }
    poll.waiting = None;
    // After a step back, how long it has been is unknown.
    (!stepped_back).then_some(waiting)
}

#[cfg(test)]
mod tests;
