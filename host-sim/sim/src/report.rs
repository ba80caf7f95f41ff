//! What came of a run, for people and for programs.

use crate::lint::Finding;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde_json::json;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One scenario, run with one number of workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The file.
    pub file: PathBuf,
    /// What the scenario shows.
    pub name: String,
    /// Number of workers.
    pub workers: usize,
    /// Seed of the random choices.
    pub seed: u64,
    /// What did not hold.
    pub failures: Vec<String>,
    /// Why it could not be run at all.
    pub unusable: Option<String>,
    /// What was measured.
    pub notes: Vec<String>,
    /// What plugins have done wrong, of runs that did not pass or were to be explained.
    pub findings: Vec<Finding>,
    /// Real time it took.
    pub took: Duration,
}

impl Outcome {
    pub(crate) fn unusable(file: &Path, reason: String) -> Self {
        Self {
            file: file.to_owned(),
            name: file.display().to_string(),
            workers: 0,
            seed: 0,
            failures: Vec::new(),
            unusable: Some(reason),
            notes: Vec::new(),
            findings: Vec::new(),
            took: Duration::ZERO,
        }
    }

    /// True if it ran and everything held.
    pub fn passed(&self) -> bool {
        self.failures.is_empty() && self.unusable.is_none()
    }

    fn title(&self) -> String {
        match self.workers {
            0 => self.name.clone(),
            1 => format!("{} (1 worker)", self.name),
            n => format!("{} ({n} workers)", self.name),
        }
    }

    fn reasons(&self) -> impl Iterator<Item = &str> {
        self.failures.iter().chain(&self.unusable).map(String::as_str)
    }

    /// One line, and a line for each reason if it did not pass.
    pub fn text(&self) -> String {
        self.lines(&Style::PLAIN)
    }

    /// The same for a terminal: green, red, and grey for what matters least.
    pub fn coloured(&self) -> String {
        self.lines(&Style::COLOURED)
    }

    fn lines(&self, style: &Style) -> String {
        let Style { good, bad, faint, end } = style;
        let mark =
            if self.passed() { format!("{good}ok{end}  ") } else { format!("{bad}FAIL{end}") };
        let took = self.took.as_millis();
        let mut text = format!("{mark} {} {faint}[{took} ms]{end}\n", self.title());
        for reason in self.reasons() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "       {}", reason.replace('\n', "\n       "));
        }
        for note in &self.notes {
            let _ = writeln!(text, "       {faint}{note}{end}");
        }
        for finding in &self.findings {
            let _ = writeln!(text, "       {}", finding.to_string().replace('\n', "\n       "));
        }
        if !self.passed() {
            let seed =
                if self.workers == 0 { String::new() } else { format!(", seed {}", self.seed) };
            let _ = writeln!(text, "       {faint}in {}{seed}{end}", self.file.display());
        }
        text
    }
}

/// How parts of a text are shown.
struct Style {
    good: &'static str,
    bad: &'static str,
    faint: &'static str,
    end: &'static str,
}

impl Style {
    const PLAIN: Self = Self { good: "", bad: "", faint: "", end: "" };
    const COLOURED: Self =
        Self { good: "\x1b[32m", bad: "\x1b[1;31m", faint: "\x1b[2m", end: "\x1b[0m" };
}

/// Formats of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One document.
    Json,
    /// For CI systems.
    Junit,
    /// The Test Anything Protocol, version 13.
    Tap,
}

/// All outcomes of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order they ran.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// The process's exit code: 0 if all passed, 1 if an expectation failed, 2 if a scenario could
    /// not be run, or there was none.
    pub fn exit_code(&self) -> u8 {
        let unusable = |outcome: &Outcome| outcome.unusable.is_some();
        if self.outcomes.is_empty() || self.outcomes.iter().any(unusable) {
            2
        } else {
            u8::from(!self.outcomes.iter().all(Outcome::passed))
        }
    }

    /// The whole report.
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Text => {
                let lines: String = self.outcomes.iter().map(Outcome::text).collect();
                lines + &self.summary()
            }
            Format::Json => self.json(),
            Format::Junit => self.junit(),
            Format::Tap => self.tap(),
        }
    }

    /// The closing lines of the text format: what failed, if it is one of several, and the counts.
    pub fn summary(&self) -> String {
        let failed: Vec<_> = self.outcomes.iter().filter(|outcome| !outcome.passed()).collect();
        let mut text = String::new();
        if !failed.is_empty() && self.outcomes.len() > 5 {
            text += "failed:\n";
            for outcome in &failed {
                let _ = writeln!(text, "  {} ({})", outcome.title(), outcome.file.display());
            }
        }
        let took: Duration = self.outcomes.iter().map(|outcome| outcome.took).sum();
        let passed = self.outcomes.len() - failed.len();
        let _ = writeln!(
            text,
            "{passed} passed, {} failed in {:.1} s",
            failed.len(),
            took.as_secs_f64()
        );
        text
    }

    fn json(&self) -> String {
        let outcomes: Vec<_> = self
            .outcomes
            .iter()
            .map(|outcome| {
                json!({
                    "file": outcome.file,
                    "scenario": outcome.name,
                    "workers": outcome.workers,
                    "seed": outcome.seed,
                    "passed": outcome.passed(),
                    "failures": outcome.failures,
                    "unusable": outcome.unusable,
                    "notes": outcome.notes,
                    "findings": outcome.findings,
                    "milliseconds": outcome.took.as_millis() as u64,
                })
            })
            .collect();
        format!("{:#}\n", json!({"outcomes": outcomes}))
    }

    fn junit(&self) -> String {
        let mut suite = TestSuite::new("scenarios");
        for outcome in &self.outcomes {
            let status = if outcome.passed() {
                TestCaseStatus::success()
            } else {
                let kind = match outcome.unusable {
                    Some(_) => NonSuccessKind::Error,
                    None => NonSuccessKind::Failure,
                };
                let mut status = TestCaseStatus::non_success(kind);
                status.set_message(outcome.reasons().collect::<Vec<_>>().join("\n"));
                let findings = outcome.findings.iter().map(|finding| format!("{finding}\n"));
                status.set_description(findings.collect::<String>());
                status
            };
            let mut case = TestCase::new(outcome.title(), status);
            if !outcome.notes.is_empty() {
                case.set_system_out(outcome.notes.join("\n"));
            }
            case.set_classname(outcome.file.display().to_string()).set_time(outcome.took);
            suite.add_test_case(case);
        }
        let mut report = quick_junit::Report::new("host-sim");
        report.add_test_suite(suite);
        report.to_string().unwrap_or_default()
    }

    fn tap(&self) -> String {
        let mut text = format!("TAP version 13\n1..{}\n", self.outcomes.len());
        for (at, outcome) in self.outcomes.iter().enumerate() {
            let mark = if outcome.passed() { "ok" } else { "not ok" };
            let _ = writeln!(text, "{mark} {} - {}", at + 1, outcome.title().replace('#', ""));
            let notes = outcome.notes.iter().map(String::as_str);
            for line in outcome.reasons().chain(notes).flat_map(str::lines) {
                let _ = writeln!(text, "# {line}");
            }
            for finding in &outcome.findings {
                let _ = writeln!(text, "# {}", finding.to_string().replace('\n', "\n# "));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(failures: &[&str], unusable: Option<&str>) -> Outcome {
        Outcome {
            file: "a.yaml".into(),
            name: "it holds".to_owned(),
            workers: 2,
            seed: 7,
            failures: failures.iter().map(|failure| (*failure).to_owned()).collect(),
            unusable: unusable.map(str::to_owned),
            notes: vec!["fuel: 7".to_owned()],
            findings: Vec::new(),
            took: Duration::from_millis(5),
        }
    }

    fn report(outcomes: &[Outcome]) -> Report {
        Report { outcomes: outcomes.to_vec() }
    }

    #[test]
    fn exit_codes_tell_failure_from_unusable_from_nothing() {
        assert_eq!(report(&[outcome(&[], None)]).exit_code(), 0);
        assert_eq!(report(&[outcome(&[], None), outcome(&["x"], None)]).exit_code(), 1);
        assert_eq!(report(&[outcome(&["x"], None), outcome(&[], Some("y"))]).exit_code(), 2);
        assert_eq!(report(&[]).exit_code(), 2);
    }

    #[test]
    fn every_format_shows_the_reason_of_a_failure() {
        let report = report(&[outcome(&["statuses: expected 10"], None)]);
        for format in [Format::Text, Format::Json, Format::Junit, Format::Tap] {
            let text = report.render(format);
            assert!(text.contains("statuses: expected 10"), "{format:?}: {text}");
            assert!(text.contains("it holds"), "{format:?}: {text}");
            assert!(text.contains("fuel: 7"), "{format:?}: {text}");
        }
    }

    #[test]
    fn a_terminal_gets_colours_and_a_file_does_not() {
        let outcome = outcome(&["x"], None);
        assert!(outcome.coloured().starts_with("\x1b[1;31mFAIL\x1b[0m it holds"));
        assert!(!outcome.text().contains('\x1b'));
    }

    #[test]
    fn what_failed_among_many_is_listed_again_at_the_end() {
        let mut outcomes = vec![outcome(&[], None); 7];
        outcomes[2] = Outcome { name: "the third".to_owned(), ..outcome(&["x"], None) };
        let summary = report(&outcomes).summary();
        assert!(summary.starts_with("failed:\n  the third (2 workers) (a.yaml)\n"), "{summary}");
        assert!(summary.contains("6 passed, 1 failed in 0.0 s"), "{summary}");
    }
}
