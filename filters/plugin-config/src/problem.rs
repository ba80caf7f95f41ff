//! What is wrong with a configuration, where, and how to mend it.

use core::fmt;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// RFC 6901 pointer to the place; empty for the whole document.
    pub pointer: String,
    /// What is wrong there and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "/" } else { &self.pointer };
        write!(f, "{place}: {}", self.message)
    }
}

/// All mistakes of one document, in the order of their discovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// A single mistake.
    pub fn one(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self(vec![Problem { pointer: pointer.into(), message: message.into() }])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// The candidate that `wanted` was probably meant to be: at most a third of it differs.
pub(crate) fn nearest<'a>(wanted: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let wanted = wanted.to_ascii_lowercase();
    candidates
        .iter()
        .copied()
        .map(|candidate| (distance(&wanted, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= (candidate.len().max(wanted.len()) / 3).clamp(1, 4)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Damerau-Levenshtein distance (optimal string alignment): a swap of neighbours is one mistake.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, to) in b.iter().enumerate() {
            let at = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let mut cost = (at(&last, j + 1) + 1)
                .min(at(&row, j) + 1)
                .min(at(&last, j) + usize::from(from != to));
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(to) && b.get(j - 1) == Some(from);
            if swapped {
                cost = cost.min(at(&before_last, j - 1) + 1);
            }
            row.push(cost);
        }
        before_last = core::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typical_slips_find_what_was_meant() {
        let names = ["max_tokens", "tokens_per_fill", "fill_interval"];
        for (slip, meant) in [
            ("max_token", "max_tokens"),
            ("maxTokens", "max_tokens"),
            ("tokens_per_fil", "tokens_per_fill"),
            ("fill_intreval", "fill_interval"),
        ] {
            assert_eq!(nearest(slip, &names), Some(meant), "{slip}");
        }
    }

    #[test]
    fn a_stranger_finds_nothing() {
        assert_eq!(nearest("colour", &["max_tokens", "fill_interval"]), None);
    }
}
