use super::*;
use crate::Config;
use proptest::prelude::*;

pub(crate) fn config(json: &str) -> ClusterConfig {
    let json = format!(r#"{{"clusters":[{{"name":"backend"{json}}}]}}"#);
    Config::from_json(json.as_bytes()).unwrap().value.clusters.remove(0)
}

fn at(secs: u64) -> UnixNanos {
    UnixNanos::from_secs(secs)
}

pub(crate) fn facts(row: usize) -> Facts {
    Facts {
        endpoint: format!("127.0.0.1:{}", row + 1).parse().unwrap(),
        part: Part::default(),
        listed: 1.0,
        row,
        state: HealthState::Unknown,
        state_since: None,
        came_at: None,
        breaker_rejects: false,
        works: false,
        elsewhere: 0.0,
        orca: None,
        reported_rps: None,
        latency: None,
        latency_age: Duration::ZERO,
        certainty: 0.0,
        error_ratio: 0.0,
        weight: 1.0,
        load: None,
    }
}

fn rates(facts: &[Facts], json: &str) -> Vec<f64> {
    rates_in(Condition::default(), facts, json)
}

fn rates_in(condition: Condition, facts: &[Facts], json: &str) -> Vec<f64> {
    let snapshot = Snapshot::build(facts, &config(json), condition, at(1000));
    snapshot.candidates.iter().map(|candidate| candidate.rate).collect()
}

fn latencies(latencies: &[f64]) -> Vec<f64> {
    let latency = |(row, latency)| Facts { latency: Some(latency), ..facts(row) };
    let facts: Vec<_> = latencies.iter().copied().enumerate().map(latency).collect();
    rates(&facts, "")
}

#[test]
fn endpoints_of_which_nothing_is_known_are_equal() {
    assert_eq!(rates(&[facts(0), facts(1)], ""), [1.0, 1.0]);
}

#[test]
fn twice_as_fast_is_twice_the_rate() {
    assert_eq!(latencies(&[0.01, 0.02, 0.04]), [2.0, 1.0, 0.5]);
}

#[test]
fn a_weight_of_the_list_is_a_rate() {
    let weighed = |row, listed| Facts { listed, ..facts(row) };
    assert_eq!(rates(&[weighed(0, 3.0), weighed(1, 1.0)], ""), [1.5, 0.5]);
    let slow = Facts { latency: Some(0.02), ..weighed(0, 4.0) };
    let fast = Facts { latency: Some(0.01), ..weighed(1, 4.0) };
    let usual = Facts { latency: Some(0.01), ..weighed(2, 4.0) };
    assert_eq!(rates(&[slow, fast, usual], ""), [0.5, 1.0, 1.0], "equal weights say nothing");
}

#[test]
fn differences_by_chance_are_none() {
    assert_eq!(latencies(&[0.0095, 0.01, 0.0108]), [1.0, 1.0, 1.0]);
}

const UPSET: Condition = Condition { spare: None, is_upset: true };

#[test]
fn chance_has_more_room_while_a_cluster_is_upset() {
    let took = |(row, latency)| Facts { latency: Some(latency), ..facts(row) };
    let of = |latencies: [f64; 3]| {
        let facts: Vec<_> = latencies.into_iter().enumerate().map(took).collect();
        (rates(&facts, ""), rates_in(UPSET, &facts, ""))
    };
    let (calm, upset) = of([0.0083, 0.01, 0.012]);
    assert!(calm[0] > 1.1 && calm[2] < 0.9, "{calm:?}");
    assert_eq!(upset, [1.0, 1.0, 1.0]);
    let (calm, upset) = of([0.005, 0.01, 0.02]);
    assert_eq!(calm, upset, "what is twice as fast is no chance");
}

#[test]
fn an_unknown_endpoint_is_an_average_one() {
    let fast = Facts { latency: Some(0.01), ..facts(0) };
    let slow = Facts { latency: Some(0.04), ..facts(1) };
    let middle = Facts { latency: Some(0.02), ..facts(2) };
    assert_eq!(rates(&[fast, slow, middle, facts(3)], ""), [2.0, 0.5, 1.0, 1.0]);
}

#[test]
fn an_error_ratio_that_has_faded_costs_nothing() {
    // What is left of a failure after a minute.
    let failed = Facts { error_ratio: 0.0025, ..facts(0) };
    assert_eq!(rates(&[failed, facts(1)], ""), [1.0, 1.0]);
}

#[test]
fn an_old_latency_fades_towards_the_average() {
    let old = Duration::from_secs(3600);
    let slow = Facts { latency: Some(8.0), latency_age: old, ..facts(0) };
    let usual = |row| Facts { latency: Some(0.01), ..facts(row) };
    assert_eq!(rates(&[slow, usual(1), usual(2)], ""), [1.0, 1.0, 1.0]);
}

#[test]
fn load_reports_rule_when_half_of_the_candidates_have_one() {
    let reporting = |row, orca| Facts { orca: Some(orca), latency: Some(0.01), ..facts(row) };
    let silent = |row| Facts { latency: Some(0.02), ..facts(row) };
    let with_half = [reporting(0, 300.0), reporting(1, 100.0), silent(2), silent(3)];
    assert_eq!(rates(&with_half, ""), [1.5, 0.5, 1.0, 1.0]);
    let with_less = [reporting(0, 300.0), silent(1), silent(2)];
    assert_eq!(rates(&with_less, ""), [2.0, 1.0, 1.0]);
}

#[test]
fn what_was_measured_here_rules_over_what_is_reported() {
    let measured = |condition, certainty| {
        let reporting = |row, orca, latency| Facts {
            orca: Some(orca),
            latency: Some(latency),
            certainty,
            ..facts(row)
        };
        let all = [reporting(0, 100.0, 0.01), reporting(1, 100.0, 0.02), reporting(2, 300.0, 0.02)];
        rates_in(condition, &all, "")
    };
    for condition in [Condition::default(), UPSET] {
        assert_eq!(measured(condition, 0.0), [1.0, 1.0, 3.0]);
        assert_eq!(measured(condition, 1.0), [2.0, 1.0, 1.0]);
    }
    assert!(measured(Condition::default(), 0.95)[2] > 1.0);
    assert_eq!(measured(UPSET, 0.95), [2.0, 1.0, 1.0], "nearly enough is enough");
}

#[test]
fn an_idle_endpoints_report_does_not_keep_it_idle() {
    let busy = |row| Facts {
        orca: Some(800.0),
        reported_rps: Some(100.0),
        latency: Some(0.01),
        ..facts(row)
    };
    // One request a second, one slot of eight taken by it: the report says that it can do eight.
    let idle = Facts { orca: Some(8.0), reported_rps: Some(1.0), ..busy(0) };
    let [idle, ..] = rates(&[idle, busy(1), busy(2)], "")[..] else { panic!("three rates") };
    assert!(idle > 0.95, "{idle}");
    // What is slow besides stays so.
    let slow = Facts { orca: Some(8.0), reported_rps: Some(1.0), latency: Some(0.05), ..busy(0) };
    let [slow, ..] = rates(&[slow, busy(1), busy(2)], "")[..] else { panic!("three rates") };
    assert!(slow < 0.25, "{slow}");
}

#[test]
fn an_endpoint_that_fails_costs_more() {
    let failing = Facts { error_ratio: 0.7, ..facts(0) };
    assert_eq!(rates(&[failing, facts(1)], ""), [1.0 / 8.0, 1.0]);
}

#[test]
fn weighted_round_robin_takes_the_median_for_what_does_not_report() {
    let wrr = r#","policy":"weighted_round_robin""#;
    let one = Facts { orca: Some(100.0), ..facts(0) };
    let other = Facts { orca: Some(300.0), ..facts(1) };
    assert_eq!(rates(&[one, other, facts(2)], wrr), [0.5, 1.5, 1.0]);
    assert_eq!(rates(&[facts(0), facts(1)], wrr), [1.0, 1.0]);
}

#[test]
fn a_degraded_endpoint_gets_less() {
    let degraded = Facts { state: HealthState::Degraded, ..facts(0) };
    assert_eq!(rates(&[degraded, facts(1)], ""), [0.25, 1.0]);
}

proptest! {
    #[test]
    fn a_difference_that_may_be_chance_is_none_and_a_great_one_is_what_it_is(
        ratio in 0.002f64..500.0,
        chance in 0.01f64..1.0,
    ) {
        let beyond_chance = |ratio| beyond_chance(ratio, chance);
        let beyond = beyond_chance(ratio);
        prop_assert!((beyond * beyond_chance(1.0 / ratio) - 1.0).abs() < 1e-9, "faster as slower");
        let (far, beyond) = if ratio < 1.0 { (1.0 / ratio, 1.0 / beyond) } else { (ratio, beyond) };
        prop_assert!(beyond >= 1.0 && beyond <= far);
        if far < 1.0 + chance {
            prop_assert_eq!(beyond, 1.0);
        }
        if far > 1.0 + 3.0 * chance {
            prop_assert!((beyond / far - 1.0).abs() < 1e-9);
        }
        prop_assert!(beyond_chance(ratio * 1.001) >= beyond_chance(ratio), "no step down");
    }

    #[test]
    fn a_step_is_within_half_a_step_of_the_ratio(octaves in -9.8f64..9.8) {
        let ratio = octaves.exp2();
        let error = (stepped(ratio) / ratio).log2().abs();
        prop_assert!(error <= 0.125 + 1e-9, "{ratio}: {error} octaves");
    }

    #[test]
    fn every_rate_is_a_positive_number(
        endpoints in proptest::collection::vec(
            (0u8..5, any::<bool>(), proptest::option::of(0.0f64..1e12),
             proptest::option::of(0.0f64..1e6), any::<u32>(), 0.0f64..=1.0), 0..20),
        wrr in any::<bool>(),
    ) {
        use HealthState::{Degraded, Down, Healthy, Unknown, Unready};
        let states = [Unknown, Down, Unready, Degraded, Healthy];
        let all: Vec<_> = endpoints.iter().enumerate().map(|(row, odd)| Facts {
            state: states[usize::from(odd.0)],
            state_since: Some(at(u64::from(odd.4))),
            breaker_rejects: odd.1,
            orca: odd.2.filter(|orca| *orca > 1e-30),
            latency: odd.3,
            latency_age: Duration::from_secs(u64::from(odd.4)),
            error_ratio: odd.5,
            ..facts(row)
        }).collect();
        let policy = if wrr { r#","policy":"weighted_round_robin""# } else { "" };
        let snapshot = Snapshot::build(&all, &config(policy), Condition::default(), at(1000));
        prop_assert_eq!(snapshot.candidates.is_empty(), all.is_empty());
        for candidate in snapshot.candidates {
            prop_assert!(candidate.rate.is_finite() && candidate.rate > 0.0, "{candidate:?}");
        }
    }
}
