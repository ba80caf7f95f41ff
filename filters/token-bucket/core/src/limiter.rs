//! All policies of a plugin, applied to one request.
//!
//! **All or nothing.** A request that one policy refuses must not cost it a token of another. The
//! store has no transaction over several keys, so the limiter first looks at all limits and then
//! spends from one after the other. Between the look and the spending another worker may take the
//! last token; what was spent until then is given back. For that instant other workers may see it
//! as spent, and refuse a request that would have passed; none passes that should not have.
//!
//! **One read saved.** The first limit needs no look: if it refuses, nothing has been spent yet.
//! One policy therefore takes one read and one write, and a refusal one read.
//!
//! **Exact across workers.** Each spending is one compare-and-swap on the record: whatever the order
//! of the workers' reads and writes, tokens leave the bucket one by one. For keys that are asked for
//! often while their buckets hold plenty, one such spending draws tokens for the requests to come
//! ([`crate::lease`]); they are charged so that no bucket gives more for it.
//!
//! **Held requests.** Where a policy lets requests wait, the moment at which this one goes on must be
//! known before anything is spent, for all policies charge it as of then. So all are looked at, and
//! if one of them finds while spending that it takes longer still, what was spent is given back and
//! all is done again.
//!
//! **Shadow policies** have their say after the others have admitted, each for itself: they must
//! neither cost nor save a token of a policy that counts.
//!
//! **The end.** What an admitted request holds is an [`Admission`]; [`Limiter::end`] takes it back
//! and settles it.

mod fleet;
mod in_flight;
mod round;
mod tokens;

use crate::admission::{Admission, Settlement};
use crate::capacity::Rates;
use crate::concurrency::Permits;
use crate::denial::Denials;
use crate::fair_share::Shares;
use crate::global::Asker;
use crate::lease::Leases;
use crate::table::Terms;
use crate::{Config, Fault, Level, Mode, Outcome, Queue, Reason, Refusal, Tally, Verdict};
use core::time::Duration;
pub use fleet::FleetAnswers;
use request_key::Attributes;
use request_key::siphash_2_4;
use round::Round;
use shared_state::{DecodeError, HashSeed, SharedStore, UnixNanos, Updated};

/// The limiter of one worker. What it remembers, it could ask for again.
#[derive(Debug)]
pub struct Limiter {
    config: Config,
    drawn: HashSeed,
    seed: Option<HashSeed>,
    denials: Denials,
    permits: Permits,
    rates: Rates,
    asker: Asker,
    shares: Shares,
    leases: Leases,
    terms: Terms,
    may_hold: bool,
}

impl Limiter {
    /// With a seed drawn by this worker. It is used if no worker has stored one before.
    pub fn new(config: Config, drawn: HashSeed) -> Self {
        // A number that no other VM has, and that says nothing about the seed.
        let permits = Permits::new(siphash_2_4(drawn.0, b"owner"));
        let asker = Asker::new(drawn.0);
        let rates = Rates::new(&config);
        let holds = config.policies.iter().map(|policy| policy.limit.max_wait());
        let terms = Terms {
            room: config.slots_per_shard,
            on_full: config.on_full,
            longest_hold: holds.max().unwrap_or_default(),
            longest_lease: config.lease_time,
        };
        let shares = Shares::new(&config);
        Self {
            config,
            drawn,
            seed: None,
            denials: Denials::default(),
            permits,
            rates,
            asker,
            shares,
            leases: Leases::default(),
            terms,
            may_hold: true,
        }
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Room for the requests that this worker holds.
    pub fn queue(&self) -> Queue {
        Queue::new(self.config.max_held, self.terms.longest_hold)
    }

    /// Whether there is room for another held request. Without any, a request that would have to
    /// wait is refused.
    pub fn may_hold(&mut self, may: bool) {
        self.may_hold = may;
    }

    /// Decides on a request, and spends. If the verdict has an admission, [`Limiter::end`] must get
    /// it when the request is over.
    pub fn decide(
        &mut self,
        store: &impl SharedStore,
        request: &impl Attributes,
        now: UnixNanos,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        if self.config.mode == Mode::Off {
            return verdict;
        }
        let seed = self.seed(store, &mut verdict.tally);
        self.shares.exchange(store, &self.config, &self.rates, now, &mut verdict.tally);
        let mode = self.config.mode;
        let mut round = self.round(store, now, &mut verdict.tally);
        match round.enforced(seed, request) {
            Ok((mut held, goes_on_at)) => {
                verdict.shadow_refusal = round.shadowed(seed, request, &mut held);
                verdict.levels = round.levels;
                verdict.fleet = round.fleet;
                verdict.questions = round.questions;
                verdict.admission = Admission { held };
                if mode == Mode::Shadow {
                    verdict.levels.clear();
                } else if goes_on_at > now {
                    verdict.hold = Some(goes_on_at.since(now));
                }
            }
            Err(refusal) => {
                refused(refusal, mode, &mut verdict);
                fleet::remembered(&mut verdict);
            }
        }
        verdict
    }

    /// Ends an admitted request: gives back, settles, releases.
    pub fn end(
        &mut self,
        store: &impl SharedStore,
        admission: Admission,
        settlement: Settlement<'_>,
        now: UnixNanos,
    ) -> Tally {
        let mut tally = Tally::default();
        self.round(store, now, &mut tally).settle(&admission.held, settlement);
        tally
    }

    /// Ends an admitted request, if that takes neither shared data nor the time; gives it back for
    /// [`Limiter::end`] if it does.
    pub fn end_at_hand(
        &mut self,
        admission: Admission,
        settlement: &Settlement<'_>,
    ) -> Result<(), Admission> {
        let permits = &mut self.permits;
        if admission.is_changed_by(settlement, |permit| !permits.has_room_for(permit)) {
            return Err(admission);
        }
        admission.permits().for_each(|permit| permits.put_back(permit));
        Ok(())
    }

    /// Draws no permits ahead: for a host that takes no ticks, so that nobody would give them back.
    pub fn without_ticks(&mut self) {
        self.permits.draw_nothing_ahead();
    }

    /// How far ticks may be apart, if not a second: there may be permits that are idle.
    pub fn tick_within(&self) -> Option<Duration> {
        self.permits.has_drawn().then_some(self.config.lease_time)
    }

    /// What a policy with a capacity gives of its rate now, in percent.
    pub fn capacity_percent(&self, policy: usize) -> u8 {
        self.rates.percent(policy)
    }

    /// What is to be done with every tick: gives back permits that are idle.
    pub fn give_back_idle(&mut self, store: &impl SharedStore, now: UnixNanos) {
        if self.permits.has_drawn() {
            let config = &self.config;
            self.permits.tick(store, |at| in_flight::scope(config, at), now);
        }
    }

    /// Gives back what this worker has drawn ahead, and draws no more: another configuration has
    /// taken over.
    pub fn retire(&mut self, store: &impl SharedStore, now: UnixNanos) {
        let config = &self.config;
        self.permits.retire(store, |at| in_flight::scope(config, at), now);
    }

    /// What is to be done from time to time: about once a second.
    pub fn tick(&mut self, store: &impl SharedStore, now: UnixNanos) -> Tally {
        let config = &self.config;
        self.permits.tick(store, |at| in_flight::scope(config, at), now);
        let mut tally = Tally::default();
        if self.rates.tick(store, config, now, &mut tally) {
            // What was remembered was true at the rate before.
            self.denials = Denials::default();
        }
        tally
    }

    fn round<'a, S>(
        &'a mut self,
        store: &'a S,
        now: UnixNanos,
        tally: &'a mut Tally,
    ) -> Round<'a, S> {
        Round {
            config: &self.config,
            store,
            now,
            terms: self.terms,
            may_hold: self.may_hold,
            denials: &mut self.denials,
            leases: &mut self.leases,
            permits: &mut self.permits,
            rates: &self.rates,
            shares: &mut self.shares,
            asker: &mut self.asker,
            tally,
            levels: Vec::new(),
            fleet: FleetAnswers::default(),
            questions: Vec::new(),
        }
    }

    /// The seed of all workers, fetched once. Policies without a key need none.
    fn seed(&mut self, store: &impl SharedStore, tally: &mut Tally) -> HashSeed {
        let keyed = self.config.policies.iter().any(|policy| !policy.parts.is_empty());
        if let Some(seed) = self.seed.or((!keyed).then_some(self.drawn)) {
            return seed;
        }
        let drawn = self.drawn;
        match HashSeed::agreed(store, drawn) {
            Ok(Updated { value, corrupt, .. }) => {
                tally.faults.extend(corrupt.map(|error| corrupt_record("seed", error)));
                self.seed = Some(value);
                value
            }
            // The buckets will not be found either; the next request asks again.
            Err(_) => drawn,
        }
    }
}

/// Writes a refusal down.
fn refused(refusal: Refusal, mode: Mode, verdict: &mut Verdict) {
    verdict.tally.refusals.push((refusal.policy, refusal.reason));
    if mode == Mode::Shadow {
        verdict.shadow_refusal = Some(refusal);
        verdict.tally.outcomes.push((refusal.policy, Outcome::ShadowLimited));
        return;
    }
    verdict.refusal = Some(refusal);
    verdict.tally.outcomes.push((refusal.policy, Outcome::Limited));
    let next_token = match (refusal.reason, refusal.wait) {
        (Reason::NoToken, Some(wait)) => wait,
        (Reason::Concurrency, _) => Duration::ZERO,
        _ => return,
    };
    verdict.levels.push((refusal.policy, Level { remaining: 0, next_token }));
}

fn corrupt_record(of: &str, error: DecodeError) -> Fault {
    let detail =
        format!("the record of '{of}' was not ours ({error:?}): taken as absent, replaced");
    Fault { reason: "corrupt_record", detail }
}

#[cfg(test)]
mod soak;
#[cfg(test)]
mod tests;
