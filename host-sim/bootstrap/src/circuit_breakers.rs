//! `envoy.config.cluster.v3.CircuitBreakers`: Envoy's concurrency limits, not breakers with states.
//!
//! Requests and retries are limited as in Envoy. Limits on connections and on requests that wait for
//! one are not simulated: the engine knows no connections. As long as neither is below
//! `max_requests` it cannot be what limits; a file in which it could is refused.

use crate::reader::{Message, Reader};

/// `circuit_breakers`, per priority of routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CircuitBreakers {
    /// Of ordinary requests.
    pub default: Thresholds,
    /// Of routes with `priority: HIGH`.
    pub high: Thresholds,
}

/// `CircuitBreakers.Thresholds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Connections to all endpoints. Default 1024.
    pub max_connections: u32,
    /// Requests that wait for a connection. Default 1024.
    pub max_pending_requests: u32,
    /// Requests in flight. Default 1024.
    pub max_requests: u32,
    /// Retries in flight. Default 3.
    pub max_retries: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
        }
    }
}

pub(crate) const CIRCUIT_BREAKERS: Message<CircuitBreakers> =
    Message { name: "envoy.config.cluster.v3.CircuitBreakers", read: circuit_breakers };

const THRESHOLDS: Message<(Priority, Thresholds)> =
    Message { name: "envoy.config.cluster.v3.CircuitBreakers.Thresholds", read: thresholds };

/// `RoutingPriority`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Priority {
    Default,
    High,
}

fn circuit_breakers(message: &mut Reader<'_>) -> Option<CircuitBreakers> {
    let thresholds = message.list("thresholds", THRESHOLDS);
    // The first entry of a priority counts, as in Envoy.
    let of = |priority| {
        thresholds.iter().find(|(of, _)| *of == priority).map_or_else(Thresholds::default, |t| t.1)
    };
    Some(CircuitBreakers { default: of(Priority::Default), high: of(Priority::High) })
}

fn thresholds(message: &mut Reader<'_>) -> Option<(Priority, Thresholds)> {
    let priorities = [("DEFAULT", 0, Some(Priority::Default)), ("HIGH", 1, Some(Priority::High))];
    let defaults = Thresholds::default();
    let any = 0..=u32::MAX;
    let priority = message.choice("priority", &priorities);
    let thresholds = Thresholds {
        max_connections: message
            .integer("max_connections", any.clone())
            .unwrap_or(defaults.max_connections),
        max_pending_requests: message
            .integer("max_pending_requests", any.clone())
            .unwrap_or(defaults.max_pending_requests),
        max_requests: message.integer("max_requests", any.clone()).unwrap_or(defaults.max_requests),
        max_retries: message.integer("max_retries", any).unwrap_or(defaults.max_retries),
    };
    for (field, limit) in [
        ("max_connections", thresholds.max_connections),
        ("max_pending_requests", thresholds.max_pending_requests),
    ] {
        if limit < thresholds.max_requests {
            let requests = thresholds.max_requests;
            message.problem_at(
                field,
                format!(
                    "{limit} is below max_requests ({requests}), and host-sim limits requests, \
                     not connections: set it to {requests} or more"
                ),
            );
        }
    }
    Some((priority?, thresholds))
}
