mod load;
mod tenants;

use super::*;
use crate::worker::Degradation;
use core::cell::RefCell;
use request_key::Attributes;
use shared_state::{BreakerRecord, BreakerState, MemoryStore, Transition, read, update};

struct Proxy {
    store: MemoryStore,
    filter: Filter,
    now_ms: u64,
}

const ENDPOINTS: &str = r#"{"scopes":[{"by":["cluster","endpoint"]}]}"#;

/// Like [`ENDPOINTS`], but one probe decides.
const ONE_PROBE: &str =
    r#"{"scopes":[{"by":["cluster","endpoint"],"half_open":{"permitted_calls":1}}]}"#;
const ROUTES: &str = r#"{"scopes":[{"by":["route"],"half_open":{"permitted_calls":1}}]}"#;

fn endpoint(port: u16) -> Endpoint {
    format!("10.0.0.1:{port}").parse().unwrap()
}

fn list(ports: &[u16]) -> String {
    destinations::format(&ports.iter().copied().map(endpoint).collect::<Vec<_>>())
}

fn ports(endpoints: &[Endpoint]) -> Vec<u16> {
    endpoints.iter().map(|endpoint| endpoint.address().port()).collect()
}

/// A request, and what was asked of it.
#[derive(Default)]
struct Incoming {
    cluster: Option<&'static str>,
    route: Option<&'static str>,
    destinations: Option<String>,
    tenant: Option<String>,
    spare: Option<u32>,
    asked: RefCell<Vec<&'static str>>,
}

impl Incoming {
    fn note<T>(&self, what: &'static str, value: T) -> T {
        self.asked.borrow_mut().push(what);
        value
    }
}

impl Attributes for Incoming {
    fn header(&self, name: &str) -> Option<String> {
        let value = if name == "x-tenant" { self.tenant.clone() } else { None };
        self.note("header", value)
    }

    fn method(&self) -> Option<String> {
        None
    }

    fn source_address(&self) -> Option<String> {
        None
    }

    fn route(&self) -> Option<String> {
        let name = self.route.or(self.cluster).map(str::to_owned);
        self.note("route", name)
    }

    fn cluster(&self) -> Option<String> {
        self.note("cluster", self.cluster.map(str::to_owned))
    }
}

impl Request for Incoming {
    fn destinations(&self) -> Option<String> {
        self.note("destinations", self.destinations.clone())
    }

    fn num_endpoints(&self) -> Option<u32> {
        self.note("num_endpoints", Some(3))
    }

    fn spare(&self) -> Option<u32> {
        self.note("spare", self.spare)
    }
}

/// The end of a request.
#[derive(Clone, Debug, Default)]
struct Ended {
    ending: Ending,
    server: Option<Endpoint>,
    attempts: u32,
    num_endpoints: u32,
    torn: bool,
    elapsed: Option<Duration>,
    retry_after: Option<Duration>,
    asked: RefCell<Vec<&'static str>>,
}

impl Ended {
    fn note<T>(&self, what: &'static str, value: T) -> T {
        self.asked.borrow_mut().push(what);
        value
    }
}

impl Response for Ended {
    fn server(&self) -> Option<Endpoint> {
        self.note("server", self.server)
    }

    fn cluster(&self) -> Option<String> {
        self.note("cluster", Some("backend".to_owned()))
    }

    fn status(&self) -> Option<u16> {
        self.note("status", self.ending.status)
    }

    fn is_complete(&self) -> bool {
        !self.torn
    }

    fn flags(&self) -> u64 {
        self.note("flags", self.ending.flags)
    }

    fn via_upstream(&self) -> bool {
        self.note("via_upstream", self.ending.via_upstream)
    }

    fn grpc_status(&self) -> Option<u32> {
        self.ending.grpc_status
    }

    fn attempts(&self) -> u32 {
        self.note("attempts", self.attempts)
    }

    fn num_endpoints(&self) -> u32 {
        self.note("num_endpoints", self.num_endpoints)
    }

    fn retry_after(&self) -> Option<Duration> {
        self.note("retry_after", self.retry_after)
    }

    fn elapsed(&self) -> Option<Duration> {
        self.elapsed
    }
}

fn ended(server: u16, status: u16, attempts: u32) -> Ended {
    let ending = Ending { via_upstream: true, status: Some(status), ..Ending::default() };
    Ended { ending, server: Some(endpoint(server)), attempts, num_endpoints: 3, ..Ended::default() }
}

impl Proxy {
    fn new(json: &str) -> Self {
        let config = Config::from_json(json.as_bytes()).unwrap().value;
        let filter = Filter::new(config, HashSeed([1, 2]));
        Self { store: MemoryStore::default(), filter, now_ms: 1_000_000 }
    }

    fn now(&self) -> UnixNanos {
        UnixNanos::from_millis(self.now_ms)
    }

    fn begin(&mut self, ports: &[u16]) -> (Decision, Option<Exchange>) {
        self.send(&incoming(ports))
    }

    fn send(&mut self, incoming: &Incoming) -> (Decision, Option<Exchange>) {
        let now = self.now();
        self.filter.begin(&self.store, incoming, now, &mut || 0)
    }

    fn end(&mut self, exchange: Exchange, ended: Ended) {
        let now = self.now();
        self.filter.end(&self.store, exchange, &ended, now, &mut || 0);
    }

    fn request(&mut self, ports: &[u16], result: Ended) -> Decision {
        let (decision, exchange) = self.begin(ports);
        if let Some(exchange) = exchange {
            self.end(exchange, result);
        }
        decision
    }

    /// Makes the endpoint's breaker trip by five failures.
    fn trip(&mut self, port: u16) {
        for _ in 0..5 {
            self.request(&[port], ended(port, 503, 1));
        }
        assert_eq!(self.state(port), BreakerState::Open);
    }

    fn record(&self, port: u16) -> Option<BreakerRecord> {
        let key = BreakerRecord::key("endpoint", &["backend", &endpoint(port).to_string()]);
        read(&self.store, &key).unwrap()
    }

    fn state(&self, port: u16) -> BreakerState {
        self.record(port).map_or(BreakerState::Closed, |record| record.state_at(self.now()))
    }
}

fn incoming(ports: &[u16]) -> Incoming {
    Incoming {
        cluster: Some("backend"),
        route: Some("checkout"),
        destinations: (!ports.is_empty()).then(|| list(ports)),
        ..Incoming::default()
    }
}

fn tenant(name: &str) -> Incoming {
    Incoming { tenant: Some(name.to_owned()), ..incoming(&[]) }
}

fn passed(decision: Decision) -> (Steering, Selection) {
    match decision {
        Decision::Pass { steering, selection, .. } => (steering, selection),
        rejected => panic!("{rejected:?}"),
    }
}

fn is_rejected(decision: &Decision) -> bool {
    matches!(decision, Decision::Reject { .. })
}

#[test]
fn a_healthy_list_is_left_alone() {
    let mut proxy = Proxy::new(ENDPOINTS);
    let (steering, selection) = passed(proxy.request(&[1, 2], ended(1, 200, 1)));
    assert_eq!((steering, selection.excluded), (Steering::Keep, vec![]));
}

#[test]
fn an_endpoint_that_trips_is_taken_out_of_the_list() {
    let mut proxy = Proxy::new(ENDPOINTS);
    proxy.trip(1);
    let (steering, selection) = passed(proxy.begin(&[1, 2]).0);
    assert_eq!(steering, Steering::Replace(list(&[2])));
    assert_eq!(ports(&selection.excluded), [1]);
}

#[test]
fn a_lone_endpoint_is_kept_though_it_rejects_unless_told_otherwise() {
    let mut proxy = Proxy::new(ENDPOINTS);
    proxy.trip(1);
    let (steering, selection) = passed(proxy.begin(&[1]).0);
    assert!(selection.all_rejected && steering == Steering::Keep);
    let strict = r#"{"scopes":[{"by":["cluster","endpoint"],"always_keep_one":false}]}"#;
    let mut proxy = Proxy::new(strict);
    proxy.trip(1);
    assert_eq!(passed(proxy.begin(&[1]).0).0, Steering::Remove);
}

#[test]
fn a_probe_that_succeeds_brings_the_endpoint_back() {
    let mut proxy = Proxy::new(ONE_PROBE);
    proxy.trip(1);
    proxy.now_ms += 5000;
    let (_, exchange) = proxy.begin(&[1, 2]);
    let exchange = exchange.unwrap();
    assert_eq!(exchange.probed(), Some(endpoint(1)));
    proxy.end(exchange, ended(1, 200, 1));
    assert_eq!(proxy.state(1), BreakerState::Closed);
}

#[test]
fn a_probe_that_a_retry_rescued_was_still_a_failure() {
    let mut proxy = Proxy::new(ONE_PROBE);
    proxy.trip(1);
    proxy.now_ms += 5000;
    proxy.request(&[1, 2], ended(2, 200, 2));
    assert_eq!(proxy.state(1), BreakerState::Open);
}

#[test]
fn a_probe_that_never_went_out_gives_its_permit_back() {
    for result in [
        Ended::default(),
        Ended {
            ending: Ending { flags: 0x4000, ..Ending::default() },
            torn: true,
            ..ended(1, 200, 1)
        },
        ended(2, 200, 1),
    ] {
        let mut proxy = Proxy::new(ONE_PROBE);
        proxy.trip(1);
        proxy.now_ms += 5000;
        proxy.request(&[1, 2], result.clone());
        assert_eq!(proxy.record(1).unwrap().half_open.left, 1, "{result:?}");
    }
}

#[test]
fn endpoints_that_failed_before_a_retry_trip_though_no_client_saw_a_failure() {
    let mut proxy = Proxy::new(ENDPOINTS);
    for _ in 0..5 {
        proxy.request(&[1, 2], ended(2, 200, 2));
    }
    assert_eq!((proxy.state(1), proxy.state(2)), (BreakerState::Open, BreakerState::Closed));
}

#[test]
fn a_retry_is_counted_along_the_list_that_was_sent() {
    let mut proxy = Proxy::new(ENDPOINTS);
    proxy.trip(1);
    proxy.request(&[1, 2, 3], ended(3, 200, 2));
    let failures = |port| proxy.record(port).map(|record| record.consecutive_failures);
    assert_eq!((failures(2), failures(1)), (Some(1), Some(0)));
}

#[test]
fn only_a_request_that_its_first_endpoint_did_not_serve_may_have_been_retried() {
    let mut proxy = Proxy::new(ENDPOINTS);
    let exchange = proxy.begin(&[1, 2]).1.unwrap();
    assert!(!exchange.was_retried(Some(endpoint(1))));
    assert!(exchange.was_retried(Some(endpoint(2))) && exchange.was_retried(None));
    assert!(!proxy.begin(&[]).1.unwrap().was_retried(None), "nothing is known of it");
}

#[test]
fn without_a_list_the_server_is_judged_all_the_same() {
    let mut proxy = Proxy::new(ENDPOINTS);
    for _ in 0..5 {
        let (steering, _) = passed(proxy.request(&[], ended(3, 500, 1)));
        assert_eq!(steering, Steering::Keep);
    }
    assert_eq!(proxy.state(3), BreakerState::Open);
}

#[test]
fn a_route_that_fails_is_rejected_probed_and_let_through_again() {
    let mut proxy = Proxy::new(ROUTES);
    for _ in 0..5 {
        assert!(!is_rejected(&proxy.request(&[], ended(1, 503, 1))));
    }
    let (decision, exchange) = proxy.begin(&[]);
    assert!(is_rejected(&decision) && exchange.is_none());
    proxy.now_ms += 5000;
    let probe = proxy.begin(&[]).1.unwrap();
    assert!(is_rejected(&proxy.begin(&[]).0), "the probe is under way");
    proxy.end(probe, ended(1, 200, 1));
    assert!(!is_rejected(&proxy.begin(&[]).0));
}

#[test]
fn a_route_without_a_name_is_known_by_its_cluster() {
    let mut proxy = Proxy::new(ROUTES);
    let incoming = Incoming { cluster: Some("backend"), ..Incoming::default() };
    let exchange = proxy.send(&incoming).1.unwrap();
    proxy.end(exchange, ended(1, 503, 1));
    assert_eq!(proxy.store.keys(), ["weir/2/breaker/route/backend"]);
}

#[test]
fn shadow_decides_and_counts_and_lets_everything_pass() {
    let json = r#"{"mode":"shadow","scopes":[{"by":["route"]},{"by":["cluster","endpoint"]}]}"#;
    let mut proxy = Proxy::new(json);
    proxy.trip(1);
    let (decision, exchange) = proxy.begin(&[1, 2]);
    assert!(is_rejected(&decision));
    assert_eq!(ports(&exchange.unwrap().destinations), [1, 2], "the list is not edited");
}

#[test]
fn the_two_scopes_keep_separate_records() {
    let json = r#"{"scopes":[{"by":["cluster"]},{"by":["cluster","endpoint"]}]}"#;
    let mut proxy = Proxy::new(json);
    proxy.request(&[1], ended(1, 503, 1));
    let keys = proxy.store.keys();
    assert_eq!(
        keys,
        ["weir/2/breaker/cluster/backend", "weir/2/breaker/endpoint/backend/10.0.0.1:1"]
    );
}

#[test]
fn a_request_that_finds_all_closed_and_succeeds_costs_four_questions() {
    let json = r#"{"scopes":[{"by":["cluster","endpoint"]},{"by":["route"]}]}"#;
    let mut proxy = Proxy::new(json);
    proxy.request(&[1, 2], ended(1, 200, 1));
    proxy.request(&[2, 1], ended(2, 200, 1));
    let request = incoming(&[1, 2]);
    let exchange = proxy.send(&request).1.unwrap();
    let response = ended(1, 200, 1);
    let now = proxy.now();
    proxy.filter.end(&proxy.store, exchange, &response, now, &mut || 0);
    assert_eq!(*request.asked.borrow(), ["route", "destinations"]);
    assert_eq!(*response.asked.borrow(), ["server", "status"]);
}

#[test]
fn an_endpoint_that_two_clusters_have_is_told_of_in_its_own() {
    let mut proxy = Proxy::new(ENDPOINTS);
    proxy.request(&[1], ended(1, 200, 1));
    let other = Incoming { cluster: Some("other"), ..incoming(&[1]) };
    // Known in one cluster only, and closed there: nobody asks.
    proxy.send(&other);
    assert_eq!(*other.asked.borrow(), ["destinations"]);
    proxy.trip(1);
    let other = Incoming { cluster: Some("other"), ..incoming(&[1, 2]) };
    let (steering, _) = passed(proxy.send(&other).0);
    assert_eq!(steering, Steering::Keep, "the other cluster's breaker is closed");
    assert!(other.asked.borrow().contains(&"cluster"));
}

#[test]
fn what_the_operator_decided_holds() {
    let json = r#"{"scopes":[
        {"by":["route"],"trip":{"consecutive_failures":1}},
        {"name":"tenant","by":["header:x-tenant"],"trip":{"consecutive_failures":1}}],
      "overrides":[
        {"scope":"route","key":"checkout","state":"FORCED_CLOSED"},
        {"scope":"route","key":"legacy","state":"FORCED_OPEN"},
        {"scope":"tenant","state":"SHADOW"},
        {"scope":"tenant","key":["acme"],"state":"FORCED_OPEN"}]}"#;
    let mut proxy = Proxy::new(json);
    let fail = |proxy: &mut Proxy, request: &Incoming| {
        let (decision, exchange) = proxy.send(request);
        if let Some(exchange) = exchange {
            proxy.end(exchange, ended(1, 500, 1));
        }
        is_rejected(&decision)
    };
    assert!(
        !fail(&mut proxy, &incoming(&[])) && !fail(&mut proxy, &incoming(&[])),
        "forced closed"
    );
    let legacy = Incoming { route: Some("legacy"), ..incoming(&[]) };
    assert!(fail(&mut proxy, &legacy), "forced open");
    assert!(fail(&mut proxy, &tenant("acme")), "forced open by its key");
    assert!(!fail(&mut proxy, &tenant("other")) && !fail(&mut proxy, &tenant("other")), "shadow");
    let events = proxy.filter.take_events();
    assert!(events.iter().any(|(_, event)| matches!(event, Event::Pardoned(_))));
    assert!(
        events.iter().any(|(at, event)| *at == Some(1) && matches!(event, Event::Changed { .. }))
    );
}

#[test]
fn a_permit_is_given_back_when_a_later_guard_rejects() {
    let json = r#"{"scopes":[
        {"by":["route"],"half_open":{"permitted_calls":1},"open":{"jitter":"none"}},
        {"by":["cluster"],"open":{"base":"60s","jitter":"none"}}]}"#;
    let mut proxy = Proxy::new(json);
    for _ in 0..5 {
        proxy.request(&[], ended(1, 500, 1));
    }
    proxy.now_ms += 5000;
    for _ in 0..3 {
        let (decision, _) = proxy.begin(&[]);
        assert!(matches!(decision, Decision::Reject { guard: 1, .. }), "{decision:?}");
    }
    let record = read(&proxy.store, &BreakerRecord::key("route", &["checkout"])).unwrap().unwrap();
    assert_eq!((record.state, record.half_open.left), (BreakerState::HalfOpen, 1));
}

#[test]
fn a_breaker_that_only_passes_is_told_of_and_rejects_nobody() {
    let json = r#"{"scopes":[{"by":["route"],"action":"pass"}]}"#;
    let mut proxy = Proxy::new(json);
    for _ in 0..5 {
        proxy.request(&[], ended(1, 500, 1));
    }
    let (decision, exchange) = proxy.begin(&[]);
    assert!(matches!(decision, Decision::Pass { open: Some((0, _)), .. }), "{decision:?}");
    assert!(exchange.is_some());
}

#[test]
fn a_request_that_goes_elsewhere_proves_nothing_about_where_it_did_not_go() {
    let json = r#"{"scopes":[{"by":["cluster","endpoint"]},{"by":["route"],"action":"fallback_cluster",
        "fallback_cluster":{"header":"x-cluster","cluster":"spare"}}]}"#;
    let mut proxy = Proxy::new(json);
    for _ in 0..5 {
        proxy.request(&[1], ended(1, 500, 1));
    }
    let (decision, exchange) = proxy.begin(&[1]);
    assert!(is_rejected(&decision));
    proxy.end(exchange.unwrap(), ended(9, 200, 1));
    assert_eq!(proxy.state(9), BreakerState::Closed);
    let record = read(&proxy.store, &BreakerRecord::key("route", &["checkout"])).unwrap().unwrap();
    assert_eq!(record.state, BreakerState::Open);
}

#[test]
fn of_too_many_open_endpoints_the_worst_are_taken_out() {
    let json = r#"{"scopes":[{"by":["cluster","endpoint"],"max_ejection_percent":34,
        "trip":{"failure_rate_threshold":50},"window":{"minimum_number_of_calls":4}}]}"#;
    let mut proxy = Proxy::new(json);
    proxy.request(&[3], ended(3, 200, 1));
    // The second fails always, the first every other time.
    for turn in 0..4 {
        proxy.request(&[1], ended(1, if turn % 2 == 0 { 200 } else { 500 }, 1));
        proxy.request(&[2], ended(2, 500, 1));
    }
    assert_eq!((proxy.state(1), proxy.state(2)), (BreakerState::Open, BreakerState::Open));
    let (steering, selection) = passed(proxy.begin(&[1, 2, 3]).0);
    assert_eq!((steering, ports(&selection.excluded)), (Steering::Replace(list(&[1, 3])), vec![2]));
}

#[test]
fn no_more_are_out_than_the_router_can_do_without_and_who_opened_first_is_asked() {
    let mut proxy = Proxy::new("{}");
    for port in [2, 1] {
        for _ in 0..5 {
            proxy.request(&[port], ended(port, 500, 1));
        }
        proxy.now_ms += 10;
    }
    let send = |proxy: &mut Proxy, spare, list: &[u16]| {
        let (decision, exchange) = proxy.send(&Incoming { spare, ..incoming(list) });
        let (_, selection) = passed(decision);
        (ports(&selection.excluded), selection.permit.is_some(), exchange)
    };
    for spare in [None, Some(2)] {
        let (excluded, is_probe, _) = send(&mut proxy, spare, &[1, 2, 3]);
        assert_eq!((excluded, is_probe), (vec![1, 2], false));
    }
    assert_eq!(send(&mut proxy, Some(1), &[1, 3]).0, [1], "1 is the last that opened");
    let (excluded, is_probe, first) = send(&mut proxy, None, &[1, 2, 3]);
    assert_eq!((excluded, is_probe), (vec![1], true), "what was said holds, and 2 opened first");
    assert_eq!(proxy.state(2), BreakerState::HalfOpen);
    let (excluded, is_probe, _) = send(&mut proxy, Some(1), &[2, 3]);
    assert_eq!((excluded, is_probe), (vec![2], false), "one at a time");
    proxy.end(first.unwrap(), ended(2, 200, 1));
    let (_, is_probe, second) = send(&mut proxy, Some(1), &[2, 3]);
    assert!(is_probe);
    proxy.end(second.unwrap(), ended(2, 200, 1));
    assert_eq!((proxy.state(1), proxy.state(2)), (BreakerState::Open, BreakerState::Closed));
}

#[test]
fn an_endpoint_far_below_its_peers_opens_and_its_peers_do_not() {
    let json = r#"{"scopes":[{"by":["cluster","endpoint"],"success_rate":{"request_volume":20},
        "trip":{"failure_rate_threshold":100,"consecutive_failures":0}}]}"#;
    let mut proxy = Proxy::new(json);
    for turn in 0..25 {
        for port in 1..=5 {
            let fails = port == 5 && turn % 2 == 0 || turn == 3;
            proxy.request(&[port], ended(port, if fails { 500 } else { 200 }, 1));
        }
    }
    proxy.now_ms += 200;
    for _ in 0..2 {
        let now = proxy.now();
        proxy.filter.tick(&proxy.store, now, &mut || 0);
        proxy.now_ms += 1000;
    }
    let states: Vec<_> = (1..=5).map(|port| proxy.state(port)).collect();
    use BreakerState::{Closed, Open};
    assert_eq!(states, [Closed, Closed, Closed, Closed, Open]);
}

#[test]
fn a_slow_answer_counts_where_it_is_slow_and_a_refusal_of_somebody_else_nowhere() {
    let json = r#"{"scopes":[{"by":["route"],
        "trip":{"slow_call_duration":"1s"},"window":{"minimum_number_of_calls":3}}]}"#;
    let mut proxy = Proxy::new(json);
    let slow = |result: Ended| Ended { elapsed: Some(Duration::from_millis(1001)), ..result };
    for _ in 0..5 {
        // Another filter took its time to refuse.
        proxy.request(
            &[],
            slow(Ended {
                ending: Ending { status: Some(403), ..Ending::default() },
                ..Ended::default()
            }),
        );
    }
    assert!(!is_rejected(&proxy.begin(&[]).0));
    let left = Ending { flags: 0x4000, ..Ending::default() };
    proxy.request(&[], slow(Ended { ending: left, torn: true, ..ended(1, 0, 1) }));
    for _ in 0..2 {
        proxy.request(&[], slow(ended(1, 200, 1)));
    }
    assert!(is_rejected(&proxy.begin(&[]).0));
}

#[test]
fn whoever_may_ask_is_told_why() {
    let mut proxy = Proxy::new(ROUTES);
    for _ in 0..5 {
        proxy.request(&[], ended(1, 503, 1));
    }
    let (decision, exchange) = proxy.begin(&[]);
    let told = proxy.filter.explain(&decision, exchange.as_ref(), proxy.now());
    assert!(told.starts_with("route checkout: Open since 0s, "), "{told}");
}
