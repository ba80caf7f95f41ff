//! One state out of several opinions.
//!
//! ```text
//! Down > Unready > Degraded > Healthy > Unknown
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
    /// The polls' state.
    pub active: Option<HealthState>,
    /// Ordinary requests have taken it down.
    pub passive_down: bool,
    /// It answered an ordinary request well, and not long ago.
    pub answers: bool,
    /// It sent a load report, and not long ago.
    pub reports: bool,
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
    /// Ordinary requests.
    Requests,
    /// Load reports.
    LoadReports,
}

impl DecidedBy {
    /// The name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no fresh evidence",
            Self::Polls => "polls",
            Self::Requests => "requests",
            Self::LoadReports => "load reports",
        }
    }
}

/// The state of the endpoint.
pub fn fuse(opinions: Opinions) -> Verdict {
    let (state, by) = match opinions.active.unwrap_or(HealthState::Unknown) {
        _ if opinions.passive_down => (HealthState::Down, DecidedBy::Requests),
        HealthState::Unknown if opinions.answers => (HealthState::Healthy, DecidedBy::Requests),
        HealthState::Unknown if opinions.reports => (HealthState::Healthy, DecidedBy::LoadReports),
        HealthState::Unknown => (HealthState::Unknown, DecidedBy::Nothing),
        active => (active, DecidedBy::Polls),
    };
    Verdict { state, by }
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
            let opinions = Opinions { active, answers: true, reports: true, passive_down: false };
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
}
