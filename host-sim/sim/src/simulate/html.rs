//! Results as one page that needs nothing else: tables, latency curves, shares over time.
//!
//! Plots are SVG in the page, without scripts: the page can be sent, archived, printed, and opened in
//! ten years. Colours follow the reader's light or dark setting.

mod plot;

use super::estimate::Estimate;
use super::notices::{Notice, Severity};
use super::results::{ArmKind, ArmResult, Results, WHOLE};
use super::verdict::Verdict;
use plot::{Line, Plot, Scale};
use std::fmt::Write as _;

/// More endpoints are drawn as the highest, the middle and the lowest of them.
const MOST_LINES: usize = 40;

/// Parts of 1 that latency curves have a tick at.
const TICKS: [(f64, &str); 6] =
    [(0.0, "0"), (0.5, "P50"), (0.9, "P90"), (0.99, "P99"), (0.999, "P99.9"), (0.9999, "P99.99")];

impl Results {
    /// For a browser: one HTML page.
    #[must_use]
    pub fn html(&self) -> String {
        let title = escaped(&self.experiment);
        let mut page = String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n");
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            page,
            "<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n\
             <h1>{title}</h1>\n<p>{}</p>",
            include_str!("html/style.css"),
            escaped(&self.setting()),
        );
        for window in &self.windows {
            let (from, to) = (window.from, window.to);
            let name = if window.name == WHOLE { "The whole" } else { &window.name };
            let _ = writeln!(page, "<h2>{}, {from} s to {to} s</h2>", escaped(name));
            page.push_str(&self.html_table(&window.name));
        }
        page.push_str("<h2>P99, compared seed by seed</h2>\n");
        page.push_str(&self.html_ratios());
        page.push_str(&self.html_verdicts());
        page.push_str(&self.html_notices());
        page.push_str(
            "<h2>Latency</h2>\n<p>How long requests took, by the part of them that took no longer. \
             Both axes are stretched where tails are. Medians over seeds.</p>\n",
        );
        page.push_str(&self.curves());
        page.push_str("<h2>Share of each endpoint</h2>\n<p>Requests sent to an endpoint, over its part of the \
             capacity: 1 is its fair share. Means over seeds; point at a line to see whose it is.</p>\n");
        page.push_str("<div class=\"many\">\n");
        self.arms.iter().for_each(|arm| page.push_str(&self.shares(arm)));
        page.push_str("</div>\n</main>\n</body>\n</html>\n");
        page
    }

    fn html_table(&self, window: &str) -> String {
        let mut head = vec!["arm".to_owned()];
        head.extend(self.measures.iter().map(|info| {
            if info.unit.is_empty() {
                info.title.clone()
            } else {
                format!("{}, {}", info.title, info.unit)
            }
        }));
        let row = |(number, arm): (usize, &ArmResult)| {
            let cells = self.measures.iter().map(|info| {
                arm.estimate(window, &info.name)
                    .map_or_else(String::new, |own| cell(own, info.digits))
            });
            std::iter::once(name(number, arm)).chain(cells).collect()
        };
        table(&head, &self.arms.iter().enumerate().map(row).collect::<Vec<_>>())
    }

    fn html_ratios(&self) -> String {
        let others: Vec<&ArmResult> =
            self.arms.iter().filter(|arm| arm.kind != ArmKind::Plugins).collect();
        let mut head = vec!["P99 / P99 of".to_owned()];
        head.extend(others.iter().map(|arm| arm.name.clone()));
        let row = |(number, arm): (usize, &ArmResult)| {
            let cells = others.iter().map(|other| {
                let ratio = arm.ratio(&other.name, WHOLE, "p99");
                ratio.map_or_else(String::new, |ratio| cell(ratio, 2))
            });
            std::iter::once(name(number, arm)).chain(cells).collect()
        };
        table(&head, &self.arms.iter().enumerate().map(row).collect::<Vec<_>>())
    }

    fn html_verdicts(&self) -> String {
        if self.verdicts.is_empty() {
            return String::new();
        }
        let head = ["what must hold", "bound", "measured", ""].map(str::to_owned);
        let row = |verdict: &Verdict| {
            let cells = [verdict.subject(), verdict.allowed(), verdict.measured()];
            let word = if verdict.holds {
                verdict.word().to_owned()
            } else {
                format!("<b>{}</b>", verdict.word())
            };
            cells.iter().map(|cell| escaped(cell)).chain([word]).collect()
        };
        let rows: Vec<_> = self.verdicts.iter().map(row).collect();
        format!("<h2>What must hold</h2>\n{}", table(&head, &rows))
    }

    fn html_notices(&self) -> String {
        let mut rows = Vec::new();
        for arm in &self.arms {
            for Notice { severity, plugin, text, times } in &arm.notices {
                let what = match severity {
                    Severity::Critical => "<b>TRAP</b>",
                    Severity::Killed => "killed, as the experiment says",
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                };
                let cells = [escaped(&arm.name), escaped(plugin), what.to_owned()];
                rows.push(cells.into_iter().chain([times.to_string(), escaped(text)]).collect());
            }
        }
        if rows.is_empty() {
            return String::new();
        }
        let head = ["arm", "plugin", "what", "times", "text"].map(str::to_owned);
        format!("<h2>What plugins said</h2>\n{}", table(&head, &rows))
    }

    fn curves(&self) -> String {
        let line = |(number, arm): (usize, &ArmResult)| Line {
            class: colour(number),
            title: arm.name.clone(),
            points: self
                .curve_points
                .iter()
                .zip(&arm.curve)
                .map(|(part, latency)| (stretched(*part), *latency))
                .collect(),
        };
        let last = self.curve_points.last().copied().unwrap_or(1.0);
        let ticks = TICKS.iter().filter(|(part, _)| *part <= last);
        let plot = Plot {
            title: "Latency by part of the requests".to_owned(),
            size: (920.0, 420.0),
            x: (0.0, stretched(last)),
            x_ticks: ticks.map(|(part, name)| (stretched(*part), (*name).to_owned())).collect(),
            y_scale: Scale::Logarithmic,
            y_unit: "ms",
            marks: Vec::new(),
            lines: self.arms.iter().enumerate().map(line).collect(),
        };
        let names = self.arms.iter().enumerate().map(|(number, arm)| name(number, arm));
        let legend: String = names.map(|name| format!("<li>{name}</li>")).collect();
        format!("{}<ul class=\"legend\">{legend}</ul>\n", plot.svg())
    }

    fn shares(&self, arm: &ArmResult) -> String {
        let intervals = arm.runs.iter().map(|run| run.shares.len()).max().unwrap_or(0);
        let relative: Vec<Vec<f64>> = (0..intervals).map(|at| self.relative(arm, at)).collect();
        let middle = |at: usize| (at as f64 + 0.5) * self.interval_seconds;
        let line = |title: &str, class: String, of: &dyn Fn(&[f64]) -> f64| Line {
            class,
            title: title.to_owned(),
            points: relative.iter().enumerate().map(|(at, all)| (middle(at), of(all))).collect(),
        };
        let lines = if self.endpoints.len() <= MOST_LINES {
            let endpoints = self.endpoints.iter().enumerate();
            let one = |(number, title): (usize, &String)| {
                let own = move |all: &[f64]| all.get(number).copied().unwrap_or(0.0);
                line(title, colour(number), &own)
            };
            endpoints.map(one).collect()
        } else {
            let at = |part: f64| {
                move |all: &[f64]| {
                    let mut sorted = all.to_vec();
                    sorted.sort_by(f64::total_cmp);
                    let rank = part * (sorted.len().saturating_sub(1)) as f64;
                    sorted.get(rank as usize).copied().unwrap_or(0.0)
                }
            };
            vec![
                line("highest", colour(0), &at(1.0)),
                line("in the middle", colour(1), &at(0.5)),
                line("lowest", colour(2), &at(0.0)),
            ]
        };
        let end = self.duration_seconds;
        let plot = Plot {
            title: arm.name.clone(),
            size: (460.0, 240.0),
            x: (0.0, end),
            x_ticks: (0..=4)
                .map(|at| end * f64::from(at) / 4.0)
                .map(|at| (at, format!("{at} s")))
                .collect(),
            y_scale: Scale::Linear,
            y_unit: "",
            marks: vec![1.0],
            lines,
        };
        format!("<figure><figcaption>{}</figcaption>{}</figure>\n", escaped(&arm.name), plot.svg())
    }

    /// Each endpoint's share over its fair share in an interval, mean over seeds.
    fn relative(&self, arm: &ArmResult, interval: usize) -> Vec<f64> {
        let runs: Vec<&Vec<u32>> =
            arm.runs.iter().filter_map(|run| run.shares.get(interval)).collect();
        let all: f64 =
            runs.iter().flat_map(|counts| counts.iter()).map(|count| f64::from(*count)).sum();
        let of = |(number, fair): (usize, &f64)| {
            let own: f64 =
                runs.iter().filter_map(|counts| counts.get(number)).map(|c| f64::from(*c)).sum();
            if all > 0.0 && *fair > 0.0 { own / all / fair } else { 0.0 }
        };
        self.fair_shares.iter().enumerate().map(of).collect()
    }
}

/// The part of requests on an axis that is stretched towards 1: 0, 1, 2, 3 for 0, 0.9, 0.99, 0.999.
fn stretched(part: f64) -> f64 {
    -(1.0 - part).log10()
}

/// An arm's name with its colour.
fn name(number: usize, arm: &ArmResult) -> String {
    let bound = if arm.kind == ArmKind::Oracle { " (a bound)" } else { "" };
    format!("<i class=\"{}\"></i>{}{bound}", colour(number), escaped(&arm.name))
}

/// The class of the `number`-th colour.
fn colour(number: usize) -> String {
    format!("c{}", number % plot::COLOURS)
}

fn cell(estimate: &Estimate, digits: usize) -> String {
    let Estimate { median, low, high } = estimate;
    if low == high {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} <small>{low:.digits$} to {high:.digits$}</small>")
}

/// Heads are text, cells are HTML.
fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let heads: String = head.iter().map(|head| format!("<th>{}</th>", escaped(head))).collect();
    let row = |cells: &Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = rows.iter().map(row).collect();
    format!("<div class=\"wide\"><table>\n<tr>{heads}</tr>\n{rows}</table></div>\n")
}

/// As text in HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
