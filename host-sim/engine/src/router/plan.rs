//! From a route to what the router will do: cluster, time limits, retries, rewrites.

use super::reply;
use crate::cluster::Cluster;
use crate::flags::ResponseFlags;
use crate::retry::{RETRY_REQUEST_HEADERS, RetryState};
use crate::stream::{LocalReply, RouteRef, Stream};
use crate::{Engine, Headers};
use host_sim_bootstrap::{
    ClusterSpecifier, DirectResponse, Forward, PathMatch, Route, RouteAction, RouteConfig,
    VirtualHost,
};
use std::sync::Arc;
use std::time::Duration;

/// A route and its virtual host.
#[derive(Clone, Copy)]
pub(crate) struct Routed<'e> {
    pub(crate) host: &'e VirtualHost,
    pub(crate) route: &'e Route,
}

/// What becomes of a request.
pub(super) enum Plan {
    Forward(Arc<Cluster>),
    Respond(DirectResponse),
    Refuse(LocalReply, ResponseFlags),
}

/// Route and virtual host behind their positions.
pub(crate) fn routed(table: &RouteConfig, at: RouteRef) -> Option<Routed<'_>> {
    let host = table.virtual_hosts.get(at.host)?;
    Some(Routed { host, route: host.routes.get(at.route)? })
}

pub(super) fn cluster_of(
    engine: &Engine,
    route: &Route,
    headers: &Headers,
) -> Option<Arc<Cluster>> {
    let RouteAction::Forward(forward) = &route.action else { return None };
    let name = match &forward.cluster {
        ClusterSpecifier::Name(name) => name,
        ClusterSpecifier::Header(header) => headers.get_str(header)?,
    };
    engine.cluster(name).cloned()
}

pub(super) fn plan(engine: &Engine, routed: Routed<'_>, stream: &mut Stream) -> Plan {
    let forward = match &routed.route.action {
        RouteAction::Respond(response) => return Plan::Respond(response.clone()),
        RouteAction::Forward(forward) => forward,
    };
    let Some(headers) = stream.request.headers.as_mut() else {
        return Plan::Refuse(reply(400, "", "missing_headers"), ResponseFlags::default());
    };
    let Some(cluster) = cluster_of(engine, routed.route, headers) else {
        let status = forward.cluster_not_found_status;
        return Plan::Refuse(reply(status, "", "cluster_not_found"), ResponseFlags::NO_CLUSTER);
    };
    let policy = forward.retry_policy.as_ref().or(routed.host.retry_policy.as_ref());
    let retry = RetryState::new(policy, headers);
    RETRY_REQUEST_HEADERS.iter().for_each(|name| {
        headers.remove(name.as_bytes());
    });
    let timeout = timeouts(forward, headers, policy.and_then(|policy| policy.per_try_timeout));
    rewrite(forward, routed.route, headers);
    stream.info.cluster = Some(cluster.clone());
    if let Some(exchange) = stream.exchange() {
        let router = &mut exchange.router;
        router.retry = retry;
        (router.timeout, router.per_try_timeout) = timeout;
        if let Some(policy) = policy.filter(|policy| policy.previous_hosts) {
            router.reselections = policy.host_selection_retry_max_attempts;
        }
    }
    Plan::Forward(cluster)
}

/// The route's and the attempt's time; requests may ask for others. Tells the upstream.
fn timeouts(
    forward: &Forward,
    headers: &mut Headers,
    per_try: Option<Duration>,
) -> (Option<Duration>, Option<Duration>) {
    let mut asked = |name: &str| {
        let text = headers.get_str(name).and_then(|text| text.parse().ok());
        headers.remove(name.as_bytes());
        text.map(Duration::from_millis)
    };
    let route = asked("x-envoy-upstream-rq-timeout-ms").or(forward.timeout);
    let per_try = asked("x-envoy-upstream-rq-per-try-timeout-ms").or(per_try);
    let route = route.filter(|timeout| !timeout.is_zero());
    // A try that may last longer than the whole is not limited by itself.
    let per_try = per_try.filter(|t| !t.is_zero() && route.is_none_or(|route| *t < route));
    if let Some(expected) = per_try.or(route) {
        headers.set_static("x-envoy-expected-rq-timeout-ms", expected.as_millis().to_string());
    }
    (route, per_try)
}

fn rewrite(forward: &Forward, route: &Route, headers: &mut Headers) {
    if let Some(host) = &forward.host_rewrite_literal {
        headers.set(b":authority", host.as_bytes());
    }
    let Some(prefix) = &forward.prefix_rewrite else { return };
    let matched = match &route.matcher.path {
        PathMatch::Prefix(path) | PathMatch::Exact(path) | PathMatch::PathSeparatedPrefix(path) => {
            path.len()
        }
        PathMatch::Regex(_) => return,
    };
    let Some(path) = headers.get_str(":path").map(str::to_owned) else { return };
    let rest = path.get(matched..).unwrap_or_default();
    headers.set(b"x-envoy-original-path", path.as_bytes());
    headers.set(b":path", format!("{prefix}{rest}").as_bytes());
}
