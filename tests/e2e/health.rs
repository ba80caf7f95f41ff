//! health-signal: asks once for all workers, reads what endpoints report, and hides it from clients.

use anyhow::Result;
use host_sim_rig::client::{Client, Request};
use host_sim_rig::endpoint::{Endpoint, EndpointOptions, Fault, ReportFormat};
use host_sim_rig::fleet::Fleet;
use serde_json::{Value, json};
use std::time::Duration;
use weir_tests::{Host, Running, Suite, eventually, on_both_hosts};

fn polling(addresses: &[std::net::SocketAddr]) -> Value {
    let endpoints: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    json!({"publish_interval": "0.1s", "clusters": [{
        "name": "backend",
        "endpoints": endpoints,
        "active": {"kind": "http_json", "path": "/healthz", "interval": "1s", "timeout": "0.9s",
                   "min_timeout": "0.9s", "rise": 1, "fall": 2},
    }]})
}

/// A proxy whose health-signal polls the endpoints, and sees the attempts as well.
async fn polled(host: &Host, fleet: &Fleet) -> Result<Running> {
    Suite::new(&fleet.addresses())
        .filter("health-signal", polling(&fleet.addresses()))
        .upstream_health_signal()
        .start(host)
        .await
}

on_both_hosts! {
    async fn one_leader_polls_for_all_workers(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 2).await?;
        let proxy = polled(&host, &fleet).await?;
        let gaps = |endpoint: &Endpoint| -> Vec<Duration> {
            endpoint.health_polls().windows(2).map(|pair| pair[1].at - pair[0].at).collect()
        };
        // Polls come with ticks, so by chance a few of them in a row come as if there were no jitter.
        let varies = |gaps: &[Duration]| gaps.iter().any(|gap| gap.abs_diff(gaps[0]).as_millis() >= 10);
        eventually("each endpoint was polled five times, and not as a clock strikes", async || {
            proxy.get("/").await?;
            let gaps: Vec<_> = fleet.endpoints().iter().map(gaps).collect();
            Ok(gaps.iter().all(|gaps| gaps.len() >= 4 && varies(gaps)))
        })
        .await?;
        for endpoint in fleet.endpoints() {
            let gaps = gaps(endpoint);
            // Two workers and the main thread tick. Were each of them to poll, gaps would be a
            // third of a second.
            let mean = gaps.iter().sum::<Duration>() / gaps.len() as u32;
            assert!(mean.as_millis() >= 500, "{}: polled every {mean:?}", endpoint.name());
        }
    }

    async fn a_poll_reaches_the_endpoint_it_is_meant_for(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 3).await?;
        let proxy = polled(&host, &fleet).await?;
        let sick = &fleet.endpoints()[1];
        sick.set_health_fault(Fault::respond(503));
        let address = sick.address().to_string();
        eventually("it is known to be down, and the others to be healthy", async || {
            proxy.get("/healthy-traffic").await?;
            let state = async |endpoint: &str| {
                proxy.metric_with("weir_endpoint_health", &[("endpoint", endpoint)]).await
            };
            let down = state(&address).await? == Some(1.0);
            let well = state(&fleet.addresses()[0].to_string()).await? == Some(4.0)
                && state(&fleet.addresses()[2].to_string()).await? == Some(4.0);
            Ok(down && well)
        })
        .await?;
    }

    async fn polls_are_no_traffic_and_a_client_cannot_pass_for_one(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 2).await?;
        // The upstream instance is told of no polls.
        let proxy = polled(&host, &fleet).await?;
        let sick = &fleet.endpoints()[0];
        sick.set_health_fault(Fault::respond(503));
        let addresses: Vec<_> = fleet.addresses().iter().map(ToString::to_string).collect();
        let gauge = async |name: &str, endpoint: usize| {
            proxy.metric_with(name, &[("endpoint", addresses[endpoint].as_str())]).await
        };
        let failures = async || {
            let upstream = [("plugin", "health_signal_upstream")];
            proxy.metric_with("weir_attempt_failures_total", &upstream).await
        };
        eventually("the polls are judged, and the time of requests is taken", async || {
            proxy.get("/").await?;
            let judged = gauge("weir_endpoint_health", 0).await? == Some(1.0);
            Ok(judged && gauge("weir_endpoint_latency_us", 1).await?.is_some_and(|us| us > 0.0))
        })
        .await?;
        assert_eq!(failures().await?.unwrap_or(0.0), 0.0, "polls are not counted as traffic");
        eventually("a request for the same page is traffic, whatever it says", async || {
            let forged = Request::get(proxy.url("/healthz")).header("x-weir-poll", "http_json");
            Client::new().send(forged).await?;
            Ok(failures().await?.is_some_and(|count| count >= 1.0))
        })
        .await?;
    }

    async fn a_client_that_leaves_shows_that_it_waited(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 1).await?;
        let proxy = polled(&host, &fleet).await?;
        let address = fleet.addresses()[0].to_string();
        let gauge = async |name: &str| proxy.metric_with(name, &[("endpoint", &address)]).await;
        eventually("its time is known", async || {
            proxy.get("/").await?;
            Ok(gauge("weir_endpoint_latency_us").await?.is_some_and(|us| us > 0.0))
        })
        .await?;
        fleet.endpoints()[0].set_fault(Fault::Hang);
        eventually("it is known to be slow", async || {
            let hurried = Client::new().timeout(Duration::from_millis(300));
            assert!(hurried.get(&proxy.url("/")).await.is_err());
            Ok(gauge("weir_endpoint_latency_us").await?.is_some_and(|us| us > 100_000.0))
        })
        .await?;
        eventually("nothing is held against it, and nothing left in flight", async || {
            let failures = proxy.metric("weir_attempt_failures_total").await?.unwrap_or(0.0);
            assert_eq!(failures, 0.0);
            Ok(gauge("weir_endpoint_in_flight").await? == Some(0.0))
        })
        .await?;
    }

    async fn load_reports_are_read_and_hidden_from_the_client(host: Host) {
        for format in [ReportFormat::Text, ReportFormat::Json, ReportFormat::Bin, ReportFormat::BinHeader] {
            let options = EndpointOptions { report_format: format, ..EndpointOptions::named("e") };
            let fleet = Fleet::start(&options, 1).await?;
            let proxy = polled(&host, &fleet).await?;
            eventually("a report is accepted", async || {
                let response = proxy.get("/").await?;
                for header in ["endpoint-load-metrics", "endpoint-load-metrics-bin", "x-weir-served"] {
                    assert_eq!(response.header(header), None, "{header} reached the client");
                }
                let accepted = [("outcome", "accepted")];
                Ok(proxy.metric_with("weir_orca_reports_total", &accepted).await?.is_some())
            })
            .await?;
        }
    }

    async fn an_endpoint_that_drains_gets_no_new_requests(host: Host) {
        let fleet = Fleet::start(&EndpointOptions::named("e"), 3).await?;
        let addresses: Vec<_> = fleet.addresses().iter().map(ToString::to_string).collect();
        let proxy = Suite::new(&fleet.addresses())
            .filter("metric-router", json!({"clusters": [{
                "name": "backend", "policy": "least_cost", "endpoints": addresses,
            }]}))
            .filter("health-signal", polling(&fleet.addresses()))
            .upstream_health_signal()
            .start(&host)
            .await?;
        let draining = &fleet.endpoints()[0];
        draining.set_ready(false);
        let address = draining.address().to_string();
        eventually("it is known to be unready", async || {
            proxy.get("/").await?;
            let labels = [("endpoint", address.as_str())];
            Ok(proxy.metric_with("weir_endpoint_health", &labels).await? == Some(2.0))
        })
        .await?;
        // The routers read the record at their next tick, and see it when no more requests arrive.
        eventually("a run of requests passes it by", async || {
            let before = draining.counters().served;
            for _ in 0..30 {
                assert_eq!(proxy.get("/").await?.status, 200);
            }
            Ok(draining.counters().served == before)
        })
        .await?;
    }
}
