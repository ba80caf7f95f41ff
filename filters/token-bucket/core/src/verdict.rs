//! What was decided about one request, and what there is to count.

use crate::global::Question;
use crate::{Admission, Config, FleetAnswers, Level, fields::Quota};
use core::fmt;
use core::time::Duration;

/// The decision, as a value. What is empty takes no memory.
///
/// A request without a `refusal` is admitted: once each of `questions` has been answered in its
/// favour and `hold` has passed, it goes on.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    /// Set if the request is to be answered and not forwarded.
    pub refusal: Option<Refusal>,
    /// The first refusal that is not acted on, because the policy or the plugin is in shadow mode.
    pub shadow_refusal: Option<Refusal>,
    /// How long the request waits for tokens that it has reserved.
    pub hold: Option<Duration>,
    /// What rate limit services are to be asked before the request goes on, one after the other:
    /// [`crate::Limiter::answered`].
    pub questions: Vec<Question>,
    /// What the request holds, for [`crate::Limiter::end`].
    pub admission: Admission,
    /// What the services said.
    pub fleet: FleetAnswers,
    /// Levels of the limits that count in earnest, for the response headers.
    pub levels: Vec<(usize, Level)>,
    /// What there is to count.
    pub tally: Tally,
}

/// What there is to count.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// What came of each policy that had a say.
    pub outcomes: Vec<(usize, Outcome)>,
    /// Why policies refused, those in shadow mode among them.
    pub refusals: Vec<(usize, Reason)>,
    /// Writes lost to other workers and repeated, for each policy that lost any.
    pub conflicts: Vec<(usize, u32)>,
    /// Policies whose table had no free slot for this key.
    pub overflows: Vec<usize>,
    /// What rate limit services had to do with it.
    pub fleet: Vec<(usize, FleetOutcome)>,
    /// What did not work.
    pub faults: Vec<Fault>,
}

impl Verdict {
    /// The response headers' view of it.
    pub fn quotas<'a>(&self, config: &'a Config) -> Vec<Quota<'a>> {
        let quota = |(at, level): &(usize, Level)| {
            config.policies.get(*at).map(|policy| Quota { policy, level: *level })
        };
        self.levels.iter().filter_map(quota).collect()
    }

    /// A line for the access log; `None` for a request that passed without remark.
    pub fn summary(&self, config: &Config) -> Option<String> {
        let (word, refusal) = match (&self.refusal, &self.shadow_refusal) {
            (Some(refusal), _) => ("limited", refusal),
            (None, Some(refusal)) => ("shadow_limited", refusal),
            (None, None) => {
                if let Some(hold) = self.hold {
                    return Some(format!("held{}", told(hold)));
                }
                let fault = self.tally.faults.first()?;
                return Some(format!("degraded reason={}", fault.reason));
            }
        };
        let policy = config.policies.get(refusal.policy).map_or("", |policy| policy.name.as_str());
        let mut line = format!("{word} policy={policy} reason={}", refusal.reason);
        if let Some(wait) = refusal.wait {
            line.push_str(&told(wait));
        }
        Some(line)
    }
}

fn told(wait: Duration) -> String {
    format!(" wait={}.{:03}s", wait.as_secs(), wait.subsec_millis())
}

/// Label `outcome` of `weir_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The policy admitted the request.
    Allowed,
    /// It refused, and the request was answered.
    Limited,
    /// It refused, and the request passed.
    ShadowLimited,
    /// It did not apply, for lack of a key.
    Skipped,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Allowed, Self::Limited, Self::ShadowLimited, Self::Skipped];

    /// As it is written in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Limited => "limited",
            Self::ShadowLimited => "shadow_limited",
            Self::Skipped => "skipped",
        }
    }
}

/// Label `outcome` of `weir_global_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FleetOutcome {
    /// The service granted it.
    Granted,
    /// It was granted before it came.
    GrantedAhead,
    /// The service refused it.
    Refused,
    /// The service had refused, and that still held.
    Remembered,
    /// The service refused hits ahead, and was asked again without.
    AskedAgain,
    /// No answer came, and the request passed.
    FailureAllowed,
    /// No answer came, and the request was refused.
    FailureDenied,
}

impl FleetOutcome {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Granted,
        Self::GrantedAhead,
        Self::Refused,
        Self::Remembered,
        Self::AskedAgain,
        Self::FailureAllowed,
        Self::FailureDenied,
    ];

    /// As it is written in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::GrantedAhead => "granted_ahead",
            Self::Refused => "refused",
            Self::Remembered => "remembered",
            Self::AskedAgain => "asked_again",
            Self::FailureAllowed => "failure_allowed",
            Self::FailureDenied => "failure_denied",
        }
    }
}

/// Who refused, why, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Index of the policy.
    pub policy: usize,
    /// Why.
    pub reason: Reason,
    /// When to come back; `None` if that would change nothing.
    pub wait: Option<Duration>,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The bucket is empty.
    NoToken,
    /// No slot is free, and `on_full` is `deny`.
    TableFull,
    /// Others who ask have a right to what is left.
    FairShare,
    /// As many requests as allowed are in flight.
    Concurrency,
    /// It costs more than the bucket holds.
    TooCostly,
    /// A part of the key is missing, and `on_missing_key` is `deny`.
    MissingKey,
    /// Every attempt was lost to other workers, and `on_contention` is `deny`.
    Contended,
    /// The host's shared data failed, and `failure_mode` is `deny`.
    StoreFailed,
    /// The rate limit service refused.
    OverLimit,
    /// The rate limit service gave no answer, and its `failure_mode` is `deny`.
    ServiceFailed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::NoToken,
        Self::TableFull,
        Self::FairShare,
        Self::Concurrency,
        Self::TooCostly,
        Self::MissingKey,
        Self::Contended,
        Self::StoreFailed,
        Self::OverLimit,
        Self::ServiceFailed,
    ];

    /// As it is written in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::TableFull => "table_full",
            Self::FairShare => "fair_share",
            Self::Concurrency => "concurrency",
            Self::TooCostly => "too_costly",
            Self::MissingKey => "missing_key",
            Self::Contended => "contended",
            Self::StoreFailed => "store_failed",
            Self::OverLimit => "over_limit",
            Self::ServiceFailed => "service_failed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that did not work, and was got round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Label `reason` of `weir_degraded_total`.
    pub reason: &'static str,
    /// For the log.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_and_reasons_are_listed_in_the_order_of_their_numbers() {
        assert!(Reason::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
        assert!(Outcome::ALL.iter().enumerate().all(|(at, outcome)| *outcome as usize == at));
    }
}
