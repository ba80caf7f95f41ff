//! Markdown, and medians in it.

use host_sim::simulate::Estimate;

/// The first row is the head.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let line = |row: &Vec<String>| format!("| {} |\n", row.join(" | "));
    let mut text = String::from("\n");
    for (at, row) in rows.iter().enumerate() {
        text.push_str(&line(row));
        if at == 0 {
            text.push_str(&format!("|{}\n", "---|".repeat(row.len())));
        }
    }
    text
}

/// Median and interval of one value a seed.
pub(crate) fn spread(values: &[f64], digits: usize) -> String {
    match Estimate::of(values) {
        None => "-".to_owned(),
        Some(Estimate { median, low, high }) if low < high => {
            format!("{median:.digits$} [{low:.digits$}, {high:.digits$}]")
        }
        Some(Estimate { median, .. }) => format!("{median:.digits$}"),
    }
}

/// The median; infinite of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    Estimate::of(values).map_or(f64::INFINITY, |own| own.median)
}

/// Whether the median is at most this, and whether the interval leaves no doubt of it.
pub(crate) fn verdict(values: &[f64], at_most: f64) -> String {
    let Some(Estimate { median, low, high }) = Estimate::of(values) else {
        return format!("not measured, of at most {at_most}");
    };
    let word = match (median <= at_most, low <= at_most && at_most < high) {
        (true, false) => "holds",
        (true, true) => "holds, not for sure",
        (false, false) => "**MISSED**",
        (false, true) => "**MISSED, not for sure**",
    };
    format!("{word} (at most {at_most})")
}
