//! Endpoints over sockets. The queue and the meters are tested beside their code.

use super::*;
use crate::certificates;
use crate::client::{Client, Request};
use crate::connect::{ErrorKind, Protocol};
use serde_json::json;

async fn endpoint() -> Endpoint {
    Endpoint::start(EndpointOptions::named("e1")).await.unwrap()
}

async fn post(endpoint: &Endpoint, path: &str) -> crate::client::Response {
    Client::new().send(Request::post(endpoint.url(path))).await.unwrap()
}

#[tokio::test]
async fn work_answers_name_the_endpoint_and_count() {
    let endpoint = endpoint().await;
    let client = Client::new();
    client.get(&endpoint.url("/a")).await.unwrap();
    let response = client.get(&endpoint.url("/b?c=d")).await.unwrap();
    assert_eq!(response.json().unwrap(), json!({"endpoint": "e1", "served": 2}));
    assert_eq!(response.header("x-endpoint"), Some("e1"));
    let paths: Vec<_> = endpoint.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/a", "/b?c=d"]);
}

#[tokio::test]
async fn echo_shows_what_was_received_over_both_protocols() {
    let endpoint = endpoint().await;
    for (protocol, version) in [(Protocol::Http1, "HTTP/1.1"), (Protocol::Http2, "HTTP/2.0")] {
        let request = Request::post(endpoint.url("/echo?q=1"))
            .header("x-b", "2")
            .header("x-a", "1")
            .chunks(["hel", "lo"])
            .trailer("x-sum", "5");
        let response = Client::new().protocol(protocol).send(request).await.unwrap();
        let echo = response.json().unwrap();
        assert_eq!(echo["version"], version);
        assert_eq!((&echo["method"], &echo["path"]), (&json!("POST"), &json!("/echo?q=1")));
        assert_eq!((&echo["body"], &echo["body_bytes"]), (&json!("hello"), &json!(5)));
        let headers = echo["headers"].as_array().unwrap();
        let position = |name| headers.iter().position(|header| header[0] == name).unwrap();
        assert!(position("x-b") < position("x-a"));
    }
}

#[tokio::test]
async fn http2_over_tls_is_negotiated_with_the_generated_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = certificates::ensure(directory.path()).unwrap();
    let mut options = EndpointOptions::named("e1");
    options.tls = Some(certificates.server_config().unwrap());
    let endpoint = Endpoint::start(options).await.unwrap();
    let client = Client::new().tls(certificates.client_config().unwrap());
    let url = endpoint.url("/echo").replace("127.0.0.1", "localhost");
    let response = client.clone().protocol(Protocol::Http2).get(&url).await.unwrap();
    assert_eq!(response.version, http::Version::HTTP_2);
    assert_eq!(client.get(&url).await.unwrap().version, http::Version::HTTP_11);

    let stranger = tempfile::tempdir().unwrap();
    let other = certificates::ensure(stranger.path()).unwrap().client_config().unwrap();
    let error = Client::new().tls(other).get(&url).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Tls, "{error}");
}

#[tokio::test]
async fn a_dead_endpoint_refuses_connections_and_comes_back_on_its_port() {
    let endpoint = endpoint().await;
    let client = Client::new();
    let mut session = client.connect(&endpoint.url("/")).await.unwrap();
    session.send(Request::get(endpoint.url("/"))).await.unwrap();
    endpoint.kill().await.unwrap();
    endpoint.kill().await.unwrap();
    assert!(session.send(Request::get(endpoint.url("/"))).await.is_err());
    let error = client.get(&endpoint.url("/")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Connect, "{error}");

    let address = endpoint.address();
    endpoint.revive(None).await.unwrap();
    assert_eq!(endpoint.address(), address);
    assert_eq!(client.get(&endpoint.url("/")).await.unwrap().status, 200);
    assert_eq!(endpoint.counters().served, 2);
}

#[tokio::test]
async fn a_request_in_flight_is_lost_when_the_endpoint_dies() {
    let endpoint = endpoint().await;
    endpoint.set_fault(Fault::Hang);
    let exchange = Client::new().start(Request::get(endpoint.url("/"))).await.unwrap();
    until(|| endpoint.counters().in_flight == 1).await;
    endpoint.kill().await.unwrap();
    assert_eq!(exchange.response().await.unwrap_err().kind, ErrorKind::Reset);
    assert_eq!(endpoint.counters().abandoned, 1);
}

#[tokio::test]
async fn a_dropped_endpoint_is_gone() {
    let endpoint = endpoint().await;
    let url = endpoint.url("/");
    let mut session = Client::new().connect(&url).await.unwrap();
    drop(endpoint);
    assert!(session.send(Request::get(&url)).await.is_err());
}

#[tokio::test]
async fn a_cold_revival_multiplies_service_times() {
    let mut options = EndpointOptions::named("e1");
    options.service_time = ServiceTime::Fixed(Duration::from_millis(1));
    let endpoint = Endpoint::start(options).await.unwrap();
    assert_eq!(endpoint.shared.service_time(&HeaderMap::new()), Duration::from_millis(1));
    endpoint.kill().await.unwrap();
    let cold = Cold { factor: 4.0, duration: Duration::from_secs(3600) };
    endpoint.revive(Some(cold)).await.unwrap();
    assert_eq!(endpoint.shared.service_time(&HeaderMap::new()), Duration::from_millis(4));
    endpoint.set_slow_factor(2.0);
    assert_eq!(endpoint.shared.service_time(&HeaderMap::new()), Duration::from_millis(8));
    assert_eq!(endpoint.speed(), 0.125);
    endpoint.recover();
    assert_eq!(endpoint.shared.service_time(&HeaderMap::new()), Duration::from_millis(1));
}

#[tokio::test]
async fn a_sinkhole_answers_its_status_without_taking_a_slot() {
    let mut options = EndpointOptions::named("e1");
    options.service_time = ServiceTime::Fixed(Duration::from_secs(3600));
    let endpoint = Endpoint::start(options).await.unwrap();
    endpoint.set_fault(Fault::respond(503));
    let response = Client::new().get(&endpoint.url("/")).await.unwrap();
    assert_eq!(response.status, 503);
    assert!(response.header("endpoint-load-metrics").is_some());
    assert_eq!((endpoint.counters().failed, endpoint.counters().served), (1, 0));
}

#[tokio::test]
async fn a_partial_fault_hits_its_share() {
    let endpoint = endpoint().await;
    endpoint.set_fault(Fault::Respond { status: 500, after: Duration::ZERO, fraction: 0.3 });
    let mut session = Client::new().connect(&endpoint.url("/")).await.unwrap();
    for _ in 0..200 {
        session.send(Request::get(endpoint.url("/"))).await.unwrap();
    }
    let failed = endpoint.counters().failed;
    assert!((40..=80).contains(&failed), "{failed}");
}

#[tokio::test]
async fn a_poll_is_noted_with_the_status_that_it_got() {
    let endpoint = endpoint().await;
    endpoint.set_health_fault(Fault::Respond { status: 500, after: Duration::ZERO, fraction: 0.5 });
    let mut answered = Vec::new();
    for _ in 0..30 {
        answered.push(Client::new().get(&endpoint.url("/healthz")).await.unwrap().status);
    }
    let noted: Vec<_> = endpoint.health_polls().iter().map(|poll| poll.status).collect();
    assert_eq!(noted, answered);
    assert!(noted.contains(&200) && noted.contains(&500), "{noted:?}");
}

#[tokio::test]
async fn resets_come_before_or_after_the_headers() {
    let endpoint = endpoint().await;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = Client::new().protocol(protocol);
        endpoint.set_fault(Fault::ResetBeforeHeaders);
        let error = client.get(&endpoint.url("/")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Reset, "{protocol:?} {error}");
        endpoint.set_fault(Fault::ResetAfterHeaders);
        let exchange = client.start(Request::get(endpoint.url("/"))).await.unwrap();
        assert_eq!(exchange.abort_in_body().await.unwrap(), 200, "{protocol:?}");
        let error = client.get(&endpoint.url("/")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Reset, "{protocol:?} {error}");
    }
    assert_eq!(endpoint.counters().served, 0);
}

#[tokio::test]
async fn a_hanging_request_ends_with_its_client() {
    let endpoint = endpoint().await;
    endpoint.set_fault(Fault::Hang);
    let client = Client::new();
    let exchange = client.start(Request::get(endpoint.url("/"))).await.unwrap();
    until(|| endpoint.counters().in_flight == 1).await;
    exchange.abort();
    until(|| endpoint.counters().abandoned == 1).await;
    assert_eq!(endpoint.counters().in_flight, 0);
}

#[tokio::test]
async fn healthz_is_503_when_degraded_or_not_ready_and_does_not_queue() {
    let mut options = EndpointOptions::named("e1");
    (options.slots, options.service_time) = (1, ServiceTime::Fixed(Duration::from_secs(3600)));
    let endpoint = Endpoint::start(options).await.unwrap();
    let client = Client::new();
    let _working = client.start(Request::get(endpoint.url("/"))).await.unwrap();
    let _queued = client.start(Request::get(endpoint.url("/"))).await.unwrap();
    until(|| endpoint.queue_depth() == 1).await;

    let request = Request::get(endpoint.url("/healthz")).header("user-agent", "checker");
    let response = client.send(request).await.unwrap();
    let health = response.json().unwrap();
    assert_eq!((response.status, &health["status"]), (200, &json!("healthy")));
    assert_eq!((&health["queue_depth"], &health["ready"]), (&json!(1), &json!(true)));
    assert_eq!(health["connections"], 3);

    endpoint.set_ready(false);
    let response = client.get(&endpoint.url("/healthz")).await.unwrap();
    assert_eq!((response.status, &response.json().unwrap()["ready"]), (503, &json!(false)));
    endpoint.recover();
    endpoint.set_degraded(true);
    let response = client.get(&endpoint.url("/healthz")).await.unwrap();
    assert_eq!((response.status, &response.json().unwrap()["status"]), (503, &json!("degraded")));

    let polls = endpoint.health_polls();
    assert_eq!(polls.iter().map(|poll| poll.status).collect::<Vec<_>>(), [200, 503, 503]);
    assert_eq!(polls[0].user_agent.as_deref(), Some("checker"));
    assert!(polls.is_sorted_by_key(|poll| poll.at));
}

#[tokio::test]
async fn a_frozen_endpoint_repeats_its_timestamp() {
    let endpoint = endpoint().await;
    endpoint.freeze_timestamp(true);
    let first = endpoint.shared.switches.lock().unwrap().frozen_timestamp.clone().unwrap();
    let health = Client::new().get(&endpoint.url("/healthz")).await.unwrap().json().unwrap();
    assert_eq!(health["timestamp"], first);
}

#[tokio::test]
async fn every_answer_carries_one_load_report_in_the_chosen_format() {
    let endpoint = endpoint().await;
    let url = endpoint.url("/");
    let header = async |name: &str| {
        let response = Client::new().get(&url).await.unwrap();
        response.header(name).map(str::to_owned)
    };
    let text = header("endpoint-load-metrics").await.unwrap();
    assert!(text.starts_with("TEXT cpu_utilization="), "{text}");
    assert!(text.contains("named_metrics.rif=1"), "{text}");
    endpoint.set_report_format(ReportFormat::BinHeader);
    assert_eq!(header("endpoint-load-metrics").await, None);
    assert!(header("endpoint-load-metrics-bin").await.is_some());
    endpoint.set_report_format(ReportFormat::None);
    assert_eq!(header("endpoint-load-metrics-bin").await, None);
    endpoint.set_report(ReportSource::Raw("TEXT cpu_utilization=NaN".into()));
    assert_eq!(header("endpoint-load-metrics").await.unwrap(), "TEXT cpu_utilization=NaN");
    endpoint.set_response_headers(&[("retry-after", "7")]);
    assert_eq!(header("retry-after").await.unwrap(), "7");
}

#[tokio::test]
async fn grpc_requests_get_their_status_trailers_only() {
    let endpoint = endpoint().await;
    endpoint.set_grpc_status(Some(14));
    let client = Client::new().protocol(Protocol::Http2);
    let grpc = Request::post(endpoint.url("/pkg.Service/Method"))
        .header("content-type", "application/grpc");
    let response = client.send(grpc).await.unwrap();
    assert_eq!((response.status, response.header("grpc-status")), (200, Some("14")));
    assert!(response.body.is_empty());
    assert_eq!(client.get(&endpoint.url("/")).await.unwrap().header("grpc-status"), None);
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let endpoint = endpoint().await;
    let client = Client::new();
    client.get(&endpoint.url("/")).await.unwrap();
    let text = client.get(&endpoint.url("/metrics")).await.unwrap().text();
    for line in [
        "# TYPE rig_requests_total counter",
        "rig_requests_total{endpoint=\"e1\",status=\"200\"} 1",
        "rig_in_flight{endpoint=\"e1\"} 0",
        "rig_request_duration_seconds_bucket{endpoint=\"e1\",le=\"+Inf\"} 1",
        "rig_request_duration_seconds_count{endpoint=\"e1\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn switches_act_over_http_and_mistakes_are_explained() {
    let endpoint = endpoint().await;
    let state = post(&endpoint, "/rig/fail?status=502&after=1ms&on=all").await.json().unwrap();
    assert!(state["switches"]["work"].as_str().unwrap().contains("502"), "{state}");
    let client = Client::new();
    assert_eq!(client.get(&endpoint.url("/")).await.unwrap().status, 502);
    assert_eq!(client.get(&endpoint.url("/healthz")).await.unwrap().status, 502);
    post(&endpoint, "/rig/recover").await;
    post(&endpoint, "/rig/ready?value=false").await;
    assert_eq!(client.get(&endpoint.url("/healthz")).await.unwrap().status, 503);
    assert_eq!(
        post(&endpoint, "/rig/slow?factor=4").await.json().unwrap()["switches"]["factor"],
        4.0
    );

    for (path, hint) in [
        ("/rig/nothing", "recover"),
        ("/rig/fail?status=99", "200 or above"),
        ("/rig/fail?status", "name=value"),
        ("/rig/fail?fraction=2", "from 0 to 1"),
        ("/rig/slow?factor=-1", "from 0"),
        ("/rig/hang?form=work", "form"),
        ("/rig/reset?when=later", "before or after"),
        ("/rig/kill?for=soon", "250ms"),
    ] {
        let response = post(&endpoint, path).await;
        assert_eq!(response.status, 400, "{path}");
        assert!(response.text().contains(hint), "{path}: {}", response.text());
    }
    assert_eq!(client.get(&endpoint.url("/rig")).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_endpoint_killed_over_http_revives_by_itself() {
    let endpoint = endpoint().await;
    post(&endpoint, "/rig/kill?for=1ms").await;
    let client = Client::new();
    let mut revived = false;
    for _ in 0..10_000 {
        revived = endpoint.counters().connections_accepted > 1;
        if revived {
            break;
        }
        // Refused until it is back.
        let _ = client.get(&endpoint.url("/")).await;
        tokio::task::yield_now().await;
    }
    assert!(revived);
    assert_eq!(client.get(&endpoint.url("/")).await.unwrap().status, 200);
}

/// Yields to the endpoint's tasks until a condition holds.
async fn until(condition: impl Fn() -> bool) {
    let limit = Duration::from_secs(20);
    let holding = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(limit, holding).await.expect("the condition never held");
}
