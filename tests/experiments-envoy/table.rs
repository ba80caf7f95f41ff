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

/// `holds`, or not, in bold.
pub(crate) fn verdict(measured: f64, at_most: f64) -> String {
    let word = if measured <= at_most { "holds" } else { "**MISSED**" };
    format!("{word}: {measured:.3} of at most {at_most}")
}
