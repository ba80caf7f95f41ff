//! The differences that are meant, as data: which cells, and why.

/// One line of `explained.txt`: cells, `|`, reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// A name of cells, `*` standing for any text.
    pub cells: String,
    /// Why the hosts differ; what begins with `a race: ` need not differ in every run.
    pub reason: String,
}

impl Row {
    /// Whether the row must explain something.
    pub(crate) fn is_certain(&self) -> bool {
        !self.reason.starts_with("a race: ")
    }
}

/// All rows.
#[derive(Clone, Debug)]
pub struct Explained(Vec<Row>);

impl Explained {
    /// The rows that come with this crate.
    ///
    /// # Panics
    /// When a line of the file is none: a test reads it.
    #[must_use]
    pub fn built_in() -> Self {
        Self::parse(include_str!("../explained.txt"))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let rows = lines.map(|line| {
            let (cells, reason) = line.split_once('|').unwrap_or_else(|| panic!("no '|': {line}"));
            Row { cells: cells.trim().to_owned(), reason: reason.trim().to_owned() }
        });
        Self(rows.collect())
    }

    /// In the order of the file.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.0
    }

    /// The first row that names the cell.
    pub(crate) fn find(&self, cell: &str) -> Option<(usize, &Row)> {
        self.0.iter().enumerate().find(|(_, row)| matches(&row.cells, cell))
    }
}

/// Whether a pattern with `*` matches the whole text.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    // Shortest first; patterns and names are short.
    (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| matches(rest, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(matches("a/*/c", "a/b/b/c"));
        assert!(matches("*", ""));
        assert!(!matches("a/*/c", "a/b"));
        assert!(!matches("a", "ab"));
    }

    #[test]
    fn every_row_has_a_pattern_and_a_reason() {
        for row in Explained::built_in().rows() {
            assert!(!row.cells.is_empty() && row.reason.len() > 10, "{row:?}");
        }
    }
}
