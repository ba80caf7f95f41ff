//! The same client to the same endpoint, as far as the endpoint bears it.
//!
//! The table is Maglev's (Eisenbud et al., 2016), with as many places as Envoy's: each endpoint
//! takes places in an order of its own, in turn with the others, so that all have the same number,
//! and one that leaves moves little else. It is built over the known endpoints and not over the fit
//! ones: one that is down for a moment keeps its places, and its clients come back to it.
//!
//! A request's hash names a place, and a step to further places. The first of them that is fit,
//! and not above `hash_balance_factor` percent of the average load, serves (Mirrokni et al.,
//! "Consistent Hashing with Bounded Loads", 2017). The steps differ from request to request, so what
//! one endpoint cannot take is spread over all others, and not laid on its neighbour. Those that
//! come next are the places to retry, so retries are consistent, too.
//!
//! An endpoint that came back takes up its clients one after the other: each has a number of its own
//! that the ramp must have passed. In the same way one that asks for less keeps that share of its
//! clients, and sends the others on.

use super::{Choice, Ranked, Scene, least_cost};
use crate::key::hash_text;
use crate::membership::falls_within;
use crate::rank::lot;
use crate::{Policy, Why};
use shared_state::Endpoint;
use sorting::sort_by_key;

/// Places of the table, a prime: the size of Envoy's.
const PLACES: u32 = 65_537;

/// Places that are looked at for one request. With half of the endpoints unfit, two in three in one
/// place more than here are found with a probability of one in 2^60.
const MOST_STEPS: u32 = 64;

/// Stands for no endpoint.
const NOBODY: u16 = u16::MAX;

#[derive(Debug, Default)]
pub(super) struct HashTable {
    members: Vec<Endpoint>,
    places: Vec<u16>,
}

impl HashTable {
    pub(super) fn update(&mut self, known: &[Endpoint]) {
        let mut members = known.to_vec();
        sort_by_key(&mut members, |member| *member);
        if members != self.members {
            self.places = build(&members);
            self.members = members;
        }
    }

    pub(super) fn choose(&self, scene: &Scene<'_>) -> Choice {
        let chosen = scene.key.and_then(|key| self.find(scene, key));
        // Without a key nobody is to be met again.
        chosen.unwrap_or_else(|| Choice { why: Why::NoKey, ..least_cost::choose(scene) })
    }

    fn find(&self, scene: &Scene<'_>, key: u64) -> Option<Choice> {
        let bound = bound(scene);
        let step = (key >> 32) as u32 % (PLACES - 1) + 1;
        let mut at = key as u32 % PLACES;
        let mut list: Vec<Ranked> = Vec::with_capacity(scene.most.saturating_add(1));
        let (mut why, mut is_settled, mut considered) = (Why::Hashed, false, 0);
        for _ in 0..MOST_STEPS {
            let number = usize::from(self.places.get(at as usize).copied().unwrap_or(NOBODY));
            at = (at + step) % PLACES;
            let Some(member) = self.members.get(number) else { continue };
            // Listed endpoints have their rows in the same order.
            let Some((place, candidate)) = scene.candidate_near(*member, number) else {
                continue;
            };
            if list.iter().any(|other| other.place == place) {
                continue;
            }
            considered += 1;
            // Less than one is what is left of requests elsewhere that are over.
            let score = scene.waiting(candidate).floor() / candidate.weight + 1.0;
            let share = candidate.admission * candidate.weight.min(1.0);
            let is_admitted = falls_within(lot(key as u32, number), share);
            // An endpoint that fails its requests is no home, as much as one that is full.
            let is_home = score <= bound && is_admitted && candidate.penalty < MOST_PENALTY;
            if is_home && !is_settled {
                is_settled = true;
                if !list.is_empty() {
                    why = Why::Overflowed;
                }
                list.insert(0, Ranked { place, score });
            } else {
                list.push(Ranked { place, score });
            }
            if is_settled && list.len() >= scene.most {
                break;
            }
        }
        list.truncate(scene.most);
        let choice = Choice { policy: Policy::ConsistentHash, why, considered, list };
        (!choice.list.is_empty()).then_some(choice)
    }
}

/// Penalty from which an endpoint is passed over.
const MOST_PENALTY: f64 = 4.0;

/// Requests that one endpoint may have in flight, the new one included.
fn bound(scene: &Scene<'_>) -> f64 {
    match scene.config.consistent_hash.balance_factor {
        0 => f64::INFINITY,
        percent => {
            let average = (scene.load + 1.0) / scene.candidates.len().max(1) as f64;
            (average * f64::from(percent) / 100.0).ceil()
        }
    }
}

fn build(members: &[Endpoint]) -> Vec<u16> {
    let mut places = vec![NOBODY; PLACES as usize];
    let walk = |member: &Endpoint| {
        let hash = hash_text(&member.to_string());
        (hash as u32 % PLACES, (hash >> 32) as u32 % (PLACES - 1) + 1)
    };
    let mut walks: Vec<(u32, u32)> = members.iter().map(walk).collect();
    let mut left = places.len();
    while left > 0 && !walks.is_empty() {
        for (member, (at, step)) in (0u16..).zip(&mut walks) {
            // Each walk visits every place once, so it finds a free one while there is any.
            while let Some(place) = places.get_mut(*at as usize)
                && left > 0
            {
                *at = (*at + *step) % PLACES;
                if *place == NOBODY {
                    *place = member;
                    left -= 1;
                    break;
                }
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Candidate;
    use crate::testing::{Stage, candidate};
    use proptest::prelude::*;

    fn table(stage: &Stage) -> HashTable {
        let mut table = HashTable::default();
        table.update(&stage.endpoints());
        table
    }

    /// Places that the clients are sent to.
    fn homes(table: &HashTable, stage: &Stage, clients: u64) -> Vec<usize> {
        (0..clients).map(|client| pick(table, stage, client).list[0].place).collect()
    }

    fn pick(table: &HashTable, stage: &Stage, client: u64) -> Choice {
        let key = Some(hash_text(&client.to_string()));
        table.choose(&Scene { key, ..stage.scene(0) })
    }

    fn stage(endpoints: usize) -> Stage {
        Stage::of(endpoints, candidate).with(
            r#","policy":"consistent_hash",
            "consistent_hash":{"key":["header:x-user"]}"#,
        )
    }

    #[test]
    fn every_endpoint_has_the_same_number_of_places() {
        let places = build(&stage(100).endpoints());
        let count = |member| places.iter().filter(|place| **place == member).count();
        let counts: Vec<usize> = (0..100).map(count).collect();
        assert!(counts.iter().all(|count| (655..=656).contains(count)), "{counts:?}");
    }

    #[test]
    fn clients_keep_their_endpoint_and_the_load_is_even() {
        let stage = stage(10);
        let table = table(&stage);
        let homes_now = homes(&table, &stage, 10_000);
        assert_eq!(homes_now, homes(&table, &stage, 10_000));
        for place in 0..10 {
            let share = homes_now.iter().filter(|home| **home == place).count();
            assert!((850..1150).contains(&share), "{place}: {share}");
        }
    }

    #[test]
    fn when_an_endpoint_is_unfit_its_clients_spread_over_all_others_and_nobody_else_moves() {
        let mut stage = stage(10);
        let table = table(&stage);
        let before = homes(&table, &stage, 10_000);
        stage.drop_last();
        let after = homes(&table, &stage, 10_000);
        let mut takers = [0; 9];
        for (old, new) in before.iter().zip(&after) {
            if *old == 9 {
                takers[*new] += 1;
            } else {
                assert_eq!(old, new);
            }
        }
        assert!(takers.iter().all(|taken| (60..160).contains(taken)), "{takers:?}");
    }

    #[test]
    fn when_an_endpoint_leaves_for_good_few_others_move() {
        let mut stage = stage(20);
        let mut table = table(&stage);
        let before = homes(&table, &stage, 10_000);
        stage.drop_last();
        table.update(&stage.endpoints());
        let after = homes(&table, &stage, 10_000);
        let moved = before.iter().zip(&after).filter(|(old, new)| **old != 19 && old != new);
        assert!(moved.count() < 300);
    }

    #[test]
    fn an_endpoint_above_its_bound_takes_no_more_clients() {
        let mut stage = stage(10);
        let table = table(&stage);
        let home = pick(&table, &stage, 1).list[0].place;
        // 1.5 times the average of (14 + 1) / 10 allows 3.
        (0..10).for_each(|place| stage.fly(place, if place == home { 2 } else { 1 }));
        stage.fly(home, 2);
        stage.load = 14.0;
        assert_eq!(pick(&table, &stage, 1).list[0].place, home, "the third");
        stage.fly(home, 3);
        let choice = pick(&table, &stage, 1);
        assert_ne!(choice.list[0].place, home);
        assert_eq!((choice.why, choice.list[1].place), (Why::Overflowed, home));
    }

    #[test]
    fn a_request_without_a_key_goes_where_it_is_cheapest() {
        let mut stage = stage(2);
        stage.fly(0, 1);
        let choice = table(&stage).choose(&stage.scene(5));
        assert_eq!((choice.why, choice.list[0].place), (Why::NoKey, 1));
    }

    #[test]
    fn an_endpoint_that_came_back_takes_up_its_clients_one_after_the_other() {
        let table = table(&stage(10));
        let with = |admission: f64| {
            let ramping = move |row| match row {
                3 => Candidate { admission, ..candidate(3) },
                row => candidate(row),
            };
            let stage = Stage::of(10, ramping);
            let homes = homes(&table, &stage, 5_000);
            (0..5_000).filter(|client| homes[*client] == 3).collect::<Vec<_>>()
        };
        let (some, more, all) = (with(0.1), with(0.5), with(1.0));
        assert!(some.len() * 5 < all.len() && more.len() * 3 > all.len());
        assert!(some.iter().all(|client| more.contains(client)));
        assert!(more.iter().all(|client| all.contains(client)));
    }

    #[test]
    fn an_endpoint_that_asks_for_half_keeps_half_of_its_clients() {
        let table = table(&stage(10));
        let with = |weight: f64| {
            let weighed = move |row| match row {
                3 => Candidate { weight, ..candidate(3) },
                row => candidate(row),
            };
            let homes = homes(&table, &Stage::of(10, weighed), 5_000);
            (0..5_000).filter(|client| homes[*client] == 3).collect::<Vec<_>>()
        };
        let (half, all) = (with(0.5), with(1.0));
        assert!(
            (9..12).contains(&(half.len() * 20 / all.len())),
            "{} of {}",
            half.len(),
            all.len()
        );
        assert!(half.iter().all(|client| all.contains(client)));
    }

    #[test]
    fn what_is_left_of_requests_elsewhere_is_no_reason_to_leave_home() {
        let stage = stage(3);
        let table = table(&stage);
        let home = pick(&table, &stage, 7).list[0].place;
        let rest = |row| Candidate { elsewhere: 0.4, ..candidate(row) };
        let stage = Stage::of(3, |row| if row == home { rest(row) } else { candidate(row) });
        let choice = pick(&table, &stage, 7);
        assert_eq!((choice.list[0].place, choice.why), (home, Why::Hashed));
    }

    proptest! {
        #[test]
        fn nobody_is_ever_above_the_bound(
            clients in proptest::collection::vec(0u64..5, 1..200), endpoints in 2usize..12,
        ) {
            let mut stage = stage(endpoints);
            let table = table(&stage);
            let mut flying = vec![0u32; endpoints];
            for client in clients {
                let choice = pick(&table, &stage, client);
                let place = choice.list[0].place;
                flying[place] += 1;
                stage.fly(place, flying[place]);
                stage.load += 1.0;
                let bound = (stage.load / endpoints as f64 * 1.5).ceil();
                prop_assert!(f64::from(flying[place]) <= bound, "{flying:?}");
            }
        }
    }
}
