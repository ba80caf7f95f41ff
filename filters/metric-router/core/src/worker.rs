//! This worker among its peers: a slot to report in, and whose reports to add up.

use crate::Note;
use crate::note::Source;
use crate::shared::Notes;
use core::time::Duration;
use shared_state::{SharedStore, UnixNanos, WorkerSlot, WorkerSlots};

/// First part of the keys of workers' slots and reports.
pub(crate) const MODULE: &str = "router";

/// How long a slot stays claimed without a sign of life. A worker that dies with requests in flight
/// weighs on its endpoints for so long.
const LEASE: Duration = Duration::from_secs(3);

/// How often the lease is renewed, and the list of peers read.
const RENEWAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Worker {
    pub(crate) slot: Option<WorkerSlot>,
    /// The other workers that are alive.
    pub(crate) peers: Vec<WorkerSlot>,
    renewed_at: Option<UnixNanos>,
}

impl Worker {
    /// Renews what is due. A worker that has nothing to report (the main thread's VM serves no
    /// requests) claims no slot.
    pub(crate) fn refresh(
        &mut self,
        store: &impl SharedStore,
        has_news: bool,
        now: UnixNanos,
        notes: &mut Notes,
    ) {
        let due = |at: UnixNanos| at > now || now.since(at) >= RENEWAL;
        let claims = has_news && self.slot.is_none();
        if !claims && !self.renewed_at.is_none_or(due) {
            return;
        }
        self.renewed_at = Some(now);
        let key = WorkerSlots::key(MODULE);
        if has_news || self.slot.is_some() {
            let mine = self.slot;
            let claim = |prior| WorkerSlots::claim(prior, mine, now, LEASE);
            match notes.update(store, &key, Source::Workers, claim) {
                Some(None) => {
                    self.slot = None;
                    notes.push(Note::NoWorkerSlot);
                }
                Some(slot) => self.slot = slot,
                // The lease goes on for a while; the next renewal may work.
                None => {}
            }
        }
        let slots = notes.read(store, &key, Source::Workers).unwrap_or_default();
        self.peers = slots.live(now, LEASE).filter(|peer| Some(*peer) != self.slot).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared_state::MemoryStore;

    fn refresh(worker: &mut Worker, store: &MemoryStore, has_news: bool, secs: u64) -> Vec<Note> {
        let mut notes = Notes::default();
        worker.refresh(store, has_news, UnixNanos::from_secs(secs), &mut notes);
        notes.take()
    }

    #[test]
    fn workers_see_each_other_and_not_themselves() {
        let store = MemoryStore::default();
        let (mut one, mut two) = (Worker::default(), Worker::default());
        refresh(&mut one, &store, true, 10);
        refresh(&mut two, &store, true, 10);
        refresh(&mut one, &store, true, 11);
        assert_eq!(
            (one.peers.as_slice(), two.peers.as_slice()),
            ([two.slot.unwrap()].as_slice(), [one.slot.unwrap()].as_slice())
        );
    }

    #[test]
    fn a_worker_that_serves_nothing_claims_no_slot() {
        let store = MemoryStore::default();
        let mut idle = Worker::default();
        refresh(&mut idle, &store, false, 10);
        assert!(idle.slot.is_none() && store.sets_tried() == 0);
    }

    #[test]
    fn a_silent_worker_is_no_peer_any_more() {
        let store = MemoryStore::default();
        let (mut one, mut two) = (Worker::default(), Worker::default());
        refresh(&mut two, &store, true, 10);
        refresh(&mut one, &store, true, 12);
        assert_eq!(one.peers.len(), 1);
        refresh(&mut one, &store, true, 13);
        assert!(one.peers.is_empty());
    }

    #[test]
    fn a_host_that_fails_is_noted_and_leaves_the_worker_alone() {
        let store = MemoryStore::default();
        store.fail_with(10);
        let mut worker = Worker::default();
        assert_eq!(refresh(&mut worker, &store, true, 10).len(), 2);
        assert!(worker.slot.is_none() && worker.peers.is_empty());
    }
}
