use super::*;
use proptest::prelude::*;

fn config(choice: ClusterChoice, weights: &[f64]) -> ServiceConfig {
    let clusters = weights.iter().enumerate();
    ServiceConfig {
        name: "shop".to_owned(),
        routes: vec!["shop".to_owned()],
        header: "x-cluster".to_owned(),
        clusters: clusters.map(|(at, weight)| (format!("c{at}"), *weight)).collect(),
        choice,
        tolerance: 0.2,
        probes: 0.02,
        least_fit: 0.5,
        most_errors: 0.5,
    }
}

fn service(choice: ClusterChoice, weights: &[f64]) -> Service {
    Service::new(config(choice, weights))
}

fn at(millis: u64) -> UnixNanos {
    UnixNanos::from_millis(1_000_000 + millis)
}

/// Requests one after the other, every ten milliseconds. Each cluster takes its milliseconds, or
/// fails where there are none. Gives how many each was picked for.
fn run(service: &mut Service, from: u64, count: u64, took: &[Option<u64>]) -> Vec<usize> {
    let mut picks = vec![0; took.len()];
    for n in 0..count {
        let now = at(from + n * 10);
        let draw = ((n + from) as u32).wrapping_mul(0x61c8_8647);
        let place = service.choose(|_| None, now, draw);
        picks[place] += 1;
        let (answered, took) = match took[place] {
            Some(millis) => (Answered::Well, millis),
            None => (Answered::Badly, 1),
        };
        let took = service.is_to_measure(place, None).then(|| Duration::from_millis(took));
        service.answered(place, answered, took, now);
    }
    picks
}

#[test]
fn the_fastest_is_found_and_the_others_are_still_measured() {
    let mut service = service(ClusterChoice::Fastest, &[1.0, 1.0, 1.0]);
    let picks = run(&mut service, 0, 1000, &[Some(80), Some(20), Some(50)]);
    assert!(picks[1] > 930 && picks[0] >= 3 && picks[2] >= 3, "{picks:?}");
    let probes = 1000 - picks[1];
    assert!((10..70).contains(&probes), "{picks:?}");
}

#[test]
fn another_that_has_become_clearly_faster_is_taken() {
    let mut service = service(ClusterChoice::Fastest, &[1.0, 1.0]);
    run(&mut service, 0, 500, &[Some(20), Some(80)]);
    // A request in fifty notices.
    run(&mut service, 5_000, 1000, &[Some(80), Some(20)]);
    let picks = run(&mut service, 15_000, 500, &[Some(80), Some(20)]);
    assert!(picks[1] > 450, "{picks:?}");
}

#[test]
fn one_that_is_a_little_faster_is_no_reason_to_move() {
    let mut service = service(ClusterChoice::Fastest, &[1.0, 1.0]);
    run(&mut service, 0, 500, &[Some(20), Some(80)]);
    let picks = run(&mut service, 5_000, 1000, &[Some(20), Some(18)]);
    assert!(picks[0] > 950, "{picks:?}");
}

#[test]
fn a_weight_makes_a_cluster_so_much_faster() {
    let mut service = service(ClusterChoice::Fastest, &[3.0, 1.0]);
    let picks = run(&mut service, 0, 500, &[Some(40), Some(20)]);
    assert!(picks[0] > 450, "{picks:?}");
}

#[test]
fn one_that_dies_is_left_after_three_failures_and_tried_by_one_request_in_five_seconds() {
    for choice in [ClusterChoice::Fastest, ClusterChoice::Weighted] {
        let mut service = service(choice, &[1.0, 1.0]);
        run(&mut service, 0, 500, &[Some(20), Some(40)]);
        let picks = run(&mut service, 5_000, 2000, &[None, Some(40)]);
        // Three to notice, and one for each five of twenty seconds.
        assert!((4..=8).contains(&picks[0]), "{choice:?} {picks:?}");
        let back = run(&mut service, 25_000, 2000, &[Some(20), Some(40)]);
        assert!(back[0] > 700, "{choice:?} {back:?}");
    }
}

#[test]
fn one_of_which_most_endpoints_are_unfit_gets_nothing() {
    for choice in [ClusterChoice::Fastest, ClusterChoice::Weighted] {
        let mut service = service(choice, &[1.0, 1.0]);
        run(&mut service, 0, 100, &[Some(10), Some(90)]);
        let fit = |name: &str| Some(if name == "c0" { 0.4 } else { 0.6 });
        let all_to_the_other =
            (0..1000).all(|n| service.choose(fit, at(1_000 + n * 100), n as u32) == 1);
        assert!(all_to_the_other, "{choice:?}");
    }
}

#[test]
fn when_all_fail_the_one_that_has_failed_least_is_taken() {
    let mut service = service(ClusterChoice::Fastest, &[1.0, 1.0]);
    run(&mut service, 0, 100, &[None, None]);
    let picks = run(&mut service, 1_000, 500, &[None, Some(10)]);
    assert!(picks[1] > 400, "{picks:?}");
}

#[test]
fn weights_are_shares() {
    let mut service = service(ClusterChoice::Weighted, &[3.0, 1.0]);
    let picks = run(&mut service, 0, 4000, &[Some(50), Some(10)]);
    assert!((2900..3100).contains(&picks[0]), "{picks:?}");
}

#[test]
fn a_service_is_for_its_routes_or_for_all() {
    let mut service = service(ClusterChoice::Fastest, &[1.0]);
    assert!(
        service.is_for(Some("shop")) && !service.is_for(Some("other")) && !service.is_for(None)
    );
    service.config.routes.clear();
    assert!(service.is_for(None));
}

#[test]
fn a_cluster_is_blamed_for_having_nobody_and_not_for_a_client_that_left() {
    for (status, flags, answered) in [
        (Some(200), 0, Answered::Well),
        (Some(404), 0, Answered::Well),
        (Some(503), 0x2, Answered::Badly),
        (Some(503), 0x80, Answered::Badly),
        (Some(500), 0, Answered::Badly),
        (None, 0x4000, Answered::Not),
        (None, 0x10, Answered::Badly),
        (None, 0, Answered::Not),
    ] {
        assert_eq!(Answered::of(status, flags), answered, "{status:?} {flags:#x}");
    }
}

proptest! {
    #[test]
    fn there_is_always_a_cluster(
        steps in proptest::collection::vec(
            (any::<u32>(), 0u64..10_000, 0usize..4, 0u8..3, 0.0f64..=1.0), 1..200),
        weighted: bool,
    ) {
        let choice = if weighted { ClusterChoice::Weighted } else { ClusterChoice::Fastest };
        let mut service = service(choice, &[1.0, 2.0, 0.5]);
        let mut now = 0;
        for (draw, passed, place, answered, fit) in steps {
            now += passed;
            prop_assert!(service.choose(|_| Some(fit), at(now), draw) < 3);
            let answered = [Answered::Well, Answered::Badly, Answered::Not][usize::from(answered)];
            service.answered(place, answered, Some(Duration::from_millis(passed)), at(now));
        }
    }
}

#[test]
fn of_the_cluster_that_serves_what_is_looked_at_is_measured_and_of_others_each() {
    let mut measures = service(ClusterChoice::Fastest, &[1.0, 1.0]);
    run(&mut measures, 0, 500, &[Some(80), Some(20)]);
    let mut count = |place, looked: Option<u32>| {
        let is_looked_at = |nth: u32| looked.map(|every| nth.is_multiple_of(every));
        (0..48).filter(|nth| measures.is_to_measure(place, is_looked_at(*nth))).count()
    };
    assert_eq!(count(1, Some(6)), 8, "those that are looked at");
    assert_eq!(count(1, Some(1000)), 3, "one of sixteen at least");
    assert_eq!(count(1, None), 12, "one of four where nobody looks");
    assert_eq!((count(0, Some(6)), count(0, None)), (48, 48));
    let mut shares = service(ClusterChoice::Weighted, &[1.0, 1.0]);
    assert!(!shares.is_to_measure(0, Some(true)), "nobody asks who is faster");
}
