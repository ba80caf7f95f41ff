//! Limits that one service keeps for a whole fleet.
//!
//! A policy may name a rate limit service beside its bucket: any that speaks
//! `envoy.service.ratelimit.v3.RateLimitService`, such as envoyproxy/ratelimit or Limitador. The
//! bucket is asked first. What it refuses never asks the service and never waits; what it admits
//! asks over gRPC, and the request is held until the answer or the timeout.
//!
//! Here is all of that but the network: messages ([`Answer`], [`Question`]), what a worker may
//! decide by itself ([`Asker`]) and the configuration ([`Global`]). No bytes of a service make it
//! panic, wait or add a header that is none.

mod answer;
mod asker;
mod config;
mod fields;
mod headers;
mod quota;
mod wire;

pub use answer::{Answer, FleetLimit};
pub use asker::{Asker, Begun, Ended, Prepared, Question};
pub use config::{Batch, Descriptor, Global};
pub use fields::ratelimit;
pub use headers::Headers;
pub use wire::Malformed;

/// The service's full name.
pub const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";

/// The method that is called.
pub const METHOD: &str = "ShouldRateLimit";

/// Longest message that is read of an answer, in bytes.
pub const MAX_ANSWER: usize = 128 * 1024;
