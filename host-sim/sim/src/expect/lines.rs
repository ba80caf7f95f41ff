//! Lines of the logs.

use super::{Seen, compare};
use crate::scenario::expect::Expect;
use crate::scenario::value::Pattern;
use regex::Regex;

/// Log lines quoted in a failure.
const QUOTED_LINES: usize = 12;

pub(super) fn check(expect: &Expect, seen: &Seen<'_>, failures: &mut Vec<String>) {
    let asks = !(expect.log.is_empty()
        && expect.no_log.is_empty()
        && expect.log_order.is_empty()
        && expect.log_count.is_empty());
    if asks {
        let lines = seen.host.log();
        present("log", &expect.log, &lines, failures);
        absent("log", &expect.no_log, &lines, failures);
        in_order(&expect.log_order, &lines, failures);
        for (text, wanted) in &expect.log_count {
            let Ok(pattern) = Regex::new(text) else { continue };
            let count = lines.iter().filter(|line| pattern.is_match(line)).count();
            compare(&format!("log lines that match /{text}/"), *wanted, count as f64, failures);
        }
    }
    if !(expect.access_log.is_empty() && expect.no_access_log.is_empty()) {
        let lines = seen.host.access_log();
        present("access log", &expect.access_log, &lines, failures);
        absent("access log", &expect.no_access_log, &lines, failures);
    }
}

fn present(which: &str, wanted: &[Pattern], lines: &[String], failures: &mut Vec<String>) {
    for pattern in wanted {
        if !lines.iter().any(|line| pattern.0.is_match(line)) {
            let last = last_lines(lines);
            failures.push(format!("{which}: no line matches {pattern}; {last}"));
        }
    }
}

fn absent(which: &str, unwanted: &[Pattern], lines: &[String], failures: &mut Vec<String>) {
    for pattern in unwanted {
        if let Some(line) = lines.iter().find(|line| pattern.0.is_match(line)) {
            failures.push(format!("{which}: a line matches {pattern}: {line}"));
        }
    }
}

fn in_order(wanted: &[Pattern], lines: &[String], failures: &mut Vec<String>) {
    let mut rest = lines.iter();
    for (at, pattern) in wanted.iter().enumerate() {
        if !rest.any(|line| pattern.0.is_match(line)) {
            let last = last_lines(lines);
            failures.push(format!(
                "log order: no line after those before it matches number {}, {pattern}; {last}",
                at + 1
            ));
            return;
        }
    }
}

fn last_lines(lines: &[String]) -> String {
    if lines.is_empty() {
        return "it is empty".to_owned();
    }
    let last = lines.len().saturating_sub(QUOTED_LINES);
    format!("the last {} lines:\n    {}", lines.len() - last, lines[last..].join("\n    "))
}
