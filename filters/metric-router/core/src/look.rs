//! Which answers are looked at closely.
//!
//! To look means two readings of the clock and one question who has served. Of an endpoint that
//! serves what is sent to it, day in, day out, every answer says the same: a sample of them is as
//! good, and the request costs half. What is never left out is the status, so that a failure is
//! known with the first answer that has one.
//!
//! The time between two readings of the clock is short where there is much traffic. Then a request that
//! is not looked at is measured, too, by the last reading before it came and the last one before its
//! answer: both are late by the same on average, so the mean is right, and the error of a single one
//! is less than times differ anyway.
//!
//! Every answer is looked at as long as something is in doubt: of a cluster whose endpoints have just
//! changed, or where a request has just been served by another endpoint than the one it was sent to;
//! of an endpoint that is new, has failed a short while ago, or has been missed. So a sample says
//! later, by [`EVERY`] requests of one endpoint at the most, what nothing but a look can tell: that a
//! retry has covered for it, or that another one has taken its place.

use crate::cluster::Cluster;
use crate::ewma::believable;
use crate::row::Row;
use crate::service_time::crowding;
use crate::{Flight, Outcome, Policy, Why};
use core::time::Duration;
use shared_state::UnixNanos;

/// Of an endpoint that is not in doubt, one in so many answers is looked at.
pub(crate) const EVERY: u32 = 4;

/// The first answers of an endpoint are all looked at.
const FIRST: u32 = 8;

/// However few requests an endpoint gets, one in this time is looked at.
const INTERVAL: Duration = Duration::from_secs(5);

/// How long an endpoint is in doubt that has failed.
const DOUBT: Duration = Duration::from_secs(10);

/// So many answers in a row that came from where they were expected leave a cluster without doubt.
const SETTLED: u32 = 100;

/// A snapshot that is rebuilt less often than this needs the time with every pick.
const RECENT: Duration = Duration::from_secs(1);

/// So far reports run ahead of the clock at the most. More is a clock that stepped back.
const MOMENT: Duration = Duration::from_millis(1);

/// A time is measured by the last readings of the clock if it is expected to be so many times as long as
/// there is between two of them.
const FINE: u32 = 8;

/// So many ticks are a long time, which is known well enough by the last reading, whatever is expected.
const LONG: u32 = 10;

/// How often the clock is read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readings {
    count: u32,
    /// The seconds that they are good enough to measure, as they were between the last two ticks.
    fine: Option<f64>,
}

impl Readings {
    /// A tick, so long after the one before.
    pub(crate) fn close(&mut self, elapsed: Option<Duration>) {
        let apart = elapsed.and_then(|elapsed| elapsed.checked_div(self.count));
        *self = Self { count: 0, fine: apart.map(|apart| (apart * FINE).as_secs_f64()) };
    }

    fn count(&mut self) {
        // When it came, and when it was answered.
        self.count = self.count.saturating_add(2);
    }

    fn count_one_less(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// True if they are close enough to each other to measure about so many seconds.
    pub(crate) fn measure(&self, seconds: f64) -> bool {
        self.fine.is_some_and(|fine| fine <= seconds)
    }
}

/// How an endpoint has been looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Looks {
    taken: u32,
    left_out: u32,
    last: UnixNanos,
}

impl Looks {
    /// True if the next answer is to be looked at.
    fn is_due(&mut self, now: UnixNanos) -> bool {
        let is_old = self.last > now || now.since(self.last) >= INTERVAL;
        if is_old || self.taken < FIRST || self.left_out + 1 >= EVERY {
            *self = Self { taken: self.taken.saturating_add(1), left_out: 0, last: now };
            return true;
        }
        self.left_out += 1;
        false
    }

    /// True if the last answer is among the first to be left out: one and two by turns.
    const fn has_begun_anew(&self) -> bool {
        self.left_out == 1 || self.left_out == 2 && self.taken.is_multiple_of(2)
    }
}

impl Row {
    /// True if what is answered to a request that was just picked for it is to be looked at.
    fn is_looked_at(&mut self, now: UnixNanos) -> bool {
        let failed_at = believable(self.last_failure, now);
        let has_failed = failed_at > UnixNanos::ZERO && now.since(failed_at) < DOUBT;
        // Counted in any case: who was in doubt is not due at once when that has passed.
        let is_due = self.looks.is_due(now);
        is_due || has_failed || self.misses > 0
    }
}

impl Cluster {
    /// True if nothing about the cluster is in doubt, so that the time of the last tick, or of the
    /// last answer that was looked at, is good enough for a pick.
    pub fn is_settled(&self) -> bool {
        self.settled >= SETTLED && self.config.update_interval <= RECENT
    }

    /// The time, which is `now` or that of the last report: it may have been given a moment that has
    /// not been read of the clock yet.
    pub(crate) fn recent(&self, now: UnixNanos) -> UnixNanos {
        let is_ahead = self.reported_at > now && self.reported_at.since(now) < MOMENT;
        if is_ahead { self.reported_at } else { now }
    }

    /// Something has changed, or was not as expected.
    pub(crate) const fn unsettle(&mut self) {
        self.settled = 0;
    }

    /// Another answer came from where it was expected.
    pub(crate) const fn settle(&mut self) {
        self.settled = self.settled.saturating_add(1);
    }

    /// True if each answer is looked at: the score of `peak_ewma` is made of single ones.
    pub(crate) fn looks_at_all(&self) -> bool {
        self.config.policy == Policy::PeakEwma
    }

    /// Of a request that was to be looked at the clock was not read.
    pub(crate) fn reads_clock_once(&mut self) {
        self.readings.count_one_less();
    }

    /// True if a good answer to this request need not be looked at.
    pub(crate) fn is_routine(&mut self, place: usize, why: Why, now: UnixNanos) -> bool {
        let counts = why == Why::Verified || self.looks_at_all();
        let is_routine = !counts
            && self.is_settled()
            && self.table.at(place).is_some_and(|row| !row.is_looked_at(now));
        if !is_routine {
            self.readings.count();
        }
        is_routine
    }

    /// True if nothing is to be asked of an answer to this request. Where hostcalls are scarce, of eight
    /// answers of an endpoint there are three of which not even the status is read: they make up for two
    /// readings of the clock, and for telling the other workers. Whether it works is then known by five.
    pub(crate) fn overlooks(&self, flight: &Flight) -> bool {
        let row = self.table.rows().get(flight.place);
        self.is_thrifty && flight.is_routine && row.is_some_and(|row| row.looks.has_begun_anew())
    }

    /// How long the request took, as far as that is known, and how many others it had found at the
    /// endpoint, whose row is at `place`.
    pub(crate) fn took(
        &self,
        flight: &Flight,
        place: Option<usize>,
        now: UnixNanos,
    ) -> Option<(Duration, Option<f64>)> {
        let took = now.since(flight.started_at);
        let row = place.and_then(|place| self.table.rows().get(place));
        // With what it has to wait: where all have much to do, that is most of it.
        let wait = crowding(flight.ahead.unwrap_or(0.0), self.concurrency.whole());
        let alone = || row.and_then(|row| row.service_time.value(&self.concurrency));
        let expected = || alone().map(|alone| alone * wait);
        let is_known = !flight.is_routine
            || expected().is_some_and(|expected| self.readings.measure(expected))
            || took >= self.config.update_interval * LONG;
        is_known.then_some((took, flight.ahead))
    }

    /// The request is not awaited any more, at `now` if it was answered. Answers whether it had been
    /// watched; who was not says how long it took, if that is known.
    pub(crate) fn end_watch(
        &mut self,
        flight: &mut Flight,
        answered: Option<(UnixNanos, bool)>,
    ) -> bool {
        let Some(sent_at) = flight.watched.take() else { return false };
        let place = flight.charged.and_then(|at| self.table.place_near(at, flight.place));
        if let Some(row) = place.and_then(|place| self.table.at(place)) {
            if let Some((now, is_good)) = answered {
                let has_passed = row.pass_time(now, &self.concurrency);
                let has_answered = row.progress(0.0, u16::from(is_good), &self.concurrency);
                self.has_changed |= has_passed || has_answered;
            }
            row.work.end(sent_at);
        }
        true
    }

    /// A request that is routine was answered well.
    pub fn pass(&mut self, flight: &mut Flight, now: UnixNanos) {
        if flight.responded {
            return;
        }
        flight.responded = true;
        self.answers = self.answers.wrapping_add(1);
        let place = flight.charged.and_then(|at| self.table.place_near(at, flight.place));
        let took = self.took(flight, place, now);
        let is_told = self.end_watch(flight, Some((now, true)));
        if let Some(row) = place.and_then(|place| self.table.at(place)) {
            let rules = &self.config.least_cost;
            row.measure(Outcome::Success, took, now, rules, &mut self.concurrency);
            self.has_changed |= !is_told && row.answer(took, &self.concurrency);
        }
    }
}

#[cfg(test)]
mod tests;
