//! The result of a load as text.

use host_sim_rig::load::{LoadResult, Percentiles};
use std::fmt::Write;

/// A few lines for people.
pub(super) fn render(result: &LoadResult) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = counts(&mut text, result);
    let _ = writeln!(text, "{:10} {}", "latency", percentiles(&result.latency));
    let _ = writeln!(text, "{:10} {}", "send lag", percentiles(&result.send_lag));
    for (endpoint, share) in &result.share {
        let _ = writeln!(text, "{:10} {:>6.1}%", endpoint, share * 100.0);
    }
    text
}

fn counts(text: &mut String, result: &LoadResult) -> std::fmt::Result {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52, for people to read")]
    let rate = result.succeeded as f64 / result.elapsed_seconds.max(f64::MIN_POSITIVE);
    let elapsed = result.elapsed_seconds;
    writeln!(text, "{:10} {} in {elapsed:.1} s", "requests", result.requests)?;
    writeln!(text, "{:10} {} ({rate:.0}/s)", "succeeded", result.succeeded)?;
    writeln!(text, "{:10} {}", "failed", result.failed)?;
    if result.limited > 0 {
        writeln!(text, "{:10} {}", "limited", result.limited)?;
    }
    if result.unsent > 0 {
        writeln!(text, "{:10} {} (too many in flight)", "unsent", result.unsent)?;
    }
    for (status, count) in &result.by_status {
        writeln!(text, "{:10} {count}", format!("status {status}"))?;
    }
    for (kind, count) in &result.errors {
        writeln!(text, "{:10} {count} {kind:?}", "no answer")?;
    }
    Ok(())
}

fn percentiles(p: &Percentiles) -> String {
    format!(
        "p50 {:.2} ms  p90 {:.2} ms  p99 {:.2} ms  p99.9 {:.2} ms  max {:.2} ms",
        p.p50_ms, p.p90_ms, p.p99_ms, p.p999_ms, p.max_ms
    )
}
