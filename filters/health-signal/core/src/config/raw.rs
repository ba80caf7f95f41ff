//! The configuration as it is written: names, types and defaults, nothing that takes a thought.

use plugin_config::{OneOrMany, Span};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawConfig {
    pub(crate) name: String,
    pub(crate) mode: super::Mode,
    pub(crate) position: super::Position,
    pub(crate) clusters: Vec<RawCluster>,
    pub(crate) leader: RawLeader,
    pub(crate) publish_interval: Span,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            name: "health_signal".into(),
            mode: super::Mode::Enforce,
            position: super::Position::Downstream,
            clusters: vec![RawCluster { name: "*".into(), ..RawCluster::default() }],
            leader: RawLeader::default(),
            publish_interval: Span::from_millis(250),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawCluster {
    pub(crate) name: String,
    pub(crate) endpoints: Vec<String>,
    pub(crate) passive: RawPassive,
    pub(crate) orca: super::Orca,
    pub(crate) active: Option<RawActive>,
    pub(crate) staleness: RawStaleness,
    pub(crate) steering_header: String,
}

impl Default for RawCluster {
    fn default() -> Self {
        Self {
            name: String::new(),
            endpoints: Vec::new(),
            passive: RawPassive::default(),
            orca: super::Orca::default(),
            active: None,
            staleness: RawStaleness::default(),
            steering_header: "x-gateway-destination-endpoint".into(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawPassive {
    pub(crate) enabled: bool,
    pub(crate) fall: u32,
    pub(crate) rise: u32,
    pub(crate) failure_statuses: OneOrMany<String>,
}

impl Default for RawPassive {
    fn default() -> Self {
        let failure_statuses = OneOrMany(vec!["500-599".into()]);
        Self { enabled: true, fall: 3, rise: 1, failure_statuses }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawActive {
    pub(crate) kind: super::PollKind,
    pub(crate) path: String,
    pub(crate) host: Option<String>,
    pub(crate) interval: Span,
    pub(crate) timeout: Span,
    pub(crate) jitter_percent: u32,
    pub(crate) rise: u32,
    pub(crate) fall: u32,
    pub(crate) expect_statuses: OneOrMany<String>,
    pub(crate) status_map: BTreeMap<String, super::ReportedState>,
    pub(crate) extract: super::Extract,
    pub(crate) frozen_after: Span,
}

impl Default for RawActive {
    fn default() -> Self {
        use super::ReportedState::{Degraded, Down, Healthy};
        Self {
            kind: super::PollKind::HttpJson,
            path: "/healthz".into(),
            host: None,
            interval: Span::from_secs(5),
            timeout: Span::from_secs(1),
            jitter_percent: 20,
            rise: 2,
            fall: 3,
            expect_statuses: OneOrMany(vec!["200-299".into()]),
            status_map: [("healthy", Healthy), ("degraded", Degraded), ("unhealthy", Down)]
                .map(|(word, state)| (word.to_owned(), state))
                .into(),
            extract: super::Extract::default(),
            frozen_after: Span::from_secs(30),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawStaleness {
    pub(crate) orca: Span,
    /// A duration, or a multiple of the poll interval such as `3x`.
    pub(crate) active: String,
    pub(crate) passive: Span,
}

impl Default for RawStaleness {
    fn default() -> Self {
        Self { orca: Span::from_secs(180), active: "3x".into(), passive: Span::from_secs(60) }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLeader {
    pub(crate) lease: Span,
}

impl Default for RawLeader {
    fn default() -> Self {
        Self { lease: Span::from_secs(3) }
    }
}
