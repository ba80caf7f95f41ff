//! The breakers that a list of endpoints is thinned out by.

use crate::breaker::Admission;
use crate::destinations::{Breakers, Pardon, View};
use crate::filter::exchange::Request;
use crate::room::{Pardoned, Room};
use crate::spared::Spared;
use crate::worker::{Clock, Subject, WorkerBreakers};
use shared_state::{Endpoint, SharedStore};
use std::rc::Rc;

/// The breakers of one cluster's endpoints, during one request.
pub(super) struct OfCluster<'a, S, C, D, R> {
    pub(super) breakers: &'a mut WorkerBreakers,
    pub(super) spared: &'a mut Spared,
    pub(super) store: &'a S,
    pub(super) cluster: &'a Rc<str>,
    pub(super) clock: C,
    pub(super) draw: &'a mut D,
    pub(super) percent: u8,
    pub(super) request: &'a R,
    pub(super) pardoned: Option<Pardoned>,
}

impl<S, C, D, R> OfCluster<'_, S, C, D, R> {
    pub(super) fn subject(&self, endpoint: Endpoint) -> Subject {
        Subject { name: Rc::clone(self.cluster), endpoint: Some(endpoint), key: None }
    }
}

impl<S: SharedStore, C: Clock, D: FnMut() -> u64, R: Request> Breakers
    for OfCluster<'_, S, C, D, R>
{
    fn view(&mut self, endpoint: Endpoint) -> View {
        self.breakers.view(self.store, &self.subject(endpoint), self.clock)
    }

    fn admit(&mut self, endpoint: Endpoint) -> Admission {
        let subject = self.subject(endpoint);
        self.breakers.admit(self.store, &subject, self.clock, (self.draw)())
    }

    fn admit_needed(&mut self, endpoint: Endpoint) -> Admission {
        let subject = self.subject(endpoint);
        self.breakers.admit_needed(self.store, &subject, self.clock, (self.draw)())
    }

    fn pardon(&mut self, endpoint: Endpoint) -> Pardon {
        let Self { breakers, spared, cluster, clock, percent, request, .. } = self;
        let pardoned = self.pardoned.get_or_insert_with(|| {
            let size = if *percent < 100 { request.num_endpoints() } else { None };
            let spare = spared.hear(cluster, request.spare(), clock.recent());
            let room = Room { percent: *percent, size: size.unwrap_or(0), spare };
            breakers.pardoned(cluster, room, clock.recent())
        });
        pardoned.of(endpoint)
    }
}
