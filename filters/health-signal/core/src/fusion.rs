//! One state out of several opinions.
//!
//! ```text
//! Down > Unready > BreakerOpen > Suppressed > Degraded > Ramping > Healthy > Unknown
//! ```
//!
//! The worst opinion that is still fresh wins. Opinions are not averaged: an endpoint whose health
//! page works and whose requests fail is down, and one whose requests work and whose health page
//! fails is about to be. Each kind of evidence has its own age limit, and when all are too old the
//! endpoint is `Unknown`, which a picker treats as average, not as bad: if our polls stop, traffic
//! must not.

use shared_state::HealthState;

/// What each kind of evidence says of one endpoint, stale ones left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opinions {
    /// The polls' state; of several the worst.
    pub active: Option<HealthState>,
    /// What the endpoint's agent asks for.
    pub agent: Option<HealthState>,
    /// What the limits of signals make of it.
    pub limits: Option<HealthState>,
    /// Ordinary requests have taken it down.
    pub passive_down: bool,
    /// It answered an ordinary request well, and not long ago.
    pub answers: bool,
    /// It sent a load report, and not long ago.
    pub reports: bool,
    /// Its circuit breaker is open.
    pub breaker_open: bool,
}

/// A state, and what it rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The state.
    pub state: HealthState,
    /// The evidence that decided.
    pub by: DecidedBy,
}

/// The evidence that decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DecidedBy {
    /// None is fresh.
    #[default]
    Nothing,
    /// Polls.
    Polls,
    /// The endpoint's agent.
    Agent,
    /// A limit of a signal.
    Limits,
    /// Ordinary requests.
    Requests,
    /// Load reports.
    LoadReports,
    /// Its circuit breaker.
    Breaker,
    /// That it comes and goes.
    Flapping,
    /// That it has only just come back.
    Recovery,
}

impl DecidedBy {
    /// The name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no fresh evidence",
            Self::Polls => "polls",
            Self::Agent => "its agent",
            Self::Limits => "limits",
            Self::Requests => "requests",
            Self::LoadReports => "load reports",
            Self::Breaker => "its circuit breaker",
            Self::Flapping => "flapping",
            Self::Recovery => "recovery",
        }
    }
}

impl Verdict {
    /// The worse of the two; this one if they are alike.
    #[must_use]
    pub fn or_worse(self, state: HealthState, by: DecidedBy) -> Self {
        if state.rank() < self.state.rank() { Self { state, by } } else { self }
    }

    /// Whether the endpoint works; `None` if nobody knows.
    pub fn works(self) -> Option<bool> {
        (self.state != HealthState::Unknown).then(|| self.state.is_pickable())
    }
}

/// The state of the endpoint as the evidence has it. What follows from its history, flapping and
/// recovery, is added to it.
pub fn fuse(opinions: Opinions) -> Verdict {
    let unknown = HealthState::Unknown;
    let sign = |is_there: bool| if is_there { HealthState::Healthy } else { unknown };
    let down = if opinions.passive_down { HealthState::Down } else { unknown };
    let breaker = if opinions.breaker_open { HealthState::BreakerOpen } else { unknown };
    Verdict::default()
        .or_worse(down, DecidedBy::Requests)
        .or_worse(opinions.active.unwrap_or(unknown), DecidedBy::Polls)
        .or_worse(opinions.agent.unwrap_or(unknown), DecidedBy::Agent)
        .or_worse(opinions.limits.unwrap_or(unknown), DecidedBy::Limits)
        .or_worse(breaker, DecidedBy::Breaker)
        .or_worse(sign(opinions.answers), DecidedBy::Requests)
        .or_worse(sign(opinions.reports), DecidedBy::LoadReports)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(opinions: Opinions) -> HealthState {
        fuse(opinions).state
    }

    #[test]
    fn without_evidence_it_is_unknown() {
        assert_eq!(state(Opinions::default()), HealthState::Unknown);
    }

    #[test]
    fn failing_requests_beat_a_health_page_that_works() {
        let active = Some(HealthState::Healthy);
        let opinions = Opinions { active, passive_down: true, ..Opinions::default() };
        assert_eq!(state(opinions), HealthState::Down);
    }

    #[test]
    fn failing_polls_beat_requests_that_work() {
        for polled in [HealthState::Down, HealthState::Unready, HealthState::Degraded] {
            let active = Some(polled);
            let opinions = Opinions { active, answers: true, reports: true, ..Opinions::default() };
            assert_eq!(state(opinions), polled);
        }
    }

    #[test]
    fn down_beats_unready() {
        let active = Some(HealthState::Unready);
        let opinions = Opinions { active, passive_down: true, ..Opinions::default() };
        assert_eq!(state(opinions), HealthState::Down);
    }

    #[test]
    fn an_answer_or_a_report_is_a_sign_of_life() {
        assert_eq!(state(Opinions { answers: true, ..Opinions::default() }), HealthState::Healthy);
        let reports = fuse(Opinions { reports: true, ..Opinions::default() });
        assert_eq!((reports.state, reports.by), (HealthState::Healthy, DecidedBy::LoadReports));
    }

    #[test]
    fn every_opinion_is_beaten_by_a_worse_one_and_by_no_better() {
        let agent = |state| Opinions { agent: Some(state), ..Opinions::default() };
        let limits = |state| Opinions { limits: Some(state), ..Opinions::default() };
        let from_worst = [
            Opinions { passive_down: true, ..Opinions::default() },
            agent(HealthState::Unready),
            Opinions { breaker_open: true, ..Opinions::default() },
            limits(HealthState::Degraded),
            Opinions { answers: true, ..Opinions::default() },
            Opinions::default(),
        ];
        let ranks: Vec<u8> = from_worst.iter().map(|opinions| state(*opinions).rank()).collect();
        assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
        let both = Opinions {
            breaker_open: true,
            limits: Some(HealthState::Degraded),
            answers: true,
            ..Opinions::default()
        };
        assert_eq!(fuse(both).by, DecidedBy::Breaker);
    }

    #[test]
    fn flapping_beats_degraded_and_recovery_beats_healthy_alone() {
        let healthy = fuse(Opinions { answers: true, ..Opinions::default() });
        let ramping = healthy.or_worse(HealthState::Ramping, DecidedBy::Recovery);
        assert_eq!((ramping.state, ramping.by), (HealthState::Ramping, DecidedBy::Recovery));
        let degraded = Verdict { state: HealthState::Degraded, by: DecidedBy::Limits };
        assert_eq!(degraded.or_worse(HealthState::Ramping, DecidedBy::Recovery), degraded);
        assert_eq!(
            degraded.or_worse(HealthState::Suppressed, DecidedBy::Flapping).by,
            DecidedBy::Flapping
        );
        assert_eq!((healthy.works(), Verdict::default().works()), (Some(true), None));
    }
}
