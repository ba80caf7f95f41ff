//! What the leader of a cluster does on its tick: read, poll, publish.

use crate::shared::{Shared, Watched};
use crate::worker::{SLOT_LEASE, change_members, note_write};
use health_signal_core::config::Active;
use health_signal_core::{
    Answer, ClusterHealth, Leadership, MAX_BODY_BYTES, MODULE, PROXIED_HEADER, PollOutcome,
    Publication, SERVED_HEADER, Standing, merge,
};
use plugin_kit::headers::{self, Map};
use plugin_kit::{Draws, HostStore, call};
use shared_state::{
    Endpoint, EndpointHealth, Expected, Members, SharedStore as _, UnixNanos, WorkerReport,
    WorkerSlot, WorkerSlots, encode, read,
};
use std::rc::Rc;

/// Polls in a row that another endpoint answered before the one asked has left the cluster.
const MISSES_ALLOWED: u8 = 2;

/// One VM's part in leading one cluster.
pub(crate) struct Leader {
    cluster: Rc<Watched>,
    leadership: Leadership,
    table: Option<ClusterHealth>,
}

/// A call that the host will answer.
pub(crate) struct Sent {
    pub(crate) token: u32,
    pub(crate) cluster: Rc<Watched>,
    pub(crate) endpoint: Endpoint,
}

impl Sent {
    pub(crate) fn is_of_target(&self, other: &Self) -> bool {
        self.endpoint == other.endpoint && self.cluster.name == other.cluster.name
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
        self.stand(shared, slot, now);
        let Some(table) = &mut self.table else { return Vec::new() };
        let cluster = &self.cluster;
        shared.metrics.leads(&cluster.name, true);
        update_members(shared, cluster, table, draws, now);
        table.absorb(merge(&worker_reports(shared, cluster, now)), now);
        for endpoint in table.give_up(now) {
            shared.metrics.poll(&cluster.name, PollOutcome::Lost.name());
            shared.degraded.note("poll_lost", format_args!("{endpoint}: no callback ever came"));
        }
        let sent = poll(shared, cluster, table, draws, now);
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
        let body = call::body(MAX_BODY_BYTES + 1);
        let answer = Answer {
            status: header(":status").and_then(|status| status.parse().ok()),
            served: served.as_deref(),
            proxied: header(PROXIED_HEADER).is_some() || header("server").is_some(),
            body: &body,
        };
        let outcome = table.answered(sent.endpoint, sent.token, &answer, now);
        shared.metrics.poll(&self.cluster.name, outcome.name());
        let name = &self.cluster.name;
        match outcome {
            PollOutcome::Good if served.is_some() => confirm(shared, &self.cluster, sent, now),
            PollOutcome::Misattributed => {
                let misses = table.is_steering(now);
                shared.degraded.note(
                    "poll_misattributed",
                    format_args!(
                        "{name}: asked {}, served by {}",
                        sent.endpoint,
                        served.as_deref().unwrap_or_default()
                    ),
                );
                if misses {
                    miss(shared, &self.cluster, sent.endpoint);
                }
            }
            PollOutcome::Unattributed => shared.degraded.note(
                "poll_unattributed",
                format_args!("{name}: the answer for {} names no endpoint", sent.endpoint),
            ),
            _ => {}
        }
    }

    fn stand(&mut self, shared: &Shared, slot: WorkerSlot, now: UnixNanos) {
        let name = &self.cluster.name;
        let lease = shared.config.lease;
        let (standing, asked) = self.leadership.stand(&HostStore, name, slot.owner, now, lease);
        if let Err(error) = asked {
            shared.note_update(error, "leader lease");
        }
        match standing {
            Standing::Elected => {
                log::info!("leading cluster {name}");
                self.table = Some(ClusterHealth::new(Rc::clone(&self.cluster.config)));
            }
            Standing::Resigned => {
                log::info!("no longer leading cluster {name}");
                self.table = None;
                shared.metrics.leads(name, false);
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
    for endpoint in table.set_members(members.into_iter(), now, prior, || draws.next_u64()) {
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

fn poll(
    shared: &Shared,
    cluster: &Rc<Watched>,
    table: &mut ClusterHealth,
    draws: &mut Draws,
    now: UnixNanos,
) -> Vec<Sent> {
    let Some(active) = &cluster.config.active else { return Vec::new() };
    let mut calls = Vec::new();
    for endpoint in table.due(now) {
        let sent = send(cluster, active, endpoint);
        if let Err(error) = sent {
            shared.metrics.poll(&cluster.name, PollOutcome::Refused.name());
            let name = &cluster.name;
            shared.degraded.note("poll_refused", format_args!("cluster {name}: {error:?}"));
        }
        table.sent(endpoint, sent.ok(), now, draws.next_u64());
        if let Ok(token) = sent {
            calls.push(Sent { token, cluster: Rc::clone(cluster), endpoint });
        }
    }
    calls
}

fn send(cluster: &Watched, active: &Active, endpoint: Endpoint) -> Result<u32, call::CallError> {
    let target = endpoint.to_string();
    let headers = [
        (":method", "GET"),
        (":path", active.path.as_str()),
        (":authority", active.host.as_deref().unwrap_or(&cluster.name)),
        (":scheme", "http"),
        ("accept", "application/json"),
        ("user-agent", "weir-health-signal"),
        (cluster.config.steering_header.as_str(), target.as_str()),
    ];
    call::dispatch(&cluster.name, &headers, b"", active.timeout)
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
}

/// The endpoint that was asked is the one that answered: it is a member.
fn confirm(shared: &Shared, cluster: &Watched, sent: &Sent, now: UnixNanos) {
    change_members(shared, cluster, &|prior| Members::seen(prior, sent.endpoint, now));
}

/// Steering works, and another endpoint answered for this one: it may have left.
fn miss(shared: &Shared, cluster: &Watched, endpoint: Endpoint) {
    change_members(shared, cluster, &|prior| Members::missed(prior, endpoint, MISSES_ALLOWED));
}
