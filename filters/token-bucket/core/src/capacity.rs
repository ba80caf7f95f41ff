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
//! **What is overloaded counts less.** With `target_utilization` an endpoint whose newest load report,
//! not older than half a minute, tells a utilization `u` above the target (that of the application,
//! else of the CPU) counts as `target / u` of what its state counts. A cluster whose load is this
//! bucket's own doing answers a smaller rate with a smaller `u`, and a rate that followed at once
//! would swing between too much and too little: the rate answers `u` as `1 / u`, and `u` answers the
//! rate in proportion, a loop of gain one, which never comes to rest by itself. So each tick goes a
//! quarter of the way, at least a percent, down and up alike; that comes to rest even where reports
//! are two ticks behind. It is the load that is smoothed and not the state, which health-signal has
//! smoothed already: an endpoint that is down counts nothing from the next tick on.
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
    /// Utilization, in thousandths, above which an endpoint counts less; `None` if only states count.
    pub target_utilization: Option<u32>,
    /// Its endpoints; empty for those that the modules have learned.
    pub endpoints: Vec<Endpoint>,
}

/// The share of its capacity that a cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// In percent, by the states of its endpoints.
    states: u8,
    /// And in percent of that, by the load of those that work.
    load: u8,
}

impl Share {
    /// Of the configured rate, with the load as it is smoothed.
    fn percent(self, load: u8, min_percent: u8) -> u8 {
        let percent = u16::from(self.states) * u16::from(load) / 100;
        u8::try_from(percent).unwrap_or(100).clamp(min_percent, 100)
    }
}

/// What is known of a cluster. `None` if nothing is, or the error of shared data.
pub(crate) fn share(
    store: &impl SharedStore,
    capacity: &Capacity,
    now: UnixNanos,
) -> Result<Option<Share>, ReadError> {
    let learned;
    let endpoints = if capacity.endpoints.is_empty() {
        let members = read(store, &Members::key(&capacity.cluster))?.unwrap_or_default();
        learned = members.endpoints().collect();
        &learned
    } else {
        &capacity.endpoints
    };
    let (mut sum, mut loaded, mut known) = (0_u32, 0_u32, false);
    for endpoint in endpoints {
        let health = read(store, &EndpointHealth::key(&capacity.cluster, *endpoint))?;
        let health = health.filter(|health| is_current(health.written_at, now));
        let state = health.as_ref().map(|health| health.state).unwrap_or_default();
        let load = health.and_then(|health| by_load(capacity.target_utilization?, &health, now));
        known |= state != HealthState::Unknown || load.is_some();
        let counts = match state {
            HealthState::Healthy | HealthState::Ramping | HealthState::Unknown => WHOLE,
            HealthState::Degraded | HealthState::Suppressed => DEGRADED,
            HealthState::Down | HealthState::Unready | HealthState::BreakerOpen => 0,
        };
        sum = sum.saturating_add(counts);
        loaded = loaded.saturating_add(counts * load.unwrap_or(WHOLE));
    }
    let count = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
    let percent = |share: u32| u8::try_from(share).ok();
    let states = sum.checked_div(count).and_then(percent);
    let load = loaded.checked_div(sum).map_or(Some(100), percent);
    let share = states.zip(load).map(|(states, load)| Share { states, load });
    Ok(share.filter(|_| known))
}

/// What a whole endpoint counts with the load that it reports; `None` if it reports none.
fn by_load(target: u32, health: &EndpointHealth, now: UnixNanos) -> Option<u32> {
    let report = health.report.as_ref().filter(|report| is_current(report.received_at, now))?;
    let application = report.application_utilization;
    let told = if application > 0.0 { application } else { report.cpu_utilization };
    // What is too large for the type becomes its largest.
    let utilization = ((told * 1_000.0) as u32).max(1);
    (told > 0.0).then(|| (target.saturating_mul(WHOLE) / utilization).min(WHOLE))
}

/// A quarter of the way from one percentage to another, at least one.
fn approach(from: u8, to: u8) -> u8 {
    let step = from.abs_diff(to).div_ceil(4);
    if to < from { from - step } else { from + step }
}

/// How the policies' rates stand, by capacity and by [`crate::Peers`]. Empty where none follows anything.
#[derive(Debug, Default)]
pub(crate) struct Rates(Vec<Rate>);

/// The rate of one policy.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Of the configured one.
    percent: u8,
    /// By the load of the cluster alone, smoothed.
    load: u8,
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
            Rate { percent: 100, load: 100, peers, unknown_since: None, told: false }
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
            let known = share(store, capacity, now).unwrap_or(None);
            rate.load = known.map_or(100, |share| approach(rate.load, share.load));
            let percent = known.map_or(100, |share| share.percent(rate.load, capacity.min_percent));
            changed |= percent != rate.percent;
            rate.percent = percent;
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

/// True unless it is old, or was written before the clock stepped back.
fn is_current(written_at: UnixNanos, now: UnixNanos) -> bool {
    now.since(written_at) < MAX_AGE && !written_at.is_stale_deadline(now, MAX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared_state::{
        Expected, LoadReport, MemoryStore, SetError, StoreError, Versioned, encode, update,
    };

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(1_000_000 + secs)
    }

    fn endpoint(port: u16) -> Endpoint {
        format!("127.0.0.1:{port}").parse().unwrap()
    }

    fn capacity(min_percent: u8, endpoints: &[Endpoint]) -> Capacity {
        let (cluster, endpoints) = ("backend".to_owned(), endpoints.to_vec());
        Capacity { cluster, min_percent, target_utilization: None, endpoints }
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

    /// Without smoothing.
    fn percent(
        store: &MemoryStore,
        capacity: &Capacity,
        now: UnixNanos,
    ) -> Result<Option<u8>, ReadError> {
        let share = share(store, capacity, now)?;
        Ok(share.map(|share| share.percent(share.load, capacity.min_percent)))
    }

    /// Four learned endpoints in these states.
    fn percent_of(states: [HealthState; 4]) -> Option<u8> {
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
        assert_eq!(percent_of([Healthy; 4]), Some(100));
        assert_eq!(percent_of([Healthy, Healthy, Down, Unready]), Some(50));
        assert_eq!(percent_of([Healthy, Degraded, Down, Unknown]), Some(56));
        assert_eq!(percent_of([Down; 4]), Some(10), "at least what is configured");
    }

    #[test]
    fn a_cluster_of_which_nothing_is_known_has_no_share() {
        assert_eq!(percent_of([HealthState::Unknown; 4]), None);
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
        assert_eq!(share(&Failing, &capacity(10, &[]), at(0)), failed);
    }

    /// One that reports this load, of the application and of the CPU.
    fn report(store: &MemoryStore, port: u16, state: HealthState, [own, cpu]: [f32; 2], secs: u64) {
        let report = LoadReport {
            received_at: at(secs),
            application_utilization: own,
            cpu_utilization: cpu,
            ..LoadReport::default()
        };
        let record = EndpointHealth {
            state,
            written_at: at(secs),
            report: Some(report),
            ..EndpointHealth::default()
        };
        let key = EndpointHealth::key("backend", endpoint(port));
        store.set(key.as_str(), &encode(&record), Expected::Any).unwrap();
    }

    fn with_target(target: u32, ports: &[u16]) -> Capacity {
        let endpoints: Vec<_> = ports.iter().map(|port| endpoint(*port)).collect();
        Capacity { target_utilization: Some(target), ..capacity(10, &endpoints) }
    }

    #[test]
    fn an_endpoint_above_the_target_counts_as_the_target_over_its_load() {
        use HealthState::{Degraded, Down, Healthy, Unknown};
        let (store, pair) = (MemoryStore::default(), with_target(800, &[1, 2]));
        let share_of = |first, second| {
            for (port, (state, load)) in [(1, first), (2, second)] {
                report(&store, port, state, load, 0);
            }
            share(&store, &pair, at(5)).unwrap().map(|share| (share.states, share.load))
        };
        let idle = (Healthy, [0.1, 0.0]);
        assert_eq!(share_of(idle, (Healthy, [1.6, 0.0])), Some((100, 75)));
        assert_eq!(share_of(idle, (Healthy, [0.8, 2.0])), Some((100, 100)), "its own word first");
        assert_eq!(share_of(idle, (Healthy, [0.0, 1.6])), Some((100, 75)), "else the CPU's");
        assert_eq!(share_of(idle, (Degraded, [1.6, 0.0])), Some((62, 90)));
        assert_eq!(share_of(idle, (Down, [1.6, 0.0])), Some((50, 100)), "its load is nobody's");
        assert_eq!(share_of((Down, [1.6, 0.0]), (Down, [1.6, 0.0])), Some((0, 100)));
        assert_eq!(share_of(idle, (Healthy, [f32::MAX, 0.0])), Some((100, 50)));
        assert_eq!(share_of((Unknown, [0.0; 2]), (Unknown, [0.0; 2])), None, "it tells nothing");
        assert_eq!(share_of((Unknown, [0.0; 2]), (Unknown, [1.6, 0.0])), Some((100, 75)));
        assert_eq!(share(&store, &capacity(10, &pair.endpoints), at(5)), Ok(None), "no target");
    }

    #[test]
    fn a_report_that_is_old_says_nothing() {
        let (store, alone) = (MemoryStore::default(), with_target(800, &[1]));
        report(&store, 1, HealthState::Healthy, [1.6, 0.0], 0);
        let key = EndpointHealth::key("backend", endpoint(1));
        let mut health = read(&store, &key).unwrap().unwrap();
        health.written_at = at(29);
        store.set(key.as_str(), &encode(&health), Expected::Any).unwrap();
        let load = |secs| share(&store, &alone, at(secs)).unwrap().unwrap().load;
        assert_eq!((load(29), load(30)), (50, 100));
    }

    /// Percentages of a policy with a target of 0.8, tick by tick, of a cluster that reports what
    /// `utilization` makes of the percentage that it has got some ticks before.
    fn ticks(delay: usize, count: usize, utilization: impl Fn(u8) -> f32) -> Vec<u8> {
        let store = MemoryStore::default();
        let mut limiter = limiter_with(r#","target_utilization":0.8,"endpoints":["127.0.0.1:1"]"#);
        let mut percents = vec![100];
        for (tick, secs) in (0..count).zip(0..) {
            let load = utilization(percents[tick.saturating_sub(delay)]);
            report(&store, 1, HealthState::Healthy, [load, 0.0], secs);
            let _ = limiter.tick(&store, at(secs));
            percents.push(limiter.capacity_percent(0));
        }
        percents
    }

    #[test]
    fn a_rate_goes_a_quarter_of_the_way_with_each_tick() {
        assert_eq!(ticks(0, 14, |_| 1.6)[..5], [100, 87, 77, 70, 65]);
        assert_eq!(ticks(0, 14, |_| 1.6).last(), Some(&50));
        assert_eq!(ticks(0, 40, |_| 80.0).last(), Some(&10), "at least what is configured");
        assert_eq!(ticks(0, 40, |_| 0.8), [100; 41]);
    }

    fn limiter() -> crate::Limiter {
        limiter_with("")
    }

    /// Ten tokens at once, ten a second, for the learned cluster.
    fn limiter_with(more: &str) -> crate::Limiter {
        let policy = format!(
            r#"{{"policies":[{{"name":"p","capacity":{{"cluster":"backend"{more}}},
            "token_bucket":{{"max_tokens":10,"tokens_per_fill":10,"fill_interval":"1s"}}}}]}}"#
        );
        crate::Limiter::new(crate::testing::config(&policy), shared_state::HashSeed([1, 2]))
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
        /// A cluster whose load is the bucket's own doing, and whose reports lag: the rate comes to
        /// rest between the target and no limit at all, and stays there within rounding.
        #[test]
        fn a_loop_of_rate_and_load_comes_to_rest(full in 0.1_f32..4.0, delay in 0_usize..=2) {
            let percents = ticks(delay, 120, |percent| full * f32::from(percent) / 100.0);
            let rest = (100.0 * (0.8 / full).sqrt()).min(100.0);
            for percent in &percents[60..] {
                prop_assert!((f32::from(*percent) - rest).abs() <= 4.0, "{rest}: {percents:?}");
            }
        }

        /// Whatever endpoints report, the share is one, and nothing makes it more than their states do.
        #[test]
        fn a_load_never_adds_capacity(
            loads in proptest::collection::vec((0..8_usize, 0.0_f32..1e9, 0.0_f32..4.0), 1..8),
            target in 10_u32..=10_000,
        ) {
            let (store, ports) = (MemoryStore::default(), [1, 2, 3, 4, 5, 6, 7, 8]);
            let capacity = with_target(target, &ports[..loads.len()]);
            for (port, (state, own, cpu)) in ports.into_iter().zip(loads) {
                report(&store, port, HealthState::ALL[state], [own, cpu], 0);
            }
            let told = share(&store, &capacity, at(1)).unwrap();
            let states = share(&store, &Capacity { target_utilization: None, ..capacity }, at(1));
            if let Some(share) = told {
                prop_assert!(share.states <= 100 && share.load <= 100);
                let by_states = states.unwrap().map_or(100, |share| share.percent(100, 1));
                prop_assert!(share.percent(share.load, 1) <= by_states.max(1));
            }
        }

        #[test]
        fn a_percentage_that_is_approached_is_reached(from in 0_u8..=100, to in 0_u8..=100) {
            let mut at = from;
            for _ in 0..20 {
                let next = approach(at, to);
                prop_assert!(next.abs_diff(to) < at.abs_diff(to) || at == to);
                at = next;
            }
            prop_assert_eq!(at, to);
        }

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
