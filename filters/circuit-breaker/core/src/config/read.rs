//! The document: every field with its range and its default, and the rules between fields.
//! resilience4j lowers or ignores some of what is refused here.

use super::{Config, EndpointScope, GuardScope, GuardedBy, Mode, Rejection, Scope};
use crate::class::{Classify, grpc};
use crate::status::StatusSet;
use crate::{Backoff, Jitter, LeaseExpiry, Rules};
use core::ops::RangeInclusive;
use core::time::Duration;
use plugin_config::{Choice, Fields, Or, Presence, Required, Span};
use shared_state::{DEFAULT_ENDPOINT_SCOPE, MAX_PERMITS};

/// A tenth of the shortest window is a tick: no bucket is shorter than a batch is late.
const WINDOWS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// Below the least, a clock read in another callback could end it. Nobody means more than a day.
const BACKOFFS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);

const DECAYS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

const LEASES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

impl Choice for Mode {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("enforce", Self::Enforce), ("shadow", Self::Shadow), ("off", Self::Off)];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Cluster,
    Endpoint,
    Route,
}

impl Choice for By {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("cluster", Self::Cluster), ("endpoint", Self::Endpoint), ("route", Self::Route)];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    ExcludeEndpoint,
    Reject,
}

impl Choice for Action {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("exclude_endpoint", Self::ExcludeEndpoint), ("reject", Self::Reject)];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WindowType {
    Time,
    /// Known, so that its message can say more than "not known".
    Count,
}

impl Choice for WindowType {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("time", Self::Time), ("count", Self::Count)];
}

impl Choice for Jitter {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("equal", Self::Equal)];
}

impl Choice for LeaseExpiry {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("failure", Self::Failure), ("ignored", Self::Ignored)];
}

pub(super) fn config(mut fields: Fields<'_>) -> Config {
    let Found { endpoints, guard, .. } = scopes(&mut fields);
    Config {
        name: fields.name("name", Or("circuit_breaker")),
        mode: fields.choice("mode", Mode::Enforce),
        steering_header: steering(fields.object("steering")),
        endpoints: endpoints.map(|(_, scope)| scope),
        guard: guard.map(|(_, scope)| scope),
    }
}

/// The request header with the ordered list of endpoints.
fn steering(mut fields: Fields<'_>) -> String {
    fields.header_name("header", Or("x-gateway-destination-endpoint"))
}

/// One scope of each kind, with its index.
#[derive(Default)]
struct Found {
    names: Vec<String>,
    endpoints: Option<(usize, EndpointScope)>,
    guard: Option<(usize, GuardScope)>,
}

fn scopes(fields: &mut Fields<'_>) -> Found {
    let mut found = Found::default();
    if !fields.has("scopes") {
        let by: &[By] = &[By::Cluster, By::Endpoint];
        scope(fields.object("scopes"), Or(by), 0, &mut found);
        return found;
    }
    let some = fields.count("scopes") != Some(0);
    let message = "nothing would have a breaker: name at least one scope, or leave the field out";
    fields.require("scopes", some, message);
    fields.each("scopes", |at, fields| scope(fields, Required, at, &mut found));
    found
}

fn scope(mut fields: Fields<'_>, by: Presence<&[By]>, at: usize, found: &mut Found) {
    let (default_name, guarded) = match fields.choices("by", by).as_slice() {
        [By::Cluster, By::Endpoint] | [By::Endpoint, By::Cluster] => (DEFAULT_ENDPOINT_SCOPE, None),
        [By::Route] => ("route", Some(GuardedBy::Route)),
        [By::Cluster] => ("cluster", Some(GuardedBy::Cluster)),
        _ => {
            if fields.is_clean() {
                let message =
                    "what has a breaker: [\"cluster\", \"endpoint\"], [\"route\"] or [\"cluster\"]";
                fields.problem_at("by", message);
            }
            ("", None)
        }
    };
    let is_known = fields.is_clean();
    let name = fields.name("name", Or(default_name));
    if let Some(first) = found.names.iter().position(|other| *other == name && is_known) {
        fields.problem_at("name", format!("'{name}' is taken by entry {first}: rename one"));
    }
    found.names.push(name.clone());
    let classify = classify(fields.object("classify"));
    let scope = Scope { name, rules: rules(&mut fields), classify };
    if !is_known {
        // Which action is meant, and so which fields there are, is not known either.
        for name in ["action", "reject", "always_keep_one"] {
            fields.has(name);
        }
        return;
    }
    match guarded {
        None => {
            let scope = endpoint_scope(&mut fields, scope);
            once(&mut fields, &mut found.endpoints, at, scope, "excludes endpoints");
        }
        Some(by) => {
            let scope = guard_scope(&mut fields, scope, by);
            once(&mut fields, &mut found.guard, at, scope, "rejects");
        }
    }
}

fn once<T>(
    fields: &mut Fields<'_>,
    place: &mut Option<(usize, T)>,
    at: usize,
    scope: T,
    does: &str,
) {
    match place {
        Some((first, _)) => {
            fields.problem(format!("scope {first} {does} already: one is enough, merge them"));
        }
        None => *place = Some((at, scope)),
    }
}

fn endpoint_scope(fields: &mut Fields<'_>, scope: Scope) -> EndpointScope {
    action(fields, Action::ExcludeEndpoint, "exclude_endpoint");
    let absent = !fields.has("reject");
    fields.require(
        "reject",
        absent,
        "only a scope by [\"route\"] or [\"cluster\"] rejects: leave it out",
    );
    EndpointScope { scope, always_keep_one: fields.flag("always_keep_one", true) }
}

fn guard_scope(fields: &mut Fields<'_>, scope: Scope, by: GuardedBy) -> GuardScope {
    action(fields, Action::Reject, "reject");
    let absent = !fields.has("always_keep_one");
    let message = "only a scope by [\"cluster\", \"endpoint\"] keeps endpoints: leave it out";
    fields.require("always_keep_one", absent, message);
    GuardScope { scope, by, reject: reject(fields.object("reject")) }
}

/// Follows from `by`, and may be said.
fn action(fields: &mut Fields<'_>, wanted: Action, name: &str) {
    if fields.choice("action", wanted) != wanted {
        let message = format!("does not fit 'by': leave it out, or write \"{name}\"");
        fields.problem_at("action", message);
    }
}

fn reject(mut fields: Fields<'_>) -> Rejection {
    Rejection {
        status: fields.integer("status", 400..=599, Or(503)),
        retry_after: fields.flag("retry_after", true),
        body: fields.text("body", Or("")),
    }
}

fn rules(fields: &mut Fields<'_>) -> Rules {
    let (window, minimum_number_of_calls) = window(fields.object("window"));
    let (failure_rate_threshold, consecutive_failures) = trip(fields.object("trip"));
    let (backoff, decay_interval) = open(fields.object("open"));
    let mut half_open = fields.object("half_open");
    let permitted_calls = half_open.integer("permitted_calls", 1..=MAX_PERMITS, Or(3));
    let most = if half_open.is_clean() { permitted_calls } else { MAX_PERMITS };
    Rules {
        window,
        minimum_number_of_calls,
        failure_rate_threshold,
        consecutive_failures,
        backoff,
        decay_interval,
        permitted_calls,
        max_concurrent: half_open.integer("max_concurrent", 1..=most, Or(permitted_calls)),
        permit_lease: half_open.duration("permit_lease", LEASES, Or(Duration::from_secs(10))),
        on_lease_expiry: half_open.choice("on_lease_expiry", LeaseExpiry::Failure),
    }
}

/// Size and minimum of calls. The size is long enough for the minimum of calls, and short enough to
/// forget a mended fault; resilience4j's 100 calls suit a window of 60 s, 20 are Hystrix's, for the
/// same 10 s as here.
fn window(mut fields: Fields<'_>) -> (Duration, u32) {
    let is_time = fields.choice("type", WindowType::Time) == WindowType::Time;
    let message = "'count' is not supported: use \"time\", whose size is a duration";
    fields.require("type", is_time, message);
    let size = fields.duration("size", WINDOWS, Or(Duration::from_secs(10)));
    (size, fields.integer("minimum_number_of_calls", 1..=1_000_000, Or(20)))
}

/// Percent of failures, and failures in a row: as Envoy's `consecutive_5xx`, 0 for never.
fn trip(mut fields: Fields<'_>) -> (f64, u32) {
    let rate = fields.number("failure_rate_threshold", 0.0..=100.0, Or(50.0));
    let message = "out of range: above 0, at most 100 percent";
    fields.require("failure_rate_threshold", rate > 0.0, message);
    (rate, fields.integer("consecutive_failures", 0..=1_000_000, Or(5)))
}

/// The back-off, and the decay interval. `max` is as Envoy's `max_ejection_time`.
fn open(mut fields: Fields<'_>) -> (Backoff, Duration) {
    let base = fields.duration("base", BACKOFFS, Or(Duration::from_secs(5)));
    let max = fields.duration("max", BACKOFFS, Or(Duration::from_secs(300)));
    if fields.is_clean() && base > max {
        let message =
            format!("{} is longer than max, {}: lower it, or raise max", Span(base), Span(max));
        fields.problem_at("base", message);
    }
    let multiplier = fields.number("multiplier", 1.0..=100.0, Or(2.0));
    let jitter = fields.choice("jitter", Jitter::Equal);
    let decay_interval = fields.duration("decay_interval", DECAYS, Or(Duration::from_secs(60)));
    (Backoff { base, max, multiplier, jitter }, decay_interval)
}

fn classify(mut fields: Fields<'_>) -> Classify {
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
    Classify { failure_statuses, ignore_statuses, grpc_failures }
}

fn statuses<'a>(fields: &mut Fields<'a>, name: &'a str, absent: &[&str]) -> StatusSet {
    let mut set = StatusSet::default();
    fields.texts(name, absent, &mut |text| {
        let message = || "no status: write \"503\" or \"500-599\", from 100 to 599".to_owned();
        set.add(text).then_some(()).ok_or_else(message)
    });
    set
}
