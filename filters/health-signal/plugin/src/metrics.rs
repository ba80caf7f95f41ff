//! The module's metrics, by the names of its README.

use health_signal_core::{Signal, Totals, utilization};
use plugin_kit::metrics::{Counter, Family, Gauge};
use shared_state::{Endpoint, EndpointHealth, HealthState};

pub(crate) struct Metrics {
    health: Family<Gauge>,
    in_flight: Family<Gauge>,
    latency_us: Family<Gauge>,
    queue_depth: Family<Gauge>,
    requests: Family<Gauge>,
    utilization: Family<Gauge>,
    cluster_in_flight: Family<Gauge>,
    cluster_queue_depth: Family<Gauge>,
    cluster_utilization: Family<Gauge>,
    cluster_endpoints: Family<Gauge>,
    over_budget: Family<Gauge>,
    streams: Family<Gauge>,
    stream_events: Family<Counter>,
    leader: Family<Gauge>,
    polls: Family<Counter>,
    attempt_failures: Family<Counter>,
    pub(crate) orca_accepted: Counter,
    pub(crate) orca_rejected: Counter,
    pub(crate) orca_ignored: Counter,
}

impl Metrics {
    pub(crate) fn new(plugin: &str) -> Self {
        let fixed = [("plugin", plugin)];
        let endpoint = |name| Family::new(name, &fixed, &["cluster", "endpoint"]);
        let cluster = |name| Family::new(name, &fixed, &["cluster"]);
        let report = |outcome| {
            let labels = [("plugin", plugin), ("outcome", outcome)];
            Counter::new("weir_orca_reports_total", &labels)
        };
        Self {
            health: endpoint("weir_endpoint_health"),
            in_flight: endpoint("weir_endpoint_in_flight"),
            latency_us: endpoint("weir_endpoint_latency_us"),
            queue_depth: endpoint("weir_endpoint_queue_depth"),
            requests: endpoint("weir_endpoint_rif"),
            utilization: endpoint("weir_endpoint_utilization_permille"),
            cluster_in_flight: cluster("weir_cluster_in_flight"),
            cluster_queue_depth: cluster("weir_cluster_queue_depth"),
            cluster_utilization: cluster("weir_cluster_utilization_permille"),
            cluster_endpoints: Family::new("weir_cluster_endpoints", &fixed, &["cluster", "kind"]),
            over_budget: cluster("weir_poll_rate_exceeded"),
            streams: cluster("weir_orca_streams"),
            stream_events: Family::new(
                "weir_orca_stream_events_total",
                &fixed,
                &["cluster", "outcome"],
            ),
            leader: Family::new("weir_leader", &fixed, &["cluster"]),
            polls: Family::new("weir_polls_total", &fixed, &["cluster", "outcome"]),
            attempt_failures: Family::new(
                "weir_attempt_failures_total",
                &fixed,
                &["cluster", "kind"],
            ),
            orca_accepted: report("accepted"),
            orca_rejected: report("rejected"),
            orca_ignored: Counter::new("weir_orca_ignored_metrics_total", &fixed),
        }
    }

    pub(crate) fn endpoint(&self, cluster: &str, endpoint: Endpoint, record: &EndpointHealth) {
        let endpoint = endpoint.to_string();
        let labels = [cluster, endpoint.as_str()];
        self.health.with(&labels).set(record.state.number().into());
        self.in_flight.with(&labels).set(record.in_flight.into());
        self.latency_us.with(&labels).set(record.latency_us.into());
        if let Some(depth) = record.queue_depth {
            self.queue_depth.with(&labels).set(depth.into());
        }
        if let Some(share) = utilization(record) {
            self.utilization.with(&labels).set(permille(share));
        }
        let report = record.report.as_ref();
        if let Some(requests) = report.and_then(|report| Signal::Rif.reported(report)) {
            self.requests.with(&labels).set(requests.round() as u64);
        }
    }

    /// Sums over a cluster, by which an autoscaler may go.
    pub(crate) fn totals(&self, cluster: &str, totals: &Totals) {
        let labels = [cluster];
        self.streams.with(&labels).set(totals.streams);
        self.cluster_in_flight.with(&labels).set(totals.in_flight);
        self.cluster_queue_depth.with(&labels).set(totals.queue_depth);
        self.cluster_utilization.with(&labels).set(permille(totals.utilization));
        for (state, count) in HealthState::ALL.iter().zip(totals.states) {
            self.cluster_endpoints.with(&[cluster, state.name()]).set(count);
        }
    }

    pub(crate) fn stream(&self, cluster: &str, event: &str) {
        self.stream_events.with(&[cluster, event]).add(1);
    }

    pub(crate) fn over_budget(&self, cluster: &str, is_over: bool) {
        self.over_budget.with(&[cluster]).set(is_over.into());
    }

    /// An endpoint left the cluster. The host cannot forget a metric: unknown is what remains.
    pub(crate) fn endpoint_left(&self, cluster: &str, endpoint: Endpoint) {
        let endpoint = endpoint.to_string();
        let labels = [cluster, endpoint.as_str()];
        let gauges = [
            &self.health,
            &self.in_flight,
            &self.latency_us,
            &self.queue_depth,
            &self.requests,
            &self.utilization,
        ];
        for gauge in gauges {
            gauge.with(&labels).set(0);
        }
    }

    pub(crate) fn leads(&self, cluster: &str, leads: bool) {
        self.leader.with(&[cluster]).set(leads.into());
    }

    pub(crate) fn poll(&self, cluster: &str, outcome: &str) {
        self.polls.with(&[cluster, outcome]).add(1);
    }

    pub(crate) fn attempt_failed(&self, cluster: &str, kind: &str) {
        self.attempt_failures.with(&[cluster, kind]).add(1);
    }
}

fn permille(share: f64) -> u64 {
    (share * 1000.0).round() as u64
}
