//! `envoy.config.route.v3.RouteConfiguration`: virtual hosts, routes, retry policies.

use std::time::Duration;

use crate::{HeaderMatcher, HeaderTransforms, Pattern};

/// A route table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RouteConfig {
    /// Its name.
    pub name: String,
    /// In file order; a domain occurs once in all of them.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Transforms of every route; they run last.
    pub headers: HeaderTransforms,
}

/// A virtual host.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualHost {
    /// Its name.
    pub name: String,
    /// `*`, `host`, `*.suffix`, `prefix.*`; lower case. Exact wins over suffix over prefix over `*`.
    pub domains: Vec<String>,
    /// The first that matches counts.
    pub routes: Vec<Route>,
    /// Transforms of every route of this host.
    pub headers: HeaderTransforms,
    /// For routes that have none of their own.
    pub retry_policy: Option<RetryPolicy>,
    /// Send `x-envoy-attempt-count` upstream. Default false.
    pub include_request_attempt_count: bool,
    /// Send `x-envoy-attempt-count` downstream. Default false.
    pub include_attempt_count_in_response: bool,
}

/// One route.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Its name, empty when the file gives none.
    pub name: String,
    /// Which requests.
    pub matcher: RouteMatch,
    /// What happens to them.
    pub action: RouteAction,
    /// Transforms of this route; they run first.
    pub headers: HeaderTransforms,
}

/// `RouteMatch`.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteMatch {
    /// On the path without its query.
    pub path: PathMatch,
    /// Default true.
    pub case_sensitive: bool,
    /// All must match.
    pub headers: Vec<HeaderMatcher>,
}

/// The path specifier.
#[derive(Debug, Clone, PartialEq)]
pub enum PathMatch {
    /// Starts with.
    Prefix(String),
    /// Equals.
    Exact(String),
    /// Equals, or continues with `/`.
    PathSeparatedPrefix(String),
    /// The whole path matches.
    Regex(Pattern),
}

/// What a route does.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteAction {
    /// `route`.
    Forward(Box<Forward>),
    /// `direct_response`.
    Respond(DirectResponse),
}

/// `DirectResponseAction`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectResponse {
    /// Status, 200..=599.
    pub status: u16,
    /// Body; empty by default.
    pub body: Vec<u8>,
}

/// `envoy.config.route.v3.RouteAction`.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// Where to.
    pub cluster: ClusterSpecifier,
    /// From the end of the request to the end of the response. Default 15 s; `None` = off.
    pub timeout: Option<Duration>,
    /// Overrides the connection manager's `stream_idle_timeout`; `Some(ZERO)` = off.
    pub idle_timeout: Option<Duration>,
    /// Its retry policy.
    pub retry_policy: Option<RetryPolicy>,
    /// Replaces the matched prefix (or exact path).
    pub prefix_rewrite: Option<String>,
    /// Replaces `:authority`.
    pub host_rewrite_literal: Option<String>,
    /// Answer when the cluster does not exist: 503 (default) or 404, 500.
    pub cluster_not_found_status: u16,
}

/// Which cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterSpecifier {
    /// By name.
    Name(String),
    /// By the value of a request header, lower case.
    Header(String),
}

/// `envoy.config.route.v3.RetryPolicy`.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Comma-separated conditions, as written.
    pub retry_on: String,
    /// Retries after the first attempt. Default 1.
    pub num_retries: u32,
    /// Each attempt's own limit; `None` = only the route's.
    pub per_try_timeout: Option<Duration>,
    /// Waiting times.
    pub back_off: RetryBackOff,
    /// `envoy.retry_host_predicates.previous_hosts`: avoid hosts already tried.
    pub previous_hosts: bool,
    /// How often host selection is repeated when a predicate rejects. Default 1.
    pub host_selection_retry_max_attempts: u32,
    /// For the condition `retriable-status-codes`.
    pub retriable_status_codes: Vec<u16>,
    /// For the condition `retriable-headers`.
    pub retriable_headers: Vec<HeaderMatcher>,
}

/// `RetryBackOff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBackOff {
    /// First step, at least 1 ms. Default 25 ms.
    pub base_interval: Duration,
    /// Largest step. Default ten times the base.
    pub max_interval: Duration,
}

impl Default for RetryBackOff {
    fn default() -> Self {
        Self { base_interval: Duration::from_millis(25), max_interval: Duration::from_millis(250) }
    }
}
