//! One worker's choice of endpoints: its balancers over the clusters' shared host sets.

use crate::cluster::{Cluster, HostSet, LiveHost};
use crate::load_balancer::{Balancer, Choice, Host, OverrideWalk};
use crate::rng::Rng;
use crate::{Headers, UnixNanos};
use host_sim_bootstrap::{Discovery, HealthStatus};
use std::net::SocketAddr;
use std::sync::Arc;

/// Filter state with which a plugin steers an ORIGINAL_DST cluster.
pub(crate) const ORIGINAL_DST_KEY: &[u8] = b"envoy.network.transport_socket.original_dst_address";

/// What one selection asks for.
pub(crate) struct Wish<'a> {
    pub(crate) headers: &'a Headers,
    pub(crate) walk: &'a mut OverrideWalk,
    pub(crate) tried: &'a [SocketAddr],
    pub(crate) reselections: u32,
    /// Value of [`ORIGINAL_DST_KEY`].
    pub(crate) original_dst: Option<&'a [u8]>,
    /// The endpoint of the session.
    pub(crate) session: Option<Session>,
}

/// The endpoint that a session belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) address: SocketAddr,
    /// No other will do.
    pub(crate) strict: bool,
}

/// A cluster as one worker balances over it.
pub(crate) struct Selector {
    balancer: Balancer,
    version: u64,
    set: Arc<HostSet>,
    /// Reused: a selection allocates nothing.
    views: Vec<Host>,
}

impl Selector {
    pub(crate) fn new(cluster: &Cluster, rng: &mut Rng) -> Self {
        let config = cluster.config();
        let policy = config.load_balancing.clone();
        Self {
            balancer: Balancer::new(policy, config.healthy_panic_threshold_percent, rng.next()),
            version: 0,
            set: Arc::default(),
            views: Vec::new(),
        }
    }

    /// The endpoint, or none: no healthy upstream.
    pub(crate) fn choose(
        &mut self,
        cluster: &Cluster,
        wish: Wish<'_>,
        rng: &mut Rng,
    ) -> Option<Arc<LiveHost>> {
        if let Discovery::OriginalDst { header, .. } = &cluster.config().discovery {
            let named = header.as_deref().and_then(|name| wish.headers.get(name));
            let named = std::str::from_utf8(named.or(wish.original_dst)?).ok()?;
            return Some(LiveHost::original(named.trim().parse().ok()?));
        }
        let version = cluster.version();
        if version != self.version {
            self.version = version;
            self.set = cluster.snapshot();
        }
        self.views.clear();
        self.views.extend(self.set.hosts.iter().map(|host| host.view()));
        if let Some(session) = wish.session {
            // Unhealthy endpoints are left out, by the default of `override_host_status`.
            let wanted = |host: &Host| {
                host.address == session.address && host.health != HealthStatus::Unhealthy
            };
            let found = self.views.iter().position(wanted);
            if found.is_some() || session.strict {
                return self.set.hosts.get(found?).cloned();
            }
        }
        let mut choice = Choice {
            header: &|name| wish.headers.get(name),
            walk: wish.walk,
            tried: wish.tried,
            reselections: wish.reselections,
        };
        let at = self.balancer.choose(&self.views, &mut choice, &mut || rng.next())?;
        self.set.hosts.get(at).cloned()
    }
}

/// Milliseconds between two moments, rounded down, for headers and histograms.
pub(crate) fn millis(from: UnixNanos, to: UnixNanos) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX)
}
