use super::*;
use shared_state::{BreakerRecord, BreakerState, MemoryStore, read};

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

fn ended(server: u16, status: u16, attempts: u32) -> Ended {
    let ending = Ending { via_upstream: true, status: Some(status), ..Ending::default() };
    Ended { ending, server: Some(endpoint(server)), attempts, num_endpoints: 3 }
}

impl Proxy {
    fn new(json: &str) -> Self {
        let config = Config::from_json(json.as_bytes()).unwrap().value;
        Self { store: MemoryStore::default(), filter: Filter::new(config), now_ms: 1_000_000 }
    }

    fn now(&self) -> UnixNanos {
        UnixNanos::from_millis(self.now_ms)
    }

    fn begin(&mut self, ports: &[u16]) -> (Decision, Option<Exchange>) {
        let destinations = list(ports);
        let destinations = (!ports.is_empty()).then_some(destinations.as_str());
        let incoming = Incoming { cluster: "backend", route: Some("checkout"), destinations };
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

fn passed(decision: Decision) -> (Steering, Selection) {
    match decision {
        Decision::Pass { steering, selection } => (steering, selection),
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
        Ended { ending: Ending { flags: 0x4000, ..Ending::default() }, ..ended(1, 200, 1) },
        ended(2, 200, 1),
    ] {
        let mut proxy = Proxy::new(ONE_PROBE);
        proxy.trip(1);
        proxy.now_ms += 5000;
        proxy.request(&[1, 2], result);
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
    let incoming = Incoming { cluster: "backend", route: None, destinations: None };
    let now = proxy.now();
    let exchange = proxy.filter.begin(&proxy.store, incoming, now, &mut || 0).1.unwrap();
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
