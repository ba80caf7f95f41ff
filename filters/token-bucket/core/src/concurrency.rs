//! Limits of what is in flight, over all workers.
//!
//! A request takes a permit before it is forwarded and gives it back when its stream ends, however
//! it ends. The permits of a policy live in shared data as *holdings* ([`shared_state::Holding`]):
//! one row for each key and worker, with the number of its permits and a deadline.
//!
//! **Never more than `max`.** Taking is one compare-and-swap on the table: the rows of all workers
//! are added up, and the permit is granted if the sum is below `max`. A worker puts its own true
//! count in place of its row, so a write that failed, a row that a stranger destroyed or a lease
//! that ran out does not make it forget its own requests. The bound holds as long as each worker
//! renews in time: it does at half of the lease, by tick.
//!
//! **Ahead.** Of a key that it is asked for often, a worker takes several permits with one write,
//! and hands them out by itself; a request that ends gives its permit back to the worker, for the
//! next one. The row counts them all as in flight, so the sum is never too small, whoever spends
//! them. It is too large by what lies idle, and that is kept small in number and in time: a worker
//! draws only where a fourth of all permits is free, at most an eighth of those, and keeps at most
//! twice as many; after `Scope::ahead`, by request or by tick, all that is idle goes back and is
//! drawn anew if it is still wanted. Near the edge each permit is taken and given back by itself.
//!
//! **Nothing leaks.** A release that is told sets the row to the number that is left. If that write
//! fails, the number is right in this worker's memory and the next tick writes it. A VM that dies
//! renews nothing: its permits, idle or not, come back when the lease has run out, and the VM that
//! takes its place has another number, so it cannot give back what is not its own.
//!
//! **Bounded.** A table has as many rows as a table of buckets has slots. Keys without a row share
//! one more, the *overflow* ([`OnFull::Share`]). A key is granted a permit if its own rows and the
//! overflow together stay below `max`: some of the overflow may be its own, and to count all of it
//! is the safe side. So sharing never gives a key more than a row of its own would.
//!
//! A refusal is not remembered, as a bucket's is: a permit may come back at any moment. It costs
//! one read, and none where this worker alone has `max` in flight.

mod decide;

use crate::OnFull;
use crate::demand::Demand;
use core::time::Duration;
use decide::{Answer, Ask, Grant, Heard, Told, Wish, take, tell};
use shared_state::{
    Key, PermitTable, SharedStore, Transition, UnixNanos, UpdateError, Updated, update,
};

/// Row of the keys that found no room for one of their own.
const OVERFLOW: u64 = u64::MAX;

/// Keys of which is known how often they are asked for: 40 KB a worker.
const PLACES: usize = 1024;

/// How many may be in flight, and for how long a silent worker is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// Most requests of one key in flight; at least 1.
    pub max: u32,
    /// Time after which the permits of a VM that died come back.
    pub lease: Duration,
}

/// The policy that is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) policy: &'a str,
    /// Its number in the configuration.
    pub(crate) at: usize,
    /// Its tables; at least 1.
    pub(crate) shards: u16,
    pub(crate) limit: Concurrency,
    /// Rows of one table.
    pub(crate) room: usize,
    pub(crate) on_full: OnFull,
    /// How long a worker may keep idle permits; zero for none.
    pub(crate) ahead: Duration,
}

impl Scope<'_> {
    fn shard_of(&self, fingerprint: u64) -> u16 {
        let shard = fingerprint.checked_rem(self.shards.into()).unwrap_or(0);
        u16::try_from(shard).unwrap_or(0)
    }

    fn key(&self, shard: u16) -> Key<PermitTable> {
        PermitTable::key(self.plugin, self.policy, shard)
    }
}

/// A request in flight. Given back once, with the admission that holds it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Permit {
    policy: usize,
    shard: u16,
    row: u64,
}

impl Permit {
    fn at((policy, shard, row): Place) -> Self {
        Self { policy, shard, row }
    }

    fn place(&self) -> Place {
        (self.policy, self.shard, self.row)
    }
}

/// What came of asking for a permit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Granted. So many are `left` of this key, which may share the `overflow`.
    Granted { permit: Permit, left: u32, overflow: bool },
    /// The key found no row, and such keys pass uncounted.
    Uncounted,
    /// As many as allowed are in flight; or the key found no row because the table is `full`, and
    /// such keys are refused.
    Refused { full: bool },
}

/// The time in which a worker hands out permits by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Lead {
    /// As many as were drawn; twice as many may be idle.
    size: u32,
    from: UnixNanos,
    until: UnixNanos,
}

impl Lead {
    /// A clock that has stepped back ends it too.
    fn is_live(&self, now: UnixNanos) -> bool {
        (self.from..self.until).contains(&now)
    }
}

/// What this worker has of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Row {
    policy: usize,
    shard: u16,
    fingerprint: u64,
    /// In flight.
    count: u32,
    /// What shared data was told last: those, and idle ones.
    held: u32,
    /// So many more could have been granted when that was told, counted on since.
    left: u32,
    /// As it was last written.
    expires_at: UnixNanos,
    lead: Option<Lead>,
    /// Shared data does not know the count.
    unwritten: bool,
}

impl Row {
    /// Without a request.
    fn new((policy, shard, fingerprint): Place) -> Self {
        let (count, held, left, expires_at) = (0, 0, 0, UnixNanos::ZERO);
        let (lead, unwritten) = (None, false);
        Self { policy, shard, fingerprint, count, held, left, expires_at, lead, unwritten }
    }

    fn place(&self) -> Place {
        (self.policy, self.shard, self.fingerprint)
    }

    fn idle(&self) -> u32 {
        self.held.saturating_sub(self.count)
    }

    /// Whether a permit can be handed out without shared data.
    fn has_one_at_hand(&self, now: UnixNanos) -> bool {
        let is_live = self.lead.is_some_and(|lead| lead.is_live(now));
        is_live && !self.unwritten && self.idle() > 0 && now < self.expires_at
    }

    /// Whether a permit can be given back without shared data.
    fn has_room_for_one(&self) -> bool {
        let most = self.lead.map_or(0, |lead| lead.size.saturating_mul(2));
        !self.unwritten && self.count <= self.held && self.idle() < most
    }

    /// As shared data is told it at this moment.
    fn told(&self, wish: Wish, now: UnixNanos) -> Told {
        let size = self.lead.filter(|lead| lead.is_live(now)).map_or(0, |lead| lead.size);
        let Self { fingerprint, count, .. } = *self;
        Told { fingerprint, count, keep: wish.of(size) }
    }
}

/// The permits of one worker: what is true, while shared data is what was told.
#[derive(Clone, Debug)]
pub(crate) struct Permits {
    owner: u64,
    /// In order of place. As many as keys of this worker are in flight, or were a moment ago.
    rows: Vec<Row>,
    /// How often keys are asked for, at places named by their fingerprints. Empty until one is.
    demands: Vec<Option<(usize, u64, Demand)>>,
    /// What may be drawn ahead of what is free.
    wish: Wish,
    /// Some row may hold idle permits.
    has_drawn: bool,
}

impl Permits {
    /// `owner` is a number that no other VM has.
    pub(crate) fn new(owner: u64) -> Self {
        let (rows, demands, wish) = (Vec::new(), Vec::new(), Wish::MODEST);
        Self { owner, rows, demands, wish, has_drawn: false }
    }

    /// Draws nothing ahead from now on: nobody would give it back.
    pub(crate) fn draw_nothing_ahead(&mut self) {
        self.wish = self.wish.of(0);
    }

    /// True if there may be idle permits, which a tick has to give back.
    pub(crate) fn has_drawn(&self) -> bool {
        self.has_drawn
    }

    /// True if a permit can be handed out without shared data.
    pub(crate) fn is_at_hand(&self, scope: &Scope<'_>, fingerprint: u64, now: UnixNanos) -> bool {
        let place = (scope.at, scope.shard_of(fingerprint), fingerprint);
        self.row(place).is_some_and(|row| row.has_one_at_hand(now))
    }

    /// True if a permit can be given back without shared data, and without the clock.
    pub(crate) fn has_room_for(&self, permit: &Permit) -> bool {
        self.row(permit.place()).is_some_and(Row::has_room_for_one)
    }

    /// Whether a permit would be granted, as far as one can tell without taking it. The error tells
    /// whether the table is full.
    pub(crate) fn look(
        &self,
        scope: &Scope<'_>,
        prior: Option<PermitTable>,
        fingerprint: u64,
        now: UnixNanos,
    ) -> Result<(), bool> {
        let answer = match take(prior, &self.ask(scope, fingerprint, now)) {
            Transition::Keep(answer) | Transition::Store(_, answer) => answer,
        };
        match answer {
            Answer::Granted(_) | Answer::Uncounted => Ok(()),
            Answer::Refused { full } => Err(full),
        }
    }

    /// Where the permits of a key are.
    pub(crate) fn key(scope: &Scope<'_>, fingerprint: u64) -> Key<PermitTable> {
        scope.key(scope.shard_of(fingerprint))
    }

    /// Takes a permit, if one is there.
    pub(crate) fn take(
        &mut self,
        store: &impl SharedStore,
        scope: &Scope<'_>,
        fingerprint: u64,
        now: UnixNanos,
    ) -> Result<Updated<Taken>, UpdateError> {
        let known = |value| Ok(Updated { value, conflicts: 0, corrupt: None });
        let place = (scope.at, scope.shard_of(fingerprint), fingerprint);
        if let Some(row) = self.row_mut(place) {
            if row.has_one_at_hand(now) {
                row.count = row.count.saturating_add(1);
                row.left = row.left.saturating_sub(1);
                let left = row.left;
                self.asked(scope, fingerprint, now);
                let permit = Permit::at(place);
                return known(Taken::Granted { permit, left, overflow: false });
            }
            if row.count >= scope.limit.max {
                return known(Taken::Refused { full: false });
            }
        }
        let ask = self.ask(scope, fingerprint, now);
        let Updated { value, conflicts, corrupt } =
            update(store, &Self::key(scope, fingerprint), |prior| take(prior, &ask))?;
        let value = self.answered(&ask, value);
        Ok(Updated { value, conflicts, corrupt })
    }

    /// Writes down what a table has answered.
    fn answered(&mut self, ask: &Ask<'_>, answer: Answer) -> Taken {
        match answer {
            Answer::Granted(grant) => {
                let place = (ask.scope.at, ask.scope.shard_of(ask.fingerprint), grant.row);
                let permit = self.add(&ask.scope, place, Some(grant), ask.now);
                self.asked(&ask.scope, ask.fingerprint, ask.now);
                Taken::Granted { permit, left: grant.left, overflow: grant.row == OVERFLOW }
            }
            Answer::Uncounted => Taken::Uncounted,
            Answer::Refused { full } => Taken::Refused { full },
        }
    }

    /// Takes a permit that shared data could not be asked for. It counts as soon as it can be
    /// written.
    pub(crate) fn take_unasked(&mut self, scope: &Scope<'_>, fingerprint: u64) -> Permit {
        let place = (scope.at, scope.shard_of(fingerprint), fingerprint);
        self.add(scope, place, None, UnixNanos::ZERO)
    }

    /// Gives a permit back.
    pub(crate) fn release(
        &mut self,
        store: &impl SharedStore,
        scope: &Scope<'_>,
        permit: &Permit,
        now: UnixNanos,
    ) {
        let Some(at) = self.released(permit) else { return };
        self.write(store, scope, at, at.saturating_add(1), now);
    }

    /// Gives back a permit for which there is room.
    pub(crate) fn put_back(&mut self, permit: &Permit) {
        let _ = self.released(permit);
    }

    /// Counts a permit as given back. Gives the row, if that is to be told.
    fn released(&mut self, permit: &Permit) -> Option<usize> {
        let at = self.position(permit.place()).ok()?;
        let row = self.rows.get_mut(at)?;
        let stays = row.has_room_for_one();
        row.count = row.count.saturating_sub(1);
        row.left = row.left.saturating_add(1);
        row.unwritten |= !stays;
        (!stays).then_some(at)
    }

    /// Gives back what has been idle for long enough, renews what is in flight for longer than half
    /// a lease, and writes what could not be written. `scope` tells of a policy by its number.
    pub(crate) fn tick<'a>(
        &mut self,
        store: &impl SharedStore,
        scope: impl Fn(usize) -> Option<Scope<'a>>,
        now: UnixNanos,
    ) {
        let mut at = 0;
        while let Some(row) = self.rows.get(at).copied() {
            // Rows of one table are next to each other, and are written together.
            let table = (row.policy, row.shard);
            let end = self.rows.partition_point(|row| (row.policy, row.shard) <= table);
            let Some(scope) = scope(row.policy) else {
                at = end;
                continue;
            };
            let before = self.rows.len();
            if self.is_due(at, end, &scope, now) {
                self.write(store, &scope, at, end, now);
            }
            at = end.saturating_sub(before.saturating_sub(self.rows.len()));
        }
        self.has_drawn = self.rows.iter().any(|row| row.lead.is_some());
    }

    /// Gives back all that is idle, and draws nothing ahead any more.
    pub(crate) fn retire<'a>(
        &mut self,
        store: &impl SharedStore,
        scope: impl Fn(usize) -> Option<Scope<'a>>,
        now: UnixNanos,
    ) {
        self.draw_nothing_ahead();
        for row in &mut self.rows {
            row.unwritten |= row.lead.take().is_some();
        }
        self.tick(store, scope, now);
    }

    /// Whether there is something to tell of these rows.
    fn is_due(&self, from: usize, to: usize, scope: &Scope<'_>, now: UnixNanos) -> bool {
        let lease = scope.limit.lease;
        let due = |row: &Row| {
            let left = row.expires_at.since(now);
            let is_idle = row.lead.is_some_and(|lead| !lead.is_live(now));
            row.unwritten || is_idle || left < lease / 2 || left > lease
        };
        self.rows.get(from..to).is_some_and(|rows| rows.iter().any(due))
    }

    /// Requests of this worker in flight.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> u32 {
        self.rows.iter().map(|row| row.count).sum()
    }

    /// Tells shared data the true numbers of these rows, all of one table.
    fn write(
        &mut self,
        store: &impl SharedStore,
        scope: &Scope<'_>,
        from: usize,
        to: usize,
        now: UnixNanos,
    ) {
        let Some(rows) = self.rows.get(from..to) else { return };
        let Some(shard) = rows.first().map(|row| row.shard) else { return };
        let told: Vec<Told> = rows.iter().map(|row| row.told(self.wish, now)).collect();
        let owner = self.owner;
        let overflow = self.count(scope.at, shard, OVERFLOW);
        let written = update(store, &scope.key(shard), |prior| {
            tell(prior, owner, &told, overflow, scope, now)
        });
        match written {
            Ok(Updated { value, .. }) => self.heard(from, to, &value),
            Err(_) => {
                // What shared data thinks of it is not known for sure.
                for row in self.rows.get_mut(from..to).unwrap_or_default() {
                    row.unwritten = true;
                    row.lead = None;
                }
            }
        }
    }

    /// Writes down what a table was told. Rows of nothing are forgotten.
    fn heard(&mut self, from: usize, to: usize, heard: &Heard) {
        let rows = self.rows.get_mut(from..to).unwrap_or_default();
        for (row, held) in rows.iter_mut().zip(&heard.held) {
            row.held = *held;
            row.expires_at = heard.expires_at;
            row.unwritten = false;
            row.lead = row.lead.filter(|_| row.idle() > 0);
        }
        self.rows.retain(|row| row.held > 0 || row.unwritten);
    }

    /// Counts a request in flight, as it was granted.
    fn add(
        &mut self,
        scope: &Scope<'_>,
        place: Place,
        grant: Option<Grant>,
        now: UnixNanos,
    ) -> Permit {
        let at = self.position(place).unwrap_or_else(|at| {
            self.rows.insert(at, Row::new(place));
            at
        });
        let Some(row) = self.rows.get_mut(at) else { return Permit::at(place) };
        row.count = row.count.saturating_add(1);
        row.unwritten = grant.is_none();
        if let Some(Grant { expires_at, left, ahead, .. }) = grant {
            row.expires_at = expires_at;
            row.left = left;
            row.held = row.count.saturating_add(ahead);
            let until = now.plus(scope.ahead);
            row.lead = (ahead > 0).then_some(Lead { size: ahead, from: now, until });
            self.has_drawn |= ahead > 0;
        }
        Permit::at(place)
    }

    fn ask<'a>(&self, scope: &Scope<'a>, fingerprint: u64, now: UnixNanos) -> Ask<'a> {
        let shard = scope.shard_of(fingerprint);
        Ask {
            scope: *scope,
            fingerprint,
            owner: self.owner,
            own: self.count(scope.at, shard, fingerprint),
            overflow: self.count(scope.at, shard, OVERFLOW),
            wish: self.wish(scope, fingerprint, now),
            now,
        }
    }

    /// What to draw ahead, by what was taken lately; nothing for a key that is not asked for more
    /// than twice in that time.
    fn wish(&self, scope: &Scope<'_>, fingerprint: u64, now: UnixNanos) -> Wish {
        let known = self.demands.get(place_of(scope.at, fingerprint)).copied().flatten();
        let expected = match known {
            Some((policy, of, demand)) if (policy, of) == (scope.at, fingerprint) => {
                demand.expected(scope.ahead, now).0
            }
            _ => 0,
        };
        self.wish.of(expected.saturating_sub(1).min(self.wish.permits))
    }

    /// Counts that a key was asked for. Of two with one place, the one that was there stays while it
    /// is asked for; the other draws nothing ahead.
    fn asked(&mut self, scope: &Scope<'_>, fingerprint: u64, now: UnixNanos) {
        if scope.ahead.is_zero() {
            return;
        }
        if self.demands.is_empty() {
            self.demands.resize(PLACES, None);
        }
        let Some(place) = self.demands.get_mut(place_of(scope.at, fingerprint)) else { return };
        let is_own =
            |(policy, of, _): &(usize, u64, Demand)| (*policy, *of) == (scope.at, fingerprint);
        if place.as_ref().is_some_and(|had| !is_own(had) && !had.2.is_over(scope.ahead, now)) {
            return;
        }
        let kept = place.filter(is_own);
        let (.., demand) = place.insert(kept.unwrap_or((scope.at, fingerprint, Demand::new(now))));
        demand.count(1, scope.ahead, now);
    }

    fn count(&self, policy: usize, shard: u16, fingerprint: u64) -> u32 {
        self.row((policy, shard, fingerprint)).map_or(0, |row| row.count)
    }

    fn row(&self, place: Place) -> Option<&Row> {
        self.rows.get(self.position(place).ok()?)
    }

    fn row_mut(&mut self, place: Place) -> Option<&mut Row> {
        let at = self.position(place).ok()?;
        self.rows.get_mut(at)
    }

    fn position(&self, place: Place) -> Result<usize, usize> {
        self.rows.binary_search_by_key(&place, Row::place)
    }
}

/// Policy, shard, fingerprint.
type Place = (usize, u16, u64);

fn place_of(policy: usize, fingerprint: u64) -> usize {
    // Truncation loses nothing, PLACES being a power of two.
    (fingerprint as usize).wrapping_add(policy) % PLACES
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
