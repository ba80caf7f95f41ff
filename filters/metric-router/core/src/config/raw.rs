//! The configuration as it is written, and its rules.

use super::{
    ClusterConfig, Config, Endpoints, LeastCost, LoadReports, Mode, Policy, SlowStart, Steering,
};
use core::time::Duration;
use plugin_config::{Check, Parsed, Problems, Span};
use serde::Deserialize;
use shared_state::{Endpoint, MAX_MEMBERS};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    name: String,
    mode: Mode,
    steering: RawSteering,
    clusters: Vec<RawCluster>,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            name: "metric_router".to_owned(),
            mode: Mode::Enforce,
            steering: RawSteering::default(),
            clusters: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSteering {
    header: String,
    max_endpoints: u32,
}

impl Default for RawSteering {
    fn default() -> Self {
        Self { header: "x-gateway-destination-endpoint".to_owned(), max_endpoints: 3 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawCluster {
    name: String,
    policy: Policy,
    endpoints: Option<Vec<String>>,
    learn: Option<RawLearn>,
    update_interval: Span,
    healthy_panic_threshold: f64,
    slow_start_config: RawSlowStart,
    weighted_round_robin: RawLoadReports,
    least_cost: Option<RawLeastCost>,
}

impl Default for RawCluster {
    fn default() -> Self {
        Self {
            name: String::new(),
            policy: Policy::LeastCost,
            endpoints: None,
            learn: None,
            update_interval: Span(super::DEFAULT_UPDATE),
            healthy_panic_threshold: 50.0,
            slow_start_config: RawSlowStart::default(),
            weighted_round_robin: RawLoadReports::default(),
            least_cost: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLearn {
    exploration_percent: f64,
    verification_percent: f64,
}

impl Default for RawLearn {
    fn default() -> Self {
        Self { exploration_percent: 5.0, verification_percent: 0.5 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSlowStart {
    slow_start_window: Span,
    min_weight_percent: f64,
}

impl Default for RawSlowStart {
    fn default() -> Self {
        Self { slow_start_window: Span::from_secs(10), min_weight_percent: 10.0 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLoadReports {
    blackout_period: Span,
    weight_expiration_period: Span,
    error_utilization_penalty: f64,
    metric_names_for_computing_utilization: Vec<String>,
}

impl Default for RawLoadReports {
    fn default() -> Self {
        Self {
            blackout_period: Span::from_secs(10),
            weight_expiration_period: Span::from_secs(180),
            error_utilization_penalty: 1.0,
            metric_names_for_computing_utilization: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLeastCost {
    default_latency: Span,
    decay_time: Span,
    error_penalty: f64,
}

impl Default for RawLeastCost {
    fn default() -> Self {
        Self {
            default_latency: Span::from_millis(30),
            decay_time: Span::from_secs(10),
            error_penalty: 10.0,
        }
    }
}

/// Headers that belong to the connection or to the message's framing.
const RESERVED_HEADERS: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Entries of `clusters` at most.
const MAX_ENTRIES: usize = 256;

/// Longest cluster name, in bytes.
const MAX_NAME_BYTES: usize = 512;

pub(super) fn from_json(bytes: &[u8]) -> Result<Parsed<Config>, Problems> {
    let Parsed { value: raw, hash } = plugin_config::parse::<RawConfig>(bytes)?;
    let mut check = Check::new();
    check.name("name", &raw.name);
    let steering = check.at("steering", |check| steering(check, &raw.steering));
    let clusters = check.at("clusters", |check| {
        check.require(
            !raw.clusters.is_empty(),
            "name at least one cluster; \"*\" stands for every cluster not named",
        );
        check.require(raw.clusters.len() <= MAX_ENTRIES, format!("at most {MAX_ENTRIES} entries"));
        check.unique("name", raw.clusters.iter().map(|cluster| cluster.name.as_str()));
        let entries = raw.clusters.iter().enumerate();
        entries.map(|(at, raw)| check.at(at, |check| cluster(check, raw))).collect()
    });
    let config = Config { name: raw.name, mode: raw.mode, steering, clusters };
    check.finish(config).map(|value| Parsed { value, hash })
}

fn steering(check: &mut Check, raw: &RawSteering) -> Steering {
    check.header_name("header", &raw.header);
    if RESERVED_HEADERS.contains(&raw.header.as_str()) {
        let message = format!("'{}' has a meaning of its own: take an x- header", raw.header);
        check.at("header", |check| check.problem(message));
    }
    check.range("max_endpoints", raw.max_endpoints, 1..=8);
    Steering { header: raw.header.clone(), max_endpoints: raw.max_endpoints as usize }
}

fn cluster(check: &mut Check, raw: &RawCluster) -> ClusterConfig {
    let usable = !raw.name.is_empty() && raw.name.len() <= MAX_NAME_BYTES;
    if !usable {
        check.at("name", |check| {
            check.problem("name the cluster as the proxy does, or \"*\" for all others");
        });
    }
    if raw.policy != Policy::LeastCost && raw.least_cost.is_some() {
        check.at("least_cost", |check| {
            check.problem("has no effect: the policy is not least_cost; remove one of the two");
        });
    }
    let update = raw.update_interval;
    span(check, "update_interval", update, Span::from_millis(10), Span::from_secs(10));
    let panic = raw.healthy_panic_threshold;
    check.range("healthy_panic_threshold", panic, 0.0..=100.0);
    ClusterConfig {
        name: raw.name.clone(),
        policy: raw.policy,
        endpoints: endpoints(check, raw),
        update_interval: update.0,
        healthy_panic_threshold: panic,
        slow_start: slow_start(check, &raw.slow_start_config),
        load_reports: load_reports(check, &raw.weighted_round_robin),
        least_cost: least_cost(check, raw.least_cost.as_ref()),
    }
}

fn endpoints(check: &mut Check, raw: &RawCluster) -> Endpoints {
    let Some(list) = &raw.endpoints else {
        let learn = raw.learn.as_ref();
        let default = RawLearn::default();
        let RawLearn { exploration_percent, verification_percent } = learn.unwrap_or(&default);
        check.at("learn", |check| {
            check.range("exploration_percent", *exploration_percent, 1.0..=100.0);
            check.range("verification_percent", *verification_percent, 0.0..=100.0);
        });
        return Endpoints::Learned {
            exploration: exploration_percent / 100.0,
            verification: verification_percent / 100.0,
        };
    };
    if raw.learn.is_some() {
        check.at("learn", |check| {
            check.problem("endpoints are listed, so none are learned; remove one of the two");
        });
    }
    Endpoints::Static(check.at("endpoints", |check| static_endpoints(check, list)))
}

fn static_endpoints(check: &mut Check, list: &[String]) -> Vec<Endpoint> {
    check.require(!list.is_empty(), "list an endpoint, or leave the field out to learn them");
    check.require(
        list.len() <= usize::from(MAX_MEMBERS),
        format!("{} endpoints are too many: the limit is {MAX_MEMBERS}", list.len()),
    );
    let mut endpoints = Vec::new();
    for (at, text) in list.iter().enumerate() {
        check.at(at, |check| match text.parse::<Endpoint>() {
            Ok(endpoint) if endpoints.contains(&endpoint) => {
                check.problem(format!("'{text}' is listed twice: keep one"));
            }
            Ok(endpoint) => endpoints.push(endpoint),
            Err(_) => check.problem(format!(
                "'{text}' is no ip:port: the proxy compares addresses and resolves no names; write \
                 such as 10.0.0.1:8080 or [fd00::1]:8080"
            )),
        });
    }
    endpoints
}

fn slow_start(check: &mut Check, raw: &RawSlowStart) -> SlowStart {
    check.at("slow_start_config", |check| {
        let window = raw.slow_start_window;
        span(check, "slow_start_window", window, Span::from_secs(0), Span::from_secs(3600));
        check.range("min_weight_percent", raw.min_weight_percent, 1.0..=100.0);
        SlowStart { window: window.0, min_weight: raw.min_weight_percent / 100.0 }
    })
}

fn load_reports(check: &mut Check, raw: &RawLoadReports) -> LoadReports {
    check.at("weighted_round_robin", |check| {
        let (zero, hour) = (Span::from_secs(0), Span::from_secs(3600));
        span(check, "blackout_period", raw.blackout_period, zero, hour);
        let expiration = raw.weight_expiration_period;
        span(check, "weight_expiration_period", expiration, Span::from_secs(1), hour);
        check.range("error_utilization_penalty", raw.error_utilization_penalty, 0.0..=1000.0);
        let names = &raw.metric_names_for_computing_utilization;
        check.at("metric_names_for_computing_utilization", |check| {
            for (at, name) in names.iter().enumerate() {
                check.at(at, |check| check.require(!name.is_empty(), "name a metric"));
            }
        });
        LoadReports {
            blackout_period: raw.blackout_period.0,
            weight_expiration_period: expiration.0,
            error_utilization_penalty: raw.error_utilization_penalty,
            metric_names: names.clone(),
        }
    })
}

fn least_cost(check: &mut Check, raw: Option<&RawLeastCost>) -> LeastCost {
    let default = RawLeastCost::default();
    let raw = raw.unwrap_or(&default);
    check.at("least_cost", |check| {
        let millisecond = Span::from_millis(1);
        span(check, "default_latency", raw.default_latency, millisecond, Span::from_secs(60));
        span(check, "decay_time", raw.decay_time, Span::from_millis(100), Span::from_secs(3600));
        check.range("error_penalty", raw.error_penalty, 0.0..=1000.0);
    });
    LeastCost {
        default_latency: raw.default_latency.0,
        decay_time: raw.decay_time.0,
        error_penalty: raw.error_penalty,
    }
}

fn span(check: &mut Check, field: &str, value: Span, least: Span, most: Span) {
    if value.0 < Duration::ZERO.max(least.0) || value.0 > most.0 {
        check.at(field, |check| {
            check.problem(format!("{value} is out of range: {least} to {most}"));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> Config {
        from_json(json.as_bytes()).unwrap().value
    }

    fn problems(json: &str) -> Vec<String> {
        let problems = from_json(json.as_bytes()).unwrap_err();
        problems.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_smallest_configuration_learns_every_cluster_and_picks_by_cost() {
        let config = config(r#"{"clusters":[{"name":"*"}]}"#);
        assert_eq!((config.name.as_str(), config.mode), ("metric_router", Mode::Enforce));
        assert_eq!(config.steering.header, "x-gateway-destination-endpoint");
        let entry = config.cluster("anything").unwrap();
        assert_eq!(entry.policy, Policy::LeastCost);
        assert_eq!(entry.endpoints, Endpoints::Learned { exploration: 0.05, verification: 0.005 });
        assert_eq!(config.tick_period(), Duration::from_millis(100));
    }

    #[test]
    fn a_named_cluster_goes_before_the_default() {
        let json = r#"{"clusters":[{"name":"*"},
            {"name":"a","policy":"weighted_round_robin","update_interval":"0.05s"}]}"#;
        let config = config(json);
        assert_eq!(config.cluster("a").unwrap().policy, Policy::WeightedRoundRobin);
        assert_eq!(config.cluster("b").unwrap().policy, Policy::LeastCost);
        assert_eq!(config.tick_period(), Duration::from_millis(50));
    }

    #[test]
    fn a_cluster_without_an_entry_is_unknown() {
        assert_eq!(config(r#"{"clusters":[{"name":"a"}]}"#).cluster("b"), None);
    }

    #[test]
    fn a_static_list_keeps_its_order() {
        let json = r#"{"clusters":[{"name":"a","endpoints":["10.0.0.2:80","[::1]:80"]}]}"#;
        let expected = ["10.0.0.2:80", "[::1]:80"].map(|text| text.parse().unwrap());
        let config = config(json);
        assert_eq!(config.clusters[0].endpoints, Endpoints::Static(expected.to_vec()));
    }

    #[test]
    fn a_name_as_endpoint_is_told_what_to_write_instead() {
        let json =
            r#"{"clusters":[{"name":"a","endpoints":["app.svc:80","1.1.1.1:1","1.1.1.1:1"]}]}"#;
        let told = problems(json);
        assert!(told[0].starts_with("/clusters/0/endpoints/0: 'app.svc:80' is no ip:port"));
        assert_eq!(told[1], "/clusters/0/endpoints/2: '1.1.1.1:1' is listed twice: keep one");
    }

    #[test]
    fn every_rule_names_its_place() {
        let json = r#"{"name":"A B","steering":{"header":"host","max_endpoints":9},"clusters":[
            {"name":"","update_interval":"0.001s","healthy_panic_threshold":101,
             "endpoints":[],"learn":{}},
            {"name":"x","policy":"weighted_round_robin","least_cost":{},
             "learn":{"exploration_percent":0},
             "slow_start_config":{"min_weight_percent":0},
             "weighted_round_robin":{"error_utilization_penalty":-1,
               "metric_names_for_computing_utilization":[""]}},
            {"name":"x","least_cost":{"default_latency":"0s","error_penalty":-1}}]}"#;
        let places: Vec<_> =
            problems(json).iter().map(|told| told.split(':').next().unwrap().to_owned()).collect();
        for place in [
            "/name",
            "/steering/header",
            "/steering/max_endpoints",
            "/clusters/2/name",
            "/clusters/0/name",
            "/clusters/0/update_interval",
            "/clusters/0/healthy_panic_threshold",
            "/clusters/0/endpoints",
            "/clusters/0/learn",
            "/clusters/1/least_cost",
            "/clusters/1/learn/exploration_percent",
            "/clusters/1/slow_start_config/min_weight_percent",
            "/clusters/1/weighted_round_robin/error_utilization_penalty",
            "/clusters/1/weighted_round_robin/metric_names_for_computing_utilization/0",
            "/clusters/2/least_cost/default_latency",
            "/clusters/2/least_cost/error_penalty",
        ] {
            assert!(places.iter().any(|told| told == place), "{place} in {places:#?}");
        }
        assert_eq!(places.len(), 16, "{places:#?}");
    }

    #[test]
    fn no_cluster_at_all_is_a_mistake() {
        assert!(problems("")[0].starts_with("/clusters: name at least one cluster"));
    }

    #[test]
    fn a_misspelt_field_is_told_what_was_meant() {
        let told = problems(r#"{"clusters":[{"name":"*","healthy_panic_treshold":1}]}"#);
        assert!(told[0].ends_with("did you mean 'healthy_panic_threshold'?"), "{told:?}");
    }
}
