//! What the operator gets to see: metrics, logs and the access log.

use circuit_breaker_core::{
    Change, Config, Decision, Event, Exchange, GuardedBy, Mode, PermitTally, Subject,
};
use core::fmt::Write as _;
use plugin_kit::metrics::{Counter, Family, Gauge};
use plugin_kit::{Degraded, set_filter_state};
use shared_state::{BreakerState, Endpoint};

pub(crate) struct Report {
    degraded: Degraded,
    endpoints: Option<EndpointReport>,
    guard: Option<GuardReport>,
}

struct EndpointReport {
    scope: ScopeReport,
    excluded: Family<Counter>,
    all_rejected: Counter,
    unsteered: Counter,
}

struct GuardReport {
    scope: ScopeReport,
    rejected: Family<Counter>,
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
        let guard = config.guard.as_ref().map(|guard| {
            let name = ("scope", guard.scope.name.as_str());
            let scope = [plugin, name];
            let (scope, key): (_, &'static [_]) = match guard.by {
                GuardedBy::Route => {
                    (ScopeReport::new("route", &scope, &["route"], &["route", "to"]), &["route"])
                }
                GuardedBy::Cluster => (
                    ScopeReport::new("cluster", &scope, &["cluster"], &["cluster", "to"]),
                    &["cluster"],
                ),
            };
            let rejected = Family::new("weir_breaker_rejected_total", &[plugin, name, mode], key);
            GuardReport { scope, rejected }
        });
        Self { degraded: Degraded::new(&config.name), endpoints, guard }
    }

    /// The request has no cluster that this filter could know of.
    pub(crate) fn no_cluster(&self) {
        self.degraded.note("no_cluster", "a request has no cluster");
    }

    /// The request has no list of endpoints.
    pub(crate) fn unsteered(&self) {
        if let Some(endpoints) = &self.endpoints {
            endpoints.unsteered.add(1);
        }
    }

    pub(crate) fn decision(&self, cluster: &str, decision: &Decision, exchange: Option<&Exchange>) {
        match (decision, &self.endpoints, &self.guard) {
            (Decision::Reject { subject, .. }, _, Some(guard)) => {
                guard.rejected.with(&[&subject.name]).add(1);
            }
            (Decision::Pass { selection, .. }, Some(endpoints), _) => {
                for excluded in &selection.excluded {
                    endpoints.excluded.with(&[cluster, &excluded.to_string()]).add(1);
                }
                if selection.all_rejected {
                    endpoints.all_rejected.add(1);
                }
                let probed = exchange.and_then(Exchange::probed);
                access_log(&selection.excluded, selection.all_rejected, probed);
            }
            _ => {}
        }
    }

    /// Events of endpoints, and of what is guarded.
    pub(crate) fn events(&self, (of_endpoints, of_guarded): (Vec<Event>, Vec<Event>)) {
        let endpoints = self.endpoints.as_ref().map(|endpoints| &endpoints.scope);
        let guard = self.guard.as_ref().map(|guard| &guard.scope);
        for (scope, events) in [(endpoints, of_endpoints), (guard, of_guarded)] {
            let Some(scope) = scope else { continue };
            for event in events {
                match event {
                    Event::Changed { subject, change } => scope.changed(&subject, &change),
                    Event::Granted => scope.permits.with(&["granted"]).add(1),
                    Event::Resolved(tally) => resolved(&scope.permits, tally),
                    Event::Degraded(why) => self.degraded.note(why.label(), why.consequence()),
                }
            }
        }
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

    fn changed(&self, subject: &Subject, change: &Change) {
        let to = change.to.label();
        match subject.endpoint.map(|endpoint| endpoint.to_string()) {
            Some(endpoint) => {
                self.transitions.with(&[&subject.name, &endpoint, to]).add(1);
                self.state.with(&[&subject.name, &endpoint]).set(gauge(change.to));
                say(change, format_args!("{} {endpoint} of {}", self.kind, subject.name));
            }
            None => {
                self.transitions.with(&[&subject.name, to]).add(1);
                self.state.with(&[&subject.name]).set(gauge(change.to));
                say(change, format_args!("{} {}", self.kind, subject.name));
            }
        }
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
    }
}

/// An opening breaker is a warning; how it comes back is news.
fn say(change: &Change, of: core::fmt::Arguments<'_>) {
    match change.to {
        BreakerState::Open => log::warn!("{of}: {change}"),
        BreakerState::Closed | BreakerState::HalfOpen => log::info!("{of}: {change}"),
    }
}

/// Says what was done to the request; nothing, if nothing was.
fn access_log(excluded: &[Endpoint], all_rejected: bool, probed: Option<Endpoint>) {
    if excluded.is_empty() && !all_rejected && probed.is_none() {
        return;
    }
    let mut line = String::new();
    // Writing to a String cannot fail.
    for (at, endpoint) in excluded.iter().enumerate() {
        let _ = write!(line, "{}{endpoint}", if at == 0 { "excluded=" } else { "," });
    }
    let space = |line: &str| if line.is_empty() { "" } else { " " };
    if let Some(endpoint) = probed {
        let _ = write!(line, "{}probe={endpoint}", space(&line));
    }
    if all_rejected {
        let _ = write!(line, "{}all_rejected", space(&line));
    }
    set_filter_state("weir.circuit_breaker", &line);
}
