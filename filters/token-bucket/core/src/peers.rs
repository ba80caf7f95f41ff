//! A limit divided among proxies, without a service: each has its share.
//!
//! Envoy's `local_cluster_rate_limit` does the same by the members of `local_cluster_name`. Here the
//! number of proxies is configured, or it is the number of endpoints that the modules know of a
//! cluster that has the proxies for endpoints. Load that is spread unevenly gets less than the whole
//! limit, as everywhere where shares are fixed; a rate limit service does better, and costs a call.
//!
//! **What changes is the price**, as with [`crate::Capacity`]: with N proxies a token of the same
//! span of time costs N times as much. The rate is divided exactly (Envoy rounds each share up, and
//! may give N - 1 tokens a fill more than configured); the burst is rounded up, as every share
//! must hold a token: all of them together give at most N - 1 more at once. A change of N keeps what
//! was earned: a bucket that was half full stays so.

use shared_state::{Members, SharedStore, read};

/// How many proxies share a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// The number, or the one to go by while none is known; this proxy is one of them.
    pub count: u16,
    /// Whose endpoints are the proxies, if that is not configured as a number.
    pub from_cluster: Option<String>,
}

impl Peers {
    /// How many there are now.
    pub(crate) fn now(&self, store: &impl SharedStore) -> u16 {
        let Some(cluster) = &self.from_cluster else { return self.count };
        match read(store, &Members::key(cluster)) {
            Ok(Some(members)) if !members.list.is_empty() => {
                u16::try_from(members.list.len()).unwrap_or(u16::MAX)
            }
            _ => self.count,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Request, config};
    use crate::{Gcra, Limiter};
    use core::time::Duration;
    use proptest::prelude::*;
    use shared_state::{Endpoint, HashSeed, Members, MemoryStore, UnixNanos, update};

    fn at(millis: u64) -> UnixNanos {
        UnixNanos::from_millis(1_000_000 + millis)
    }

    /// Ten tokens at once, ten a second, for all proxies together.
    fn limiter(peers: &str) -> Limiter {
        let json = format!(
            r#"{{"policies":[{{"name":"p","peers":{peers},
                "token_bucket":{{"max_tokens":10,"tokens_per_fill":10,"fill_interval":"1s"}}}}]}}"#
        );
        Limiter::new(config(&json), HashSeed([1, 2]))
    }

    fn passes(limiter: &mut Limiter, store: &MemoryStore, millis: u64) -> usize {
        let request = Request::default();
        let mut pass = || limiter.decide(store, &request, at(millis)).refusal.is_none();
        (0..30).filter(|_| pass()).count()
    }

    fn learn(store: &MemoryStore, port: u16) {
        let endpoint: Endpoint = format!("10.0.0.1:{port}").parse().unwrap();
        update(store, &Members::key("fleet"), |prior| Members::seen(prior, endpoint, at(0)))
            .unwrap();
    }

    #[test]
    fn each_of_them_has_its_share_and_the_burst_is_rounded_up() {
        for (count, burst, in_two_seconds) in [(1, 10, 20), (2, 5, 10), (3, 4, 6), (20, 1, 1)] {
            let store = MemoryStore::default();
            let mut limiter = limiter(&format!(r#"{{"count":{count}}}"#));
            assert_eq!(passes(&mut limiter, &store, 0), burst, "{count}");
            let later = (100..=2_000).step_by(100).map(|at| passes(&mut limiter, &store, at));
            assert_eq!(later.sum::<usize>(), in_two_seconds, "{count}");
        }
    }

    #[test]
    fn their_number_is_that_of_a_cluster_and_a_change_keeps_the_part_that_was_earned() {
        let store = MemoryStore::default();
        let mut limiter = limiter(r#"{"count":2,"from_cluster":"fleet"}"#);
        let _ = limiter.tick(&store, at(0));
        assert_eq!(passes(&mut limiter, &store, 0), 5, "none is known");
        for port in 1..=5 {
            learn(&store, port);
        }
        let _ = limiter.tick(&store, at(0));
        assert_eq!(passes(&mut limiter, &store, 0), 0, "an empty bucket stays empty");
        assert_eq!(passes(&mut limiter, &store, 500), 1, "half of the second's two");
        assert_eq!(passes(&mut limiter, &store, 2_500), 2, "the whole share");
    }

    proptest! {
        /// However their number changes, no window holds more than one proxy alone would give.
        #[test]
        fn a_changing_number_never_makes_a_token(
            steps in proptest::collection::vec((1u16..9, 0u64..400), 1..150),
        ) {
            let whole = Gcra::new(24, 10, Duration::from_secs(1)).unwrap();
            let (mut tat, mut millis, mut admitted) = (UnixNanos::ZERO, 0, Vec::new());
            for (count, step) in steps {
                millis += step;
                let share = whole.shared_by(count);
                if let crate::Decision::Admit(next, _) = share.spend(tat, at(millis), 1) {
                    tat = next;
                    admitted.push(millis);
                }
            }
            for (from, start) in admitted.iter().enumerate() {
                for (to, end) in admitted.iter().enumerate().skip(from) {
                    // A share's burst is rounded up by less than a token of it.
                    prop_assert!((to - from + 1) as u64 <= 24 + 8 + (end - start) / 100);
                }
            }
        }
    }
}
