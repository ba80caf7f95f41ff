//! How many requests to leave unsteered, so that the cluster's own policy shows us its endpoints.
//!
//! No hostcall lists endpoints, but two attributes together are as good: the number of endpoints of
//! the cluster, and the one that served. While the list is shorter than the number, one whole round
//! of the cluster goes unsteered, in which a policy that takes turns shows whoever is missing. After
//! that it is the missing share: who knows half of a cluster may direct half of its traffic. A
//! complete list still leaves a small share, because one endpoint replaced by another does not
//! change the number.
//!
//! Completeness may be out of reach (an endpoint that is never chosen because it is unhealthy, one
//! with two addresses, one without `ip:port`). When [`FRUITLESS_ROUNDS`] times the cluster's size
//! has gone unsteered and nothing new came, the share falls to its least. Not so for a cluster
//! larger than the list can hold: there the rest is alive and must get its traffic.

use shared_state::MAX_MEMBERS;

/// Unsteered requests, in sizes of the cluster, that must find nothing before the search slows. By
/// then an endpoint that the policy chooses as often as others has been missed with a probability
/// of `exp(-4)`, 2 %.
const FRUITLESS_ROUNDS: u32 = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exploration {
    known: usize,
    fruitless: u32,
}

impl Exploration {
    /// The list has this length now.
    pub(crate) fn update(&mut self, known: usize) {
        if self.known != known {
            *self = Self { known, fruitless: 0 };
        }
    }

    /// There is something new to find.
    pub(crate) fn begin(&mut self) {
        self.fruitless = 0;
    }

    /// A request was left unsteered.
    pub(crate) fn explored(&mut self) {
        self.fruitless = self.fruitless.saturating_add(1);
    }

    /// The share of requests to leave unsteered, 0 to 1, in a cluster of `size` endpoints.
    pub(crate) fn share(&self, size: Option<u32>, exploration: f64, verification: f64) -> f64 {
        let Some(size) = size else { return exploration };
        let known = u32::try_from(self.known).unwrap_or(u32::MAX);
        let missing = size.saturating_sub(known);
        if missing == 0 {
            return verification;
        }
        // One more than a round: it may have begun with a turn that was missed.
        if self.fruitless <= size && size <= u32::from(MAX_MEMBERS) {
            return 1.0;
        }
        let fruitless = self.fruitless >= size.saturating_mul(FRUITLESS_ROUNDS);
        if fruitless && size <= u32::from(MAX_MEMBERS) {
            return exploration;
        }
        exploration.max(f64::from(missing) / f64::from(size))
    }
}

/// True with probability `share` for a uniform `draw`.
pub(crate) fn falls_within(draw: u32, share: f64) -> bool {
    f64::from(draw) < share * 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(known: usize, size: u32, fruitless: u32) -> f64 {
        let mut exploration = Exploration::default();
        exploration.update(known);
        (0..fruitless).for_each(|_| exploration.explored());
        exploration.share(Some(size), 0.05, 0.005)
    }

    #[test]
    fn the_missing_share_is_left_to_the_proxy() {
        assert_eq!((share(1, 4, 5), share(3, 4, 5)), (0.75, 0.25));
        assert_eq!(share(99, 100, 101), 0.05);
    }

    #[test]
    fn one_round_is_left_to_the_proxy_as_a_whole() {
        assert_eq!((share(3, 4, 0), share(3, 4, 4)), (1.0, 1.0));
    }

    #[test]
    fn a_complete_list_is_still_verified() {
        assert_eq!((share(4, 4, 0), share(5, 4, 0)), (0.005, 0.005));
    }

    #[test]
    fn a_search_that_finds_nothing_slows_down() {
        assert_eq!((share(2, 10, 39), share(2, 10, 40)), (0.8, 0.05));
    }

    #[test]
    fn an_endpoint_that_is_found_revives_the_search() {
        let mut exploration = Exploration::default();
        (0..100).for_each(|_| exploration.explored());
        exploration.update(1);
        assert_eq!(exploration.share(Some(10), 0.05, 0.005), 1.0);
    }

    #[test]
    fn a_cluster_larger_than_the_list_keeps_its_share_for_ever() {
        assert!(share(1024, 2048, 1_000_000) == 0.5);
    }

    #[test]
    fn a_share_is_a_probability() {
        assert!(!falls_within(0, 0.0) && falls_within(u32::MAX, 1.0));
        assert!(falls_within(u32::MAX / 2, 0.5) && !falls_within(u32::MAX / 2 + 1, 0.5));
    }
}
