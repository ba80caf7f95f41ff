//! What a table of permits answers, and what is told to it. Nothing here knows a store.

use super::{OVERFLOW, Scope};
use crate::{Concurrency, OnFull};
use shared_state::{Holding, PermitTable, Settled, Transition, UnixNanos};

/// Of what is free, a worker draws an eighth ahead at most, and so has at most a quarter of it to
/// itself, with what its own requests gave back.
const PART: u32 = 8;

/// Nothing is drawn ahead where less than a fourth of all permits is free.
const EDGE: u32 = 4;

/// What a worker would like to have ahead, and how much of what is free it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wish {
    pub(super) permits: u32,
    part: u32,
    edge: u32,
}

impl Wish {
    /// Any number, if there are plenty.
    pub(super) const MODEST: Self = Self { permits: u32::MAX, part: PART, edge: EDGE };

    /// Any number, down to the last one that is free.
    #[cfg(test)]
    pub(super) const GREEDY: Self = Self { permits: u32::MAX, part: 1, edge: u32::MAX };

    /// So many.
    pub(super) fn of(self, permits: u32) -> Self {
        Self { permits, ..self }
    }

    /// How many may be drawn of what is free.
    fn of_free(self, free: u32, max: u32) -> u32 {
        let is_near_the_edge = free.saturating_mul(self.edge) < max;
        let part = free.checked_div(self.part).unwrap_or(0);
        if is_near_the_edge { 0 } else { self.permits.min(part) }
    }
}

/// What is asked of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) fingerprint: u64,
    pub(super) owner: u64,
    /// What this worker has in flight in the key's own row, and in the overflow.
    pub(super) own: u32,
    pub(super) overflow: u32,
    /// What it would like to have besides the one that it asks for.
    pub(super) wish: Wish,
    pub(super) now: UnixNanos,
}

/// A table's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Granted(Grant),
    Uncounted,
    Refused { full: bool },
}

/// A permit, and others ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// The row that holds it.
    pub(super) row: u64,
    /// Until when the table believes in it.
    pub(super) expires_at: UnixNanos,
    /// So many more could have been granted.
    pub(super) left: u32,
    /// So many of those are this worker's already.
    pub(super) ahead: u32,
}

/// Grants, or tells why not. A refusal stores nothing, unless the clock has stepped back.
pub(super) fn take(prior: Option<PermitTable>, ask: &Ask<'_>) -> Transition<PermitTable, Answer> {
    let Scope { limit: Concurrency { max, lease }, room, on_full, .. } = ask.scope;
    let mut table = prior.unwrap_or_default();
    let Settled { now, mended } = table.settle(ask.now, lease);
    let in_flight = in_flight(&table, ask.owner, (ask.fingerprint, ask.own), ask.overflow);
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
    let left = max.saturating_sub(in_flight).saturating_sub(1);
    // Keys that share a row share no lead.
    let ahead = if row == OVERFLOW { 0 } else { ask.wish.of_free(left, max) };
    let expires_at = now.plus(lease);
    let count = mine.saturating_add(1).saturating_add(ahead);
    if !table.put(Holding { fingerprint: row, owner: ask.owner, count, expires_at }) {
        return keep_or_store(mended, table, Answer::Refused { full: true });
    }
    Transition::Store(table, Answer::Granted(Grant { row, expires_at, left, ahead }))
}

/// What a worker has of a key, as it tells it to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Told {
    pub(super) fingerprint: u64,
    /// In flight.
    pub(super) count: u32,
    /// What it would like to keep ahead of what it has there.
    pub(super) keep: Wish,
}

/// What the table made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// Until when it believes in it.
    pub(super) expires_at: UnixNanos,
    /// What it believes, row by row.
    pub(super) held: Vec<u32>,
}

/// Puts the worker's own numbers in place, for a lease from now.
///
/// What it keeps ahead is at most what the table knows to be its own: nothing is drawn here.
pub(super) fn tell(
    prior: Option<PermitTable>,
    owner: u64,
    rows: &[Told],
    overflow: u32,
    scope: &Scope<'_>,
    now: UnixNanos,
) -> Transition<PermitTable, Heard> {
    let mut table = prior.unwrap_or_default();
    let Concurrency { max, lease } = scope.limit;
    let expires_at = table.settle(now, lease).now.plus(lease);
    let mut held = Vec::with_capacity(rows.len());
    for Told { fingerprint, count, keep } in rows {
        let in_flight = in_flight(&table, owner, (*fingerprint, *count), overflow);
        let known = table.held_by(*fingerprint, owner).saturating_sub(*count);
        let ahead = known.min(keep.of_free(max.saturating_sub(in_flight), max));
        let count = count.saturating_add(ahead);
        // Only a table that strangers filled has no place for it; then the next renewal tries again.
        let _ = table.put(Holding { fingerprint: *fingerprint, owner, count, expires_at });
        held.push(count);
    }
    Transition::Store(table, Heard { expires_at, held })
}

/// What a key may have in flight. A worker's own word is the truth about its own requests.
fn in_flight(table: &PermitTable, owner: u64, own: (u64, u32), overflow: u32) -> u32 {
    let sum = |row, mine| {
        let others = table.in_flight(row).saturating_sub(table.held_by(row, owner));
        others.saturating_add(mine)
    };
    let (fingerprint, count) = own;
    sum(fingerprint, count).saturating_add(sum(OVERFLOW, overflow))
}

fn keep_or_store(
    store: bool,
    table: PermitTable,
    answer: Answer,
) -> Transition<PermitTable, Answer> {
    if store { Transition::Store(table, answer) } else { Transition::Keep(answer) }
}
