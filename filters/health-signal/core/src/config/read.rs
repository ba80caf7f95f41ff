//! The document: every field with its range and its default, and the rules between fields.

mod active;

use super::{
    ANY_CLUSTER, Cluster, Config, FlapRules, Limit, Mode, Orca, Passive, PollAge, Position,
    ReportedState, Smoothing, Staleness,
};
use crate::{Signal, StatusRanges};
use active::{DEFAULT_INTERVAL, active};
use core::time::Duration;
use plugin_config::{Choice, Fields, Or, Span};
use shared_state::{Endpoint, MAX_MEMBERS};

/// Most clusters of one document: each costs the leader a round of reads every tick.
const MAX_CLUSTERS: usize = 64;

/// Most kinds of polls of one cluster.
const MAX_POLLS: usize = 16;

/// Longest time that means anything here. Longer ones are slips.
const DAY: Duration = Duration::from_secs(86_400);

const SECOND: Duration = Duration::from_secs(1);

impl Choice for Mode {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("enforce", Self::Enforce), ("shadow", Self::Shadow), ("off", Self::Off)];
}

impl Choice for Position {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("downstream", Self::Downstream), ("upstream", Self::Upstream)];
}

impl Choice for ReportedState {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("healthy", Self::Healthy),
        ("degraded", Self::Degraded),
        ("unready", Self::Unready),
        ("down", Self::Down),
    ];
}

pub(super) fn config(mut fields: Fields<'_>) -> Config {
    let intervals = Duration::from_millis(100)..=Duration::from_secs(5);
    let publish_interval =
        fields.duration("publish_interval", intervals, Or(Duration::from_millis(250)));
    Config {
        name: fields.name("name", Or("health_signal")),
        mode: fields.choice("mode", Mode::Enforce),
        position: fields.choice("position", Position::Downstream),
        clusters: clusters(&mut fields),
        lease: leader(fields.object("leader"), publish_interval),
        publish_interval,
    }
}

/// The lease.
fn leader(mut fields: Fields<'_>, publish_interval: Duration) -> Duration {
    let leases = SECOND..=Duration::from_secs(60);
    let lease = fields.duration("lease", leases, Or(Duration::from_secs(3)));
    // A leader renews at a third of its lease, on a tick: two ticks may be late.
    if fields.is_clean() && lease < publish_interval.saturating_mul(3) {
        fields.problem_at("lease", "shorter than three times publish_interval: make it longer");
    }
    lease
}

fn clusters(fields: &mut Fields<'_>) -> Vec<Cluster> {
    if !fields.has("clusters") {
        return vec![cluster(fields.object("clusters"), ANY_CLUSTER)];
    }
    let some = fields.count("clusters") != Some(0);
    let message = "nothing is watched: name a cluster, or leave the field out to watch all";
    fields.require("clusters", some, message);
    let few = fields.count("clusters") <= Some(MAX_CLUSTERS);
    fields.require("clusters", few, "more than 64 entries: use \"*\"");
    fields.unique("clusters", "name");
    fields.each("clusters", |_, fields| cluster(fields, ""))
}

fn cluster(mut fields: Fields<'_>, default_name: &str) -> Cluster {
    let few = fields.count("active").is_none_or(|count| count <= MAX_POLLS);
    fields.require("active", few, "more than 16 kinds of polls");
    let active = fields.each_or_one("active", active);
    let longest = active.iter().map(|active| active.interval).max().unwrap_or(DEFAULT_INTERVAL);
    let longest = fields.is_clean().then_some(longest);
    let staleness = staleness(fields.object("staleness"), longest);
    let name = fields.text("name", Or(default_name));
    fields.require("name", !name.is_empty(), "missing: name a cluster, or \"*\" for all");
    let plain = name == ANY_CLUSTER || !name.contains('*');
    fields.require("name", plain, "no patterns: a full name, or \"*\" alone");
    Cluster {
        endpoints: endpoints(&mut fields, name == ANY_CLUSTER),
        name,
        passive: passive(fields.object("passive")),
        orca: orca(fields.object("orca")),
        active,
        max_probe_rps: fields.integer("max_probe_rps", 1..=10_000, Or(100)),
        limits: limits(fields.object("limits")),
        smoothing: smoothing(fields.object("smoothing")),
        flap: flap(fields.object("flap")),
        ramp: fields.duration("ramp", Duration::ZERO..=DAY, Or(Duration::ZERO)),
        agent_header: fields
            .has("agent_header")
            .then(|| fields.header_name("agent_header", Or("x-agent"))),
        staleness,
        steering_header: fields
            .header_name("steering_header", Or("x-gateway-destination-endpoint")),
    }
}

fn endpoints(fields: &mut Fields<'_>, of_any: bool) -> Vec<Endpoint> {
    let count = fields.count("endpoints");
    let named = !of_any || count == Some(0);
    fields.require("endpoints", named, "not for \"*\": name the cluster they are in");
    let few = count <= Some(usize::from(MAX_MEMBERS));
    fields.require("endpoints", few, "more than 1024 endpoints");
    let mut list: Vec<Endpoint> = Vec::new();
    fields.texts("endpoints", &[], &mut |text| match text.parse() {
        Ok(endpoint) if list.contains(&endpoint) => {
            Err(format!("'{text}' stands twice: remove one"))
        }
        Ok(endpoint) => {
            list.push(endpoint);
            Ok(())
        }
        Err(_) => Err(format!(
            "'{text}' is no ip:port: write an address such as 10.0.0.1:8080 or [::1]:8080, not a \
             name"
        )),
    });
    list
}

fn passive(mut fields: Fields<'_>) -> Passive {
    Passive {
        enabled: fields.flag("enabled", true),
        fall: fields.integer("fall", 1..=100, Or(3)),
        rise: fields.integer("rise", 1..=100, Or(1)),
        failure_statuses: statuses(&mut fields, "failure_statuses", "500-599"),
    }
}

fn orca(mut fields: Fields<'_>) -> Orca {
    let is_streamed = fields.has("oob_reporting_period");
    let periods = SECOND..=Duration::from_secs(3600);
    let period = fields.duration("oob_reporting_period", periods, Or(Duration::from_secs(10)));
    Orca {
        oob_reporting_period: is_streamed.then_some(period),
        enabled: fields.flag("enabled", true),
        strict: fields.flag("strict", false),
        strip_response_header: fields.flag("strip_response_header", true),
    }
}

fn statuses<'a>(fields: &mut Fields<'a>, name: &'a str, absent: &str) -> StatusRanges {
    let mut ranges = StatusRanges::default();
    fields.one_or_many(name, &[absent], &mut |text| {
        if ranges.add(text) {
            return Ok(());
        }
        Err(format!("'{text}' is no status: write \"503\" or \"200-299\", within 100 to 599"))
    });
    ranges
}

/// Reads the age limits. `longest` is the longest interval of all polls, `None` if one is wrong.
fn staleness(mut fields: Fields<'_>, longest: Option<Duration>) -> Staleness {
    let orca = fields.duration("orca", SECOND..=DAY, Or(Duration::from_secs(180)));
    let passive = fields.duration("passive", SECOND..=DAY, Or(Duration::from_secs(60)));
    let text = fields.text("active", Or("3x"));
    let known = longest.unwrap_or(DEFAULT_INTERVAL);
    let age = match text.strip_suffix('x') {
        Some(factor) => factor.parse().ok().map(PollAge::Intervals),
        None => text.parse().ok().map(|Span(limit)| PollAge::Span(limit)),
    };
    let limit = match age {
        Some(PollAge::Intervals(count)) => Some(known.saturating_mul(count)),
        Some(PollAge::Span(span)) => Some(span),
        None => None,
    };
    match limit {
        None => {
            let message = format!(
                "'{text}' is neither a duration such as \"15s\" nor a multiple of the interval such \
                 as \"3x\""
            );
            fields.problem_at("active", message);
        }
        Some(limit) => {
            let sound = limit >= known.saturating_mul(2) && limit <= DAY;
            let message = "below two intervals, or above a day: one late poll would make it stale; \
                           write such as \"3x\"";
            fields.require("active", sound || longest.is_none(), message);
        }
    }
    Staleness { orca, active: age.unwrap_or(PollAge::Intervals(3)), passive }
}

fn limits(mut fields: Fields<'_>) -> Vec<Limit> {
    let mut limits = Vec::new();
    for name in fields.names() {
        let signal = signal(&mut fields, name, name);
        let mut fields = fields.object(name);
        let mut bound = |name| {
            let is_there = fields.has(name);
            let value = fields.number(name, 0.0..=1e15, Or(0.0));
            is_there.then_some(value)
        };
        let (degraded_above, unready_above) = (bound("degraded_above"), bound("unready_above"));
        if let (Some(degraded), Some(unready)) = (degraded_above, unready_above) {
            let message = "not below unready_above: the endpoint would never be degraded";
            fields.require("degraded_above", degraded < unready, message);
        } else if degraded_above.is_none() && unready_above.is_none() && fields.is_clean() {
            let message = "no limit: set degraded_above, unready_above or both";
            fields.problem(message);
        }
        limits.extend(signal.map(|signal| Limit { signal, degraded_above, unready_above }));
    }
    limits
}

/// The signal called `word`, which stands at the field `name`.
fn signal(fields: &mut Fields<'_>, name: &str, word: &str) -> Option<Signal> {
    let found = Signal::named(word);
    if found.is_none() {
        let known: Vec<&str> = Signal::NAMED.iter().map(|(name, _)| *name).collect();
        let known = known.join(", ");
        fields
            .problem_at(name, format!("'{word}' is no signal: expected one of {known}, custom.*"));
    }
    found
}

fn smoothing(mut fields: Fields<'_>) -> Smoothing {
    let times = Duration::ZERO..=Duration::from_secs(600);
    let mut time = |name, secs| fields.duration(name, times.clone(), Or(Duration::from_secs(secs)));
    Smoothing {
        utilization: time("utilization", 3),
        queue_depth: time("queue_depth", 1),
        latency: time("latency", 4),
    }
}

fn flap(mut fields: Fields<'_>) -> FlapRules {
    let times = SECOND..=Duration::from_secs(3600);
    let rules = FlapRules {
        penalty: f64::from(fields.integer("penalty", 0..=1_000_000_u32, Or(1000))),
        half_life: fields.duration("half_life", times.clone(), Or(Duration::from_secs(15))),
        suppress: f64::from(fields.integer("suppress", 1..=1_000_000_u32, Or(2000))),
        reuse: f64::from(fields.integer("reuse", 1..=1_000_000_u32, Or(750))),
        max: fields.duration("max", times, Or(Duration::from_secs(60))),
    };
    if fields.is_clean() {
        let message = "not below suppress: an endpoint would be suppressed and released at once";
        fields.require("reuse", rules.reuse < rules.suppress, message);
        let message = "below half_life: the penalty would hardly decay; make it longer";
        fields.require("max", rules.max >= rules.half_life, message);
    }
    rules
}
