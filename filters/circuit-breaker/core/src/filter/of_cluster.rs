//! The breakers that a list of endpoints is thinned out by.

use crate::breaker::Admission;
use crate::destinations::{Breakers, View};
use crate::worker::{Clock, Subject, WorkerBreakers};
use shared_state::{Endpoint, SharedStore};
use std::rc::Rc;

/// The breakers of one cluster's endpoints, during one request.
pub(super) struct OfCluster<'a, S, C, D, N> {
    pub(super) breakers: &'a mut WorkerBreakers,
    pub(super) store: &'a S,
    pub(super) cluster: &'a Rc<str>,
    pub(super) clock: C,
    pub(super) draw: &'a mut D,
    pub(super) percent: u8,
    pub(super) size: N,
    pub(super) pardoned: Option<Vec<Endpoint>>,
}

impl<S, C, D, N> OfCluster<'_, S, C, D, N> {
    pub(super) fn subject(&self, endpoint: Endpoint) -> Subject {
        Subject { name: Rc::clone(self.cluster), endpoint: Some(endpoint), key: None }
    }
}

impl<S: SharedStore, C: Clock, D: FnMut() -> u64, N: Fn() -> u32> Breakers
    for OfCluster<'_, S, C, D, N>
{
    fn view(&mut self, endpoint: Endpoint) -> View {
        self.breakers.view(self.store, &self.subject(endpoint), self.clock)
    }

    fn admit(&mut self, endpoint: Endpoint) -> Admission {
        let subject = self.subject(endpoint);
        self.breakers.admit(self.store, &subject, self.clock, (self.draw)())
    }

    fn is_pardoned(&mut self, endpoint: Endpoint) -> bool {
        if self.percent >= 100 {
            return false;
        }
        let Self { breakers, cluster, clock, percent, size, .. } = self;
        let pardoned = self
            .pardoned
            .get_or_insert_with(|| breakers.pardoned(cluster, *percent, size(), clock.recent()));
        pardoned.contains(&endpoint)
    }
}
