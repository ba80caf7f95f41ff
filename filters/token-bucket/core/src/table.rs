//! Spending from a table of buckets, and giving back.
//!
//! Both are decisions on one record, for the compare-and-swap loop of `shared_state::update`: they
//! may run again on what another worker left, and have no effect but their result.
//!
//! **Giving back.** A bucket is one number, and what was charged since cannot be read off it. Tokens
//! that are given back late may be worth nothing, because a bucket that has filled since would be
//! full without them, too. So a [`Receipt`] tells up to when the bucket is sure to have been in use
//! because of it, and no more is given back than lies between now and then:
//!
//! - With `at` the latest moment at which its tokens are spent, the recorded TAT is at least `at`,
//!   its own tokens and all that was charged since. This holds whatever others give back.
//! - It is also at least the TAT after the charge and all that was charged since, less what was
//!   taken off any TAT of the table since, which the table knows.
//! - What was charged since is spent by `now + ahead` at the latest, so without the receipt's tokens
//!   the TAT need not be more than that and those charges.
//!
//! The difference is what may be taken off. If nobody has charged or given back since, the TAT is
//! what it was, and all may be. Both cases err on one side only: tokens get lost, none is made.

use crate::gcra::LATEST;
use crate::{Decision, Gcra, Level, OnFull};
use core::time::Duration;
use shared_state::{Pace, Settled, SlotTable, Transition, UnixNanos};

/// What is asked of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    /// Which bucket.
    pub(crate) fingerprint: u64,
    /// Its rate and burst.
    pub(crate) bucket: &'a Gcra,
    /// Tokens wanted.
    pub(crate) cost: u32,
    /// The moment.
    pub(crate) now: UnixNanos,
    /// When the request goes on: now, or later if it is held in any case.
    pub(crate) at: UnixNanos,
    /// What to draw on top of the cost, if the bucket has plenty.
    pub(crate) wish: Option<Wish>,
    /// For tokens of an earlier draw that were not spent.
    pub(crate) unspent: Option<Receipt>,
    /// What holds for all of the plugin.
    pub(crate) terms: Terms,
}

/// What holds for all tables of a plugin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Slots that may be in use.
    pub(crate) room: usize,
    /// When there is no free one.
    pub(crate) on_full: OnFull,
    /// Longest that any policy holds a request.
    pub(crate) longest_hold: Duration,
    /// Longest that a lease lasts.
    pub(crate) longest_lease: Duration,
}

impl Terms {
    /// How far ahead of its charge a token may be spent.
    fn ahead(&self) -> Duration {
        self.longest_hold.max(self.longest_lease)
    }

    fn pace(&self, bucket: &Gcra) -> Pace {
        Pace {
            token: bucket.whole_token_time(),
            longest: bucket.longest_refill().saturating_add(self.longest_hold),
            ahead: self.ahead(),
        }
    }
}

/// Tokens worth drawing ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// How many, on top of what the request costs.
    pub(crate) tokens: u32,
    /// For how long.
    pub(crate) time: Duration,
    /// How many times as many the bucket keeps.
    pub(crate) keep: u32,
}

/// What a table answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The tokens are spent.
    Admitted(Grant),
    /// The key found no slot, and such keys pass uncounted.
    Uncounted,
    /// The tokens are not there. They are after this wait, if nobody else spends.
    Refused(Duration, Place),
    /// The key found no slot, and such keys are refused; one comes free after this wait.
    Full(Duration),
    /// The bucket never holds so many.
    TooCostly,
}

/// What was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// For the tokens of the request.
    pub(crate) receipt: Receipt,
    /// What is left, tokens that were drawn ahead included.
    pub(crate) level: Level,
    /// How long the request is to be held, from the moment it was asked for.
    pub(crate) hold: Duration,
    /// What was drawn ahead.
    pub(crate) lease: Option<Lease>,
}

/// Tokens that one worker has drawn ahead and may spend on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    /// How many are left.
    pub(crate) left: u32,
    /// From when they may be spent.
    pub(crate) from: UnixNanos,
    /// For all of the draw.
    pub(crate) receipt: Receipt,
}

impl Lease {
    /// True while its tokens may be spent.
    pub(crate) fn is_live(&self, now: UnixNanos) -> bool {
        self.from <= now && now <= self.receipt.at
    }

    /// For `tokens` of it.
    pub(crate) fn receipt_for(&self, tokens: u32) -> Receipt {
        let before = self.receipt.after.minus(self.receipt.price(tokens));
        Receipt { tokens, part: true, before, ..self.receipt }
    }

    /// What the bucket holds as far as this worker knows: the tokens of the lease are still there.
    pub(crate) fn level(&self, bucket: &Gcra, now: UnixNanos) -> Level {
        bucket.level(self.receipt.after.minus(self.receipt.price(self.left)), now)
    }
}

/// Which bucket of the table answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// The key's own.
    Slot,
    /// The one that all keys without a slot share.
    Overflow,
}

/// Proof of a spending, to give it back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Receipt {
    /// Which bucket.
    pub(crate) place: Place,
    /// How many tokens.
    pub(crate) tokens: u32,
    /// They are some of a draw, of which there are other receipts.
    part: bool,
    /// Time of each, as it was charged.
    token: Duration,
    /// The latest moment at which they are spent.
    pub(crate) at: UnixNanos,
    /// The TAT before.
    before: UnixNanos,
    /// The TAT after.
    after: UnixNanos,
    /// The table's [`SlotTable::credit_mark`] then.
    mark: u64,
}

impl Receipt {
    /// True if both are of one draw.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        let draw = |receipt: &Self| (receipt.place, receipt.at, receipt.after, receipt.mark);
        draw(self) == draw(other)
    }

    /// What some of its tokens were charged.
    fn price(&self, tokens: u32) -> Duration {
        self.token.saturating_mul(tokens)
    }
}

/// Spends, if the tokens are there. A refusal changes nothing, and therefore stores nothing, unless
/// the clock has stepped back, the rate has changed, or tokens were given back with it.
pub(crate) fn spend(prior: Option<SlotTable>, ask: &Ask<'_>) -> Transition<SlotTable, Answer> {
    let mut table = prior.unwrap_or_default();
    let terms = &ask.terms;
    let Settled { now, mut mended } = table.settle(ask.now.min(LATEST), &terms.pace(ask.bucket));
    if let Some(receipt) = &ask.unspent {
        let given = take_off(&mut table, ask.fingerprint, receipt, receipt.tokens, now, terms);
        mended |= !given.is_zero();
    }
    let (at, held) = (now.max(ask.at), ask.at > ask.now);
    // The table's time may be ahead of the asker's, who is told how long to wait by its own.
    let from_asked = |wait: Duration| at.plus(wait).since(ask.now);
    let (place, before) = match place_of(&table, ask.fingerprint, terms) {
        Placed::In(place, tat) => (place, tat),
        Placed::Uncounted => return keep_or_store(mended, table, Answer::Uncounted),
        Placed::Full => {
            let free = table.next_free_at().unwrap_or(now);
            let wait = now.max(free).since(ask.now);
            return keep_or_store(mended, table, Answer::Full(wait));
        }
    };
    let mark = table.credit_mark();
    let token = ask.bucket.token_time();
    let receipt = |tokens, at, after| {
        let part = false;
        Receipt { place, tokens, part, token, at, before, after, mark }
    };
    let wish = ask.wish.filter(|_| place == Place::Slot && !held);
    let draw = wish.and_then(|wish| {
        let most = wish.tokens.saturating_add(ask.cost);
        ask.bucket.draw(before, now, ask.cost, most, wish.time, wish.keep)
    });
    let (after, grant) = if let Some(draw) = draw {
        let left = draw.tokens.saturating_sub(ask.cost);
        let lease = Lease { left, from: now, receipt: receipt(draw.tokens, draw.until, draw.tat) };
        let level = lease.level(ask.bucket, now);
        let receipt = lease.receipt_for(ask.cost);
        (draw.tat, Grant { receipt, level, hold: Duration::ZERO, lease: Some(lease) })
    } else {
        let (after, level, wait) = match ask.bucket.spend(before, at, ask.cost) {
            Decision::Admit(after, level) => (after, level, Duration::ZERO),
            Decision::Hold(after, wait) => {
                // What others hold it for counts as well.
                let longer = at.plus(wait).since(now.plus(ask.bucket.max_wait()));
                if !longer.is_zero() {
                    let wait = now.plus(longer).since(ask.now);
                    return keep_or_store(mended, table, Answer::Refused(wait, place));
                }
                (after, ask.bucket.level(after, at), wait)
            }
            Decision::Refuse(wait) => {
                return keep_or_store(mended, table, Answer::Refused(from_asked(wait), place));
            }
            Decision::TooCostly => return keep_or_store(mended, table, Answer::TooCostly),
        };
        let hold = if held || !wait.is_zero() { from_asked(wait) } else { Duration::ZERO };
        let receipt = receipt(ask.cost, at.plus(wait), after);
        (after, Grant { receipt, level, hold, lease: None })
    };
    if ask.cost == 0 && grant.lease.is_none() {
        return keep_or_store(mended, table, Answer::Admitted(grant));
    }
    put(&mut table, ask.fingerprint, place, after);
    Transition::Store(table, Answer::Admitted(grant))
}

/// Where a key's tokens are.
enum Placed {
    In(Place, UnixNanos),
    Uncounted,
    Full,
}

fn place_of(table: &SlotTable, fingerprint: u64, terms: &Terms) -> Placed {
    match table.find(fingerprint) {
        Some(tat) => Placed::In(Place::Slot, tat),
        // Forgotten, so full; but it may have spent from the overflow while that was in use.
        None if table.len() < terms.room => Placed::In(Place::Slot, table.overflow()),
        None => match terms.on_full {
            OnFull::Share => Placed::In(Place::Overflow, table.overflow()),
            OnFull::Allow => Placed::Uncounted,
            OnFull::Deny => Placed::Full,
        },
    }
}

fn put(table: &mut SlotTable, fingerprint: u64, place: Place, tat: UnixNanos) {
    match place {
        Place::Slot => {
            // There is room: it was counted, and `room` is at most the table's bound.
            let _ = table.put(fingerprint, tat);
        }
        Place::Overflow => table.put_overflow(tat),
    }
}

/// What is told of tokens that have been spent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Correction<'a> {
    /// Which bucket.
    pub(crate) fingerprint: u64,
    /// Its rate and burst.
    pub(crate) bucket: &'a Gcra,
    /// How they were spent.
    pub(crate) receipt: &'a Receipt,
    /// How many.
    pub(crate) tokens: u32,
    /// The moment.
    pub(crate) now: UnixNanos,
    /// What holds for all of the plugin.
    pub(crate) terms: Terms,
}

/// Gives back tokens of a receipt, as far as that is possible without making any, and tells whether
/// all of them were.
pub(crate) fn give_back(
    prior: Option<SlotTable>,
    fix: &Correction<'_>,
) -> Transition<SlotTable, bool> {
    let Some(mut table) = prior else { return Transition::Keep(false) };
    let Correction { fingerprint, bucket, receipt, tokens, terms, .. } = fix;
    let Settled { now, mended } = table.settle(fix.now.min(LATEST), &terms.pace(bucket));
    let given = take_off(&mut table, *fingerprint, receipt, *tokens, now, terms);
    // A bucket that has no slot is full, and nothing is missing from it.
    let whole = given >= receipt.price(*tokens)
        || (receipt.place == Place::Slot && table.find(*fingerprint).is_none());
    if mended || !given.is_zero() {
        Transition::Store(table, whole)
    } else {
        Transition::Keep(whole)
    }
}

/// Charges what a request has cost more than its receipt says, and tells whether that could be
/// counted.
pub(crate) fn owe(prior: Option<SlotTable>, fix: &Correction<'_>) -> Transition<SlotTable, bool> {
    let mut table = prior.unwrap_or_default();
    let Settled { now, mended } = table.settle(fix.now.min(LATEST), &fix.terms.pace(fix.bucket));
    let Placed::In(place, before) = place_of(&table, fix.fingerprint, &fix.terms) else {
        return if mended { Transition::Store(table, false) } else { Transition::Keep(false) };
    };
    put(&mut table, fix.fingerprint, place, fix.bucket.owe(before, now, fix.tokens));
    Transition::Store(table, true)
}

/// Takes off a TAT what the tokens of a receipt have left there, and gives how much that is.
fn take_off(
    table: &mut SlotTable,
    fingerprint: u64,
    receipt: &Receipt,
    tokens: u32,
    now: UnixNanos,
    terms: &Terms,
) -> Duration {
    let current = match receipt.place {
        Place::Slot => table.find(fingerprint),
        Place::Overflow => Some(table.overflow()),
    };
    let (Some(current), Some(credited)) = (current, table.credited_since(receipt.mark)) else {
        return Duration::ZERO;
    };
    let tokens = tokens.min(receipt.tokens);
    let price = receipt.price(tokens);
    let untouched = credited.is_zero() && current == receipt.after;
    // Of a draw that is given back in parts, the next charge may make the TAT what it was, and the
    // other parts must not take it for theirs.
    let undone = untouched && tokens == receipt.tokens && !receipt.part;
    let next = if undone {
        receipt.before
    } else if untouched {
        current.minus(price)
    } else {
        let own = receipt.at.plus(receipt.price(receipt.tokens));
        let in_use_until = receipt.after.minus(credited).max(own);
        current.minus(price.min(in_use_until.since(now.plus(terms.ahead()))))
    };
    // More than full is full.
    let next = next.max(now).min(current);
    let given = current.since(next);
    if !given.is_zero() {
        // Then it is as if they had never been charged, and who charged before that may undo it, too.
        if !undone {
            table.credit(given);
        }
        put(table, fingerprint, receipt.place, next);
    }
    given
}

fn keep_or_store(store: bool, table: SlotTable, answer: Answer) -> Transition<SlotTable, Answer> {
    if store { Transition::Store(table, answer) } else { Transition::Keep(answer) }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests;
