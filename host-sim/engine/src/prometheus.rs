//! What the admin endpoint's `/stats` and `/stats/prometheus` show.
//!
//! A stat has one flat name; labels are cut out of it by the tag rules. Every rule sees the whole
//! name, and what their first groups matched is removed together, so the order of rules changes
//! nothing but the order of labels. A plugin's metric `X` is the stat `wasmcustom.X` and comes out as
//! plain `X`, everything else as `envoy_...`: dashboards written for Envoy find the same series here.

mod tags;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::{HISTOGRAM_BOUNDS, StatValue};

pub use tags::TagExtractor;

/// The namespace of plugins' metrics; it vanishes from the series' name.
const CUSTOM_NAMESPACE: &str = "wasmcustom.";

/// The percentiles that Envoy's text shows of a histogram.
const QUANTILES: [f64; 10] = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0];

/// `/stats`: a line a stat, ordered by name, histograms last.
#[must_use]
pub fn text<N: AsRef<str>>(stats: &[(N, StatValue)]) -> String {
    let mut sorted: Vec<(&str, &StatValue)> =
        stats.iter().map(|(name, value)| (name.as_ref(), value)).collect();
    sorted.sort_by_key(|(name, value)| (matches!(value, StatValue::Histogram { .. }), *name));
    let mut out = String::new();
    for (name, value) in sorted {
        let _ = match value {
            StatValue::Counter(number) | StatValue::Gauge(number) => {
                writeln!(out, "{name}: {number}")
            }
            StatValue::Histogram { count: 0, .. } => writeln!(out, "{name}: No recorded values"),
            StatValue::Histogram { count, buckets, .. } => {
                let quantiles = QUANTILES.map(|percent| {
                    let value = quantile(percent, *count, buckets);
                    format!("P{percent}({value},{value})")
                });
                writeln!(out, "{name}: {}", quantiles.join(" "))
            }
        };
    }
    out
}

/// `/stats/prometheus`: text exposition format; counters, gauges, histograms, each ordered by name.
#[must_use]
pub fn prometheus<N: AsRef<str>>(stats: &[(N, StatValue)], tags: &TagExtractor) -> String {
    let mut families: BTreeMap<(Kind, String), Vec<Member<'_>>> = BTreeMap::new();
    for (name, value) in stats {
        let (plain, labels) = tags.extract(name.as_ref());
        if let Some(series) = series_name(&plain) {
            let family = families.entry((Kind::of(value), series)).or_default();
            family.push((name.as_ref(), label_text(&labels), value));
        }
    }
    let mut out = String::new();
    for ((kind, series), mut members) in families {
        members.sort_by_key(|(name, ..)| *name);
        let _ = writeln!(out, "# TYPE {series} {}", kind.name());
        for (_, labels, value) in members {
            write_member(&mut out, &series, &labels, value);
        }
    }
    out
}

/// One stat of a series: its full name, its labels, its value.
type Member<'s> = (&'s str, String, &'s StatValue);

/// In the order of their sections.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn of(value: &StatValue) -> Self {
        match value {
            StatValue::Counter(_) => Self::Counter,
            StatValue::Gauge(_) => Self::Gauge,
            StatValue::Histogram { .. } => Self::Histogram,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

fn write_member(out: &mut String, series: &str, labels: &str, value: &StatValue) {
    let (sum, count, buckets) = match value {
        StatValue::Counter(number) | StatValue::Gauge(number) => {
            let _ = writeln!(out, "{series}{{{labels}}} {number}");
            return;
        }
        StatValue::Histogram { sum, count, buckets } => (sum, count, buckets),
    };
    let comma = if labels.is_empty() { "" } else { "," };
    for (bound, below) in HISTOGRAM_BOUNDS.iter().zip(buckets) {
        let _ = writeln!(out, "{series}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
    }
    let _ = writeln!(out, "{series}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}");
    let _ = writeln!(out, "{series}_sum{{{labels}}} {sum}");
    let _ = writeln!(out, "{series}_count{{{labels}}} {count}");
}

/// The series of a stat without its tags. A plugin's metric whose name cannot begin a series is left
/// out, as in Envoy.
fn series_name(plain: &str) -> Option<String> {
    let Some(custom) = plain.strip_prefix(CUSTOM_NAMESPACE) else {
        return Some(format!("envoy_{}", sanitize(plain)));
    };
    let first = custom.chars().next()?;
    (first.is_ascii_alphabetic() || first == '_').then(|| sanitize(custom))
}

fn sanitize(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn label_text(labels: &[(String, String)]) -> String {
    let escape =
        |value: &str| value.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
    let label =
        |(name, value): &(String, String)| format!("{}=\"{}\"", sanitize(name), escape(value));
    labels.iter().map(label).collect::<Vec<_>>().join(",")
}

/// A percentile, interpolated within its bucket: the samples themselves are not kept.
#[expect(clippy::cast_precision_loss, reason = "an estimate for people to read")]
fn quantile(percent: f64, count: u64, buckets: &[u64]) -> f64 {
    let rank = percent / 100.0 * count as f64;
    let (mut lower, mut before) = (0.0, 0);
    for (bound, below) in HISTOGRAM_BOUNDS.iter().zip(buckets) {
        if *below > before && *below as f64 >= rank {
            let share = (rank - before as f64).max(0.0) / (*below - before) as f64;
            return ((lower + share * (bound - lower)) * 100.0).round() / 100.0;
        }
        (lower, before) = (*bound, *below);
    }
    lower
}

#[cfg(test)]
mod tests;
