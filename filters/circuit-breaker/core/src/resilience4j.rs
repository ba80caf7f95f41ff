//! What resilience4j documents of its circuit breaker, row by row: each agrees here, or the
//! difference is argued. The rows are those of its reference page and of `CircuitBreakerConfig`.

use crate::breaker::{Admission, Outcome, Permit, Rules, Verdict, admit, record};
use crate::{Backoff, Jitter, SlowCalls, Window};
use BreakerState::{Closed, HalfOpen, Open};
use Verdict::{Failure, Ignored, Success};
use core::time::Duration;
use shared_state::{BreakerRecord, BreakerState, Transition, UnixNanos};

/// Whether we do the same.
enum Stance {
    Agrees,
    /// Why not.
    Differs(&'static str),
}
use Stance::{Agrees, Differs};

struct Row {
    documented: &'static str,
    stance: Stance,
    /// What we do.
    holds: fn() -> bool,
}

/// resilience4j's own defaults, as far as they are said in these terms.
fn theirs() -> Rules {
    Rules {
        window: Window::Count(100),
        minimum_number_of_calls: 100,
        failure_rate_threshold: 50.0,
        slow_calls: Some(SlowCalls { duration: Duration::from_secs(60), rate_threshold: 100.0 }),
        consecutive_failures: 0,
        backoff: Backoff {
            base: Duration::from_secs(60),
            max: Duration::from_secs(60),
            multiplier: 1.0,
            jitter: Jitter::None,
        },
        permitted_calls: 10,
        max_concurrent: 10,
        ..Rules::DEFAULT
    }
}

struct Breaker {
    rules: Rules,
    record: Option<BreakerRecord>,
    now: u64,
}

impl Breaker {
    fn new(rules: Rules) -> Self {
        Self { rules, record: None, now: 1000 }
    }

    fn now(&self) -> UnixNanos {
        UnixNanos::from_secs(self.now)
    }

    fn keep<T>(&mut self, step: Transition<BreakerRecord, T>) -> T {
        match step {
            Transition::Keep(value) => value,
            Transition::Store(record, value) => {
                self.record = Some(record);
                value
            }
        }
    }

    fn ask(&mut self) -> Admission {
        let step = admit(&self.rules, self.record.clone(), self.now(), 0);
        self.keep(step).value
    }

    fn probe(&mut self) -> Option<Permit> {
        match self.ask() {
            Admission::Probe(permit) => Some(permit),
            _ => None,
        }
    }

    fn tell(&mut self, outcomes: &[Outcome]) {
        let step = record(&self.rules, self.record.clone(), outcomes, self.now(), 0);
        self.keep(step);
    }

    fn calls(&mut self, verdict: Verdict, count: usize) -> &mut Self {
        let outcome = Outcome::new(self.now(), None, verdict);
        self.tell(&vec![outcome; count]);
        self
    }

    fn slow(&mut self, count: usize) -> &mut Self {
        let outcome = Outcome { slow: true, ..Outcome::new(self.now(), None, Success) };
        self.tell(&vec![outcome; count]);
        self
    }

    fn state(&self) -> BreakerState {
        self.record.as_ref().map_or(Closed, |record| record.state)
    }

    /// Open, and its time is over.
    fn due(rules: Rules) -> Self {
        let mut breaker = Self::new(rules);
        breaker.calls(Failure, 100);
        breaker.now += 60;
        breaker
    }

    /// Asks for all probes at once and resolves them with these verdicts.
    fn probes(&mut self, failed: usize) -> BreakerState {
        let permits: Vec<_> = (0..10).filter_map(|_| self.probe()).collect();
        for (at, permit) in permits.into_iter().enumerate() {
            let verdict = if at < failed { Failure } else { Success };
            let outcome = Outcome::new(self.now(), Some(permit), verdict);
            self.tell(&[outcome]);
        }
        self.state()
    }
}

fn state_after(calls: impl FnOnce(&mut Breaker)) -> BreakerState {
    let mut breaker = Breaker::new(theirs());
    calls(&mut breaker);
    breaker.state()
}

const ROWS: &[Row] = &[
    Row {
        documented: "the failure rate trips when it is equal to or greater than the threshold",
        stance: Agrees,
        holds: || {
            state_after(|b| _ = b.calls(Success, 50).calls(Failure, 50)) == Open
                && state_after(|b| _ = b.calls(Success, 51).calls(Failure, 49)) == Closed
        },
    },
    Row {
        documented: "rates are calculated only when minimumNumberOfCalls were recorded: with 10, \
                     nine failures of nine do not open",
        stance: Agrees,
        holds: || {
            let mut b = Breaker::new(Rules { minimum_number_of_calls: 10, ..theirs() });
            b.calls(Failure, 9).state() == Closed && b.calls(Failure, 1).state() == Open
        },
    },
    Row {
        documented: "COUNT_BASED: the last slidingWindowSize calls are aggregated, the oldest is evicted",
        stance: Agrees,
        holds: || {
            let calls =
                |b: &mut Breaker| _ = b.calls(Failure, 49).calls(Success, 100).calls(Failure, 49);
            state_after(calls) == Closed
        },
    },
    Row {
        documented: "TIME_BASED: the calls of the last slidingWindowSize seconds are aggregated, in \
                     buckets of an epoch second",
        stance: Differs(
            "ten buckets, each a tenth of the window: the same memory for a window of an hour, and \
             sums as exact; the window moves on by a tenth and not by a second",
        ),
        holds: || {
            let window = Window::Time(Duration::from_secs(10));
            let mut b = Breaker::new(Rules { window, ..theirs() });
            b.calls(Failure, 99);
            b.now += 10;
            b.calls(Failure, 99).state() == Closed && b.calls(Failure, 1).state() == Open
        },
    },
    Row {
        documented: "in COUNT_BASED, minimumNumberOfCalls is lowered in silence to the window's size",
        stance: Differs("the configuration is refused and says so; see the tests of `config`"),
        holds: || {
            let json = br#"{"scopes":[{"by":["route"],"window":{"type":"count","size":10,"minimum_number_of_calls":11}}]}"#;
            crate::Config::from_json(json).is_err()
        },
    },
    Row {
        documented: "the slow call rate trips on its own when it reaches its threshold",
        stance: Agrees,
        holds: || {
            state_after(|b| _ = b.slow(100)) == Open
                && state_after(|b| _ = b.slow(99).calls(Success, 1)) == Closed
        },
    },
    Row {
        documented: "OPEN rejects; after waitDurationInOpenState it becomes HALF_OPEN with the next call",
        stance: Agrees,
        holds: || {
            let mut b = Breaker::due(theirs());
            b.now -= 1;
            let rejects = matches!(b.ask(), Admission::Reject { .. }) && b.state() == Open;
            b.now += 1;
            rejects && b.state() == Open && b.probe().is_some() && b.state() == HalfOpen
        },
    },
    Row {
        documented: "HALF_OPEN permits permittedNumberOfCallsInHalfOpenState calls and rejects the rest",
        stance: Agrees,
        holds: || {
            let mut b = Breaker::due(theirs());
            (0..10).all(|_| b.probe().is_some()) && b.probe().is_none()
        },
    },
    Row {
        documented: "when all permitted calls are complete, a rate at or above the threshold reopens, \
                     one below closes",
        stance: Agrees,
        holds: || {
            Breaker::due(theirs()).probes(5) == Open && Breaker::due(theirs()).probes(4) == Closed
        },
    },
    Row {
        documented: "HALF_OPEN waits for all permitted calls, though the rest cannot matter",
        stance: Differs(
            "it is left as soon as the outcome is certain: the fifth failure of ten reopens, and \
             traffic need not wait for probes that prove nothing",
        ),
        holds: || {
            let mut b = Breaker::due(theirs());
            let permits: Vec<_> = (0..10).filter_map(|_| b.probe()).collect();
            for permit in &permits[..5] {
                b.tell(&[Outcome::new(b.now(), Some(*permit), Failure)]);
            }
            b.state() == Open
        },
    },
    Row {
        documented: "maxWaitDurationInHalfOpenState 0: HALF_OPEN waits without end for its calls",
        stance: Differs("every permit is a lease, so it cannot stick (their #903, #935, #2289)"),
        holds: || {
            let mut b = Breaker::due(theirs());
            for _ in 0..10 {
                b.probe();
            }
            b.now += 10;
            b.ask();
            b.state() == Open
        },
    },
    Row {
        documented: "an ignored exception is neither a success nor a failure",
        stance: Agrees,
        holds: || state_after(|b| _ = b.calls(Failure, 99).calls(Ignored, 50)) == Closed,
    },
    Row {
        documented: "an ignored exception releases its permission in HALF_OPEN",
        stance: Agrees,
        holds: || {
            let mut b = Breaker::due(theirs());
            let permits: Vec<_> = (0..10).filter_map(|_| b.probe()).collect();
            b.tell(&[Outcome::new(b.now(), Some(permits[0]), Ignored)]);
            b.probe().is_some() && b.probe().is_none()
        },
    },
    Row {
        documented: "a result that comes in OPEN of a call from before is recorded in its metrics",
        stance: Differs(
            "it is dropped: it was sent in another state, and decides nothing in this one",
        ),
        holds: || {
            let mut b = Breaker::new(theirs());
            b.calls(Failure, 100);
            let before = b.record.clone();
            b.calls(Success, 100);
            b.record == before
        },
    },
    Row {
        documented: "leaving a state clears the window",
        stance: Agrees,
        holds: || {
            let mut b = Breaker::due(theirs());
            b.probes(0);
            b.calls(Failure, 99).state() == Closed
        },
    },
    Row {
        documented: "the wait interval may grow exponentially, from attempt to attempt",
        stance: Agrees,
        holds: || {
            let max = Duration::from_secs(600);
            let backoff = Backoff { max, multiplier: 1.5, ..theirs().backoff };
            let mut b = Breaker::due(Rules { backoff, ..theirs() });
            b.probes(10);
            let record = b.record.unwrap_or_default();
            record.open_until.since(record.changed_at) == Duration::from_secs(90)
        },
    },
    Row {
        documented: "the number of attempts starts again from one with every success of HALF_OPEN",
        stance: Differs(
            "it decays by one an interval, on evidence: an endpoint that fails every minute would \
             otherwise never wait longer than the first time",
        ),
        holds: || {
            let mut b = Breaker::due(theirs());
            b.probes(0);
            b.record.is_some_and(|record| record.state == Closed && record.trips == 1)
        },
    },
];

#[test]
fn every_documented_row_agrees_or_differs_for_a_reason() {
    let mut wrong = Vec::new();
    for row in ROWS {
        if let Differs(reason) = row.stance {
            assert!(reason.len() > 40, "no reason: {}", row.documented);
        }
        if !(row.holds)() {
            wrong.push(row.documented);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(ROWS.len() >= 17);
}
