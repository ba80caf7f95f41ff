//! A poll: what all kinds have in common, and what each has of its own.

use super::{DAY, SECOND, signal, statuses};
use crate::config::{Active, Extract, PollKind, Query, ReportedState};
use crate::prometheus::{Reading, Sample};
use crate::{Signal, query};
use core::time::Duration;
use plugin_config::{Choice, Fields, Or, Required, Value};

pub(super) const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// Most samples of one page.
const MAX_SAMPLES: usize = 32;

/// Longest query, in bytes: it goes into a path.
const MAX_QUERY_BYTES: usize = 2048;

impl Choice for PollKind {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("http_json", Self::HttpJson),
        ("http", Self::Http),
        ("prometheus", Self::Prometheus),
        ("prometheus_query", Self::PrometheusQuery),
        ("agent", Self::Agent),
    ];
}

impl Choice for Reading {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("gauge", Self::Gauge), ("counter", Self::Counter)];
}

pub(super) fn active(mut fields: Fields<'_>) -> Active {
    let kind = fields.choice("kind", PollKind::HttpJson);
    let intervals = Duration::from_millis(250)..=DAY;
    let interval = fields.duration("interval", intervals.clone(), Or(DEFAULT_INTERVAL));
    let no_traffic_interval = fields.duration("no_traffic_interval", intervals, Or(interval));
    let timeouts = Duration::from_millis(10)..=Duration::from_secs(300);
    let timeout = fields.duration("timeout", timeouts.clone(), Or(SECOND));
    let quick = Duration::from_millis(500).min(timeout);
    let min_timeout = fields.duration("min_timeout", timeouts, Or(quick));
    if fields.is_clean() {
        let message = "not below interval: polls would overlap; shorten it, or raise interval";
        fields.require("timeout", timeout < interval, message);
        let message = "above timeout, which is the most: shorten it, or raise timeout";
        fields.require("min_timeout", min_timeout <= timeout, message);
        let message = "shorter than interval: polls would become more; make it longer";
        fields.require("no_traffic_interval", no_traffic_interval >= interval, message);
    }
    let mut active = Active {
        kind,
        path: String::new(),
        host: host(&mut fields),
        interval,
        no_traffic_interval,
        timeout,
        min_timeout,
        skip_if_fresh: kind != PollKind::PrometheusQuery && fields.flag("skip_if_fresh", false),
        jitter_percent: fields.integer("jitter_percent", 0..=50, Or(20)),
        rise: 1,
        fall: 1,
        expect_statuses: Default::default(),
        expect_json: Vec::new(),
        status_map: Vec::new(),
        extract: Extract::default(),
        frozen_after: DAY,
        samples: Vec::new(),
        query: None,
    };
    if kind == PollKind::PrometheusQuery {
        query(&mut fields, &mut active);
        return active;
    }
    active.expect_statuses = statuses(&mut fields, "expect_statuses", "200-299");
    active.path = path(
        &mut fields,
        match kind {
            PollKind::Prometheus => "/metrics",
            PollKind::Agent => "/agent",
            _ => "/healthz",
        },
    );
    match kind {
        PollKind::Prometheus => active.samples = samples(&mut fields),
        PollKind::HttpJson | PollKind::Http => document(&mut fields, &mut active),
        PollKind::Agent | PollKind::PrometheusQuery => {}
    }
    active
}

/// What a health page has.
fn document(fields: &mut Fields<'_>, active: &mut Active) {
    let thirty = Duration::from_secs(30);
    let frozen_after = fields.duration("frozen_after", SECOND..=DAY, Or(thirty));
    if fields.is_clean() {
        let message = "shorter than interval: no two polls would lie that close; make it longer";
        fields.require("frozen_after", frozen_after >= active.interval, message);
    }
    active.frozen_after = frozen_after;
    active.rise = fields.integer("rise", 1..=10, Or(2));
    active.fall = fields.integer("fall", 1..=10, Or(3));
    active.status_map = status_map(fields);
    active.extract = extract(fields.object("extract"));
    active.expect_json = expect_json(fields.object("expect_json"));
}

fn path(fields: &mut Fields<'_>, absent: &str) -> String {
    let path = fields.text("path", Or(absent));
    let is_path = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
    fields.require("path", is_path, "write a path such as \"/healthz\"");
    path
}

fn host(fields: &mut Fields<'_>) -> Option<String> {
    let host = fields.has("host").then(|| fields.text("host", Or("")));
    let plain = |host: &String| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic());
    let is_host = host.as_ref().is_none_or(plain);
    fields.require("host", is_host, "write a host such as \"api.internal\"");
    host
}

fn status_map(fields: &mut Fields<'_>) -> Vec<(String, ReportedState)> {
    use ReportedState::{Degraded, Down, Healthy};
    if !fields.has("status_map") {
        return [("degraded", Degraded), ("healthy", Healthy), ("unhealthy", Down)]
            .map(|(word, state)| (word.to_owned(), state))
            .into();
    }
    let mut fields = fields.object("status_map");
    let mut map = Vec::new();
    for word in fields.names() {
        let is_said = fields.has(word);
        fields.require(word, is_said, "say what it means: healthy, degraded, unready or down");
        map.push((word.to_ascii_lowercase(), fields.choice(word, Healthy)));
    }
    map
}

fn extract(mut fields: Fields<'_>) -> Extract {
    let mut extract = Extract {
        status: pointer(&mut fields, "status", "/status"),
        ready: pointer(&mut fields, "ready", "/ready"),
        timestamp: pointer(&mut fields, "timestamp", "/timestamp"),
        signals: vec![
            (Signal::QueueDepth, pointer(&mut fields, "queue_depth", "/queue_depth")),
            (Signal::Connections, pointer(&mut fields, "connections", "/connections")),
        ],
    };
    let asked = ["status", "ready", "timestamp", "queue_depth", "connections"];
    for name in fields.names().into_iter().filter(|name| !asked.contains(name)) {
        if let Some(signal) = signal(&mut fields, name, name) {
            extract.signals.push((signal, pointer(&mut fields, name, "")));
        } else {
            // It has been told.
            fields.has(name);
        }
    }
    extract
}

fn pointer<'a>(fields: &mut Fields<'a>, name: &'a str, absent: &str) -> String {
    let pointer = fields.text(name, Or(absent));
    let message = "no JSON pointer (RFC 6901): write one such as \"/queue/depth\"";
    fields.require(name, pointer.starts_with('/'), message);
    pointer
}

fn expect_json(mut fields: Fields<'_>) -> Vec<(String, Value)> {
    let mut expected = Vec::new();
    for name in fields.names() {
        let message = "no JSON pointer (RFC 6901): write one such as \"/queue/depth\"";
        fields.require(name, name.starts_with('/'), message);
        match fields.value(name) {
            Some(Value::Object(_) | Value::Array(_)) | None => {
                fields.problem_at(name, "say what must be there: a text, a number, true or false");
            }
            Some(value) => expected.push((name.to_owned(), value.clone())),
        }
    }
    expected
}

fn samples(fields: &mut Fields<'_>) -> Vec<Sample> {
    let count = fields.count("samples");
    fields.require("samples", count != Some(0), "nothing is read: name the samples wanted");
    fields.require("samples", count <= Some(MAX_SAMPLES), "more than 32 samples");
    fields.each("samples", |_, mut fields| {
        let name = fields.text("name", Required);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
        let is_name = !fields.has("name") || (!name.is_empty() && name.bytes().all(plain));
        let message = "no name of a metric: letters, digits, '_' and ':'";
        fields.require("name", is_name, message);
        let reading = fields.choice("type", Reading::Auto);
        let is_quantile = fields.has("quantile");
        let quantile = fields.number("quantile", 0.0..=1.0, Or(0.5));
        if is_quantile {
            let message = "a quantile is of a histogram: leave type out";
            fields.require("type", reading == Reading::Auto, message);
        }
        Sample {
            name,
            labels: labels(fields.object("labels")),
            labels_not: labels(fields.object("labels_not")),
            reading: if is_quantile { Reading::Quantile(quantile) } else { reading },
            scale: fields.number("scale", 1e-9..=1e9, Or(1.0)),
            signal: signal_of(&mut fields),
        }
    })
}

fn labels(mut fields: Fields<'_>) -> Vec<(String, String)> {
    let names = fields.names();
    names.into_iter().map(|name| (String::from(name), fields.text(name, Or("")))).collect()
}

/// The signal that is read.
fn signal_of(fields: &mut Fields<'_>) -> Signal {
    let word = fields.text("as", Required);
    let found = if fields.has("as") { signal(fields, "as", &word) } else { None };
    found.unwrap_or(Signal::Rif)
}

fn query(fields: &mut Fields<'_>, active: &mut Active) {
    let text = fields.text("query", Required);
    let fits = !fields.has("query") || (!text.trim().is_empty() && text.len() <= MAX_QUERY_BYTES);
    let message = "write a query of at most 2048 bytes, such as \"sum by (instance) (queue)\"";
    fields.require("query", fits, message);
    let base = path(fields, "/api/v1/query");
    active.path = format!("{base}?query={}", query::encoded(&text));
    let cluster = fields.text("cluster", Required);
    let is_named = !cluster.is_empty() || !fields.has("cluster");
    fields.require("cluster", is_named, "name the cluster of the Prometheus server");
    active.query = Some(Query {
        cluster,
        label: fields.text("label", Or("instance")),
        signal: signal_of(fields),
        scale: fields.number("scale", 1e-9..=1e9, Or(1.0)),
    });
}
