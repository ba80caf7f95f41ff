//! health-signal: load reports out of band, from real gRPC services.

use host_sim_rig::grpc::{GrpcServer, Unary};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::unbounded_channel;
use weir_tests::{Suite, eventually, on_both_hosts};

/// The method of the reports.
const PATH: &str = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics";

/// An `OrcaLoadReport`: `cpu_utilization` 0.9, `rps_fractional` 1000.
const BUSY: [u8; 18] =
    [0x09, 0xcd, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xec, 0x3f, 0x31, 0, 0, 0, 0, 0, 0x40, 0x8f, 0x40];

/// The same with `cpu_utilization` 0.1.
const IDLE: [u8; 18] =
    [0x09, 0x9a, 0x99, 0x99, 0x99, 0x99, 0x99, 0xb9, 0x3f, 0x31, 0, 0, 0, 0, 0, 0x40, 0x8f, 0x40];

/// An `OrcaLoadReportRequest` for a report each second.
const REQUEST: [u8; 4] = [0x0a, 2, 0x08, 1];

on_both_hosts! {
    async fn endpoints_report_out_of_band_each_on_a_stream_of_its_own(host: Host) {
        let asked = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&asked);
        let reporting = GrpcServer::unary(move |path, message| {
            let as_agreed = path == PATH && message[..] == REQUEST;
            seen.fetch_add(1, Ordering::SeqCst);
            async move {
                if as_agreed {
                    return Unary::Message(BUSY.to_vec());
                }
                Unary::Status(3, format!("{path} {message:?}"))
            }
        })
        .await?;
        let refused = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&refused);
        let without = GrpcServer::unary(move |_, _| {
            seen.fetch_add(1, Ordering::SeqCst);
            async { Unary::Status(12, "unknown service".into()) }
        })
        .await?;
        let addresses = [reporting.address(), without.address()];
        let named: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let proxy = Suite::new(&addresses)
            .upstream_http2()
            .filter("health-signal", json!({"publish_interval": "0.1s", "clusters": [{
                "name": "backend", "endpoints": named,
                "orca": {"oob_reporting_period": "1s"},
                "limits": {"cpu_utilization": {"degraded_above": 0.85}},
            }]}))
            .upstream_health_signal()
            .start(&host)
            .await?;
        eventually("the reports of the first are known, and the second has refused", async || {
            let first = [("endpoint", named[0].as_str())];
            let degraded = proxy.metric_with("weir_endpoint_health", &first).await? == Some(3.0);
            let busy =
                proxy.metric_with("weir_endpoint_utilization_permille", &first).await? == Some(900.0);
            let without = [("outcome", "unimplemented")];
            let refused = proxy.metric_with("weir_orca_stream_events_total", &without).await?;
            Ok(degraded && busy && refused == Some(1.0))
        })
        .await?;
        // The service ends the stream after each report: it is opened again, and the other is not.
        eventually("the first was asked again", async || {
            Ok(asked.load(Ordering::SeqCst) >= 3)
        })
        .await?;
        assert_eq!(refused.load(Ordering::SeqCst), 1);
    }

    async fn a_stream_lasts_as_long_as_it_is_heard_of_and_is_opened_anew_when_it_is_silent(host: Host) {
        // Who reports says when, on the stream that was opened last.
        let (opened, mut streams) = unbounded_channel();
        let reporting = GrpcServer::streaming(move |_, _| {
            let (reports, said) = unbounded_channel();
            let _ = opened.send(reports);
            said
        })
        .await?;
        let address = reporting.address().to_string();
        let proxy = Suite::new(&[reporting.address()])
            .upstream_http2()
            .filter("health-signal", json!({"publish_interval": "0.1s", "clusters": [{
                "name": "backend", "endpoints": [address],
                "orca": {"oob_reporting_period": "2s"},
                "smoothing": {"utilization": "0s"},
                "limits": {"cpu_utilization": {"degraded_above": 0.85}},
            }]}))
            .upstream_health_signal()
            .start(&host)
            .await?;
        let first = streams.recv().await.expect("a stream is opened");
        let permille = async || {
            let labels = [("endpoint", address.as_str())];
            proxy.metric_with("weir_endpoint_utilization_permille", &labels).await
        };
        let events = async |outcome: &str| {
            let labels = [("outcome", outcome)];
            Ok::<_, anyhow::Error>(
                proxy.metric_with("weir_orca_stream_events_total", &labels).await?.unwrap_or(0.0),
            )
        };
        // Longer than the silence that ends a stream: three periods.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(7) {
            for (report, told) in [(BUSY, 900.0), (IDLE, 100.0)] {
                first.send(report.to_vec())?;
                eventually("the report is known", async || Ok(permille().await? == Some(told)))
                    .await?;
            }
        }
        assert!(streams.try_recv().is_err(), "one stream has carried them all");
        assert_eq!(events("opened").await?, 1.0);
        let second = streams.recv().await.expect("another stream is opened");
        assert!(events("given_up").await? >= 1.0, "the first was ended, not by its server");
        second.send(BUSY.to_vec())?;
        eventually("the second is heard", async || Ok(permille().await? == Some(900.0))).await?;
    }
}
