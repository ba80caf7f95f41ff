//! The rules that a type cannot hold. resilience4j lowers or ignores some of what is refused here.

use super::raw::{
    Action, By, RawClassify, RawConfig, RawHalfOpen, RawOpen, RawReject, RawScope, RawTrip,
    RawWindow, WindowType,
};
use super::{Config, EndpointScope, GuardScope, GuardedBy, Rejection, Scope};
use crate::class::{Classify, grpc};
use crate::status::StatusSet;
use crate::{Backoff, Rules};
use core::time::Duration;
use plugin_config::{Check, Problems, Span};
use shared_state::{DEFAULT_ENDPOINT_SCOPE, MAX_PERMITS};

/// A tenth of the shortest window is a tick: no bucket is shorter than a batch is late.
const WINDOW_SECS: core::ops::RangeInclusive<u64> = 1..=3600;

/// No back-off is longer than a day: nobody means that.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Shorter than this, a clock read in another callback could end it.
const SHORTEST: Duration = Duration::from_millis(100);

pub(super) fn config(raw: RawConfig) -> Result<Config, Problems> {
    let mut check = Check::new();
    check.name("name", &raw.name);
    check.at("steering", |check| check.header_name("header", &raw.steering.header));
    let (mut endpoints, mut guard) = (None, None);
    check.at("scopes", |check| {
        check.require(!raw.scopes.is_empty(), "no scope: nothing would have a breaker");
        for (at, raw) in raw.scopes.into_iter().enumerate() {
            check.at(at, |check| match checked(check, raw) {
                Some(Checked::Endpoints(scope)) => {
                    once(check, &mut endpoints, at, scope, "excludes endpoints")
                }
                Some(Checked::Guard(scope)) => once(check, &mut guard, at, scope, "rejects"),
                None => {}
            });
        }
    });
    let endpoints = endpoints.map(|(_, scope)| scope);
    let guard: Option<GuardScope> = guard.map(|(_, scope)| scope);
    let names = [endpoint_name(endpoints.as_ref()), guard.as_ref().map(|guard| &*guard.scope.name)];
    check.at("scopes", |check| check.unique("name", names.into_iter().flatten()));
    check.finish(Config {
        name: raw.name,
        mode: raw.mode,
        steering_header: raw.steering.header,
        endpoints,
        guard,
    })
}

enum Checked {
    Endpoints(EndpointScope),
    Guard(GuardScope),
}

fn endpoint_name(endpoints: Option<&EndpointScope>) -> Option<&str> {
    endpoints.map(|endpoints| &*endpoints.scope.name)
}

fn once<T>(check: &mut Check, place: &mut Option<(usize, T)>, at: usize, scope: T, does: &str) {
    match place {
        Some((first, _)) => {
            check.problem(format!("scope {first} {does} already: one is enough, merge them"));
        }
        None => *place = Some((at, scope)),
    }
}

fn checked(check: &mut Check, raw: RawScope) -> Option<Checked> {
    let (default_name, guarded) = match raw.by.as_slice() {
        [By::Cluster, By::Endpoint] | [By::Endpoint, By::Cluster] => (DEFAULT_ENDPOINT_SCOPE, None),
        [By::Route] => ("route", Some(GuardedBy::Route)),
        [By::Cluster] => ("cluster", Some(GuardedBy::Cluster)),
        _ => {
            require(
                check,
                "by",
                false,
                "what has a breaker: [\"cluster\", \"endpoint\"], [\"route\"] or [\"cluster\"]",
            );
            return None;
        }
    };
    fits(check, &raw, guarded.is_some());
    let name = raw.name.unwrap_or_else(|| default_name.to_owned());
    check.name("name", &name);
    let classify = check.at("classify", |check| classify(check, &raw.classify));
    let rules = rules(check, &raw.window, &raw.trip, &raw.open, &raw.half_open);
    let scope = Scope { name, rules, classify };
    Some(match guarded {
        None => {
            let always_keep_one = raw.always_keep_one.unwrap_or(true);
            Checked::Endpoints(EndpointScope { scope, always_keep_one })
        }
        Some(by) => {
            let RawReject { status, retry_after, body } = raw.reject.unwrap_or_default();
            check.at("reject", |check| check.range("status", status, 400..=599));
            let reject = Rejection { status, retry_after, body };
            Checked::Guard(GuardScope { scope, by, reject })
        }
    })
}

/// An action, and the fields of the other action, must fit what has the breaker.
fn fits(check: &mut Check, raw: &RawScope, is_guard: bool) {
    let (wanted, name) = if is_guard {
        (Action::Reject, "reject")
    } else {
        (Action::ExcludeEndpoint, "exclude_endpoint")
    };
    let holds = raw.action.is_none_or(|action| action == wanted);
    require(
        check,
        "action",
        holds,
        &format!("does not fit 'by': leave it out, or write \"{name}\""),
    );
    if is_guard {
        let absent = raw.always_keep_one.is_none();
        let message = "only a scope by [\"cluster\", \"endpoint\"] keeps endpoints";
        require(check, "always_keep_one", absent, message);
    } else {
        let message = "only a scope by [\"route\"] or [\"cluster\"] rejects";
        require(check, "reject", raw.reject.is_none(), message);
    }
}

fn rules(
    check: &mut Check,
    window: &RawWindow,
    trip: &RawTrip,
    open: &RawOpen,
    half_open: &RawHalfOpen,
) -> Rules {
    check.at("window", |check| {
        let message = "'count' is not supported: use \"time\", whose size is a duration";
        require(check, "type", window.r#type == WindowType::Time, message);
        let (least, most) = (*WINDOW_SECS.start(), *WINDOW_SECS.end());
        span(check, "size", window.size, Duration::from_secs(least), Duration::from_secs(most));
        check.range("minimum_number_of_calls", window.minimum_number_of_calls, 1..=1_000_000);
    });
    check.at("trip", |check| {
        let rate = trip.failure_rate_threshold;
        let message = "out of range: above 0, at most 100 percent";
        require(check, "failure_rate_threshold", rate > 0.0 && rate <= 100.0, message);
        check.range("consecutive_failures", trip.consecutive_failures, 0..=1_000_000);
    });
    Rules {
        window: window.size.0,
        minimum_number_of_calls: window.minimum_number_of_calls,
        failure_rate_threshold: trip.failure_rate_threshold,
        consecutive_failures: trip.consecutive_failures,
        backoff: check.at("open", |check| backoff(check, open)),
        decay_interval: open.decay_interval.0,
        permitted_calls: half_open.permitted_calls,
        max_concurrent: check.at("half_open", |check| max_concurrent(check, half_open)),
        permit_lease: half_open.permit_lease.0,
        on_lease_expiry: half_open.on_lease_expiry,
    }
}

fn backoff(check: &mut Check, open: &RawOpen) -> Backoff {
    span(check, "max", open.max, SHORTEST, LONGEST);
    span(check, "base", open.base, SHORTEST, LONGEST);
    let (base, max) = (open.base, open.max);
    require(check, "base", base <= max, &format!("{base} is longer than max, {max}"));
    check.range("multiplier", open.multiplier, 1.0..=100.0);
    span(check, "decay_interval", open.decay_interval, Duration::from_secs(1), LONGEST);
    Backoff { base: base.0, max: max.0, multiplier: open.multiplier, jitter: open.jitter }
}

fn max_concurrent(check: &mut Check, half_open: &RawHalfOpen) -> u16 {
    let permitted = half_open.permitted_calls;
    check.range("permitted_calls", permitted, 1..=MAX_PERMITS);
    span(check, "permit_lease", half_open.permit_lease, SHORTEST, Duration::from_secs(3600));
    let max_concurrent = half_open.max_concurrent.unwrap_or(permitted);
    if half_open.max_concurrent.is_some() {
        check.range("max_concurrent", max_concurrent, 1..=permitted.max(1));
    }
    max_concurrent
}

fn require(check: &mut Check, field: &str, holds: bool, message: &str) {
    check.at(field, |check| check.require(holds, message));
}

fn span(check: &mut Check, field: &str, value: Span, least: Duration, most: Duration) {
    check.range(field, value, Span(least)..=Span(most));
}

fn classify(check: &mut Check, raw: &RawClassify) -> Classify {
    let failure_statuses = statuses(check, "failure_statuses", &raw.failure_statuses);
    let ignore_statuses = statuses(check, "ignore_statuses", &raw.ignore_statuses);
    if let Some(both) = failure_statuses.overlap(&ignore_statuses) {
        let message = format!("{both} stands in failure_statuses too: take it out of one");
        require(check, "ignore_statuses", false, &message);
    }
    let mut grpc_failures = 0;
    for (at, name) in raw.grpc_failures.iter().enumerate() {
        match grpc::NAMES.iter().position(|known| known == name) {
            Some(code) => grpc_failures |= 1 << code,
            None => check.at("grpc_failures", |check| {
                check.at(at, |check| {
                    check.problem(format!(
                        "'{name}' is no gRPC code: write one such as UNAVAILABLE"
                    ));
                });
            }),
        }
    }
    Classify { failure_statuses, ignore_statuses, grpc_failures }
}

fn statuses(check: &mut Check, field: &str, texts: &[String]) -> StatusSet {
    match StatusSet::parse(texts.iter().map(String::as_str)) {
        Ok(set) => set,
        Err(at) => {
            check.at(field, |check| {
                check.at(at, |check| {
                    check.problem("no status: write \"503\" or \"500-599\", from 100 to 599");
                });
            });
            StatusSet::default()
        }
    }
}
