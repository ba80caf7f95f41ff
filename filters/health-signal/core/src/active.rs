//! What the polls of one endpoint have shown.
//!
//! A failed poll counts towards `fall`, a good one towards `rise`. What a good answer says of the
//! endpoint (ready, degraded, queue depth) holds at once: it is the endpoint's own word, and a
//! drain that waited for hysteresis would lose the requests that it meant to spare.
//!
//! An answer whose timestamp stands still for `frozen_after` comes from something that answers in
//! the endpoint's stead, a cache or a stuck thread. Only changes are looked at, never the distance
//! to our own clock, so a skewed clock harms nobody. A frozen endpoint is `Degraded`: it may work,
//! but nothing it says is known to be true.

use crate::RiseFall;
use crate::Signal;
use crate::config::{Active, ReportedState};
use shared_state::{EndpointHealth, HealthState, UnixNanos};

/// Why a poll failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollFailure {
    /// No connection.
    Connect,
    /// No answer in time.
    Timeout,
    /// The answer was cut off.
    Reset,
    /// A status that is not expected.
    Status,
    /// A body that is too large, or no JSON object.
    Body,
    /// The answer says so itself.
    Unhealthy,
    /// The answer does not hold what must be there.
    Unexpected,
}

impl PollFailure {
    /// The label `outcome` of `weir_polls_total`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect_failure",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Status => "bad_status",
            Self::Body => "bad_body",
            Self::Unhealthy => "unhealthy",
            Self::Unexpected => "unexpected",
        }
    }
}

/// What a good answer says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// The endpoint's own word on its state; never `Down`. `None`: it has none on that.
    pub state: Option<ReportedState>,
    /// Numbers.
    pub signals: Vec<(Signal, f64)>,
    /// Changes while the endpoint is alive.
    pub timestamp: Option<String>,
}

/// Polls of one kind of one endpoint, summed up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActiveTrack {
    counter: RiseFall,
    said: Option<ReportedState>,
    polled_at: Option<UnixNanos>,
    /// The last timestamp, and since when it has been the same.
    timestamp: Option<(String, UnixNanos)>,
    frozen: bool,
}

impl ActiveTrack {
    /// Goes on where the former leader stopped, as far as its record tells.
    pub fn inherited(record: &EndpointHealth) -> Self {
        let (up, said) = match record.state {
            HealthState::Unknown => return Self::default(),
            HealthState::Down => (false, None),
            HealthState::Unready => (true, Some(ReportedState::Unready)),
            HealthState::Degraded => (true, Some(ReportedState::Degraded)),
            // What else is worse than healthy is not by polls.
            HealthState::BreakerOpen
            | HealthState::Suppressed
            | HealthState::Ramping
            | HealthState::Healthy => (true, Some(ReportedState::Healthy)),
        };
        Self {
            counter: RiseFall::starting(up),
            said,
            polled_at: Some(record.written_at),
            timestamp: None,
            frozen: false,
        }
    }

    /// Takes the result of one poll.
    pub fn add(&mut self, result: &Result<Said, PollFailure>, config: &Active, now: UnixNanos) {
        let Ok(said) = result else {
            if config.kind.judges() {
                self.counter = self.counter.with(false, config.rise, config.fall);
                self.polled_at = Some(now);
            }
            return;
        };
        self.counter = self.counter.with(true, config.rise, config.fall);
        self.polled_at = Some(now);
        self.said = said.state;
        self.watch(said.timestamp.clone(), config, now);
    }

    /// What was polled last is known to hold still.
    pub fn refresh(&mut self, now: UnixNanos) {
        self.polled_at = self.polled_at.map(|at| at.max(now));
    }

    fn watch(&mut self, timestamp: Option<String>, config: &Active, now: UnixNanos) {
        self.timestamp = match (self.timestamp.take(), timestamp) {
            // A moment in the future was noted before the clock stepped back.
            (Some((last, since)), Some(text)) if last == text && since <= now => {
                Some((last, since))
            }
            (_, text) => text.map(|text| (text, now)),
        };
        let still = self.timestamp.as_ref().map(|(_, since)| now.since(*since));
        self.frozen = still.is_some_and(|still| still >= config.frozen_after);
    }

    /// When the last poll had a result.
    pub fn polled_at(&self) -> Option<UnixNanos> {
        self.polled_at
    }

    /// The state that the polls alone give, staleness aside.
    pub fn state(&self) -> HealthState {
        match (self.counter.is_up(), self.said) {
            (None, _) | (Some(true), None) => HealthState::Unknown,
            (Some(false), _) => HealthState::Down,
            (Some(true), Some(ReportedState::Unready)) => HealthState::Unready,
            (Some(true), Some(ReportedState::Degraded)) => HealthState::Degraded,
            (Some(true), Some(_)) if self.frozen => HealthState::Degraded,
            (Some(true), Some(_)) => HealthState::Healthy,
        }
    }

    /// True while the answer's timestamp stands still.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn config() -> Active {
        let json = br#"{"clusters":[{"name":"backend","active":{}}]}"#;
        Config::from_json(json).unwrap().value.clusters[0].active[0].clone()
    }

    fn says(state: ReportedState) -> Result<Said, PollFailure> {
        Ok(Said { state: Some(state), ..Said::default() })
    }

    fn stamped(timestamp: &str) -> Result<Said, PollFailure> {
        let timestamp = Some(timestamp.to_owned());
        says(ReportedState::Healthy).map(|said| Said { timestamp, ..said })
    }

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    #[test]
    fn cold_it_knows_nothing_and_one_answer_is_enough() {
        let mut track = ActiveTrack::default();
        assert_eq!(track.state(), HealthState::Unknown);
        track.add(&says(ReportedState::Healthy), &config(), at(1));
        assert_eq!(track.state(), HealthState::Healthy);
    }

    #[test]
    fn it_is_down_on_the_third_failure_and_back_on_the_second_success() {
        let mut track = ActiveTrack::default();
        track.add(&says(ReportedState::Healthy), &config(), at(1));
        let mut states = Vec::new();
        for result in [
            Err(PollFailure::Timeout),
            Err(PollFailure::Connect),
            Err(PollFailure::Status),
            says(ReportedState::Healthy),
            says(ReportedState::Degraded),
        ] {
            track.add(&result, &config(), at(2));
            states.push(track.state().name());
        }
        assert_eq!(states, ["healthy", "healthy", "down", "down", "degraded"]);
    }

    #[test]
    fn a_drain_and_its_end_hold_at_once() {
        let mut track = ActiveTrack::default();
        track.add(&says(ReportedState::Healthy), &config(), at(1));
        track.add(&says(ReportedState::Unready), &config(), at(2));
        assert_eq!(track.state(), HealthState::Unready);
        track.add(&says(ReportedState::Healthy), &config(), at(3));
        assert_eq!(track.state(), HealthState::Healthy);
    }

    #[test]
    fn a_timestamp_that_stands_still_degrades_until_it_moves() {
        let mut track = ActiveTrack::default();
        let mut seen = Vec::new();
        for (secs, stamp) in [(0, "a"), (29, "a"), (30, "a"), (35, "b"), (64, "b")] {
            track.add(&stamped(stamp), &config(), at(100 + secs));
            seen.push(track.is_frozen());
        }
        assert_eq!(seen, [false, false, true, false, false]);
    }

    #[test]
    fn a_clock_that_stepped_back_starts_the_watch_again() {
        let mut track = ActiveTrack::default();
        track.add(&stamped("a"), &config(), at(1000));
        track.add(&stamped("a"), &config(), at(500));
        track.add(&stamped("a"), &config(), at(529));
        assert!(!track.is_frozen());
        track.add(&stamped("a"), &config(), at(530));
        assert!(track.is_frozen());
    }

    #[test]
    fn a_new_leader_goes_on_where_the_former_stopped() {
        for state in [
            HealthState::Unknown,
            HealthState::Down,
            HealthState::Unready,
            HealthState::Degraded,
            HealthState::Healthy,
        ] {
            let record = EndpointHealth { state, ..EndpointHealth::default() };
            assert_eq!(ActiveTrack::inherited(&record).state(), state);
        }
    }
}
