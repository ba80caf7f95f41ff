//! The measuring on a clock that stands still, then the transport over sockets.

use super::transport::Reply;
use super::*;
use crate::certificates;
use crate::connect::Protocol;
use crate::endpoint::{Endpoint, EndpointOptions, Fault, WORK};
use crate::service_time::ServiceTime;
use tokio::time::sleep_until;

fn keep_going(_: &Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Answers at once, but not at all between two times.
struct Stalled {
    start: Instant,
    from: Duration,
    until: Duration,
}

impl Transport for Stalled {
    async fn exchange(&self, _: Due) -> Result<Reply, ExchangeError> {
        if self.start.elapsed() >= self.from {
            sleep_until(self.start + self.until).await;
        }
        Ok(Reply { status: 200, endpoint: None })
    }
}

/// Runs constant load at 100/s for 2 s against a transport, on tokio's clock.
async fn run_paused<T: Transport>(
    options: &LoadOptions,
    transport: impl FnOnce(Instant) -> T,
) -> LoadResult {
    let start = Instant::now();
    let schedule =
        Schedule::new(options.phases.clone(), options.arrivals, std::iter::once(1.0), options.seed);
    let (sender, due) = mpsc::channel(1);
    tokio::spawn(async move {
        for next in schedule {
            sleep_until(start + next.at).await;
            if sender.send(next).await.is_err() {
                return;
            }
        }
    });
    Run::new(options, Arc::new(transport(start)), start).until_done(due, keep_going).await
}

fn constant_load() -> LoadOptions {
    let mut options = LoadOptions::at_rate("http://unused/", 100.0, Duration::from_secs(2));
    options.arrivals = Arrivals::Constant;
    options
}

#[tokio::test(start_paused = true)]
async fn a_stall_shows_in_the_latency_of_every_request_that_came_due_in_it() {
    let stalled =
        |start| Stalled { start, from: Duration::from_secs(1), until: Duration::from_secs(2) };
    let result = run_paused(&constant_load(), stalled).await;
    // Half the requests came due in the stall, evenly: they wait 0 to 1 s. A closed loop with one
    // connection would have seen a single slow request among a hundred.
    assert_eq!(result.succeeded, 199);
    assert!(result.latency.p50_ms <= 20.0, "{:?}", result.latency);
    assert!((result.latency.p90_ms - 800.0).abs() < 30.0, "{:?}", result.latency);
    assert!((result.latency.max_ms - 1000.0).abs() < 15.0, "{:?}", result.latency);
    assert!((result.timeline[1].p50_ms - 500.0).abs() < 30.0, "{:?}", result.timeline[1]);
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_bound_are_counted_and_not_sent() {
    let options = LoadOptions { max_in_flight: 10, ..constant_load() };
    let hour = Duration::from_secs(3600);
    let stalled = |start| Stalled { start, from: Duration::ZERO, until: hour };
    let result = run_paused(&options, stalled).await;
    assert_eq!((result.requests, result.unsent, result.max_in_flight), (10, 189, 10));
}

#[tokio::test(start_paused = true)]
async fn a_request_times_out_counting_from_when_it_was_due() {
    let options = LoadOptions { timeout: ms(500), ..constant_load() };
    let stalled = |start| Stalled { start, from: Duration::ZERO, until: Duration::from_secs(60) };
    let result = run_paused(&options, stalled).await;
    assert_eq!(result.errors[&ErrorKind::Timeout], 199);
    assert_eq!((result.succeeded, result.failed), (0, 199));
    assert!(result.elapsed_seconds < 2.6, "{}", result.elapsed_seconds);
}

#[tokio::test(start_paused = true)]
async fn progress_comes_every_quarter_second_and_can_end_the_load() {
    let options = constant_load();
    let start = Instant::now();
    let (sender, due) = mpsc::channel(1);
    let mut calls = 0;
    let transport = Stalled { start, from: Duration::ZERO, until: Duration::ZERO };
    let run = Run::new(&options, Arc::new(transport), start);
    let result = run
        .until_done(due, |_| {
            calls += 1;
            if calls == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await;
    drop(sender);
    assert!((result.elapsed_seconds - 1.0).abs() < 0.01, "{}", result.elapsed_seconds);
}

#[tokio::test]
async fn a_wrong_option_is_an_error_that_says_what_to_give() {
    let error = |options: LoadOptions| async move {
        format!("{:#}", run(&options, keep_going).await.unwrap_err())
    };
    let good = LoadOptions::at_rate("http://127.0.0.1:1/", 1.0, ms(1));
    let https = LoadOptions { target: "https://127.0.0.1:1/".into(), ..good.clone() };
    assert!(error(https).await.contains("certificate"));
    assert!(error(LoadOptions { phases: Vec::new(), ..good.clone() }).await.contains("phases"));
    let nan = vec![Phase { rate: f64::NAN, duration: ms(1) }];
    assert!(error(LoadOptions { phases: nan, ..good.clone() }).await.contains("1000000"));
    let weightless = vec![ClientProfile::with_header(0.0, "x-client", "a")];
    assert!(error(LoadOptions { clients: weightless, ..good }).await.contains("weights"));
}

#[tokio::test]
async fn both_protocols_over_tls_reuse_their_connections() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = certificates::ensure(directory.path()).unwrap();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let mut options = EndpointOptions::named("e1");
        options.tls = Some(certificates.server_config().unwrap());
        let endpoint = Endpoint::start(options).await.unwrap();
        let mut options = LoadOptions::at_rate(endpoint.url("/"), 1000.0, ms(200));
        options.tls = Some(certificates.client_config().unwrap());
        options.protocol = protocol;
        options.connections = 2;
        let result = run(&options, keep_going).await.unwrap();
        assert!(result.requests > 100, "{protocol:?}: {result:?}");
        assert_eq!(result.succeeded, result.requests, "{protocol:?}: {result:?}");
        assert_eq!(result.share["e1"], 1.0);
        let accepted = endpoint.counters().connections_accepted;
        assert!(accepted <= 2, "{protocol:?}: {accepted} connections");
    }
}

#[tokio::test]
async fn clients_send_their_headers_by_weight() {
    let mut options = EndpointOptions::named("e1");
    options.keep_requests = 1000;
    let endpoint = Endpoint::start(options).await.unwrap();
    let mut options = LoadOptions::at_rate(endpoint.url("/"), 2000.0, ms(200));
    options.clients = ClientProfile::population("x-client-id", 3, 8.0);
    let result = run(&options, keep_going).await.unwrap();
    let received = endpoint.requests();
    let from = |id| received.iter().filter(|r| r.header("x-client-id") == Some(id)).count() as u64;
    assert_eq!(from("client-1"), result.by_client[0].0);
    assert_eq!(from("client-3"), result.by_client[2].0);
    assert!(from("client-1") > 4 * from("client-2"), "{:?}", result.by_client);
}

#[tokio::test]
async fn each_request_asks_for_its_header_anew() {
    let mut options = EndpointOptions::named("e1");
    options.keep_requests = 1000;
    let endpoint = Endpoint::start(options).await.unwrap();
    let mut options = LoadOptions::at_rate(endpoint.url("/"), 500.0, ms(100));
    options.steer = Some(Steer(Arc::new(|number, headers| {
        headers.insert("x-number", http::HeaderValue::from(number));
    })));
    let result = run(&options, keep_going).await.unwrap();
    let received = endpoint.requests();
    let numbers: std::collections::BTreeSet<_> =
        received.iter().filter_map(|request| request.header("x-number")).collect();
    assert_eq!(numbers.len() as u64, result.requests);
    assert!(numbers.contains("0"), "{numbers:?}");
}

#[tokio::test]
async fn a_request_may_bring_its_work() {
    let mut options = EndpointOptions::named("e1");
    options.service_time = ServiceTime::Fixed(Duration::from_secs(60));
    let endpoint = Endpoint::start(options).await.unwrap();
    let mut options = LoadOptions::at_rate(endpoint.url("/"), 500.0, ms(100));
    options.steer = Some(Steer(Arc::new(|_, headers| {
        headers.insert(WORK, http::HeaderValue::from_static("0.002"));
    })));
    let result = run(&options, keep_going).await.unwrap();
    assert_eq!(result.succeeded, result.requests);
    assert!(result.latency.p50_ms >= 2.0, "{:?}", result.latency);
}

#[tokio::test]
async fn the_pool_bounds_the_connections_and_survives_resets() {
    let mut options = EndpointOptions::named("e1");
    options.slots = 1;
    options.service_time = ServiceTime::Fixed(ms(5));
    let endpoint = Endpoint::start(options).await.unwrap();
    let mut options = LoadOptions::at_rate(endpoint.url("/"), 400.0, ms(100));
    options.connections = 4;
    let result = run(&options, keep_going).await.unwrap();
    assert_eq!(result.succeeded, result.requests);
    assert!(endpoint.counters().max_in_flight <= 4, "{:?}", endpoint.counters());

    endpoint.set_fault(Fault::ResetBeforeHeaders);
    let result = run(&options, keep_going).await.unwrap();
    assert_eq!(result.errors.get(&ErrorKind::Reset), Some(&result.requests), "{result:?}");
    endpoint.kill().await.unwrap();
    let result = run(&options, keep_going).await.unwrap();
    assert_eq!(result.errors.get(&ErrorKind::Connect), Some(&result.requests), "{result:?}");
}
