//! The endpoints of a cluster, as learned from traffic.
//!
//! No hostcall lists the endpoints of a cluster, but each response names the one that served it.
//! Whoever sees an address writes it here, so that all workers, and both modules that need the
//! list, know what one of them saw. The write is a compare-and-swap and happens only when the list
//! changes or an entry has not been confirmed for [`CONFIRM_INTERVAL`].

use crate::{DecodeError, Endpoint, Key, Reader, Record, Transition, UnixNanos, Writer};
use core::time::Duration;

/// Most endpoints that are kept of one cluster. What lies beyond is left to the cluster's own
/// policy.
pub const MAX_MEMBERS: u16 = 1024;

/// How often a sighting refreshes `last_seen`: often enough to expire an endpoint by age, seldom
/// enough to cost nothing.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(5);

/// One endpoint of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its address.
    pub endpoint: Endpoint,
    /// When it was last known to have served, coarse by [`CONFIRM_INTERVAL`].
    pub last_seen: UnixNanos,
    /// Picks in a row that someone else served: it may have left the cluster.
    pub misses: u8,
}

/// The learned endpoints of one cluster, in order of address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The list.
    pub list: Vec<Member>,
}

impl Members {
    /// Where the list of `cluster` is kept.
    pub fn key(cluster: &str) -> Key<Self> {
        Key::new("members", &[cluster])
    }

    /// The addresses.
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint> + '_ {
        self.list.iter().map(|member| member.endpoint)
    }

    /// Records that `endpoint` served a request. Answers whether it was new.
    pub fn seen(prior: Option<Self>, endpoint: Endpoint, now: UnixNanos) -> Transition<Self, bool> {
        let mut members = prior.unwrap_or_default();
        match members.list.binary_search_by_key(&endpoint, |member| member.endpoint) {
            Ok(at) => {
                let Some(member) = members.list.get_mut(at) else { return Transition::Keep(false) };
                let fresh = now.since(member.last_seen) < CONFIRM_INTERVAL
                    && member.last_seen <= now
                    && member.misses == 0;
                if fresh {
                    return Transition::Keep(false);
                }
                member.last_seen = now;
                member.misses = 0;
                Transition::Store(members, false)
            }
            Err(_) if members.list.len() >= usize::from(MAX_MEMBERS) => Transition::Keep(false),
            Err(at) => {
                members.list.insert(at, Member { endpoint, last_seen: now, misses: 0 });
                Transition::Store(members, true)
            }
        }
    }

    /// Replaces the list by what a registry says. Answers whether that changed it.
    pub fn told(
        prior: Option<Self>,
        endpoints: &[Endpoint],
        now: UnixNanos,
    ) -> Transition<Self, bool> {
        let known = prior.unwrap_or_default().list;
        if known.iter().map(|member| &member.endpoint).eq(endpoints) {
            return Transition::Keep(false);
        }
        let member = |endpoint: &Endpoint| {
            let at = known.binary_search_by_key(endpoint, |member| member.endpoint);
            let kept = at.ok().and_then(|at| known.get(at)).copied();
            kept.unwrap_or(Member { endpoint: *endpoint, last_seen: now, misses: 0 })
        };
        let list = endpoints.iter().take(MAX_MEMBERS.into()).map(member).collect();
        Transition::Store(Self { list }, true)
    }

    /// Records that a request picked for `endpoint` was served by another one, and drops the
    /// endpoint when that has happened `allowed` times in a row. Answers whether it was dropped.
    pub fn missed(prior: Option<Self>, endpoint: Endpoint, allowed: u8) -> Transition<Self, bool> {
        let Some(mut members) = prior else { return Transition::Keep(false) };
        let Ok(at) = members.list.binary_search_by_key(&endpoint, |member| member.endpoint) else {
            return Transition::Keep(false);
        };
        let misses = members.list.get(at).map_or(0, |member| member.misses).saturating_add(1);
        if misses >= allowed {
            members.list.remove(at);
            return Transition::Store(members, true);
        }
        if let Some(member) = members.list.get_mut(at) {
            member.misses = misses;
        }
        Transition::Store(members, false)
    }
}

impl Record for Members {
    const TAG: u8 = 2;

    fn write(&self, out: &mut Writer) {
        out.list(&self.list, MAX_MEMBERS, |out, member| {
            member.endpoint.write(out);
            out.u64(member.last_seen.as_nanos());
            out.u8(member.misses);
        });
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let list = input.list(MAX_MEMBERS, |input| {
            Ok(Member {
                endpoint: Endpoint::read(input)?,
                last_seen: UnixNanos::from_nanos(input.u64()?),
                misses: input.u8()?,
            })
        })?;
        // The search above relies on the order.
        if list.is_sorted_by(|a, b| a.endpoint < b.endpoint) {
            Ok(Self { list })
        } else {
            Err(DecodeError::Field)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryStore, SharedStore, decode, encode, read, update};

    fn endpoint(port: u16) -> Endpoint {
        format!("127.0.0.1:{port}").parse().unwrap()
    }

    fn at(secs: u64) -> UnixNanos {
        UnixNanos::from_secs(secs)
    }

    fn see(store: &MemoryStore, port: u16, secs: u64) -> bool {
        let key = Members::key("backend");
        update(store, &key, |prior| Members::seen(prior, endpoint(port), at(secs))).unwrap().value
    }

    fn known(store: &impl SharedStore) -> Vec<u16> {
        let members = read(store, &Members::key("backend")).unwrap().unwrap_or_default();
        members.endpoints().map(|endpoint| endpoint.address().port()).collect()
    }

    #[test]
    fn a_new_address_is_learned_once() {
        let store = MemoryStore::default();
        assert!(see(&store, 2, 10) && see(&store, 1, 10) && !see(&store, 2, 11));
        assert_eq!((known(&store), store.sets_tried()), (vec![1, 2], 2));
    }

    #[test]
    fn a_pick_that_someone_else_served_twice_in_a_row_has_left() {
        let store = MemoryStore::default();
        see(&store, 1, 10);
        let miss = || {
            let key = Members::key("backend");
            update(&store, &key, |prior| Members::missed(prior, endpoint(1), 2)).unwrap().value
        };
        assert!(!miss());
        see(&store, 1, 11);
        assert!(!miss(), "serving in between starts the count again");
        assert!(miss());
        assert!(known(&store).is_empty());
    }

    #[test]
    fn what_a_registry_says_replaces_what_was_seen() {
        let store = MemoryStore::default();
        see(&store, 1, 10);
        see(&store, 2, 10);
        let tell = |ports: &[u16]| {
            let list: Vec<_> = ports.iter().map(|port| endpoint(*port)).collect();
            let key = Members::key("backend");
            update(&store, &key, |prior| Members::told(prior, &list, at(20))).unwrap().value
        };
        assert!(tell(&[2, 3]) && !tell(&[2, 3]));
        assert_eq!(known(&store), [2, 3]);
    }

    #[test]
    fn the_list_is_bounded() {
        let store = MemoryStore::default();
        for port in 1..=MAX_MEMBERS + 10 {
            see(&store, port, 10);
        }
        assert_eq!(known(&store).len(), usize::from(MAX_MEMBERS));
    }

    #[test]
    fn a_list_out_of_order_does_not_decode() {
        let member = |port| Member { endpoint: endpoint(port), last_seen: at(1), misses: 0 };
        let members = Members { list: vec![member(2), member(1)] };
        assert_eq!(decode::<Members>(&encode(&members)), Err(DecodeError::Field));
    }
}
