//! The text form: a comma-separated list of `name=value`, or `name:value` as older servers write.

use super::{Draft, Refusal};
use plugin_config::parse_decimal;

/// Most metrics of one report. No server has as many; it bounds the search for duplicates.
const MAX_METRICS: usize = 256;

pub(super) fn read(text: &str, draft: &mut Draft) -> Result<(), Refusal> {
    let mut names: Vec<&str> = Vec::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, value) = entry.split_once(['=', ':']).ok_or(Refusal::NoValue)?;
        let value = value.trim_start();
        if name.is_empty() {
            return Err(Refusal::NoName);
        }
        if value.is_empty() {
            return Err(Refusal::NoValue);
        }
        if names.contains(&name) {
            return Err(Refusal::Duplicate);
        }
        if names.len() >= MAX_METRICS {
            return Err(Refusal::TooMany);
        }
        draft.set(name, parse_decimal(value).ok_or(Refusal::NotANumber)?)?;
        names.push(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared_state::UnixNanos;

    fn outcome(text: &str, strict: bool) -> Result<u32, Refusal> {
        let mut draft = Draft::new(strict, UnixNanos::ZERO);
        read(text, &mut draft).map(|()| draft.accepted.ignored)
    }

    #[test]
    fn one_bad_metric_refuses_the_report() {
        for (text, refusal) in [
            ("cpu_utilization=\"0.7\"", Refusal::NotANumber),
            ("cpu_utilization=NaN", Refusal::Range),
            ("cpu_utilization=inf", Refusal::Range),
            ("cpu_utilization=1e999", Refusal::Range),
            ("cpu_utilization=0.7,cpu_utilization=0.8", Refusal::Duplicate),
            ("named_metrics.a=1,named_metrics.a=2", Refusal::Duplicate),
            ("named_metrics.=123", Refusal::NoName),
            ("=1", Refusal::NoName),
            ("cpu_utilization=", Refusal::NoValue),
            ("not-a-list-of-key-value-pairs", Refusal::NoValue),
        ] {
            assert_eq!(outcome(text, true), Err(refusal), "{text}");
            assert_eq!(outcome(text, false), Err(refusal), "lenient: {text}");
        }
    }

    #[test]
    fn only_strict_mode_refuses_an_unknown_metric() {
        let text = "cpu_utilization=0.7,unsupported_metric=0.8";
        assert_eq!(outcome(text, true), Err(Refusal::Unknown));
        assert_eq!(outcome(text, false), Ok(1));
    }

    #[test]
    fn the_number_of_metrics_is_bounded() {
        let list = |count| (0..count).map(|n| format!("m{n}=1")).collect::<Vec<_>>().join(",");
        assert_eq!(outcome(&list(MAX_METRICS), false), Ok(256));
        assert_eq!(outcome(&list(MAX_METRICS + 1), false), Err(Refusal::TooMany));
    }

    #[test]
    fn the_older_colon_and_blanks_are_taken() {
        assert_eq!(outcome("cpu_utilization:0.7, eps: 2,,", true), Ok(0));
    }
}
