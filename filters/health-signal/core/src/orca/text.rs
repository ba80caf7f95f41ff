//! The text form: a comma-separated list of `name=value`, or `name:value` as older servers write.
//!
//! Every response of a reporting endpoint has it, so each byte is looked at once to cut it up.

use super::{Draft, Refusal};
use plugin_config::parse_decimal;

/// Most metrics of one report. No server has as many; it bounds the search for duplicates.
const MAX_METRICS: usize = 256;

/// Room for as many as a server usually has.
const USUAL_METRICS: usize = 8;

pub(super) fn read(text: &str, draft: &mut Draft) -> Result<(), Refusal> {
    let mut names: Vec<&str> = Vec::with_capacity(USUAL_METRICS);
    let mut rest = text;
    while !rest.is_empty() {
        let (name, end, behind) = cut(rest, |byte| matches!(byte, b'=' | b':' | b','));
        let name = trim_start(name);
        let value;
        (value, rest) = match end {
            Some(b'=' | b':') => {
                let (value, _, behind) = cut(behind, |byte| byte == b',');
                (trim_end(trim_start(value)), behind)
            }
            _ if name.is_empty() => {
                rest = behind;
                continue;
            }
            _ => return Err(Refusal::NoValue),
        };
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

/// What stands before the first byte of `text` that is an end, that byte, and what stands behind it.
/// Ends are ASCII.
fn cut(text: &str, is_end: impl Fn(u8) -> bool) -> (&str, Option<u8>, &str) {
    let Some(at) = text.bytes().position(is_end) else { return (text, None, "") };
    let (before, end) = text.split_at_checked(at).unwrap_or((text, ""));
    (before, end.bytes().next(), end.get(1..).unwrap_or_default())
}

fn trim_start(text: &str) -> &str {
    let first = text.bytes().position(|byte| !is_blank(byte));
    first.and_then(|first| text.get(first..)).unwrap_or_default()
}

fn trim_end(text: &str) -> &str {
    let last = text.bytes().rposition(|byte| !is_blank(byte));
    last.and_then(|last| text.get(..=last)).unwrap_or_default()
}

/// What Envoy trims: the blanks of ASCII, and no others.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orca::Accepted;
    use proptest::prelude::*;
    use shared_state::{UnixNanos, metric_id};
    use std::collections::BTreeSet;

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

    #[test]
    fn blanks_that_envoy_does_not_trim_are_part_of_what_they_stand_in() {
        assert_eq!(outcome("\u{b}eps\t=\u{b}2\u{c}", false), Ok(1), "of a name, only before it");
        assert_eq!(outcome("\t eps=\u{b} 2\u{c},\t,", true), Ok(0));
        assert_eq!(outcome("eps=\u{a0}2", true), Err(Refusal::NotANumber));
        assert_eq!(outcome("\u{a0}eps=2", true), Err(Refusal::Unknown));
    }

    /// The rules as the standard library's own functions write them down.
    fn plainly(text: &str, strict: bool) -> Result<Accepted, Refusal> {
        let blanks = [' ', '\t', '\n', '\u{b}', '\u{c}', '\r'];
        let (mut accepted, mut names) = (Accepted::default(), BTreeSet::new());
        for entry in text.split(',').map(|entry| entry.trim_matches(blanks)) {
            if entry.is_empty() {
                continue;
            }
            let (name, value) = entry.split_once(['=', ':']).ok_or(Refusal::NoValue)?;
            let value = value.trim_start_matches(blanks);
            if name.is_empty() {
                return Err(Refusal::NoName);
            }
            if value.is_empty() {
                return Err(Refusal::NoValue);
            }
            if !names.insert(name) {
                return Err(Refusal::Duplicate);
            }
            if names.len() > MAX_METRICS {
                return Err(Refusal::TooMany);
            }
            let value: f64 = value.parse().map_err(|_| Refusal::NotANumber)?;
            let share = name == "mem_utilization" || name.starts_with("utilization.");
            if !value.is_finite() || value < 0.0 || share && value > 1.0 {
                return Err(Refusal::Range);
            }
            let number = value as f32;
            let report = &mut accepted.report;
            match (name, name.split_once('.')) {
                ("cpu_utilization", _) => report.cpu_utilization = number,
                ("mem_utilization", _) => report.mem_utilization = number,
                ("application_utilization", _) => report.application_utilization = number,
                ("rps_fractional", _) => report.rps = number,
                ("eps", _) => report.eps = number,
                (_, Some(("named_metrics" | "utilization", ""))) => return Err(Refusal::NoName),
                (_, Some(("named_metrics" | "utilization", _))) if report.named.len() < 8 => {
                    report.named.push((metric_id(name), number));
                }
                (_, Some(("named_metrics" | "utilization", _))) => accepted.ignored += 1,
                _ if strict => return Err(Refusal::Unknown),
                _ => accepted.ignored += 1,
            }
        }
        Ok(accepted)
    }

    /// A metric as servers write them, or nearly so.
    fn metric() -> impl Strategy<Value = String> {
        const NAMES: [&str; 11] = [
            "cpu_utilization",
            "mem_utilization",
            "application_utilization",
            "rps_fractional",
            "eps",
            "rps",
            "named_metrics.",
            "utilization.",
            "named_metrics",
            "",
            "é",
        ];
        let name = proptest::sample::select(&NAMES[..]);
        let blank = "[ \t\u{b}\u{a0}]?";
        let value = "[0-9]{1,3}|0\\.[0-9]{1,6}|-0|-1|1e-2|nan|inf|x|";
        (blank, name, "[a-d.]{0,2}", blank, "[=:]?", blank, value, blank).prop_map(|parts| {
            let (before, name, key, behind, sign, blank, value, after) = parts;
            let key = if name.ends_with('.') { key.as_str() } else { "" };
            [&before, name, key, &behind, &sign, &blank, &value, &after].map(str::to_owned).concat()
        })
    }

    proptest! {
        #[test]
        fn it_does_as_the_plain_rules(
            metrics in proptest::collection::vec(metric(), 0..12),
            noise in ".{0,6}",
            is_noisy in proptest::bool::weighted(0.1),
            strict: bool,
        ) {
            let noise = if is_noisy { noise.as_str() } else { "" };
            let text = format!("{}{noise}", metrics.join(","));
            let mut draft = Draft::new(strict, UnixNanos::ZERO);
            let ours = read(&text, &mut draft).map(|()| draft.accepted);
            prop_assert_eq!(ours, plainly(&text, strict));
        }

        #[test]
        fn whole_reports_are_read_as_by_the_plain_rules(
            numbers in proptest::array::uniform8(0.0f64..1.0), scale in 0i32..4, strict: bool,
        ) {
            let names = [
                "cpu_utilization",
                "mem_utilization",
                "application_utilization",
                "rps_fractional",
                "eps",
                "named_metrics.rif",
                "utilization.gpu",
                "other",
            ];
            let known = if strict { 7 } else { 8 };
            let metric = |(name, number): (&&str, f64)| {
                let is_share = name.contains("mem") || name.contains("gpu");
                let size = if is_share { 1.0 } else { 10_f64.powi(scale) };
                format!("{name}={}", (number * size * 1e4).round() / 1e4)
            };
            let text: Vec<_> = names.iter().take(known).zip(numbers).map(metric).collect();
            let mut draft = Draft::new(strict, UnixNanos::ZERO);
            let ours = read(&text.join(","), &mut draft).map(|()| draft.accepted);
            prop_assert!(ours.is_ok());
            prop_assert_eq!(ours, plainly(&text.join(","), strict));
        }
    }
}
