//! What the core has counted, told to the host at ticks: a counter a request would be a hostcall a
//! request.

use metric_router_core::{Router, Told};
use plugin_kit::Degraded;
use plugin_kit::metrics::{Counter, Family, Gauge};
use shared_state::UnixNanos;

pub(crate) struct Metrics {
    picks: Family<Counter>,
    unsteered: Family<Counter>,
    weights: Family<Gauge>,
    members: Family<Gauge>,
    ineffective: Family<Gauge>,
    registry: Family<Counter>,
    courses: Family<Counter>,
    degraded: Degraded,
}

impl Metrics {
    pub(crate) fn new(plugin: &str) -> Self {
        let fixed = [("plugin", plugin)];
        Self {
            picks: Family::new("weir_picks_total", &fixed, &["cluster", "endpoint"]),
            unsteered: Family::new("weir_unsteered_total", &fixed, &["cluster", "reason"]),
            weights: Family::new("weir_endpoint_weight", &fixed, &["cluster", "endpoint"]),
            members: Family::new("weir_members", &fixed, &["cluster"]),
            ineffective: Family::new("weir_steering_ineffective", &fixed, &["cluster"]),
            courses: Family::new("weir_cluster_picks_total", &fixed, &["scope", "cluster"]),
            registry: Family::new("weir_registry_answers_total", &fixed, &["cluster", "outcome"]),
            degraded: Degraded::new(plugin),
        }
    }

    /// A registry has answered.
    pub(crate) fn registry(&self, cluster: &str, told: Option<Told>) {
        let outcome = if told.is_some() { "taken" } else { "unusable" };
        self.registry.with(&[cluster, outcome]).add(1);
        if let Some(Told { listed, left_out, is_new: true }) = told {
            log::info!("cluster '{cluster}': {listed} endpoints listed, {left_out} left out");
        }
    }

    pub(crate) fn tell(&self, router: &mut Router, now: UnixNanos) {
        for note in router.take_notes() {
            self.degraded.note(note.name(), note);
        }
        router.take_unsteered(|cluster, reason, count| {
            self.unsteered.with(&[cluster, reason.name()]).add(count);
        });
        router.take_courses(|service, cluster, count| {
            self.courses.with(&[service, cluster]).add(count);
        });
        for cluster in router.clusters() {
            let name = cluster.name().to_owned();
            cluster.take_picks(|endpoint, count| self.picks.with(&[&name, endpoint]).add(count));
            cluster.take_weights(|endpoint, weight| {
                self.weights.with(&[&name, endpoint]).set(weight);
            });
            if let Some(members) = cluster.take_members() {
                self.members.with(&[&name]).set(members as u64);
            }
            if let Some(ineffective) = cluster.take_ineffective(now) {
                self.ineffective.with(&[&name]).set(u64::from(ineffective));
                if ineffective {
                    log::warn!(
                        "cluster '{name}' goes elsewhere than it is told: steering rests; does it \
                         have the override_host policy, and is the header stripped only upstream?"
                    );
                }
            }
        }
    }
}
