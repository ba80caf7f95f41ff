use super::*;
use crate::snapshot::tests::facts;
use proptest::prelude::*;

const FACTOR: f64 = 1.4;

fn part(priority: u8, is_remote: bool) -> Part {
    Part { priority, is_remote, ..Part::default() }
}

const CANARY_PART: Part = Part { is_canary: true, priority: 0, is_remote: false };

/// Endpoints by part, each with whether it is fit.
fn division(endpoints: &[(Part, bool)]) -> Division {
    let mut endpoints = endpoints.to_vec();
    endpoints.sort();
    let all: Vec<Facts> = endpoints
        .iter()
        .enumerate()
        .map(|(row, (part, _))| Facts { part: *part, ..facts(row) })
        .collect();
    let fit = |facts: &Facts| endpoints[facts.row].1;
    let candidates: Vec<Part> = all.iter().filter(|it| fit(it)).map(|it| it.part).collect();
    Division::new(&candidates, &all, fit, FACTOR)
}

/// How often each part comes first, in percent.
fn firsts(division: &Division, canary: f64, local: f64) -> Vec<(Part, u32)> {
    let mut counts: Vec<(Part, u32)> = Vec::new();
    for draw in 0..10_000u32 {
        let order = division.order(draw.wrapping_mul(0x61c8_8647), None, canary, local);
        let first = order[0].part;
        match counts.iter_mut().find(|(part, _)| *part == first) {
            Some((_, count)) => *count += 1,
            None => counts.push((first, 1)),
        }
    }
    counts.sort();
    counts.into_iter().map(|(part, count)| (part, (count + 50) / 100)).collect()
}

fn assert_close(found: &[(Part, u32)], expected: &[(Part, u32)]) {
    let near = |((part, percent), (other, wanted)): (&(Part, u32), &(Part, u32))| {
        part == other && percent.abs_diff(*wanted) <= 1
    };
    let is_close = found.len() == expected.len() && found.iter().zip(expected).all(near);
    assert!(is_close, "{found:?} for {expected:?}");
}

#[test]
fn a_cluster_that_is_not_divided_has_one_part() {
    let division = division(&[(Part::default(), true); 3]);
    assert_eq!(firsts(&division, 0.5, 0.0), [(Part::default(), 100)]);
    assert_eq!(division.runs()[0].places, 0..3);
}

#[test]
fn a_candidate_that_is_removed_leaves_the_others_in_their_parts() {
    let mut division =
        division(&[(part(0, false), true), (part(0, false), true), (part(0, true), true)]);
    division.remove(1);
    let places: Vec<_> = division.runs().iter().map(|run| run.places.clone()).collect();
    assert_eq!(places, [0..1, 1..2]);
    division.remove(0);
    assert_eq!(division.runs().len(), 1);
    assert_eq!(division.runs()[0].places, 0..1);
}

#[test]
fn the_second_priority_takes_what_the_first_cannot() {
    let of = |fit: usize| {
        let mut endpoints: Vec<_> = (0..10).map(|at| (part(0, false), at < fit)).collect();
        endpoints.extend([(part(1, false), true); 2]);
        firsts(&division(&endpoints), 0.0, 1.0)
    };
    let (one, two) = (part(0, false), part(1, false));
    assert_eq!(of(8), [(one, 100)], "eight in ten are enough: 112 %");
    assert_close(&of(5), &[(one, 70), (two, 30)]);
    assert_eq!(of(0), [(two, 100)]);
}

#[test]
fn where_all_priorities_together_cannot_take_it_each_takes_more() {
    let mut endpoints: Vec<_> = (0..10).map(|at| (part(0, false), at < 2)).collect();
    endpoints.extend((0..10).map(|at| (part(1, false), at < 1)));
    let shares = firsts(&division(&endpoints), 0.0, 1.0);
    assert_close(&shares, &[(part(0, false), 67), (part(1, false), 33)]);
}

#[test]
fn a_canary_gets_its_share_and_nothing_when_it_has_no_candidate() {
    let stable = Part::default();
    let both = division(&[(stable, true), (stable, true), (CANARY_PART, true)]);
    assert_close(&firsts(&both, 0.05, 1.0), &[(stable, 95), (CANARY_PART, 5)]);
    assert_eq!(firsts(&both, 0.0, 1.0), [(stable, 100)]);
    let unfit = division(&[(stable, true), (CANARY_PART, false)]);
    assert_eq!(firsts(&unfit, 1.0, 1.0), [(stable, 100)]);
    let alone = division(&[(stable, false), (CANARY_PART, true)]);
    assert_eq!(firsts(&alone, 0.0, 1.0), [(CANARY_PART, 100)], "better than nobody");
}

#[test]
fn a_retry_of_the_canary_goes_to_the_other_release_and_never_the_other_way() {
    let stable = Part::default();
    let both = division(&[(stable, true), (CANARY_PART, true)]);
    let parts = |share| -> Vec<Part> {
        both.order(7, None, share, 1.0).iter().map(|run| run.part).collect()
    };
    assert_eq!(parts(1.0), [CANARY_PART, stable]);
    assert_eq!(parts(0.0), [stable]);
}

#[test]
fn a_client_stays_with_its_release() {
    let both = division(&[(Part::default(), true), (CANARY_PART, true)]);
    for client in 0..1000u64 {
        let hash = client.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = |draw| both.order(draw, Some(hash), 0.2, 1.0)[0].part;
        assert_eq!(first(1), first(2));
        assert_eq!(first(1).is_canary, (hash >> 32) as f64 / 4_294_967_296.0 < 0.2);
    }
}

#[test]
fn the_own_zone_comes_first_and_the_others_are_places_to_retry() {
    let (here, there) = (part(0, false), part(0, true));
    let zones = division(&[(here, true), (there, true), (part(1, false), true)]);
    let order = zones.order(7, None, 0.0, 1.0);
    let parts: Vec<Part> = order.iter().map(|run| run.part).collect();
    assert_eq!(parts, [here, there, part(1, false)]);
    assert_close(&firsts(&zones, 0.0, 0.6), &[(here, 60), (there, 40)]);
}

fn rules() -> Locality {
    Locality { zone: None, full_at: 0.8, endpoint_concurrency: 8 }
}

#[test]
fn a_zone_that_is_full_spills_over_to_its_due_and_comes_back_slowly() {
    let mut balance = Balance::default();
    let at = |tick: u64| UnixNanos::from_millis(1_000_000 + tick * 100);
    let full = Zones { local: 0.95, remote: 0.2, due: 0.5 };
    (0..100).for_each(|tick| balance.update(full, &rules(), at(tick)));
    assert!((balance.share() - 0.5).abs() < 0.01, "{}", balance.share());
    let easy = Zones { local: 0.5, remote: 0.5, due: 0.5 };
    (100..110).for_each(|tick| balance.update(easy, &rules(), at(tick)));
    assert!((0.55..0.65).contains(&balance.share()), "{}", balance.share());
    (110..200).for_each(|tick| balance.update(easy, &rules(), at(tick)));
    assert_eq!(balance.share(), 1.0);
}

#[test]
fn who_is_full_stays_at_home_while_the_others_are_fuller() {
    let mut balance = Balance::default();
    let crowded = Zones { local: 0.9, remote: 1.5, due: 0.5 };
    for tick in 0..100 {
        balance.update(crowded, &rules(), UnixNanos::from_millis(1_000_000 + tick * 100));
    }
    assert_eq!(balance.share(), 1.0);
}

#[test]
fn the_share_settles_where_the_zone_is_just_not_full() {
    // The zone's load is what stays of 1.6 times what it can do.
    let mut balance = Balance::default();
    let mut shares = Vec::new();
    for tick in 0..600 {
        let local = 1.6 * balance.share();
        let zones = Zones { local, remote: (1.6 - local).max(0.0) / 3.0, due: 0.25 };
        balance.update(zones, &rules(), UnixNanos::from_millis(1_000_000 + tick * 100));
        shares.push(balance.share());
    }
    let settled = &shares[300..];
    assert!(settled.iter().all(|share| (0.44..0.54).contains(share)), "{settled:?}");
}

proptest! {
    #[test]
    fn every_candidate_is_in_one_part_and_every_order_begins_with_one(
        endpoints in proptest::collection::vec(
            (any::<bool>(), 0u8..3, any::<bool>(), any::<bool>()), 1..40),
        draw: u32, canary in 0.0f64..=1.0, local in 0.0f64..=1.0,
    ) {
        let of = |(is_canary, priority, is_remote, fit)| (Part { is_canary, priority, is_remote }, fit);
        let endpoints: Vec<_> = endpoints.into_iter().map(of).collect();
        let fit = endpoints.iter().filter(|(_, fit)| *fit).count();
        let division = division(&endpoints);
        prop_assert_eq!(division.runs().iter().map(|run| run.places.len()).sum::<usize>(), fit);
        let order = division.order(draw, None, canary, local);
        prop_assert_eq!(order.is_empty(), fit == 0);
        let stable = endpoints.iter().any(|(part, fit)| *fit && !part.is_canary);
        let first_is_canary = order.first().is_some_and(|run| run.part.is_canary);
        if stable && !first_is_canary {
            prop_assert!(order.iter().all(|run| !run.part.is_canary));
        }
    }
}
