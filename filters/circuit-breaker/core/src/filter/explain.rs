//! Why a request passed, or did not: in words, for whoever may ask.

use super::{Decision, Exchange, Filter};
use crate::worker::{Subject, WorkerBreakers};
use shared_state::UnixNanos;
use std::rc::Rc;

impl Filter {
    /// What is known of the breakers that a request touches, in words.
    pub fn explain(
        &self,
        decision: &Decision,
        exchange: Option<&Exchange>,
        now: UnixNanos,
    ) -> String {
        let mut told: Vec<String> = Vec::new();
        let mut tell = |kind: &str, breakers: &WorkerBreakers, subject: &Subject| {
            told.push(format!("{kind} {subject}: {}", breakers.describe(subject, now)));
        };
        if let Decision::Reject { guard, subject, .. } = decision
            && let (Some(config), Some(own)) =
                (self.config.guards.get(*guard), self.guards.get(*guard))
        {
            tell(&config.scope.name, &own.breakers, subject);
        }
        for held in exchange.map(|exchange| exchange.held.as_slice()).unwrap_or_default() {
            if let (Some(config), Some(own)) =
                (self.config.guards.get(held.guard), self.guards.get(held.guard))
            {
                tell(&config.scope.name, &own.breakers, &held.subject);
            }
        }
        if let (Decision::Pass { selection, .. }, Some(breakers)) = (decision, &self.endpoints) {
            let kept = exchange.map(|exchange| exchange.destinations.as_slice());
            for endpoint in selection.excluded.iter().chain(kept.unwrap_or_default()) {
                let cluster = exchange.and_then(|exchange| exchange.cluster.as_ref());
                if let Some(name) = cluster.or_else(|| breakers.cluster_of(*endpoint)) {
                    let name = Rc::clone(name);
                    tell(
                        "endpoint",
                        breakers,
                        &Subject { name, endpoint: Some(*endpoint), key: None },
                    );
                }
            }
        }
        told.join("; ")
    }
}
