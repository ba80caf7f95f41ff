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
//! **Exact across workers.** Each spending is one compare-and-swap on the record, with no leases
//! and no local share: whatever the order of the workers' reads and writes, tokens leave the bucket
//! one by one. The price is a write of shared data for each admitted request.
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
use crate::global::Asker;
use crate::key::Attributes;
use crate::siphash::siphash_2_4;
use crate::{Config, Fault, Level, Mode, Outcome, Reason, Refusal, Tally, Verdict};
use core::time::Duration;
pub use fleet::FleetAnswers;
use round::Round;
use shared_state::{DecodeError, HashSeed, SharedStore, Transition, UnixNanos, Updated, update};

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
}

impl Limiter {
    /// With a seed drawn by this worker. It is used if no worker has stored one before.
    pub fn new(config: Config, drawn: HashSeed) -> Self {
        // A number that no other VM has, and that says nothing about the seed.
        let permits = Permits::new(siphash_2_4(drawn.0, b"owner"));
        let (denials, rates) = (Denials::default(), Rates::default());
        let asker = Asker::new(drawn.0);
        Self { config, drawn, seed: None, denials, permits, rates, asker }
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.config
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
        let mode = self.config.mode;
        let mut round = self.round(store, now, &mut verdict.tally);
        let admitted = round.enforced(seed, request);
        match admitted {
            Ok(mut admission) => {
                verdict.shadow_refusal = round.shadowed(seed, request, &mut admission);
                verdict.levels = round.levels;
                verdict.fleet = round.fleet;
                verdict.questions = round.questions;
                verdict.admission = admission;
                if mode == Mode::Shadow {
                    verdict.levels.clear();
                }
            }
            Err(refusal) => refused(refusal, mode, &mut verdict),
        }
        verdict
    }

    /// Ends an admitted request: gives back, settles, releases.
    pub fn end(
        &mut self,
        store: &impl SharedStore,
        admission: Admission,
        settlement: Settlement,
        now: UnixNanos,
    ) -> Tally {
        let mut tally = Tally::default();
        let mut round = self.round(store, now, &mut tally);
        match settlement {
            Settlement::Undone => round.give_back(&admission.held),
            Settlement::Served => round.release_all(&admission),
        }
        tally
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
            denials: &mut self.denials,
            permits: &mut self.permits,
            rates: &self.rates,
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
        let found = update(store, &HashSeed::key(), |prior| match prior {
            Some(seed) => Transition::Keep(seed),
            None => Transition::Store(drawn, drawn),
        });
        match found {
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
mod tests;
