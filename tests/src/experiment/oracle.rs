//! Shortest expected delay by somebody who sees every queue and every speed: the endpoints are in this
//! process, and the proxy obeys a header. What is on its way through the proxy is in the queue that
//! it is on its way to.

use super::Setting;
use host_sim_rig::draw::SplitMix64;
use host_sim_rig::endpoint::Endpoint;
use host_sim_rig::fleet::Fleet;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::{Arc, Mutex, PoisonError};

const HEADER: HeaderName = HeaderName::from_static("x-gateway-destination-endpoint");

/// Steers each request to the endpoint where it is expected to be done first.
pub(super) struct Oracle {
    slots: f64,
    fleet: Arc<Fleet>,
    state: Mutex<State>,
}

struct State {
    draws: SplitMix64,
    /// How many requests each endpoint was sent.
    sent: Vec<u64>,
}

impl Oracle {
    pub(super) fn new(setting: &Setting, fleet: &Arc<Fleet>) -> Self {
        let sent = vec![0; fleet.endpoints().len()];
        let state = Mutex::new(State { draws: SplitMix64::named(1, "oracle"), sent });
        Self { slots: setting.slots as f64, fleet: Arc::clone(fleet), state }
    }

    /// Writes the choice into a request.
    pub(super) fn steer(&self, headers: &mut HeaderMap) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoints = self.fleet.endpoints();
        let delays: Vec<f64> =
            endpoints.iter().zip(&state.sent).map(|(to, sent)| self.delay(to, *sent)).collect();
        let least = delays.iter().copied().fold(f64::INFINITY, f64::min);
        let best: Vec<usize> = (0..delays.len())
            .filter(|at| delays.get(*at).is_some_and(|own| *own <= least))
            .collect();
        let drawn = (state.draws.unit() * best.len() as f64) as usize;
        let Some(at) = best.get(drawn).copied() else { return };
        if let Some(sent) = state.sent.get_mut(at) {
            *sent += 1;
        }
        let address = endpoints.get(at).map(|endpoint| endpoint.address().to_string());
        if let Some(Ok(value)) = address.map(|text| HeaderValue::from_str(&text)) {
            headers.insert(HEADER, value);
        }
    }

    /// Expected time of one more request, in mean works at speed 1.
    fn delay(&self, endpoint: &Endpoint, sent: u64) -> f64 {
        let counters = endpoint.counters();
        let ended = counters.served + counters.failed + counters.abandoned;
        // Nobody else sends: the difference is what is there or on its way.
        let there = sent.saturating_sub(ended) as f64 + 1.0;
        let ahead = (there - self.slots).max(0.0) / self.slots;
        (ahead + 1.0) / endpoint.speed()
    }
}
