//! `capacity`: which cluster a bucket's rate follows.

use crate::Capacity;
use plugin_config::{Fields, Or, Required};
use shared_state::MAX_MEMBERS;

/// `None` if the rate is as configured.
pub(super) fn capacity(policy: &mut Fields<'_>) -> Option<Capacity> {
    if !policy.has("capacity") {
        return None;
    }
    if policy.has("concurrency") {
        policy.problem_at("capacity", "only a bucket has a rate that can follow: leave it out");
    }
    let mut fields = policy.object("capacity");
    let cluster = fields.text("cluster", Required);
    let min_percent = fields.integer("min_percent", 1..=100, Or(10));
    let target_utilization = fields.has("target_utilization").then(|| {
        // In range, so it fits.
        (fields.number("target_utilization", 0.01..=10.0, Required) * 1_000.0) as u32
    });
    let mut endpoints = Vec::new();
    fields.texts("endpoints", &[], &mut |text| match text.parse() {
        _ if endpoints.len() >= usize::from(MAX_MEMBERS) => {
            Err("more than 1024 endpoints: leave them to be learned".to_owned())
        }
        Ok(endpoint) if endpoints.contains(&endpoint) => {
            Err(format!("'{text}' stands twice: keep one"))
        }
        Ok(endpoint) => {
            endpoints.push(endpoint);
            Ok(())
        }
        Err(_) => Err(format!("'{text}' is no ip:port: write it as in 10.0.0.1:8080")),
    });
    Some(Capacity { cluster, min_percent, target_utilization, endpoints })
}
