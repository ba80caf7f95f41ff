//! What the types of the raw configuration cannot say.

use super::raw::{RawActive, RawCluster, RawConfig, RawPassive, RawStaleness};
use super::{Active, Cluster, Config, Passive, Staleness};
use crate::StatusRanges;
use core::time::Duration;
use plugin_config::{Check, Span};
use shared_state::{Endpoint, MAX_MEMBERS};

/// Most clusters of one document: each costs the leader a round of reads every tick.
const MAX_CLUSTERS: usize = 64;

/// Longest span that means anything here. Longer ones are slips.
const DAY: Span = Span::from_secs(86_400);

pub(super) fn config(raw: RawConfig, check: &mut Check) -> Config {
    check.name("name", &raw.name);
    check.range(
        "publish_interval",
        raw.publish_interval,
        Span::from_millis(100)..=Span::from_secs(5),
    );
    check.at("leader", |check| {
        check.range("lease", raw.leader.lease, Span::from_secs(1)..=Span::from_secs(60));
        // A leader renews at a third of its lease, on a tick: two ticks may be late.
        let tight = raw.leader.lease.0 < raw.publish_interval.0.saturating_mul(3);
        check.at("lease", |check| {
            check.require(!tight, "shorter than three times publish_interval: make it longer");
        });
    });
    check.at("clusters", |check| {
        check.require(raw.clusters.len() <= MAX_CLUSTERS, "more than 64 entries: use \"*\"");
        check.unique("name", raw.clusters.iter().map(|cluster| cluster.name.as_str()));
    });
    let clusters =
        raw.clusters.into_iter().enumerate().map(|(at, raw)| {
            check.at("clusters", |check| check.at(at, |check| cluster(raw, check)))
        });
    Config {
        clusters: clusters.collect(),
        name: raw.name,
        mode: raw.mode,
        position: raw.position,
        lease: raw.leader.lease.0,
        publish_interval: raw.publish_interval.0,
    }
}

fn cluster(raw: RawCluster, check: &mut Check) -> Cluster {
    check.at("name", |check| {
        check.require(!raw.name.is_empty(), "missing: name a cluster, or \"*\" for all");
        let any = raw.name == super::ANY_CLUSTER;
        check.require(any || !raw.name.contains('*'), "no patterns: a full name, or \"*\" alone");
    });
    check.header_name("steering_header", &raw.steering_header);
    let endpoints = check.at("endpoints", |check| endpoints(&raw, check));
    let active = raw.active.map(|active| check.at("active", |check| poll(active, check)));
    Cluster {
        endpoints,
        passive: check.at("passive", |check| passive(raw.passive, check)),
        staleness: check.at("staleness", |check| staleness(&raw.staleness, active.as_ref(), check)),
        name: raw.name,
        orca: raw.orca,
        active,
        steering_header: raw.steering_header,
    }
}

fn endpoints(raw: &RawCluster, check: &mut Check) -> Vec<Endpoint> {
    let any = raw.name == super::ANY_CLUSTER;
    check.require(!any || raw.endpoints.is_empty(), "not for \"*\": name the cluster they are in");
    check.require(raw.endpoints.len() <= usize::from(MAX_MEMBERS), "more than 256 endpoints");
    let mut list = Vec::new();
    for (at, text) in raw.endpoints.iter().enumerate() {
        check.at(at, |check| match text.parse::<Endpoint>() {
            Ok(endpoint) if list.contains(&endpoint) => {
                check.problem(format!("'{text}' stands twice: remove one"));
            }
            Ok(endpoint) => list.push(endpoint),
            Err(_) => check.problem(format!(
                "'{text}' is no ip:port: write an address such as 10.0.0.1:8080 or [::1]:8080, \
                 not a name"
            )),
        });
    }
    list
}

fn passive(raw: RawPassive, check: &mut Check) -> Passive {
    check.range("fall", raw.fall, 1..=100);
    check.range("rise", raw.rise, 1..=100);
    Passive {
        enabled: raw.enabled,
        fall: raw.fall,
        rise: raw.rise,
        failure_statuses: statuses("failure_statuses", &raw.failure_statuses.0, check),
    }
}

fn poll(raw: RawActive, check: &mut Check) -> Active {
    check.range("interval", raw.interval, Span::from_millis(250)..=DAY);
    check.range("timeout", raw.timeout, Span::from_millis(10)..=Span::from_secs(300));
    check.range("jitter_percent", raw.jitter_percent, 0..=50);
    check.range("rise", raw.rise, 1..=10);
    check.range("fall", raw.fall, 1..=10);
    check.range("frozen_after", raw.frozen_after, Span::from_secs(1)..=DAY);
    check.at("timeout", |check| {
        check.require(raw.timeout < raw.interval, "not below interval: polls would overlap");
    });
    check.at("frozen_after", |check| {
        let short = raw.frozen_after < raw.interval;
        check.require(!short, "shorter than interval: no two polls would lie that close");
    });
    check.at("path", |check| {
        let plain = raw.path.bytes().all(|b| b.is_ascii_graphic());
        check.require(raw.path.starts_with('/') && plain, "write a path such as \"/healthz\"");
    });
    if let Some(host) = &raw.host {
        let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic());
        check.at("host", |check| check.require(plain, "write a host such as \"api.internal\""));
    }
    check.at("extract", |check| {
        for (field, pointer) in [
            ("status", &raw.extract.status),
            ("ready", &raw.extract.ready),
            ("queue_depth", &raw.extract.queue_depth),
            ("connections", &raw.extract.connections),
            ("timestamp", &raw.extract.timestamp),
        ] {
            let message = "no JSON pointer (RFC 6901): write one such as \"/queue/depth\"";
            check.at(field, |check| check.require(pointer.starts_with('/'), message));
        }
    });
    Active {
        kind: raw.kind,
        path: raw.path,
        host: raw.host,
        interval: raw.interval.0,
        timeout: raw.timeout.0,
        jitter_percent: raw.jitter_percent,
        rise: raw.rise,
        fall: raw.fall,
        expect_statuses: statuses("expect_statuses", &raw.expect_statuses.0, check),
        status_map: raw
            .status_map
            .into_iter()
            .map(|(word, state)| (word.to_ascii_lowercase(), state))
            .collect(),
        extract: raw.extract,
        frozen_after: raw.frozen_after.0,
    }
}

fn statuses(field: &str, texts: &[String], check: &mut Check) -> StatusRanges {
    let mut ranges = StatusRanges::default();
    check.at(field, |check| {
        for (at, text) in texts.iter().enumerate() {
            if !ranges.add(text) {
                check.at(at, |check| {
                    check.problem(format!(
                        "'{text}' is no status: write \"503\" or \"200-299\", within 100 to 599"
                    ));
                });
            }
        }
    });
    ranges
}

fn staleness(raw: &RawStaleness, active: Option<&Active>, check: &mut Check) -> Staleness {
    check.range("orca", raw.orca, Span::from_secs(1)..=DAY);
    check.range("passive", raw.passive, Span::from_secs(1)..=DAY);
    let interval = active.map_or(Duration::from_secs(5), |active| active.interval);
    let limit = match raw.active.strip_suffix('x') {
        Some(factor) => factor.parse::<u32>().ok().map(|factor| interval.saturating_mul(factor)),
        None => parse_span(&raw.active),
    };
    check.at("active", |check| match limit {
        None => check.problem(format!(
            "'{}' is neither a duration such as \"15s\" nor a multiple of the interval such as \
             \"3x\"",
            raw.active
        )),
        Some(limit) => check.require(
            limit >= interval.saturating_mul(2) && limit <= DAY.0,
            "below two intervals, or above a day: one late poll would make it stale",
        ),
    });
    let active = limit.unwrap_or(interval);
    Staleness { orca: raw.orca.0, active, passive: raw.passive.0 }
}

fn parse_span(text: &str) -> Option<Duration> {
    use serde::de::{Deserialize as _, IntoDeserializer, value::Error};
    let deserializer = IntoDeserializer::<Error>::into_deserializer(text);
    Span::deserialize(deserializer).ok().map(|span| span.0)
}
