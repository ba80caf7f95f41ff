//! For the tests of policies: endpoints without a simulation around them.

use super::{Policy, PolicyKind, Scene, Seen};
use crate::simulate::draws::Draws;
use crate::simulate::load_report::LoadReport;
use crate::simulate::server::Server;
use std::time::Duration;

pub(crate) struct Stage {
    pub(crate) now: Duration,
    pub(crate) eligible: Vec<usize>,
    pub(crate) active: Vec<u32>,
    pub(crate) weights: Vec<u32>,
    pub(crate) servers: Vec<Server>,
    pub(crate) draws: Draws,
    policy: Box<dyn Policy>,
}

impl Stage {
    pub(crate) fn new(kind: &dyn PolicyKind, endpoints: usize) -> Self {
        let group = serde_json::json!({"name": "e", "service_time": {"mean": "10ms"}});
        let group = serde_json::from_value(group).unwrap();
        Self {
            now: Duration::ZERO,
            eligible: (0..endpoints).collect(),
            active: vec![0; endpoints],
            weights: vec![1; endpoints],
            servers: vec![Server::new(&group, 0); endpoints],
            draws: Draws::new(1, "test", 0),
            policy: kind.policy(endpoints),
        }
    }

    pub(crate) fn pick(&mut self) -> usize {
        let scene = Scene {
            now: self.now,
            eligible: &self.eligible,
            active: &self.active,
            weights: &self.weights,
            servers: &self.servers,
        };
        self.policy.pick(&scene, &mut self.draws).unwrap()
    }

    /// How often each endpoint is picked.
    pub(crate) fn counts(&mut self, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; self.active.len()];
        (0..picks).for_each(|_| counts[self.pick()] += 1);
        counts
    }

    pub(crate) fn ended(&mut self, endpoint: usize, took: Duration, report: Option<LoadReport>) {
        self.policy.ended(&Seen { now: self.now, endpoint, took, report });
    }
}
