//! `concurrency`: how many requests may be in flight.

use crate::Concurrency;
use core::ops::RangeInclusive;
use core::time::Duration;
use plugin_config::{Fields, Or, Required};

/// Leases are renewed at half of their time, by a tick each second.
const LEASES: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(3_600);

/// The limit, and its item in `RateLimit-Policy`.
pub(super) fn concurrency(mut fields: Fields<'_>, policy: &str) -> (Concurrency, String) {
    let max: u32 = fields.integer("max", 1..=1_000_000, Required);
    let lease = fields.duration("lease", LEASES, Or(Duration::from_secs(60)));
    (Concurrency { max, lease }, format!("\"{policy}\";q={max};qu=\"concurrent-requests\""))
}
