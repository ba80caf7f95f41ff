//! A page of metrics, in Prometheus' text format 0.0.4 or in OpenMetrics, read for a few samples.
//!
//! Only lines of wanted names are looked at, and of those only the series whose labels match; several
//! that do are added up. A gauge is taken as it is. A counter gives its rate since the page before,
//! and one that fell has begun anew, so its increase is all that it now shows. A histogram gives a
//! quantile of what has been observed since the page before. Series are told apart by their text,
//! so that one which begins anew is not hidden in the sum of the others; one that was not on the page
//! before has no increase yet.
//!
//! A page that is too large or not of the format is a failed poll. A value that is no finite number
//! says nothing: a library writes `NaN` for what it does not know.

mod histogram;
mod page;

use crate::{PollFailure, Signal};
use core::time::Duration;
use histogram::Histogram;
use page::{Line, Lines};
use shared_state::UnixNanos;

/// Largest page that is read, in bytes.
pub const MAX_PAGE_BYTES: usize = 256 * 1024;

/// Most lines of a page.
const MAX_LINES: usize = 10_000;

/// Most series of an endpoint whose last value is kept.
const MAX_SERIES: usize = 1024;

/// How a sample's value is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// As the page's `# TYPE` says: a counter's rate, anything else's value. A name that ends in
    /// `_total` is a counter's.
    Auto,
    /// The value.
    Gauge,
    /// The increase a second.
    Counter,
    /// This quantile of a histogram.
    Quantile(f64),
}

/// A sample that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's name; of a histogram without `_bucket`.
    pub name: String,
    /// Labels with the value they must have.
    pub labels: Vec<(String, String)>,
    /// Labels with a value they must not have.
    pub labels_not: Vec<(String, String)>,
    /// How the value is made.
    pub reading: Reading,
    /// What the value is multiplied by.
    pub scale: f64,
    /// Which signal it is.
    pub signal: Signal,
}

/// What the page before said of counters and buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Before {
    read_at: Option<UnixNanos>,
    /// Value by series.
    series: Vec<(u64, f64)>,
}

/// Reads a page. `before` is what the last one left, and is replaced. `old` is the age from which a
/// sample with a timestamp says nothing.
pub fn read(
    body: &[u8],
    samples: &[Sample],
    before: &mut Before,
    old: Duration,
    now: UnixNanos,
) -> Result<Vec<(Signal, f64)>, PollFailure> {
    if body.len() > MAX_PAGE_BYTES {
        return Err(PollFailure::Body);
    }
    let text = core::str::from_utf8(body).map_err(|_| PollFailure::Body)?;
    let mut lines = Lines::new(text, MAX_LINES);
    let mut drafts: Vec<Draft<'_>> = samples.iter().map(Draft::new).collect();
    let mut series = Vec::new();
    let earliest_ms = now.minus(old).as_millis();
    while let Some(line) = lines.next_line().map_err(|_| PollFailure::Body)? {
        match line {
            Line::Type { name, kind } => {
                for draft in &mut drafts {
                    draft.is_counter |= kind == "counter" && draft.is_of_family(name);
                }
            }
            Line::Sample(line) => {
                for (index, draft) in drafts.iter_mut().enumerate() {
                    if !draft.wants(line.name) {
                        continue;
                    }
                    let found = line.rest(draft.sample).map_err(|_| PollFailure::Body)?;
                    let Some(found) = found else { continue };
                    let is_old = found
                        .timestamp_ms
                        .is_some_and(|at| u64::try_from(at).unwrap_or(0) < earliest_ms);
                    if !is_old {
                        draft.take(index, &line, found, before, &mut series);
                    }
                }
            }
        }
    }
    let gap = before.read_at.map_or(Duration::ZERO, |at| now.since(at));
    *before = Before { read_at: Some(now), series };
    let value = |draft: &Draft<'_>| Some((draft.sample.signal, draft.value(gap)?));
    Ok(drafts.iter().filter_map(value).collect())
}

/// A sample while the page is read.
struct Draft<'a> {
    sample: &'a Sample,
    is_counter: bool,
    /// Sum of values, and of increases, if there were any.
    sum: Option<f64>,
    increase: Option<f64>,
    histogram: Histogram,
}

impl<'a> Draft<'a> {
    fn new(sample: &'a Sample) -> Self {
        let is_counter = sample.name.ends_with("_total");
        Self { sample, is_counter, sum: None, increase: None, histogram: Histogram::default() }
    }

    /// In OpenMetrics a counter's family has no `_total`, its sample does.
    fn is_of_family(&self, family: &str) -> bool {
        self.sample.name == family || self.sample.name.strip_suffix("_total") == Some(family)
    }

    fn wants(&self, name: &str) -> bool {
        match self.sample.reading {
            Reading::Quantile(_) => name.strip_suffix("_bucket") == Some(self.sample.name.as_str()),
            _ => self.sample.name == name,
        }
    }

    fn take(
        &mut self,
        index: usize,
        line: &page::SampleLine<'_>,
        found: page::Found,
        before: &Before,
        series: &mut Vec<(u64, f64)>,
    ) {
        // A name may be wanted twice, with other labels.
        let id = fnv(line.text.as_bytes(), fnv(&index.to_le_bytes(), 0xcbf2_9ce4_8422_2325));
        let value = found.value;
        if !value.is_finite() {
            return;
        }
        *self.sum.get_or_insert(0.0) += value;
        if series.len() >= MAX_SERIES {
            return;
        }
        series.push((id, value));
        let last = before.series.iter().find_map(|(other, last)| (*other == id).then_some(*last));
        let Some(last) = last else { return };
        let increase = if value < last { value } else { value - last };
        match (self.sample.reading, found.le) {
            (Reading::Quantile(_), Some(le)) => self.histogram.add(le, increase),
            (Reading::Quantile(_), None) => {}
            _ => *self.increase.get_or_insert(0.0) += increase,
        }
    }

    fn value(&self, gap: Duration) -> Option<f64> {
        let value = match self.sample.reading {
            Reading::Quantile(quantile) => self.histogram.quantile(quantile)?,
            Reading::Auto if !self.is_counter => self.sum?,
            Reading::Gauge => self.sum?,
            Reading::Auto | Reading::Counter if gap.is_zero() => return None,
            Reading::Auto | Reading::Counter => self.increase? / gap.as_secs_f64(),
        };
        Some(value * self.sample.scale)
    }
}

fn fnv(bytes: &[u8], seed: u64) -> u64 {
    bytes.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests;
