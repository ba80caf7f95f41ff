//! The document: every field with its range and its default, and the rules between fields.

mod endpoints;
mod services;

use super::{
    AccessLog, AutoRules, Canary, ClusterConfig, Config, ConsistentHash, DEFAULT_UPDATE, HotCold,
    LeastCost, LoadReports, Locality, Mode, PeakEwmaRules, Policy, SlowStart, Steering,
};
use crate::{DebugHeader, KeyPart, Label, Mechanism, Secret};
use core::time::Duration;
use plugin_config::{Choice, Fields, Or, Required};
use shared_state::MAX_MEMBERS;

/// Entries of `clusters` at most.
const MAX_ENTRIES: usize = 256;

/// Shortest secret, in bytes.
const MIN_SECRET: usize = 16;

/// Longest cluster name, in bytes.
const MAX_NAME_BYTES: usize = 512;

/// Longest time that means anything here. Longer ones are slips.
const HOUR: Duration = Duration::from_secs(3600);

impl Choice for Mode {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("enforce", Self::Enforce), ("shadow", Self::Shadow), ("off", Self::Off)];
}

impl Choice for AccessLog {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("notable", Self::Notable), ("all", Self::All)];
}

impl Choice for Mechanism {
    const CHOICES: &'static [(&'static str, Self)] = &[
        (Self::OverrideHost.name(), Self::OverrideHost),
        (Self::StatefulSession.name(), Self::StatefulSession),
        (Self::OriginalDst.name(), Self::OriginalDst),
        (Self::Advisory.name(), Self::Advisory),
    ];
}

impl Choice for Policy {
    const CHOICES: &'static [(&'static str, Self)] = &[
        (Self::Auto.name(), Self::Auto),
        (Self::LeastCost.name(), Self::LeastCost),
        (Self::HotCold.name(), Self::HotCold),
        (Self::WeightedRoundRobin.name(), Self::WeightedRoundRobin),
        (Self::PeakEwma.name(), Self::PeakEwma),
        (Self::ConsistentHash.name(), Self::ConsistentHash),
        (Self::Random.name(), Self::Random),
    ];
}

pub(super) fn config(mut fields: Fields<'_>) -> Config {
    let name = fields.name("name", Or("metric_router"));
    let mode = fields.choice("mode", Mode::Enforce);
    let steering = steering(fields.object("steering"));
    let must_steer = steering.mechanism.must_steer();
    let message = "original_dst has no other policy: what is not steered fails; take enforce";
    fields.require("mode", mode == Mode::Enforce || !must_steer, message);
    let access_log = fields.choice("access_log", AccessLog::Notable);
    let debug_header = debug_header(fields.object("debug_header"));
    let clusters = clusters(&mut fields, steering.mechanism);
    let services = services::services(&mut fields);
    Config { name, mode, steering, access_log, debug_header, clusters, services }
}

fn debug_header(mut fields: Fields<'_>) -> DebugHeader {
    let enabled = fields.flag("enabled", false);
    let secret = fields.text("secret", Or(""));
    let is_long = secret.len() >= MIN_SECRET || !enabled;
    let message = "needs 16 bytes at least: whoever guesses it is told of endpoints";
    fields.require("secret", is_long, message);
    DebugHeader {
        enabled,
        request_header: fields.header_name("request_header", Or("x-filter-debug")),
        response_header: fields.header_name("response_header", Or("x-metric-router-pick")),
        secret: Secret(secret),
    }
}

fn steering(mut fields: Fields<'_>) -> Steering {
    let header = fields.header_name("header", Or("x-gateway-destination-endpoint"));
    if plugin_config::frames_messages(&header) {
        let message = format!("'{header}' has a meaning of its own: take an x- header");
        fields.problem_at("header", message);
    }
    let mechanism = fields.choice("mechanism", Mechanism::OverrideHost);
    let message = "has no effect: original_dst writes no header; remove one of the two";
    let in_effect = mechanism.uses_header() || !fields.has("header");
    fields.require("header", in_effect, message);
    let max_endpoints: u8 = fields.integer("max_endpoints", 1..=8, Or(3));
    let message = "has no effect: the mechanism names one endpoint; remove one of the two";
    let in_effect = mechanism.lists() || !fields.has("max_endpoints");
    fields.require("max_endpoints", in_effect, message);
    let max_endpoints = if mechanism.lists() { max_endpoints.into() } else { 1 };
    Steering { mechanism, header, max_endpoints }
}

fn clusters(fields: &mut Fields<'_>, mechanism: Mechanism) -> Vec<ClusterConfig> {
    let count = fields.count("clusters");
    let message = "name at least one cluster; \"*\" stands for every cluster not named";
    fields.require("clusters", count != Some(0), message);
    if count > Some(MAX_ENTRIES) {
        fields.problem_at("clusters", format!("at most {MAX_ENTRIES} entries"));
    }
    fields.unique("clusters", "name");
    fields.each("clusters", |_, fields| cluster(fields, mechanism))
}

fn cluster(mut fields: Fields<'_>, mechanism: Mechanism) -> ClusterConfig {
    let name = fields.text("name", Or(""));
    let usable = !name.is_empty() && name.len() <= MAX_NAME_BYTES;
    let message = "name the cluster as the proxy does, or \"*\" for all others";
    fields.require("name", usable, message);
    let policy = fields.choice("policy", Policy::Auto);
    let must_steer = mechanism.must_steer();
    let listed = fields.has("endpoints") || fields.has("endpoints_from") || !must_steer;
    let message = "list the endpoints: original_dst goes wherever it is told, so none are learned";
    fields.require("endpoints", listed, message);
    for (section, its) in [
        (Policy::Auto.name(), [Policy::Auto; 2]),
        (Policy::HotCold.name(), [Policy::HotCold, Policy::Auto]),
        (Policy::PeakEwma.name(), [Policy::PeakEwma; 2]),
        (Policy::ConsistentHash.name(), [Policy::ConsistentHash; 2]),
    ] {
        let in_effect = its.contains(&policy) || !fields.has(section);
        let message = "has no effect: the policy is another one; remove one of the two";
        fields.require(section, in_effect, message);
    }
    let updates = Duration::from_millis(10)..=Duration::from_secs(10);
    let canary = fields.has("canary").then(|| canary(fields.object("canary")));
    let locality = fields.has("locality").then(|| locality(fields.object("locality")));
    let overprovisioning = fields.number("overprovisioning_factor", 100.0..=1000.0, Or(140.0));
    let label = canary.as_ref().map(|canary| &canary.label);
    let endpoints = endpoints::endpoints(&mut fields, &name, label);
    ClusterConfig {
        name,
        policy,
        endpoints,
        canary,
        locality,
        overprovisioning: overprovisioning / 100.0,
        update_interval: fields.duration("update_interval", updates, Or(DEFAULT_UPDATE)),
        healthy_panic_threshold: panic_threshold(&mut fields, must_steer),
        max_ejection_percent: fields.number("max_ejection_percent", 0.0..=100.0, Or(100.0)),
        slow_start: slow_start(fields.object("slow_start_config")),
        load_reports: load_reports(fields.object("weighted_round_robin")),
        least_cost: least_cost(fields.object("least_cost")),
        peak_ewma: peak_ewma(fields.object("peak_ewma")),
        consistent_hash: consistent_hash(
            fields.object("consistent_hash"),
            policy == Policy::ConsistentHash,
        ),
        auto: auto(fields.object("auto")),
        hot_cold: hot_cold(fields.object("hot_cold")),
    }
}

/// Where nothing may go unsteered, the least bad endpoints are taken instead.
fn panic_threshold(fields: &mut Fields<'_>, must_steer: bool) -> f64 {
    let default = if must_steer { 0.0 } else { 50.0 };
    let threshold = fields.number("healthy_panic_threshold", 0.0..=100.0, Or(default));
    let message = "original_dst fails what is not steered: leave it at 0";
    fields.require("healthy_panic_threshold", threshold == 0.0 || !must_steer, message);
    threshold
}

fn canary(mut fields: Fields<'_>) -> Canary {
    let text = fields.text("label", Required);
    let label = Label::parse(&text);
    let message = "write a label such as \"version=v2\", or a bare name such as \"canary\"";
    let is_label = label.is_some() || !fields.has("label");
    fields.require("label", is_label, message);
    Canary {
        label: label.unwrap_or_default(),
        share: fields.number("percent", 0.0..=100.0, Required) / 100.0,
        sticky: key(&mut fields, "sticky"),
    }
}

fn locality(mut fields: Fields<'_>) -> Locality {
    let zone = fields.has("zone").then(|| fields.text("zone", Or("")));
    let is_zone = zone.as_ref().is_none_or(|zone| !zone.is_empty());
    let message = "name the zone, or leave the field out to take the node's";
    fields.require("zone", is_zone, message);
    Locality {
        zone,
        full_at: fields.number("full_at_percent", 1.0..=100.0, Or(80.0)) / 100.0,
        endpoint_concurrency: fields.integer("endpoint_concurrency", 1..=100_000, Or(8)),
    }
}

fn slow_start(mut fields: Fields<'_>) -> SlowStart {
    let default = Duration::from_secs(10);
    SlowStart {
        window: fields.duration("slow_start_window", Duration::ZERO..=HOUR, Or(default)),
        min_weight: fields.number("min_weight_percent", 1.0..=100.0, Or(10.0)) / 100.0,
        aggression: fields.number("aggression", 0.01..=100.0, Or(1.0)),
    }
}

fn load_reports(mut fields: Fields<'_>) -> LoadReports {
    let mut metric_names = Vec::new();
    fields.texts("metric_names_for_computing_utilization", &[], &mut |name| {
        metric_names.push(name.to_owned());
        if name.is_empty() { Err("name a metric".to_owned()) } else { Ok(()) }
    });
    let expirations = Duration::from_secs(1)..=HOUR;
    LoadReports {
        weight_update_period: fields.duration(
            "weight_update_period",
            Duration::from_millis(100)..=HOUR,
            Or(Duration::from_secs(1)),
        ),
        blackout_period: fields.duration(
            "blackout_period",
            Duration::ZERO..=HOUR,
            Or(Duration::from_secs(10)),
        ),
        weight_expiration_period: fields.duration(
            "weight_expiration_period",
            expirations,
            Or(Duration::from_secs(180)),
        ),
        error_utilization_penalty: fields.number(
            "error_utilization_penalty",
            0.0..=1000.0,
            Or(1.0),
        ),
        metric_names,
    }
}

fn least_cost(mut fields: Fields<'_>) -> LeastCost {
    let latencies = Duration::from_millis(1)..=Duration::from_secs(60);
    let decays = Duration::from_millis(100)..=HOUR;
    LeastCost {
        default_latency: fields.duration(
            "default_latency",
            latencies,
            Or(Duration::from_millis(30)),
        ),
        decay_time: fields.duration("decay_time", decays, Or(Duration::from_secs(4))),
        error_penalty: fields.number("error_penalty", 0.0..=1000.0, Or(10.0)),
        full_scan_max: count(&mut fields, "full_scan_max", 0, 64),
        choice_count: count(&mut fields, "choice_count", 0, 0),
    }
}

/// A number of endpoints.
fn count(fields: &mut Fields<'_>, name: &'static str, least: u16, default: u16) -> usize {
    fields.integer(name, least..=MAX_MEMBERS, Or(default)).into()
}

fn peak_ewma(mut fields: Fields<'_>) -> PeakEwmaRules {
    let decays = Duration::from_millis(100)..=HOUR;
    let latencies = Duration::from_millis(1)..=Duration::from_secs(60);
    PeakEwmaRules {
        decay_time: fields.duration("decay_time", decays, Or(Duration::from_secs(10))),
        default_rtt: fields.duration("default_rtt", latencies, Or(Duration::from_millis(30))),
        full_scan_max: count(&mut fields, "full_scan_max", 0, 8),
        choice_count: count(&mut fields, "choice_count", 1, 2),
    }
}

fn auto(mut fields: Fields<'_>) -> AutoRules {
    let gateway_share = fields.number("gateway_share", 0.0..=1.0, Or(0.5));
    let mesh_share = fields.number("mesh_share", 0.0..=1.0, Or(0.2));
    let message = "must be less than gateway_share: between the two the policy stays what it was";
    fields.require("mesh_share", mesh_share < gateway_share, message);
    AutoRules { gateway_share, mesh_share }
}

fn hot_cold(mut fields: Fields<'_>) -> HotCold {
    let ages = Duration::from_millis(10)..=Duration::from_secs(60);
    let pool_size: u16 = fields.integer("pool_size", 2..=256, Or(16));
    let max_reuse: u8 = fields.integer("max_reuse", 1..=16, Or(2));
    let min_pool: u8 = fields.integer("min_pool", 1..=16, Or(2));
    HotCold {
        pool_size: pool_size.into(),
        rif_quantile: fields.number("rif_quantile", 0.01..=1.0, Or(0.84)),
        max_report_age: fields.duration("max_report_age", ages, Or(Duration::from_secs(1))),
        max_reuse: max_reuse.into(),
        min_pool: min_pool.into(),
        rif_metric: fields.text("rif_metric", Or("named_metrics.rif")),
        latency_metric: fields.text("latency_metric", Or("named_metrics.latency")),
    }
}

fn key<'a>(fields: &mut Fields<'a>, name: &'a str) -> Vec<KeyPart> {
    let mut key = Vec::new();
    fields.texts(name, &[], &mut |text| {
        key.push(KeyPart::parse(text)?);
        Ok(())
    });
    key
}

fn consistent_hash(mut fields: Fields<'_>, is_policy: bool) -> ConsistentHash {
    let message = "name at least one part, such as [\"header:x-user\"], [\"cookie:session\"] or \
                   [\"source.address\"]";
    fields.require("key", !is_policy || fields.count("key") != Some(0), message);
    let key = key(&mut fields, "key");
    let balance_factor: u32 = fields.integer("hash_balance_factor", 0..=10_000, Or(150));
    let message = "below 100 no endpoint could take its share; 0 switches the bound off";
    fields.require("hash_balance_factor", !(1..100).contains(&balance_factor), message);
    ConsistentHash { key, balance_factor }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoints;
    use shared_state::{Listed, zone_id};

    fn config(json: &str) -> Config {
        Config::from_json(json.as_bytes()).unwrap().value
    }

    fn problems(json: &str) -> Vec<String> {
        let problems = Config::from_json(json.as_bytes()).unwrap_err();
        problems.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_smallest_configuration_learns_every_cluster_and_finds_its_policy() {
        let config = config(r#"{"clusters":[{"name":"*"}]}"#);
        assert_eq!((config.name.as_str(), config.mode), ("metric_router", Mode::Enforce));
        assert_eq!(config.steering.header, "x-gateway-destination-endpoint");
        let entry = config.cluster("anything").unwrap();
        assert_eq!(entry.policy, Policy::Auto);
        assert_eq!(entry.endpoints, Endpoints::Learned { exploration: 0.05, verification: 0.005 });
        assert_eq!(config.tick_period(), Duration::from_millis(100));
    }

    #[test]
    fn a_named_cluster_goes_before_the_default() {
        let json = r#"{"clusters":[{"name":"*"},
            {"name":"a","policy":"weighted_round_robin","update_interval":"0.05s"}]}"#;
        let config = config(json);
        assert_eq!(config.cluster("a").unwrap().policy, Policy::WeightedRoundRobin);
        assert_eq!(config.cluster("b").unwrap().policy, Policy::Auto);
        assert_eq!(config.tick_period(), Duration::from_millis(50));
    }

    #[test]
    fn a_cluster_without_an_entry_is_unknown() {
        assert_eq!(config(r#"{"clusters":[{"name":"a"}]}"#).cluster("b"), None);
    }

    #[test]
    fn a_static_list_is_a_list_of_addresses() {
        let json = r#"{"clusters":[{"name":"a","endpoints":["10.0.0.2:80","[::1]:80"]}]}"#;
        let expected = ["10.0.0.2:80", "[::1]:80"].map(|text| Listed::new(text.parse().unwrap()));
        let config = config(json);
        assert_eq!(config.clusters[0].endpoints, Endpoints::Static(expected.to_vec()));
    }

    #[test]
    fn an_entry_of_a_list_may_say_more_than_its_address() {
        let json = r#"{"clusters":[{"name":"a","canary":{"label":"version=v2","percent":5,"sticky":["cookie:id"]},"endpoints":[
            "10.0.0.2:80",
            {"address":"10.0.0.1:80","weight":3,"priority":1,"zone":"z","labels":{"version":"v2"}}]}]}"#;
        let first = Listed {
            weight: 3,
            priority: 1,
            zone: zone_id("z"),
            is_canary: true,
            ..Listed::new("10.0.0.1:80".parse().unwrap())
        };
        let second = Listed::new("10.0.0.2:80".parse().unwrap());
        let config = config(json);
        assert_eq!(config.clusters[0].endpoints, Endpoints::Static(vec![first, second]));
        assert_eq!(config.clusters[0].canary.as_ref().unwrap().share, 0.05);
    }

    #[test]
    fn a_registry_is_asked_through_a_cluster() {
        let json = r#"{"clusters":[{"name":"a","endpoints_from":
            {"cluster":"consul","path":"/v1/health/service/a?passing","format":"consul"}}]}"#;
        let Endpoints::Registry(registry) = config(json).clusters.remove(0).endpoints else {
            panic!("a registry is asked");
        };
        assert_eq!((registry.cluster.as_str(), registry.host), ("consul", None));
        assert_eq!(registry.interval, Duration::from_secs(5));
    }

    #[test]
    fn what_is_wrong_with_a_canary_is_told() {
        let told = problems(
            r#"{"clusters":[{"name":"a","canary":{"label":"=v2","percent":101,"sticky":["query:q"]}}]}"#,
        );
        assert_eq!(told.len(), 3, "{told:#?}");
    }

    #[test]
    fn what_is_wrong_with_a_source_of_endpoints_is_told_at_its_place() {
        let json = r#"{"clusters":[
            {"name":"*","endpoints_from":{"cluster":"","path":"x","host":"","interval":"0s","format":"eureka"}},
            {"name":"a","endpoints":[{"address":"app:80"},{"weight":0},7],
             "endpoints_from":{"cluster":"c","path":"/"},"learn":{},
             "canary":{"label":"","percent":101}}]}"#;
        let places: Vec<_> =
            problems(json).iter().map(|told| told.split(':').next().unwrap().to_owned()).collect();
        for place in [
            "/clusters/0/endpoints_from",
            "/clusters/0/endpoints_from/cluster",
            "/clusters/0/endpoints_from/path",
            "/clusters/0/endpoints_from/host",
            "/clusters/0/endpoints_from/interval",
            "/clusters/0/endpoints_from/format",
            "/clusters/1/endpoints/0/address",
            "/clusters/1/endpoints/1",
            "/clusters/1/endpoints/1/weight",
            "/clusters/1/endpoints/2",
            "/clusters/1/endpoints_from",
            "/clusters/1/learn",
            "/clusters/1/canary/label",
            "/clusters/1/canary/percent",
        ] {
            assert!(places.iter().any(|told| told == place), "{place} in {places:#?}");
        }
        assert_eq!(places.len(), 14, "{places:#?}");
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
        let json = r#"{"name":"A B","debug_header":{"enabled":true,"secret":"short"},"steering":{"header":"host","max_endpoints":9},"clusters":[
            {"name":"","update_interval":"0.001s","healthy_panic_threshold":101,
             "endpoints":[],"learn":{}},
            {"name":"x","policy":"weighted_round_robin","peak_ewma":{},
             "learn":{"exploration_percent":0},
             "slow_start_config":{"min_weight_percent":0},
             "weighted_round_robin":{"error_utilization_penalty":-1,
               "metric_names_for_computing_utilization":[""]}},
            {"name":"x","least_cost":{"default_latency":"0s","error_penalty":-1}},
            {"name":"y","policy":"consistent_hash","consistent_hash":{"hash_balance_factor":99}},
            {"name":"z","policy":"consistent_hash","consistent_hash":{"key":["query:q"]}},
            {"name":"w","auto":{"gateway_share":0.2,"mesh_share":0.2},"hot_cold":{"max_reuse":17}},
            {"name":"v","policy":"random","hot_cold":{}}]}"#;
        let places: Vec<_> =
            problems(json).iter().map(|told| told.split(':').next().unwrap().to_owned()).collect();
        for place in [
            "/name",
            "/steering/header",
            "/steering/max_endpoints",
            "/debug_header/secret",
            "/clusters/2/name",
            "/clusters/0/name",
            "/clusters/0/update_interval",
            "/clusters/0/healthy_panic_threshold",
            "/clusters/0/endpoints",
            "/clusters/0/learn",
            "/clusters/1/peak_ewma",
            "/clusters/1/learn/exploration_percent",
            "/clusters/1/slow_start_config/min_weight_percent",
            "/clusters/1/weighted_round_robin/error_utilization_penalty",
            "/clusters/1/weighted_round_robin/metric_names_for_computing_utilization/0",
            "/clusters/2/least_cost/default_latency",
            "/clusters/2/least_cost/error_penalty",
            "/clusters/3/consistent_hash/key",
            "/clusters/3/consistent_hash/hash_balance_factor",
            "/clusters/4/consistent_hash/key/0",
            "/clusters/5/auto/mesh_share",
            "/clusters/5/hot_cold/max_reuse",
            "/clusters/6/hot_cold",
        ] {
            assert!(places.iter().any(|told| told == place), "{place} in {places:#?}");
        }
        assert_eq!(places.len(), 23, "{places:#?}");
    }

    #[test]
    fn a_mechanism_that_names_one_endpoint_has_a_list_of_one() {
        for (mechanism, most) in [
            (Mechanism::OverrideHost, 3),
            (Mechanism::StatefulSession, 1),
            (Mechanism::OriginalDst, 1),
            (Mechanism::Advisory, 3),
        ] {
            let json = format!(
                r#"{{"steering":{{"mechanism":"{}"}},
                     "clusters":[{{"name":"a","endpoints":["127.0.0.1:1"]}}]}}"#,
                mechanism.name()
            );
            let steering = config(&json).steering;
            assert_eq!((steering.mechanism, steering.max_endpoints), (mechanism, most));
        }
    }

    #[test]
    fn original_dst_steers_to_a_list_always_or_is_refused() {
        let json = r#"{"mode":"shadow","steering":{"mechanism":"original_dst","header":"x-e","max_endpoints":2},
            "clusters":[{"name":"a"},
                {"name":"b","endpoints":["127.0.0.1:1"],"healthy_panic_threshold":10}]}"#;
        let places: Vec<_> =
            problems(json).iter().map(|told| told.split(':').next().unwrap().to_owned()).collect();
        let expected = [
            "/steering/header",
            "/steering/max_endpoints",
            "/mode",
            "/clusters/0/endpoints",
            "/clusters/1/healthy_panic_threshold",
        ];
        assert_eq!(places, expected);
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
