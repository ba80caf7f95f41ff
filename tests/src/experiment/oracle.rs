//! Shortest expected delay by somebody who sees every queue and every speed: the endpoints are in this
//! process, and the proxy obeys a header. What is on its way through the proxy is not seen; at these
//! loads that is less than one request.

use super::Setting;
use host_sim_rig::draw::SplitMix64;
use host_sim_rig::fleet::Fleet;
use host_sim_rig::load::Steer;
use http::{HeaderName, HeaderValue};
use std::sync::{Arc, Mutex, PoisonError};

const HEADER: HeaderName = HeaderName::from_static("x-gateway-destination-endpoint");

/// Steers each request to the endpoint where it is expected to be done first.
pub(super) fn steer(setting: &Setting, fleet: &Arc<Fleet>) -> Steer {
    let (slots, fleet) = (setting.slots as f64, Arc::clone(fleet));
    let draws = Mutex::new(SplitMix64::named(1, "oracle"));
    Steer(Arc::new(move || {
        let mut draws = draws.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(at, endpoint): (usize, &host_sim_rig::endpoint::Endpoint)| {
            let there = endpoint.counters().in_flight as f64 + 1.0;
            let ahead = (there - slots).max(0.0) / slots;
            ((ahead + 1.0) / endpoint.speed(), at)
        };
        let delays: Vec<_> = fleet.endpoints().iter().enumerate().map(of).collect();
        let least = delays.iter().map(|(delay, _)| *delay).min_by(f64::total_cmp)?;
        let best: Vec<usize> =
            delays.iter().filter(|(delay, _)| *delay <= least).map(|(_, at)| *at).collect();
        let drawn = (draws.unit() * best.len() as f64) as usize;
        let address = fleet.endpoints().get(*best.get(drawn)?)?.address();
        Some((HEADER, HeaderValue::from_str(&address.to_string()).ok()?))
    }))
}
