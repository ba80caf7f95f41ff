//! What a response proves: of the endpoint that served, of those that were asked in vain, and of
//! whether the proxy follows the list.

use super::Cluster;
use crate::ewma::believable;
use crate::flight::{Flight, Outcome, Response};
use crate::note::Source;
use crate::row::MISSES_ALLOWED;
use crate::{Endpoints, Policy};
use core::time::Duration;
use shared_state::{BreakerState, Endpoint, Members, SharedStore, Transition, UnixNanos};

/// How often a sighting of a known endpoint is written down.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(5);

/// After a breaker's last change, misses of its endpoint prove nothing: circuit-breaker may have
/// struck it off the list.
const BREAKER_DOUBT: Duration = Duration::from_secs(10);

impl Cluster {
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
        self.answers = self.answers.wrapping_add(1);
        let is_good = response.outcome == Outcome::Success && response.served == flight.charged;
        let is_told = self.end_watch(flight, Some((now, is_good)));
        let Some(served) = response.served else { return };
        self.move_charge(flight, served);
        let astray = flight.went_astray(response.served);
        let hit = flight.is_steered() && !astray;
        if hit {
            self.steering.confirm();
            self.settle();
        }
        if astray {
            self.unsettle();
        }
        let place = self.table.place_near(served, flight.place);
        // After a retry the time went to several endpoints.
        let is_alone = hit || response.attempts <= 1;
        let took = self.took(flight, place, now).filter(|_| is_alone);
        if let Some(place) = place {
            self.serve(store, (served, place), response.outcome, took, now);
            if let Some(row) = self.table.at(place).filter(|_| is_good && !is_told) {
                self.has_changed |= row.answer(took, &self.concurrency);
            }
        }
        for failed in flight.failed_before(&response) {
            if let Some(row) = self.table.find(failed) {
                let rules = &self.config.least_cost;
                row.measure(Outcome::Failure, None, now, rules, &mut self.concurrency);
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
        self.end_watch(flight, None);
        let charged = flight.charged.take();
        let place = charged.and_then(|endpoint| self.table.place_near(endpoint, flight.place));
        if let Some(row) = place.and_then(|place| self.table.at(place)) {
            row.in_flight = row.in_flight.saturating_sub(1);
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }

    fn move_charge(&mut self, flight: &mut Flight, served: Endpoint) {
        if flight.charged == Some(served) {
            return;
        }
        self.finish(flight);
        let place = self.table.place_or_add(&self.name, served);
        if let Some((place, row)) = place.and_then(|place| Some((place, self.table.at(place)?))) {
            flight.ahead = None;
            row.in_flight = row.in_flight.saturating_add(1);
            self.in_flight = self.in_flight.saturating_add(1);
            flight.charged = Some(served);
            flight.place = place;
        }
    }

    fn serve(
        &mut self,
        store: &impl SharedStore,
        (served, place): (Endpoint, usize),
        outcome: Outcome,
        took: Option<(Duration, Option<f64>)>,
        now: UnixNanos,
    ) {
        let learns = matches!(self.config.endpoints, Endpoints::Learned { .. });
        if self.suspect == Some(served) {
            self.suspect = None;
        }
        let Some(row) = self.table.at(place) else { return };
        let is_known = row.is_known;
        let rules = &self.config.least_cost;
        let took = row.measure(outcome, took, now, rules, &mut self.concurrency);
        if let (Some(took), Policy::PeakEwma) = (took, self.config.policy) {
            row.peak.record(took, now, self.config.peak_ewma.decay_time);
        }
        let misses = core::mem::take(&mut row.misses);
        row.found(misses, now);
        // Just learned, it becomes known with the next refresh; so ask no more often than that.
        let interval = if is_known { CONFIRM_INTERVAL } else { self.config.update_interval };
        let age = now.since(row.confirmed_at);
        let due = misses > 0 || row.confirmed_at > now || age >= interval;
        if learns && due {
            row.confirmed_at = now;
            let seen = |prior| Members::seen(prior, served, now);
            let is_new = self.notes.update(store, &self.members_key, Source::Members, seen);
            if is_new == Some(true) {
                self.learned(served);
            }
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
        let mut has_left = row.misses >= MISSES_ALLOWED;
        if matches!(self.config.endpoints, Endpoints::Learned { .. }) {
            let allowed = if self.has_surplus(now) { 1 } else { MISSES_ALLOWED };
            let missed =
                |prior| -> Transition<Members, bool> { Members::missed(prior, first, allowed) };
            let dropped = self.notes.update(store, &self.members_key, Source::Members, missed);
            has_left |= dropped == Some(true);
        }
        if has_left {
            self.strike(first, now);
        } else {
            self.suspect = Some(first);
        }
    }
}
