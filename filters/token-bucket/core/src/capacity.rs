//! A rate that follows what the cluster can take.
//!
//! A limit that protects a cluster is right for the cluster as it was when somebody wrote it down.
//! With half of the endpoints down it lets twice too much through to the rest. So a bucket may
//! follow the share of its cluster that works, as health-signal's records tell it: one unit for
//! each endpoint that is healthy or of which nothing is known, a quarter for one that is degraded
//! (as metric-router weighs it), none for one that is down or unready.
//!
//! **What changes is the price.** A bucket is a span of time, and a token costs a part of it. At
//! half of the capacity a token costs twice as much, and the span stays. What is used of the
//! bucket is then the same part before and after: a change neither makes tokens nor takes the part
//! that was earned, and workers that learn of it a tick apart still agree on the record. The burst
//! shrinks with the rate.
//!
//! **When nothing is known** (no record of any endpoint, none younger than half a minute, a `vm_id`
//! that health-signal does not share) the bucket gives what is configured. The records are read by
//! tick, never for a request. That nothing is known is counted once it has lasted for as long: when
//! a proxy starts, nobody knows anything yet.

use crate::{Config, Fault, Gcra, Policy, Tally};
use core::time::Duration;
use shared_state::{
    Endpoint, EndpointHealth, HealthState, Members, ReadError, SharedStore, UnixNanos, read,
};

/// Age from which a health record says nothing: its writer is gone or has stopped.
const MAX_AGE: Duration = Duration::from_secs(30);

/// What a whole endpoint counts.
const WHOLE: u32 = 100;

/// What one counts that is degraded.
const DEGRADED: u32 = 25;

/// Which cluster a bucket follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Name of the cluster, as health-signal knows it.
    pub cluster: String,
    /// Least percentage of the configured rate, 1 to 100.
    pub min_percent: u8,
    /// Its endpoints; empty for those that the modules have learned.
    pub endpoints: Vec<Endpoint>,
}

/// The share of its capacity that a cluster has, in percent, at least `min_percent`. `None` if
/// nothing is known, or the error of shared data.
pub(crate) fn percent(
    store: &impl SharedStore,
    capacity: &Capacity,
    now: UnixNanos,
) -> Result<Option<u8>, ReadError> {
    let learned;
    let endpoints = if capacity.endpoints.is_empty() {
        let members = read(store, &Members::key(&capacity.cluster))?.unwrap_or_default();
        learned = members.endpoints().collect();
        &learned
    } else {
        &capacity.endpoints
    };
    let (mut sum, mut known) = (0_u32, false);
    for endpoint in endpoints {
        let health = read(store, &EndpointHealth::key(&capacity.cluster, *endpoint))?;
        let state = health.filter(|health| is_current(health, now)).map(|health| health.state);
        known |= state.is_some_and(|state| state != HealthState::Unknown);
        sum = sum.saturating_add(match state.unwrap_or_default() {
            HealthState::Healthy | HealthState::Ramping | HealthState::Unknown => WHOLE,
            HealthState::Degraded | HealthState::Suppressed => DEGRADED,
            HealthState::Down | HealthState::Unready | HealthState::BreakerOpen => 0,
        });
    }
    let count = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
    let share = sum.checked_div(count).and_then(|share| u8::try_from(share).ok());
    Ok(share.filter(|_| known).map(|share| share.clamp(capacity.min_percent, 100)))
}

/// How the policies' rates stand, by capacity and by [`crate::Peers`]. Empty where none follows anything.
#[derive(Debug, Default)]
pub(crate) struct Rates(Vec<Rate>);

/// The rate of one policy.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Of the configured one.
    percent: u8,
    /// How many proxies share it.
    peers: u16,
    /// Since when nothing is known; `None` while something is.
    unknown_since: Option<UnixNanos>,
    /// That has been counted.
    told: bool,
}

impl Rates {
    /// As they are before anything is known.
    pub(crate) fn new(config: &Config) -> Self {
        let policies = &config.policies;
        if !policies.iter().any(|policy| policy.capacity.is_some() || policy.peers.is_some()) {
            return Self::default();
        }
        let rate = |policy: &Policy| {
            let peers = policy.peers.as_ref().map_or(1, |peers| peers.count);
            Rate { percent: 100, peers, unknown_since: None, told: false }
        };
        Self(policies.iter().map(rate).collect())
    }

    /// Of the configured rate, as the capacity of its cluster is known now.
    pub(crate) fn percent(&self, policy: usize) -> u8 {
        self.0.get(policy).map_or(100, |rate| rate.percent)
    }

    /// The bucket of a policy as it is now.
    pub(crate) fn scaled(&self, policy: usize, bucket: &Gcra) -> Gcra {
        let Some(rate) = self.0.get(policy) else { return *bucket };
        let bucket = if rate.peers > 1 { bucket.shared_by(rate.peers) } else { *bucket };
        if rate.percent < 100 { bucket.at_percent(rate.percent) } else { bucket }
    }

    /// Reads what is known. Answers whether a rate has changed.
    pub(crate) fn tick(
        &mut self,
        store: &impl SharedStore,
        config: &Config,
        now: UnixNanos,
        tally: &mut Tally,
    ) -> bool {
        let mut changed = false;
        for (rate, policy) in self.0.iter_mut().zip(&config.policies) {
            if let Some(peers) = &policy.peers {
                let count = peers.now(store);
                changed |= count != rate.peers;
                rate.peers = count;
            }
            let Some(capacity) = &policy.capacity else { continue };
            let known = percent(store, capacity, now).unwrap_or(None);
            changed |= known.unwrap_or(100) != rate.percent;
            rate.percent = known.unwrap_or(100);
            rate.unknown_since = known.is_none().then(|| rate.unknown_since.unwrap_or(now));
            let lasted = rate.unknown_since.is_some_and(|since| now.since(since) >= MAX_AGE);
            if lasted && !rate.told {
                let detail = format!(
                    "nothing is known of cluster '{}': policy '{}' keeps its configured rate",
                    capacity.cluster, policy.name
                );
                tally.faults.push(Fault { reason: "capacity_unknown", detail });
            }
            rate.told = lasted;
        }
        changed
    }
}

/// True unless the record is old, or was written before the clock stepped back.
fn is_current(health: &EndpointHealth, now: UnixNanos) -> bool {
    now.since(health.written_at) < MAX_AGE && !health.written_at.is_stale_deadline(now, MAX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared_state::{Expected, MemoryStore, SetError, StoreError, Versioned, encode, update};

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(1_000_000 + secs)
    }

    fn endpoint(port: u16) -> Endpoint {
        format!("127.0.0.1:{port}").parse().unwrap()
    }

    fn capacity(min_percent: u8, endpoints: &[Endpoint]) -> Capacity {
        Capacity { cluster: "backend".to_owned(), min_percent, endpoints: endpoints.to_vec() }
    }

    fn tell(store: &MemoryStore, port: u16, state: HealthState, secs: u64) {
        let record = EndpointHealth { state, written_at: at(secs), ..EndpointHealth::default() };
        let key = EndpointHealth::key("backend", endpoint(port));
        store.set(key.as_str(), &encode(&record), Expected::Any).unwrap();
    }

    fn learned(store: &MemoryStore, ports: &[u16]) {
        for port in ports {
            let seen = |prior| Members::seen(prior, endpoint(*port), at(0));
            update(store, &Members::key("backend"), seen).unwrap();
        }
    }

    /// Four learned endpoints in these states.
    fn share(states: [HealthState; 4]) -> Option<u8> {
        let store = MemoryStore::default();
        learned(&store, &[1, 2, 3, 4]);
        for (port, state) in (1..).zip(states) {
            tell(&store, port, state, 0);
        }
        percent(&store, &capacity(10, &[]), at(5)).unwrap()
    }

    #[test]
    fn the_share_is_that_of_the_endpoints_that_work() {
        use HealthState::{Degraded, Down, Healthy, Unknown, Unready};
        assert_eq!(share([Healthy; 4]), Some(100));
        assert_eq!(share([Healthy, Healthy, Down, Unready]), Some(50));
        assert_eq!(share([Healthy, Degraded, Down, Unknown]), Some(56));
        assert_eq!(share([Down; 4]), Some(10), "at least what is configured");
    }

    #[test]
    fn a_cluster_of_which_nothing_is_known_has_no_share() {
        assert_eq!(share([HealthState::Unknown; 4]), None);
        let store = MemoryStore::default();
        assert_eq!(percent(&store, &capacity(10, &[]), at(0)), Ok(None));
        learned(&store, &[1, 2]);
        assert_eq!(percent(&store, &capacity(10, &[]), at(0)), Ok(None));
        tell(&store, 1, HealthState::Down, 0);
        assert_eq!(percent(&store, &capacity(10, &[]), at(29)), Ok(Some(50)));
        assert_eq!(percent(&store, &capacity(10, &[]), at(30)), Ok(None), "it is too old");
    }

    #[test]
    fn endpoints_that_are_configured_need_not_be_learned() {
        let store = MemoryStore::default();
        tell(&store, 1, HealthState::Down, 0);
        let capacity = capacity(10, &[endpoint(1), endpoint(2), endpoint(3), endpoint(4)]);
        assert_eq!(percent(&store, &capacity, at(0)), Ok(Some(75)));
    }

    #[test]
    fn a_host_that_fails_is_an_error_and_no_share() {
        /// Reads only, and those fail.
        struct Failing;
        impl SharedStore for Failing {
            fn get(&self, _: &str) -> Result<Option<Versioned>, StoreError> {
                Err(StoreError { status: 10 })
            }
            fn set(&self, _: &str, _: &[u8], _: Expected) -> Result<(), SetError> {
                Err(SetError::Conflict)
            }
        }
        let failed = Err(ReadError::Store(StoreError { status: 10 }));
        assert_eq!(percent(&Failing, &capacity(10, &[]), at(0)), failed);
    }

    /// Ten tokens at once, ten a second, for the learned cluster.
    fn limiter() -> crate::Limiter {
        let policy = r#"{"policies":[{"name":"p","capacity":{"cluster":"backend"},
            "token_bucket":{"max_tokens":10,"tokens_per_fill":10,"fill_interval":"1s"}}]}"#;
        crate::Limiter::new(crate::testing::config(policy), shared_state::HashSeed([1, 2]))
    }

    fn passes(limiter: &mut crate::Limiter, store: &MemoryStore, millis: u64) -> usize {
        let now = at(0).plus(Duration::from_millis(millis));
        let request = crate::testing::Request::default();
        (0..30).filter(|_| limiter.decide(store, &request, now).refusal.is_none()).count()
    }

    #[test]
    fn a_bucket_gives_the_share_of_its_rate_that_the_cluster_has_of_its_capacity() {
        let store = MemoryStore::default();
        let mut limiter = limiter();
        learned(&store, &[1, 2]);
        for port in [1, 2] {
            tell(&store, port, HealthState::Healthy, 0);
        }
        let _ = limiter.tick(&store, at(0));
        assert_eq!(passes(&mut limiter, &store, 0), 10);
        tell(&store, 2, HealthState::Down, 0);
        let _ = limiter.tick(&store, at(0));
        assert_eq!(passes(&mut limiter, &store, 1_000), 5, "half of what a second gave before");
        tell(&store, 2, HealthState::Healthy, 0);
        let _ = limiter.tick(&store, at(1));
        assert_eq!(passes(&mut limiter, &store, 1_500), 5, "half a second at the whole rate");
    }

    #[test]
    fn that_nothing_is_known_is_counted_once_and_changes_nothing() {
        let store = MemoryStore::default();
        let mut limiter = limiter();
        let faults = |limiter: &mut crate::Limiter, secs| limiter.tick(&store, at(secs)).faults;
        assert_eq!((0..30).map(|secs| faults(&mut limiter, secs).len()).sum::<usize>(), 0);
        assert_eq!(faults(&mut limiter, 30)[0].reason, "capacity_unknown");
        assert_eq!(faults(&mut limiter, 31), []);
        assert_eq!(passes(&mut limiter, &store, 31_000), 10);
    }

    proptest! {
        /// However the share changes, no window holds more than the configured burst and rate.
        #[test]
        fn a_changing_share_never_makes_a_token(
            steps in proptest::collection::vec((1u8..=100, 0u64..400), 1..150),
            max in 1u32..6,
        ) {
            let whole = Gcra::new(max, 10, Duration::from_secs(1)).unwrap();
            let (mut tat, mut millis, mut admitted) = (UnixNanos::ZERO, 1_000_000, Vec::new());
            for (percent, step) in steps {
                millis += step;
                let now = UnixNanos::from_millis(millis);
                if let crate::Decision::Admit(next, _) = whole.at_percent(percent).spend(tat, now, 1) {
                    tat = next;
                    admitted.push(millis);
                }
            }
            for (from, start) in admitted.iter().enumerate() {
                for (to, end) in admitted.iter().enumerate().skip(from) {
                    prop_assert!((to - from + 1) as u64 <= u64::from(max) + (end - start) / 100);
                }
            }
        }
    }
}
