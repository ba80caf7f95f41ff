//! What an endpoint works on, and what it gets done.
//!
//! An endpoint that has become slow shows it by requests that go on for longer than others took,
//! before it has answered one of them. So what counts is the time for which requests are worked on,
//! answered or not, over the number of answers: the mean of a service time where some have not been
//! seen to end (Epstein and Sobel, "Life testing", 1953). A mean of answers alone is late by as long
//! as an answer takes, and at first knows only those that came soon.
//!
//! The sums are told to the other workers, whose requests say as much as this one's own.

use crate::look::Readings;
use crate::row::Row;
use crate::service_time::{Concurrency, crowding};
use core::time::Duration;
use shared_state::UnixNanos;

/// Requests that are watched at an endpoint. Of more, these say enough.
pub(crate) const WATCHED: usize = 64;

/// The requests of one worker at one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// When those that it has not answered yet were sent.
    awaited: Vec<UnixNanos>,
    counted_to: UnixNanos,
    seconds: f64,
    answered: u16,
}

impl Work {
    /// A request is sent. `None` if it is not watched.
    pub(crate) fn begin(&mut self, now: UnixNanos) -> Option<UnixNanos> {
        (self.awaited.len() < WATCHED).then(|| {
            self.awaited.push(now);
            now
        })
    }

    /// The request that was sent then is over, whatever came of it.
    pub(crate) fn end(&mut self, sent_at: UnixNanos) {
        if let Some(place) = self.awaited.iter().position(|at| *at == sent_at) {
            self.awaited.swap_remove(place);
        }
    }

    /// The seconds of work since the last call. Of the time that passes a request is worked on for
    /// this `share`, and for the rest it waits. Beyond `limit` seconds of work it counts no more: a
    /// single one that takes for ever is no slow endpoint.
    pub(crate) fn pass(&mut self, now: UnixNanos, share: f64, limit: f64) -> f64 {
        let work =
            |from: UnixNanos, to: UnixNanos| (to.since(from).as_secs_f64() * share).min(limit);
        let counted_to = self.counted_to;
        let since = |sent_at: &UnixNanos| work(*sent_at, now) - work(*sent_at, counted_to.min(now));
        let seconds = self.awaited.iter().map(since).sum();
        // Of a clock that stepped back no time is counted, and then its own.
        self.counted_to = now;
        seconds
    }

    /// Adds to the sums.
    pub(crate) fn add(&mut self, seconds: f64, answered: u16) {
        self.seconds += seconds;
        self.answered = self.answered.wrapping_add(answered);
    }

    /// The sums as they are told: both begin again where their type ends.
    pub(crate) fn sums(&self) -> (u32, u16) {
        ((self.seconds * 1e6) as u64 as u32, self.answered)
    }
}

impl Row {
    /// Takes up the time that its requests have been worked on until now. Answers whether it is
    /// believed to have changed its speed.
    pub(crate) fn pass_time(&mut self, now: UnixNanos, concurrency: &Concurrency) -> bool {
        let in_flight = f64::from(self.in_flight) + self.others;
        let share = 1.0 / crowding(in_flight - 1.0, concurrency.whole());
        let most = self.service_time.patience(concurrency).unwrap_or(0.0);
        let seconds = self.work.pass(now, share, most);
        self.progress(seconds, 0, concurrency)
    }

    /// A request is sent, and watched from now on if the clock is read often enough to tell how long
    /// it is worked on.
    pub(crate) fn watch(
        &mut self,
        now: UnixNanos,
        readings: &Readings,
        concurrency: &Concurrency,
    ) -> Option<UnixNanos> {
        let expected = self.service_time.value(concurrency)?;
        if readings.measure(expected) { self.work.begin(now) } else { None }
    }

    /// It has answered a request that was not watched, which took so long and had found so many
    /// others.
    pub(crate) fn answer(
        &mut self,
        took: Option<(Duration, Option<f64>)>,
        concurrency: &Concurrency,
    ) -> bool {
        let Some((took, Some(ahead))) = took else { return false };
        let Some(most) = self.service_time.patience(concurrency) else { return false };
        let alone = took.as_secs_f64() / crowding(ahead, concurrency.whole());
        self.progress(alone.min(most), 1, concurrency)
    }

    /// It has worked for so many seconds, and answered so many requests.
    pub(crate) fn progress(
        &mut self,
        seconds: f64,
        answered: u16,
        concurrency: &Concurrency,
    ) -> bool {
        if self.service_time.patience(concurrency).is_none() {
            return false;
        }
        self.work.add(seconds, answered);
        self.service_time.progress(seconds, f64::from(answered), concurrency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> UnixNanos {
        UnixNanos::from_millis(1_000_000 + millis)
    }

    const LIMIT: f64 = 0.1;

    fn millis(work: &mut Work, now: u64, share: f64) -> u64 {
        (work.pass(at(now), share, LIMIT) * 1e3).round() as u64
    }

    #[test]
    fn a_request_counts_while_it_is_awaited_and_each_moment_once() {
        let mut work = Work::default();
        let first = work.begin(at(0)).unwrap();
        assert_eq!((millis(&mut work, 10, 1.0), millis(&mut work, 10, 1.0)), (10, 0));
        work.begin(at(15));
        assert_eq!(millis(&mut work, 20, 1.0), 10 + 5);
        work.end(first);
        assert_eq!(millis(&mut work, 30, 1.0), 10);
    }

    #[test]
    fn who_waits_for_half_of_the_time_is_worked_on_for_half_of_it() {
        let mut work = Work::default();
        work.begin(at(0));
        assert_eq!(millis(&mut work, 20, 0.5), 10);
        assert_eq!(millis(&mut work, 1_000, 0.5), 90, "of which there is as much to be counted");
    }

    #[test]
    fn one_that_takes_for_ever_counts_up_to_the_limit() {
        let mut work = Work::default();
        work.begin(at(0));
        assert_eq!((millis(&mut work, 90, 1.0), millis(&mut work, 5_000, 1.0)), (90, 10));
    }

    #[test]
    fn a_clock_that_steps_back_counts_as_no_time() {
        let mut work = Work::default();
        work.begin(at(500));
        assert_eq!((millis(&mut work, 510, 1.0), millis(&mut work, 100, 1.0)), (10, 0));
        work.begin(at(100));
        assert_eq!(millis(&mut work, 120, 1.0), 20);
    }

    #[test]
    fn of_very_many_some_are_watched() {
        let mut work = Work::default();
        let watched = (0..100).filter(|_| work.begin(at(0)).is_some()).count();
        assert_eq!(watched, WATCHED);
        work.end(at(7));
        assert_eq!(work.awaited.len(), WATCHED, "that one was not sent");
    }

    #[test]
    fn sums_begin_again_where_they_end() {
        let mut work = Work::default();
        work.add(4_294.967_295, u16::MAX);
        let before = work.sums();
        work.add(0.000_003, 2);
        let after = work.sums();
        assert_eq!(after.0.wrapping_sub(before.0), 3);
        assert_eq!(after.1.wrapping_sub(before.1), 2);
    }
}
