//! Time, from the host.

use crate::ffi;
use core::cell::Cell;
use core::time::Duration;
use shared_state::UnixNanos;

thread_local! {
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// The host's wall clock. Read it once a callback, and hand the value on. If the host fails, the
/// last answer is repeated: to stand still is the mildest of the things a clock may do.
pub fn now() -> UnixNanos {
    let nanos = match ffi::current_time() {
        Ok(nanos) => {
            LAST.set(nanos);
            nanos
        }
        Err(_) => LAST.get(),
    };
    UnixNanos::from_nanos(nanos)
}

/// What [`now`] last answered in this VM.
pub fn recently() -> UnixNanos {
    UnixNanos::from_nanos(LAST.get())
}

/// Somebody else has read the clock: it is this late at least.
pub fn heard(time: UnixNanos) {
    LAST.set(LAST.get().max(time.as_nanos()));
}

/// The clock of one callback: read when it is asked for, and not more than once.
#[derive(Debug, Default)]
pub struct Moment(Cell<Option<UnixNanos>>);

impl Moment {
    /// The time.
    pub fn now(&self) -> UnixNanos {
        let now = self.0.get().unwrap_or_else(now);
        self.0.set(Some(now));
        now
    }
}

/// Asks for `on_tick` every `period`; at least a millisecond. Answers whether the host agreed.
pub fn set_tick_period(period: Duration) -> bool {
    let millis = u32::try_from(period.as_millis()).unwrap_or(u32::MAX).max(1);
    ffi::set_tick_period(millis).is_ok()
}
