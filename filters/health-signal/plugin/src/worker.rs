//! What every VM does on its tick: keep its slot, report what it saw, name the members.

use crate::shared::{Shared, Watched};
use core::time::Duration;
use health_signal_core::{MODULE, Observer};
use plugin_kit::HostStore;
use shared_state::{
    Expected, Members, SetError, SharedStore as _, Transition, UnixNanos, UpdateError,
    WorkerReport, WorkerSlots, encode, update,
};

/// How long a slot is kept without being renewed. Longer than any pause of a worker that is not a
/// fault: what a silent worker saw stops counting when it ends.
pub(crate) const SLOT_LEASE: Duration = Duration::from_secs(10);

/// How often a slot is renewed.
const SLOT_RENEWAL: Duration = Duration::from_secs(3);

/// When the slot was last asked for.
#[derive(Default)]
pub(crate) struct Slot {
    asked_at: Option<UnixNanos>,
}

impl Slot {
    /// Claims a slot, or renews it, if that is due.
    pub(crate) fn keep(&mut self, shared: &Shared, now: UnixNanos) {
        let due = self.asked_at.is_none_or(|at| now.since(at) >= SLOT_RENEWAL || at > now);
        if !due {
            return;
        }
        let mine = shared.slot.get();
        let key = WorkerSlots::key(MODULE);
        let claim = |prior| WorkerSlots::claim(prior, mine, now, SLOT_LEASE);
        match update(&HostStore, &key, claim) {
            Ok(claimed) => {
                self.asked_at = Some(now);
                shared.slot.set(claimed.value);
                if claimed.value.is_none() {
                    shared.degraded.note("no_worker_slot", "all are taken: not reporting");
                }
                if let Some(error) = claimed.corrupt {
                    shared.degraded.note("corrupt_record", format_args!("slots: {error:?}"));
                }
            }
            // Asked again at the next tick. Until then a slot that was ours still is.
            Err(error) => shared.note_update(error, "worker slots"),
        }
    }
}

/// Writes this worker's record of `cluster`, if it has changed.
pub(crate) fn report(shared: &Shared, cluster: &Watched, now: UnixNanos) {
    let Some(slot) = shared.slot.get() else { return };
    let report = cluster.observing(|observer| observer.report(slot.owner, now));
    let Some(report) = report else { return };
    let key = WorkerReport::key(MODULE, &cluster.name, slot.index);
    let written = HostStore.set(key.as_str(), &encode(&report), Expected::Any);
    if let Err(error) = written {
        cluster.observing(Observer::report_failed);
        note_write(shared, error, "worker report");
    }
}

/// Adds the endpoints that the host has chosen to the list of members.
pub(crate) fn sightings(shared: &Shared, cluster: &Watched, now: UnixNanos) {
    for endpoint in cluster.observing(|observer| observer.sightings(now)) {
        change_members(shared, cluster, &|prior| Members::seen(prior, endpoint, now));
    }
}

/// Changes the list of members, unless it is configured: then there is nothing to learn.
pub(crate) fn change_members(
    shared: &Shared,
    cluster: &Watched,
    change: &dyn Fn(Option<Members>) -> Transition<Members, bool>,
) {
    if !cluster.config.endpoints.is_empty() {
        return;
    }
    if let Err(error) = update(&HostStore, &Members::key(&cluster.name), change) {
        shared.note_update(error, "members");
    }
}

pub(crate) fn note_write(shared: &Shared, error: SetError, what: &str) {
    let error = match error {
        SetError::Conflict => UpdateError::Contended,
        SetError::Store(error) => UpdateError::Store(error),
    };
    shared.note_update(error, what);
}
