//! What load to generate.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use rustls::ClientConfig;

use crate::connect::Protocol;

/// How requests are spaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// Independent users: exponential gaps.
    #[default]
    Poisson,
    /// A metronome: equal gaps.
    Constant,
}

/// A time of constant offered rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phase {
    /// Requests per second. 0 is a pause.
    pub rate: f64,
    /// How long.
    pub duration: Duration,
}

/// A kind of client; each request comes from one of them, drawn by weight.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientProfile {
    /// Share of the requests, relative to the other clients' weights.
    pub weight: f64,
    /// Headers of its requests.
    pub headers: Vec<(String, String)>,
    /// Path instead of the target's.
    pub path: Option<String>,
}

impl ClientProfile {
    /// A client that sends one header more than none.
    pub fn with_header(weight: f64, name: &str, value: &str) -> Self {
        Self { weight, headers: vec![(name.to_owned(), value.to_owned())], path: None }
    }

    /// `count` clients that tell themselves apart in the header `name` (`client-1`, ...). The
    /// first sends `noise` times as much as each of the others.
    pub fn population(name: &str, count: usize, noise: f64) -> Vec<Self> {
        (1..=count)
            .map(|i| {
                let weight = if i == 1 { noise } else { 1.0 };
                Self::with_header(weight, name, &format!("client-{i}"))
            })
            .collect()
    }
}

/// Completes the headers of each request right before it is sent, and is told its number, from 0 on in
/// the order in which they are due: for who steers requests from outside of the proxy, or gives each
/// its work.
#[derive(Clone)]
pub struct Steer(pub Arc<Complete>);

/// Completes a request of this number.
pub type Complete = dyn Fn(u64, &mut HeaderMap) + Send + Sync;

impl std::fmt::Debug for Steer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Steer")
    }
}

/// One run of load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where to, with the path: `https://127.0.0.1:10000/`.
    pub target: String,
    /// Certificates to trust; needed for `https`.
    pub tls: Option<Arc<ClientConfig>>,
    /// HTTP version. Default HTTP/1.1.
    pub protocol: Protocol,
    /// Connections: on HTTP/1.1 opened when needed and never more than these, on HTTP/2 all used
    /// in turn. Default 64.
    pub connections: usize,
    /// Offered rates, one after the other.
    pub phases: Vec<Phase>,
    /// How requests are spaced. Default Poisson.
    pub arrivals: Arrivals,
    /// Fixes the times of the requests and whom they come from. Default 1.
    pub seed: u64,
    /// Request method. Default `GET`.
    pub method: String,
    /// Request body. Default none.
    pub body: Bytes,
    /// Whom requests come from. Empty: one client without headers.
    pub clients: Vec<ClientProfile>,
    /// More headers of each request. Default none.
    pub steer: Option<Steer>,
    /// A request still unanswered this long after it was due has failed. Default 10 s.
    pub timeout: Duration,
    /// Requests that are due earlier are sent and count in the timeline, and nowhere else. Default 0.
    pub warmup: Duration,
    /// Requests under way, waiting for a connection included, beyond which those that come due are
    /// counted and not sent. Default 4096.
    pub max_in_flight: usize,
}

impl LoadOptions {
    /// Poisson load at one rate (requests per second).
    pub fn at_rate(target: impl Into<String>, rate: f64, duration: Duration) -> Self {
        Self {
            target: target.into(),
            tls: None,
            protocol: Protocol::default(),
            connections: 64,
            phases: vec![Phase { rate, duration }],
            arrivals: Arrivals::default(),
            seed: 1,
            method: "GET".to_owned(),
            body: Bytes::new(),
            clients: Vec::new(),
            steer: None,
            timeout: Duration::from_secs(10),
            warmup: Duration::ZERO,
            max_in_flight: 4096,
        }
    }

    /// The sum of the phases.
    pub fn duration(&self) -> Duration {
        self.phases.iter().map(|phase| phase.duration).sum()
    }
}
