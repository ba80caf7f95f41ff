//! Results as a page for a repository: every figure beside its setting and the command that makes it.
//!
//! Nothing of the machine or the time is in it, so the same files and seeds give the same page, and a
//! change of a policy shows as a difference of lines.

use super::estimate::Estimate;
use super::notices::Severity;
use super::results::{ArmKind, ArmResult, Results, WHOLE};
use super::text::{label, spread};
use super::verdict::Verdict;
use std::fmt::Write as _;

/// Measures of a table.
const COLUMNS: [&str; 7] = ["p50", "p90", "p99", "p999", "error_percent", "share", "attempts"];

/// Arms that every other is compared with, where there are: the one to beat, and the bound.
const REFERENCES: [&str; 2] = ["full_scan", "oracle"];

/// Several experiments: P99 of all arms, what must hold, then each with all its figures. `commands`
/// are what a reader types to get them, one each.
#[must_use]
pub fn markdown(all: &[(String, Results)]) -> String {
    let mut page = String::new();
    // Of trouble, P99 over the whole says little.
    if all.iter().any(|(_, results)| !results.has_trouble()) {
        page.push_str("## P99 at a glance\n\n");
        page.push_str(&overview(all));
        page.push('\n');
    }
    page.push_str("## What must hold\n\n");
    page.push_str(&verdicts(all));
    for (command, results) in all {
        page.push_str(&section(command, results));
    }
    page
}

fn overview(all: &[(String, Results)]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for arm in all.iter().flat_map(|(_, results)| &results.arms) {
        if !names.contains(&arm.name.as_str()) {
            names.push(&arm.name);
        }
    }
    let mut rows = vec![vec!["P99 in ms, medians over seeds".to_owned()]];
    rows[0].extend(names.iter().map(|name| (*name).to_owned()));
    for (_, results) in all {
        let mut row = vec![linked(results)];
        row.extend(names.iter().map(|name| {
            let arm = results.arm(name);
            let p99 = arm.and_then(|arm| arm.estimate(WHOLE, "p99"));
            p99.map_or_else(String::new, |p99| format!("{:.0}", p99.median))
        }));
        rows.push(row);
    }
    table(&rows)
}

fn verdicts(all: &[(String, Results)]) -> String {
    let head = ["", "experiment", "what", "bound", "measured, [95 % interval over seeds]"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (_, results) in all {
        rows.extend(results.verdicts.iter().map(|verdict| {
            let mut row = verdict_row(verdict);
            row.insert(1, linked(results));
            row
        }));
    }
    table(&rows)
}

fn verdict_row(verdict: &Verdict) -> Vec<String> {
    let word = verdict.word();
    let word = if verdict.holds { word.to_owned() } else { format!("**{word}**") };
    vec![word, verdict.subject(), verdict.allowed(), verdict.measured()]
}

fn section(command: &str, results: &Results) -> String {
    let mut text = format!("\n## {}\n\n", results.experiment);
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(text, "{}.\n\n```sh\n{command}\n```", upper(&results.setting()));
    for window in &results.windows {
        let _ = match window.name.as_str() {
            WHOLE => writeln!(text),
            name => writeln!(text, "\n{}, {} s to {} s:\n", upper(name), window.from, window.to),
        };
        text.push_str(&figures(results, &window.name));
    }
    if let Some(rows) = results.by_case() {
        let _ = write!(text, "\n{}", table(&rows));
    }
    if !results.verdicts.is_empty() {
        let head = ["", "what", "bound", "measured"].map(str::to_owned).to_vec();
        let rows: Vec<_> =
            std::iter::once(head).chain(results.verdicts.iter().map(verdict_row)).collect();
        let _ = write!(text, "\n{}", table(&rows));
    }
    for arm in &results.arms {
        text.push_str(&said(arm));
    }
    text
}

fn figures(results: &Results, window: &str) -> String {
    let infos = results.columns(&COLUMNS);
    let is_there = |name: &&str| !results.has_trouble() && results.arm(name).is_some();
    let references: Vec<&str> = REFERENCES.into_iter().filter(is_there).collect();
    let mut head = vec!["arm".to_owned()];
    head.extend(infos.iter().map(|info| match info.unit.as_str() {
        "" => info.title.clone(),
        unit => format!("{}, {unit}", info.title),
    }));
    head.extend(references.iter().map(|name| format!("P99 against {name}")));
    let mut rows = vec![head];
    for arm in &results.arms {
        let mut row = vec![label(arm)];
        row.extend(infos.iter().map(|info| {
            let own = arm.estimate(window, &info.name);
            own.map_or_else(|| "-".to_owned(), |own| cell(own, &info.name, info.digits))
        }));
        row.extend(references.iter().map(|other| {
            let ratio = arm.ratio(other, window, "p99");
            ratio.map_or_else(String::new, |ratio| spread(ratio, 2))
        }));
        if arm.kind == ArmKind::Plugins {
            row.iter_mut().filter(|cell| !cell.is_empty()).for_each(|cell| {
                *cell = format!("**{cell}**");
            });
        }
        rows.push(row);
    }
    table(&rows)
}

fn cell(own: &Estimate, measure: &str, digits: usize) -> String {
    match measure {
        "p99" | "error_percent" | "cascades" | "recovery" | "p99_rise" if own.low < own.high => {
            spread(own, digits)
        }
        _ => format!("{:.digits$}", own.median),
    }
}

/// Traps and killed VMs; who wants the rest runs the command.
fn said(arm: &ArmResult) -> String {
    let count = |severity| {
        arm.notices.iter().filter(|own| own.severity == severity).map(|own| own.times).sum::<u64>()
    };
    let mut text = String::new();
    for notice in arm.notices.iter().filter(|own| own.severity == Severity::Critical) {
        let line = notice.text.lines().next().unwrap_or_default();
        let _ = writeln!(text, "\n**{}: a VM trapped, {} times: {line}**", arm.name, notice.times);
    }
    let killed = count(Severity::Killed);
    if killed > 0 {
        let _ = writeln!(text, "\n{}: {killed} VMs were killed, in all seeds together.", arm.name);
    }
    text
}

/// The experiment's name, linked to its section by GitHub's rule.
fn linked(results: &Results) -> String {
    let anchor: String = results
        .experiment
        .to_lowercase()
        .chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            letter => letter.is_alphanumeric().then_some(letter),
        })
        .collect();
    format!("[{}](#{anchor})", results.experiment)
}

fn upper(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The first row is the head.
fn table(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        if at == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(row.len()));
        }
    }
    text
}
