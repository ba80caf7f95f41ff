//! What has a breaker, where its record is kept, and how it is named.

use shared_state::{BreakerRecord, Endpoint, Key};
use std::rc::Rc;

/// What has a breaker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The route's name, or the cluster's; empty for a key.
    pub name: Rc<str>,
    /// An endpoint of the cluster, if it is one.
    pub endpoint: Option<Endpoint>,
    /// Keyed hash of what clients sent, if that has a breaker.
    pub key: Option<u64>,
}

impl Subject {
    pub(super) fn record_key(&self, scope: &str) -> Key<BreakerRecord> {
        match self.endpoint {
            Some(endpoint) => BreakerRecord::key(scope, &[&self.name, &endpoint.to_string()]),
            None => BreakerRecord::key(scope, &[&self.name]),
        }
    }
}

/// As logs and access logs name it. Of a key, nothing but its hash is ever written down.
impl core::fmt::Display for Subject {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match (self.key, self.endpoint) {
            (Some(key), _) => write!(f, "#{key:016x}"),
            (None, Some(endpoint)) => write!(f, "{endpoint} of {}", self.name),
            (None, None) => f.write_str(&self.name),
        }
    }
}

/// Which breakers an override is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    Named(Subject),
}
