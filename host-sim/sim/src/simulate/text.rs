//! Results as a table, readable at a glance.

use super::estimate::Estimate;
use super::notices::{Notice, Severity};
use super::results::{ArmKind, ArmResult, MeasureInfo, Results, WHOLE};
use super::words;
use std::fmt::Write as _;

/// Measures of the first table.
const COLUMNS: [&str; 8] =
    ["p50", "p90", "p99", "p999", "error_percent", "goodput", "share", "peak_share"];

/// The same of an experiment with trouble.
const OF_TROUBLE: [&str; 7] =
    ["cascades", "recovery", "error_percent", "goodput_part", "p99", "p99_rise", "attempts"];

/// The measure that has its interval told, and whose ratios are.
const FOREMOST: &str = "p99";

impl Results {
    /// For people: a table for each window, and the ratios of P99.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n", self.experiment, self.setting());
        for window in &self.windows {
            if window.name != WHOLE {
                let (from, to) = (window.from, window.to);
                let _ = write!(text, "\n{}: from {from} s to {to} s", window.name);
            }
            text.push('\n');
            text.push_str(&self.table(&window.name));
        }
        if let Some(rows) = self.by_case() {
            let _ = write!(text, "\n{}", aligned(&rows));
        }
        text.push_str(&self.ratios());
        if !self.verdicts.is_empty() {
            text.push('\n');
        }
        for verdict in &self.verdicts {
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(text, "{verdict}");
        }
        let said: String = self.arms.iter().map(said).collect();
        if !said.is_empty() {
            text.push('\n');
            text.push_str(&said);
        }
        text
    }

    /// One line about the experiment, which every table of figures needs beside it.
    pub(crate) fn setting(&self) -> String {
        format!(
            "{}, capacity {:.0} rps; {}; {} over {} s after {} s; {}; medians, \
             [95 % interval over seeds]",
            self.endpoint_groups.join(", "),
            self.capacity_rps,
            words::counted(self.proxies, "proxy", "proxies"),
            self.load,
            self.duration_seconds,
            self.warmup_seconds,
            match self.cases.len() {
                0 => words::counted(self.seeds.len(), "seed", "seeds"),
                cases => format!(
                    "{} of each of {cases} cases",
                    words::counted(self.seeds.len(), "seed", "seeds")
                ),
            },
        )
    }

    /// Measures of these names, or those of trouble where there is any.
    pub(super) fn columns(&self, usual: &[&str]) -> Vec<&MeasureInfo> {
        let find = |name: &&str| self.measures.iter().find(|info| info.name == *name);
        let names = if self.has_trouble() { &OF_TROUBLE } else { usual };
        names.iter().filter_map(find).collect()
    }

    /// Whether something is wrong for a time.
    pub(super) fn has_trouble(&self) -> bool {
        self.measures.iter().any(|info| info.name == OF_TROUBLE[0])
    }

    /// How many runs of each case are cascades, arm by arm, and of all of them; nothing without cases.
    pub(super) fn by_case(&self) -> Option<Vec<Vec<String>>> {
        let info = self.measures.iter().find(|info| info.name == OF_TROUBLE[0])?;
        if self.cases.is_empty() {
            return None;
        }
        let mut head = vec![format!("{}, {}", info.title, info.unit)];
        head.extend(self.arms.iter().map(label));
        let cell = |estimate: Option<&Estimate>| {
            estimate.map_or_else(|| "-".to_owned(), |own| spread(own, info.digits))
        };
        let mut rows = vec![head];
        for (at, case) in self.cases.iter().enumerate() {
            let own = |arm: &'_ ArmResult| -> Option<Estimate> {
                arm.by_case.get(at)?.get(WHOLE)?.get(&info.name).copied()
            };
            let cells = self.arms.iter().map(|arm| cell(own(arm).as_ref()));
            rows.push(std::iter::once(case.clone()).chain(cells).collect());
        }
        let all = self.arms.iter().map(|arm| cell(arm.estimate(WHOLE, &info.name)));
        rows.push(std::iter::once("all".to_owned()).chain(all).collect());
        Some(rows)
    }

    fn table(&self, window: &str) -> String {
        let infos = self.columns(&COLUMNS);
        let mut head = vec![String::new()];
        for info in &infos {
            let unit = if info.unit.is_empty() { String::new() } else { format!(" {}", info.unit) };
            head.push(format!("{}{unit}", info.title));
        }
        let mut rows = vec![head];
        for arm in &self.arms {
            let mut row = vec![label(arm)];
            for info in &infos {
                let estimate = arm.estimate(window, &info.name);
                row.push(estimate.map_or_else(
                    || "-".to_owned(),
                    |estimate| match info.name.as_str() {
                        FOREMOST => spread(estimate, info.digits),
                        _ => format!("{:.*}", info.digits, estimate.median),
                    },
                ));
            }
            rows.push(row);
        }
        aligned(&rows)
    }

    fn ratios(&self) -> String {
        let others: Vec<&ArmResult> =
            self.arms.iter().filter(|arm| arm.kind != ArmKind::Plugins).collect();
        if self.arms.len() < 2 || others.is_empty() {
            return String::new();
        }
        let mut rows = vec![vec!["P99 / P99 of".to_owned()]];
        rows[0].extend(others.iter().map(|arm| arm.name.clone()));
        for arm in &self.arms {
            let mut row = vec![label(arm)];
            row.extend(others.iter().map(|other| {
                let ratio = arm.ratio(&other.name, WHOLE, FOREMOST);
                ratio.map_or_else(String::new, |ratio| spread(ratio, 2))
            }));
            rows.push(row);
        }
        format!("\n{}", aligned(&rows))
    }
}

/// What an arm's plugins said that somebody should read: what is worse than a warning line by line, of
/// warnings how many and one of them.
fn said(arm: &ArmResult) -> String {
    let mut text = String::new();
    let name = &arm.name;
    for Notice { severity, plugin, text: line, times } in &arm.notices {
        // Writing to a string cannot fail, here and below.
        let _ = match severity {
            Severity::Critical => {
                writeln!(text, "!! {name}: {plugin} TRAPPED, {times} times: {line}")
            }
            Severity::Error => writeln!(text, "! {name}: {times} errors: {line}"),
            Severity::Killed => writeln!(text, "{name}: {times} VMs of {plugin} {line}"),
            Severity::Warning => Ok(()),
        };
    }
    let warnings = arm.notices.iter().filter(|own| own.severity == Severity::Warning);
    if let Some(first) = warnings.clone().next() {
        let times: u64 = warnings.map(|own| own.times).sum();
        let _ = writeln!(text, "{name}: {times} warnings, such as: {}", first.text);
    }
    text
}

pub(super) fn label(arm: &ArmResult) -> String {
    match arm.kind {
        ArmKind::Oracle => format!("{} (a bound)", arm.name),
        ArmKind::Policy | ArmKind::Plugins => arm.name.clone(),
    }
}

pub(super) fn spread(estimate: &Estimate, digits: usize) -> String {
    let Estimate { median, low, high } = estimate;
    format!("{median:.digits$} [{low:.digits$}, {high:.digits$}]")
}

/// Columns aligned: the first to the left, numbers to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |at: usize| rows.iter().filter_map(move |row| row.get(at));
    let widths: Vec<usize> = (0..columns)
        .map(|at| cells(at).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = match at {
                0 => write!(line, "{cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
