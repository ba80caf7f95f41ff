//! What a worker keeps of each subject.
//!
//! Almost all that a request costs here is finding what is kept of the breakers that it touches, so
//! that is cheap where it happens often. A request asks for the same subject several times in a row,
//! so the place of the last one is tried before any other. An endpoint is found by its address alone,
//! be it of this cluster or that: where one cluster has it, nobody need ask the host which one that is.
//!
//! Clients decide what a key is and, where a route takes its cluster from the request, what a name
//! is: a key is a hash with a secret seed already, and names are hashed with one. Addresses are the
//! cluster's, and mixed by one multiplication.

use super::Subject;
use core::cell::Cell;
use core::hash::BuildHasher;
use core::net::IpAddr;
use hashbrown::{DefaultHashBuilder, HashTable};
use shared_state::Endpoint;
use std::rc::Rc;

/// What is kept of subjects, in a row without gaps.
#[derive(Debug)]
pub(crate) struct Table<T> {
    rows: Vec<(Subject, T)>,
    places: HashTable<usize>,
    names: DefaultHashBuilder,
    /// Place of the subject that was asked for last.
    last: Cell<usize>,
}

impl<T> Table<T> {
    pub(crate) fn new() -> Self {
        let (rows, places) = (Vec::new(), HashTable::new());
        Self { rows, places, names: DefaultHashBuilder::default(), last: Cell::new(0) }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Where a subject stands, until something is removed.
    pub(crate) fn find(&self, subject: &Subject) -> Option<usize> {
        let is_own =
            |at: usize| self.rows.get(at).is_some_and(|(other, _)| is_same(other, subject));
        if is_own(self.last.get()) {
            return Some(self.last.get());
        }
        let found = self.places.find(self.hash(subject), |at| is_own(*at)).copied()?;
        self.last.set(found);
        Some(found)
    }

    /// Where an endpoint stands that is one of one cluster only.
    pub(crate) fn only(&self, endpoint: Endpoint) -> Option<usize> {
        let is_of = |at: &&usize| {
            self.rows.get(**at).is_some_and(|(other, _)| other.endpoint == Some(endpoint))
        };
        let mut places = self.places.iter_hash(of_endpoint(endpoint)).filter(is_of);
        let only = places.next().filter(|_| places.next().is_none()).copied()?;
        self.last.set(only);
        Some(only)
    }

    /// The subject that stands somewhere.
    pub(crate) fn subject(&self, at: usize) -> Option<&Subject> {
        self.rows.get(at).map(|(subject, _)| subject)
    }

    /// What is kept of it.
    pub(crate) fn at(&mut self, at: usize) -> Option<&mut T> {
        self.rows.get_mut(at).map(|(_, kept)| kept)
    }

    pub(crate) fn get(&self, subject: &Subject) -> Option<&T> {
        self.rows.get(self.find(subject)?).map(|(_, kept)| kept)
    }

    pub(crate) fn get_mut(&mut self, subject: &Subject) -> Option<&mut T> {
        self.at(self.find(subject)?)
    }

    /// Keeps something of a subject of which nothing was kept. Gives where it stands.
    pub(crate) fn insert(&mut self, subject: Subject, kept: T) -> usize {
        let (hash, at) = (self.hash(&subject), self.rows.len());
        self.rows.push((subject, kept));
        let Self { rows, places, names, .. } = self;
        let rehash = |at: &usize| rows.get(*at).map_or(0, |(subject, _)| hash_of(names, subject));
        places.insert_unique(hash, at, rehash);
        self.last.set(at);
        at
    }

    pub(crate) fn remove(&mut self, subject: &Subject) {
        if let Some(at) = self.find(subject) {
            self.remove_at(at);
        }
    }

    /// Keeps what is worth it.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&mut T) -> bool) {
        let mut at = 0;
        while let Some((_, kept)) = self.rows.get_mut(at) {
            if is_kept(kept) {
                at += 1;
            } else {
                self.remove_at(at);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Subject, &T)> {
        self.rows.iter().map(|(subject, kept)| (subject, kept))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.rows.iter_mut().map(|(_, kept)| kept)
    }

    /// The last of the row comes to where it stood.
    fn remove_at(&mut self, at: usize) {
        let last = self.rows.len().saturating_sub(1);
        for (from, to) in [(at, None), (last, Some(at))] {
            let Some(hash) = self.subject(from).map(|subject| self.hash(subject)) else { return };
            let Ok(mut place) = self.places.find_entry(hash, |place| *place == from) else {
                continue;
            };
            match to {
                Some(to) => *place.get_mut() = to,
                None => drop(place.remove()),
            }
        }
        self.rows.swap_remove(at);
    }

    fn hash(&self, subject: &Subject) -> u64 {
        hash_of(&self.names, subject)
    }
}

fn hash_of(names: &DefaultHashBuilder, subject: &Subject) -> u64 {
    match (subject.endpoint, subject.key) {
        (Some(endpoint), _) => of_endpoint(endpoint),
        (None, Some(key)) => key,
        (None, None) => names.hash_one(&*subject.name),
    }
}

fn of_endpoint(endpoint: Endpoint) -> u64 {
    /// The golden ratio's bits: neighbours come to lie far from each other.
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let address = endpoint.address();
    let ip = match address.ip() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            // A cast takes the lower half.
            ((bits >> 64) as u64).wrapping_mul(FACTOR) ^ bits as u64
        }
    };
    let mixed = (ip.rotate_left(16) ^ u64::from(address.port())).wrapping_mul(FACTOR);
    mixed ^ mixed >> 32
}

/// As `==`, and quick where the names are one.
fn is_same(one: &Subject, other: &Subject) -> bool {
    one.endpoint == other.endpoint
        && one.key == other.key
        && (Rc::ptr_eq(&one.name, &other.name) || one.name == other.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Each of a few routes, keys, and endpoints of two clusters.
    fn subject(number: u16) -> Subject {
        let endpoint = |text: &str| text.parse().ok();
        let named = |name: &str| Subject { name: name.into(), ..Subject::default() };
        match number {
            0..10 => named(&format!("route-{number}")),
            10..20 => Subject { key: Some(number.into()), ..Subject::default() },
            20..30 => Subject { endpoint: endpoint(&format!("10.0.0.1:{number}")), ..named("one") },
            30..40 => {
                let port = number - 10;
                Subject { endpoint: endpoint(&format!("10.0.0.1:{port}")), ..named("two") }
            }
            _ => {
                Subject { endpoint: endpoint(&format!("[2001:db8::{number}]:80")), ..named("one") }
            }
        }
    }

    fn check(table: &Table<u16>, expected: &BTreeMap<u16, u16>) {
        assert_eq!(table.len(), expected.len());
        for number in 0..50 {
            let subject = subject(number);
            assert_eq!(table.get(&subject), expected.get(&number), "{subject}");
            let Some(endpoint) = subject.endpoint else { continue };
            let clusters = expected.keys().map(|number| super::tests::subject(*number));
            let clusters: Vec<_> =
                clusters.filter(|other| other.endpoint == Some(endpoint)).collect();
            let only = table.only(endpoint).and_then(|at| table.subject(at));
            assert_eq!(only, clusters.first().filter(|_| clusters.len() == 1), "{endpoint}");
        }
    }

    #[test]
    fn an_endpoint_of_two_clusters_is_one_of_neither_alone() {
        let mut table = Table::new();
        let (one, two) = (subject(20), subject(30));
        let endpoint = one.endpoint.unwrap();
        assert_eq!((one.endpoint, table.only(endpoint)), (two.endpoint, None));
        let at = table.insert(one, 1);
        assert_eq!(table.only(endpoint), Some(at));
        table.insert(two.clone(), 2);
        assert_eq!(table.only(endpoint), None);
        table.remove(&two);
        assert_eq!(table.only(endpoint), Some(at));
    }

    #[test]
    fn addresses_that_differ_little_have_hashes_that_differ_much() {
        let mut low: Vec<_> = (0..40)
            .flat_map(|host| (0..25).map(move |port| format!("10.0.0.{host}:{}", 8000 + port)))
            .map(|text| of_endpoint(text.parse().unwrap()) % 2048)
            .collect();
        low.sort_unstable();
        low.dedup();
        // A thousand at random leave 790 of 2048.
        assert!(low.len() > 750, "{}", low.len());
    }

    proptest! {
        #[test]
        fn it_keeps_what_a_map_keeps(
            steps in prop::collection::vec((0u16..50, 0u16..4), 0..200),
        ) {
            let (mut table, mut map) = (Table::new(), BTreeMap::new());
            for (turn, (number, what)) in (0..).zip(steps) {
                let subject = subject(number);
                match (what, table.get_mut(&subject)) {
                    (0, _) => {
                        table.remove(&subject);
                        map.remove(&number);
                    }
                    (1, _) if number % 5 == 0 => {
                        table.retain(|kept| *kept % 5 != 0);
                        map.retain(|_, kept| *kept % 5 != 0);
                    }
                    (_, Some(kept)) => {
                        *kept = turn;
                        map.insert(number, turn);
                    }
                    (_, None) => {
                        let at = table.insert(subject.clone(), turn);
                        prop_assert_eq!(table.subject(at), Some(&subject));
                        map.insert(number, turn);
                    }
                }
            }
            check(&table, &map);
        }
    }
}
