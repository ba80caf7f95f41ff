//! What the leader of a cluster does on its tick: read, poll, publish.

use crate::shared::{Shared, Watched};
use crate::streams;
use crate::worker::{SLOT_LEASE, change_members, note_write};
use health_signal_core::config::{Active, PollKind};
use health_signal_core::{
    Answer, ClusterHealth, Due, MODULE, POLL_HEADER, PROXIED_HEADER, PollOutcome, Publication,
    SERVED_HEADER, leader_key, merge,
};
use plugin_kit::headers::{self, Map};
use plugin_kit::{Draws, HostStore, call};
use shared_state::{
    BreakerRecord, BreakerState, DEFAULT_ENDPOINT_SCOPE, Endpoint, EndpointHealth, Expected,
    Leadership, Members, SharedStore as _, Standing, UnixNanos, WorkerReport, WorkerSlot,
    WorkerSlots, encode, read,
};
use std::rc::Rc;

/// Polls in a row that another endpoint answered before the one asked has left the cluster.
const MISSES_ALLOWED: u8 = 2;

/// Circuit breakers that are read in one tick. Pickers read them too, and oftener.
const MAX_BREAKERS: usize = 64;

/// One VM's part in leading one cluster.
pub(crate) struct Leader {
    pub(crate) cluster: Rc<Watched>,
    leadership: Leadership,
    pub(crate) table: Option<ClusterHealth>,
}

/// A call that the host will answer.
pub(crate) struct Sent {
    pub(crate) token: u32,
    pub(crate) cluster: Rc<Watched>,
    pub(crate) due: Due,
}

impl Sent {
    pub(crate) fn is_of_target(&self, other: &Self) -> bool {
        let same = self.due.endpoint == other.due.endpoint && self.due.poll == other.due.poll;
        same && self.cluster.name == other.cluster.name
    }
}

impl Leader {
    pub(crate) fn new(cluster: Rc<Watched>) -> Self {
        Self { cluster, leadership: Leadership::default(), table: None }
    }

    pub(crate) fn is_of(&self, cluster: &Watched) -> bool {
        self.cluster.name == cluster.name
    }

    /// Stands for election and, as the leader, reads, polls and publishes. Answers the calls that
    /// were made.
    pub(crate) fn tick(
        &mut self,
        shared: &Shared,
        slot: WorkerSlot,
        draws: &mut Draws,
        now: UnixNanos,
    ) -> Vec<Sent> {
        self.stand(shared, slot, draws, now);
        let Some(table) = &mut self.table else { return Vec::new() };
        let cluster = &self.cluster;
        shared.metrics.leads(&cluster.name, true);
        update_members(shared, cluster, table, draws, now);
        table.absorb(merge(&worker_reports(shared, cluster, now)), now);
        for due in table.give_up(now) {
            shared.metrics.poll(&cluster.name, PollOutcome::Lost.name());
            let name = &cluster.name;
            match due.endpoint {
                Some(endpoint) => {
                    shared.degraded.note("poll_lost", format_args!("{endpoint}: no callback came"));
                }
                None => shared.degraded.note("poll_lost", format_args!("{name}: no callback came")),
            }
        }
        look_at_breakers(shared, cluster, table, now);
        let sent = poll(shared, cluster, table, draws, now);
        streams::tend(shared, cluster, table, draws, now);
        publish(shared, cluster, table, now);
        sent
    }

    /// Takes the answer to a call, in the call's callback.
    pub(crate) fn answer(
        &mut self,
        shared: &Shared,
        sent: &Sent,
        num_headers: usize,
        now: UnixNanos,
    ) {
        let Some(table) = &mut self.table else { return };
        let header =
            |name| if num_headers > 0 { headers::get(Map::CallResponse, name) } else { None };
        let served = header(SERVED_HEADER);
        let agent = self.cluster.config.agent_header.as_deref().and_then(header);
        let kind = self.cluster.config.active.get(sent.due.poll).map(|active| active.kind);
        let body = call::body(kind.map_or(0, PollKind::max_body) + 1);
        let answer = Answer {
            status: header(":status").and_then(|status| status.parse().ok()),
            served: served.as_deref(),
            agent: agent.as_deref(),
            proxied: header(PROXIED_HEADER).is_some() || header("server").is_some(),
            body: &body,
        };
        let outcome = table.answered(sent.due, sent.token, &answer, now);
        shared.metrics.poll(&self.cluster.name, outcome.name());
        let name = &self.cluster.name;
        let Some(endpoint) = sent.due.endpoint else { return };
        match outcome {
            PollOutcome::Good if served.is_some() => confirm(shared, &self.cluster, endpoint, now),
            PollOutcome::Misattributed => {
                let misses = table.is_steering(now);
                shared.degraded.note(
                    "poll_misattributed",
                    format_args!(
                        "{name}: asked {endpoint}, served by {}",
                        served.as_deref().unwrap_or_default()
                    ),
                );
                if misses {
                    miss(shared, &self.cluster, endpoint);
                }
            }
            PollOutcome::Unattributed => shared.degraded.note(
                "poll_unattributed",
                format_args!("{name}: the answer for {endpoint} names no endpoint"),
            ),
            _ => {}
        }
    }

    /// Leads no longer.
    pub(crate) fn end(&mut self) {
        if let Some(table) = self.table.take() {
            streams::end(&table);
        }
    }

    fn stand(&mut self, shared: &Shared, slot: WorkerSlot, draws: &mut Draws, now: UnixNanos) {
        let name = &self.cluster.name;
        let lease = shared.config.lease;
        let key = leader_key(name);
        let (standing, asked) = self.leadership.stand(&HostStore, &key, slot.owner, now, lease);
        if let Err(error) = asked {
            shared.note_update(error, "leader lease");
        }
        match standing {
            Standing::Elected => {
                log::info!("leading cluster {name}");
                let config = Rc::clone(&self.cluster.config);
                self.table = Some(ClusterHealth::new(config, now, &mut || draws.next_u64()));
            }
            Standing::Resigned => {
                log::info!("no longer leading cluster {name}");
                shared.metrics.leads(name, false);
                self.end();
            }
            Standing::Leader | Standing::Follower => {}
        }
    }
}

fn update_members(
    shared: &Shared,
    cluster: &Watched,
    table: &mut ClusterHealth,
    draws: &mut Draws,
    now: UnixNanos,
) {
    let members = if cluster.config.endpoints.is_empty() {
        match read(&HostStore, &Members::key(&cluster.name)) {
            Ok(members) => members.unwrap_or_default().endpoints().collect(),
            Err(error) => return shared.note_read(error, "members"),
        }
    } else {
        cluster.config.endpoints.clone()
    };
    let prior = |endpoint| {
        let record = read(&HostStore, &EndpointHealth::key(&cluster.name, endpoint));
        record.unwrap_or_else(|error| {
            shared.note_read(error, "endpoint health");
            None
        })
    };
    for endpoint in table.set_members(members.into_iter(), now, prior, &mut || draws.next_u64()) {
        log::info!("endpoint {endpoint} left cluster {}", cluster.name);
        shared.metrics.endpoint_left(&cluster.name, endpoint);
    }
}

fn worker_reports(shared: &Shared, cluster: &Watched, now: UnixNanos) -> Vec<WorkerReport> {
    let slots = match read(&HostStore, &WorkerSlots::key(MODULE)) {
        Ok(slots) => slots.unwrap_or_default(),
        Err(error) => {
            shared.note_read(error, "worker slots");
            return Vec::new();
        }
    };
    let report = |slot: WorkerSlot| {
        let key = WorkerReport::key(MODULE, &cluster.name, slot.index);
        match read(&HostStore, &key) {
            Ok(report) => report.filter(|report| report.owner == slot.owner),
            Err(error) => {
                shared.note_read(error, "worker report");
                None
            }
        }
    };
    slots.live(now, SLOT_LEASE).filter_map(report).collect()
}

/// Takes which breakers are open, of some endpoints at a time.
fn look_at_breakers(shared: &Shared, cluster: &Watched, table: &mut ClusterHealth, now: UnixNanos) {
    for endpoint in table.some_endpoints(MAX_BREAKERS) {
        let parts = [cluster.name.as_str(), &endpoint.to_string()];
        let key = BreakerRecord::key(DEFAULT_ENDPOINT_SCOPE, &parts);
        match read(&HostStore, &key) {
            Ok(record) => {
                let open = record.is_some_and(|record| record.state_at(now) == BreakerState::Open);
                table.set_breaker(endpoint, open);
            }
            Err(error) => shared.note_read(error, "breaker"),
        }
    }
}

fn poll(
    shared: &Shared,
    cluster: &Rc<Watched>,
    table: &mut ClusterHealth,
    draws: &mut Draws,
    now: UnixNanos,
) -> Vec<Sent> {
    if cluster.config.active.is_empty() {
        return Vec::new();
    }
    let name = &cluster.name;
    let mut calls = Vec::new();
    let (all, spared) = table.due(now, &mut || draws.next_u64());
    for _ in 0..spared {
        shared.metrics.poll(name, "spared");
    }
    shared.metrics.over_budget(name, table.is_over_budget());
    for due in all {
        let Some(active) = cluster.config.active.get(due.poll) else { continue };
        let sent = send(cluster, active, due);
        if let Err(error) = sent {
            shared.metrics.poll(name, PollOutcome::Refused.name());
            shared.degraded.note("poll_refused", format_args!("cluster {name}: {error:?}"));
        }
        table.sent(due, sent.ok(), now, draws.next_u64());
        if let Ok(token) = sent {
            calls.push(Sent { token, cluster: Rc::clone(cluster), due });
        }
    }
    calls
}

fn send(cluster: &Watched, active: &Active, due: Due) -> Result<u32, call::CallError> {
    let target = due.endpoint.map(|endpoint| endpoint.to_string());
    let called = active.query.as_ref().map_or(cluster.name.as_str(), |query| &query.cluster);
    let accept = match active.kind {
        PollKind::Prometheus => {
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
        }
        PollKind::Agent => "text/plain",
        _ => "application/json",
    };
    let mut headers = vec![
        (":method", "GET"),
        (":path", active.path.as_str()),
        (":authority", active.host.as_deref().unwrap_or(called)),
        (":scheme", "http"),
        ("accept", accept),
        ("user-agent", "weir-health-signal"),
        (POLL_HEADER, active.kind.name()),
    ];
    if let Some(target) = &target {
        headers.push((cluster.config.steering_header.as_str(), target));
    }
    call::dispatch(called, &headers, b"", due.timeout)
}

fn publish(shared: &Shared, cluster: &Watched, table: &mut ClusterHealth, now: UnixNanos) {
    for Publication { endpoint, record, change } in table.publications(now) {
        let name = &cluster.name;
        if let Some((before, by)) = change {
            let (before, state, by) = (before.name(), record.state.name(), by.name());
            log::info!("endpoint {endpoint} of cluster {name}: {before} -> {state}, by {by}");
        }
        shared.metrics.endpoint(name, endpoint, &record);
        if !shared.enforces() {
            continue;
        }
        let key = EndpointHealth::key(name, endpoint);
        let written = HostStore.set(key.as_str(), &encode(&record), Expected::Any);
        if let Err(error) = written {
            table.publication_failed(endpoint);
            note_write(shared, error, "endpoint health");
        }
    }
    shared.metrics.totals(&cluster.name, &table.totals());
}

/// The endpoint that was asked is the one that answered: it is a member.
fn confirm(shared: &Shared, cluster: &Watched, endpoint: Endpoint, now: UnixNanos) {
    change_members(shared, cluster, &|prior| Members::seen(prior, endpoint, now));
}

/// Steering works, and another endpoint answered for this one: it may have left.
fn miss(shared: &Shared, cluster: &Watched, endpoint: Endpoint) {
    change_members(shared, cluster, &|prior| Members::missed(prior, endpoint, MISSES_ALLOWED));
}
