//! Which fields Envoy's messages have, so that "not simulated" and "no such field" are told apart.
//!
//! The table is data, not code: field names only, one message a line. It also guards this crate
//! against its own typos: a reader that asks for a field Envoy does not have fails a debug assertion.

use std::collections::HashMap;
use std::sync::LazyLock;

static TABLE: &str = include_str!("envoy_fields.txt");

static FIELDS: LazyLock<HashMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|row| row.split_once(':'))
        .map(|(message, fields)| (message, fields.split_whitespace().collect()))
        .collect()
});

/// The fields of a message, snake_case; empty for a message this crate does not read.
pub(crate) fn fields(message: &str) -> &'static [&'static str] {
    FIELDS.get(message).map_or(&[], Vec::as_slice)
}

/// Protobuf's JSON name of a field: `max_tokens` -> `maxTokens`.
pub(crate) fn json_name(field: &str) -> String {
    let mut name = String::with_capacity(field.len());
    let mut upper = false;
    for c in field.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                name.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => name.push(c),
        }
    }
    name
}

/// The candidate nearest to a misspelt name, when one is near enough to be meant.
pub(crate) fn nearest<'c>(
    name: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let letters = |text: &str| -> Vec<char> {
        text.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
    };
    let plain = letters(name);
    // A third of the letters wrong is another word.
    let limit = (plain.len() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&plain, &letters(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edit distance with adjacent transpositions, the commonest slip of the fingers.
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..width).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; width];
        for j in 1..width {
            let change = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_names_are_lower_camel_case() {
        assert_eq!(json_name("allow_on_headers_stop_iteration"), "allowOnHeadersStopIteration");
        assert_eq!(json_name("name"), "name");
    }

    #[test]
    fn a_slip_finds_its_word_and_another_word_does_not() {
        let fields = ["max_tokens", "tokens_per_fill", "fill_interval"];
        assert_eq!(nearest("max_token", fields), Some("max_tokens"));
        assert_eq!(nearest("maxTokens", fields), Some("max_tokens"));
        assert_eq!(nearest("fill_intreval", fields), Some("fill_interval"));
        assert_eq!(nearest("capacity", fields), None);
    }

    #[test]
    fn every_row_of_the_table_is_well_formed() {
        for row in TABLE.lines().filter(|line| !line.starts_with('#')) {
            let (message, fields) = row.split_once(':').unwrap();
            let package = ["google.protobuf.", "udpa.type.v1."];
            let known = package.iter().any(|package| message.starts_with(package));
            assert!(known || message.contains(".v3."), "{row}");
            assert!(fields.split_whitespace().all(|f| f.starts_with(char::is_alphabetic)), "{row}");
        }
    }
}
