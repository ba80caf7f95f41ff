//! The document: every field with its range and its default, and the rules between fields.

use super::{
    ANY_CLUSTER, Active, Cluster, Config, Extract, Mode, Orca, Passive, PollKind, Position,
    ReportedState, Staleness,
};
use crate::StatusRanges;
use core::time::Duration;
use plugin_config::{Choice, Fields, Or, Span};
use shared_state::{Endpoint, MAX_MEMBERS};

/// Most clusters of one document: each costs the leader a round of reads every tick.
const MAX_CLUSTERS: usize = 64;

/// Longest time that means anything here. Longer ones are slips.
const DAY: Duration = Duration::from_secs(86_400);

const SECOND: Duration = Duration::from_secs(1);

impl Choice for Mode {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("enforce", Self::Enforce), ("shadow", Self::Shadow), ("off", Self::Off)];
}

impl Choice for Position {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("downstream", Self::Downstream), ("upstream", Self::Upstream)];
}

impl Choice for PollKind {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("http_json", Self::HttpJson), ("http", Self::Http)];
}

impl Choice for ReportedState {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("healthy", Self::Healthy),
        ("degraded", Self::Degraded),
        ("unready", Self::Unready),
        ("down", Self::Down),
    ];
}

pub(super) fn config(mut fields: Fields<'_>) -> Config {
    let intervals = Duration::from_millis(100)..=Duration::from_secs(5);
    let publish_interval =
        fields.duration("publish_interval", intervals, Or(Duration::from_millis(250)));
    Config {
        name: fields.name("name", Or("health_signal")),
        mode: fields.choice("mode", Mode::Enforce),
        position: fields.choice("position", Position::Downstream),
        clusters: clusters(&mut fields),
        lease: leader(fields.object("leader"), publish_interval),
        publish_interval,
    }
}

/// The lease.
fn leader(mut fields: Fields<'_>, publish_interval: Duration) -> Duration {
    let leases = SECOND..=Duration::from_secs(60);
    let lease = fields.duration("lease", leases, Or(Duration::from_secs(3)));
    // A leader renews at a third of its lease, on a tick: two ticks may be late.
    if fields.is_clean() && lease < publish_interval.saturating_mul(3) {
        fields.problem_at("lease", "shorter than three times publish_interval: make it longer");
    }
    lease
}

fn clusters(fields: &mut Fields<'_>) -> Vec<Cluster> {
    if !fields.has("clusters") {
        return vec![cluster(fields.object("clusters"), ANY_CLUSTER)];
    }
    let some = fields.count("clusters") != Some(0);
    let message = "nothing is watched: name a cluster, or leave the field out to watch all";
    fields.require("clusters", some, message);
    let few = fields.count("clusters") <= Some(MAX_CLUSTERS);
    fields.require("clusters", few, "more than 64 entries: use \"*\"");
    fields.unique("clusters", "name");
    fields.each("clusters", |_, fields| cluster(fields, ""))
}

fn cluster(mut fields: Fields<'_>, default_name: &str) -> Cluster {
    let active = fields.has("active").then(|| active(fields.object("active")));
    let interval = fields.is_clean().then_some(active.as_ref());
    let staleness = staleness(
        fields.object("staleness"),
        interval.map(|active| active.map_or(DEFAULT_INTERVAL, |active| active.interval)),
    );
    let name = fields.text("name", Or(default_name));
    fields.require("name", !name.is_empty(), "missing: name a cluster, or \"*\" for all");
    let plain = name == ANY_CLUSTER || !name.contains('*');
    fields.require("name", plain, "no patterns: a full name, or \"*\" alone");
    Cluster {
        endpoints: endpoints(&mut fields, name == ANY_CLUSTER),
        name,
        passive: passive(fields.object("passive")),
        orca: orca(fields.object("orca")),
        active,
        staleness,
        steering_header: fields
            .header_name("steering_header", Or("x-gateway-destination-endpoint")),
    }
}

fn endpoints(fields: &mut Fields<'_>, of_any: bool) -> Vec<Endpoint> {
    let count = fields.count("endpoints");
    let named = !of_any || count == Some(0);
    fields.require("endpoints", named, "not for \"*\": name the cluster they are in");
    let few = count <= Some(usize::from(MAX_MEMBERS));
    fields.require("endpoints", few, "more than 1024 endpoints");
    let mut list: Vec<Endpoint> = Vec::new();
    fields.texts("endpoints", &[], &mut |text| match text.parse() {
        Ok(endpoint) if list.contains(&endpoint) => {
            Err(format!("'{text}' stands twice: remove one"))
        }
        Ok(endpoint) => {
            list.push(endpoint);
            Ok(())
        }
        Err(_) => Err(format!(
            "'{text}' is no ip:port: write an address such as 10.0.0.1:8080 or [::1]:8080, not a \
             name"
        )),
    });
    list
}

fn passive(mut fields: Fields<'_>) -> Passive {
    Passive {
        enabled: fields.flag("enabled", true),
        fall: fields.integer("fall", 1..=100, Or(3)),
        rise: fields.integer("rise", 1..=100, Or(1)),
        failure_statuses: statuses(&mut fields, "failure_statuses", "500-599"),
    }
}

fn orca(mut fields: Fields<'_>) -> Orca {
    Orca {
        enabled: fields.flag("enabled", true),
        strict: fields.flag("strict", false),
        strip_response_header: fields.flag("strip_response_header", true),
    }
}

const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

fn active(mut fields: Fields<'_>) -> Active {
    let interval =
        fields.duration("interval", Duration::from_millis(250)..=DAY, Or(DEFAULT_INTERVAL));
    let timeouts = Duration::from_millis(10)..=Duration::from_secs(300);
    let timeout = fields.duration("timeout", timeouts, Or(SECOND));
    let frozen_after = fields.duration("frozen_after", SECOND..=DAY, Or(Duration::from_secs(30)));
    if fields.is_clean() {
        let message = "not below interval: polls would overlap; shorten it, or raise interval";
        fields.require("timeout", timeout < interval, message);
        let message = "shorter than interval: no two polls would lie that close; make it longer";
        fields.require("frozen_after", frozen_after >= interval, message);
    }
    let path = fields.text("path", Or("/healthz"));
    let is_path = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
    fields.require("path", is_path, "write a path such as \"/healthz\"");
    let host = fields.has("host").then(|| fields.text("host", Or("")));
    let plain = |host: &String| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic());
    let is_host = host.as_ref().is_none_or(plain);
    fields.require("host", is_host, "write a host such as \"api.internal\"");
    Active {
        kind: fields.choice("kind", PollKind::HttpJson),
        path,
        host,
        interval,
        timeout,
        jitter_percent: fields.integer("jitter_percent", 0..=50, Or(20)),
        rise: fields.integer("rise", 1..=10, Or(2)),
        fall: fields.integer("fall", 1..=10, Or(3)),
        expect_statuses: statuses(&mut fields, "expect_statuses", "200-299"),
        status_map: status_map(&mut fields),
        extract: extract(fields.object("extract")),
        frozen_after,
    }
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
    Extract {
        status: pointer(&mut fields, "status", "/status"),
        ready: pointer(&mut fields, "ready", "/ready"),
        queue_depth: pointer(&mut fields, "queue_depth", "/queue_depth"),
        connections: pointer(&mut fields, "connections", "/connections"),
        timestamp: pointer(&mut fields, "timestamp", "/timestamp"),
    }
}

fn pointer<'a>(fields: &mut Fields<'a>, name: &'a str, absent: &str) -> String {
    let pointer = fields.text(name, Or(absent));
    let message = "no JSON pointer (RFC 6901): write one such as \"/queue/depth\"";
    fields.require(name, pointer.starts_with('/'), message);
    pointer
}

fn statuses<'a>(fields: &mut Fields<'a>, name: &'a str, absent: &str) -> StatusRanges {
    let mut ranges = StatusRanges::default();
    fields.one_or_many(name, &[absent], &mut |text| {
        if ranges.add(text) {
            return Ok(());
        }
        Err(format!("'{text}' is no status: write \"503\" or \"200-299\", within 100 to 599"))
    });
    ranges
}

/// Reads the limits. That of polls may be a multiple of `interval`, which is `None` if it is wrong.
fn staleness(mut fields: Fields<'_>, interval: Option<Duration>) -> Staleness {
    let orca = fields.duration("orca", SECOND..=DAY, Or(Duration::from_secs(180)));
    let passive = fields.duration("passive", SECOND..=DAY, Or(Duration::from_secs(60)));
    let text = fields.text("active", Or("3x"));
    let known = interval.unwrap_or(DEFAULT_INTERVAL);
    let limit = match text.strip_suffix('x') {
        Some(factor) => factor.parse().ok().map(|factor: u32| known.saturating_mul(factor)),
        None => text.parse().ok().map(|Span(limit)| limit),
    };
    match limit {
        None => {
            let message = format!(
                "'{text}' is neither a duration such as \"15s\" nor a multiple of the interval such \
                 as \"3x\""
            );
            fields.problem_at("active", message);
        }
        Some(limit) => {
            let sound = limit >= known.saturating_mul(2) && limit <= DAY;
            let message = "below two intervals, or above a day: one late poll would make it stale; \
                           write such as \"3x\"";
            fields.require("active", sound || interval.is_none(), message);
        }
    }
    Staleness { orca, active: limit.unwrap_or(known), passive }
}
