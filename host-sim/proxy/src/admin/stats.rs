//! `/stats` and `/stats/prometheus`.

use super::Admin;
use super::reply::{Query, json, reply};
use bytes::Bytes;
use host_sim_engine::{HISTOGRAM_BOUNDS, StatValue, prometheus};
use http::{Response, StatusCode};
use http_body_util::Full;
use regex::Regex;
use serde_json::{Value, json as object};
use std::sync::Arc;

type Snapshot = Vec<(Arc<str>, StatValue)>;

pub(super) fn stats(admin: &Admin, query: &Query) -> Response<Full<Bytes>> {
    let format = query.get("format").unwrap_or("text");
    if format == "prometheus" {
        return exposition(admin, query);
    }
    let chosen = match choose(admin, query) {
        Ok(chosen) => chosen,
        Err(problem) => return reply(StatusCode::BAD_REQUEST, problem),
    };
    match format {
        "" | "text" => reply(StatusCode::OK, prometheus::text(&chosen)),
        "json" => json(&object!({ "stats": chosen.iter().map(entry).collect::<Vec<_>>() })),
        other => {
            let problem = format!("format={other}: known are text, json and prometheus\n");
            reply(StatusCode::BAD_REQUEST, problem)
        }
    }
}

pub(super) fn exposition(admin: &Admin, query: &Query) -> Response<Full<Bytes>> {
    match choose(admin, query) {
        Ok(chosen) => reply(StatusCode::OK, prometheus::prometheus(&chosen, &admin.tags)),
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
