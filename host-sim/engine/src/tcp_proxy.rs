//! The end of a chain of network filters: an upstream connection, or the HTTP codec.
//!
//! Envoy's TCP proxy is a filter like those before it; here it is the chain's end, because nothing
//! can stand behind it, and because reading from the client waits for it. Each attempt is counted
//! as a request of its cluster, as Envoy's pools do.

use crate::cluster::Cluster;
use crate::connection::Link;
use crate::flags::ResponseFlags;
use crate::host_selection::Wish;
use crate::listener::TcpStats;
use crate::load_balancer::OverrideWalk;
use crate::router::Broken;
use crate::stream::Stream;
use crate::timer::Timer;
use crate::worker::Turn;
use crate::{ConnectionId, Headers, Output, UpstreamFailure, UpstreamFailureKind, UpstreamLink};
use host_sim_abi::PeerType;
use host_sim_bootstrap::TcpProxy;
use std::sync::Arc;

/// Filter state with which a plugin names the cluster, instead of the configured one.
const CLUSTER_KEY: &[u8] = b"envoy.tcp_proxy.cluster";

impl Turn<'_> {
    /// The connection to the endpoint is there.
    pub fn upstream_connected(&mut self, id: ConnectionId, link: UpstreamLink) {
        let id = id.0;
        let connecting = {
            let mut shared = self.shared.borrow_mut();
            let now = shared.now();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            let Some(connection) = stream.connection() else { return };
            let connecting = connection.link == Link::Connecting;
            if connecting {
                connection.link = Link::Open;
                connection.connected = Some(now);
                connection.moved = now;
                stream.info.upstream_link = Some(link);
            }
            connecting
        };
        if connecting {
            self.watch_idle(id);
            self.read_more(id);
        }
        self.run_deferred();
    }

    /// There is no connection to the endpoint; perhaps another one is tried.
    pub fn upstream_connect_failed(&mut self, id: ConnectionId, failure: UpstreamFailure) {
        let id = id.0;
        let Some(cluster) = self.with_connection(id, |connection| {
            let was = std::mem::take(&mut connection.link);
            connection.cluster.clone().filter(|_| was == Link::Connecting)
        }) else {
            return;
        };
        let Some(cluster) = cluster else { return };
        match failure.kind {
            UpstreamFailureKind::ConnectTimeout => cluster.stats.cx_connect_timeout.inc(),
            _ => cluster.stats.cx_connect_fail.inc(),
        }
        self.release_host(id);
        let reason = Broken::of(&failure, false).transport;
        let tried = {
            let mut shared = self.shared.borrow_mut();
            let Some(stream) = shared.streams.get_mut(&id) else { return };
            stream.info.transport_failure = reason;
            stream.info.flags |= ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
            stream.info.attempts
        };
        if self.proxy_of(id).is_some_and(|proxy| tried < proxy.max_connect_attempts) {
            self.connect_upstream(id, &cluster);
        } else {
            self.refuse_connection(id, ResponseFlags::RETRY_LIMIT_EXCEEDED);
        }
        self.run_deferred();
    }

    /// The upstream reset the connection.
    pub fn connection_upstream_reset(&mut self, id: ConnectionId) {
        self.flag_connection(id.0, ResponseFlags::UPSTREAM_REMOTE_RESET);
        self.close_connection(id.0, PeerType::Local, true);
        self.run_deferred();
    }

    /// All filters have seen the connection: time for the end of the chain.
    pub(crate) fn begin_upstream(&mut self, id: u64) {
        if self.with_connection(id, |connection| connection.http) == Some(true) {
            self.with_connection(id, |connection| connection.link = Link::Open);
            let connection = ConnectionId(id);
            self.shared.borrow_mut().outputs.push_back(Output::ServeHttp { connection });
            return;
        }
        let Some(cluster) = self.choose_cluster(id) else {
            let listener = self.with_connection(id, |connection| connection.listener);
            if let Some(stats) = listener.and_then(|listener| self.tcp_stats(listener)) {
                stats.cx_no_route.inc();
            }
            return self.refuse_connection(id, ResponseFlags::NO_CLUSTER);
        };
        self.connect_upstream(id, &cluster);
    }

    fn choose_cluster(&mut self, id: u64) -> Option<Arc<Cluster>> {
        let proxy = self.proxy_of(id)?;
        let shared = &mut *self.shared.borrow_mut();
        let named = shared.streams.get(&id)?.filter_state(CLUSTER_KEY).cloned();
        let name = match &named {
            Some(name) => std::str::from_utf8(name).ok()?,
            None => {
                let total: u64 = proxy.clusters.iter().map(|(_, weight)| u64::from(*weight)).sum();
                let mut draw = if proxy.clusters.len() > 1 { shared.rng.next() % total } else { 0 };
                let mut clusters = proxy.clusters.iter();
                let drawn = clusters.find(|(_, weight)| {
                    let hit = draw < u64::from(*weight);
                    draw = draw.saturating_sub(u64::from(*weight));
                    hit
                });
                drawn?.0.as_str()
            }
        };
        self.engine.cluster(name).cloned()
    }

    fn connect_upstream(&mut self, id: u64, cluster: &Arc<Cluster>) {
        let host = {
            let shared = &mut *self.shared.borrow_mut();
            let (selectors, rng) = (&mut shared.selectors, &mut shared.rng);
            let mut walk = OverrideWalk::default();
            let headers = Headers::default();
            let stream = shared.streams.get(&id);
            let original_dst = stream
                .and_then(|s| s.filter_state(crate::host_selection::ORIGINAL_DST_KEY))
                .map(|value| value.as_ref());
            let wish = Wish {
                headers: &headers,
                walk: &mut walk,
                tried: &[],
                reselections: 0,
                original_dst,
                session: None,
            };
            selectors.get_mut(cluster.index()).and_then(|s| s.choose(cluster, wish, rng))
        };
        let Some(host) = host else {
            cluster.stats.cx_none_healthy.inc();
            return self.refuse_connection(id, ResponseFlags::NO_HEALTHY_UPSTREAM);
        };
        if !cluster.has_room() {
            cluster.stats.rq_pending_overflow.inc();
            return self.refuse_connection(id, ResponseFlags::UPSTREAM_OVERFLOW);
        }
        cluster.count_request(false, true);
        cluster.stats.rq_total.inc();
        host.count(true);
        let shared = &mut *self.shared.borrow_mut();
        let now = shared.now();
        let Some(stream) = shared.streams.get_mut(&id) else { return };
        stream.info.attempts += 1;
        stream.info.cluster = Some(cluster.clone());
        stream.info.endpoint = Some(host.address);
        let Some(connection) = stream.connection() else { return };
        connection.link = Link::Connecting;
        connection.cluster = Some(cluster.clone());
        connection.asked = now;
        let endpoint = host.address;
        connection.host = Some(host);
        shared.outputs.push_back(Output::ConnectUpstream {
            connection: ConnectionId(id),
            cluster: cluster.clone(),
            endpoint,
            connect_timeout: cluster.config().connect_timeout,
        });
    }

    fn refuse_connection(&mut self, id: u64, flags: ResponseFlags) {
        self.flag_connection(id, flags);
        self.close_connection(id, PeerType::Local, false);
    }

    /// Counts the upstream connection back.
    pub(crate) fn release_host(&self, id: u64) {
        let held = self.with_connection(id, |connection| {
            connection.host.take().map(|host| (host, connection.cluster.clone()))
        });
        if let Some(Some((host, cluster))) = held {
            host.count(false);
            if let Some(cluster) = cluster {
                cluster.count_request(false, false);
            }
        }
    }

    /// `max_downstream_connection_duration`, from the start.
    pub(crate) fn start_connection_limits(&mut self, id: u64) {
        let Some(proxy) = self.proxy_of(id) else { return };
        let listener = self.with_connection(id, |connection| connection.listener);
        if let Some(stats) = listener.and_then(|listener| self.tcp_stats(listener)) {
            stats.cx_total.inc();
        }
        let Some(longest) = proxy.max_downstream_connection_duration else { return };
        let timer = {
            let mut shared = self.shared.borrow_mut();
            let at = shared.now() + longest;
            shared.timers.set(at, Timer::ConnectionLongest { connection: id })
        };
        self.with_connection(id, |connection| connection.longest_timer = Some(timer));
    }

    /// `idle_timeout`, from when the upstream is there.
    fn watch_idle(&mut self, id: u64) {
        let Some(idle) = self.proxy_of(id).and_then(|proxy| proxy.idle_timeout) else { return };
        let shared = &mut *self.shared.borrow_mut();
        let stream = shared.streams.get_mut(&id);
        let Some(connection) = stream.and_then(Stream::connection) else { return };
        let timer = Timer::ConnectionIdle { connection: id };
        connection.idle_timer = Some(shared.timers.set(connection.moved + idle, timer));
    }

    pub(crate) fn on_connection_idle(&mut self, id: u64) {
        let Some(idle) = self.proxy_of(id).and_then(|proxy| proxy.idle_timeout) else { return };
        let due = self.with_connection(id, |connection| {
            connection.idle_timer = None;
            connection.moved + idle
        });
        let now = self.shared.borrow().now();
        match due {
            Some(due) if due > now => self.watch_idle(id),
            Some(_) => self.expire(id, |stats| stats.idle_timeout.inc()),
            None => {}
        }
    }

    pub(crate) fn on_connection_longest(&mut self, id: u64) {
        self.with_connection(id, |connection| connection.longest_timer = None);
        self.expire(id, |stats| stats.max_duration.inc());
    }

    fn expire(&mut self, id: u64, count: impl FnOnce(&TcpStats)) {
        let Some(listener) = self.with_connection(id, |connection| connection.listener) else {
            return;
        };
        if let Some(stats) = self.tcp_stats(listener) {
            count(stats);
        }
        self.close_connection(id, PeerType::Local, false);
    }

    pub(crate) fn tcp_stats(&self, listener: usize) -> Option<&TcpStats> {
        self.engine.listener(listener)?.tcp.as_ref()
    }

    fn proxy_of(&self, id: u64) -> Option<TcpProxy> {
        let listener = self.with_connection(id, |connection| connection.listener)?;
        self.engine.bootstrap().listeners.get(listener)?.tcp().cloned()
    }
}
