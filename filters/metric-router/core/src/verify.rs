//! Members that may have left: asked at once, and struck off at once.
//!
//! A request that is steered to an address which is no member is served by the next of the list, so
//! to ask costs its client nothing. Two reasons to ask: a request for an endpoint has just been
//! served by another one, which once may be chance; or more endpoints are known than there are, and
//! then it is the one that has not answered for longest. Who is found to have left is taken out of
//! the snapshot there and then. Until the next tick a few hundred requests may come, and each of
//! them would be one place shorter in its list.

use crate::cluster::Cluster;
use crate::policy::{Choice, Ranked};
use crate::{Endpoints, Why};
use core::time::Duration;
use shared_state::{Endpoint, UnixNanos};

/// Age of the proxy's number of endpoints up to which endpoints are doubted by it.
const SIZE_AGE: Duration = Duration::from_secs(5);

impl Cluster {
    /// Puts the endpoint that is in doubt at the head of a list, if one is.
    pub(crate) fn ask_about_suspect(&self, choice: &mut Choice, now: UnixNanos) {
        let Some(place) = self.suspect(now) else { return };
        let at = choice.list.iter().position(|ranked| ranked.place == place);
        let score = at.and_then(|at| choice.list.get(at)).map_or(0.0, |ranked| ranked.score);
        match at {
            Some(at) => drop(choice.list.remove(at)),
            None if choice.list.len() >= self.max_endpoints => drop(choice.list.pop()),
            None => {}
        }
        choice.list.insert(0, Ranked { place, score });
        choice.why = Why::Verified;
    }

    /// Place of the candidate that is in doubt.
    fn suspect(&self, now: UnixNanos) -> Option<usize> {
        let place = |endpoint| {
            let row = self.table.place(endpoint)?;
            self.table.rows().get(row)?.candidate
        };
        if let Some(place) = self.suspect.and_then(place) {
            return Some(place);
        }
        if !self.has_surplus(now) {
            return None;
        }
        let answered = |place: &usize| {
            let candidate = self.snapshot.candidates.get(*place);
            let row = candidate.and_then(|candidate| self.table.rows().get(candidate.row));
            row.map_or(UnixNanos::ZERO, |row| row.last_answer(now))
        };
        (0..self.snapshot.candidates.len()).min_by_key(answered)
    }

    /// True if more endpoints are known than there are.
    pub(crate) fn has_surplus(&self, now: UnixNanos) -> bool {
        let fresh = |at: UnixNanos| at <= now && now.since(at) < SIZE_AGE;
        matches!(self.config.endpoints, Endpoints::Learned { .. })
            && self.size.is_some_and(|(size, at)| fresh(at) && self.known.len() > size as usize)
    }

    /// An endpoint has served for the first time: it counts at once, and is picked from the next
    /// tick on.
    pub(crate) fn learned(&mut self, endpoint: Endpoint) {
        if let Err(at) = self.known.binary_search(&endpoint) {
            self.known.insert(at, endpoint);
            self.exploration.update(self.known.len());
            self.unsettle();
        }
    }

    /// An endpoint has left.
    pub(crate) fn strike(&mut self, endpoint: Endpoint, now: UnixNanos) {
        self.unsettle();
        self.suspect = self.suspect.filter(|suspect| *suspect != endpoint);
        if matches!(self.config.endpoints, Endpoints::Learned { .. }) {
            self.known.retain(|known| *known != endpoint);
            self.exploration.update(self.known.len());
        }
        let Some(place) = self.table.find(endpoint).and_then(|row| row.candidate) else { return };
        if place < self.snapshot.candidates.len() {
            self.snapshot.candidates.remove(place);
            self.snapshot.division.remove(place);
        }
        self.prepare(now, 0);
    }
}

#[cfg(test)]
mod tests;
