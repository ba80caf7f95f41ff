//! `/clusters`, in Envoy's text form.

use host_sim_bootstrap::{HealthStatus, Thresholds};
use host_sim_engine::Engine;
use std::fmt::Write;

pub(super) fn text(engine: &Engine) -> String {
    let mut text = String::new();
    for cluster in engine.clusters() {
        let (name, config) = (cluster.name(), cluster.config());
        thresholds(&mut text, name, "default", &config.circuit_breakers.default);
        thresholds(&mut text, name, "high", &config.circuit_breakers.high);
        for endpoint in &config.endpoints {
            let health = match endpoint.health {
                HealthStatus::Healthy => "healthy",
                HealthStatus::Degraded => "/degraded_eds_health",
                HealthStatus::Unhealthy => "/failed_eds_health",
            };
            let place = format!("{name}::{}", endpoint.address);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{place}::health_flags::{health}");
            let _ = writeln!(text, "{place}::hostname::{}", endpoint.hostname);
            let _ = writeln!(text, "{place}::weight::{}", endpoint.weight);
        }
    }
    text
}

fn thresholds(text: &mut String, cluster: &str, priority: &str, limits: &Thresholds) {
    let values = [
        ("max_connections", limits.max_connections),
        ("max_pending_requests", limits.max_pending_requests),
        ("max_requests", limits.max_requests),
        ("max_retries", limits.max_retries),
    ];
    for (name, value) in values {
        let _ = writeln!(text, "{cluster}::{priority}_priority::{name}::{value}");
    }
}
