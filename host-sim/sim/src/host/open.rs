//! Requests that have no end yet.

use crate::{Host, RequestId};

impl Host {
    /// Every request so far, oldest first.
    pub fn requests(&self) -> impl Iterator<Item = RequestId> + use<> {
        (0..self.requests.len()).map(RequestId)
    }

    /// Requests whose response has neither ended nor was reset, oldest first.
    pub fn open_requests(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.requests().filter(|id| !self.is_complete(*id))
    }
}
