//! `envoy.config.route.v3.RouteConfiguration`: virtual hosts, routes, actions.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::header::transforms;
use crate::header_matcher::{HEADER_MATCHER, REGEX_MATCHER};
use crate::metadata::{Metadata, metadata_of};
use crate::reader::{Message, Reader};
use crate::retry_policy::{RETRY_POLICY, RetryPolicy};
use crate::tls::{DATA_SOURCE, DataSource};
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
    /// `metadata`, for plugins.
    pub metadata: Metadata,
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
    /// `metadata`, for plugins.
    pub metadata: Metadata,
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

pub(crate) const ROUTE_CONFIG: Message<RouteConfig> =
    Message { name: "envoy.config.route.v3.RouteConfiguration", read: route_config };

const VIRTUAL_HOST: Message<VirtualHost> =
    Message { name: "envoy.config.route.v3.VirtualHost", read: virtual_host };

const ROUTE: Message<Route> = Message { name: "envoy.config.route.v3.Route", read: route };

const ROUTE_MATCH: Message<RouteMatch> =
    Message { name: "envoy.config.route.v3.RouteMatch", read: route_match };

const FORWARD: Message<Forward> =
    Message { name: "envoy.config.route.v3.RouteAction", read: forward };

const DIRECT_RESPONSE: Message<DirectResponse> =
    Message { name: "envoy.config.route.v3.DirectResponseAction", read: direct_response };

fn route_config(message: &mut Reader<'_>) -> Option<RouteConfig> {
    let config = RouteConfig {
        name: message.text("name"),
        virtual_hosts: message.list("virtual_hosts", VIRTUAL_HOST),
        headers: transforms(message),
    };
    let mut seen = BTreeSet::new();
    for domain in config.virtual_hosts.iter().flat_map(|host| &host.domains) {
        if !seen.insert(domain) {
            message.problem_at("virtual_hosts", format!("domain '{domain}' is given twice"));
        }
    }
    Some(config)
}

fn virtual_host(message: &mut Reader<'_>) -> Option<VirtualHost> {
    let name = message.required_text("name");
    let domains = message.texts("domains");
    if message.count("domains") == 0 {
        message.problem("field 'domains' needs at least one domain");
    }
    for (index, domain) in domains.iter().enumerate() {
        let inner = domain.strip_prefix('*').or(domain.strip_suffix('*')).unwrap_or(domain);
        if domain.is_empty() || inner.contains('*') {
            let text = "expected 'host', '*.suffix', 'prefix.*' or '*'";
            message.problem_at(&format!("domains[{index}]"), text);
        }
    }
    Some(VirtualHost {
        domains: domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
        routes: message.list("routes", ROUTE),
        headers: transforms(message),
        retry_policy: message.message("retry_policy", RETRY_POLICY),
        include_request_attempt_count: message.flag("include_request_attempt_count", false),
        include_attempt_count_in_response: message.flag("include_attempt_count_in_response", false),
        metadata: metadata_of(message),
        name: name?,
    })
}

fn route(message: &mut Reader<'_>) -> Option<Route> {
    let actions =
        ["route", "direct_response", "redirect", "filter_action", "non_forwarding_action"];
    message.one_of(&actions, true);
    let name = message.text("name");
    let matcher = message.required("match", ROUTE_MATCH);
    let forward = message.message("route", FORWARD);
    let respond = message.message("direct_response", DIRECT_RESPONSE);
    let headers = transforms(message);
    let metadata = metadata_of(message);
    let forward = forward.map(|forward| RouteAction::Forward(Box::new(forward)));
    let action = forward.or(respond.map(RouteAction::Respond));
    Some(Route { name, matcher: matcher?, action: action?, headers, metadata })
}

fn route_match(message: &mut Reader<'_>) -> Option<RouteMatch> {
    let specifiers = [
        "prefix",
        "path",
        "safe_regex",
        "path_separated_prefix",
        "connect_matcher",
        "path_match_policy",
    ];
    message.one_of(&specifiers, true);
    let prefix = message.optional_text("prefix").map(PathMatch::Prefix);
    let exact = message.optional_text("path").map(PathMatch::Exact);
    let separated = message.optional_text("path_separated_prefix");
    if separated.as_ref().is_some_and(|text| text.ends_with('/') || text.contains(['?', '#'])) {
        let text = "must not end with '/' nor contain '?' or '#'";
        message.problem_at("path_separated_prefix", text);
    }
    let regex = message.message("safe_regex", REGEX_MATCHER).map(PathMatch::Regex);
    let case_sensitive = message.flag("case_sensitive", true);
    let headers = message.list("headers", HEADER_MATCHER);
    let separated = separated.map(PathMatch::PathSeparatedPrefix);
    let path = prefix.or(exact).or(separated).or(regex)?;
    Some(RouteMatch { path, case_sensitive, headers })
}

fn forward(message: &mut Reader<'_>) -> Option<Forward> {
    const TIMEOUT: Duration = Duration::from_secs(15);
    let clusters = [
        "cluster",
        "cluster_header",
        "weighted_clusters",
        "cluster_specifier_plugin",
        "inline_cluster_specifier_plugin",
    ];
    let hosts =
        ["host_rewrite_literal", "auto_host_rewrite", "host_rewrite_header", "host_rewrite"];
    let not_found = [
        ("SERVICE_UNAVAILABLE", 0, Some(503)),
        ("NOT_FOUND", 1, Some(404)),
        ("INTERNAL_SERVER_ERROR", 2, Some(500)),
    ];
    message.one_of(&clusters, true);
    message.one_of(&hosts, false);
    let name = message.optional_text("cluster").map(ClusterSpecifier::Name);
    let header = message.header_name("cluster_header").map(ClusterSpecifier::Header);
    let status = message.choice("cluster_not_found_response_code", &not_found);
    Some(Forward {
        timeout: message.limit("timeout", Some(TIMEOUT)),
        idle_timeout: message.duration("idle_timeout"),
        retry_policy: message.message("retry_policy", RETRY_POLICY),
        prefix_rewrite: non_empty(message.text("prefix_rewrite")),
        host_rewrite_literal: non_empty(message.text("host_rewrite_literal")),
        cluster_not_found_status: status.unwrap_or(503),
        cluster: name.or(header)?,
    })
}

fn direct_response(message: &mut Reader<'_>) -> Option<DirectResponse> {
    let status = message.integer("status", 200..=599);
    if !message.has("status") {
        message.problem("field 'status' is required");
    }
    let body = match message.message("body", DATA_SOURCE) {
        Some(DataSource::Inline(body)) => body,
        Some(_) => {
            message
                .problem_at("body", "host-sim simulates 'inline_string' and 'inline_bytes' here");
            Vec::new()
        }
        None => Vec::new(),
    };
    Some(DirectResponse { status: u16::try_from(status?).ok()?, body })
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
