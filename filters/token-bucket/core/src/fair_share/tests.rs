use super::*;
use proptest::prelude::*;
use shared_state::MemoryStore;

fn demand(fingerprint: u64, weight: u32, previous: u32) -> Demand {
    Demand { fingerprint, weight, current: 0, previous }
}

/// Demands of the last round with these weights, and the level for `capacity` tokens.
fn level_of(capacity: u64, wanted: &[(u32, u32)]) -> Option<MilliTokens> {
    let demands: Vec<_> =
        (1..).zip(wanted).map(|(key, (weight, tokens))| demand(key, *weight, *tokens)).collect();
    level(capacity * 1_000, &demands)
}

#[test]
fn who_asks_for_less_than_its_share_leaves_the_rest_to_the_others() {
    assert_eq!(level_of(100, &[(1, 10), (1, 500), (1, 500)]), Some(45_000));
    assert_eq!(level_of(100, &[(1, 20), (1, 20), (1, 500)]), Some(60_000));
}

#[test]
fn weights_divide_what_is_left() {
    assert_eq!(level_of(100, &[(1, 500), (3, 500)]), Some(25_000));
    assert_eq!(level_of(100, &[(1, 10), (1, 500), (2, 500)]), Some(30_000));
}

#[test]
fn where_all_fits_nobody_is_held_to_anything() {
    assert_eq!(level_of(100, &[(1, 50), (1, 50)]), None);
    assert_eq!(level_of(100, &[]), None);
}

#[test]
fn a_lone_key_may_use_all() {
    assert_eq!(level_of(100, &[(1, 5_000)]), Some(100_000));
}

#[test]
fn in_the_first_round_all_are_taken_to_want_their_share() {
    let first = |key, current| Demand { fingerprint: key, weight: 1, current, previous: 0 };
    assert_eq!(level(100_000, &[first(1, 3), first(2, 300)]), Some(50_000));
}

#[test]
fn a_key_that_begins_to_flood_is_noticed_before_the_round_is_over() {
    let flood = Demand { fingerprint: 2, weight: 1, current: 300, previous: 10 };
    assert_eq!(level(100_000, &[demand(1, 1, 10), flood]), Some(90_000));
}

#[test]
fn a_bucket_of_a_share_holds_one_round_and_the_lightest_key_at_least_one_token() {
    let fast = bucket(25_000, 2).unwrap();
    assert_eq!(fast.token_time(), Duration::from_millis(20));
    assert_eq!(fast.refill_time(), ROUND);
    let slow = bucket(100, 1).unwrap();
    assert_eq!((slow.token_time(), slow.refill_time()), (ROUND * 10, ROUND * 10));
    let heavy = bucket(100, 4).unwrap();
    assert_eq!((heavy.token_time(), heavy.refill_time()), (ROUND * 5 / 2, ROUND * 10));
}

#[test]
fn what_a_bucket_refills_in_a_round_need_not_be_whole() {
    let shared = |max, fill, secs| Gcra::new(max, fill, Duration::from_secs(secs)).unwrap();
    assert_eq!(capacity(&shared(10, 500, 1)), 500_000);
    assert_eq!(capacity(&shared(10, 1, 8)), 125);
}

#[test]
fn workers_add_up_what_each_was_asked_for() {
    let store = MemoryStore::default();
    let key = ActiveKeys::key("p", "fair");
    let at = |millis: u64| UnixNanos::from_millis(1_000_000 + millis);
    let (mut one, mut other) = (Share::default(), Share::default());
    let exchange = |share: &mut Share, now| {
        let told = update(&store, &key, |prior| share.exchange(prior, 100_000, now)).unwrap();
        share.exchanged(Some(told.value), now);
        told.value
    };
    for _ in 0..60 {
        one.ask(7, 1, 1);
        other.ask(7, 1, 1);
        other.ask(8, 1, 1);
    }
    assert!(one.is_due(at(500)));
    exchange(&mut one, at(500));
    exchange(&mut other, at(500));
    assert!(!one.is_due(at(749)) && one.is_due(at(750)));
    // 120 and 60 in the round before: more than 100, so the lighter has its 50 and no more.
    assert_eq!(exchange(&mut one, at(1_000)), Some(50_000));
}

#[test]
fn keys_are_held_to_the_level_only_while_the_shared_bucket_is_nearly_empty() {
    let shared = Gcra::new(100, 100, Duration::from_secs(1)).unwrap();
    let at = |millis: u64| UnixNanos::from_millis(1_000_000 + millis);
    let level = |remaining| Level { remaining, next_token: Duration::ZERO };
    let mut share = Share::default();
    share.exchanged(Some(Some(7_000)), at(0));
    assert_eq!(share.held_to(&shared, 20, at(0)), None, "nothing was seen of it");
    share.seen = Some((at(0), level(20)));
    assert_eq!(share.held_to(&shared, 20, at(0)), None);
    share.seen = Some((at(0), level(19)));
    assert_eq!(share.held_to(&shared, 20, at(0)), Some(7_000));
    assert_eq!(share.held_to(&shared, 20, at(10)), None, "it has refilled since");
}

proptest! {
    /// The definition of max-min fairness: no more than there is, nobody above its demand, and who
    /// gets less than it wants gets as much for its weight as anybody.
    #[test]
    fn the_level_is_max_min_fair_to_within_a_token_for_each_key(
        capacity in 1u64..10_000, wanted in proptest::collection::vec((1u32..=10, 1u32..2_000), 1..60),
    ) {
        let asked: u64 = wanted.iter().map(|(_, tokens)| u64::from(*tokens)).sum();
        match level_of(capacity, &wanted) {
            None => prop_assert!(asked <= capacity),
            Some(level) => {
                prop_assert!(asked >= capacity);
                let gets = |(weight, tokens): &(u32, u32)| {
                    (u64::from(*tokens) * 1_000).min(level * u64::from(*weight))
                };
                let given: u64 = wanted.iter().map(gets).sum();
                let rounding: u64 = wanted.iter().map(|(weight, _)| u64::from(*weight)).sum();
                prop_assert!(given <= capacity * 1_000);
                prop_assert!(given + rounding >= capacity * 1_000, "nothing is left lying");
            }
        }
    }

    #[test]
    fn no_numbers_panic(
        capacity in any::<u64>(), wanted in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..60),
        weight in any::<u32>(),
    ) {
        let demands: Vec<_> =
            (1..).zip(&wanted).map(|(key, (weight, tokens))| demand(key, *weight, *tokens)).collect();
        if let Some(level) = level(capacity, &demands) {
            let bucket = bucket(level, weight);
            prop_assert!(bucket.is_none_or(|bucket| bucket.refill_time() >= bucket.token_time()));
        }
    }
}
