//! Everything that the leader knows of one endpoint, and the record it makes.

use crate::active::Said;
use crate::config::{Active, Cluster, PollKind, ReportedState};
use crate::oob::Stream;
use crate::passive::is_fresh;
use crate::{
    ActiveTrack, Agent, DecidedBy, ErrorRatio, Evidence, Flap, Opinions, PassiveTrack, Patience,
    PollFailure, PollOutcome, Publication, Schedule, Signal, Signals, Source, Verdict, fuse,
    healthz, prometheus,
};
use core::time::Duration;
use shared_state::{Endpoint, EndpointHealth, HealthState, LoadReport, UnixNanos};

/// How often a record is written although nothing in it has changed, so that readers can tell a
/// healthy endpoint from a leader that ended.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Longest postponement of a poll by what requests show, in intervals.
const MOST_POSTPONED: u32 = 5;

/// A poll that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) token: u32,
    pub(crate) sent_at: UnixNanos,
    pub(crate) timeout: Duration,
}

/// One kind of poll of one endpoint.
#[derive(Debug)]
pub(crate) struct PollRow {
    pub(crate) active: ActiveTrack,
    pub(crate) schedule: Schedule,
    pub(crate) waiting: Option<Waiting>,
    pub(crate) patience: Patience,
    /// When a poll was last sent.
    sent_at: UnixNanos,
    before: prometheus::Before,
}

impl PollRow {
    pub(crate) fn new(schedule: Schedule) -> Self {
        Self {
            active: ActiveTrack::default(),
            schedule,
            waiting: None,
            patience: Patience::default(),
            sent_at: UnixNanos::ZERO,
            before: prometheus::Before::default(),
        }
    }

    /// A poll was sent, or refused by the host.
    pub(crate) fn sent(&mut self, token: Option<u32>, timeout: Duration, now: UnixNanos) {
        self.waiting = token.map(|token| Waiting { token, sent_at: now, timeout });
        self.sent_at = now;
    }

    /// The poll that waits, if it is this one. It does no longer.
    pub(crate) fn take_waiting(&mut self, token: u32) -> Option<Waiting> {
        self.waiting.take_if(|waiting| waiting.token == token)
    }

    /// Takes how long the answer took, or that there was none.
    pub(crate) fn took(&mut self, waiting: Waiting, failure: Option<PollFailure>, now: UnixNanos) {
        match failure {
            Some(PollFailure::Timeout) => self.patience.timed_out(),
            Some(PollFailure::Connect | PollFailure::Reset) => {}
            _ => self.patience.answered(now.since(waiting.sent_at)),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) polls: Vec<PollRow>,
    pub(crate) evidence: Evidence,
    pub(crate) published: Option<EndpointHealth>,
    pub(crate) breaker_open: bool,
    /// The stream of its load reports, if they are wanted, and the newest of them.
    pub(crate) stream: Option<Stream>,
    streamed: Option<LoadReport>,
    passive: PassiveTrack,
    errors: ErrorRatio,
    signals: Signals,
    agent: Agent,
    /// When the agent spoke last in a response.
    agent_heard_at: UnixNanos,
    flap: Flap,
    /// Whether it worked when last somebody knew, and since when it does again.
    worked: Option<bool>,
    back_at: UnixNanos,
    pub(crate) state: HealthState,
    state_since: UnixNanos,
}

impl Row {
    pub(crate) fn new(
        config: &Cluster,
        prior: Option<EndpointHealth>,
        now: UnixNanos,
        draw: &mut dyn FnMut() -> u64,
    ) -> Self {
        let poll = |active: &Active| PollRow::new(Schedule::first(now, active.interval, draw()));
        let mut row = Self { polls: config.active.iter().map(poll).collect(), ..Self::default() };
        let period = config.orca.oob_reporting_period;
        row.stream = period.map(|period| Stream::new(period, now, draw()));
        let Some(prior) = prior else { return row };
        for (poll, active) in row.polls.iter_mut().zip(&config.active) {
            if active.kind != PollKind::PrometheusQuery && active.kind != PollKind::Prometheus {
                poll.active = ActiveTrack::inherited(&prior);
            }
        }
        row.worked = Verdict { state: prior.state, by: DecidedBy::Nothing }.works();
        let suppressed = prior.state == HealthState::Suppressed;
        row.flap = Flap::inherited(prior.flap_penalty, prior.written_at, row.worked, suppressed);
        if prior.state == HealthState::Ramping {
            row.back_at = prior.state_since;
        }
        row.errors = ErrorRatio::starting(prior.error_ratio);
        row.agent.max_connections = prior.max_connections;
        row.agent.weight = (prior.weight != 1.0).then(|| (prior.weight * 100.0).round() as u16);
        row.state = prior.state;
        row.state_since = prior.state_since;
        row
    }

    /// Takes what the workers have seen by now.
    pub(crate) fn absorb(&mut self, evidence: Evidence, config: &Cluster, now: UnixNanos) {
        let before = core::mem::replace(&mut self.evidence, evidence);
        let received = |report: &Option<LoadReport>| report.as_ref().map(|r| r.received_at);
        if received(&self.streamed) > received(&self.evidence.report) {
            self.evidence.report.clone_from(&self.streamed);
        }
        let seen = &self.evidence;
        self.errors.add(seen.succeeded, seen.failed, now);
        if config.passive.enabled {
            self.passive.add(seen, &config.passive, config.staleness.passive, now);
        }
        if received(&seen.report) != received(&before.report)
            && let Some(report) = &seen.report
        {
            let limit = config.staleness.orca;
            self.signals.add_report(report, &config.limits, limit, &config.smoothing);
        }
        for (said_at, agent) in &seen.agent {
            // What lies in the future was said before the clock stepped back, and has been heard.
            if *said_at > self.agent_heard_at || self.agent_heard_at > now {
                self.agent.say(agent);
                self.agent_heard_at = *said_at;
            }
        }
    }

    /// True if what requests have shown of the endpoint within `interval` spares it a poll.
    pub(crate) fn is_spared(
        &self,
        at: usize,
        active: &Active,
        interval: Duration,
        now: UnixNanos,
    ) -> bool {
        let Some(poll) = self.polls.get(at).filter(|_| active.skip_if_fresh) else { return false };
        let reported = self.evidence.report.as_ref().map_or(UnixNanos::ZERO, |r| r.received_at);
        let judges = active.kind.judges();
        let shown = if judges { reported.max(self.evidence.last_success) } else { reported };
        let works =
            !judges || matches!(poll.active.state(), HealthState::Healthy | HealthState::Degraded);
        works
            && shown > poll.sent_at
            && is_fresh(shown, now, interval)
            && is_fresh(poll.sent_at, now, interval.saturating_mul(MOST_POSTPONED))
    }

    /// Takes a number that came from elsewhere.
    pub(crate) fn add_signal(
        &mut self,
        signal: Signal,
        value: f64,
        limit: Duration,
        config: &Cluster,
        now: UnixNanos,
    ) {
        self.signals.add(signal, value, Source::Poll, limit, &config.smoothing, now);
    }

    /// Takes a load report of the endpoint's stream. It counts from the next tick on.
    pub(crate) fn streamed(&mut self, report: LoadReport) {
        self.streamed = Some(report);
    }

    /// Takes what the endpoint's agent says.
    pub(crate) fn hear(&mut self, agent: &Agent) {
        self.agent.say(agent);
    }

    /// Takes the answer to a poll. `limit` is how long it counts.
    pub(crate) fn answered(
        &mut self,
        at: usize,
        (status, body): (u16, &[u8]),
        limit: Duration,
        config: &Cluster,
        now: UnixNanos,
    ) -> PollOutcome {
        let (Some(active), Some(poll)) = (config.active.get(at), self.polls.get_mut(at)) else {
            return PollOutcome::Late;
        };
        let expected = active.expect_statuses.contains(status);
        let result = match active.kind {
            PollKind::HttpJson | PollKind::Http => healthz::read(active, status, body),
            _ if !expected => Err(PollFailure::Status),
            PollKind::Prometheus => {
                let signals = prometheus::read(body, &active.samples, &mut poll.before, limit, now);
                signals.map(|signals| Said { signals, ..Said::default() })
            }
            PollKind::Agent => {
                let agent = Agent::read(body).ok_or(PollFailure::Body);
                agent.map(|agent| {
                    self.agent.say(&agent);
                    Said::default()
                })
            }
            PollKind::PrometheusQuery => Err(PollFailure::Body),
        };
        self.polled(at, result, limit, config, now)
    }

    /// Takes the result of a poll.
    pub(crate) fn polled(
        &mut self,
        at: usize,
        result: Result<Said, PollFailure>,
        limit: Duration,
        config: &Cluster,
        now: UnixNanos,
    ) -> PollOutcome {
        let (Some(active), Some(poll)) = (config.active.get(at), self.polls.get_mut(at)) else {
            return PollOutcome::Late;
        };
        poll.active.add(&result, active, now);
        if active.kind.judges() {
            self.passive.add_poll(result.is_ok(), active.rise);
        }
        match result {
            Ok(said) => {
                for (signal, value) in said.signals {
                    self.add_signal(signal, value, limit, config, now);
                }
                PollOutcome::Good
            }
            Err(failure) => PollOutcome::Failed(failure),
        }
    }

    /// The record to write now, if one is due. `limits` are how long each poll counts.
    pub(crate) fn publication(
        &mut self,
        endpoint: Endpoint,
        config: &Cluster,
        limits: &[Duration],
        now: UnixNanos,
    ) -> Option<Publication> {
        let verdict = self.verdict(config, limits, now);
        let change = (verdict.state != self.state).then_some((self.state, verdict.by));
        let ramped = self.state == HealthState::Ramping && verdict.state == HealthState::Healthy;
        if change.is_some() || self.state_since == UnixNanos::ZERO {
            self.state = verdict.state;
            if !ramped {
                self.state_since = now;
            }
        }
        let seen = &self.evidence;
        let answered = is_fresh(seen.last_success, now, config.staleness.passive);
        let count = |signal| self.signals.get(signal, now).map(|value| value.round() as u32);
        let record = EndpointHealth {
            state: verdict.state,
            written_at: now,
            state_since: self.state_since,
            in_flight: seen.in_flight,
            latency_us: if answered { seen.latency_us } else { 0 },
            error_ratio: self.errors.share(),
            queue_depth: count(Signal::QueueDepth),
            connections: count(Signal::Connections),
            weight: self.agent.weight.map_or(1.0, |percent| f32::from(percent) / 100.0),
            max_connections: self.agent.max_connections,
            flap_penalty: self.flap.penalty(),
            report: self.signals.complete(self.fresh_report(config, now), now),
        };
        if !self.is_due(&record, now) {
            return None;
        }
        self.published = Some(record.clone());
        Some(Publication { endpoint, record, change })
    }

    fn fresh_report(&self, config: &Cluster, now: UnixNanos) -> Option<LoadReport> {
        let report = self.evidence.report.clone();
        report.filter(|report| is_fresh(report.received_at, now, config.staleness.orca))
    }

    fn verdict(&mut self, config: &Cluster, limits: &[Duration], now: UnixNanos) -> Verdict {
        let seen = &self.evidence;
        let is_full = self.agent.max_connections.is_some_and(|most| seen.in_flight >= most.max(1));
        let full = is_full.then_some(ReportedState::Degraded);
        let beyond = self.signals.beyond(&config.limits, now).or(full);
        let reported = seen.report.as_ref().map(|report| report.received_at);
        let verdict = fuse(Opinions {
            active: self.worst_poll(limits, now),
            agent: self.agent.state().map(state),
            limits: beyond.map(state),
            passive_down: self.passive.is_down(),
            answers: config.passive.enabled
                && is_fresh(seen.last_success, now, config.staleness.passive),
            reports: reported.is_some_and(|at| is_fresh(at, now, config.staleness.orca)),
            breaker_open: self.breaker_open,
        });
        let works = verdict.works();
        if works == Some(true) && self.worked == Some(false) {
            self.back_at = now;
        }
        self.worked = works.or(self.worked);
        let suppressed = self.flap.is_suppressed(works, &config.flap, now);
        let ramps = verdict.state == HealthState::Healthy
            && !config.ramp.is_zero()
            && is_fresh(self.back_at, now, config.ramp);
        let flapping = if suppressed { HealthState::Suppressed } else { HealthState::Unknown };
        let ramping = if ramps { HealthState::Ramping } else { HealthState::Unknown };
        verdict.or_worse(flapping, DecidedBy::Flapping).or_worse(ramping, DecidedBy::Recovery)
    }

    fn worst_poll(&self, limits: &[Duration], now: UnixNanos) -> Option<HealthState> {
        let fresh = self.polls.iter().zip(limits).filter(|(poll, limit)| {
            poll.active.polled_at().is_some_and(|at| is_fresh(at, now, **limit))
        });
        fresh.map(|(poll, _)| poll.active.state()).min_by_key(|state| state.rank())
    }

    fn is_due(&self, record: &EndpointHealth, now: UnixNanos) -> bool {
        let Some(last) = &self.published else { return true };
        let written_at = last.written_at;
        // A penalty that only decays is no news.
        let flap_penalty = last.flap_penalty;
        let same = EndpointHealth { written_at, flap_penalty, ..record.clone() } == *last;
        !same || written_at > now || now.since(written_at) >= HEARTBEAT
    }
}

fn state(reported: ReportedState) -> HealthState {
    match reported {
        ReportedState::Healthy => HealthState::Healthy,
        ReportedState::Degraded => HealthState::Degraded,
        ReportedState::Unready => HealthState::Unready,
        ReportedState::Down => HealthState::Down,
    }
}
