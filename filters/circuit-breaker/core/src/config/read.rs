//! The document: every field with its range and its default, and the rules between fields.
//! resilience4j lowers or ignores some of what is refused here.

mod load;
mod rules;

use super::{
    Action, Config, Debug, EndpointScope, Forced, GuardScope, Mode, OnFull, Override, Rejection,
    Scope, Slots,
};
use crate::class::{Classify, RateLimited, grpc};
use crate::outlier::SuccessRate;
use crate::status::StatusSet;
use load::{LOAD, load};
use plugin_config::{Choice, Fields, Or, Required};
use request_key::KeyPart;
use rules::rules;
use shared_state::DEFAULT_ENDPOINT_SCOPE;

/// Scopes of one plugin. Each costs its part of every request.
const MAX_SCOPES: usize = 8;

/// Parts of a key.
const MAX_PARTS: usize = 8;

/// Headers of an answer, as many as in Envoy.
const MAX_HEADERS: usize = 10;

impl Choice for Mode {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("enforce", Self::Enforce), ("shadow", Self::Shadow), ("off", Self::Off)];
}

impl Choice for Forced {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("FORCED_OPEN", Self::Open), ("FORCED_CLOSED", Self::Closed), ("SHADOW", Self::Shadow)];
}

impl Choice for OnFull {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("allow", Self::Allow), ("share", Self::Share)];
}

impl Choice for RateLimited {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("ignore", Self::Ignore), ("failure", Self::Failure)];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acts {
    ExcludeEndpoint,
    Reject,
    FallbackCluster,
    Pass,
}

impl Choice for Acts {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("exclude_endpoint", Self::ExcludeEndpoint),
        ("reject", Self::Reject),
        ("fallback_cluster", Self::FallbackCluster),
        ("pass", Self::Pass),
    ];
}

pub(super) fn config(mut fields: Fields<'_>) -> Config {
    let hops = fields.has("xff_trusted_hops");
    let hops = hops.then(|| fields.integer("xff_trusted_hops", 0..=16, Or(0)));
    let mut scopes = scopes(&mut fields, hops);
    overrides(&mut fields, &mut scopes);
    let (mut endpoints, mut guards) = (None, Vec::new());
    for scope in scopes {
        match scope {
            AnyScope::Endpoints(scope) => endpoints = Some(scope),
            AnyScope::Guard(scope) => guards.push(scope),
        }
    }
    Config {
        name: fields.name("name", Or("circuit_breaker")),
        mode: fields.choice("mode", Mode::Enforce),
        steering_header: steering(fields.object("steering")),
        endpoints,
        guards,
        debug: debug(&mut fields),
    }
}

/// The request header with the ordered list of endpoints.
fn steering(mut fields: Fields<'_>) -> String {
    fields.header_name("header", Or("x-gateway-destination-endpoint"))
}

fn debug(fields: &mut Fields<'_>) -> Option<Debug> {
    if !fields.has("debug") {
        return None;
    }
    let mut fields = fields.object("debug");
    let header = fields.header_name("header", Or("x-weir-breaker-debug"));
    let secret = fields.text("secret", Required);
    let is_long = secret.len() >= 16;
    let message = "anybody could guess it, and learn what is open: write at least 16 characters";
    if fields.is_clean() {
        fields.require("secret", is_long, message);
    }
    Some(Debug { header, secret })
}

#[derive(Debug)]
enum AnyScope {
    Endpoints(EndpointScope),
    Guard(GuardScope),
}

impl AnyScope {
    fn scope(&mut self) -> (&mut Scope, Option<&[KeyPart]>) {
        match self {
            Self::Endpoints(endpoints) => (&mut endpoints.scope, None),
            Self::Guard(guard) => (&mut guard.scope, Some(&guard.by)),
        }
    }
}

fn scopes(fields: &mut Fields<'_>, hops: Option<u8>) -> Vec<AnyScope> {
    let mut found = Vec::new();
    if !fields.has("scopes") {
        scope(fields.object("scopes"), &["cluster", "endpoint"], hops, &mut found);
        return found;
    }
    let count = fields.count("scopes");
    let message = "nothing would have a breaker: name at least one scope, or leave the field out";
    fields.require("scopes", count != Some(0), message);
    if count > Some(MAX_SCOPES) {
        fields.problem_at("scopes", "more than 8 scopes: leave some out");
    }
    fields.each("scopes", |_, fields| scope(fields, &[], hops, &mut found));
    found
}

fn scope(mut fields: Fields<'_>, by_default: &[&str], hops: Option<u8>, found: &mut Vec<AnyScope>) {
    let by = by(&mut fields, by_default, hops);
    let is_known = fields.is_clean();
    let default_name = match &by {
        Some(By::Endpoints) => DEFAULT_ENDPOINT_SCOPE,
        Some(By::Parts(parts)) => match parts.as_slice() {
            [KeyPart::Route] => "route",
            [KeyPart::Cluster] => "cluster",
            _ => "key",
        },
        None => "",
    };
    let name = fields.name("name", Or(default_name));
    let taken = found.iter_mut().position(|other| other.scope().0.name == name);
    if let (Some(first), true) = (taken, is_known) {
        fields.problem_at("name", format!("'{name}' is taken by entry {first}: rename one"));
    }
    let (split, classify) = classify(fields.object("classify"));
    let rules = rules(&mut fields, split, matches!(by, Some(By::Endpoints)));
    let scope = Scope { name, rules, classify, overrides: Vec::new() };
    match by.filter(|_| is_known) {
        None => {
            // Which action is meant, and so which fields there are, is not known either.
            for name in ["action", "reject", "fallback_cluster", "slots", "on_full"] {
                fields.has(name);
            }
            for name in ["always_keep_one", "max_ejection_percent", "success_rate"] {
                fields.has(name);
            }
            for name in LOAD {
                fields.has(name);
            }
        }
        Some(By::Endpoints) => {
            let first = found.iter().position(|other| matches!(other, AnyScope::Endpoints(_)));
            if let Some(first) = first {
                let message =
                    format!("scope {first} excludes endpoints already: one is enough, merge them");
                fields.problem(message);
            }
            found.push(AnyScope::Endpoints(endpoint_scope(&mut fields, scope)));
        }
        Some(By::Parts(parts)) => {
            found.push(AnyScope::Guard(guard_scope(&mut fields, scope, parts)));
        }
    }
}

enum By {
    Endpoints,
    Parts(Vec<KeyPart>),
}

/// What has a breaker.
fn by(fields: &mut Fields<'_>, absent: &[&str], hops: Option<u8>) -> Option<By> {
    let (mut parts, mut has_endpoint) = (Vec::new(), false);
    if absent.is_empty() && !fields.has("by") {
        fields.problem("missing field 'by': add it, it has no default");
        return None;
    }
    let count = fields.count("by");
    fields.require("by", count <= Some(MAX_PARTS), "more than 8 parts: leave some out");
    fields.one_or_many("by", absent, &mut |text| {
        if text == "endpoint" {
            has_endpoint = true;
            return Ok(());
        }
        let part = KeyPart::parse(text, hops)?;
        if parts.contains(&part) {
            return Err(format!("'{text}' stands twice: keep one"));
        }
        parts.push(part);
        Ok(())
    });
    if !fields.is_clean() {
        return None;
    }
    match (has_endpoint, parts.as_slice()) {
        (true, [] | [KeyPart::Cluster]) => Some(By::Endpoints),
        (false, [_, ..]) => Some(By::Parts(parts)),
        (true, _) => {
            let message = "an endpoint's breaker is shared by all who use the endpoint: write \
                           [\"cluster\", \"endpoint\"], and another scope for the rest";
            fields.problem_at("by", message);
            None
        }
        (false, []) => {
            let message = "what has a breaker: [\"cluster\", \"endpoint\"], [\"route\"], \
                           [\"cluster\"], [\"header:x-tenant\"] and the like";
            fields.problem_at("by", message);
            None
        }
    }
}

fn absent(fields: &mut Fields<'_>, names: &[&'static str], message: &str) {
    for name in names {
        let is_absent = !fields.has(name);
        fields.require(name, is_absent, message);
    }
}

fn endpoint_scope(fields: &mut Fields<'_>, scope: Scope) -> EndpointScope {
    if fields.choice("action", Acts::ExcludeEndpoint) != Acts::ExcludeEndpoint {
        let message = "does not fit 'by': leave it out, or write \"exclude_endpoint\"";
        fields.problem_at("action", message);
    }
    let message = "an endpoint's breaker answers nobody, others serve in its place: leave it out";
    absent(fields, &["reject", "fallback_cluster"], message);
    absent(fields, &["slots", "on_full"], "endpoints are few: leave it out");
    let message =
        "Envoy's per_host_thresholds and metric-router look after endpoints: leave it out";
    absent(fields, &LOAD, message);
    let success_rate = fields.has("success_rate");
    EndpointScope {
        scope,
        always_keep_one: fields.flag("always_keep_one", true),
        max_ejection_percent: fields.integer("max_ejection_percent", 1..=100, Or(100)),
        success_rate: success_rate.then(|| self::success_rate(fields.object("success_rate"))),
    }
}

/// Names and defaults of Envoy's `outlier_detection`, without its factor of a thousand.
fn success_rate(mut fields: Fields<'_>) -> SuccessRate {
    SuccessRate {
        minimum_hosts: fields.integer("minimum_hosts", 2..=1000, Or(5)),
        request_volume: fields.integer("request_volume", 1..=1_000_000, Or(100)),
        stdev_factor: fields.number("stdev_factor", 0.1..=10.0, Or(1.9)),
    }
}

fn guard_scope(fields: &mut Fields<'_>, scope: Scope, by: Vec<KeyPart>) -> GuardScope {
    let message = "only a scope by [\"cluster\", \"endpoint\"] has it: leave it out";
    absent(fields, &["always_keep_one", "max_ejection_percent", "success_rate"], message);
    let is_named = |part: &KeyPart| matches!(part, KeyPart::Route | KeyPart::Cluster);
    let slots = if by.iter().all(is_named) {
        let message = "routes and clusters are few and need no bound: leave it out";
        absent(fields, &["slots", "on_full"], message);
        None
    } else {
        let count = fields.integer("slots", 4..=16_384, Or(1024));
        Some(Slots { count, on_full: fields.choice("on_full", OnFull::Allow) })
    };
    let acts = fields.choice("action", Acts::Reject);
    let fits = |name: &str| format!("only where 'action' is \"{name}\": leave it out");
    if acts != Acts::Reject {
        absent(fields, &["reject"], &fits("reject"));
    }
    if acts != Acts::FallbackCluster {
        absent(fields, &["fallback_cluster"], &fits("fallback_cluster"));
    }
    let action = match acts {
        Acts::Reject => Action::Reject(reject(fields.object("reject"))),
        Acts::Pass => Action::Pass,
        Acts::FallbackCluster => {
            let given = fields.has("fallback_cluster");
            let message =
                "say where to: {\"header\": the route's cluster_header, \"cluster\": ...}";
            fields.require("fallback_cluster", given, message);
            if given { fallback(fields.object("fallback_cluster")) } else { Action::Pass }
        }
        Acts::ExcludeEndpoint => {
            let message = "does not fit 'by': write \"reject\", \"fallback_cluster\" or \"pass\"";
            fields.problem_at("action", message);
            Action::Pass
        }
    };
    let suppress_retries = fields.flag("suppress_retries", true);
    GuardScope { scope, by, slots, action, load: load(fields), suppress_retries }
}

fn fallback(mut fields: Fields<'_>) -> Action {
    let header = fields.header_name("header", Required);
    let cluster = fields.text("cluster", Required);
    if fields.is_clean() {
        fields.require("cluster", !cluster.is_empty(), "name a cluster of the proxy");
    }
    Action::Fallback { header, cluster }
}

fn reject(mut fields: Fields<'_>) -> Rejection {
    let count = fields.count("headers");
    fields.require("headers", count <= Some(MAX_HEADERS), "more than 10 headers: leave some out");
    Rejection {
        status: fields.integer("status", 400..=599, Or(503)),
        retry_after: fields.flag("retry_after", true),
        body: fields.text("body", Or("")),
        headers: fields.each("headers", |_, mut fields| fields.header()),
    }
}

/// Gives each override to its scope.
fn overrides(fields: &mut Fields<'_>, scopes: &mut [AnyScope]) {
    let is_clean = fields.is_clean();
    fields.each("overrides", |_, mut fields| {
        let name = fields.name("scope", Required);
        let mut key = Vec::new();
        fields.one_or_many("key", &[], &mut |value| {
            key.push(value.to_owned());
            Ok(())
        });
        let given = fields.has("state");
        let message = "say what holds: \"FORCED_OPEN\", \"FORCED_CLOSED\" or \"SHADOW\"";
        fields.require("state", given, message);
        let state = fields.choice("state", Forced::Shadow);
        if !fields.is_clean() {
            return;
        }
        let found = scopes.iter_mut().map(AnyScope::scope).find(|(scope, _)| scope.name == name);
        let Some((scope, by)) = found else {
            // Where another scope is wrong, it may be the one that is meant.
            fields.require("scope", !is_clean, "there is no such scope: name one of 'scopes'");
            return;
        };
        let parts = by.map_or(2, <[KeyPart]>::len);
        if !key.is_empty() && key.len() != parts {
            let message = format!("{} values, but the scope is by {parts}: name each", key.len());
            fields.problem_at("key", message);
        }
        let unnamed = |part: &&KeyPart| {
            matches!(part, KeyPart::Cookie(_) | KeyPart::Query(_) | KeyPart::Claim(_))
        };
        if !key.is_empty() && by.is_some_and(|by| by.iter().find(unnamed).is_some()) {
            let message = "cookies, parameters and claims cannot be named here: leave 'key' out";
            fields.problem_at("key", message);
        }
        scope.overrides.push(Override { key, state });
    });
}

fn classify(mut fields: Fields<'_>) -> (bool, Classify) {
    let failure_statuses = statuses(&mut fields, "failure_statuses", &["500-599"]);
    let ignore_statuses = statuses(&mut fields, "ignore_statuses", &[]);
    if let Some(both) = failure_statuses.overlap(&ignore_statuses) {
        let message = format!("{both} stands in failure_statuses too: take it out of one");
        fields.problem_at("ignore_statuses", message);
    }
    let mut grpc_failures = 0;
    let default = ["DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];
    fields.texts("grpc_failures", &default, &mut |name| {
        let code = grpc::NAMES.iter().position(|known| *known == name);
        grpc_failures |= code.map_or(0, |code| 1 << code);
        let message = || format!("'{name}' is no gRPC code: write one such as UNAVAILABLE");
        code.map(|_| ()).ok_or_else(message)
    });
    let rate_limited = fields.choice("rate_limited", RateLimited::Ignore);
    let split = fields.flag("split_external_local_origin_errors", false);
    (split, Classify { failure_statuses, ignore_statuses, rate_limited, grpc_failures })
}

fn statuses<'a>(fields: &mut Fields<'a>, name: &'a str, absent: &[&str]) -> StatusSet {
    let mut set = StatusSet::default();
    fields.texts(name, absent, &mut |text| {
        let message = || "no status: write \"503\" or \"500-599\", from 100 to 599".to_owned();
        set.add(text).then_some(()).ok_or_else(message)
    });
    set
}
