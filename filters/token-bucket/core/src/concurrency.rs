//! Limits of what is in flight, over all workers.
//!
//! A request takes a permit before it is forwarded and gives it back when its stream ends, however
//! it ends. The permits of a policy live in shared data as *holdings* ([`shared_state::Holding`]):
//! one row for each key and worker, with the number of requests in flight and a deadline.
//!
//! **Never more than `max`.** Taking is one compare-and-swap on the table: the rows of all workers
//! are added up, and the permit is granted if the sum is below `max`. A worker puts its own true
//! count in place of its row, so a write that failed, a row that a stranger destroyed or a lease
//! that ran out does not make it forget its own requests. The bound holds as long as each worker
//! renews in time: it does at half of the lease, by tick.
//!
//! **Nothing leaks.** A release sets the row to the number that is left. If that write fails, the
//! number is right in this worker's memory and the next tick writes it. A VM that dies renews
//! nothing: its permits come back when the lease has run out, and the VM that takes its place has
//! another number, so it cannot give back what is not its own.
//!
//! **Bounded.** A table has as many rows as a table of buckets has slots. Keys without a row share
//! one more, the *overflow* ([`OnFull::Share`]). A key is granted a permit if its own rows and the
//! overflow together stay below `max`: some of the overflow may be its own, and to count all of it
//! is the safe side. So sharing never gives a key more than a row of its own would.
//!
//! A refusal is not remembered, as a bucket's is: a permit may come back at any moment. It costs
//! one read, and none where this worker alone has `max` in flight.

use crate::OnFull;
use core::time::Duration;
use shared_state::{
    Holding, Key, PermitTable, Settled, SharedStore, Transition, UnixNanos, UpdateError, Updated,
    update,
};

/// Row of the keys that found no room for one of their own.
const OVERFLOW: u64 = u64::MAX;

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

/// A table's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// In this row, until then; so many are left.
    Granted(u64, UnixNanos, u32),
    Uncounted,
    Refused {
        full: bool,
    },
}

/// What this worker has in flight of one key.
#[derive(Clone, Copy, Debug)]
struct Row {
    policy: usize,
    shard: u16,
    fingerprint: u64,
    count: u32,
    /// As it was last written.
    expires_at: UnixNanos,
    /// Shared data does not know the count.
    unwritten: bool,
}

impl Row {
    fn place(&self) -> (usize, u16, u64) {
        (self.policy, self.shard, self.fingerprint)
    }
}

/// The permits of one worker: what is true, while shared data is what was told.
#[derive(Debug)]
pub(crate) struct Permits {
    owner: u64,
    /// In order of place. As many as keys of this worker are in flight.
    rows: Vec<Row>,
}

impl Permits {
    /// `owner` is a number that no other VM has.
    pub(crate) fn new(owner: u64) -> Self {
        Self { owner, rows: Vec::new() }
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
            Answer::Granted(..) | Answer::Uncounted => Ok(()),
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
        let shard = scope.shard_of(fingerprint);
        if self.count(scope.at, shard, fingerprint) >= scope.limit.max {
            return Ok(Updated {
                value: Taken::Refused { full: false },
                conflicts: 0,
                corrupt: None,
            });
        }
        let ask = self.ask(scope, fingerprint, now);
        let Updated { value, conflicts, corrupt } =
            update(store, &scope.key(shard), |prior| take(prior, &ask))?;
        let value = match value {
            Answer::Granted(row, expires_at, left) => {
                let permit = self.add(scope, row, Some(expires_at), fingerprint);
                Taken::Granted { permit, left, overflow: row == OVERFLOW }
            }
            Answer::Uncounted => Taken::Uncounted,
            Answer::Refused { full } => Taken::Refused { full },
        };
        Ok(Updated { value, conflicts, corrupt })
    }

    /// Takes a permit that shared data could not be asked for. It counts as soon as it can be
    /// written.
    pub(crate) fn take_unasked(&mut self, scope: &Scope<'_>, fingerprint: u64) -> Permit {
        self.add(scope, fingerprint, None, fingerprint)
    }

    /// Gives a permit back.
    pub(crate) fn release(
        &mut self,
        store: &impl SharedStore,
        scope: &Scope<'_>,
        permit: &Permit,
        now: UnixNanos,
    ) {
        let place = (permit.policy, permit.shard, permit.row);
        let Ok(at) = self.position(place) else { return };
        if let Some(row) = self.rows.get_mut(at) {
            row.count = row.count.saturating_sub(1);
            row.unwritten = true;
        }
        self.write(store, scope, at, at.saturating_add(1), now);
    }

    /// Renews what is in flight for longer than half a lease, and writes what could not be written.
    /// `scope` tells of a policy by its number.
    pub(crate) fn tick<'a>(
        &mut self,
        store: &impl SharedStore,
        scope: impl Fn(usize) -> Option<Scope<'a>>,
        now: UnixNanos,
    ) {
        let mut at = 0;
        while let Some(row) = self.rows.get(at).copied() {
            let Some(scope) = scope(row.policy) else {
                at = at.saturating_add(1);
                continue;
            };
            // Rows of one table are next to each other, and are written together.
            let table = (row.policy, row.shard);
            let end = self.rows.partition_point(|row| (row.policy, row.shard) <= table);
            let lease = scope.limit.lease;
            let due = |row: &Row| {
                let left = row.expires_at.since(now);
                row.unwritten || left < lease / 2 || left > lease
            };
            let before = self.rows.len();
            if self.rows.get(at..end).is_some_and(|rows| rows.iter().any(due)) {
                self.write(store, &scope, at, end, now);
            }
            at = end.saturating_sub(before.saturating_sub(self.rows.len()));
        }
    }

    /// Requests of this worker in flight.
    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> u32 {
        self.rows.iter().map(|row| row.count).sum()
    }

    /// Tells shared data the true numbers of these rows, all of one table. Rows of nothing are
    /// forgotten once that is known there.
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
        let owner = self.owner;
        let written =
            update(store, &scope.key(shard), |prior| tell(prior, owner, rows, scope, now));
        let Ok(Updated { value: expires_at, .. }) = written else { return };
        let mut at = 0_usize;
        self.rows.retain_mut(|row| {
            let told = (from..to).contains(&at);
            at = at.saturating_add(1);
            if told {
                row.expires_at = expires_at;
                row.unwritten = false;
            }
            !told || row.count > 0
        });
    }

    fn add(
        &mut self,
        scope: &Scope<'_>,
        row: u64,
        written: Option<UnixNanos>,
        fingerprint: u64,
    ) -> Permit {
        let shard = scope.shard_of(fingerprint);
        let place = (scope.at, shard, row);
        let at = self.position(place).unwrap_or_else(|at| {
            let (policy, shard, fingerprint) = place;
            let expires_at = UnixNanos::ZERO;
            let row = Row { policy, shard, fingerprint, count: 0, expires_at, unwritten: false };
            self.rows.insert(at, row);
            at
        });
        if let Some(row) = self.rows.get_mut(at) {
            row.count = row.count.saturating_add(1);
            row.unwritten = written.is_none();
            row.expires_at = written.unwrap_or(row.expires_at);
        }
        Permit { policy: scope.at, shard, row }
    }

    fn ask<'a>(&self, scope: &Scope<'a>, fingerprint: u64, now: UnixNanos) -> Ask<'a> {
        let shard = scope.shard_of(fingerprint);
        Ask {
            scope: *scope,
            fingerprint,
            owner: self.owner,
            own: self.count(scope.at, shard, fingerprint),
            overflow: self.count(scope.at, shard, OVERFLOW),
            now,
        }
    }

    fn count(&self, policy: usize, shard: u16, fingerprint: u64) -> u32 {
        let at = self.position((policy, shard, fingerprint)).ok();
        at.and_then(|at| self.rows.get(at)).map_or(0, |row| row.count)
    }

    fn position(&self, place: (usize, u16, u64)) -> Result<usize, usize> {
        self.rows.binary_search_by_key(&place, Row::place)
    }
}

/// What is asked of a table.
struct Ask<'a> {
    scope: Scope<'a>,
    fingerprint: u64,
    owner: u64,
    /// What this worker has in flight in the key's own row, and in the overflow.
    own: u32,
    overflow: u32,
    now: UnixNanos,
}

/// Grants, or tells why not. A refusal stores nothing, unless the clock has stepped back.
fn take(prior: Option<PermitTable>, ask: &Ask<'_>) -> Transition<PermitTable, Answer> {
    let Scope { limit: Concurrency { max, lease }, room, on_full, .. } = ask.scope;
    let mut table = prior.unwrap_or_default();
    let Settled { now, mended } = table.settle(ask.now, lease);
    // This worker's own word is the truth about its own requests.
    let sum = |row, mine| {
        let others = table.in_flight(row).saturating_sub(table.held_by(row, ask.owner));
        others.saturating_add(mine)
    };
    let in_flight = sum(ask.fingerprint, ask.own).saturating_add(sum(OVERFLOW, ask.overflow));
    let has_row = table.held_by(ask.fingerprint, ask.owner) > 0 || table.len() < room;
    let (row, mine) = match on_full {
        _ if has_row => (ask.fingerprint, ask.own),
        OnFull::Share => (OVERFLOW, ask.overflow),
        OnFull::Allow => return keep_or_store(mended, table, Answer::Uncounted),
        OnFull::Deny => return keep_or_store(mended, table, Answer::Refused { full: true }),
    };
    if in_flight >= max {
        return keep_or_store(mended, table, Answer::Refused { full: false });
    }
    let expires_at = now.plus(lease);
    let count = mine.saturating_add(1);
    if !table.put(Holding { fingerprint: row, owner: ask.owner, count, expires_at }) {
        return keep_or_store(mended, table, Answer::Refused { full: true });
    }
    let left = max.saturating_sub(in_flight).saturating_sub(1);
    Transition::Store(table, Answer::Granted(row, expires_at, left))
}

/// Puts the worker's own numbers in place, for a lease from now, and gives its end.
fn tell(
    prior: Option<PermitTable>,
    owner: u64,
    rows: &[Row],
    scope: &Scope<'_>,
    now: UnixNanos,
) -> Transition<PermitTable, UnixNanos> {
    let mut table = prior.unwrap_or_default();
    let lease = scope.limit.lease;
    let expires_at = table.settle(now, lease).now.plus(lease);
    for Row { fingerprint, count, .. } in rows {
        // Only a table that strangers filled has no place for it; then the next renewal tries again.
        let _ = table.put(Holding { fingerprint: *fingerprint, owner, count: *count, expires_at });
    }
    Transition::Store(table, expires_at)
}

fn keep_or_store(
    store: bool,
    table: PermitTable,
    answer: Answer,
) -> Transition<PermitTable, Answer> {
    if store { Transition::Store(table, answer) } else { Transition::Keep(answer) }
}

#[cfg(test)]
mod tests;
