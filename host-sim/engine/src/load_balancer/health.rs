//! Which part of the hosts serves a request: healthy, degraded, or all of them in panic.
//!
//! Envoy overprovisions by 1.4: while at least 5 of 7 hosts are healthy they take everything; below
//! that, degraded hosts take the missing share. Panic (health ignored) needs both: fewer available
//! hosts than the threshold, and less than full capacity after overprovisioning.

use host_sim_bootstrap::HealthStatus;

use super::Host;

/// A part of the host set; the number is its pool's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Partition {
    /// Healthy hosts.
    Healthy = 0,
    /// Degraded hosts.
    Degraded = 1,
    /// Every host: panic.
    All = 2,
}

/// Envoy's overprovisioning factor, in percent.
const OVERPROVISIONING: usize = 140;

impl Partition {
    /// In the order of their numbers.
    pub(super) const ALL: [Self; 3] = [Self::Healthy, Self::Degraded, Self::All];

    /// Whether a host is in the part.
    pub(super) fn contains(self, host: Option<&Host>) -> bool {
        host.is_some_and(|host| match self {
            Self::Healthy => host.health == HealthStatus::Healthy,
            Self::Degraded => host.health == HealthStatus::Degraded,
            Self::All => true,
        })
    }
}

/// The part that serves; `threshold` in percent, `draw` splits between healthy and degraded.
pub(super) fn partition(hosts: &[Host], threshold: f64, draw: u64) -> Option<Partition> {
    if hosts.is_empty() {
        return None;
    }
    let of = |health| hosts.iter().filter(|host| host.health == health).count();
    let (healthy, degraded) = (of(HealthStatus::Healthy), of(HealthStatus::Degraded));
    let capacity = |count: usize| (OVERPROVISIONING * count / hosts.len()).min(100);
    let total = (capacity(healthy) + capacity(degraded)).min(100);
    #[expect(clippy::cast_precision_loss, reason = "no cluster has 2^53 hosts")]
    let available = 100.0 * (healthy + degraded) as f64 / hosts.len() as f64;
    if total < 100 && available < threshold {
        return Some(Partition::All);
    }
    if total == 0 {
        return None;
    }
    let healthy_share = (100 * capacity(healthy) / total).min(100);
    let draw = usize::try_from(draw % 100).unwrap_or(0);
    // Rounding may leave a percent over; it goes to whoever is there.
    let is_healthy = healthy > 0 && (draw < healthy_share || degraded == 0);
    Some(if is_healthy { Partition::Healthy } else { Partition::Degraded })
}
