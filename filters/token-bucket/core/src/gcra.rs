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
    /// Time of a full bucket (`B`), in ns; a multiple of `token_ns`, below [`MAX_CAPACITY_NS`].
    capacity_ns: u64,
}

/// What came of asking for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// They are there. The bucket's next TAT, and what it holds then.
    Admit(UnixNanos, Level),
    /// They are not there yet. Admitted this much later, if nobody else spends; not earlier.
    Refuse(Duration),
    /// They will never be there: the cost is more than the bucket holds when full.
    TooCostly,
}

/// What a bucket holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        (capacity_ns < MAX_CAPACITY_NS).then_some(Self { token_ns, capacity_ns })
    }

    /// The same span of time at `percent` of the rate, at least long enough for one token. What is
    /// used of it stays the same part of it.
    pub(crate) fn at_percent(&self, percent: u8) -> Self {
        let token_ns = u128::from(self.token_ns).saturating_mul(100);
        let token_ns = token_ns.div_ceil(u128::from(percent.clamp(1, 100)));
        let token_ns = u64::try_from(token_ns).unwrap_or(u64::MAX).min(MAX_CAPACITY_NS - 1);
        Self { token_ns, capacity_ns: self.capacity_ns.max(token_ns) }
    }

    /// Asks a bucket for `cost` tokens. [`UnixNanos::ZERO`], like any TAT that has passed, is a
    /// full bucket.
    pub fn spend(&self, tat: UnixNanos, now: UnixNanos, cost: u32) -> Decision {
        let now = now.min(LATEST);
        let used = self.used_ns(tat, now);
        let wanted = match self.token_ns.checked_mul(u64::from(cost)) {
            Some(price) if price <= self.capacity_ns => used.saturating_add(price),
            _ => return Decision::TooCostly,
        };
        match wanted.checked_sub(self.capacity_ns) {
            Some(wait @ 1..) => Decision::Refuse(Duration::from_nanos(wait)),
            _ => {
                let tat = now.plus(Duration::from_nanos(wanted));
                Decision::Admit(tat, self.level_of(wanted))
            }
        }
    }

    /// What a bucket holds at `now`.
    pub fn level(&self, tat: UnixNanos, now: UnixNanos) -> Level {
        self.level_of(self.used_ns(tat, now.min(LATEST)))
    }

    /// Time that an empty bucket takes to fill. No TAT is ever set further ahead.
    pub fn refill_time(&self) -> Duration {
        Duration::from_nanos(self.capacity_ns)
    }

    /// Time of one token.
    pub fn token_time(&self) -> Duration {
        Duration::from_nanos(self.token_ns)
    }

    fn used_ns(&self, tat: UnixNanos, now: UnixNanos) -> u64 {
        tat.as_nanos().saturating_sub(now.as_nanos()).min(self.capacity_ns)
    }

    fn level_of(&self, used_ns: u64) -> Level {
        let left = self.capacity_ns.saturating_sub(used_ns);
        let (whole, part) = match (left.checked_div(self.token_ns), left.checked_rem(self.token_ns))
        {
            (Some(whole), Some(part)) => (whole, part),
            _ => (0, 0),
        };
        let next = if used_ns == 0 { 0 } else { self.token_ns.saturating_sub(part) };
        Level {
            remaining: u32::try_from(whole).unwrap_or(u32::MAX),
            next_token: Duration::from_nanos(next),
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
            Decision::TooCostly => panic!("one token is never too costly"),
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
                    Decision::Refuse(wait) => prop_assert!(wait <= gcra.refill_time()),
                    Decision::TooCostly => prop_assert!(cost > max),
                }
            }
        }
    }
}
