//! Prometheus' text format, without tag extraction: labels stay in the names.

use super::stats::Snapshot;
use host_sim_engine::{HISTOGRAM_BOUNDS, StatValue};
use std::fmt::Write;

pub(super) fn render(stats: &Snapshot) -> String {
    let mut text = String::new();
    for (stat, value) in stats {
        let name = metric_name(stat);
        // Writing to a string cannot fail.
        let _ = match value {
            StatValue::Counter(value) => {
                writeln!(text, "# TYPE {name} counter\n{name}{{}} {value}")
            }
            StatValue::Gauge(value) => writeln!(text, "# TYPE {name} gauge\n{name}{{}} {value}"),
            StatValue::Histogram { count, sum, buckets } => {
                let _ = writeln!(text, "# TYPE {name} histogram");
                for (bound, below) in HISTOGRAM_BOUNDS.iter().zip(buckets) {
                    let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {below}");
                }
                let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}");
                writeln!(text, "{name}_sum{{}} {sum}\n{name}_count{{}} {count}")
            }
        };
    }
    text
}

/// Envoy's rule: what Prometheus does not allow becomes `_`, and `envoy_` comes first.
fn metric_name(stat: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    format!("envoy_{}", stat.chars().map(allowed).collect::<String>())
}
