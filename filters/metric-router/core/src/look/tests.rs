use super::*;
use crate::worker::Worker;
use crate::{Config, Pick, Response};
use proptest::prelude::*;
use shared_state::{Endpoint, LoadReport, MemoryStore, metric_id};

const STATIC: &str = r#""endpoints":["127.0.0.1:1","127.0.0.1:2","127.0.0.1:3"]"#;

/// A cluster of three, one request after the other.
struct Proxy {
    cluster: Cluster,
    store: MemoryStore,
    now: UnixNanos,
    draw: u32,
}

impl Proxy {
    fn new(more: &str) -> Self {
        let json = format!(r#"{{"clusters":[{{"name":"backend",{STATIC}{more}}}]}}"#);
        let config = Config::from_json(json.as_bytes()).unwrap().value.clusters.remove(0);
        let now = UnixNanos::from_secs(1_000_000);
        let cluster = Cluster::new("backend", config, 3, now);
        Self { cluster, store: MemoryStore::default(), now, draw: 0 }
    }

    /// Nothing is in doubt any more.
    fn settled(more: &str) -> Self {
        let mut proxy = Self::new(more);
        while proxy.looks(100) > 34 {}
        proxy
    }

    fn pick(&mut self) -> (Endpoint, Flight) {
        self.now = self.now.plus(Duration::from_millis(5));
        self.draw = self.draw.wrapping_add(0x9e37_79b9);
        let (pick, flight) = self.cluster.pick(&(), self.now, self.draw.into(), true);
        match pick {
            Pick::Steer(steered) => (steered.first, flight),
            Pick::Leave(reason) => panic!("{reason:?}"),
        }
    }

    /// As the plugin does it. Gives whether the answer was looked at.
    fn answer(&mut self, mut flight: Flight, served: Endpoint, outcome: Outcome) -> bool {
        let is_passed = flight.is_routine() && outcome == Outcome::Success;
        if is_passed {
            self.cluster.pass(&mut flight, self.now);
        } else {
            let response = Response { served: Some(served), attempts: 1, edited: false, outcome };
            self.cluster.respond(&self.store, &mut flight, response, self.now);
        }
        self.cluster.finish(&mut flight);
        !is_passed
    }

    /// How many of so many good answers are looked at.
    fn looks(&mut self, requests: u32) -> u32 {
        let looks = (0..requests).filter(|_| {
            let (first, flight) = self.pick();
            self.answer(flight, first, Outcome::Success)
        });
        looks.count() as u32
    }
}

#[test]
fn everything_is_looked_at_until_a_hundred_answers_came_as_expected() {
    let mut proxy = Proxy::new("");
    assert!(!proxy.cluster.is_settled());
    assert_eq!(proxy.looks(SETTLED), SETTLED);
    assert!(proxy.cluster.is_settled());
    // And the first ones of each endpoint after that.
    assert_eq!(proxy.looks(FIRST), FIRST);
}

#[test]
fn then_one_in_four_of_each_endpoint_is() {
    let looks = Proxy::settled("").looks(1200);
    assert!(looks.abs_diff(1200 / EVERY) <= 3, "{looks}");
}

#[test]
fn where_hostcalls_are_scarce_looks_are_made_up_for_by_answers_of_which_nothing_is_asked() {
    let mut proxy = Proxy::settled("");
    let overlooked = |proxy: &mut Proxy| {
        let (mut looked, mut overlooked) = (0u32, 0u32);
        for _ in 0..1200 {
            let (first, mut flight) = proxy.pick();
            if flight.is_overlooked() {
                overlooked += 1;
                assert!(flight.watched.is_none(), "it would be worked on for ever");
                flight.overlook();
                assert!(!flight.awaits_response());
                proxy.cluster.finish(&mut flight);
            } else {
                looked += u32::from(proxy.answer(flight, first, Outcome::Success));
            }
        }
        assert_eq!(proxy.cluster.in_flight, 0);
        (looked, overlooked)
    };
    assert_eq!(overlooked(&mut proxy).1, 0);
    proxy.cluster.is_thrifty = true;
    let (looked, overlooked) = overlooked(&mut proxy);
    assert!(looked.abs_diff(1200 / EVERY) <= 3, "{looked}");
    assert!(overlooked.abs_diff(1200 * 3 / (2 * EVERY)) <= 6, "{overlooked}");
}

#[test]
fn an_endpoint_in_doubt_is_never_overlooked() {
    let mut proxy = Proxy::settled(r#","policy":"random""#);
    proxy.cluster.is_thrifty = true;
    let (failed, flight) = proxy.pick();
    proxy.answer(flight, failed, Outcome::Failure);
    for _ in 0..400 {
        let (first, flight) = proxy.pick();
        assert!(first != failed || !flight.is_overlooked());
        proxy.answer(flight, first, Outcome::Success);
    }
}

#[test]
fn an_endpoint_that_has_failed_is_looked_at_for_a_while_and_the_others_are_as_before() {
    let mut proxy = Proxy::settled(r#","policy":"random""#);
    let (failed, flight) = proxy.pick();
    proxy.answer(flight, failed, Outcome::Failure);
    let mut looks = [(0, 0); 2];
    let doubted_until = proxy.now.plus(DOUBT - Duration::from_millis(5));
    while proxy.now < doubted_until {
        let (first, flight) = proxy.pick();
        let its = &mut looks[usize::from(first == failed)];
        *its = (its.0 + 1, its.1 + u32::from(proxy.answer(flight, first, Outcome::Success)));
    }
    let [(others, looked), (its, all)] = looks;
    assert!(its > 10 && its == all, "{looks:?}");
    assert!(looked <= others / EVERY + 2, "{looks:?}");
    proxy.looks(FIRST);
    assert!(proxy.looks(400) <= 104);
}

#[test]
fn where_another_endpoint_has_served_the_whole_cluster_is_in_doubt() {
    let mut proxy = Proxy::settled("");
    loop {
        let (first, flight) = proxy.pick();
        let other = if first.address().port() == 1 { "127.0.0.1:2" } else { "127.0.0.1:1" };
        let other = other.parse().unwrap();
        // One that is not looked at is taken on trust.
        if proxy.answer(flight, other, Outcome::Success) {
            break;
        }
        assert!(proxy.cluster.is_settled());
    }
    assert!(!proxy.cluster.is_settled());
    assert_eq!(proxy.looks(50), 50);
}

#[test]
fn peaks_and_picks_that_are_not_sent_are_always_looked_at() {
    let mut peaks = Proxy::new(r#","policy":"peak_ewma""#);
    assert_eq!(peaks.looks(400), 400);
    let mut proxy = Proxy::settled("");
    let (_, flight) = proxy.cluster.pick(&(), proxy.now, u64::MAX, false);
    assert!(!flight.is_routine());
}

#[test]
fn a_snapshot_that_is_seldom_rebuilt_wants_the_time() {
    let mut proxy = Proxy::new(r#","update_interval":"2s""#);
    assert_eq!(proxy.looks(400), 400);
}

#[test]
fn a_clock_that_steps_back_makes_an_endpoint_due() {
    let mut looks = Looks { taken: FIRST, left_out: 0, last: UnixNanos::from_secs(100) };
    assert!(!looks.is_due(UnixNanos::from_secs(101)));
    assert!(looks.is_due(UnixNanos::from_secs(50)));
    assert!(!looks.is_due(UnixNanos::from_secs(51)));
    assert!(looks.is_due(UnixNanos::from_secs(56)), "five seconds are over");
}

#[test]
fn a_routine_request_is_counted_as_a_success_and_taken_back_once() {
    let mut proxy = Proxy::settled("");
    let (first, mut flight) = loop {
        let (first, flight) = proxy.pick();
        if flight.is_routine() {
            break (first, flight);
        }
        proxy.answer(flight, first, Outcome::Success);
    };
    let answered = |proxy: &mut Proxy| proxy.cluster.table.find(first).unwrap().answered();
    let before = answered(&mut proxy);
    for _ in 0..2 {
        proxy.cluster.pass(&mut flight, proxy.now);
    }
    assert_eq!((answered(&mut proxy), proxy.cluster.in_flight(first)), (before + 1, 1));
    proxy.cluster.finish(&mut flight);
    assert_eq!(proxy.cluster.in_flight(first), 0);
}

#[test]
fn reports_of_one_reading_of_the_clock_are_in_order_and_a_pick_at_that_time_knows_them() {
    let mut proxy = Proxy::new(r#","policy":"hot_cold","hot_cold":{"max_reuse":16}"#);
    proxy.cluster.refresh(&proxy.store, &Worker::default(), proxy.now, 0);
    let report = |proxy: &mut Proxy, port: u16, requests: f32| {
        let endpoint = format!("127.0.0.1:{port}").parse().unwrap();
        let named = vec![(metric_id("named_metrics.rif"), requests)];
        let report = LoadReport { received_at: proxy.now, named, ..LoadReport::default() };
        proxy.cluster.report(endpoint, &report, proxy.now);
    };
    for (port, requests) in [(1, 9.0), (2, 1.0), (1, 0.0), (2, 7.0)] {
        report(&mut proxy, port, requests);
    }
    let (pick, _) = proxy.cluster.pick(&(), proxy.now, u64::MAX, true);
    let Pick::Steer(steered) = pick else { panic!("{pick:?}") };
    assert_eq!(steered.first.address().port(), 1, "{steered:?}");
    assert!(matches!(steered.why, Why::Cold | Why::LeastHot), "{steered:?}");
    // A clock that has stepped back is followed.
    let earlier = UnixNanos::from_secs(999_000);
    assert_eq!(proxy.cluster.recent(earlier), earlier);
}

#[test]
fn where_the_clock_is_read_often_what_is_not_looked_at_is_measured_too_and_right_on_average() {
    let measured = |every: Duration| {
        let mut proxy = Proxy::settled("");
        let (mut flights, mut recent, mut times) = (Vec::new(), proxy.now, Vec::new());
        let service = Duration::from_millis(40);
        for number in 0..4000 {
            proxy.now = proxy.now.plus(every);
            if number % 100 == 0 {
                proxy.cluster.refresh(&proxy.store, &Worker::default(), proxy.now, 0);
            }
            proxy.draw = proxy.draw.wrapping_add(0x9e37_79b9);
            let (pick, mut flight) = proxy.cluster.pick(&(), recent, proxy.draw.into(), true);
            let Pick::Steer(steered) = pick else { panic!("{pick:?}") };
            if !flight.is_routine() {
                recent = proxy.now;
                flight.begin(recent);
            }
            flights.push((proxy.now.plus(service), steered.first, flight));
            while flights.first().is_some_and(|(until, ..)| *until <= proxy.now) {
                let (_, first, mut flight) = flights.remove(0);
                if flight.is_routine() {
                    let place = proxy.cluster.table.place(first);
                    let took = proxy.cluster.took(&flight, place, recent);
                    times.extend(took.map(|(took, _)| took.as_secs_f64()));
                    proxy.cluster.pass(&mut flight, recent);
                } else {
                    recent = proxy.now;
                    let (served, outcome) = (Some(first), Outcome::Success);
                    let response = Response { served, attempts: 1, edited: false, outcome };
                    proxy.cluster.respond(&proxy.store, &mut flight, response, recent);
                }
                proxy.cluster.finish(&mut flight);
            }
        }
        times
    };
    let often = measured(Duration::from_micros(700));
    let mean = often.iter().sum::<f64>() / often.len() as f64;
    assert!(often.len() > 2000 && (0.038..0.042).contains(&mean), "{} {mean}", often.len());
    let seldom = measured(Duration::from_millis(10));
    assert!(seldom.is_empty(), "{}", seldom.len());
}

proptest! {
    /// Whatever comes of requests: a failure is always looked at, what is in flight comes to nothing,
    /// and of the requests to one endpoint at most three in a row are not looked at.
    #[test]
    fn no_endpoint_goes_unseen(outcomes in proptest::collection::vec(0u8..20, 1..600)) {
        let mut proxy = Proxy::new("");
        let mut unseen = [0u32; 4];
        for outcome in outcomes {
            let (first, flight) = proxy.pick();
            let outcome = if outcome == 0 { Outcome::Failure } else { Outcome::Success };
            let looked = proxy.answer(flight, first, outcome);
            prop_assert!(looked || outcome == Outcome::Success);
            let unseen = &mut unseen[usize::from(first.address().port())];
            *unseen = if looked { 0 } else { *unseen + 1 };
            prop_assert!(*unseen < EVERY);
        }
        for port in 1..4 {
            let endpoint = format!("127.0.0.1:{port}").parse().unwrap();
            prop_assert_eq!(proxy.cluster.in_flight(endpoint), 0);
        }
    }
}
