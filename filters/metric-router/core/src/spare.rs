//! How many endpoints a cluster can do without.
//!
//! Whoever is left out for having failed leaves his work to the others. That is well while they have
//! places free; where they have not, requests wait until nobody wants the answer any more, and an
//! endpoint that may well work again stands idle. Envoy and Istio therefore leave out no more than a
//! tenth, whatever the load is, and the second of ten dead endpoints gets its share of requests. Here
//! it is the load that decides: as many as its requests in flight fill, or nearly so, are needed
//! ([`Concurrency`]), and a tenth can always be spared. It holds itself in balance: the
//! fewer are left, the more requests wait, the more endpoints are needed.
//!
//! Where nobody knows how many requests an endpoint works on at once, nothing is said: so it is where
//! most of the traffic comes from other proxies, who would have to be asked.
//!
//! The breakers of endpoints must know it, too, and a word to them costs a hostcall. They need it with a
//! request that lists an endpoint which they have opened, and remember it from there: [`Word`] says it
//! then, and seldom otherwise.

use crate::ewma::{Ewma, believable};
use crate::service_time::Concurrency;
use core::time::Duration;
use shared_state::UnixNanos;

/// Time constant of the load: a burst needs nobody.
const LOAD_TIME: Duration = Duration::from_secs(1);

/// Share of its places from which an endpoint counts as full. With all of them taken on average, there
/// is a queue at most of the times.
const FULL: f64 = 0.8;

/// One in so many can always be spared, and one.
const ALWAYS: usize = 10;

/// How often it is said where it is surely heard: the load is smoothed over longer.
const SAID_AGAIN: Duration = Duration::from_millis(250);

/// As many requests come to one with which it is said anyway. A breaker that has opened an endpoint of
/// which this worker sees nothing wrong, because their shared data is not one, hears it then.
const REQUESTS_A_WORD: u32 = 128;

/// Requests in flight, smoothed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spare(Ewma);

impl Spare {
    /// Takes up how many requests are in flight now.
    pub(crate) fn observe(&mut self, in_flight: f64, now: UnixNanos) {
        self.0.record(in_flight, now, LOAD_TIME);
    }

    /// How many of so many endpoints are not needed; `None` if nobody knows.
    pub(crate) fn of(&self, endpoints: usize, concurrency: &Concurrency) -> Option<usize> {
        let load = self.0.value().filter(|_| concurrency.is_known())?;
        // A float beyond the range becomes its end.
        let needed = (load / (concurrency.whole() * FULL)).ceil() as usize;
        Some(endpoints.saturating_sub(needed).max(endpoints / ALWAYS).max(1))
    }
}

/// When it was said how many can be spared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Word {
    requests: u32,
    heard_at: Option<UnixNanos>,
}

impl Word {
    /// True if it is to be said with this request, which lists an endpoint that is `unfit` or does not.
    pub(crate) fn is_due(&mut self, unfit: bool, now: UnixNanos) -> bool {
        let heard_at = self.heard_at.map(|at| believable(at, now));
        let is_new = unfit && heard_at.is_none_or(|at| now.since(at) >= SAID_AGAIN);
        let is_due = is_new || self.requests.is_multiple_of(REQUESTS_A_WORD);
        self.requests = self.requests.wrapping_add(1);
        if is_due && unfit {
            self.heard_at = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    fn spare(load: f64, endpoints: usize, concurrency: &Concurrency) -> Option<usize> {
        let mut spare = Spare::default();
        spare.observe(load, at(1));
        spare.of(endpoints, concurrency)
    }

    #[test]
    fn who_has_nothing_to_do_can_be_spared() {
        let four = Concurrency::of(4.0);
        let spared = [0.0, 32.0, 48.0, 49.0, 70.0].map(|load| spare(load, 20, &four));
        assert_eq!(spared, [20, 10, 5, 4, 2].map(Some));
    }

    #[test]
    fn a_tenth_can_always_be_spared_and_one() {
        let four = Concurrency::of(4.0);
        assert_eq!([100, 19, 3, 1].map(|count| spare(1e9, count, &four)), [10, 1, 1, 1].map(Some));
    }

    #[test]
    fn nothing_is_said_before_there_is_something_to_go_by() {
        assert_eq!(spare(60.0, 20, &Concurrency::default()), None);
        assert_eq!(Spare::default().of(20, &Concurrency::of(4.0)), None);
    }

    #[test]
    fn a_burst_needs_nobody_and_a_load_that_stays_does() {
        let mut spare = Spare::default();
        for tenth in 0..100 {
            spare.observe(32.0, UnixNanos::from_millis(tenth * 100));
        }
        spare.observe(80.0, at(10));
        assert!(spare.of(20, &Concurrency::of(4.0)) > Some(7));
        spare.observe(80.0, at(20));
        assert_eq!(spare.of(20, &Concurrency::of(4.0)), Some(2));
    }

    /// With which of so many requests, one in ten milliseconds, it is said.
    fn said(word: &mut Word, requests: u64, unfit: bool) -> Vec<u64> {
        (0..requests).filter(|at| word.is_due(unfit, UnixNanos::from_millis(at * 10))).collect()
    }

    #[test]
    fn it_is_said_seldom_where_no_endpoint_is_listed_that_is_unfit() {
        assert_eq!(said(&mut Word::default(), 300, false), [0, 128, 256]);
    }

    #[test]
    fn it_is_said_with_the_first_endpoint_that_is_listed_though_unfit_and_again_soon() {
        let mut word = Word::default();
        assert_eq!(said(&mut word, 2, false), [0]);
        assert_eq!(said(&mut word, 100, true), [0, 25, 50, 75]);
    }

    #[test]
    fn a_clock_that_stepped_back_silences_nobody() {
        let mut word = Word::default();
        assert!(word.is_due(true, at(100)) && word.is_due(true, at(1)));
    }

    proptest! {
        #[test]
        fn more_load_spares_no_more(
            loads in proptest::collection::vec(0.0f64..1000.0, 2),
            endpoints in 1usize..1000,
            level in 1u8..64,
        ) {
            let concurrency = Concurrency::of(f64::from(level));
            let spared = |load: f64| spare(load, endpoints, &concurrency).unwrap();
            let (less, more) = (loads[0].min(loads[1]), loads[0].max(loads[1]));
            prop_assert!(spared(less) >= spared(more) && spared(more) >= 1);
        }
    }
}
