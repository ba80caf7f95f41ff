//! What an endpoint tells about itself to who asks: `/healthz` and `/metrics`.

use std::fmt::Write;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{Response, StatusCode};

use super::Shared;
use super::answer::act_out;
use super::body::AnswerBody;
use super::connection::Abort;
use super::ledger::HealthPoll;
use super::switches::{Fault, Switches};
use crate::rfc3339;
use crate::sync::lock;

/// The composite health check: 200, or 503 when degraded or not ready. It does not queue behind
/// work, as a health check on its own thread would not.
pub(super) async fn healthz(
    shared: &Shared,
    head: &Parts,
    abort: &Arc<Abort>,
) -> Response<AnswerBody> {
    let switches = lock(&shared.switches).clone();
    let fault = shared.struck_by(&switches.health);
    let well = switches.ready && !switches.degraded;
    let by_state = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // Counted before a fault acts: a poll that hangs is a poll.
    lock(&shared.ledger).health_poll(HealthPoll {
        at: shared.started.elapsed(),
        user_agent: head
            .headers
            .get(USER_AGENT)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        status: match fault {
            Fault::Respond { status, .. } => status,
            _ => by_state.as_u16(),
        },
    });
    let status = act_out(&fault, shared, abort).await.unwrap_or(by_state);
    let body = health_json(shared, &switches);
    let mut response = match fault {
        Fault::ResetAfterHeaders => Response::new(AnswerBody::broken(body, Arc::clone(abort))),
        _ => Response::new(AnswerBody::whole(body)),
    };
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn health_json(shared: &Shared, switches: &Switches) -> String {
    let timestamp =
        switches.frozen_timestamp.clone().unwrap_or_else(|| rfc3339::format(SystemTime::now()));
    serde_json::json!({
        "status": if switches.degraded { "degraded" } else { "healthy" },
        "timestamp": timestamp,
        "connections": lock(&shared.ledger).counters.connections,
        "queue_depth": shared.slots.load().waiting,
        "ready": switches.ready,
    })
    .to_string()
}

/// Prometheus text format 0.0.4.
pub(super) fn metrics(shared: &Shared) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(exposition(shared)));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}

fn exposition(shared: &Shared) -> String {
    let load = shared.slots.load();
    let ledger = lock(&shared.ledger);
    let label = format!("endpoint={}", shared.quoted_name);
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, samples: &[(String, f64)]| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for (suffix_and_labels, value) in samples {
            let _ = writeln!(text, "{name}{suffix_and_labels} {value}");
        }
    };
    let by_status: Vec<_> = ledger
        .by_status
        .iter()
        .map(|(status, count)| (format!("{{{label},status=\"{status}\"}}"), *count as f64))
        .collect();
    family("rig_requests_total", "counter", &by_status);
    let counters = &ledger.counters;
    for (name, kind, value) in [
        ("rig_failed_total", "counter", counters.failed as f64),
        ("rig_abandoned_total", "counter", counters.abandoned as f64),
        ("rig_health_polls_total", "counter", counters.health_polls as f64),
        ("rig_in_flight", "gauge", counters.in_flight as f64),
        ("rig_queue_depth", "gauge", load.waiting as f64),
        ("rig_slots", "gauge", shared.slots.count() as f64),
        ("rig_slots_busy", "gauge", load.busy as f64),
        ("rig_utilization", "gauge", load.utilization),
        ("rig_connections", "gauge", counters.connections as f64),
    ] {
        family(name, kind, &[(format!("{{{label}}}"), value)]);
    }
    let durations = &ledger.durations;
    let mut buckets: Vec<_> = durations
        .buckets()
        .map(|(bound, count)| (format!("_bucket{{{label},le=\"{bound}\"}}"), count as f64))
        .collect();
    buckets.push((format!("_bucket{{{label},le=\"+Inf\"}}"), durations.count as f64));
    buckets.push((format!("_sum{{{label}}}"), durations.sum_seconds));
    buckets.push((format!("_count{{{label}}}"), durations.count as f64));
    family("rig_request_duration_seconds", "histogram", &buckets);
    text
}
