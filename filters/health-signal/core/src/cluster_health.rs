//! The leader's table of one cluster: everything known of each endpoint, and the record it makes.
//!
//! The leader feeds it members, the workers' evidence and the answers to polls, and asks it for
//! two things: which endpoints to poll now, and which records to write. It holds no clock and no
//! store, so a whole cluster's life can be played in a test.

use crate::config::{Active, Cluster};
use crate::passive::is_fresh;
use crate::{
    ActiveTrack, Answer, DecidedBy, EndpointMap, ErrorRatio, Evidence, Opinions, Origin,
    PassiveTrack, PollFailure, Schedule, fuse, healthz,
};
use core::time::Duration;
use shared_state::{Endpoint, EndpointHealth, HealthState, UnixNanos};
use std::rc::Rc;

/// How often a record is written although nothing in it has changed, so that readers can tell a
/// healthy endpoint from a leader that ended.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long after its timeout a poll is given up. The host answers every call in the end; this is
/// for the call that it forgot.
const GRACE: Duration = Duration::from_secs(1);

/// Most polls that are sent in one tick: a table of 256 endpoints is spread over several.
const MAX_POLLS_PER_TICK: usize = 32;

/// The table.
#[derive(Debug)]
pub struct ClusterHealth {
    config: Rc<Cluster>,
    rows: EndpointMap<Row>,
    /// Answers of this cluster name their endpoint: an upstream instance is there.
    named: bool,
    /// When an answer last came from the endpoint that was asked.
    steered_at: UnixNanos,
}

#[derive(Debug, Default)]
struct Row {
    active: ActiveTrack,
    passive: PassiveTrack,
    evidence: Evidence,
    errors: ErrorRatio,
    schedule: Option<Schedule>,
    poll: Option<Poll>,
    state: HealthState,
    state_since: UnixNanos,
    published: Option<EndpointHealth>,
}

#[derive(Clone, Copy, Debug)]
struct Poll {
    token: u32,
    sent_at: UnixNanos,
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
    /// Without endpoints.
    pub fn new(config: Rc<Cluster>) -> Self {
        Self { config, rows: EndpointMap::default(), named: false, steered_at: UnixNanos::ZERO }
    }

    /// Takes the list of members. `prior` gives the record that a former leader left of a new
    /// one, `draw` the place of its first poll. Answers the endpoints that are no members any more.
    pub fn set_members(
        &mut self,
        members: impl Iterator<Item = Endpoint>,
        now: UnixNanos,
        prior: impl Fn(Endpoint) -> Option<EndpointHealth>,
        mut draw: impl FnMut() -> u64,
    ) -> Vec<Endpoint> {
        let mut former = core::mem::take(&mut self.rows);
        for endpoint in members {
            let row = former
                .remove(endpoint)
                .unwrap_or_else(|| Row::new(&self.config, prior(endpoint), now, draw()));
            self.rows.get_or_insert_with(endpoint, || row);
        }
        former.iter().map(|(endpoint, _)| endpoint).collect()
    }

    /// Takes what the workers have seen by now.
    pub fn absorb(&mut self, mut evidence: EndpointMap<Evidence>, now: UnixNanos) {
        for (endpoint, row) in self.rows.iter_mut() {
            row.evidence = evidence.remove(endpoint).unwrap_or_default();
            row.errors.add(row.evidence.succeeded, row.evidence.failed, now);
            if self.config.passive.enabled {
                let staleness = self.config.staleness.passive;
                row.passive.add(&row.evidence, &self.config.passive, staleness, now);
            }
        }
    }

    /// The endpoints to poll now.
    pub fn due(&self, now: UnixNanos) -> Vec<Endpoint> {
        let Some(active) = &self.config.active else { return Vec::new() };
        let is_due = |row: &Row| {
            row.poll.is_none()
                && row.schedule.is_some_and(|schedule| {
                    schedule.is_due(now, active.interval, active.jitter_percent)
                })
        };
        let due = self.rows.iter().filter(|(_, row)| is_due(row));
        due.map(|(endpoint, _)| endpoint).take(MAX_POLLS_PER_TICK).collect()
    }

    /// A poll of `endpoint` was sent under the host's number `token`, or refused by the host.
    pub fn sent(&mut self, endpoint: Endpoint, token: Option<u32>, now: UnixNanos, draw: u64) {
        let Some(active) = &self.config.active else { return };
        let Some(row) = self.rows.get_mut(endpoint) else { return };
        row.poll = token.map(|token| Poll { token, sent_at: now });
        let schedule = row.schedule.unwrap_or_else(|| Schedule::first(now, active.interval, 0));
        let (interval, jitter) = (active.interval, active.jitter_percent);
        row.schedule = Some(schedule.following(now, interval, jitter, draw));
    }

    /// Takes the answer to the poll `token` of `endpoint`.
    pub fn answered(
        &mut self,
        endpoint: Endpoint,
        token: u32,
        answer: &Answer<'_>,
        now: UnixNanos,
    ) -> PollOutcome {
        self.named |= answer.served.is_some();
        let config = Rc::clone(&self.config);
        let Some(active) = &config.active else { return PollOutcome::Late };
        let Some(row) = self.rows.get_mut(endpoint) else { return PollOutcome::Late };
        if row.poll.is_none_or(|poll| poll.token != token) {
            return PollOutcome::Late;
        }
        row.poll = None;
        let failure = match answer.origin(endpoint, self.named) {
            Origin::Target(status) => {
                self.steered_at = now;
                return row.take_poll(healthz::read(active, status, answer.body), active, now);
            }
            Origin::Other => return PollOutcome::Misattributed,
            Origin::Unknown => return PollOutcome::Unattributed,
            Origin::Overflow => return PollOutcome::Refused,
            Origin::ConnectFailure => PollFailure::Connect,
            Origin::Timeout => PollFailure::Timeout,
            Origin::Reset => PollFailure::Reset,
        };
        row.take_poll(Err(failure), active, now)
    }

    /// Gives up the polls that nobody will answer any more, and answers of which endpoints.
    pub fn give_up(&mut self, now: UnixNanos) -> Vec<Endpoint> {
        let config = Rc::clone(&self.config);
        let Some(active) = &config.active else { return Vec::new() };
        let patience = active.timeout.saturating_add(GRACE);
        let mut lost = Vec::new();
        for (endpoint, row) in self.rows.iter_mut() {
            let Some(poll) = row.poll else { continue };
            if poll.sent_at > now {
                // The clock stepped back: how long it has been is unknown.
                row.poll = None;
            } else if now.since(poll.sent_at) > patience {
                row.poll = None;
                row.take_poll(Err(PollFailure::Timeout), active, now);
                lost.push(endpoint);
            }
        }
        lost
    }

    /// True if answers have lately come from the endpoints that were asked. Only then does an
    /// answer from another one mean that the one asked has left the cluster.
    pub fn is_steering(&self, now: UnixNanos) -> bool {
        let recent = self.config.active.as_ref().map(|active| active.interval.saturating_mul(2));
        recent.is_some_and(|recent| self.named && is_fresh(self.steered_at, now, recent))
    }

    /// The records to write now: those that differ from what was written, and those last written
    /// a heartbeat ago.
    pub fn publications(&mut self, now: UnixNanos) -> Vec<Publication> {
        let config = Rc::clone(&self.config);
        let rows = self.rows.iter_mut();
        rows.filter_map(|(endpoint, row)| row.publication(endpoint, &config, now)).collect()
    }

    /// The record of `endpoint` could not be written: it is due again.
    pub fn publication_failed(&mut self, endpoint: Endpoint) {
        if let Some(row) = self.rows.get_mut(endpoint) {
            row.published = None;
        }
    }
}

impl Row {
    fn new(config: &Cluster, prior: Option<EndpointHealth>, now: UnixNanos, draw: u64) -> Self {
        let schedule = config.active.as_ref().map(|a| Schedule::first(now, a.interval, draw));
        let Some(prior) = prior else { return Self { schedule, ..Self::default() } };
        let polled = config.active.is_some();
        Self {
            active: if polled { ActiveTrack::inherited(&prior) } else { ActiveTrack::default() },
            errors: ErrorRatio::starting(prior.error_ratio),
            schedule,
            state: prior.state,
            state_since: prior.state_since,
            ..Self::default()
        }
    }

    fn take_poll(
        &mut self,
        result: Result<healthz::Healthz, PollFailure>,
        active: &Active,
        now: UnixNanos,
    ) -> PollOutcome {
        let failure = result.as_ref().err().copied();
        self.active.add(result, active, now);
        self.passive.add_poll(failure.is_none(), active.rise);
        failure.map_or(PollOutcome::Good, PollOutcome::Failed)
    }

    fn publication(
        &mut self,
        endpoint: Endpoint,
        config: &Cluster,
        now: UnixNanos,
    ) -> Option<Publication> {
        let polled = self.active.polled_at();
        let polled = polled.is_some_and(|at| is_fresh(at, now, config.staleness.active));
        let seen = &self.evidence;
        let report = seen.report.clone();
        let report = report.filter(|r| is_fresh(r.received_at, now, config.staleness.orca));
        let answered = is_fresh(seen.last_success, now, config.staleness.passive);
        let verdict = fuse(Opinions {
            active: polled.then(|| self.active.state()),
            passive_down: self.passive.is_down(),
            answers: config.passive.enabled && answered,
            reports: report.is_some(),
        });
        let change = (verdict.state != self.state).then_some((self.state, verdict.by));
        if change.is_some() || self.state_since == UnixNanos::ZERO {
            self.state = verdict.state;
            self.state_since = now;
        }
        let record = EndpointHealth {
            state: verdict.state,
            written_at: now,
            state_since: self.state_since,
            in_flight: seen.in_flight,
            latency_us: if answered { seen.latency_us } else { 0 },
            error_ratio: self.errors.share(),
            queue_depth: self.active.queue_depth().filter(|_| polled),
            connections: self.active.connections().filter(|_| polled),
            report,
            ..EndpointHealth::default()
        };
        if !self.is_due(&record, now) {
            return None;
        }
        self.published = Some(record.clone());
        Some(Publication { endpoint, record, change })
    }

    fn is_due(&self, record: &EndpointHealth, now: UnixNanos) -> bool {
        let Some(last) = &self.published else { return true };
        let written_at = last.written_at;
        let same = EndpointHealth { written_at, ..record.clone() } == *last;
        !same || written_at > now || now.since(written_at) >= HEARTBEAT
    }
}

#[cfg(test)]
mod tests;
