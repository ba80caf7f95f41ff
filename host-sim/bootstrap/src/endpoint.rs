//! `envoy.config.endpoint.v3`: a cluster's endpoints, of one priority and without localities' weights.

use crate::Address;
use crate::address::ADDRESS;
use crate::metadata::{LOCALITY as PLACE, Locality, Metadata, metadata_of};
use crate::reader::{Message, Reader};

/// One `lb_endpoints` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: Address,
    /// `endpoint.hostname`, empty when not given.
    pub hostname: String,
    /// `load_balancing_weight`, at least 1. Default 1.
    pub weight: u32,
    /// As the file says; host-sim has no active health checks yet.
    pub health: HealthStatus,
    /// `metadata`, for plugins.
    pub metadata: Metadata,
    /// Of the group it stands in, for plugins.
    pub locality: Locality,
}

/// `health_status`, folded to what load balancing sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HealthStatus {
    /// UNKNOWN or HEALTHY.
    #[default]
    Healthy,
    /// DEGRADED: used only when healthy endpoints do not suffice.
    Degraded,
    /// UNHEALTHY, DRAINING or TIMEOUT: not picked, but in panic.
    Unhealthy,
}

pub(crate) const LOAD_ASSIGNMENT: Message<Vec<Endpoint>> =
    Message { name: "envoy.config.endpoint.v3.ClusterLoadAssignment", read: load_assignment };

const LOCALITY: Message<Vec<Endpoint>> =
    Message { name: "envoy.config.endpoint.v3.LocalityLbEndpoints", read: locality };

const LB_ENDPOINT: Message<Endpoint> =
    Message { name: "envoy.config.endpoint.v3.LbEndpoint", read: lb_endpoint };

const ENDPOINT: Message<(Address, String)> =
    Message { name: "envoy.config.endpoint.v3.Endpoint", read: endpoint };

fn load_assignment(message: &mut Reader<'_>) -> Option<Vec<Endpoint>> {
    message.required_text("cluster_name");
    Some(message.list("endpoints", LOCALITY).into_iter().flatten().collect())
}

fn locality(message: &mut Reader<'_>) -> Option<Vec<Endpoint>> {
    // Localities count for balancing only with policies that are not simulated.
    let place = message.message("locality", PLACE).unwrap_or_default();
    let mut endpoints = message.list("lb_endpoints", LB_ENDPOINT);
    endpoints.iter_mut().for_each(|endpoint| endpoint.locality = place.clone());
    if message.integer("priority", 0..=128).unwrap_or(0) > 0 {
        message.problem_at("priority", "priorities above 0 are not simulated by host-sim");
    }
    Some(endpoints)
}

fn lb_endpoint(message: &mut Reader<'_>) -> Option<Endpoint> {
    let states = [
        ("UNKNOWN", 0, Some(HealthStatus::Healthy)),
        ("HEALTHY", 1, Some(HealthStatus::Healthy)),
        ("UNHEALTHY", 2, Some(HealthStatus::Unhealthy)),
        ("DRAINING", 3, Some(HealthStatus::Unhealthy)),
        ("TIMEOUT", 4, Some(HealthStatus::Unhealthy)),
        ("DEGRADED", 5, Some(HealthStatus::Degraded)),
    ];
    let endpoint = message.required("endpoint", ENDPOINT);
    let health = message.choice("health_status", &states);
    let weight = message.integer("load_balancing_weight", 1..=u32::MAX).unwrap_or(1);
    let (address, hostname) = endpoint?;
    let (metadata, locality) = (metadata_of(message), Locality::default());
    Some(Endpoint { address, hostname, weight, health: health?, metadata, locality })
}

fn endpoint(message: &mut Reader<'_>) -> Option<(Address, String)> {
    let address = message.required("address", ADDRESS);
    let hostname = message.text("hostname");
    Some((address?, hostname))
}
