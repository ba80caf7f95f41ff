//! What the operator gets to see: metrics, logs and the access log.

use crate::exchange::HostRequest;
use circuit_breaker_core::{
    Action, Cause, Change, Config, Decision, Event, Exchange, Mode, PermitTally, Subject,
};
use core::fmt::Write as _;
use plugin_kit::metrics::{Counter, Family, Gauge};
use plugin_kit::{Degraded, set_filter_state};
use request_key::Attributes;
use shared_state::{BreakerState, Endpoint};

pub(crate) struct Report {
    degraded: Degraded,
    endpoints: Option<EndpointReport>,
    guards: Vec<GuardReport>,
}

struct EndpointReport {
    scope: ScopeReport,
    excluded: Family<Counter>,
    all_rejected: Counter,
    unsteered: Counter,
}

struct GuardReport {
    scope: ScopeReport,
    name: String,
    /// Clients choose what it has breakers for, so that is no label.
    is_keyed: bool,
    rejected: Family<Counter>,
    pardoned: Family<Counter>,
}

struct ScopeReport {
    /// What has a breaker, in words.
    kind: &'static str,
    transitions: Family<Counter>,
    state: Family<Gauge>,
    permits: Family<Counter>,
}

impl Report {
    pub(crate) fn new(config: &Config) -> Self {
        let plugin = ("plugin", config.name.as_str());
        let mode = ("mode", if config.mode == Mode::Shadow { "shadow" } else { "enforce" });
        let endpoints = config.endpoints.as_ref().map(|endpoints| {
            let scope = [plugin, ("scope", endpoints.scope.name.as_str())];
            let key = &["cluster", "endpoint"];
            EndpointReport {
                scope: ScopeReport::new("endpoint", &scope, key, &["cluster", "endpoint", "to"]),
                excluded: Family::new("weir_breaker_excluded_total", &[plugin, mode], key),
                all_rejected: Counter::new("weir_breaker_all_rejected_total", &[plugin, mode]),
                unsteered: Counter::new("weir_breaker_unsteered_total", &[plugin]),
            }
        });
        let guards = config.guards.iter().map(|guard| {
            let name = ("scope", guard.scope.name.as_str());
            let kind = guard.kind();
            type Labels = &'static [&'static str];
            let (key, key_and_to, cause_and_key): (Labels, Labels, Labels) = match kind {
                "route" => (&["route"], &["route", "to"], &["cause", "route"]),
                "cluster" => (&["cluster"], &["cluster", "to"], &["cause", "cluster"]),
                _ if guard.slots.is_some() => (&[], &["to"], &["cause"]),
                _ => (&["key"], &["key", "to"], &["cause", "key"]),
            };
            let rejected = |mode| {
                let fixed = [plugin, name, ("mode", mode)];
                Family::new("weir_breaker_rejected_total", &fixed, cause_and_key)
            };
            let acts = guard.action != Action::Pass;
            GuardReport {
                scope: ScopeReport::new(kind, &[plugin, name], key, key_and_to),
                name: guard.scope.name.clone(),
                is_keyed: guard.slots.is_some(),
                rejected: rejected(if acts { mode.1 } else { "shadow" }),
                pardoned: rejected("shadow"),
            }
        });
        let guards = guards.collect();
        Self { degraded: Degraded::new(&config.name), endpoints, guards }
    }

    pub(crate) fn decision(
        &self,
        request: &HostRequest<'_>,
        decision: &Decision,
        exchange: Option<&Exchange>,
    ) {
        match (decision, &self.endpoints) {
            (Decision::Reject { guard, subject, cause, .. }, _) => {
                self.rejected(*guard, subject, *cause);
            }
            (Decision::Pass { selection, open, .. }, endpoints) => {
                if let Some((guard, subject)) = open {
                    self.rejected(*guard, subject, Cause::Breaker);
                }
                if let Some(endpoints) = endpoints {
                    if selection.keep.is_empty() && selection.excluded.is_empty() {
                        endpoints.unsteered.add(1);
                    }
                    for excluded in &selection.excluded {
                        let cluster = request.cluster().unwrap_or_default();
                        endpoints.excluded.with(&[&cluster, &excluded.to_string()]).add(1);
                    }
                    if selection.all_rejected {
                        endpoints.all_rejected.add(1);
                    }
                }
                let open = open.as_ref().and_then(|(guard, subject)| {
                    Some((self.guards.get(*guard)?.name.as_str(), subject))
                });
                let probed = exchange.and_then(Exchange::probed);
                access_log(open, &selection.excluded, selection.all_rejected, probed);
            }
        }
    }

    fn rejected(&self, guard: usize, subject: &Subject, cause: Cause) {
        if let Some(guard) = self.guards.get(guard) {
            guard.rejected.with(guard.labels(&[cause.label(), &subject.name])).add(1);
        }
    }

    /// Events, each with its guard.
    pub(crate) fn events(&self, events: Vec<(Option<usize>, Event)>) {
        for (at, event) in events {
            let guard = at.and_then(|at| self.guards.get(at));
            let scope = match (at, guard) {
                (Some(_), Some(guard)) => Some(&guard.scope),
                _ => self.endpoints.as_ref().map(|endpoints| &endpoints.scope),
            };
            match (event, scope) {
                (Event::Degraded(why), _) => self.degraded.note(why.label(), why.consequence()),
                (Event::Changed { subject, change }, Some(scope)) => {
                    scope.changed(guard.is_some_and(|guard| guard.is_keyed), &subject, &change);
                }
                (Event::Granted, Some(scope)) => scope.permits.with(&["granted"]).add(1),
                (Event::Resolved(tally), Some(scope)) => resolved(&scope.permits, tally),
                (Event::Pardoned(subject), _) => {
                    if let Some(guard) = guard {
                        let labels = [Cause::Breaker.label(), &subject.name];
                        guard.pardoned.with(guard.labels(&labels)).add(1);
                    }
                }
                (_, None) => {}
            }
        }
    }
}

impl GuardReport {
    fn labels<'a>(&self, labels: &'a [&'a str]) -> &'a [&'a str] {
        if self.is_keyed { labels.get(..1).unwrap_or_default() } else { labels }
    }
}

impl ScopeReport {
    fn new(
        kind: &'static str,
        fixed: &[(&'static str, &str)],
        key: &'static [&'static str],
        key_and_to: &'static [&'static str],
    ) -> Self {
        Self {
            kind,
            transitions: Family::new("weir_breaker_transitions_total", fixed, key_and_to),
            state: Family::new("weir_breaker_state", fixed, key),
            permits: Family::new("weir_breaker_permits_total", fixed, &["outcome"]),
        }
    }

    fn changed(&self, is_keyed: bool, subject: &Subject, change: &Change) {
        let to = change.to.label();
        match subject.endpoint.map(|endpoint| endpoint.to_string()) {
            Some(endpoint) => {
                self.transitions.with(&[&subject.name, &endpoint, to]).add(1);
                self.state.with(&[&subject.name, &endpoint]).set(gauge(change.to));
            }
            None if is_keyed => self.transitions.with(&[to]).add(1),
            None => {
                self.transitions.with(&[&subject.name, to]).add(1);
                self.state.with(&[&subject.name]).set(gauge(change.to));
            }
        }
        say(change, format_args!("{} {subject}", self.kind));
    }
}

fn resolved(permits: &Family<Counter>, tally: PermitTally) {
    let outcomes = [
        ("succeeded", tally.succeeded),
        ("failed", tally.failed),
        ("returned", tally.returned),
        ("expired", tally.expired),
    ];
    for (outcome, count) in outcomes.into_iter().filter(|(_, count)| *count > 0) {
        permits.with(&[outcome]).add(u64::from(count));
    }
}

fn gauge(state: BreakerState) -> u64 {
    match state {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
        BreakerState::Ramping => 3,
    }
}

/// An opening breaker is a warning; how it comes back is news.
fn say(change: &Change, of: core::fmt::Arguments<'_>) {
    match change.to {
        BreakerState::Open => log::warn!("{of}: {change}"),
        BreakerState::Closed | BreakerState::HalfOpen | BreakerState::Ramping => {
            log::info!("{of}: {change}")
        }
    }
}

/// Says what was done to the request; nothing, if nothing was.
fn access_log(
    open: Option<(&str, &Subject)>,
    excluded: &[Endpoint],
    all_rejected: bool,
    probed: Option<Endpoint>,
) {
    if open.is_none() && excluded.is_empty() && !all_rejected && probed.is_none() {
        return;
    }
    let mut line = String::new();
    let space = |line: &str| if line.is_empty() { "" } else { " " };
    // Writing to a String cannot fail.
    if let Some((scope, subject)) = open {
        let _ = write!(line, "open {scope}={subject}");
    }
    for (at, endpoint) in excluded.iter().enumerate() {
        let before = if at > 0 { "," } else { space(&line) };
        let _ = write!(line, "{before}{}{endpoint}", if at == 0 { "excluded=" } else { "" });
    }
    if let Some(endpoint) = probed {
        let _ = write!(line, "{}probe={endpoint}", space(&line));
    }
    if all_rejected {
        let _ = write!(line, "{}all_rejected", space(&line));
    }
    set_filter_state("weir.circuit_breaker", &line);
}
