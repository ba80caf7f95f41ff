//! The scripted endpoints, of one host or shared by a crew's.

use crate::endpoint::Endpoint;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Endpoints by address.
pub(super) type All = BTreeMap<SocketAddr, Endpoint>;

/// What the threads of a crew share while they run.
pub(super) type Shared = Arc<Mutex<All>>;

/// See the module.
#[derive(Default)]
pub(super) struct Endpoints {
    own: All,
    shared: Option<Shared>,
}

impl Endpoints {
    pub(super) fn shared(shared: Shared) -> Self {
        Self { own: All::new(), shared: Some(shared) }
    }

    /// Reads or changes them. Must not be nested, nor call a guest.
    pub(super) fn with<R>(&mut self, act: impl FnOnce(&mut All) -> R) -> R {
        match &self.shared {
            Some(shared) => act(&mut shared.lock().unwrap_or_else(PoisonError::into_inner)),
            None => act(&mut self.own),
        }
    }

    /// One of them, on a host that shares none.
    pub(super) fn get(&self, address: &SocketAddr) -> Option<&Endpoint> {
        self.own.get(address)
    }

    /// Lends them to a crew, or takes them back.
    pub(super) fn swap(&mut self, shared: &Shared) {
        std::mem::swap(&mut self.own, &mut *shared.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
