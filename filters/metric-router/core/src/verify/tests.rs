use crate::cluster::Cluster;
use crate::worker::Worker;
use crate::{Config, Outcome, Pick, Response};
use proptest::prelude::*;
use shared_state::{Endpoint, Members, MemoryStore, UnixNanos, read};

/// Requests between two ticks: what has been learned is picked from the next one on.
const TICK: u64 = 10;

/// A cluster whose own policy takes turns, one turn a worker, and the workers of its proxy.
struct Proxy {
    store: MemoryStore,
    members: Vec<Endpoint>,
    workers: Vec<(Cluster, usize)>,
    now: UnixNanos,
    requests: u64,
}

fn endpoint(number: u16) -> Endpoint {
    format!("10.0.0.1:{}", number + 1).parse().unwrap()
}

impl Proxy {
    fn new(workers: usize, policy: &str, members: u16) -> Self {
        // Who is ramped up is picked less, and missed later.
        let json = format!(
            r#"{{"clusters":[{{"name":"backend","policy":"{policy}",
                "slow_start_config":{{"slow_start_window":"0s"}}}}]}}"#
        );
        let config = Config::from_json(json.as_bytes()).unwrap().value.clusters.remove(0);
        let now = UnixNanos::from_secs(1000);
        let worker = |at| (Cluster::new("backend", config.clone(), 3, now), at * 7);
        Self {
            store: MemoryStore::default(),
            members: (0..members).map(endpoint).collect(),
            workers: (0..workers).map(worker).collect(),
            now,
            requests: 0,
        }
    }

    /// One request. Gives the worker, and the endpoint that it steered to although that is no member.
    fn request(&mut self, draw: u64) -> Option<(u64, Endpoint)> {
        self.requests += 1;
        self.now = self.now.plus(core::time::Duration::from_millis(10));
        let workers = self.workers.len() as u64;
        if self.requests.is_multiple_of(TICK) {
            for (cluster, _) in &mut self.workers {
                cluster.refresh(&self.store, &Worker::default(), self.now, draw);
            }
        }
        let worker = self.requests % workers;
        let (cluster, cursor) = &mut self.workers[worker as usize];
        if cluster.wants_size(self.now) {
            cluster.set_size(self.members.len() as u32, self.now);
        }
        let (pick, mut flight) = cluster.pick(&(), self.now, draw, true);
        let listed = match pick {
            Pick::Steer(steered) => steered.list.split(',').map(|it| it.parse().unwrap()).collect(),
            Pick::Leave(_) => Vec::new(),
        };
        let named = listed.iter().find(|it| self.members.contains(it)).copied();
        let served = named.unwrap_or_else(|| {
            *cursor += 1;
            self.members[*cursor % self.members.len()]
        });
        let (attempts, edited, outcome) = (1, false, Outcome::Success);
        let response = Response { served: Some(served), attempts, edited, outcome };
        cluster.respond(&self.store, &mut flight, response, self.now);
        cluster.finish(&mut flight);
        let gone = listed.first().filter(|first| !self.members.contains(first));
        gone.map(|gone| (worker, *gone))
    }

    fn is_learned(&self) -> bool {
        let members = read(&self.store, &Members::key("backend")).unwrap().unwrap_or_default();
        let mut wanted = self.members.clone();
        wanted.sort();
        members.endpoints().eq(wanted)
    }

    /// Sends requests until the list is right. Gives their number, and how often at the most one
    /// worker picked one and the same endpoint that had left.
    fn settle(&mut self, draws: &mut impl FnMut() -> u64) -> (u64, usize) {
        let (mut requests, mut astray) = (0, Vec::new());
        while !self.is_learned() {
            astray.extend(self.request(draws()));
            requests += 1;
            assert!(requests < 10_000, "it never settles");
        }
        let times = |it: &(u64, Endpoint)| astray.iter().filter(|other| *other == it).count();
        (requests, astray.iter().map(times).max().unwrap_or(0))
    }
}

fn draws(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A member comes, or leaves, or one leaves and another one comes. Addresses are new ones: one that
/// is back after a second is taken for one that was there all along.
fn change(members: &mut Vec<Endpoint>, kind: u64, which: u64) {
    let at = (which % members.len() as u64) as usize;
    let newest = members.iter().map(|it| it.address().port()).max().unwrap_or(0);
    let fresh = endpoint(newest % 60_000);
    match kind % 3 {
        0 if members.len() < 40 => members.push(fresh),
        1 if members.len() > 2 => drop(members.remove(at)),
        _ => members[at] = fresh,
    }
}

/// A thousand changes, each followed within three rounds of the cluster for each worker and a tick,
/// and nobody who has left is picked more than twice by any worker.
fn follows(workers: usize, seed: u64) {
    let mut proxy = Proxy::new(workers, "weighted_round_robin", 5);
    let mut draws = draws(seed);
    for _ in 0..1000 {
        change(&mut proxy.members, draws(), draws());
        let size = proxy.members.len() as u64;
        let (requests, astray) = proxy.settle(&mut draws);
        let most = 3 * size * workers as u64 + TICK;
        assert!(requests <= most, "{requests} requests for {size} endpoints, seed {seed}");
        assert!(astray <= 2, "{astray} picks of one that had left, seed {seed}");
        // Some traffic in between, in which nothing may get lost.
        for _ in 0..10 {
            proxy.request(draws());
        }
        assert!(proxy.is_learned(), "seed {seed}");
    }
}

#[test]
fn a_thousand_changes_are_followed_by_one_worker() {
    follows(1, 1);
}

#[test]
fn a_thousand_changes_are_followed_by_two_workers() {
    follows(2, 2);
}

#[test]
fn by_cost_what_comes_and_what_goes_is_followed_as_soon() {
    let mut proxy = Proxy::new(1, "least_cost", 5);
    let mut draws = draws(7);
    for n in 0..1000 {
        let grows = n % 2 == 0;
        change(&mut proxy.members, u64::from(!grows), draws());
        let size = proxy.members.len() as u64;
        let (requests, astray) = proxy.settle(&mut draws);
        assert!(requests <= 3 * size + TICK && astray <= 2, "{requests} {astray} {size}");
    }
}

#[test]
fn a_replacement_is_found_by_cost_when_it_is_picked() {
    let mut proxy = Proxy::new(1, "least_cost", 8);
    let mut draws = draws(11);
    proxy.settle(&mut draws);
    for _ in 0..200 {
        change(&mut proxy.members, 2, draws());
        let (_, astray) = proxy.settle(&mut draws);
        assert!(astray <= 2, "{astray}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_changes_are_followed(
        seed: u64, workers in 1usize..5,
        changes in proptest::collection::vec((any::<u64>(), any::<u64>()), 1..40),
    ) {
        let mut proxy = Proxy::new(workers, "weighted_round_robin", 3);
        let mut draws = draws(seed);
        for (kind, which) in changes {
            change(&mut proxy.members, kind, which);
            let size = proxy.members.len() as u64;
            let (requests, astray) = proxy.settle(&mut draws);
            prop_assert!(requests <= 3 * size * workers as u64 + TICK, "{} for {}", requests, size);
            prop_assert!(astray <= 2);
        }
    }
}
