//! What is wrong with a file, and where.

use std::fmt;

/// A place in a file, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}", self.line, self.column)
    }
}

/// One problem of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// What it is, and the mend.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// Longer names are not compared: nobody meant one of ours, and it would take long.
const MAX_NAME: usize = 100;

/// `, did you mean 'x'?` if one of `known` is close to `given`, else nothing.
pub(crate) fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    if given.len() > MAX_NAME {
        return String::new();
    }
    let close = known.into_iter().filter_map(|name| {
        let distance = distance(given, name);
        (distance <= name.len().max(given.len()) / 3).then_some((distance, name))
    });
    close.min().map(|(_, name)| format!(", did you mean '{name}'?")).unwrap_or_default()
}

/// Edits between two words: insertions, deletions, replacements, and neighbours that changed places.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_name_is_suggested_and_a_distant_one_is_not() {
        let known = ["statuses", "received", "log"];
        assert_eq!(did_you_mean("status", known), ", did you mean 'statuses'?");
        assert_eq!(did_you_mean("recieved", known), ", did you mean 'received'?");
        assert_eq!(did_you_mean("temperature", known), "");
        assert_eq!(did_you_mean("frist", ["first"]), ", did you mean 'first'?");
    }
}
