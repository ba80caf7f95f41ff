//! What trouble does, and whether it ends with its cause.
//!
//! `cascades` is 100 of a run that is a cascade and 0 of one that is none, so that its mean is how
//! many of 100 runs are: from some time after the cause is gone until the end, less is served, of the
//! same load, than before it came.
//!
//! `recovery` is the time from the end of the cause until it is well for good: until the last interval
//! in which fewer than 90 of 100 requests were served within twice the P99 of before. It ends with the
//! run at the latest.
//!
//! `p99_rise` is the P99 of a window that begins with the trouble or later, over that of before, and
//! `goodput_part` the goodput of any over what all endpoints can serve when they are well.

use super::{Measure, Over, Part, latency};
use crate::simulate::record::{Ending, Sample};
use std::time::Duration;

/// Requests of an interval of which so many must be well.
const WELL: f64 = 0.9;

/// How much slower than the P99 of before is still well.
const SLOWER: f64 = 2.0;

/// Of those sent in a span of time, how many a second were served.
fn goodput(samples: &[Sample], from: Duration, to: Duration) -> f64 {
    let served =
        |sample: &&Sample| sample.at >= from && sample.at < to && sample.ending == Ending::Good;
    samples.iter().filter(served).count() as f64 / (to - from).as_secs_f64()
}

/// Seconds; of those that were served or waited for, and sent before the trouble.
fn p99_before(part: &Part<'_>) -> Option<f64> {
    let trouble = part.setting.trouble?;
    let before = part.record.samples.iter().filter(|sample| sample.at < trouble.from.0);
    let before = latency::counted(&before.collect::<Vec<_>>());
    super::percentile(&before, 0.99).map(|latency| latency.as_secs_f64())
}

fn cascades(part: &Part<'_>) -> Option<f64> {
    let trouble = part.setting.trouble.filter(|_| part.is_whole())?;
    let samples = &part.record.samples;
    let before = goodput(samples, Duration::ZERO, trouble.from.0);
    let after = goodput(samples, trouble.to.0 + trouble.patience.0, part.span);
    Some(if after < trouble.below * before { 100.0 } else { 0.0 })
}

fn recovery(part: &Part<'_>) -> Option<f64> {
    let trouble = part.setting.trouble.filter(|_| part.is_whole())?;
    let limit = p99_before(part)? * SLOWER;
    let (from, to) = (trouble.to.0, part.span);
    let step = part.setting.interval.max(Duration::from_millis(1));
    let steps = (to - from).as_nanos().div_ceil(step.as_nanos());
    let mut steps = vec![(0_u32, 0_u32); usize::try_from(steps).unwrap_or(0)];
    for sample in &part.record.samples {
        let Some(since) = sample.at.checked_sub(from) else { continue };
        let at = usize::try_from(since.as_nanos() / step.as_nanos()).unwrap_or(usize::MAX);
        let is_well = sample.ending == Ending::Good && sample.latency.as_secs_f64() <= limit;
        if let Some((well, all)) = steps.get_mut(at) {
            *all += 1;
            *well += u32::from(is_well);
        }
    }
    let is_ill = |(well, all): &(u32, u32)| f64::from(*well) < WELL * f64::from(*all);
    let last = steps.iter().rposition(is_ill);
    Some(last.map_or(0.0, |last| (last + 1) as f64 * step.as_secs_f64()))
}

fn p99_rise(part: &Part<'_>) -> Option<f64> {
    let trouble = part.setting.trouble?;
    if part.from < trouble.from.0 {
        return None;
    }
    let before = p99_before(part).filter(|before| *before > 0.0)?;
    Some(part.percentile(0.99)?.as_secs_f64() / before)
}

fn goodput_part(part: &Part<'_>) -> Option<f64> {
    let served = part.samples.iter().filter(|sample| sample.ending == Ending::Good).count();
    let capacity = part.setting.capacity;
    (capacity > 0.0).then(|| served as f64 / part.span.as_secs_f64() / capacity)
}

pub(super) fn measures() -> Vec<Measure> {
    let measure = |name, title, unit, digits, of| Measure {
        name,
        title,
        unit,
        digits,
        ratio: true,
        over: Over::Median,
        of,
    };
    vec![
        Measure { over: Over::Mean, ..measure("cascades", "cascades", "%", 1, cascades) },
        measure("recovery", "recovery", "s", 1, recovery),
        measure("p99_rise", "P99", "x before", 2, p99_rise),
        measure("goodput_part", "goodput", "x capacity", 2, goodput_part),
    ]
}
