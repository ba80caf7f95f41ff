//! A change of state and why it came, in words for the log.

use core::fmt;
use core::time::Duration;
use shared_state::BreakerState;

/// One change of state. Among all workers exactly one is told of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The epoch that begins with it.
    pub epoch: u32,
    /// State before.
    pub from: BreakerState,
    /// State from now on.
    pub to: BreakerState,
    /// Why.
    pub reason: Reason,
    /// How long the breaker stays open or ramps, if it does.
    pub time: Option<Duration>,
}

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// Too large a share of requests failed.
    FailureRate {
        /// The share, in percent.
        percent: f64,
        /// Requests in the window.
        calls: u64,
    },
    /// Too large a share of requests was slow.
    SlowCallRate {
        /// The share, in percent.
        percent: f64,
        /// Requests in the window.
        calls: u64,
    },
    /// So many requests failed in a row.
    ConsecutiveFailures(u32),
    /// So many answers in a row were those of a gateway whose own server fails.
    ConsecutiveGatewayFailures(u32),
    /// The proxy did not get through so many times in a row.
    ConsecutiveLocalOriginFailures(u32),
    /// The endpoint succeeds much less than those beside it.
    Outlier {
        /// Its success rate, in percent.
        percent: f64,
        /// The least that was acceptable, in percent.
        threshold: f64,
    },
    /// The open time is over and a request came.
    OpenTimeOver,
    /// It is not over, but the others have more to do than they can.
    Needed,
    /// Too many probes failed.
    ProbesFailed {
        /// Probes that failed or were lost.
        failed: u16,
        /// Permits.
        of: u16,
    },
    /// Too many probes were slow.
    ProbesSlow {
        /// Probes that were slow.
        slow: u16,
        /// Permits.
        of: u16,
    },
    /// All requests pass again.
    RampOver,
    /// Enough probes succeeded.
    ProbesSucceeded {
        /// Probes that succeeded.
        succeeded: u16,
        /// Permits.
        of: u16,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} ({})", self.from.name(), self.to.name(), self.reason)?;
        match self.time {
            Some(time) => {
                let tenths = time.as_secs().saturating_mul(10)
                    + u64::from((time.subsec_millis() + 50) / 100);
                let next = if self.to == BreakerState::Open { "half-open" } else { "closed" };
                write!(f, ", {next} in {}.{}s", tenths / 10, tenths % 10)
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailureRate { percent, calls } => {
                // Whole numbers: formatting of floats alone would be 8 KiB of the module.
                write!(f, "failure rate {}% of {calls} calls", percent.round() as u64)
            }
            Self::SlowCallRate { percent, calls } => {
                write!(f, "slow call rate {}% of {calls} calls", percent.round() as u64)
            }
            Self::ConsecutiveFailures(count) => write!(f, "consecutive failures {count}"),
            Self::ConsecutiveGatewayFailures(count) => {
                write!(f, "consecutive gateway failures {count}")
            }
            Self::ConsecutiveLocalOriginFailures(count) => {
                write!(f, "consecutive local origin failures {count}")
            }
            Self::Outlier { percent, threshold } => {
                let (percent, threshold) = (percent.round() as u64, threshold.round() as u64);
                write!(f, "success rate {percent}% among peers, below {threshold}%")
            }
            Self::Needed => f.write_str("needed, before its time"),
            Self::OpenTimeOver => f.write_str("open time over"),
            Self::ProbesFailed { failed, of } => write!(f, "{failed} of {of} probes failed"),
            Self::ProbesSlow { slow, of } => write!(f, "{slow} of {of} probes slow"),
            Self::RampOver => f.write_str("ramp over"),
            Self::ProbesSucceeded { succeeded, of } => {
                write!(f, "{succeeded} of {of} probes succeeded")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trip_reads_as_a_sentence() {
        let change = Change {
            epoch: 1,
            from: BreakerState::Closed,
            to: BreakerState::Open,
            reason: Reason::ConsecutiveFailures(5),
            time: Some(Duration::from_millis(4210)),
        };
        assert_eq!(
            change.to_string(),
            "Closed -> Open (consecutive failures 5), half-open in 4.2s"
        );
    }

    #[test]
    fn every_reason_says_its_numbers() {
        let said = |reason: Reason| reason.to_string();
        assert_eq!(
            said(Reason::FailureRate { percent: 52.38, calls: 21 }),
            "failure rate 52% of 21 calls"
        );
        assert_eq!(said(Reason::ProbesFailed { failed: 2, of: 3 }), "2 of 3 probes failed");
        assert_eq!(
            said(Reason::ProbesSucceeded { succeeded: 2, of: 3 }),
            "2 of 3 probes succeeded"
        );
        assert_eq!(said(Reason::ProbesSlow { slow: 2, of: 3 }), "2 of 3 probes slow");
        assert_eq!(
            said(Reason::SlowCallRate { percent: 80.0, calls: 25 }),
            "slow call rate 80% of 25 calls"
        );
        assert_eq!(
            said(Reason::Outlier { percent: 71.4, threshold: 90.0 }),
            "success rate 71% among peers, below 90%"
        );
        assert_eq!(said(Reason::ConsecutiveGatewayFailures(5)), "consecutive gateway failures 5");
        assert_eq!(
            said(Reason::ConsecutiveLocalOriginFailures(5)),
            "consecutive local origin failures 5"
        );
        assert_eq!(said(Reason::OpenTimeOver), "open time over");
        assert_eq!(said(Reason::Needed), "needed, before its time");
        assert_eq!(said(Reason::RampOver), "ramp over");
    }
}
