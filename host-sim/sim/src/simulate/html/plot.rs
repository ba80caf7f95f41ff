//! A plot with lines, as SVG.

use super::escaped;
use std::fmt::Write as _;

/// How many colours the style sheet has.
pub(super) const COLOURS: usize = 10;

/// Room for the labels of the axes.
const LEFT: f64 = 56.0;
const BELOW: f64 = 28.0;
const ABOVE: f64 = 10.0;
const RIGHT: f64 = 16.0;

/// How values lie on the upright axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// From zero.
    Linear,
    /// From the round number below the least.
    Logarithmic,
}

/// A line through points.
pub(super) struct Line {
    pub(super) class: String,
    pub(super) title: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// See the module.
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) size: (f64, f64),
    /// The level axis.
    pub(super) x: (f64, f64),
    pub(super) x_ticks: Vec<(f64, String)>,
    pub(super) y_scale: Scale,
    pub(super) y_unit: &'static str,
    /// Level lines that mean something.
    pub(super) marks: Vec<f64>,
    pub(super) lines: Vec<Line>,
}

impl Plot {
    pub(super) fn svg(&self) -> String {
        let (width, height) = self.size;
        let (low, high) = self.range();
        let mut svg = format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n",
            escaped(&self.title)
        );
        let (right, foot) = (width - RIGHT, height - BELOW);
        for tick in self.y_ticks(low, high) {
            let y = self.y(tick, low, high);
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick}{}{}</text>",
                LEFT - 6.0,
                y + 4.0,
                if self.y_unit.is_empty() { "" } else { " " },
                self.y_unit,
            );
        }
        for (at, name) in &self.x_ticks {
            let x = self.x(*at);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{x:.1} {ABOVE}V{foot}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                foot + 18.0,
                escaped(name),
            );
        }
        for mark in &self.marks {
            let y = self.y(*mark, low, high);
            let _ = writeln!(svg, "<path class=\"mark\" d=\"M{LEFT} {y:.1}H{right}\"/>");
        }
        for line in &self.lines {
            let mut path = String::new();
            for (at, (x, y)) in line.points.iter().enumerate() {
                let to = if at == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{to}{:.1} {:.1}", self.x(*x), self.y(*y, low, high));
            }
            let _ = writeln!(
                svg,
                "<path class=\"line {}\" d=\"{path}\"><title>{}</title></path>",
                line.class,
                escaped(&line.title)
            );
        }
        svg + "</svg>\n"
    }

    fn x(&self, value: f64) -> f64 {
        let (from, to) = self.x;
        let span = if to > from { to - from } else { 1.0 };
        LEFT + (value - from) / span * (self.size.0 - LEFT - RIGHT)
    }

    fn y(&self, value: f64, low: f64, high: f64) -> f64 {
        let part = match self.y_scale {
            Scale::Linear => (value - low) / (high - low),
            Scale::Logarithmic => (value.max(low) / low).ln() / (high / low).ln(),
        };
        let foot = self.size.1 - BELOW;
        foot - part * (foot - ABOVE)
    }

    /// What the upright axis spans.
    fn range(&self) -> (f64, f64) {
        let values = || self.lines.iter().flat_map(|line| line.points.iter().map(|(_, y)| *y));
        let high = values().chain(self.marks.iter().copied()).fold(0.0, f64::max).max(1e-3);
        match self.y_scale {
            Scale::Linear => (0.0, high * 1.05),
            Scale::Logarithmic => {
                let least = values().filter(|value| *value > 0.0).fold(high, f64::min);
                let power = 10_f64.powf(least.log10().floor());
                let low = [5.0, 2.0, 1.0].map(|digit| rounded(digit * power));
                let low = low.into_iter().find(|low| *low <= least).unwrap_or(power);
                (low, 1.05 * high)
            }
        }
    }

    fn y_ticks(&self, low: f64, high: f64) -> Vec<f64> {
        match self.y_scale {
            Scale::Linear => {
                // 1, 2 or 5 times a power of ten, about five of them.
                let rough = (high - low) / 5.0;
                let power = 10_f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
                let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
                let count = ((high - low) / step) as u32;
                (0..=count).map(|at| rounded(low + f64::from(at) * step)).collect()
            }
            Scale::Logarithmic => {
                let mut ticks = Vec::new();
                let mut power = 10_f64.powf(low.log10().floor());
                while power <= high {
                    ticks.extend([1.0, 2.0, 5.0].map(|digit| rounded(digit * power)));
                    power *= 10.0;
                }
                ticks.retain(|tick| (low..=high).contains(tick));
                ticks
            }
        }
    }
}

/// Without the dust of binary fractions.
fn rounded(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(y_scale: Scale, points: Vec<(f64, f64)>) -> Plot {
        let line = Line { class: "c0".to_owned(), title: "<a>".to_owned(), points };
        Plot {
            title: "t".to_owned(),
            size: (200.0, 100.0),
            x: (0.0, 10.0),
            x_ticks: vec![(5.0, "half".to_owned())],
            y_scale,
            y_unit: "ms",
            marks: Vec::new(),
            lines: vec![line],
        }
    }

    #[test]
    fn ticks_are_round_numbers() {
        let plot = plot(Scale::Linear, vec![(0.0, 0.0), (10.0, 2.9)]);
        let (low, high) = plot.range();
        assert_eq!(plot.y_ticks(low, high), [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_logarithmic_axis_has_decades() {
        let plot = plot(Scale::Logarithmic, vec![(0.0, 4.0), (10.0, 190.0)]);
        let (low, high) = plot.range();
        assert_eq!(low, 2.0);
        assert_eq!(plot.y_ticks(low, high), [2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
    }

    #[test]
    fn points_lie_within_the_frame_and_titles_are_escaped() {
        let plot = plot(Scale::Linear, vec![(0.0, 0.0), (10.0, 3.0)]);
        let svg = plot.svg();
        assert!(svg.contains("M56.0 72.0L184.0"), "{svg}");
        assert!(svg.contains("<title>&lt;a&gt;</title>"), "{svg}");
    }
}
