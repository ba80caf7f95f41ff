//! What the core has counted, told to the host at ticks: a counter a request would be a hostcall a
//! request.

use metric_router_core::Router;
use plugin_kit::Degraded;
use plugin_kit::metrics::{Counter, Family, Gauge};
use shared_state::UnixNanos;

pub(crate) struct Metrics {
    picks: Family<Counter>,
    unsteered: Family<Counter>,
    weights: Family<Gauge>,
    members: Family<Gauge>,
    ineffective: Family<Gauge>,
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
            degraded: Degraded::new(plugin),
        }
    }

    pub(crate) fn tell(&self, router: &mut Router, now: UnixNanos) {
        for note in router.take_notes() {
            self.degraded.note(note.name(), note);
        }
        router.take_unsteered(|cluster, reason, count| {
            self.unsteered.with(&[cluster, reason.name()]).add(count);
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
