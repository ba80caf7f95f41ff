//! What each worker contributes: a slot of its own, and one record that only it writes.
//!
//! A number that every worker changes on every request (requests in flight, successes, latency)
//! would cost a compare-and-swap each time and collide under load. Instead each VM owns a slot, by
//! lease, and writes its own record under the slot's number; a reader adds them up. A slot's lease
//! carries a number that no other VM ever gets, so a VM that was silent for too long notices that
//! its slot has gone to someone else, and that VM's stale record is told from the new owner's.

use crate::{
    DecodeError, Endpoint, Key, LoadReport, Reader, Record, Transition, UnixNanos, Writer, lease,
    members::MAX_MEMBERS,
};
use core::time::Duration;

/// Most VMs of one module that can contribute: Envoy on the largest usual machine, twice.
pub const MAX_WORKERS: u16 = 256;

/// A VM's place among its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerSlot {
    /// Number of the slot, part of the key of the worker's record.
    pub index: u16,
    /// Number that no other VM of this module ever had or gets.
    pub owner: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    owner: u64,
    expires_at: UnixNanos,
}

/// Who owns which slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerSlots {
    last_owner: u64,
    claims: Vec<Claim>,
}

impl WorkerSlots {
    /// Where the slots of `module` are kept.
    pub fn key(module: &'static str) -> Key<Self> {
        Key::new(module, &["workers"])
    }

    /// Renews `mine`, or claims a slot if that is `None` or has been lost. `None`: all are taken.
    pub fn claim(
        prior: Option<Self>,
        mine: Option<WorkerSlot>,
        now: UnixNanos,
        length: Duration,
    ) -> Transition<Self, Option<WorkerSlot>> {
        let mut slots = prior.unwrap_or_else(|| Self::anew(mine, now));
        let expires_at = now.plus(length);
        if let Some(slot) = mine
            && let Some(claim) = slots.claims.get_mut(usize::from(slot.index))
            && claim.owner == slot.owner
        {
            claim.expires_at = expires_at;
            return Transition::Store(slots, Some(slot));
        }
        let free = slots.claims.iter().position(|claim| !claim.is_live(now, length));
        let at = free.unwrap_or(slots.claims.len());
        let Some(index) = u16::try_from(at).ok().filter(|index| *index < MAX_WORKERS) else {
            return Transition::Keep(None);
        };
        slots.last_owner = slots.last_owner.wrapping_add(1);
        let owner = slots.last_owner;
        let claim = Claim { owner, expires_at };
        match slots.claims.get_mut(at) {
            Some(expired) => *expired = claim,
            None => slots.claims.push(claim),
        }
        Transition::Store(slots, Some(WorkerSlot { index, owner }))
    }

    /// No slots. Owners are numbered from the time on and not from 1: a record that a stranger
    /// destroyed is begun again, and a number of the record before may still be in use.
    fn anew(mine: Option<WorkerSlot>, now: UnixNanos) -> Self {
        let last_owner = mine.map_or(0, |slot| slot.owner).max(now.as_nanos());
        Self { last_owner, claims: Vec::new() }
    }

    /// The slots whose owners are alive.
    pub fn live(&self, now: UnixNanos, length: Duration) -> impl Iterator<Item = WorkerSlot> + '_ {
        (0u16..).zip(&self.claims).filter_map(move |(index, claim)| {
            claim.is_live(now, length).then_some(WorkerSlot { index, owner: claim.owner })
        })
    }
}

impl Claim {
    fn is_live(&self, now: UnixNanos, length: Duration) -> bool {
        lease::is_live(self.expires_at, now, length)
    }
}

impl Record for WorkerSlots {
    const TAG: u8 = 3;

    fn write(&self, out: &mut Writer) {
        out.u64(self.last_owner);
        out.list(&self.claims, MAX_WORKERS, |out, claim| {
            out.u64(claim.owner);
            out.u64(claim.expires_at.as_nanos());
        });
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let last_owner = input.u64()?;
        let claims = input.list(MAX_WORKERS, |input| {
            let owner = input.u64()?;
            Ok(Claim { owner, expires_at: UnixNanos::from_nanos(input.u64()?) })
        })?;
        Ok(Self { last_owner, claims })
    }
}

/// What one worker knows of one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerEntry {
    /// Which endpoint.
    pub endpoint: Endpoint,
    /// Requests of this worker that wait for it now.
    pub in_flight: u32,
    /// Responses that were successes, since the worker began.
    pub succeeded: u64,
    /// Attempts that failed, since the worker began.
    pub failed: u64,
    /// Failures since the last success.
    pub consecutive_failures: u32,
    /// Smoothed latency of successes, in microseconds; 0 if none is known.
    pub latency_us: u32,
    /// When it last succeeded; zero if never.
    pub last_success: UnixNanos,
    /// When it last failed; zero if never.
    pub last_failure: UnixNanos,
    /// The newest load report that came with a response.
    pub report: Option<LoadReport>,
    /// What the endpoint's agent said in the newest response in which it spoke, and when: packed by
    /// the module that reports it.
    pub agent: Option<(UnixNanos, u64)>,
}

impl WorkerEntry {
    /// An endpoint of which nothing is known yet.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            in_flight: 0,
            succeeded: 0,
            failed: 0,
            consecutive_failures: 0,
            latency_us: 0,
            last_success: UnixNanos::ZERO,
            last_failure: UnixNanos::ZERO,
            report: None,
            agent: None,
        }
    }
}

/// The record that one worker writes for one cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerReport {
    /// Owner of the slot when this was written. A reader ignores a report of a former owner.
    pub owner: u64,
    /// When this was written.
    pub written_at: UnixNanos,
    /// One entry an endpoint.
    pub entries: Vec<WorkerEntry>,
}

impl WorkerReport {
    /// Where the worker in `slot` of `module` reports on `cluster`.
    pub fn key(module: &'static str, cluster: &str, slot: u16) -> Key<Self> {
        Key::new(module, &["worker", cluster, &slot.to_string()])
    }
}

impl Record for WorkerReport {
    const TAG: u8 = 4;

    fn write(&self, out: &mut Writer) {
        out.u64(self.owner);
        out.u64(self.written_at.as_nanos());
        out.list(&self.entries, MAX_MEMBERS, |out, entry| {
            entry.endpoint.write(out);
            out.u32(entry.in_flight);
            out.u64(entry.succeeded);
            out.u64(entry.failed);
            out.u32(entry.consecutive_failures);
            out.u32(entry.latency_us);
            out.u64(entry.last_success.as_nanos());
            out.u64(entry.last_failure.as_nanos());
            LoadReport::write_optional(entry.report.as_ref(), out);
            let (said_at, words) = entry.agent.unwrap_or_default();
            out.u8(u8::from(entry.agent.is_some()));
            out.u64(said_at.as_nanos());
            out.u64(words);
        });
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let owner = input.u64()?;
        let written_at = UnixNanos::from_nanos(input.u64()?);
        let entries = input.list(MAX_MEMBERS, |input| {
            Ok(WorkerEntry {
                endpoint: Endpoint::read(input)?,
                in_flight: input.u32()?,
                succeeded: input.u64()?,
                failed: input.u64()?,
                consecutive_failures: input.u32()?,
                latency_us: input.u32()?,
                last_success: UnixNanos::from_nanos(input.u64()?),
                last_failure: UnixNanos::from_nanos(input.u64()?),
                report: LoadReport::read_optional(input)?,
                agent: {
                    let is_there = input.u8()?;
                    let said = (UnixNanos::from_nanos(input.u64()?), input.u64()?);
                    match is_there {
                        0 => None,
                        1 => Some(said),
                        _ => return Err(DecodeError::Field),
                    }
                },
            })
        })?;
        Ok(Self { owner, written_at, entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Expected, MemoryStore, SharedStore as _, read, update};

    const LENGTH: Duration = Duration::from_secs(3);

    fn claim(store: &MemoryStore, mine: Option<WorkerSlot>, secs: u64) -> Option<WorkerSlot> {
        let now = UnixNanos::from_secs(secs);
        let key = WorkerSlots::key("test");
        update(store, &key, |prior| WorkerSlots::claim(prior, mine, now, LENGTH)).unwrap().value
    }

    #[test]
    fn two_workers_that_start_at_the_same_instant_get_different_slots() {
        let store = MemoryStore::default();
        let (one, two) = (claim(&store, None, 10).unwrap(), claim(&store, None, 10).unwrap());
        assert!(one.index != two.index && one.owner != two.owner);
    }

    #[test]
    fn a_slot_is_kept_while_it_is_renewed() {
        let store = MemoryStore::default();
        let mine = claim(&store, None, 10);
        for secs in 11..20 {
            assert_eq!(claim(&store, mine, secs), mine);
        }
    }

    #[test]
    fn a_silent_workers_slot_is_reused_under_a_new_owner() {
        let store = MemoryStore::default();
        let silent = claim(&store, None, 10).unwrap();
        let heir = claim(&store, None, 13).unwrap();
        assert_eq!(heir.index, silent.index);
        assert_ne!(heir.owner, silent.owner);
        let back = claim(&store, Some(silent), 14).unwrap();
        assert_ne!(back.index, heir.index, "the silent one does not get it back");
    }

    #[test]
    fn slots_claimed_before_the_clock_stepped_back_are_not_lost_for_ever() {
        let store = MemoryStore::default();
        claim(&store, None, 1000);
        assert_eq!(claim(&store, None, 10).unwrap().index, 0);
    }

    #[test]
    fn there_is_an_end_to_the_slots() {
        let store = MemoryStore::default();
        for _ in 0..MAX_WORKERS {
            assert!(claim(&store, None, 10).is_some());
        }
        assert_eq!(claim(&store, None, 10), None);
    }

    #[test]
    fn who_read_the_clock_a_moment_before_its_peers_takes_no_slot_of_theirs() {
        let store = MemoryStore::default();
        let peer = claim(&store, None, 100).unwrap();
        let moment_before = UnixNanos::from_secs(100).minus(Duration::from_micros(50));
        let slots = read(&store, &WorkerSlots::key("test")).unwrap().unwrap();
        assert_eq!(slots.live(moment_before, LENGTH).collect::<Vec<_>>(), [peer]);
        let claimed = WorkerSlots::claim(Some(slots), None, moment_before, LENGTH);
        let Transition::Store(_, Some(mine)) = claimed else { panic!("a slot is free") };
        assert_ne!(mine.index, peer.index);
    }

    #[test]
    fn after_the_record_was_lost_no_two_workers_share_a_slot() {
        let store = MemoryStore::default();
        let key = WorkerSlots::key("test");
        let before = [claim(&store, None, 100), claim(&store, None, 100)];
        store.set(key.as_str(), b"somebody else's value", Expected::Any).unwrap();
        let [second, first] = [before[1], before[0]].map(|mine| claim(&store, mine, 101).unwrap());
        let heir = claim(&store, None, 101).unwrap();
        assert!(second.index != first.index && first.index != heir.index);
        assert!(before.iter().flatten().all(|old| old.owner != second.owner));
    }
}
