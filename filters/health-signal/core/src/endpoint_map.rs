//! A map from endpoints, in their order: a cluster has few, and they are looked up more often than
//! they change.

use core::net::SocketAddr;
use shared_state::Endpoint;

/// Values by endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointMap<T>(Vec<(Endpoint, T)>);

impl<T> Default for EndpointMap<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> EndpointMap<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `endpoint`.
    pub fn get(&self, endpoint: Endpoint) -> Option<&T> {
        let at = self.find(endpoint).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// The value of `endpoint`, to be changed.
    pub fn get_mut(&mut self, endpoint: Endpoint) -> Option<&mut T> {
        let at = self.find(endpoint).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    /// The value of `endpoint`, made by `make` if there is none.
    pub fn get_or_insert_with(
        &mut self,
        endpoint: Endpoint,
        make: impl FnOnce() -> T,
    ) -> Option<&mut T> {
        let at = self.find(endpoint).unwrap_or_else(|at| {
            self.0.insert(at, (endpoint, make()));
            at
        });
        self.0.get_mut(at).map(|(_, value)| value)
    }

    /// Takes the value of `endpoint` out.
    pub fn remove(&mut self, endpoint: Endpoint) -> Option<T> {
        let at = self.find(endpoint).ok()?;
        Some(self.0.remove(at).1)
    }

    /// Keeps the values for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        self.0.retain_mut(|(_, value)| keep(value));
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Endpoint, &T)> {
        self.0.iter().map(|(endpoint, value)| (*endpoint, value))
    }

    /// All, in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Endpoint, &mut T)> {
        self.0.iter_mut().map(|(endpoint, value)| (*endpoint, value))
    }

    /// The same endpoints with other values.
    pub fn map<U>(self, change: impl Fn(T) -> U) -> EndpointMap<U> {
        EndpointMap(self.0.into_iter().map(|(endpoint, value)| (endpoint, change(value))).collect())
    }

    fn find(&self, endpoint: Endpoint) -> Result<usize, usize> {
        let number = number(endpoint);
        self.0.binary_search_by(|(other, _)| match (self::number(*other), number) {
            (Some(other), Some(number)) => other.cmp(&number),
            _ => other.cmp(&endpoint),
        })
    }
}

/// An IPv4 endpoint as a number in the same order: to compare two is one instruction.
fn number(endpoint: Endpoint) -> Option<u64> {
    match endpoint.address() {
        SocketAddr::V4(v4) => Some(u64::from(v4.ip().to_bits()) << 16 | u64::from(v4.port())),
        SocketAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_behaves_as_an_ordered_map(
            steps in proptest::collection::vec((0usize..3, 1u16..8, any::<bool>()), 0..60)
        ) {
            let (mut ours, mut theirs) = (EndpointMap::default(), BTreeMap::new());
            for (at, port, insert) in steps {
                let ip = ["127.0.0.1", "200.0.0.0", "[::1]"][at];
                let endpoint: Endpoint = format!("{ip}:{port}").parse().unwrap();
                if insert {
                    *ours.get_or_insert_with(endpoint, || 0).unwrap() += 1;
                    *theirs.entry(endpoint).or_insert(0) += 1;
                } else {
                    prop_assert_eq!(ours.remove(endpoint), theirs.remove(&endpoint));
                }
                prop_assert_eq!(ours.get(endpoint), theirs.get(&endpoint));
            }
            prop_assert_eq!(ours.len(), theirs.len());
            let ours: Vec<_> = ours.iter().map(|(endpoint, count)| (endpoint, *count)).collect();
            prop_assert_eq!(ours, theirs.into_iter().collect::<Vec<_>>());
        }
    }
}
