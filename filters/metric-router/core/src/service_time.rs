//! How long an endpoint works on a request, and how many it works on at once.
//!
//! A request that finds `ahead` others at an endpoint takes `service * max(1, (ahead + 1) / c)` on
//! average, where `c` is how many the endpoint works on at once: up to `c` nobody waits. A mean of
//! latencies knows neither. It takes a fast endpoint that has a queue for a slow one, and a policy
//! that counts every request in flight as a wait sends requests to a slow endpoint that is idle while
//! a fast one has places free.
//!
//! Nobody tells `c`, but it shows: each response fits some concurrency better than the others. The
//! service time is kept under each of [`LEVELS`] ([`ServiceTime`]), and the level under which the
//! responses of the whole cluster were expected best wins ([`Concurrency`]). One for all endpoints:
//! an endpoint that works on fewer at once looks slower, and gets less, which is what it needs.
//!
//! A mean follows slowly, so a change of speed is looked for besides, by the time that requests are
//! worked on and the answers that came of it ([`ServiceTime::progress`]).

use crate::ewma::decay;
use core::time::Duration;
use shared_state::UnixNanos;

/// Concurrencies that are told apart. A greater one than the last makes no difference any more.
const LEVELS: [f64; 12] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0];

/// Responses that the judgement about the concurrency rests on.
const WINDOW: f64 = 16_384.0;

/// As many it takes to judge at all. Until then a time counts as it is, whatever the request found, and
/// each request in flight as a wait: a concurrency that is too small takes endpoints for fast because
/// they have much to do, and gives them more.
const ENOUGH: f64 = 1000.0;

/// By how much a greater concurrency must expect responses better than a smaller one, in nats a
/// response.
const MARGIN: f64 = 0.0005;

/// How long a worker that has begun learns nothing of the concurrency. It does not know what its
/// predecessor has left in flight: its own first requests wait for no reason that it can see. Most of
/// that is done after a second, and each further one is spent with queues taken for speeds.
const SETTLING: Duration = Duration::from_secs(1);

/// Share of the concurrency that is used without a second thought. An endpoint that is full to the
/// last place makes whoever comes next wait, and one that has just become slow shows it at once by
/// what it has in flight, long before its answers do: if that counts.
const COMFORTABLE: f64 = 0.625;

/// Responses after which an endpoint's mean is good enough to judge by.
const FIRST: f64 = 8.0;

/// A response counts as so many times the mean at the most, where one alone should not decide.
const MOST: f64 = 8.0;

/// The change of speed that is looked for, as a ratio, and the evidence at which it is believed.
/// Less evidence would follow chance, more would come when it is over.
const CHANGE: f64 = 1.8;
const EVIDENCE: f64 = 4.5;

/// As surprising each answer is if nothing has changed.
const SURPRISE: f64 = ln(CHANGE);

/// A request counts for so many times the mean at the most where a change is looked for: a slow one is
/// none. By as much the speed can have changed at once.
const MOST_EVIDENCE: f64 = 3.0;

/// As many responses a mean weighs against what others tell once the speed has changed: theirs is
/// that of before for some time.
const SINCE_CHANGE: f64 = 6.0;

/// How many places of an endpoint are taken, counting a request that finds `ahead` others: 1 while
/// it need not wait.
pub(crate) fn crowding(ahead: f64, concurrency: f64) -> f64 {
    let taken = (ahead + 1.0) / concurrency;
    // Not `max`, which is a call of a function that looks for what is no number.
    if taken > 1.0 { taken } else { 1.0 }
}

/// The time one endpoint takes for a request alone, in seconds: a mean that forgets, and that begins
/// anew when the endpoint's speed has changed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServiceTime {
    means: [f64; LEVELS.len()],
    samples: f64,
    has_changed: bool,
    updated_at: UnixNanos,
    slower: Suspicion,
    faster: Suspicion,
}

impl ServiceTime {
    /// Takes up that a request, which had found `ahead` others, took so many seconds. Where nobody
    /// knows how many, it says nothing of the concurrency.
    pub(crate) fn record(
        &mut self,
        took: f64,
        ahead: Option<f64>,
        now: UnixNanos,
        tau: Duration,
        concurrency: &mut Concurrency,
    ) {
        if !took.is_finite() {
            return;
        }
        let took = took.max(1e-6);
        let judges = self.samples >= FIRST && ahead.is_some();
        let ahead = ahead.unwrap_or(0.0);
        self.samples += 1.0;
        let gain = (1.0 - decay(now.since(self.updated_at), tau)).max(1.0 / self.samples);
        let mut losses = [0.0; LEVELS.len()];
        // Levels under which nobody had to wait, now or before, differ in nothing.
        let mut last = (0.0, 0.0);
        let mut came_to = (0.0, 0.0);
        for ((mean, level), loss) in self.means.iter_mut().zip(LEVELS).zip(&mut losses) {
            let crowding = crowding(ahead, level);
            if last != (*mean, crowding) {
                last = (*mean, crowding);
                let alone = took / crowding;
                if judges {
                    // As if times were spread exponentially around what was expected: how surprising.
                    came_to.1 = ln(*mean * crowding) + (alone / *mean).min(MOST);
                }
                came_to.0 = *mean + (alone - *mean) * gain;
            }
            (*mean, *loss) = came_to;
        }
        self.updated_at = now;
        if judges {
            concurrency.learn(&losses, now);
        }
    }

    /// The mean, or `None` before the first response.
    pub(crate) fn value(&self, concurrency: &Concurrency) -> Option<f64> {
        (self.samples > 0.0).then(|| self.mean(concurrency))
    }

    /// How far the mean is more than chance, and than what others tell, 0 to 1.
    pub(crate) fn certainty(&self) -> f64 {
        let doubt = if self.has_changed { SINCE_CHANGE } else { 2.0 * FIRST };
        self.samples / (self.samples + doubt)
    }

    /// The seconds of work that count of a request at the most; `None` while no change is looked for.
    pub(crate) fn patience(&self, concurrency: &Concurrency) -> Option<f64> {
        self.judges(concurrency).then(|| self.mean(concurrency) * MOST_EVIDENCE)
    }

    /// A queue that grows is no change of speed, once one can tell.
    fn judges(&self, concurrency: &Concurrency) -> bool {
        self.samples >= FIRST && concurrency.is_known()
    }

    fn mean(&self, concurrency: &Concurrency) -> f64 {
        let level = concurrency.level.map_or(self.means.last(), |level| self.means.get(level));
        level.copied().unwrap_or(0.0)
    }

    /// The endpoint has worked on requests for so many seconds, and answered so many of them. Answers
    /// whether its speed is believed to have changed.
    ///
    /// Two sums of evidence, for slower and for faster (Page, "Continuous inspection schemes", 1954), of
    /// answers that come at a rate: the mean is then the time over the answers since the change began.
    pub(crate) fn progress(
        &mut self,
        seconds: f64,
        answered: f64,
        concurrency: &Concurrency,
    ) -> bool {
        if !self.judges(concurrency) {
            return false;
        }
        let mean = self.mean(concurrency);
        let (expected, surprise) = (seconds / mean, answered * SURPRISE);
        let slower = self.slower.add(expected * (1.0 - 1.0 / CHANGE) - surprise, seconds, answered);
        let faster = self.faster.add(surprise - expected * (CHANGE - 1.0), seconds, answered);
        let Some((seconds, answered)) = slower.or(faster) else { return false };
        let answered = answered.max(1.0);
        let changed = (seconds / answered / mean).clamp(1.0 / MOST_EVIDENCE, MOST_EVIDENCE);
        self.means.iter_mut().for_each(|mean| *mean *= changed);
        self.samples = answered;
        self.has_changed = true;
        self.slower = Suspicion::default();
        self.faster = Suspicion::default();
        true
    }
}

/// That the speed has changed, and what has been seen since it would have.
#[derive(Clone, Copy, Debug, Default)]
struct Suspicion {
    evidence: f64,
    seconds: f64,
    answered: f64,
}

impl Suspicion {
    /// Answers what has been seen since the change, once it is believed.
    fn add(&mut self, evidence: f64, seconds: f64, answered: f64) -> Option<(f64, f64)> {
        self.evidence += evidence;
        if self.evidence <= 0.0 {
            *self = Self::default();
            return None;
        }
        self.seconds += seconds;
        self.answered += answered;
        (self.evidence > EVIDENCE).then_some((self.seconds, self.answered))
    }
}

/// How many requests the endpoints of a cluster work on at once, by what their responses show.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Concurrency {
    /// How badly each level has expected the latest responses, in nats a response.
    losses: [f64; LEVELS.len()],
    samples: f64,
    /// Which of [`LEVELS`] it is; `None` before there is enough to go by.
    level: Option<usize>,
    /// When it saw its first response.
    since: Option<UnixNanos>,
}

impl Concurrency {
    fn learn(&mut self, losses: &[f64; LEVELS.len()], now: UnixNanos) {
        let since = *self.since.get_or_insert(now);
        if self.samples == 0.0 && now.since(since) < SETTLING {
            // A clock that stepped back begins anew.
            self.since = Some(since.min(now));
            return;
        }
        self.samples = (self.samples + 1.0).min(WINDOW);
        for (mean, loss) in self.losses.iter_mut().zip(losses) {
            *mean += (loss - *mean) / self.samples;
        }
    }

    /// As if it had been learned to be the level that is nearest below.
    #[cfg(test)]
    pub(crate) fn of(concurrency: f64) -> Self {
        let level = LEVELS.iter().rposition(|level| *level <= concurrency);
        Self { level, ..Self::default() }
    }

    /// Makes up its mind.
    pub(crate) fn settle(&mut self) {
        let least = self.losses.iter().copied().fold(f64::INFINITY, f64::min);
        let good = |loss: &f64| *loss <= least + MARGIN;
        self.level = self.losses.iter().position(good).filter(|_| self.samples >= ENOUGH);
    }

    /// True once there was enough to go by; from then on changes of speed are noticed, too.
    pub(crate) fn is_known(&self) -> bool {
        self.level.is_some()
    }

    /// As it is; infinite as long as nobody knows, as if no request ever had to wait.
    pub(crate) fn whole(&self) -> f64 {
        self.level.and_then(|level| LEVELS.get(level)).copied().unwrap_or(f64::INFINITY)
    }

    /// How many requests an endpoint should have in flight before the next one counts as waiting.
    pub(crate) fn comfortable(&self) -> f64 {
        self.level.map_or(1.0, |_| (self.whole() * COMFORTABLE).max(1.0))
    }
}

/// The natural logarithm of a normal number greater than 0, to eight digits. The library's brings
/// tables.
const fn ln(number: f64) -> f64 {
    let bits = number.to_bits();
    let mut exponent = ((bits >> 52) as i32 - 1023) as f64;
    let mut fraction = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if fraction > core::f64::consts::SQRT_2 {
        fraction /= 2.0;
        exponent += 1.0;
    }
    let z = (fraction - 1.0) / (fraction + 1.0);
    let square = z * z;
    let last = (1.0 / 9.0 * square + 1.0 / 7.0) * square + 1.0 / 5.0;
    let atanh = z * ((last * square + 1.0 / 3.0) * square + 1.0);
    exponent * core::f64::consts::LN_2 + 2.0 * atanh
}

#[cfg(test)]
mod tests;
