//! Services that several clusters offer.

use crate::service::{ClusterChoice, ServiceConfig};
use plugin_config::{Choice, Fields, Or, Required};

/// Clusters of one service at most.
const MAX_CLUSTERS: usize = 64;

impl Choice for ClusterChoice {
    const CHOICES: &'static [(&'static str, Self)] =
        &[(Self::Fastest.name(), Self::Fastest), (Self::Weighted.name(), Self::Weighted)];
}

pub(super) fn services(fields: &mut Fields<'_>) -> Vec<ServiceConfig> {
    fields.unique("services", "name");
    fields.each("services", |_, fields| service(fields))
}

fn service(mut fields: Fields<'_>) -> ServiceConfig {
    let name = fields.name("name", Required);
    let mut routes = Vec::new();
    fields.texts("routes", &[], &mut |route| {
        routes.push(route.to_owned());
        if route.is_empty() { Err("name a route".to_owned()) } else { Ok(()) }
    });
    let count = fields.count("clusters");
    let sound = count.is_none_or(|count| (1..=MAX_CLUSTERS).contains(&count));
    fields.require("clusters", sound, "name the clusters to choose from, 64 at most");
    fields.unique("clusters", "name");
    let clusters = fields.each("clusters", |_, mut fields| {
        let name = fields.text("name", Required);
        let named = !name.is_empty() || !fields.has("name");
        fields.require("name", named, "name the cluster as the proxy does");
        (name, fields.number("weight", 0.001..=1000.0, Or(1.0)))
    });
    let mut percent = |name, default| fields.number(name, 0.0..=100.0, Or(default)) / 100.0;
    ServiceConfig {
        tolerance: percent("tolerance_percent", 20.0),
        probes: percent("probe_percent", 1.0),
        least_fit: percent("min_healthy_percent", 50.0),
        most_errors: percent("max_error_percent", 50.0),
        header: fields.header_name("header", Or("x-weir-cluster")),
        choice: fields.choice("choice", ClusterChoice::Fastest),
        name,
        routes,
        clusters,
    }
}
