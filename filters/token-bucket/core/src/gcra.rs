//! The generic cell rate algorithm: a token bucket in one number.
//!
//! The obvious bucket keeps a count and a timer, or a count and the time of the last fill. Both are
//! two fields to keep in step, and the timer adds at the same moment for everyone what a crowd then
//! takes at the same moment. GCRA (ITU-T I.371; the algorithm of ATM policing, and of the crate
//! `governor`) keeps the *theoretical arrival time* alone: when the bucket will be full again.
//! With `T` the time of one token and `B = max_tokens * T` the time of all of them,
//!
//! ```text
//! used  = max(TAT, now) - now              tokens spent and not yet refilled, as time; 0..=B
//! spend = used + cost * T <= B             then TAT = now + used + cost * T
//! wait  = used + cost * T - B              otherwise: exact, one nanosecond less is refused again
//! ```
//!
//! **Against Envoy's `TokenBucket`.** That message describes steps: `tokens_per_fill` tokens appear
//! at once every `fill_interval`. GCRA hands out the same tokens one by one, each
//! `fill_interval / tokens_per_fill` after the last. Burst and long-term rate are equal, and in any
//! window of length `w` at most `max_tokens + floor(w / T)` pass. Steps are never stricter: they let
//! `max_tokens + tokens_per_fill` pass in a window as short as you like around a fill. What changes
//! is that a client that was refused may come back after `T` and not only at the next fill. (Envoy's
//! own local rate limiter has refilled continuously since 1.31 too, with floating point.)
//!
//! **Leases.** Who draws `k` tokens now, to be spent at any time up to `now + d`, charges them as if
//! all were spent at the last moment: `TAT = max(TAT, now + d) + k * T`. The recorded TAT is then
//! never less than the one that the true times of spending would give, so the bound above holds for
//! any number of workers. The price is that the burst is smaller by what is refilled in `d`, and
//! only while there are leases.
//!
//! **Holding.** A request may wait for a token that is not there yet: it is charged now, which takes
//! TAT beyond `B` by the wait, and goes on when the token has come. Order of charging is order of
//! going on.
//!
//! **Debt.** What a request turns out to have cost more is charged without being asked for, and may
//! take TAT beyond `B` by `max_debt * T`. Nothing passes before that is refilled.
//!
//! **Rounding.** `T` is a whole number of nanoseconds, rounded up. The rate is therefore never
//! higher than configured, and lower by less than `1 ns / T`: at most 0.1 %, as the configuration
//! admits no `T` below a microsecond.
//!
//! **Clock.** Elapsed time is all that creates tokens. A clock that steps back creates none, and the
//! bucket it leaves behind is at worst empty, never in debt: a TAT further ahead than `B` is taken
//! as `B` ahead. A clock that jumps ahead fills the bucket, as the same time waited out would have.
//! What several workers with one record need beyond that, [`shared_state::SlotTable::settle`] adds.

use core::time::Duration;
use shared_state::UnixNanos;

/// The last moment that counts: 2^63 ns, in the year 2262. Beyond, the clock is broken; time stands
/// still there, so that no sum below can overflow.
pub(crate) const LATEST: UnixNanos = UnixNanos::from_nanos(1 << 63);

/// Longest `B`, exclusive: 2^62 ns, 146 years.
const MAX_CAPACITY_NS: u64 = 1 << 62;

/// Rate and burst of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gcra {
    /// Time of one token (`T`), in ns; not 0.
    token_ns: u64,
    /// The same as configured, in ns.
    whole_ns: u64,
    /// Time of a full bucket (`B`), in ns; a multiple of `token_ns`, below [`MAX_CAPACITY_NS`].
    capacity_ns: u64,
    /// Longest that a request may be held for its tokens, in ns.
    wait_ns: u64,
    /// Time of the tokens that it may owe, in ns.
    debt_ns: u64,
}

/// Tokens drawn at once, to be spent until a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Draw {
    /// How many.
    pub(crate) tokens: u32,
    /// Until when.
    pub(crate) until: UnixNanos,
    /// The bucket's next TAT.
    pub(crate) tat: UnixNanos,
}

/// How much of the time in which a bucket fills a lease may last: an eighth.
const LEASE_SHARE: u64 = 8;

/// What came of asking for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// They are there. The bucket's next TAT, and what it holds then.
    Admit(UnixNanos, Level),
    /// They are not there yet, but will be after this wait, which is short enough: they are reserved.
    /// The bucket's next TAT.
    Hold(UnixNanos, Duration),
    /// They are not there yet. Admitted or held this much later, if nobody else spends; not earlier.
    Refuse(Duration),
    /// They will never be there: the cost is more than the bucket holds when full.
    TooCostly,
}

/// What a bucket holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Whole tokens.
    pub remaining: u32,
    /// Time until there is one more; zero if the bucket is full.
    pub next_token: Duration,
}

impl Gcra {
    /// A bucket of `max_tokens`, refilled by `tokens_per_fill` every `fill_interval`. `None` if one
    /// of them is zero or all of them together overflow.
    pub fn new(max_tokens: u32, tokens_per_fill: u32, fill_interval: Duration) -> Option<Self> {
        let fill_ns = u64::try_from(fill_interval.as_nanos()).ok()?;
        if max_tokens == 0 || tokens_per_fill == 0 || fill_ns == 0 {
            return None;
        }
        let token_ns = fill_ns.div_ceil(u64::from(tokens_per_fill));
        let capacity_ns = token_ns.checked_mul(u64::from(max_tokens))?;
        let bucket = Self { token_ns, whole_ns: token_ns, capacity_ns, wait_ns: 0, debt_ns: 0 };
        (capacity_ns < MAX_CAPACITY_NS).then_some(bucket)
    }

    /// A bucket as a span of time of which each token costs a part. Such buckets may stand in one
    /// table whatever their tokens cost. `None` if the span is shorter than one token, or overflows.
    pub(crate) fn from_times(token_ns: u64, capacity_ns: u64) -> Option<Self> {
        let holds_one = token_ns > 0 && capacity_ns >= token_ns;
        let bucket = Self { token_ns, whole_ns: 1, capacity_ns, wait_ns: 0, debt_ns: 0 };
        (holds_one && capacity_ns < MAX_CAPACITY_NS).then_some(bucket)
    }

    /// The same bucket, for which requests are held up to `wait` instead of being refused. `None`
    /// if that is longer than a bucket may take to fill.
    pub fn with_max_wait(self, wait: Duration) -> Option<Self> {
        let wait_ns = u64::try_from(wait.as_nanos()).ok()?;
        (wait_ns < MAX_CAPACITY_NS).then_some(Self { wait_ns, ..self })
    }

    /// The same bucket, which may come to owe `tokens` by what requests turn out to have cost.
    /// `None` if paying back would take longer than a bucket may take to fill.
    pub fn with_max_debt(self, tokens: u32) -> Option<Self> {
        let debt_ns = self.token_ns.checked_mul(u64::from(tokens))?;
        (debt_ns < MAX_CAPACITY_NS).then_some(Self { debt_ns, ..self })
    }

    /// The same span of time at `percent` of the rate, at least long enough for one token. What is
    /// used of it stays the same part of it.
    pub(crate) fn at_percent(&self, percent: u8) -> Self {
        let token_ns = u128::from(self.token_ns).saturating_mul(100);
        let token_ns = token_ns.div_ceil(u128::from(percent.clamp(1, 100)));
        let token_ns = u64::try_from(token_ns).unwrap_or(u64::MAX).min(MAX_CAPACITY_NS - 1);
        Self { token_ns, capacity_ns: self.capacity_ns.max(token_ns), ..*self }
    }

    /// The share of one of `count` proxies: about the same span of time, of which a token takes
    /// `count` times as much. At least one token.
    pub(crate) fn shared_by(&self, count: u16) -> Self {
        let token_ns = self.token_ns.saturating_mul(count.max(1).into()).min(MAX_CAPACITY_NS - 1);
        let capacity_ns = self.capacity_ns.div_ceil(token_ns.max(1)).saturating_mul(token_ns);
        Self { token_ns, capacity_ns: capacity_ns.min(MAX_CAPACITY_NS - 1), ..*self }
    }

    /// Asks a bucket for `cost` tokens. [`UnixNanos::ZERO`], like any TAT that has passed, is a
    /// full bucket.
    pub fn spend(&self, tat: UnixNanos, now: UnixNanos, cost: u32) -> Decision {
        let now = now.min(LATEST);
        let used = self.used_ns(tat, now);
        let wanted = match self.price_ns(cost) {
            Some(price) if price <= self.capacity_ns => used.saturating_add(price),
            _ => return Decision::TooCostly,
        };
        let next = now.plus(Duration::from_nanos(wanted));
        let wait = wanted.saturating_sub(self.capacity_ns);
        match wait.checked_sub(self.wait_ns) {
            Some(longer @ 1..) => Decision::Refuse(Duration::from_nanos(longer)),
            _ if wait > 0 => Decision::Hold(next, Duration::from_nanos(wait)),
            _ => Decision::Admit(next, self.level_of(wanted)),
        }
    }

    /// Draws up to `most` tokens, of which `cost` are spent at once and the others within `time`. The
    /// bucket keeps `keep` times as many. `None` if it does not hold enough to give away more than
    /// `cost`.
    pub(crate) fn draw(
        &self,
        tat: UnixNanos,
        now: UnixNanos,
        cost: u32,
        most: u32,
        time: Duration,
        keep: u32,
    ) -> Option<Draw> {
        let now = now.min(LATEST);
        let until = now.plus(time);
        let from = until.max(tat);
        let room = self.capacity_ns.checked_sub(from.since(now).as_nanos().try_into().ok()?)?;
        let share = self.token_ns.checked_mul(u64::from(keep).saturating_add(1))?;
        let tokens = u32::try_from(room.checked_div(share)?).unwrap_or(u32::MAX).min(most);
        let price = Duration::from_nanos(self.price_ns(tokens)?);
        (tokens > cost).then(|| Draw { tokens, until, tat: from.plus(price) })
    }

    /// The TAT after a request has cost `tokens` more than it was taken for: charged whether they
    /// are there or not, up to the debt that is allowed.
    pub(crate) fn owe(&self, tat: UnixNanos, now: UnixNanos, tokens: u32) -> UnixNanos {
        let now = now.min(LATEST);
        let price = Duration::from_nanos(self.price_ns(tokens).unwrap_or(u64::MAX));
        let most = now.plus(Duration::from_nanos(self.capacity_ns.saturating_add(self.debt_ns)));
        tat.max(tat.max(now).plus(price).min(most))
    }

    /// How long a lease of this bucket lasts where `longest` is the longest of any. A small bucket
    /// would have nothing left to lease, were its burst to be refilled in that time.
    pub(crate) fn lease_time(&self, longest: Duration) -> Duration {
        longest.min(Duration::from_nanos(self.capacity_ns / LEASE_SHARE))
    }

    /// Time of `tokens`.
    pub(crate) fn price(&self, tokens: u32) -> Duration {
        Duration::from_nanos(self.price_ns(tokens).unwrap_or(u64::MAX))
    }

    /// Longest that a request is held.
    pub fn max_wait(&self) -> Duration {
        Duration::from_nanos(self.wait_ns)
    }

    /// Time that a bucket takes to fill which owes as much as it may.
    pub(crate) fn longest_refill(&self) -> Duration {
        Duration::from_nanos(self.capacity_ns.saturating_add(self.debt_ns))
    }

    /// What a bucket holds at `now`.
    pub fn level(&self, tat: UnixNanos, now: UnixNanos) -> Level {
        self.level_of(self.used_ns(tat, now.min(LATEST)))
    }

    /// Time that an empty bucket takes to fill. Without holding and debt, no TAT is ever set further
    /// ahead.
    pub fn refill_time(&self) -> Duration {
        Duration::from_nanos(self.capacity_ns)
    }

    /// Time of one token at the configured rate, whatever part of it the bucket gives now.
    pub(crate) fn whole_token_time(&self) -> Duration {
        Duration::from_nanos(self.whole_ns)
    }

    /// Time of one token.
    pub fn token_time(&self) -> Duration {
        Duration::from_nanos(self.token_ns)
    }

    fn used_ns(&self, tat: UnixNanos, now: UnixNanos) -> u64 {
        let most = self.capacity_ns.saturating_add(self.wait_ns).saturating_add(self.debt_ns);
        tat.as_nanos().saturating_sub(now.as_nanos()).min(most)
    }

    fn price_ns(&self, tokens: u32) -> Option<u64> {
        self.token_ns.checked_mul(u64::from(tokens))
    }

    fn level_of(&self, used_ns: u64) -> Level {
        let left = self.capacity_ns.saturating_sub(used_ns);
        let (whole, part) = match (left.checked_div(self.token_ns), left.checked_rem(self.token_ns))
        {
            (Some(whole), Some(part)) => (whole, part),
            _ => (0, 0),
        };
        let owed = used_ns.saturating_sub(self.capacity_ns);
        let next = if used_ns == 0 { 0 } else { self.token_ns.saturating_sub(part) };
        Level {
            remaining: u32::try_from(whole).unwrap_or(u32::MAX),
            next_token: Duration::from_nanos(next.saturating_add(owed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NANO: Duration = Duration::from_nanos(1);

    fn at(millis: u64) -> UnixNanos {
        UnixNanos::from_millis(millis)
    }

    /// Three tokens, ten a second.
    fn three() -> Gcra {
        Gcra::new(3, 10, Duration::from_secs(1)).unwrap()
    }

    /// Spends one token, keeping the TAT as a caller would.
    fn take(gcra: Gcra, tat: &mut UnixNanos, now: UnixNanos) -> Result<u32, Duration> {
        match gcra.spend(*tat, now, 1) {
            Decision::Admit(next, level) => {
                *tat = next;
                Ok(level.remaining)
            }
            Decision::Refuse(wait) => Err(wait),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bucket_that_was_never_used_is_full_and_gives_its_burst_and_no_more() {
        let mut tat = UnixNanos::ZERO;
        let taken: Vec<_> = (0..4).map(|_| take(three(), &mut tat, at(1_000))).collect();
        assert_eq!(taken, [Ok(2), Ok(1), Ok(0), Err(Duration::from_millis(100))]);
    }

    #[test]
    fn a_refused_request_is_admitted_when_told_and_not_a_nanosecond_earlier() {
        let mut tat = UnixNanos::ZERO;
        while take(three(), &mut tat, at(1_000)).is_ok() {}
        let wait = take(three(), &mut tat, at(1_030)).unwrap_err();
        assert_eq!(wait, Duration::from_millis(70));
        assert_eq!(take(three(), &mut tat, at(1_030).plus(wait).minus(NANO)), Err(NANO));
        assert_eq!(take(three(), &mut tat, at(1_030).plus(wait)), Ok(0));
    }

    #[test]
    fn tokens_come_one_by_one_until_the_bucket_is_full() {
        let mut tat = UnixNanos::ZERO;
        while take(three(), &mut tat, at(0)).is_ok() {}
        let level = |millis| three().level(tat, at(millis));
        let ms = Duration::from_millis;
        assert_eq!(level(0), Level { remaining: 0, next_token: ms(100) });
        assert_eq!(level(150), Level { remaining: 1, next_token: ms(50) });
        assert_eq!(level(299), Level { remaining: 2, next_token: ms(1) });
        assert_eq!(level(300), Level { remaining: 3, next_token: ms(0) });
        assert_eq!(level(9_999), Level { remaining: 3, next_token: ms(0) });
    }

    #[test]
    fn a_cost_beyond_the_burst_is_refused_for_good_and_one_of_nothing_never() {
        assert_eq!(three().spend(UnixNanos::ZERO, at(0), 4), Decision::TooCostly);
        assert_eq!(three().spend(UnixNanos::ZERO, at(0), u32::MAX), Decision::TooCostly);
        let empty = at(300);
        assert!(matches!(three().spend(empty, at(0), 0), Decision::Admit(tat, _) if tat == empty));
    }

    #[test]
    fn a_clock_that_steps_back_creates_no_token_and_freezes_no_longer_than_a_refill() {
        let mut tat = UnixNanos::ZERO;
        while take(three(), &mut tat, at(100_000)).is_ok() {}
        assert_eq!(take(three(), &mut tat, at(5_000)), Err(Duration::from_millis(100)));
        assert_eq!(three().level(tat, at(5_000)).remaining, 0);
    }

    #[test]
    fn a_clock_far_ahead_fills_the_bucket_once_and_overflows_nothing() {
        for now in [u64::MAX, 1 << 63, (1 << 63) + 1] {
            let mut tat = at(100);
            let now = UnixNanos::from_nanos(now);
            let taken = (0..9).filter(|_| take(three(), &mut tat, now).is_ok()).count();
            assert_eq!(taken, 3);
        }
    }

    #[test]
    fn what_would_overflow_is_no_bucket() {
        let day = Duration::from_secs(86_400);
        assert_eq!(Gcra::new(u32::MAX, 1, day), None);
        assert_eq!(Gcra::new(1, 1, Duration::from_nanos(MAX_CAPACITY_NS)), None);
        assert!(Gcra::new(1, 1, Duration::from_nanos(MAX_CAPACITY_NS - 1)).is_some());
        for (max, fill, interval) in [(0, 1, day), (1, 0, day), (1, 1, Duration::ZERO)] {
            assert_eq!(Gcra::new(max, fill, interval), None);
        }
    }

    #[test]
    fn a_token_time_that_is_no_whole_number_is_rounded_up() {
        let gcra = Gcra::new(2, 3, Duration::from_secs(1)).unwrap();
        assert_eq!(gcra.token_time(), Duration::from_nanos(333_333_334));
        let mut tat = UnixNanos::ZERO;
        assert_eq!(take(gcra, &mut tat, at(0)), Ok(1));
        assert_eq!(take(gcra, &mut tat, at(0)), Ok(0), "and the burst is still whole");
    }

    #[test]
    fn a_request_is_held_for_a_token_that_comes_soon_and_in_order() {
        let gcra = three().with_max_wait(Duration::from_millis(150)).unwrap();
        let mut tat = at(1_300); // Empty at 1000.
        let mut holds = Vec::new();
        while let Decision::Hold(next, wait) = gcra.spend(tat, at(1_000), 1) {
            tat = next;
            holds.push(wait.as_millis());
        }
        assert_eq!(holds, [100], "the next would wait 200 ms");
        assert_eq!(gcra.spend(tat, at(1_000), 1), Decision::Refuse(Duration::from_millis(50)));
        let hundred_and_fifty = Duration::from_millis(150);
        let held = gcra.spend(tat, at(1_050), 1);
        assert_eq!(held, Decision::Hold(at(1_500), hundred_and_fifty));
    }

    #[test]
    fn what_is_owed_is_paid_back_before_anything_passes() {
        let gcra = three().with_max_debt(2).unwrap();
        let tat = gcra.owe(at(1_000), at(1_000), 4);
        assert_eq!(tat, at(1_400), "three tokens and one more");
        assert_eq!(gcra.spend(tat, at(1_000), 1), Decision::Refuse(Duration::from_millis(200)));
        assert_eq!(gcra.level(tat, at(1_000)).next_token, Duration::from_millis(200));
        assert_eq!(gcra.owe(tat, at(1_000), 9), at(1_500), "not more than it may owe");
        assert_eq!(gcra.owe(at(1_600), at(1_000), 9), at(1_600), "and nothing is forgiven");
    }

    #[test]
    fn a_draw_is_charged_as_if_spent_at_its_end_and_leaves_most_to_others() {
        let gcra = Gcra::new(100, 10, Duration::from_secs(1)).unwrap();
        let time = Duration::from_millis(500);
        let draw = gcra.draw(UnixNanos::ZERO, at(1_000), 1, 4, time, 4).unwrap();
        assert_eq!(draw, Draw { tokens: 4, until: at(1_500), tat: at(1_900) });
        let most = gcra.draw(UnixNanos::ZERO, at(1_000), 1, 1_000, time, 4).unwrap();
        assert_eq!(most.tokens, 19, "a quarter of the 76 that are left");
        let near_the_edge = at(1_000 + 9_900);
        assert_eq!(gcra.draw(near_the_edge, at(1_000), 1, 1_000, time, 4), None);
    }

    /// The bucket of the textbook, in exact arithmetic: its level is a fraction of a token with
    /// `interval_ns` as denominator, and grows by `fill` a nanosecond.
    struct Textbook {
        max: i128,
        fill: i128,
        interval_ns: i128,
        level: i128,
        at: i128,
    }

    impl Textbook {
        fn new(max: u32, fill: u32, interval: Duration, at: u64) -> Self {
            let interval_ns = interval.as_nanos() as i128;
            let level = i128::from(max) * interval_ns;
            let (max, fill, at) = (i128::from(max), i128::from(fill), i128::from(at));
            Self { max, fill, interval_ns, level, at }
        }

        fn take(&mut self, now: u64) -> bool {
            let now = i128::from(now);
            // Time that the clock lost creates nothing.
            let passed = (now - self.at).max(0);
            self.level = (self.level + passed * self.fill).min(self.max * self.interval_ns);
            self.at = now;
            let taken = self.level >= self.interval_ns;
            if taken {
                self.level -= self.interval_ns;
            }
            taken
        }

        /// Spends only if someone else did, and tells whether it could have.
        fn follow(&mut self, now: u64, admitted: bool) -> bool {
            let could = self.take(now);
            if could && !admitted {
                self.level += self.interval_ns;
            }
            could
        }
    }

    fn steps() -> impl Strategy<Value = Vec<u64>> {
        proptest::collection::vec(prop_oneof![0u64..50, 0u64..5_000_000_000], 1..120)
    }

    proptest! {
        #[test]
        fn decides_as_the_textbook_where_the_token_time_is_whole(
            max in 1u32..20, fill in 1u32..20, token_ns in 1u64..1_000_000_000, steps in steps(),
        ) {
            let interval = Duration::from_nanos(token_ns * u64::from(fill));
            let gcra = Gcra::new(max, fill, interval).unwrap();
            let mut now = 1_700_000_000_000_000_000;
            let mut textbook = Textbook::new(max, fill, interval, now);
            let mut tat = UnixNanos::ZERO;
            for step in steps {
                now += step;
                let taken = take(gcra, &mut tat, UnixNanos::from_nanos(now)).is_ok();
                prop_assert_eq!(taken, textbook.take(now));
            }
        }

        #[test]
        fn no_window_holds_more_than_the_burst_and_what_was_filled_in_it(
            max in 1u32..20, fill in 1u32..2_000, interval_ms in 1u64..3_000, steps in steps(),
        ) {
            let interval = Duration::from_millis(interval_ms);
            let gcra = Gcra::new(max, fill, interval).unwrap();
            let (mut now, mut tat, mut admitted) = (1_000_000_000, UnixNanos::ZERO, Vec::new());
            for step in steps {
                now += step;
                if take(gcra, &mut tat, UnixNanos::from_nanos(now)).is_ok() {
                    admitted.push(now);
                }
            }
            for (from, start) in admitted.iter().enumerate() {
                for (to, end) in admitted.iter().enumerate().skip(from) {
                    let count = (to - from + 1) as u128;
                    let filled = u128::from(end - start) * u128::from(fill) / interval.as_nanos();
                    prop_assert!(count <= u128::from(max) + filled);
                }
            }
        }

        #[test]
        fn a_clock_that_jumps_about_never_makes_it_more_generous_than_the_textbook(
            max in 1u32..10, token_ns in 1u64..1_000_000_000,
            jumps in proptest::collection::vec(-5_000_000_000i64..5_000_000_000, 1..120),
        ) {
            let interval = Duration::from_nanos(token_ns);
            let gcra = Gcra::new(max, 1, interval).unwrap();
            let mut now = 1_700_000_000_000_000_000u64;
            let mut textbook = Textbook::new(max, 1, interval, now);
            let mut tat = UnixNanos::ZERO;
            for jump in jumps {
                now = now.saturating_add_signed(jump);
                let taken = take(gcra, &mut tat, UnixNanos::from_nanos(now)).is_ok();
                let could = textbook.follow(now, taken);
                prop_assert!(could || !taken);
            }
        }

        #[test]
        fn the_wait_is_exact(
            max in 1u32..1_000, cost in 1u32..1_000, token_ns in 1u64..1 << 40,
            used in 0u64..1 << 50, now in 0u64..1 << 62,
        ) {
            let gcra = Gcra::new(max, 1, Duration::from_nanos(token_ns)).unwrap();
            let now = UnixNanos::from_nanos(now);
            let tat = now.plus(Duration::from_nanos(used).min(gcra.refill_time()));
            if let Decision::Refuse(wait) = gcra.spend(tat, now, cost) {
                let admitted = |at| matches!(gcra.spend(tat, at, cost), Decision::Admit(..));
                prop_assert!(admitted(now.plus(wait)));
                prop_assert!(!admitted(now.plus(wait).minus(NANO)));
            }
        }

        #[test]
        fn no_numbers_panic_or_leave_the_range(
            tat in any::<u64>(), now in any::<u64>(), cost in any::<u32>(),
            max in 1u32.., fill in 1u32.., interval in any::<u64>(),
        ) {
            if let Some(gcra) = Gcra::new(max, fill, Duration::from_nanos(interval)) {
                let (tat, now) = (UnixNanos::from_nanos(tat), UnixNanos::from_nanos(now));
                prop_assert!(gcra.level(tat, now).remaining <= max);
                match gcra.spend(tat, now, cost) {
                    Decision::Admit(next, _) => {
                        let ahead = next.as_nanos() - now.min(LATEST).as_nanos();
                        prop_assert!(ahead <= gcra.refill_time().as_nanos() as u64);
                    }
                    Decision::Hold(..) => prop_assert!(false, "nothing is held"),
                    Decision::Refuse(wait) => prop_assert!(wait <= gcra.refill_time()),
                    Decision::TooCostly => prop_assert!(cost > max),
                }
            }
        }
    }
}
