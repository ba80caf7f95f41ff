//! What one worker sees of one cluster: counted on the request path, reported on the tick.
//!
//! The request path touches memory of this VM only. The tick turns it into one record that no one
//! else writes, and tells which addresses were seen, for the cluster's list of members.

use crate::{Agent, EndpointMap, FailureKind, Latency, Outcome};
use core::time::Duration;
use shared_state::{Endpoint, LoadReport, MAX_MEMBERS, UnixNanos, WorkerEntry, WorkerReport};

/// After how long without an attempt an endpoint is forgotten, and its place free for another.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// How often a sighting is repeated to the list of members.
const SIGHTING_INTERVAL: Duration = Duration::from_secs(5);

/// Least time between two reports that failures hasten.
const HASTE_INTERVAL: Duration = Duration::from_millis(50);

/// Attempts at one endpoint between two reports of which all are measured.
const ALL_MEASURED: u32 = 12;

/// Of those beyond, every so many-th is.
const SAMPLED: u32 = 4;

/// A wait in vain that tells something of an endpoint of which nothing is known.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// A worker's tracks, one an endpoint.
#[derive(Debug, Default)]
pub struct Observer {
    tracks: EndpointMap<Track>,
    changed: bool,
    failed: bool,
    reported_at: UnixNanos,
    reported_as: u64,
}

#[derive(Debug)]
struct Track {
    entry: WorkerEntry,
    latency: Latency,
    /// Attempts since the last report.
    begun: u32,
    /// The last one was that of two which is measured.
    was_in_turn: bool,
    /// When it last served, or was tried.
    tried_at: UnixNanos,
    /// When it was last named to the list of members. `None`: not yet.
    sighted_at: Option<UnixNanos>,
    /// The host has chosen it since then.
    sighted: bool,
}

impl Track {
    /// True for every second.
    fn is_in_turn(&mut self) -> bool {
        self.was_in_turn = !self.was_in_turn;
        self.was_in_turn
    }
}

impl Observer {
    /// An attempt goes to `endpoint`. Answers whether its latency is to be measured: where there are
    /// many, some are enough, and to look at the clock is not free. `sparing`: every second is enough,
    /// because it cost one hostcall more to know the endpoint.
    pub fn began(&mut self, endpoint: Endpoint, now: UnixNanos, sparing: bool) -> bool {
        let Some(track) = self.track(endpoint, now) else { return false };
        track.entry.in_flight = track.entry.in_flight.saturating_add(1);
        track.begun = track.begun.saturating_add(1);
        let is_in_turn = track.is_in_turn();
        let is_measured = if track.begun <= ALL_MEASURED {
            !sparing || is_in_turn
        } else {
            track.begun % SAMPLED == 0
        };
        self.changed = true;
        is_measured
    }

    /// That attempt is over.
    pub fn ended(&mut self, endpoint: Endpoint, now: UnixNanos) {
        let Some(track) = self.track(endpoint, now) else { return };
        track.entry.in_flight = track.entry.in_flight.saturating_sub(1);
        self.changed = true;
    }

    /// A response of `endpoint` has come, of an attempt that nobody saw begin. Answers whether it is
    /// to be asked how long it took: of every second. That costs two looks at clocks, and so a
    /// response costs one on average, however few there are.
    pub fn is_to_measure(&mut self, endpoint: Endpoint, now: UnixNanos) -> bool {
        self.track(endpoint, now).is_some_and(Track::is_in_turn)
    }

    /// The host chose `endpoint` for an attempt: it is a member.
    pub fn sighted(&mut self, endpoint: Endpoint, now: UnixNanos) {
        if let Some(track) = self.track(endpoint, now) {
            track.sighted = true;
        }
    }

    /// What an attempt says about `endpoint`.
    pub fn outcome(&mut self, endpoint: Endpoint, outcome: Outcome, now: UnixNanos) {
        let Some(track) = self.track(endpoint, now) else { return };
        let entry = &mut track.entry;
        match outcome {
            Outcome::Neutral => return,
            Outcome::Success => {
                entry.succeeded = entry.succeeded.wrapping_add(1);
                entry.consecutive_failures = 0;
                entry.last_success = now;
            }
            Outcome::Failure(_) => {
                entry.failed = entry.failed.wrapping_add(1);
                entry.consecutive_failures = entry.consecutive_failures.saturating_add(1);
                entry.last_failure = now;
                self.failed = true;
            }
        }
        self.changed = true;
    }

    /// How long `endpoint` took to begin its answer; `tau` as [`Latency::add`] has it.
    pub fn latency(
        &mut self,
        endpoint: Endpoint,
        latency: Duration,
        tau: Duration,
        now: UnixNanos,
    ) {
        let Some(track) = self.track(endpoint, now) else { return };
        track.latency.add(latency, tau, now);
        track.entry.latency_us = track.latency.micros();
        self.changed = true;
    }

    /// A client left `endpoint` after so long without an answer, which would have taken longer
    /// still. So it counts if it is more than is known, and where nothing is, if it is long by any
    /// measure: an endpoint that swallows requests must not look idle and quick because nobody
    /// waits for it.
    pub fn waited(&mut self, endpoint: Endpoint, waited: Duration, tau: Duration, now: UnixNanos) {
        let Some(track) = self.track(endpoint, now) else { return };
        let known = match track.latency.micros() {
            0 => LONG_WAIT,
            micros => Duration::from_micros(micros.into()),
        };
        if waited > known {
            self.latency(endpoint, waited, tau, now);
        }
    }

    /// `endpoint` sent a load report.
    pub fn load_report(&mut self, endpoint: Endpoint, report: LoadReport, now: UnixNanos) {
        let Some(track) = self.track(endpoint, now) else { return };
        track.entry.report = Some(report);
        self.changed = true;
    }

    /// The agent of `endpoint` spoke in a response.
    pub fn agent(&mut self, endpoint: Endpoint, agent: &Agent, now: UnixNanos) {
        let Some(track) = self.track(endpoint, now) else { return };
        let words = agent.pack();
        // Most say the same all the time, and that is no news before it is a second old.
        let known = track.entry.agent.is_some_and(|(at, before)| {
            before == words && at <= now && now.since(at) < Duration::from_secs(1)
        });
        if !known {
            track.entry.agent = Some((now, words));
            self.changed = true;
        }
    }

    /// True if a failure should not wait for the tick.
    pub fn is_hasty(&self, now: UnixNanos) -> bool {
        let earliest = self.reported_at.plus(HASTE_INTERVAL);
        // A report from the future was made before the clock stepped back.
        self.failed && (now >= earliest || self.reported_at > now)
    }

    /// The record to write, if it differs from the last one that `owner` wrote.
    pub fn report(&mut self, owner: u64, now: UnixNanos) -> Option<WorkerReport> {
        if !self.changed && owner == self.reported_as {
            return None;
        }
        self.forget(now);
        self.changed = false;
        self.failed = false;
        self.reported_at = now;
        self.reported_as = owner;
        let entry = |(_, track): (Endpoint, &mut Track)| {
            track.begun = 0;
            track.entry.clone()
        };
        let entries = self.tracks.iter_mut().map(entry).collect();
        Some(WorkerReport { owner, written_at: now, entries })
    }

    /// The record could not be written: it is due again.
    pub fn report_failed(&mut self) {
        self.changed = true;
    }

    /// The endpoints that are to be named to the list of members.
    pub fn sightings(&mut self, now: UnixNanos) -> Vec<Endpoint> {
        let due = |track: &Track| {
            track.sighted
                && track.sighted_at.is_none_or(|at| now.since(at) >= SIGHTING_INTERVAL || at > now)
        };
        let mut list = Vec::new();
        for (endpoint, track) in self.tracks.iter_mut().filter(|(_, track)| due(track)) {
            track.sighted_at = Some(now);
            track.sighted = false;
            list.push(endpoint);
        }
        list
    }

    fn track(&mut self, endpoint: Endpoint, now: UnixNanos) -> Option<&mut Track> {
        let full = self.tracks.len() >= usize::from(MAX_MEMBERS);
        if full && self.tracks.get(endpoint).is_none() {
            self.forget(now);
            if self.tracks.len() >= usize::from(MAX_MEMBERS) {
                return None;
            }
        }
        let track = self.tracks.get_or_insert_with(endpoint, || Track {
            entry: WorkerEntry::new(endpoint),
            latency: Latency::default(),
            begun: 0,
            was_in_turn: false,
            tried_at: now,
            sighted_at: None,
            sighted: false,
        })?;
        track.tried_at = now;
        Some(track)
    }

    fn forget(&mut self, now: UnixNanos) {
        self.tracks.retain(|track| {
            // An attempt in the future was before the clock stepped back: its age counts from here.
            track.tried_at = track.tried_at.min(now);
            track.entry.in_flight > 0 || now.since(track.tried_at) < FORGOTTEN_AFTER
        });
    }
}

impl Outcome {
    /// How it failed, if it did.
    pub const fn failure(self) -> Option<FailureKind> {
        match self {
            Self::Failure(kind) => Some(kind),
            Self::Success | Self::Neutral => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: Outcome = Outcome::Failure(FailureKind::Status);

    fn endpoint(port: u16) -> Endpoint {
        format!("127.0.0.1:{port}").parse().unwrap()
    }

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    fn entry(observer: &mut Observer, port: u16) -> WorkerEntry {
        let report = observer.report(u64::from(port) + 1000, at(5)).unwrap();
        report.entries.into_iter().find(|entry| entry.endpoint == endpoint(port)).unwrap()
    }

    #[test]
    fn a_worker_that_saw_nothing_reports_once_and_then_not_again() {
        let mut observer = Observer::default();
        assert!(observer.report(7, at(1)).is_some());
        assert!(observer.report(7, at(2)).is_none());
    }

    #[test]
    fn a_new_slot_is_reported_to_at_once() {
        let mut observer = Observer::default();
        observer.report(7, at(1));
        assert_eq!(observer.report(8, at(2)).unwrap().owner, 8);
    }

    #[test]
    fn a_success_ends_the_run_of_failures() {
        let mut observer = Observer::default();
        for outcome in [FAILED, FAILED, Outcome::Neutral] {
            observer.outcome(endpoint(1), outcome, at(1));
        }
        assert_eq!(entry(&mut observer, 1).consecutive_failures, 2);
        observer.outcome(endpoint(1), Outcome::Success, at(2));
        let entry = entry(&mut observer, 1);
        assert_eq!((entry.succeeded, entry.failed, entry.consecutive_failures), (1, 2, 0));
        assert_eq!((entry.last_success, entry.last_failure), (at(2), at(1)));
    }

    #[test]
    fn in_flight_counts_begun_and_not_ended_and_never_wraps() {
        let mut observer = Observer::default();
        observer.began(endpoint(1), at(1), false);
        observer.began(endpoint(1), at(1), false);
        observer.ended(endpoint(1), at(1));
        assert_eq!(entry(&mut observer, 1).in_flight, 1);
        observer.ended(endpoint(1), at(1));
        observer.ended(endpoint(1), at(1));
        assert_eq!(entry(&mut observer, 1).in_flight, 0);
    }

    #[test]
    fn of_many_attempts_between_two_reports_some_are_measured() {
        let mut observer = Observer::default();
        let mut measured =
            |count| (0..count).filter(|_| observer.began(endpoint(1), at(1), false)).count();
        assert_eq!((measured(12), measured(40)), (12, 10));
        observer.report(1, at(1));
        assert!(observer.began(endpoint(1), at(1), false));
    }

    #[test]
    fn whose_endpoint_costs_more_to_know_is_measured_every_second_time() {
        let mut observer = Observer::default();
        for tick in 1..4 {
            let mut measured = |port| observer.began(endpoint(port), at(tick), true);
            let each: Vec<_> = (0..3).map(|_| (measured(1), measured(2))).collect();
            let (other, one) = ((tick % 2 == 0, tick % 2 == 0), (tick % 2 == 1, tick % 2 == 1));
            assert_eq!(each, [one, other, one], "at {tick}");
            observer.report(tick, at(tick));
        }
        let many = (0..109).filter(|_| observer.began(endpoint(1), at(9), true)).count();
        assert_eq!(many, 6 + 25 - 1);
    }

    #[test]
    fn of_the_responses_of_each_endpoint_every_second_is_measured() {
        let mut observer = Observer::default();
        let mut measured = |port| observer.is_to_measure(endpoint(port), at(1));
        let each: Vec<_> = (0..4).map(|_| (measured(1), measured(2))).collect();
        assert_eq!(each, [(true, true), (false, false), (true, true), (false, false)]);
    }

    #[test]
    fn a_wait_in_vain_counts_if_it_is_longer_than_answers_take() {
        let tau = Duration::from_secs(4);
        let millis = Duration::from_millis;
        let mut observer = Observer::default();
        observer.waited(endpoint(1), millis(999), tau, at(1));
        observer.waited(endpoint(2), millis(1001), tau, at(1));
        observer.latency(endpoint(3), millis(50), tau, at(1));
        observer.waited(endpoint(3), millis(50), tau, at(2));
        observer.latency(endpoint(4), millis(50), tau, at(1));
        observer.waited(endpoint(4), millis(500), tau, at(2));
        let report = observer.report(1, at(5)).unwrap();
        let known = |port| {
            let is_it = |entry: &&WorkerEntry| entry.endpoint == endpoint(port);
            report.entries.iter().find(is_it).unwrap().latency_us
        };
        assert_eq!((known(1), known(2), known(3)), (0, 1_001_000, 50_000));
        assert!(known(4) > 200_000, "{}", known(4));
    }

    #[test]
    fn a_failure_hastens_the_report_but_not_without_end() {
        let mut observer = Observer::default();
        observer.outcome(endpoint(1), Outcome::Success, at(10));
        assert!(!observer.is_hasty(at(10)));
        observer.outcome(endpoint(1), FAILED, at(10));
        assert!(observer.is_hasty(at(10)));
        observer.report(1, at(10));
        observer.outcome(endpoint(1), FAILED, at(10));
        assert!(!observer.is_hasty(at(10).plus(Duration::from_millis(49))));
        assert!(observer.is_hasty(at(10).plus(Duration::from_millis(50))));
        assert!(observer.is_hasty(at(5)), "the clock stepped back");
    }

    #[test]
    fn a_report_that_could_not_be_written_is_due_again() {
        let mut observer = Observer::default();
        observer.report(1, at(1));
        observer.report_failed();
        assert!(observer.report(1, at(2)).is_some());
    }

    #[test]
    fn only_an_endpoint_that_the_host_chose_is_a_sighting_and_not_each_time() {
        let mut observer = Observer::default();
        observer.outcome(endpoint(1), FAILED, at(1));
        observer.sighted(endpoint(2), at(1));
        assert_eq!(observer.sightings(at(1)), [endpoint(2)]);
        observer.sighted(endpoint(2), at(2));
        assert_eq!(observer.sightings(at(5)), []);
        assert_eq!(observer.sightings(at(6)), [endpoint(2)]);
        assert_eq!(observer.sightings(at(60)), [], "idle since");
    }

    #[test]
    fn the_table_is_bounded_and_the_idle_make_room() {
        let mut observer = Observer::default();
        observer.began(endpoint(1), at(1), false);
        for port in 2..=MAX_MEMBERS + 5 {
            observer.outcome(endpoint(port), Outcome::Success, at(1));
        }
        assert_eq!(observer.tracks.len(), usize::from(MAX_MEMBERS));
        observer.outcome(endpoint(9999), Outcome::Success, at(601));
        let kept: Vec<_> = observer.tracks.iter().map(|(endpoint, _)| endpoint).collect();
        assert_eq!(kept, [endpoint(1), endpoint(9999)], "in flight is not idle");
    }

    #[test]
    fn after_the_clock_stepped_back_the_idle_still_make_room() {
        let mut observer = Observer::default();
        for port in 1..=MAX_MEMBERS {
            observer.outcome(endpoint(port), Outcome::Success, at(1_000_000));
        }
        observer.outcome(endpoint(9998), Outcome::Success, at(10));
        observer.outcome(endpoint(9999), Outcome::Success, at(610));
        let kept: Vec<_> = observer.tracks.iter().map(|(endpoint, _)| endpoint).collect();
        assert_eq!(kept, [endpoint(9999)]);
    }
}
