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

use crate::ewma::Ewma;
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
