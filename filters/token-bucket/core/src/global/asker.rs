//! The conversation with the service, without the network.
//!
//! [`Asker::prepare`] says what would be asked of a request, [`Asker::begin`] either answers from
//! what this worker knows or gives a [`Question`] to send, and [`Asker::end`] takes what came of it.
//! Between the two the request waits; the local bucket has admitted it before.
//!
//! A service that does not answer makes every request wait for `timeout`. After
//! [`FAILURES_IN_A_ROW`] of them it is left alone for [`PAUSE`], and requests take `failure_mode` at
//! once; then one of them tries.

use super::answer::{Answer, FleetLimit};
use super::config::Global;
use super::quota::{Plan, Quotas};
use super::wire::Message;
use crate::Attributes;
use core::time::Duration;
use request_key::siphash_2_4;
use shared_state::UnixNanos;

/// After so many failures the service is taken to be down.
const FAILURES_IN_A_ROW: u32 = 5;

/// How long it is then left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// What would be asked about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    policy: usize,
    /// Whether a refusal is only to be counted.
    pub(crate) shadow: bool,
    fingerprint: u64,
    /// The message without its hits.
    message: Message,
}

/// What is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Index of the policy.
    pub policy: usize,
    /// Whether a refusal is only counted.
    pub shadow: bool,
    fingerprint: u64,
    message: Message,
    /// Length of the message without its hits.
    head: usize,
    cost: u32,
    ahead: u32,
    asked_at: UnixNanos,
}

impl Question {
    /// The `RateLimitRequest`.
    pub fn message(&self) -> &[u8] {
        &self.message.0
    }

    fn write_hits(&mut self) {
        self.message.0.truncate(self.head);
        self.message.number(3, self.cost.saturating_add(self.ahead).into());
    }
}

/// How a request goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It was granted ahead; what is known of the limit.
    Granted(Option<FleetLimit>),
    /// The service has to be asked.
    Ask(Question),
    /// The service is taken to be down.
    Down,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The request passes.
    Granted,
    /// It is refused, for so long if that is known.
    Refused(Option<Duration>),
    /// The hits ahead were too many. The question is without them now, and to be asked again.
    Again,
    /// No answer that decides.
    Failed,
}

/// One worker's state.
#[derive(Debug, Default)]
pub struct Asker {
    seed: [u64; 2],
    quotas: Quotas,
    services: Vec<Service>,
}

/// How the service of a policy has been doing.
#[derive(Clone, Copy, Debug, Default)]
struct Service {
    failures: u32,
    paused_until: UnixNanos,
}

impl Asker {
    /// With a seed that no client can guess.
    pub fn new(seed: [u64; 2]) -> Self {
        Self { seed, ..Self::default() }
    }

    /// What policy number `policy` asks about this request; `None` if no descriptor applies.
    pub fn prepare(
        &self,
        policy: usize,
        global: &Global,
        request: &impl Attributes,
    ) -> Option<Prepared> {
        let mut message = Message::default();
        message.bytes(1, global.domain.as_bytes());
        let mut applies = false;
        for entries in global.descriptors.iter().filter_map(|found| found.entries(request)) {
            let mut descriptor = Message::default();
            for (key, value) in entries {
                let mut entry = Message::default();
                entry.bytes(1, key.as_bytes());
                entry.bytes(2, value.as_bytes());
                descriptor.bytes(1, &entry.0);
            }
            message.bytes(2, &descriptor.0);
            applies = true;
        }
        // Two policies may ask two services the same.
        let [one, two] = self.seed;
        let fingerprint = siphash_2_4([one, two ^ policy as u64], &message.0);
        applies.then_some(Prepared { policy, shadow: false, fingerprint, message })
    }

    /// How long the request is known to be refused. Costs nothing.
    pub fn refusal(&self, prepared: &Prepared, cost: u32, now: UnixNanos) -> Option<Duration> {
        self.quotas.refusal(prepared.fingerprint, cost, now)
    }

    /// Answers from what is known, or says what to ask.
    pub fn begin(
        &mut self,
        prepared: Prepared,
        global: &Global,
        cost: u32,
        now: UnixNanos,
    ) -> Begun {
        let Prepared { policy, shadow, fingerprint, message } = prepared;
        // The service takes nothing for one.
        let cost = cost.max(1);
        let patience = global.timeout.saturating_mul(2);
        let hits = match self.quotas.plan(fingerprint, &global.batch, cost, now, patience) {
            Plan::Spend(limit) => return Begun::Granted(limit),
            Plan::Ask(hits) => hits,
        };
        let ahead = hits.saturating_sub(cost);
        if self.is_down(policy, now) {
            self.quotas.ended(fingerprint, ahead);
            return Begun::Down;
        }
        let head = message.0.len();
        let asked_at = now;
        let mut question =
            Question { policy, shadow, fingerprint, message, head, cost, ahead, asked_at };
        question.write_hits();
        Begun::Ask(question)
    }

    /// Takes the service's answer; `None` if none came that decides.
    pub fn end(
        &mut self,
        question: &mut Question,
        global: &Global,
        answer: Option<&Answer>,
        now: UnixNanos,
    ) -> Ended {
        let Question { policy, fingerprint, cost, ahead, asked_at, .. } = *question;
        let Some(answer) = answer else {
            self.quotas.ended(fingerprint, ahead);
            self.failed(policy, now);
            return Ended::Failed;
        };
        if let Some(service) = self.services.get_mut(policy) {
            service.failures = 0;
        }
        if answer.allowed {
            self.quotas.granted(fingerprint, &global.batch, ahead, asked_at, now, answer);
            return Ended::Granted;
        }
        if self.quotas.refused(fingerprint, cost, ahead, now, answer.limit) {
            question.ahead = 0;
            question.asked_at = now;
            question.write_hits();
            return Ended::Again;
        }
        Ended::Refused(answer.limit.and_then(|limit| limit.reset))
    }

    /// The request is gone, and its question with it.
    pub fn abandon(&mut self, question: &Question) {
        self.quotas.ended(question.fingerprint, question.ahead);
    }

    fn is_down(&mut self, policy: usize, now: UnixNanos) -> bool {
        let Some(service) = self.services.get_mut(policy) else { return false };
        if service.failures < FAILURES_IN_A_ROW {
            return false;
        }
        let pauses =
            service.paused_until > now && !service.paused_until.is_stale_deadline(now, PAUSE);
        // Whoever comes when the pause is over tries; the others wait for what comes of it.
        service.paused_until = if pauses { service.paused_until } else { now.plus(PAUSE) };
        pauses
    }

    fn failed(&mut self, policy: usize, now: UnixNanos) {
        if self.services.len() <= policy {
            self.services.resize(policy.saturating_add(1), Service::default());
        }
        if let Some(service) = self.services.get_mut(policy) {
            service.failures = service.failures.saturating_add(1);
            service.paused_until = now.plus(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests;
