//! Which cluster an endpoint is of, as long as nobody has to be asked.
//!
//! The host tells it for each request, by a hostcall or an expression, and the answer is nearly
//! always the one of before. So where requests are many it is asked for once between two ticks, and
//! remembered. An address may be in two clusters, as in those of a service and of its subset: once
//! both have been seen, it is remembered for neither. Until then, at most from one tick to the next,
//! an attempt counts for the cluster of before: it is the same endpoint's.

use crate::EndpointMap;
use shared_state::Endpoint;
use std::rc::Rc;

/// Most endpoints that are remembered. Whoever comes after is asked for each time, until a tick has
/// made room.
const MAX_ENDPOINTS: usize = 4096;

/// Ticks after which an endpoint that was not used is forgotten: a minute of them, for there are four
/// a second.
const FORGOTTEN_AFTER: u32 = 240;

/// Requests between two ticks from which on it is worth while to remember.
const MANY: u32 = 16;

/// The clusters of the endpoints that were lately used.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    entries: EndpointMap<Entry>,
    /// Requests since the last tick, and between that and the one before.
    requests: u32,
    requests_before: u32,
    /// Counts ticks.
    now: u32,
}

#[derive(Clone, Debug)]
struct Entry {
    cluster: Rc<str>,
    /// The tick after which the host last told it.
    told_at: u32,
    /// It was seen in another cluster, too.
    is_shared: bool,
}

impl Directory {
    /// A request. Answers whether its endpoint is most probably known, so that to read its address is
    /// enough: not where requests are few, nor of the first after a tick.
    pub fn is_worth_a_look(&mut self) -> bool {
        self.requests = self.requests.saturating_add(1);
        self.requests_before >= MANY && self.requests > 1
    }

    /// The cluster of `endpoint`, if the host has told it since the last tick and never told another.
    pub fn cluster_of(&self, endpoint: Endpoint) -> Option<Rc<str>> {
        let entry = self.entries.get(endpoint)?;
        let is_known = entry.told_at == self.now && !entry.is_shared;
        is_known.then(|| Rc::clone(&entry.cluster))
    }

    /// The host says that `endpoint` is of this cluster.
    pub fn told(&mut self, endpoint: Endpoint, cluster: &str) -> Rc<str> {
        let now = self.now;
        if let Some(entry) = self.entries.get_mut(endpoint) {
            entry.told_at = now;
            if *entry.cluster != *cluster {
                entry.is_shared = true;
                entry.cluster = cluster.into();
            }
            return Rc::clone(&entry.cluster);
        }
        let cluster: Rc<str> = cluster.into();
        if self.entries.len() < MAX_ENDPOINTS {
            let entry = Entry { cluster: Rc::clone(&cluster), told_at: now, is_shared: false };
            self.entries.get_or_insert_with(endpoint, || entry);
        }
        cluster
    }

    /// A tick: from now on the host is asked again, and what nobody used is forgotten.
    pub fn tick(&mut self) {
        self.now = self.now.wrapping_add(1);
        self.requests_before = core::mem::take(&mut self.requests);
        let now = self.now;
        self.entries.retain(|entry| now.wrapping_sub(entry.told_at) <= FORGOTTEN_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(port: usize) -> Endpoint {
        format!("127.0.0.1:{port}").parse().unwrap()
    }

    fn of(directory: &Directory, port: usize) -> Option<String> {
        directory.cluster_of(endpoint(port)).map(|name| name.to_string())
    }

    #[test]
    fn the_host_is_asked_once_between_two_ticks() {
        let mut directory = Directory::default();
        assert_eq!(of(&directory, 1), None);
        directory.told(endpoint(1), "a");
        assert_eq!(of(&directory, 1).as_deref(), Some("a"));
        directory.tick();
        assert_eq!(of(&directory, 1), None);
        directory.told(endpoint(1), "a");
        assert_eq!(of(&directory, 1).as_deref(), Some("a"));
    }

    #[test]
    fn nobody_looks_while_requests_are_few_nor_first_after_a_tick() {
        let mut directory = Directory::default();
        let mut looked = |requests: u32| {
            directory.tick();
            (0..requests).filter(|_| directory.is_worth_a_look()).count()
        };
        assert_eq!(
            [looked(100), looked(15), looked(16), looked(16), looked(0), looked(9)],
            [0, 14, 0, 15, 0, 0]
        );
    }

    #[test]
    fn an_address_of_two_clusters_is_asked_for_each_time() {
        let mut directory = Directory::default();
        for cluster in ["all", "v1", "all", "all"] {
            assert_eq!(*directory.told(endpoint(1), cluster), *cluster);
            directory.tick();
        }
        directory.told(endpoint(1), "all");
        assert_eq!(of(&directory, 1), None);
        directory.told(endpoint(2), "all");
        assert_eq!(of(&directory, 2).as_deref(), Some("all"));
    }

    #[test]
    fn who_is_not_used_for_a_minute_is_forgotten_and_makes_room() {
        let mut directory = Directory::default();
        for port in 1..=MAX_ENDPOINTS + 1 {
            directory.told(endpoint(port), "a");
        }
        assert_eq!(directory.entries.len(), MAX_ENDPOINTS);
        assert_eq!(of(&directory, MAX_ENDPOINTS + 1), None);
        for _ in 0..FORGOTTEN_AFTER {
            directory.tick();
            directory.told(endpoint(1), "a");
        }
        assert_eq!(directory.entries.len(), MAX_ENDPOINTS);
        directory.tick();
        assert_eq!(directory.entries.len(), 1);
        directory.told(endpoint(MAX_ENDPOINTS + 1), "b");
        assert_eq!(of(&directory, MAX_ENDPOINTS + 1).as_deref(), Some("b"));
    }

    proptest! {
        /// What is remembered is what the host told last, and of an address of two clusters nothing.
        #[test]
        fn nothing_is_known_that_the_host_has_not_told(
            steps in proptest::collection::vec((1usize..5, 0usize..3, any::<bool>()), 0..80)
        ) {
            let mut directory = Directory::default();
            let mut told = vec![std::collections::BTreeSet::new(); 5];
            let mut lately = [false; 5];
            for (port, cluster, is_tick) in steps {
                if is_tick {
                    directory.tick();
                    lately = [false; 5];
                } else {
                    let name = ["a", "b", "c"][cluster];
                    prop_assert_eq!(&*directory.told(endpoint(port), name), name);
                    told[port].insert(name.to_owned());
                    lately[port] = true;
                }
                for port in 1..5 {
                    let only = told[port].first().filter(|_| told[port].len() == 1 && lately[port]);
                    prop_assert_eq!(of(&directory, port), only.cloned());
                }
            }
        }
    }
}
