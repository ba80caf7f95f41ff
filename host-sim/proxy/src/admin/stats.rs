//! `/stats` and `/stats/prometheus`.

use super::reply::{Query, json, reply};
use super::{Admin, exposition};
use bytes::Bytes;
use host_sim_engine::{HISTOGRAM_BOUNDS, StatValue};
use http::{Response, StatusCode};
use http_body_util::Full;
use regex::Regex;
use serde_json::{Value, json as object};
use std::fmt::Write;
use std::sync::Arc;

pub(super) type Snapshot = Vec<(Arc<str>, StatValue)>;

pub(super) fn stats(admin: &Admin, query: &Query) -> Response<Full<Bytes>> {
    let format = query.get("format").unwrap_or("text");
    if format == "prometheus" {
        return prometheus(admin, query);
    }
    let chosen = match choose(admin, query) {
        Ok(chosen) => chosen,
        Err(problem) => return reply(StatusCode::BAD_REQUEST, problem),
    };
    match format {
        "" | "text" => reply(StatusCode::OK, text(&chosen)),
        "json" => json(&object!({ "stats": chosen.iter().map(entry).collect::<Vec<_>>() })),
        other => {
            let problem = format!("format={other}: known are text, json and prometheus\n");
            reply(StatusCode::BAD_REQUEST, problem)
        }
    }
}

pub(super) fn prometheus(admin: &Admin, query: &Query) -> Response<Full<Bytes>> {
    match choose(admin, query) {
        Ok(chosen) => reply(StatusCode::OK, exposition::render(&chosen)),
        Err(problem) => reply(StatusCode::BAD_REQUEST, problem),
    }
}

/// Stats that the query asks for.
fn choose(admin: &Admin, query: &Query) -> Result<Snapshot, String> {
    refresh(admin);
    let filter = match query.get("filter") {
        Some(filter) => {
            Some(Regex::new(filter).map_err(|error| format!("Invalid regex: {error}\n"))?)
        }
        None => None,
    };
    let used_only = query.get("usedonly").is_some();
    let mut all = admin.engine.stats().snapshot();
    all.retain(|(name, value)| {
        filter.as_ref().is_none_or(|filter| filter.is_match(name))
            && !(used_only && is_unused(value))
    });
    Ok(all)
}

/// Stats that nobody but a reader needs are brought up to date when somebody reads.
fn refresh(admin: &Admin) {
    let stats = admin.engine.stats();
    stats.gauge("server.uptime").set(admin.started.elapsed().as_secs());
    stats.gauge("server.live").set(u64::from(admin.state() == "LIVE"));
    stats.gauge("server.concurrency").set(u64::from(admin.engine.options().concurrency));
}

/// A stat that nothing has touched since the start.
fn is_unused(value: &StatValue) -> bool {
    match value {
        StatValue::Counter(count) | StatValue::Gauge(count) => *count == 0,
        StatValue::Histogram { count, .. } => *count == 0,
    }
}

/// Counters and gauges by name, then histograms, as Envoy orders them.
fn text(stats: &Snapshot) -> String {
    let mut text = String::new();
    for (name, value) in stats {
        if let StatValue::Counter(value) | StatValue::Gauge(value) = value {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}: {value}");
        }
    }
    for (name, value) in stats {
        if let StatValue::Histogram { count, sum, buckets } = value {
            let _ = write!(text, "{name}: count={count} sum={sum}");
            for (bound, below) in HISTOGRAM_BOUNDS.iter().zip(buckets) {
                let _ = write!(text, " le{bound}={below}");
            }
            text.push('\n');
        }
    }
    text
}

fn entry((name, value): &(Arc<str>, StatValue)) -> Value {
    match value {
        StatValue::Counter(value) | StatValue::Gauge(value) => {
            object!({ "name": &**name, "value": value })
        }
        StatValue::Histogram { count, sum, buckets } => {
            let buckets = HISTOGRAM_BOUNDS.iter().zip(buckets);
            let buckets: Vec<_> = buckets
                .map(|(bound, below)| object!({ "upper_bound": bound, "cumulative": below }))
                .collect();
            object!({ "name": &**name, "count": count, "sum": sum, "buckets": buckets })
        }
    }
}
