//! The service's part in a round, and what follows from its answers.
//!
//! The service is asked last, once all limits of this proxy have admitted: what they refuse never
//! waits. Refusals that this worker remembers come before anything is spent. Questions are put one
//! after the other, and the first refusal ends it: what the request holds is given back. What another
//! service has counted by then stays counted, as the protocol has no way to take it back.

use super::Limiter;
use super::round::Round;
use crate::admission::{Settlement, Target};
use crate::global::{Answer, Begun, Ended, FleetLimit, Global, Prepared};
use crate::{FailureMode, Fault, FleetOutcome, Mode, Outcome, Reason, Refusal, Verdict};
use request_key::Attributes;
use shared_state::{SharedStore, UnixNanos};

/// What the services said of a request that is for others to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetAnswers {
    /// The limits in force, by policy.
    pub limits: Vec<(usize, FleetLimit)>,
    /// Headers for the client's response.
    pub response_headers: Vec<(String, String)>,
    /// Headers for the request as it is forwarded.
    pub request_headers: Vec<(String, String)>,
    /// Body of the refusal.
    pub body: Option<Vec<u8>>,
}

impl<'c, S: SharedStore> Round<'c, S> {
    /// What is to be asked about these targets, once they have been spent from. Refuses what is
    /// known to be refused.
    pub(super) fn prepare(
        &mut self,
        targets: &[Target],
        shadow: bool,
        request: &impl Attributes,
    ) -> Result<Vec<(Target, Prepared)>, Refusal> {
        let mut all = Vec::new();
        for target in targets.iter().filter(|target| target.cost > 0) {
            let Some(global) = self.global(target.policy) else { continue };
            let Some(mut prepared) = self.asker.prepare(target.policy, global, request) else {
                continue;
            };
            if let Some(wait) = self.asker.refusal(&prepared, target.cost, self.now) {
                self.tally.fleet.push((target.policy, FleetOutcome::Remembered));
                let (policy, reason) = (target.policy, Reason::OverLimit);
                return Err(Refusal { policy, reason, wait: Some(wait) });
            }
            prepared.shadow = shadow;
            all.push((*target, prepared));
        }
        Ok(all)
    }

    /// Answers what can be answered without asking, and notes the questions for the rest.
    pub(super) fn begin(&mut self, prepared: Vec<(Target, Prepared)>) -> Result<(), Refusal> {
        for (target, prepared) in prepared {
            let at = target.policy;
            let Some(global) = self.global(at) else { continue };
            let shadow = prepared.shadow;
            match self.asker.begin(prepared, global, target.cost, self.now) {
                Begun::Ask(question) => self.questions.push(question),
                Begun::Granted(limit) => {
                    self.tally.fleet.push((at, FleetOutcome::GrantedAhead));
                    let told = limit.filter(|_| !shadow);
                    self.fleet.limits.extend(told.map(|limit| (at, limit)));
                }
                Begun::Down => {
                    let outcome = failed(global);
                    self.tally.fleet.push((at, outcome));
                    if let Some(refusal) = refusal_of_failure(at, outcome) {
                        return Err(refusal);
                    }
                }
            }
        }
        Ok(())
    }

    fn global(&self, policy: usize) -> Option<&'c Global> {
        self.config.policies.get(policy)?.global.as_ref()
    }
}

impl Limiter {
    /// Takes the answer to the first of the verdict's questions: a message, or `None` if none came.
    /// If questions are left then, the first of them is to be asked; if none is, the verdict is what
    /// it says.
    pub fn answered(
        &mut self,
        store: &impl SharedStore,
        verdict: &mut Verdict,
        message: Option<&[u8]>,
        now: UnixNanos,
    ) {
        let Some(question) = verdict.questions.first_mut() else { return };
        let (at, shadow) = (question.policy, question.shadow || self.config.mode == Mode::Shadow);
        let Some(policy) = self.config.policies.get(at) else { return };
        let Some(global) = &policy.global else { return };
        let answer = message.and_then(|message| Answer::decode(message).ok());
        let ended = self.asker.end(question, global, answer.as_ref(), now);
        let (outcome, refusal) = match ended {
            Ended::Again => (FleetOutcome::AskedAgain, None),
            Ended::Granted => (FleetOutcome::Granted, None),
            Ended::Refused(wait) => {
                let refusal = Refusal { policy: at, reason: Reason::OverLimit, wait };
                (FleetOutcome::Refused, Some(refusal))
            }
            Ended::Failed => {
                let detail = format!("the rate limit service gave no answer to '{}'", policy.name);
                verdict.tally.faults.push(Fault { reason: "service_failed", detail });
                let outcome = failed(global);
                (outcome, refusal_of_failure(at, outcome))
            }
        };
        verdict.tally.fleet.push((at, outcome));
        if ended == Ended::Again {
            return;
        }
        verdict.questions.remove(0);
        match refusal {
            Some(refusal) if shadow => {
                verdict.shadow_refusal.get_or_insert(refusal);
                let outcome = verdict.tally.outcomes.iter_mut().find(|(policy, _)| *policy == at);
                if let Some((_, outcome)) = outcome {
                    *outcome = Outcome::ShadowLimited;
                }
            }
            Some(refusal) => self.refuse(store, verdict, refusal, now),
            None => {}
        }
        if let Some(answer) = answer.filter(|_| !shadow) {
            take(answer, at, verdict);
        }
    }

    /// The request is gone while a question was out.
    pub fn abandoned(&mut self, verdict: &Verdict) {
        for question in &verdict.questions {
            self.asker.abandon(question);
        }
    }

    /// Turns an admission into a refusal, and gives back what it held.
    fn refuse(
        &mut self,
        store: &impl SharedStore,
        verdict: &mut Verdict,
        refusal: Refusal,
        now: UnixNanos,
    ) {
        self.abandoned(verdict);
        verdict.questions.clear();
        verdict.fleet = FleetAnswers::default();
        verdict.hold = None;
        verdict.levels.clear();
        verdict.shadow_refusal = None;
        verdict.tally.outcomes.retain(|(_, outcome)| *outcome == Outcome::Skipped);
        let admission = core::mem::take(&mut verdict.admission);
        self.round(store, now, &mut verdict.tally).settle(&admission.held, Settlement::Undone);
        super::refused(refusal, self.config.mode, verdict);
    }
}

/// Keeps what an answer wants to be known.
fn take(mut answer: Answer, at: usize, verdict: &mut Verdict) {
    if answer.response_headers.left_out > 0 || answer.request_headers.left_out > 0 {
        let detail = "the rate limit service wants headers that may not be added".to_owned();
        verdict.tally.faults.push(Fault { reason: "header_left_out", detail });
    }
    let fleet = &mut verdict.fleet;
    fleet.limits.extend(answer.limit.map(|limit| (at, limit)));
    fleet.response_headers.append(&mut answer.response_headers.list);
    fleet.request_headers.append(&mut answer.request_headers.list);
    fleet.body = answer.body;
}

/// Tells the client of a refusal that is remembered what the service said of it then.
pub(super) fn remembered(verdict: &mut Verdict) {
    let Some(refusal) = verdict.refusal.filter(|refusal| refusal.reason == Reason::OverLimit)
    else {
        return;
    };
    let (remaining, reset) = (Some(0), refusal.wait);
    let limit = FleetLimit { remaining, reset, ..FleetLimit::default() };
    verdict.fleet.limits.push((refusal.policy, limit));
}

fn failed(global: &Global) -> FleetOutcome {
    match global.failure_mode {
        FailureMode::Allow => FleetOutcome::FailureAllowed,
        FailureMode::Deny => FleetOutcome::FailureDenied,
    }
}

fn refusal_of_failure(policy: usize, outcome: FleetOutcome) -> Option<Refusal> {
    let denied = outcome == FleetOutcome::FailureDenied;
    denied.then_some(Refusal { policy, reason: Reason::ServiceFailed, wait: None })
}

#[cfg(test)]
mod tests;
