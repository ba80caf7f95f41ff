//! Metrics by name and labels.

use host_sim_engine::{StatValue, Stats};

/// Sum of the wasm metric `name` over the label sets that hold all of `labels`.
pub(crate) fn sum(stats: &Stats, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut sum = None;
    for (full, value) in stats.snapshot() {
        let own = full.strip_prefix("wasmcustom.").unwrap_or(&full);
        let (own_labels, own_name) = split(own);
        let wanted = |(key, value): &(&str, &str)| own_labels.contains(&(*key, *value));
        if own_name == name && labels.iter().all(wanted) {
            *sum.get_or_insert(0.0) += number(&value);
        }
    }
    sum
}

fn number(value: &StatValue) -> f64 {
    match value {
        StatValue::Counter(value) | StatValue::Gauge(value) => *value as f64,
        StatValue::Histogram { count, .. } => *count as f64,
    }
}

/// Takes `key=.=value;.;...name` apart.
fn split(full: &str) -> (Vec<(&str, &str)>, &str) {
    let mut labels = Vec::new();
    let mut rest = full;
    while let Some((label, after)) = rest.split_once(";.;")
        && let Some((key, value)) = label.split_once("=.=")
    {
        labels.push((key, value));
        rest = after;
    }
    (labels, rest)
}

/// Reads `name` or `name{key="value",...}`.
pub(crate) fn parse(text: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let Some((name, rest)) = text.split_once('{') else { return Some((text.trim(), Vec::new())) };
    let labels = rest.strip_suffix('}')?;
    let labels: Option<Vec<_>> = labels
        .split(',')
        .filter(|label| !label.trim().is_empty())
        .map(|label| {
            let (key, value) = label.split_once('=')?;
            Some((key.trim(), value.trim().strip_prefix('"')?.strip_suffix('"')?))
        })
        .collect();
    Some((name.trim(), labels?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_told_from_the_name() {
        let (labels, name) = split("plugin=.=a.b;.;endpoint=.=[::1]:80;.;weir_picks_total");
        assert_eq!(name, "weir_picks_total");
        assert_eq!(labels, [("plugin", "a.b"), ("endpoint", "[::1]:80")]);
    }

    #[test]
    fn a_metric_is_named_as_prometheus_writes_it() {
        assert_eq!(parse("up"), Some(("up", vec![])));
        assert_eq!(parse("x{a=\"1\", b=\"c d\"}"), Some(("x", vec![("a", "1"), ("b", "c d")])));
        assert_eq!(parse("x{a=1}"), None);
    }
}
