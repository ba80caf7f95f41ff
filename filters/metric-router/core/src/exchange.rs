//! What the workers tell each other between two ticks.
//!
//! A worker that counts its own requests alone takes an endpoint for idle to which all the others
//! have just sent theirs. Once in some picks it writes what it has in flight, and reads the same of
//! the others, by one compare-and-swap of one record: two hostcalls, an eighth of one a request. What
//! it reads is as old as those picks, in which some of the requests have been answered and others
//! have come; so it is trusted by as much as is expected to be left of it, and the rest is what is
//! usual ([`Row::mean_elsewhere`](crate::row::Row::mean_elsewhere)). With little in flight that is
//! nearly all.

use crate::note::Source;
use crate::work::WATCHED;
use crate::worker::Worker;
use crate::{Cluster, Policy};
use core::time::Duration;
use shared_state::{AllFlights, Endpoint, Flights, Progress, SharedStore, Transition, UnixNanos};

/// Picks after which the workers tell each other. With more endpoints it is one pick in so many of
/// them: there is as much more to be told, and as much more in flight.
const PICKS: u32 = 16;
const ENDPOINTS_A_PICK: usize = 4;

/// Entries that the record of all workers may have. With more they hear of each other at ticks.
const MOST_ENTRIES: usize = 4096;

/// What was written longer ago is left to the ticks. All write at each of theirs.
const FRESH: Duration = Duration::from_millis(500);

/// How far it has come.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    /// Since the last time.
    picks: u32,
    /// Stands for the endpoints, in the order in which they are known.
    order: u64,
    /// What the others had told by then.
    heard: Vec<Flights>,
}

/// What was read: of all, and whether they are all others that there are.
type Heard = (Vec<Flights>, bool);

impl Exchange {
    /// A request was sent.
    pub(crate) const fn count(&mut self) {
        self.picks = self.picks.saturating_add(1);
    }

    /// These are the endpoints from now on.
    pub(crate) fn follow(&mut self, known: &[Endpoint]) {
        self.order = Flights::order(known);
    }
}

impl Cluster {
    /// As [`Cluster::exchange`], where it is due.
    pub(crate) fn exchange_in_turn(
        &mut self,
        store: &impl SharedStore,
        worker: &Worker,
        now: UnixNanos,
    ) {
        if self.exchange.picks >= self.exchange_interval() {
            self.exchange(store, worker, now);
        }
    }

    fn exchange_interval(&self) -> u32 {
        PICKS.max((self.known.len() / ENDPOINTS_A_PICK) as u32)
    }

    /// Tells what this worker has in flight, and takes up what the others have.
    pub(crate) fn exchange(&mut self, store: &impl SharedStore, worker: &Worker, now: UnixNanos) {
        self.exchange.picks = 0;
        let Some(slot) = worker.slot else { return };
        let workers = worker.peers.len() + 1;
        let is_told = self.is_active && workers > 1 && self.known.len() * workers <= MOST_ENTRIES;
        // The others hardly go by what is in flight, or not by what is so new.
        if !is_told || !matches!(self.config.policy, Policy::Auto | Policy::LeastCost) {
            return;
        }
        let endpoints = self.known.iter().map(|endpoint| self.own_progress(*endpoint)).collect();
        let order = self.exchange.order;
        let concurrency = self.told_concurrency();
        let mine = Flights { owner: slot.owner, written_at: now, order, concurrency, endpoints };
        let tell = |prior: Option<AllFlights>| -> Transition<AllFlights, Heard> {
            let mut all = prior.unwrap_or_default();
            all.workers.retain(|other| worker.peers.iter().any(|peer| peer.owner == other.owner));
            let others = all.workers.clone();
            let is_whole = others.len() == worker.peers.len();
            all.workers.push(mine.clone());
            Transition::Store(all, (others, is_whole))
        };
        let key = AllFlights::key(&self.name);
        let heard = self.notes.update(store, &key, Source::Workers, tell);
        if let Some((others, is_whole)) = heard {
            self.hear(others, is_whole, now);
        }
    }

    fn told_concurrency(&self) -> u8 {
        if self.concurrency.is_known() { self.concurrency.whole() as u8 } else { 0 }
    }

    fn own_progress(&self, endpoint: Endpoint) -> Progress {
        let place = self.table.place(endpoint);
        let row = place.and_then(|place| self.table.rows().get(place));
        row.map_or_else(Progress::default, |row| {
            let (worked_us, answered) = row.work.sums();
            Progress { in_flight: row.in_flight.min(255) as u8, worked_us, answered }
        })
    }

    fn hear(&mut self, others: Vec<Flights>, is_whole: bool, now: UnixNanos) {
        let order = self.exchange.order;
        let is_current =
            |other: &Flights| other.order == order && now.since(other.written_at) < FRESH;
        let heard = core::mem::take(&mut self.exchange.heard);
        // Who takes an endpoint to work on more at once divides the time by more requests.
        let concurrency = self.told_concurrency();
        let is_alike = |other: &&Flights| other.order == order && other.concurrency == concurrency;
        for other in others.iter().filter(is_alike) {
            let before = heard.iter().filter(is_alike).find(|heard| heard.owner == other.owner);
            let Some(before) = before else { continue };
            let elapsed = other.written_at.since(before.written_at);
            for (at, (new, old)) in other.endpoints.iter().zip(&before.endpoints).enumerate() {
                self.get_on(at, *new, *old, elapsed);
            }
        }
        if is_whole && others.iter().all(is_current) {
            self.count_elsewhere(&others);
        }
        self.exchange.heard = others;
    }

    /// Another worker's requests at the endpoint that is known as number `at`, in so much time.
    fn get_on(&mut self, at: usize, new: Progress, old: Progress, elapsed: Duration) {
        let seconds = f64::from(new.worked_us.wrapping_sub(old.worked_us)) / 1e6;
        let answered = f64::from(new.answered.wrapping_sub(old.answered));
        // More than is possible is told by one that has forgotten the endpoint, and begun again.
        let is_possible = seconds <= elapsed.as_secs_f64() * WATCHED as f64;
        let is_news = is_possible && (seconds > 0.0 || answered > 0.0);
        let endpoint = self.known.get(at).filter(|_| is_news);
        if let Some(row) = endpoint.and_then(|endpoint| self.table.find(*endpoint)) {
            self.has_changed |= row.service_time.progress(seconds, answered, &self.concurrency);
        }
    }

    /// Takes up what all others together have in flight.
    fn count_elsewhere(&mut self, others: &[Flights]) {
        // Of so many requests in flight one is answered with each that is sent.
        let picks = f64::from(self.exchange_interval());
        let left = (-picks / f64::from(self.in_flight.max(1))).exp();
        self.load_elsewhere = 0.0;
        for (at, endpoint) in self.known.iter().enumerate() {
            let counts = others.iter().filter_map(|other| other.endpoints.get(at));
            let sum: f64 = counts.map(|progress| f64::from(progress.in_flight)).sum();
            let Some(row) = self.table.find(*endpoint) else { continue };
            let usual = row.mean_elsewhere();
            row.others = usual + (sum - usual) * left;
            let candidate = row.candidate.and_then(|at| self.snapshot.candidates.get_mut(at));
            if let Some(candidate) = candidate {
                candidate.elsewhere = row.others;
                self.load_elsewhere += row.others;
            }
        }
    }
}

#[cfg(test)]
mod tests;
