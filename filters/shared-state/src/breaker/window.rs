//! The outcomes that a breaker's rates are taken over, as they are stored.
//!
//! By time, ten buckets with their counts; by number, two bits for each of the last calls. Both are
//! exact. What moves a window on is circuit-breaker's business; here is what every reader must agree
//! on, and what bytes are no window.

use crate::{DecodeError, Reader, Writer};
use core::time::Duration;

/// Buckets of a window by time: it moves on by a tenth of its length.
pub const WINDOW_BUCKETS: usize = 10;

/// Most calls of a window by number. A record of so many has two and a half kilobytes, and is
/// written for every failure.
pub const MAX_COUNT_WINDOW: u16 = 10_000;

/// Calls whose two bits share a byte.
const CALLS_PER_BYTE: usize = 4;

const FAILED: u8 = 1;
const SLOW: u8 = 2;

/// Outcomes within one tenth of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowBucket {
    /// Successes.
    pub succeeded: u32,
    /// Failures.
    pub failed: u32,
    /// Slow ones of both.
    pub slow: u32,
}

/// Outcomes of the last while, in a ring of buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeWindow {
    /// Width of a bucket; zero before first use.
    pub width: Duration,
    /// Which multiple of the width the newest bucket is.
    pub newest: u64,
    /// The ring: the bucket of multiple `n` stands at `n` modulo [`WINDOW_BUCKETS`].
    pub buckets: [WindowBucket; WINDOW_BUCKETS],
}

/// The last calls, each with what it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountWindow {
    size: u16,
    len: u16,
    /// Where the next call goes.
    next: u16,
    failed: u16,
    slow: u16,
    marks: Vec<u8>,
}

/// Outcomes that rates are taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BreakerWindow {
    /// Of the last while.
    Time(TimeWindow),
    /// Of the last calls.
    Count(CountWindow),
}

impl Default for BreakerWindow {
    fn default() -> Self {
        Self::Time(TimeWindow::default())
    }
}

impl CountWindow {
    /// Empty, for the last `size` calls, at most [`MAX_COUNT_WINDOW`].
    pub fn new(size: u16) -> Self {
        let size = size.clamp(1, MAX_COUNT_WINDOW);
        let marks = vec![0; usize::from(size).div_ceil(CALLS_PER_BYTE)];
        Self { size, marks, ..Self::default() }
    }

    /// How many calls it is for.
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// How many it holds, failures, and slow ones.
    pub const fn sums(&self) -> (u16, u16, u16) {
        (self.len, self.failed, self.slow)
    }

    /// Adds a call; the oldest one leaves if it is full.
    pub fn push(&mut self, failed: bool, slow: bool) {
        let next = usize::from(self.next);
        let shift = 2 * (next % CALLS_PER_BYTE);
        let Some(byte) = self.marks.get_mut(next / CALLS_PER_BYTE) else { return };
        let old = if self.len == self.size { *byte >> shift & 3 } else { 0 };
        let new = if failed { FAILED } else { 0 } | if slow { SLOW } else { 0 };
        *byte = *byte & !(3 << shift) | new << shift;
        let moved = |sum: u16, bit: u8| {
            sum.saturating_sub(u16::from(old & bit != 0)).saturating_add(u16::from(new & bit != 0))
        };
        (self.failed, self.slow) = (moved(self.failed, FAILED), moved(self.slow, SLOW));
        self.len = self.len.saturating_add(1).min(self.size);
        self.next = if self.next.saturating_add(1) >= self.size { 0 } else { self.next + 1 };
    }

    /// True if its numbers are those of its marks: sums that are wrong would stay so.
    fn adds_up(&self) -> bool {
        let set = |bit: u8| {
            let ones = |byte: &u8| (byte & (0b0101_0101 * bit)).count_ones();
            self.marks.iter().map(ones).sum::<u32>()
        };
        let is_full = self.len == self.size;
        self.next < self.size
            && (is_full || self.len == self.next)
            && self.len <= self.size
            && set(FAILED) == u32::from(self.failed)
            && set(SLOW) == u32::from(self.slow)
            && self.failed <= self.len
            && self.slow <= self.len
    }
}

impl BreakerWindow {
    pub(super) fn write(&self, out: &mut Writer) {
        match self {
            Self::Time(window) => {
                out.u16(0);
                out.u64(u64::try_from(window.width.as_nanos()).unwrap_or(u64::MAX));
                out.u64(window.newest);
                for bucket in &window.buckets {
                    for count in [bucket.succeeded, bucket.failed, bucket.slow] {
                        out.u32(count);
                    }
                }
            }
            Self::Count(window) => {
                for count in [window.size, window.len, window.next, window.failed, window.slow] {
                    out.u16(count);
                }
                out.raw(&window.marks);
            }
        }
    }

    pub(super) fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let size = input.u16()?;
        if size == 0 {
            let width = Duration::from_nanos(input.u64()?);
            let mut window = TimeWindow { width, newest: input.u64()?, ..TimeWindow::default() };
            for bucket in &mut window.buckets {
                let (succeeded, failed) = (input.u32()?, input.u32()?);
                *bucket = WindowBucket { succeeded, failed, slow: input.u32()? };
            }
            return Ok(Self::Time(window));
        }
        if size > MAX_COUNT_WINDOW {
            return Err(DecodeError::Field);
        }
        let mut window = CountWindow {
            len: input.u16()?,
            next: input.u16()?,
            failed: input.u16()?,
            slow: input.u16()?,
            ..CountWindow::new(size)
        };
        for byte in &mut window.marks {
            *byte = input.u8()?;
        }
        if window.adds_up() { Ok(Self::Count(window)) } else { Err(DecodeError::Field) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BreakerRecord, decode, encode};
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn record(window: CountWindow) -> BreakerRecord {
        BreakerRecord { window: BreakerWindow::Count(window), ..BreakerRecord::default() }
    }

    #[test]
    fn sums_that_are_not_those_of_the_calls_do_not_decode() {
        let mut window = CountWindow::new(7);
        window.push(true, false);
        for wrong in [
            CountWindow { failed: 0, ..window.clone() },
            CountWindow { slow: 1, ..window.clone() },
            CountWindow { next: 7, ..window.clone() },
            CountWindow { len: 8, ..window.clone() },
            CountWindow { len: 2, ..window.clone() },
        ] {
            let bytes = encode(&record(wrong.clone()));
            assert_eq!(decode::<BreakerRecord>(&bytes), Err(DecodeError::Field), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn the_last_calls_are_summed_exactly_and_survive_the_round_trip(
            size in 1u16..40,
            calls in proptest::collection::vec(any::<(bool, bool)>(), 0..120),
        ) {
            let mut window = CountWindow::new(size);
            let mut last: VecDeque<(bool, bool)> = VecDeque::new();
            for (failed, slow) in calls {
                window.push(failed, slow);
                last.push_back((failed, slow));
                if last.len() > usize::from(size) {
                    last.pop_front();
                }
                let count = |of: fn(&&(bool, bool)) -> bool| last.iter().filter(of).count() as u16;
                let expected = (last.len() as u16, count(|call| call.0), count(|call| call.1));
                prop_assert_eq!(window.sums(), expected);
                let stored = record(window.clone());
                prop_assert_eq!(decode::<BreakerRecord>(&encode(&stored)), Ok(stored));
            }
        }
    }
}
