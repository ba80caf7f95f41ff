//! The suite on real traffic: the shipped modules, in host-sim's live proxy and in real Envoy.

mod attributes;
mod breaker;
mod chain;
mod configuration;
mod conform;
mod grpc;
mod health;
mod health_prometheus;
mod health_streams;
mod limits;
mod limits_concurrency;
mod limits_fairness;
mod limits_fleet;
mod limits_shaping;
mod limits_surface;
mod mechanisms;
mod order;
mod policies;
mod raw;
mod reentry;
mod services;
mod steering;
mod tcp;
mod update;
mod wasi;
