//! How endpoints are polled.

use super::ReportedState;
use crate::prometheus::Sample;
use crate::{Signal, StatusRanges, answer, prometheus, query};
use core::time::Duration;
use plugin_config::Value;

/// What a poll asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollKind {
    /// A status and a JSON document.
    HttpJson,
    /// A status; the body is not read.
    Http,
    /// A page of metrics.
    Prometheus,
    /// One number of each endpoint, from a Prometheus server.
    PrometheusQuery,
    /// A line of HAProxy's agent.
    Agent,
}

impl PollKind {
    /// True if such a poll that fails is a failure of the endpoint. A page of numbers that cannot be
    /// had leaves its numbers stale, and an agent that does not answer has nothing to say.
    pub const fn judges(self) -> bool {
        matches!(self, Self::HttpJson | Self::Http)
    }

    /// The label `kind` of metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HttpJson => "http_json",
            Self::Http => "http",
            Self::Prometheus => "prometheus",
            Self::PrometheusQuery => "prometheus_query",
            Self::Agent => "agent",
        }
    }

    /// Largest body that is read, in bytes.
    pub const fn max_body(self) -> usize {
        match self {
            Self::Prometheus => prometheus::MAX_PAGE_BYTES,
            Self::PrometheusQuery => query::MAX_ANSWER_BYTES,
            Self::HttpJson | Self::Http | Self::Agent => answer::MAX_BODY_BYTES,
        }
    }
}

/// RFC 6901 pointers to what the health answer holds. What is absent there says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extract {
    /// A word, looked up in `status_map`.
    pub status: String,
    /// A boolean: false means that the endpoint drains.
    pub ready: String,
    /// A value that changes while the endpoint is alive.
    pub timestamp: String,
    /// Numbers.
    pub signals: Vec<(Signal, String)>,
}

/// A query of a Prometheus server.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The cluster that the server is the endpoint of.
    pub cluster: String,
    /// Label of a value that holds the endpoint's address.
    pub label: String,
    /// Which signal the values are.
    pub signal: Signal,
    /// What a value is multiplied by.
    pub scale: f64,
}

/// One kind of poll of a cluster's endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Active {
    /// What is asked for.
    pub kind: PollKind,
    /// The request's `:path`.
    pub path: String,
    /// The request's `:authority`; the cluster's name if `None`.
    pub host: Option<String>,
    /// Mean time between two polls of one endpoint.
    pub interval: Duration,
    /// The same while the cluster has no traffic; at least `interval`.
    pub no_traffic_interval: Duration,
    /// How long an answer is waited for at the most.
    pub timeout: Duration,
    /// How long an answer of an endpoint that was always quick is waited for at least.
    pub min_timeout: Duration,
    /// Whether what requests show of an endpoint postpones its polls.
    pub skip_if_fresh: bool,
    /// How far a single gap may lie from `interval`, in percent of it.
    pub jitter_percent: u32,
    /// Good polls in a row that bring an endpoint back.
    pub rise: u32,
    /// Failed polls in a row that make it `Down`.
    pub fall: u32,
    /// Statuses whose answer is good, or is read on.
    pub expect_statuses: StatusRanges,
    /// Pointers into the answer, and what must be there.
    pub expect_json: Vec<(String, Value)>,
    /// What the words of the answer mean, in lower case.
    pub status_map: Vec<(String, ReportedState)>,
    /// Where the answer holds what.
    pub extract: Extract,
    /// How long the answer's timestamp may stand still.
    pub frozen_after: Duration,
    /// What is wanted of a page of metrics.
    pub samples: Vec<Sample>,
    /// The query, if it is one.
    pub query: Option<Query>,
}
