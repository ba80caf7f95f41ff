use super::*;
use crate::rng::{GAMMA, mix};

fn hosts(count: u16) -> Vec<Host> {
    let host = |n| Host {
        address: SocketAddr::from(([10, 0, 0, 1], 9000 + n)),
        weight: 1,
        health: HealthStatus::Healthy,
        active_requests: 0,
    };
    (0..count).map(host).collect()
}

/// A splitmix64: uniform enough, and the same on every run.
fn draws(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_add(GAMMA);
        mix(state)
    }
}

fn least_request(selection_method: SelectionMethod) -> LoadBalancingPolicy {
    LoadBalancingPolicy::LeastRequest {
        choice_count: 2,
        active_request_bias: 1.0,
        selection_method,
    }
}

fn override_host() -> LoadBalancingPolicy {
    LoadBalancingPolicy::OverrideHost {
        sources: vec![OverrideSource::Header("x-lb-endpoint".into())],
        fallback: Box::new(LoadBalancingPolicy::RoundRobin),
    }
}

/// Chooses without a header and without predicates.
fn plain(balancer: &mut Balancer, hosts: &[Host], draw: &mut dyn FnMut() -> u64) -> Option<usize> {
    let mut walk = OverrideWalk::default();
    let mut choice = Choice { header: &|_| None, walk: &mut walk, tried: &[], reselections: 0 };
    balancer.choose(hosts, &mut choice, draw)
}

/// The choices of one exchange's attempts, given its header.
fn attempts(header: &str, hosts: &[Host], count: usize) -> Vec<Option<usize>> {
    let mut balancer = Balancer::new(override_host(), 50.0, 0);
    let mut walk = OverrideWalk::default();
    let mut draw = draws(1);
    let mut choose = || {
        let header = |_: &str| Some(header.as_bytes());
        let mut choice = Choice { header: &header, walk: &mut walk, tried: &[], reselections: 0 };
        balancer.choose(hosts, &mut choice, &mut draw)
    };
    (0..count).map(|_| choose()).collect()
}

#[test]
fn round_robin_starts_at_its_seed_and_goes_round() {
    let mut balancer = Balancer::new(LoadBalancingPolicy::RoundRobin, 50.0, 7);
    let (hosts, mut draw) = (hosts(3), draws(1));
    let chosen: Vec<_> = (0..5).map(|_| plain(&mut balancer, &hosts, &mut draw)).collect();
    assert_eq!(chosen, [Some(1), Some(2), Some(0), Some(1), Some(2)]);
}

#[test]
fn unequal_weights_share_by_weight_and_interleave() {
    let mut hosts = hosts(2);
    hosts[0].weight = 3;
    let mut balancer = Balancer::new(LoadBalancingPolicy::RoundRobin, 50.0, 0);
    let mut draw = draws(1);
    let chosen: Vec<_> = (0..400).filter_map(|_| plain(&mut balancer, &hosts, &mut draw)).collect();
    let heavy = chosen.iter().filter(|at| **at == 0).count();
    assert!((299..=301).contains(&heavy), "{heavy}");
    assert!(!chosen.windows(2).any(|pair| pair == [1, 1]), "the light host never goes twice");
}

#[test]
fn two_choices_take_the_less_loaded_one_and_the_first_when_tied() {
    let mut hosts = hosts(3);
    hosts[2].active_requests = 5;
    let mut balancer = Balancer::new(least_request(SelectionMethod::NChoices), 50.0, 0);
    let mut scripted = |script: [u64; 3]| {
        let mut script = script.into_iter();
        plain(&mut balancer, &hosts, &mut move || script.next().unwrap())
    };
    // The first draw splits healthy from degraded.
    assert_eq!(scripted([0, 2, 1]), Some(1));
    assert_eq!(scripted([0, 0, 1]), Some(0));
    assert_eq!(scripted([0, 2, 2]), Some(2), "with replacement: twice the same host");
}

#[test]
fn a_full_scan_finds_the_least_loaded_and_spreads_ties() {
    let mut hosts = hosts(4);
    hosts[1].active_requests = 1;
    hosts[3].active_requests = 9;
    let mut balancer = Balancer::new(least_request(SelectionMethod::FullScan), 50.0, 0);
    let mut draw = draws(3);
    let mut counts = [0; 4];
    for _ in 0..1000 {
        counts[plain(&mut balancer, &hosts, &mut draw).unwrap()] += 1;
    }
    assert_eq!((counts[1], counts[3]), (0, 0));
    assert!((400..=600).contains(&counts[0]), "{counts:?}");
}

#[test]
fn requests_in_flight_bend_unequal_weights() {
    let mut hosts = hosts(2);
    hosts[0].weight = 2;
    hosts[0].active_requests = 7;
    let mut balancer = Balancer::new(least_request(SelectionMethod::NChoices), 50.0, 0);
    let mut draw = draws(1);
    let chosen = (0..500).filter_map(|_| plain(&mut balancer, &hosts, &mut draw));
    // Effective weights 2/8 and 1/1: the heavier host gets a fifth.
    let loaded = chosen.filter(|at| *at == 0).count();
    assert!((99..=101).contains(&loaded), "{loaded}");
}

#[test]
fn random_ignores_weights() {
    let mut hosts = hosts(2);
    hosts[0].weight = 100;
    let mut balancer = Balancer::new(LoadBalancingPolicy::Random, 50.0, 0);
    let mut draw = draws(9);
    let chosen = (0..1000).filter_map(|_| plain(&mut balancer, &hosts, &mut draw));
    let first = chosen.filter(|at| *at == 0).count();
    assert!((440..=560).contains(&first), "{first}");
}

#[test]
fn unhealthy_hosts_are_left_out_until_panic() {
    let mut hosts = hosts(4);
    let mut balancer = Balancer::new(LoadBalancingPolicy::RoundRobin, 50.0, 0);
    let mut draw = draws(1);
    let mut served = |hosts: &[Host]| {
        let chosen = (0..40).filter_map(|_| plain(&mut balancer, hosts, &mut draw));
        chosen.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    hosts[0].health = HealthStatus::Unhealthy;
    hosts[1].health = HealthStatus::Unhealthy;
    assert_eq!(served(&hosts), [2, 3], "50 % healthy is not below the threshold");
    hosts[2].health = HealthStatus::Unhealthy;
    assert_eq!(served(&hosts), [0, 1, 2, 3], "25 % is: panic");
}

#[test]
fn without_panic_a_cluster_of_unhealthy_hosts_has_none() {
    let mut hosts = hosts(2);
    hosts.iter_mut().for_each(|host| host.health = HealthStatus::Unhealthy);
    let mut balancer = Balancer::new(LoadBalancingPolicy::RoundRobin, 0.0, 0);
    assert_eq!(plain(&mut balancer, &hosts, &mut draws(1)), None);
    assert_eq!(plain(&mut balancer, &[], &mut draws(1)), None);
}

#[test]
fn degraded_hosts_take_what_healthy_ones_cannot() {
    let mut hosts = hosts(2);
    hosts[1].health = HealthStatus::Degraded;
    let mut balancer = Balancer::new(LoadBalancingPolicy::Random, 50.0, 0);
    let mut draw = draws(5);
    let chosen = (0..2000).filter_map(|_| plain(&mut balancer, &hosts, &mut draw));
    // One healthy of two, overprovisioned by 1.4: 70 %.
    let healthy = chosen.filter(|at| *at == 0).count();
    assert!((1340..=1460).contains(&healthy), "{healthy}");
}

#[test]
fn attempts_walk_the_list_in_order_and_then_fall_back() {
    let hosts = hosts(3);
    let list = "10.0.0.1:9002, 10.0.0.1:9000";
    assert_eq!(attempts(list, &hosts, 4), [Some(2), Some(0), Some(0), Some(1)]);
}

#[test]
fn what_is_no_member_is_skipped_silently() {
    let hosts = hosts(2);
    let list = "10.9.9.9:1,nonsense,,10.0.0.1:9001";
    assert_eq!(attempts(list, &hosts, 2), [Some(1), Some(0)]);
}

#[test]
fn a_named_host_is_used_though_it_is_unhealthy() {
    let mut hosts = hosts(3);
    hosts[1].health = HealthStatus::Unhealthy;
    assert_eq!(attempts("10.0.0.1:9001", &hosts, 1), [Some(1)]);
}

#[test]
fn an_ipv6_host_is_named_in_brackets_and_canonically() {
    let mut hosts = hosts(2);
    hosts[1].address = "[::1]:9001".parse().unwrap();
    assert_eq!(attempts("[::1]:9001", &hosts, 1), [Some(1)]);
    assert_eq!(attempts("[0:0::1]:9001", &hosts, 1), [Some(0)], "Envoy compares text");
}

#[test]
fn the_header_is_read_once_an_exchange() {
    let hosts = hosts(3);
    let mut balancer = Balancer::new(override_host(), 50.0, 0);
    let mut walk = OverrideWalk::default();
    let mut draw = draws(1);
    let mut choose = |value: &'static str| {
        let header = |_: &str| Some(value.as_bytes());
        let mut choice = Choice { header: &header, walk: &mut walk, tried: &[], reselections: 0 };
        balancer.choose(&hosts, &mut choice, &mut draw)
    };
    assert_eq!(choose("10.0.0.1:9002,10.0.0.1:9001"), Some(2));
    assert_eq!(choose("10.0.0.1:9000"), Some(1), "the second entry of the first list");
}

#[test]
fn a_tried_host_is_avoided_as_long_as_reselections_last() {
    let hosts = hosts(3);
    let choose = |tried: &[SocketAddr], reselections| {
        let mut balancer = Balancer::new(LoadBalancingPolicy::RoundRobin, 50.0, 0);
        let mut walk = OverrideWalk::default();
        let mut choice = Choice { header: &|_| None, walk: &mut walk, tried, reselections };
        balancer.choose(&hosts, &mut choice, &mut draws(1))
    };
    let tried = [hosts[0].address, hosts[1].address];
    assert_eq!(choose(&tried, 1), Some(1), "the last choice stands");
    assert_eq!(choose(&tried, 5), Some(2));
}

#[test]
fn a_changed_host_set_is_noticed() {
    let mut balancer = Balancer::new(LoadBalancingPolicy::RoundRobin, 50.0, 0);
    let mut draw = draws(1);
    let (three, one) = (hosts(3), hosts(1));
    assert_eq!(plain(&mut balancer, &three, &mut draw), Some(0));
    assert_eq!(plain(&mut balancer, &one, &mut draw), Some(0));
    assert_eq!(plain(&mut balancer, &three, &mut draw), Some(2), "the index goes on");
}
